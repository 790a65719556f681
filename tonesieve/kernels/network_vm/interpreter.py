"""Trained networks sample by sample: one short program, run by one compiled core.

A network is packed into three arrays. ``program`` (int32, a row an instruction), ``weights``
(float32, transposed, so that the innermost loop runs over outputs), and ``memory`` (float32, a row
a stream): what is carried from sample to sample, and room for what is computed in between. One
sample, a block, and many streams go through the same arithmetic in the same order, so that they
agree to the last bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from tonesieve.kernels.fastmath import JIT_OPTIONS, pad_to_line, tanh
from tonesieve.kernels.gemv import line_of_four, line_of_one, tile_of_four, tile_of_one
from tonesieve.kernels.network_vm import opcodes as codes
from tonesieve.kernels.network_vm.opcodes import GELU, LINE, RELU, WIDE, WIDTH

HEAD = 5  # numbers before a program, where all stands in one array
# Streams whose memories stay in the nearest cache while they take a block together.
STREAMS_PER_BLOCK = 16
EPSILON = np.float32(codes.EPSILON)

_HALF, _ONE, _ZERO = np.float32(0.5), np.float32(1.0), np.float32(0.0)
_ROOT_HALF = np.float32(math.sqrt(0.5))


@njit(inline="always", **JIT_OPTIONS)
def _heard(sample: Any) -> Any:
    """A gap is the mean, 0, as it was in training."""
    return sample if np.isfinite(sample) else _ZERO


@njit(**JIT_OPTIONS)
def _affine(
    memory: np.ndarray, zs: int, xs: int, n: int, m: int, weights: np.ndarray, at: int, back: bool
) -> None:
    """z = b + W x for every stream: n inputs, and m outputs, in whole lines.

    ``back``: the last outputs first. What of the weights is still in the nearest cache from the
    sample before is then used at once; the answers are the same.
    """
    n_streams, apart = memory.shape
    m = pad_to_line(m)
    n_tiles = m // WIDE
    first, n_lines = at + m + n_tiles * WIDE * n, (m - n_tiles * WIDE) // LINE
    four = n_streams - n_streams % 4
    for i in range(n_tiles):
        g = (n_tiles - 1 - i if back else i) * WIDE
        b, w = at + g, at + m + g * n
        for p in range(0, four, 4):
            z, x = p * apart + zs + g, p * apart + xs
            tile_of_four(memory, z, apart, memory, x, apart, weights, b, w, n)
        for p in range(four, n_streams):
            z, x = p * apart + zs + g, p * apart + xs
            tile_of_one(memory, z, apart, memory, x, apart, weights, b, w, n)
    for i in range(n_lines):
        g = n_tiles * WIDE + i * LINE
        b, w = at + g, first + i * LINE * n
        for p in range(0, four, 4):
            z, x = p * apart + zs + g, p * apart + xs
            line_of_four(memory, z, apart, memory, x, apart, weights, b, w, n)
        for p in range(four, n_streams):
            z, x = p * apart + zs + g, p * apart + xs
            line_of_one(memory, z, apart, memory, x, apart, weights, b, w, n)


@njit(**JIT_OPTIONS)
def _copy(memory: np.ndarray, xs: int, to: int, n: int) -> None:
    """Inputs to where they stand in one line with the state."""
    for p in range(memory.shape[0]):
        for k in range(n):
            memory[p, to + k] = memory[p, xs + k]


@njit(**JIT_OPTIONS)
def _lstm(row: np.ndarray, zs: int, hs: int, cs: int, size: int) -> None:
    """Gates i, f, g, o at z; hidden state at h, cell state at c. Sigmoids are halved tanhs of
    halves: the halving lies in the weights."""
    z = row[zs : zs + 4 * size]
    for g in range(4 * size):
        z[g] = tanh(z[g])
    h, c = row[hs : hs + size], row[cs : cs + size]
    for k in range(size):
        fresh = (_HALF + _HALF * z[k]) * z[2 * size + k]
        c[k] = (_HALF + _HALF * z[size + k]) * c[k] + fresh
    for k in range(size):
        h[k] = (_HALF + _HALF * z[3 * size + k]) * tanh(c[k])


@njit(**JIT_OPTIONS)
def _gru(row: np.ndarray, zs: int, other: int, hs: int, size: int) -> None:
    """Gates r, z, n at z of the input, and of the state; the hidden state at h."""
    of_input, of_state = row[zs : zs + 3 * size], row[other : other + 3 * size]
    for g in range(2 * size):
        of_input[g] = _HALF + _HALF * tanh(of_input[g] + of_state[g])
    h = row[hs : hs + size]
    for k in range(size):
        fresh = tanh(of_input[2 * size + k] + of_input[k] * of_state[2 * size + k])
        h[k] = fresh + of_input[size + k] * (h[k] - fresh)


@njit(**JIT_OPTIONS)
def _norm(row: np.ndarray, zs: int, xs: int, n: int, weights: np.ndarray, at: int) -> None:
    """A layer norm: gains, then shifts."""
    total = _ZERO
    for k in range(n):
        total += row[xs + k]
    mean = total / np.float32(n)
    total = _ZERO
    for k in range(n):
        total += (row[xs + k] - mean) * (row[xs + k] - mean)
    scale = _ONE / np.sqrt(total / np.float32(n) + EPSILON)
    for k in range(n):
        row[zs + k] = (row[xs + k] - mean) * scale * weights[at + k] + weights[at + n + k]


@njit(**JIT_OPTIONS)
def _activate(row: np.ndarray, zs: int, m: int, kind: int) -> None:
    if kind == RELU:
        for g in range(m):
            row[zs + g] = max(row[zs + g], _ZERO)
    elif kind == GELU:
        for g in range(m):
            x = row[zs + g]
            row[zs + g] = np.float32(_HALF * x * (_ONE + np.float32(math.erf(x * _ROOT_HALF))))


@njit(**JIT_OPTIONS)
def _oscillate(row: np.ndarray, zs: int, hs: int, n: int, weights: np.ndarray, at: int) -> None:
    """Turn and damp n complex numbers, and add what drives them: real parts, imaginary parts."""
    for k in range(n):
        real, imaginary = row[hs + k], row[hs + n + k]
        c, s = weights[at + k], weights[at + n + k]
        row[hs + k] = c * real - s * imaginary + row[zs + k]
        row[hs + n + k] = s * real + c * imaginary + row[zs + n + k]


@njit(**JIT_OPTIONS)
def _observe(row: np.ndarray, gs: int, hs: int, n: int, weights: np.ndarray, at: int) -> None:
    """Turn n pairs of numbers, and move them by gains times what was not foreseen of the sample.

    Gains: 2 n directions and the logarithm of their size. Weights: cosines, sines, how the pairs
    stand in the mixture, and the sample's own.
    """
    surprise = weights[at + 4 * n] * row[0]
    for k in range(n):
        one, other = row[hs + k], row[hs + n + k]
        c, s = weights[at + k], weights[at + n + k]
        row[hs + k] = c * one - s * other
        row[hs + n + k] = s * one + c * other
    for k in range(2 * n):
        surprise -= weights[at + 2 * n + k] * row[hs + k]
    surprise *= np.exp(row[gs + 2 * n])
    for k in range(2 * n):
        row[hs + k] += row[gs + k] * surprise


@njit(**JIT_OPTIONS)
def _execute(program: np.ndarray, weights: np.ndarray, memory: np.ndarray, back: bool) -> None:
    """One sample of every stream; its features stand in memory."""
    n_streams = memory.shape[0]
    for i in range(program.shape[0]):
        code, more = program[i, 0], np.int64(program[i, 7])
        n, m = np.int64(program[i, 1]), np.int64(program[i, 2])
        xs, zs = np.int64(program[i, 3]), np.int64(program[i, 4])
        at, hs = np.int64(program[i, 5]), np.int64(program[i, 6])
        if code == codes.LSTM:
            _copy(memory, xs, hs + m, n)
            _affine(memory, zs, hs, m + n, 4 * m, weights, at, back)
            for p in range(n_streams):
                _lstm(memory[p], zs, hs, hs + m + n, m)
        elif code == codes.GRU:
            _affine(memory, zs, xs, n, 3 * m, weights, at, back)
            other = zs + pad_to_line(3 * m)
            _affine(memory, other, hs, m, 3 * m, weights, at + pad_to_line(3 * m) * (1 + n), back)
            for p in range(n_streams):
                _gru(memory[p], zs, other, hs, m)
        elif code == codes.RNN:
            _copy(memory, xs, hs + m, n)
            _affine(memory, zs, hs, m + n, m, weights, at, back)
            for p in range(n_streams):
                for k in range(m):
                    memory[p, hs + k] = tanh(memory[p, zs + k])
        elif code == codes.AFFINE:
            _affine(memory, zs, xs, n, m, weights, at, back)
            for p in range(n_streams):
                _activate(memory[p], zs, m, more)
        elif code == codes.NORM:
            for p in range(n_streams):
                _norm(memory[p], zs, xs, n, weights, at)
        elif code == codes.ADD:
            for p in range(n_streams):
                for k in range(n):
                    memory[p, zs + k] += memory[p, xs + k]
        elif code == codes.FILM:
            for p in range(n_streams):
                for k in range(n):
                    gain = _ONE + memory[p, hs + k]
                    memory[p, zs + k] = gain * memory[p, xs + k] + memory[p, hs + n + k]
        elif code == codes.OSCILLATE:
            for p in range(n_streams):
                _oscillate(memory[p], zs, hs, m, weights, at)
        elif code == codes.AGE_FEATURES:
            for p in range(n_streams):
                for k in range(n):
                    memory[p, hs + k] += (_ONE - memory[p, hs + k]) * weights[at + k]
        elif code == codes.OBSERVER:
            for p in range(n_streams):
                _observe(memory[p], xs, hs, n, weights, at)
        elif code == codes.SHIFT_IN:
            for p in range(n_streams):
                row = memory[p]
                for k in range(more - n):
                    row[zs + k] = row[zs + k + n]
                for k in range(n):
                    row[zs + more - n + k] = row[xs + k]


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
    at: int,
    n_outputs: int,
    out: np.ndarray,
) -> None:
    """Samples (B, T, F) through memories (B, M), which are renewed; outputs (B, T, O)."""
    for first in range(0, samples.shape[0], STREAMS_PER_BLOCK):
        last = min(first + STREAMS_PER_BLOCK, samples.shape[0])
        part = memory[first:last]
        for t in range(samples.shape[1]):
            for b in range(first, last):
                for k in range(samples.shape[2]):
                    memory[b, k] = _heard(samples[b, t, k])
            _execute(program, weights, part, t % 2 == 1)
            for b in range(first, last):
                for k in range(n_outputs):
                    out[b, t, k] = memory[b, at + k]


@njit("void(float32[::1], float64)", **JIT_OPTIONS)
def run_sample(unit: np.ndarray, sample: float) -> None:
    """One sample of one stream, as many times as it has passes.

    All in one array, since each costs a call from Python. ``unit``: how many instructions, weights,
    passes and numbers of memory a pass (int32), whether it goes back, and the program; then, in a
    new line of the cache, weights and memory.
    """
    head = unit[:HEAD].view(np.int32)
    n_rows, n_weights = np.int64(head[0]), np.int64(head[1])
    n_passes, n_memory = np.int64(head[2]), np.int64(head[3])
    width = np.int64(WIDTH)
    at = HEAD + n_rows * width
    program = unit[HEAD:at].view(np.int32).reshape((n_rows, width))
    at += -at % LINE
    weights = unit[at : at + n_weights]
    at += n_weights
    memory = unit[at : at + n_passes * n_memory].reshape((n_passes, n_memory))
    for p in range(n_passes):
        memory[p, 0] = _heard(np.float32(sample))
    back = unit[HEAD - 1] != _ZERO
    unit[HEAD - 1] = _ZERO if back else _ONE
    _execute(program, weights, memory, back)
