"""An LSTM layer over a chunk, and its gradient by backpropagation through time, on one core.

    i, f, o = sigmoid(W [h, u, 1]),  g = tanh(W [h, u, 1]),  c <- f c + i g,  h <- o tanh(c)

in PyTorch's order of the gates, i, f, g, o. A sigmoid is computed as 1/2 + 1/2 tanh(x/2); the
caller has put the inner 1/2 into W.

Source: S. Hochreiter and J. Schmidhuber, Neural Computation 9, 1997; with the forget gate: F. A.
Gers et al., Neural Computation 12, 2000. Time-major. Axes: T samples, B streams, N inputs (hidden
state h, features u, and 1 for the bias), H hidden units.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tonesieve.kernels.fastmath import JIT_OPTIONS, tanh
from tonesieve.kernels.gemv import (
    gemv_line_1,
    gemv_line_4,
    gemv_tile_1,
    gemv_tile_4,
    outer_accumulate_1,
    outer_accumulate_4,
)
from tonesieve.kernels.tiling import LINE, TILE_WIDTH

_HALF, _ONE = np.float32(0.5), np.float32(1.0)


@njit(**JIT_OPTIONS)
def _matmul(outputs: np.ndarray, inputs: np.ndarray, weights: np.ndarray) -> None:
    """outputs (B, M) = inputs (B, N) W; ``weights``: a tile's width of zeros as bias, then W."""
    n_streams, m = outputs.shape
    n = inputs.shape[1]
    tiled = m - m % TILE_WIDTH
    n_by_4 = n_streams - n_streams % 4
    offset = TILE_WIDTH
    for g in range(0, tiled, TILE_WIDTH):
        for p in range(0, n_by_4, 4):
            gemv_tile_4(outputs, p * m + g, m, inputs, p * n, n, weights, 0, offset, n)
        for p in range(n_by_4, n_streams):
            gemv_tile_1(outputs, p * m + g, m, inputs, p * n, n, weights, 0, offset, n)
        offset += TILE_WIDTH * n
    for g in range(tiled, m, LINE):
        for p in range(0, n_by_4, 4):
            gemv_line_4(outputs, p * m + g, m, inputs, p * n, n, weights, 0, offset, n)
        for p in range(n_by_4, n_streams):
            gemv_line_1(outputs, p * m + g, m, inputs, p * n, n, weights, 0, offset, n)
        offset += LINE * n


@njit(**JIT_OPTIONS)
def _accumulate_outer(outputs: np.ndarray, inputs: np.ndarray, weights: np.ndarray) -> None:
    """outputs (N, M) += inputs' (N, B) weights (B, M), M in whole tiles."""
    n, m = outputs.shape
    n_streams = inputs.shape[0]
    n_by_4 = n - n % 4
    for g in range(0, m, TILE_WIDTH):
        for p in range(0, n_by_4, 4):
            outer_accumulate_4(outputs, p * m + g, m, inputs, p, n, weights, g, m, n_streams)
        for p in range(n_by_4, n):
            outer_accumulate_1(outputs, p * m + g, m, inputs, p, n, weights, g, m, n_streams)


@njit(**JIT_OPTIONS)
def forward(
    inputs: np.ndarray,
    weights: np.ndarray,
    gates: np.ndarray,
    cells: np.ndarray,
    tanh_cells: np.ndarray,
    hidden: np.ndarray,
) -> None:
    """Run a chunk; the first H of ``inputs`` (T + 1, B, N) at time t + 1 become h after sample t.

    Given: features and ones in ``inputs``, h in ``inputs[0]``, c in ``cells[0]`` of (T + 1, B, H).
    Stored for the gradient: ``gates`` (T, B, 4H), before 1/2 + 1/2 tanh makes sigmoids of them, and
    ``tanh_cells`` (T, B, H). ``hidden`` (B, T, H) takes the hidden states once more.
    """
    n_samples, n_streams, n_gates = gates.shape
    size = n_gates // 4
    for t in range(n_samples):
        _matmul(gates[t], inputs[t], weights)
        for p in range(n_streams):
            z, c, h = gates[t, p], cells[t, p], inputs[t + 1, p]
            c_new, tanh_c = cells[t + 1, p], tanh_cells[t, p]
            for g in range(n_gates):
                z[g] = tanh(z[g])
            for k in range(size):
                new = (_HALF + _HALF * z[k]) * z[2 * size + k]
                c_new[k] = (_HALF + _HALF * z[size + k]) * c[k] + new
            for k in range(size):
                tanh_c[k] = tanh(c_new[k])
            for k in range(size):
                h[k] = (_HALF + _HALF * z[3 * size + k]) * tanh_c[k]
            copy = hidden[p, t]
            for k in range(size):
                copy[k] = h[k]


@njit(**JIT_OPTIONS)
def backward(
    grad_hidden: np.ndarray,
    grad_h: np.ndarray,
    grad_c: np.ndarray,
    weights: np.ndarray,
    gates: np.ndarray,
    cells: np.ndarray,
    tanh_cells: np.ndarray,
    inputs: np.ndarray,
    grad_gates: np.ndarray,
    grad_weights: np.ndarray,
) -> None:
    """Gradients from those of the hidden states (B, T, H) and of the last h and c.

    ``grad_h`` and ``grad_c`` (B, H) become those of the state before the chunk; ``grad_weights``
    (N, 4H) is added to. ``weights``: from the gates back to the hidden state, in tiles.
    ``grad_gates`` (T or 1, B, 4H): before the tanh, of all times where there is memory for them.
    """
    n_samples, n_streams, n_gates = gates.shape
    size = n_gates // 4
    keeps_all = len(grad_gates) == n_samples
    for t in range(n_samples - 1, -1, -1):
        dgates = grad_gates[t if keeps_all else 0]
        for p in range(n_streams):
            z, dz, c, tanh_c = gates[t, p], dgates[p], cells[t, p], tanh_cells[t, p]
            dh_out, dh, dc = grad_hidden[p, t], grad_h[p], grad_c[p]
            for k in range(size):
                dh_total = dh[k] + dh_out[k]
                i, f = z[k], z[size + k]
                g, o = z[2 * size + k], z[3 * size + k]
                dc_total = dc[k] + dh_total * (_HALF + _HALF * o) * (_ONE - tanh_c[k] * tanh_c[k])
                dz[k] = dc_total * g * _HALF * (_ONE - i * i)
                dz[size + k] = dc_total * c[k] * _HALF * (_ONE - f * f)
                dz[2 * size + k] = dc_total * (_HALF + _HALF * i) * (_ONE - g * g)
                dz[3 * size + k] = dh_total * tanh_c[k] * _HALF * (_ONE - o * o)
                dc[k] = dc_total * (_HALF + _HALF * f)
        _matmul(grad_h, dgates, weights)
        _accumulate_outer(grad_weights, inputs[t], dgates)
