"""The pretrained filters over the tones of one comb, sample by sample.

The lowest tones are filtered each by itself, as if they were named alone. The others are
down-converted by multiples of one carrier and filtered in streams of their own, as over a recording
(`down_converter`). The carrier follows the frequency that all tones share: every eight steps the
offsets that the filters measure are averaged, each by its signal-to-noise ratio, and a Kalman
filter of a random walk takes the average over (a frequency-locked loop). Its process noise follows
from its innovations (R. Mehra, On the identification of variances and adaptive Kalman filtering,
IEEE Trans. Automatic Control 15 (1970) 175-184).

Axes: B streams, T samples, K tones, M steps, L taps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float

from tonesieve.extractors.noise_bands import Z90
from tonesieve.extractors.pretrained.down_converter import (
    MIN_COVERAGE_BESIDE_GAPS,
    DownConverter,
)
from tonesieve.extractors.pretrained.extractor import (
    GroupState,
    PretrainedExtractor,
    empty_outputs,
)
from tonesieve.extractors.pretrained.front_end import HOLD_RATIO
from tonesieve.kernels.comb_mixdown import down_convert, hold_phasors
from tonesieve.kernels.kalman_bank.state import GATING_INTERVAL
from tonesieve.signals.comb import Comb

# Tones, from the lowest on, that are filtered each by itself. Chosen, not tuned.
N_ALONE = 3
# Steps that the filters average an offset over (20 periods of four steps); intervals that the
# innovations are averaged over, and the part of their excess that is process noise. Chosen, not
# tuned.
OFFSET_STEPS, N_INNOVATIONS, PROCESS_RATIO = 80, 10.0, 0.1
# Standard deviation of the common offset at first, over the range that is searched; chosen, not
# tuned: names are nearly right more often than not.
FIRST_RATIO = 0.1
# Signal-to-noise ratio at which half of a measured offset counts; chosen, not tuned.
HALF_SNR = 10.0
# Steps a period of the spacing, at least. Chosen: of 2, 4 and 6, on hum in coloured noise; more
# than over a recording, since the filters settle within a number of steps.
STEPS_PER_PERIOD = 4
# Largest range of a tone over the comb's spacing; chosen, not tuned: others stay out of reach.
MAX_SPACING = 0.2


class LoopState(NamedTuple):
    """State of the frequency-locked loop of a comb.

    Parameters
    ----------
    relative : ndarray, shape (B,)
        Phase of order 1 over the nominal one, in cycles, at the start of the interval.
    advance : ndarray, shape (B,)
        What it grows by a sample.
    variance, innovation_power : ndarray, shape (B,)
        Of ``advance``, and the average square of its innovations, (cycles a sample)^2.
    """

    relative: Float[np.ndarray, " B"]
    advance: Float[np.ndarray, " B"]
    variance: Float[np.ndarray, " B"]
    innovation_power: Float[np.ndarray, " B"]


class StreamsState(NamedTuple):
    """State of the down-converted streams of K tones.

    Parameters
    ----------
    mixed : ndarray of complex, shape (B, K, L)
        The last samples, mixed down.
    observed : ndarray, shape (B, L)
        Whether they were observed.
    phasors : ndarray of complex, shape (B, K)
        Phasors after the last step, relative to the carriers.
    band, offset_hz : ndarray, shape (B, K)
        Half-widths, and the offsets from the carriers' frequencies.
    filters : tuple of GroupState
        Of the filters of B K streams.
    """

    mixed: Complex[np.ndarray, "B K L"]
    observed: Float[np.ndarray, "B L"]
    phasors: Complex[np.ndarray, "B K"]
    band: Float[np.ndarray, "B K"]
    offset_hz: Float[np.ndarray, "B K"]
    filters: tuple[GroupState, ...]


class CombState(NamedTuple):
    """State of one comb.

    Parameters
    ----------
    n_samples : int
        Samples so far.
    loop : LoopState
        Of the common frequency.
    alone : tuple
        Of the extractors of the lowest tones.
    streams : StreamsState
        Of the other tones.
    """

    n_samples: int
    loop: LoopState
    alone: tuple[tuple[GroupState, ...], ...]
    streams: StreamsState


class CombOutputs(NamedTuple):
    """What the filters estimate at every sample.

    Parameters
    ----------
    phasors : ndarray of complex, shape (B, T, K)
        Relative to the nominal carriers.
    band : ndarray, shape (B, T, K)
        Half-widths.
    offset_hz : ndarray, shape (B, T, K)
        Frequencies minus the nominal ones.
    """

    phasors: Complex[np.ndarray, "B T K"]
    band: Float[np.ndarray, "B T K"]
    offset_hz: Float[np.ndarray, "B T K"]

    def part(self, start: int, stop: int, tones: slice) -> CombOutputs:
        return CombOutputs(*(array[:, start:stop, tones] for array in self))


@dataclass(frozen=True)
class CombFilter:
    """The filters of one comb.

    Parameters
    ----------
    comb : Comb
        The tones.
    rate_hz : float
        Sampling rate.
    gain : complex
        Complex amplitude, in the mixture, of a tone of amplitude 1.
    weights : str
        A file of weights; empty: the package's own.
    within_hz : float
        Largest offset of order 1 from its nominal frequency.
    """

    comb: Comb
    rate_hz: float
    gain: complex
    weights: str
    within_hz: float

    @cached_property
    def orders(self) -> Float[np.ndarray, " K"]:
        return np.array(self.comb.orders)

    @cached_property
    def alone(self) -> list[PretrainedExtractor]:
        """Of the lowest tones."""
        return [
            PretrainedExtractor((order * self.comb.hz,), self.rate_hz, self.gain, self.weights)
            for order in self.comb.orders[:N_ALONE]
        ]

    @cached_property
    def converter(self) -> DownConverter:
        # A stream has no end.
        return DownConverter(self.comb.spacing_hz / self.rate_hz, 2**62, STEPS_PER_PERIOD)

    @property
    def interval(self) -> int:
        """Samples for which the carrier's frequency is fixed."""
        return self.converter.factor * GATING_INTERVAL

    @cached_property
    def filters(self) -> PretrainedExtractor:
        """The filters of one stream, at a quarter of its rate."""
        rate_hz = self.rate_hz / self.converter.factor
        highest = max(self.comb.orders)
        within_hz = min(highest * self.within_hz, MAX_SPACING * self.comb.spacing_hz, rate_hz / 16)
        return PretrainedExtractor(
            (rate_hz / 4,), rate_hz, self.gain, weights=self.weights, within_hz=within_hz
        )

    def initial_state(self, n_streams: int) -> CombState:
        shape, n_taps = (n_streams, len(self.orders[N_ALONE:])), len(self.converter.taps)
        zeros = np.zeros(n_streams)
        widest = (FIRST_RATIO * self.within_hz / self.rate_hz) ** 2
        return CombState(
            0,
            LoopState(zeros, zeros, np.full(n_streams, widest), zeros),
            tuple(one.initial_state(n_streams) for one in self.alone),
            StreamsState(
                np.zeros((*shape, n_taps), complex), np.zeros((n_streams, n_taps)),
                np.zeros(shape, complex), np.full(shape, np.inf), np.zeros(shape),
                self.filters.initial_state(n_streams * shape[1]),
            ),
        )  # fmt: skip

    def process(
        self, samples: Float[np.ndarray, "B T"], state: CombState
    ) -> tuple[CombOutputs, CombState]:
        """Return the outputs in a chunk of any length, and the state after it."""
        samples = np.ascontiguousarray(samples)
        outputs = CombOutputs(*empty_outputs((*samples.shape, len(self.orders))))
        alone = []
        for k, (one, before) in enumerate(zip(self.alone, state.alone, strict=True)):
            estimate, offset_hz, after = one.process(samples, before)
            for array, values in zip(outputs, (*estimate, offset_hz), strict=True):
                array[..., k] = values[..., 0]
            alone.append(after)
        streams = state.streams._replace(
            mixed=state.streams.mixed.copy(), observed=state.streams.observed.copy()
        )
        n_samples, loop, n, done = state.n_samples, state.loop, samples.shape[1], 0
        while done < n:
            stop = min(n, done + self.interval - n_samples % self.interval)
            part = outputs.part(done, stop, slice(N_ALONE, None))
            streams = self._process_streams(samples[:, done:stop], n_samples, loop, streams, part)
            n_samples += stop - done
            if n_samples % self.interval == 0:
                loop = loop._replace(relative=loop.relative + loop.advance * self.interval)
                loop = self._follow(loop, outputs.part(stop - 1, stop, slice(None)), n_samples)
            done = stop
        return outputs, CombState(n_samples, loop, tuple(alone), streams)

    def _process_streams(
        self,
        samples: Float[np.ndarray, "B T"],
        start: int,
        loop: LoopState,
        state: StreamsState,
        outputs: CombOutputs,
    ) -> StreamsState:
        """Fill the outputs of the streams within one interval."""
        orders = self.orders[N_ALONE:]
        if not len(orders):
            return state
        (n_streams, n), factor = samples.shape, self.converter.factor
        n_steps = (start + n) // factor - start // factor
        steps = np.empty((n_streams, len(orders), n_steps))
        down_convert(
            np.ascontiguousarray(samples), start, start % self.interval, loop.relative,
            loop.advance, orders * self.comb.hz / self.rate_hz, orders, self.converter.taps, factor,
            MIN_COVERAGE_BESIDE_GAPS, state.mixed, state.observed, steps,
        )  # fmt: skip
        at_steps, bands, offsets, filters = self._filtered(steps, state.filters)
        held = np.empty(outputs.phasors.shape, complex)
        hold_phasors(
            start,
            start % self.interval,
            loop.relative,
            loop.advance,
            orders,
            factor,
            state.phasors,
            at_steps,
            held,
        )
        outputs.phasors[:] = held
        last = np.arange(start + 1, start + n + 1) // factor - start // factor
        for filled, before, values in (
            (outputs.band, state.band, bands), (outputs.offset_hz, state.offset_hz, offsets),
        ):  # fmt: skip
            by_step = np.concatenate([before[..., None], values], axis=2)
            filled[:] = by_step[..., last].swapaxes(1, 2)
        outputs.offset_hz[:] += orders * (loop.advance * self.rate_hz)[:, None, None]
        if not n_steps:
            return state
        return state._replace(
            phasors=at_steps[..., -1], band=bands[..., -1], offset_hz=offsets[..., -1],
            filters=filters,
        )  # fmt: skip

    def _filtered(
        self, steps: Float[np.ndarray, "B K M"], state: tuple[GroupState, ...]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[GroupState, ...]]:
        """Phasors, bands and offsets (B, K, M) at steps, and the state of the filters."""
        if not steps.shape[2]:
            return steps.astype(complex), steps, steps, state
        (phasors, band), offset_hz, after = self.filters.process(
            steps.reshape(-1, steps.shape[2]), state
        )
        z, b, o = (part[..., 0].reshape(steps.shape) for part in (phasors, band, offset_hz))
        return np.ascontiguousarray(z), b, o, after

    def _follow(self, loop: LoopState, last: CombOutputs, n_samples: int) -> LoopState:
        """The loop after ``n_samples``, the last of which had these outputs."""
        phasors, band, offset_hz = (array[:, 0] for array in last)
        std = np.maximum(band / Z90, 1e-300)
        snr = np.maximum((np.abs(phasors) / std) ** 2 - 2.0, 0.0)
        information = np.sum(self.orders**2 * snr, axis=1) + HALF_SNR
        measured = np.sum(self.orders * snr * offset_hz, axis=1) / information / self.rate_hz
        # A phase that is known to 1 / sqrt(snr) at both ends of the average.
        n_averaged = OFFSET_STEPS * self.converter.factor
        if n_samples < n_averaged:  # the first offsets are at the edges of the search
            return loop
        duration = 2 * np.pi * n_averaged
        noise = 2 / (duration**2 * information)
        innovation = measured - loop.advance
        power = loop.innovation_power + (innovation**2 - loop.innovation_power) / N_INNOVATIONS
        process = PROCESS_RATIO * np.maximum(power - loop.variance - noise, 0.0)
        variance = loop.variance + process
        gain = variance / (variance + noise)
        largest = HOLD_RATIO * self.within_hz / self.rate_hz
        advance = np.clip(loop.advance + gain * innovation, -largest, largest)
        return LoopState(loop.relative, advance, (1 - gain) * variance, power)
