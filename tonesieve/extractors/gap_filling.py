"""Gaps are filled with a forecast before a network that was trained without any.

Axes: B streams, T samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tonesieve.extractors.filters.kalman import KalmanState, OscillatorKalman


@dataclass(frozen=True)
class GapFiller:
    """Fills gaps with the prediction of oscillators that are fitted to the samples so far.

    Parameters
    ----------
    frequencies_hz : tuple of float
        Nominal frequencies of the tones.
    rate_hz : float
        Sampling rate of the signal.
    """

    frequencies_hz: tuple[float, ...]
    rate_hz: float

    @property
    def _oscillators(self) -> OscillatorKalman:
        return OscillatorKalman(self.frequencies_hz, self.rate_hz)

    def initial_state(self, n_streams: int) -> KalmanState:
        """Return the state before the first sample; its prediction is 0."""
        return self._oscillators.initial_state(n_streams)

    def step(
        self, samples: Float[np.ndarray, "B T"], state: KalmanState
    ) -> tuple[Float[np.ndarray, "B T"], KalmanState]:
        """Fill the gaps of a block of any length.

        Parameters
        ----------
        samples : ndarray, shape (B, T)
            Blocks in turn; NaN is a gap.
        state : KalmanState
            As the block before left it.

        Returns
        -------
        filled : ndarray, shape (B, T)
            The samples, without gaps.
        state : KalmanState
            For the next block.
        """
        tones, state = self._oscillators.step(samples, state)
        return np.where(np.isfinite(samples), samples, tones.sum(axis=2)), state
