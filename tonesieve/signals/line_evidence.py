"""Evidence for a line in every bin, summed over the segments of a resolution.

Axes: M segments, K bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float

from tonesieve.signals.segment_spectra import (
    LOBE,
    LOWEST_BIN,
    Read,
    Resolution,
    independent_bins,
    local_floor,
    segment_spectra,
)

# Chosen, not tuned: segments from which on the shape of an averaged spectrum counts.
MIN_AVERAGED = 7
# Guards, of memory: candidates of a resolution, and times its segments.
MAX_CANDIDATES, MAX_PEAK_SEGMENTS = 2000, 2**19


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
class EvidenceSums:
    """Sums over the segments of a resolution, by bin.

    Parameters
    ----------
    resolution : Resolution
        The segments.
    nu : ndarray, shape (K,)
        Independent bins that each bin's floor is worth.
    cap : float
        Most evidence of a segment.
    p_needed : float
        Probability at which a bin is found.
    n_segments : int
        Segments so far.
    evidence : ndarray, shape (K,)
        Limited evidence.
    log_ratio : ndarray, shape (K,)
        Logarithm of power over floor.
    ratio : ndarray, shape (K,)
        Power over floor, limited.
    slope : ndarray, shape (K,)
        Derivative of the evidence by the logarithm of the floor, its sign changed.
    power, floor : ndarray, shape (K,)
        Power and floor, each segment brought to the level 1.
    log_level : float, default=0.0
        Logarithm of the segments' levels.
    """

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


def sum_evidence(read: Read, resolution: Resolution, p_needed: float) -> EvidenceSums | None:
    """Sum the evidence of all bins.

    Parameters
    ----------
    read : callable
        Takes the first sample and the one after the last, and returns the samples, NaN in gaps.
    resolution : Resolution
        The segments.
    p_needed : float
        Probability at which a bin is found.

    Returns
    -------
    EvidenceSums or None
        None where no segment has enough samples.
    """
    n_bins = resolution.n_bins
    if n_bins <= LOWEST_BIN:
        return None
    cap = cap_of(len(resolution.starts), p_needed)
    evidence, log_ratio, ratio, slope, power, floor = np.zeros((6, n_bins))
    sums = EvidenceSums(
        resolution, independent_bins(n_bins), cap, p_needed, 0,
        evidence, log_ratio, ratio, slope, power, floor,
    )  # fmt: skip
    for segment in segment_spectra(read, resolution):
        sums.add(segment.values, segment.floor)
    return sums if sums.n_segments else None


def find_peaks(sums: EvidenceSums, p_needed: float) -> list[int]:
    """Find the bins of enough evidence that exceed the others of their lobe.

    Parameters
    ----------
    sums : EvidenceSums
        Evidence of all bins.
    p_needed : float
        Probability at which a bin is found.

    Returns
    -------
    list of int
        The strongest first.
    """
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
    limit = min(MAX_CANDIDATES, MAX_PEAK_SEGMENTS // n)
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
