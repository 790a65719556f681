"""Gaussian noise of a given spectrum. Axes: T samples, F bins; frequencies in cycles a sample."""

from __future__ import annotations

import math

import numpy as np
import scipy
from jaxtyping import Complex, Float

from tonesieve.signals.distributions import Rng


def smooth(n_samples: int, width: float, *, rng: Rng) -> Complex[np.ndarray, " T"]:
    """Draw a complex Gaussian process with a Gaussian spectrum.

    Real and imaginary part are independent, of variance 1 each.

    Parameters
    ----------
    n_samples : int
        Length.
    width : float
        Standard deviation of the spectrum, cycles a sample.
    rng : Generator
        Source of the process.

    Returns
    -------
    ndarray of complex, shape (T,)
        The process.
    """
    n = scipy.fft.next_fast_len(2 * n_samples)
    # Derived: beyond six standard deviations nothing is left of a Gaussian.
    last_bin = min(n // 2 - 1, math.ceil(6 * width * n))
    bins = np.arange(-last_bin, last_bin + 1)
    gain = np.exp(-((bins / (n * width)) ** 2) / 4)
    spectrum = np.zeros(n, dtype=complex)
    draws = rng.standard_normal((2, len(bins)))
    spectrum[bins] = gain * (draws[0] + 1j * draws[1])
    return np.fft.ifft(spectrum)[:n_samples] * (n / math.sqrt(np.sum(gain**2)))


def power_law_density(
    f: Float[np.ndarray, " F"], corner: float, freq_cycles: float, fall: float
) -> Float[np.ndarray, " F"]:
    """Return the density 1/f^fall above a corner, flat below it, and 1 at the tone.

    Parameters
    ----------
    f : ndarray, shape (F,)
        Frequencies.
    corner : float
        Frequency of the corner.
    freq_cycles : float
        Frequency of the tone.
    fall : float
        Exponent.

    Returns
    -------
    ndarray, shape (F,)
        The density.
    """
    return ((f * f + corner * corner) / (freq_cycles * freq_cycles + corner * corner)) ** (
        -fall / 2
    )


def mean_power(density: Float[np.ndarray, " F"], f: Float[np.ndarray, " F"]) -> float:
    """Return the mean square of noise of a density.

    Parameters
    ----------
    density : ndarray, shape (F,)
        The two-sided density.
    f : ndarray, shape (F,)
        A logarithmic grid of frequencies.

    Returns
    -------
    float
        The mean square.
    """
    return float(2 * np.trapezoid(density * f, np.log(f)))


def resonance_density(
    ratio: Float[np.ndarray, " F"], quality: float, order: int
) -> Float[np.ndarray, " F"]:
    """Return the density of a cascade of resonances.

    Parameters
    ----------
    ratio : ndarray, shape (F,)
        Frequencies over that of the resonance.
    quality : float
        Quality of each resonance.
    order : int
        Number of them.

    Returns
    -------
    ndarray, shape (F,)
        The density, 1 at frequency 0.
    """
    square = ratio * ratio
    return ((1 - square) ** 2 + square / quality**2) ** -order


def circle_bins(n_samples: int) -> tuple[int, Float[np.ndarray, " F"]]:
    """Return the length of the circle that a record is cut from, and its bins.

    Parameters
    ----------
    n_samples : int
        Length of the record.

    Returns
    -------
    length : int
        At least twice as long.
    f : ndarray, shape (F,)
        Frequencies of the bins.
    """
    length = scipy.fft.next_fast_len(2 * n_samples, real=True)
    return length, np.fft.rfftfreq(length)


def shaped_noise(
    gain: Float[np.ndarray, " F"], n: int, length: int, rng: Rng
) -> Float[np.ndarray, " T"]:
    """Draw noise with given gains, cut from a circle so that its end does not meet its start.

    It has no power at frequency 0: offsets are drawn separately.

    Parameters
    ----------
    gain : ndarray, shape (F,)
        Gain at every bin of the circle.
    n : int
        Length of the noise.
    length : int
        Length of the circle.
    rng : Generator
        Source of the noise.

    Returns
    -------
    ndarray, shape (T,)
        The noise.
    """
    draws = rng.standard_normal((len(gain), 2)).view(complex)[:, 0]
    spectrum = math.sqrt(length / 2) * gain * draws
    spectrum[0] = 0.0
    return np.fft.irfft(spectrum, length)[:n]
