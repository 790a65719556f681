"""Memories of the filters of the bank, and what follows from them.

Axes: M filters, L rows of the table.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

# Memories in steps, chosen about a factor of three apart, not tuned: of filters of fixed frequency;
# of such that never restart, which a strong line beside the tone cannot make follow the beat; of
# filters that track the frequency.
FIXED_MEMORIES = (5.0, 14.0, 40.0, 110.0, 300.0, 900.0, 3500.0)
NO_RESTART_MEMORIES = (300.0, 1200.0, math.inf)
TRACKING_MEMORIES = (30.0, 80.0, 220.0, 700.0, 2500.0, math.inf)
# Windows that features are averaged over: a multiple of the memory, and at least this many steps.
# Chosen, not tuned.
LIKELIHOOD_WINDOW, SPREAD_WINDOW, LONGEST_WINDOW = (4.0, 50.0), (2.0, 10.0), 4000.0


def filter_table(min_memory: float = 0.0) -> Float[np.ndarray, "L M"]:
    """Return the filters' parameters, in the rows that `kernels.kalman_bank.state` names.

    Parameters
    ----------
    min_memory : float, default 0
        Shorter memories are replaced by this one, steps.

    Returns
    -------
    ndarray, shape (L, M)
        Process noise over the noise variance, 2 / memory^2, which gives a gain of about
        2 / memory; flags; windows and memories in steps.
    """
    kinds = (FIXED_MEMORIES, NO_RESTART_MEMORIES, TRACKING_MEMORIES)
    memory = np.maximum([m for kind in kinds for m in kind], min_memory)
    counts = [len(kind) for kind in kinds]
    tracks, has_shorter = (np.repeat(flags, counts) for flags in ((0.0, 0.0, 1.0), (1.0, 0.0, 1.0)))
    has_shorter[[0, counts[0] + counts[1]]] = 0.0  # the shortest of a kind
    windows = [
        np.clip(ratio * memory, shortest, LONGEST_WINDOW)
        for ratio, shortest in (LIKELIHOOD_WINDOW, SPREAD_WINDOW)
    ]
    return np.stack([2 / memory**2, tracks, has_shorter, *windows, memory])


TABLE = filter_table()
