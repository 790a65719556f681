"""Ridge regression of samples on known regressors, sliding or growing, one sample at a time."""

from __future__ import annotations

import numpy as np
from numba import njit


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
                _rank1_update(information[b], evidence[b], rows[t], samples[b, t], 1.0)
            if not np.isnan(gone[b, t]):
                _rank1_update(information[b], evidence[b], gone_rows[t], gone[b, t], -1.0)
            _solve(information[b], evidence[b], ridge, root, solution)
            path[b, t] = solution


@njit(cache=True, nogil=True)
def _rank1_update(
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
