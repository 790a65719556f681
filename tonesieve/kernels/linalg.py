"""Cholesky factors of small matrices, for kernels that solve a system a sample.

A = L L', row by row: L[i, j] = (A[i, j] - sum_k L[i, k] L[j, k]) / L[j, j], k < j, and L[i, i] is
the root of the pivot A[i, i] - sum_k L[i, k]^2. What to do with a pivot that rounding has made
small differs from caller to caller, so `cholesky_row` returns it, and the caller sets L[i, i].
`kernels.least_squares` drops a direction without weight, `kernels.multiscale_fit` bounds the pivot,
`kernels.kalman_bank.whitening` bounds it relative to A[i, i].

All of it is inlined into the caller before compilation, so that it takes the caller's rules for
fused multiply-adds and division.

Source: G. H. Golub and C. F. Van Loan, Matrix Computations, 4th ed., 2013, section 4.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(inline="always")
def cholesky_row(A: np.ndarray, L: np.ndarray, i: int, ridge: float) -> Any:
    """Row i of the factor of A + ridge I left of the diagonal; returns the pivot.

    L may be A itself. Of A, the lower triangle is read.
    """
    for j in range(i):
        total = A[i, j]
        for k in range(j):
            total -= L[i, k] * L[j, k]
        L[i, j] = total / L[j, j]
    pivot = A[i, i] + ridge
    for k in range(i):
        pivot -= L[i, k] * L[i, k]
    return pivot


@njit(inline="always")
def cholesky_solve(L: np.ndarray, b: np.ndarray, x: np.ndarray, n: int) -> None:
    """Solve L L' x = b by forward and back substitution; x may be b itself."""
    for i in range(n):
        total = b[i]
        for k in range(i):
            total -= L[i, k] * x[k]
        x[i] = total / L[i, i]
    for i in range(n - 1, -1, -1):
        total = x[i]
        for k in range(i + 1, n):
            total -= L[k, i] * x[k]
        x[i] = total / L[i, i]
