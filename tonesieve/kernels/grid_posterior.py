"""Posterior over the start of a record, one sample at a time."""

from __future__ import annotations

import numpy as np
from numba import njit

# Starts whose share of the posterior falls below this are given up: being a posterior, it is
# also the probability that one of them was the truth.
PRUNE_BELOW = 1e-18
PRUNE_BELOW_OLD = 1e-9  # the same in single precision


@njit(cache=True, nogil=True)
def _density(lows: np.ndarray, per_step: np.ndarray, values: np.ndarray, j: int, x: float) -> float:
    place = (x - lows[j]) * per_step[j]
    k = int(place)
    if place < 0.0 or k >= values.shape[1] - 1:
        return 0.0
    u = place - k
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
    """Take samples (B, T) in; weights (B, P) are renewed in place.

    Start m stands at position m + n advance when sample n comes, n counted from ``age``. After
    each sample the posterior mean and variance (B, T, K) of the targets (P, K) are read: those of
    ``lag`` samples ago, at most of sample ``anchor``. NaN samples, and such as no start explains,
    tell nothing.
    """
    n_streams, n_samples = samples.shape
    n_starts, n_tones = targets.shape
    alive = np.empty(n_starts, np.int64)
    held = np.empty(n_starts)
    fresh = np.empty(n_starts)
    for b in range(n_streams):
        n_alive = 0
        for m in range(n_starts):
            if weights[b, m] > 0.0:
                alive[n_alive] = m
                held[n_alive] = weights[b, m]
                n_alive += 1
        for t in range(n_samples):
            x = samples[b, t]
            if not np.isnan(x):
                turned = (age + t) * advance
                whole = int(np.floor(turned))
                u = turned - whole
                whole %= n_starts
                total = 0.0
                for i in range(n_alive):
                    j = alive[i] + whole
                    if j >= n_starts:
                        j -= n_starts
                    p = _density(lows, per_step, values, j, x)
                    if u > 0.0:
                        j = j + 1 if j + 1 < n_starts else 0
                        p = (1.0 - u) * p + u * _density(lows, per_step, values, j, x)
                    fresh[i] = held[i] * p
                    total += fresh[i]
                if total > 0.0:
                    kept = 0
                    for i in range(n_alive):
                        share = fresh[i] / total
                        if share > PRUNE_BELOW:
                            alive[kept] = alive[i]
                            held[kept] = share
                            kept += 1
                    n_alive = kept
            read = min(age + t - lag, anchor)
            turned = read * advance
            whole = int(np.floor(turned))
            u = turned - whole
            whole %= n_starts
            for k in range(n_tones):
                mean[b, t, k] = 0.0
                variance[b, t, k] = 0.0
            for i in range(n_alive):
                j = alive[i] + whole
                if j >= n_starts:
                    j -= n_starts
                after = j + 1 if j + 1 < n_starts else 0
                for k in range(n_tones):
                    target = (1.0 - u) * targets[j, k] + u * targets[after, k]
                    mean[b, t, k] += held[i] * target
                    variance[b, t, k] += held[i] * target * target
            for k in range(n_tones):
                variance[b, t, k] = max(0.0, variance[b, t, k] - mean[b, t, k] ** 2)
        weights[b] = 0.0
        for i in range(n_alive):
            weights[b, alive[i]] = held[i]


@njit(cache=True, nogil=True)
def smooth(
    weights: np.ndarray, advance: float, targets: np.ndarray, mean: np.ndarray, variance: np.ndarray
) -> None:
    """Posterior mean and variance (B, T, K) of every sample's targets from the last weights."""
    n_streams, n_samples, n_tones = mean.shape
    n_starts = len(targets)
    for b in range(n_streams):
        alive = np.nonzero(weights[b])[0]
        for t in range(n_samples):
            turned = t * advance
            whole = int(np.floor(turned))
            u = turned - whole
            for k in range(n_tones):
                mean[b, t, k] = 0.0
                variance[b, t, k] = 0.0
            for m in alive:
                j = (m + whole) % n_starts
                after = (j + 1) % n_starts
                for k in range(n_tones):
                    target = (1.0 - u) * targets[j, k] + u * targets[after, k]
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
    """The means alone that `filter` gives from the beginning, where a sample is whole positions on.

    All in single precision, and four times as fast: for what is learned from, not for the limit.
    Gaps are the largest samples there are, since this arithmetic knows no NaN.
    """
    n_streams, n_samples = samples.shape
    n_starts, n_tones = targets.shape
    last = values.shape[1] - 1
    nothing, most = np.float32(0.0), np.float32(3e38)
    place = np.empty(n_starts, np.int64)  # of every start that is left
    held, fresh = np.empty(n_starts, np.float32), np.empty(n_starts, np.float32)
    for b in range(n_streams):
        n_alive = n_starts
        held[:] = np.float32(1.0) / np.float32(n_starts)
        for m in range(n_starts):
            place[m] = m
        for t in range(n_samples):
            x = samples[b, t]
            total = nothing
            if abs(x) < most:
                for i in range(n_alive):
                    j = place[i]
                    at = (x - lows[j]) * per_step[j]
                    inside = (at >= nothing) & (at < np.float32(last))
                    k = int(at) if inside else 0
                    u = at - np.float32(k)
                    p = values[j, k] + u * (values[j, k + 1] - values[j, k])
                    fresh[i] = held[i] * p if inside else nothing
                    total += fresh[i]
            if total > nothing:
                each = np.float32(1.0) / total
                kept = 0
                for i in range(n_alive):
                    share = fresh[i] * each
                    if share > np.float32(PRUNE_BELOW_OLD):
                        place[kept] = place[i]
                        held[kept] = share
                        kept += 1
                n_alive = kept
            for k in range(n_tones):
                mean[b, t, k] = nothing
            for i in range(n_alive):
                j = place[i]
                for k in range(n_tones):
                    mean[b, t, k] += held[i] * targets[j, k]
                j += advance
                place[i] = j if j < n_starts else j % n_starts
