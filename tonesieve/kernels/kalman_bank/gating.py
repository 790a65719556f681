"""The gating network: from features of the bank to the weights of its filters.

A mixture of experts: filters are weighted by a softmax that a gated recurrent unit computes (Cho et
al. 2014, in the form of PyTorch, whose reset gate acts after the product with the hidden state):

    r = sigmoid(W_ir f + b_ir + W_hr h + b_hr)          reset gate
    u = sigmoid(W_iu f + b_iu + W_hu h + b_hu)          update gate
    c = tanh(W_ic f + b_ic + r (W_hc h + b_hc))         candidate
    h <- (1 - u) c + u h
    outputs = W_o h + b_o

Outputs are the logits of the M filters and of silence, and the logarithm of the factor between the
band's half-width and the mixture's own standard deviation. `fuse_directions` does the same for two
directions: a network of one hidden layer corrects log-weights that favour the narrower band.

References: K. Cho et al., Learning phrase representations using RNN encoder-decoder for statistical
machine translation, EMNLP 2014; R. A. Jacobs, M. I. Jordan, S. J. Nowlan, G. E. Hinton, Adaptive
mixtures of local experts, Neural Computation 3 (1991) 79-87.

Axes: S tones (streams times tones), R gating intervals, M filters, H hidden, F features, O outputs,
G = O / `WIDTH` vectors of outputs, rounded up.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from tonesieve.kernels.fastmath import JIT_OPTIONS, tanh
from tonesieve.kernels.kalman_bank.state import ALLOCATING
from tonesieve.kernels.simd import WIDTH, horizontal_sum, load, store

N_OUTPUTS = WIDTH + 2  # derived: logits of the filters, that of silence, the band
# Derived: inputs of the fusion network that compare both directions, counted in `fuse_directions`.
N_CROSS = 4
CROSS_BOUND = 6.0  # guard: of these inputs, which are logarithms
# Guard: a variance below this is that of a filter that has observed no sample.
MIN_VARIANCE = 1e-250
LOGIT_SCALE = 0.3  # of logits as inputs of the fusion network; chosen, not tuned


def pack_dense(weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Weights (O, I) and biases (O) as vectors of outputs, (G, I + 1, WIDTH), biases first."""
    n_out, n_in = weight.shape
    n_vectors = -(-n_out // WIDTH)
    padded = np.zeros((n_vectors * WIDTH, n_in + 1))
    padded[:n_out, 0], padded[:n_out, 1:] = bias, weight
    return np.ascontiguousarray(padded.reshape(n_vectors, WIDTH, n_in + 1).transpose(0, 2, 1))


@njit(**JIT_OPTIONS)
def dense(inputs: np.ndarray, weights: np.ndarray, outputs: np.ndarray) -> None:
    """A dense layer of packed weights: inputs (I), outputs (G WIDTH).

    Two sums a vector: an addition need not wait for the one before.
    """
    n_vectors, n, _ = weights.shape
    for g in range(n_vectors):
        even, odd = load(weights, (g, 0)), load(weights, (g, 0)) * 0.0
        for i in range(0, n - 2, 2):
            even = even + load(weights, (g, i + 1)) * inputs[i]
            odd = odd + load(weights, (g, i + 2)) * inputs[i + 1]
        if n % 2 == 0:
            even = even + load(weights, (g, n - 1)) * inputs[n - 2]
        store(outputs, g * WIDTH, even + odd)


@njit(inline="always", **JIT_OPTIONS)
def _sigmoid(x: float) -> float:
    return 0.5 + 0.5 * tanh(0.5 * x)


@njit(**JIT_OPTIONS)
def gru_step(
    features: np.ndarray, hidden: np.ndarray, w_input: np.ndarray, w_hidden: np.ndarray,
    from_input: np.ndarray, from_hidden: np.ndarray,
) -> None:  # fmt: skip
    """Update the hidden state (H) by features (F); the last two are scratch (3 H, rounded up)."""
    h = len(hidden)
    dense(features, w_input, from_input)
    dense(hidden, w_hidden, from_hidden)
    for i in range(h):
        reset = _sigmoid(from_input[i] + from_hidden[i])
        update = _sigmoid(from_input[h + i] + from_hidden[h + i])
        candidate = tanh(from_input[2 * h + i] + reset * from_hidden[2 * h + i])
        hidden[i] = (1.0 - update) * candidate + update * hidden[i]


@njit(**JIT_OPTIONS)
def run_gru(
    features: np.ndarray, hidden: np.ndarray, w_input: np.ndarray, w_hidden: np.ndarray,
    w_output: np.ndarray, states: np.ndarray, outputs: np.ndarray,
) -> None:  # fmt: skip
    """Write hidden states (S, R, H) and outputs (S, R, N_OUTPUTS) of features (S, R, F).

    The weights are packed (`pack_dense`), gates in PyTorch's order: reset, update, candidate.
    ``hidden`` (S, H) is updated in place.
    """
    n_tones, n_intervals, _ = features.shape
    size = w_input.shape[0] * WIDTH
    from_input, from_hidden = np.empty(size), np.empty(size)
    out = np.empty(w_output.shape[0] * WIDTH)
    for s in range(n_tones):
        for r in range(n_intervals):
            gru_step(features[s, r], hidden[s], w_input, w_hidden, from_input, from_hidden)
            states[s, r] = hidden[s]
            dense(hidden[s], w_output, out)
            outputs[s, r] = out[:N_OUTPUTS]


@njit(**ALLOCATING)
def softmax(logits: np.ndarray, n: int, weights: np.ndarray) -> None:
    """Softmax over the first n logits."""
    largest, total = logits[:n].max(), 0.0
    for j in range(n):
        weights[j] = math.exp(logits[j] - largest)
        total += weights[j]
    for j in range(n):
        weights[j] /= total


@njit(**JIT_OPTIONS)
def mixture_log_std(
    weights: np.ndarray, real: np.ndarray, imaginary: np.ndarray, variances: np.ndarray
) -> float:
    """Logarithm of the standard deviation of a mixture, of either part of the phasor.

    The variance of the means plus the mean of the variances. What the weights lack to 1 is silence:
    phasor 0, variance 0.
    """
    x, y, total = 0.0, 0.0, 0.0
    for j in range(len(weights)):
        x += weights[j] * real[j]
        y += weights[j] * imaginary[j]
        total += weights[j]
    power = (1.0 - total) * (x * x + y * y)
    for j in range(len(weights)):
        p, q = real[j] - x, imaginary[j] - y
        power += weights[j] * (p * p + q * q + variances[j])
    return 0.5 * math.log(0.5 * power + 1e-300)


@njit(**JIT_OPTIONS)
def gate_outputs(
    outputs: np.ndarray, phasors: np.ndarray, variances: np.ndarray, weights: np.ndarray,
    log_std: np.ndarray,
) -> None:  # fmt: skip
    """Write weights (S, R, M) and the logarithm of the band's half-width (S, R).

    ``phasors`` (S, R, 2, M) and ``variances`` (S, R, M) are the filters' at the ends of intervals.
    """
    mixture = np.empty(WIDTH + 1)
    for s in range(outputs.shape[0]):
        for r in range(outputs.shape[1]):
            softmax(outputs[s, r], WIDTH + 1, mixture)
            weights[s, r] = mixture[:WIDTH]
            log_std[s, r] = outputs[s, r, WIDTH + 1] + mixture_log_std(
                weights[s, r], phasors[s, r, 0], phasors[s, r, 1], variances[s, r]
            )


@njit(**JIT_OPTIONS)
def mix_phasors(
    phasors: np.ndarray, weights: np.ndarray, intervals: np.ndarray, mixed: np.ndarray
) -> None:
    """Weighted sums (B, N, K, 2) of phasors (B, N, K, 2, M).

    ``weights`` (B, K, R, M); ``intervals`` (N) holds the index of the weights of each step.
    """
    n_streams, n_steps, k_tones = phasors.shape[:3]
    for b in range(n_streams):
        for n in range(n_steps):
            for k in range(k_tones):
                weight = load(weights, (b, k, intervals[n]))
                mixed[b, n, k, 0] = horizontal_sum(load(phasors, (b, n, k, 0)) * weight)
                mixed[b, n, k, 1] = horizontal_sum(load(phasors, (b, n, k, 1)) * weight)


@njit(inline="always", **JIT_OPTIONS)
def _clipped(x: float) -> float:
    return min(max(x, -CROSS_BOUND), CROSS_BOUND)


@njit(**JIT_OPTIONS)
def fuse_directions(
    hidden: np.ndarray, outputs: np.ndarray, weights: np.ndarray, log_std: np.ndarray,
    phasors: np.ndarray, variances: np.ndarray, w_mix: np.ndarray, w_fusion: np.ndarray,
    fused: np.ndarray, fused_log_std: np.ndarray,
) -> None:  # fmt: skip
    """Write the weights (S, R, 2 M) of both directions' filters, and the band's logarithm (S, R).

    The other arrays have an axis of two before S, past and future; ``weights``, ``log_std``,
    ``phasors`` and ``variances`` are those of `gate_outputs`.
    """
    n_tones, n_places, h = hidden.shape[1:]
    n_in = 2 * h + 2 * (WIDTH + 1) + N_CROSS
    inputs, layer = np.empty(n_in), np.empty(w_mix.shape[0] * WIDTH)
    logits, mixture = np.empty(w_fusion.shape[0] * WIDTH), np.empty(2 * WIDTH + 1)
    real, imaginary, variance = np.empty(2 * WIDTH), np.empty(2 * WIDTH), np.empty(2 * WIDTH)
    prior = np.empty(2 * WIDTH)
    for s in range(n_tones):
        for r in range(n_places):
            phasor = np.zeros((2, 2))  # of each direction's mixture
            index = 2 * h
            for side in range(2):
                inputs[side * h : (side + 1) * h] = hidden[side, s, r]
                for j in range(WIDTH + 1):
                    inputs[index + j] = LOGIT_SCALE * outputs[side, s, r, j]
                index += WIDTH + 1
                for j in range(WIDTH):
                    i = side * WIDTH + j
                    real[i], imaginary[i] = phasors[side, s, r, 0, j], phasors[side, s, r, 1, j]
                    variance[i] = variances[side, s, r, j]
                    phasor[side, 0] += weights[side, s, r, j] * real[i]
                    phasor[side, 1] += weights[side, s, r, j] * imaginary[i]
                    prior[i] = math.log(weights[side, s, r, j] + 1e-30) - 2 * log_std[side, s, r]
            past, future = log_std[0, s, r], log_std[1, s, r]
            distance = (phasor[0, 0] - phasor[1, 0]) ** 2 + (phasor[0, 1] - phasor[1, 1]) ** 2
            log_sum = max(past, future) + math.log1p(math.exp(-abs(past - future)))
            inputs[index] = _clipped(past - future)
            inputs[index + 1] = _clipped(0.5 * math.log(distance + 1e-300) - log_sum)
            for side in range(2):
                power = phasor[side, 0] ** 2 + phasor[side, 1] ** 2
                inputs[index + 2 + side] = _clipped(
                    0.5 * math.log(power + 1e-300) - log_std[side, s, r]
                )
            dense(inputs, w_mix, layer)
            for i in range(len(layer)):
                layer[i] = tanh(layer[i])
            dense(layer, w_fusion, logits)
            largest = prior.max()
            log_total = largest + math.log(np.exp(prior - largest).sum())
            for i in range(2 * WIDTH):
                logits[i] += prior[i] - log_total
            softmax(logits, 2 * WIDTH + 1, mixture)
            fused[s, r] = mixture[: 2 * WIDTH]
            fused_log_std[s, r] = logits[2 * WIDTH + 1] + mixture_log_std(
                fused[s, r], real, imaginary, variance
            )
