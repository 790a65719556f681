"""Error metrics and spectral measures: pure functions of an estimate and its target.

Conventions, the same everywhere: arrays have shape (B, T) or (T,), one component; means run over
all samples; an error is estimate minus target. An MSE has the unit of the target squared. The
exercise's targets have amplitude 1, so predicting 0 scores 0.5 (docs/exercise.md, "Commands and
metrics").
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

Samples = Float[np.ndarray, "*B T"]

# Derived: the variance of U(-1, 1).
RANDOM_POWER = 1 / 3
# Chosen, not tuned: a tone this far below the wanted one counts as removed.
CLEAN_DB = -20.0
# Guard against the logarithm of 0.
SMALLEST_AMPLITUDE = 1e-30


def mse(estimate: Samples, target: Samples) -> float:
    """Compute the mean squared error.

    Parameters
    ----------
    estimate, target : ndarray, shape (B, T) or (T,)
        Estimate and true signal.

    Returns
    -------
    float
        Mean of (estimate - target)^2, in the unit of the target squared.

    Examples
    --------
    >>> mse(np.array([0.0, 1.0]), np.array([1.0, 1.0]))
    0.5
    """
    return float(np.mean((estimate - target) ** 2))


def r2(estimate: Samples, target: Samples) -> float | None:
    """Compute the coefficient of determination, 1 - MSE / variance of the target.

    Parameters
    ----------
    estimate, target : ndarray, shape (B, T) or (T,)
        Estimate and true signal.

    Returns
    -------
    float or None
        At most 1; 0 for predicting the target's mean. None for a constant target.
    """
    variance = float(np.var(target))
    return 1 - mse(estimate, target) / variance if variance > 0 else None


def correlation(estimate: Samples, target: Samples) -> float | None:
    """Compute Pearson's correlation over all samples.

    Parameters
    ----------
    estimate, target : ndarray, shape (B, T) or (T,)
        Estimate and true signal.

    Returns
    -------
    float or None
        From -1 to 1. None where either is constant.
    """
    if np.ptp(estimate) == 0 or np.ptp(target) == 0:
        return None
    return float(np.corrcoef(estimate.ravel(), target.ravel())[0, 1])


def standard_error(values: Float[np.ndarray, " B"]) -> float:
    """Compute the standard error of the mean of independent values.

    Parameters
    ----------
    values : ndarray, shape (B,)
        One value a record. Samples of one record are not independent.

    Returns
    -------
    float
        Standard deviation over the square root of B.
    """
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def relative_gap(train_mse: float, test_mse: float) -> float | None:
    """Compute the generalisation gap, (test - train) / train.

    Parameters
    ----------
    train_mse, test_mse : float
        Errors on the training and the test record.

    Returns
    -------
    float or None
        The gap. None where the training error is 0.
    """
    return (test_mse - train_mse) / train_mse if train_mse > 0 else None


def generalisation_verdict(ratio: float | None) -> str:
    """Describe the ratio of test error to training error in words.

    Parameters
    ----------
    ratio : float or None
        Test MSE over training MSE.

    Returns
    -------
    str
        "excellent" up to 1.2, "good" up to 1.5, "some overfitting" up to 2, else "overfitting".
    """
    if ratio is None:
        return "no training error to compare with"
    names = {1.2: "excellent", 1.5: "good", 2.0: "some overfitting"}
    return next((name for bound, name in names.items() if ratio <= bound), "overfitting")


def mse_band(value: float) -> str:
    """Describe an MSE in words, for targets of amplitude 1.

    Parameters
    ----------
    value : float
        Mean squared error.

    Returns
    -------
    str
        "excellent" up to 0.05, "good" up to 0.1 (the pass mark), "acceptable" up to 0.2, else
        "poor".
    """
    names = {0.05: "excellent", 0.1: "good", 0.2: "acceptable"}
    return next((name for bound, name in names.items() if value <= bound), "poor")


def improvement_over_mean(estimate: Samples, target: Samples) -> float | None:
    """Compute 1 - MSE over the MSE of predicting the target's mean: `r2`, pooled.

    Parameters
    ----------
    estimate, target : ndarray, shape (B, T) or (T,)
        Estimate and true signal.

    Returns
    -------
    float or None
        At most 1. None for a constant target.
    """
    return r2(estimate, target)


def improvement_over_random(estimate: Samples, target: Samples) -> float:
    """Compute 1 - MSE over the expected MSE of estimates drawn from U(-1, 1).

    Parameters
    ----------
    estimate, target : ndarray, shape (B, T) or (T,)
        Estimate and true signal.

    Returns
    -------
    float
        At most 1; 0 for an estimate as poor as random values.
    """
    expected = float(np.mean(target**2)) + RANDOM_POWER
    return 1 - mse(estimate, target) / expected


def amplitude_at(samples: Float[np.ndarray, " T"], hz: float, rate_hz: float) -> float:
    """Measure the amplitude of the oscillation at one frequency, under a Hann window.

    Parameters
    ----------
    samples : ndarray, shape (T,)
        Signal.
    hz : float
        Frequency, Hz.
    rate_hz : float
        Sampling rate, Hz.

    Returns
    -------
    float
        Amplitude, in the unit of the samples.
    """
    window = _hann(len(samples))
    carrier = np.exp(-2j * np.pi * hz * np.arange(len(samples)) / rate_hz)
    centred = samples - np.mean(samples)
    return float(2 * abs(np.sum(window * centred * carrier)) / np.sum(window))


def peak_hz(samples: Float[np.ndarray, " T"], rate_hz: float) -> float:
    """Find the strongest bin of the Hann-windowed spectrum, zero frequency excluded.

    Parameters
    ----------
    samples : ndarray, shape (T,)
        Signal.
    rate_hz : float
        Sampling rate, Hz.

    Returns
    -------
    float
        Frequency of the bin, Hz.
    """
    centred = samples - np.mean(samples)
    spectrum = np.abs(np.fft.rfft(_hann(len(samples)) * centred))
    if len(spectrum) < 2:
        return 0.0
    return float((1 + np.argmax(spectrum[1:])) * rate_hz / len(samples))


def spectrum_check(
    estimate: Float[np.ndarray, " T"],
    wanted: int,
    frequencies_hz: tuple[float, ...],
    rate_hz: float,
) -> dict[str, float | bool | None]:
    """Check that an estimate contains the wanted frequency and not the others.

    Parameters
    ----------
    estimate : ndarray, shape (T,)
        Estimate of one tone.
    wanted : int
        Index of that tone in ``frequencies_hz``.
    frequencies_hz : tuple of float
        Frequencies of all tones in the mixture, Hz.
    rate_hz : float
        Sampling rate, Hz.

    Returns
    -------
    dict
        ``peak_hz``: the strongest bin. ``holds_wanted``: whether it is within one bin of the wanted
        frequency. ``loudest_other_hz``, ``loudest_other_db``: the strongest of the other tones, its
        level relative to the wanted one. ``clean``: whether ``holds_wanted`` is true and the level
        is at most -20 dB.
    """
    amplitudes = [amplitude_at(estimate, f, rate_hz) for f in frequencies_hz]
    peak = peak_hz(estimate, rate_hz)
    holds = abs(peak - frequencies_hz[wanted]) <= rate_hz / len(estimate)
    others = [k for k in range(len(amplitudes)) if k != wanted]
    result: dict[str, float | bool | None] = {"peak_hz": peak, "holds_wanted": holds}
    result |= {"loudest_other_hz": None, "loudest_other_db": None, "clean": holds}
    if others and amplitudes[wanted] > 0:
        loudest = max(others, key=lambda k: amplitudes[k])
        ratio = max(amplitudes[loudest], SMALLEST_AMPLITUDE) / amplitudes[wanted]
        db = float(20 * np.log10(ratio))
        result |= {"loudest_other_hz": frequencies_hz[loudest], "loudest_other_db": db}
        result["clean"] = holds and db <= CLEAN_DB
    return result


def band_power(
    samples: Float[np.ndarray, " T"], rate_hz: float, low_hz: float, high_hz: float
) -> float:
    """Measure the power between two frequencies, from a Hann periodogram.

    Over the whole band it is the variance, as far as the window weighs all samples alike.

    Parameters
    ----------
    samples : ndarray, shape (T,)
        Signal without missing samples.
    rate_hz : float
        Sampling rate, Hz.
    low_hz, high_hz : float
        Ends of the band, both included, Hz.

    Returns
    -------
    float
        Power, in the unit of the samples squared.
    """
    return float(band_powers(samples, rate_hz, [(low_hz, high_hz)])[0])


def band_powers(
    samples: Float[np.ndarray, " T"], rate_hz: float, bands_hz: Sequence[tuple[float, float]]
) -> Float[np.ndarray, " B"]:
    """Measure the power in several bands, as `band_power` does.

    Parameters
    ----------
    samples : ndarray, shape (T,)
        Signal without missing samples.
    rate_hz : float
        Sampling rate, Hz.
    bands_hz : sequence of tuple of float
        Lower and upper end of each of B bands, both included, Hz.

    Returns
    -------
    ndarray, shape (B,)
        Powers, in the unit of the samples squared.
    """
    n, window = len(samples), _hann(len(samples))
    power = np.abs(np.fft.rfft(window * (samples - np.mean(samples)))) ** 2
    power[1 : (n + 1) // 2] *= 2  # every bin but zero and half the rate stands for two frequencies
    frequencies = np.fft.rfftfreq(n, 1 / rate_hz)
    sums = np.array(
        [
            np.sum(
                power[
                    np.searchsorted(frequencies, low) : np.searchsorted(frequencies, high, "right")
                ]
            )
            for low, high in bands_hz
        ]
    )
    return np.asarray(sums / (n * np.sum(window**2)))


def band_rms(
    samples: Float[np.ndarray, " T"], rate_hz: float, band_hz: tuple[float, float]
) -> float:
    """Measure the root mean square within a band; gaps are interpolated linearly.

    Parameters
    ----------
    samples : ndarray, shape (T,)
        Signal; missing samples are NaN.
    rate_hz : float
        Sampling rate, Hz.
    band_hz : tuple of float
        Lower and upper end of the band, Hz.

    Returns
    -------
    float
        RMS, in the unit of the samples.
    """
    valid = np.isfinite(samples)
    filled = np.interp(np.arange(len(samples)), np.flatnonzero(valid), samples[valid])
    return float(np.sqrt(band_power(filled, rate_hz, *band_hz)))


def _hann(n: int) -> Float[np.ndarray, " T"]:
    """Periodic Hann window. SciPy has it too, but takes most of a second to load."""
    if n == 1:
        return np.ones(1)
    return 0.5 + 0.5 * np.cos(np.linspace(-np.pi, np.pi, n + 1)[:-1])
