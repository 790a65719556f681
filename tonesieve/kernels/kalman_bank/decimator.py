"""Decimation by a cascaded integrator-comb (CIC) filter of four stages (Hogenauer 1981).

Decimation by a factor R: the samples are low-pass filtered by four moving means of R samples in a
row, h = box_R * box_R * box_R * box_R / R^4, and every R-th result is kept. The zeros of the
filter, H(f) = (sin(pi f R) / (R sin(pi f)))^4, lie on all frequencies that would alias to 0.

Instead of integrators, whose rounding errors would grow without end, the weights h are applied
directly: each sample contributes to the four results whose windows hold it. Missing samples are
handled by normalised convolution (Knutsson & Westin 1993): a result is sum(h c z) / sum(h c) with
certainties c. A missing sample takes the last observed value with certainty rho^m, where rho is the
lag-1 autocorrelation and m counts the samples since. Impulses are rejected beforehand
(`kernels.kalman_bank.impulse_rejection`).

References: E. B. Hogenauer, An economical class of digital filters for decimation and
interpolation, IEEE Trans. Acoustics, Speech and Signal Processing 29 (1981) 155-162; H. Knutsson,
C.-F. Westin, Normalized and differential convolution, CVPR 1993.

Axes: B streams, T samples, N steps, K tones, W = N_STAGES (R - 1) + 1 weights.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import njit

from tonesieve.kernels.fastmath import JIT_OPTIONS
from tonesieve.kernels.kalman_bank.impulse_rejection import (
    CERTAINTY,
    CLEANED,
    MAX_RUN,
    OBSERVED,
    RUN,
    reject_impulse,
)
from tonesieve.kernels.kalman_bank.state import BORROWING

# Chosen, not tuned: aliases fall as the fourth power of their distance to a zero. At six steps a
# period (`front_end.STEPS_PER_PERIOD`) the fifth harmonic, the first to alias to the tone, is 58 dB
# down.
N_STAGES = 4
# Guard: a step whose normalised weights have less than this sum is a gap.
MIN_COVERAGE = 0.1


@cache
def cic_response(factor: int) -> np.ndarray:
    """Impulse response (W) of the decimator, of sum 1.

    By running sums of integers: a convolution takes seconds for a very slow tone.
    """
    weights = np.ones(1, dtype=np.int64)
    for _ in range(N_STAGES):
        sums = np.cumsum(np.concatenate([weights, np.zeros(factor - 1, dtype=np.int64)]))
        weights = sums.copy()
        weights[factor:] -= sums[:-factor]
    response = weights / float(factor) ** N_STAGES
    response.flags.writeable = False
    return response


# A stream's memory beside its partial sums: the first sample, which is subtracted from all; running
# mean, variance and lag-1 covariance; the last observed sample; how many are missing since.
ORIGIN, MEAN, POWER, PRODUCT, LAST, N_MISSING, N_MEMORY = range(7)


@njit(**BORROWING)
def _restore(
    number: int, rejection: np.ndarray, sums: np.ndarray, weights: np.ndarray, factor: int
) -> None:
    """Put the rejected samples before sample ``number`` back into the partial sums."""
    for m in range(1, MAX_RUN + 1):
        place, before = MAX_RUN - m, number - m
        z, cleaned = rejection[OBSERVED + place], rejection[CLEANED + place]
        certainty = rejection[CERTAINTY + place]
        # The partial sums have moved on since.
        n_ended = number // factor - before // factor
        for i in range(n_ended, N_STAGES):
            tap = (i - n_ended) * factor + before % factor - (N_STAGES - 1)
            if tap >= 0:
                sums[i, 0] += weights[tap] * (z - certainty * cleaned)
                sums[i, 1] += weights[tap] * (1.0 - certainty)


@njit(**JIT_OPTIONS)
def decimate(
    samples: np.ndarray, start: int, memory: np.ndarray, sums: np.ndarray, rejection: np.ndarray,
    freq_cycles: np.ndarray, weights: np.ndarray, factor: int, steps: np.ndarray,
) -> None:  # fmt: skip
    """Write the steps (B, N) that end in the samples (B, T), one every ``factor`` samples.

    ``start`` counts the samples before; ``memory`` (B, N_MEMORY), its origin NaN at first, ``sums``
    (B, N_STAGES, 2), the partial sums of h c z and h c, and ``rejection`` (B, `rejection_size`)
    are updated in place. ``freq_cycles`` (K) are the tones' nominal frequencies. Steps are NaN
    while the filter fills, and in gaps.
    """
    alpha = 1.0 / (N_STAGES * factor)
    for b in range(samples.shape[0]):
        step, state = 0, memory[b]
        for t in range(samples.shape[1]):
            z, phase, certainty = samples[b, t], (start + t) % factor, 1.0
            if np.isnan(z):
                rho = state[PRODUCT] / state[POWER] if state[POWER] > 0 else 0.0
                state[N_MISSING] += 1
                z, certainty = state[LAST], max(rho, 0.0) ** state[N_MISSING]
                if state[N_MISSING] > len(weights):  # the last sample is in no window any more
                    certainty = 0.0
            else:
                if np.isnan(state[ORIGIN]):
                    state[ORIGIN] = z
                z, certainty = reject_impulse(
                    z - state[ORIGIN], start + t, rejection[b], freq_cycles
                )
                if rejection[b, RUN] == MAX_RUN + 1:
                    _restore(start + t, rejection[b], sums[b], weights, factor)
                deviation = z - state[MEAN]
                state[POWER] += alpha * (deviation * deviation - state[POWER])
                if state[N_MISSING] == 0:
                    state[PRODUCT] += alpha * (
                        deviation * (state[LAST] - state[MEAN]) - state[PRODUCT]
                    )
                state[MEAN] += alpha * deviation
                state[LAST], state[N_MISSING] = z, 0
            for i in range(N_STAGES):
                tap = i * factor + phase - (N_STAGES - 1)
                if tap >= 0:
                    sums[b, i, 0] += certainty * weights[tap] * z
                    sums[b, i, 1] += certainty * weights[tap]
            if phase == factor - 1:
                # The oldest partial sum is complete.
                is_valid = (
                    sums[b, N_STAGES - 1, 1] >= MIN_COVERAGE and start + t + 1 >= N_STAGES * factor
                )
                steps[b, step] = (
                    sums[b, N_STAGES - 1, 0] / sums[b, N_STAGES - 1, 1] + state[ORIGIN]
                    if is_valid
                    else np.nan
                )
                step += 1
                for i in range(N_STAGES - 1, 0, -1):
                    sums[b, i, 0], sums[b, i, 1] = sums[b, i - 1, 0], sums[b, i - 1, 1]
                sums[b, 0, 0], sums[b, 0, 1] = 0.0, 0.0
