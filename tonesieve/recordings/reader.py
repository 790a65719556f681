"""What a file of any format holds: named channels, in blocks of rows.

Axes: T rows, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tonesieve.errors import UserError

# Guards against memory: rows of a block, and numbers (many channels have shorter blocks).
ROWS, CELLS = 2**16, 2**20
# Guards against memory: channels of a file, and channels that are extracted at once.
MAX_CHANNELS, MAX_CHOSEN = 10_000, 1000
ALL = "all"
# Guard against a full disk: a file that grows by more than this factor, to more than this many
# bytes, holds no recording.
MAX_EXPANSION, LARGE = 4000, 2**30
# Guard: beyond these limits a rate or a step is no finite number.
MIN_RATE_HZ, MAX_RATE_HZ = 1e-300, 1e300
# Samples, and where there is a time column seconds since any origin; NaN: missing.
Block = tuple[Float[np.ndarray, "T C"], Float[np.ndarray, " T"] | None]


@dataclass(frozen=True)
class Channel:
    """A column of samples.

    Parameters
    ----------
    name : str
        Its name.
    unit : str, default=""
        Unit of its samples, if the file states it.
    integer : bool, default=False
        Whether it is written as integers: a mark, not a measurement.
    """

    name: str
    unit: str = ""
    integer: bool = False


@dataclass(frozen=True)
class ReadOptions:
    """What a user asks of a file.

    Parameters
    ----------
    columns : tuple of str, optional
        Channels by name, or by number from 1, or ``all``; none: the only one.
    rate_hz : float, optional
        Sampling rate, in place of that by a time column.
    time : str, optional
        The time column; by default found by its name.
    """

    columns: tuple[str, ...] = ()
    rate_hz: float | None = None
    time: str | None = None


@dataclass(frozen=True)
class OutputFormat:
    """What an output of the same format keeps of its input.

    Parameters
    ----------
    ending : str
        Ending of the file, ``.csv`` or another.
    time_name : str, optional
        Name of the time column.
    times : callable, optional
        Returns an iterator over the time column as it was, in blocks.
    time_type : object, optional
        Type of the time column, in Parquet and NPZ files.
    separator : str, default=","
        Between the columns of a CSV file.
    decimal : str, default="."
        Decimal point of a CSV file.
    encoding : str, default="utf-8"
        Encoding of a CSV file.
    subtype : str, optional
        Sample format of a WAV or FLAC file.
    record_s : float, default=1.0
        Length of a data record of an EDF file in seconds.
    """

    ending: str
    time_name: str | None = None
    times: Callable[[], Iterator[Any]] | None = None
    time_type: Any = None
    separator: str = ","
    decimal: str = "."
    encoding: str = "utf-8"
    subtype: str | None = None
    record_s: float = 1.0


@dataclass(frozen=True)
class OpenedFile:
    """The chosen channels of a file, to be read once, from the start.

    Parameters
    ----------
    channels : tuple of Channel
        The chosen ones.
    blocks : iterator of tuple
        Samples, shape (T, C), and times in seconds, shape (T,), or None.
    output_format : OutputFormat
        For an output of the same format.
    rate_hz : float, optional
        Sampling rate, as the file or the user states it; without one it follows from the times.
    """

    channels: tuple[Channel, ...]
    blocks: Iterator[Block]
    output_format: OutputFormat
    rate_hz: float | None = None


def choose(
    path: Path, names: Sequence[str], wanted: Sequence[str], *, what: str = "column"
) -> list[int]:
    """Find the channels that are asked for.

    Parameters
    ----------
    path : Path
        The file, for messages.
    names : sequence of str
        Names of its channels.
    wanted : sequence of str
        Names, or numbers from 1 where no channel is named so, or ``all``; none: the only one.
    what : str, default="column"
        What the format calls a channel, for messages.

    Returns
    -------
    list of int
        Indices into ``names``, each once.

    Raises
    ------
    UserError
        If a channel is not there, its name is not unique, none is named of several, or there are
        more than can be extracted at once.
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
            numbers = [str(i + 1) for i, other in enumerate(names) if other == name]
            raise UserError(
                f"{path}: several {what}s are named {sanitise(name, 40)!r}; choose by number, "
                f"--column {_listed(numbers, ' or ')}"
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
    if len(chosen) > MAX_CHOSEN:
        raise UserError(
            f"{path}: {len(chosen):,} {what}s at once; take at most {MAX_CHOSEN:,} at a time"
        )
    return list(chosen)


def unique_names(words: Sequence[str]) -> list[str]:
    """Make names unique and not empty: the second ``x`` becomes ``x.1``.

    Parameters
    ----------
    words : sequence of str
        Names as a file has them.

    Returns
    -------
    list of str
        As many names.
    """
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
    """Return the number of rows that are read at once.

    Parameters
    ----------
    n_columns : int
        Numbers in a row.

    Returns
    -------
    int
        At least 1.
    """
    return max(1, min(ROWS, CELLS // max(1, n_columns)))


def check_size(path: Path, n_numbers: int) -> None:
    """Refuse a small file that promises so much that it would fill the disk.

    Parameters
    ----------
    path : Path
        The file.
    n_numbers : int
        Numbers that it promises.

    Raises
    ------
    UserError
        If they are many times as large as the file.
    """
    size = path.stat().st_size
    if n_numbers * 8 > max(LARGE, MAX_EXPANSION * size):
        raise UserError(
            f"{path}: {size:,} bytes that would swell to {n_numbers * 8:,}; that is no recording"
        )


def unit_in(name: str) -> str:
    """Return the unit at the end of a column's name: ``level [mV]``, ``level (mV)``.

    Parameters
    ----------
    name : str
        The column's name.

    Returns
    -------
    str
        What stands in the brackets; empty without any.
    """
    for opening, closing in ("[]", "()"):
        if name.endswith(closing) and opening in name:
            return name[name.rindex(opening) + 1 : -1].strip()
    return ""


def check_rate(path: Path, rate_hz: float | None, *, whose: str = "--rate") -> None:
    """Refuse a rate that is not positive, or whose step is no finite number.

    Parameters
    ----------
    path : Path
        The file, for messages.
    rate_hz : float or None
        Sampling rate; None passes.
    whose : str, default="--rate"
        Who states it, for messages.

    Raises
    ------
    UserError
        If the rate is not above 0 Hz.
    """
    if rate_hz is not None and not MIN_RATE_HZ < rate_hz < MAX_RATE_HZ:
        raise UserError(f"{path}: {whose} {rate_hz:g}: must be above 0 Hz")


def refuse_rate_and_time(path: Path, options: ReadOptions, what: str) -> None:
    """Refuse --rate and --time for a format that states its rate.

    Parameters
    ----------
    path : Path
        The file, for messages.
    options : ReadOptions
        What the user asks.
    what : str
        The kind of file, for messages.

    Raises
    ------
    UserError
        If a rate or a time column is given.
    """
    if options.rate_hz is not None:
        raise UserError(f"{path}: {what} states its own rate; leave --rate away")
    if options.time is not None:
        raise UserError(f"{path}: {what} has no time column; leave --time away")


def sanitise(text: object, max_length: int = 200) -> str:
    """Turn text from a file or a library into one line that a terminal can show.

    Parameters
    ----------
    text : object
        Any object; its ``str`` is shown.
    max_length : int, default=200
        Characters at most.

    Returns
    -------
    str
        Printable characters, single spaces between words.
    """
    line = "".join(c if c.isprintable() else " " for c in str(text)[: 10 * max_length])
    return " ".join(line.split())[:max_length]


def _listed(names: Sequence[str], between: str) -> str:
    first = between.join(sanitise(name, 40) for name in names[:12])
    return first if len(names) <= 12 else f"{first}, ... ({len(names)} in all)"
