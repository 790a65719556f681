"""Sinusoids fitted to samples, one sample at a time."""

from __future__ import annotations

import numpy as np
from numba import njit

# Of the loop that follows a frequency: its gain beside the filter's own, 6/n^2 beside (4/n)^2;
# and what a coefficient's variance must gain a sample for gains of 4/n: 24/n^2 of the noise's.
LOOP, GROWTH = 0.375, 24.0
# A variance that is still this share of what was expected at first is no knowledge.
UNTOLD = 20.0


@njit(cache=True, nogil=True)
def _joseph_update(
    covariance: np.ndarray, gain: np.ndarray, reach: np.ndarray, spread: float
) -> None:
    """A covariance (D, D) after a sample; ``reach`` (D) is how far it let the sample tell of each.

    Joseph's form, so that rounding leaves it symmetric and positive.
    """
    for i in range(len(gain)):
        for j in range(i + 1):
            less = gain[i] * reach[j] + reach[i] * gain[j]
            renewed = covariance[i, j] - less + gain[i] * spread * gain[j]
            covariance[i, j] = renewed
            covariance[j, i] = renewed


@njit(cache=True, nogil=True)
def kalman(
    samples: np.ndarray,
    rows: np.ndarray,
    mean: np.ndarray,
    covariance: np.ndarray,
    walk: np.ndarray,
    noise: float,
    path: np.ndarray,
) -> None:
    """Kalman filter of coefficients that walk at random.

    samples (B, T) = rows (T, D) @ coefficients + N(0, noise); each coefficient gains variance
    ``walk`` (D) a sample. ``mean`` (B, D) and ``covariance`` (B, D, D) are renewed in place, the
    means after each sample are kept in ``path`` (B, T, D). NaN: predict only.
    """
    n_streams, n_samples = samples.shape
    n = rows.shape[1]
    reach = np.empty(n)
    gain = np.empty(n)
    for b in range(n_streams):
        for t in range(n_samples):
            for i in range(n):
                covariance[b, i, i] += walk[i]
            if not np.isnan(samples[b, t]):
                spread = noise
                surprise = samples[b, t]
                for i in range(n):
                    reach[i] = 0.0
                    for j in range(n):
                        reach[i] += covariance[b, i, j] * rows[t, j]
                    spread += rows[t, i] * reach[i]
                    surprise -= rows[t, i] * mean[b, i]
                if spread > 0.0:
                    for i in range(n):
                        gain[i] = reach[i] / spread
                        mean[b, i] += gain[i] * surprise
                    _joseph_update(covariance[b], gain, reach, spread)
            for i in range(n):
                path[b, t, i] = mean[b, i]


@njit(cache=True, nogil=True)
def kalman_smooth(
    samples: np.ndarray,
    rows: np.ndarray,
    covariance: np.ndarray,
    walk: np.ndarray,
    noise: float,
    path: np.ndarray,
) -> None:
    """What `kalman` would say of each coefficient if it knew the whole record, from means of 0.

    samples (T), rows (T, D), ``walk`` (D); ``covariance`` (D, D) before the first sample is renewed
    in place; ``path`` (T, D) takes the smoothed means. Koopman's disturbance smoother (Biometrika
    80, 1993): backwards, what every surprise says of the coefficients before it; forwards, each
    coefficient moves by its walk times that. No covariance is kept, and none is inverted.
    """
    n_samples, n = rows.shape
    gains, shares = np.zeros((n_samples, n)), np.zeros(n_samples)
    reach, mean, told = np.empty(n), np.zeros(n), np.zeros(n)
    for i in range(n):
        covariance[i, i] += walk[i]
    first = covariance.copy()
    for t in range(n_samples):
        if not np.isnan(samples[t]):
            spread, surprise = noise, samples[t]
            for i in range(n):
                reach[i] = 0.0
                for j in range(n):
                    reach[i] += covariance[i, j] * rows[t, j]
                spread += rows[t, i] * reach[i]
                surprise -= rows[t, i] * mean[i]
            if spread > 0.0:
                shares[t] = surprise / spread
                for i in range(n):
                    gains[t, i] = reach[i] / spread
                    mean[i] += reach[i] * shares[t]
                _joseph_update(covariance, gains[t], reach, spread)
        for i in range(n):
            covariance[i, i] += walk[i]
    for t in range(n_samples - 1, -1, -1):
        # path keeps, of every sample, what it and all later ones say.
        weight = shares[t]
        for i in range(n):
            weight -= gains[t, i] * told[i]
        for i in range(n):
            told[i] += rows[t, i] * weight
            path[t, i] = told[i]
    for i in range(n):
        mean[i] = 0.0
        for j in range(n):
            mean[i] += first[i, j] * told[j]
    for t in range(n_samples):
        for i in range(n):
            if t > 0:
                mean[i] += walk[i] * path[t, i]
            path[t, i] = mean[i]


@njit(cache=True, nogil=True)
def kalman_pll(
    samples: np.ndarray,
    turns: np.ndarray,
    gain: complex,
    walk: float,
    drift: float,
    noise: float,
    unsure: np.ndarray,
    farthest: np.ndarray,
    phase: np.ndarray,
    offset: np.ndarray,
    mean: np.ndarray,
    covariance: np.ndarray,
    level: np.ndarray,
    tones: np.ndarray,
    surprises: np.ndarray,
) -> None:
    """`kalman` with frequencies that follow: a phase-locked loop on every oscillator.

    Beside the tones there is a level that walks by ``drift`` (variance a sample), which takes up
    offset, trend and noise far below the tones. samples (B, T); of every tone ``turns`` (K), its
    cycles a sample, and ``phase`` (B, K), its cycles so far, ``offset`` (B, K), what the frequency
    has been found to differ by, in cycles a sample, at most ``farthest`` (K). What an update turns
    a phasor by drives its offset, weighed by how far the tone stands out of the noise. While the
    filter's memory grows, it forgets as a fit of phase and frequency to all samples would, whose
    gains are 4/n and 6/n^2, from the age on at which so ``unsure`` (K) a frequency, in radians a
    sample, would show. ``level`` (B, 3): running power of the surprise, its weight, and the
    samples heard. ``tones`` (B, T, K) are the answers, ``surprises`` (B, T) what was
    not foreseen of the samples; 0 in gaps.
    """
    n_streams, n_samples = samples.shape
    k_tones = turns.shape[0]
    n = 2 * k_tones + 1
    rows, reach, pull, sure = np.empty(n), np.empty(n), np.empty(n), np.zeros(k_tones)
    sines, cosines = np.empty(k_tones), np.empty(k_tones)
    strength = gain.real**2 + gain.imag**2
    for b in range(n_streams):
        for t in range(n_samples):
            for k in range(k_tones):
                angle = 2 * np.pi * phase[b, k]
                sines[k], cosines[k] = np.sin(angle), np.cos(angle)
                rows[k] = gain.real * sines[k] + gain.imag * cosines[k]
                rows[k_tones + k] = gain.real * cosines[k] - gain.imag * sines[k]
            rows[n - 1] = 1.0
            covariance[b, n - 1, n - 1] += drift
            heard = level[b, 2]
            for k in range(k_tones):
                more = walk
                power = mean[b, k] ** 2 + mean[b, k_tones + k] ** 2
                if power > 0.0 and level[b, 1] > 0.0:
                    spread_k = covariance[b, k, k] + covariance[b, k_tones + k, k_tones + k]
                    # Of noise, and of what too few samples have not yet told apart.
                    doubt = 4 * spread_k * (level[b, 0] / level[b, 1] / noise + UNTOLD * power)
                    sure[k] = (power / (power + doubt)) ** 2
                    shown = unsure[k] ** 2 / (1 + (unsure[k] * heard) ** 2)
                    more += sure[k] * GROWTH * shown * noise / strength
                covariance[b, k, k] += more
                covariance[b, k_tones + k, k_tones + k] += more
            if not np.isnan(samples[b, t]):
                spread = noise
                surprise = samples[b, t]
                for i in range(n):
                    reach[i] = 0.0
                    for j in range(n):
                        reach[i] += covariance[b, i, j] * rows[j]
                    spread += rows[i] * reach[i]
                    surprise -= rows[i] * mean[b, i]
                for i in range(n):
                    pull[i] = reach[i] / spread
                _joseph_update(covariance[b], pull, reach, spread)
                slowest = 1.0
                mean[b, n - 1] += pull[n - 1] * surprise
                for k in range(k_tones):
                    s, c = mean[b, k], mean[b, k_tones + k]
                    mean[b, k] += pull[k] * surprise
                    mean[b, k_tones + k] += pull[k_tones + k] * surprise
                    spread_k = covariance[b, k, k] + covariance[b, k_tones + k, k_tones + k]
                    rate = 0.25 * spread_k * strength / noise
                    slowest = min(slowest, rate)
                    power = s * s + c * c
                    if power > 0.0:
                        # Re((c - i s) exp(i angle)) is the tone.
                        turned = (s * pull[k_tones + k] - c * pull[k]) * surprise / power
                        loop = LOOP * rate * sure[k]
                        moved = offset[b, k] + loop * turned / (2 * np.pi)
                        offset[b, k] = min(max(moved, -farthest[k]), farthest[k])
                kept = 1.0 - min(slowest, 0.5)
                level[b, 0] = kept * level[b, 0] + (1 - kept) * surprise * surprise
                level[b, 1] = kept * level[b, 1] + (1 - kept)
                level[b, 2] += 1
                surprises[b, t] = surprise
            else:
                surprises[b, t] = 0.0
            for k in range(k_tones):
                tones[b, t, k] = mean[b, k] * sines[k] + mean[b, k_tones + k] * cosines[k]
                phase[b, k] = (phase[b, k] + turns[k] + offset[b, k]) % 1.0


@njit(cache=True, nogil=True)
def two_model_odds(
    samples: np.ndarray,
    one: np.ndarray,
    other: np.ndarray,
    kept: float,
    memory: np.ndarray,
    share: np.ndarray,
) -> None:
    """Posterior odds of two filters by their surprises (B, T), as the share (B, T) of the first.

    Log-likelihoods of normal surprises whose variance is the smaller of both powers, remembered by
    a factor ``kept`` a sample. ``memory`` (B, 3): power, its weight, evidence; a gap leaves it.
    """
    n_streams, n_samples = samples.shape
    for b in range(n_streams):
        power, weight, odds = memory[b, 0], memory[b, 1], memory[b, 2]
        for t in range(n_samples):
            if not np.isnan(samples[b, t]):
                p, q = one[b, t] ** 2, other[b, t] ** 2
                power = kept * power + (1 - kept) * min(p, q)
                weight = kept * weight + (1 - kept)
                odds *= kept
                if power > 0.0:
                    odds += (q - p) * weight / (2 * power)
            share[b, t] = 1 / (1 + np.exp(-min(max(odds, -50.0), 50.0)))
        memory[b, 0], memory[b, 1], memory[b, 2] = power, weight, odds
