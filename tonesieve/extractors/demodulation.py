"""What a tone tells of itself: amplitude, phase and frequency at every sample.

Sine and cosine are fitted to the tone over one period by least squares, whatever extractor it came
from. Axes: B streams, T samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float

from tonesieve.signals.synthesis import turns_per_sample

# A fit takes so many samples at least, and one period.
LEAST = 8
# Periods over which a frequency is read off the turn of the phase.
PERIODS = 20


@dataclass(frozen=True)
class ToneDemodulator:
    """Reads a tone near ``hz``. Windows end at the sample that is read, or lie around it."""

    hz: float
    rate_hz: float

    @property
    def window(self) -> int:
        """Samples of a fit."""
        return max(LEAST, round(self.rate_hz / self.hz))

    @property
    def reach(self) -> int:
        """Samples before (and, where windows lie around, after) that a reading rests on."""
        return self.window * (PERIODS + 2)

    def read(
        self, tone: Float[np.ndarray, "B T"], first: int, *, centred: bool
    ) -> tuple[Float[np.ndarray, "B T"], Float[np.ndarray, "B T"], Float[np.ndarray, "B T"]]:
        """Amplitude, phase (rad) and frequency (Hz); ``first`` is the first sample's number.

        The phase is that of the tone against sin(2 pi hz t), t from sample 0, in (-pi, pi].
        """
        level = self._phasors(tone, first, centred)
        offset = self._offset(level, centred)
        return np.abs(level), np.angle(level * 1j), self.hz + offset

    def _offset(self, level: Complex[np.ndarray, "B T"], centred: bool) -> Float[np.ndarray, "B T"]:
        """How far the frequency is from ``hz``, by the turn of the phase from period to period.

        Only whole windows tell it; before the first one it counts as 0, unless windows lie around.
        """
        n, window = level.shape[1], self.window
        ahead = window // 2 if centred else 0
        first, last = window - 1 - ahead, n - ahead
        if last - first <= window:
            return np.zeros(level.shape)
        turned = level[:, first + window : last] * level[:, first : last - window].conj()
        total = _moving_sum(turned, window * PERIODS, centred)
        slope = np.angle(total) / (2 * np.pi * window / self.rate_hz)
        before = first + (window // 2 if centred else window)  # the middle of the two, or the later
        after = n - before - slope.shape[1]
        if centred:
            return np.pad(slope, ((0, 0), (before, after)), mode="edge")
        return np.pad(slope, ((0, 0), (before, after)))

    def _phasors(
        self, tone: Float[np.ndarray, "B T"], first: int, centred: bool
    ) -> Complex[np.ndarray, "B T"]:
        """Re(z exp(2 pi i hz n / rate)) fits the tone over the window; shorter at the ends."""
        turn = turns_per_sample([self.hz], self.rate_hz)[0]
        begin = float(first * turn % 1)
        clean = np.exp(-2j * np.pi * ((begin + np.arange(tone.shape[1]) * float(turn)) % 1))
        heard = _moving_sum(tone * clean, self.window, centred)
        twice = _moving_sum((clean**2)[None], self.window, centred)
        count = _moving_sum(np.ones((1, tone.shape[1]), dtype=complex), self.window, centred).real
        spread = count**2 - np.abs(twice) ** 2
        fitted = 2 * (count * heard - twice * heard.conj())
        # Too few samples at a start tell sine and cosine not apart.
        known = spread > 0.1 * count**2
        safe = np.where(known, spread, 1.0)
        return np.where(known, fitted / safe, 2 * heard / (count + np.abs(twice)))


def _moving_sum(
    values: Complex[np.ndarray, "B T"], window: int, centred: bool
) -> Complex[np.ndarray, "B T"]:
    """Over the window that ends at each sample, or lies around it; shorter at the ends."""
    n = values.shape[1]
    total = np.concatenate([np.zeros((len(values), 1), complex), np.cumsum(values, axis=1)], axis=1)
    at = np.arange(n)
    ahead = window // 2 if centred else 0
    stop = np.minimum(at + ahead + 1, n)
    start = np.maximum(at + ahead + 1 - window, 0)
    return total[:, stop] - total[:, start]
