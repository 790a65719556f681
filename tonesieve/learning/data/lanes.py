"""Rows in lanes: how a batch of B rows becomes B streams, and where their stretches are cut.

SPEC, section 2. A *row* is one sample of one component's block. Axes: B lanes, T steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Int


@dataclass(frozen=True)
class Rows:
    """Rows in order: which component's block each belongs to, and its time."""

    component: Int[np.ndarray, "*rows"]  # in one line, or placed in lanes
    time: Int[np.ndarray, "*rows"]


@dataclass(frozen=True)
class Segment:
    """A stretch [start, stop) of the first ``n_lanes`` lanes without a change inside."""

    start: int
    stop: int
    n_lanes: int
    reset: Bool[np.ndarray, " B"]


def row_order(n_blocks: int, n_times: int, *, interleave: int | None = None) -> Rows:
    """Rows of all blocks in time order: block after block, or interleaved in chunks."""
    component = np.repeat(np.arange(n_blocks), n_times)
    time = np.tile(np.arange(n_times), n_blocks)
    if interleave is not None:
        order = np.lexsort((time, component, time // interleave))
        component, time = component[order], time[order]
    return Rows(component, time)


def lanes(n_rows: int, n_lanes: int, *, strided: bool) -> Int[np.ndarray, "B T"]:
    """Row number of every lane at every step; -1 where a lane has run out.

    Strided: lane p sees rows p, p + B, ... . Contiguous: lane p owns one stretch, the first
    lanes one row more than the others where the rows do not divide. Either way only the last
    step is smaller, and what is left of it are the first lanes.
    """
    n_steps = -(-n_rows // n_lanes)
    if strided:
        numbers = np.arange(n_steps * n_lanes).reshape(n_steps, n_lanes).T
        return np.where(numbers < n_rows, numbers, -1)
    lengths = np.full(n_lanes, n_rows // n_lanes)
    lengths[: n_rows % n_lanes] += 1
    step = np.arange(n_steps)
    starts = np.cumsum(lengths) - lengths
    return np.where(step < lengths[:, None], starts[:, None] + step, -1)


def segments(
    lane_rows: Int[np.ndarray, "B T"],
    component: Int[np.ndarray, "B T"],
    *,
    chunk: int,
    reset_on_change: bool,
) -> list[Segment]:
    """Cut lanes into stretches of at most ``chunk`` steps.

    A cut falls wherever a lane changes component or runs out, so that inside a stretch the
    selector is constant and no state needs a reset.
    """
    changed = np.zeros(component.shape, dtype=bool)
    changed[:, 1:] = component[:, 1:] != component[:, :-1]
    alive = np.sum(lane_rows >= 0, axis=0)
    fixed = np.flatnonzero(changed.any(axis=0) | (np.diff(alive, prepend=alive[0]) != 0))
    bounds = np.unique(np.concatenate([[0], fixed, [lane_rows.shape[1]]]))
    result = []
    for begin, end in pairwise(bounds):
        for start in range(begin, end, chunk):
            n = int(alive[start])
            reset = np.full(n, start == 0)
            if reset_on_change:
                reset |= changed[:n, start]
            result.append(Segment(start, min(start + chunk, int(end)), n, reset))
    return result
