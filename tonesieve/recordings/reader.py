"""What a file of any format holds: named channels, in blocks of rows. Axes: T rows, C channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from tonesieve.errors import UserError

ROWS = 2**16  # in a block, at most
CELLS = 2**20  # numbers in a block: of many channels it holds fewer rows
MOST_CHANNELS = 10_000  # in a file
MOST_CHOSEN = 1000  # of them, taken out at once
ALL = "all"
TIME_NAMES = ("time", "t", "seconds", "timestamp", "datetime", "date", "utc", "mjd")
# Units of a time column, by the ending of its name: seconds each.
TIME_UNITS = {
    "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0, "d": 86400.0,
}  # fmt: skip
# A file that swells by more than this, to more than so many bytes, holds no recording.
MOST_SWOLLEN, LARGE = 4000, 2**30
ORIGIN = 946_684_800  # seconds from 1970 to 2000; moments count from there
# Units of moments.
PER_SECOND = {
    "W": 1 / 604800, "D": 1 / 86400, "h": 1 / 3600, "m": 1 / 60,
    "s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9, "ps": 1e12, "fs": 1e15, "as": 1e18,
}  # fmt: skip
# Samples, and where there is a time column seconds since any origin; NaN: missing.
Block = tuple[Float[np.ndarray, "T C"], Float[np.ndarray, " T"] | None]


@dataclass(frozen=True)
class Channel:
    """A column of samples: its name, and the unit that it is in, if the file tells."""

    name: str
    unit: str = ""
    whole: bool = False  # whole numbers: a mark, not a measurement


@dataclass(frozen=True)
class ReadOptions:
    """What a user asks of a file."""

    columns: tuple[str, ...] = ()  # none: the only one
    rate_hz: float | None = None
    time: str | None = None  # the time column; None: found by its name


@dataclass(frozen=True)
class OutputFormat:
    """What an output of the same format keeps of its input."""

    ending: str
    time_name: str | None = None
    times: Callable[[], Iterator[Any]] | None = None  # the time column as it was, in blocks
    time_type: Any = None  # Parquet: its type
    separator: str = ","
    decimal: str = "."
    encoding: str = "utf-8"
    subtype: str | None = None  # WAV, FLAC: the sample format
    record_s: float = 1.0  # EDF: length of a data record


@dataclass(frozen=True)
class OpenedFile:
    """The chosen channels of a file, to be read once, from the start."""

    channels: tuple[Channel, ...]
    blocks: Iterator[Block]
    form: OutputFormat
    rate_hz: float | None = None  # as the file states it, or the user; None: see the times


def choose(
    path: Path, names: Sequence[str], wanted: Sequence[str], *, what: str = "column"
) -> list[int]:
    """Which channels are asked for: by name, or by number from 1 where no name is like that.

    Raises `UserError` where one is not there or its name stands twice, where none is named and
    there are several, and for more than can be taken at once.
    """
    if not names:
        raise UserError(f"{path}: no {what} in it; one with samples is needed")
    if not wanted:
        if len(names) != 1:
            raise UserError(f"{path}: several {what}s; choose --column {_listed(names, ' or ')}")
        return [0]
    chosen: dict[int, None] = {}
    for name in wanted:
        if names.count(name) > 1:
            places = [str(i + 1) for i, other in enumerate(names) if other == name]
            raise UserError(
                f"{path}: several {what}s are named {sanitise(name, 40)!r}; choose by number, "
                f"--column {_listed(places, ' or ')}"
            )
        if name in names:
            chosen[names.index(name)] = None
        elif name == ALL:
            chosen |= dict.fromkeys(range(len(names)))
        elif name.isdecimal() and len(name) < 9 and 1 <= int(name) <= len(names):
            chosen[int(name) - 1] = None
        else:
            raise UserError(
                f"{path}: no {what} {sanitise(name, 40)!r}; there are {_listed(names, ', ')}"
            )
    if len(chosen) > MOST_CHOSEN:
        raise UserError(
            f"{path}: {len(chosen):,} {what}s at once; take at most {MOST_CHOSEN:,} at a time"
        )
    return list(chosen)


def unique_names(words: Sequence[str]) -> list[str]:
    """Names of which none is empty and none stands twice: the second ``x`` becomes ``x.1``."""
    names: dict[str, None] = {}
    taken, count = set(words), dict[str, int]()
    for i, word in enumerate(words):
        name = word or f"Unnamed: {i}"
        n = count.get(name, 0)
        if n or name in names:
            n = max(n, 1)
            while f"{name}.{n}" in names or f"{name}.{n}" in taken:
                n += 1
            count[name], name = n + 1, f"{name}.{n}"
        names[name] = None
    return list(names)


def rows_in_block(n_columns: int) -> int:
    """How many rows of so many columns are read at once."""
    return max(1, min(ROWS, CELLS // max(1, n_columns)))


def check_size(path: Path, n_numbers: int) -> None:
    """Refuse a small file that promises numbers without end: it would fill the disk.

    Raises `UserError`.
    """
    size = path.stat().st_size
    if n_numbers * 8 > max(LARGE, MOST_SWOLLEN * size):
        raise UserError(
            f"{path}: {size:,} bytes that would swell to {n_numbers * 8:,}; that is no recording"
        )


def seconds_of(moments: np.ndarray) -> Float[np.ndarray, " T"]:
    """Moments, as NumPy has them, as seconds since 2000; NaN where there is none."""
    unit, count = np.datetime_data(moments.dtype)
    if unit not in PER_SECOND:
        raise ValueError(f"times in units of {unit}, not of seconds or parts of one")
    own = moments.astype(moments.dtype.newbyteorder("="))
    return since_origin(own.view(np.int64), ~np.isnat(own), PER_SECOND[unit] / count)


def since_origin(
    counts: Int[np.ndarray, " T"], there: Bool[np.ndarray, " T"], per_second: float
) -> Float[np.ndarray, " T"]:
    """Moments counted in whole units since 1970, as seconds since 2000; NaN where none is there.

    Subtracted as whole numbers, since the last digits of nanoseconds are lost in floats.
    """
    origin = ORIGIN * per_second
    result = (counts - np.float64(origin)) / per_second
    if 1 <= per_second <= 1e9:
        near = np.abs(counts.astype(np.float64)) < 2.0**62
        exact = np.where(near, counts, 0) - int(origin)
        result = np.where(near, exact / per_second, result)
    return np.where(there, result, np.nan)


def time_column(
    path: Path,
    names: Sequence[str],
    wanted: ReadOptions,
    *,
    moments: Sequence[str] = (),
    what: str = "column",
) -> str | None:
    """The time column among these: the one asked for, or named so, or the only one of ``moments``.

    Raises `UserError` where the one asked for is not there, or none is and no rate is given.
    """
    if wanted.time is not None:
        if wanted.time not in names:
            there = sanitise(", ".join(names[:12]))
            raise UserError(f"{path}: --time {wanted.time}: no such {what}; there are {there}")
        return wanted.time
    named = [n for n in names if n not in wanted.columns and time_scale(n) is not None]
    free = [n for n in moments if n not in wanted.columns]
    return next(iter(named or (free if len(free) == 1 else [])), None)


def need_times(path: Path, time: str | None, rate_hz: float | None, what: str = "column") -> None:
    """Refuse a recording whose rate nothing tells."""
    if rate_hz is None and time is None:
        raise UserError(
            f"{path}: no time {what} ({', '.join(TIME_NAMES)}); name it with --time, or give the "
            "rate with --rate"
        )


def time_scale(name: str) -> float | None:
    """Seconds in a unit of the time column of this name; None where it is no time column."""
    words = name.lower().replace("[", "(").partition("(")
    bare, bracket = words[0].strip(), words[2].rstrip(")] ")
    stem, _, ending = bare.rpartition("_")
    if bare in TIME_NAMES:
        return 86400.0 if bare == "mjd" else TIME_UNITS.get(bracket, 1.0)
    if stem in TIME_NAMES and ending in TIME_UNITS:
        return TIME_UNITS[ending]
    return None


def in_seconds(times: np.ndarray, name: str) -> Float[np.ndarray, " T"]:
    """Numbers of a time column of this name as seconds."""
    with np.errstate(all="ignore"):  # what is too large is no time
        return times.astype(np.float64) * (time_scale(name) or 1.0)


def unit_in(name: str) -> str:
    """The unit that a column's name ends with, in brackets: ``level [mV]``, ``level (mV)``."""
    for opening, closing in ("[]", "()"):
        if name.endswith(closing) and opening in name:
            return name[name.rindex(opening) + 1 : -1].strip()
    return ""


def check_rate(path: Path, rate_hz: float | None, *, whose: str = "--rate") -> None:
    """Refuse a rate that is none, or of which a step is no number."""
    if rate_hz is not None and not 1e-300 < rate_hz < 1e300:
        raise UserError(f"{path}: {whose} {rate_hz:g}: must be above 0 Hz")


def states_its_rate(path: Path, wanted: ReadOptions, what: str) -> None:
    """Refuse --rate and --time for a format that knows its own."""
    if wanted.rate_hz is not None:
        raise UserError(f"{path}: {what} states its own rate; leave --rate away")
    if wanted.time is not None:
        raise UserError(f"{path}: {what} has no time column; leave --time away")


def sanitise(text: object, most: int = 200) -> str:
    """Text from a file or a library as one line that a terminal can show."""
    line = "".join(c if c.isprintable() else " " for c in str(text)[: 10 * most])
    return " ".join(line.split())[:most]


def _listed(names: Sequence[str], between: str) -> str:
    first = between.join(sanitise(name, 40) for name in names[:12])
    return first if len(names) <= 12 else f"{first}, ... ({len(names)} in all)"
