"""Live streams: any chunks give the same bits, a restart is invisible, gaps are predicted."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import cycle, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from tonesieve.commands.line_stream import Lines, open_byte_source, run_stream
from tonesieve.config.config import DataSettings, make_config
from tonesieve.config.presets import FILTER_NAMES, PRETRAINED
from tonesieve.errors import UserError
from tonesieve.extraction.options import ExtractOptions
from tonesieve.extraction.pipeline import extract_recording
from tonesieve.extractors.source import Source, make_source
from tonesieve.extractors.streaming import Stream
from tonesieve.inference.run_directory import as_compiled, memory_samples
from tonesieve.learning.loop.checkpoints import to_arrays
from tonesieve.learning.models import build_network
from tonesieve.learning.network_extractor import as_extractor

RATE, TONES = 200.0, (7.0, 13.0)
CAUSAL = [n for n in FILTER_NAMES if n not in ("zero-phase", "fft-mask", "wiener")]


def source(name: str) -> Source:
    built = make_source(name, TONES)(RATE, "a test")
    assert isinstance(built, Source)
    return built


def network(kind: str, **training: object) -> Source:
    """With weights as they are drawn: its estimates do not matter here."""
    model = {"kind": kind, "hidden_size": 4, "selector": "readout"}
    if kind == "tcn":
        model["kernel_size"] = 3
    config = make_config(
        {"data": {"regime": "free"}, "model": model, "training": {"batch_size": 3, **training}}
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = build_network(config).eval()
    compiled = as_compiled(to_arrays(built.state_dict()), config)
    extractor = compiled or as_extractor(built, config)
    return Source(extractor, config.data, memory_samples(config), kind)


SOURCES: dict[str, Callable[[], Source]] = {
    **{name: (lambda name=name: source(name)) for name in [PRETRAINED, *CAUSAL]},
    "lstm": lambda: network("lstm"),
    "strided": lambda: network("gru", lanes="strided"),
    "observer": lambda: network("observer"),
    "tcn by PyTorch": lambda: network("tcn"),
}


def holed(n: int, n_channels: int = 2) -> np.ndarray:
    """Noise on tones and an offset, with gaps of many lengths."""
    rng = np.random.default_rng(4)
    t = np.arange(n) / RATE
    samples = 5 + np.sin(2 * np.pi * 7 * t) + rng.standard_normal((n_channels, n))
    samples[:, n // 3 : n // 3 + 40] = np.nan
    samples[0, rng.integers(0, n, n // 20)] = np.inf
    return samples


@pytest.mark.parametrize("name", SOURCES)
def test_chunks_and_restarts_change_no_bit(name: str, tmp_path: Path) -> None:
    samples, rng = holed(9000), np.random.default_rng(1)
    whole = Stream(SOURCES[name](), 2).process(samples)
    assert whole.shape[:2] == samples.shape
    assert np.isfinite(whole).all()
    stream, parts, at = Stream(SOURCES[name](), 2), [], 0
    while at < samples.shape[1]:
        n = int(rng.choice([0, 1, 2, 7, 300, 4096, 5000]))
        parts.append(stream.process(samples[:, at : at + n]))
        at += n
        stream.save(tmp_path / "state")
        stream = Stream(SOURCES[name](), 2)
        stream.restore(tmp_path / "state")
    found = np.concatenate(parts, axis=1)
    if name == "tcn by PyTorch":  # its sums are grouped otherwise in other shapes
        np.testing.assert_allclose(found, whole, atol=1e-5)
    else:
        np.testing.assert_array_equal(found, whole)
    assert stream.n_samples == samples.shape[1]


def test_the_state_of_another_stream_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    Stream(source("kalman"), 2).save(path)
    for other in (Stream(source("kalman")), Stream(source("tracker"), 2)):
        with pytest.raises(UserError, match="the state of another stream"):
            other.restore(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="not a saved state"):
        Stream(source("kalman"), 2).restore(path)


@pytest.mark.parametrize("name", ["pretrained", "tracker", "least-squares", "lstm"])
def test_a_state_of_other_shapes_is_refused(name: str, tmp_path: Path) -> None:
    # The compiled loops do not look whether an index is within bounds.
    path = tmp_path / "state"
    Stream(SOURCES[name](), 2).save(path)
    with safe_open(path, framework="numpy") as file:
        about = file.metadata()
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    for key, array in arrays.items():
        if array.size > 1:
            cut = {**arrays, key: array[(slice(0, 1),) * array.ndim].copy()}
            save_file(cut, path, metadata=about)
            with pytest.raises(UserError, match="not a whole state"):
                Stream(SOURCES[name](), 2).restore(path)


def test_other_weights_and_other_parameters_are_another_stream(tmp_path: Path) -> None:
    path = tmp_path / "state"
    Stream(source("kalman")).save(path)
    with pytest.raises(UserError, match="the state of another stream"):
        Stream(source("kalman:noise=0.2")).restore(path)
    one, other = network("lstm"), network("lstm", seed=1)
    weights = other.extractor.program.weights.copy()  # type: ignore[attr-defined]
    weights[5] += 1
    moved = replace(one.extractor.program, weights=weights)  # type: ignore[attr-defined]
    Stream(one).save(path)
    Stream(one).restore(path)
    with pytest.raises(UserError, match="the state of another stream"):
        Stream(replace(one, extractor=replace(one.extractor, program=moved))).restore(path)  # type: ignore[type-var]


# Written by commit 4c2cb6d: streams of two channels after 500 samples, and the 100 after them.
SAVED = Path(__file__).parent / "saved_streams"


CONTINUED = sorted(path for path in SAVED.glob("*.safetensors") if path.stem != "pretrained")


@pytest.mark.parametrize("path", CONTINUED, ids=lambda path: path.stem)
def test_a_state_that_an_earlier_version_saved_is_restored(path: Path) -> None:
    data = DataSettings(frequencies_hz=(7.0,), rate_hz=RATE, regime="free", phase_scale=0,
                        amplitude_range=(1, 1))  # fmt: skip
    by = Source(Echo(), data, 10, "echo") if path.stem == "echo" else source(path.stem)
    stream = Stream(by, 2)
    stream.restore(path)
    assert stream.n_samples == 500
    with np.load(SAVED / "expected.npz") as expected:
        # To rounding: another processor may order sums otherwise.
        np.testing.assert_allclose(
            stream.process(holed(600)[:, 500:]), expected[path.stem], rtol=0, atol=1e-9
        )


def test_a_state_of_another_version_of_the_extractor_is_refused() -> None:
    # Of this engine's first version, whose states are of no use to the present one.
    with pytest.raises(UserError) as caught:
        Stream(source("pretrained"), 2).restore(SAVED / "pretrained.safetensors")
    assert str(caught.value) == (
        f"{SAVED / 'pretrained.safetensors'}: the state of another stream (by another extractor, "
        "other parameters or weights, or another version of pretrained); name another file, or "
        "remove this one"
    )


@pytest.mark.parametrize("shape", [(1, 9), (3, 9)])
def test_only_as_many_channels_as_it_has(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"must be \(2, any number\)"):
        Stream(source("kalman"), 2).process(np.zeros(shape))


@pytest.mark.parametrize("huge", [1e155, 1e300, -1e308])
def test_one_huge_number_is_a_gap(huge: float) -> None:
    samples = holed(3000, 1)
    wild, gap = samples.copy(), samples.copy()
    wild[0, 1500], gap[0, 1500] = huge, np.nan
    for name in ("pretrained", "tracker", "kalman", "lock-in"):
        found, expected = (Stream(source(name)).process(s) for s in (wild, gap))
        np.testing.assert_array_equal(found, expected)


def test_a_frequency_that_was_found_outlasts_a_gap() -> None:
    rng, t = np.random.default_rng(3), np.arange(100_000) / RATE
    truth = np.sin(2 * np.pi * 5.05 * t)
    mixture = truth + rng.standard_normal((6, t.size))
    mixture[:, 30_000:80_000] = np.nan  # many memories
    built = make_source("tracker", [5.0])(RATE, "a test")
    assert isinstance(built, Source)
    estimate = Stream(built, 6).process(mixture)[..., 0]
    error = np.mean((estimate - truth)[:, 80_000:86_000] ** 2, axis=1) / 0.5
    assert 10 * np.log10(error.mean()) < -12


def test_what_needs_the_future_cannot_stream() -> None:
    with pytest.raises(UserError, match="wiener: needs the future and cannot stream"):
        Stream(source("wiener"))


@pytest.mark.parametrize("name", ["pretrained", "tracker", "kalman", "least-squares", "lstm"])
def test_scale_and_offset_only_scale(name: str) -> None:
    # Multiplied by a power of two, every sample of the estimate is, too, to the last bit.
    samples = holed(2000)
    once = Stream(SOURCES[name](), 2).process(samples)
    again = Stream(SOURCES[name](), 2).process(1024 * samples)
    if name == "lstm":  # its square roots round
        np.testing.assert_allclose(again, 1024 * once, rtol=0, atol=1e-3)
    else:
        np.testing.assert_array_equal(again, 1024 * once)
    moved = Stream(SOURCES[name](), 2).process(samples + 64)
    np.testing.assert_allclose(moved, once, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["pretrained", "tracker", "kalman", "least-squares-growing"])
def test_a_steady_tone_continues_through_a_gap(name: str) -> None:
    t = np.arange(8000) / RATE
    truth = 3 * np.sin(2 * np.pi * 7 * t + 1)
    mixture = np.where((t > 20) & (t < 24), np.nan, truth)
    estimate = Stream(source(name)).process(mixture[None])[0].sum(axis=1)
    inside = (t > 20) & (t < 24)
    assert np.abs(estimate - truth)[inside].max() < 0.1
    # A helper that would notice: had silence come in place of the gap, the estimate would be off.
    silent = Stream(source(name)).process(np.nan_to_num(mixture)[None])[0].sum(axis=1)
    assert np.abs(silent - truth)[inside].max() > 0.3


@dataclass(frozen=True)
class Echo:
    """Outputs its input."""

    frequencies_hz: tuple[float, ...] = (7.0,)
    rate_hz: float = RATE
    causal: bool = True
    delay: int = 0

    def initial_state(self, n_streams: int) -> int:
        return 0

    def step(self, samples: np.ndarray, state: int) -> tuple[np.ndarray, int]:
        return samples[..., None], state + samples.shape[1]

    def extract(self, mixture: np.ndarray) -> np.ndarray:
        return mixture[..., None]


def test_a_network_gets_the_prediction_in_a_gap() -> None:
    data = DataSettings(frequencies_hz=(7.0,), rate_hz=RATE, regime="free", phase_scale=0,
                        amplitude_range=(1, 1))  # fmt: skip
    t = np.arange(4000) / RATE
    truth = np.sin(2 * np.pi * 7 * t)
    mixture = np.where((t > 12) & (t < 14), np.nan, truth)
    estimate = Stream(Source(Echo(), data, 10, "echo")).process(mixture[None])[0, :, 0]
    assert np.abs(estimate - truth)[t > 5].max() < 0.02


@pytest.mark.parametrize("name", ["pretrained", "tracker"])
def test_a_file_gives_what_a_stream_gives(name: str, tmp_path: Path) -> None:
    samples = holed(3000, 1)
    lines = "x\n" + "".join(f"{v!r}\n" if np.isfinite(v) else "\n" for v in samples[0].tolist())
    (tmp_path / "log.csv").write_text(lines)
    options = ExtractOptions(rate_hz=RATE, causal=True)
    extract_recording(tmp_path / "log.csv", source(name), options)
    table = np.genfromtxt(tmp_path / "log.tone.csv", delimiter=",", names=True)
    streamed = Stream(source(name)).process(samples)[0]
    np.testing.assert_array_equal(table["tone_7Hz"], streamed[:, 0])
    np.testing.assert_array_equal(table["gap"], ~np.isfinite(samples[0]))


# Lines.

words = st.sampled_from([b"1", b" -2.5e3 ", b"abc", b"", b"nan", b"inf", b"1_0", b"1,2", b"\xff"])


@given(st.lists(words, max_size=30), st.lists(st.integers(0, 60), max_size=5), st.booleans())
def test_lines_are_the_same_however_they_come(
    found: list[bytes], cuts: list[int], ended: bool
) -> None:
    raw = b"\n".join(found) + b"\n" * ended
    expected = [*raw.split(b"\n")[:-1], *([raw.split(b"\n")[-1]] if raw[-1:] not in b"\n" else [])]
    lines, parts = Lines(1), []
    edges = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    for start, stop in pairwise(edges):
        parts.append(lines.parse(raw[start:stop]))
    parts.append(lines.finish())
    samples = np.concatenate(parts, axis=1)[0]
    values = {b"1": 1.0, b" -2.5e3 ": -2500.0}
    np.testing.assert_array_equal(samples, [values.get(line, np.nan) for line in expected])
    assert lines.n_lines == len(expected)


def test_bad_lines_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(2)
    samples = lines.parse(b"1,2\n3\n4;5\n6 7\n8,9,10\n11,nan\n")
    expected = [[1, np.nan, 4, 6, np.nan, 11], [2, np.nan, 5, 7, np.nan, np.nan]]
    np.testing.assert_array_equal(samples, expected)
    err = capsys.readouterr().err
    assert [line.split(":")[1] for line in err.splitlines()] == [" line 2", " line 5", " line 6"]
    assert "not 2 numbers ('8,9,10')" in err


def test_a_line_without_an_end_is_one_bad_line() -> None:
    lines = Lines(1)
    found = [lines.parse(raw) for raw in (b"1\n", *[b"2" * 30_000] * 9, b"\n3\n")]
    np.testing.assert_array_equal(np.concatenate(found, axis=1)[0], [1, np.nan, 3])


# The command itself.

COMMAND = [sys.executable, "-m", "tonesieve", "stream", "--hz", "7", "--rate", "200"]
# Without the checker of shapes, as users have it.
TEXT = "".join(f"{v!r}\n" for v in holed(30_000, 1)[0].tolist())


def run_stream_command(text: str, *more: str) -> tuple[str, str]:
    done = subprocess.run(
        [*COMMAND, *more], input=text, capture_output=True, text=True, check=True, timeout=180
    )
    return done.stdout, done.stderr


def test_one_line_for_one_line_as_they_come() -> None:
    with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          bufsize=1, stderr=subprocess.DEVNULL) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        for word in ("1.5", "hum", "-2"):
            process.stdin.write(word + "\n")
            process.stdin.flush()
            assert np.isfinite(float(process.stdout.readline()))  # before the next one is sent
        process.stdin.close()
        assert process.stdout.read() == ""
    assert process.returncode == 0


def test_killed_and_restored_as_though_nothing_had_been(tmp_path: Path) -> None:
    samples = Lines(1).parse(TEXT.encode())
    expected = "".join(f"{v!r}\n" for v in Stream(one_tone()).process(samples)[0, :, 0].tolist())
    state, out = tmp_path / "state", tmp_path / "out.txt"
    lines = TEXT.splitlines(keepends=True)
    done, n_kept, numbers = "", 0, cycle([signal.SIGTERM, signal.SIGKILL])
    while n_kept < len(lines):
        with out.open("w") as file:
            kill_amid(lines[n_kept:], next(numbers), state, file)
        found = Stream(one_tone())
        if state.exists():
            found.restore(state)
        # What was saved has been written; what was written after that comes again.
        done += "".join(out.read_text().splitlines(keepends=True)[: found.n_samples - n_kept])
        n_kept = found.n_samples
    assert done == expected


def kill_amid(lines: list[str], number: int, state: Path, out: IO[str]) -> None:
    """Feed a stream for some seconds, all of its lines or a part, then stop it."""
    readable, writable = os.pipe()

    def feed() -> None:
        with suppress(BrokenPipeError), os.fdopen(writable, "w") as to:
            for at in range(0, len(lines), 200):
                to.write("".join(lines[at : at + 200]))
                to.flush()
                time.sleep(0.03)

    thread = threading.Thread(target=feed)
    words = [*COMMAND, "--state", str(state), "--save-every", "0.05"]
    with subprocess.Popen(words, stdin=readable, stdout=out, stderr=subprocess.DEVNULL) as process:
        os.close(readable)
        thread.start()
        time.sleep(3.5)
        process.send_signal(number)
    thread.join(30)


def one_tone() -> Source:
    built = make_source(PRETRAINED, [7.0])(RATE, "a test")
    assert isinstance(built, Source)
    return built


def test_a_reader_that_leaves_ends_it_cleanly(tmp_path: Path) -> None:
    command = " ".join([*COMMAND, "2>err.txt", "|", "head", "-2"])
    done = subprocess.run(
        ["bash", "-c", f"yes 1.5 | head -200000 | {command}; echo ${{PIPESTATUS[2]}}"],
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
        cwd=tmp_path,
    )
    assert len(done.stdout.splitlines()) == 3
    assert done.stdout.splitlines()[2] == "0"
    assert (tmp_path / "err.txt").read_text() == ""


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_stops_it_while_the_reader_sleeps(number: int, tmp_path: Path) -> None:
    state, readable, writable = tmp_path / "state", *os.pipe()
    with (tmp_path / "in.txt").open("w") as file:
        file.write(TEXT)
    with (tmp_path / "in.txt").open() as file, subprocess.Popen(
        [*COMMAND, "--state", str(state)], stdin=file, stdout=writable, stderr=subprocess.DEVNULL
    ) as process:  # fmt: skip
        os.close(writable)
        time.sleep(4)  # nobody reads: the pipe is full
        process.send_signal(number)
        assert process.wait(10) == 0
    found = Stream(one_tone())
    found.restore(state)
    with os.fdopen(readable, "rb") as rest:
        raw = rest.read()
    assert raw.endswith(b"\n")
    assert raw.count(b"\n") == found.n_samples > 0


def test_a_state_that_cannot_be_written_is_reported_at_once(tmp_path: Path) -> None:
    words = [*COMMAND, "--state", str(tmp_path / "none" / "state")]
    done = subprocess.run(words, input="1\n", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no such folder" in done.stderr


def test_of_a_runs_tones_those_that_are_named() -> None:
    lines = Lines(1)
    stream = Stream(source("kalman"))
    whole = stream.process(lines.parse(b"1\n2\n3\n"))
    readable, writable = os.pipe()
    chunks = [b"1\n2\n3\n", b""]
    feed = SimpleNamespace(read=lambda: chunks.pop(0), stop=readable)
    out, into = os.pipe()
    run_stream(Stream(source("kalman")), feed, chosen=(1,), out=into)
    os.close(into)
    with os.fdopen(out) as file:
        assert [float(line) for line in file] == whole[0, :, 1].tolist()
    os.close(readable)
    os.close(writable)


def test_from_a_socket() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall(TEXT.encode())

    thread = threading.Thread(target=serve)
    thread.start()
    out, _ = run_stream_command("", "--from", f"tcp://127.0.0.1:{port}")
    thread.join()
    server.close()
    samples = Lines(1).parse(TEXT.encode())
    expected = Stream(one_tone()).process(samples)[0, :, 0].tolist()
    assert [float(line) for line in out.splitlines()] == expected


def test_from_lab_streaming_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    # A stand-in for the library: chunks of samples, then a connection that is lost.
    class Lost(Exception):
        pass

    chunks = [([[1.0, 2.0], [3.0, 4.0]], [0.0, 0.1]), ([], []), ([[5.0, np.nan]], [0.2])]

    class Inlet:
        def pull_chunk(self, timeout: float) -> tuple[list, list]:
            if not chunks:
                raise Lost
            return chunks.pop(0)

    info = SimpleNamespace(channel_count=lambda: 2, nominal_srate=lambda: 10.0)
    library = SimpleNamespace(
        StreamInlet=lambda stream, recover: Inlet(),
        resolve_byprop=lambda key, name, timeout: [info] if name == "hum" else [],
        set_config_content=lambda text: None,
    )
    monkeypatch.setitem(sys.modules, "pylsl", library)
    monkeypatch.setitem(sys.modules, "pylsl.util", SimpleNamespace(LostError=Lost))
    with open_byte_source("lsl://hum", 2) as feed:
        assert feed.rate_hz == 10.0
        raw, lines = list(iter(feed.read, b"")), Lines(2)
    found = np.concatenate([lines.parse(part) for part in raw], axis=1)
    np.testing.assert_array_equal(found, [[1, 3, 5], [2, 4, np.nan]])
    for name, n, message in (("none", 2, "no such stream"), ("hum", 1, "has 2 channels")):
        with pytest.raises(UserError, match=message), open_byte_source(f"lsl://{name}", n):
            pass


@pytest.mark.slow
def test_from_a_real_lab_stream() -> None:
    pylsl = pytest.importorskip("pylsl")
    outlet = pylsl.StreamOutlet(pylsl.StreamInfo("tonesieve-test", "", 1, RATE, "float32", "t"))
    words = [*COMMAND[:-2], "--from", "lsl://tonesieve-test"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert outlet.wait_for_consumers(30)
        for i in range(100):
            outlet.push_sample([float(i % 7)])
            time.sleep(0.01)
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        assert len(process.stdout.read().splitlines()) == 100
    assert process.returncode == 0


def test_without_the_tone(tmp_path: Path) -> None:
    mixture = holed(50, 1)
    raw = "".join(f"{v!r}\n" for v in mixture[0].tolist()).encode()
    found = {}
    for remove in (False, True):
        readable, writable = os.pipe()
        chunks = [raw, b""]
        feed = SimpleNamespace(read=lambda chunks=chunks: chunks.pop(0), stop=readable)
        with (tmp_path / "out").open("w+") as file:
            run_stream(Stream(one_tone()), feed, remove=remove, out=file.fileno())
            file.seek(0)
            found[remove] = np.array([float(line) for line in file])
        os.close(readable)
        os.close(writable)
    valid = np.isfinite(mixture[0])
    np.testing.assert_allclose((found[False] + found[True])[valid], mixture[0][valid], atol=1e-12)
    assert np.isnan(found[True][~valid]).all()
