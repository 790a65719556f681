"""What a network makes of the evidence: weights of the candidates, and how sure it is.

A gated recurrent unit (Cho et al. 2014) hears the features of a tone frame by frame; one line of
outputs above it are the logarithms of the candidates' weights, of the weight of nothing, and of
the band's half-width over what the candidates themselves would say. Axes: S tones (streams times
tones), R frames, M candidates, H hidden, F features, G lines of outputs.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from tonesieve.kernels.fastmath import JIT_OPTIONS, tanh
from tonesieve.kernels.simd import WIDTH, horizontal_sum, load, store

N_OUTPUTS = WIDTH + 2  # weights, that of nothing, and the band
CROSS = 4  # features of two directions together, each held within
BOUND = 6.0
# No candidate has less variance than this, once a sample was heard.
UNHEARD = 1e-250
LOGIT_SCALE = 0.3  # of a direction's own outputs, as inputs for both


def pack_dense(weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Weights (O, I) and biases (O) as lines of outputs: (G, I + 1, WIDTH), biases first."""
    n_out, n_in = weight.shape
    lines = -(-n_out // WIDTH)
    whole = np.zeros((lines * WIDTH, n_in + 1))
    whole[:n_out, 0], whole[:n_out, 1:] = bias, weight
    return np.ascontiguousarray(whole.reshape(lines, WIDTH, n_in + 1).transpose(0, 2, 1))


@njit(**JIT_OPTIONS)
def dense(inputs: np.ndarray, weights: np.ndarray, outputs: np.ndarray) -> None:
    """Every line of outputs from inputs (I); two sums a line, so that none waits for itself."""
    n_lines, n, _ = weights.shape
    for g in range(n_lines):
        line = weights[g].reshape(n * WIDTH)
        even, odd = load(line, 0), load(line, 0) * 0.0
        for i in range(0, n - 2, 2):
            even = even + load(line, (i + 1) * WIDTH) * inputs[i]
            odd = odd + load(line, (i + 2) * WIDTH) * inputs[i + 1]
        if n % 2 == 0:
            even = even + load(line, (n - 1) * WIDTH) * inputs[n - 2]
        store(outputs, g * WIDTH, even + odd)


@njit(inline="always", **JIT_OPTIONS)
def _sigmoid(x: float) -> float:
    return 0.5 + 0.5 * tanh(0.5 * x)


@njit(**JIT_OPTIONS)
def gru_step(
    features: np.ndarray, hidden: np.ndarray, taken: np.ndarray, carried: np.ndarray,
    heard: np.ndarray, kept: np.ndarray,
) -> None:  # fmt: skip
    """The hidden state (H) after a frame's features (F); ``heard`` and ``kept`` are room (3 H)."""
    h = len(hidden)
    dense(features, taken, heard)
    dense(hidden, carried, kept)
    for i in range(h):
        reset = _sigmoid(heard[i] + kept[i])
        update = _sigmoid(heard[h + i] + kept[h + i])
        new = tanh(heard[2 * h + i] + reset * kept[2 * h + i])
        hidden[i] = (1.0 - update) * new + update * hidden[i]


@njit(**JIT_OPTIONS)
def run_gru(
    features: np.ndarray, hidden: np.ndarray, taken: np.ndarray, carried: np.ndarray,
    answer: np.ndarray, path: np.ndarray, told: np.ndarray,
) -> None:  # fmt: skip
    """Hidden states (S, R, H) and outputs (S, R, TOLD) of features (S, R, F).

    ``taken`` and ``carried`` are the packed weights of input and state, gates r, z, n in turn;
    ``answer`` those of the outputs; ``hidden`` (S, H) goes on.
    """
    n_tones, n_frames, _ = features.shape
    room = taken.shape[0] * WIDTH
    heard, kept = np.empty(room), np.empty(room)
    out = np.empty(answer.shape[0] * WIDTH)
    for s in range(n_tones):
        for r in range(n_frames):
            gru_step(features[s, r], hidden[s], taken, carried, heard, kept)
            path[s, r] = hidden[s]
            dense(hidden[s], answer, out)
            told[s, r] = out[:N_OUTPUTS]


@njit(**JIT_OPTIONS)
def softmax(logits: np.ndarray, n: int, weights: np.ndarray) -> None:
    """Softmax over n logits."""
    top, whole = logits[:n].max(), 0.0
    for j in range(n):
        weights[j] = math.exp(logits[j] - top)
        whole += weights[j]
    for j in range(n):
        weights[j] /= whole


@njit(**JIT_OPTIONS)
def mixture_log_std(
    weights: np.ndarray, real: np.ndarray, imaginary: np.ndarray, spread: np.ndarray
) -> float:
    """Logarithm of the standard deviation that weighed candidates would have by themselves.

    What they are apart, and what each is off by; what weight nothing has, the tone is off by.
    """
    x, y, whole = 0.0, 0.0, 0.0
    for j in range(len(weights)):
        x += weights[j] * real[j]
        y += weights[j] * imaginary[j]
        whole += weights[j]
    power = (1.0 - whole) * (x * x + y * y)
    for j in range(len(weights)):
        p, q = real[j] - x, imaginary[j] - y
        power += weights[j] * (p * p + q * q + spread[j])
    return 0.5 * math.log(0.5 * power + 1e-300)


@njit(**JIT_OPTIONS)
def gate_outputs(
    told: np.ndarray, phasors: np.ndarray, variances: np.ndarray, weights: np.ndarray,
    sure: np.ndarray,
) -> None:  # fmt: skip
    """Weights (S, R, M) and logarithms of the band's half-width (S, R), of every frame.

    ``phasors`` (S, R, 2, M) and ``variances`` (S, R, M) are the candidates' at its end.
    """
    room = np.empty(WIDTH + 1)
    for s in range(told.shape[0]):
        for r in range(told.shape[1]):
            softmax(told[s, r], WIDTH + 1, room)
            weights[s, r] = room[:WIDTH]
            own = phasors[s, r]
            sure[s, r] = told[s, r, WIDTH + 1] + mixture_log_std(
                weights[s, r], own[0], own[1], variances[s, r]
            )


@njit(**JIT_OPTIONS)
def mix_phasors(
    phasors: np.ndarray, weights: np.ndarray, frames: np.ndarray, combined: np.ndarray
) -> None:
    """Weighed sums (B, N, K, 2) of phasors (B, N, K, 2, M): of each step, by its frame.

    ``weights`` (B, K, R, M); ``frames`` (N) says which of them holds.
    """
    n_streams, n_steps, k_tones = phasors.shape[:3]
    for b in range(n_streams):
        for n in range(n_steps):
            for k in range(k_tones):
                own = load(weights[b, k, frames[n]], 0)
                combined[b, n, k, 0] = horizontal_sum(load(phasors[b, n, k, 0], 0) * own)
                combined[b, n, k, 1] = horizontal_sum(load(phasors[b, n, k, 1], 0) * own)


@njit(inline="always", **JIT_OPTIONS)
def _held(x: float) -> float:
    return min(max(x, -BOUND), BOUND)


@njit(**JIT_OPTIONS)
def fuse_directions(
    hidden: np.ndarray, told: np.ndarray, weights: np.ndarray, sure: np.ndarray,
    phasors: np.ndarray, variances: np.ndarray, mix: np.ndarray, two: np.ndarray,
    joined: np.ndarray, joined_sure: np.ndarray,
) -> None:  # fmt: skip
    """Weights (S, R, 2 M) of what was heard before a place and what was heard after it.

    Everything comes in pairs, past and future: ``hidden`` (2, S, R, H), ``told``, ``weights``,
    ``sure``, ``phasors`` and ``variances`` as of `gate_outputs`.
    """
    n_tones, n_frames, h = hidden.shape[1:]
    n_in = 2 * h + 2 * (WIDTH + 1) + CROSS
    inputs, between = np.empty(n_in), np.empty(mix.shape[0] * WIDTH)
    out, room = np.empty(two.shape[0] * WIDTH), np.empty(2 * WIDTH + 1)
    real, imaginary, spread = np.empty(2 * WIDTH), np.empty(2 * WIDTH), np.empty(2 * WIDTH)
    prior = np.empty(2 * WIDTH)
    for s in range(n_tones):
        for r in range(n_frames):
            level = np.zeros((2, 2))
            at = 2 * h
            for side in range(2):
                inputs[side * h : (side + 1) * h] = hidden[side, s, r]
                for j in range(WIDTH + 1):
                    inputs[at + j] = LOGIT_SCALE * told[side, s, r, j]
                at += WIDTH + 1
                for j in range(WIDTH):
                    i = side * WIDTH + j
                    real[i], imaginary[i] = phasors[side, s, r, 0, j], phasors[side, s, r, 1, j]
                    spread[i] = variances[side, s, r, j]
                    level[side, 0] += weights[side, s, r, j] * real[i]
                    level[side, 1] += weights[side, s, r, j] * imaginary[i]
                    prior[i] = math.log(weights[side, s, r, j] + 1e-30) - 2 * sure[side, s, r]
            past, future = sure[0, s, r], sure[1, s, r]
            gap = (level[0, 0] - level[1, 0]) ** 2 + (level[0, 1] - level[1, 1]) ** 2
            either = max(past, future) + math.log1p(math.exp(-abs(past - future)))
            inputs[at] = _held(past - future)
            inputs[at + 1] = _held(0.5 * math.log(gap + 1e-300) - either)
            for side in range(2):
                loud = level[side, 0] ** 2 + level[side, 1] ** 2
                inputs[at + 2 + side] = _held(0.5 * math.log(loud + 1e-300) - sure[side, s, r])
            dense(inputs, mix, between)
            for i in range(len(between)):
                between[i] = tanh(between[i])
            dense(between, two, out)
            top = prior.max()
            whole = top + math.log(np.exp(prior - top).sum())
            for i in range(2 * WIDTH):
                out[i] += prior[i] - whole
            softmax(out, 2 * WIDTH + 1, room)
            joined[s, r] = room[: 2 * WIDTH]
            joined_sure[s, r] = out[2 * WIDTH + 1] + mixture_log_std(
                joined[s, r], real, imaginary, spread
            )
