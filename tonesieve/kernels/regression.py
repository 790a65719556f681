"""Sinusoids fitted to samples, one sample at a time."""

from __future__ import annotations

import numpy as np
from numba import njit


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
    means after each sample are kept in ``path`` (B, T, D). NaN: predict only. Joseph's form, so
    that rounding leaves the covariance symmetric and positive.
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
                    for i in range(n):
                        for j in range(i + 1):
                            less = gain[i] * reach[j] + reach[i] * gain[j]
                            renewed = covariance[b, i, j] - less + gain[i] * spread * gain[j]
                            covariance[b, i, j] = renewed
                            covariance[b, j, i] = renewed
            for i in range(n):
                path[b, t, i] = mean[b, i]


@njit(cache=True, nogil=True)
def least_squares(
    samples: np.ndarray,
    rows: np.ndarray,
    gone: np.ndarray,
    gone_rows: np.ndarray,
    information: np.ndarray,
    evidence: np.ndarray,
    ridge: float,
    path: np.ndarray,
) -> None:
    """Ridge regression of the samples (B, T) on rows (T, D), solved anew after each sample.

    ``gone`` (B, T) and ``gone_rows`` leave the window as the new ones enter; NaN: nothing enters
    or leaves. ``information`` (B, D, D) and ``evidence`` (B, D) are renewed in place, the
    solutions are kept in ``path`` (B, T, D).
    """
    n_streams, n_samples = samples.shape
    n = rows.shape[1]
    root = np.empty((n, n))
    solution = np.empty(n)
    for b in range(n_streams):
        for t in range(n_samples):
            if not np.isnan(samples[b, t]):
                _add(information[b], evidence[b], rows[t], samples[b, t], 1.0)
            if not np.isnan(gone[b, t]):
                _add(information[b], evidence[b], gone_rows[t], gone[b, t], -1.0)
            _solve(information[b], evidence[b], ridge, root, solution)
            path[b, t] = solution


@njit(cache=True, nogil=True)
def _add(
    information: np.ndarray, evidence: np.ndarray, row: np.ndarray, sample: float, sign: float
) -> None:
    for i in range(len(row)):
        evidence[i] += sign * row[i] * sample
        for j in range(i + 1):
            information[i, j] += sign * row[i] * row[j]


@njit(cache=True, nogil=True)
def _solve(
    information: np.ndarray,
    evidence: np.ndarray,
    ridge: float,
    root: np.ndarray,
    solution: np.ndarray,
) -> None:
    """(information + ridge I)^-1 evidence by Cholesky; a direction without weight gets nothing."""
    n = len(evidence)
    for i in range(n):
        for j in range(i + 1):
            rest = information[i, j] + (ridge if i == j else 0.0)
            for k in range(j):
                rest -= root[i, k] * root[j, k]
            if i == j:
                root[i, i] = np.sqrt(rest) if rest > 1e-12 else np.inf
            else:
                root[i, j] = rest / root[j, j]
    for i in range(n):
        rest = evidence[i]
        for k in range(i):
            rest -= root[i, k] * solution[k]
        solution[i] = rest / root[i, i]
    for i in range(n - 1, -1, -1):
        rest = solution[i]
        for k in range(i + 1, n):
            rest -= root[k, i] * solution[k]
        solution[i] = rest / root[i, i]
