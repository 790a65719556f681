"""A real recording on an even grid of time: whatever its format and however long, gaps as NaN.

Axes: C channels, T samples of the grid, N columns of an output.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from tonesieve.errors import UserError
from tonesieve.recordings.reader import (
    Channel,
    OpenedFile,
    OutputFormat,
    ReadOptions,
    check_rate,
    rows_in_block,
    sanitise,
)
from tonesieve.recordings.spool import Spool
from tonesieve.recordings.time_grid import Grid, infer_grid, regular
from tonesieve.util.files import replacing

# By the ending of a file: the module of its format, loaded when it is met, and what opens it.
_OPENERS = {
    ".csv": ("csv_file", "open_csv"),
    ".parquet": ("parquet_file", "open_parquet"),
    ".wav": ("audio_file", "open_audio"),
    ".flac": ("audio_file", "open_audio"),
    ".edf": ("edf_file", "open_edf"),
    ".npz": ("npz_file", "open_npz"),
}
FORMATS = tuple(_OPENERS)
# Formats that hold named columns of any unit, a time column among them.
TABLES = (".csv", ".parquet", ".npz")


@dataclass(frozen=True)
class Recording:
    """Channels of a real recording, as rows in a spool and their places on the grid."""

    path: Path
    channels: tuple[Channel, ...]
    grid: Grid
    rows: Spool  # a time in seconds, where there is one, and then the channels
    form: OutputFormat
    timed: bool

    @property
    def rate_hz(self) -> float:
        """Samples a second."""
        return self.grid.rate_hz

    @property
    def n_samples(self) -> int:
        """Samples of the grid: rows, and what is lost between them."""
        return len(self.rows) + self.grid.total_lost

    @property
    def duration_s(self) -> float:
        """From the first sample to the last, one step more."""
        return self.n_samples / self.rate_hz

    def read(self, start: int, stop: int) -> Float[np.ndarray, "C T"]:
        """Samples of the grid; NaN where there is none."""
        start, stop = max(0, start), min(stop, self.n_samples)
        row, there = self.grid.rows_at(start, stop)
        result = np.full((len(self.channels), len(row)), np.nan)
        if there.any():
            first, last = int(row[there][0]), int(row[there][-1])
            samples = self.rows.read(first, last + 1)[:, self.timed :]
            result[:, there] = samples[row[there] - first].T
        return result

    def channel(self, c: int, start: int, stop: int) -> Float[np.ndarray, " T"]:
        """Samples of one channel; of the others few are held at a time."""
        step = rows_in_block(self.rows.n_columns)
        stop = min(stop, self.n_samples)
        parts = [self.read(at, min(at + step, stop))[c] for at in range(max(0, start), stop, step)]
        return np.concatenate(parts) if parts else np.zeros(0)

    @property
    def samples(self) -> Float[np.ndarray, " T"]:
        """The first channel in one piece."""
        return self.channel(0, 0, self.n_samples)

    def seconds(self, start: int, stop: int) -> Float[np.ndarray, " T2"]:
        """Times of the rows among these samples: as the file has them, or since its start."""
        row, there = self.grid.rows_at(start, stop)
        if not self.timed:
            return np.arange(start, stop)[there] / self.rate_hz
        rows = row[there]
        return self.rows.read(int(rows[0]), int(rows[-1]) + 1)[:, 0] if len(rows) else np.zeros(0)


def read_recording(
    path: Path,
    *,
    columns: Sequence[str] = (),
    rate_hz: float | None = None,
    time: str | None = None,
    scratch: Path | None = None,
) -> Recording:
    """Read channels of a CSV, Parquet, WAV, FLAC, EDF or NPZ file, in blocks.

    ``columns``: names, or numbers from 1, or ``all``; none: the only one there is. The rate is what
    the file states, or follows from its time column (then rows that are missing are gaps), or is
    given. ``scratch``: the folder for what does not fit into memory (default: the system's own).

    Raises `UserError` for a file that is missing, empty, of another format, cut short, or holds
    anything but numbers.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    check_rate(path, rate_hz)
    if path.suffix.lower() not in _OPENERS:
        raise UserError(f"{path}: ending {path.suffix!r}; readable are {', '.join(FORMATS)}")
    module, name = _OPENERS[path.suffix.lower()]
    wanted = ReadOptions(tuple(columns), rate_hz, time)
    opened = import_module(f"tonesieve.recordings.{module}")
    try:
        contents: OpenedFile = getattr(opened, name)(path, wanted)
        rows, timed = _collect(contents, scratch or Path(tempfile.gettempdir()))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or sanitise(error)}") from None
    except MemoryError:
        raise UserError(f"{path}: cannot be read: it asks for more memory than there is") from None
    if not len(rows):
        raise UserError(f"{path}: empty; it holds no samples")
    if contents.rate_hz is not None:
        check_rate(path, contents.rate_hz, whose="it states a rate of")
        grid = regular(contents.rate_hz)
    else:
        grid = infer_grid(path, lambda: _times(rows), len(rows))
    return Recording(path, contents.channels, grid, rows, contents.form, timed)


def from_array(samples: Float[np.ndarray, " T"], rate_hz: float) -> Recording:
    """Samples at hand as a recording."""
    rows = Spool(1, Path(tempfile.gettempdir()))
    rows.append(samples[:, None])
    channel = Channel("samples")
    return Recording(
        Path("array"), (channel,), regular(rate_hz), rows, OutputFormat(".npz"), timed=False
    )


@runtime_checkable
class _Writer(Protocol):
    def write(self, times: Any, columns: Float[np.ndarray, "T N"]) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...


class RecordingWriter:
    """Takes columns for the samples of a recording, and writes those that are rows of it."""

    def __init__(
        self,
        recording: Recording,
        path: Path,
        writer: _Writer,
        *,
        timed: bool,
        verbatim: bool,
        bounded: bool,
    ) -> None:
        self._recording, self._path, self._writer, self._timed = recording, path, writer, timed
        self._verbatim = _Verbatim(recording) if verbatim else None
        # Sound has no times: a sample that is lost must take its place there.
        self._whole = path.suffix.lower() not in TABLES
        self._bounded, self._gapless = bounded, bounded or path.suffix.lower() == ".edf"
        self.n_clipped = 0  # numbers beyond full scale, which the format cuts off

    def write(self, start: int, columns: Float[np.ndarray, "T N"]) -> None:
        """Columns for the samples from ``start`` on, one block after the other."""
        stop = start + len(columns)
        _, there = self._recording.grid.rows_at(start, stop)
        own = columns if self._whole else columns[there]
        if self._gapless and not np.isfinite(own).all():
            raise UserError(
                f"{self._path}: the recording has gaps, which {self._path.suffix} cannot tell from "
                "zeros; end --out with .csv, .parquet or .npz"
            )
        times = None
        if self._verbatim is not None:
            times = self._verbatim.take(len(own))
        elif self._timed:
            times = self._recording.seconds(start, stop)
        if self._bounded:
            self.n_clipped += int(np.sum(np.abs(own) > 1.0))
        with _guarded(self._path):
            self._writer.write(times, own)


@contextmanager
def open_writer(
    recording: Recording, columns: Sequence[Channel], path: Path, *, force: bool = False
) -> Iterator[RecordingWriter]:
    """Write columns beside a recording's times into ``path``, in the format of its ending.

    The rows are those of the recording. In its own format its time column stays as it was; another
    table has one in seconds. Raises `UserError` as `replacing` does, and where a format cannot
    hold the rate.
    """
    ending = path.suffix.lower()
    if ending not in FORMATS:
        raise UserError(f"{path}: ending {path.suffix!r}; writable are {', '.join(FORMATS)}")
    with replacing(path, force=force) as file:
        with _guarded(path):
            sink, writer = _begin(recording, columns, path, file, ending)
        try:
            yield sink
            with _guarded(path):
                writer.close()
        except BaseException:
            # Before the file is: else a library completes it later, in whatever is open by then.
            with suppress(Exception):
                writer.abort()
            raise


def _begin(
    recording: Recording, columns: Sequence[Channel], path: Path, file: BinaryIO, ending: str
) -> tuple[RecordingWriter, _Writer]:
    same = recording.form.ending == ending
    form = recording.form if same else OutputFormat(ending)
    rate = recording.rate_hz
    timed = ending in TABLES and (not same or form.time_name is not None)
    verbatim = timed and form.times is not None
    time_name = (form.time_name if verbatim else "time_s") if timed else None
    module = import_module(f"tonesieve.recordings.{_OPENERS[ending][0]}")
    writer: _Writer
    if ending == ".csv":
        writer = module.CsvWriter(file, time_name, columns, form)
    elif ending == ".parquet":
        writer = module.ParquetWriter(file, time_name, columns, form)
    elif ending == ".npz":
        spool = Spool(len(columns) + bool(time_name), path.parent)
        writer = module.NpzWriter(file, time_name, columns, rate, form, spool)
    elif ending == ".edf":
        spool = Spool(len(columns), path.parent)
        writer = module.EdfWriter(path, Path(file.name), columns, rate, form, spool)
    else:
        n = recording.n_samples
        writer = module.AudioWriter(path, file, len(columns), rate, n, form)
    bounded = getattr(writer, "subtype", "DOUBLE") not in ("FLOAT", "DOUBLE")
    sink = RecordingWriter(recording, path, writer, timed=timed, verbatim=verbatim, bounded=bounded)
    return sink, writer


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """A library that meets a full disk, or what it cannot write, says so in a way of its own."""
    try:
        yield
    except (AssertionError, RuntimeError) as error:
        reason = sanitise(error) or "is the disk full?"
        raise UserError(f"{path}: cannot be written: {reason}") from None


class _Verbatim:
    """A time column as it was, so many rows at a time."""

    def __init__(self, recording: Recording) -> None:
        assert recording.form.times is not None
        self._path, self._blocks = recording.path, recording.form.times()
        self._at_hand: list[Any] = []

    def take(self, n: int) -> Any:
        import pandas as pd

        parts = []
        while n:
            block = self._at_hand.pop() if self._at_hand else next(self._blocks, None)
            if block is None:
                raise UserError(f"{self._path}: changed while it was being read; start again")
            parts.append(block[:n])
            if len(block) > n:
                self._at_hand = [block[n:]]
            n -= len(parts[-1])
        if parts and isinstance(parts[0], pd.Series):
            return pd.concat(parts).to_numpy()
        return parts  # as they are: Arrow knows more of them than NumPy


def _collect(contents: OpenedFile, scratch: Path) -> tuple[Spool, bool]:
    rows: Spool | None = None
    timed = False
    for samples, times in contents.blocks:
        timed = times is not None
        whole = samples if times is None else np.column_stack([times, samples])
        rows = rows or Spool(whole.shape[1], scratch)
        rows.append(np.where(np.isfinite(whole), whole, np.nan))
    return rows or Spool(1, scratch), timed


def _times(rows: Spool) -> Iterator[Float[np.ndarray, " T"]]:
    step = rows_in_block(rows.n_columns)
    for start in range(0, len(rows), step):
        yield rows.read(start, start + step)[:, 0]


def tone_names(frequencies_hz: Sequence[float]) -> list[str]:
    """Column names: ``tone`` for one frequency, ``tone_3Hz``, ``tone_5Hz`` for several."""
    return ["tone"] if len(frequencies_hz) == 1 else [f"tone_{f:.12g}Hz" for f in frequencies_hz]
