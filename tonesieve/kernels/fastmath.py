"""Compiler options, padding and the hyperbolic tangent of the compiled kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from tonesieve.kernels.tiling import LINE

# Derived: tanh(x) as x P(x^2) / Q(x^2), of degrees 13 and 6 in x, for |x| below where float32 has
# 1, with the coefficients of Eigen's generic_fast_tanh_float (MathFunctionsImpl.h); the error is a
# few units of the last place.
_P = tuple(
    np.float32(c)
    for c in (
        4.89352455891786e-03,
        6.37261928875436e-04,
        1.48572235717979e-05,
        5.12229709037114e-08,
        -8.60467152213735e-11,
        2.00018790482477e-13,
        -2.76076847742355e-16,
    )
)
_P1, _P3, _P5, _P7, _P9, _P11, _P13 = _P
_Q0, _Q2, _Q4, _Q6 = (
    np.float32(c)
    for c in (
        4.89352518554385e-03,
        2.26843463243900e-03,
        1.18534705686654e-04,
        1.19825839466702e-06,
    )
)
# Derived: the least x whose tanh rounds to 1 in that form.
_TANH_LIMIT = np.float32(7.90531110763549805)
# Contraction (fused multiply-add) and the sign of zero alone: reassociation would let the order of
# a sum depend on the number of streams. Without the check for division by zero, loops vectorise.
JIT_OPTIONS: Any = {
    "error_model": "numpy",
    "fastmath": {"contract", "nsz"},
    "nogil": True,
    "cache": True,
}


@njit(inline="always", **JIT_OPTIONS)
def pad_to_line(n: int) -> int:
    """The least multiple of `LINE` that holds n numbers."""
    return n + -n % LINE


@njit(inline="always", **JIT_OPTIONS)
def tanh(x: Any) -> Any:
    x = min(max(x, -_TANH_LIMIT), _TANH_LIMIT)
    y = x * x
    p = ((((((_P13 * y + _P11) * y + _P9) * y + _P7) * y + _P5) * y + _P3) * y + _P1) * x
    return p / (((_Q6 * y + _Q4) * y + _Q2) * y + _Q0)
