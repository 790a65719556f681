"""From time stamps to a rate and to what is missing between them. Axes: T rows, G gaps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from tonesieve.errors import UserError

# Rounding of time stamps: a step may be off by this share of itself.
UNEVEN = 0.34  # a step of three units comes out as four now and then
# A pause this much off a whole number of samples is told.
OFF_GRID = 0.1
# Steps that the usual one is found from.
FIRST = 100_000
# Pauses may be so many times as long as the recording itself.
MOST_LOST = 10

Times = Callable[[], Iterator[Float[np.ndarray, " T"]]]


@dataclass(frozen=True)
class Grid:
    """Where rows stand on an even grid: so many samples are lost before these rows."""

    rate_hz: float
    rows: Int[np.ndarray, " G"]
    n_lost: Int[np.ndarray, " G"]
    warnings: tuple[str, ...] = ()

    @property
    def total_lost(self) -> int:
        """Samples lost between the first row and the last."""
        return int(self.n_lost.sum())

    def rows_at(self, start: int, stop: int) -> tuple[Int[np.ndarray, " T"], np.ndarray]:
        """The row of every sample of the grid, and whether it has one."""
        at = np.arange(start, stop)
        lost = np.concatenate([[0], np.cumsum(self.n_lost)])
        passed = np.searchsorted(self.rows + lost[1:], at, side="right")
        row = at - lost[passed]
        following = np.append(self.rows, np.iinfo(np.int64).max)[passed]
        return np.minimum(row, following), row < following


def regular(rate_hz: float) -> Grid:
    """Nothing lost."""
    return Grid(rate_hz, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


def infer_grid(path: Path, times: Times, n_rows: int) -> Grid:
    """The rate, and pauses as lost samples.

    ``times``: seconds since any origin, in blocks; NaN (no time) counts as one step. Raises
    `UserError` for times that stand still, run backwards or are uneven, with the row.
    """
    if n_rows < 2:
        raise UserError(f"{path}: one row tells no rate; give it with --rate")
    with np.errstate(all="ignore"):  # of times that are no times; found below
        return _found(path, times, n_rows, _usual_step(path, times))


def _found(path: Path, times: Times, n_rows: int, usual: float) -> Grid:
    total, n_steps, first_row = 0.0, 0, 1
    rows, steps = [], []
    for step in _steps(times):
        relative = step / usual
        alone = np.abs(relative - 1) <= UNEVEN
        pause = relative >= 2 - UNEVEN
        uneven = np.flatnonzero(~alone & ~pause)
        if uneven.size:
            raise UserError(
                f"{path}: uneven time stamps at row {first_row + int(uneven[0]) + 1} (a step of "
                f"{step[uneven[0]]:.6g} s, the usual one is {usual:.6g} s); resample the recording "
                "evenly first, or give its rate with --rate"
            )
        total, n_steps = total + float(step[alone].sum()), n_steps + int(alone.sum())
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
    whole = np.rint(lengths)
    if not lengths.sum() <= MOST_LOST * n_rows + 1000:
        longest = int(np.argmax(lengths))
        raise UserError(
            f"{path}: pauses of {lengths.sum() / rate_hz:.6g} s in all (the longest before row "
            f"{rows[longest] + 1}) in a recording of {n_rows / rate_hz:.6g} s; cut it there"
        )
    off = np.flatnonzero(np.abs(lengths - whole) > OFF_GRID)
    found: tuple[str, ...] = ()
    if off.size:
        found = (
            f"{off.size} pauses are no whole number of samples long, the first before row "
            f"{rows[off[0]] + 1}: what follows is up to half a sample off its time",
        )
    return Grid(_tidy(rate_hz), rows.astype(np.int64), whole.astype(np.int64) - 1, found)


def _steps(times: Times) -> Iterator[Float[np.ndarray, " T"]]:
    """Steps from row to row; where times are missing, their neighbours' step is shared out."""
    last, behind, lead = None, 0, 0  # the last known time, rows after it, rows before the first
    for block in times():
        known = np.flatnonzero(np.isfinite(block))
        if last is None:
            lead += int(known[0]) if known.size else len(block)
        if not known.size:
            behind += len(block)
            continue
        values, places = block[known], known
        if last is not None:
            values, places = np.append(last, values), np.append(-1 - behind, places)
        counts = np.diff(places)
        steps = np.repeat(np.diff(values) / counts, counts)
        if steps.size:
            yield np.concatenate([np.full(lead, steps[0]), steps])
            lead = 0
        last, behind = float(values[-1]), len(block) - 1 - int(known[-1])


def _usual_step(path: Path, times: Times) -> float:
    first: list[np.ndarray] = []
    for step in _steps(times):
        first.append(step[:FIRST])
        if sum(map(len, first)) >= FIRST:
            break
    steps = np.concatenate(first) if first else np.zeros(0)
    if not steps.size:
        raise UserError(f"{path}: no time stamps but at most one; give the rate with --rate")
    median = float(np.median(steps))
    if not median > 0:
        falling = int(np.flatnonzero(steps <= 0)[0])
        raise UserError(
            f"{path}: uneven time stamps at row {falling + 2}: time does not go on; mend it, or "
            "give the rate with --rate"
        )
    # Stamps rounded to two or three units: the median is one of them, the mean lies between.
    near = steps[(steps > 0.5 * median) & (steps < 2 * median)]
    if not 1e-300 < median < 1e300 or not near.size:
        raise UserError(
            f"{path}: steps of {median:g} s tell no rate; mend the times, or give it with --rate"
        )
    return float(near.mean())


def _tidy(rate_hz: float) -> float:
    """Drop the rounding of decimal time stamps: 199.99999999 Hz is 200 Hz."""
    rounded = float(f"{rate_hz:.9g}")
    return rounded if abs(rounded - rate_hz) < 1e-9 * rate_hz else rate_hz
