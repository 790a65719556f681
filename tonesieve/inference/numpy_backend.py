"""The interpreter's programs in NumPy: slow, and ready at once.

It runs while the interpreter is still being compiled on a machine that has never run it. Equal to
rounding. Axes: R rows of memory, T samples, F features, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy
from jaxtyping import Float32

from tonesieve.inference.program import Program
from tonesieve.kernels.network_vm import opcodes as codes
from tonesieve.kernels.tiling import LINE, TILE_WIDTH

Memory = Float32[np.ndarray, "R M"]
Instruction = Callable[[Memory], None]


def run_numpy(
    program: Program, memory: Memory, samples: Float32[np.ndarray, "R T"]
) -> Float32[np.ndarray, "R T O"]:
    """Run a program over samples.

    Parameters
    ----------
    program : Program
        The network.
    memory : ndarray of float32, shape (R, M)
        Memory of every row, updated in place.
    samples : ndarray of float32, shape (R, T)
        The mixture; what is not finite is a gap, and taken as 0.

    Returns
    -------
    ndarray of float32, shape (R, T, O)
        The outputs.
    """
    instructions = [_instruction(program.weights, *row) for row in program.instructions.tolist()]
    outputs = slice(program.output_offset, program.output_offset + program.n_outputs)
    out = np.empty((*samples.shape, program.n_outputs), dtype=np.float32)
    filled = np.where(np.isfinite(samples), samples, 0)
    for t in range(samples.shape[1]):
        memory[:, 0] = filled[:, t]
        for instruction in instructions:
            instruction(memory)
        out[:, t] = memory[:, outputs]
    return out


def _instruction(
    weights: Float32[np.ndarray, " W"],
    code: int,
    n: int,
    m: int,
    x_offset: int,
    y_offset: int,
    w: int,
    state: int,
    extra: int,
) -> Instruction:
    x, y = slice(x_offset, x_offset + n), slice(y_offset, y_offset + n)
    h = slice(state, state + m)
    if code == codes.LSTM:
        return _lstm(*_affine(weights, w, m + n, 4 * m), x, h, m + n)
    if code == codes.GRU:
        w_state = w + -(-3 * m // LINE) * LINE * (1 + n)
        maps = (*_affine(weights, w, n, 3 * m), *_affine(weights, w_state, m, 3 * m))
        return _gru(*maps, x, h)
    if code == codes.RNN:
        return _rnn(*_affine(weights, w, m + n, m), x, h)
    if code == codes.AFFINE:
        return _map(*_affine(weights, w, n, m), x, slice(y_offset, y_offset + m), extra)
    if code == codes.NORM:
        return _norm(weights[w : w + n], weights[w + n : w + 2 * n], x, y)
    if code == codes.ADD:
        return _add(x, y)
    if code == codes.FILM:
        return _film(x, y, slice(state, state + n), slice(state + n, state + 2 * n))
    if code == codes.OSCILLATE:
        cosines, sines = weights[w : w + m], weights[w + m : w + 2 * m]
        driven = slice(y_offset, y_offset + 2 * m)
        return _oscillate(cosines, sines, driven, slice(state, state + 2 * m))
    if code == codes.SHIFT_IN:
        return _shift_in(x, slice(y_offset, y_offset + extra), n)
    if code == codes.AGE_FEATURES:
        return _age_features(weights[w : w + n], slice(state, state + n))
    gains = slice(x_offset, x_offset + 2 * n + 1)
    return _observe(weights, w, n, gains, slice(state, state + 2 * n))


def _affine(
    weights: Float32[np.ndarray, " W"], w: int, n: int, m: int
) -> tuple[Float32[np.ndarray, "N M"], Float32[np.ndarray, " M"]]:
    """Matrix (inputs, outputs) and bias, out of tiles and lines."""
    padded = -(-m // LINE) * LINE
    tiled = padded - padded % TILE_WIDTH
    begin = w + padded
    tiles = weights[begin : begin + tiled * n].reshape(tiled // TILE_WIDTH, n, TILE_WIDTH)
    lines = weights[begin + tiled * n : begin + padded * n]
    lines = lines.reshape((padded - tiled) // LINE, n, LINE)
    parts = [part.transpose(1, 0, 2).reshape(n, -1) for part in (tiles, lines) if len(part)]
    return np.concatenate(parts, axis=1)[:, :m], weights[w : w + m]


def _lstm(matrix: np.ndarray, bias: np.ndarray, x: slice, h: slice, c_distance: int) -> Instruction:
    c = slice(h.start + c_distance, h.stop + c_distance)

    def instruction(memory: Memory) -> None:
        inputs = np.concatenate([memory[:, h], memory[:, x]], axis=1)
        i, f, g, o = np.split(np.tanh(inputs @ matrix + bias), 4, axis=1)
        cell = (0.5 + 0.5 * f) * memory[:, c] + (0.5 + 0.5 * i) * g
        memory[:, c] = cell
        memory[:, h] = (0.5 + 0.5 * o) * np.tanh(cell)

    return instruction


def _gru(
    matrix: np.ndarray,
    bias: np.ndarray,
    state_matrix: np.ndarray,
    state_bias: np.ndarray,
    x: slice,
    h: slice,
) -> Instruction:
    def instruction(memory: Memory) -> None:
        w_input = np.split(memory[:, x] @ matrix + bias, 3, axis=1)
        w_hidden = np.split(memory[:, h] @ state_matrix + state_bias, 3, axis=1)
        r, update = (0.5 + 0.5 * np.tanh(w_input[k] + w_hidden[k]) for k in (0, 1))
        new = np.tanh(w_input[2] + r * w_hidden[2])
        memory[:, h] = new + update * (memory[:, h] - new)

    return instruction


def _rnn(matrix: np.ndarray, bias: np.ndarray, x: slice, h: slice) -> Instruction:
    def instruction(memory: Memory) -> None:
        inputs = np.concatenate([memory[:, h], memory[:, x]], axis=1)
        memory[:, h] = np.tanh(inputs @ matrix + bias)

    return instruction


def _map(matrix: np.ndarray, bias: np.ndarray, x: slice, y: slice, activation: int) -> Instruction:
    def instruction(memory: Memory) -> None:
        outputs = memory[:, x] @ matrix + bias
        if activation == codes.RELU:
            outputs = np.maximum(outputs, 0)
        elif activation == codes.GELU:
            outputs = 0.5 * outputs * (1 + scipy.special.erf(outputs * np.float32(np.sqrt(0.5))))
        memory[:, y] = outputs

    return instruction


def _norm(gain: np.ndarray, shift: np.ndarray, x: slice, y: slice) -> Instruction:
    def instruction(memory: Memory) -> None:
        centred = memory[:, x] - memory[:, x].mean(axis=1, keepdims=True)
        variance = (centred**2).mean(axis=1, keepdims=True)
        memory[:, y] = centred / np.sqrt(variance + np.float32(codes.EPSILON)) * gain + shift

    return instruction


def _add(x: slice, y: slice) -> Instruction:
    def instruction(memory: Memory) -> None:
        memory[:, y] += memory[:, x]

    return instruction


def _film(x: slice, y: slice, gains: slice, shifts: slice) -> Instruction:
    def instruction(memory: Memory) -> None:
        memory[:, y] = (1 + memory[:, gains]) * memory[:, x] + memory[:, shifts]

    return instruction


def _oscillate(cosines: np.ndarray, sines: np.ndarray, driven: slice, h: slice) -> Instruction:
    def instruction(memory: Memory) -> None:
        real, imag = np.split(memory[:, h], 2, axis=1)
        rotated = [cosines * real - sines * imag, sines * real + cosines * imag]
        memory[:, h] = np.concatenate(rotated, axis=1) + memory[:, driven]

    return instruction


def _shift_in(x: slice, y: slice, n: int) -> Instruction:
    def instruction(memory: Memory) -> None:
        memory[:, y] = np.concatenate([memory[:, y][:, n:], memory[:, x]], axis=1)

    return instruction


def _age_features(alphas: np.ndarray, h: slice) -> Instruction:
    def instruction(memory: Memory) -> None:
        memory[:, h] += (1 - memory[:, h]) * alphas

    return instruction


def _observe(weights: np.ndarray, w: int, n: int, gains: slice, h: slice) -> Instruction:
    cosines, sines, output_weights, (input_tap,) = np.split(
        weights[w : w + 4 * n + 1], [n, 2 * n, 4 * n]
    )

    def instruction(memory: Memory) -> None:
        real, imag = np.split(memory[:, h], 2, axis=1)
        rotated = [cosines * real - sines * imag, sines * real + cosines * imag]
        predicted = np.concatenate(rotated, axis=1)
        size = np.exp(memory[:, gains.stop - 1])
        innovation = (input_tap * memory[:, 0] - predicted @ output_weights) * size
        memory[:, h] = predicted + memory[:, gains][:, :-1] * innovation[:, None]

    return instruction
