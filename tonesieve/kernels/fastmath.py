"""What the compiled networks have in common: how they are compiled, whole lines, and tanh."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from tonesieve.kernels.network_vm.opcodes import LINE

# tanh(x) as x P(x^2) / Q(x^2), of degrees 13 and 6 in x, for |x| below where float32 has 1:
# the coefficients of Eigen's generic_fast_tanh_float; its error is a few units of the last place.
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
_ENOUGH = np.float32(7.90531110763549805)
# Contraction alone: whatever else "fast" allows would let the order of a sum depend on how many
# streams are computed. Without the check for division by zero, loops become vectors.
JIT_OPTIONS: Any = {
    "error_model": "numpy",
    "fastmath": {"contract", "nsz"},
    "nogil": True,
    "cache": True,
}


@njit(inline="always", **JIT_OPTIONS)
def pad_to_line(n: int) -> int:
    """So many numbers in whole lines."""
    return n + -n % LINE


@njit(inline="always", **JIT_OPTIONS)
def tanh(x: Any) -> Any:
    x = min(max(x, -_ENOUGH), _ENOUGH)
    y = x * x
    p = ((((((_P13 * y + _P11) * y + _P9) * y + _P7) * y + _P5) * y + _P3) * y + _P1) * x
    return p / (((_Q6 * y + _Q4) * y + _Q2) * y + _Q0)
