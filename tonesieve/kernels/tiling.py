"""Units in which float32 matrices and memory are laid out; plain numbers, without Numba.

Derived from the hardware: 16 float32 fill a cache line of 64 bytes and a vector of AVX-512; four
running sums hide the latency of a fused multiply-add.
"""

from __future__ import annotations

LINE = 16  # numbers in a cache line, and in a vector: weights and memory begin with whole ones
TILE = 4  # lines of outputs that are summed together
TILE_WIDTH = TILE * LINE
