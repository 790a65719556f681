"""Likelihoods of the filters: their weights, and which of them restart.

For filter j with innovation nu_j, the loss l_j = nu_j^2 / (2 sigma^2 R) is its negative
log-likelihood but for a constant.

- Weights: softmax of L_j <- (1 - 1 / `WEIGHT_MEMORY`) L_j - l_j, which forgets exponentially
  (Raftery, Karny and Ettler 2010).
- Restart: a CUSUM test (Page 1954), g_j <- max(g_j + l_j - l_{j-1}, 0), compares each filter with
  the next shorter one; above `CUSUM_THRESHOLD` it continues from the shorter one's state.

References: E. S. Page, Continuous inspection schemes, Biometrika 41 (1954) 100-115; A. E. Raftery,
M. Karny, P. Ettler, Online prediction under model uncertainty via dynamic model averaging,
Technometrics 52 (2010) 52-66.

Axes: K tones, M filters, D = 2 K + 1 states of a filter.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from tonesieve.kernels.fastmath import JIT_OPTIONS
from tonesieve.kernels.kalman_bank.state import (
    ALLOCATING,
    HAS_SHORTER,
    LIKELIHOOD_WINDOW,
    MEMORY,
    NOISE_VAR,
    PEAK,
    TINY,
    BankState,
)
from tonesieve.kernels.simd import (
    WIDTH,
    any_above,
    lane_shift,
    load,
    maximum,
    minimum,
    store,
)

MAX_LOG_LIKELIHOOD = 50.0  # guard: of one sample
CUSUM_THRESHOLD = 10.0  # chosen, not tuned: a likelihood ratio of exp(10)
WEIGHT_MEMORY = 100.0  # samples that the log-weights are summed over; chosen, not tuned
# Guard: a phasor this many times larger than the largest sample has diverged.
DIVERGENCE_RATIO = 1e6


@njit(inline="always", **JIT_OPTIONS)
def update_likelihoods(
    state: BankState, table: np.ndarray, innovation: Any, innovation_mean: float, R: float
) -> None:
    """Each filter's log-likelihoods and CUSUM; restarts those whose CUSUM crosses its threshold."""
    age = load(state.filter_age, 0) + 1.0
    store(state.filter_age, 0, age)
    precision = 1.0 / (2 * state.scalars[NOISE_VAR] * R + TINY)
    loss = innovation * innovation * precision  # negative log-likelihood but for a constant
    ratio = minimum((loss - lane_shift(loss)) * load(table, HAS_SHORTER), MAX_LOG_LIKELIHOOD)
    store(state.cusum, 0, maximum(load(state.cusum, 0) + ratio, 0.0))
    loss = minimum(loss, MAX_LOG_LIKELIHOOD)
    store(state.log_weight, 0, load(state.log_weight, 0) * (1 - 1 / WEIGHT_MEMORY) - loss)
    window = minimum(load(table, LIKELIHOOD_WINDOW), age + 10.0)
    gain = load(state.likelihood_gain, 0)
    loss_mean = min(innovation_mean * innovation_mean * precision, MAX_LOG_LIKELIHOOD)
    store(state.likelihood_gain, 0, gain + (loss - loss_mean - gain) / window)
    if any_above(load(state.cusum, 0), CUSUM_THRESHOLD):
        _restart_from_shorter(state, table)


@njit(**JIT_OPTIONS)
def _copy_filter(state: BankState, j: int, source: int) -> None:
    """Filter j continues from the state of another one."""
    state.filter_age[j] = state.filter_age[source]
    for rows in (
        state.x, state.P.reshape(-1, WIDTH), state.freq_offset,
        state.response.reshape(-1, WIDTH), state.spread.reshape(-1, WIDTH),
    ):  # fmt: skip
        for row in range(len(rows)):
            rows[row, j] = rows[row, source]
    state.cusum[j] = 0.0


@njit(**ALLOCATING)
def _restart_from_shorter(state: BankState, table: np.ndarray) -> None:
    """Filters that predict worse than the next shorter one continue from its state."""
    for j in range(1, WIDTH):
        if state.cusum[j] > CUSUM_THRESHOLD:
            _copy_filter(state, j, j - 1)
            state.filter_age[j] = min(state.filter_age[j - 1], table[MEMORY, j - 1])


@njit(**ALLOCATING)
def reset_diverged(state: BankState, gains: np.ndarray) -> None:
    """Diverged filters continue from the shortest one; a diverged shortest one begins at 0.

    Of many tones at almost one frequency, a loop that follows one may drive another away.
    """
    x, limit = state.x, DIVERGENCE_RATIO * state.scalars[PEAK]
    for j in range(WIDTH):
        is_sane = True
        for k in range(len(gains)):
            p, q = x[2 * k, j], x[2 * k + 1, j]
            power = (p * p + q * q) * (gains[k, 0] ** 2 + gains[k, 1] ** 2)
            is_sane = is_sane and power <= limit * limit
        if not is_sane:
            _copy_filter(state, j, 0)
            if j == 0:
                x[:, 0] = 0.0


@njit(**ALLOCATING)
def posterior_weights(state: BankState) -> None:
    """Normalise the filters' log-weights: a softmax, bounded below."""
    log_weight, weight = state.log_weight, state.weight
    largest, total = log_weight.max(), 0.0
    for j in range(WIDTH):
        weight[j] = math.exp(max(log_weight[j] - largest, -50.0))
        total += weight[j]
    for j in range(WIDTH):
        weight[j] /= total
