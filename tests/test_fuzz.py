"""Cut, garbled and hostile files: a clear error or a right result, soon, in little memory."""

from __future__ import annotations

import json
import pickle
import selectors
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from test_formats import write_edf

from tonesieve.errors import UserError
from tonesieve.extraction.options import ExtractOptions
from tonesieve.extraction.pipeline import extract_recording
from tonesieve.extractors.source import make_source
from tonesieve.recordings import reader
from tonesieve.recordings.reader import Channel
from tonesieve.recordings.recording import read_recording
from tonesieve.recordings.recording_writer import open_writer

MANY = pytest.param(3000, marks=pytest.mark.slow)
# At most twice the file and this many bytes more, libraries not counted.
CONSTANT = 250 * 2**20
SECONDS = 10.0
N = 300
X = np.round(np.random.default_rng(0).normal(size=N) * 0.2, 4)
T = np.arange(N) / 100


class Worker:
    """A process that reads files, begun again when it has died."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self._begin()

    def _begin(self) -> None:
        script = Path(__file__).with_name("hostile.py")
        self._process = subprocess.Popen(
            [sys.executable, script, str(6 * 2**30)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.idle = self.ask(self.scratch.parent / "absent.csv")["peak"]

    def ask(self, path: Path, **how: Any) -> dict[str, Any]:
        """What comes of reading a file."""
        order = {"path": str(path), "scratch": str(self.scratch), "how": how}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        with selectors.DefaultSelector() as ready:
            ready.register(self._process.stdout, selectors.EVENT_READ)
            line = self._process.stdout.readline() if ready.select(6 * SECONDS) else "{}"
        if not line or line == "{}":
            how_it_went = "crashed" if not line else "hangs"
            self.close()
            self._begin()
            pytest.fail(f"{path.name}: the reader {how_it_went}")
        return json.loads(line)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    scratch = tmp_path_factory.mktemp("fuzz") / "scratch"
    scratch.mkdir()
    found = Worker(scratch)
    yield found
    found.close()


def check(worker: Worker, path: Path, **how: Any) -> dict[str, Any]:
    """The property: a right kind of outcome, in time, nothing left."""
    outcome = worker.ask(path, **how)
    assert "failed" not in outcome, outcome["failed"]
    if "refused" in outcome:
        assert outcome["refused"].isprintable()  # one line
        assert str(path) in outcome["refused"]
        assert len(outcome["refused"]) < len(str(path)) + 1000
    else:
        size = path.stat().st_size
        assert 0 < outcome["n_rows"] <= max(2**27, 1250 * size)
        assert outcome["n_samples"] <= 11 * outcome["n_rows"] + 1000
        assert 0 < outcome["rate_hz"] < np.inf
        assert not outcome["infinite"]
    assert outcome["seconds"] < SECONDS
    assert list(worker.scratch.iterdir()) == []
    return outcome


def valid_files(folder: Path) -> list[Path]:
    moments = pd.date_range("2020-01-01", periods=N, freq="10ms", tz="UTC")
    pd.DataFrame({"time_s": T, "level [mV]": X, "b": X}).to_csv(folder / "a.csv", index=False)
    table = pd.DataFrame({"time": moments, "x": X})
    table.to_csv(folder / "b.csv", index=False, sep=";", decimal=",")
    table.to_parquet(folder / "a.parquet", index=False)
    plain = pa.table({"time_s": T, "x": X, "n": np.arange(N)})
    parquet.write_table(plain, folder / "b.parquet", compression="none", row_group_size=100)
    parquet.write_table(plain, folder / "c.parquet", compression="zstd", use_dictionary=False)
    for subtype in ("PCM_16", "DOUBLE", "MS_ADPCM"):
        soundfile.write(folder / f"{subtype}.wav", X, 8000, subtype=subtype)
    soundfile.write(folder / "a.wav", X, 8000, format="RF64", subtype="PCM_24")
    soundfile.write(folder / "a.flac", np.stack([X, X], axis=1), 8000, subtype="PCM_16")
    write_edf(folder / "a.edf", {"a": X, "b": X}, 100.0, 1.0)
    np.savez(folder / "a.npz", time=T, x=X, y=np.asfortranarray(np.stack([X, X], axis=1)))
    np.savez_compressed(folder / "b.npz", x=X, rate_hz=5.0)
    return sorted(folder.iterdir())


NUMBERS = [
    b"99999999", b"-1      ", b"0       ", b"1e999", b"nan", b"        ", b"9999", b"\xff" * 8,
    b"\0" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b'"', b"\n\n", b"\r", b",,,,", b"\x1b[2J",
]  # fmt: skip
places = st.one_of(st.floats(0, 1), st.floats(0, 0.05), st.floats(0.95, 1))
change = st.one_of(
    st.tuples(st.just("cut"), places),
    st.tuples(st.just("flip"), places, st.integers(0, 7)),
    st.tuples(st.just("double"), places, st.integers(1, 200)),
    st.tuples(st.just("drop"), places, st.integers(1, 200)),
    st.tuples(st.just("noise"), places, st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("number"), places, st.sampled_from(NUMBERS)),
)


def changed(raw: bytes, changes: list[tuple]) -> bytes:
    for kind, place, *rest in changes:
        at = int(place * max(0, len(raw) - 1))
        how = rest[0] if rest else None
        if kind == "cut":
            raw = raw[:at]
        elif kind == "flip" and raw:
            raw = raw[:at] + bytes([raw[at] ^ (1 << how)]) + raw[at + 1 :]
        elif kind == "double":
            raw = raw[: at + how] + raw[at:]
        elif kind == "drop":
            raw = raw[:at] + raw[at + how :]
        elif kind in ("noise", "number"):
            raw = raw[:at] + how + raw[at + len(how) :]
    return raw


@pytest.mark.parametrize("n_examples", [120, MANY])
@pytest.mark.parametrize("ending", [".csv", ".parquet", ".wav", ".flac", ".edf", ".npz"])
def test_garbled(worker: Worker, tmp_path: Path, ending: str, n_examples: int) -> None:
    (tmp_path / "good").mkdir()
    good = [p.read_bytes() for p in valid_files(tmp_path / "good") if p.suffix == ending]
    path = tmp_path / f"case{ending}"
    rated = st.sampled_from(
        [{}, {"rate_hz": 5.0}] if ending in (".csv", ".parquet", ".npz") else [{}]
    )

    @settings(max_examples=n_examples, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(good), st.lists(change, min_size=1, max_size=4), rated)
    def run(raw: bytes, changes: list[tuple], how: dict[str, Any]) -> None:
        path.write_bytes(changed(raw, changes))
        outcome = check(worker, path, columns=["all"], **how)
        assert outcome["peak"] < worker.idle + CONSTANT

    run()
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, "good"]


def test_good_files_are_read(worker: Worker, tmp_path: Path) -> None:
    for path in valid_files(tmp_path):
        outcome = check(worker, path, columns=["all"])
        assert "refused" not in outcome
        assert N <= outcome["n_samples"] < 2 * N


@pytest.mark.parametrize("ending", [".parquet", ".flac", ".edf", ".npz", ".wav"])
def test_cut_anywhere(worker: Worker, tmp_path: Path, ending: str) -> None:
    (tmp_path / "good").mkdir()
    path = tmp_path / f"case{ending}"
    for whole in valid_files(tmp_path / "good"):
        raw = whole.read_bytes()
        for n in range(0, len(raw) - 2, max(1, len(raw) // 40)) if whole.suffix == ending else ():
            path.write_bytes(raw[:n])
            assert "refused" in check(worker, path, columns=["all"]), (whole.name, n)


# --------------------------------------------------------------------------------------- hostile


class Evil:
    """Leaves a mark where it is unpickled."""

    def __reduce__(self) -> tuple:
        return (open, ("unpickled", "w"))


def npy(header: str, version: bytes = b"\1\0", body: bytes = b"\0" * 80) -> bytes:
    text = header.encode("latin-1")
    size = struct.pack("<H" if version == b"\1\0" else "<I", len(text))
    return b"\x93NUMPY" + version + size + text + body


def archive(**members: bytes) -> bytes:
    raw = BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name.replace("__", "/") + ".npy", content)
    return raw.getvalue()


def shaped(shape: str, descr: str = "'<f8'") -> bytes:
    return archive(x=npy(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n"))


def objects() -> bytes:
    raw = BytesIO()
    np.savez(raw, x=np.array([Evil(), Evil()], dtype=object), rate_hz=1.0)
    return raw.getvalue()


def bomb() -> bytes:
    raw = BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("x", "rate_hz"):
            with file.open(f"{name}.npy", "w") as member:
                shape = "(33554432,)" if name == "x" else "(1,)"
                header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}\n"
                member.write(npy(header, body=b""))
                for _ in range(32 if name == "x" else 0):
                    member.write(bytes(2**23))
                member.write(np.float64(1).tobytes() if name == "rate_hz" else b"")
    return raw.getvalue()


def many_members() -> bytes:
    raw = BytesIO()
    with zipfile.ZipFile(raw, "w") as file:
        for n in range(40_000):
            file.writestr(f"{n}.npy", b"")
    return raw.getvalue()


def wav(data_bytes: int, riff_bytes: int = 0, channels: int = 1, rate: int = 8000) -> bytes:
    form = struct.pack("<HHIIHH", 1, channels, rate, 0, 2 * channels % 2**16, 16)
    return (
        b"RIFF" + struct.pack("<I", riff_bytes) + b"WAVEfmt " + struct.pack("<I", 16) + form
        + b"data" + struct.pack("<I", data_bytes) + bytes(100)
    )  # fmt: skip


def edf(
    signals: str = "1", records: str = "3", duration: str = "1", size: str = "512",
    n: str = "10", low: str = "-1", high: str = "1",
) -> bytes:  # fmt: skip
    head = "0".ljust(8) + "X X X X".ljust(80) + "Startdate X X X X".ljust(80) + "01.01.2001.01.01"
    head = head[:168] + "01.01.0101.01.01" + size.ljust(8) + " " * 44 + records.ljust(8)
    head += duration.ljust(8) + signals.ljust(4)
    one = "x".ljust(16) + " " * 80 + "uV".ljust(8) + low.ljust(8) + high.ljust(8)
    one += "-32768".ljust(8) + "32767".ljust(8) + " " * 80 + n.ljust(8) + " " * 32
    return (head + one).encode() + bytes(60)


ROWS = b"time_s,x\n" + b"".join(b"%d,1\n" % n for n in range(50))
HOSTILE: dict[str, tuple[str, Callable[[], bytes]]] = {
    # a refusal's words, or none where a result is right
    "columns.csv": ("100000 columns", lambda: b",".join([b"x"] * 10**5) + b"\n1\n"),
    "names.csv": ("10000 in all", lambda: b",".join([b"x"] * 10**4) + b"\n1\n2\n"),
    "blank.csv": ("at once", lambda: b"x" + b",x" * 4999 + b"\n" * 10**5 + b"1"),
    "blank rows.csv": ("", lambda: b"x" + b",x" * 999 + b"\n" * 5000 + b"1"),
    "returns.csv": ("empty", lambda: b"x\n" + b"\r" * 10**6),
    "endless.csv": ("a line of over", lambda: b"x\n" + b"1" * (3 * 10**7)),
    "headless.csv": ("does not end", lambda: b"1" * (3 * 10**7)),
    "quote.csv": ("a quote", lambda: ROWS + b'"' + b"51,1\n" * 10**7),
    "quotes.csv": ("", lambda: b"x\n" + b'"\n1\n' * 10**5),
    "odd.csv": ("", lambda: ROWS + b'50,"1'),
    "zeros.csv": ("zero bytes", lambda: ROWS + b" " * 2**20 + b"\n\0\n"),
    "infinite.csv": ("", lambda: ROWS + b"50,1e999\n51,-1e999\n52,1\n"),
    "control.csv": ("'[31mx' is not", lambda: ROWS + b"50,\x1b[31mx\n"),
    "year.csv": ("neither a number", lambda: b"time,x\n99999-01-01,1\n99999-01-02,2\n"),
    "equal.csv": ("time does not increase", lambda: b"time,x\n" + b"5,1\n" * 99),
    "back.csv": ("uneven", lambda: b"time,x\n5,1\n4,1\n3,1\n"),
    "huge times.csv": ("give no rate", lambda: b"time,x\n-1e308,1\n1e308,1\n"),
    "days.csv": ("no time stamps", lambda: b"time_d,x\n1e305,1\n1.1e305,1\n"),
    "tiny times.csv": ("give no rate", lambda: b"time,x\n0,1\n5e-324,1\n1e-323,1\n"),
    "no times.csv": ("no time stamps", lambda: b"time,x\n" + b",1\n" * 99),
    "far.csv": ("pauses of", lambda: b"time,x\n0,1\n1,1\n2,1\n1e18,1\n"),
    "ten.csv": ("", lambda: b"time,x\n0,1\n1,1\n2,1\n30,1\n"),
    "utf16.csv": ("zero bytes", lambda: "time,x\n0,1\n1,2\n".encode("utf-16")),
    "comments.csv": ("empty", lambda: b"#\n" * 10**5),
    "png.csv": ("", lambda: b"\x89PNG\r\n\x1a\n" + bytes(range(1, 256)) * 9),
    "shape.npz": ("cut short", lambda: shaped("(4611686018427387904,)")),
    "shape2.npz": ("cut short", lambda: shaped("(9223372036854775807, 9999)")),
    "minus.npz": ("no array", lambda: shaped("(-10,)")),
    "minus2.npz": ("no array", lambda: shaped("(10, -1)")),
    "true.npz": ("has shape", lambda: shaped("(True, 10)")),
    "text.npz": ("", lambda: shaped("(10,)", "'<U2147483647'")),
    "record.npz": ("no array", lambda: shaped("(10,)", "[('a', '<f8')]")),
    "nested.npz": ("not an NPZ file", lambda: archive(x=npy("(" * 9000))),
    "names.npz": ("not an NPZ file", lambda: archive(x=npy("__import__('os').getcwd()"))),
    "header.npz": ("not an NPZ file", lambda: archive(
        x=b"\x93NUMPY\2\0\xff\xff\xff\xff" + b" " * 10**8
    )),
    "version.npz": ("9.9 is not known", lambda: archive(x=b"\x93NUMPY\x09\x09")),
    "objects.npz": ("no array", objects),
    "pickle.npz": ("not an NPZ file", lambda: pickle.dumps(Evil())),
    "pickled.npz": ("not an NPZ file", lambda: archive(x=pickle.dumps(Evil()))),
    "bomb.npz": ("", bomb),
    "members.npz": ("a list of arrays of", many_members),
    "path.npz": ("", lambda: archive(rate_hz=npy(
        "{'descr': '<f8', 'fortran_order': False, 'shape': ()}", body=np.float64(5).tobytes()
    ), **{"..__..__evil": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (10,)}")})),
    "rate.npz": ("rate_hz is nan", lambda: archive(rate_hz=npy(
        "{'descr': '<f8', 'fortran_order': False, 'shape': ()}", body=np.float64("nan").tobytes()
    ))),
    "terabytes.wav": ("", lambda: wav(2**31 - 2)),
    "promise.wav": ("cut short", lambda: wav(2**31 - 2, 2**31)),
    "channels.wav": ("not a WAV file", lambda: wav(100, channels=65535)),
    "none.wav": ("not a WAV file", lambda: wav(100, channels=0)),
    "still.wav": ("", lambda: wav(100, rate=0)),
    "fast.wav": ("", lambda: wav(100, rate=2**32 - 1)),
    "signals.edf": ("a header of 512 bytes for 9999 signals", lambda: edf(signals="9999")),
    "minus.edf": ("for -1 signals", lambda: edf(signals="-1")),
    "records.edf": ("cut short", lambda: edf(records="99999999")),
    "unknown.edf": ("states -1 data records", lambda: edf(records="-1")),
    "size.edf": ("a header of", lambda: edf(size="-512")),
    "samples.edf": ("a signal of -10 samples", lambda: edf(n="-10")),
    "samples2.edf": ("cut short", lambda: edf(n="99999999")),
    "still.edf": ("an EDF file", lambda: edf(duration="0")),
    "flat.edf": ("an EDF file", lambda: edf(low="1", high="1")),
    "infinite.edf": ("", lambda: edf(low="-1e999", high="1e999")),
    "words.edf": ("an EDF file", lambda: edf(records="many")),
    "cut.parquet": ("not a Parquet file", lambda: b"PAR1" + bytes(99)),
    "footer.parquet": ("not a Parquet file", lambda: b"PAR1" + bytes(99) + b"\xff\xff\xff\x7fPAR1"),
    "empty.flac": ("not a FLAC file", lambda: b"fLaC"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(tmp_path: Path, worker: Worker, name: str) -> None:
    words, content = HOSTILE[name]
    path = tmp_path / name
    path.write_bytes(content())
    columns = ["all"] if name not in ("names.csv", "path.npz") else ["nothing"]
    columns = ["../../evil"] if name == "path.npz" else columns
    how = {"rate_hz": 5.0} if name.endswith(".csv") and b"time" not in path.read_bytes()[:6] else {}
    outcome = check(worker, path, columns=columns, **how)
    assert words in outcome.get("refused", "") if words else True
    assert words == "" or "refused" in outcome
    assert outcome["peak"] < worker.idle + 2 * path.stat().st_size + CONSTANT
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert not Path("unpickled").exists()


def test_a_small_file_that_would_fill_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # of nulls, Parquet needs next to nothing
    table = pa.table({"x": pa.nulls(2**23, pa.int8())})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=2**23)
    monkeypatch.setattr(reader, "LARGE", 2**20)
    with pytest.raises(UserError, match=r"would swell to 67,108,864; that is no recording"):
        read_recording(tmp_path / "a.parquet", rate_hz=1.0)


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".wav", ".flac", ".edf", ".npz"])
def test_a_full_disk(tmp_path: Path, ending: str) -> None:
    # in a process that may write no file of over 100 kB
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(size=10**5) / 9, 100)
    module = {".csv": "csv_file", ".npz": "npz_file"}.get(ending, "edf_file")
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from tonesieve.errors import UserError\n"
        "from tonesieve.recordings.recording import read_recording\n"
        "from tonesieve.recordings.recording_writer import open_writer\n"
        "r = read_recording(Path('a.wav'))\n"
        f"import tonesieve.recordings.{module}\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, 10**5))\n"
        "try:\n"
        f"    with open_writer(r, r.channels, Path('b{ending}')) as writer:\n"
        "        for n in range(0, 10**5, 10**4): writer.write(n, r.read(n, n + 10**4).T)\n"
        "except UserError as error:\n"
        "    print(error); sys.exit(0 if str(error).isprintable() else 1)\n"
        "sys.exit(9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=False, capture_output=True, text=True,
        cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert f"b{ending}: cannot be written" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]


def stop(_: None) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".wav", ".flac", ".edf", ".npz"])
def test_stopped_midway(tmp_path: Path, ending: str) -> None:
    soundfile.write(tmp_path / "a.wav", np.ones(1000) / 9, 100)
    recording = read_recording(tmp_path / "a.wav")
    with (
        pytest.raises(KeyboardInterrupt),
        open_writer(recording, [Channel("x")], tmp_path / f"b{ending}") as writer,
    ):
        stop(writer.write(0, np.zeros((500, 1))))
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]


# ------------------------------------------------------------------------------------ extraction

T4 = np.arange(4000) / 1000
TONE = np.sin(6 * np.pi * T4)


def with_gaps(*parts: slice) -> np.ndarray:
    x = TONE.copy()
    for part in parts:
        x[part] = np.nan
    return x


VALUES = {
    "start": with_gaps(slice(0, 500)),
    "end": with_gaps(slice(-500, None)),
    "half": with_gaps(slice(1000, 3000)),
    "every other": with_gaps(slice(0, None, 2)),
    "but one": with_gaps(slice(0, 1234), slice(1235, None)),
    "constant": np.full(4000, 7.25),
    "nothing": np.zeros(4000),
    "integers": np.rint(100 * TONE),
    "tiny": 1e-300 * TONE,
    "least": 5e-324 * np.rint(9 * TONE),
    "huge": 1e300 * TONE,
    "mixed": np.where(np.arange(4000) % 2, 1e300, 1e-300) * TONE,
    "offset": 1e12 + TONE,
    "a spike": np.where(np.arange(4000) == 1500, 1e300, TONE),
    "noughts": np.where(np.arange(4000) % 2, -0.0, 0.0),
}


@pytest.mark.parametrize("ending", [".csv", ".wav"])
@pytest.mark.parametrize("how", [{}, {"causal": True}, {"remove": True}, {"full": True}], ids=str)
@pytest.mark.parametrize("kind", ["tracker", "lock-in"])
@pytest.mark.parametrize("name", VALUES)
def test_extraction_of_hostile_values(
    tmp_path: Path, name: str, kind: str, how: dict, ending: str
) -> None:
    if ending == ".wav" and "full" in how:
        return
    np.savez(tmp_path / "a.npz", x=VALUES[name], rate_hz=1000.0)
    out = tmp_path / f"b{ending}"
    extract_recording(tmp_path / "a.npz", make_source(kind, [3.0]), ExtractOptions(out=out, **how))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["a.npz", out.name, f"{out.name}.json"]
    )
    found = read_recording(out, columns=["all"])
    assert len(found.rows) == 4000
    rows = found.read(0, 4000)
    for channel, column in zip(found.channels, rows, strict=True):
        there = np.isfinite(column)
        if channel.name == "residual" or "remove" in how:
            there |= ~np.isfinite(VALUES[name])
        if channel.name not in ("tone_low", "tone_high", "amplitude_low", "amplitude_high"):
            assert there.all(), channel.name
    outcome = json.loads((tmp_path / f"{out.name}.json").read_text())
    json.dumps(outcome, allow_nan=False)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", VALUES)
def test_the_pretrained_extractor_on_hostile_values(
    tmp_path: Path, name: str, causal: bool
) -> None:
    x = VALUES[name][500:2000]  # with a number in it, of each
    np.savez(tmp_path / "a.npz", x=x, rate_hz=1000.0)
    source, out = make_source("pretrained", [7.0]), tmp_path / "b.csv"
    extract_recording(tmp_path / "a.npz", source, ExtractOptions(out=out, causal=causal, full=True))
    table = pd.read_csv(out)
    assert len(table) == len(x)
    # The tone, its parameters and its bands are numbers everywhere.
    assert np.isfinite(table.drop(columns="residual")).all(axis=None)
    assert (table["tone_low"] <= table["tone"]).all()
    assert (table["tone"] <= table["tone_high"]).all()
    there = np.isfinite(table["residual"])
    np.testing.assert_array_equal(there, np.isfinite(x))
    json.dumps(json.loads((tmp_path / "b.csv.json").read_text()), allow_nan=False)


@pytest.mark.parametrize("n", [1, 2, 3, 400])
@pytest.mark.parametrize("kind", ["pretrained", "lock-in", "wiener", "zero-phase"])
def test_extraction_of_next_to_nothing(tmp_path: Path, n: int, kind: str) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((n, 1)) if n > 1 else np.ones(1), rate_hz=1000.0)
    out, refused = tmp_path / "b.csv", ""
    try:
        extract_recording(tmp_path / "a.npz", make_source(kind, [3.0]), ExtractOptions(out=out))
    except UserError as error:
        refused = str(error)
    if refused:
        assert refused.isprintable()
        assert not out.exists()
    else:
        assert np.isfinite(pd.read_csv(out)["tone"]).all()


def test_what_is_too_large_is_named(tmp_path: Path) -> None:
    x = np.where(TONE > 0, 1.79e308, -1.79e308)
    np.savez(tmp_path / "a.npz", x=x, rate_hz=1000.0)
    with pytest.raises(UserError, match=r"x reaches from -1.79e\+308 to 1.79e\+308; scale it"):
        extract_recording(tmp_path / "a.npz", make_source("lock-in", [3.0]))
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_a_channel_of_nothing_is_named(tmp_path: Path) -> None:
    x = np.stack([TONE, TONE * np.nan], axis=1)
    np.savez(tmp_path / "a.npz", x=x, rate_hz=1000.0)
    options = ExtractOptions(columns=["all"])
    with pytest.raises(UserError, match="x_2 holds no number at all"):
        extract_recording(tmp_path / "a.npz", make_source("lock-in", [3.0]), options)
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]
