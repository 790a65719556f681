"""The pretrained smoother over the tones of a comb, each in a down-converted stream of its own.

The carriers are multiples of one phase, that of the comb's course, so that every tone stands still
in its stream (`DownConverter`) and the filters have its own changes alone to follow. What one pass
leaves over shows gaps and impulses: where there are any, a second and a third pass take the tones
from the estimate of the one before plus what it left over, without the impulses and with nothing in
the gaps (pseudo-observations; Huber and Ronchetti, Robust Statistics, 2009, section 7.8).

Axes: C channels, T samples, M steps, K tones of the comb.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Complex, Float

from tonesieve.extractors.noise_bands import Z90
from tonesieve.extractors.pretrained.down_converter import (
    SAMPLES_AT_ONCE,
    DownConverter,
    Read,
)
from tonesieve.extractors.pretrained.extractor import PhasorEstimate, PretrainedExtractor
from tonesieve.extractors.pretrained.short_record import with_regression
from tonesieve.extractors.pretrained.smoother import smooth_blocks
from tonesieve.recordings.spool import Spool
from tonesieve.signals.comb import Comb
from tonesieve.signals.line_course import LineCourse

# Passes where there are gaps or impulses. Chosen, not tuned: the third changes hardly anything.
N_PASSES = 3
# An impulse is this many times the local scale away from the tones; derived: of Gaussian noise,
# 0.05% is. What is farther counts as that far.
IMPULSE, CLIP = 5.0, 3.5
# Chosen, not tuned: periods of the comb's spacing over which the scale is local, and samples at
# least; guard: impulses are no more than this share of the samples, or there is nothing to gain.
SCALE_PERIODS, MIN_SCALE, MIN_IMPULSES = 2.0, 64, 1e-4
# Derived: a median absolute deviation to a standard deviation, for Gaussian noise.
MAD_TO_STD = 1.4826
# Guard: fewer periods of the spacing are estimated jointly, as tones that are not a comb.
MIN_PERIODS = 8.0


class _Tone(NamedTuple):
    """One tone at the steps: real and imaginary part and half-width of every channel."""

    order: float
    steps: Spool


class CombEstimate:
    """Estimates of a comb's tones, at any samples.

    Parameters
    ----------
    converter : DownConverter
        Steps and samples.
    courses : sequence of LineCourse
        Of each of C channels the course of order 1.
    tones : sequence of _Tone
        The tones.
    hz : float
        Nominal frequency of order 1.
    rate_hz : float
        Sampling rate.
    gain : complex
        Complex amplitude, in the mixture, of a tone of amplitude 1.
    """

    def __init__(
        self,
        converter: DownConverter,
        courses: Sequence[LineCourse],
        tones: Sequence[_Tone],
        hz: float,
        rate_hz: float,
        gain: complex,
    ) -> None:
        self._converter, self._courses, self._tones = converter, courses, tones
        self._hz, self._rate_hz, self._gain = hz, rate_hz, gain

    def phase(self, samples: np.ndarray) -> Float[np.ndarray, "C T"]:
        """Phases of order 1, in rad."""
        return phase_of(self._courses, self._hz, self._rate_hz, samples)

    def phasors(self, start: int, stop: int) -> PhasorEstimate:
        """Phasors relative to the nominal frequencies, and bands, shape (C, T, K)."""
        samples = np.arange(start, stop)
        cycles = np.stack([one.phase_cycles(samples / self._rate_hz) for one in self._courses])
        shape = (len(self._courses), stop - start, len(self._tones))
        phasors, band = np.empty(shape, complex), np.empty(shape)
        phase_std = np.array([[one.phase_std_rad] for one in self._courses])
        for i, tone in enumerate(self._tones):
            z, half_width = self._at(tone, samples)
            phasors[..., i] = z * np.exp(2j * np.pi * tone.order * cycles)
            # The filters take the course for exact.
            course_error = Z90 * tone.order * phase_std * np.abs(z)
            band[..., i] = np.hypot(half_width, course_error)
        return PhasorEstimate(phasors, band)

    def total(self, start: int, stop: int) -> Float[np.ndarray, "C T"]:
        """The sum of the tones, as part of the mixture."""
        samples = np.arange(start, stop)
        phase = self.phase(samples)
        total = np.zeros(phase.shape)
        for tone in self._tones:
            z, _ = self._at(tone, samples)
            total += (self._gain * z * np.exp(1j * tone.order * phase)).imag
        return total

    def close(self) -> None:
        """Free the memory or the files now."""
        for tone in self._tones:
            tone.steps.close()

    def _at(
        self, tone: _Tone, samples: np.ndarray
    ) -> tuple[Complex[np.ndarray, "C T"], Float[np.ndarray, "C T"]]:
        """Phasors relative to the carrier, and half-widths: linear between steps."""
        converter, n = self._converter, len(self._courses)
        first = max(0, int(samples[0]) // converter.factor - 1)
        last = min(converter.n_steps, int(samples[-1]) // converter.factor + 2)
        rows = tone.steps.read(first, last).T
        at = converter.centre(np.arange(first, last))
        parts = np.stack([np.interp(samples, at, row) for row in rows])
        return parts[:n] + 1j * parts[n : 2 * n], parts[2 * n :]


def phase_of(
    courses: Sequence[LineCourse], hz: float, rate_hz: float, samples: np.ndarray
) -> Float[np.ndarray, "C T"]:
    """Return the phases of order 1 at some samples.

    Parameters
    ----------
    courses : sequence of LineCourse
        Of each of C channels.
    hz : float
        Nominal frequency.
    rate_hz : float
        Sampling rate.
    samples : ndarray of int, shape (T,)
        Indices of samples.

    Returns
    -------
    ndarray, shape (C, T)
        Phases in rad, less whole turns of the nominal carrier; orders that are no whole numbers
        need them, so that none are dropped there.
    """
    t_s = samples / rate_hz
    cycles = np.stack([one.phase_cycles(t_s) for one in courses])
    return 2 * np.pi * (cycles + hz * t_s)


def smooth_comb(
    extractor: PretrainedExtractor,
    comb: Comb,
    courses: Sequence[Sequence[LineCourse]],
    read: Read,
    n_samples: int,
    *,
    has_gaps: bool,
    ahead: int | None = None,
    scratch: Path,
    on_samples: Callable[[int], None] = lambda n: None,
) -> CombEstimate:
    """Estimate the tones of a comb over a recording.

    Parameters
    ----------
    extractor : PretrainedExtractor
        Its rate, gain and weights.
    comb : Comb
        The tones.
    courses : sequence of sequence of LineCourse
        Of each of C channels, of each tone.
    read : callable
        Returns samples start to stop, shape (C, stop - start), NaN in gaps.
    n_samples : int
        Samples of the recording.
    has_gaps : bool
        Whether samples are missing anywhere.
    ahead : int, optional
        Samples of the future that each estimate uses at least; by default all of it.
    scratch : Path
        Folder for what does not fit into memory.
    on_samples : callable, optional
        Called with the number of samples done, of ``n_samples``.

    Returns
    -------
    CombEstimate
        The tones.
    """
    run = _CombRun(extractor, comb, courses, n_samples, ahead, scratch)
    estimate = run.extract(read, has_gaps, on_samples)
    if not has_gaps and not run.has_impulses(read, estimate):
        return estimate
    for _ in range(1, N_PASSES):
        own, again = run.pseudo_observations(read, estimate)
        better = run.extract(own, False, on_samples)
        again.close()
        estimate.close()
        estimate = better
    return estimate


class _CombRun:
    """One comb over one recording."""

    def __init__(
        self,
        extractor: PretrainedExtractor,
        comb: Comb,
        courses: Sequence[Sequence[LineCourse]],
        n_samples: int,
        ahead: int | None,
        scratch: Path,
    ) -> None:
        self._extractor, self._comb, self._of_tones = extractor, comb, courses
        self._n_samples, self._scratch, self._ahead = n_samples, scratch, ahead
        rate_hz = extractor.rate_hz
        self._converter = DownConverter(comb.spacing_hz / rate_hz, n_samples)
        self._courses = [_of_order_1(channel, comb) for channel in courses]
        self._phase = partial(phase_of, self._courses, comb.hz, rate_hz)

    def extract(
        self, read: Read, has_gaps: bool, on_samples: Callable[[int], None]
    ) -> CombEstimate:
        """One pass."""
        tones = []
        for i, order in enumerate(self._comb.orders):
            steps = self._smoothed(self._stream(read, order, has_gaps), i)
            tones.append(_Tone(order, steps))
            on_samples((i + 1) * self._n_samples // len(self._comb.orders))
        extractor = self._extractor
        return CombEstimate(
            self._converter, self._courses, tones, self._comb.hz, extractor.rate_hz,
            complex(extractor.gain),
        )  # fmt: skip

    @property
    def _n_channels(self) -> int:
        return len(self._courses)

    def _stream(self, read: Read, order: float, has_gaps: bool) -> Spool:
        """The down-converted stream of one tone, a row a step."""
        stream = Spool(self._n_channels, self._scratch)
        for block in self._converter.steps(
            read, self._phase, order, has_gaps=has_gaps, n_channels=self._n_channels
        ):
            stream.append(block.T)
        return stream

    def _smoothed(self, stream: Spool, i: int) -> Spool:
        """Phasors and half-widths of the i-th tone at the steps."""
        n, n_channels = len(stream), self._n_channels
        rate_hz = self._extractor.rate_hz / self._converter.factor
        found = [channel[i] for channel in self._of_tones]
        within_hz = max(one.within_hz for one in found)
        extractor = PretrainedExtractor(
            (rate_hz / 4,), rate_hz, self._extractor.gain, weights=self._extractor.weights,
            within_hz=None if all(one.found for one in found) else min(within_hz, rate_hz / 16),
        )  # fmt: skip
        # The carrier follows the course already.
        at_rest = [[one.at_nominal(found=one.found)] for one in found]
        ahead = None if self._ahead is None else max(1, -(-self._ahead // self._converter.factor))

        def read(start: int, stop: int) -> Float[np.ndarray, "C M"]:
            return stream.read(start, stop).T

        blocks = smooth_blocks(
            extractor, read, n, n_channels, ahead=ahead, courses=at_rest, scratch=self._scratch
        )
        if ahead is None:
            blocks = with_regression(blocks, extractor, read, n, n_channels, at_rest)
        steps = Spool(3 * n_channels, self._scratch)
        for _, (phasors, band) in blocks:
            parts = (phasors[..., 0].real, phasors[..., 0].imag, band[..., 0])
            steps.append(np.concatenate(parts).T)
        stream.close()
        return steps

    def has_impulses(self, read: Read, estimate: CombEstimate) -> bool:
        """Whether what is left over holds more than a few impulses."""
        n_found = 0
        for start, stop in self._blocks():
            left = read(start, stop) - estimate.total(start, stop)
            n_found += int(np.sum(np.abs(left) > IMPULSE * self._scale(left)))
        return n_found > MIN_IMPULSES * self._n_samples * self._n_channels

    def pseudo_observations(self, read: Read, estimate: CombEstimate) -> tuple[Read, Spool]:
        """The tones plus what is left over, without impulses and gaps, on disk."""
        rows = Spool(self._n_channels, self._scratch)
        for start, stop in self._blocks():
            total = estimate.total(start, stop)
            left = read(start, stop) - total
            most = CLIP * self._scale(left)
            left = np.where(np.isfinite(left), np.clip(left, -most, most), 0.0)
            rows.append((total + left).T)
        return lambda start, stop: rows.read(start, stop).T, rows

    def _blocks(self) -> list[tuple[int, int]]:
        n, size = self._n_samples, max(1, SAMPLES_AT_ONCE // self._n_channels)
        return [(start, min(start + size, n)) for start in range(0, n, size)]

    def _scale(self, left: Float[np.ndarray, "C T"]) -> Float[np.ndarray, "C T"]:
        """Local standard deviation (C, T), by medians over pieces of some periods."""
        spacing_cycles = self._converter.spacing_cycles
        size = max(MIN_SCALE, int(SCALE_PERIODS / spacing_cycles))
        n_pieces = max(1, left.shape[1] // size)
        pieces = np.array_split(np.abs(left), n_pieces, axis=1)
        centres = np.cumsum([piece.shape[1] for piece in pieces]) - pieces[0].shape[1] / 2
        scales = np.stack([_median(piece) for piece in pieces], axis=1) * MAD_TO_STD
        # A lone piece of gaps has the largest scale of its neighbours.
        scales = scipy.ndimage.median_filter(scales, (1, 3), mode="nearest")
        at = np.arange(left.shape[1])
        return np.stack([np.interp(at, centres, row) for row in scales])


def _median(piece: np.ndarray) -> np.ndarray:
    """Median of each row, 0 of one without numbers."""
    medians = np.zeros(len(piece))
    for c, row in enumerate(piece):
        observed = row[np.isfinite(row)]
        if len(observed):
            medians[c] = np.median(observed)
    return medians


def _of_order_1(courses: Sequence[LineCourse], comb: Comb) -> LineCourse:
    """The course of order 1: that of the tone whose steps are the finest, over its order."""
    i = min(range(len(courses)), key=lambda k: courses[k].step_s)
    course, order = courses[i], comb.orders[i]
    return course.scaled(1 / order)
