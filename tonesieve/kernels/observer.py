"""Recurrence of a Luenberger observer with given gains, and its gradient.

    predicted = A x[t-1],  innovation = z[t] - C predicted,  x[t] = predicted + L[t] innovation

A rotates every tone's pair of numbers by its angle a sample, C are the output weights, L the gains.
The gradient runs the adjoint of the recurrence backwards.

Source: D. G. Luenberger, IEEE Transactions on Military Electronics 8, 1964; with learned gains:
G. Revach et al., KalmanNet, IEEE Transactions on Signal Processing 70, 2022.
Axes: B streams, T samples, K tones.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tonesieve.kernels.fastmath import JIT_OPTIONS


@njit(**JIT_OPTIONS)
def observer_forward(
    samples: np.ndarray,
    gains: np.ndarray,
    output_weights: np.ndarray,
    cosines: np.ndarray,
    sines: np.ndarray,
    before: np.ndarray,
    states: np.ndarray,
    innovations: np.ndarray,
) -> None:
    """``states`` (B, T, 2K) and ``innovations`` (B, T) of samples (B, T), gains (B, T, 2K).

    ``before`` (B, 2K) are the states before the first sample.
    """
    n_streams, n_samples = samples.shape
    n = len(cosines)
    predicted = np.empty_like(output_weights)
    for b in range(n_streams):
        last = before[b]
        for t in range(n_samples):
            innovation = samples[b, t]
            for k in range(n):
                predicted[k] = cosines[k] * last[k] - sines[k] * last[n + k]
                predicted[n + k] = sines[k] * last[k] + cosines[k] * last[n + k]
            for k in range(2 * n):
                innovation -= output_weights[k] * predicted[k]
            innovations[b, t] = innovation
            for k in range(2 * n):
                states[b, t, k] = predicted[k] + gains[b, t, k] * innovation
            last = states[b, t]


@njit(**JIT_OPTIONS)
def observer_backward(
    grad_states: np.ndarray,
    gains: np.ndarray,
    output_weights: np.ndarray,
    cosines: np.ndarray,
    sines: np.ndarray,
    before: np.ndarray,
    states: np.ndarray,
    innovations: np.ndarray,
    grad_samples: np.ndarray,
    grad_gains: np.ndarray,
    grad_output_weights: np.ndarray,
    grad_before: np.ndarray,
) -> None:
    """Gradients of a loss, given ``grad_states`` (B, T, 2K).

    ``grad_samples``, ``grad_gains`` and ``grad_before`` are overwritten; ``grad_output_weights``
    (2K) is added to.
    """
    n_streams, n_samples, width = states.shape
    n = width // 2
    grad_state, grad_predicted = np.empty_like(output_weights), np.empty_like(output_weights)
    for b in range(n_streams):
        grad_state[:] = 0
        for t in range(n_samples - 1, -1, -1):
            last = states[b, t - 1] if t > 0 else before[b]
            grad_innovation = grad_state[0] * 0
            for k in range(width):
                grad_state[k] += grad_states[b, t, k]
                grad_gains[b, t, k] = grad_state[k] * innovations[b, t]
                grad_innovation += grad_state[k] * gains[b, t, k]
            grad_samples[b, t] = grad_innovation
            for k in range(n):
                grad_output_weights[k] -= grad_innovation * (
                    cosines[k] * last[k] - sines[k] * last[n + k]
                )
                grad_output_weights[n + k] -= grad_innovation * (
                    sines[k] * last[k] + cosines[k] * last[n + k]
                )
            for k in range(width):
                grad_predicted[k] = grad_state[k] - grad_innovation * output_weights[k]
            for k in range(n):
                grad_state[k] = cosines[k] * grad_predicted[k] + sines[k] * grad_predicted[n + k]
                grad_state[n + k] = (
                    cosines[k] * grad_predicted[n + k] - sines[k] * grad_predicted[k]
                )
        for k in range(width):
            grad_before[b, k] = grad_state[k]
