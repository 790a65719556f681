"""Front end of the pretrained extractor: groups of tones, decimation, bank of Kalman filters.

Tones less than three octaves apart form a group: one bank estimates them jointly, so that none
leaks into another. A group is decimated until its highest tone has six to twelve steps a period, so
that the whitening has only the neighbourhood of the tones to whiten, and the cost of a sample falls
with the rate. Of tones above a twelfth of the rate, every sample is a step.

Axes: B streams, T samples, N steps, K tones of a group, M filters, R gating intervals that end,
F features, S numbers of a bank's state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float

from tonesieve.extractors.pretrained.filter_table import filter_table
from tonesieve.kernels.kalman_bank import filter as kernel
from tonesieve.kernels.kalman_bank.decimator import (
    N_MEMORY,
    N_STAGES,
    ORIGIN,
    cic_response,
    decimate,
)
from tonesieve.kernels.kalman_bank.features import n_features
from tonesieve.kernels.kalman_bank.impulse_rejection import rejection_size
from tonesieve.kernels.kalman_bank.state import AGE, init_state, state_size, unpack, warm_start
from tonesieve.kernels.simd import WIDTH
from tonesieve.signals.baseband import RANGE_RATIO
from tonesieve.util.threads import over_rows

# Steps per period of a group's highest tone, at least, which the decimator passes with 0.83 of its
# amplitude; and the largest ratio of two frequencies of a group. Chosen, not tuned.
STEPS_PER_PERIOD, MAX_FREQUENCY_RATIO = 6, 8
# The largest frequency offset that is searched, over the frequency, by default: the family's
# drifts, 0.03 at most, lie inside. A filter follows a tone twice as far. Chosen, not tuned.
MAX_OFFSET_RATIO, HOLD_RATIO = RANGE_RATIO, 2.0
# Largest offset over the distance to the nearest other tone of the group; chosen, not tuned:
# neither of two tones follows the other one's line.
MAX_OFFSET_SPACING = 0.4
# Guard: largest offset, rad a step, for which the kernels' series of sine and cosine are accurate.
MAX_OFFSET_RAD = 0.2


class ToneGroupState(NamedTuple):
    """State of the front end of a group of tones.

    Parameters
    ----------
    n_samples : int
        Samples so far.
    decimator : ndarray, shape (B, 6)
        The decimator's memory.
    sums : ndarray, shape (B, 4, 2)
        Its partial sums.
    rejection : ndarray, shape (B, N)
        State of the rejection of impulses before it.
    banks : ndarray, shape (B, S)
        States of the filter banks (`kernels.kalman_bank.state`).
    """

    n_samples: int
    decimator: Float[np.ndarray, "B 6"]
    sums: Float[np.ndarray, "B 4 2"]
    rejection: Float[np.ndarray, "B N"]
    banks: Float[np.ndarray, "B S"]


class BankOutput(NamedTuple):
    """Output of the filter bank over some steps.

    Parameters
    ----------
    phasors : ndarray, shape (B, N, K, 2, M)
        Every filter's phasor after every step, real and imaginary part.
    features : ndarray, shape (B, R, K, F)
        Input of the gating network at the end of each gating interval.
    variances : ndarray, shape (B, R, K, M)
        Variances of the phasors there.
    ends : ndarray, shape (R,)
        Indices of the steps that end an interval.
    """

    phasors: Float[np.ndarray, "B N K 2 M"]
    features: Float[np.ndarray, "B R K F"]
    variances: Float[np.ndarray, "B R K M"]
    ends: np.ndarray


@dataclass(frozen=True)
class ToneGroup:
    """Tones that are estimated jointly by one filter bank.

    Parameters
    ----------
    freq_cycles : tuple of float
        Nominal frequencies in cycles a sample.
    gain : complex, default 1
        Complex amplitude, in the samples, of a tone of amplitude 1.
    within_cycles : tuple of float, optional
        Largest offset of each tone, cycles a sample; by default as `max_offset` states.
    min_memory : float, default 0
        Shortest memory of a filter, steps.
    """

    freq_cycles: tuple[float, ...]
    gain: complex = 1.0
    within_cycles: tuple[float, ...] | None = None
    min_memory: float = 0.0

    @cached_property
    def factor(self) -> int:
        """Decimation factor: samples a step."""
        return max(1, int(1 / (STEPS_PER_PERIOD * max(self.freq_cycles))))

    @cached_property
    def cic_weights(self) -> Float[np.ndarray, " W"]:
        """Impulse response of the decimator.

        A copy, since `cic_response` is read-only: to the compiler that is another type than the
        views of a buffer that `process_sample` has, and it would compile the kernels for both.
        """
        return cic_response(self.factor).copy()

    @cached_property
    def omega(self) -> Float[np.ndarray, " K"]:
        """Nominal frequencies in rad a step."""
        return 2 * np.pi * self.factor * np.array(self.freq_cycles)

    @cached_property
    def gains(self) -> Complex[np.ndarray, " K"]:
        """Complex gain of each tone in the steps, the first of which ends at sample factor - 1."""
        return self.gain * self._decimator_gain(0)

    @cached_property
    def gain_slope(self) -> Complex[np.ndarray, " K"]:
        """Derivative of the gains' logarithms by the frequency in rad a step."""
        return self._decimator_gain(1) / self._decimator_gain(0)

    def _decimator_gain(self, order: int) -> Complex[np.ndarray, " K"]:
        """The decimator's frequency response at the tones, or its first derivative."""
        weights = self.cic_weights
        delays = np.arange(len(weights))
        angles = 2 * np.pi * np.array(self.freq_cycles)[:, None]
        # The carrier of a step is that of its last sample.
        derivative: Complex[np.ndarray, " W"] = (-1j * delays / self.factor) ** order
        return (np.exp(1j * angles * (self.factor - 1 - delays)) * derivative) @ weights

    @cached_property
    def max_offset(self) -> Float[np.ndarray, "2 K"]:
        """Largest frequency offset of each tone, rad a step: of its search, and of its filters."""
        freq_cycles = np.array(self.freq_cycles)
        largest = MAX_OFFSET_RATIO * np.stack([freq_cycles, HOLD_RATIO * freq_cycles])
        if self.within_cycles is not None:
            largest = np.stack([self.within_cycles, self.within_cycles])
        spacing = np.abs(freq_cycles[:, None] - freq_cycles)
        spacing[spacing == 0] = np.inf
        largest = np.minimum(largest, MAX_OFFSET_SPACING * spacing.min(axis=1))
        return np.minimum(2 * np.pi * self.factor * largest, MAX_OFFSET_RAD)

    @cached_property
    def table(self) -> Float[np.ndarray, "L M"]:
        """Parameters of the filters (`filter_table`)."""
        return filter_table(self.min_memory)

    def narrowed(self, within_cycles: Sequence[float]) -> ToneGroup:
        """Return the group with smaller ranges, where these are smaller.

        Parameters
        ----------
        within_cycles : sequence of float
            Of each tone, cycles a sample.

        Returns
        -------
        ToneGroup
            The same tones.
        """
        present = self.max_offset[0] / (2 * np.pi * self.factor)
        return replace(self, within_cycles=tuple(np.minimum(present, within_cycles).tolist()))

    def bank_parameters(self, *, backwards: bool = False) -> tuple[np.ndarray, ...]:
        """Return the fields of `kernels.kalman_bank.state.BankModel`.

        Parameters
        ----------
        backwards : bool, default False
            Whether the bank runs from the last step to the first.

        Returns
        -------
        tuple of ndarray
            The fields.
        """
        gains, slope = self.gains, self.gain_slope
        if backwards:
            gains, slope = gains.conj(), slope.conj()
        return (
            self.omega,
            _real_imaginary(gains),
            _real_imaginary(slope),
            self.max_offset,
            self.table,
        )

    @cached_property
    def parameters(self) -> tuple[np.ndarray, ...]:
        """The first fields of `kernels.kalman_bank.process.GroupModel`."""
        return self.cic_weights, np.array(self.freq_cycles), *self.bank_parameters()[1:]

    def initial_state(self, n_streams: int, *, backwards: bool = False) -> ToneGroupState:
        """Return the state before the first sample.

        Parameters
        ----------
        n_streams : int
            B.
        backwards : bool, default False
            Whether the bank is going to run from the last step to the first.

        Returns
        -------
        ToneGroupState
            The state of B streams.
        """
        k = len(self.freq_cycles)
        banks = np.zeros((n_streams, state_size(k)))
        omega, gains, *_ = self.bank_parameters(backwards=backwards)
        init_state(banks, omega, gains)
        memory = np.zeros((n_streams, N_MEMORY))
        memory[:, ORIGIN] = np.nan
        sums, rejection = (
            np.zeros((n_streams, N_STAGES, 2)),
            np.zeros((n_streams, rejection_size(k))),
        )
        return ToneGroupState(0, memory, sums, rejection, banks)

    def warm_banks(
        self, learned: Float[np.ndarray, "B S"], *, backwards: bool = False
    ) -> Float[np.ndarray, "B S"]:
        """Return states before the first step that know the noise of the record.

        Parameters
        ----------
        learned : ndarray, shape (B, S)
            States after a pass over the same record, in either direction.
        backwards : bool, default False
            Whether the bank is going to run from the last step to the first.

        Returns
        -------
        ndarray, shape (B, S)
            States without any tone.
        """
        banks = np.empty_like(learned)
        omega, gains, *_ = self.bank_parameters(backwards=backwards)
        warm_start(banks, learned, omega, gains)
        return banks

    def decimate(
        self, samples: Float[np.ndarray, "B T"], state: ToneGroupState
    ) -> tuple[Float[np.ndarray, "B N"], ToneGroupState]:
        """Return the steps that end in a chunk of samples.

        Parameters
        ----------
        samples : ndarray, shape (B, T)
            The chunk; NaN in gaps.
        state : ToneGroupState
            State before it; left as it is.

        Returns
        -------
        steps : ndarray, shape (B, N)
            Decimated samples; NaN in gaps.
        state : ToneGroupState
            State after it.
        """
        n_before, memory, sums, rejection, banks = state
        n = samples.shape[1]
        samples = np.ascontiguousarray(samples)
        if self.factor == 1:
            return samples, ToneGroupState(n_before + n, *state[1:])
        memory, sums, rejection = memory.copy(), sums.copy(), rejection.copy()
        steps = np.empty((len(samples), (n_before + n) // self.factor - n_before // self.factor))
        decimate(
            samples, n_before, memory, sums, rejection, np.array(self.freq_cycles),
            self.cic_weights, self.factor, steps,
        )  # fmt: skip
        return steps, ToneGroupState(n_before + n, memory, sums, rejection, banks)

    def run_bank(
        self,
        steps: Float[np.ndarray, "B N"],
        banks: Float[np.ndarray, "B S"],
        *,
        course: Float[np.ndarray, "B N K"] | None = None,
        backwards: bool = False,
    ) -> tuple[BankOutput, Float[np.ndarray, "B S"]]:
        """Run the filter bank over some steps.

        Parameters
        ----------
        steps : ndarray, shape (B, N)
            Decimated samples, NaN in gaps; in reverse order if ``backwards``.
        banks : ndarray, shape (B, S)
            States before them; left as they are.
        course : ndarray, shape (B, N, K), optional
            Frequencies of the carriers minus the nominal ones, from the step before (in the order
            of the run) to each, rad a step.
        backwards : bool, default False
            Whether time runs backwards.

        Returns
        -------
        output : BankOutput
            Phasors and features, in the order of the steps.
        banks : ndarray, shape (B, S)
            States after them.
        """
        banks = banks.copy()
        n_streams, n_steps = steps.shape
        k = len(self.freq_cycles)
        age = int(unpack(banks[0], k).scalars[AGE]) if n_streams else 0
        first_end = kernel.GATING_INTERVAL - 1 - age % kernel.GATING_INTERVAL
        ends = np.arange(first_end, n_steps, kernel.GATING_INTERVAL)
        phasors = np.empty((n_streams, n_steps, k, 2, WIDTH))
        features = np.empty((n_streams, len(ends), k, n_features()))
        variances = np.empty((n_streams, len(ends), k, WIDTH))
        course = np.empty((n_streams, 0, k)) if course is None else np.ascontiguousarray(course)
        steps, model = np.ascontiguousarray(steps), self.bank_parameters(backwards=backwards)

        def run(rows: slice) -> None:
            outputs = (phasors[rows], features[rows], variances[rows])
            kernel.run_kalman_bank(steps[rows], course[rows], banks[rows], model, outputs)

        over_rows(run, n_streams)
        return BankOutput(phasors, features, variances, ends), banks

    def to_forward_phasors(
        self, output: BankOutput, end: int, course_rad: Float[np.ndarray, "B K"] | float = 0.0
    ) -> BankOutput:
        """Convert phasors of a backward run to the carrier of a forward run.

        Im(Z exp(i theta)) is Im(-conj(Z) exp(-i theta)).

        Parameters
        ----------
        output : BankOutput
            Output of a backward run that began at step ``end`` - 1.
        end : int
            Steps from the recording's start to where it began.
        course_rad : ndarray, shape (B, K), default 0
            Phase of the course at step ``end`` - 1, from the first step on.

        Returns
        -------
        BankOutput
            The same with other phasors, still in the order of the run.
        """
        cycles = self.factor * np.array(self.freq_cycles) * (end - 1) % 1
        rotation = -np.exp(-1j * (2 * np.pi * cycles + course_rad))
        rotation = rotation.reshape(-1, 1, len(cycles), 1)  # B or 1 streams
        real, imaginary = output.phasors[..., 0, :], output.phasors[..., 1, :]
        forward = np.empty_like(output.phasors)
        forward[..., 0, :] = rotation.real * real + rotation.imag * imaginary
        forward[..., 1, :] = rotation.imag * real - rotation.real * imaginary
        return output._replace(phasors=forward)


def group_by_span(freq_cycles: Sequence[float]) -> list[list[int]]:
    """Group tones such that none is more than `MAX_FREQUENCY_RATIO` times another of its group.

    Parameters
    ----------
    freq_cycles : sequence of float
        Frequencies, in any unit.

    Returns
    -------
    list of list of int
        Indices of the tones of each group, from the highest group down.
    """
    remaining, groups = sorted(range(len(freq_cycles)), key=lambda k: -freq_cycles[k]), []
    while remaining:
        highest = freq_cycles[remaining[0]]
        group = [k for k in remaining if freq_cycles[k] * MAX_FREQUENCY_RATIO >= highest]
        groups.append(sorted(group))
        remaining = [k for k in remaining if k not in group]
    return groups


def _real_imaginary(gains: Complex[np.ndarray, " K"]) -> Float[np.ndarray, "K 2"]:
    return np.stack([gains.real, gains.imag], axis=1)
