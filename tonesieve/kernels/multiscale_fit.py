"""Exponentially weighted least squares over several time scales at once, and features of the fits.

A sample z is whitened by a finite filter. The result is written as a sum of K known sines and
cosines and a constant, D = 2 K + 1 regressors h[t], and fitted by weighted least squares:

    M = sum_s w(t - s) h[s] h[s]',    m = sum_s w(t - s) h[s] z[s],    (M + ridge I) x = m

w is the impulse response of one, two or four equal first-order low-passes in a row, y <- y +
alpha (u - y); so M and m are what these low-passes make of h h' and h z, one update a sample
(recursive least squares with forgetting: L. Ljung and T. Söderström, Theory and Practice of
Recursive Identification, MIT Press 1983). The common weight needs no correction for a stream's
start, and neither a constant nor the other tones leak in.

While the tones are not yet resolved, such a fit has a huge variance. So a fourth one is a ridge
regression (A. E. Hoerl and R. W. Kennard, Technometrics 12, 1970), whose ridge is the ratio of the
noise's power to the tone's: the posterior mean under a normal prior.

Axes: B streams, T samples, K tones, J time constants, M = 4 J fits.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from tonesieve.kernels.fastmath import JIT_OPTIONS
from tonesieve.kernels.linalg import cholesky_row, cholesky_solve

STAGES = 4  # chosen: low-passes in a row, of which the first, second and fourth are fitted
N_FITS = 4  # derived: of every time constant those three, and the ridge regression
RIDGE = 0.1  # chosen, not tuned: samples that a pull towards 0 counts as
MAX_RIDGE = 1e6  # guard: where the tone's power vanishes beside the noise's
# Chosen, not tuned: powers of differences are averaged over this many time constants.
DIFFERENCE_MEMORY = 4.0
LOG_FLOOR = 1e-4  # guard: of the scale; added before a logarithm
MAX_INNOVATION = 5.0  # guard: standard deviations at which an innovation is clipped
MIN_PIVOT = 1e-300  # guard: of a Cholesky factor
MIN_SCALE = 1e-150  # guard: fits below it are 0, and have no phase


class _State(NamedTuple):
    """A stream's state: views of one flat array."""

    clock: np.ndarray  # (2): samples so far, the first sample
    past: np.ndarray  # (P): the samples that the whitening filter needs, the latest first
    phasors: np.ndarray  # (K, 2): exp(i phase) of every tone
    moments: np.ndarray  # (J, STAGES, N): total weight, M (lower triangle), m
    noise: np.ndarray  # (2): total weight, power of the whitened samples
    difference_weights: np.ndarray  # (J - 1)
    differences: np.ndarray  # (K, J - 1): power of the difference of neighbouring fits


@njit(**JIT_OPTIONS)
def _n_moments(n_tones: int) -> int:
    d = 2 * n_tones + 1
    return 1 + d * (d + 1) // 2 + d


@njit(**JIT_OPTIONS)
def _offsets(n_tones: int, n_times: int, n_past: int) -> tuple[int, int, int, int, int, int, int]:
    """Where each field of `_State` after the first begins, and the size of all."""
    past = 2
    phasors = past + n_past
    moments = phasors + 2 * n_tones
    noise = moments + n_times * STAGES * _n_moments(n_tones)
    difference_weights = noise + 2
    differences = difference_weights + n_times - 1
    size = differences + n_tones * (n_times - 1)
    return past, phasors, moments, noise, difference_weights, differences, size


@njit(**JIT_OPTIONS)
def _unpack(state: np.ndarray, n_tones: int, n_times: int, n_past: int) -> _State:
    at = _offsets(n_tones, n_times, n_past)
    return _State(
        state[: at[0]],
        state[at[0] : at[1]],
        state[at[1] : at[2]].reshape((n_tones, 2)),
        state[at[2] : at[3]].reshape((n_times, STAGES, _n_moments(n_tones))),
        state[at[3] : at[4]],
        state[at[4] : at[5]],
        state[at[5] : at[6]].reshape((n_tones, n_times - 1)),
    )


def state_size(n_tones: int, n_times: int, n_past: int) -> int:
    """Numbers in a stream's state, whose whitening filter has ``n_past`` + 1 coefficients."""
    return int(_offsets(n_tones, n_times, n_past)[-1])


def n_features(n_times: int) -> int:
    """Fits (2 M) and their logarithms (M), differences, noise power, innovation (2), age."""
    return 3 * N_FITS * n_times + (n_times - 1) + 1 + 2 + 1


@njit(**JIT_OPTIONS)
def _solve(A: np.ndarray, b: np.ndarray, n: int) -> None:
    """Solve A x = b in place, A symmetric and positive, by its lower triangle."""
    for i in range(n):
        A[i, i] = math.sqrt(max(cholesky_row(A, A, i, 0.0), MIN_PIVOT))
    cholesky_solve(A, b, b, n)


@njit(**JIT_OPTIONS)
def _update_and_solve(
    moments: np.ndarray,
    regressors: np.ndarray,
    sample: float,
    alphas: np.ndarray,
    n_observed: float,
    M: np.ndarray,
    fits: np.ndarray,
) -> None:
    """Take a whitened sample into the moments, and solve the first 3 of ``fits`` (J, 4, D)."""
    n_times, d = len(alphas), len(regressors)
    for j in range(n_times):
        alpha = alphas[j]
        for stage in range(STAGES):
            if stage == 0:
                moments[j, 0, 0] += alpha * (1 - moments[j, 0, 0])
                index = 1
                for i in range(d):
                    for k in range(i + 1):
                        new = regressors[i] * regressors[k]
                        moments[j, 0, index] += alpha * (new - moments[j, 0, index])
                        index += 1
                for i in range(d):
                    new = regressors[i] * sample
                    moments[j, 0, index] += alpha * (new - moments[j, 0, index])
                    index += 1
            else:
                for i in range(moments.shape[2]):
                    moments[j, stage, i] += alpha * (
                        moments[j, stage - 1, i] - moments[j, stage, i]
                    )
            order = 2 if stage == 3 else stage
            if stage == 2:
                continue
            index = 1
            for i in range(d):
                for k in range(i + 1):
                    M[i, k] = moments[j, stage, index]
                    index += 1
            ridge = RIDGE * moments[j, stage, 0] * max(alpha, 1 / n_observed)
            for i in range(d):
                M[i, i] += ridge
                fits[j, order, i] = moments[j, stage, index + i]
            _solve(M, fits[j, order], d)


@njit(**JIT_OPTIONS)
def _ridge_fit(
    moments: np.ndarray,
    alphas: np.ndarray,
    n_observed: float,
    noise_power: float,
    ridges: np.ndarray,
    M: np.ndarray,
    fits: np.ndarray,
) -> None:
    """The fourth fit of every time constant: ridge regression under noise of this power."""
    n_times, d = len(alphas), len(ridges)
    for k in range(d // 2):
        tone_power = np.inf  # the least of all scales: a fit to too few samples is too large
        for j in range(n_times):
            real, imag = fits[j, 0, 2 * k], fits[j, 0, 2 * k + 1]
            tone_power = min(tone_power, real * real + imag * imag)
        ridge = 2 * noise_power / tone_power if tone_power > 0 else MAX_RIDGE
        ridges[2 * k] = ridges[2 * k + 1] = min(max(ridge, RIDGE), MAX_RIDGE)
    ridges[d - 1] = RIDGE
    for j in range(n_times):
        index = 1
        for i in range(d):
            for k in range(i + 1):
                M[i, k] = moments[j, 0, index]
                index += 1
        one_sample = moments[j, 0, 0] * max(alphas[j], 1 / n_observed)
        for i in range(d):
            M[i, i] += ridges[i] * one_sample
            fits[j, 3, i] = moments[j, 0, index + i]
        _solve(M, fits[j, 3], d)


@njit(**JIT_OPTIONS)
def fit(
    samples: np.ndarray,
    states: np.ndarray,
    rotation: np.ndarray,
    response: np.ndarray,
    whitening: np.ndarray,
    alphas: np.ndarray,
    features: np.ndarray,
    phasors: np.ndarray,
    carriers: np.ndarray,
) -> None:
    """Features (B, T, K, F), phasors (B, T, K, M, 2) and carriers (B, T, K, 2) of samples (B, T).

    ``states`` (B, S) are updated in place. ``rotation`` (K, 2): cosine and sine of each tone's
    angle a sample. ``response`` (K, 2): frequency response of ``whitening`` (P + 1) at each tone.
    ``alphas`` (J): coefficients of the exponential averages. The phasors are rotated and scaled, so
    that neither the signal's scale nor its phase shows; the real part of phasor times carrier is
    the tone.
    """
    n_streams, n_samples = samples.shape
    n_tones, n_times, n_past = len(rotation), len(alphas), len(whitening) - 1
    d = 2 * n_tones + 1
    middle = n_times // 2
    regressors = np.empty(d)
    ridges, M = np.empty(d), np.empty((d, d))
    fits = np.empty((n_times, N_FITS, d))
    magnitudes = np.empty(n_tones)
    for k in range(n_tones):
        magnitudes[k] = math.hypot(response[k, 0], response[k, 1])
    for b in range(n_streams):
        state = _unpack(states[b], n_tones, n_times, n_past)
        clock, past, carrier, moments, noise, weights, differences = state
        for t in range(n_samples):
            if clock[0] == 0:
                clock[1] = samples[b, t]
                for k in range(n_tones):
                    carrier[k, 0] = 1.0
            else:
                for k in range(n_tones):
                    x, y = carrier[k, 0], carrier[k, 1]
                    real = rotation[k, 0] * x - rotation[k, 1] * y
                    imag = rotation[k, 1] * x + rotation[k, 0] * y
                    size = math.hypot(real, imag)
                    carrier[k, 0], carrier[k, 1] = real / size, imag / size
            clock[0] += 1
            sample = samples[b, t] - clock[1]
            whitened = whitening[0] * sample
            for i in range(n_past):
                whitened += whitening[i + 1] * past[i]
            for i in range(n_past - 1, 0, -1):
                past[i] = past[i - 1]
            if n_past:
                past[0] = sample
            n_observed = clock[0] - n_past
            if n_observed <= 0:  # the whitening filter still reaches before the stream
                features[b, t], phasors[b, t], carriers[b, t] = 0, 0, 0
                continue
            for k in range(n_tones):
                x, y = carrier[k, 0], carrier[k, 1]
                g, h = response[k, 0] / magnitudes[k], response[k, 1] / magnitudes[k]
                regressors[2 * k], regressors[2 * k + 1] = g * x - h * y, -(g * y + h * x)
            regressors[d - 1] = 1.0
            _update_and_solve(moments, regressors, whitened, alphas, n_observed, M, fits)
            innovation = whitened
            for i in range(d):
                innovation -= regressors[i] * fits[middle, 0, i]
            noise[0] += alphas[middle] * (1 - noise[0])
            noise[1] += alphas[middle] * (whitened * whitened - noise[1])
            noise_power = noise[1] / noise[0]
            _ridge_fit(moments, alphas, n_observed, noise_power, ridges, M, fits)
            for j in range(n_times - 1):
                weights[j] += alphas[j] / DIFFERENCE_MEMORY * (1 - weights[j])
            for k in range(n_tones):
                _features(
                    weights, differences[k], fits, k, alphas, n_observed,
                    features[b, t, k], phasors[b, t, k], carriers[b, t, k],
                    carrier[k, 0], carrier[k, 1],
                    regressors[2 * k], -regressors[2 * k + 1], magnitudes[k], noise_power,
                    innovation,
                )  # fmt: skip


@njit(**JIT_OPTIONS)
def _features(
    difference_weights: np.ndarray,
    differences: np.ndarray,
    fits: np.ndarray,
    k: int,
    alphas: np.ndarray,
    n_observed: float,
    features: np.ndarray,
    phasors: np.ndarray,
    carrier: np.ndarray,
    x: float,
    y: float,
    u: float,
    v: float,
    magnitude: float,
    noise_power: float,
    innovation: float,
) -> None:
    """Outputs of one tone: (x, y) is its reference phasor, (u, v) the whitened one."""
    n_times = len(alphas)
    n = N_FITS * n_times
    total = 0.0
    for j in range(n_times):
        for order in range(N_FITS):
            real, imag = fits[j, order, 2 * k], fits[j, order, 2 * k + 1]
            total += real * real + imag * imag
    scale = math.sqrt(total / n)
    if not scale > MIN_SCALE:
        features[:], phasors[:], carrier[:] = 0, 0, 0
        return
    # Phases are counted from that of the fit at the middle time constant.
    cos, sin = fits[n_times // 2, 0, 2 * k], fits[n_times // 2, 0, 2 * k + 1]
    size = math.hypot(cos, sin)
    if size > 0:
        cos, sin = cos / size, sin / size
    else:
        cos, sin = 1.0, 0.0
    index = 0
    for j in range(n_times):
        for order in range(N_FITS):
            p, q = fits[j, order, 2 * k] / scale, fits[j, order, 2 * k + 1] / scale
            phasors[index, 0], phasors[index, 1] = p * cos + q * sin, q * cos - p * sin
            features[2 * index], features[2 * index + 1] = phasors[index, 0], phasors[index, 1]
            features[2 * n + index] = 0.25 * math.log(p * p + q * q + LOG_FLOOR * LOG_FLOOR)
            index += 1
    # The tone is Re(c p) with c = scale (cos + i sin) and p its phasor.
    carrier[0] = scale / magnitude * (cos * x - sin * y)
    carrier[1] = scale / magnitude * (cos * y + sin * x)
    index = 3 * n
    for j in range(n_times - 1):
        p = fits[j, 0, 2 * k] - fits[j + 1, 0, 2 * k]
        q = fits[j, 0, 2 * k + 1] - fits[j + 1, 0, 2 * k + 1]
        differences[j] += alphas[j] / DIFFERENCE_MEMORY * (p * p + q * q - differences[j])
        relative = differences[j] / difference_weights[j] / (scale * scale)
        features[index + j] = 0.25 * math.log(relative + LOG_FLOOR * LOG_FLOOR)
    index += n_times - 1
    features[index] = 0.25 * math.log(noise_power / (scale * scale) + LOG_FLOOR * LOG_FLOOR)
    relative = innovation / math.sqrt(noise_power) if noise_power > 0 else 0.0
    relative = 0.5 * min(max(relative, -MAX_INNOVATION), MAX_INNOVATION)
    real, imag = cos * u - sin * v, cos * v + sin * u
    features[index + 1], features[index + 2] = relative * real, -relative * imag
    features[index + 3] = math.log(n_observed) / 8
