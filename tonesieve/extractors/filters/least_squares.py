"""Harmonic least squares over a sliding or a growing window.

Axes: B streams, T samples, K tones, D = 2 K coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tonesieve.extractors.filters.base import RegressionFilter, check
from tonesieve.kernels import least_squares as compiled

# Information (B, D, D) and evidence (B, D), the samples in the window (B, M), the samples so far.
LeastSquaresState = tuple[
    Float[np.ndarray, "B D D"], Float[np.ndarray, "B D"], Float[np.ndarray, "B M"], int
]


@dataclass(frozen=True)
class HarmonicLeastSquares(RegressionFilter):
    """Sines and cosines fitted to the last ``window_s`` seconds by least squares.

    Knobs: ``window_s`` (default: 8 periods of the closest beat, at least 200 samples; infinite:
    all samples so far, the best for steady tones); ``ridge``, a pull towards 0 that counts as much
    as so many samples: without it, the first samples, too few to tell the tones apart, would be
    answered by huge coefficients. Gaps are left out. Lag: half the window.
    An offset is not among the unknowns: take it off first.
    """

    window_s: float | None = None
    ridge: float = 0.1

    def __post_init__(self) -> None:
        check(self.window_s is None or self.window_s > 0, "window_s", self.window_s, "above 0")
        check(self.ridge >= 0, "ridge", self.ridge, "must be 0 or more")

    @property
    def window_samples(self) -> int | None:
        """Length of the window; None: it grows."""
        window_s = self.window_s or self.default_time_s(8)
        return max(1, round(window_s * self.rate_hz)) if np.isfinite(window_s) else None

    @property
    def delay(self) -> int | None:
        """Half the window; None where it grows, and the lag with it."""
        return None if self.window_samples is None else self.window_samples // 2

    def initial_state(self, n_streams: int) -> LeastSquaresState:
        """Nothing heard."""
        n, held = 2 * self.n_tones, self.window_samples or 0
        unheard = np.full((n_streams, held), np.nan)
        return np.zeros((n_streams, n, n)), np.zeros((n_streams, n)), unheard, 0

    def step(
        self, samples: Float[np.ndarray, "B T"], state: LeastSquaresState
    ) -> tuple[Float[np.ndarray, "B T K"], LeastSquaresState]:
        """Answer a chunk of any length."""
        information, evidence, held, age = state[0].copy(), state[1].copy(), state[2], state[3]
        n_streams, n_samples = samples.shape
        length = held.shape[1]
        heard = np.concatenate([held, samples], axis=1)
        gone = heard[:, :n_samples] if length else np.full_like(samples, np.nan)
        path = np.empty((n_streams, n_samples, evidence.shape[1]))
        compiled.least_squares(
            np.ascontiguousarray(samples),
            self.design_matrix(age, n_samples),
            np.ascontiguousarray(gone),
            self.design_matrix(age - length, n_samples),
            information,
            evidence,
            self.ridge * abs(self.gain) ** 2,
            path,
        )
        after = heard[:, n_samples:] if length else held
        return self._tones(path, age), (information, evidence, after, age + n_samples)
