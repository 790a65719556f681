"""A bank of Kalman filters of the same tones: 16 memories, in SIMD lanes.

Model of filter j, for K tones of nominal frequency omega_k and carrier phase theta_k:

    z[n] = sum_k Im(g_k Z_k exp(i theta_k)) + dc[n] + e[n],    e: AR noise, whitened by A(w)
    dc[n] = dc[n-1] + slope[n-1]

with state x = (Re Z_1, Im Z_1, ..., Re Z_K, Im Z_K, dc, slope). Whitened, with v white of variance
sigma^2, and with all covariances over sigma^2:

    predict      x <- F x,  P <- F P F^T + Q     F rotates each phasor by its frequency offset
    innovation   nu = z - z_past - H x,  S = H P H^T + R     R = 1, more where z_past is imputed
    update       K = P H^T / S,  x <- x + K nu,  P <- P - K (P H^T)^T

Q = 2 / memory^2 over the tone's response gives a filter its memory
(`extractors.pretrained.filter_table`).
See Bar-Shalom, Li and Kirubarajan (2001) for the filter and its innovation (chapter 5) and for a
bank of filters of different models (section 11.6).

- Gate: a sample whose innovation exceeds `GATE_SIGMA` deviations of the mixture is treated as
  missing, unless that is frequent, or such samples recur at one phase of a tone, as the crests of
  a pulse train do (a Rayleigh test, `impulse_rejection`).
- Carriers run at the nominal frequencies, or along a course that is given.
- A search finds a line near each nominal frequency (`kernels.kalman_bank.line_search`).
- Frequency: six filters follow it by a second-order phase-locked loop (Gardner 2005). The Kalman
  gain corrects the phase, its square the frequency; the phase error is Im(conj(Z) dZ) / |Z|^2.
- Restarts and weights: `kernels.kalman_bank.likelihood`.

References: Y. Bar-Shalom, X. R. Li, T. Kirubarajan, Estimation with Applications to Tracking and
Navigation, Wiley 2001; F. M. Gardner, Phaselock Techniques, Wiley 2005.

Axes: B streams, N steps, R gating intervals that end, K tones, M filters, D = 2 K + 2 states,
F features. A value of all filters is a vector of M lanes (`kernels.simd`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from tonesieve.kernels.buffer import buffer_size, split_buffer
from tonesieve.kernels.fastmath import JIT_OPTIONS
from tonesieve.kernels.kalman_bank.features import gating_features, update_spread
from tonesieve.kernels.kalman_bank.innovation_gate import gate_innovation
from tonesieve.kernels.kalman_bank.likelihood import (
    add_to_block,
    begin_block,
    posterior_weights,
    reset_diverged,
    update_likelihoods,
)
from tonesieve.kernels.kalman_bank.line_search import update_search
from tonesieve.kernels.kalman_bank.prediction import predict
from tonesieve.kernels.kalman_bank.state import (
    AGE,
    BORROWING,
    DC_OFFSET,
    GATING_INTERVAL,
    N_OBSERVED,
    ORDER,
    PEAK,
    TINY,
    BankModel,
    BankState,
    Scratch,
    scratch_shapes,
    unpack,
)
from tonesieve.kernels.kalman_bank.whitening import refit_if_due, update_ar_moments
from tonesieve.kernels.pll import PLL_GAIN_RATIO
from tonesieve.kernels.simd import (
    dot,
    horizontal_sum,
    load,
    maximum,
    minimum,
    splat,
    store,
)

# The DC level follows what is slower than the lowest tone by this factor; chosen, not tuned.
DC_CORNER_RATIO = 8.0
MAX_IMPUTED_VAR = 1e12  # guard: of a sample after a gap, over the noise variance


@njit(**JIT_OPTIONS)
def run_kalman_bank(
    samples: np.ndarray, course: np.ndarray, buffers: np.ndarray,
    parameters: tuple[np.ndarray, ...], outputs: tuple[np.ndarray, ...],
) -> None:  # fmt: skip
    """Filter samples (B, N), NaN in gaps, and update the states in ``buffers`` (B, S).

    ``course`` (B, N, K): offsets of the carriers from the nominal frequencies between each step and
    the one before, rad a step; (B, 0, K) for none. ``parameters`` are the fields of `BankModel`.
    ``outputs``: phasors (B, N, K, 2, M) after every step; features (B, R, K, F) and variances
    (B, R, K, M) at the ends of gating intervals, which are where the age is a multiple of
    `GATING_INTERVAL`.
    """
    model = BankModel(*parameters)
    phasors, features, variances = outputs
    k_tones = len(model.omega)
    shapes = scratch_shapes(k_tones)
    buffer = np.empty(buffer_size(shapes))
    scratch = Scratch(buffer, *split_buffer(buffer, shapes))
    dc_process_noise = (model.omega.min() / DC_CORNER_RATIO) ** 2
    for b in range(samples.shape[0]):
        _run_stream(
            samples[b], course[b], unpack(buffers[b], k_tones), model, scratch, dc_process_noise,
            phasors[b], features[b], variances[b],
        )  # fmt: skip


@njit(**BORROWING)
def _run_stream(
    samples: np.ndarray, course: np.ndarray, state: BankState, model: BankModel, scratch: Scratch,
    dc_process_noise: float, phasors: np.ndarray, features: np.ndarray, variances: np.ndarray,
) -> None:  # fmt: skip
    """Filter one stream."""
    k_tones, interval = len(model.omega), 0
    for k in range(k_tones):
        scratch.rotation[k, 0] = math.cos(model.omega[k])
        scratch.rotation[k, 1] = math.sin(model.omega[k])
    for n in range(len(samples)):
        if len(course):
            _follow_course(course[n], state, model, scratch.rotation)
        _step(samples[n], state, model, scratch, dc_process_noise, phasors[n])
        if state.scalars[AGE] % GATING_INTERVAL == 0:
            _end_block(state, model)
            for k in range(k_tones):
                gating_features(k, state, model, features[interval, k], variances[interval, k])
            interval += 1
        if not len(course):
            _advance_carrier(state.carrier, scratch.rotation)


@njit(**BORROWING)
def _end_block(state: BankState, model: BankModel) -> None:
    """Whatever is done once in a gating interval, but for the features."""
    update_likelihoods(state, model)
    update_search(state, model)
    refit_if_due(state, model)
    reset_diverged(state)
    update_spread(state, model.table)
    posterior_weights(state)
    begin_block(state)


@njit(**BORROWING)
def _follow_course(
    offsets: np.ndarray, state: BankState, model: BankModel, rotation: np.ndarray
) -> None:
    """Advance the carriers to the next step along a course, and the tones' gains with it."""
    for k in range(len(offsets)):
        omega = model.omega[k] + offsets[k]
        rotation[k, 0], rotation[k, 1] = math.cos(omega), math.sin(omega)
        if offsets[k] != state.course[k]:
            state.course[k] = offsets[k]
            size = math.exp(model.gain_slope[k, 0] * offsets[k])
            c = size * math.cos(model.gain_slope[k, 1] * offsets[k])
            s = size * math.sin(model.gain_slope[k, 1] * offsets[k])
            state.gains[k, 0] = model.gains[k, 0] * c - model.gains[k, 1] * s
            state.gains[k, 1] = model.gains[k, 0] * s + model.gains[k, 1] * c
    if state.scalars[AGE] > 0:
        _advance_carrier(state.carrier, rotation)


@njit(inline="always", **JIT_OPTIONS)
def _step(
    z: float, state: BankState, model: BankModel, scratch: Scratch, dc_process_noise: float,
    phasors: np.ndarray,
) -> None:  # fmt: skip
    """One sample through all filters; their phasors (K, 2, M) after it."""
    scalars, d = state.scalars, 2 * len(model.omega) + 2
    is_observed = not np.isnan(z)
    if is_observed and np.isnan(scalars[DC_OFFSET]):
        scalars[DC_OFFSET] = z
    # A constant start, as of a sensor not yet switched on, would fix the noise variance at 0.
    is_observed = is_observed and (scalars[N_OBSERVED] > 0 or z != scalars[DC_OFFSET])
    z -= scalars[DC_OFFSET]
    predicted = predict(state, model, scratch, dc_process_noise)
    weight = load(state.weight, 0)
    R = _sample_variance(state)
    S = _innovation_variance(state.P, scratch, R, d)
    predicted_mean = horizontal_sum(weight * predicted)
    z_predicted = _ar_predict(predicted_mean, state)
    innovation_mean = z - z_predicted
    S_mean = max(dot(load(state.weight, 0), S), R)
    is_observed, innovation_mean = gate_innovation(state, is_observed, innovation_mean, S_mean)
    if is_observed:
        scalars[PEAK] = max(scalars[PEAK], abs(z))
        innovation = predicted_mean + innovation_mean - predicted
        S_inv = 1.0 / maximum(S, R)
        _update_pll(state, model.max_offset[1], S_inv * innovation, scratch)
        _update(state.x, state.P, scratch.Ph, S_inv, innovation, d)
        add_to_block(state, scratch.contribution, innovation_mean, R)
    if not is_observed:  # guard: an imputed sample is no larger than any observed one
        z = min(max(z_predicted, -scalars[PEAK]), scalars[PEAK])
    residual = z - _mixture_estimate(state, phasors)
    if is_observed:
        update_ar_moments(state, residual, R, scratch.regressors)
    samples, residuals, imputed_var = (
        state.sample_history,
        state.residual_history,
        state.imputed_var,
    )
    for i in range(ORDER - 1, 0, -1):
        samples[i], residuals[i] = samples[i - 1], residuals[i - 1]
        imputed_var[i] = imputed_var[i - 1]
    samples[0], residuals[0], imputed_var[0] = z, residual, 0.0 if is_observed else R
    scalars[AGE] += 1


@njit(inline="always", **JIT_OPTIONS)
def _sample_variance(state: BankState) -> float:
    """R: 1, and what the imputed samples among the last add through the AR model."""
    R = 1.0
    for i in range(ORDER):
        R += state.ar[i + 1] * state.ar[i + 1] * state.imputed_var[i]
    return min(R, MAX_IMPUTED_VAR)


@njit(inline="always", **JIT_OPTIONS)
def _ar_predict(predicted_mean: float, state: BankState) -> float:
    """The next sample as the mixture and the AR model predict it."""
    z_predicted = predicted_mean
    for i in range(ORDER):
        z_predicted -= state.ar[i + 1] * state.sample_history[i]
    return z_predicted


@njit(inline="always", **JIT_OPTIONS)
def _innovation_variance(P: np.ndarray, scratch: Scratch, R: float, d: int) -> Any:
    """S = H P H^T + R of every filter; writes P H^T."""
    H, S = scratch.H, splat(R)
    for i in range(d):
        Ph = load(P, (i, 0)) * load(H, 0)
        for j in range(1, d):
            Ph = Ph + load(P, (i, j)) * load(H, j)
        S = S + Ph * load(H, i)
        store(scratch.Ph, i, Ph)
    return S


@njit(inline="always", **JIT_OPTIONS)
def _update_pll(
    state: BankState, max_offset: np.ndarray, scaled_innovation: Any, scratch: Scratch
) -> None:
    """Correct each filter's frequency by the angle through which the sample turns its phasor."""
    x, P, response = state.x, state.P, state.response
    for k in range(len(max_offset)):
        p, q = 2 * k, 2 * k + 1
        x_p, x_q = load(x, p), load(x, q)
        var = load(P, (p, p))
        var = var + load(P, (q, q))
        g_real, g_imaginary = load(response, (k, 0)), load(response, (k, 1))
        rate = minimum(0.25 * var * (g_real * g_real + g_imaginary * g_imaginary), 0.5)
        Ph_p, Ph_q = load(scratch.Ph, p), load(scratch.Ph, q)
        angle = (x_p * Ph_q - x_q * Ph_p) * scaled_innovation / (x_p * x_p + x_q * x_q + TINY)
        offset = (
            load(state.freq_offset, k) + PLL_GAIN_RATIO * rate * load(scratch.confidence, k) * angle
        )
        store(state.freq_offset, k, minimum(maximum(offset, -max_offset[k]), max_offset[k]))


@njit(inline="always", **JIT_OPTIONS)
def _update(
    x: np.ndarray, P: np.ndarray, Ph: np.ndarray, S_inv: Any, innovation: Any, d: int
) -> None:
    """The measurement update, K = P H^T / S, x <- x + K nu, P <- P - K (P H^T)^T."""
    for i in range(d):
        Ph_i = load(Ph, i)
        K_i = Ph_i * S_inv
        store(x, i, load(x, i) + K_i * innovation)
        for j in range(i):
            P_ij = load(P, (i, j)) - K_i * load(Ph, j)
            store(P, (i, j), P_ij)
            store(P, (j, i), P_ij)
        store(P, (i, i), maximum(load(P, (i, i)) - K_i * Ph_i, 1e-12))


@njit(inline="always", **JIT_OPTIONS)
def _mixture_estimate(state: BankState, phasors: np.ndarray) -> float:
    """The tones of the mixture in a sample; writes the phasors (K, 2, M) of all filters."""
    weight, estimate, gains = load(state.weight, 0), 0.0, state.gains
    for k in range(len(gains)):
        p, q = load(state.x, 2 * k), load(state.x, 2 * k + 1)
        store(phasors, (k, 0), p)
        store(phasors, (k, 1), q)
        c, s = state.carrier[k, 0], state.carrier[k, 1]
        estimate += horizontal_sum(weight * p) * (gains[k, 0] * s + gains[k, 1] * c)
        estimate += horizontal_sum(weight * q) * (gains[k, 0] * c - gains[k, 1] * s)
    return estimate


@njit(inline="always", **JIT_OPTIONS)
def _advance_carrier(carrier: np.ndarray, rotation: np.ndarray) -> None:
    """Rotate the carriers by omega, and keep their length at 1."""
    for k in range(len(carrier)):
        c = carrier[k, 0] * rotation[k, 0] - carrier[k, 1] * rotation[k, 1]
        s = carrier[k, 1] * rotation[k, 0] + carrier[k, 0] * rotation[k, 1]
        scale = 1.5 - 0.5 * (c * c + s * s)  # one Newton step towards 1 / length
        carrier[k, 0], carrier[k, 1] = c * scale, s * scale
