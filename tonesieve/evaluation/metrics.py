"""Figures of merit: pure functions of an estimate and its target.

Conventions, the same everywhere: arrays are (B, T) or (T,), one component; means run over all
samples; an error is estimate minus target. MSE has the unit of the target squared (the exercise's
targets have amplitude 1, so predicting 0 scores 0.5). SPEC, section 4.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

Samples = Float[np.ndarray, "*B T"]

# Variance of the random predictor U(-1, 1).
RANDOM_POWER = 1 / 3
# Another tone this far below the wanted one counts as gone.
CLEAN_DB = -20.0


def mse(estimate: Samples, target: Samples) -> float:
    """Mean squared error.

    Example:
        >>> mse(np.array([0.0, 1.0]), np.array([1.0, 1.0]))
        0.5
    """
    return float(np.mean((estimate - target) ** 2))


def r2(estimate: Samples, target: Samples) -> float | None:
    """Share of the target's variance explained, 1 - MSE / variance; None for a constant one."""
    variance = float(np.var(target))
    return 1 - mse(estimate, target) / variance if variance > 0 else None


def correlation(estimate: Samples, target: Samples) -> float | None:
    """Pearson correlation over all samples; None where either is constant."""
    if np.ptp(estimate) == 0 or np.ptp(target) == 0:
        return None
    return float(np.corrcoef(estimate.ravel(), target.ravel())[0, 1])


def standard_error(values: Float[np.ndarray, " B"]) -> float:
    """Standard error of the mean of independent values (one a record, never one a sample)."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def relative_gap(train_mse: float, test_mse: float) -> float | None:
    """(test - train) / train; None where training left no error."""
    return (test_mse - train_mse) / train_mse if train_mse > 0 else None


def generalisation_verdict(ratio: float | None) -> str:
    """In words: test over train up to 1.2, 1.5, 2.0, or above."""
    if ratio is None:
        return "no training error to compare with"
    names = {1.2: "excellent", 1.5: "good", 2.0: "some overfitting"}
    return next((name for bound, name in names.items() if ratio <= bound), "overfitting")


def mse_band(value: float) -> str:
    """In words: MSE up to 0.05, 0.1 (the pass mark), 0.2, or above."""
    names = {0.05: "excellent", 0.1: "good", 0.2: "acceptable"}
    return next((name for bound, name in names.items() if value <= bound), "poor")


def improvement_over_mean(estimate: Samples, target: Samples) -> float | None:
    """1 - MSE over that of predicting the target's mean: the same as `r2`, pooled."""
    return r2(estimate, target)


def improvement_over_random(estimate: Samples, target: Samples) -> float:
    """1 - MSE over the expected MSE of answers drawn from U(-1, 1)."""
    expected = float(np.mean(target**2)) + RANDOM_POWER
    return 1 - mse(estimate, target) / expected


def amplitude_at(samples: Float[np.ndarray, " T"], hz: float, rate_hz: float) -> float:
    """Amplitude of the oscillation at ``hz`` under a Hann window, in the unit of the samples."""
    window = _hann(len(samples))
    turn = np.exp(-2j * np.pi * hz * np.arange(len(samples)) / rate_hz)
    centred = samples - np.mean(samples)
    return float(2 * abs(np.sum(window * centred * turn)) / np.sum(window))


def peak_hz(samples: Float[np.ndarray, " T"], rate_hz: float) -> float:
    """Frequency of the strongest bin of the Hann-windowed spectrum, zero frequency left out."""
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
    """Whether the estimate holds the wanted frequency and not the others.

    ``holds_wanted``: the strongest bin is within one bin of it. ``loudest_other_db``: the
    strongest of the other tones, relative to the wanted. ``clean``: both as they should be.
    """
    levels = [amplitude_at(estimate, f, rate_hz) for f in frequencies_hz]
    found = peak_hz(estimate, rate_hz)
    holds = abs(found - frequencies_hz[wanted]) <= rate_hz / len(estimate)
    others = [k for k in range(len(levels)) if k != wanted]
    result: dict[str, float | bool | None] = {"peak_hz": found, "holds_wanted": holds}
    result |= {"loudest_other_hz": None, "loudest_other_db": None, "clean": holds}
    if others and levels[wanted] > 0:
        loudest = max(others, key=lambda k: levels[k])
        db = float(20 * np.log10(max(levels[loudest], 1e-30) / levels[wanted]))
        result |= {"loudest_other_hz": frequencies_hz[loudest], "loudest_other_db": db}
        result["clean"] = holds and db <= CLEAN_DB
    return result


def band_power(
    samples: Float[np.ndarray, " T"], rate_hz: float, low_hz: float, high_hz: float
) -> float:
    """Power between two frequencies, unit of the samples squared (Hann periodogram).

    Over the whole band it is the variance, so far as the window weighs all samples alike.
    """
    n, window = len(samples), _hann(len(samples))
    power = np.abs(np.fft.rfft(window * (samples - np.mean(samples)))) ** 2
    power[1 : (n + 1) // 2] *= 2  # all but zero and half the rate stand for two frequencies
    frequencies = np.fft.rfftfreq(n, 1 / rate_hz)
    inside = (frequencies >= low_hz) & (frequencies <= high_hz)
    return float(np.sum(power[inside]) / (n * np.sum(window**2)))


def band_rms(
    samples: Float[np.ndarray, " T"], rate_hz: float, band_hz: tuple[float, float]
) -> float:
    """Root mean square of what lies in a band; gaps are bridged."""
    good = np.isfinite(samples)
    whole = np.interp(np.arange(len(samples)), np.flatnonzero(good), samples[good])
    return float(np.sqrt(band_power(whole, rate_hz, *band_hz)))


def _hann(n: int) -> Float[np.ndarray, " T"]:
    """The window, periodic. SciPy has it too, but takes most of a second to load."""
    if n == 1:
        return np.ones(1)
    return 0.5 + 0.5 * np.cos(np.linspace(-np.pi, np.pi, n + 1)[:-1])
