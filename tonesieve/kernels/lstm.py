"""An LSTM layer over a chunk, and its gradient: for training, on one core.

Time-major. Axes: T samples, B streams, N inputs (hidden state, features, and 1 for the bias),
H hidden units. Gates i, f, g, o, of which i, f, o are half a tanh of half: the halving is in W.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tonesieve.kernels.fastmath import JIT_OPTIONS, tanh
from tonesieve.kernels.gemv import (
    collect_four,
    collect_one,
    line_of_four,
    line_of_one,
    tile_of_four,
    tile_of_one,
)
from tonesieve.kernels.network_vm.opcodes import LINE, WIDE

_HALF, _ONE = np.float32(0.5), np.float32(1.0)


@njit(**JIT_OPTIONS)
def _product(outputs: np.ndarray, inputs: np.ndarray, weights: np.ndarray) -> None:
    """outputs (B, M) = inputs (B, N) W; of the weights first a tile's width of zeros, then W."""
    n_streams, m = outputs.shape
    n = inputs.shape[1]
    tiled = m - m % WIDE
    four = n_streams - n_streams % 4
    at = WIDE
    for g in range(0, tiled, WIDE):
        for p in range(0, four, 4):
            tile_of_four(outputs, p * m + g, m, inputs, p * n, n, weights, 0, at, n)
        for p in range(four, n_streams):
            tile_of_one(outputs, p * m + g, m, inputs, p * n, n, weights, 0, at, n)
        at += WIDE * n
    for g in range(tiled, m, LINE):
        for p in range(0, four, 4):
            line_of_four(outputs, p * m + g, m, inputs, p * n, n, weights, 0, at, n)
        for p in range(four, n_streams):
            line_of_one(outputs, p * m + g, m, inputs, p * n, n, weights, 0, at, n)
        at += LINE * n


@njit(**JIT_OPTIONS)
def _accumulate_outer(outputs: np.ndarray, inputs: np.ndarray, weights: np.ndarray) -> None:
    """outputs (N, M) += inputs' (N, B) weights (B, M), M in whole tiles."""
    n, m = outputs.shape
    n_streams = inputs.shape[0]
    four = n - n % 4
    for g in range(0, m, WIDE):
        for p in range(0, four, 4):
            collect_four(outputs, p * m + g, m, inputs, p, n, weights, g, m, n_streams)
        for p in range(four, n):
            collect_one(outputs, p * m + g, m, inputs, p, n, weights, g, m, n_streams)


@njit(**JIT_OPTIONS)
def forward(
    inputs: np.ndarray,
    weights: np.ndarray,
    gates: np.ndarray,
    cells: np.ndarray,
    bent: np.ndarray,
    hidden: np.ndarray,
) -> None:
    """Through a chunk: ``inputs`` (T + 1, B, N) hold features and ones, and get the hidden states.

    The first H inputs of time t + 1 are the hidden state after sample t; those of time 0 are given,
    as is the cell state ``cells[0]`` of (T + 1, B, H). ``gates`` (T, B, 4H), before they are moved
    from tanh to sigmoid, and ``bent`` (T, B, H), the tanh of the cells, are kept for the gradient.
    ``hidden`` (B, T, H): the hidden states once more.
    """
    n_samples, n_streams, wide = gates.shape
    size = wide // 4
    for t in range(n_samples):
        _product(gates[t], inputs[t], weights)
        for p in range(n_streams):
            z, c, h = gates[t, p], cells[t, p], inputs[t + 1, p]
            after, bend = cells[t + 1, p], bent[t, p]
            for g in range(wide):
                z[g] = tanh(z[g])
            for k in range(size):
                fresh = (_HALF + _HALF * z[k]) * z[2 * size + k]
                after[k] = (_HALF + _HALF * z[size + k]) * c[k] + fresh
            for k in range(size):
                bend[k] = tanh(after[k])
            for k in range(size):
                h[k] = (_HALF + _HALF * z[3 * size + k]) * bend[k]
            copy = hidden[p, t]
            for k in range(size):
                copy[k] = h[k]


@njit(**JIT_OPTIONS)
def backward(
    of_hidden: np.ndarray,
    of_h: np.ndarray,
    of_c: np.ndarray,
    weights: np.ndarray,
    gates: np.ndarray,
    cells: np.ndarray,
    bent: np.ndarray,
    inputs: np.ndarray,
    of_gates: np.ndarray,
    of_weights: np.ndarray,
) -> None:
    """From the gradients of the hidden states (B, T, H), and of the last h and c, to all others.

    ``of_h`` and ``of_c`` (B, H) become those of the state before, and ``of_weights`` (N, 4H)
    gathers those of the weights. ``weights``: from gates back to the hidden state, in tiles.
    ``of_gates`` (T or 1, B, 4H): of what the tanhs took, kept where there is room for all times.
    """
    n_samples, n_streams, wide = gates.shape
    size = wide // 4
    kept = len(of_gates) == n_samples
    for t in range(n_samples - 1, -1, -1):
        flow = of_gates[t if kept else 0]
        for p in range(n_streams):
            z, dz, c, bend = gates[t, p], flow[p], cells[t, p], bent[t, p]
            given, dh, dc = of_hidden[p, t], of_h[p], of_c[p]
            for k in range(size):
                up = dh[k] + given[k]
                i, f = z[k], z[size + k]
                g, o = z[2 * size + k], z[3 * size + k]
                through = dc[k] + up * (_HALF + _HALF * o) * (_ONE - bend[k] * bend[k])
                dz[k] = through * g * _HALF * (_ONE - i * i)
                dz[size + k] = through * c[k] * _HALF * (_ONE - f * f)
                dz[2 * size + k] = through * (_HALF + _HALF * i) * (_ONE - g * g)
                dz[3 * size + k] = up * bend[k] * _HALF * (_ONE - o * o)
                dc[k] = through * (_HALF + _HALF * f)
        _product(of_h, flow, weights)
        _accumulate_outer(of_weights, inputs[t], flow)
