"""Offset, scale and gaps of a signal, brought to what an extractor was made for.

`InputScaling` alone decides them. An extractor takes samples of any scale (`Source.linear`), in one
unit (`Source.unit`), or standardised as in its training. Known of the signal is what came so far (a
stream), its first samples, or the statistics of the whole recording. Axes: C channels, T samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from tonesieve.extractors.filters.kalman import KalmanState
from tonesieve.extractors.gap_filling import GapFiller
from tonesieve.extractors.source import Source
from tonesieve.recordings.statistics import ChannelStats, power_of_two
from tonesieve.signals.signal_model import input_rms

# Guard: fourth powers of numbers beyond this, or of their inverses, are no finite floats.
EXTREME = 1e100
# Guard: from here on squares are summed in a unit of its own, so that sums stay finite.
LARGE_PEAK, LARGE_UNIT = 1e140, 1e150


class ScalingState(NamedTuple):
    """What is known of every channel so far, in the order in which saved streams hold it.

    Parameters
    ----------
    n_valid : ndarray, shape (C, 1)
        Samples that were finite.
    origin : ndarray, shape (C, 1)
        The first finite sample; NaN before it.
    unit : ndarray, shape (C, 1)
        What samples are divided by where any scale will do; 0 before it is known.
    squares : ndarray, shape (C, 1)
        Sum of squared distances from the origin.
    total : ndarray, shape (C, 1)
        Sum of distances from the origin.
    peak : ndarray, shape (C, 1)
        The largest distance from the origin; it decides the unit of both sums.
    """

    n_valid: Float[np.ndarray, "C 1"]
    origin: Float[np.ndarray, "C 1"]
    unit: Float[np.ndarray, "C 1"]
    squares: Float[np.ndarray, "C 1"]
    total: Float[np.ndarray, "C 1"]
    peak: Float[np.ndarray, "C 1"]


class InputState(NamedTuple):
    """What goes from block to block: of the gap filler, and of a scaling by what came so far.

    Parameters
    ----------
    gap_filler : KalmanState or None
        None where the extractor handles NaN itself.
    running : ScalingState or None
        None where the scale is fixed.
    """

    gap_filler: KalmanState | None
    running: ScalingState | None


class _FixedScale(NamedTuple):
    """``(samples / unit - offset) * factor``, NaN from ``limit`` on; outputs times ``scale``."""

    unit: Float[np.ndarray, "C 1"]
    offset: Float[np.ndarray, "C 1"]
    factor: Float[np.ndarray, "C 1"]
    scale: Float[np.ndarray, "C 1"]
    limit: float


class InputScaling:
    """Samples in, the extractor's input out, and the factor that takes its output back.

    As it is constructed, the scale follows from the samples so far.

    Parameters
    ----------
    source : Source
        The extractor, and the signals that it was made for.
    rate_hz : float
        Sampling rate of the signal, at which its gaps are filled.
    """

    def __init__(self, source: Source, rate_hz: float) -> None:
        self._source = source
        self._fixed: _FixedScale | None = None
        self._gap_filler = None if source.handles_nan else GapFiller(source.frequencies_hz, rate_hz)

    @classmethod
    def from_statistics(
        cls, source: Source, rate_hz: float, stats: Sequence[ChannelStats]
    ) -> InputScaling:
        """Fix the scale by the statistics of a whole recording.

        Parameters
        ----------
        source : Source
            The extractor, and the signals that it was made for.
        rate_hz : float
            Sampling rate of the recording.
        stats : sequence of ChannelStats
            One for every channel.

        Returns
        -------
        InputScaling
            For any block of the recording.
        """
        columns = np.array([[s.mean, s.rms, source.unit or s.unit] for s in stats])
        mean, rms, unit = columns.T[:, :, None]
        factor, scale = np.ones_like(unit), unit * source.gain
        if not source.linear:
            rms_in_units = np.where(rms > 0, rms / unit, 1.0)
            factor = np.where(rms > 0, input_rms(source.data) / rms_in_units, 0.0)
            scale = rms * source.gain / input_rms(source.data)
        scaling = cls(source, rate_hz)
        scaling._fixed = _FixedScale(unit, mean / unit, factor, scale, np.inf)
        return scaling

    @classmethod
    def from_first_samples(
        cls, source: Source, rate_hz: float, blocks: Iterable[Float[np.ndarray, "C T"]]
    ) -> InputScaling:
        """Fix the scale as a stream of these blocks would, for an extractor that takes any.

        Neither the mean nor the largest sample serves: one wild sample must not drown all others.

        Parameters
        ----------
        source : Source
            The extractor, and the signals that it was made for.
        rate_hz : float
            Sampling rate of the recording.
        blocks : iterable of ndarray, shape (C, T)
            The recording from its start; read until every channel has two different samples.

        Returns
        -------
        InputScaling
            For any block of the recording.
        """
        state: ScalingState | None = None
        for samples in blocks:
            state = _initial_scaling(len(samples)) if state is None else state
            # In halves, since the distance of two large numbers may be no finite one.
            state = _with_unit(samples, _with_origin(samples, state), fraction=0.5)
            if (state.unit > 0).all():
                break
        assert state is not None
        unit = np.where(state.unit > 0, state.unit, 1.0)
        offset = np.nan_to_num(state.origin) / unit
        scaling = cls(source, rate_hz)
        scaling._fixed = _FixedScale(unit, offset, np.ones_like(unit), unit * source.gain, EXTREME)
        return scaling

    @property
    def scale(self) -> Float[np.ndarray, "C 1"]:
        """What an output of 1 is in the unit of the recording, where that is fixed."""
        assert self._fixed is not None
        return self._fixed.scale

    def initial_state(self, n_channels: int) -> InputState:
        """State before the first block.

        Parameters
        ----------
        n_channels : int
            Channels of the signal.

        Returns
        -------
        InputState
            Of channels of which nothing is known.
        """
        filler = None if self._gap_filler is None else self._gap_filler.initial_state(n_channels)
        return InputState(filler, None if self._fixed else _initial_scaling(n_channels))

    def step(
        self, samples: Float[np.ndarray, "C T"], state: InputState
    ) -> tuple[Float[np.ndarray, "C T"], Float[np.ndarray, "_ _"], InputState]:
        """Scale a block, and fill its gaps where the extractor does not handle them.

        Parameters
        ----------
        samples : ndarray, shape (C, T)
            Blocks in turn, in one direction, in any chunks; NaN is a gap.
        state : InputState
            As the block before left it.

        Returns
        -------
        mixture : ndarray, shape (C, T)
            The extractor's input.
        scale : ndarray, shape (C, 1), (C, T) or (1, 1)
            What an output of 1 is in the unit of the signal.
        state : InputState
            For the next block.
        """
        filler, running = state
        if self._fixed is not None:
            unit, offset, factor, scale, limit = self._fixed
            with np.errstate(over="ignore"):
                mixture = (samples / unit - offset) * factor
            if limit < np.inf:
                mixture = np.where(np.abs(mixture) < limit, mixture, np.nan)
        else:
            assert running is not None
            mixture, scale, running = self._by_the_past(samples, running)
        if self._gap_filler is not None:
            assert filler is not None
            mixture, filler = self._gap_filler.step(np.ascontiguousarray(mixture), filler)
        return mixture, scale, InputState(filler, running)

    def _by_the_past(
        self, samples: Float[np.ndarray, "C T"], state: ScalingState
    ) -> tuple[Float[np.ndarray, "C T"], Float[np.ndarray, "_ _"], ScalingState]:
        source = self._source
        if source.linear and source.unit is None:
            state = _with_origin(samples, state)
            with np.errstate(over="ignore"):
                state = _with_unit(samples, state)
                unit = np.where(state.unit > 0, state.unit, 1.0)
                mixture = (samples - np.nan_to_num(state.origin)) / unit
            # What is so much larger than the first is no sample of the same signal: a gap.
            mixture = np.where(np.abs(mixture) < EXTREME, mixture, np.nan)
            return mixture, unit * source.gain, state
        centred, rms, state = running_standardise(samples, state)
        if source.unit is not None:  # it was trained without the mean, in this unit
            return centred * rms / source.unit, np.full((1, 1), source.unit) * source.gain, state
        trained_rms = input_rms(source.data)
        return centred * trained_rms, rms / trained_rms * source.gain, state


def _initial_scaling(n_channels: int) -> ScalingState:
    zeros = np.zeros((n_channels, 1))
    return ScalingState(zeros, np.full_like(zeros, np.nan), zeros, zeros, zeros, zeros)


def _with_origin(samples: Float[np.ndarray, "C T"], state: ScalingState) -> ScalingState:
    """The first finite sample of every channel, which its offset is taken off by."""
    if not np.isnan(state.origin).any():
        return state
    origin = state.origin.copy()
    for c, row in enumerate(samples):
        valid = np.flatnonzero(np.isfinite(row))
        if np.isnan(origin[c, 0]) and valid.size:
            origin[c, 0] = row[valid[0]]
    return state._replace(origin=origin)


def _with_unit(
    samples: Float[np.ndarray, "C T"], state: ScalingState, *, fraction: float = 1.0
) -> ScalingState:
    """By the first sample that differs from the origin: 1, or a power of two where that is far.

    Any scale will do, but for squares that are not finite, or 0.
    """
    if (state.unit > 0).all():
        return state
    unit = state.unit.copy()
    with np.errstate(over="ignore"):
        distances = np.abs(fraction * samples - fraction * state.origin)
    for c, row in enumerate(distances):
        others = np.flatnonzero(np.isfinite(row) & (row > 0))
        if unit[c, 0] == 0 and others.size:
            distance = float(row[others[0]])
            usual = 1 / EXTREME < distance < EXTREME
            unit[c, 0] = 1.0 if usual else power_of_two(distance)
    return state._replace(unit=unit)


def running_standardise(
    samples: Float[np.ndarray, "C T"], state: ScalingState | None = None
) -> tuple[Float[np.ndarray, "C T"], Float[np.ndarray, "C T"], ScalingState]:
    """Subtract the mean of all samples so far, and divide by their RMS about it.

    Sums are added sample by sample, so that no chunking changes a bit.

    Parameters
    ----------
    samples : ndarray, shape (C, T)
        A block; NaN is a gap, and stays one.
    state : ScalingState, optional
        As the block before left it; by default nothing is known.

    Returns
    -------
    standardised : ndarray, shape (C, T)
        Each sample by the mean and RMS up to it; 0 where the RMS is 0.
    rms : ndarray, shape (C, T)
        RMS about the mean, up to every sample.
    state : ScalingState
        For the next block.
    """
    state = _initial_scaling(len(samples)) if state is None else state
    state = _with_origin(samples, state)
    valid = np.isfinite(samples)
    distances = np.where(valid, samples - np.nan_to_num(state.origin), 0.0)
    peaks = np.maximum.accumulate(np.concatenate([state.peak, np.abs(distances)], axis=1), axis=1)
    peak = peaks[:, -1:]
    unit = _unit_of_sums(peak)
    ratio = _unit_of_sums(state.peak) / unit
    scaled = distances / unit
    n_valid = _cumulative(valid.astype(float), state.n_valid)
    total = _cumulative(scaled, state.total * ratio)
    squares = _cumulative(scaled**2, state.squares * ratio * ratio)
    n_safe = np.maximum(n_valid, 1.0)
    mean = total / n_safe
    rms = np.sqrt(np.maximum(squares / n_safe - mean**2, 0.0))
    centred = np.divide(scaled - mean, rms, out=np.zeros_like(scaled), where=rms > 0)
    if samples.shape[1]:
        state = state._replace(
            peak=peak, n_valid=n_valid[:, -1:], total=total[:, -1:], squares=squares[:, -1:]
        )
    return np.where(valid, centred, np.nan), rms * unit, state


def _unit_of_sums(peak: Float[np.ndarray, "C 1"]) -> Float[np.ndarray, "C 1"]:
    small = (peak < 1 / LARGE_PEAK) & (peak > 0)
    return np.where(peak > LARGE_PEAK, LARGE_UNIT, np.where(small, 1 / LARGE_UNIT, 1.0))


def _cumulative(values: Float[np.ndarray, "C T"], before: Float[np.ndarray, "C 1"]) -> np.ndarray:
    """Sums so far, added one by one as they would be in any other chunk."""
    return np.cumsum(np.concatenate([before, values], axis=1), axis=1)[:, 1:]
