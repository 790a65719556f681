"""Spectra of the segments of a record, and the local noise floor of each.

The record is cut into M segments of L samples that overlap by half. Each is detrended and windowed,
and gaps in it are bridged by straight lines. The floor is the median of the power in blocks of
bins, interpolated on logarithmic axes, so that lines in a block do not raise it.

With a floor from a block that is worth nu independent bins, power over floor is F(2, 2 nu)
distributed in Gaussian noise: it exceeds r with the probability (1 + r / nu)^-nu.

Axes: T samples, L samples of a segment, K bins, M segments.

References
----------
A. H. Nuttall, Some windows with very good sidelobe behavior, IEEE Trans. ASSP 29 (1981).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import scipy
from jaxtyping import Complex, Float

# Nuttall's four-term window with a continuous first derivative: sidelobes of -93 dB that fall by
# 18 dB an octave, so that neither noise of 1/f^4 nor strong lines leak into the bins they are not
# in.
WINDOW = (0.355768, 0.487396, 0.144232, 0.012604)
# Derived: its main lobe ends this many bins from its centre.
LOBE = 4
# Derived: the lowest bin whose lobe and whose floor hold nothing of frequency 0.
LOWEST_BIN = 2 * LOBE
# Chosen, not tuned: bins of a block of the floor: this part of their number, within these bounds.
BLOCK_RATIO, MIN_BLOCK, MAX_BLOCK = 0.5, 24, 512
# Derived: the variance of a median of exponential variables over that of their mean is the inverse.
MEDIAN_EFFICIENCY = float(np.log(2)) ** 2
# Guard: least part of a segment without gaps.
MIN_COVERAGE = 0.5
# Chosen, of memory: samples of the longest segment. Guard: fewest of the shortest.
MAX_SEGMENT, MIN_SEGMENT = 2**20, 256
# Chosen, not tuned: each resolution is this many times as coarse as the one before; segments of the
# coarsest, at most.
STEP, MAX_SEGMENTS = 4, 1500

Read = Callable[[int, int], Float[np.ndarray, " T"]]


@dataclass(frozen=True)
class Resolution:
    """Segments of one length.

    Parameters
    ----------
    n_samples : int
        Samples of the record.
    length : int
        Samples of a segment.
    """

    n_samples: int
    length: int

    @property
    def starts(self) -> list[int]:
        """First sample of each segment."""
        return list(range(0, self.n_samples - self.length + 1, max(1, self.length // 2)))

    @property
    def n_bins(self) -> int:
        """Bins that are tested, of frequency 0 and half the rate excluded."""
        return self.length // 2 + 1 - LOBE


@dataclass(frozen=True)
class SegmentSpectrum:
    """Spectrum of a segment, scaled so that a sine of amplitude 1 has the power 1.

    Parameters
    ----------
    start : int
        Its first sample.
    values : ndarray, shape (K,)
        Complex amplitudes.
    floor : ndarray, shape (K,)
        Power of the noise.
    coverage : float
        Fraction of the segment without gaps.
    """

    start: int
    values: Complex[np.ndarray, " K"]
    floor: Float[np.ndarray, " K"]
    coverage: float

    @property
    def ratio(self) -> Float[np.ndarray, " K"]:
        """Power over the floor."""
        return np.abs(self.values) ** 2 / self.floor


def resolutions(n_samples: int) -> list[Resolution]:
    """Return the resolutions of a record, the finest first.

    Parameters
    ----------
    n_samples : int
        Samples of the record.

    Returns
    -------
    list of Resolution
        The whole record, a quarter of it, and so on.
    """
    # Of equal parts, so that none of the record is left out.
    length = n_samples // -(-n_samples // MAX_SEGMENT)
    found = [Resolution(n_samples, length)]
    while length // STEP >= MIN_SEGMENT and 2 * n_samples // (length // STEP) <= MAX_SEGMENTS:
        length //= STEP
        found.append(Resolution(n_samples, length))
    return found


@cache
def window(length: int) -> Float[np.ndarray, " L"]:
    """Return the window, of sum 2.

    Parameters
    ----------
    length : int
        Its samples.

    Returns
    -------
    ndarray, shape (L,)
        A periodic window.
    """
    taps = scipy.signal.windows.general_cosine(length, WINDOW, sym=False)
    return np.asarray(2 * taps / taps.sum())


def window_gain(bins: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    """Return the amplitude with which a sine appears at a distance from its frequency.

    Parameters
    ----------
    bins : ndarray, shape (K,)
        Distances in bins.

    Returns
    -------
    ndarray, shape (K,)
        1 at 0.
    """
    # Derived: the transform of a sum of cosines is one of shifted sinc functions.
    x = np.asarray(bins, float)
    total = WINDOW[0] * np.sinc(x)
    for n, a in enumerate(WINDOW[1:], 1):
        total = total + 0.5 * a * (np.sinc(x - n) + np.sinc(x + n))
    return np.asarray(total / WINDOW[0])


@cache
def bin_correlation(distance: int) -> float:
    """Return the correlation of the noise in two bins.

    Parameters
    ----------
    distance : int
        Their distance in bins.

    Returns
    -------
    float
        1 at 0.
    """
    squares = window(1024) ** 2
    phases = np.exp(2j * np.pi * distance * (np.arange(1024) - 512) / 1024)
    return float(np.real(np.sum(squares * phases)) / np.sum(squares))


@cache
def equivalent_noise_bins() -> float:
    """Return the equivalent noise bandwidth of the window.

    Returns
    -------
    float
        In bins.
    """
    taps = window(1024)
    return float(1024 * np.sum(taps**2) / np.sum(taps) ** 2)


@cache
def bins_per_independent() -> float:
    """Return how many bins are worth one of independent power.

    Returns
    -------
    float
        Sum of the squared correlations of a bin with all others.
    """
    return 1 + 2 * sum(bin_correlation(d) ** 2 for d in range(1, 12))


@cache
def _blocks(n_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Edges of the blocks of the floor, and the independent bins that each is worth."""
    edges = [LOBE]
    while edges[-1] < n_bins:
        width = int(np.clip(BLOCK_RATIO * edges[-1], MIN_BLOCK, MAX_BLOCK))
        edges.append(edges[-1] + width)
    if len(edges) > 2 and edges[-1] > n_bins:  # a rest that is too short joins the last block
        edges.pop()
    edges[-1] = n_bins
    worth = MEDIAN_EFFICIENCY * np.diff(edges) / bins_per_independent()
    return np.array(edges), worth


def independent_bins(n_bins: int) -> Float[np.ndarray, " K"]:
    """Return nu: the number of independent bins that the floor of each bin is worth.

    Parameters
    ----------
    n_bins : int
        Tested bins.

    Returns
    -------
    ndarray, shape (K,)
        One a bin, from bin 0 on.
    """
    edges, worth = _blocks(n_bins)
    centres = 0.5 * (edges[:-1] + edges[1:] - 1)
    return np.asarray(np.interp(np.arange(n_bins), centres, worth))


def local_floor(power: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    """Return the floor of a power spectrum: medians of blocks, log-log interpolated.

    Parameters
    ----------
    power : ndarray, shape (K,)
        Power of the tested bins, from bin 0 on.

    Returns
    -------
    ndarray, shape (K,)
        Mean power of the noise; never 0.
    """
    edges, _ = _blocks(len(power))
    tiny = max(float(power.max(initial=0.0)) * 1e-30, 1e-300)
    medians = _block_medians(power, edges)
    levels = np.log(np.maximum(medians / np.log(2), tiny))
    centres = np.log(0.5 * (edges[:-1] + edges[1:] - 1))
    x = np.log(np.maximum(np.arange(len(power)), 1))
    floor = np.interp(x, centres, levels)
    if len(centres) > 1:  # below the first centre the noise falls or rises on
        slope = (levels[1] - levels[0]) / (centres[1] - centres[0])
        low = x < centres[0]
        floor[low] = levels[0] + slope * (x[low] - centres[0])
    return np.asarray(np.exp(floor))


def _block_medians(power: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Medians of blocks; of those of the full width at once."""
    widths = np.diff(edges)
    full = np.flatnonzero(widths == MAX_BLOCK)
    medians = np.empty(len(widths))
    if len(full):
        first, last = full[0], full[-1] + 1
        stack = power[edges[first] : edges[last]].reshape(-1, MAX_BLOCK)
        medians[first:last] = np.median(stack, axis=1)
    for n in np.flatnonzero(widths != MAX_BLOCK):
        medians[n] = np.median(power[edges[n] : edges[n + 1]])
    return medians


def bridged(samples: Float[np.ndarray, " L"]) -> tuple[Float[np.ndarray, " L"], float]:
    """Bridge gaps by straight lines, and take off the line between the segment's ends.

    Parameters
    ----------
    samples : ndarray, shape (L,)
        Samples; NaN in gaps.

    Returns
    -------
    samples : ndarray, shape (L,)
        Without gaps and trend.
    coverage : float
        Fraction of the samples that are there, by the window's weight; lone ones that are missing
        count as there, since a straight line replaces them well.
    """
    n, ramp = len(samples), _ramp(len(samples))
    total = float(samples.sum())
    coverage = 1.0
    if not np.isfinite(total):
        valid = np.isfinite(samples)
        if int(valid.sum()) < 2:
            return np.zeros(n), 0.0
        lone = np.concatenate([[False], valid[:-2] & valid[2:], [False]])
        coverage = float(np.sum(window(n)[valid | lone])) / 2
        index = np.arange(n)
        samples = np.interp(index, index[valid], samples[valid])
        total = float(samples.sum())
    level = samples - total / n
    # Derived: the sum of the squares of -(n - 1)/2, ..., (n - 1)/2.
    slope = float(np.sum(ramp * level)) / max(n * (n * n - 1) / 12, 1.0)
    return level - slope * ramp, coverage


@cache
def _ramp(length: int) -> Float[np.ndarray, " L"]:
    return np.arange(length) - (length - 1) / 2


def segment_spectra(read: Read, resolution: Resolution) -> Iterator[SegmentSpectrum]:
    """Compute the spectra of all segments that have enough samples.

    Parameters
    ----------
    read : callable
        Takes the first sample and the one after the last, and returns the samples.
    resolution : Resolution
        The segments.

    Yields
    ------
    SegmentSpectrum
        In the order of time.
    """
    taps = window(resolution.length)
    for start in resolution.starts:
        samples, coverage = bridged(read(start, start + resolution.length))
        if coverage < MIN_COVERAGE:
            continue
        values = scipy.fft.rfft(samples * taps)[: resolution.n_bins] / coverage
        power = np.abs(values) ** 2
        # Guard: of constant samples rounding alone is left.
        if float(power.max(initial=0.0)) <= 0:
            continue
        yield SegmentSpectrum(start, values, local_floor(power), coverage)
