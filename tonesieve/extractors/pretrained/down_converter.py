"""Digital down-conversion: each tone of a comb brought to a quarter of a low rate.

A tone of phase phi is mixed to frequency 0 by exp(-i phi), low-passed and decimated to z[m]; the
stream 2 Re(z[m] i^m) then holds it at a quarter of its rate, where nothing else of the comb is: the
low-pass is a boxcar of one period of the comb's spacing, applied twice, so it has double zeros at
all multiples of the spacing, an offset and a slope among them. Two to four steps a period of the
spacing keep what is less than half the spacing away from the tone. Cost and memory grow with the
number of tones and of samples alone.

Axes: C channels, T samples, M steps, L taps.

References
----------
E. B. Hogenauer, An economical class of digital filters for decimation and interpolation, IEEE
Trans. Acoustics, Speech, and Signal Processing 29 (1981) 155-162.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy
from jaxtyping import Complex, Float, Inexact

# Steps a period of the spacing, at least, over a recording. Chosen: 2, 3, 4 and 6 were compared on
# hum in coloured noise: the fewer, the longer is the longest memory of the filters.
STEPS_PER_PERIOD = 2
# Guard, of memory: samples of all channels that are mixed at once.
SAMPLES_AT_ONCE = 2**17
# Least share of the low-pass's window that has to be observed where the record has no gaps (at its
# ends), and where it has. Chosen: without a gap, the other tones leak in at the ends alone.
MIN_COVERAGE, MIN_COVERAGE_BESIDE_GAPS = 0.99, 0.5

# Derived: steps of a window of two periods.
EXTRA = 2 * STEPS_PER_PERIOD
# Guard, of rounding: coverage of a whole window.
COMPLETE = 1 - 1e-9
# exp(i pi m / 2)
QUARTER_TURNS = np.array([1, 1j, -1, -1j])

Read = Callable[[int, int], Float[np.ndarray, "C T"]]
# Of a tone, rad, at some samples; one row where all channels share it.
Phase = Callable[[np.ndarray], Float[np.ndarray, "C T"]]


@dataclass(frozen=True)
class DownConverter:
    """Down-conversion of the tones of a comb over a recording.

    Parameters
    ----------
    spacing_cycles : float
        Least distance of two tones, cycles a sample.
    n_samples : int
        Samples of the recording.
    steps_per_period : int, default 2
        Steps a period of the spacing, at least; the steps' rate is less than twice that.
    """

    spacing_cycles: float
    n_samples: int
    steps_per_period: int = STEPS_PER_PERIOD

    @cached_property
    def factor(self) -> int:
        """Decimation factor: samples a step."""
        return max(1, int(1 / (self.steps_per_period * self.spacing_cycles)))

    @property
    def n_steps(self) -> int:
        """Steps of the recording; step m is centred on sample `centre`."""
        return -(-self.n_samples // self.factor)

    @cached_property
    def taps(self) -> Float[np.ndarray, " L"]:
        """Impulse response of the low-pass, symmetric about its middle."""
        period = min(1 / self.spacing_cycles, max(self.n_samples / 4, 1.0))
        # A boxcar of a fractional length: its ends count in part.
        n_inner = 2 * int((period - 1) / 2) + 1
        boxcar = np.ones(n_inner + 2)
        boxcar[[0, -1]] = (period - n_inner) / 2
        triangle = np.convolve(boxcar, boxcar)
        return triangle / triangle.sum()

    def centre(self, step: np.ndarray) -> np.ndarray:
        """Return the samples on which steps are centred.

        Parameters
        ----------
        step : ndarray of int
            Indices of steps.

        Returns
        -------
        ndarray of int
            Indices of samples.
        """
        return np.asarray(step * self.factor + (self.factor - 1) // 2)

    def running_mean(self, read: Read, n_channels: int) -> Float[np.ndarray, "C M"]:
        """Return the mean over two periods at every step, in which all tones of the comb cancel.

        Parameters
        ----------
        read : callable
            Returns samples start to stop, NaN in gaps.
        n_channels : int
            C.

        Returns
        -------
        ndarray, shape (C, M)
            Beside gaps and ends it goes on as the nearest whole windows say.
        """
        means = np.empty((n_channels, self.n_steps))
        for start, stop in self._blocks(n_channels):
            inside = self._samples_of(start, stop)
            samples = read(inside.start, inside.stop)
            observed = np.isfinite(samples)
            sums, coverage = (
                self._low_passed(values, inside.start, start, stop)
                for values in (np.where(observed, samples, 0.0), observed.astype(float))
            )
            means[:, start:stop] = np.where(coverage > COMPLETE, sums, np.nan)
        at = self.centre(np.arange(self.n_steps))
        return np.stack([_continued(at, row) for row in means])

    def basebands(
        self, read: Read, phase: Phase, mean: Float[np.ndarray, "C M"], *, has_gaps: bool
    ) -> Iterator[Complex[np.ndarray, "C M"]]:
        """Yield the baseband of one tone in blocks.

        Parameters
        ----------
        read : callable
            Returns samples start to stop, NaN in gaps.
        phase : callable
            Returns the tone's phases, in rad, at some samples.
        mean : ndarray, shape (C, M)
            The samples' running mean, which is taken off: where a window is not complete, it would
            leak in.
        has_gaps : bool
            Whether samples are missing anywhere.

        Yields
        ------
        ndarray of complex, shape (C, M)
            The tone at frequency 0; NaN where too little is observed.
        """
        least = MIN_COVERAGE_BESIDE_GAPS if has_gaps else MIN_COVERAGE
        centres = self.centre(np.arange(self.n_steps))
        for start, stop in self._blocks(len(mean)):
            inside = self._samples_of(start, stop)
            at = np.arange(inside.start, inside.stop)
            samples = read(inside.start, inside.stop)
            samples = samples - np.stack([np.interp(at, centres, row) for row in mean])
            observed = np.isfinite(samples)
            mixed = np.where(observed, samples, 0.0) * np.exp(-1j * phase(at))
            z, coverage = (
                self._low_passed(values, inside.start, start, stop)
                for values in (mixed, observed.astype(float))
            )
            yield np.divide(z, coverage, out=np.full_like(z, np.nan), where=coverage >= least)

    def _blocks(self, n_channels: int) -> Iterator[tuple[int, int]]:
        """First step, and the one after the last, of blocks in turn."""
        at_once = max(1, SAMPLES_AT_ONCE // (self.factor * n_channels))
        for start in range(0, self.n_steps, at_once):
            yield start, min(start + at_once, self.n_steps)

    def _samples_of(self, start: int, stop: int) -> slice:
        """Samples in the windows of some steps."""
        half = len(self.taps) // 2
        first, last = (int(self.centre(np.asarray(m))) for m in (start, stop - 1))
        return slice(max(first - half, 0), min(last + half + 1, self.n_samples))

    def _low_passed(
        self, values: np.ndarray, first: int, start: int, stop: int
    ) -> Inexact[np.ndarray, "C M"]:
        """Steps of values from sample ``first`` on; 0 beyond both ends."""
        half = len(self.taps) // 2
        begin = int(self.centre(np.array(start))) - half
        end = int(self.centre(np.array(stop - 1))) + half + 1
        beyond = ((0, 0), (first - begin, end - first - values.shape[1]))
        return self._decimated(np.pad(values, beyond), stop - start)

    def _decimated(self, values: np.ndarray, n: int) -> np.ndarray:
        """Low-passed, every ``factor``-th; the first window begins at the first value."""
        # The outputs of upfirdn are at 0, factor, ...; zeros in front bring the first window there.
        lead = -(len(self.taps) - 1) % self.factor
        padded = np.pad(values, ((0, 0), (lead, 0)))
        skip = (len(self.taps) - 1 + lead) // self.factor
        return scipy.signal.upfirdn(self.taps, padded, 1, self.factor)[:, skip : skip + n]


def _continued(at: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values at places; where they are NaN linear, beyond the outermost as a window further in."""
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return np.zeros(len(at))
    filled = np.interp(at, at[known], values[known])
    if len(known) > EXTRA:
        first, last = known[[0, EXTRA]], known[[-1, -1 - EXTRA]]
        for (edge, inner), beyond in ((first, at < at[first[0]]), (last, at > at[last[0]])):
            slope = (values[edge] - values[inner]) / (at[edge] - at[inner])
            filled[beyond] = values[edge] + slope * (at[beyond] - at[edge])
    return filled


def real_stream(z: Complex[np.ndarray, "C M"], start: int) -> Float[np.ndarray, "C M"]:
    """Bring basebands to a quarter of their rate.

    Parameters
    ----------
    z : ndarray of complex, shape (C, M)
        Steps of basebands.
    start : int
        Index of the first step.

    Returns
    -------
    ndarray, shape (C, M)
        Real streams.
    """
    rotation = QUARTER_TURNS[np.arange(start, start + z.shape[1]) % 4]
    return np.asarray(2 * (z * rotation).real)
