"""Instantaneous amplitude, phase and frequency of an extracted tone.

Sine and cosine are fitted to the tone over one period by least squares, whatever extractor it came
from; the frequency is the slope of the fitted phase. Axes: B streams, T samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float

from tonesieve.signals.signal_model import cycles_per_sample

# Guard against fits of fewer samples than period: a fit has one period, and at least this many.
MIN_WINDOW = 8
# Chosen, not tuned: periods over which the phase difference is averaged for a frequency.
FREQUENCY_PERIODS = 20
# Guard: below this determinant (over the squared count) sine and cosine are not separable.
MIN_DETERMINANT = 0.1


@dataclass(frozen=True)
class ToneDemodulator:
    """Estimates amplitude, phase and frequency of a tone near ``hz``.

    A window ends at the sample that is estimated, or is centred on it.

    Parameters
    ----------
    hz : float
        Nominal frequency of the tone.
    rate_hz : float
        Sampling rate.

    Examples
    --------
    >>> t = np.arange(2000) / 200.0
    >>> tone = 3 * np.sin(2 * np.pi * 5.0 * t)
    >>> amplitude, _, hz = ToneDemodulator(5.0, 200.0).demodulate(tone[None], 0, centred=True)
    >>> round(float(amplitude[0, 1000]), 6), round(float(hz[0, 1000]), 6)
    (3.0, 5.0)
    """

    hz: float
    rate_hz: float

    @property
    def window(self) -> int:
        """Samples of a fit."""
        return max(MIN_WINDOW, round(self.rate_hz / self.hz))

    @property
    def support(self) -> int:
        """Samples before (and, with centred windows, after) that an estimate rests on."""
        return self.window * (FREQUENCY_PERIODS + 2)

    def demodulate(
        self, tone: Float[np.ndarray, "B T"], first: int, *, centred: bool
    ) -> tuple[Float[np.ndarray, "B T"], Float[np.ndarray, "B T"], Float[np.ndarray, "B T"]]:
        """Estimate amplitude, phase and frequency at every sample.

        Parameters
        ----------
        tone : ndarray, shape (B, T)
            The extracted tone; finite.
        first : int
            Index of its first sample in the recording, from which phases are counted.
        centred : bool
            Whether windows are centred on each sample; else they end at it.

        Returns
        -------
        amplitude : ndarray, shape (B, T)
            In the unit of the tone.
        phase : ndarray, shape (B, T)
            Against sin(2 pi hz t), t from sample 0 of the recording, in (-pi, pi] rad.
        frequency : ndarray, shape (B, T)
            Hz.
        """
        phasors = self._phasors(tone, first, centred)
        offset_hz = self._offset_hz(phasors, centred)
        return np.abs(phasors), np.angle(phasors * 1j), self.hz + offset_hz

    def _offset_hz(
        self, phasors: Complex[np.ndarray, "B T"], centred: bool
    ) -> Float[np.ndarray, "B T"]:
        """Frequency less ``hz``, from the phase difference between windows a period apart.

        Only full windows count; before the first one it is 0, unless windows are centred.
        """
        n, window = phasors.shape[1], self.window
        ahead = window // 2 if centred else 0
        first, last = window - 1 - ahead, n - ahead
        if last - first <= window:
            return np.zeros(phasors.shape)
        rotation = phasors[:, first + window : last] * phasors[:, first : last - window].conj()
        total = _moving_sum(rotation, window * FREQUENCY_PERIODS, centred)
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
        freq_cycles = cycles_per_sample([self.hz], self.rate_hz)[0]
        begin = float(first * freq_cycles % 1)
        index = np.arange(tone.shape[1])
        carrier = np.exp(-2j * np.pi * ((begin + index * float(freq_cycles)) % 1))
        correlation = _moving_sum(tone * carrier, self.window, centred)
        image = _moving_sum((carrier**2)[None], self.window, centred)
        count = _moving_sum(np.ones((1, tone.shape[1]), dtype=complex), self.window, centred).real
        determinant = count**2 - np.abs(image) ** 2
        fitted = 2 * (count * correlation - image * correlation.conj())
        # Too few samples at a start do not separate sine from cosine.
        separable = determinant > MIN_DETERMINANT * count**2
        safe = np.where(separable, determinant, 1.0)
        return np.where(separable, fitted / safe, 2 * correlation / (count + np.abs(image)))


def _moving_sum(
    values: Complex[np.ndarray, "B T"], window: int, centred: bool
) -> Complex[np.ndarray, "B T"]:
    """Over the window that ends at each sample, or is centred on it; shorter at the ends."""
    n = values.shape[1]
    total = np.concatenate([np.zeros((len(values), 1), complex), np.cumsum(values, axis=1)], axis=1)
    index = np.arange(n)
    ahead = window // 2 if centred else 0
    stop = np.minimum(index + ahead + 1, n)
    start = np.maximum(index + ahead + 1 - window, 0)
    return total[:, stop] - total[:, start]
