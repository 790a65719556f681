"""The time column of a table: its name, its unit, and its moments in seconds. Axis: T rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from tonesieve.errors import UserError
from tonesieve.recordings.reader import ReadOptions, sanitise

TIME_NAMES = ("time", "t", "seconds", "timestamp", "datetime", "date", "utc", "mjd")
# Derived: seconds in the unit that a time column's name ends with.
TIME_UNITS = {
    "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0, "d": 86400.0,
}  # fmt: skip
# Derived: seconds from 1970 to 2000, the origin of moments in seconds.
ORIGIN = 946_684_800
# Derived: units of NumPy's moments in a second.
PER_SECOND = {
    "W": 1 / 604800, "D": 1 / 86400, "h": 1 / 3600, "m": 1 / 60,
    "s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9, "ps": 1e12, "fs": 1e15, "as": 1e18,
}  # fmt: skip


def seconds_of(moments: np.ndarray) -> Float[np.ndarray, " T"]:
    """Convert NumPy's moments to seconds since 2000.

    Parameters
    ----------
    moments : ndarray of datetime64, shape (T,)
        Moments in any unit up to weeks; NaT is missing.

    Returns
    -------
    ndarray, shape (T,)
        Seconds; NaN where a moment is missing.

    Raises
    ------
    ValueError
        If their unit is months or years.
    """
    unit, count = np.datetime_data(moments.dtype)
    if unit not in PER_SECOND:
        raise ValueError(f"times in units of {unit}, not of seconds or parts of one")
    native = moments.astype(moments.dtype.newbyteorder("="))
    return since_origin(native.view(np.int64), ~np.isnat(native), PER_SECOND[unit] / count)


def since_origin(
    counts: Int[np.ndarray, " T"], valid: Bool[np.ndarray, " T"], per_second: float
) -> Float[np.ndarray, " T"]:
    """Convert integer counts since 1970 to seconds since 2000.

    They are subtracted as integers, since floats lose the last digits of nanoseconds.

    Parameters
    ----------
    counts : ndarray of int, shape (T,)
        Moments in units since 1970.
    valid : ndarray of bool, shape (T,)
        Where there is a moment.
    per_second : float
        Units in a second.

    Returns
    -------
    ndarray, shape (T,)
        Seconds; NaN where there is no moment.
    """
    origin = ORIGIN * per_second
    result = (counts - np.float64(origin)) / per_second
    if 1 <= per_second <= 1e9:
        near = np.abs(counts.astype(np.float64)) < 2.0**62
        exact = np.where(near, counts, 0) - int(origin)
        result = np.where(near, exact / per_second, result)
    return np.where(valid, result, np.nan)


def time_column(
    path: Path,
    names: Sequence[str],
    options: ReadOptions,
    *,
    moments: Sequence[str] = (),
    what: str = "column",
) -> str | None:
    """Find the time column: the one asked for, or named so, or the only one that holds moments.

    Parameters
    ----------
    path : Path
        The file, for messages.
    names : sequence of str
        Names of its columns.
    options : ReadOptions
        What the user asks; columns of samples are no time columns.
    moments : sequence of str, optional
        Columns that hold dates and times.
    what : str, default="column"
        What the format calls a column, for messages.

    Returns
    -------
    str or None
        Its name; None without one.

    Raises
    ------
    UserError
        If the one asked for is not there.
    """
    if options.time is not None:
        if options.time not in names:
            listed = sanitise(", ".join(names[:12]))
            raise UserError(f"{path}: --time {options.time}: no such {what}; there are {listed}")
        return options.time
    named = [n for n in names if n not in options.columns and time_scale(n) is not None]
    free = [n for n in moments if n not in options.columns]
    return next(iter(named or (free if len(free) == 1 else [])), None)


def need_times(path: Path, time: str | None, rate_hz: float | None, what: str = "column") -> None:
    """Refuse a recording without times and without a rate.

    Parameters
    ----------
    path : Path
        The file, for messages.
    time : str or None
        Its time column.
    rate_hz : float or None
        Its sampling rate, as far as it is stated.
    what : str, default="column"
        What the format calls a column, for messages.

    Raises
    ------
    UserError
        If neither is there.
    """
    if rate_hz is None and time is None:
        raise UserError(
            f"{path}: no time {what} ({', '.join(TIME_NAMES)}); name it with --time, or give the "
            "rate with --rate"
        )


def time_scale(name: str) -> float | None:
    """Return the unit of a time column, by its name.

    Parameters
    ----------
    name : str
        A column's name, such as ``time_ms`` or ``t (min)``.

    Returns
    -------
    float or None
        Seconds in a unit; None where it is no name of a time column.
    """
    words = name.lower().replace("[", "(").partition("(")
    bare, bracket = words[0].strip(), words[2].rstrip(")] ")
    stem, _, ending = bare.rpartition("_")
    if bare in TIME_NAMES:
        return 86400.0 if bare == "mjd" else TIME_UNITS.get(bracket, 1.0)
    if stem in TIME_NAMES and ending in TIME_UNITS:
        return TIME_UNITS[ending]
    return None


def in_seconds(times: np.ndarray, name: str) -> Float[np.ndarray, " T"]:
    """Convert the numbers of a time column to seconds.

    Parameters
    ----------
    times : ndarray, shape (T,)
        Numbers as they are in the file.
    name : str
        The column's name, which has the unit.

    Returns
    -------
    ndarray, shape (T,)
        Seconds.
    """
    with np.errstate(all="ignore"):  # what is too large is no time
        return times.astype(np.float64) * (time_scale(name) or 1.0)
