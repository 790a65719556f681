"""Rejection of impulses before decimation, by a recursive Burg lattice predictor.

A decimator spreads an impulse over several steps, so impulses are removed from the samples
themselves. A lattice of `ORDER` stages predicts each sample from those before it (Burg 1975):

    f_0 = b_0 = z[n]
    f_m = f_{m-1} + k_m b_{m-1}[n-1],    b_m = b_{m-1}[n-1] + k_m f_{m-1}
    k_m = -2 C_m / D_m,    C_m, D_m: averages of f_{m-1} b_{m-1}[n-1] and of f^2 + b^2

The innovation is f of the last stage. A sample whose innovation exceeds `GATE_SIGMA` deviations is
replaced by its prediction: the filter-cleaner of Martin and Thomson (1982) with a redescending
influence function. Accepted all the same is

- what recurs at one phase of a named tone, as the crests and edges of a pulse train do: of the
  rejected innovations nu, |sum nu exp(-i theta)|^2 or |sum |nu| exp(-i theta)|^2 exceeds
  `COHERENCE` sum nu^2, a Rayleigh test of their phases (Mardia and Jupp 2000);
- what is frequent;
- what lasts for more than `MAX_RUN` samples: a wave and no impulse. What was rejected of it is then
  restored, since a wave without its onset has power at all frequencies.

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
from tonesieve.kernels.kalman_bank.state import BORROWING

ORDER = 8  # stages; chosen, not tuned
# Chosen, not tuned: samples that the predictor's averages and the innovation's variance run over.
LATTICE_MEMORY, VARIANCE_MEMORY = 1000.0, 200.0
# Samples before the first rejection; chosen, not tuned.
N_WARM_UP = 64.0
# Gate in deviations of the innovation; chosen, not tuned: of Gaussian samples 7 in a million lie
# beyond 4.5.
GATE_SIGMA = 4.5
# Chosen, not tuned: longest run of rejected samples, and the largest part of all, averaged over 64.
MAX_RUN, MAX_REJECT_RATE, RATE_MEMORY = 4, 0.2, 64.0
# Rejected samples that the test of their phases runs over, and its threshold. Chosen, not tuned: of
# random phases 7 in 1000 exceed 5; five crests at one phase reach it.
PHASE_DECAY, COHERENCE = 1.0 - 1.0 / 16.0, 5.0

# A stream's state is one row: scalars; backward errors of the last sample, C, D and k of all stages
# from 0 on; the last samples that were rejected in a row, as observed and as cleaned, and the
# certainties of the latter; sums of the rejected innovations over each tone's phase, signed and as
# magnitudes, real and imaginary.
# Scalars: samples so far; variance of the innovation and of the samples; the present run of
# rejected samples, and their recent fraction; the sum of nu^2 over the last rejected samples.
N_SEEN, INNOVATION_VAR, SAMPLE_VAR, RUN, RATE, ENERGY, N_SCALARS = range(7)
BACKWARD, CROSS, POWER, REFLECTION, OBSERVED = (N_SCALARS + row * (ORDER + 1) for row in range(5))
CLEANED, CERTAINTY, PHASES = (OBSERVED + row * MAX_RUN for row in range(1, 4))
N_PHASES = 4  # derived: two complex sums


@register_jitable
def rejection_size(n_tones: int) -> int:
    """Numbers in a stream's state."""
    return PHASES + N_PHASES * n_tones


@njit(inline="always", **JIT_OPTIONS)
def add_to_phases(
    innovation: float, cosine: float, sine: float, place: int, state: np.ndarray
) -> None:
    """Add a rejected innovation to the sums over a tone's phase, from ``state[place]`` on."""
    size = abs(innovation)
    state[place] = PHASE_DECAY * state[place] + innovation * cosine
    state[place + 1] = PHASE_DECAY * state[place + 1] - innovation * sine
    state[place + 2] = PHASE_DECAY * state[place + 2] + size * cosine
    state[place + 3] = PHASE_DECAY * state[place + 3] - size * sine


@njit(inline="always", **JIT_OPTIONS)
def coherence(place: int, state: np.ndarray) -> float:
    """The larger squared magnitude of both sums."""
    signed = state[place] ** 2 + state[place + 1] ** 2
    return max(signed, state[place + 2] ** 2 + state[place + 3] ** 2)


@njit(inline="always", **JIT_OPTIONS)
def _predict_error(z: float, state: np.ndarray) -> float:
    """The forward error of the last stage."""
    for m in range(1, ORDER + 1):
        z += state[REFLECTION + m] * state[BACKWARD + m - 1]
    return z


@njit(inline="always", **JIT_OPTIONS)
def _update_lattice(z: float, alpha: float, state: np.ndarray) -> None:
    """Pass a sample through all stages, and average its errors."""
    forward, previous = z, state[BACKWARD]
    state[BACKWARD] = z
    for m in range(1, ORDER + 1):
        reflection = state[REFLECTION + m]
        state[CROSS + m] += alpha * (forward * previous - state[CROSS + m])
        power = forward * forward + previous * previous
        state[POWER + m] += alpha * (power - state[POWER + m])
        backward = previous + reflection * forward
        forward += reflection * previous
        previous = state[BACKWARD + m]
        state[BACKWARD + m] = backward
    # One stage's coefficient a sample: the averages change slowly.
    m = int(state[N_SEEN]) % ORDER + 1
    if state[POWER + m] > 0:
        state[REFLECTION + m] = -2 * state[CROSS + m] / state[POWER + m]


@njit(**BORROWING)
def _recurs_at_one_phase(
    innovation: float, number: int, state: np.ndarray, freq_cycles: np.ndarray
) -> bool:
    """Whether the last innovations outside the gate lie at one phase of a tone, this one added."""
    coherent = False
    state[ENERGY] = PHASE_DECAY * state[ENERGY] + innovation * innovation
    for k in range(len(freq_cycles)):
        cycles = number * freq_cycles[k]
        angle = 2 * np.pi * (cycles - math.floor(cycles))
        place = PHASES + N_PHASES * k
        add_to_phases(innovation, math.cos(angle), math.sin(angle), place, state)
        coherent = coherent or coherence(place, state) > COHERENCE * state[ENERGY]
    return coherent


@njit(**BORROWING)
def reject_impulse(
    z: float, number: int, state: np.ndarray, freq_cycles: np.ndarray
) -> tuple[float, float]:
    """Clean one sample; returns it, and its certainty, which is 1 unless it was rejected.

    ``number`` counts the samples before it; ``state`` (`rejection_size`) is updated in place. If
    ``state[RUN]`` exceeds `MAX_RUN` afterwards for the first time, the samples before this one are
    to be restored.
    """
    n, var, certainty = state[N_SEEN] + 1.0, state[INNOVATION_VAR], 1.0
    innovation, alpha = _predict_error(z, state), max(1.0 / n, 1.0 / LATTICE_MEMORY)
    squared = innovation * innovation
    inside = n <= N_WARM_UP or squared <= GATE_SIGMA * GATE_SIGMA * var
    rejected = False
    if not inside:
        coherent = _recurs_at_one_phase(innovation, number, state, freq_cycles)
        rejected = not coherent and state[RUN] < MAX_RUN and state[RATE] < MAX_REJECT_RATE
    state[RATE] += ((0.0 if inside else 1.0) - state[RATE]) / RATE_MEMORY
    if rejected:
        if state[SAMPLE_VAR] > 0:
            certainty = max(0.0, 1.0 - var / state[SAMPLE_VAR])
        place = int(state[RUN])
        state[OBSERVED + place] = z
        z -= innovation
        state[CLEANED + place], state[CERTAINTY + place] = z, certainty
        state[RUN] += 1
    elif inside:
        state[RUN] = 0
    elif state[RUN] >= MAX_RUN:
        state[RUN] += 1
    if n > N_WARM_UP and (inside or rejected):
        # Clipped at 3 sigma; 1.02 restores the mean of a Gaussian's squares.
        squared = min(squared, 9.0 * var) * 1.02
    state[INNOVATION_VAR] += max(1.0 / n, 1.0 / VARIANCE_MEMORY) * (squared - var)
    state[SAMPLE_VAR] += alpha * (z * z - state[SAMPLE_VAR])
    _update_lattice(z, alpha, state)
    state[N_SEEN] = n
    return z, certainty
