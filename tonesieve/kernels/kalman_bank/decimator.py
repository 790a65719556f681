"""Fewer samples for slow tones: the mean of the mean of the mean of so many, one for each so many.

Three equal means in a row are a low-pass whose zeros lie on all that would fold upon zero. Axes:
B streams, T samples, N steps.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import njit

from tonesieve.kernels.fastmath import JIT_OPTIONS

N_STAGES = 3
# A step of which less than this share was heard is a gap.
MIN_COVERAGE = 0.1


@cache
def cic_response(factor: int) -> np.ndarray:
    """The weights (W) of ``MEANS (factor - 1) + 1`` samples, of sum 1.

    Whole numbers in the time of a sum: a convolution takes seconds where a tone is very slow.
    """
    weights = np.ones(1, dtype=np.int64)
    for _ in range(N_STAGES):
        sums = np.cumsum(np.concatenate([weights, np.zeros(factor - 1, dtype=np.int64)]))
        weights = sums.copy()
        weights[factor:] -= sums[:-factor]
    found = weights / float(factor) ** N_STAGES
    found.flags.writeable = False
    return found


# Of what a stream remembers beside its sums: the first sample, the running mean, the products of
# deviations from it at no distance and at a distance of one sample, the last one, and its age.
ORIGIN, MEAN, POWER, PRODUCT, LAST, N_MISSING, N_MEMORY = range(7)


@njit(**JIT_OPTIONS)
def decimate(
    samples: np.ndarray, first: int, memory: np.ndarray, sums: np.ndarray, weights: np.ndarray,
    factor: int, thinned: np.ndarray,
) -> None:  # fmt: skip
    """Weighted means (B, N) of the samples (B, T), one for every ``factor`` samples that end.

    ``first`` is the number of the first sample; ``memory`` (B, N_MEMORY), its origin NaN at first,
    and ``sums`` (B, MEANS, 2), sums and weights of the means that are not yet whole, go on. A lost
    sample is the last one as far as neighbours are alike, and no sample else. Means are NaN before
    they are whole, and where gaps took most of them.
    """
    slow = 1.0 / (N_STAGES * factor)
    for b in range(samples.shape[0]):
        step, own = 0, memory[b]
        for t in range(samples.shape[1]):
            heard, place, share = samples[b, t], (first + t) % factor, 1.0
            if np.isnan(heard):
                alike = own[PRODUCT] / own[POWER] if own[POWER] > 0 else 0.0
                own[N_MISSING] += 1
                heard, share = own[LAST], max(alike, 0.0) ** own[N_MISSING]
                if own[N_MISSING] > len(weights):  # whatever it was like, it is long gone
                    share = 0.0
            else:
                if np.isnan(own[ORIGIN]):
                    own[ORIGIN] = heard
                heard -= own[ORIGIN]
                away = heard - own[MEAN]
                own[POWER] += slow * (away * away - own[POWER])
                if own[N_MISSING] == 0:
                    own[PRODUCT] += slow * (away * (own[LAST] - own[MEAN]) - own[PRODUCT])
                own[MEAN] += slow * away
                own[LAST], own[N_MISSING] = heard, 0
            for i in range(N_STAGES):
                at = i * factor + place - (N_STAGES - 1)
                if at >= 0:
                    sums[b, i, 0] += share * weights[at] * heard
                    sums[b, i, 1] += share * weights[at]
            if place == factor - 1:
                # The oldest sum is whole: it has had its last factor's worth of weights.
                whole = (
                    sums[b, N_STAGES - 1, 1] >= MIN_COVERAGE and first + t + 1 >= N_STAGES * factor
                )
                thinned[b, step] = (
                    sums[b, N_STAGES - 1, 0] / sums[b, N_STAGES - 1, 1] + own[ORIGIN]
                    if whole
                    else np.nan
                )
                step += 1
                for i in range(N_STAGES - 1, 0, -1):
                    sums[b, i, 0], sums[b, i, 1] = sums[b, i - 1, 0], sums[b, i - 1, 1]
                sums[b, 0, 0], sums[b, 0, 1] = 0.0, 0.0
