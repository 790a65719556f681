"""The observer's recurrence and its gradient. Axes: B streams, T samples, K tones.

z[t] = p + g[t] e[t] with p = R z[t-1] and e[t] = x[t] - c p: R turns every tone's pair of numbers,
c says how the pairs stand in the mixture, g is the gain.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tonesieve.kernels.fastmath import JIT_OPTIONS


@njit(**JIT_OPTIONS)
def observer_forward(
    samples: np.ndarray,
    gains: np.ndarray,
    seen: np.ndarray,
    cosines: np.ndarray,
    sines: np.ndarray,
    before: np.ndarray,
    states: np.ndarray,
    surprises: np.ndarray,
) -> None:
    """States (B, T, 2K) and surprises e (B, T) of samples (B, T), gains (B, T, 2K)."""
    n_streams, n_samples = samples.shape
    n = len(cosines)
    turned = np.empty_like(seen)
    for b in range(n_streams):
        last = before[b]
        for t in range(n_samples):
            surprise = samples[b, t]
            for k in range(n):
                turned[k] = cosines[k] * last[k] - sines[k] * last[n + k]
                turned[n + k] = sines[k] * last[k] + cosines[k] * last[n + k]
            for k in range(2 * n):
                surprise -= seen[k] * turned[k]
            surprises[b, t] = surprise
            for k in range(2 * n):
                states[b, t, k] = turned[k] + gains[b, t, k] * surprise
            last = states[b, t]


@njit(**JIT_OPTIONS)
def observer_backward(
    of_states: np.ndarray,
    gains: np.ndarray,
    seen: np.ndarray,
    cosines: np.ndarray,
    sines: np.ndarray,
    before: np.ndarray,
    states: np.ndarray,
    surprises: np.ndarray,
    of_samples: np.ndarray,
    of_gains: np.ndarray,
    of_seen: np.ndarray,
    of_before: np.ndarray,
) -> None:
    """Gradients of a loss, given that of the states: of samples, gains, c and the state before."""
    n_streams, n_samples, width = states.shape
    n = width // 2
    flow, through = np.empty_like(seen), np.empty_like(seen)
    for b in range(n_streams):
        flow[:] = 0
        for t in range(n_samples - 1, -1, -1):
            last = states[b, t - 1] if t > 0 else before[b]
            of_surprise = flow[0] * 0
            for k in range(width):
                flow[k] += of_states[b, t, k]
                of_gains[b, t, k] = flow[k] * surprises[b, t]
                of_surprise += flow[k] * gains[b, t, k]
            of_samples[b, t] = of_surprise
            for k in range(n):
                of_seen[k] -= of_surprise * (cosines[k] * last[k] - sines[k] * last[n + k])
                of_seen[n + k] -= of_surprise * (sines[k] * last[k] + cosines[k] * last[n + k])
            for k in range(width):
                through[k] = flow[k] - of_surprise * seen[k]
            for k in range(n):
                flow[k] = cosines[k] * through[k] + sines[k] * through[n + k]
                flow[n + k] = cosines[k] * through[n + k] - sines[k] * through[k]
        for k in range(width):
            of_before[b, k] = flow[k]
