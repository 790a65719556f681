"""The pretrained smoother over the tones of a comb, each in a down-converted stream of its own.

The carriers follow the tones' courses, multiples of one frequency, so that every tone stands still
in its stream (`DownConverter`) and the filters have its own changes alone to follow. Where samples
are missing, where there are impulses, or where tones are no multiples of their spacing, the tones
leak into each other's streams. So a second and a third pass estimate each from what the one before
left over, without the impulses, plus its own estimate (cyclic maximisation of the likelihood; for
impulses, the pseudo-observations of Huber and Ronchetti, Robust Statistics, 2009, section 7.8).

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
from tonesieve.extractors.pretrained.carriers import cycles_of
from tonesieve.extractors.pretrained.channel_smoother import complex_rows, smooth_channels
from tonesieve.extractors.pretrained.down_converter import (
    SAMPLES_AT_ONCE,
    DownConverter,
    Read,
    real_stream,
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
# Derived: zeros of the low-pass have that relative width at a level of -80 dB; from this many
# spacings on its sidelobes are below -40 dB.
EXACT, NEAR = 0.01, 3.5
# Guard: fewer periods of the spacing are estimated jointly, as tones that are not a comb.
MIN_PERIODS = 8.0


class _Tone(NamedTuple):
    """One tone of a comb.

    Attributes
    ----------
    hz : float
        Nominal frequency.
    courses : list of LineCourse
        Of each of C channels.
    steps : Spool
        A row a step: of each channel the real part, the imaginary part, the half-width.
    share : float, optional
        Of the channels' pattern, where they are estimated together.
    """

    hz: float
    courses: list[LineCourse]
    steps: Spool
    share: float | None = None

    def course_cycles(self, t_s: np.ndarray) -> Float[np.ndarray, "C T"]:
        """Phases over those of the nominal frequency, at times in s; one row if all are one."""
        return cycles_of(self.courses, t_s)


class Shared(NamedTuple):
    """That channels share the course of a tone.

    Parameters
    ----------
    is_certain : bool, default False
        Whether they do whatever a test says.
    """

    is_certain: bool = False


class CombEstimate:
    """Estimates of a comb's tones, at any samples.

    Parameters
    ----------
    converter : DownConverter
        Steps and samples.
    tones : sequence of _Tone
        The tones.
    rate_hz : float
        Sampling rate.
    gain : complex
        Complex amplitude, in the mixture, of a tone of amplitude 1.
    """

    def __init__(
        self, converter: DownConverter, tones: Sequence[_Tone], rate_hz: float, gain: complex
    ) -> None:
        self._converter, self._tones = converter, tones
        self._rate_hz, self._gain = rate_hz, gain

    def phasors(self, start: int, stop: int) -> PhasorEstimate:
        """Return phasors relative to the nominal frequencies, and bands, shape (C, T, K)."""
        samples = np.arange(start, stop)
        shape = (len(self._tones[0].courses), stop - start, len(self._tones))
        phasors, band = np.empty(shape, complex), np.empty(shape)
        for i, tone in enumerate(self._tones):
            z, half_width = self._at(tone, samples)
            cycles = tone.course_cycles(samples / self._rate_hz)
            phasors[..., i] = z * np.exp(2j * np.pi * cycles)
            # The filters take the course for exact.
            phase_std = np.array([[course.phase_std_rad] for course in tone.courses])
            band[..., i] = np.hypot(half_width, Z90 * phase_std * np.abs(z))
        return PhasorEstimate(phasors, band)

    def total(self, start: int, stop: int) -> Float[np.ndarray, "C T"]:
        """The sum of the tones, as part of the mixture."""
        samples = np.arange(start, stop)
        t_s = samples / self._rate_hz
        total = np.zeros((len(self._tones[0].courses), stop - start))
        for tone in self._tones:
            z, _ = self._at(tone, samples)
            phase = 2 * np.pi * (tone.hz * t_s + tone.course_cycles(t_s))
            total += (self._gain * z * np.exp(1j * phase)).imag
        return total

    def added(self, i: int, basebands: Spool, scratch: Path) -> Spool:
        """Down-converted basebands, closed, plus the i-th tone."""
        n, total = len(self._tones[i].courses), Spool(basebands.n_columns, scratch)
        for start in range(0, len(basebands), SAMPLES_AT_ONCE // n + 1):
            z = complex_rows(basebands.read(start, start + SAMPLES_AT_ONCE // n + 1))
            rows = self._tones[i].steps.read(start, start + z.shape[1])
            z = z - 0.5j * self._gain * complex_rows(rows[:, : 2 * n])
            total.append(np.concatenate([z.real, z.imag]).T)
        basebands.close()
        return total

    @property
    def shares(self) -> list[float | None]:
        """Of each tone the share of the channels' pattern; None where there is none."""
        return [tone.share for tone in self._tones]

    def close(self) -> None:
        """Free the memory or the files now."""
        for tone in self._tones:
            tone.steps.close()

    def _at(
        self, tone: _Tone, samples: np.ndarray
    ) -> tuple[Complex[np.ndarray, "C T"], Float[np.ndarray, "C T"]]:
        """Phasors relative to the carrier, and half-widths: linear between steps."""
        converter, n = self._converter, len(tone.courses)
        first = max(0, int(samples[0]) // converter.factor - 1)
        last = min(converter.n_steps, int(samples[-1]) // converter.factor + 2)
        rows = tone.steps.read(first, last).T
        at = converter.centre(np.arange(first, last))
        parts = np.stack([np.interp(samples, at, row) for row in rows])
        return parts[:n] + 1j * parts[n : 2 * n], parts[2 * n :]


def smooth_comb(
    extractor: PretrainedExtractor,
    comb: Comb,
    courses: Sequence[Sequence[LineCourse]],
    read: Read,
    n_samples: int,
    *,
    has_gaps: bool,
    shared: Shared | None = None,
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
    shared : Shared, optional
        That the channels share one course, and are estimated together; by default they are not.
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
    run = _CombRun(extractor, comb, courses, n_samples, shared, ahead, scratch)
    estimate = run.extract(read, has_gaps, on_samples)
    is_clean = not (has_gaps or run.leaks())
    has_impulses = run.has_impulses(read, estimate)
    if is_clean and not has_impulses:
        return estimate
    for _ in range(1, N_PASSES):
        left = run.left_over(read, estimate, clip=has_impulses)
        better = run.extract(_reader(left), has_gaps, on_samples, estimate)
        left.close()
        estimate.close()
        estimate = better
    return estimate


def _reader(rows: Spool) -> Read:
    return lambda start, stop: rows.read(start, stop).T


class _CombRun:
    """One comb over one recording."""

    def __init__(
        self,
        extractor: PretrainedExtractor,
        comb: Comb,
        courses: Sequence[Sequence[LineCourse]],
        n_samples: int,
        shared: Shared | None,
        ahead: int | None,
        scratch: Path,
    ) -> None:
        self._extractor, self._comb, self._courses = extractor, comb, courses
        self._shared = shared
        self._n_samples, self._scratch, self._ahead = n_samples, scratch, ahead
        self._converter = DownConverter(comb.spacing_hz / extractor.rate_hz, n_samples)

    def extract(
        self,
        read: Read,
        has_gaps: bool,
        on_samples: Callable[[int], None],
        previous: CombEstimate | None = None,
    ) -> CombEstimate:
        """One pass, over the recording or over what the previous one left over."""
        tones, extractor, orders = [], self._extractor, self._comb.orders
        mean = self._converter.running_mean(read, self._n_channels)
        for i, order in enumerate(orders):
            hz, courses = order * self._comb.hz, [channel[i] for channel in self._courses]
            basebands = self._basebands(read, hz, courses, mean, has_gaps)
            if previous is not None:
                basebands = previous.added(i, basebands, self._scratch)
            steps, share = self._steps(basebands, courses)
            basebands.close()
            tones.append(_Tone(hz, courses, steps, share))
            on_samples((i + 1) * self._n_samples // len(orders))
        return CombEstimate(self._converter, tones, extractor.rate_hz, complex(extractor.gain))

    def leaks(self) -> bool:
        """Whether tones, or their images of negative frequency, leak into a stream.

        That is, whether they are near it and no multiples of the spacing away.
        """
        spacing_hz, rate_hz = self._comb.spacing_hz, self._extractor.rate_hz
        hz = np.array(self._comb.orders) * self._comb.hz
        images = np.abs(rate_hz - 2 * hz) / spacing_hz
        apart = np.concatenate([hz / spacing_hz, images[images < NEAR]])
        return bool(np.any(np.abs(apart - np.round(apart)) > EXACT))

    @property
    def _n_channels(self) -> int:
        return len(self._courses)

    def _basebands(
        self,
        read: Read,
        hz: float,
        courses: Sequence[LineCourse],
        mean: Float[np.ndarray, "C M"],
        has_gaps: bool,
    ) -> Spool:
        """Real and imaginary part of the baseband of one tone, a row a step."""

        def phase(samples: np.ndarray) -> Float[np.ndarray, "C T"]:
            t_s = samples / self._extractor.rate_hz
            return 2 * np.pi * (hz * t_s + cycles_of(courses, t_s))

        rows = Spool(2 * self._n_channels, self._scratch)
        for z in self._converter.basebands(read, phase, mean, has_gaps=has_gaps):
            rows.append(np.concatenate([z.real, z.imag]).T)
        return rows

    def _steps(self, basebands: Spool, courses: Sequence[LineCourse]) -> tuple[Spool, float | None]:
        """One tone at the steps, of channels that share it together; the share of their pattern."""
        if self._shared is not None:
            made = smooth_channels(
                basebands, complex(self._extractor.gain), partial(self._smoothed, courses=courses),
                self._scratch, is_certain=self._shared.is_certain,
            )  # fmt: skip
            if made is not None:
                return made.steps, made.share
        streams, size = Spool(self._n_channels, self._scratch), SAMPLES_AT_ONCE // self._n_channels
        for start in range(0, len(basebands), size + 1):
            z = complex_rows(basebands.read(start, start + size + 1))
            streams.append(real_stream(z, start).T)
        return self._smoothed(streams, courses), None

    def _smoothed(self, streams: Spool, courses: Sequence[LineCourse]) -> Spool:
        """Phasors and half-widths of one tone at the steps, of channels or of their sum."""
        n, n_streams = len(streams), streams.n_columns
        courses = courses[:n_streams]
        rate_hz = self._extractor.rate_hz / self._converter.factor
        within_hz = max(one.within_hz for one in courses)
        extractor = PretrainedExtractor(
            (rate_hz / 4,), rate_hz, self._extractor.gain, weights=self._extractor.weights,
            within_hz=None if all(one.found for one in courses) else min(within_hz, rate_hz / 16),
        )  # fmt: skip
        # The carrier follows the course already.
        at_rest = [[one.at_nominal(found=one.found)] for one in courses]
        ahead = None if self._ahead is None else max(1, -(-self._ahead // self._converter.factor))

        def read(start: int, stop: int) -> Float[np.ndarray, "B M"]:
            return streams.read(start, stop).T

        blocks = smooth_blocks(
            extractor, read, n, n_streams, ahead=ahead, courses=at_rest, scratch=self._scratch
        )
        if ahead is None:
            blocks = with_regression(blocks, extractor, read, n, n_streams, at_rest)
        steps = Spool(3 * n_streams, self._scratch)
        for _, (phasors, band) in blocks:
            parts = (phasors[..., 0].real, phasors[..., 0].imag, band[..., 0])
            steps.append(np.concatenate(parts).T)
        streams.close()
        return steps

    def has_impulses(self, read: Read, estimate: CombEstimate) -> bool:
        """Whether what is left over holds more than a few impulses."""
        n_found = 0
        for start, stop in self._blocks():
            left = read(start, stop) - estimate.total(start, stop)
            n_found += int(np.sum(np.abs(left) > IMPULSE * self._scale(left)))
        return n_found > MIN_IMPULSES * self._n_samples * self._n_channels

    def left_over(self, read: Read, estimate: CombEstimate, *, clip: bool) -> Spool:
        """The samples less the tones; impulses are cut off if asked."""
        rows = Spool(self._n_channels, self._scratch)
        for start, stop in self._blocks():
            left = read(start, stop) - estimate.total(start, stop)
            if clip:
                most = CLIP * self._scale(left)
                left = np.clip(left, -most, most)
            rows.append(left.T)
        return rows

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
    if np.isfinite(piece).all():
        return np.asarray(np.median(piece, axis=1))
    medians = np.zeros(len(piece))
    for c, row in enumerate(piece):
        observed = row[np.isfinite(row)]
        if len(observed):
            medians[c] = np.median(observed)
    return medians
