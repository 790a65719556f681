"""The pretrained extractor: a bank of Kalman filters, weighted by a gating network trained once.

Here it is causal; `extractors.pretrained.smoother` runs it in both directions.

Axes: B streams, T samples, K tones, M filters, H hidden units.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Complex, Float

from tonesieve.errors import UserError
from tonesieve.extractors.filters.base import ToneFilter, check
from tonesieve.extractors.pretrained.front_end import (
    MAX_FREQUENCY_RATIO,
    ToneGroup,
    ToneGroupState,
    group_by_span,
)
from tonesieve.extractors.pretrained.gate import INITIAL_WEIGHT, GatingWeights, load_gating
from tonesieve.extractors.pretrained.sample_runner import SampleRunner
from tonesieve.extractors.protocol import ToneEstimate
from tonesieve.kernels.kalman_bank.process import process_block, synthesise
from tonesieve.kernels.simd import WIDTH

# Samples of one compiled call; guard, of memory.
CHUNK = 2**12
# Periods of the lowest tone that the reported frequency is averaged over; chosen, not tuned.
FREQUENCY_PERIODS = 20


class GroupState(NamedTuple):
    """State of a group of tones.

    Parameters
    ----------
    front_end : ToneGroupState
        Of the decimator and the filter bank.
    hidden : ndarray, shape (B, K, H)
        Hidden state of the gating network.
    weights : ndarray, shape (B, K, M)
        Weights of the filters in the present gating interval.
    log_std : ndarray, shape (B, K)
        Logarithm of the band's half-width.
    phasor : ndarray of complex, shape (B, K)
        Phasors after the last step.
    rotation_sum : ndarray of complex, shape (B, K)
        Running sum of Z[n] conj(Z[n-1]), whose angle is the frequency offset.
    peak : ndarray, shape (B,)
        The largest sample over the gain, as a magnitude.
    """

    front_end: ToneGroupState
    hidden: Float[np.ndarray, "B K H"]
    weights: Float[np.ndarray, "B K M"]
    log_std: Float[np.ndarray, "B K"]
    phasor: Complex[np.ndarray, "B K"]
    rotation_sum: Complex[np.ndarray, "B K"]
    peak: Float[np.ndarray, " B"]


class PhasorEstimate(NamedTuple):
    """Phasors of the tones, and their bands.

    Parameters
    ----------
    phasors : ndarray of complex, shape (B, T, K)
        Phasors Z: a tone is Im(Z exp(2 pi i f t)).
    band : ndarray, shape (B, T, K)
        Half-width of the band that holds the tone in 9 of 10 cases.
    """

    phasors: Complex[np.ndarray, "B T K"]
    band: Float[np.ndarray, "B T K"]


@dataclass(frozen=True)
class PretrainedExtractor(ToneFilter):
    """The extractor that comes with the package: no training, no bandwidth to choose.

    Sixteen Kalman filters of different memories, six of which track the frequency, filter the
    samples, which are whitened and freed of impulses. A gating network, trained once on a wide
    family of signals (`signals.scenes`), weights them by their recent performance. In gaps the
    tone continues. Tones less than three octaves apart are estimated jointly. All but the fastest
    tones are first decimated to 6 to 12 steps a period.

    Parameters
    ----------
    frequencies_hz : tuple of float
        Nominal frequencies of the K tones.
    rate_hz : float
        Sampling rate.
    gain : complex, default 1
        Complex amplitude, in the mixture, of a tone of amplitude 1.
    weights : str, default ""
        A file that ``tonesieve pretrain`` has written; empty: the package's own weights.
    ahead_s : float, optional
        For `extractors.pretrained.smoother` alone: seconds of the future that each estimate uses
        at least. It uses at most twice as many, and always whole gating intervals of eight steps.
        By default the smoother uses all of the recording.
    within_hz : float, optional
        Largest offset of a tone from its nominal frequency; by default 3.5% of it.

    Raises
    ------
    UserError
        If ``ahead_s`` is not above 0.
    """

    saved_name: ClassVar[str] = "Pretrained"

    weights: str = ""
    ahead_s: float | None = None
    within_hz: float | None = None

    def __post_init__(self) -> None:
        check(self.ahead_s is None or self.ahead_s > 0, "ahead_s", self.ahead_s, "must be above 0")
        within_hz = self.within_hz
        check(within_hz is None or within_hz > 0, "within_hz", within_hz, "must be above 0")

    @cached_property
    def gating(self) -> GatingWeights:
        """Weights of the gating network."""
        return load_gating(self.weights)

    @property
    def digest(self) -> str:
        """A hash of the weights."""
        return self.gating.digest

    @cached_property
    def groups(self) -> list[tuple[list[int], ToneGroup]]:
        """Groups of tones that are estimated jointly: indices of the tones, and the group."""
        freq_cycles = [f / self.rate_hz for f in self.frequencies_hz]
        groups = []
        for tones in group_by_span(freq_cycles):
            group = ToneGroup(tuple(freq_cycles[k] for k in tones), self.gain)
            if self.within_hz is not None:
                # A filter of memory m follows what is within 1 / (2 pi m) of its frequency.
                within = self.within_hz / self.rate_hz
                min_memory = 1 / (2 * np.pi * within * group.factor)
                group = replace(group, within_cycles=(within,) * len(tones), min_memory=min_memory)
            groups.append((tones, group))
        return groups

    def initial_state(self, n_streams: int) -> tuple[GroupState, ...]:
        """Return the state before the first sample; raises `UserError` if ``ahead_s`` is set."""
        if self.ahead_s is not None:
            raise UserError("ahead_s: what goes sample by sample has no future to look ahead to")
        return tuple(self._initial_group_state(group, n_streams) for _, group in self.groups)

    def step(
        self, samples: Float[np.ndarray, "B T"], state: tuple[GroupState, ...]
    ) -> tuple[Float[np.ndarray, "B T K"], tuple[GroupState, ...]]:
        """Estimate the tones in a chunk of any length."""
        start = state[0].front_end.n_samples
        estimate, _, state = self.process(samples, state)
        return self.tones(estimate.phasors, start), state

    def step_detailed(
        self, samples: Float[np.ndarray, "B T"], state: tuple[GroupState, ...]
    ) -> tuple[ToneEstimate, tuple[GroupState, ...]]:
        """Estimate tones, amplitudes, phases, frequencies and bands in a chunk of any length."""
        start = state[0].front_end.n_samples
        (phasors, band), offset_hz, state = self.process(samples, state)
        hz = offset_hz + np.array(self.frequencies_hz)
        tones = self.tones(phasors, start)
        return ToneEstimate(tones, np.abs(phasors), np.angle(phasors), hz, band), state

    def tones(
        self, phasors: Complex[np.ndarray, "B T K"], start: int
    ) -> Float[np.ndarray, "B T K"]:
        """Return the tones of phasors.

        Parameters
        ----------
        phasors : ndarray of complex, shape (B, T, K)
            Phasors at consecutive samples.
        start : int
            Index of the first sample.

        Returns
        -------
        ndarray, shape (B, T, K)
            Im(Z exp(2 pi i f t)).
        """
        return tones_of(phasors, start, self._freq_cycles)

    def process(
        self, samples: Float[np.ndarray, "B T"], state: tuple[GroupState, ...]
    ) -> tuple[PhasorEstimate, Float[np.ndarray, "B T K"], tuple[GroupState, ...]]:
        """Estimate phasors, bands and frequencies, each from the samples up to its own.

        Parameters
        ----------
        samples : ndarray, shape (B, T)
            A chunk of any length; NaN in gaps.
        state : tuple of GroupState
            State before it; left as it is.

        Returns
        -------
        estimate : PhasorEstimate
            Phasors and bands.
        offset_hz : ndarray, shape (B, T, K)
            Frequencies minus the nominal ones.
        state : tuple of GroupState
            State after it.
        """
        n = samples.shape[1]
        if len(self.groups) == 1 and n <= CHUNK:
            phasors, band, offset_hz, group_state = self._process_group(0, samples, state[0])
            return PhasorEstimate(phasors, band), offset_hz, (group_state,)
        full = empty_outputs((*samples.shape, self.n_tones))
        states = list(state)
        for start in range(0, n, CHUNK):
            chunk = samples[:, start : start + CHUNK]
            for g, (tones, _) in enumerate(self.groups):
                *outputs, states[g] = self._process_group(g, chunk, states[g])
                for array, part in zip(full, outputs, strict=True):
                    array[:, start : start + CHUNK, tones] = part
        return PhasorEstimate(*full[:2]), full[2], tuple(states)

    def stepper(self) -> SampleRunner:
        """Return a runner of one stream, sample by sample.

        Returns
        -------
        SampleRunner
            Callable with a sample.

        Raises
        ------
        UserError
            If the tones form more than one group.
        """
        if len(self.groups) > 1:
            raise UserError(
                f"tones more than {MAX_FREQUENCY_RATIO} times apart are stepped by a stepper each"
            )
        state = self.initial_state(1)[0]
        parameters, hz_per_rad = self._parameters[0]
        return SampleRunner(
            (*state.front_end[1:], *state[1:]), parameters, self.frequencies_hz, hz_per_rad
        )

    @cached_property
    def _freq_cycles(self) -> Float[np.ndarray, " K"]:
        """Cycles a sample."""
        return np.array(self.frequencies_hz) / self.rate_hz

    @cached_property
    def _parameters(self) -> list[tuple[tuple[Any, ...], float]]:
        """Of each group: fields of `GroupModel`, and Hz for a rad a step."""
        gating, parameters = self.gating, []
        for _, group in self.groups:
            decay = 1 - group.omega.min() / (FREQUENCY_PERIODS * 2 * np.pi)
            weights = (gating.w_input, gating.w_hidden, gating.w_output)
            model = (*group.parameters, *weights, group.factor, decay)
            parameters.append((model, self.rate_hz / group.factor / (2 * np.pi)))
        return parameters

    def _initial_group_state(self, group: ToneGroup, n_streams: int) -> GroupState:
        shape = (n_streams, len(group.freq_cycles))
        return GroupState(
            group.initial_state(n_streams),
            np.zeros((*shape, self.gating.n_hidden)),
            np.full((*shape, WIDTH), INITIAL_WEIGHT),
            np.full(shape, np.inf),
            np.zeros(shape, complex),
            np.zeros(shape, complex),
            np.zeros(n_streams),
        )

    def _process_group(
        self, g: int, samples: Float[np.ndarray, "B T"], state: GroupState
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, GroupState]:
        """Phasors, bands and frequency offsets (Hz) of one group's tones, and its state."""
        parameters, hz_per_rad = self._parameters[g]
        start, *front_end = state.front_end
        states = tuple(array.copy() for array in (*front_end, *state[1:]))
        outputs = empty_outputs((*samples.shape, state.phasor.shape[1]))
        process_block(np.ascontiguousarray(samples), start, states, parameters, outputs)
        outputs[2][:] *= hz_per_rad
        after = ToneGroupState(start + samples.shape[1], *states[:4])
        return *outputs, GroupState(after, *states[4:])


def empty_outputs(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return unfilled phasors, bands and frequency offsets: fields of the kernel's `Estimates`.

    Parameters
    ----------
    shape : tuple of int
        Of each.

    Returns
    -------
    tuple of ndarray
        The first one is complex.
    """
    return np.empty(shape, complex), np.empty(shape), np.empty(shape)


def tones_of(
    phasors: Complex[np.ndarray, "B T K"], start: int, freq_cycles: Float[np.ndarray, " K"]
) -> Float[np.ndarray, "B T K"]:
    """Return Im(Z exp(2 pi i f t)) of phasors Z.

    Parameters
    ----------
    phasors : ndarray of complex, shape (B, T, K)
        Phasors at consecutive samples.
    start : int
        Index of the first sample.
    freq_cycles : ndarray, shape (K,)
        Nominal frequencies, cycles a sample.

    Returns
    -------
    ndarray, shape (B, T, K)
        The tones.
    """
    tones = np.empty(phasors.shape)
    synthesise(phasors, start, freq_cycles, tones)
    return tones
