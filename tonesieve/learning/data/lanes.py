"""Rows in lanes: how a batch of B rows becomes B streams, and where these are cut into segments.

docs/exercise.md, "Layouts of the data". A *row* is one sample of one component's block. Axes: B
lanes, T steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Int


@dataclass(frozen=True)
class Rows:
    """Rows in order, or placed in lanes.

    Attributes
    ----------
    component : ndarray of int, shape (rows,) or (B, T)
        The component whose block each row belongs to.
    time : ndarray of int, shape (rows,) or (B, T)
        Sample number of each row in the record.
    """

    component: Int[np.ndarray, "*rows"]
    time: Int[np.ndarray, "*rows"]


@dataclass(frozen=True)
class Segment:
    """Steps [start, stop) of the first ``n_lanes`` lanes, of one component each.

    Attributes
    ----------
    start, stop : int
        First step, and the one after the last.
    n_lanes : int
        Lanes that still have rows.
    reset : ndarray of bool, shape (n_lanes,)
        Lanes whose state is reset before the segment.
    """

    start: int
    stop: int
    n_lanes: int
    reset: Bool[np.ndarray, " B"]


def row_order(n_blocks: int, n_times: int, *, interleave: int | None = None) -> Rows:
    """Put the rows of all blocks in order.

    Parameters
    ----------
    n_blocks : int
        Blocks, one a component.
    n_times : int
        Rows of a block.
    interleave : int or None
        Rows of one block before the next takes its turn; None: block after block.

    Returns
    -------
    Rows
        All rows, those of every block in time order.
    """
    component = np.repeat(np.arange(n_blocks), n_times)
    time = np.tile(np.arange(n_times), n_blocks)
    if interleave is not None:
        order = np.lexsort((time, component, time // interleave))
        component, time = component[order], time[order]
    return Rows(component, time)


def lanes(n_rows: int, n_lanes: int, *, strided: bool) -> Int[np.ndarray, "B T"]:
    """Assign rows to lanes.

    Either way only the last step is smaller, and what is left of it are the first lanes.

    Parameters
    ----------
    n_rows : int
        Rows.
    n_lanes : int
        Lanes, B.
    strided : bool
        Whether lane p takes rows p, p + B, ... . Otherwise it takes one contiguous stretch; the
        first lanes one row more than the others where the rows do not divide.

    Returns
    -------
    ndarray of int, shape (B, T)
        Row number of every lane at every step; -1 where a lane has run out.
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
    """Cut lanes into segments.

    A cut falls wherever a lane changes component or runs out, so that inside a segment the
    selector is constant and no state needs a reset.

    Parameters
    ----------
    lane_rows : ndarray of int, shape (B, T)
        Row numbers, as `lanes` returns them.
    component : ndarray of int, shape (B, T)
        Component of every row.
    chunk : int
        Most steps of a segment.
    reset_on_change : bool
        Whether a lane's state is reset where its component changes.

    Returns
    -------
    list of Segment
        The segments in time order.
    """
    changed = np.zeros(component.shape, dtype=bool)
    changed[:, 1:] = component[:, 1:] != component[:, :-1]
    n_alive = np.sum(lane_rows >= 0, axis=0)
    cuts = np.flatnonzero(changed.any(axis=0) | (np.diff(n_alive, prepend=n_alive[0]) != 0))
    bounds = np.unique(np.concatenate([[0], cuts, [lane_rows.shape[1]]]))
    result = []
    for begin, end in pairwise(bounds):
        for start in range(begin, end, chunk):
            n = int(n_alive[start])
            reset = np.full(n, start == 0)
            if reset_on_change:
                reset |= changed[:n, start]
            result.append(Segment(start, min(start + chunk, int(end)), n, reset))
    return result
