"""What is left of the samples is made white: an autoregression of whatever the tones leave.

Fitted by least squares to the residuals, beside a constant and the tones themselves, so that a
steady tone is no noise; its order is what pays. Axes: K tones, M candidates, D = 2 K + 1
coefficients, V = D + `ORDER` + 1.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from tonesieve.kernels.fastmath import JIT_OPTIONS
from tonesieve.kernels.kalman_bank.state import (
    AR_DC_GAIN,
    AR_ORDER,
    MEAN,
    MISSING_RATE,
    N_OBSERVED,
    NEXT_AR_FIT,
    NOISE_VAR,
    ORDER,
    PRIOR_VAR_DC,
    PRIOR_VAR_TONE,
    TINY,
)
from tonesieve.kernels.simd import WIDTH

# Memory of the fit; what each coefficient must explain (a log-likelihood, x 2).
NOISE_MEMORY, ORDER_PENALTY = 2000.0, 4.0
# No noise is whiter than this: of its power, so much is left unexplained.
FLOOR = 1e-11
MAX_MISSING = 0.45
# No variance is more than so many times what was expected at first.
MAX_INFLATION = 100.0


@njit(**JIT_OPTIONS)
def update_ar_moments(
    own: np.ndarray, numbers: np.ndarray, left: np.ndarray, model: np.ndarray,
    carrier: np.ndarray, noise: np.ndarray, rest: float, unsure: float, turn: np.ndarray,
    gains: np.ndarray, vector: np.ndarray,
) -> None:  # fmt: skip
    """Take a residual into the products (V, V), and fit them now and then; ``vector`` is room."""
    d = 2 * len(turn) + 1
    v = d + ORDER + 1
    # What was heard while little was known counts less and less.
    fade = max(min(2.0 / (numbers[N_OBSERVED] + 1.0), 1.0), 1.0 / NOISE_MEMORY)
    loud = math.sqrt(numbers[NOISE_VAR] * unsure + TINY)
    vector[0], vector[v - 1] = 1.0, rest
    for k in range(len(turn)):
        vector[1 + 2 * k], vector[2 + 2 * k] = carrier[k, 1], carrier[k, 0]
    for i in range(ORDER):
        vector[d + i] = left[i]
    for i in range(v):
        vector[i] /= loud
    for i in range(v):
        for a in range(i + 1):
            noise[i, a] += fade * (vector[i] * vector[a] - noise[i, a])
    # Of samples that are mostly foretold, no noise can be learned.
    if numbers[N_OBSERVED] >= numbers[NEXT_AR_FIT] and numbers[MISSING_RATE] < MAX_MISSING:
        numbers[NEXT_AR_FIT] = numbers[N_OBSERVED] + max(4.0, min(64.0, numbers[N_OBSERVED] / 4))
        _refit_and_rescale(own, numbers, model, noise, turn, gains)


@njit(**JIT_OPTIONS)
def _tone_response(own: np.ndarray, model: np.ndarray, turn: np.ndarray, gains: np.ndarray) -> None:
    """How the whitened samples answer each candidate's tones."""
    k_tones = len(turn)
    d = 2 * k_tones + 1
    offset = MEAN + d + d * d
    response = offset + k_tones
    for k in range(k_tones):
        for j in range(WIDTH):
            angle = turn[k] + own[(offset + k) * WIDTH + j]
            c, s = math.cos(angle), math.sin(angle)
            x, y = 1.0, 0.0
            real, imaginary = 0.0, 0.0
            for i in range(ORDER + 1):
                real += model[i] * x
                imaginary += model[i] * y
                x, y = x * c + y * s, y * c - x * s
            one, two = gains[k, 0], gains[k, 1]
            own[(response + 2 * k) * WIDTH + j] = one * real - two * imaginary
            own[(response + 2 * k + 1) * WIDTH + j] = one * imaginary + two * real


@njit(**JIT_OPTIONS)
def _fit_ar(numbers: np.ndarray, model: np.ndarray, noise: np.ndarray, d: int) -> float:
    """The autoregression that the residuals ask for; answers its noise power."""
    v = d + ORDER + 1
    root = np.zeros((v, v))
    n_heard = min(0.75 * numbers[N_OBSERVED], NOISE_MEMORY)
    for i in range(v):
        for j in range(i + 1):
            rest = noise[i, j]
            for k in range(j):
                rest -= root[i, k] * root[j, k]
            if i == j:
                root[i, i] = math.sqrt(max(rest, FLOOR * noise[i, i]) + TINY)
            else:
                root[i, j] = rest / root[j, j]
    # What is left unexplained with the constant and the tones, and with 1, 2, ... samples past.
    unexplained = noise[v - 1, v - 1]
    for k in range(d):
        unexplained -= root[v - 1, k] ** 2
    floor = FLOOR * noise[v - 1, v - 1] + TINY
    unexplained = max(unexplained, floor)
    most = min(ORDER, int(n_heard / 6))
    white = unexplained
    best, order, power = n_heard * math.log(unexplained), 0, unexplained
    for q in range(1, most + 1):
        unexplained = max(unexplained - root[v - 1, d + q - 1] ** 2, floor)
        worth = n_heard * math.log(unexplained) + ORDER_PENALTY * q
        if worth < best:
            best, order, power = worth, q, unexplained
    numbers[AR_ORDER] = order
    model[:] = 0
    model[0] = 1.0
    n = d + order
    for i in range(n - 1, d - 1, -1):
        rest = root[v - 1, i]
        for k in range(i + 1, n):
            rest += root[k, i] * model[k - d + 1]
        model[i - d + 1] = -rest / root[i, i]
    # No polynomial whose roots lie within the circle has larger coefficients: these are rounding.
    if not np.abs(model).sum() <= 8.0 * 2.0**order:
        model[1:] = 0
        numbers[AR_ORDER], power, n = 0.0, white, d
    return power * n_heard / max(n_heard - n, 1.0)


@njit(**JIT_OPTIONS)
def _refit_and_rescale(
    own: np.ndarray, numbers: np.ndarray, model: np.ndarray, noise: np.ndarray,
    turn: np.ndarray, gains: np.ndarray,
) -> None:  # fmt: skip
    """A new autoregression, and what the candidates know in its terms.

    As many samples as before are worth what they would be now; where the noise has turned out to
    be far less than it seemed, they are worth what they were.
    """
    k_tones = len(turn)
    d = 2 * k_tones + 1
    spread, response = MEAN + d, MEAN + d + d * d + k_tones
    strong = np.empty((k_tones, WIDTH))
    for k in range(k_tones):
        for j in range(WIDTH):
            at = (response + 2 * k) * WIDTH + j
            strong[k, j] = own[at] ** 2 + own[at + WIDTH] ** 2
    before = numbers[AR_DC_GAIN]
    power = _fit_ar(numbers, model, noise, d) * numbers[NOISE_VAR]
    _tone_response(own, model, turn, gains)
    numbers[AR_DC_GAIN] = model.sum()
    fall = numbers[NOISE_VAR] / max(power, TINY)
    least = math.sqrt(fall) if fall > 1.5 else 0.0
    if fall > 1.5:
        numbers[NOISE_VAR] = power
    level = min(max(abs(before) / max(abs(numbers[AR_DC_GAIN]), 1e-9), 1e-3), 1e3)
    for j in range(WIDTH):
        for i in range(d):
            wider, most = level, MAX_INFLATION * PRIOR_VAR_DC
            if i < d - 1:
                k = i // 2
                at = (response + 2 * k) * WIDTH + j
                now = own[at] ** 2 + own[at + WIDTH] ** 2 + TINY
                wider, most = math.sqrt(strong[k, j] / now), MAX_INFLATION * PRIOR_VAR_TONE / now
            at = (spread + i * (d + 1)) * WIDTH + j
            wider = min(max(wider, least), math.sqrt(most / (own[at] + TINY)))
            for a in range(d):
                own[(spread + i * d + a) * WIDTH + j] *= wider
                own[(spread + a * d + i) * WIDTH + j] *= wider
