"""Records of few periods: the smoother's estimate averaged with a regression.

The gating network settles within 200 steps. Of a record that ends before, a Bayesian regression
over all of it (`signals.tone_regression`) knows more: a tone that is steady but for what the record
shows, in noise that is stationary. The weight of the regression is the product of two numbers:

- the posterior probability that its cosines resolve the changes of the tone;
- 1 up to `SETTLED` steps, from where it falls with the logarithm of the duration to 0 at `LONGEST`.

Both estimates are averaged as those of two models: the band holds the spread between them.

Axes: B streams, T samples, N blocks, K tones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float

from tonesieve.extractors.noise_bands import Z90
from tonesieve.extractors.pretrained.carriers import Carriers, Courses
from tonesieve.extractors.pretrained.extractor import PhasorEstimate, PretrainedExtractor
from tonesieve.signals.tone_regression import BlockMeans, ToneFit, fit_tones, resolvable_modes

# Steps (of the decimated record) up to which the regression has all the weight, the settling that
# the network was trained with; and from where on it has none. The latter is chosen, not tuned: four
# times as many, when every place has a settled past or future.
SETTLED, LONGEST = 200, 800
# Least number of blocks in a period of the highest tone. Chosen, not tuned: their mean passes it
# with 0.97 of its amplitude.
BLOCKS_PER_PERIOD = 8
# Guard, of memory: samples that are processed at once.
SAMPLES_AT_ONCE = 2**16

Read = Callable[[int, int], Float[np.ndarray, "B T"]]
Blocks = Iterator[tuple[int, PhasorEstimate]]


def duration_weight(n_steps: int) -> float:
    """Return the weight of the regression in a record.

    Parameters
    ----------
    n_steps : int
        Steps of the record.

    Returns
    -------
    float
        1 up to `SETTLED` steps, 0 from `LONGEST` on.
    """
    octaves = math.log(LONGEST / max(n_steps, 1)) / math.log(LONGEST / SETTLED)
    return min(max(octaves, 0.0), 1.0)


def with_regression(
    blocks: Blocks,
    extractor: PretrainedExtractor,
    read: Read,
    n_samples: int,
    n_streams: int,
    courses: Courses | None,
) -> Blocks:
    """Average the smoother's blocks with a regression, where the record is short.

    Parameters
    ----------
    blocks : iterator of (int, PhasorEstimate)
        First samples and estimates, as of `smoother.smooth_blocks`.
    extractor : PretrainedExtractor
        The tones.
    read : callable
        Returns samples start to stop, shape (B, stop - start), NaN in gaps.
    n_samples : int
        Samples of the recording.
    n_streams : int
        B.
    courses : sequence of sequence of LineCourse, optional
        Of each stream the course of each tone.

    Yields
    ------
    start : int
        Index of a block's first sample.
    estimate : PhasorEstimate
        Phasors and bands of the block.
    """
    record = _Record(extractor, read, n_samples, n_streams, courses)
    fits = []
    for tones, group in extractor.groups:
        weight = duration_weight(n_samples // group.factor)
        if weight > 0:
            fits.append((tones, weight, record.fit(tones)))
    for start, estimate in blocks:
        for tones, weight, by_stream in fits:
            record.average(start, estimate, tones, weight, by_stream)
        yield start, estimate


@dataclass(frozen=True)
class _Record:
    """A short record, and the carriers of its tones."""

    extractor: PretrainedExtractor
    read: Read
    n_samples: int
    n_streams: int
    courses: Courses | None

    def fit(self, tones: list[int]) -> list[ToneFit | None]:
        """Of each stream the fit of a group's tones; the others are steady beside them."""
        freq_cycles = np.array(self.extractor.frequencies_hz) / self.extractor.rate_hz
        size = max(1, int(1 / (BLOCKS_PER_PERIOD * freq_cycles[tones].max())))
        at_once = max(1, SAMPLES_AT_ONCE // size) * size
        starts = range(0, self.n_samples, at_once)
        parts = [self._means(start, min(start + at_once, self.n_samples), size) for start in starts]
        n_modes = resolvable_modes(freq_cycles.tolist(), self.n_samples)
        n_modes = tuple(own if k in tones else 0 for k, own in enumerate(n_modes))
        arrays = [np.concatenate(part, axis=1) for part in zip(*parts, strict=True)]
        return [
            fit_tones(BlockMeans(*of_stream), n_modes) for of_stream in zip(*arrays, strict=True)
        ]

    def _means(self, start: int, stop: int, size: int) -> BlockMeans:
        """Means (B, N) over blocks of some samples."""
        samples = self.read(start, stop)
        observed = np.isfinite(samples)
        edges = np.arange(0, stop - start, size)
        counts = np.add.reduceat(observed.astype(float), edges, axis=1)

        def mean(values: np.ndarray) -> np.ndarray:
            """Over the observed samples of each block."""
            is_used = observed.reshape(*observed.shape, *[1] * (values.ndim - 2))
            n = np.maximum(counts, 1.0).reshape(*counts.shape, *[1] * (values.ndim - 2))
            return np.asarray(np.add.reduceat(np.where(is_used, values, 0), edges, axis=1) / n)

        carriers = self._nominal(start, stop) * self._course(start, stop)
        tau = np.broadcast_to(self._tau(start, stop), samples.shape)
        return BlockMeans(mean(samples), mean(carriers), mean(tau), counts / size)

    def average(
        self,
        start: int,
        estimate: PhasorEstimate,
        tones: list[int],
        weight: float,
        fits: Sequence[ToneFit | None],
    ) -> None:
        """Average a block's estimate with the fits, in place."""
        stop = start + estimate.band.shape[1]
        nominal, course = self._nominal(start, stop), self._course(start, stop)
        tau, gain = self._tau(start, stop), self.extractor.gain
        for b, fit in enumerate(fits):
            if fit is None:
                continue
            # The fit is in the unit of the mixture, as its prior is.
            w = weight * fit.resolved
            phasors = (fit.phasors(tau) * course[b])[:, tones] / gain
            band = fit.half_widths(tau, nominal * course[b])[:, tones] / abs(gain)
            if w < 1:
                other, other_band = estimate.phasors[b][:, tones], estimate.band[b][:, tones]
                difference = Z90 * ((phasors - other) * nominal[:, tones]).imag
                variance = w * band**2 + (1 - w) * other_band**2 + w * (1 - w) * difference**2
                phasors, band = w * phasors + (1 - w) * other, np.sqrt(variance)
            estimate.phasors[b, :, tones], estimate.band[b, :, tones] = phasors.T, band.T

    def _tau(self, start: int, stop: int) -> Float[np.ndarray, " T"]:
        """Times from 0 to 1 over the record."""
        return (np.arange(start, stop) + 0.5) / self.n_samples

    def _nominal(self, start: int, stop: int) -> Complex[np.ndarray, "T K"]:
        """Carriers of the nominal frequencies."""
        freq_cycles = np.array(self.extractor.frequencies_hz) / self.extractor.rate_hz
        return np.exp(2j * np.pi * (np.arange(start, stop)[:, None] * freq_cycles % 1))

    def _course(self, start: int, stop: int) -> Complex[np.ndarray, "B T K"]:
        """What the courses turn the carriers by."""
        shape = (self.n_streams, stop - start, self.extractor.n_tones)
        if self.courses is None:
            return np.ones(shape, complex)
        carriers = Carriers(self.courses, self.extractor.rate_hz, 1)
        return np.exp(1j * carriers.sample_phase(np.arange(start, stop)))
