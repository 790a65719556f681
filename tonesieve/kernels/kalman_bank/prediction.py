"""Time update of the bank of Kalman filters: phasors, level and slope, and their covariance.

The equations are those of `kernels.kalman_bank.filter`. Axes: K tones, M filters, D states.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from tonesieve.kernels.fastmath import JIT_OPTIONS
from tonesieve.kernels.kalman_bank.state import (
    AR_DC_GAIN,
    AR_SLOPE_GAIN,
    NOISE_VAR,
    PRIOR_VAR_TONE,
    PROCESS_NOISE,
    TINY,
    TRACKS_FREQUENCY,
    BankModel,
    BankState,
    Scratch,
)
from tonesieve.kernels.pll import PLL_PROCESS_NOISE, UNINFORMED_RATIO
from tonesieve.kernels.simd import horizontal_sum, load, splat, store

# Prior deviation of a frequency offset: this part of the largest one; chosen, not tuned.
OFFSET_PRIOR_RATIO = 8.0
# Process noise of the level's slope, over the square of the level's; chosen, not tuned: both then
# have the same corner.
SLOPE_RATIO = 0.25


@njit(inline="always", **JIT_OPTIONS)
def predict(
    state: BankState, model: BankModel, scratch: Scratch, dc_process_noise: float
) -> Any:  # fmt: skip
    """The time update, x <- F x and P <- P + Q; returns H x and writes H and the PLL's gain."""
    x, P, scalars, H = state.x, state.P, state.scalars, scratch.H
    d = 2 * len(model.omega) + 2
    age, weight = load(state.filter_age, 0), load(state.weight, 0)
    predicted = _predict_level(x, P, H, scalars, dc_process_noise, d)
    for k in range(len(model.omega)):
        p, q = 2 * k, 2 * k + 1
        c, s = state.carrier[k, 0], state.carrier[k, 1]
        g_real, g_imaginary = load(state.response, (k, 0)), load(state.response, (k, 1))
        H_p, H_q = g_real * s + g_imaginary * c, g_real * c - g_imaginary * s
        store(H, p, H_p)
        store(H, q, H_q)
        response_power = g_real * g_real + g_imaginary * g_imaginary + TINY
        # Sine and cosine of the frequency offset, by their series.
        offset = load(state.freq_offset, k)
        squared = offset * offset
        cosine = 1.0 - squared * (0.5 - squared * (1.0 / 24))
        sine = offset * (1.0 - squared * (1.0 / 6 - squared * (1.0 / 120)))
        old_p, old_q = load(x, p), load(x, q)
        x_p, x_q = old_p * cosine - old_q * sine, old_p * sine + old_q * cosine
        store(x, p, x_p)
        store(x, q, x_q)
        tone = H_p * x_p + H_q * x_q
        scratch.contribution[k] = horizontal_sum(weight * tone)
        predicted = predicted + tone
        # Process noise, and more of it while a frequency offset is being found.
        var = load(P, (p, p)) + load(P, (q, q))
        amplitude_power = x_p * x_p + x_q * x_q
        uncertainty = (
            4.0
            * var
            * (
                scalars[NOISE_VAR]
                + UNINFORMED_RATIO / PRIOR_VAR_TONE * response_power * amplitude_power
            )
            + TINY
        )
        confidence = amplitude_power / (amplitude_power + uncertainty)
        prior_sigma = model.max_offset[0, k] / OFFSET_PRIOR_RATIO
        offset_var = prior_sigma * prior_sigma / (1.0 + prior_sigma * prior_sigma * age * age)
        confidence = confidence * confidence * load(model.table, TRACKS_FREQUENCY)
        Q = (
            load(model.table, PROCESS_NOISE) + confidence * (PLL_PROCESS_NOISE * offset_var)
        ) / response_power
        store(P, (p, p), load(P, (p, p)) + Q)
        store(P, (q, q), load(P, (q, q)) + Q)
        store(scratch.confidence, k, confidence)
    return predicted


@njit(inline="always", **JIT_OPTIONS)
def _predict_level(
    x: np.ndarray, P: np.ndarray, H: np.ndarray, scalars: np.ndarray, process_noise: float, d: int
) -> Any:
    """The time update of level and slope; returns what they contribute to H x."""
    i, j = d - 2, d - 1
    store(H, i, splat(scalars[AR_DC_GAIN]))
    store(H, j, splat(scalars[AR_SLOPE_GAIN]))
    store(x, i, load(x, i) + load(x, j))
    for a in range(d - 2):
        P_ia = load(P, (i, a)) + load(P, (j, a))
        store(P, (i, a), P_ia)
        store(P, (a, i), P_ia)
    P_ij, P_jj = load(P, (i, j)), load(P, (j, j))
    store(P, (i, i), load(P, (i, i)) + 2.0 * P_ij + P_jj + process_noise)
    store(P, (i, j), P_ij + P_jj)
    store(P, (j, i), P_ij + P_jj)
    store(P, (j, j), P_jj + process_noise * process_noise * SLOPE_RATIO)
    return load(x, i) * load(H, i) + load(x, j) * load(H, j)
