"""Harmonic least squares over a sliding or a growing window.

Axes: B streams, T samples, M samples in the window, K tones, D = 2 K coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tonesieve.extractors.filters.base import RegressionFilter, check
from tonesieve.kernels import least_squares as compiled

# Chosen, not tuned: the default window in periods of the closest beat.
WINDOW_BEATS = 8

# Normal matrix (B, D, D) and right-hand side (B, D), the samples in the window (B, M), the samples
# so far.
LeastSquaresState = tuple[
    Float[np.ndarray, "B D D"], Float[np.ndarray, "B D"], Float[np.ndarray, "B M"], int
]


@dataclass(frozen=True)
class HarmonicLeastSquares(RegressionFilter):
    """Sines and cosines fitted to the last ``window_s`` seconds by ridge regression.

    The normal equations are updated recursively: a rank-1 update for the sample that enters the
    window and a downdate for the one that leaves it. Gaps are left out of the fit. The delay is
    half the window. An offset is not among the unknowns: subtract it first.

    Parameters
    ----------
    frequencies_hz : tuple of float
        Nominal frequencies of the tones.
    rate_hz : float
        Sampling rate.
    gain : complex
        Amplitude and phase in the mixture of a tone of amplitude 1 (default 1).
    window_s : float, optional
        Length of the window, s. Default: 8 periods of the closest beat, and at least 200 samples.
        Infinite: all samples so far, the best for steady tones.
    ridge : float
        Regularisation towards 0, in units of samples (default 0.1). Without it the first samples,
        too few to separate the tones, would give huge coefficients.

    References
    ----------
    Kay, Fundamentals of Statistical Signal Processing: Estimation Theory, 1993, chapter 8.
    """

    window_s: float | None = None
    ridge: float = 0.1

    def __post_init__(self) -> None:
        check(self.window_s is None or self.window_s > 0, "window_s", self.window_s, "above 0")
        check(self.ridge >= 0, "ridge", self.ridge, "must be 0 or more")

    @property
    def window_samples(self) -> int | None:
        """Length of the window, samples; None: it grows."""
        window_s = self.window_s or self.default_time_s(WINDOW_BEATS)
        return max(1, round(window_s * self.rate_hz)) if np.isfinite(window_s) else None

    @property
    def delay(self) -> int | None:
        """Half the window; None where it grows, and the delay with it."""
        return None if self.window_samples is None else self.window_samples // 2

    def initial_state(self, n_streams: int) -> LeastSquaresState:
        """Return empty normal equations and a window of gaps."""
        d, window = 2 * self.n_tones, self.window_samples or 0
        history = np.full((n_streams, window), np.nan)
        return np.zeros((n_streams, d, d)), np.zeros((n_streams, d)), history, 0

    def step(
        self, samples: Float[np.ndarray, "B T"], state: LeastSquaresState
    ) -> tuple[Float[np.ndarray, "B T K"], LeastSquaresState]:
        """Process a block of any length."""
        information, evidence, history, age = state[0].copy(), state[1].copy(), state[2], state[3]
        n_streams, n_samples = samples.shape
        window = history.shape[1]
        inputs = np.concatenate([history, samples], axis=1)
        leaving = inputs[:, :n_samples] if window else np.full_like(samples, np.nan)
        coefficients = np.empty((n_streams, n_samples, evidence.shape[1]))
        compiled.least_squares(
            np.ascontiguousarray(samples),
            self.design_matrix(age, n_samples),
            np.ascontiguousarray(leaving),
            self.design_matrix(age - window, n_samples),
            information,
            evidence,
            self.ridge * abs(self.gain) ** 2,
            coefficients,
        )
        history = inputs[:, n_samples:] if window else history
        tones = self._tones(coefficients, age)
        return tones, (information, evidence, history, age + n_samples)
