"""The simple tools that docs/kinds.py measures beside the default extractor.

All parameters are the tools' usual ones: chosen, not tuned. An estimate is of shape (T, K).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.fft import next_fast_len
from scipy.optimize import minimize_scalar
from scipy.signal import (
    butter,
    fftconvolve,
    filtfilt,
    firwin,
    hilbert,
    iirnotch,
    lfilter,
    sosfiltfilt,
)

import tonesieve

# Of the LMS canceller (s), of the notch, of the order trackers' low-pass (Hz).
LMS_TIME_S, NOTCH_QUALITY, ORDER_WIDTH_HZ = 0.5, 30.0, 0.5
# Fraction of the frequency in which the sine fit searches the line, and the phase tracker's band.
SEARCH, PHASE_BAND = 0.02, 0.04
# Half-width (Hz) of what spectrum interpolation replaces, and of the neighbours it averages.
INTERPOLATED_HZ, NEIGHBOURS_HZ = 1.0, 1.0


def tracker(x: np.ndarray, rate_hz: float, hz: Sequence[float], *, causal: bool) -> np.ndarray:
    """The package's own frequency-tracking Kalman filter."""
    return tonesieve.pull(x, rate_hz, hz, with_="tracker", causal=causal).tones


def least_squares(x: np.ndarray, rate_hz: float, hz: Sequence[float]) -> np.ndarray:
    """Sines of these very frequencies, a level and a slope, fitted at once."""
    t = (np.arange(len(x)) - len(x) / 2) / rate_hz
    parts = [f(2 * np.pi * one * t) for one in hz for f in (np.cos, np.sin)]
    design = np.stack([*parts, np.ones(len(x)), t / max(abs(t[0]), 1e-9)], axis=1)
    known = np.isfinite(x)
    found = np.linalg.lstsq(design[known], x[known], rcond=None)[0]
    n = 2 * len(hz)
    return (design[:, :n] * found[:n]).reshape(len(x), -1, 2).sum(axis=2)


def sine_fit(x: np.ndarray, rate_hz: float, hz: Sequence[float]) -> np.ndarray:
    """Sines at the highest peaks of the periodogram near the nominal frequencies."""
    return least_squares(x, rate_hz, [_peak_hz(x, rate_hz, one) for one in hz])


def _peak_hz(x: np.ndarray, rate_hz: float, hz: float) -> float:
    """Frequency of the highest peak of the Hann-windowed periodogram near the nominal one."""
    t, windowed = np.arange(len(x)) / rate_hz, np.hanning(len(x)) * (x - x.mean())
    apart = max(SEARCH * hz, 1.5 / t[-1])
    n = next_fast_len(4 * len(x))
    at = np.fft.rfftfreq(n, 1 / rate_hz)
    near = (at > max(hz - apart, 0.5 * hz)) & (at < hz + apart)
    best = float(at[near][np.argmax(np.abs(np.fft.rfft(windowed, n)[near]))])
    found = minimize_scalar(
        lambda f: -abs(np.sum(windowed * np.exp(-2j * np.pi * f * t))),
        bounds=(best - rate_hz / n, best + rate_hz / n),
        method="bounded",
        options={"xatol": 1e-4 / t[-1]},
    )
    return float(found.x)


def notch(x: np.ndarray, rate_hz: float, hz: Sequence[float], *, causal: bool) -> np.ndarray:
    """What a second-order notch takes out."""
    tones = []
    for one in hz:
        b, a = iirnotch(one, NOTCH_QUALITY, fs=rate_hz)
        tones.append(x - (lfilter(b, a, x) if causal else filtfilt(b, a, x)))
    return np.stack(tones, axis=1)


def lms(x: np.ndarray, rate_hz: float, hz: Sequence[float]) -> np.ndarray:
    """Adaptive canceller with two weights and references in quadrature, as the filter it equals."""
    step, tones = 1 / (LMS_TIME_S * rate_hz), []
    for one in hz:
        cosine = np.cos(2 * np.pi * one / rate_hz)
        b, a = [1, -2 * cosine, 1], [1, -2 * (1 - step) * cosine, 1 - 2 * step]
        tones.append(x - lfilter(b, a, x))
    return np.stack(tones, axis=1)


def fir_notch(x: np.ndarray, rate_hz: float, hz: Sequence[float]) -> np.ndarray:
    """Zero-phase window-design notch of f/200 with 1 Hz transitions, 3.3 s long: MNE's default."""
    tones = []
    for one in hz:
        half = one / 400 + 0.5
        n_taps = min(int(3.3 * rate_hz) | 1, (len(x) - 1) | 1)
        taps = firwin(n_taps, [max(one - half, 0.1), one + half], fs=rate_hz, window="hamming")
        padded = np.pad(x, n_taps // 2, mode="reflect", reflect_type="odd")
        tones.append(x - fftconvolve(padded, taps, mode="valid")[: len(x)])
    return np.stack(tones, axis=1)


def spectrum_interpolation(x: np.ndarray, rate_hz: float, hz: Sequence[float]) -> np.ndarray:
    """Amplitudes about the tone replaced by their neighbours' mean, phases kept (Leske 2019)."""
    spectrum, tones = np.fft.rfft(x), []
    at = np.fft.rfftfreq(len(x), 1 / rate_hz)
    for one in hz:
        away = np.abs(at - one)
        inside = away <= INTERPOLATED_HZ
        around = ~inside & (away <= INTERPOLATED_HZ + NEIGHBOURS_HZ)
        level = np.abs(spectrum[around]).mean()
        made = np.where(inside, level * np.exp(1j * np.angle(spectrum)), spectrum)
        tones.append(np.fft.irfft(spectrum - made, len(x)))
    return np.stack(tones, axis=1)


def band_pass(x: np.ndarray, rate_hz: float, hz: Sequence[float], width: float = 0.2) -> np.ndarray:
    """Zero-phase Butterworth of a fifth of an octave and more to both sides: 8 to 12 at 10 Hz."""
    tones = []
    for one in hz:
        edges = [one * (1 - width), one * (1 + width)]
        tones.append(sosfiltfilt(butter(2, edges, "bandpass", fs=rate_hz, output="sos"), x))
    return np.stack(tones, axis=1)


def phase_tracker(x: np.ndarray, rate_hz: float, hz: Sequence[float]) -> np.ndarray:
    """Order tracker: the course is the smoothed phase of a band about the nominal frequency."""
    tones = []
    for one in hz:
        near = band_pass(x, rate_hz, [one], PHASE_BAND)[:, 0]
        turns = np.unwrap(np.angle(hilbert(near)))
        smooth = butter(2, ORDER_WIDTH_HZ, fs=rate_hz, output="sos")
        trend = np.linspace(turns[0], turns[-1], len(x))
        tones.append(_at_course(x, rate_hz, trend + sosfiltfilt(smooth, turns - trend)))
    return np.stack(tones, axis=1)


def known_course(x: np.ndarray, rate_hz: float, phase_rad: np.ndarray) -> np.ndarray:
    """Lock-in at the true phase, which no tool knows: a limit, not a rival."""
    return np.stack([_at_course(x, rate_hz, one) for one in phase_rad.T], axis=1)


def _at_course(x: np.ndarray, rate_hz: float, phase_rad: np.ndarray) -> np.ndarray:
    """Mean over a Hann window of twice the width's inverse; shorter at the ends."""
    window = np.hanning(2 * int(rate_hz / ORDER_WIDTH_HZ / 2) + 1)
    trend = np.polynomial.Polynomial.fit(np.arange(len(x)), x, 1)(np.arange(len(x)))
    mixed = fftconvolve((x - trend) * np.exp(-1j * phase_rad), window, mode="same")
    weight = fftconvolve(np.ones(len(x)), window, mode="same")
    return 2 * (mixed / weight * np.exp(1j * phase_rad)).real


Estimator = Callable[..., np.ndarray]
# By name: the estimator, and whether it is causal. Those without `causal` need the future.
RIVALS: dict[str, tuple[Estimator, bool]] = {
    "tracker": (lambda x, rate, hz: tracker(x, rate, hz, causal=False), False),
    "tracker, causal": (lambda x, rate, hz: tracker(x, rate, hz, causal=True), True),
    "least squares": (least_squares, False),
    "sine fit": (sine_fit, False),
    "notch": (lambda x, rate, hz: notch(x, rate, hz, causal=False), False),
    "notch, causal": (lambda x, rate, hz: notch(x, rate, hz, causal=True), True),
    "LMS, causal": (lms, True),
    "FIR notch": (fir_notch, False),
    "spectrum interpolation": (spectrum_interpolation, False),
    "band-pass": (band_pass, False),
    "phase tracker": (phase_tracker, False),
}
