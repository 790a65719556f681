"""Bytecode interpreter of trained recurrent networks, one sample at a time.

A network is three arrays: ``program`` (int32, a row an instruction, see `opcodes`), ``weights``
(float32, transposed, so that the innermost loop runs over outputs) and ``memory`` (float32, a row a
stream), which holds the state and all intermediate values. One sample, a block, and many streams
take the same operations in the same order, so that they agree to the last bit.

Layers: LSTM (Hochreiter and Schmidhuber 1997), GRU (K. Cho et al. 2014, arXiv:1406.1078), layer
norm (J. L. Ba et al. 2016, arXiv:1607.06450), FiLM (E. Perez et al. 2018, arXiv:1709.07871), GELU
(D. Hendrycks and K. Gimpel 2016, arXiv:1606.08415), linear recurrent unit (A. Orvieto et al. 2023,
arXiv:2303.06349), observer (`kernels.observer`). Gates are in PyTorch's order.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from tonesieve.kernels.fastmath import JIT_OPTIONS, pad_to_line, tanh
from tonesieve.kernels.gemv import gemv_line_1, gemv_line_4, gemv_tile_1, gemv_tile_4
from tonesieve.kernels.network_vm import opcodes as codes
from tonesieve.kernels.network_vm.opcodes import GELU, RELU, WIDTH
from tonesieve.kernels.tiling import LINE, TILE_WIDTH

HEADER = 5  # derived: numbers before a program, where all is in one array
# Chosen, not tuned: streams whose memories stay in the L1 cache during a block.
STREAMS_PER_BLOCK = 16
EPSILON = np.float32(codes.EPSILON)

_HALF, _ONE, _ZERO = np.float32(0.5), np.float32(1.0), np.float32(0.0)
_ROOT_HALF = np.float32(math.sqrt(0.5))


@njit(inline="always", **JIT_OPTIONS)
def _fill_gap(sample: Any) -> Any:
    """A gap becomes 0, the mean, as in training."""
    return sample if np.isfinite(sample) else _ZERO


@njit(**JIT_OPTIONS)
def _affine(
    memory: np.ndarray, y: int, x: int, n: int, m: int, weights: np.ndarray, w: int, reverse: bool
) -> None:
    """y = b + W x for every stream: n inputs, and m outputs, in whole lines.

    ``reverse``: the last outputs first, which uses the weights that are still in the cache from the
    sample before; the outputs are the same.
    """
    n_streams, stride = memory.shape
    m = pad_to_line(m)
    n_tiles = m // TILE_WIDTH
    lines, n_lines = w + m + n_tiles * TILE_WIDTH * n, (m - n_tiles * TILE_WIDTH) // LINE
    n_by_4 = n_streams - n_streams % 4
    for i in range(n_tiles):
        g = (n_tiles - 1 - i if reverse else i) * TILE_WIDTH
        bias, matrix = w + g, w + m + g * n
        for p in range(0, n_by_4, 4):
            y_p, x_p = p * stride + y + g, p * stride + x
            gemv_tile_4(memory, y_p, stride, memory, x_p, stride, weights, bias, matrix, n)
        for p in range(n_by_4, n_streams):
            y_p, x_p = p * stride + y + g, p * stride + x
            gemv_tile_1(memory, y_p, stride, memory, x_p, stride, weights, bias, matrix, n)
    for i in range(n_lines):
        g = n_tiles * TILE_WIDTH + i * LINE
        bias, matrix = w + g, lines + i * LINE * n
        for p in range(0, n_by_4, 4):
            y_p, x_p = p * stride + y + g, p * stride + x
            gemv_line_4(memory, y_p, stride, memory, x_p, stride, weights, bias, matrix, n)
        for p in range(n_by_4, n_streams):
            y_p, x_p = p * stride + y + g, p * stride + x
            gemv_line_1(memory, y_p, stride, memory, x_p, stride, weights, bias, matrix, n)


@njit(**JIT_OPTIONS)
def _copy(memory: np.ndarray, x: int, to: int, n: int) -> None:
    """Inputs to where they lie in one row with the state."""
    for p in range(memory.shape[0]):
        for k in range(n):
            memory[p, to + k] = memory[p, x + k]


@njit(**JIT_OPTIONS)
def _lstm(row: np.ndarray, gates: int, h_offset: int, c_offset: int, size: int) -> None:
    """Gates i, f, g, o; sigmoid(x) = 1/2 + 1/2 tanh(x/2), whose inner 1/2 is in the weights."""
    z = row[gates : gates + 4 * size]
    for g in range(4 * size):
        z[g] = tanh(z[g])
    h, c = row[h_offset : h_offset + size], row[c_offset : c_offset + size]
    for k in range(size):
        new = (_HALF + _HALF * z[k]) * z[2 * size + k]
        c[k] = (_HALF + _HALF * z[size + k]) * c[k] + new
    for k in range(size):
        h[k] = (_HALF + _HALF * z[3 * size + k]) * tanh(c[k])


@njit(**JIT_OPTIONS)
def _gru(row: np.ndarray, from_input: int, from_state: int, h_offset: int, size: int) -> None:
    """Gates r, z, n: what the input and what the state contributes to each."""
    w_input = row[from_input : from_input + 3 * size]
    w_hidden = row[from_state : from_state + 3 * size]
    for g in range(2 * size):
        w_input[g] = _HALF + _HALF * tanh(w_input[g] + w_hidden[g])
    h = row[h_offset : h_offset + size]
    for k in range(size):
        new = tanh(w_input[2 * size + k] + w_input[k] * w_hidden[2 * size + k])
        h[k] = new + w_input[size + k] * (h[k] - new)


@njit(**JIT_OPTIONS)
def _norm(row: np.ndarray, y: int, x: int, n: int, weights: np.ndarray, w: int) -> None:
    """Layer norm; weights: gains, then biases."""
    total = _ZERO
    for k in range(n):
        total += row[x + k]
    mean = total / np.float32(n)
    total = _ZERO
    for k in range(n):
        total += (row[x + k] - mean) * (row[x + k] - mean)
    scale = _ONE / np.sqrt(total / np.float32(n) + EPSILON)
    for k in range(n):
        row[y + k] = (row[x + k] - mean) * scale * weights[w + k] + weights[w + n + k]


@njit(**JIT_OPTIONS)
def _activate(row: np.ndarray, y: int, m: int, activation: int) -> None:
    if activation == RELU:
        for g in range(m):
            row[y + g] = max(row[y + g], _ZERO)
    elif activation == GELU:
        for g in range(m):
            x = row[y + g]
            row[y + g] = np.float32(_HALF * x * (_ONE + np.float32(math.erf(x * _ROOT_HALF))))


@njit(**JIT_OPTIONS)
def _oscillate(row: np.ndarray, drive: int, h: int, n: int, weights: np.ndarray, w: int) -> None:
    """h <- lambda h + drive, n complex numbers: real parts, then imaginary parts."""
    for k in range(n):
        real, imag = row[h + k], row[h + n + k]
        c, s = weights[w + k], weights[w + n + k]
        row[h + k] = c * real - s * imag + row[drive + k]
        row[h + n + k] = s * real + c * imag + row[drive + n + k]


@njit(**JIT_OPTIONS)
def _observe(row: np.ndarray, gains: int, x: int, n: int, weights: np.ndarray, w: int) -> None:
    """x <- A x + L (c z - C A x), of n rotating pairs.

    Gains L: 2 n directions and the logarithm of their size. Weights: cosines and sines of A, C, c.
    """
    innovation = weights[w + 4 * n] * row[0]
    for k in range(n):
        real, imag = row[x + k], row[x + n + k]
        c, s = weights[w + k], weights[w + n + k]
        row[x + k] = c * real - s * imag
        row[x + n + k] = s * real + c * imag
    for k in range(2 * n):
        innovation -= weights[w + 2 * n + k] * row[x + k]
    innovation *= np.exp(row[gains + 2 * n])
    for k in range(2 * n):
        row[x + k] += row[gains + k] * innovation


@njit(**JIT_OPTIONS)
def _execute(program: np.ndarray, weights: np.ndarray, memory: np.ndarray, reverse: bool) -> None:
    """One sample of every stream, whose features are in memory."""
    n_streams = memory.shape[0]
    for i in range(program.shape[0]):
        code, extra = program[i, 0], np.int64(program[i, 7])
        n, m = np.int64(program[i, 1]), np.int64(program[i, 2])
        x, y = np.int64(program[i, 3]), np.int64(program[i, 4])
        w, state = np.int64(program[i, 5]), np.int64(program[i, 6])
        if code == codes.LSTM:
            _copy(memory, x, state + m, n)
            _affine(memory, y, state, m + n, 4 * m, weights, w, reverse)
            for p in range(n_streams):
                _lstm(memory[p], y, state, state + m + n, m)
        elif code == codes.GRU:
            _affine(memory, y, x, n, 3 * m, weights, w, reverse)
            y_state = y + pad_to_line(3 * m)
            w_state = w + pad_to_line(3 * m) * (1 + n)
            _affine(memory, y_state, state, m, 3 * m, weights, w_state, reverse)
            for p in range(n_streams):
                _gru(memory[p], y, y_state, state, m)
        elif code == codes.RNN:
            _copy(memory, x, state + m, n)
            _affine(memory, y, state, m + n, m, weights, w, reverse)
            for p in range(n_streams):
                for k in range(m):
                    memory[p, state + k] = tanh(memory[p, y + k])
        elif code == codes.AFFINE:
            _affine(memory, y, x, n, m, weights, w, reverse)
            for p in range(n_streams):
                _activate(memory[p], y, m, extra)
        elif code == codes.NORM:
            for p in range(n_streams):
                _norm(memory[p], y, x, n, weights, w)
        elif code == codes.ADD:
            for p in range(n_streams):
                for k in range(n):
                    memory[p, y + k] += memory[p, x + k]
        elif code == codes.FILM:
            for p in range(n_streams):
                for k in range(n):
                    gain = _ONE + memory[p, state + k]
                    memory[p, y + k] = gain * memory[p, x + k] + memory[p, state + n + k]
        elif code == codes.OSCILLATE:
            for p in range(n_streams):
                _oscillate(memory[p], y, state, m, weights, w)
        elif code == codes.AGE_FEATURES:
            for p in range(n_streams):
                for k in range(n):
                    memory[p, state + k] += (_ONE - memory[p, state + k]) * weights[w + k]
        elif code == codes.OBSERVER:
            for p in range(n_streams):
                _observe(memory[p], x, state, n, weights, w)
        elif code == codes.SHIFT_IN:
            for p in range(n_streams):
                row = memory[p]
                for k in range(extra - n):
                    row[y + k] = row[y + k + n]
                for k in range(n):
                    row[y + extra - n + k] = row[x + k]


@njit(
    "void(int32[:, ::1], float32[::1], float32[:, ::1], float32[:, :, ::1], int64, int64, "
    "float32[:, :, ::1])",
    **JIT_OPTIONS,
)
def run_block(
    program: np.ndarray,
    weights: np.ndarray,
    memory: np.ndarray,
    samples: np.ndarray,
    output_offset: int,
    n_outputs: int,
    out: np.ndarray,
) -> None:
    """Outputs (B, T, O) of samples (B, T, F); memories (B, M) are updated in place."""
    for first in range(0, samples.shape[0], STREAMS_PER_BLOCK):
        last = min(first + STREAMS_PER_BLOCK, samples.shape[0])
        block = memory[first:last]
        for t in range(samples.shape[1]):
            for b in range(first, last):
                for k in range(samples.shape[2]):
                    memory[b, k] = _fill_gap(samples[b, t, k])
            _execute(program, weights, block, t % 2 == 1)
            for b in range(first, last):
                for k in range(n_outputs):
                    out[b, t, k] = memory[b, output_offset + k]


@njit("void(float32[::1], float64)", **JIT_OPTIONS)
def run_sample(unit: np.ndarray, sample: float) -> None:
    """One sample of one stream, through each of its passes.

    All in one array, since each costs a call from Python. ``unit``: numbers of instructions,
    weights, passes, and of memory a pass (int32), whether to go in reverse, and the program; then,
    at the next cache line, weights and memory.
    """
    header = unit[:HEADER].view(np.int32)
    n_rows, n_weights = np.int64(header[0]), np.int64(header[1])
    n_passes, n_memory = np.int64(header[2]), np.int64(header[3])
    width = np.int64(WIDTH)
    offset = HEADER + n_rows * width
    program = unit[HEADER:offset].view(np.int32).reshape((n_rows, width))
    offset += -offset % LINE
    weights = unit[offset : offset + n_weights]
    offset += n_weights
    memory = unit[offset : offset + n_passes * n_memory].reshape((n_passes, n_memory))
    for p in range(n_passes):
        memory[p, 0] = _fill_gap(np.float32(sample))
    reverse = unit[HEADER - 1] != _ZERO
    unit[HEADER - 1] = _ZERO if reverse else _ONE
    _execute(program, weights, memory, reverse)
