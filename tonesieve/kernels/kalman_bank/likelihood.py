"""Likelihoods of the filters: their weights, and which of them restart.

All is evaluated once in a block of `GATING_INTERVAL` steps, in the neighbourhood of the tones: what
counts is how well a filter predicts a block from its state before it. With v the whitened samples
without the other tones, theta the carrier, Z the filter's phasor before the block, turned to its
middle, and G its response,

    e = sum_n (v[n] - Im(G Z exp(i theta[n]))) exp(-i theta[n]) = W - (n G Z - conj(G Z) D) / 2i,
    W = sum v exp(-i theta),    D = sum exp(-2 i theta).

In noise of density sigma^2 at the tone, e is complex Gaussian of variance n sigma^2, and
l = |e|^2 / (n sigma^2) the negative log-likelihood but for a constant. One-step innovations would
not do: where the noise is not white, as below the edge of a low-pass, a short filter that follows
it predicts the next sample better.

- Weights: softmax of L_j <- (1 - B / `WEIGHT_MEMORY`) L_j - l_j, B steps a block, which forgets
  exponentially (Raftery, Karny and Ettler 2010).
- Restart: a CUSUM test (Page 1954), g_j <- max(g_j + l_j - l_{j-1}, 0), compares each filter with
  the next shorter one; above `CUSUM_THRESHOLD` it continues from the shorter one's state.
- The likelihood ratio of each tone of the mixture to no tone, averaged over two windows.

References: E. S. Page, Continuous inspection schemes, Biometrika 41 (1954) 100-115; A. E. Raftery,
M. Karny, P. Ettler, Online prediction under model uncertainty via dynamic model averaging,
Technometrics 52 (2010) 52-66.

Axes: K tones, M filters, D = 2 K + 2 states of a filter.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from tonesieve.kernels.fastmath import JIT_OPTIONS
from tonesieve.kernels.kalman_bank.state import (
    ALLOCATING,
    BLOCK_WEIGHT,
    BORROWING,
    DENSITY_RATIO,
    GATING_INTERVAL,
    HAS_SHORTER,
    LIKELIHOOD_WINDOW,
    MEMORY,
    N_OBSERVED,
    NOISE_VAR,
    PEAK,
    TINY,
    BankModel,
    BankState,
)
from tonesieve.kernels.simd import (
    WIDTH,
    any_above,
    dot,
    lane_shift,
    load,
    maximum,
    minimum,
    splat,
    store,
)

MAX_LOG_LIKELIHOOD = 50.0  # guard: of one block
CUSUM_THRESHOLD = 10.0  # chosen, not tuned: a likelihood ratio of exp(10)
WEIGHT_MEMORY = 100.0  # steps that the log-weights are summed over; chosen, not tuned
# Steps that the likelihood ratio of a tone to none is averaged over; chosen, not tuned.
SILENCE_WINDOWS = (50.0, 1000.0)
# Guard: a phasor this many times larger than the largest sample has diverged.
DIVERGENCE_RATIO = 1e6


@njit(inline="always", **JIT_OPTIONS)
def add_to_block(state: BankState, contribution: np.ndarray, innovation: float, R: float) -> None:
    """Add an observed step to the block's sums, weighted by the inverse of its variance R.

    ``contribution`` (K): what the mixture predicts of each tone, whitened.
    """
    weight = 1.0 / R
    for k in range(len(contribution)):
        v = weight * (innovation + contribution[k])
        c, s = state.carrier[k, 0], state.carrier[k, 1]
        state.block_sum[k, 0] += v * c
        state.block_sum[k, 1] -= v * s
        state.block_double[k, 0] += weight * (c * c - s * s)
        state.block_double[k, 1] -= weight * 2 * c * s
    state.scalars[BLOCK_WEIGHT] += weight


@njit(**BORROWING)
def begin_block(state: BankState) -> None:
    """Clear the sums, and keep the phasors that the next block is predicted from."""
    for k in range(len(state.carrier)):
        for part in range(2):
            state.block_sum[k, part], state.block_double[k, part] = 0.0, 0.0
            store(state.block_x, (k, part), load(state.x, 2 * k + part))
    state.scalars[BLOCK_WEIGHT] = 0.0


@njit(inline="always", **JIT_OPTIONS)
def _block_prediction(state: BankState, k: int, n: float) -> Any:
    """Real and imaginary part of (n G Z - conj(G Z) D) / 2i of every filter."""
    p, q = load(state.block_x, (k, 0)), load(state.block_x, (k, 1))
    angle = load(state.freq_offset, k) * (0.5 * (GATING_INTERVAL + 1))
    squared = angle * angle
    cosine = 1.0 - squared * (0.5 - squared * (1.0 / 24))
    sine = angle * (1.0 - squared * (1.0 / 6 - squared * (1.0 / 120)))
    p, q = p * cosine - q * sine, p * sine + q * cosine
    g_real, g_imaginary = load(state.response, (k, 0)), load(state.response, (k, 1))
    p, q = p * g_real - q * g_imaginary, p * g_imaginary + q * g_real
    c, s = state.block_double[k, 0], state.block_double[k, 1]
    # (a + i b) / 2i = b / 2 - i a / 2, with conj(G Z) D = (p c + q s) + i (p s - q c).
    real, imaginary = p * n - (p * c + q * s), q * n - (p * s - q * c)
    return 0.5 * imaginary, -0.5 * real


@njit(**BORROWING)
def update_likelihoods(state: BankState, model: BankModel) -> None:
    """At a block's end: log-likelihoods, CUSUM, restarts, and the ratio of each tone to none."""
    table, scalars, n = model.table, state.scalars, state.scalars[BLOCK_WEIGHT]
    if n < TINY:
        return
    precision = 1.0 / (n * scalars[NOISE_VAR] * scalars[DENSITY_RATIO] + TINY)
    age = load(state.filter_age, 0) + float(GATING_INTERVAL)
    store(state.filter_age, 0, age)
    weight = load(state.weight, 0)
    loss, loss_mean = splat(0.0), 0.0
    for k in range(len(model.omega)):
        real, imaginary = _block_prediction(state, k, n)
        x, y = state.block_sum[k, 0], state.block_sum[k, 1]
        real_mean, imaginary_mean = x - dot(weight, real), y - dot(weight, imaginary)
        real, imaginary = x - real, y - imaginary
        loss = loss + (real * real + imaginary * imaginary) * precision
        of_mean = (real_mean * real_mean + imaginary_mean * imaginary_mean) * precision
        loss_mean += of_mean
        gain = (x * x + y * y) * precision - of_mean
        gain = min(max(gain, -MAX_LOG_LIKELIHOOD), MAX_LOG_LIKELIHOOD)
        for i in range(2):
            window = (
                min(SILENCE_WINDOWS[i], scalars[N_OBSERVED] + GATING_INTERVAL) / GATING_INTERVAL
            )
            state.silence_gain[k, i] += (gain - state.silence_gain[k, i]) / window
    ratio = minimum((loss - lane_shift(loss)) * load(table, HAS_SHORTER), MAX_LOG_LIKELIHOOD)
    store(state.cusum, 0, maximum(load(state.cusum, 0) + ratio, 0.0))
    loss, loss_mean = minimum(loss, MAX_LOG_LIKELIHOOD), min(loss_mean, MAX_LOG_LIKELIHOOD)
    kept = 1.0 - GATING_INTERVAL / WEIGHT_MEMORY
    store(state.log_weight, 0, load(state.log_weight, 0) * kept - loss)
    window = minimum(load(table, LIKELIHOOD_WINDOW), age + 10.0)
    gain_mean = load(state.likelihood_gain, 0)
    change = (loss - loss_mean - gain_mean) * float(GATING_INTERVAL)
    store(state.likelihood_gain, 0, gain_mean + change / window)
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
def reset_diverged(state: BankState) -> None:
    """Diverged filters continue from the shortest one; a diverged shortest one begins at 0.

    Of many tones at almost one frequency, a loop that follows one may drive another away.
    """
    x, gains, limit = state.x, state.gains, DIVERGENCE_RATIO * state.scalars[PEAK]
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
