"""From time stamps to a rate, and to the samples that are missing between them.

Axes: T rows, G gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from tonesieve.errors import UserError

# Derived: by rounding, a step of three units of the time stamps comes out as four now and then.
STEP_TOLERANCE = 0.34
# A pause this far off a whole number of samples gets a warning. Chosen, not tuned.
PAUSE_TOLERANCE = 0.1
# Guard against time: steps that the usual one is estimated from.
N_FIRST_STEPS = 100_000
# Guard against memory: pauses may be this many times as long as the recording, and a thousand
# samples more.
MAX_LOST, MIN_LOST = 10, 1000
# Guard: steps beyond these limits, in seconds, give no finite rate.
MIN_STEP_S, MAX_STEP_S = 1e-300, 1e300
# Chosen, not tuned: a rate is rounded to 9 digits where that changes it by no more than this.
ROUNDING = 1e-9

Times = Callable[[], Iterator[Float[np.ndarray, " T"]]]


@dataclass(frozen=True)
class Grid:
    """Rows of a file on an even grid of samples.

    Parameters
    ----------
    rate_hz : float
        Samples a second.
    rows : ndarray of int, shape (G,)
        Rows before which samples are lost.
    n_lost : ndarray of int, shape (G,)
        How many are lost there.
    warnings : tuple of str, optional
        What a user should know of the times.
    """

    rate_hz: float
    rows: Int[np.ndarray, " G"]
    n_lost: Int[np.ndarray, " G"]
    warnings: tuple[str, ...] = ()

    @property
    def total_lost(self) -> int:
        """Samples lost between the first row and the last."""
        return int(self.n_lost.sum())

    def rows_at(self, start: int, stop: int) -> tuple[Int[np.ndarray, " T"], np.ndarray]:
        """Find the rows of samples.

        Parameters
        ----------
        start : int
            The first sample of the grid.
        stop : int
            The one after the last.

        Returns
        -------
        rows : ndarray of int, shape (T,)
            The row of every sample, or the one that follows.
        valid : ndarray of bool, shape (T,)
            Whether the sample has a row.
        """
        samples = np.arange(start, stop)
        lost = np.concatenate([[0], np.cumsum(self.n_lost)])
        n_gaps = np.searchsorted(self.rows + lost[1:], samples, side="right")
        row = samples - lost[n_gaps]
        following = np.append(self.rows, np.iinfo(np.int64).max)[n_gaps]
        return np.minimum(row, following), row < following


def regular(rate_hz: float) -> Grid:
    """Make a grid on which nothing is lost.

    Parameters
    ----------
    rate_hz : float
        Samples a second.

    Returns
    -------
    Grid
        A row for every sample.
    """
    return Grid(rate_hz, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


def infer_grid(path: Path, times: Times, n_rows: int) -> Grid:
    """Estimate the rate from time stamps, and find pauses as lost samples.

    Parameters
    ----------
    path : Path
        The file, for messages.
    times : callable
        Returns an iterator over seconds since any origin, in blocks; NaN counts as one step.
    n_rows : int
        Rows of the file.

    Returns
    -------
    Grid
        Rate and lost samples.

    Raises
    ------
    UserError
        If times do not increase or are uneven; the message has the row.
    """
    if n_rows < 2:
        raise UserError(f"{path}: one row gives no rate; give it with --rate")
    with np.errstate(all="ignore"):  # of numbers that are no times; refused below
        return _by_steps(path, times, n_rows, _usual_step(path, times))


def _by_steps(path: Path, times: Times, n_rows: int, usual: float) -> Grid:
    total, n_steps, first_row = 0.0, 0, 1
    rows, steps = [], []
    for step in _steps(times):
        relative = step / usual
        single = np.abs(relative - 1) <= STEP_TOLERANCE
        pause = relative >= 2 - STEP_TOLERANCE
        uneven = np.flatnonzero(~single & ~pause)
        if uneven.size:
            raise UserError(
                f"{path}: uneven time stamps at row {first_row + int(uneven[0]) + 1} (a step of "
                f"{step[uneven[0]]:.6g} s, the usual one is {usual:.6g} s); resample the recording "
                "evenly first, or give its rate with --rate"
            )
        total, n_steps = total + float(step[single].sum()), n_steps + int(single.sum())
        rows.append(first_row + np.flatnonzero(pause))
        steps.append(step[pause])
        first_row += len(step)
    mean = total / n_steps
    return _with_pauses(path, 1 / mean, np.concatenate(rows), np.concatenate(steps) / mean, n_rows)


def _with_pauses(
    path: Path,
    rate_hz: float,
    rows: Int[np.ndarray, " G"],
    lengths: Float[np.ndarray, " G"],
    n_rows: int,
) -> Grid:
    n_periods = np.rint(lengths)
    if not lengths.sum() <= MAX_LOST * n_rows + MIN_LOST:
        longest = int(np.argmax(lengths))
        raise UserError(
            f"{path}: pauses of {lengths.sum() / rate_hz:.6g} s in all (the longest before row "
            f"{rows[longest] + 1}) in a recording of {n_rows / rate_hz:.6g} s; cut it there"
        )
    off = np.flatnonzero(np.abs(lengths - n_periods) > PAUSE_TOLERANCE)
    warnings: tuple[str, ...] = ()
    if off.size:
        warnings = (
            f"{off.size} pauses are no whole number of samples long, the first before row "
            f"{rows[off[0]] + 1}: what follows is up to half a sample off its time",
        )
    n_lost = n_periods.astype(np.int64) - 1
    return Grid(_rounded(rate_hz), rows.astype(np.int64), n_lost, warnings)


def _steps(times: Times) -> Iterator[Float[np.ndarray, " T"]]:
    """Steps from row to row; missing times are interpolated between their neighbours."""
    last, n_after, n_lead = None, 0, 0  # the last known time, rows after it, rows before the first
    for block in times():
        known = np.flatnonzero(np.isfinite(block))
        if last is None:
            n_lead += int(known[0]) if known.size else len(block)
        if not known.size:
            n_after += len(block)
            continue
        values, indices = block[known], known
        if last is not None:
            values, indices = np.append(last, values), np.append(-1 - n_after, indices)
        counts = np.diff(indices)
        steps = np.repeat(np.diff(values) / counts, counts)
        if steps.size:
            yield np.concatenate([np.full(n_lead, steps[0]), steps])
            n_lead = 0
        last, n_after = float(values[-1]), len(block) - 1 - int(known[-1])


def _usual_step(path: Path, times: Times) -> float:
    first: list[np.ndarray] = []
    for step in _steps(times):
        first.append(step[:N_FIRST_STEPS])
        if sum(map(len, first)) >= N_FIRST_STEPS:
            break
    steps = np.concatenate(first) if first else np.zeros(0)
    if not steps.size:
        raise UserError(f"{path}: no time stamps but at most one; give the rate with --rate")
    median = float(np.median(steps))
    if not median > 0:
        falling = int(np.flatnonzero(steps <= 0)[0])
        raise UserError(
            f"{path}: uneven time stamps at row {falling + 2}: time does not increase; mend it, or "
            "give the rate with --rate"
        )
    # Stamps rounded to two or three units: the median is one of them, the mean lies between.
    near = steps[(steps > 0.5 * median) & (steps < 2 * median)]
    if not MIN_STEP_S < median < MAX_STEP_S or not near.size:
        raise UserError(
            f"{path}: steps of {median:g} s give no rate; mend the times, or give it with --rate"
        )
    return float(near.mean())


def _rounded(rate_hz: float) -> float:
    """Drop the rounding of decimal time stamps: 199.99999999 Hz is 200 Hz."""
    rounded = float(f"{rate_hz:.9g}")
    return rounded if abs(rounded - rate_hz) < ROUNDING * rate_hz else rate_hz
