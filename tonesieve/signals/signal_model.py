"""Closed forms of the synthetic records: frequencies, common period, powers and gains.

See docs/exercise.md, The problem. Axes: B records, K components.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from jaxtyping import Float, Int

from tonesieve.config.config import DataSettings
from tonesieve.signals.distributions import Rng

# Derived: the largest number below which floating point holds every whole number.
MAX_COUNT = 2**53


def cycles_per_sample(frequencies_hz: Sequence[float], rate_hz: float) -> list[Fraction]:
    """Divide frequencies by the rate, exactly for the decimal numbers given.

    Parameters
    ----------
    frequencies_hz : sequence of float
        Frequencies of the tones.
    rate_hz : float
        Sampling rate.

    Returns
    -------
    list of Fraction
        Cycles from one sample to the next.
    """
    rate = Fraction(repr(float(rate_hz)))
    return [Fraction(repr(float(f))) / rate for f in frequencies_hz]


def cycles_after(data: DataSettings, starts: Int[np.ndarray, " B"]) -> Float[np.ndarray, "B K"]:
    """Phase of every tone after a number of samples.

    Parameters
    ----------
    data : DataSettings
        Frequencies and rate.
    starts : ndarray, shape (B,)
        Numbers of samples.

    Returns
    -------
    ndarray, shape (B, K)
        Cycles since sample 0, modulo 1.
    """
    # Whole numbers of samples times exact fractions: no rounding however late a record starts.
    steps = cycles_per_sample(data.frequencies_hz, data.rate_hz)
    return np.array([[float(int(n) * step % 1) for step in steps] for n in starts])


def common_period_samples(data: DataSettings) -> int:
    """Smallest number of samples after which all tones are back where they began.

    Parameters
    ----------
    data : DataSettings
        Frequencies and rate.

    Returns
    -------
    int
        Exact for the decimal numbers given: 1, 3, 5, 7 Hz at 1000 Hz have 1000 samples.
    """
    steps = cycles_per_sample(data.frequencies_hz, data.rate_hz)
    return math.lcm(*(step.denominator for step in steps))


def starts_at(data: DataSettings, fractions: Float[np.ndarray, " B"]) -> Int[np.ndarray, " B"]:
    """Convert fractions of the common period to whole samples.

    Parameters
    ----------
    data : DataSettings
        Frequencies and rate.
    fractions : ndarray, shape (B,)
        0 to 1.

    Returns
    -------
    ndarray, shape (B,)
        Samples; of a period longer than floating point can count, its first 2^53 samples.
    """
    period = min(common_period_samples(data), MAX_COUNT)
    return np.array([math.floor(fraction * period) for fraction in fractions], dtype=np.int64)


def even_starts(
    data: DataSettings, n_records: int, *, rng: Rng | None = None
) -> Int[np.ndarray, " B"]:
    """Spread starts evenly over the common period.

    Parameters
    ----------
    data : DataSettings
        Frequencies and rate.
    n_records : int
        Number of starts, B.
    rng : Generator, optional
        Draws the first start; without it, starts are in the middle of their intervals.

    Returns
    -------
    ndarray, shape (B,)
        Samples.
    """
    offset = 0.5 if rng is None else rng.random()
    return starts_at(data, (np.arange(n_records) + offset) / n_records)


def mixture_power(data: DataSettings) -> float:
    """Mean power of the jittered tones in the mixture, without any further noise.

    Distinct frequencies do not correlate over time, and E[sin^2] is 1/2 whatever the jitter, so
    K tones of mean square amplitude E[A^2], divided by K, have E[A^2] / (2 K).

    Parameters
    ----------
    data : DataSettings
        Amplitudes and number of tones.

    Returns
    -------
    float
        In squared units of the mixture.
    """
    low, high = data.amplitude_range
    mean_square = (low * low + low * high + high * high) / 3
    return mean_square / (2 * data.n_components)


def input_rms(data: DataSettings) -> float:
    """Root mean square of the mixture with its noise; clipping and gaps are ignored.

    Parameters
    ----------
    data : DataSettings
        Tones and noise.

    Returns
    -------
    float
        1 with a background, which is 1 by itself and has tones of many amplitudes.
    """
    if data.background is not None:
        return 1.0
    power = mixture_power(data)
    total = power
    for snr_db in (data.snr_db, data.pink_snr_db):
        if snr_db is not None:
            total += power * 10 ** (-snr_db / 10)
    return math.sqrt(total + impulse_power(data))


def impulse_probability(data: DataSettings) -> float:
    """Probability that a sample has an impulse.

    Parameters
    ----------
    data : DataSettings
        Rates of impulses and samples.

    Returns
    -------
    float
        At most 1.
    """
    return min(1.0, data.impulse_rate_hz / data.rate_hz)


def impulse_power(data: DataSettings) -> float:
    """Mean power of the impulses.

    Parameters
    ----------
    data : DataSettings
        Tones, rate and size of the impulses.

    Returns
    -------
    float
        In squared units of the mixture.
    """
    return mixture_power(data) * data.impulse_size**2 * impulse_probability(data)


def tone_response(data: DataSettings) -> complex:
    """Mean amplitude and phase in the mixture of a target of amplitude 1.

    E[A exp(i phi)] / K: the mean amplitude, times sinc(phase_scale) at the mean jitter's angle
    pi phase_scale, over K.

    Parameters
    ----------
    data : DataSettings
        Amplitudes and jitter; tones on a background do not jitter.

    Returns
    -------
    complex
        Its modulus is the amplitude, its angle the phase (rad).
    """
    if data.background is not None:
        return 1 / data.n_components
    rotation = np.exp(1j * np.pi * data.phase_scale) * np.sinc(data.phase_scale)
    return complex(np.mean(data.amplitude_range) / data.n_components * rotation)


def tone_gain(data: DataSettings) -> float:
    """Mean amplitude in the mixture of a target of amplitude 1: the modulus of `tone_response`.

    Parameters
    ----------
    data : DataSettings
        Amplitudes and jitter.

    Returns
    -------
    float
        In units of the mixture.
    """
    return abs(tone_response(data))


def jitter_power(data: DataSettings) -> float:
    """Mean power of what amplitude and phase jitter add to the mixture: white, of mean zero.

    Of E[A^2] / (2 K) in all, K |response|^2 / 2 is the tones' mean waveform (`tone_response`).

    Parameters
    ----------
    data : DataSettings
        Amplitudes and jitter.

    Returns
    -------
    float
        In squared units of the mixture.
    """
    return mixture_power(data) - data.n_components * tone_gain(data) ** 2 / 2
