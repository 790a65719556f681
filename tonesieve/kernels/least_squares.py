"""Ridge regression of samples on known regressors, one sample at a time.

The solution minimises sum_t (z[t] - H[t] x)^2 + ridge |x|^2 over the samples of a window that
slides or grows:

    information = sum_t H[t]' H[t],    score = sum_t H[t]' z[t]
    x = (information + ridge I)^-1 score

A sample that enters adds a rank-1 term to both sums, one that leaves subtracts it; the normal
equations are solved by Cholesky after each sample (A. Björck, Numerical Methods for Least Squares
Problems, SIAM 1996, chapters 2 and 3). Axes: B streams, T samples, D regressors.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tonesieve.kernels.linalg import cholesky_row, cholesky_solve

# Guard: a direction whose pivot is less has no data yet, and its coefficient is 0.
MIN_PIVOT = 1e-12


@njit(cache=True, nogil=True)
def least_squares(
    samples: np.ndarray,
    design: np.ndarray,
    leaving: np.ndarray,
    leaving_design: np.ndarray,
    information: np.ndarray,
    score: np.ndarray,
    ridge: float,
    path: np.ndarray,
) -> None:
    """Ridge regression of ``samples`` (B, T) on ``design`` (T, D), solved after each sample.

    ``leaving`` (B, T) and ``leaving_design`` (T, D) leave the window as the new ones enter; NaN
    neither enters nor leaves. ``information`` (B, D, D), lower triangle, and ``score`` (B, D) are
    updated in place; ``path`` (B, T, D) takes the solutions.
    """
    n_streams, n_samples = samples.shape
    n = design.shape[1]
    L = np.empty((n, n))
    solution = np.empty(n)
    for b in range(n_streams):
        for t in range(n_samples):
            if not np.isnan(samples[b, t]):
                _rank1_update(information[b], score[b], design[t], samples[b, t], 1.0)
            if not np.isnan(leaving[b, t]):
                _rank1_update(information[b], score[b], leaving_design[t], leaving[b, t], -1.0)
            _solve(information[b], score[b], ridge, L, solution)
            path[b, t] = solution


@njit(cache=True, nogil=True)
def _rank1_update(
    information: np.ndarray, score: np.ndarray, row: np.ndarray, sample: float, sign: float
) -> None:
    for i in range(len(row)):
        score[i] += sign * row[i] * sample
        for j in range(i + 1):
            information[i, j] += sign * row[i] * row[j]


@njit(cache=True, nogil=True)
def _solve(
    information: np.ndarray, score: np.ndarray, ridge: float, L: np.ndarray, solution: np.ndarray
) -> None:
    """(information + ridge I)^-1 score; a direction without weight gets 0."""
    n = len(score)
    for i in range(n):
        pivot = cholesky_row(information, L, i, ridge)
        L[i, i] = np.sqrt(pivot) if pivot > MIN_PIVOT else np.inf
    cholesky_solve(L, score, solution, n)
