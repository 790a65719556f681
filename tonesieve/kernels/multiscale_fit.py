"""Tones fitted to the samples so far over many spans at once: the averages of a bank, and features.

Every sample x is whitened (a finite filter); what is left is written as a sum of K known sines and
cosines and a constant, D = 2 K + 1 regressors, and fitted by least squares whose weights fall off
as the answer of one, two and four equal low-passes in a row: for that, the D x D products of the
regressors and the D products with the sample go through these low-passes. Divided by each other
they need no correction for a stream's start, and neither a constant nor the other tones leak in.

While the tones cannot be told apart yet, such a fit answers with huge noise. So a fourth one is
drawn towards 0 by as much as a Bayesian would for whom noise and tones are as loud as they seem.

Axes: B streams, T samples, K tones, J time constants, M = 4 J averages.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from tonesieve.kernels.fastmath import JIT_OPTIONS

STAGES = 4  # low-passes in a row; the first, second and fourth are looked at
N_FITS = 4  # of every time constant: those three, and the first drawn towards 0
RIDGE = 0.1  # a pull towards 0 that counts as much as so many samples
MOST_RIDGE = 1e6  # where the tone seems to be nothing beside the noise
SLOWER = 4.0  # the powers of differences are averaged over so many times the time constant
LEAST = 1e-4  # of the scale; logarithms of less are all the same
MOST = 5.0  # a surprise is cut off at so many standard deviations


def n_state(n_tones: int, n_times: int, n_whitening: int) -> int:
    """Numbers in a stream's state: age, first sample, past, phases, low-passes, powers."""
    d = 2 * n_tones + 1
    passed = n_times * STAGES * (1 + d * (d + 1) // 2 + d)
    return 2 + n_whitening + 2 * n_tones + passed + 2 + (n_times - 1) * (1 + n_tones)


def n_features(n_times: int) -> int:
    """Averages turned (2 M) and their logarithms, differences, power, surprise (2), age."""
    return 3 * N_FITS * n_times + (n_times - 1) + 1 + 2 + 1


@njit(**JIT_OPTIONS)
def _solve(matrix: np.ndarray, right: np.ndarray, n: int) -> None:
    """Solve a symmetric positive system in place, by the lower triangle's Cholesky factors."""
    for i in range(n):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= matrix[i, k] * matrix[j, k]
            if i == j:
                matrix[i, i] = math.sqrt(max(total, 1e-300))
            else:
                matrix[i, j] = total / matrix[j, j]
    for i in range(n):
        total = right[i]
        for k in range(i):
            total -= matrix[i, k] * right[k]
        right[i] = total / matrix[i, i]
    for i in range(n - 1, -1, -1):
        total = right[i]
        for k in range(i + 1, n):
            total -= matrix[k, i] * right[k]
        right[i] = total / matrix[i, i]


@njit(**JIT_OPTIONS)
def _update_and_solve(
    state: np.ndarray,
    at: int,
    regressors: np.ndarray,
    sample: float,
    shares: np.ndarray,
    n_heard: float,
    matrix: np.ndarray,
    fits: np.ndarray,
) -> None:
    """Take a sample into the low-passes at ``at`` of the state; ``fits`` (J, 4, D): the first 3."""
    n_times, d = len(shares), len(regressors)
    n_passed = 1 + d * (d + 1) // 2 + d
    for j in range(n_times):
        share = shares[j]
        for stage in range(STAGES):
            here = at + (j * STAGES + stage) * n_passed
            above = here - n_passed
            if stage == 0:
                state[here] += share * (1 - state[here])
                place = here + 1
                for i in range(d):
                    for k in range(i + 1):
                        state[place] += share * (regressors[i] * regressors[k] - state[place])
                        place += 1
                for i in range(d):
                    state[place] += share * (regressors[i] * sample - state[place])
                    place += 1
            else:
                for i in range(n_passed):
                    state[here + i] += share * (state[above + i] - state[here + i])
            order = 2 if stage == 3 else stage
            if stage == 2:
                continue
            place = here + 1
            for i in range(d):
                for k in range(i + 1):
                    matrix[i, k] = state[place]
                    place += 1
            ridge = RIDGE * state[here] * max(share, 1 / n_heard)
            for i in range(d):
                matrix[i, i] += ridge
                fits[j, order, i] = state[place + i]
            _solve(matrix, fits[j, order], d)


@njit(**JIT_OPTIONS)
def _ridge_fit(
    state: np.ndarray,
    at: int,
    shares: np.ndarray,
    n_heard: float,
    power: float,
    ridges: np.ndarray,
    matrix: np.ndarray,
    fits: np.ndarray,
) -> None:
    """The fourth fit of every time constant, drawn towards 0 as noise of this power asks for."""
    n_times, d = len(shares), len(ridges)
    n_passed = 1 + d * (d + 1) // 2 + d
    for k in range(d // 2):
        least = np.inf  # a fit with too little to go by is too large, never too small
        for j in range(n_times):
            one, two = fits[j, 0, 2 * k], fits[j, 0, 2 * k + 1]
            least = min(least, one * one + two * two)
        ridge = 2 * power / least if least > 0 else MOST_RIDGE
        ridges[2 * k] = ridges[2 * k + 1] = min(max(ridge, RIDGE), MOST_RIDGE)
    ridges[d - 1] = RIDGE
    for j in range(n_times):
        here = at + j * STAGES * n_passed
        place = here + 1
        for i in range(d):
            for k in range(i + 1):
                matrix[i, k] = state[place]
                place += 1
        unit = state[here] * max(shares[j], 1 / n_heard)
        for i in range(d):
            matrix[i, i] += ridges[i] * unit
            fits[j, 3, i] = state[place + i]
        _solve(matrix, fits[j, 3], d)


@njit(**JIT_OPTIONS)
def fit(
    samples: np.ndarray,
    state: np.ndarray,
    turns: np.ndarray,
    gains: np.ndarray,
    whitening: np.ndarray,
    shares: np.ndarray,
    features: np.ndarray,
    averages: np.ndarray,
    carriers: np.ndarray,
) -> None:
    """Features (B, T, K, F), averages (B, T, K, M, 2) and carriers (B, T, K, 2) of (B, T) samples.

    ``state`` (B, S) goes on; ``turns`` (K, 2) are cosine and sine of a sample's turn, ``gains``
    (K, 2) how the whitening filter answers each tone, ``shares`` (J) what a new sample counts. The
    averages are turned and scaled, so that neither the signal's scale nor its phase shows; times
    the carrier the real part is the tone.
    """
    n_streams, n_samples = samples.shape
    n_tones, n_times, n_past = len(turns), len(shares), len(whitening) - 1
    d = 2 * n_tones + 1
    phases = 2 + n_past
    passed = phases + 2 * n_tones
    powers = passed + n_times * STAGES * (1 + d * (d + 1) // 2 + d)
    middle = n_times // 2
    regressors = np.empty(d)
    ridges, matrix = np.empty(d), np.empty((d, d))
    fits = np.empty((n_times, N_FITS, d))
    moduli = np.empty(n_tones)
    for k in range(n_tones):
        moduli[k] = math.hypot(gains[k, 0], gains[k, 1])
    for b in range(n_streams):
        own = state[b]
        for t in range(n_samples):
            if own[0] == 0:
                own[1] = samples[b, t]
                for k in range(n_tones):
                    own[phases + 2 * k] = 1.0
            else:
                for k in range(n_tones):
                    x, y = own[phases + 2 * k], own[phases + 2 * k + 1]
                    one = turns[k, 0] * x - turns[k, 1] * y
                    two = turns[k, 1] * x + turns[k, 0] * y
                    size = math.hypot(one, two)
                    own[phases + 2 * k], own[phases + 2 * k + 1] = one / size, two / size
            own[0] += 1
            heard = samples[b, t] - own[1]
            white = whitening[0] * heard
            for i in range(n_past):
                white += whitening[i + 1] * own[2 + i]
            for i in range(n_past - 1, 0, -1):
                own[2 + i] = own[1 + i]
            if n_past:
                own[2] = heard
            n_heard = own[0] - n_past
            if n_heard <= 0:  # the filter still looks at what was before the stream
                features[b, t], averages[b, t], carriers[b, t] = 0, 0, 0
                continue
            for k in range(n_tones):
                x, y = own[phases + 2 * k], own[phases + 2 * k + 1]
                g, h = gains[k, 0] / moduli[k], gains[k, 1] / moduli[k]
                regressors[2 * k], regressors[2 * k + 1] = g * x - h * y, -(g * y + h * x)
            regressors[d - 1] = 1.0
            _update_and_solve(own, passed, regressors, white, shares, n_heard, matrix, fits)
            surprise = white
            for i in range(d):
                surprise -= regressors[i] * fits[middle, 0, i]
            own[powers] += shares[middle] * (1 - own[powers])
            own[powers + 1] += shares[middle] * (white * white - own[powers + 1])
            power = own[powers + 1] / own[powers]
            _ridge_fit(own, passed, shares, n_heard, power, ridges, matrix, fits)
            for j in range(n_times - 1):
                own[powers + 2 + j] += shares[j] / SLOWER * (1 - own[powers + 2 + j])
            for k in range(n_tones):
                differences = powers + 2 + (n_times - 1) * (1 + k)
                _features(
                    own, powers + 2, differences, fits, k, shares, n_heard,
                    features[b, t, k], averages[b, t, k], carriers[b, t, k],
                    own[phases + 2 * k], own[phases + 2 * k + 1],
                    regressors[2 * k], -regressors[2 * k + 1], moduli[k], power, surprise,
                )  # fmt: skip


@njit(**JIT_OPTIONS)
def _features(
    own: np.ndarray,
    weights: int,
    differences: int,
    fits: np.ndarray,
    k: int,
    shares: np.ndarray,
    n_heard: float,
    features: np.ndarray,
    averages: np.ndarray,
    carrier: np.ndarray,
    x: float,
    y: float,
    u: float,
    v: float,
    modulus: float,
    power: float,
    surprise: float,
) -> None:
    """What is told of one tone: (x, y) is its phasor, (u, v) the whitened one's."""
    n_times = len(shares)
    n = N_FITS * n_times
    total = 0.0
    for j in range(n_times):
        for order in range(N_FITS):
            one, two = fits[j, order, 2 * k], fits[j, order, 2 * k + 1]
            total += one * one + two * two
    scale = math.sqrt(total / n)
    if not scale > 1e-150:
        features[:], averages[:], carrier[:] = 0, 0, 0
        return
    one, two = fits[n_times // 2, 0, 2 * k], fits[n_times // 2, 0, 2 * k + 1]
    size = math.hypot(one, two)
    if size > 0:
        one, two = one / size, two / size
    else:
        one, two = 1.0, 0.0
    at = 0
    for j in range(n_times):
        for order in range(N_FITS):
            p, q = fits[j, order, 2 * k] / scale, fits[j, order, 2 * k + 1] / scale
            averages[at, 0], averages[at, 1] = p * one + q * two, q * one - p * two
            features[2 * at], features[2 * at + 1] = averages[at, 0], averages[at, 1]
            features[2 * n + at] = 0.25 * math.log(p * p + q * q + LEAST * LEAST)
            at += 1
    # The tone is Re(c p) with c = scale (one + i two) and p its phasor.
    carrier[0] = scale / modulus * (one * x - two * y)
    carrier[1] = scale / modulus * (one * y + two * x)
    at = 3 * n
    for j in range(n_times - 1):
        p = fits[j, 0, 2 * k] - fits[j + 1, 0, 2 * k]
        q = fits[j, 0, 2 * k + 1] - fits[j + 1, 0, 2 * k + 1]
        place = differences + j
        own[place] += shares[j] / SLOWER * (p * p + q * q - own[place])
        relative = own[place] / own[weights + j] / (scale * scale)
        features[at + j] = 0.25 * math.log(relative + LEAST * LEAST)
    at += n_times - 1
    features[at] = 0.25 * math.log(power / (scale * scale) + LEAST * LEAST)
    relative = surprise / math.sqrt(power) if power > 0 else 0.0
    relative = 0.5 * min(max(relative, -MOST), MOST)
    real, imaginary = one * u - two * v, one * v + two * u
    features[at + 1], features[at + 2] = relative * real, -relative * imaginary
    features[at + 3] = math.log(n_heard) / 8
