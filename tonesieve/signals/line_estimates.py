"""Frequency, drift and amplitude of spectral lines, with their errors.

The frequency is that of the parabola through the logarithm of the power at a peak and in the bins
beside it, corrected for the window. Axes: M segments.

References
----------
M. G. Kendall, Note on bias in the estimation of autocorrelation, Biometrika 41 (1954), carried on
to the residuals of a straight line.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float

from tonesieve.signals.line_evidence import MIN_AVERAGED
from tonesieve.signals.line_shape import RING_STOP, WANDER, Neighbourhood
from tonesieve.signals.segment_spectra import bin_correlation, window_gain

# Derived: half the width of a band that holds 90% of a normal distribution, over its deviation.
Z90 = 1.6449
# Chosen, not tuned: mean power over the floor, in a segment, from which on its frequency is known.
MIN_RATIO = 8.0
# Chosen, not tuned: deviation of a course over that which noise alone makes.
WANDER_SIGMA = 2.0
# Guard: significances below it are stated as this.
MIN_P_VALUE = 1e-300


@dataclass(frozen=True)
class SpectralLine:
    """A line of a record.

    Parameters
    ----------
    hz : float
        Mean frequency.
    hz_stderr : float
        Its standard error.
    drift_hz : float or None
        Its frequency at the end minus that at the start, by linear regression; None where the
        segments do not show it.
    drift_stderr : float or None
        Standard error of the drift.
    lowest_hz, highest_hz : float
        Range of its frequency over the segments, the outermost tenths left out; both ``hz`` where
        the segments do not show it.
    amplitude : float
        Root mean square of its amplitude, in the record's unit.
    amplitude_low, amplitude_high : float
        90% band of the amplitude.
    floor : float
        Amplitude of a sine of the noise's power in the resolution.
    resolution_hz : float
        Width of a bin at the resolution at which it was found.
    p_value : float
        Probability of such a line anywhere in a record of noise.
    moves : bool
        Whether it is no line at the finest resolution, or its comb moves it out of its bin there.
    by_comb : bool, default=False
        Whether it is found at a multiple of its comb's fundamental alone. Its probability is then
        that at such places, and its frequency and course are those of the comb.
    """

    hz: float
    hz_stderr: float
    drift_hz: float | None
    drift_stderr: float | None
    lowest_hz: float
    highest_hz: float
    amplitude: float
    amplitude_low: float
    amplitude_high: float
    floor: float
    resolution_hz: float
    p_value: float
    moves: bool
    by_comb: bool = False

    @property
    def power(self) -> float:
        """Mean square of the sine."""
        return 0.5 * self.amplitude**2

    def metrics(self) -> dict[str, Any]:
        """Return the values by name.

        Returns
        -------
        dict
            For JSON.
        """
        return asdict(self)


@cache
def _parabola_table() -> tuple[np.ndarray, np.ndarray]:
    """Vertex of the parabola, and the true distance from the peak's bin."""
    true = np.linspace(-0.75, 0.75, 601)
    powers = np.log(np.stack([window_gain(offset - true) ** 2 for offset in (-1.0, 0.0, 1.0)]))
    return _vertex(powers), true


def _vertex(log_power: np.ndarray) -> np.ndarray:
    below, at, above = log_power
    curvature = below - 2 * at + above
    return np.asarray(0.5 * (below - above) / np.where(curvature < 0, curvature, -np.inf))


def bin_offset(powers: Float[np.ndarray, "3 M"]) -> Float[np.ndarray, " M"]:
    """Return the distance of a sine from the middle of three bins.

    Parameters
    ----------
    powers : ndarray, shape (3, M)
        Its power in these bins.

    Returns
    -------
    ndarray, shape (M,)
        Bins, between -0.75 and 0.75.
    """
    vertex, true = _parabola_table()
    found = _vertex(np.log(np.maximum(powers, 1e-300)))
    return np.asarray(np.interp(found, vertex, true))


@cache
def offset_stderr_ratio() -> float:
    """Return the standard error of `bin_offset` times the root of power over noise.

    Returns
    -------
    float
        Of a sine in the middle of a bin.
    """
    # Derived: linearised in the noise, whose correlation two bins apart is known.
    gain = float(window_gain(np.array([1.0]))[0])
    curvature = 2 * np.log(gain**2)
    return float(np.sqrt(1 - bin_correlation(2)) / (gain * abs(curvature)))


def estimate_line(line: Neighbourhood, rate_hz: float) -> SpectralLine:
    """Estimate frequency, drift and amplitude of a line.

    Parameters
    ----------
    line : Neighbourhood
        By `find_lines`.
    rate_hz : float
        Sampling rate.

    Returns
    -------
    SpectralLine
        With standard errors.
    """
    bin_hz = rate_hz / line.resolution.length
    m = len(line.starts)
    power = np.abs(line.values) ** 2
    floor = float(line.floor.mean())
    middle = slice(RING_STOP - 1, RING_STOP + 2)
    excess = np.maximum(power[:, middle].mean(axis=0) - floor, 1e-3 * floor)
    offset = float(bin_offset(excess[:, None])[0])
    gain = float(window_gain(np.array([offset]))[0])
    ratio = max(float(excess[1]) / max(floor, 1e-300), 1e-3)
    stderr = bin_hz * offset_stderr_ratio() * np.sqrt((1 + 1 / ratio) / (ratio * m))
    hz = (line.peak + offset) * bin_hz
    square = float(excess[1]) / gain**2
    if line.moves:  # its power is spread over some bins
        beside = slice(RING_STOP - WANDER, RING_STOP + WANDER + 1)
        square = float(np.maximum(power[:, beside].max(axis=1) - floor, 0.0).mean())
    amplitude = float(np.sqrt(square))
    error = Z90 * amplitude * relative_stderr(power[:, RING_STOP], ratio, m)
    drift = drift_stderr = None
    low = high = hz
    course = frequency_course(line, rate_hz)
    if course is not None:
        fit = fit_course(*course, line.resolution.n_samples / rate_hz)
        drift, drift_stderr, low, high = fit.drift_hz, fit.drift_stderr, fit.lowest, fit.highest
        shown = line.track or line
        # Of what moves a peak of the finest resolution is some frequency of many, not their mean.
        if m >= MIN_AVERAGED or _wanders(shown, fit, rate_hz):
            hz, stderr = fit.mean, max(stderr, fit.mean_stderr)
    return SpectralLine(
        hz, float(stderr), drift, drift_stderr, min(low, hz), max(high, hz), amplitude,
        max(0.0, amplitude - error), amplitude + error, float(np.sqrt(floor)), bin_hz,
        min(1.0, max(line.p_value, MIN_P_VALUE)), line.moves,
    )  # fmt: skip


@dataclass(frozen=True)
class CourseFit:
    """Mean and linear change of a frequency that is known at some times.

    Parameters
    ----------
    mean, mean_stderr : float
        Hz.
    drift_hz, drift_stderr : float
        End minus start of the record.
    lowest, highest : float
        The outermost tenths left out.
    deviation : float
        Standard deviation.
    """

    mean: float
    mean_stderr: float
    drift_hz: float
    drift_stderr: float
    lowest: float
    highest: float
    deviation: float


def fit_course(
    times: Float[np.ndarray, " M"], hz: Float[np.ndarray, " M"], duration: float
) -> CourseFit:
    """Fit a straight line to a course.

    Its rest is taken for an autoregression of order 1, so that the errors hold for a frequency that
    wanders slowly.

    Parameters
    ----------
    times : ndarray, shape (M,)
        Seconds.
    hz : ndarray, shape (M,)
        Frequencies.
    duration : float
        Of the record, in seconds.

    Returns
    -------
    CourseFit
        Mean, drift and range.
    """
    n, centred = len(hz), times - times.mean()
    slope = float(centred @ hz / (centred @ centred))
    rest = hz - hz.mean() - slope * centred
    square = float(rest @ rest)
    correlation = float(rest[1:] @ rest[:-1]) / max(square, 1e-300)
    # Derived: beside a fitted line the estimate is too low by this in the mean. Guard: below 1.
    correlation = float(np.clip(correlation + (2 + 4 * correlation) / n, 0.0, 0.95))
    # Derived: so many values are worth one that is independent; the line takes two of these.
    together = (1 + correlation) / (1 - correlation)
    variance = square / max(n - 2 * together, 0.25 * n) * together
    low, high = (float(q) for q in np.quantile(hz, (0.1, 0.9)))
    return CourseFit(
        float(hz.mean()), float(np.sqrt(variance / n)), slope * duration,
        float(np.sqrt(variance / (centred @ centred))) * duration, low, high,
        float(hz.std(ddof=1)),
    )  # fmt: skip


def segment_stderr(line: Neighbourhood, rate_hz: float) -> float:
    """Return the standard error of a line's frequency in one segment.

    Parameters
    ----------
    line : Neighbourhood
        At the resolution that shows its course.
    rate_hz : float
        Sampling rate.

    Returns
    -------
    float
        Hz, of its mean power over the noise.
    """
    ratio = max(float(np.mean(np.abs(line.values[:, RING_STOP]) ** 2 / line.floor)) - 1, 1.0)
    return rate_hz / line.resolution.length * offset_stderr_ratio() * float(ratio**-0.5)


def _wanders(line: Neighbourhood, fit: CourseFit, rate_hz: float) -> bool:
    return fit.deviation > WANDER_SIGMA * segment_stderr(line, rate_hz)


def relative_stderr(powers: Float[np.ndarray, " M"], ratio: float, m: int) -> float:
    """Return the relative standard error of an amplitude: of the noise, and of its own changes.

    Parameters
    ----------
    powers : ndarray, shape (M,)
        Power in each segment.
    ratio : float
        Mean power of the line over that of the noise.
    m : int
        Segments.

    Returns
    -------
    float
        Over the amplitude.
    """
    # Derived: half of the noise is in phase with the line.
    noise = np.sqrt((0.5 + 0.25 / ratio) / (ratio * m))
    if m < MIN_AVERAGED:
        return float(noise)
    changes = float(powers.std(ddof=1) / max(float(powers.mean()), 1e-300)) / (2 * np.sqrt(m))
    return float(max(noise, changes))


def frequency_course(
    line: Neighbourhood, rate_hz: float
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, " M"]] | None:
    """Return when and at which frequency a line stands out.

    Parameters
    ----------
    line : Neighbourhood
        Its course is read at the resolution that shows it.
    rate_hz : float
        Sampling rate.

    Returns
    -------
    tuple of ndarray, shape (M,), or None
        Middles of the segments in seconds, and frequencies; None for too few.
    """
    line = line.track or line
    bin_hz = rate_hz / line.resolution.length
    power = np.abs(line.values) ** 2
    near = power[:, RING_STOP - WANDER : RING_STOP + WANDER + 1]
    shift = near.argmax(axis=1) - WANDER + RING_STOP
    rows = np.arange(len(power))
    three = np.stack([power[rows, shift + d] for d in (-1, 0, 1)])
    clear = three[1] > MIN_RATIO * line.floor
    if clear.sum() < MIN_AVERAGED or clear.mean() < 0.5:
        return None
    found = (line.peak + shift - RING_STOP + bin_offset(three)) * bin_hz
    times = (line.starts + line.resolution.length / 2) / rate_hz
    return times[clear], found[clear]
