"""The compiled core's programs in NumPy: slow, and ready at once.

It answers while the core is still being compiled on a machine that has never run it. The same to
rounding. Axes: R rows of memory, T samples, F features, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy
from jaxtyping import Float32

from tonesieve.inference.compiler import Program
from tonesieve.kernels.network_vm import opcodes as codes
from tonesieve.kernels.tiling import LINE, TILE_WIDTH

Memory = Float32[np.ndarray, "R M"]
Instruction = Callable[[Memory], None]


def run_numpy(
    packed: Program, memory: Memory, samples: Float32[np.ndarray, "R T"]
) -> Float32[np.ndarray, "R T O"]:
    """Samples through memories, which are renewed in place."""
    instructions = [_instruction(packed.weights, *row) for row in packed.program.tolist()]
    answers = slice(packed.answers_at, packed.answers_at + packed.n_outputs)
    out = np.empty((*samples.shape, packed.n_outputs), dtype=np.float32)
    heard = np.where(np.isfinite(samples), samples, 0)  # a gap is the mean
    for t in range(samples.shape[1]):
        memory[:, 0] = heard[:, t]
        for instruction in instructions:
            instruction(memory)
        out[:, t] = memory[:, answers]
    return out


def _instruction(
    weights: Float32[np.ndarray, " W"],
    code: int,
    n: int,
    m: int,
    xs: int,
    zs: int,
    at: int,
    hs: int,
    more: int,
) -> Instruction:
    x, z = slice(xs, xs + n), slice(zs, zs + n)
    if code == codes.LSTM:
        return _lstm(*_affine(weights, at, m + n, 4 * m), x, slice(hs, hs + m), m + n)
    if code == codes.GRU:
        after = at + -(-3 * m // LINE) * LINE * (1 + n)
        maps = (*_affine(weights, at, n, 3 * m), *_affine(weights, after, m, 3 * m))
        return _gru(*maps, x, slice(hs, hs + m))
    if code == codes.RNN:
        return _rnn(*_affine(weights, at, m + n, m), x, slice(hs, hs + m))
    if code == codes.AFFINE:
        return _map(*_affine(weights, at, n, m), x, slice(zs, zs + m), more)
    if code == codes.NORM:
        return _norm(weights[at : at + n], weights[at + n : at + 2 * n], x, z)
    if code == codes.ADD:
        return _add(x, z)
    if code == codes.FILM:
        return _film(x, z, slice(hs, hs + n), slice(hs + n, hs + 2 * n))
    if code == codes.OSCILLATE:
        cosines, sines = weights[at : at + m], weights[at + m : at + 2 * m]
        return _oscillate(cosines, sines, slice(zs, zs + 2 * m), slice(hs, hs + 2 * m))
    if code == codes.SHIFT_IN:
        return _push(x, slice(zs, zs + more), n)
    if code == codes.AGE_FEATURES:
        return _clock(weights[at : at + n], slice(hs, hs + n))
    return _observe(weights, at, n, slice(xs, xs + 2 * n + 1), slice(hs, hs + 2 * n))


def _affine(
    weights: Float32[np.ndarray, " W"], at: int, n: int, m: int
) -> tuple[Float32[np.ndarray, "N M"], Float32[np.ndarray, " M"]]:
    """Matrix (inputs, outputs) and bias, out of tiles and lines."""
    whole = -(-m // LINE) * LINE
    tiled = whole - whole % TILE_WIDTH
    begin = at + whole
    tiles = weights[begin : begin + tiled * n].reshape(tiled // TILE_WIDTH, n, TILE_WIDTH)
    lines = weights[begin + tiled * n : begin + whole * n]
    lines = lines.reshape((whole - tiled) // LINE, n, LINE)
    parts = [part.transpose(1, 0, 2).reshape(n, -1) for part in (tiles, lines) if len(part)]
    return np.concatenate(parts, axis=1)[:, :m], weights[at : at + m]


def _lstm(matrix: np.ndarray, bias: np.ndarray, x: slice, h: slice, apart: int) -> Instruction:
    c = slice(h.start + apart, h.stop + apart)

    def instruction(memory: Memory) -> None:
        given = np.concatenate([memory[:, h], memory[:, x]], axis=1)
        i, f, g, o = np.split(np.tanh(given @ matrix + bias), 4, axis=1)
        cell = (0.5 + 0.5 * f) * memory[:, c] + (0.5 + 0.5 * i) * g
        memory[:, c] = cell
        memory[:, h] = (0.5 + 0.5 * o) * np.tanh(cell)

    return instruction


def _gru(
    matrix: np.ndarray,
    bias: np.ndarray,
    other: np.ndarray,
    its_bias: np.ndarray,
    x: slice,
    h: slice,
) -> Instruction:
    def instruction(memory: Memory) -> None:
        of_input = np.split(memory[:, x] @ matrix + bias, 3, axis=1)
        of_state = np.split(memory[:, h] @ other + its_bias, 3, axis=1)
        r, keep = (0.5 + 0.5 * np.tanh(of_input[k] + of_state[k]) for k in (0, 1))
        fresh = np.tanh(of_input[2] + r * of_state[2])
        memory[:, h] = fresh + keep * (memory[:, h] - fresh)

    return instruction


def _rnn(matrix: np.ndarray, bias: np.ndarray, x: slice, h: slice) -> Instruction:
    def instruction(memory: Memory) -> None:
        given = np.concatenate([memory[:, h], memory[:, x]], axis=1)
        memory[:, h] = np.tanh(given @ matrix + bias)

    return instruction


def _map(matrix: np.ndarray, bias: np.ndarray, x: slice, z: slice, kind: int) -> Instruction:
    def instruction(memory: Memory) -> None:
        answer = memory[:, x] @ matrix + bias
        if kind == codes.RELU:
            answer = np.maximum(answer, 0)
        elif kind == codes.GELU:
            answer = 0.5 * answer * (1 + scipy.special.erf(answer * np.float32(np.sqrt(0.5))))
        memory[:, z] = answer

    return instruction


def _norm(gain: np.ndarray, shift: np.ndarray, x: slice, z: slice) -> Instruction:
    def instruction(memory: Memory) -> None:
        centred = memory[:, x] - memory[:, x].mean(axis=1, keepdims=True)
        variance = (centred**2).mean(axis=1, keepdims=True)
        memory[:, z] = centred / np.sqrt(variance + np.float32(codes.EPSILON)) * gain + shift

    return instruction


def _add(x: slice, z: slice) -> Instruction:
    def instruction(memory: Memory) -> None:
        memory[:, z] += memory[:, x]

    return instruction


def _film(x: slice, z: slice, gains: slice, shifts: slice) -> Instruction:
    def instruction(memory: Memory) -> None:
        memory[:, z] = (1 + memory[:, gains]) * memory[:, x] + memory[:, shifts]

    return instruction


def _oscillate(cosines: np.ndarray, sines: np.ndarray, driven: slice, h: slice) -> Instruction:
    def instruction(memory: Memory) -> None:
        one, other = np.split(memory[:, h], 2, axis=1)
        turned = [cosines * one - sines * other, sines * one + cosines * other]
        memory[:, h] = np.concatenate(turned, axis=1) + memory[:, driven]

    return instruction


def _push(x: slice, z: slice, n: int) -> Instruction:
    def instruction(memory: Memory) -> None:
        memory[:, z] = np.concatenate([memory[:, z][:, n:], memory[:, x]], axis=1)

    return instruction


def _clock(shares: np.ndarray, h: slice) -> Instruction:
    def instruction(memory: Memory) -> None:
        memory[:, h] += (1 - memory[:, h]) * shares

    return instruction


def _observe(weights: np.ndarray, at: int, n: int, gains: slice, h: slice) -> Instruction:
    cosines, sines, seen, (heard,) = np.split(weights[at : at + 4 * n + 1], [n, 2 * n, 4 * n])

    def instruction(memory: Memory) -> None:
        one, other = np.split(memory[:, h], 2, axis=1)
        turned = np.concatenate([cosines * one - sines * other, sines * one + cosines * other], 1)
        surprise = (heard * memory[:, 0] - turned @ seen) * np.exp(memory[:, gains.stop - 1])
        memory[:, h] = turned + memory[:, gains][:, :-1] * surprise[:, None]

    return instruction
