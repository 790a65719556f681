"""Fewer samples for slow tones: the mean of the mean of the mean of so many, one for each so many.

Three equal means in a row are a low-pass whose zeros lie on all that would fold upon zero. Axes:
B streams, T samples, N steps.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tonesieve.kernels.arithmetic import FAST

MEANS = 3
# A step of which less than this share was heard is a gap.
HEARD = 0.5


def window(factor: int) -> np.ndarray:
    """The weights (W) of ``MEANS (factor - 1) + 1`` samples, of sum 1."""
    weights = np.ones(1)
    for _ in range(MEANS):
        weights = np.convolve(weights, np.ones(factor) / factor)
    return weights


@njit(**FAST)
def thin(
    samples: np.ndarray, first: int, origin: np.ndarray, sums: np.ndarray, weights: np.ndarray,
    factor: int, thinned: np.ndarray,
) -> None:  # fmt: skip
    """Weighted means (B, N) of the samples (B, T), one for every ``factor`` samples that end.

    ``first`` is the number of the first sample; ``origin`` (B), NaN at first, is each stream's
    first sample; ``sums`` (B, MEANS, 2), sums and weights of the means that are not yet whole, goes
    on. Means are NaN before they are whole, and where gaps took most of them.
    """
    n_streams, n_samples = samples.shape
    for b in range(n_streams):
        step = 0
        for t in range(n_samples):
            heard, place = samples[b, t], (first + t) % factor
            if np.isnan(origin[b]) and not np.isnan(heard):
                origin[b] = heard
            if not np.isnan(heard):
                for i in range(MEANS):
                    at = i * factor + place
                    if at < len(weights):
                        sums[b, i, 0] += weights[at] * (heard - origin[b])
                        sums[b, i, 1] += weights[at]
            if place == factor - 1:
                # The oldest sum is whole: it has had its last factor's worth of weights.
                whole = sums[b, MEANS - 1, 1] >= HEARD and first + t + 1 >= MEANS * factor
                thinned[b, step] = (
                    sums[b, MEANS - 1, 0] / sums[b, MEANS - 1, 1] + origin[b] if whole else np.nan
                )
                step += 1
                for i in range(MEANS - 1, 0, -1):
                    sums[b, i, 0], sums[b, i, 1] = sums[b, i - 1, 0], sums[b, i - 1, 1]
                sums[b, 0, 0], sums[b, 0, 1] = 0.0, 0.0
