"""NPZ files: arrays by name, read in blocks and never unpickled. Axes: T rows, C channels."""

from __future__ import annotations

import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float
from numpy.lib import format as npy

from tonesieve.errors import UserError
from tonesieve.recordings.reader import (
    MAX_CHANNELS,
    ROWS,
    Block,
    Channel,
    OpenedFile,
    OutputFormat,
    ReadOptions,
    check_size,
    choose,
    rows_in_block,
    sanitise,
    unique_names,
    unit_in,
)
from tonesieve.recordings.spool import Spool
from tonesieve.recordings.time_columns import in_seconds, need_times, seconds_of, time_column

RATE = "rate_hz"
# Guards against memory: bytes within which an array's header has to end, and of the archive's list.
HEADER_SIZE, MAX_DIRECTORY = 2**14, 2**21
_BROKEN = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error,
           struct.error, RuntimeError, NotImplementedError)  # fmt: skip
# What Python's own parser raises for a header that is none.
_PARSE_ERRORS = (SyntaxError, TokenError, TypeError, RecursionError, MemoryError, OverflowError)


@dataclass(frozen=True)
class _Array:
    """An array in the file: its first axis is time, its second one, if any, channels."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    by_column: bool
    start: int  # the byte of its member where the numbers begin

    @property
    def width(self) -> int:
        return self.shape[1] if len(self.shape) == 2 else 1

    @property
    def channels(self) -> list[str]:
        if len(self.shape) == 1:
            return [self.name]
        return [f"{self.name}_{i + 1}" for i in range(self.width)]


def open_npz(path: Path, options: ReadOptions) -> OpenedFile:
    """Open an NPZ file.

    An array of shape (T,) is a channel, one of shape (T, C) several, NAME_1, NAME_2, ... . The rate
    is an array ``rate_hz`` of one number, or follows from the time array, named as in CSV files, or
    is given.

    Parameters
    ----------
    path : Path
        The file.
    options : ReadOptions
        Arrays, rate and time array that are asked for.

    Returns
    -------
    OpenedFile
        The chosen channels.

    Raises
    ------
    UserError
        If it is no such file, or has no such arrays.
    """
    try:
        arrays, stated_hz = _list_arrays(path)
    except _BROKEN as error:
        raise _unreadable(path, error) from None
    time = _time_array(path, arrays, options)
    columns = [
        (a, i) for a in arrays if a is not time for i in range(a.width) if a.dtype.kind != "M"
    ]
    if not columns:
        raise UserError(f"{path}: no array of samples; one of shape (T,) or (T, C) is needed")
    names = [name for a in arrays if a is not time and a.dtype.kind != "M" for name in a.channels]
    picked = choose(path, names, options.columns, what="array")
    rate_hz = options.rate_hz or (stated_hz if time is None else None)
    need_times(path, None if time is None else time.name, rate_hz, f"array, nor {RATE}")
    used = list(dict.fromkeys(columns[i][0] for i in picked))
    together = [*used, *([time] if time is not None else [])]
    if len({a.shape[0] for a in together}) > 1:
        lengths = ", ".join(f"{sanitise(a.name, 40)} {a.shape[0]}" for a in together[:12])
        raise UserError(f"{path}: arrays of different lengths ({lengths}); take one at a time")
    check_size(path, used[0].shape[0] * len(picked))
    unique = unique_names(names)
    channels = tuple(Channel(unique[i], unit_in(names[i])) for i in picked)
    blocks = _blocks(path, [columns[i] for i in picked], time if rate_hz is None else None)
    output_format = OutputFormat(
        ".npz",
        time_name=None if time is None else time.name,
        times=None if time is None else partial(_as_written, path, time),
        time_type=None if time is None else time.dtype,
    )
    return OpenedFile(channels, blocks, output_format, rate_hz)


class NpzWriter:
    """Collects rows, and writes an array a column at the end.

    Parameters
    ----------
    file : binary file
        Open for writing.
    time_name : str or None
        Name of the time column, if there is one.
    channels : sequence of Channel
        Names and units of the columns.
    rate_hz : float
        Sampling rate.
    output_format : OutputFormat
        Type of the time column.
    spool : Spool
        Keeps the rows.
    """

    def __init__(
        self,
        file: BinaryIO,
        time_name: str | None,
        channels: Sequence[Channel],
        rate_hz: float,
        output_format: OutputFormat,
        spool: Spool,
    ) -> None:
        self._file, self._rate, self._spool = file, rate_hz, spool
        self._time_name, self._time_type = time_name, _eight_bytes(output_format.time_type)
        self._names = unique_names([RATE, time_name or RATE, *(c.name for c in channels)])[2:]

    def write(self, times: Any, columns: Float[np.ndarray, "T C"]) -> None:
        """Append rows: times in seconds or as they were, or None, and then numbers."""
        rows = columns
        if self._time_name is not None:
            numbers = np.concatenate(times) if isinstance(times, list) and times else times
            # Eight bytes of any type go through the spool like a float.
            times = np.asarray(numbers, dtype=self._time_type)
            rows = np.column_stack([times.view(np.float64), columns])
        self._spool.append(rows)

    def close(self) -> None:
        """Write the file."""
        first = 0 if self._time_name is None else 1
        with zipfile.ZipFile(self._file, "w", zipfile.ZIP_STORED) as archive:
            if self._time_name is not None:
                self._write_column(archive, self._time_name, 0, self._time_type)
            for i, name in enumerate(self._names):
                self._write_column(archive, name, first + i, np.dtype("<f8"))
            with archive.open(f"{RATE}.npy", "w") as member:
                npy.write_array(member, np.array(self._rate))

    def abort(self) -> None:
        """Do nothing: no file is open."""

    def _write_column(self, archive: zipfile.ZipFile, name: str, i: int, dtype: np.dtype) -> None:
        n_rows = len(self._spool)
        header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": (n_rows,)}
        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            npy.write_array_header_2_0(member, header)
            step = rows_in_block(self._spool.n_columns)
            for start in range(0, n_rows, step):
                column = np.ascontiguousarray(self._spool.read(start, start + step)[:, i])
                member.write(column.tobytes())


def _eight_bytes(kind: Any) -> np.dtype:
    """The type in which times are written: their own, or the one of eight bytes like it."""
    if kind is None:
        return np.dtype("<f8")
    wide = {"i": "<i8", "u": "<u8", "f": "<f8"}.get(kind.kind)
    return np.dtype(wide) if wide else kind.newbyteorder("<")


def _list_arrays(path: Path) -> tuple[list[_Array], float | None]:
    """The arrays of samples and times, and the stated rate."""
    _check_directory(path)
    arrays, rate = [], None
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}  # of two, the last
        for entry in entries.values():
            if not entry.filename.endswith(".npy"):
                continue
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{entry.filename}: compressed in a way that is not known")
            with archive.open(entry) as member:
                array, raw = _header(entry.filename.removesuffix(".npy"), member)
            if array.name == RATE and array.shape in ((), (1,)) and array.dtype.kind in "iuf":
                rate = float(np.frombuffer(raw[: array.dtype.itemsize], array.dtype)[0])
                continue
            if _is_series(array):
                size = array.start + int(np.prod(array.shape, dtype=object)) * array.dtype.itemsize
                if size != entry.file_size:
                    raise ValueError(f"{array.name} is cut short, or longer than its header says")
                arrays.append(array)
    if rate is not None and not 0 < rate < np.inf:
        raise ValueError(f"{RATE} is {rate:g}")
    return arrays, rate


def _is_series(array: _Array) -> bool:
    samples = array.dtype.kind in "iuf" and len(array.shape) in (1, 2)
    times = array.dtype.kind == "M" and len(array.shape) == 1
    return (samples or times) and array.shape[0] > 1 and 0 < array.width <= MAX_CHANNELS


def _check_directory(path: Path) -> None:
    """Refuse an archive whose list of members is itself too large; zipfile would read it whole."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 2**17))
        tail = file.read()
    size, offset = 0, tail.rfind(b"PK\5\6")
    if offset >= 0:
        size = int.from_bytes(tail[offset + 12 : offset + 16], "little")
    if size == 2**32 - 1:  # then the record of 64-bit archives has it
        offset = tail.rfind(b"PK\6\6")
        size = int.from_bytes(tail[offset + 40 : offset + 48], "little") if offset >= 0 else 0
    if size > MAX_DIRECTORY:
        raise ValueError(f"a list of arrays of {size:,} bytes")


def _header(name: str, member: Any) -> tuple[_Array, bytes]:
    """What an array is, and the bytes after its header as far as they are read."""
    raw = BytesIO(member.read(HEADER_SIZE))
    version = npy.read_magic(raw)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"array format {version[0]}.{version[1]} is not known")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that an old Python wrote
        try:
            shape, by_column, dtype = read(raw)
        except _PARSE_ERRORS as error:
            raise ValueError(f"{name}: its header cannot be read ({error})") from None
    if any(isinstance(n, bool) for n in shape):
        raise ValueError(f"{name} has shape {shape}")
    by_column = by_column and len(shape) == 2
    if len(shape) == 2 and shape[0] == 1:  # one record
        shape, by_column = shape[1:], False
    return _Array(name, shape, dtype, by_column, raw.tell()), raw.read()


def _time_array(path: Path, arrays: Sequence[_Array], options: ReadOptions) -> _Array | None:
    single = {a.name: a for a in arrays if len(a.shape) == 1}
    moments = [name for name, a in single.items() if a.dtype.kind == "M"]
    name = time_column(path, list(single), options, moments=moments, what="array")
    return None if name is None else single[name]


def _blocks(
    path: Path, picked: Sequence[tuple[_Array, int]], time: _Array | None
) -> Iterator[Block]:
    n_rows = picked[0][0].shape[0]
    try:
        with zipfile.ZipFile(path) as archive, ExitStack() as stack:
            wanted: dict[_Array, list[int]] = {}
            for array, i in picked:
                wanted.setdefault(array, []).append(i)
            sources = {a: _Columns(archive, a, own, stack) for a, own in wanted.items()}
            clock = None if time is None else _Columns(archive, time, [0], stack)
            step = rows_in_block(sum(a.width for a in wanted) + 1)
            for start in range(0, n_rows, step):
                n = min(step, n_rows - start)
                columns: dict[tuple[_Array, int], np.ndarray] = {}
                for array, source in sources.items():
                    with np.errstate(all="ignore"):  # wider floats, and odd kinds of NaN
                        block = source.read(n).astype(np.float64)
                    columns |= {(array, i): block[:, j] for j, i in enumerate(wanted[array])}
                times = (
                    None if time is None or clock is None else _seconds(time, clock.read(n)[:, 0])
                )
                yield np.stack([columns[pick] for pick in picked], axis=1), times
    except _BROKEN as error:
        if isinstance(error, UserError):
            raise
        raise _unreadable(path, error) from None


def _as_written(path: Path, time: _Array) -> Iterator[np.ndarray]:
    with zipfile.ZipFile(path) as archive, ExitStack() as stack:
        clock = _Columns(archive, time, [0], stack)
        for start in range(0, time.shape[0], ROWS):
            yield clock.read(min(ROWS, time.shape[0] - start))[:, 0]


class _Columns:
    """Reads columns of an array in blocks of rows, however it lies in the file."""

    def __init__(
        self, archive: zipfile.ZipFile, array: _Array, columns: Sequence[int], stack: ExitStack
    ) -> None:
        self._array, self._columns, self._n_left = array, columns, array.shape[0]
        self._members = []
        # A channel after the other: each is read where it lies.
        for i in columns if array.by_column else [0]:
            member = stack.enter_context(archive.open(f"{array.name}.npy"))
            member.seek(array.start + i * array.shape[0] * array.dtype.itemsize)
            self._members.append(member)

    def read(self, n: int) -> np.ndarray:
        """Return the next ``n`` rows, (n, C)."""
        array = self._array
        width = 1 if array.by_column else array.width
        n_bytes = n * width * array.dtype.itemsize
        parts = [
            np.frombuffer(_exactly(member, n_bytes), array.dtype).reshape(n, width)
            for member in self._members
        ]
        self._n_left -= n
        if not self._n_left:
            for member in self._members:
                member.read(1)  # past the last number: now the checksum is compared
        return np.hstack(parts) if array.by_column else parts[0][:, list(self._columns)]


def _exactly(member: Any, n: int) -> bytes:
    raw = member.read(n)
    if len(raw) < n:
        raise EOFError("an array is cut short")
    return raw


def _seconds(array: _Array, values: np.ndarray) -> Float[np.ndarray, " T"]:
    if array.dtype.kind != "M":
        return in_seconds(values, array.name)
    return seconds_of(values)


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: not an NPZ file that can be read ({sanitise(error)})")
