"""Rejection of impulses before decimation, by a recursive Burg lattice predictor.

A decimator spreads an impulse over several steps, so impulses are removed from the samples
themselves. A lattice of `ORDER` stages predicts each sample from those before it (Burg 1975):

    f_0 = b_0 = z[n]
    f_m = f_{m-1} + k_m b_{m-1}[n-1],    b_m = b_{m-1}[n-1] + k_m f_{m-1}
    k_m = -2 C_m / D_m,    C_m, D_m: averages of f_{m-1} b_{m-1}[n-1] and of f^2 + b^2

The innovation is f of the last stage. A sample whose innovation exceeds `GATE_SIGMA` deviations is
replaced by its prediction: the filter-cleaner of Martin and Thomson (1982) with a redescending
influence function. Accepted all the same is

- what recurs at one phase of a named tone, as the crests of a pulse train do: the rejected
  innovations nu have |sum nu exp(-i theta)|^2 > `COHERENCE` sum nu^2, a Rayleigh test of their
  phases (Mardia and Jupp 2000);
- what lasts for more than `MAX_RUN` samples, or is frequent.

References: J. P. Burg, Maximum entropy spectral analysis, PhD thesis, Stanford 1975; R. D. Martin,
D. J. Thomson, Robust-resistant spectrum estimation, Proc. IEEE 70 (1982) 1097-1115; K. V. Mardia,
P. E. Jupp, Directional Statistics, Wiley 2000.

Axes: K tones.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numba.extending import register_jitable

from tonesieve.kernels.fastmath import JIT_OPTIONS

ORDER = 8  # stages; chosen, not tuned
# Chosen, not tuned: samples that the predictor's averages and the innovation's variance run over.
LATTICE_MEMORY, VARIANCE_MEMORY = 1000.0, 200.0
# Samples before the first rejection; chosen, not tuned.
N_WARM_UP = 64.0
# Gate in deviations of the innovation; chosen, not tuned: of Gaussian samples 7 in a million lie
# beyond 4.5.
GATE_SIGMA = 4.5
# Chosen, not tuned: longest run of rejected samples, and the largest part of all, averaged over 64.
MAX_RUN, MAX_REJECT_RATE, RATE_MEMORY = 8.0, 0.2, 64.0
# Rejected samples that the test of their phases runs over, and its threshold. Chosen, not tuned: of
# random phases 7 in 1000 exceed 5; five crests at one phase reach it.
COHERENCE_MEMORY, COHERENCE = 16.0, 5.0

# A stream's scalars: samples so far; variance of the innovation and of the samples; the present run
# of rejected samples, and their recent fraction; the sum of nu^2 over the last rejected samples.
N_SEEN, INNOVATION_VAR, SAMPLE_VAR, RUN, RATE, ENERGY, N_SCALARS = range(7)
# Rows of the lattice: backward errors of the last sample; C, D and k of the stages.
BACKWARD, CROSS, POWER, REFLECTION, N_ROWS = range(5)


@register_jitable
def rejection_size(n_tones: int) -> int:
    """Numbers in a stream's state."""
    return N_SCALARS + N_ROWS * (ORDER + 1) + 2 * n_tones


@njit(inline="always", **JIT_OPTIONS)
def is_coherent(x: float, y: float, energy: float) -> bool:
    """Whether rejected innovations of this sum over the tone's phase recur at one phase."""
    return x * x + y * y > COHERENCE * energy


@njit(**JIT_OPTIONS)
def reject_impulse(
    z: float, number: int, state: np.ndarray, freq_cycles: np.ndarray
) -> tuple[float, float]:
    """Clean one sample; returns it, and its certainty, which is 1 unless it was rejected.

    ``number`` counts the samples before it; ``state`` (`rejection_size`) is updated in place.
    """
    n = state[N_SEEN] + 1.0
    alpha = max(1.0 / n, 1.0 / LATTICE_MEMORY)
    lattice = state[N_SCALARS : N_SCALARS + N_ROWS * (ORDER + 1)].reshape(N_ROWS, ORDER + 1)
    phases = state[N_SCALARS + N_ROWS * (ORDER + 1) :].reshape(-1, 2)
    f = z
    for m in range(1, ORDER + 1):
        f += lattice[REFLECTION, m] * lattice[BACKWARD, m - 1]
    var, rejected = state[INNOVATION_VAR], False
    inside = n <= N_WARM_UP or f * f <= GATE_SIGMA * GATE_SIGMA * var
    if not inside:
        decay = 1.0 - 1.0 / COHERENCE_MEMORY
        state[ENERGY] = decay * state[ENERGY] + f * f
        coherent = False
        for k in range(len(freq_cycles)):
            cycles = number * freq_cycles[k]
            angle = 2 * np.pi * (cycles - math.floor(cycles))
            phases[k, 0] = decay * phases[k, 0] + f * math.cos(angle)
            phases[k, 1] = decay * phases[k, 1] - f * math.sin(angle)
            coherent = coherent or is_coherent(phases[k, 0], phases[k, 1], state[ENERGY])
        rejected = not coherent and state[RUN] < MAX_RUN and state[RATE] < MAX_REJECT_RATE
    state[RATE] += ((0.0 if inside else 1.0) - state[RATE]) / RATE_MEMORY
    certainty = 1.0
    if rejected:
        state[RUN] += 1
        if state[SAMPLE_VAR] > 0:
            certainty = max(0.0, 1.0 - var / state[SAMPLE_VAR])
        z -= f
    elif inside:
        state[RUN] = 0
    weight = max(1.0 / n, 1.0 / VARIANCE_MEMORY)
    squared = f * f
    if n > N_WARM_UP and (inside or rejected):
        # Clipped at 3 sigma; 1.02 restores the mean of a Gaussian's squares.
        squared = min(squared, 9.0 * var) * 1.02
    state[INNOVATION_VAR] += weight * (squared - var)
    state[SAMPLE_VAR] += alpha * (z * z - state[SAMPLE_VAR])
    forward, previous = z, lattice[BACKWARD, 0]
    lattice[BACKWARD, 0] = z
    for m in range(1, ORDER + 1):
        reflection = lattice[REFLECTION, m]
        lattice[CROSS, m] += alpha * (forward * previous - lattice[CROSS, m])
        lattice[POWER, m] += alpha * (forward * forward + previous * previous - lattice[POWER, m])
        if lattice[POWER, m] > 0:
            lattice[REFLECTION, m] = -2 * lattice[CROSS, m] / lattice[POWER, m]
        backward = previous + reflection * forward
        forward += reflection * previous
        previous, lattice[BACKWARD, m] = lattice[BACKWARD, m], backward
    state[N_SEEN] = n
    return z, certainty
