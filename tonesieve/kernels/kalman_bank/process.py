"""From samples to phasors and bands: decimator, filter bank, gating network, mixture.

All tones of a group in one compiled call, so that a single sample costs little more than its
arithmetic. After each step the estimate of a tone is Z = sum_j w_j Z_j; the weights w hold for one
gating interval. Its frequency offset is the angle of an exponential average of Z[n] conj(Z[n-1]),
the estimator of Lank, Reed and Pollon (1973).

Reference: G. W. Lank, I. S. Reed, G. E. Pollon, A semicoherent detection and Doppler estimation
statistic, IEEE Trans. Aerospace and Electronic Systems 9 (1973) 151-165.

Axes: B streams, T samples, N steps, K tones, R gating intervals, M filters, H hidden.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numba.extending import register_jitable

from tonesieve.kernels.buffer import buffer_size, split_buffer
from tonesieve.kernels.fastmath import JIT_OPTIONS
from tonesieve.kernels.kalman_bank.decimator import N_MEMORY, N_STAGES, decimate
from tonesieve.kernels.kalman_bank.features import n_features
from tonesieve.kernels.kalman_bank.filter import run_kalman_bank
from tonesieve.kernels.kalman_bank.gating import (
    MIN_VARIANCE,
    dense,
    gru_step,
    mixture_log_std,
    softmax,
)
from tonesieve.kernels.kalman_bank.impulse_rejection import rejection_size
from tonesieve.kernels.kalman_bank.state import (
    AGE,
    ALLOCATING,
    BORROWING,
    GATING_INTERVAL,
    N_TABLE,
    bank_shapes,
    unpack,
)
from tonesieve.kernels.simd import WIDTH, horizontal_sum, load, store

_n_features = njit(n_features)
LARGEST_SAMPLE = 1e100  # guard: the square of a larger one may not be finite


class StreamStates(NamedTuple):
    """The state of B streams of a group of tones."""

    decimator: np.ndarray  # (B, N_MEMORY)
    sums: np.ndarray  # (B, N_STAGES, 2): the decimator's partial sums
    rejection: np.ndarray  # (B, N): of `impulse_rejection`
    banks: np.ndarray  # (B, S): buffers of `state.BankState`
    hidden: np.ndarray  # (B, K, H)
    weights: np.ndarray  # (B, K, M): of the present gating interval
    log_std: np.ndarray  # (B, K): logarithm of the band's half-width
    phasor: np.ndarray  # (B, K), complex: after the last step
    rotation_sum: np.ndarray  # (B, K), complex: average of Z[n] conj(Z[n-1])
    peak: np.ndarray  # (B): largest sample over the gain, as a magnitude


class GroupModel(NamedTuple):
    """What does not change while a group of tones is extracted."""

    cic_weights: np.ndarray  # (W): impulse response of the decimator
    freq_cycles: np.ndarray  # (K): cycles a sample
    gains: np.ndarray  # (K, 2): of a tone in the steps, real and imaginary
    gain_slope: np.ndarray  # (K, 2): derivatives of their logarithms by the frequency
    max_offset: np.ndarray  # (2, K): largest offset of a search and of a filter, rad a step
    table: np.ndarray  # (N_TABLE, M)
    w_input: np.ndarray  # packed weights of the gating network
    w_hidden: np.ndarray
    w_output: np.ndarray
    factor: int  # samples a step
    decay: float  # of the rotation sum, a step


class Estimates(NamedTuple):
    """What is written for every sample."""

    phasors: np.ndarray  # (B, T, K), complex
    bands: np.ndarray  # (B, T, K): half-widths
    freq_offset: np.ndarray  # (B, T, K): rad a step


class BankOutput(NamedTuple):
    """What the filter bank gives for a block."""

    phasors: np.ndarray  # (B, N, K, 2, M)
    features: np.ndarray  # (B, R, K, F)
    variances: np.ndarray  # (B, R, K, M)


class Scratch(NamedTuple):
    """Memory of one run of the gating network."""

    buffer: np.ndarray  # of the others, which do not keep it in memory
    mixture: np.ndarray  # (M + 1): softmax of the logits
    outputs: np.ndarray  # (O, rounded up)
    from_input: np.ndarray  # (3 H, rounded up)
    from_hidden: np.ndarray


@register_jitable
def _scratch_shapes(n_intervals: int, n_input: int, n_output: int):  # type: ignore[no-untyped-def]
    # Most calls with one sample end no interval; without the network's memory they are a tenth
    # faster.
    n = n_input if n_intervals else 0
    return (WIDTH + 1,), (n_output * WIDTH,), (n * WIDTH,), (n * WIDTH,)


@njit(**JIT_OPTIONS)
def process_block(
    samples: np.ndarray, start: int, states: tuple[np.ndarray, ...],
    parameters: tuple[np.ndarray, ...], outputs: tuple[np.ndarray, ...],
) -> None:  # fmt: skip
    """Write the `Estimates` of samples (B, T), NaN in gaps, and update the states in place.

    ``start`` counts the samples before. ``states``, ``parameters`` and ``outputs`` are the fields
    of `StreamStates`, `GroupModel` and `Estimates`; plain tuples, whose types Numba finds faster.
    """
    _process(samples, start, StreamStates(*states), GroupModel(*parameters), Estimates(*outputs))  # type: ignore[arg-type]


@njit(**JIT_OPTIONS)
def _process(
    samples: np.ndarray, start: int, state: StreamStates, model: GroupModel, estimates: Estimates
) -> None:
    factor = model.factor
    n_streams, n_samples = samples.shape
    k_tones = len(model.freq_cycles)
    omega = 2 * np.pi * factor * model.freq_cycles
    n_steps = (start + n_samples) // factor - start // factor
    steps = samples
    if factor > 1:
        steps = np.empty((n_streams, n_steps))
        decimate(
            samples, start, state.decimator, state.sums, state.rejection, model.freq_cycles,
            model.cic_weights, factor, steps,
        )  # fmt: skip
    age = int(unpack(state.banks[0], k_tones).scalars[AGE]) if n_streams else 0
    n_intervals = (age + n_steps) // GATING_INTERVAL - age // GATING_INTERVAL
    filter_phasors = np.empty((n_streams, n_steps, k_tones, 2, WIDTH))
    features = np.empty((n_streams, n_intervals, k_tones, _n_features()))
    variances = np.empty((n_streams, n_intervals, k_tones, WIDTH))
    run_kalman_bank(
        steps, np.empty((n_streams, 0, k_tones)), state.banks,
        (omega, model.gains, model.gain_slope, model.max_offset, model.table),
        (filter_phasors, features, variances),
    )  # fmt: skip
    shapes = _scratch_shapes(n_intervals, model.w_input.shape[0], model.w_output.shape[0])
    buffer = np.empty(buffer_size(shapes))
    scratch = Scratch(buffer, *split_buffer(buffer, shapes))
    bank = BankOutput(filter_phasors, features, variances)
    for b in range(n_streams):
        for k in range(k_tones):
            _mix(samples, start, age, b, k, state, model, bank, scratch, estimates)
        scale = 1 / math.hypot(model.gains[0, 0], model.gains[0, 1])
        for t in range(n_samples):
            if not np.isnan(samples[b, t]):
                state.peak[b] = max(state.peak[b], abs(samples[b, t]) * scale)


@njit(**ALLOCATING)
def _is_blind(variances: np.ndarray) -> bool:
    """Whether no filter has observed a sample."""
    return variances.max() < MIN_VARIANCE


@njit(**BORROWING)
def _mix(
    samples: np.ndarray, start: int, age: int, b: int, k: int, state: StreamStates,
    model: GroupModel, bank: BankOutput, scratch: Scratch, estimates: Estimates,
) -> None:  # fmt: skip
    """Gate and mix the filters of tone ``k`` in stream ``b``, whose age was ``age`` steps."""
    factor, max_offset = model.factor, model.max_offset[1, k]
    scale = 1 / math.hypot(model.gains[0, 0], model.gains[0, 1])
    weights, log_std = state.weights[b, k], state.log_std
    phasor, rotation_sum = state.phasor[b, k], state.rotation_sum[b, k]
    interval, step, band = 0, 0, math.exp(log_std[b, k])
    angle, peak = math.atan2(rotation_sum.imag, rotation_sum.real), state.peak[b]
    angle = min(max(angle, -max_offset), max_offset)
    for t in range(samples.shape[1]):
        if not np.isnan(samples[b, t]):
            peak = max(peak, abs(samples[b, t]) * scale)
        if (start + t + 1) % factor == 0:
            if (age + step + 1) % GATING_INTERVAL == 0:
                variances = bank.variances[b, interval, k]
                gru_step(
                    bank.features[b, interval, k], state.hidden[b, k], model.w_input,
                    model.w_hidden, scratch.from_input, scratch.from_hidden,
                )  # fmt: skip
                dense(state.hidden[b, k], model.w_output, scratch.outputs)
                softmax(scratch.outputs, WIDTH + 1, scratch.mixture)
                store(weights, 0, load(scratch.mixture, 0))
                log_std[b, k] = scratch.outputs[WIDTH + 1] + mixture_log_std(
                    weights, bank.phasors[b, step, k, 0], bank.phasors[b, step, k, 1], variances
                )
                if _is_blind(variances):
                    log_std[b, k] = np.inf
                band = math.exp(log_std[b, k])
                interval += 1
            weight = load(weights, 0)
            new = complex(
                horizontal_sum(load(bank.phasors, (b, step, k, 0)) * weight),
                horizontal_sum(load(bank.phasors, (b, step, k, 1)) * weight),
            )
            rotation_sum = model.decay * rotation_sum + new * phasor.conjugate()
            # No filter follows a frequency further.
            angle = math.atan2(rotation_sum.imag, rotation_sum.real)
            angle = min(max(angle, -max_offset), max_offset)
            phasor = new
            step += 1
        estimates.phasors[b, t, k], estimates.freq_offset[b, t, k] = phasor, angle
        # Before the first gating interval ends, the band is as wide as the samples.
        estimates.bands[b, t, k] = band if band < np.inf else peak
    state.phasor[b, k], state.rotation_sum[b, k] = phasor, rotation_sum


@njit(**JIT_OPTIONS)
def synthesise(phasors: np.ndarray, start: int, freq_cycles: np.ndarray, tones: np.ndarray) -> None:
    """Write tones (B, T, K) = Im(Z exp(i theta)) of phasors, from sample ``start`` on."""
    n_streams, n_samples, k_tones = phasors.shape
    for t in range(n_samples):
        for k in range(k_tones):
            cycles = (start + t) * freq_cycles[k]
            angle = 2 * np.pi * (cycles - math.floor(cycles))
            c, s = math.cos(angle), math.sin(angle)
            for b in range(n_streams):
                tones[b, t, k] = phasors[b, t, k].real * s + phasors[b, t, k].imag * c


# The header of a one-sample runner's buffer.
N_TONES, N_HIDDEN, N_WEIGHTS, FACTOR, DECAY, START, SAMPLE, HEADER = range(8)


class RunnerBuffers(NamedTuple):
    """One stream, one group, one sample: all of it in one flat buffer.

    The buffer passes to compiled code as one array, which is what makes a call cheap. Complex
    fields are pairs of numbers there.
    """

    header: np.ndarray
    decimator: np.ndarray
    sums: np.ndarray
    rejection: np.ndarray
    bank: np.ndarray
    hidden: np.ndarray
    weights: np.ndarray
    log_std: np.ndarray
    phasor: np.ndarray
    rotation_sum: np.ndarray
    peak: np.ndarray
    cic_weights: np.ndarray
    freq_cycles: np.ndarray
    gains: np.ndarray
    gain_slope: np.ndarray
    max_offset: np.ndarray
    table: np.ndarray
    w_input: np.ndarray
    w_hidden: np.ndarray
    w_output: np.ndarray
    tones: np.ndarray
    bands: np.ndarray
    freq_offset: np.ndarray
    phasors: np.ndarray


@register_jitable
def _bank_size(k: int) -> int:
    return buffer_size(bank_shapes(k))


@register_jitable
def runner_shapes(k: int, h: int, n_weights: int, n_features: int):  # type: ignore[no-untyped-def]
    """Shapes of the fields of `RunnerBuffers`: k tones, h hidden units."""
    gates = (3 * h + WIDTH - 1) // WIDTH
    outputs = (WIDTH + 2 + WIDTH - 1) // WIDTH
    return (
        (HEADER,), (1, N_MEMORY), (1, N_STAGES, 2), (1, rejection_size(k)), (1, _bank_size(k)),
        (1, k, h), (1, k, WIDTH), (1, k), (1, 2 * k), (1, 2 * k), (1,), (n_weights,), (k,), (k, 2),
        (k, 2), (2, k), (N_TABLE, WIDTH),
        (gates, n_features + 1, WIDTH), (gates, h + 1, WIDTH), (outputs, h + 1, WIDTH),
        (1, 1, k), (1, 1, k), (1, 1, k), (1, 1, 2 * k),
    )  # fmt: skip


@njit(**JIT_OPTIONS)
def process_sample(buffer: np.ndarray, sample: float) -> None:
    """Process one sample of a runner, whose buffer holds `RunnerBuffers`."""
    shapes = runner_shapes(
        int(buffer[N_TONES]), int(buffer[N_HIDDEN]), int(buffer[N_WEIGHTS]), _n_features()
    )
    runner = RunnerBuffers(*split_buffer(buffer, shapes))
    # A sample that is not finite, or too large, is a gap.
    buffer[SAMPLE] = sample if abs(sample) < LARGEST_SAMPLE else np.nan
    start = int(buffer[START])
    phasors = runner.phasors.view(np.complex128)
    process_block(
        buffer[SAMPLE : SAMPLE + 1].reshape(1, 1), start,
        (
            runner.decimator, runner.sums, runner.rejection, runner.bank, runner.hidden,
            runner.weights, runner.log_std, runner.phasor.view(np.complex128),
            runner.rotation_sum.view(np.complex128), runner.peak,
        ),
        (
            runner.cic_weights, runner.freq_cycles, runner.gains, runner.gain_slope,
            runner.max_offset, runner.table, runner.w_input, runner.w_hidden, runner.w_output,
            int(buffer[FACTOR]), buffer[DECAY],
        ),
        (phasors, runner.bands, runner.freq_offset),
    )  # fmt: skip
    synthesise(phasors, start, runner.freq_cycles, runner.tones)
    buffer[START] += 1
