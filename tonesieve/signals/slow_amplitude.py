"""A complex amplitude that changes slowly, in noise: an Ornstein-Uhlenbeck process.

Its time constant and its variance over the noise's are unknown. Models with many values of both,
and one without any amplitude, are averaged by their posterior probabilities, so nothing is added
where noise explains the observations. Noise is white as far as the blocks resolve, and its variance
is part of each model's fit.

Axes: N blocks.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float

from tonesieve.kernels.ornstein_uhlenbeck import log_likelihood, smooth

# Chosen, not tuned: the shortest time constant, in blocks, and the ratio of those that are tried;
# the variances that are tried, over the noise's in a block, are this far apart.
SHORTEST, TIME_RATIO, VARIANCE_RATIO = 4.0, 2.0, 4.0
# Guard, of time: less likely models are left out.
LEAST_WEIGHT = 1e-3
# Guard: least and largest of these variances; below the least, times all blocks, nothing is seen.
MIN_VARIANCE, MAX_VARIANCE = 1e-4, 1e6


class SlowAmplitude(NamedTuple):
    """A smoothed amplitude.

    Parameters
    ----------
    value : ndarray, shape (N,)
        Its expectation.
    variance : ndarray, shape (N,)
        Variance of its complex error.
    """

    value: Complex[np.ndarray, " N"]
    variance: Float[np.ndarray, " N"]


def smooth_slowly(
    observed: Complex[np.ndarray, " N"], weights: Float[np.ndarray, " N"]
) -> SlowAmplitude:
    """Smooth an amplitude as far as its likelihood requires.

    Parameters
    ----------
    observed : ndarray, shape (N,)
        Observations; any number where the weight is 0.
    weights : ndarray, shape (N,)
        Inverse variances of their noise, up to a factor.

    Returns
    -------
    SlowAmplitude
        The amplitude.
    """
    n = len(observed)
    seen = weights > 0
    nothing = SlowAmplitude(np.zeros(n, complex), np.zeros(n))
    if np.sum(seen) <= SHORTEST or not np.any(observed[seen]):
        return nothing
    # A block's usual noise has variance 1 then.
    weights = weights / np.mean(weights[seen])
    times = SHORTEST * TIME_RATIO ** np.arange(
        np.log(max(n / SHORTEST, 1)) // np.log(TIME_RATIO) + 1
    )
    variances = MIN_VARIANCE * VARIANCE_RATIO ** np.arange(
        np.log(MAX_VARIANCE / MIN_VARIANCE) // np.log(VARIANCE_RATIO) + 1
    )
    models = [(0.0, 0.0), *product(np.exp(-1 / times).tolist(), variances.tolist())]
    evidence = np.array([log_likelihood(observed, weights, *model) for model in models])
    # Nothing, and anything, are as likely beforehand.
    evidence[1:] -= np.log(len(models) - 1)
    posterior = np.exp(evidence - evidence.max())
    posterior /= posterior.sum()
    mean, square, variance = np.zeros(n, complex), np.zeros(n), np.zeros(n)
    amplitude, error = np.empty(n, complex), np.empty(n)
    for weight, model in zip(posterior, models, strict=True):
        if weight > LEAST_WEIGHT:
            scale = smooth(observed, weights, *model, amplitude, error)
            mean += weight * amplitude
            square += weight * np.abs(amplitude) ** 2
            variance += weight * scale * error
    return SlowAmplitude(mean, variance + np.maximum(square - np.abs(mean) ** 2, 0.0))


def _geometric(first: float, last: float, ratio: float) -> np.ndarray:
    """Numbers from the first to the last, each ``ratio`` times the one before."""
    n = max(0, int(np.log(last / first) / np.log(ratio)))
    return np.asarray(first * ratio ** np.arange(n + 1))
