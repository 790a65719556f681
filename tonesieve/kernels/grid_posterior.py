"""Grid Bayes filter over the start of a record, one sample at a time.

The unknown start m is one of P positions of a period; given m the samples are independent:

    p(m | z[..t]) ~ p(z[t] | m + t advance) p(m | z[..t-1])

A position that falls between two grid points takes its density and its targets by linear
interpolation. As the start does not change, the smoother is the last posterior read at all times.

Source: S. Thrun, W. Burgard and D. Fox, Probabilistic Robotics, MIT Press 2005, section 4.1
(the histogram filter). Axes: B streams, T samples, P starts, K targets, N nodes of a density.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# Guard: starts whose posterior falls below this are dropped; it is also the probability that one
# of them was the true one. Chosen well below the rounding of a sum of posteriors.
PRUNE_BELOW_F64, PRUNE_BELOW_F32 = 1e-18, 1e-9
# Guard: samples beyond this are gaps, in arithmetic that has no NaN.
MAX_F32 = 3e38


@njit(cache=True, nogil=True)
def _density(lows: np.ndarray, per_step: np.ndarray, values: np.ndarray, j: int, x: float) -> float:
    node = (x - lows[j]) * per_step[j]
    k = int(node)
    if node < 0.0 or k >= values.shape[1] - 1:
        return 0.0
    u = node - k
    return float((1.0 - u) * values[j, k] + u * values[j, k + 1])


@njit(cache=True, nogil=True)
def filter(
    samples: np.ndarray,
    weights: np.ndarray,
    age: int,
    advance: float,
    lag: int,
    anchor: int,
    lows: np.ndarray,
    per_step: np.ndarray,
    values: np.ndarray,
    targets: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
) -> None:
    """Posterior after each of the samples (B, T); ``weights`` (B, P) are updated in place.

    Sample n, counted from ``age``, of start m is at position m + n advance. ``mean`` and
    ``variance`` (B, T, K) take the posterior moments of the ``targets`` (P, K): those of ``lag``
    samples ago, at most of sample ``anchor``. Position j has the density ``values`` (P, N) on a
    grid from ``lows`` (P), ``per_step`` (P) nodes a unit. NaN samples, and those that no start
    explains, leave the posterior as it is.
    """
    n_streams, n_samples = samples.shape
    n_starts, n_tones = targets.shape
    active = np.empty(n_starts, np.int64)
    posterior = np.empty(n_starts)
    joint = np.empty(n_starts)
    for b in range(n_streams):
        n_active = 0
        for m in range(n_starts):
            if weights[b, m] > 0.0:
                active[n_active] = m
                posterior[n_active] = weights[b, m]
                n_active += 1
        for t in range(n_samples):
            x = samples[b, t]
            if not np.isnan(x):
                shift = (age + t) * advance
                whole = int(np.floor(shift))
                u = shift - whole
                whole %= n_starts
                total = 0.0
                for i in range(n_active):
                    j = active[i] + whole
                    if j >= n_starts:
                        j -= n_starts
                    p = _density(lows, per_step, values, j, x)
                    if u > 0.0:
                        j = j + 1 if j + 1 < n_starts else 0
                        p = (1.0 - u) * p + u * _density(lows, per_step, values, j, x)
                    joint[i] = posterior[i] * p
                    total += joint[i]
                if total > 0.0:
                    n_left = 0
                    for i in range(n_active):
                        updated = joint[i] / total
                        if updated > PRUNE_BELOW_F64:
                            active[n_left] = active[i]
                            posterior[n_left] = updated
                            n_left += 1
                    n_active = n_left
            target_time = min(age + t - lag, anchor)
            shift = target_time * advance
            whole = int(np.floor(shift))
            u = shift - whole
            whole %= n_starts
            for k in range(n_tones):
                mean[b, t, k] = 0.0
                variance[b, t, k] = 0.0
            for i in range(n_active):
                j = active[i] + whole
                if j >= n_starts:
                    j -= n_starts
                next_j = j + 1 if j + 1 < n_starts else 0
                for k in range(n_tones):
                    target = (1.0 - u) * targets[j, k] + u * targets[next_j, k]
                    mean[b, t, k] += posterior[i] * target
                    variance[b, t, k] += posterior[i] * target * target
            for k in range(n_tones):
                variance[b, t, k] = max(0.0, variance[b, t, k] - mean[b, t, k] ** 2)
        weights[b] = 0.0
        for i in range(n_active):
            weights[b, active[i]] = posterior[i]


@njit(cache=True, nogil=True)
def smooth(
    weights: np.ndarray, advance: float, targets: np.ndarray, mean: np.ndarray, variance: np.ndarray
) -> None:
    """Posterior moments (B, T, K) of every sample's targets, given the last ``weights`` (B, P)."""
    n_streams, n_samples, n_tones = mean.shape
    n_starts = len(targets)
    for b in range(n_streams):
        active = np.nonzero(weights[b])[0]
        for t in range(n_samples):
            shift = t * advance
            whole = int(np.floor(shift))
            u = shift - whole
            for k in range(n_tones):
                mean[b, t, k] = 0.0
                variance[b, t, k] = 0.0
            for m in active:
                j = (m + whole) % n_starts
                next_j = (j + 1) % n_starts
                for k in range(n_tones):
                    target = (1.0 - u) * targets[j, k] + u * targets[next_j, k]
                    mean[b, t, k] += weights[b, m] * target
                    variance[b, t, k] += weights[b, m] * target * target
            for k in range(n_tones):
                variance[b, t, k] = max(0.0, variance[b, t, k] - mean[b, t, k] ** 2)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
def posterior_mean_f32(
    samples: np.ndarray,
    advance: int,
    lows: np.ndarray,
    per_step: np.ndarray,
    values: np.ndarray,
    targets: np.ndarray,
    mean: np.ndarray,
) -> None:
    """Posterior mean (B, T, K) as `filter` gives it, in single precision and four times as fast.

    From equal weights, for an ``advance`` of whole positions. It makes the targets of training; the
    limit is computed in double precision. Gaps are samples beyond `MAX_F32`.
    """
    n_streams, n_samples = samples.shape
    n_starts, n_tones = targets.shape
    last = values.shape[1] - 1
    zero, max_sample = np.float32(0.0), np.float32(MAX_F32)
    position = np.empty(n_starts, np.int64)  # of every active start
    posterior, joint = np.empty(n_starts, np.float32), np.empty(n_starts, np.float32)
    for b in range(n_streams):
        n_active = n_starts
        posterior[:] = np.float32(1.0) / np.float32(n_starts)
        for m in range(n_starts):
            position[m] = m
        for t in range(n_samples):
            x = samples[b, t]
            total = zero
            if abs(x) < max_sample:
                for i in range(n_active):
                    j = position[i]
                    node = (x - lows[j]) * per_step[j]
                    inside = (node >= zero) & (node < np.float32(last))
                    k = int(node) if inside else 0
                    u = node - np.float32(k)
                    p = values[j, k] + u * (values[j, k + 1] - values[j, k])
                    joint[i] = posterior[i] * p if inside else zero
                    total += joint[i]
            if total > zero:
                inverse = np.float32(1.0) / total
                n_left = 0
                for i in range(n_active):
                    updated = joint[i] * inverse
                    if updated > np.float32(PRUNE_BELOW_F32):
                        position[n_left] = position[i]
                        posterior[n_left] = updated
                        n_left += 1
                n_active = n_left
            for k in range(n_tones):
                mean[b, t, k] = zero
            for i in range(n_active):
                j = position[i]
                for k in range(n_tones):
                    mean[b, t, k] += posterior[i] * targets[j, k]
                j += advance
                position[i] = j if j < n_starts else j % n_starts
