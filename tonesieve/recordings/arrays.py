"""NPZ files: arrays by name, read in blocks and never unpickled. Axes: T rows, C channels."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from jaxtyping import Float
from numpy.lib import format as npy

from tonesieve.errors import UserError
from tonesieve.recordings.contents import (
    MOST_CHANNELS,
    ROWS,
    TIME_NAMES,
    Block,
    Channel,
    Contents,
    Form,
    Wanted,
    choose,
    time_scale,
    unit_in,
)
from tonesieve.recordings.spool import Spool

RATE = "rate_hz"
_BROKEN = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError,
           NotImplementedError)  # fmt: skip


@dataclass(frozen=True)
class _Array:
    """An array in the file: samples first, then, if it has a second axis, channels."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def channels(self) -> list[str]:
        if len(self.shape) == 1:
            return [self.name]
        return [f"{self.name}_{i + 1}" for i in range(self.shape[1])]


def open_npz(path: Path, wanted: Wanted) -> Contents:
    """The chosen arrays of an NPZ file: each (T,) a channel, or (T, C) several, NAME_1, NAME_2.

    The rate is an array ``rate_hz`` of one number, or follows from the time array, named as in CSV
    files, or is given. Raises `UserError` for a file that is none, or holds no such arrays.
    """
    try:
        arrays, stated = _survey(path)
    except _BROKEN as error:
        raise UserError(f"{path}: not an NPZ file that can be read ({error})") from None
    time = _time_array(path, arrays, wanted)
    own = [a for a in arrays if a.name != time]
    names = [channel for a in own for channel in a.channels]
    if not names:
        raise UserError(f"{path}: no array of samples; one of shape (T,) or (T, C) is needed")
    chosen = [names[i] for i in choose(path, names, wanted.columns, what="array")]
    rate_hz = wanted.rate_hz or (stated if time is None else None)
    if rate_hz is None and time is None:
        raise UserError(
            f"{path}: neither {RATE} nor a time array ({', '.join(TIME_NAMES)}); name it with "
            "--time, or give the rate with --rate"
        )
    used = [a for a in own if set(a.channels) & set(chosen)]
    timed = [a for a in arrays if a.name == time and rate_hz is None]
    if len({a.shape[0] for a in [*used, *timed]}) > 1:
        lengths = ", ".join(f"{a.name} {a.shape[0]}" for a in [*used, *timed])
        raise UserError(f"{path}: arrays of different lengths ({lengths}); take one at a time")
    channels = tuple(Channel(name, unit_in(name)) for name in chosen)
    blocks = _blocks(path, used, timed, chosen)
    return Contents(channels, blocks, Form(".npz", time_name=time), rate_hz)


class NpzWriter:
    """Collects rows, and writes an array a column at the end."""

    def __init__(self, file: BinaryIO, names: Sequence[str], rate_hz: float, spool: Spool) -> None:
        self._file, self._names, self._rate, self._spool = file, names, rate_hz, spool

    def write(self, times: Any, columns: Float[np.ndarray, "T C"]) -> None:
        """Rows: times in seconds, or None, and then numbers."""
        whole = columns if times is None else np.column_stack([times, columns])
        self._spool.append(whole)

    def close(self) -> None:
        """Write the file."""
        n_rows = len(self._spool)
        header = {"descr": "<f8", "fortran_order": False, "shape": (n_rows,)}
        with zipfile.ZipFile(self._file, "w", zipfile.ZIP_STORED) as archive:
            for i, name in enumerate(self._names):
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    npy.write_array_header_2_0(member, header)
                    for start in range(0, n_rows, ROWS):
                        column = self._spool.read(start, start + ROWS)[:, i]
                        member.write(np.ascontiguousarray(column).astype("<f8").tobytes())
            with archive.open(f"{RATE}.npy", "w") as member:
                npy.write_array(member, np.array(self._rate))


def _survey(path: Path) -> tuple[list[_Array], float | None]:
    """The arrays of samples and times, and the stated rate."""
    found, rate = [], None
    with zipfile.ZipFile(path) as archive:
        for entry in archive.namelist():
            if not entry.endswith(".npy"):
                continue
            name = entry.removesuffix(".npy")
            with archive.open(entry) as member:
                shape, _, dtype = _header(member)
                if name == RATE and shape in ((), (1,)) and dtype.kind in "iuf":
                    rate = float(np.frombuffer(_exactly(member, dtype.itemsize), dtype)[0])
                    continue
                if len(shape) == 2 and shape[0] == 1:  # one record
                    shape = shape[1:]
                samples = dtype.kind in "iuf" and len(shape) in (1, 2) and shape[0] > 1
                few = len(shape) == 1 or (len(shape) == 2 and 0 < shape[1] <= MOST_CHANNELS)
                if (samples and few) or (dtype.kind == "M" and len(shape) == 1):
                    found.append(_Array(name, shape, dtype))
    if rate is not None and not 0 < rate < np.inf:
        raise ValueError(f"{RATE} is {rate:g}")
    return found, rate


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = npy.read_magic(member)
    if version == (1, 0):
        return npy.read_array_header_1_0(member)
    if version == (2, 0):
        return npy.read_array_header_2_0(member)
    raise ValueError(f"array format {version[0]}.{version[1]} is not known")


def _time_array(path: Path, arrays: Sequence[_Array], wanted: Wanted) -> str | None:
    names = [a.name for a in arrays if len(a.shape) == 1]
    if wanted.time is not None:
        if wanted.time not in names:
            raise UserError(
                f"{path}: --time {wanted.time}: no such array; there are {', '.join(names)}"
            )
        return wanted.time
    free = (a for a in arrays if len(a.shape) == 1 and a.name not in wanted.columns)
    return next((a.name for a in free if time_scale(a.name) or a.dtype.kind == "M"), None)


def _blocks(
    path: Path, used: Sequence[_Array], timed: Sequence[_Array], chosen: Sequence[str]
) -> Iterator[Block]:
    n_rows = used[0].shape[0]
    try:
        with zipfile.ZipFile(path) as archive, ExitStack() as open_ones:
            sources = [(a, _Columns(archive, a, n_rows, open_ones)) for a in [*used, *timed]]
            for start in range(0, n_rows, ROWS):
                n = min(ROWS, n_rows - start)
                times = None
                columns: dict[str, np.ndarray] = {}
                for array, source in sources:
                    block = source.read(n)
                    if array in timed:
                        times = _seconds(array, block[:, 0])
                    else:
                        floats = block.astype(np.float64)
                        columns |= dict(zip(array.channels, floats.T, strict=True))
                yield np.stack([columns[name] for name in chosen], axis=1), times
    except _BROKEN as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not an NPZ file that can be read ({error})") from None


class _Columns:
    """Reads an array in blocks of rows, however it lies in the file."""

    def __init__(
        self, archive: zipfile.ZipFile, array: _Array, n_rows: int, open_ones: ExitStack
    ) -> None:
        self._dtype = array.dtype
        n_channels = array.shape[1] if len(array.shape) == 2 else 1
        members = [open_ones.enter_context(archive.open(f"{array.name}.npy"))]
        by_column = _header(members[0])[1] and n_channels > 1
        if by_column:  # a channel after the other: each is read where it lies
            for i in range(1, n_channels):
                member = open_ones.enter_context(archive.open(f"{array.name}.npy"))
                _header(member)
                member.seek(member.tell() + i * n_rows * self._dtype.itemsize)
                members.append(member)
        self._members, self._width = members, 1 if by_column else n_channels

    def read(self, n: int) -> np.ndarray:
        """The next ``n`` rows, (n, C)."""
        parts = [
            np.frombuffer(_exactly(member, n * self._width * self._dtype.itemsize), self._dtype)
            for member in self._members
        ]
        return np.stack(parts, axis=1) if len(parts) > 1 else parts[0].reshape(n, self._width)


def _exactly(member: IO[bytes], n: int) -> bytes:
    raw = member.read(n)
    if len(raw) < n:
        raise EOFError("an array is cut short")
    return raw


def _seconds(array: _Array, values: np.ndarray) -> Float[np.ndarray, " T"]:
    if array.dtype.kind == "M":
        return (values - np.datetime64("2000-01-01")) / np.timedelta64(1, "s")
    return values.astype(np.float64) * (time_scale(array.name) or 1.0)
