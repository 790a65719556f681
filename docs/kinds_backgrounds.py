"""Disturbances like those of real recordings, drawn by seed, for docs/kinds.py.

Each is the sum of known parts, so that the tone added to it is known exactly. All parameters are
chosen, not tuned. Axes: T samples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy
from scipy.signal import butter, lfilter, sosfiltfilt

Rng = np.random.Generator

# Angle (degrees) about the R peak, height over R's, and width (radians) of the waves of a beat:
# the sum of Gaussians of McSharry et al. (2003), doi 10.1109/TBME.2003.808805.
WAVES = {
    "P": (-70.0, 0.12, 0.25),
    "Q": (-15.0, -0.15, 0.1),
    "R": (0.0, 1.0, 0.1),
    "S": (15.0, -0.25, 0.1),
    "T": (100.0, 0.3, 0.4),
}
# First three formants of five vowels (Hz), of men's voices.
VOWELS = (
    (730, 1090, 2440),
    (270, 2290, 3010),
    (300, 870, 2240),
    (530, 1840, 2480),
    (570, 840, 2410),
)
FORMANT_WIDTH_HZ = (80.0, 100.0, 150.0)


def shaped(
    n: int, rate_hz: float, density: Callable[[np.ndarray], np.ndarray], rng: Rng
) -> np.ndarray:
    """Gaussian noise whose power density, over that of white noise of variance 1, is given."""
    longer = scipy.fft.next_fast_len(n + n // 4 + 16)
    hz = np.fft.rfftfreq(longer, 1 / rate_hz)
    spectrum = np.fft.rfft(rng.standard_normal(longer)) * np.sqrt(density(hz))
    return np.fft.irfft(spectrum, longer)[:n]


def power_law(
    n: int, rate_hz: float, exponent: float, at_hz: float, rng: Rng, corner_hz: float = 0.0
) -> np.ndarray:
    """Noise of 1/f^exponent above a corner, at ``at_hz`` as strong as white noise of variance 1."""
    corner = corner_hz or 20 * rate_hz / n

    def density(hz: np.ndarray) -> np.ndarray:
        return (max(at_hz, corner) / np.maximum(hz, corner)) ** exponent

    return shaped(n, rate_hz, density, rng)


def low_passed(x: np.ndarray, rate_hz: float, cutoff_hz: float, order: int = 8) -> np.ndarray:
    """Without what lies above the cutoff; zero phase."""
    return sosfiltfilt(butter(order // 2, cutoff_hz, fs=rate_hz, output="sos"), x)


def ecg(
    n: int, rate_hz: float, rng: Rng, rate_bpm: float = 70.0, width: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Electrocardiogram of R peaks of height 1, and where these lie; ``width`` scales the QRS."""
    beat = 60 / rate_bpm
    n_beats = int(n / rate_hz / beat * 1.5) + 4
    breath = 0.04 * np.sin(2 * np.pi * 0.25 * beat * np.arange(n_beats) + rng.uniform(0, 2 * np.pi))
    intervals = beat * (1 + breath + 0.02 * rng.standard_normal(n_beats))
    at = np.cumsum(intervals) - rng.uniform(0.3, 0.9) * beat
    t = np.arange(n) / rate_hz
    x = np.zeros(n)
    for begins, interval in zip(at, intervals, strict=True):
        near = slice(*np.searchsorted(t, (begins - 0.6 * interval, begins + 0.7 * interval)))
        angle = 2 * np.pi * (t[near] - begins) / interval
        height = 1 + 0.05 * rng.standard_normal()
        for name, (degrees, part, spread) in WAVES.items():
            wide = spread * width if name in "QRS" else spread
            x[near] += height * part * np.exp(-((angle - np.deg2rad(degrees)) ** 2) / 2 / wide**2)
    peaks = np.round(at * rate_hz).astype(int)
    margin = int(0.1 * rate_hz)
    wander = 0.1 * np.sin(2 * np.pi * rng.uniform(0.15, 0.35) * t + rng.uniform(0, 2 * np.pi))
    return x + wander, peaks[(peaks > margin) & (peaks < n - margin)]


def ppg(n: int, rate_hz: float, rng: Rng) -> np.ndarray:
    """Pulse wave of a finger: a beat's rise and its second wave, of height about 1."""
    t = np.arange(n) / rate_hz
    cycles = np.cumsum(1.2 * (1 + 0.05 * np.sin(2 * np.pi * 0.22 * t))) / rate_hz + rng.random()
    phase = cycles % 1
    wave = np.exp(-(((phase - 0.25) / 0.09) ** 2)) + 0.4 * np.exp(-(((phase - 0.55) / 0.12) ** 2))
    return wave + 0.1 * np.sin(2 * np.pi * 0.22 * t) + 0.005 * rng.standard_normal(n)


def eeg(n: int, rate_hz: float, at_hz: float, rng: Rng, *, alpha: float = 1.0) -> np.ndarray:
    """Electroencephalogram: falling noise, of unit density at a frequency, alpha, blinks."""
    x = power_law(n, rate_hz, 1.2, at_hz, rng, corner_hz=1.0)
    level = np.std(x)
    if alpha:
        x += alpha * 0.5 * level * narrow_band(n, rate_hz, 10.0, 1.0, rng)
    t = np.arange(n) / rate_hz
    for at in rng.uniform(0, n / rate_hz, rng.poisson(n / rate_hz / 8)):
        x += 6 * level * np.exp(-(((t - at) / 0.1) ** 2) / 2)
    return x


def lfp(n: int, rate_hz: float, at_hz: float, rng: Rng) -> np.ndarray:
    """Local field potential: steeply falling noise, of unit density at a frequency, and spikes."""
    x = power_law(n, rate_hz, 1.8, at_hz, rng, corner_hz=2.0)
    length = max(3, int(0.003 * rate_hz))
    spike = np.diff(scipy.signal.windows.gaussian(length + 1, length / 6))
    train = np.zeros(n)
    at = rng.integers(0, n, rng.poisson(6 * n / rate_hz))
    train[at] = rng.uniform(0.5, 1.5, len(at))
    return x + 6 * lfilter(spike / np.abs(spike).max(), 1, train)


def hydrophone(n: int, rate_hz: float, at_hz: float, rng: Rng) -> np.ndarray:
    """Sea noise of unit density at a frequency, calls that sweep down, and clicks."""
    x = power_law(n, rate_hz, 1.5, at_hz, rng, corner_hz=5.0)
    t = np.arange(n) / rate_hz
    for at in rng.uniform(0, n / rate_hz, rng.poisson(n / rate_hz / 6) + 1):
        s = t - at
        envelope = np.exp(-((s / 0.4) ** 2)) * np.std(x)
        x += 2 * envelope * np.cos(2 * np.pi * (2.5 * at_hz * s - 0.4 * at_hz * s**2))
    clicks = np.zeros(n)
    at_clicks = rng.integers(0, n, rng.poisson(2 * n / rate_hz))
    clicks[at_clicks] = 10 * rng.standard_normal(len(at_clicks))
    return x + lfilter([1, -0.6], [1, -0.5], clicks)


def narrow_band(n: int, rate_hz: float, hz: float, width_hz: float, rng: Rng) -> np.ndarray:
    """Gaussian noise of variance 1 about a frequency, so wide between the points of half power."""

    def density(f: np.ndarray) -> np.ndarray:
        return np.exp(-np.log(2) * ((f - hz) / (width_hz / 2)) ** 2)

    x = shaped(n, rate_hz, density, rng)
    return x / np.std(x)


def speech(n: int, rate_hz: float, rng: Rng) -> np.ndarray:
    """Voice of RMS 1: glottal pulses through formants that move, fricatives, pauses."""
    voiced, noise = np.zeros(n), np.zeros(n)
    pitch = rng.uniform(90, 220)
    track = np.zeros((n, 3))
    at, cycles = 0, 0.0
    vowel = np.array(VOWELS[rng.integers(len(VOWELS))], float)
    while at < n:
        length = min(n - at, int(rng.uniform(0.12, 0.35) * rate_hz))
        s = np.arange(length) / length
        following = np.array(VOWELS[rng.integers(len(VOWELS))], float)
        track[at : at + length] = vowel + (following - vowel) * s[:, None]
        vowel = following
        envelope = np.sin(np.pi * s) ** 0.5 * rng.uniform(0.5, 1.5)
        what = rng.random()
        if what < 0.65:
            bent = pitch * (1 + rng.uniform(-0.15, 0.15) + rng.uniform(-0.1, 0.1) * s)
            run = cycles + np.cumsum(bent) / rate_hz
            cycles = run[-1]
            voiced[at : at + length] = envelope * np.diff(np.floor(run), prepend=np.floor(run[0]))
        elif what < 0.8:
            noise[at : at + length] = envelope * rng.standard_normal(length)
        at += length
    source = lfilter([1], [1, -0.97], voiced)  # 6 dB an octave, as the glottis
    return _unit(_through_formants(source, track, rate_hz) + 0.15 * noise)


def _through_formants(source: np.ndarray, track: np.ndarray, rate_hz: float) -> np.ndarray:
    """Resonators in parallel, constant for 10 ms each."""
    total, block = np.zeros(len(source)), int(0.01 * rate_hz)
    for k, width in enumerate(FORMANT_WIDTH_HZ):
        radius, state = np.exp(-np.pi * width / rate_hz), np.zeros(2)
        for start in range(0, len(source), block):
            hz = min(track[start, k], 0.45 * rate_hz)
            poles = [1, -2 * radius * np.cos(2 * np.pi * hz / rate_hz), radius**2]
            piece = slice(start, start + block)
            made, state = lfilter([1 - radius], poles, source[piece], zi=state)
            total[piece] += made / (k + 1)
    return total


def music(n: int, rate_hz: float, rng: Rng, bass_hz: float | None = None) -> np.ndarray:
    """Plucked chords, a bass and drums, of RMS 1; the bass repeats ``bass_hz`` where given."""
    x, t = np.zeros(n), np.arange(n) / rate_hz
    root = 110 * 2 ** (rng.integers(0, 12) / 12)
    beat = rng.uniform(0.35, 0.6)
    for index, at in enumerate(np.arange(0, n / rate_hz, beat)):
        s = t[t >= at] - at
        notes = [root * 2 ** (step / 12) for step in rng.choice([0, 3, 5, 7, 10, 12, 15], 2)]
        notes.append(bass_hz or root / 2 * 2 ** (rng.choice([-5, 0, 2]) / 12))
        for note in notes:
            for k in range(1, 8):
                if k * note < 0.45 * rate_hz:
                    part = np.exp(-s * (1.5 + 0.5 * k)) * np.minimum(1, s / 0.005) / k
                    x[n - len(s) :] += part * np.sin(2 * np.pi * k * note * s + rng.uniform(0, 6))
        if index % 2:
            x[n - len(s) :] += 0.5 * np.exp(-s / 0.03) * rng.standard_normal(len(s))
    return _unit(x + 0.003 * rng.standard_normal(n))


def bursts(n: int, rate_hz: float, rng: Rng, lowest_hz: float, highest_hz: float) -> np.ndarray:
    """Chirps that rise in frequency and end, of height 1, one in some 4 s."""
    t, x = np.arange(n) / rate_hz, np.zeros(n)
    for at in np.arange(1.5, n / rate_hz - 1, 4.0) + rng.uniform(-0.4, 0.4):
        s = t - at
        length = rng.uniform(0.15, 0.5)
        cycles = lowest_hz * s + (highest_hz - lowest_hz) * np.clip(s + length, 0, None) ** 2 / (
            4 * length
        )
        envelope = np.exp(-((s / length) ** 2) * np.where(s > 0, 16, 2))
        x += envelope * np.cos(2 * np.pi * cycles + rng.uniform(0, 6))
    return x


def sine_gaussians(
    n: int, rate_hz: float, rng: Rng, hz: float, width_hz: tuple[float, float]
) -> np.ndarray:
    """Bursts of height 1 about a frequency, so wide between the points of half power, every 2 s."""
    t, x = np.arange(n) / rate_hz, np.zeros(n)
    for at in np.arange(1.5, n / rate_hz - 1, 2.0) + rng.uniform(-0.4, 0.4):
        s, width = t - at, rng.uniform(*width_hz)
        centre = hz + rng.uniform(-0.5, 0.5) * width
        envelope = np.exp(-((np.pi * width * s) ** 2) / (2 * np.log(2)))
        x += envelope * np.cos(2 * np.pi * centre * s + rng.uniform(0, 6))
    return x


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.std(x)
