"""Features of the gating network: how each filter of the bank has done lately.

Per tone and filter j: the power of its phasor over its variance; the squared distance to the next
shorter filter over what their covariances predict; its log-likelihood below the mixture's; its
squared distance from the mixture over its variance. Per tone: age, rejected and missing fractions,
AR order, SNR of the mixture, frequency, the DC gain of the whitening filter, whether there are
several tones, the log-likelihood ratio of the tone to none over two windows, how much the rejected
samples recur at one phase, the density of the noise at the tone over its variance, the statistic of
the line search and the offset that it found, the samples that the noise model rests on. All are
ratios or their logarithms, so that neither unit nor phase matters.

Axes: K tones, M filters, F features, D = 2 K + 2 states of a filter.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from tonesieve.kernels.fastmath import JIT_OPTIONS
from tonesieve.kernels.kalman_bank.impulse_rejection import coherence
from tonesieve.kernels.kalman_bank.state import (
    AGE,
    AR_DC_GAIN,
    AR_ORDER,
    BORROWING,
    DENSITY_RATIO,
    GATING_INTERVAL,
    MISSING_RATE,
    N_OBSERVED,
    NOISE_VAR,
    ORDER,
    REJECT_ENERGY,
    REJECT_RATE,
    SPREAD_WINDOW,
    TINY,
    BankModel,
    BankState,
)
from tonesieve.kernels.simd import WIDTH, lane_shift, load, maximum, minimum, store

N_SHARED = 15  # derived: features that belong to no filter, written last in `gating_features`
# The factors and bounds of the features (0.25, 0.5, 30, 6, 4, 1e-7, ...) bring them to the order of
# 1 for the network; chosen, not tuned, and part of what the weights were trained on.


def n_features() -> int:
    """Features of a tone: four of every filter, and the shared ones."""
    return 4 * WIDTH + N_SHARED


@njit(**BORROWING)
def update_spread(state: BankState, table: np.ndarray) -> None:
    """At a block's end, average the squared distance of neighbouring filters, and the expected one.

    Of two filters on the same data, var(x_long - x_short) = |P_short - P_long| (Hausman 1978).
    """
    x, P = state.x, state.P
    window = minimum(load(table, SPREAD_WINDOW), state.scalars[AGE] + 2.0)
    alpha = float(GATING_INTERVAL) / maximum(window, float(GATING_INTERVAL))
    for k in range(len(state.spread)):
        p, q = load(x, 2 * k), load(x, 2 * k + 1)
        p, q = p - lane_shift(p), q - lane_shift(q)
        mean = load(state.spread, (k, 0))
        store(state.spread, (k, 0), mean + alpha * (p * p + q * q - mean))
        var = load(P, (2 * k, 2 * k))
        var = var + load(P, (2 * k + 1, 2 * k + 1))
        shorter_var = lane_shift(var)
        expected = maximum(maximum(shorter_var - var, var - shorter_var), 1e-3 * shorter_var)
        mean = load(state.spread, (k, 1))
        store(state.spread, (k, 1), mean + alpha * (expected * state.scalars[NOISE_VAR] - mean))


@njit(inline="always", **JIT_OPTIONS)
def _log(ratio: float) -> float:
    """A quarter of the logarithm, bounded."""
    return 0.25 * math.log(min(max(ratio, 1e-7), 1e7))


@njit(**JIT_OPTIONS)
def gating_features(
    k: int, state: BankState, model: BankModel, features: np.ndarray, variances: np.ndarray
) -> None:
    """Features (F) of tone ``k``, and the variances (M) of its phasors."""
    scalars = state.scalars
    P, weight = state.P, state.weight
    p, q = 2 * k, 2 * k + 1
    mean_p, mean_q, response_power = 0.0, 0.0, 0.0
    for j in range(len(weight)):
        gain_power = state.response[k, 0, j] ** 2 + state.response[k, 1, j] ** 2
        mean_p += weight[j] * state.x[p, j]
        mean_q += weight[j] * state.x[q, j]
        response_power += weight[j] * gain_power
    # In the unit of the noise at the tones.
    noise_var = scalars[NOISE_VAR] * scalars[DENSITY_RATIO] + TINY
    for j in range(WIDTH):
        variance = (P[p, p, j] + P[q, q, j]) * noise_var
        x, y = state.x[p, j], state.x[q, j]
        variances[j] = variance
        features[j] = _log((x * x + y * y) / (variance + TINY))
        features[WIDTH + j] = _log(state.spread[k, 0, j] / (state.spread[k, 1, j] + TINY))
        features[2 * WIDTH + j] = 0.5 * math.asinh(30 * state.likelihood_gain[j])
        x, y = x - mean_p, y - mean_q
        features[3 * WIDTH + j] = _log((x * x + y * y) / (variance + TINY))
    shared = features[4 * WIDTH :]
    shared[0] = math.log(min(scalars[AGE], 1e5)) / 6
    shared[1] = 4 * scalars[REJECT_RATE]
    shared[2] = scalars[MISSING_RATE]
    shared[3] = scalars[AR_ORDER] / ORDER
    shared[4] = _log((mean_p * mean_p + mean_q * mean_q) * response_power / noise_var)
    shared[5] = model.omega[k]
    shared[6] = _log(scalars[AR_DC_GAIN] ** 2 / (response_power + TINY))
    shared[7] = 1.0 if len(model.omega) > 1 else 0.0
    shared[8] = 0.5 * math.asinh(30 * state.silence_gain[k, 0])
    shared[9] = 0.5 * math.asinh(30 * state.silence_gain[k, 1])
    shared[10] = 0.2 * math.sqrt(coherence(0, state.coherence[k]) / (scalars[REJECT_ENERGY] + TINY))
    shared[11] = 0.5 * math.log(scalars[DENSITY_RATIO])
    shared[12] = 0.3 * math.log1p(state.found[k, 1])
    shared[14] = math.log(scalars[N_OBSERVED] + 1.0) / 6
    shared[13] = state.found[k, 0] / (model.max_offset[0, k] + TINY)
