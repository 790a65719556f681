"""Finds the spectral lines of a record, at a stated false-alarm rate of the whole search.

At each resolution (segments of the whole record, of a quarter, ...) the evidence of a bin is

    S = sum over segments of min(E_m, cap),    E_m = nu log(1 + r_m / nu)

with r_m the power over the local floor. In Gaussian noise E_m is exponential, so that S exceeds s
with at most the probability of a gamma variable of shape M. The cap is such that no half of the
segments can be enough: a line is there most of the time. Probabilities are multiplied by the number
of bins at all resolutions.

What passes is tested again against the bins just beside it, which follow a resonance or the edge of
a filter: a line is narrower than its neighbourhood. What is found at a coarse resolution alone
moves: it is a line if its power is steadier than that of noise in a band as narrow (Bartlett's test
of equal variances).

Axes: M segments, K bins, D bins beside a candidate.

References
----------
D. J. Thomson, Spectrum estimation and harmonic analysis, Proc. IEEE 70 (1982): local evidence.
M. S. Bartlett, Properties of sufficiency and statistical tests, Proc. R. Soc. A 160 (1937).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy
from jaxtyping import Complex, Float

from tonesieve.signals.segment_spectra import (
    LOBE,
    LOWEST_BIN,
    MEDIAN_EFFICIENCY,
    Read,
    Resolution,
    bin_correlation,
    bins_per_independent,
    independent_bins,
    local_floor,
    resolutions,
    segment_spectra,
    window_gain,
)

# Chosen: probability that a record of noise alone has any line.
FALSE_ALARM_RATE = 0.01
# Chosen, not tuned: bins beside a candidate that are compared with it, beyond its lobe.
RING_START, RING_STOP = LOBE + 1, 24
# Chosen, not tuned: standard errors by which the ring exceeds the floor where the latter is wrong.
RING_SIGMA = 3.0
# Chosen: probability that a peak of noise exceeds the ring as it must, where few segments are
# averaged; it holds for all peaks of an unresolved resonance together if there are some thirty.
SHAPE_RATE = 3e-4
# Chosen, not tuned: both sides differ by this factor at the edge of a band; a share of a side that
# one other line does not fill.
EDGE_RATIO, SIDE_QUANTILE = 4.0, 0.25
# Chosen, not tuned: part of a peak's excess that it may have on both sides of its lobe.
MAX_SHOULDER = 0.5
# Chosen: probability that a steady power is found in noise of a narrow band. Chosen, not tuned:
# segments from which on the shape of an averaged spectrum counts.
STEADY_RATE, MIN_AVERAGED = 1e-3, 7
# Derived: the median of seven exponential variables exceeds it with a probability of 7%.
MIN_MEDIAN = 1.4
# Chosen, not tuned: a steady line's least power in the whole record over that in its quarters.
MIN_COHERENT = 0.5
# Chosen, not tuned: the median of its power over time over the mean, at least.
MIN_PERSISTENT = 0.3
# Chosen, not tuned: bins on both sides of a peak that what moves is summed over.
WANDER = 2
# Guards, of memory: candidates of a resolution, and values about all of them.
MAX_CANDIDATES, MAX_VALUES = 2000, 2**25


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


@dataclass(frozen=True)
class Average:
    """Spectrum of a resolution, averaged over its segments.

    Parameters
    ----------
    resolution : Resolution
        The segments.
    n_segments : int
        How many had enough samples.
    power : ndarray, shape (K,)
        Mean power, all segments brought to their mean level; a steady sine of amplitude 1 has the
        power 1.
    floor : ndarray, shape (K,)
        Mean floor, likewise.
    excess : ndarray, shape (K,)
        Mean of the ratio of both, each limited.
    needed : ndarray, shape (K,)
        Power over the floor, in every segment, that is found.
    """

    resolution: Resolution
    n_segments: int
    power: Float[np.ndarray, " K"]
    floor: Float[np.ndarray, " K"]
    excess: Float[np.ndarray, " K"]
    needed: Float[np.ndarray, " K"]


def find_lines(
    read: Read, n_samples: int, false_alarm_rate: float = FALSE_ALARM_RATE
) -> tuple[list[Neighbourhood], list[Average]]:
    """Find the lines of a record.

    Parameters
    ----------
    read : callable
        Takes the first sample and the one after the last, and returns the samples, NaN in gaps.
    n_samples : int
        Samples of the record.
    false_alarm_rate : float, default=0.01
        Probability that a record of noise alone has any line.

    Returns
    -------
    lines : list of Neighbourhood
        By frequency.
    averages : list of Average
        One a resolution, the finest first.
    """
    plan = resolutions(n_samples)
    n_tests = sum(max(0, one.n_bins - LOWEST_BIN) for one in plan)
    lines: list[Neighbourhood] = []
    averages: list[Average] = []
    for number, resolution in enumerate(plan):
        sums = _first_pass(read, resolution, false_alarm_rate / max(n_tests, 1))
        if sums is None:
            continue
        averages.append(sums.average())
        peaks = _peaks(sums, false_alarm_rate / max(n_tests, 1))
        known = [_bin_at(line, resolution) for line in lines]
        peaks = [k for k in peaks if all(abs(k - at) > LOBE + 1 for at in known)]
        own = _second_pass(read, sums, peaks, n_tests, false_alarm_rate)
        tracks = _neighbourhoods(read, resolution, [round(at) for at in known])
        confirmed = [
            _confirmed(line, track, lines) for line, track in zip(lines, tracks, strict=True)
        ]
        lines = [line for line in confirmed if line is not None]
        if number > 0:
            own = [replace(line, moves=True) for line in own
                   if _is_steady(line, averages[0], len(own))]  # fmt: skip
        lines += own
    return sorted(lines, key=lambda line: line.peak / line.resolution.length), averages


def cap_of(n_segments: int, p_value: float) -> float:
    """Return the most that a segment may contribute to the evidence.

    Parameters
    ----------
    n_segments : int
        Segments.
    p_value : float
        Probability at which a line is found.

    Returns
    -------
    float
        Twice the evidence that is needed, over the number of segments; infinite for few.
    """
    if n_segments < MIN_AVERAGED:
        return np.inf
    return 2 * float(scipy.special.gammainccinv(n_segments, p_value)) / n_segments


@dataclass
class _Sums:
    """Sums over the segments of a resolution."""

    resolution: Resolution
    nu: np.ndarray
    cap: float
    p_needed: float
    n_segments: int
    evidence: np.ndarray
    log_ratio: np.ndarray
    ratio: np.ndarray
    slope: np.ndarray
    power: np.ndarray
    floor: np.ndarray
    log_level: float = 0.0

    def add(self, values: np.ndarray, floor: np.ndarray) -> None:
        power = np.abs(values) ** 2
        ratio = power / floor
        evidence = self.nu * np.log1p(ratio / self.nu)
        self.evidence += np.minimum(evidence, self.cap)
        self.slope += np.where(evidence < self.cap, ratio / (1 + ratio / self.nu), 0.0)
        self.log_ratio += np.log(np.maximum(ratio, 1e-12))
        self.ratio += np.minimum(ratio, 2 * self.cap)
        level = float(np.log(floor[LOWEST_BIN:]).mean())
        # Each segment at the level of 1, so that loud ones do not count alone.
        self.power += power * np.exp(-level)
        self.floor += floor * np.exp(-level)
        self.log_level += level
        self.n_segments += 1

    def average(self) -> Average:
        n = self.n_segments
        evidence = float(scipy.special.gammainccinv(n, self.p_needed)) / n
        needed = self.nu * np.expm1(evidence / self.nu)
        scale = np.exp(self.log_level / n) / n
        return Average(
            self.resolution, n, self.power * scale, self.floor * scale, self.ratio / n, needed
        )


def _first_pass(read: Read, resolution: Resolution, p_needed: float) -> _Sums | None:
    """Evidence of all bins; None where no segment has enough samples."""
    n_bins = resolution.n_bins
    if n_bins <= LOWEST_BIN:
        return None
    cap = cap_of(len(resolution.starts), p_needed)
    evidence, log_ratio, ratio, slope, power, floor = np.zeros((6, n_bins))
    sums = _Sums(
        resolution, independent_bins(n_bins), cap, p_needed, 0,
        evidence, log_ratio, ratio, slope, power, floor,
    )  # fmt: skip
    for segment in segment_spectra(read, resolution):
        sums.add(segment.values, segment.floor)
    return sums if sums.n_segments else None


def _peaks(sums: _Sums, p_needed: float) -> list[int]:
    """Bins of enough evidence that exceed the others of their lobe, the strongest first."""
    n = sums.n_segments
    # The mean ratio is flat in noise; what curvature a floor of wide blocks has left is taken off.
    evidence = sums.evidence
    if n >= MIN_AVERAGED:
        level = np.clip(local_floor_of_average(sums.ratio / n, n), 0.5, 2.0)
        evidence = evidence - np.log(level) * sums.slope
    p_values = scipy.special.gammaincc(n, evidence)
    highest = scipy.ndimage.maximum_filter1d(sums.log_ratio, 2 * LOBE + 1)
    is_peak = (sums.log_ratio >= highest) & (p_values <= p_needed)
    is_peak[:LOWEST_BIN] = False
    peaks = np.flatnonzero(is_peak)
    peaks = peaks[np.argsort(-sums.log_ratio[peaks], kind="stable")]
    limit = min(MAX_CANDIDATES, MAX_VALUES // (n * (2 * RING_STOP + 1)))
    return [int(k) for k in peaks[:limit]]


def local_floor_of_average(
    ratio: Float[np.ndarray, " K"], n_segments: int
) -> Float[np.ndarray, " K"]:
    """Return the floor of an averaged spectrum.

    Parameters
    ----------
    ratio : ndarray, shape (K,)
        Mean of exponential variables, over segments.
    n_segments : int
        How many.

    Returns
    -------
    ndarray, shape (K,)
        Its mean in noise.
    """
    median = float(scipy.special.gammaincinv(n_segments, 0.5)) / n_segments
    return local_floor(ratio) * np.log(2) / median


def _bin_at(line: Neighbourhood, resolution: Resolution) -> float:
    return line.peak * resolution.length / line.resolution.length


def _second_pass(
    read: Read, sums: _Sums, peaks: list[int], n_tests: int, rate: float
) -> list[Neighbourhood]:
    """The peaks that exceed the bins just beside them."""
    n, found = sums.n_segments, []
    for peak, line in zip(peaks, _neighbourhoods(read, sums.resolution, peaks), strict=True):
        if line is None:
            continue
        ratio = np.abs(line.values) ** 2 / line.floor[:, None]
        # Limited, so that no burst has all the weight; about the median, whatever the blocks say.
        limit = 2 * sums.cap * max(float(np.median(ratio)), 1.0)
        level = ring_level(np.minimum(ratio, limit).mean(axis=0), n)
        worth, at = n * _ring_worth(), ratio[:, RING_STOP]
        if level > 1 + RING_SIGMA / np.sqrt(worth):
            # The blocks do not follow the spectrum: the ring alone counts.
            p_value = n_tests * _probability(at / level, worth, sums.cap)
        elif n >= MIN_AVERAGED:
            p_value = n_tests * _probability(at / level, float(sums.nu[peak]), sums.cap)
        else:
            level, beside = 1.0, _probability(at / level, worth, np.inf)
            p_value = n_tests * _probability(at, float(sums.nu[peak]), sums.cap)
            p_value = 1.0 if beside > SHAPE_RATE else p_value
        if p_value <= rate and not _has_shoulders(ratio / level):
            found.append(
                Neighbourhood(
                    line.resolution, peak, line.values, line.floor * level, line.starts, p_value
                )
            )
    return found


def _probability(ratio: np.ndarray, nu: float, cap: float) -> float:
    """Probability of a peak's evidence in noise."""
    evidence = np.minimum(nu * np.log1p(ratio / nu), cap)
    return float(scipy.special.gammaincc(len(ratio), evidence.sum()))


def _ring_worth() -> float:
    """Independent bins that the level of a ring is worth, in one segment."""
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


def _has_shoulders(ratio: np.ndarray) -> bool:
    """Whether both sides of the lobe share in a peak's excess: a resonance, no line."""
    if len(ratio) < MIN_AVERAGED:
        return False
    excess = ratio.mean(axis=0) - 1
    sides = [
        excess[[RING_STOP + sign * d for d in (LOBE + 1, LOBE + 2)]].mean() for sign in (-1, 1)
    ]
    return bool(min(sides) > MAX_SHOULDER * excess[RING_STOP])


def _neighbourhoods(
    read: Read, resolution: Resolution, peaks: list[int]
) -> list[Neighbourhood | None]:
    """The bins about each peak, in each segment; None where a peak has no ring."""
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
        starts.append(segment.start)
    stacked, floor = np.array(values), np.array(floors)
    return [
        Neighbourhood(
            resolution, peaks[c], stacked[:, c].astype(complex), floor[:, c], np.array(starts), 1.0
        )
        if inside[c]
        else None
        for c in range(len(peaks))
    ]


def _confirmed(
    line: Neighbourhood, track: Neighbourhood | None, others: list[Neighbourhood]
) -> Neighbourhood | None:
    """A line with its course; None where it is not there, or not in phase, most of the time.

    A steady line has the same power in quarters of a record as in all of it. Of what is off for a
    part of the time, or moves, all of it has less.
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
    ratio = track.resolution.length / line.resolution.length
    coherent = sum(
        float(np.abs(other.values[0, RING_STOP]) ** 2)
        * float(window_gain(np.array([(other.peak - line.peak) * ratio]))[0]) ** 2
        for other in others
        if abs(other.peak - line.peak) * ratio <= LOBE
    )
    if coherent < MIN_COHERENT * float(np.mean(power - track.floor)):
        return None
    return replace(line, track=track)


def _is_steady(line: Neighbourhood, finest: Average, n_tests: int) -> bool:
    """Whether the power of what moves is steadier than that of narrow-band noise."""
    beside = slice(RING_STOP - WANDER, RING_STOP + WANDER + 1)
    powers = np.sum(np.abs(line.values[:, beside]) ** 2, axis=1) / line.floor
    n_independent = _coherence_bins(line, finest)
    stride = max(1, round(len(powers) / max(n_independent, 1)))
    # Derived: a sum of correlated exponential variables is nearly a gamma variable. Guard: of twice
    # the shape, since it is not quite one, and since a line is much steadier than noise.
    distances = np.abs(np.subtract.outer(np.arange(2 * WANDER + 1), np.arange(2 * WANDER + 1)))
    squares = np.vectorize(bin_correlation)(distances) ** 2
    shape = 2 * (2 * WANDER + 1) ** 2 / float(squares.sum())
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
