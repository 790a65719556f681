"""Wanted tones out of a recording, so that the rest is a background to train on.

Harmonic least squares in overlapping windows: in each, sines and cosines of all wanted tones, an
offset and a slope. That takes out the noise within about a window's inverse of each tone, too, and
a network that learned from such a hole would think that noise is never there. So the hole is filled
with noise of the same recording: what the same least squares find beside the tone, where only noise
is, moved to the tone's place. Axes: T samples, K tones, W windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Bool, Complex, Float

from tonesieve.errors import UserError

# A window has at least so many periods of the slowest tone, and of the closest beat.
LEAST_PERIODS, LEAST_BEATS = 16, 1.5
LEAST_WINDOWS = 2  # that fit the recording
# Windows of this ratio are tried, the longest first.
STEP = 2**0.5
# The tone is gone where neither its hole, up to an inverse window away, nor its surroundings, 0.7
# to 2.5 away, are louder than so many times what lies beyond, six to sixteen away.
WITHIN, NEAR, BEYOND, LOUDER = (0.0, 1.0), (0.7, 2.5), (6.0, 16.0), 1.5
MOST_PIECES = 4
# A tone is looked for this far from where it was said to be; it is there at so many times the
# median power around.
SEARCH, THERE = 0.01, 30.0
# The noise that fills a hole is taken so many inverse windows away.
ASIDE = (3.0, 4.0, 5.0, 6.0, 8.0)
MOST_WHITENING = 16


@dataclass(frozen=True)
class Removal:
    """What is left, what was taken, and how."""

    background: Float[np.ndarray, " T"]  # NaN in gaps
    frequencies_hz: tuple[float, ...]
    found: tuple[bool, ...]  # whether each tone stands out at all
    window: int  # samples
    filled: tuple[int, ...]  # sides that the noise in each hole was taken from: 0 to 2
    levels: Complex[np.ndarray, "W K"]  # amplitudes and phases by window
    hop: int  # samples between two windows

    def amplitudes(self) -> Float[np.ndarray, " K"]:
        """Root mean square amplitude of every tone over the windows."""
        return np.sqrt(np.mean(np.abs(self.levels) ** 2, axis=0))

    def wander_hz(self, rate_hz: float) -> Float[np.ndarray, " K"]:
        """Standard deviation of every tone's frequency from window to window; noise adds to it."""
        if len(self.levels) < 3:
            return np.zeros(self.levels.shape[1])
        turned = np.angle(self.levels[1:] * self.levels[:-1].conj())
        return np.asarray(np.std(turned, axis=0) / (2 * np.pi) * rate_hz / self.hop)

    def fading(self) -> Float[np.ndarray, " K"]:
        """Standard deviation of the logarithm of every tone's amplitude."""
        return np.asarray(np.std(np.log(np.abs(self.levels) + 1e-300), axis=0))


def remove_tones(samples: Float[np.ndarray, " T"], rate_hz: float, hz: Sequence[float]) -> Removal:
    """Take the tones near ``hz`` out of a recording (NaN in gaps), and fill the holes.

    The window is the longest after which nothing of the tones is left around them. Raises
    `UserError` for a recording that is too short.
    """
    good = np.isfinite(samples)
    mean = float(samples[good].mean())
    whole = np.where(good, samples, np.interp(np.arange(len(samples)), np.flatnonzero(good),
                                              samples[good])) - mean  # fmt: skip
    tones = [find_tone(whole, rate_hz, f, [g for g in hz if g != f]) for f in hz]
    frequencies = tuple(f for f, _ in tones)
    shortest = shortest_window(frequencies, rate_hz)
    if len(whole) < LEAST_WINDOWS * shortest:
        raise UserError(
            f"too short: {len(whole)} samples, and to tell these tones from the noise takes at "
            f"least {LEAST_WINDOWS * shortest} ({LEAST_WINDOWS * shortest / rate_hz:g} s)"
        )
    window = shortest
    for candidate in _candidates(shortest, len(whole) // LEAST_WINDOWS):
        fit = fit_tones(whole, good, rate_hz, frequencies, candidate)
        rest = whole - fit.tones.sum(axis=1)
        if all(_gone(rest, rate_hz, frequencies, k, candidate) for k in range(len(frequencies))):
            window = candidate
            break
    fit = fit_tones(whole, good, rate_hz, frequencies, window)
    rest = whole - fit.tones.sum(axis=1)
    filling, filled = _filling(rest, good, rate_hz, frequencies, window)
    background = np.where(good, rest + filling, np.nan)
    found = tuple(there for _, there in tones)
    return Removal(background, frequencies, found, window, filled, fit.levels, fit.hop)


def shortest_window(frequencies_hz: Sequence[float], rate_hz: float) -> int:
    """Samples in which the tones can be told from an offset, a slope and each other."""
    f = np.sort(frequencies_hz)
    beat = float(np.diff(f).min()) if len(f) > 1 else np.inf
    return int(np.ceil(rate_hz * max(LEAST_PERIODS / f[0] if len(f) == 1 else 2 / f[0],
                                     LEAST_BEATS / beat)))  # fmt: skip


def _candidates(shortest: int, longest: int) -> list[int]:
    n = int(np.log(longest / shortest) / np.log(STEP))
    return [round(shortest * STEP**i) for i in range(n, -1, -1)]


def find_tone(
    whole: Float[np.ndarray, " T"], rate_hz: float, hz: float, others: Sequence[float]
) -> tuple[float, bool]:
    """Where a tone near ``hz`` really is, and whether it stands out at all; else ``hz``."""
    n = len(whole)
    reach = max(SEARCH * hz, 2 * rate_hz / n)
    reach = min([reach, hz / 2, *(0.3 * abs(hz - g) for g in others)])
    frequencies, power = scipy.signal.periodogram(
        whole, rate_hz, window="hann", nfft=4 * n, detrend="linear"
    )
    near = np.abs(frequencies - hz) <= reach
    around = (np.abs(frequencies - hz) <= max(10 * reach, 40 * rate_hz / n)) & ~near
    if not near.any() or not around.any():
        return hz, False
    at = int(np.flatnonzero(near)[np.argmax(power[near])])
    there = bool(power[at] > THERE * np.median(power[around]))
    inside = at not in (np.flatnonzero(near)[0], np.flatnonzero(near)[-1])
    if not (there and inside):
        return hz, there
    digits = int(np.ceil(-np.log10(rate_hz / n / 20 / hz)))  # as many as the recording tells
    return float(f"{frequencies[at]:.{max(digits, 3)}g}"), True


@dataclass(frozen=True)
class Fit:
    """Every tone as least squares have it, and its complex amplitude in every window."""

    tones: Float[np.ndarray, "T K"]
    levels: Complex[np.ndarray, "W K"]
    hop: int


def fit_tones(
    whole: Float[np.ndarray, " T"],
    good: Bool[np.ndarray, " T"],
    rate_hz: float,
    frequencies_hz: Sequence[float],
    window: int,
) -> Fit:
    """Sines and cosines fitted in windows that overlap by three quarters, joined by weights."""
    n, n_tones = len(whole), len(frequencies_hz)
    starts = np.unique(np.round(np.linspace(0, n - window, -(-4 * (n - window) // window) + 1)))
    weight = np.hanning(window + 2)[1:-1] + 1e-3
    place = np.arange(window)
    turns = np.outer(place, frequencies_hz) / rate_hz
    phasors = np.exp(2j * np.pi * turns)
    trend = np.stack([np.ones(window), (place - window / 2) / window], axis=1)
    rows = np.concatenate([phasors.real, -phasors.imag, trend], axis=1)
    tones, total = np.zeros((n, n_tones)), np.zeros(n)
    levels = []
    for start in starts.astype(int):
        part = slice(start, start + window)
        root = np.sqrt(weight * good[part])
        found = np.linalg.lstsq(rows * root[:, None], whole[part] * root, rcond=1e-9)[0]
        level = found[:n_tones] + 1j * found[n_tones : 2 * n_tones]
        tones[part] += weight[:, None] * (phasors * level).real
        total[part] += weight
        # As they are at the window's middle, over what a steady tone of that frequency would be.
        levels.append(level * np.exp(-2j * np.pi * start * np.array(frequencies_hz) / rate_hz))
    hop = int(starts[1] - starts[0]) if len(starts) > 1 else window
    return Fit(tones / total[:, None], np.array(levels), hop)


def _gone(
    rest: Float[np.ndarray, " T"],
    rate_hz: float,
    frequencies_hz: Sequence[float],
    k: int,
    window: int,
) -> bool:
    """Whether no tone is left around the hole that a window of this length makes, at any time.

    Every quarter for itself, where it holds two windows: a tone that wandered in one alone would
    be noise of a kind there that looks just like the tone.
    """
    n_pieces = int(np.clip(len(rest) // (2 * window), 1, MOST_PIECES))
    pieces = np.array_split(rest, n_pieces)
    return all(_piece_gone(piece, rate_hz, frequencies_hz, k, window) for piece in pieces)


def _piece_gone(
    rest: Float[np.ndarray, " T"],
    rate_hz: float,
    frequencies_hz: Sequence[float],
    k: int,
    window: int,
) -> bool:
    frequencies, power = scipy.signal.periodogram(rest, rate_hz, window="hann")
    away = np.abs(frequencies - frequencies_hz[k]) * window / rate_hz
    for other, f in enumerate(frequencies_hz):
        if other != k:
            away[np.abs(frequencies - f) * window / rate_hz < NEAR[0]] = np.inf
    away[frequencies * window / rate_hz < NEAR[0]] = np.inf
    rings = [(away >= low) & (away < high) for low, high in (WITHIN, NEAR)]
    beyond = (away >= BEYOND[0]) & (away < BEYOND[1])
    if not beyond.any():
        return True
    most = LOUDER * power[beyond].mean()
    return all(power[ring].mean() <= most for ring in rings if ring.any())


def _filling(
    rest: Float[np.ndarray, " T"],
    good: Bool[np.ndarray, " T"],
    rate_hz: float,
    frequencies_hz: Sequence[float],
    window: int,
) -> tuple[Float[np.ndarray, " T"], tuple[int, ...]]:
    """Noise for the holes, and from how many sides of each it came."""
    n = len(rest)
    whole = scipy.signal.hilbert(rest)
    filling, filled = np.zeros(n), []
    for k, f in enumerate(frequencies_hz):
        others = [g for g in frequencies_hz if g != f]
        sides = [side for sign in (-1, 1) if (side := _aside(f, others, sign, rate_hz, window))]
        filled.append(len(sides))
        for side in sides:
            turn = np.exp(-2j * np.pi * np.arange(n) * (side - f) / rate_hz)
            fit = fit_tones((whole * turn).real, good, rate_hz, frequencies_hz, window)
            filling += fit.tones[:, k] / np.sqrt(len(sides))
    return filling, tuple(filled)


def _aside(
    f: float, others: Sequence[float], sign: int, rate_hz: float, window: int
) -> float | None:
    """A frequency on one side of a tone with noise alone around it; None where there is none."""
    width = rate_hz / window
    for steps in ASIDE:
        side = f + sign * steps * width
        inside = 2 * width < side < rate_hz / 2 - 2 * width
        if inside and all(abs(side - g) >= 1.5 * width for g in others):
            return side
    return None


def whitening_of(samples: Float[np.ndarray, " T"]) -> tuple[float, ...]:
    """Coefficients upon past samples that make noise white when added to the present one.

    Burg's method, of the order that the Bayesian information criterion asks for; gaps are bridged.
    """
    good = np.isfinite(samples)
    whole = np.interp(np.arange(len(samples)), np.flatnonzero(good), samples[good])
    forward = backward = whole - whole.mean()
    n, power = len(whole), float(np.mean((whole - whole.mean()) ** 2))
    coefficients = np.array([1.0])
    best, found = n * np.log(power), coefficients
    for order in range(1, min(MOST_WHITENING, n // 20) + 1):
        ahead, behind = forward[1:], backward[:-1]
        energy = float(ahead @ ahead + behind @ behind)
        if energy <= 0:
            break
        reflection = -2 * float(ahead @ behind) / energy
        padded = np.append(coefficients, 0.0)
        coefficients = padded + reflection * padded[::-1]
        forward, backward = ahead + reflection * behind, behind + reflection * ahead
        power *= 1 - reflection**2
        criterion = n * np.log(max(power, 1e-300)) + order * np.log(n)
        if criterion < best:
            best, found = criterion, coefficients
    return tuple(float(f"{c:.9g}") for c in found[1:])
