"""Gaps before a network: it has learned of none, so it hears the forecast in their place.

Axes: B streams, T samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tonesieve.extractors.filters.kalman import KalmanState, OscillatorKalman


@dataclass(frozen=True)
class GapFiller:
    """Fills gaps with what oscillators at the tones' frequencies, fitted so far, go on to give."""

    frequencies_hz: tuple[float, ...]
    rate_hz: float

    @property
    def _oscillators(self) -> OscillatorKalman:
        return OscillatorKalman(self.frequencies_hz, self.rate_hz)

    def initial_state(self, n_streams: int) -> KalmanState:
        """Nothing heard: the forecast is 0."""
        return self._oscillators.initial_state(n_streams)

    def step(
        self, samples: Float[np.ndarray, "B T"], state: KalmanState
    ) -> tuple[Float[np.ndarray, "B T"], KalmanState]:
        """Samples without gaps, whatever the chunks."""
        tones, after = self._oscillators.step(samples, state)
        return np.where(np.isfinite(samples), samples, tones.sum(axis=2)), after
