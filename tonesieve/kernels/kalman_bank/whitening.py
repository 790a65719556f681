"""Recursive AR prewhitening of what the tones leave, with order selection.

Residual e[n] = z[n] - tones, modelled as an autoregression of order q with a constant and the tones
as further regressors, so that a steady tone is not taken for noise:

    e[n] = c + sum_k (a_k sin + b_k cos) - sum_{i=1..q} ar_i e[n-i] + v[n],    var v = sigma^2

This is the covariance method of linear prediction (Makhoul 1975) with exponential forgetting:
the second moments R of the vector (1, tones, e[n-1], ..., e[n-ORDER], e[n]) are averaged, and
R = L L^T is factored. The last row of L holds what each regressor explains beside those before it,
so all orders come from one factorisation: sigma_q^2 = L[-1, -1]^2 + sum_{i > q} L[-1, i]^2. The
order minimises n log sigma_q^2 + `ORDER_PENALTY` q, as Akaike's criterion (1974) with another
penalty.

Only the noise about the tones needs to be whitened. White noise of `LOADING` times the noise's
density at the tones is therefore added to the moments: where the noise is weaker than that, as
above the edge of a low-pass, the filter does not amplify what is left of it. The innovations then
have less power than the noise at the tones; `DENSITY_RATIO` is the ratio, by which covariances are
in the unit of the noise at the tones.

The filters of the bank see samples through the whitening filter A(w) = sum ar_i exp(-i w n): a tone
of gain g appears with `response` g A(omega). After a new fit their P is scaled such that each
keeps the number of samples that it is worth.

References: J. Makhoul, Linear prediction: a tutorial review, Proc. IEEE 63 (1975) 561-580;
H. Akaike, A new look at the statistical model identification, IEEE Trans. Automatic Control 19
(1974) 716-723.

Axes: K tones, M filters, D = 2 K + 2 states of a filter, V = 2 K + 1 + `ORDER` + 1.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from tonesieve.kernels.fastmath import JIT_OPTIONS
from tonesieve.kernels.kalman_bank.state import (
    ALLOCATING,
    AR_DC_GAIN,
    AR_ORDER,
    AR_SLOPE_GAIN,
    BORROWING,
    DENSITY_RATIO,
    MISSING_RATE,
    N_OBSERVED,
    NEXT_AR_FIT,
    NOISE_VAR,
    ORDER,
    PRIOR_VAR_DC,
    PRIOR_VAR_TONE,
    TINY,
    BankModel,
    BankState,
    tone_response,
)
from tonesieve.kernels.linalg import cholesky_row
from tonesieve.kernels.simd import WIDTH

NOISE_MEMORY = 2000.0  # samples that the moments are averaged over; chosen, not tuned
# What each coefficient must add to 2 log-likelihood; chosen, not tuned: twice Akaike's 2.
ORDER_PENALTY = 4.0
# White noise that is added to the moments, over the noise's density at the tones. Chosen, not
# tuned: a tenth costs at most 0.4 dB of what whitening gains.
LOADING = 0.1
# Guard: of the residual's power, at least this much is left unexplained.
FLOOR = 1e-11
# Guard: above this missing rate most samples are imputed, and the noise is not learned from them.
MAX_MISSING = 0.45
# Guards: least power of the innovations and at the tones, of the loaded model's, and the largest
# ratio of both.
MIN_POWER, MAX_DENSITY_RATIO = 0.01, 100.0
# Guard: no variance is scaled above this many times its prior.
MAX_INFLATION = 100.0


@njit(**JIT_OPTIONS)
def update_ar_moments(
    state: BankState, residual: float, R: float, regressors: np.ndarray
) -> None:  # fmt: skip
    """Average a residual of variance R into the moments.

    ``regressors`` (V) is scratch.
    """
    scalars, moments = state.scalars, state.ar_moments
    d = len(state.x) - 1  # regressors before the past residuals: 1 and the tones
    v = len(regressors)
    # Early residuals contain errors of the tones; they are forgotten faster.
    alpha = max(min(2.0 / (scalars[N_OBSERVED] + 1.0), 1.0), 1.0 / NOISE_MEMORY)
    sigma = math.sqrt(scalars[NOISE_VAR] * R + TINY)
    regressors[0], regressors[v - 1] = 1.0, residual
    for k in range(len(state.carrier)):
        regressors[1 + 2 * k], regressors[2 + 2 * k] = state.carrier[k, 1], state.carrier[k, 0]
    for i in range(ORDER):
        regressors[d + i] = state.residual_history[i]
    for i in range(v):
        regressors[i] /= sigma
    for i in range(v):
        for j in range(i + 1):
            moments[i, j] += alpha * (regressors[i] * regressors[j] - moments[i, j])


@njit(**BORROWING)
def refit_if_due(state: BankState, model: BankModel) -> None:
    """Fit the AR model anew, at the end of a block, if enough samples have come."""
    scalars = state.scalars
    if scalars[N_OBSERVED] >= scalars[NEXT_AR_FIT] and scalars[MISSING_RATE] < MAX_MISSING:
        scalars[NEXT_AR_FIT] = scalars[N_OBSERVED] + max(4.0, min(64.0, scalars[N_OBSERVED] / 4))
        _refit_and_rescale(state, model)


@njit(**JIT_OPTIONS)
def _tone_response(state: BankState, model: BankModel) -> None:
    """The complex gain of each filter's tones in the whitened samples: g A(omega + offset)."""
    ar, response = state.ar, state.response
    for k in range(len(model.omega)):
        for j in range(WIDTH):
            omega = model.omega[k] + state.course[k] + state.freq_offset[k, j]
            response[k, 0, j], response[k, 1, j] = tone_response(
                ar, omega, state.gains[k, 0], state.gains[k, 1]
            )


@njit(**JIT_OPTIONS)
def _least_density(state: BankState) -> float:
    """The AR model's least density at a tone over the variance of its innovations: 1 / |A|^2."""
    least = np.inf
    for k in range(len(state.gains)):
        for j in range(WIDTH):
            gain = state.gains[k, 0] ** 2 + state.gains[k, 1] ** 2
            response = state.response[k, 0, j] ** 2 + state.response[k, 1, j] ** 2
            least = min(least, gain / (response + TINY))
    return least


@njit(**ALLOCATING)
def _fit_ar(state: BankState) -> tuple[float, float]:
    """Fit the AR model of the best order; returns its noise power and the load over `NOISE_VAR`."""
    scalars, ar, moments = state.scalars, state.ar, state.ar_moments
    d = len(state.x) - 1
    v = d + ORDER + 1
    load = LOADING * scalars[DENSITY_RATIO] * _least_density(state)
    load = min(load, moments[v - 1, v - 1])  # an early model may be far off
    L = np.zeros((v, v))
    n_eff = min(0.75 * scalars[N_OBSERVED], NOISE_MEMORY)
    for i in range(v):
        pivot = cholesky_row(moments, L, i, load if i >= d else 0.0)
        L[i, i] = math.sqrt(max(pivot, FLOOR * moments[i, i]) + TINY)
    # The variance left with the constant and the tones, then with 1, 2, ... past residuals.
    unexplained = moments[v - 1, v - 1] + load
    for k in range(d):
        unexplained -= L[v - 1, k] ** 2
    floor = FLOOR * moments[v - 1, v - 1] + TINY
    unexplained = max(unexplained, floor)
    max_order = min(ORDER, int(n_eff / 6))
    white_power = unexplained
    best, order, power = n_eff * math.log(unexplained), 0, unexplained
    for q in range(1, max_order + 1):
        unexplained = max(unexplained - L[v - 1, d + q - 1] ** 2, floor)
        criterion = n_eff * math.log(unexplained) + ORDER_PENALTY * q
        if criterion < best:
            best, order, power = criterion, q, unexplained
    scalars[AR_ORDER] = order
    ar[:] = 0
    ar[0] = 1.0
    n = d + order
    # Back substitution, of the past residuals alone.
    for i in range(n - 1, d - 1, -1):
        rest = L[v - 1, i]
        for k in range(i + 1, n):
            rest += L[k, i] * ar[k - d + 1]
        ar[i - d + 1] = -rest / L[i, i]
    # Guard: a minimum-phase polynomial has coefficients of sum below 2^order; larger ones are
    # rounding errors.
    if not np.abs(ar).sum() <= 8.0 * 2.0**order:
        ar[1:] = 0
        scalars[AR_ORDER], power, n = 0.0, white_power, d
    return power * n_eff / max(n_eff - n, 1.0), load


@njit(**ALLOCATING)
def _refit_and_rescale(state: BankState, model: BankModel) -> None:
    """Fit the AR model anew, and scale each filter's P to the new response.

    The number of samples that a filter is worth stays. Where the noise proves much weaker than
    assumed, the variance in the signal's unit stays.
    """
    scalars, P, response = state.scalars, state.P, state.response
    k_tones = len(model.omega)
    d = len(state.x)
    response_power = np.empty((k_tones, WIDTH))
    for k in range(k_tones):
        for j in range(WIDTH):
            response_power[k, j] = response[k, 0, j] ** 2 + response[k, 1, j] ** 2
    old_level_gain = math.hypot(scalars[AR_DC_GAIN], scalars[AR_SLOPE_GAIN])
    loaded_power, load = _fit_ar(state)
    _tone_response(state, model)
    scalars[AR_DC_GAIN], scalars[AR_SLOPE_GAIN], squares = 0.0, 0.0, 0.0
    for i in range(ORDER + 1):
        scalars[AR_DC_GAIN] += state.ar[i]
        scalars[AR_SLOPE_GAIN] -= i * state.ar[i]
        squares += state.ar[i] * state.ar[i]
    # What the load adds is not in the innovations.
    power = max(loaded_power - load * squares, MIN_POWER * loaded_power)
    density = _least_density(state)
    at_tones = max(loaded_power - load / density, MIN_POWER * loaded_power)
    scalars[DENSITY_RATIO] = min(max(at_tones / power, 1 / MAX_DENSITY_RATIO), MAX_DENSITY_RATIO)
    power *= scalars[NOISE_VAR]
    fall = scalars[NOISE_VAR] / max(power, TINY)
    min_scale = math.sqrt(fall) if fall > 1.5 else 0.0
    if fall > 1.5:
        scalars[NOISE_VAR] = power
    level_gain = math.hypot(scalars[AR_DC_GAIN], scalars[AR_SLOPE_GAIN])
    level_scale = min(max(old_level_gain / max(level_gain, 1e-9), 1e-3), 1e3)
    slope_var = PRIOR_VAR_DC * model.omega.min() ** 2
    for j in range(WIDTH):
        for i in range(d):
            scale, max_var = level_scale, MAX_INFLATION * PRIOR_VAR_DC
            if i == d - 1:
                max_var = MAX_INFLATION * slope_var
            elif i < d - 2:
                k = i // 2
                new_power = response[k, 0, j] ** 2 + response[k, 1, j] ** 2 + TINY
                scale = math.sqrt(response_power[k, j] / new_power)
                max_var = MAX_INFLATION * PRIOR_VAR_TONE / new_power
            scale = min(max(scale, min_scale), math.sqrt(max_var / (P[i, i, j] + TINY)))
            for a in range(d):
                P[i, a, j] *= scale
                P[a, i, j] *= scale
