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

Axes: M segments, K bins.

References
----------
D. J. Thomson, Spectrum estimation and harmonic analysis, Proc. IEEE 70 (1982): local evidence.
M. S. Bartlett, Properties of sufficiency and statistical tests, Proc. R. Soc. A 160 (1937).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy
from jaxtyping import Float

from tonesieve.signals.line_evidence import (
    MIN_AVERAGED,
    Average,
    EvidenceSums,
    find_peaks,
    sum_evidence,
)
from tonesieve.signals.line_shape import (
    RING_STOP,
    Neighbourhood,
    confirmed_line,
    has_shoulders,
    is_steady,
    neighbourhoods,
    ring_level,
    ring_worth,
)
from tonesieve.signals.segment_spectra import LOBE, LOWEST_BIN, Read, Resolution, resolutions

# Chosen: probability that a record of noise alone has any line.
FALSE_ALARM_RATE = 0.01
# Chosen, not tuned: standard errors by which the ring exceeds the floor where the latter is wrong.
RING_SIGMA = 3.0
# Chosen: probability that a peak of noise exceeds the ring as it must, where few segments are
# averaged; it holds for all peaks of an unresolved resonance together if there are some thirty.
SHAPE_RATE = 3e-4


def find_spectral_lines(
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
        sums = sum_evidence(read, resolution, false_alarm_rate / max(n_tests, 1))
        if sums is None:
            continue
        averages.append(sums.average())
        peaks = find_peaks(sums, false_alarm_rate / max(n_tests, 1))
        known = [_bin_at(line, resolution) for line in lines]
        peaks = [k for k in peaks if all(abs(k - at) > LOBE + 1 for at in known)]
        own = _second_pass(read, sums, peaks, n_tests, false_alarm_rate)
        tracks = neighbourhoods(read, resolution, [round(at) for at in known])
        confirmed = [
            confirmed_line(line, track, lines) for line, track in zip(lines, tracks, strict=True)
        ]
        lines = [line for line in confirmed if line is not None]
        if number > 0:
            own = [replace(line, moves=True) for line in own
                   if is_steady(line, averages[0], len(own))]  # fmt: skip
        lines += own
    return sorted(lines, key=lambda line: line.peak / line.resolution.length), averages


def _bin_at(line: Neighbourhood, resolution: Resolution) -> float:
    return line.peak * resolution.length / line.resolution.length


def _second_pass(
    read: Read, sums: EvidenceSums, peaks: list[int], n_tests: int, rate: float
) -> list[Neighbourhood]:
    """The peaks that exceed the bins just beside them."""
    found = []
    for peak, line in zip(peaks, neighbourhoods(read, sums.resolution, peaks), strict=True):
        if line is None:
            continue
        ratio = np.abs(line.values) ** 2 / line.floor[:, None]
        level, p_value = against_ring(ratio, float(sums.nu[peak]), sums.cap)
        p_value *= n_tests
        if p_value <= rate and not has_shoulders(ratio / level):
            found.append(
                Neighbourhood(
                    line.resolution, peak, line.values, line.floor * level, line.starts, p_value
                )
            )
    return found


def against_ring(ratio: Float[np.ndarray, "M D"], nu: float, cap: float) -> tuple[float, float]:
    """Compare a bin with those beside it.

    Parameters
    ----------
    ratio : ndarray, shape (M, D)
        Power over the floor, the bin in the middle.
    nu : float
        Independent bins that the floor is worth.
    cap : float
        Most evidence of a segment.

    Returns
    -------
    level : float
        Of the noise beside, over the floor.
    p_value : float
        Probability of the bin's evidence in noise, of this one bin.
    """
    n, at = len(ratio), ratio[:, RING_STOP]
    # Limited, so that no burst has all the weight; about the median, whatever the blocks say.
    limit = 2 * cap * max(float(np.median(ratio)), 1.0)
    level = ring_level(np.minimum(ratio, limit).mean(axis=0), n)
    worth = n * ring_worth()
    if level > 1 + RING_SIGMA / np.sqrt(worth):
        # The blocks do not follow the spectrum: the ring alone counts.
        return level, _probability(at / level, worth, cap)
    if n >= MIN_AVERAGED:
        return level, _probability(at / level, nu, cap)
    beside = _probability(at / level, worth, np.inf)
    return 1.0, 1.0 if beside > SHAPE_RATE else _probability(at, nu, cap)


def _probability(ratio: np.ndarray, nu: float, cap: float) -> float:
    """Probability of a peak's evidence in noise."""
    evidence = np.minimum(nu * np.log1p(ratio / nu), cap)
    return float(scipy.special.gammaincc(len(ratio), evidence.sum()))
