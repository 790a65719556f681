"""Numbers in as they come, an estimate out for each: standard input, a socket, a lab's stream."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from tonesieve.errors import UserError
from tonesieve.extractors.input_scaling import EXTREME
from tonesieve.extractors.streaming import Stream
from tonesieve.util.files import refuse_existing

# Chosen, not tuned: bytes that are read at once.
READ_SIZE = 2**16
# Derived: bytes that a pipe takes in one piece or not at all (PIPE_BUF of Linux).
PIPE_BUF = 4096
# Guard: a longer line, in bytes, is a bad one, and skipped to its end.
MAX_LINE = 2**16
# Guard: bad lines that are named one by one on standard error.
MAX_NAMED = 100
# Chosen, not tuned.
SAVE_EVERY_S = 10.0
# Why a stream ended, as it is reported.
STOPPED = "a signal asked to stop"


@runtime_checkable
class ByteSource(Protocol):
    """Where samples come from: lines, as chunks of bytes; b"" at the end.

    ``stop`` is a file descriptor that becomes readable when a signal asks to stop.
    """

    stop: int

    def read(self) -> bytes | None:
        """Return the next bytes; None when a signal asks to stop."""
        ...


@dataclass
class Lines:
    """Parses bytes into samples, line by line; what is no number becomes a gap and is named."""

    n_channels: int
    n_lines: int = 0
    n_bad: int = 0
    _rest: bytes = b""
    _skipping: bool = False

    def parse(self, raw: bytes) -> Float[np.ndarray, "C T"]:
        """Parse all lines that these bytes complete."""
        *lines, self._rest = (self._rest + raw).split(b"\n")
        if self._skipping and lines:  # the end of a line that was too long
            lines, self._skipping = [b"\x00", *lines[1:]], False
        if len(self._rest) > MAX_LINE:
            self._rest, self._skipping = b"", True
        return self._numbers(lines)

    def finish(self) -> Float[np.ndarray, "C T"]:
        """Parse a last line without an end."""
        last = [b"\x00"] if self._skipping else [self._rest] if self._rest else []
        self._rest, self._skipping = b"", False
        return self._numbers(last)

    def _numbers(self, lines: list[bytes]) -> Float[np.ndarray, "C T"]:
        if self.n_channels == 1:
            try:
                samples = np.array([list(map(float, lines))])
                if (np.abs(samples) < EXTREME).all() and b"_" not in b"".join(lines):
                    self.n_lines += len(lines)
                    return samples
            except ValueError:
                pass
            return np.array([[self._parse_number(line) for line in lines]])
        columns = [self._parse_line(line) for line in lines]
        return np.array(columns, dtype=float).reshape(len(lines), self.n_channels).T

    def _parse_number(self, line: bytes) -> float:
        """One channel's line, of many that are mostly numbers."""
        try:
            number = float(line)
        except ValueError:
            return self._parse_line(line)[0]
        if not abs(number) < EXTREME or b"_" in line:
            return self._parse_line(line)[0]
        self.n_lines += 1
        return number

    def _parse_line(self, line: bytes) -> list[float]:
        self.n_lines += 1
        words = line.replace(b",", b" ").replace(b";", b" ").split()
        try:
            if b"_" in line or len(words) != self.n_channels:
                raise ValueError
            numbers = [float(word) for word in words]
        except ValueError:
            expected = "no number" if self.n_channels == 1 else f"not {self.n_channels} numbers"
            self._report(line, expected)
            return [np.nan] * self.n_channels
        if not all(abs(x) < EXTREME for x in numbers):
            self._report(line, f"not finite, or above {EXTREME:g}")
        return [x if abs(x) < EXTREME else np.nan for x in numbers]

    def _report(self, line: bytes, problem: str) -> None:
        self.n_bad += 1
        if self.n_bad <= MAX_NAMED:
            shown = line[:40].decode("utf-8", "replace").replace("\x00", "").strip()
            text = f"line {self.n_lines}: {problem} ({shown!r}); its tone is predicted"
            print(f"tonesieve: {text}", file=sys.stderr, flush=True)
        if self.n_bad == MAX_NAMED:
            print("tonesieve: more bad lines are only counted", file=sys.stderr, flush=True)


def run_stream(
    stream: Stream,
    source: ByteSource,
    *,
    state: Path | None = None,
    chosen: Sequence[int] = (0,),
    remove: bool = False,
    full: bool = False,
    save_every_s: float = SAVE_EVERY_S,
    out: int = 1,
) -> dict[str, Any]:
    """Write a line for each line until the input ends, the reader leaves, or a signal asks to stop.

    With ``state`` the stream continues from that file if it is there, and is saved to it now and
    then and at the end. What was saved has been written: after a kill, send the lines after the
    saved number, and the estimates continue as without the kill. ``full``: a line holds, channel by
    channel and tone by tone, the tone, its amplitude, phase (rad) and frequency (Hz), and both
    limits of its 90% band. Returns the counts.
    """
    if state is not None:
        refuse_existing(state, force=True, option="--state")
        if state.exists():
            stream.restore(state)
            text = f"continues after {stream.n_samples:,} samples"
            print(f"tonesieve: {text}", file=sys.stderr, flush=True)
    lines, saved = Lines(stream.n_channels), time.monotonic()
    ended = "the input ended"
    while True:
        raw = source.read()
        samples = lines.parse(raw) if raw else lines.finish() if raw == b"" else None
        if samples is not None and samples.shape[1]:
            before = stream.state
            estimates = _estimates(stream, samples, chosen, remove=remove, full=full)
            n_written, reason = _write(out, estimates, source.stop)
            if n_written < len(estimates):
                # The state has to be that after the last line that was written.
                stream.state = before
                stream.process(samples[:, :n_written])
                if isinstance(reason, OSError):
                    if state is not None:
                        stream.save(state)
                    raise reason
                ended = str(reason)
                break
        if not raw:
            ended = STOPPED if raw is None else ended
            break
        if state is not None and time.monotonic() - saved >= save_every_s:
            stream.save(state)
            saved = time.monotonic()
    if state is not None:
        stream.save(state)
    return {
        "lines": lines.n_lines,
        "gaps": lines.n_bad,
        "samples_so_far": stream.n_samples,
        "ended": ended,
        "state": None if state is None else str(state),
    }


def _estimates(
    stream: Stream, samples: Float[np.ndarray, "C T"], chosen: Sequence[int], *, remove: bool,
    full: bool,
) -> list[str]:  # fmt: skip
    """A line a sample; ``full``: of every tone also amplitude, phase, frequency and band."""
    if not full:
        return _text(stream.process(samples), samples, chosen, remove=remove)
    estimate = stream.process_detailed(samples)
    tones, band = estimate.tones, estimate.band
    parameters = (estimate.amplitude, estimate.phase, estimate.hz)
    parts = np.stack([tones, *parameters, tones - band, tones + band], axis=3)
    flat = parts[:, :, list(chosen)].transpose(1, 0, 2, 3).reshape(samples.shape[1], -1)
    return [",".join(map(repr, row)) for row in flat.tolist()]


def _text(
    tones: Float[np.ndarray, "C T K"],
    samples: Float[np.ndarray, "C T"],
    chosen: Sequence[int],
    *,
    remove: bool,
) -> list[str]:
    """A line a sample: its tones channel by channel, or what is left without them."""
    tones = tones[..., list(chosen)]
    rows = samples - tones.sum(axis=2) if remove else tones
    flat = rows.T if remove else rows.transpose(1, 0, 2).reshape(samples.shape[1], -1)
    if flat.shape[1] == 1:
        return list(map(repr, flat[:, 0].tolist()))
    return [",".join(map(repr, row)) for row in flat.tolist()]


def _write(out: int, lines: list[str], stop: int) -> tuple[int, str | OSError]:
    """How many of these lines were written, and why no more; a slow reader is waited for.

    In pieces of whole lines that a pipe takes in one: a signal to stop leaves no line half-written.
    """
    raw = ("\n".join(lines) + "\n").encode()
    done = 0
    while done < len(raw):
        end = raw.rfind(b"\n", done, done + PIPE_BUF) + 1
        end = end or raw.index(b"\n", done) + 1  # a line longer than that
        try:
            ready, _, _ = select.select([stop], [out], [])
            if ready:
                return raw.count(b"\n", 0, done), STOPPED
            piece = raw[done:end]
            while piece:
                piece = piece[os.write(out, piece) :]
        except BrokenPipeError:
            return raw.count(b"\n", 0, done), "the reader left"
        except OSError as error:
            return raw.count(b"\n", 0, done), error
        done = end
    return len(lines), ""


@contextmanager
def open_byte_source(address: str, n_channels: int) -> Iterator[ByteSource]:
    """Standard input (-), tcp://HOST:PORT, or lsl://NAME, for as long as the block lasts.

    A signal to stop (INT, TERM) ends the input, so that what was read is still processed.
    """
    kind, _, rest = address.partition("://")
    with _stop_descriptor() as stop:
        if address == "-":
            yield Descriptor(0, stop)
        elif kind == "tcp" and rest:
            with _connected(rest) as connection:
                yield Descriptor(connection.fileno(), stop)
        elif kind == "lsl" and rest:
            yield LslSource(rest, n_channels, stop)
        else:
            raise UserError(
                f"--from {address}: must be - (standard input), tcp://HOST:PORT or lsl://NAME"
            )


@dataclass
class Descriptor:
    """An open file, pipe or socket."""

    descriptor: int
    stop: int

    def read(self) -> bytes | None:
        """Return the bytes that are there, or None after a signal."""
        ready, _, _ = select.select([self.descriptor, self.stop], [], [])
        if self.stop in ready:
            return None
        try:
            return os.read(self.descriptor, READ_SIZE)
        except ConnectionError:
            return b""


class LslSource:
    """A stream of the Lab Streaming Layer, found by its name."""

    # Guard: seconds within which it has to be found.
    TIMEOUT_S = 10.0

    def __init__(self, name: str, n_channels: int, stop: int) -> None:
        from pylsl import StreamInlet, resolve_byprop, set_config_content

        set_config_content("[log]\nlevel = -2\n")  # errors alone: standard error is for lines
        streams = resolve_byprop("name", name, timeout=self.TIMEOUT_S)
        if not streams:
            raise UserError(f"--from lsl://{name}: no such stream within {self.TIMEOUT_S:g} s")
        n_found = streams[0].channel_count()
        if n_found != n_channels:
            raise UserError(f"--from lsl://{name}: has {n_found} channels; say so with --channels")
        self.rate_hz = float(streams[0].nominal_srate())
        self._inlet, self.stop = StreamInlet(streams[0], recover=False), stop

    def read(self) -> bytes | None:
        """Return the samples that have come, as lines."""
        from pylsl.util import LostError

        while True:
            if select.select([self.stop], [], [], 0)[0]:
                return None
            try:
                samples, _ = self._inlet.pull_chunk(timeout=0.2)
            except LostError:
                return b""
            if samples:
                return "".join(",".join(map(repr, row)) + "\n" for row in samples).encode()


@contextmanager
def _connected(address: str) -> Iterator[socket.socket]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UserError(f"--from tcp://{address}: must be tcp://HOST:PORT")
    try:
        connection = socket.create_connection((host.strip("[]"), int(port)), timeout=10)
    except OSError as error:
        raise UserError(f"--from tcp://{address}: cannot be reached: {error}") from None
    with connection:
        connection.settimeout(None)
        yield connection


@contextmanager
def _stop_descriptor() -> Iterator[int]:
    """A file descriptor that becomes readable when a signal asks to stop."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    before = {}

    def on_signal(number: int, frame: Any) -> None:
        os.write(writable, b"x")

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, on_signal)
        yield readable
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(readable)
        os.close(writable)
