"""What speaks for each candidate: the evidence that a network judges by.

Ratios and their logarithms, so that neither the signal's unit nor its phase shows. Axes: K tones,
M candidates, F features, D = 2 K + 1 coefficients.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from tonesieve.kernels.fastmath import JIT_OPTIONS
from tonesieve.kernels.kalman_bank.state import (
    AGE,
    AR_DC_GAIN,
    AR_ORDER,
    LIKELIHOOD_GAIN,
    MEAN,
    MISSING_RATE,
    NOISE_VAR,
    ORDER,
    REJECT_RATE,
    SPREAD_WINDOW,
    TINY,
    WEIGHT,
)
from tonesieve.kernels.simd import WIDTH, lane_shift, load, maximum, minimum, store

N_SHARED = 8  # features that are of no candidate


def n_features() -> int:
    """Of a tone: four of every candidate, and what is of none."""
    return 4 * WIDTH + N_SHARED


@njit(inline="always", **JIT_OPTIONS)
def update_spread(own: np.ndarray, numbers: np.ndarray, table: np.ndarray, k_tones: int) -> None:
    """How far neighbours are apart, and how far they should be by what they know."""
    d = 2 * k_tones + 1
    spread, apart = MEAN + d, MEAN + d + d * d + 3 * k_tones
    kept = 1.0 / minimum(load(table, SPREAD_WINDOW * WIDTH), numbers[AGE] + 2.0)
    for k in range(k_tones):
        p, q = load(own, (MEAN + 2 * k) * WIDTH), load(own, (MEAN + 2 * k + 1) * WIDTH)
        p, q = p - lane_shift(p), q - lane_shift(q)
        at = (apart + 2 * k) * WIDTH
        store(own, at, load(own, at) + kept * (p * p + q * q - load(own, at)))
        wide = load(own, (spread + 2 * k * (d + 1)) * WIDTH)
        wide = wide + load(own, (spread + (2 * k + 1) * (d + 1)) * WIDTH)
        wider = lane_shift(wide)
        likely = maximum(maximum(wider - wide, wide - wider), 1e-3 * wider)
        at += WIDTH
        store(own, at, load(own, at) + kept * (likely * numbers[NOISE_VAR] - load(own, at)))


@njit(**JIT_OPTIONS)
def posterior_weights(own: np.ndarray) -> None:
    """Posterior shares of the candidates."""
    odds, shares = own[:WIDTH], own[WEIGHT * WIDTH : (WEIGHT + 1) * WIDTH]
    top, whole = odds.max(), 0.0
    for j in range(WIDTH):
        shares[j] = math.exp(max(odds[j] - top, -50.0))
        whole += shares[j]
    for j in range(WIDTH):
        shares[j] /= whole


@njit(inline="always", **JIT_OPTIONS)
def _log(ratio: float) -> float:
    """A quarter of the logarithm, bounded."""
    return 0.25 * math.log(min(max(ratio, 1e-7), 1e7))


@njit(**JIT_OPTIONS)
def gating_features(
    k: int, own: np.ndarray, numbers: np.ndarray, turn: np.ndarray, features: np.ndarray,
    variances: np.ndarray,
) -> None:  # fmt: skip
    """What speaks for each candidate, for one tone."""
    k_tones = len(turn)
    d = 2 * k_tones + 1
    means, spread = (MEAN + 2 * k) * WIDTH, (MEAN + d + 2 * k * (d + 1)) * WIDTH
    response = (MEAN + d + d * d + k_tones + 2 * k) * WIDTH
    apart = (MEAN + d + d * d + 3 * k_tones + 2 * k) * WIDTH
    one, two, strong = 0.0, 0.0, 0.0
    for j in range(WIDTH):
        weight = own[WEIGHT * WIDTH + j]
        one += weight * own[means + j]
        two += weight * own[means + WIDTH + j]
        strong += weight * (own[response + j] ** 2 + own[response + WIDTH + j] ** 2)
    power = numbers[NOISE_VAR] + TINY
    for j in range(WIDTH):
        variance = (own[spread + j] + own[spread + (d + 1) * WIDTH + j]) * power
        x, y = own[means + j], own[means + WIDTH + j]
        variances[j] = variance
        features[j] = _log((x * x + y * y) / (variance + TINY))
        features[WIDTH + j] = _log(own[apart + j] / (own[apart + WIDTH + j] + TINY))
        features[2 * WIDTH + j] = 0.5 * math.asinh(30 * own[LIKELIHOOD_GAIN * WIDTH + j])
        x, y = x - one, y - two
        features[3 * WIDTH + j] = _log((x * x + y * y) / (variance + TINY))
    at = 4 * WIDTH
    features[at] = math.log(min(numbers[AGE], 1e5)) / 6
    features[at + 1] = 4 * numbers[REJECT_RATE]
    features[at + 2] = numbers[MISSING_RATE]
    features[at + 3] = numbers[AR_ORDER] / ORDER
    features[at + 4] = _log((one * one + two * two) * strong / power)
    features[at + 5] = turn[k]
    features[at + 6] = _log(numbers[AR_DC_GAIN] ** 2 / (strong + TINY))
    features[at + 7] = 1.0 if k_tones > 1 else 0.0
