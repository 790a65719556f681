"""Tests of the shape of a candidate: in frequency against what is beside it, and over time.

Axes: M segments, D bins beside a candidate.

References
----------
M. S. Bartlett, Properties of sufficiency and statistical tests, Proc. R. Soc. A 160 (1937).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy
from jaxtyping import Complex, Float

from tonesieve.signals.line_evidence import MIN_AVERAGED, Average
from tonesieve.signals.segment_spectra import (
    LOBE,
    LOWEST_BIN,
    MEDIAN_EFFICIENCY,
    Read,
    Resolution,
    bin_correlation,
    bins_per_independent,
    segment_spectra,
)

# Chosen, not tuned: bins beside a candidate that are compared with it, beyond its lobe.
RING_START, RING_STOP = LOBE + 1, 24
# Chosen, not tuned: both sides differ by this factor at the edge of a band; a share of a side that
# one other line does not fill.
EDGE_RATIO, SIDE_QUANTILE = 4.0, 0.25
# Chosen, not tuned: part of a peak's excess that it may have on both sides of its lobe.
MAX_SHOULDER = 0.5
# Chosen: probability that a steady power is found in noise of a narrow band.
STEADY_RATE = 1e-3
# Derived: the median of seven exponential variables exceeds it with a probability of 7%.
MIN_MEDIAN = 1.4
# Chosen, not tuned: a steady line's least power in the whole record over that in its quarters.
MIN_COHERENT = 0.5
# Chosen, not tuned: the median of its power over time over the mean, at least.
MIN_PERSISTENT = 0.3
# Chosen, not tuned: bins on both sides of a peak that what moves is summed over.
WANDER = 2


@dataclass(frozen=True)
class Neighbourhood:
    """A candidate, and the bins beside it in each segment.

    Parameters
    ----------
    resolution : Resolution
        Its segments.
    peak : int
        Its bin.
    values : ndarray, shape (M, D)
        Complex amplitudes from `RING_STOP` bins below the peak to as many above it.
    floor : ndarray, shape (M,)
        Power of the noise at the peak.
    starts : ndarray, shape (M,)
        First sample of each segment.
    p_value : float
        Probability of its evidence in noise, corrected for all bins of all resolutions.
    moves : bool
        Whether it is found at a coarser resolution alone.
    track : Neighbourhood, optional
        The same line at a coarser resolution, which shows its course.
    """

    resolution: Resolution
    peak: int
    values: Complex[np.ndarray, "M D"]
    floor: Float[np.ndarray, " M"]
    starts: Float[np.ndarray, " M"]
    p_value: float
    moves: bool = False
    track: Neighbourhood | None = None


def neighbourhoods(
    read: Read, resolution: Resolution, peaks: list[int]
) -> list[Neighbourhood | None]:
    """Read the bins about each peak, in each segment.

    Parameters
    ----------
    read : callable
        Takes the first sample and the one after the last, and returns the samples, NaN in gaps.
    resolution : Resolution
        The segments.
    peaks : list of int
        Bins.

    Returns
    -------
    list of Neighbourhood or None
        None for a bin that is not tested at this resolution.
    """
    n_bins = resolution.n_bins
    inside = [LOWEST_BIN <= k < n_bins for k in peaks]
    if not any(inside):
        return [None] * len(peaks)
    offsets = np.arange(-RING_STOP, RING_STOP + 1)
    # At the ends of the spectrum the ring is mirrored.
    bins = np.abs(np.array(peaks)[:, None] + offsets)
    bins = np.where(bins >= n_bins, 2 * (n_bins - 1) - bins, bins)
    bins = np.clip(bins, 0, n_bins - 1)
    at = np.clip(peaks, 0, n_bins - 1)
    values, floors, starts = [], [], []
    for segment in segment_spectra(read, resolution):
        values.append(segment.values[bins].astype(np.complex64))
        floors.append(segment.floor[at])
        starts.append(float(segment.start))
    stacked, floor = np.array(values), np.array(floors)
    return [
        Neighbourhood(
            resolution, peaks[c], stacked[:, c].astype(complex), floor[:, c], np.array(starts), 1.0
        )
        if inside[c]
        else None
        for c in range(len(peaks))
    ]


def ring_worth() -> float:
    """Return how many independent bins the level of a ring is worth, in one segment.

    Returns
    -------
    float
        That of their median.
    """
    n_bins = 2 * (RING_STOP - RING_START + 1)
    return MEDIAN_EFFICIENCY * n_bins / bins_per_independent()


def ring_level(ratio: Float[np.ndarray, " D"], n_segments: int) -> float:
    """Return the level of the bins on both sides of a peak, beyond its lobe.

    Parameters
    ----------
    ratio : ndarray, shape (D,)
        Mean power over the floor, the peak in the middle.
    n_segments : int
        Segments it is the mean of.

    Returns
    -------
    float
        Their mean in noise: of the higher side, at the edge of a band.
    """
    middle = len(ratio) // 2
    below = ratio[middle - RING_STOP : middle - RING_START + 1]
    above = ratio[middle + RING_START : middle + RING_STOP + 1]

    def level(values: np.ndarray, quantile: float) -> float:
        expected = float(scipy.special.gammaincinv(n_segments, quantile)) / n_segments
        return float(np.quantile(values, quantile)) / expected

    sides = level(below, SIDE_QUANTILE), level(above, SIDE_QUANTILE)
    # Guard: with few segments the sides differ by chance.
    if max(sides) > EDGE_RATIO * (1 + EDGE_RATIO / np.sqrt(n_segments)) * min(sides):
        return max(sides)
    return level(np.concatenate([below, above]), 0.5)


def has_shoulders(ratio: np.ndarray) -> bool:
    """Return whether both sides of the lobe share in a peak's excess: a resonance, no line.

    Parameters
    ----------
    ratio : ndarray, shape (M, D)
        Power over the level of the noise, the peak in the middle.

    Returns
    -------
    bool
        False for few segments, which cannot show it.
    """
    if len(ratio) < MIN_AVERAGED:
        return False
    excess = ratio.mean(axis=0) - 1
    sides = [
        excess[[RING_STOP + sign * d for d in (LOBE + 1, LOBE + 2)]].mean() for sign in (-1, 1)
    ]
    return bool(min(sides) > MAX_SHOULDER * excess[RING_STOP])


def confirmed_line(
    line: Neighbourhood, track: Neighbourhood | None, others: list[Neighbourhood]
) -> Neighbourhood | None:
    """Return a line with its course; None where it is not there, or in phase, most of the time.

    A steady line has the same power in quarters of a record as in all of it. Of what is off for a
    part of the time, or moves, all of it has less.

    Parameters
    ----------
    line : Neighbourhood
        A line of a fine resolution.
    track : Neighbourhood or None
        The same bins at a coarser one; None where that does not reach them.
    others : list of Neighbourhood
        All lines, of which some may lie in one bin of the coarser resolution.

    Returns
    -------
    Neighbourhood or None
        The line, unchanged where nothing can be said.
    """
    if line.track is not None or len(line.starts) >= MIN_AVERAGED or track is None:
        return line
    if len(track.starts) < MIN_AVERAGED:
        return line
    power = np.abs(track.values[:, RING_STOP]) ** 2
    if float(np.median(power / track.floor)) < MIN_MEDIAN:
        return None
    if float(np.median(power)) < MIN_PERSISTENT * float(np.mean(power)):
        return None
    # What moves has its power near by, in other bins at other times.
    near = track.values[:, RING_STOP - LOBE : RING_STOP + LOBE + 1]
    highest = np.max(np.abs(near) ** 2, axis=1)
    # Derived: the highest of three independent exponential variables has this mean.
    total = float(np.mean(highest - (1 + 1 / 2 + 1 / 3) * track.floor))
    ratio = track.resolution.length / line.resolution.length
    coherent = sum(
        float(np.mean(np.abs(other.values[:, RING_STOP]) ** 2))
        for other in others
        if abs(other.peak - line.peak) * ratio <= 2 * LOBE
    )
    if coherent < MIN_COHERENT * total:
        return None
    return replace(line, track=track)


def is_steady(line: Neighbourhood, finest: Average, n_tests: int) -> bool:
    """Return whether the power of what moves is steadier than that of narrow-band noise.

    Parameters
    ----------
    line : Neighbourhood
        What was found at a coarse resolution alone.
    finest : Average
        The finest spectrum, whose width at the line gives the time in which noise changes.
    n_tests : int
        How many are tested.

    Returns
    -------
    bool
        In narrow-band noise true with a small probability.
    """
    beside = slice(RING_STOP - WANDER, RING_STOP + WANDER + 1)
    powers = np.sum(np.abs(line.values[:, beside]) ** 2, axis=1) / line.floor
    n_independent = _coherence_bins(line, finest)
    stride = max(1, round(len(powers) / max(n_independent, 1)))
    # Derived: a sum of correlated exponential variables is nearly a gamma variable. Guard: of twice
    # the shape, since it is not quite one, and since a line is much steadier than noise.
    n_bins = 2 * WANDER + 1
    squares = [bin_correlation(abs(a - b)) ** 2 for a in range(n_bins) for b in range(n_bins)]
    shape = 2 * n_bins**2 / sum(squares)
    worst = max(
        steadiness_p_value(powers[first::stride], shape)
        for first in range(min(stride, len(powers)))
    )
    return worst * max(n_tests, 1) <= STEADY_RATE


def _coherence_bins(line: Neighbourhood, finest: Average) -> float:
    """Width of the bump at the finest resolution, in bins: independent powers in the record."""
    scale = finest.resolution.length / line.resolution.length
    first = max(0, int((line.peak - LOBE) * scale))
    stop = min(len(finest.power), int((line.peak + LOBE) * scale) + 1)
    excess = np.maximum(finest.power[first:stop] - finest.floor[first:stop], 0.0)
    width = float(excess.sum()) ** 2 / max(float(np.sum(excess**2)), 1e-300)
    return width * finest.resolution.n_samples / finest.resolution.length


def steadiness_p_value(powers: Float[np.ndarray, " M"], shape: float) -> float:
    """Return the probability that gamma variables vary as little as these, by Bartlett's test.

    Parameters
    ----------
    powers : ndarray, shape (M,)
        Independent powers.
    shape : float
        Shape of the gamma distribution; 1 for exponential variables.

    Returns
    -------
    float
        1 for fewer than three.
    """
    n = len(powers)
    if n < 3:
        return 1.0
    positive = np.maximum(powers, 1e-300)
    spread = float(np.log(positive.mean()) - np.log(positive).mean())
    statistic = 2 * shape * n * spread / (1 + (n + 1) / (6 * shape * n))
    return float(scipy.special.gammainc((n - 1) / 2, statistic / 2))
