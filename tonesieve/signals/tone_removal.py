"""Removal of the wanted tones from a recording, so that the rest is a background to train on.

Harmonic least squares in overlapping windows: in each, sines and cosines of all wanted tones, an
offset and a slope. That removes the noise within about a window's inverse of each tone, too, and a
network trained on such a notch would learn that noise is never there. So the notch is filled with
noise of the same recording: what the same least squares find beside the tone, where only noise is,
shifted to the tone. Axes: T samples, K tones, W windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Bool, Complex, Float

from tonesieve.errors import UserError

# Chosen, not tuned: a window has at least this many periods of a lone tone, or of the closest beat.
MIN_PERIODS, MIN_BEATS = 16, 1.5
# Guard: windows that have to fit the recording.
MIN_WINDOWS = 2
# Chosen: ratio of the window lengths that are tried, the longest first.
WINDOW_RATIO = 2**0.5
# Chosen, not tuned: the tone is removed where the power density neither in its notch, up to an
# inverse window away, nor beside it, 0.7 to 2.5 away, exceeds this ratio to the density beyond,
# six to sixteen away.
NOTCH, BESIDE, BEYOND, MAX_EXCESS = (0.0, 1.0), (0.7, 2.5), (6.0, 16.0), 1.5
# Chosen: pieces of a recording in which that is checked.
MAX_PIECES = 4
# Chosen, not tuned: a tone is searched this far from its nominal frequency, over it; it is
# detected at this ratio to the median power around.
SEARCH_RATIO, DETECTION_RATIO = 0.01, 30.0
# Chosen, not tuned: distances from the tone, in inverse windows, of the noise that fills a notch,
# the first that is free of tones.
FILL_OFFSETS = (3.0, 4.0, 5.0, 6.0, 8.0)
# Guard: singular values below this, over the largest, count as 0 in the fits.
FIT_RCOND = 1e-9


@dataclass(frozen=True)
class Removal:
    """A recording without its tones, and the tones.

    Parameters
    ----------
    background : ndarray, shape (T,)
        The recording without the tones, notches filled; NaN in gaps.
    frequencies_hz : tuple of float
        Where the tones are.
    detected : tuple of bool
        Whether each tone stands out of the noise.
    window : int
        Length of the windows, samples.
    filled : tuple of int
        Sides that the noise in each notch was taken from, 0 to 2.
    phasors : ndarray, shape (W, K)
        Complex amplitudes by window.
    hop : int
        Samples between two windows.
    """

    background: Float[np.ndarray, " T"]
    frequencies_hz: tuple[float, ...]
    detected: tuple[bool, ...]
    window: int
    filled: tuple[int, ...]
    phasors: Complex[np.ndarray, "W K"]
    hop: int

    def amplitudes(self) -> Float[np.ndarray, " K"]:
        """Root mean square amplitude of every tone over the windows."""
        return np.sqrt(np.mean(np.abs(self.phasors) ** 2, axis=0))

    def wander_hz(self, rate_hz: float) -> Float[np.ndarray, " K"]:
        """Standard deviation of every tone's frequency from window to window; noise adds to it."""
        if len(self.phasors) < 3:
            return np.zeros(self.phasors.shape[1])
        rotation = np.angle(self.phasors[1:] * self.phasors[:-1].conj())
        return np.asarray(np.std(rotation, axis=0) / (2 * np.pi) * rate_hz / self.hop)

    def fading(self) -> Float[np.ndarray, " K"]:
        """Standard deviation of the logarithm of every tone's amplitude."""
        return np.asarray(np.std(np.log(np.abs(self.phasors) + 1e-300), axis=0))


def remove_tones(samples: Float[np.ndarray, " T"], rate_hz: float, hz: Sequence[float]) -> Removal:
    """Remove tones from a recording, and fill the notches.

    The window is the longest after which nothing of the tones is left around them.

    Parameters
    ----------
    samples : ndarray, shape (T,)
        The recording; NaN in gaps.
    rate_hz : float
        Sampling rate.
    hz : sequence of float
        Nominal frequencies of the tones.

    Returns
    -------
    Removal
        The background, and the tones.

    Raises
    ------
    UserError
        For a recording that is too short.
    """
    good = np.isfinite(samples)
    mean = float(samples[good].mean())
    filled_samples = np.where(good, samples, np.interp(np.arange(len(samples)),
                                                       np.flatnonzero(good),
                                                       samples[good])) - mean  # fmt: skip
    tones = [find_tone(filled_samples, rate_hz, f, [g for g in hz if g != f]) for f in hz]
    frequencies = tuple(f for f, _ in tones)
    shortest = shortest_window(frequencies, rate_hz)
    n_needed = MIN_WINDOWS * shortest
    if len(filled_samples) < n_needed:
        raise UserError(
            f"too short: {len(filled_samples)} samples, and to separate these tones from the noise "
            f"takes at least {n_needed} ({n_needed / rate_hz:g} s)"
        )
    window = shortest
    for candidate in _candidates(shortest, len(filled_samples) // MIN_WINDOWS):
        fit = fit_tones(filled_samples, good, rate_hz, frequencies, candidate)
        residual = filled_samples - fit.tones.sum(axis=1)
        if all(
            _is_removed(residual, rate_hz, frequencies, k, candidate)
            for k in range(len(frequencies))
        ):
            window = candidate
            break
    fit = fit_tones(filled_samples, good, rate_hz, frequencies, window)
    residual = filled_samples - fit.tones.sum(axis=1)
    filling, n_sides = _filling(residual, good, rate_hz, frequencies, window)
    background = np.where(good, residual + filling, np.nan)
    detected = tuple(is_detected for _, is_detected in tones)
    return Removal(background, frequencies, detected, window, n_sides, fit.phasors, fit.hop)


def shortest_window(frequencies_hz: Sequence[float], rate_hz: float) -> int:
    """Find how many samples separate the tones from an offset, a slope and each other.

    Parameters
    ----------
    frequencies_hz : sequence of float
        The tones.
    rate_hz : float
        Sampling rate.

    Returns
    -------
    int
        Length of a window.
    """
    f = np.sort(frequencies_hz)
    beat = float(np.diff(f).min()) if len(f) > 1 else np.inf
    return int(np.ceil(rate_hz * max(MIN_PERIODS / f[0] if len(f) == 1 else 2 / f[0],
                                     MIN_BEATS / beat)))  # fmt: skip


def _candidates(shortest: int, longest: int) -> list[int]:
    n = int(np.log(longest / shortest) / np.log(WINDOW_RATIO))
    return [round(shortest * WINDOW_RATIO**i) for i in range(n, -1, -1)]


def find_tone(
    samples: Float[np.ndarray, " T"], rate_hz: float, hz: float, others: Sequence[float]
) -> tuple[float, bool]:
    """Search a tone near its nominal frequency, by the periodogram's maximum.

    Parameters
    ----------
    samples : ndarray, shape (T,)
        The recording, without gaps.
    rate_hz : float
        Sampling rate.
    hz : float
        Nominal frequency.
    others : sequence of float
        Nominal frequencies of the other tones.

    Returns
    -------
    frequency : float
        Hz, to as many digits as the recording resolves; ``hz`` where there is no maximum.
    detected : bool
        Whether the tone stands out of the noise.
    """
    n = len(samples)
    search_hz = max(SEARCH_RATIO * hz, 2 * rate_hz / n)
    search_hz = min([search_hz, hz / 2, *(0.3 * abs(hz - g) for g in others)])
    frequencies, power = scipy.signal.periodogram(
        samples, rate_hz, window="hann", nfft=4 * n, detrend="linear"
    )
    distance = np.abs(frequencies - hz)
    near = distance <= search_hz
    around = (distance <= max(10 * search_hz, 40 * rate_hz / n)) & ~near
    if not near.any() or not around.any():
        return hz, False
    peak = int(np.flatnonzero(near)[np.argmax(power[near])])
    is_detected = bool(power[peak] > DETECTION_RATIO * np.median(power[around]))
    is_maximum = peak not in (np.flatnonzero(near)[0], np.flatnonzero(near)[-1])
    if not (is_detected and is_maximum):
        return hz, is_detected
    digits = int(np.ceil(-np.log10(rate_hz / n / 20 / hz)))  # as many as the recording resolves
    return float(f"{frequencies[peak]:.{max(digits, 3)}g}"), True


@dataclass(frozen=True)
class Fit:
    """Tones fitted by least squares.

    Parameters
    ----------
    tones : ndarray, shape (T, K)
        The tones.
    phasors : ndarray, shape (W, K)
        Complex amplitudes by window.
    hop : int
        Samples between two windows.
    """

    tones: Float[np.ndarray, "T K"]
    phasors: Complex[np.ndarray, "W K"]
    hop: int


def fit_tones(
    samples: Float[np.ndarray, " T"],
    good: Bool[np.ndarray, " T"],
    rate_hz: float,
    frequencies_hz: Sequence[float],
    window: int,
) -> Fit:
    """Fit sines and cosines in windows that overlap by three quarters, joined by overlap-add.

    Parameters
    ----------
    samples : ndarray, shape (T,)
        The recording, finite.
    good : ndarray of bool, shape (T,)
        False in gaps, which have no weight.
    rate_hz : float
        Sampling rate.
    frequencies_hz : sequence of float
        The tones.
    window : int
        Length of a window, samples.

    Returns
    -------
    Fit
        Tones and phasors.
    """
    n, n_tones = len(samples), len(frequencies_hz)
    starts = np.unique(np.round(np.linspace(0, n - window, -(-4 * (n - window) // window) + 1)))
    weight = np.hanning(window + 2)[1:-1] + 1e-3
    index = np.arange(window)
    cycles = np.outer(index, frequencies_hz) / rate_hz
    carrier = np.exp(2j * np.pi * cycles)
    trend = np.stack([np.ones(window), (index - window / 2) / window], axis=1)
    design = np.concatenate([carrier.real, -carrier.imag, trend], axis=1)
    tones, total = np.zeros((n, n_tones)), np.zeros(n)
    phasors = []
    for start in starts.astype(int):
        part = slice(start, start + window)
        root = np.sqrt(weight * good[part])
        fit = np.linalg.lstsq(design * root[:, None], samples[part] * root, rcond=FIT_RCOND)[0]
        phasor = fit[:n_tones] + 1j * fit[n_tones : 2 * n_tones]
        tones[part] += weight[:, None] * (carrier * phasor).real
        total[part] += weight
        # Relative to a steady tone of that frequency.
        phasors.append(phasor * np.exp(-2j * np.pi * start * np.array(frequencies_hz) / rate_hz))
    hop = int(starts[1] - starts[0]) if len(starts) > 1 else window
    return Fit(tones / total[:, None], np.array(phasors), hop)


def _is_removed(
    residual: Float[np.ndarray, " T"],
    rate_hz: float,
    frequencies_hz: Sequence[float],
    k: int,
    window: int,
) -> bool:
    """Whether no tone is left around the notch that a window of this length makes, at any time.

    Every quarter by itself, where it holds two windows: a tone that drifted in one alone would be
    noise there that looks just like the tone.
    """
    n_pieces = int(np.clip(len(residual) // (2 * window), 1, MAX_PIECES))
    pieces = np.array_split(residual, n_pieces)
    return all(_is_removed_in(piece, rate_hz, frequencies_hz, k, window) for piece in pieces)


def _is_removed_in(
    piece: Float[np.ndarray, " T"],
    rate_hz: float,
    frequencies_hz: Sequence[float],
    k: int,
    window: int,
) -> bool:
    frequencies, power = scipy.signal.periodogram(piece, rate_hz, window="hann")
    distance = np.abs(frequencies - frequencies_hz[k]) * window / rate_hz
    for other, f in enumerate(frequencies_hz):
        if other != k:
            distance[np.abs(frequencies - f) * window / rate_hz < BESIDE[0]] = np.inf
    distance[frequencies * window / rate_hz < BESIDE[0]] = np.inf
    rings = [(distance >= low) & (distance < high) for low, high in (NOTCH, BESIDE)]
    beyond = (distance >= BEYOND[0]) & (distance < BEYOND[1])
    if not beyond.any():
        return True
    most = MAX_EXCESS * power[beyond].mean()
    return all(power[ring].mean() <= most for ring in rings if ring.any())


def _filling(
    residual: Float[np.ndarray, " T"],
    good: Bool[np.ndarray, " T"],
    rate_hz: float,
    frequencies_hz: Sequence[float],
    window: int,
) -> tuple[Float[np.ndarray, " T"], tuple[int, ...]]:
    """Noise for the notches, and from how many sides of each it came."""
    n = len(residual)
    analytic = scipy.signal.hilbert(residual)
    filling, n_sides = np.zeros(n), []
    for k, f in enumerate(frequencies_hz):
        others = [g for g in frequencies_hz if g != f]
        sides = [side for sign in (-1, 1) if (side := _sideband(f, others, sign, rate_hz, window))]
        n_sides.append(len(sides))
        for side in sides:
            shift = np.exp(-2j * np.pi * np.arange(n) * (side - f) / rate_hz)
            fit = fit_tones((analytic * shift).real, good, rate_hz, frequencies_hz, window)
            filling += fit.tones[:, k] / np.sqrt(len(sides))
    return filling, tuple(n_sides)


def _sideband(
    f: float, others: Sequence[float], sign: int, rate_hz: float, window: int
) -> float | None:
    """A frequency on one side of a tone with noise alone around it; None where there is none."""
    width = rate_hz / window
    for offset in FILL_OFFSETS:
        side = f + sign * offset * width
        is_inside = 2 * width < side < rate_hz / 2 - 2 * width
        if is_inside and all(abs(side - g) >= 1.5 * width for g in others):
            return side
    return None
