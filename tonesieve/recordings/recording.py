"""A real recording on an even grid of time: of any format and length, gaps as NaN.

Axes: C channels, T samples of the grid.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

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

# By the ending of a file: the module of its format, imported when it is needed, and what opens it.
OPENERS = {
    ".csv": ("csv_file", "open_csv"),
    ".parquet": ("parquet_file", "open_parquet"),
    ".wav": ("audio_file", "open_audio"),
    ".flac": ("audio_file", "open_audio"),
    ".edf": ("edf_file", "open_edf"),
    ".npz": ("npz_file", "open_npz"),
}
FORMATS = tuple(OPENERS)
# Formats that hold named columns of any unit, a time column among them.
TABLES = (".csv", ".parquet", ".npz")


@dataclass(frozen=True)
class Recording:
    """Channels of a real recording, as rows in a spool and their positions on a grid.

    Parameters
    ----------
    path : Path
        The file.
    channels : tuple of Channel
        Its C channels.
    grid : Grid
        Where the rows lie.
    rows : Spool
        A time in seconds, where there is one, and then the channels.
    output_format : OutputFormat
        For an output of the same format.
    timed : bool
        Whether rows begin with a time.
    """

    path: Path
    channels: tuple[Channel, ...]
    grid: Grid
    rows: Spool
    output_format: OutputFormat
    timed: bool

    @property
    def rate_hz(self) -> float:
        """Samples a second."""
        return self.grid.rate_hz

    @property
    def n_samples(self) -> int:
        """Samples of the grid: rows, and those lost between them."""
        return len(self.rows) + self.grid.total_lost

    @property
    def duration_s(self) -> float:
        """Seconds from the first sample to the last, and one step more."""
        return self.n_samples / self.rate_hz

    def read(self, start: int, stop: int) -> Float[np.ndarray, "C T"]:
        """Read all channels.

        Parameters
        ----------
        start : int
            The first sample of the grid.
        stop : int
            The one after the last; samples beyond the end are left out.

        Returns
        -------
        ndarray, shape (C, T)
            Samples; NaN in gaps.
        """
        start, stop = max(0, start), min(stop, self.n_samples)
        row, valid = self.grid.rows_at(start, stop)
        result = np.full((len(self.channels), len(row)), np.nan)
        if valid.any():
            first, last = int(row[valid][0]), int(row[valid][-1])
            samples = self.rows.read(first, last + 1)[:, self.timed :]
            result[:, valid] = samples[row[valid] - first].T
        return result

    def channel(self, c: int, start: int, stop: int) -> Float[np.ndarray, " T"]:
        """Read one channel; of the others few samples are in memory at a time.

        Parameters
        ----------
        c : int
            Number of the channel, from 0.
        start : int
            The first sample of the grid.
        stop : int
            The one after the last; samples beyond the end are left out.

        Returns
        -------
        ndarray, shape (T,)
            Samples; NaN in gaps.
        """
        step = rows_in_block(self.rows.n_columns)
        stop = min(stop, self.n_samples)
        parts = [self.read(at, min(at + step, stop))[c] for at in range(max(0, start), stop, step)]
        return np.concatenate(parts) if parts else np.zeros(0)

    @property
    def samples(self) -> Float[np.ndarray, " T"]:
        """The first channel in one piece."""
        return self.channel(0, 0, self.n_samples)

    def seconds(self, start: int, stop: int) -> Float[np.ndarray, " T2"]:
        """Return the times of the rows among these samples, in seconds.

        Parameters
        ----------
        start : int
            The first sample of the grid.
        stop : int
            The one after the last.

        Returns
        -------
        ndarray, shape (T2,)
            As the file has them, or since its start.
        """
        row, valid = self.grid.rows_at(start, stop)
        if not self.timed:
            return np.arange(start, stop)[valid] / self.rate_hz
        rows = row[valid]
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

    The rate is given, or stated by the file, or follows from its time column; then rows that are
    missing are gaps.

    Parameters
    ----------
    path : Path
        The file; its ending is that of the format.
    columns : sequence of str, optional
        Channels by name, or by number from 1, or ``all``; none: the only one.
    rate_hz : float, optional
        Sampling rate.
    time : str, optional
        The time column; by default found by its name.
    scratch : Path, optional
        Folder for what does not fit into memory; by default the system's own.

    Returns
    -------
    Recording
        The chosen channels.

    Raises
    ------
    UserError
        If the file is missing, empty, of another format, cut short, or holds anything but numbers.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    check_rate(path, rate_hz)
    if path.suffix.lower() not in OPENERS:
        raise UserError(f"{path}: ending {path.suffix!r}; readable are {', '.join(FORMATS)}")
    module, name = OPENERS[path.suffix.lower()]
    open_file = getattr(import_module(f"tonesieve.recordings.{module}"), name)
    options = ReadOptions(tuple(columns), rate_hz, time)
    try:
        opened: OpenedFile = open_file(path, options)
        rows, timed = _collect(opened, scratch or Path(tempfile.gettempdir()))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or sanitise(error)}") from None
    except MemoryError:
        raise UserError(f"{path}: cannot be read: it asks for more memory than there is") from None
    if not len(rows):
        raise UserError(f"{path}: empty; it holds no samples")
    if opened.rate_hz is not None:
        check_rate(path, opened.rate_hz, whose="it states a rate of")
        grid = regular(opened.rate_hz)
    else:
        grid = infer_grid(path, lambda: _times(rows), len(rows))
    return Recording(path, opened.channels, grid, rows, opened.output_format, timed)


def from_array(samples: Float[np.ndarray, "*C T"], rate_hz: float) -> Recording:
    """Make a recording of samples in memory.

    Parameters
    ----------
    samples : ndarray, shape (T,) or (C, T)
        Samples of one channel, or of C; NaN is a gap.
    rate_hz : float
        Sampling rate.

    Returns
    -------
    Recording
        Without times.
    """
    of_channels = np.atleast_2d(samples)
    rows = Spool(len(of_channels), Path(tempfile.gettempdir()))
    rows.append(of_channels.T)
    names = [f"samples[{c}]" for c in range(len(of_channels))] if samples.ndim > 1 else ["samples"]
    channels = tuple(map(Channel, names))
    return Recording(
        Path("array"), channels, regular(rate_hz), rows, OutputFormat(".npz"), timed=False
    )


def _collect(opened: OpenedFile, scratch: Path) -> tuple[Spool, bool]:
    rows: Spool | None = None
    timed = False
    for samples, times in opened.blocks:
        timed = times is not None
        block = samples if times is None else np.column_stack([times, samples])
        rows = rows or Spool(block.shape[1], scratch)
        rows.append(np.where(np.isfinite(block), block, np.nan))
    return rows or Spool(1, scratch), timed


def _times(rows: Spool) -> Iterator[Float[np.ndarray, " T"]]:
    step = rows_in_block(rows.n_columns)
    for start in range(0, len(rows), step):
        yield rows.read(start, start + step)[:, 0]
