"""Numbers in as they come, estimates out one for one: standard input, a socket, a lab's stream."""

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
from tonesieve.extractors.streaming import EXTREME, Stream
from tonesieve.util.files import refuse_existing

AT_ONCE = 2**16  # bytes
PIECE = 4096  # bytes that a pipe takes whole or not at all
# A line longer than this is none; what follows until its end is passed over.
LONGEST_LINE = 2**16
# Lines that are no numbers are named one by one so often.
MOST_NAMED = 100
SAVE_EVERY_S = 10.0


@runtime_checkable
class ByteSource(Protocol):
    """Where samples come from: chunks of bytes with lines in them; b"" at the end."""

    stop: int  # a descriptor that becomes readable when it is time to stop

    def read(self) -> bytes | None:
        """What has come; None when it is time to stop."""
        ...


@dataclass
class Lines:
    """Turns bytes into samples, line by line; what is no number becomes a gap and is named."""

    n_channels: int
    n_lines: int = 0
    n_bad: int = 0
    _rest: bytes = b""
    _skipping: bool = False

    def take(self, raw: bytes) -> Float[np.ndarray, "C T"]:
        """All lines that are complete now."""
        *lines, self._rest = (self._rest + raw).split(b"\n")
        if self._skipping and lines:  # the end of a line that was too long
            lines, self._skipping = [b"\x00", *lines[1:]], False
        if len(self._rest) > LONGEST_LINE:
            self._rest, self._skipping = b"", True
        return self._numbers(lines)

    def finish(self) -> Float[np.ndarray, "C T"]:
        """A last line without an end."""
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
            return np.array([[self._quickly(line) for line in lines]])
        columns = [self._one(line) for line in lines]
        return np.array(columns, dtype=float).reshape(len(lines), self.n_channels).T

    def _quickly(self, line: bytes) -> float:
        """One channel's line, of many that are mostly numbers."""
        try:
            found = float(line)
        except ValueError:
            return self._one(line)[0]
        if not abs(found) < EXTREME or b"_" in line:
            return self._one(line)[0]
        self.n_lines += 1
        return found

    def _one(self, line: bytes) -> list[float]:
        self.n_lines += 1
        words = line.replace(b",", b" ").replace(b";", b" ").split()
        try:
            if b"_" in line or len(words) != self.n_channels:
                raise ValueError
            found = [float(word) for word in words]
        except ValueError:
            self._name(
                line, "no number" if self.n_channels == 1 else f"not {self.n_channels} numbers"
            )
            return [np.nan] * self.n_channels
        if not all(abs(x) < EXTREME for x in found):
            self._name(line, "not finite, or as good as")
        return [x if abs(x) < EXTREME else np.nan for x in found]

    def _name(self, line: bytes, what: str) -> None:
        self.n_bad += 1
        if self.n_bad <= MOST_NAMED:
            shown = line[:40].decode("utf-8", "replace").replace("\x00", "").strip()
            text = f"line {self.n_lines}: {what} ({shown!r}); answered by the forecast"
            print(f"tonesieve: {text}", file=sys.stderr, flush=True)
        if self.n_bad == MOST_NAMED:
            print("tonesieve: more lines like that are only counted", file=sys.stderr, flush=True)


def run_stream(
    stream: Stream,
    feed: ByteSource,
    *,
    state: Path | None = None,
    chosen: Sequence[int] = (0,),
    remove: bool = False,
    full: bool = False,
    save_every_s: float = SAVE_EVERY_S,
    out: int = 1,
) -> dict[str, Any]:
    """Answer line after line until the input ends, the reader leaves, or a signal says stop.

    With ``state`` the stream goes on from that file if it is there, and is saved to it every so
    often and at the end. What was saved has been answered: after a kill, feed it the lines
    after the saved number, and the answers go on as though nothing had been. ``full``: a line
    holds, channel by channel and tone by tone, the tone, its amplitude, phase (rad) and frequency
    (Hz), and both ends of its band (90%). Answers the counts.
    """
    if state is not None:
        refuse_existing(state, force=True, option="--state")
        if state.exists():
            stream.restore(state)
            told = f"goes on after {stream.n_samples:,} samples"
            print(f"tonesieve: {told}", file=sys.stderr, flush=True)
    lines, saved = Lines(stream.n_channels), time.monotonic()
    ended = "the input ended"
    while True:
        raw = feed.read()
        samples = lines.take(raw) if raw else lines.finish() if raw == b"" else None
        if samples is not None and samples.shape[1]:
            before = stream.state
            answers = _answered(stream, samples, chosen, remove=remove, full=full)
            n_taken, reason = _written(out, answers, feed.stop)
            if n_taken < len(answers):
                # Of the chunk only these were answered: as though no more had come.
                stream.state = before
                stream.process(samples[:, :n_taken])
                if isinstance(reason, OSError):
                    if state is not None:
                        stream.save(state)
                    raise reason
                ended = str(reason)
                break
        if not raw:
            ended = "a signal said stop" if raw is None else ended
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


def _answered(
    stream: Stream, samples: Float[np.ndarray, "C T"], chosen: Sequence[int], *, remove: bool,
    full: bool,
) -> list[str]:  # fmt: skip
    """A line a sample; ``full``: of every tone also amplitude, phase, frequency and band."""
    if not full:
        return _text(stream.process(samples), samples, chosen, remove=remove)
    told = stream.process_detailed(samples)
    tones = told.tones
    ends = (tones - told.band, tones + told.band)
    parts = np.stack([tones, told.amplitude, told.phase, told.hz, *ends], axis=3)
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


def _written(out: int, answers: list[str], stop: int) -> tuple[int, str | OSError]:
    """How many of these lines were taken, and why no more; a slow reader is waited for.

    In pieces of whole lines that a pipe takes in one: a signal to stop finds no line half-written.
    """
    whole = ("\n".join(answers) + "\n").encode()
    done = 0
    while done < len(whole):
        end = whole.rfind(b"\n", done, done + PIECE) + 1
        end = end or whole.index(b"\n", done) + 1  # a line longer than that
        try:
            ready, _, _ = select.select([stop], [out], [])
            if ready:
                return whole.count(b"\n", 0, done), "a signal said stop"
            piece = whole[done:end]
            while piece:
                piece = piece[os.write(out, piece) :]
        except BrokenPipeError:
            return whole.count(b"\n", 0, done), "the reader left"
        except OSError as error:
            return whole.count(b"\n", 0, done), error
        done = end
    return len(answers), ""


@contextmanager
def feed_of(address: str, n_channels: int) -> Iterator[ByteSource]:
    """Standard input (-), tcp://HOST:PORT, or lsl://NAME, for as long as the block lasts.

    A signal to stop (INT, TERM) ends the feed, so that what was read is still answered.
    """
    kind, _, rest = address.partition("://")
    with _stopped() as stop:
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
        """As many bytes as there are, or a signal."""
        ready, _, _ = select.select([self.descriptor, self.stop], [], [])
        if self.stop in ready:
            return None
        try:
            return os.read(self.descriptor, AT_ONCE)
        except ConnectionError:
            return b""


class LslSource:
    """A stream of the Lab Streaming Layer, found by its name."""

    PATIENCE_S = 10.0

    def __init__(self, name: str, n_channels: int, stop: int) -> None:
        from pylsl import StreamInlet, resolve_byprop, set_config_content

        set_config_content("[log]\nlevel = -2\n")  # errors alone: standard error is for lines
        found = resolve_byprop("name", name, timeout=self.PATIENCE_S)
        if not found:
            raise UserError(f"--from lsl://{name}: no such stream within {self.PATIENCE_S:g} s")
        if found[0].channel_count() != n_channels:
            raise UserError(
                f"--from lsl://{name}: has {found[0].channel_count()} channels; say so with "
                "--channels"
            )
        self.rate_hz = float(found[0].nominal_srate())
        self._inlet, self.stop = StreamInlet(found[0], recover=False), stop

    def read(self) -> bytes | None:
        """The samples that have come, as lines."""
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
def _stopped() -> Iterator[int]:
    """A descriptor that becomes readable when a signal asks to stop."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    before = {}

    def note(number: int, frame: Any) -> None:
        os.write(writable, b"x")

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, note)
        yield readable
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(readable)
        os.close(writable)
