"""Kalman filters of oscillators, at nominal frequencies or tracking them.

The mixture is a sum of known sines and cosines with unknown coefficients. Axes: B streams, T samples, K tones, D = 2 K coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tonesieve.extractors.filters.base import RegressionFilter, check
from tonesieve.kernels import kalman as compiled

# A tracker may leave its frequency by this share of it.
PULL = 0.05
# ... and is mostly nearer to it by this factor.
LIKELY = 8
# Its level follows what is slower than the lowest tone by this factor; its variance at the start.
BELOW, UNKNOWN = 4, 100.0
# Evidence lasts so many memories, a memory no longer than so many samples; and what speaks for
# frequencies as named to begin with, as a logarithm of odds.
LATELY, LONGEST, LOG_ODDS_PRIOR = 4.0, 1e7, 1.0

# Means (B, D) and covariances (B, D, D), and the samples so far.
KalmanState = tuple[Float[np.ndarray, "B D"], Float[np.ndarray, "B D D"], int]


@dataclass(frozen=True)
class OscillatorKalman(RegressionFilter):
    """A bank of oscillators in a Kalman filter: every tone's sine and cosine walk at random.

    Knobs: ``memory_s``, the time over which the filter averages once it has settled (default: 50
    periods of the closest beat, of two tones or of a tone with zero frequency; infinite for
    tones that are known to be steady); ``noise``, the variance of all else in the mixture over
    the variance that a tone's coefficient is expected to have in it (it matters at the start
    only). Starts from that expectation, so that no artefact of a zero state appears. Gaps: coasts.
    Lag: ``memory_s``. An offset is not among its states: take it off first.
    """

    memory_s: float | None = None
    noise: float = 0.1

    def __post_init__(self) -> None:
        check(self.memory_s is None or self.memory_s > 0, "memory_s", self.memory_s, "above 0")
        check(self.noise >= 0, "noise", self.noise, "must be 0 or more")

    @property
    def memory_samples(self) -> float:
        """Samples over which the settled filter averages."""
        memory_s = self.memory_s or self.default_time_s(50)
        return float(memory_s * self.rate_hz)

    @property
    def delay(self) -> int | None:
        """The memory; None where it has no end, and the lag grows with the record."""
        return round(self.memory_samples) if np.isfinite(self.memory_samples) else None

    def initial_state(self, n_streams: int) -> KalmanState:
        """Coefficients of variance 1, in units where the noise has ``noise / |gain|^2``."""
        n = 2 * self.n_tones
        return np.zeros((n_streams, n)), np.tile(np.eye(n), (n_streams, 1, 1)), 0

    def step(
        self, samples: Float[np.ndarray, "B T"], state: KalmanState
    ) -> tuple[Float[np.ndarray, "B T K"], KalmanState]:
        """Answer a chunk of any length."""
        mean, covariance, age = state[0].copy(), state[1].copy(), state[2]
        n_streams, n_samples = samples.shape
        noise = self.noise * abs(self.gain) ** 2
        # In its steady state the filter forgets at a rate of sqrt(walk / (2 noise)) a sample,
        # noise and walk as they stand in the mixture.
        walk = 2 * self.noise / self.memory_samples**2
        path = np.empty((n_streams, n_samples, mean.shape[1]))
        compiled.kalman(
            np.ascontiguousarray(samples),
            self.design_matrix(age, n_samples),
            mean,
            covariance,
            np.full(mean.shape[1], walk),
            noise,
            path,
        )
        return self._tones(path, age), (mean, covariance, age + n_samples)


# Cycles so far and offsets (B, K), means (B, D), covariances (B, D, D), level of surprise (B, 3).
FollowerState = tuple[
    Float[np.ndarray, "B K"],
    Float[np.ndarray, "B K"],
    Float[np.ndarray, "B D"],
    Float[np.ndarray, "B D D"],
    Float[np.ndarray, "B 3"],
]
# Of the bank that stays and the one that follows; power of surprise, its weight, and the evidence
# for the one that stays (B, 3).
TrackerState = tuple[FollowerState, FollowerState, Float[np.ndarray, "B 3"]]


@dataclass(frozen=True)
class FrequencyTrackingKalman(OscillatorKalman):
    """The bank of oscillators with frequencies that follow, where following foretells more.

    For tones whose frequency is known only roughly, or wanders: the mains at 49.93 Hz. A second
    bank has each oscillator in a phase-locked loop; the two are joined by how well each has
    foretold the samples lately (their posterior odds), so that little is lost on tones that stand
    where they were said to be. Both have a level beside the tones that takes up offset and trend.
    Knobs: ``memory_s`` and ``noise`` as for the oscillators that do not follow; ``pull_hz``, how
    far from its name a frequency may go (default: a twentieth of it, or a quarter of the way to
    the next tone). Gaps: coasts on. Lag: ``memory_s``.
    """

    pull_hz: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.noise > 0, "noise", self.noise, "must be above 0")
        check(self.pull_hz is None or self.pull_hz >= 0, "pull_hz", self.pull_hz, "0 or more")

    @property
    def farthest_hz(self) -> Float[np.ndarray, " K"]:
        """How far each frequency may go."""
        if self.pull_hz is not None:
            return np.full(self.n_tones, float(self.pull_hz))
        return np.minimum(PULL * np.array(self.frequencies_hz), self.spacing_hz / 4)

    def initial_state(self, n_streams: int) -> TrackerState:  # type: ignore[override]
        """Frequencies as named, coefficients as for the oscillators that do not follow."""
        weighed = np.tile([0.0, 0.0, LOG_ODDS_PRIOR], (n_streams, 1))
        return self._begun(n_streams), self._begun(n_streams), weighed

    def step(  # type: ignore[override]
        self, samples: Float[np.ndarray, "B T"], state: TrackerState
    ) -> tuple[Float[np.ndarray, "B T K"], TrackerState]:
        """Answer a chunk of any length."""
        heard = np.ascontiguousarray(samples)
        farthest = self.farthest_hz / self.rate_hz
        steady, one, stays = self._run(heard, state[0], 0 * farthest)
        moving, other, follows = self._run(heard, state[1], farthest)
        kept = np.exp(-1 / (LATELY * min(self.memory_samples, LONGEST)))
        weighed, share = state[2].copy(), np.empty(heard.shape)
        compiled.two_model_odds(heard, one, other, kept, weighed, share)
        answer = share[..., None] * steady + (1 - share[..., None]) * moving
        return answer, (stays, follows, weighed)

    def _begun(self, n_streams: int) -> FollowerState:
        n, still = 2 * self.n_tones + 1, np.zeros((n_streams, self.n_tones))
        start = np.eye(n)
        start[-1, -1] = UNKNOWN
        covariance = np.tile(start, (n_streams, 1, 1))
        return still, still, np.zeros((n_streams, n)), covariance, np.zeros((n_streams, 3))

    def _run(
        self,
        samples: Float[np.ndarray, "B T"],
        state: FollowerState,
        farthest: Float[np.ndarray, " K"],
    ) -> tuple[Float[np.ndarray, "B T K"], Float[np.ndarray, "B T"], FollowerState]:
        """Tones, surprises, and the state after."""
        phase, offset, mean, covariance, level = after = tuple(part.copy() for part in state)
        noise = self.noise * abs(self.gain) ** 2
        slow = 2 * np.pi * min(self.frequencies_hz) / self.rate_hz / BELOW
        tones = np.empty((*samples.shape, self.n_tones))
        surprises = np.empty(samples.shape)
        compiled.kalman_pll(
            samples,
            np.array(self.frequencies_hz) / self.rate_hz,
            complex(self.gain),
            2 * self.noise / self.memory_samples**2,
            noise * slow**2,
            noise,
            2 * np.pi * farthest / LIKELY,
            farthest,
            phase,
            offset,
            mean,
            covariance,
            level,
            tones,
            surprises,
        )
        return tones, surprises, after  # type: ignore[return-value]
