"""Columns beside the times of a recording, written in any format.

Axes: T rows, N columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from tonesieve.errors import UserError
from tonesieve.recordings.reader import Channel, OutputFormat, sanitise
from tonesieve.recordings.recording import FORMATS, OPENERS, TABLES, Recording
from tonesieve.recordings.spool import Spool
from tonesieve.util.files import replacing


@runtime_checkable
class _FormatWriter(Protocol):
    """Writes one format; constructed by its module's own class."""

    def write(self, times: Any, columns: Float[np.ndarray, "T N"]) -> None:
        """Write rows: a time column, or None, and then numbers."""
        ...

    def close(self) -> None:
        """Complete the file."""
        ...

    def abort(self) -> None:
        """Let go of a file that is not completed."""
        ...


class RecordingWriter:
    """Takes columns for the samples of a recording, and writes those that are rows of it.

    Parameters
    ----------
    recording : Recording
        Its rows are written.
    path : Path
        The output, for messages.
    writer : _FormatWriter
        Of the output's format.
    timed : bool
        Whether times are written.
    verbatim : bool
        Whether they are those of the input, as they were.
    bounded : bool
        Whether the format cuts numbers off at full scale.
    """

    def __init__(
        self,
        recording: Recording,
        path: Path,
        writer: _FormatWriter,
        *,
        timed: bool,
        verbatim: bool,
        bounded: bool,
    ) -> None:
        self._recording, self._path, self._writer, self._timed = recording, path, writer, timed
        self._verbatim = _Verbatim(recording) if verbatim else None
        # Sound has no times: there a sample that is lost has to be written.
        self._writes_lost = path.suffix.lower() not in TABLES
        self._bounded, self._gapless = bounded, bounded or path.suffix.lower() == ".edf"
        self.n_clipped = 0  # numbers beyond full scale, which the format cuts off

    def write(self, start: int, columns: Float[np.ndarray, "T N"]) -> None:
        """Write columns; blocks come in turn.

        Parameters
        ----------
        start : int
            The first sample of the grid.
        columns : ndarray, shape (T, N)
            Numbers for this sample and those after it.

        Raises
        ------
        UserError
            If the format cannot hold them.
        """
        stop = start + len(columns)
        _, valid = self._recording.grid.rows_at(start, stop)
        rows = columns if self._writes_lost else columns[valid]
        if self._gapless and not np.isfinite(rows).all():
            raise UserError(
                f"{self._path}: the recording has gaps, which {self._path.suffix} cannot "
                "distinguish from zeros; end --out with .csv, .parquet or .npz"
            )
        times = None
        if self._verbatim is not None:
            times = self._verbatim.take(len(rows))
        elif self._timed:
            times = self._recording.seconds(start, stop)
        if self._bounded:
            self.n_clipped += int(np.sum(np.abs(rows) > 1.0))
        with _guarded(self._path):
            self._writer.write(times, rows)


@contextmanager
def open_writer(
    recording: Recording, columns: Sequence[Channel], path: Path, *, force: bool = False
) -> Iterator[RecordingWriter]:
    """Write columns beside a recording's times, as a context.

    The rows are those of the recording. In its own format its time column stays as it was; another
    table has one in seconds.

    Parameters
    ----------
    recording : Recording
        Its rows are written.
    columns : sequence of Channel
        Names and units of the N columns.
    path : Path
        The output, in the format of its ending.
    force : bool, default=False
        Whether a file that exists is overwritten.

    Yields
    ------
    RecordingWriter
        Takes the columns; the file is complete when the context ends, or not there.

    Raises
    ------
    UserError
        If the file exists, or its format cannot hold the rate.
    """
    ending = path.suffix.lower()
    if ending not in FORMATS:
        raise UserError(f"{path}: ending {path.suffix!r}; writable are {', '.join(FORMATS)}")
    with replacing(path, force=force) as file:
        with _guarded(path):
            recording_writer, format_writer = _begin(recording, columns, path, file, ending)
        try:
            yield recording_writer
            with _guarded(path):
                format_writer.close()
        except BaseException:
            # Before the file is closed: else a library completes it later, in another open file.
            with suppress(Exception):
                format_writer.abort()
            raise


def _begin(
    recording: Recording, columns: Sequence[Channel], path: Path, file: BinaryIO, ending: str
) -> tuple[RecordingWriter, _FormatWriter]:
    same = recording.output_format.ending == ending
    output_format = recording.output_format if same else OutputFormat(ending)
    rate = recording.rate_hz
    timed = ending in TABLES and (not same or output_format.time_name is not None)
    verbatim = timed and output_format.times is not None
    time_name = (output_format.time_name if verbatim else "time_s") if timed else None
    module = import_module(f"tonesieve.recordings.{OPENERS[ending][0]}")
    writer: _FormatWriter
    if ending == ".csv":
        writer = module.CsvWriter(file, time_name, columns, output_format)
    elif ending == ".parquet":
        writer = module.ParquetWriter(file, time_name, columns, output_format)
    elif ending == ".npz":
        spool = Spool(len(columns) + bool(time_name), path.parent)
        writer = module.NpzWriter(file, time_name, columns, rate, output_format, spool)
    elif ending == ".edf":
        spool = Spool(len(columns), path.parent)
        writer = module.EdfWriter(path, Path(file.name), columns, rate, output_format, spool)
    else:
        n = recording.n_samples
        writer = module.AudioWriter(path, file, len(columns), rate, n, output_format)
    bounded = getattr(writer, "subtype", "DOUBLE") not in ("FLOAT", "DOUBLE")
    recording_writer = RecordingWriter(
        recording, path, writer, timed=timed, verbatim=verbatim, bounded=bounded
    )
    return recording_writer, writer


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """Libraries report a full disk, or what they cannot write, each in a way of its own."""
    try:
        yield
    except (AssertionError, RuntimeError) as error:
        reason = sanitise(error) or "is the disk full?"
        raise UserError(f"{path}: cannot be written: {reason}") from None


class _Verbatim:
    """A time column as it was, any number of rows at a time."""

    def __init__(self, recording: Recording) -> None:
        assert recording.output_format.times is not None
        self._path, self._blocks = recording.path, recording.output_format.times()
        self._remaining: list[Any] = []

    def take(self, n: int) -> Any:
        import pandas as pd

        parts = []
        while n:
            block = self._remaining.pop() if self._remaining else next(self._blocks, None)
            if block is None:
                raise UserError(f"{self._path}: changed while it was being read; start again")
            parts.append(block[:n])
            if len(block) > n:
                self._remaining = [block[n:]]
            n -= len(parts[-1])
        if parts and isinstance(parts[0], pd.Series):
            return pd.concat(parts).to_numpy()
        return parts  # unchanged: Arrow has types that NumPy has not


def tone_names(frequencies_hz: Sequence[float]) -> list[str]:
    """Name columns: ``tone`` for one frequency, ``tone_3Hz``, ``tone_5Hz`` for several.

    Parameters
    ----------
    frequencies_hz : sequence of float
        Nominal frequencies of the tones.

    Returns
    -------
    list of str
        A name for each.
    """
    return ["tone"] if len(frequencies_hz) == 1 else [f"tone_{f:.12g}Hz" for f in frequencies_hz]
