"""Gate of the bank of Kalman filters: which samples are used, and the variance of the noise.

A sample whose innovation exceeds `GATE_SIGMA` deviations of the mixture is treated as missing,
unless that is frequent, or such samples recur at one phase of a tone
(`kernels.kalman_bank.impulse_rejection` has the test and its source).
"""

from __future__ import annotations

from numba import njit

from tonesieve.kernels.fastmath import JIT_OPTIONS
from tonesieve.kernels.kalman_bank.impulse_rejection import (
    COHERENCE,
    GATE_SIGMA,
    PHASE_DECAY,
    add_to_phases,
    coherence,
)
from tonesieve.kernels.kalman_bank.state import (
    AGE,
    BORROWING,
    MISSING_RATE,
    N_OBSERVED,
    N_WARM_UP,
    NOISE_VAR,
    PEAK,
    REJECT_ENERGY,
    REJECT_RATE,
    BankState,
)

# Rate of rejections at which the gate opens, and steps that it is averaged over. Chosen, not tuned:
# seven rejected steps in a row, about a period, open it.
MAX_REJECT_RATE, REJECT_MEMORY = 0.35, 16.0
NOISE_VAR_MEMORY = 64.0  # samples that the noise variance is averaged over; chosen, not tuned
# Guard: the least noise variance over the square of the largest sample; no sample is certain.
NOISE_VAR_FLOOR = 1e-10


@njit(inline="always", **JIT_OPTIONS)
def gate_innovation(
    state: BankState, is_observed: bool, innovation: float, S: float
) -> tuple[bool, float]:
    """Whether a sample is used, and its innovation; updates the noise variance and the rates."""
    scalars = state.scalars
    noise_var = scalars[NOISE_VAR]
    is_inside = (
        scalars[N_OBSERVED] <= N_WARM_UP
        or innovation * innovation <= GATE_SIGMA * GATE_SIGMA * noise_var * S
    )
    scalars[REJECT_RATE] += (
        (0.0 if is_inside or not is_observed else 1.0) - scalars[REJECT_RATE]
    ) / REJECT_MEMORY
    if is_observed and not is_inside:
        is_observed = (
            _recurs_at_one_phase(state, innovation) or scalars[REJECT_RATE] >= MAX_REJECT_RATE
        )
    scalars[MISSING_RATE] += ((0.0 if is_observed else 1.0) - scalars[MISSING_RATE]) / min(
        64.0, scalars[AGE] + 1.0
    )
    if not is_observed:
        return False, 0.0
    scalars[N_OBSERVED] += 1
    n, squared = min(scalars[N_OBSERVED], NOISE_VAR_MEMORY), innovation * innovation / S
    if is_inside and n > N_WARM_UP:
        # Clipped at 3 sigma; 1.02 restores the mean of a Gaussian's squares.
        squared = min(squared, 9.0 * noise_var) * 1.02
    floor = NOISE_VAR_FLOOR * scalars[PEAK] * scalars[PEAK]
    scalars[NOISE_VAR] = max(noise_var + (squared - noise_var) / n, floor)
    return True, innovation


@njit(**BORROWING)
def _recurs_at_one_phase(state: BankState, innovation: float) -> bool:
    """Whether the last innovations outside the gate lie at one phase of a tone, this one added."""
    coherent = False
    energy = PHASE_DECAY * state.scalars[REJECT_ENERGY] + innovation * innovation
    for k in range(len(state.carrier)):
        phases = state.coherence[k]
        add_to_phases(innovation, state.carrier[k, 0], state.carrier[k, 1], 0, phases)
        coherent = coherent or coherence(0, phases) > COHERENCE * energy
    state.scalars[REJECT_ENERGY] = energy
    return coherent
