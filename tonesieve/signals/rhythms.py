"""Finds broad rhythms: bands of a spectrum that rise above both sides of it.

In logarithmic frequency u a band of half-width b about a centre is compared with two sub-bands on
each side. The floor is the highest of three predictions: between the sides, and from either of them
with the slope of the flatter one. So neither a slope nor a bend, as of a low-pass, is a rhythm. In
Gaussian noise the logarithm of a mean of n independent powers is nearly normal with variance 1 / n.

Axes: K bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import scipy

from tonesieve.signals.line_estimates import SpectralLine
from tonesieve.signals.line_evidence import MIN_AVERAGED, Average
from tonesieve.signals.segment_spectra import LOBE, LOWEST_BIN, bins_per_independent
from tonesieve.signals.spectral_lines import FALSE_ALARM_RATE

# Chosen, not tuned: half-widths of bands in logarithmic frequency; step of the centres over them;
# fewest bins of a half-width.
HALF_WIDTHS, CENTRE_STEP, MIN_BINS = (0.02, 0.05, 0.1, 0.2), 0.5, 3
# Chosen, not tuned: limits of the sub-bands beside, in half-widths.
SIDES = ((-6.0, -3.5), (-3.5, -1.5), (1.5, 3.5), (3.5, 6.0))
# Derived: distances of their centres in half-widths, and the weight of a slope at the centre.
FAR, NEAR = 4.75, 2.5
EXTRAPOLATION = NEAR / (FAR - NEAR)
# Chosen: least power over the floor, in dB.
MIN_EXCESS_DB = 2.0
# Chosen, not tuned: a band is smoothed over this part of it before its width is read.
SMOOTHING = 0.25


@dataclass(frozen=True)
class Rhythm:
    """A band of a spectrum that rises above its neighbourhood.

    Parameters
    ----------
    hz : float
        Centre: mean frequency of the power over the floor.
    bandwidth_hz : float
        Width at half of the highest power over the floor.
    excess_db : float
        Mean power of the band over the floor.
    p_value : float
        Probability of such a band anywhere in a record of noise.
    """

    hz: float
    bandwidth_hz: float
    excess_db: float
    p_value: float

    def metrics(self) -> dict[str, Any]:
        """Return the values by name.

        Returns
        -------
        dict
            For JSON.
        """
        return asdict(self)


@dataclass(frozen=True)
class _Band:
    z: float
    average: Average
    spectrum: np.ndarray
    centre: float
    half_width: float
    log_floor: tuple[float, float]
    excess: float


def find_rhythms(
    averages: Sequence[Average],
    lines: Sequence[SpectralLine],
    rate_hz: float,
    false_alarm_rate: float = FALSE_ALARM_RATE,
) -> list[Rhythm]:
    """Find the rhythms of a record.

    Parameters
    ----------
    averages : sequence of Average
        Spectra of the record, the finest first.
    lines : sequence of SpectralLine
        Its lines, which are left out.
    rate_hz : float
        Sampling rate.
    false_alarm_rate : float, default=0.01
        Probability that a record of noise alone has any rhythm.

    Returns
    -------
    list of Rhythm
        By frequency.
    """
    bands = _bands(averages, lines, rate_hz)
    needed = false_alarm_rate / max(len(bands), 1)
    found: list[_Band] = []
    for band in sorted(bands, key=lambda one: -one.z):
        p_value = float(scipy.special.ndtr(-band.z))
        if p_value > needed:
            break
        if 10 * np.log10(np.exp(band.excess)) < MIN_EXCESS_DB:
            continue
        apart = [
            abs(np.log(_hz(band, rate_hz) / _hz(one, rate_hz)))
            > 2 * max(band.half_width, one.half_width)
            for one in found
        ]
        if all(apart):
            found.append(band)
    rhythms = (_rhythm(band, rate_hz, len(bands)) for band in found)
    return sorted((one for one in rhythms if one is not None), key=lambda one: one.hz)


def _hz(band: _Band, rate_hz: float) -> float:
    return band.centre * rate_hz / band.average.resolution.length


def _bands(
    averages: Sequence[Average], lines: Sequence[SpectralLine], rate_hz: float
) -> list[_Band]:
    """Every tested band: at each frequency at the coarsest resolution with enough bins."""
    bands: list[_Band] = []
    spectra = [_without_lines(one, lines, rate_hz) for one in averages]
    for half_width in HALF_WIDTHS:
        stop = np.inf
        for average, spectrum in reversed(list(zip(averages, spectra, strict=True))):
            bin_hz = rate_hz / average.resolution.length
            lowest = max(MIN_BINS / half_width, LOWEST_BIN * np.exp(SIDES[3][1] * half_width))
            highest = min((len(spectrum) - 1) * np.exp(-SIDES[3][1] * half_width), stop / bin_hz)
            if average.n_segments < MIN_AVERAGED or highest <= lowest:
                continue
            steps = np.log(highest / lowest) / (CENTRE_STEP * half_width)
            for centre in np.geomspace(lowest, highest, max(2, int(steps) + 1)):
                bands.append(_tested(average, spectrum, float(centre), half_width))
            stop = lowest * bin_hz
    return bands


def _without_lines(average: Average, lines: Sequence[SpectralLine], rate_hz: float) -> np.ndarray:
    """The spectrum with a straight line in place of each spectral line."""
    spectrum = average.power.copy()
    bin_hz = rate_hz / average.resolution.length
    for line in lines:
        first = int(np.floor(line.lowest_hz / bin_hz)) - LOBE
        last = int(np.ceil(line.highest_hz / bin_hz)) + LOBE
        first, last = max(first, 1), min(last, len(spectrum) - 2)
        if last > first:
            ends = np.log(spectrum[[first - 1, last + 1]] + 1e-300)
            bridge = np.linspace(float(ends[0]), float(ends[1]), last - first + 1)
            spectrum[first : last + 1] = np.exp(bridge)
    return spectrum


def _tested(average: Average, spectrum: np.ndarray, centre: float, half_width: float) -> _Band:
    """A band beside its sides."""
    limits = ((-1.0, 1.0), *SIDES)
    edges = [np.rint(centre * np.exp(np.array(pair) * half_width)).astype(int) for pair in limits]
    counts = np.array([max(int(b - a), 1) for a, b in edges])
    levels = np.array([np.log(max(spectrum[a : max(b, a + 1)].mean(), 1e-300)) for a, b in edges])
    variances = bins_per_independent() / (counts * average.n_segments)
    y, far_low, near_low, near_high, far_high = levels
    # Of a bend, one side is the flatter.
    slopes = EXTRAPOLATION * np.array([near_low - far_low, far_high - near_high])
    slope = float(slopes[np.abs(slopes).argmin()])
    steep = (1 + EXTRAPOLATION) ** 2, EXTRAPOLATION**2
    predictions = (
        (0.5 * (near_low + near_high), 0.25 * (variances[2] + variances[3])),
        (near_low + slope, steep[0] * variances[2] + steep[1] * variances[1]),
        (near_high - slope, steep[0] * variances[3] + steep[1] * variances[4]),
    )
    z = min((y - mean) / np.sqrt(variances[0] + variance) for mean, variance in predictions)
    excess = y - max(mean for mean, _ in predictions)
    return _Band(
        float(z), average, spectrum, centre, half_width, (near_low, near_high), float(excess)
    )


def _rhythm(band: _Band, rate_hz: float, n_tests: int) -> Rhythm | None:
    """Centre and bandwidth of a band; None where no peak stands out of it."""
    reach = NEAR * band.half_width
    first = max(1, int(band.centre * np.exp(-reach)))
    stop = min(len(band.spectrum), int(band.centre * np.exp(reach)) + 2)
    bins = np.arange(first, stop)
    u = np.log(bins / band.centre) / reach
    low, high = band.log_floor
    floor = np.exp(low + (high - low) * 0.5 * (u + 1))
    size = max(1, int(SMOOTHING * 2 * band.half_width * band.centre))
    excess = scipy.ndimage.uniform_filter1d(band.spectrum[first:stop] - floor, size)
    peak = int(excess.argmax())
    if not excess[peak] > 0:
        return None
    above = excess >= 0.5 * excess[peak]
    left = peak - int(np.argmin(above[peak::-1])) + 1 if not above[: peak + 1].all() else 0
    right = peak + int(np.argmin(above[peak:])) if not above[peak:].all() else len(bins)
    weights = excess[left:right]
    centre = float(np.sum(weights * bins[left:right]) / max(float(weights.sum()), 1e-300))
    bin_hz = rate_hz / band.average.resolution.length
    p_value = min(1.0, n_tests * float(scipy.special.ndtr(-band.z)))
    return Rhythm(
        centre * bin_hz, (right - left) * bin_hz, float(10 * band.excess / np.log(10)), p_value
    )
