"""What a file of any format holds: named channels, in blocks of rows. Axes: T rows, C channels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tonesieve.errors import UserError

ROWS = 2**16  # in a block
MOST_CHANNELS = 10_000
ALL = "all"
TIME_NAMES = ("time", "t", "seconds", "timestamp", "datetime", "date", "utc", "mjd")
# Units of a time column, by the ending of its name: seconds each.
TIME_UNITS = {
    "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0, "d": 86400.0,
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
class Wanted:
    """What a user asks of a file."""

    columns: tuple[str, ...] = ()  # none: the only one
    rate_hz: float | None = None
    time: str | None = None  # the time column; None: found by its name


@dataclass(frozen=True)
class Form:
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
class Contents:
    """The chosen channels of a file, to be read once, from the start."""

    channels: tuple[Channel, ...]
    blocks: Iterator[Block]
    form: Form
    rate_hz: float | None = None  # as the file states it, or the user; None: see the times


def choose(
    path: Path, names: Sequence[str], wanted: Sequence[str], *, what: str = "column"
) -> list[int]:
    """Which channels are asked for: by name, or by number from 1 where no name is like that.

    Raises `UserError` where one is not there, or none is named and there are several.
    """
    if not wanted:
        if len(names) != 1:
            raise UserError(f"{path}: several {what}s; choose --column {_listed(names, ' or ')}")
        return [0]
    chosen: list[int] = []
    for name in wanted:
        if name in names:
            chosen.append(names.index(name))
        elif name == ALL:
            chosen += range(len(names))
        elif name.isdecimal() and 1 <= int(name) <= len(names):
            chosen.append(int(name) - 1)
        else:
            raise UserError(f"{path}: no {what} {name!r}; there are {_listed(names, ', ')}")
    return list(dict.fromkeys(chosen))


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


def unit_in(name: str) -> str:
    """The unit that a column's name ends with, in brackets: ``level [mV]``, ``level (mV)``."""
    for opening, closing in ("[]", "()"):
        if name.endswith(closing) and opening in name:
            return name[name.rindex(opening) + 1 : -1].strip()
    return ""


def check_rate(path: Path, rate_hz: float | None) -> None:
    """Refuse a rate that is none."""
    if rate_hz is not None and not 0 < rate_hz < math.inf:
        raise UserError(f"{path}: --rate {rate_hz:g}: must be above 0 Hz")


def states_its_rate(path: Path, wanted: Wanted, what: str) -> None:
    """Refuse --rate and --time for a format that knows its own."""
    if wanted.rate_hz is not None:
        raise UserError(f"{path}: {what} states its own rate; leave --rate away")
    if wanted.time is not None:
        raise UserError(f"{path}: {what} has no time column; leave --time away")


def _listed(names: Sequence[str], between: str) -> str:
    shown = between.join(names[:12])
    return shown if len(names) <= 12 else f"{shown}, ... ({len(names)} in all)"
