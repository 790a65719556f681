"""Whitening of a recording's noise by linear prediction. Axis: T samples."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

# Chosen, not tuned: largest order of the filter. A guard: the samples that each coefficient needs.
MAX_ORDER, MIN_SAMPLES_PER_ORDER = 16, 20


def burg_whitening(samples: Float[np.ndarray, " T"]) -> tuple[float, ...]:
    """Fit a whitening filter: coefficients on past samples that make noise white.

    Burg's method, of the order that minimises the Bayesian information criterion.

    Parameters
    ----------
    samples : ndarray, shape (T,)
        Noise; gaps (NaN) are interpolated linearly.

    Returns
    -------
    tuple of float
        Added to the present sample, these times the samples before it give white noise.

    References
    ----------
    Burg, Maximum Entropy Spectral Analysis, PhD thesis, Stanford, 1975. Kay, Modern Spectral
    Estimation, 1988, section 7.5.
    """
    good = np.isfinite(samples)
    filled = np.interp(np.arange(len(samples)), np.flatnonzero(good), samples[good])
    forward = backward = filled - filled.mean()
    n, power = len(filled), float(np.mean((filled - filled.mean()) ** 2))
    coefficients = np.array([1.0])
    least, best = n * np.log(power), coefficients
    for order in range(1, min(MAX_ORDER, n // MIN_SAMPLES_PER_ORDER) + 1):
        ahead, behind = forward[1:], backward[:-1]
        energy = float(ahead @ ahead + behind @ behind)
        if energy <= 0:
            break
        reflection = -2 * float(ahead @ behind) / energy
        padded = np.append(coefficients, 0.0)
        coefficients = padded + reflection * padded[::-1]
        forward, backward = ahead + reflection * behind, behind + reflection * ahead
        power *= 1 - reflection**2
        criterion = n * np.log(max(power, 1e-300)) + order * np.log(n)
        if criterion < least:
            least, best = criterion, coefficients
    return tuple(float(f"{c:.9g}") for c in best[1:])
