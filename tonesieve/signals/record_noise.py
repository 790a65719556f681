"""Noise and gaps of the synthetic records, as strong as the settings say.

See docs/exercise.md, The problem. Axes: B records, T samples.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float

from tonesieve.config.config import DataSettings
from tonesieve.signals.distributions import Rng
from tonesieve.signals.signal_model import impulse_probability, mixture_power

# Derived: gaps are drawn from this many mean lengths before a record; e^-10 of those that began
# earlier would last into it.
GAP_LEAD = 10


def additive_noise(
    data: DataSettings, n_records: int, n_samples: int, *, rng: Rng
) -> Float[np.ndarray, "B T"]:
    """Draw white noise, coloured noise and impulses, each where it is switched on.

    Parameters
    ----------
    data : DataSettings
        Signal-to-noise ratios, impulses.
    n_records : int
        Number of records, B.
    n_samples : int
        Samples of each, T.
    rng : Generator
        Source of the noise.

    Returns
    -------
    ndarray, shape (B, T)
        Their sum.
    """
    shape = (n_records, n_samples)
    rms = math.sqrt(mixture_power(data))
    noise = np.zeros(shape)
    if data.snr_db is not None:
        noise += rms * 10 ** (-data.snr_db / 20) * rng.standard_normal(shape)
    if data.pink_snr_db is not None:
        pink = pink_noise(
            n_records, n_samples, exponent=data.pink_exponent, longest=data.n_samples, rng=rng
        )
        noise += rms * 10 ** (-data.pink_snr_db / 20) * pink
    if data.impulse_rate_hz:
        is_hit = rng.random(shape) < impulse_probability(data)
        noise += is_hit * rng.normal(0.0, rms * data.impulse_size, shape)
    return noise


def pink_noise(
    n_records: int, n_samples: int, *, exponent: float = 1.0, longest: int = 0, rng: Rng
) -> Float[np.ndarray, "B T"]:
    """Draw Gaussian noise of unit variance whose power density falls as 1/f^exponent.

    White noise is shaped in the frequency domain over twice ``longest`` samples (at least twice
    ``n_samples``), and cut into pieces. So its spectrum is that of the longest record however
    short the piece, and no end is correlated with a start by the circle. There is no power at zero
    frequency. Short pieces are cut from common long stretches, at random places.

    Parameters
    ----------
    n_records : int
        Number of records, B.
    n_samples : int
        Samples of each, T.
    exponent : float
        Fall of the power density.
    longest : int
        Length of the longest record, samples.
    rng : Generator
        Source of the noise.

    Returns
    -------
    ndarray, shape (B, T)
        The noise.
    """
    n = 2 * max(longest, n_samples)
    gain = np.zeros(n // 2 + 1)
    gain[1:] = np.arange(1, n // 2 + 1) ** (-exponent / 2)
    power = (2 * np.sum(gain[1:-1] ** 2) + gain[-1] ** 2) / n
    n_stretches = math.ceil(2 * n_records * n_samples / n)
    white = np.fft.rfft(rng.standard_normal((n_stretches, n)), axis=1)
    shaped = np.fft.irfft(white * gain, n, axis=1) / math.sqrt(power)
    # A stretch is a circle: a piece may begin anywhere on it.
    index = rng.integers(0, n, (n_records, 1)) + np.arange(n_samples)
    return shaped[np.arange(n_records)[:, None] % n_stretches, index % n]


def draw_gaps(
    data: DataSettings, n_records: int, n_samples: int, *, rng: Rng
) -> Bool[np.ndarray, "B T"]:
    """Draw which samples are missing: gaps of geometric length ``gap_s`` that may overlap.

    A sample is covered by a Poisson number of gaps, so their rate is -log(1 - fraction) / length.

    Parameters
    ----------
    data : DataSettings
        Fraction and mean length of gaps.
    n_records : int
        Number of records, B.
    n_samples : int
        Samples of each, T.
    rng : Generator
        Source of the gaps.

    Returns
    -------
    ndarray of bool, shape (B, T)
        True where a sample is missing.
    """
    mean_length = max(1.0, data.gap_s * data.rate_hz)
    rate = -math.log1p(-data.gap_fraction) / mean_length
    # Gaps that began before the record last into it.
    lead = math.ceil(GAP_LEAD * mean_length)
    n_starts = rng.poisson(rate, (n_records, lead + n_samples))
    edges = np.zeros((n_records, lead + n_samples + 1), dtype=np.int64)
    edges[:, :-1] += n_starts
    record, start = np.nonzero(n_starts)
    count = n_starts[record, start]
    record, start = np.repeat(record, count), np.repeat(start, count)
    stop = np.minimum(start + rng.geometric(1 / mean_length, start.size), lead + n_samples)
    np.subtract.at(edges, (record, stop), 1)
    return np.cumsum(edges, axis=1)[:, lead:-1] > 0
