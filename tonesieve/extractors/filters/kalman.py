"""Kalman filters of oscillators, at nominal frequencies or tracking them.

The mixture is a sum of known sines and cosines with unknown coefficients. Axes: B streams,
T samples, K tones, D = 2 K coefficients, with a DC term one more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from tonesieve.extractors.filters.base import RegressionFilter, check
from tonesieve.kernels import kalman as compiled

# Chosen, not tuned: the default memory in periods of the closest beat.
MEMORY_BEATS = 50
# Chosen, not tuned: a tracked frequency may leave its nominal value by this fraction of it, ...
MAX_OFFSET_RATIO = 0.05
# ... and its prior standard deviation is the largest offset over this.
OFFSET_PRIOR_RATIO = 8
# Chosen, not tuned: the DC term follows what is slower than the lowest tone by this factor; its
# variance at the start.
DC_CORNER_RATIO, PRIOR_VAR_DC = 4, 100.0
# Chosen, not tuned: the log-likelihoods are averaged over this many memories. A guard: a memory
# counts as no longer than this many samples.
LIKELIHOOD_MEMORIES, MAX_MEMORY_SAMPLES = 4.0, 1e7
# Chosen, not tuned: prior log-odds of the nominal frequencies.
LOG_ODDS_PRIOR = 1.0

# Means x (B, D) and covariances P (B, D, D), and the samples so far.
KalmanState = tuple[Float[np.ndarray, "B D"], Float[np.ndarray, "B D D"], int]


@dataclass(frozen=True)
class OscillatorKalman(RegressionFilter):
    """Kalman filter of a bank of oscillators at the nominal frequencies.

    Every tone's sine and cosine coefficient is a random walk, and the mixture is observed in
    white noise. The state starts from its prior, so that there is no transient of a zero state.
    In a gap the filter predicts without an update, which continues the tones. The delay is about
    ``memory_s``. An offset is not among the states: subtract it first.

    Parameters
    ----------
    frequencies_hz : tuple of float
        Nominal frequencies of the tones.
    rate_hz : float
        Sampling rate.
    gain : complex
        Amplitude and phase in the mixture of a tone of amplitude 1 (default 1).
    memory_s : float, optional
        Time over which the filter averages in its steady state, s; it sets the variance of the
        random walk. Default: 50 periods of the closest beat, of two tones or of a tone with zero
        frequency. Infinite for tones that are known to be steady.
    noise : float
        Variance of the observation noise over the prior variance of a tone's coefficient in the
        mixture (default 0.1). It matters at the start only.

    References
    ----------
    Anderson and Moore, Optimal Filtering, 1979. Vold and Leuridan, High resolution order tracking
    at extreme slew rates, using Kalman tracking filters, SAE 931288, 1993.
    """

    memory_s: float | None = None
    noise: float = 0.1

    def __post_init__(self) -> None:
        check(self.memory_s is None or self.memory_s > 0, "memory_s", self.memory_s, "above 0")
        check(self.noise >= 0, "noise", self.noise, "must be 0 or more")

    @property
    def memory_samples(self) -> float:
        """Samples over which the filter averages in its steady state."""
        memory_s = self.memory_s or self.default_time_s(MEMORY_BEATS)
        return float(memory_s * self.rate_hz)

    @property
    def delay(self) -> int | None:
        """The memory; None where it is infinite, and the delay grows with the record."""
        return round(self.memory_samples) if np.isfinite(self.memory_samples) else None

    def initial_state(self, n_streams: int) -> KalmanState:
        """Return the prior: variance 1, in units where the noise has ``noise / |gain|^2``."""
        d = 2 * self.n_tones
        return np.zeros((n_streams, d)), np.tile(np.eye(d), (n_streams, 1, 1)), 0

    def step(
        self, samples: Float[np.ndarray, "B T"], state: KalmanState
    ) -> tuple[Float[np.ndarray, "B T K"], KalmanState]:
        """Process a block of any length."""
        x, P, age = state[0].copy(), state[1].copy(), state[2]
        n_streams, n_samples = samples.shape
        noise_var = self.noise * abs(self.gain) ** 2
        # In its steady state the filter forgets at a rate of sqrt(q / (2 r)) a sample, with the
        # process noise q and the observation noise r as they are in the mixture.
        process_noise = 2 * self.noise / self.memory_samples**2
        coefficients = np.empty((n_streams, n_samples, x.shape[1]))
        compiled.kalman(
            np.ascontiguousarray(samples),
            self.design_matrix(age, n_samples),
            x,
            P,
            np.full(x.shape[1], process_noise),
            noise_var,
            coefficients,
        )
        return self._tones(coefficients, age), (x, P, age + n_samples)


# Cycles so far and frequency offsets (B, K), means x (B, D), covariances P (B, D, D), and the
# recursive innovation variance (B, 3).
PllState = tuple[
    Float[np.ndarray, "B K"],
    Float[np.ndarray, "B K"],
    Float[np.ndarray, "B D"],
    Float[np.ndarray, "B D D"],
    Float[np.ndarray, "B 3"],
]
# Of the bank at nominal frequencies and of the tracking one; and (B, 3) the innovation power, its
# weight and the log-odds of the former.
TrackerState = tuple[PllState, PllState, Float[np.ndarray, "B 3"]]


@dataclass(frozen=True)
class FrequencyTrackingKalman(OscillatorKalman):
    """Two Kalman filters of oscillators, one with tracked frequencies, mixed by their likelihood.

    For tones whose frequency is known only roughly or changes: the mains at 49.93 Hz. In the
    second bank each oscillator is in a phase-locked loop. The two estimates are averaged by the
    posterior odds of the two models, from their recent innovations, so that little is lost on
    tones at their nominal frequency. Both banks have a DC term that takes up offset and trend.
    In a gap both predict without an update. The delay is about ``memory_s``.

    Parameters
    ----------
    frequencies_hz : tuple of float
        Nominal frequencies of the tones.
    rate_hz : float
        Sampling rate.
    gain : complex
        Amplitude and phase in the mixture of a tone of amplitude 1 (default 1).
    memory_s : float, optional
        Time over which each filter averages in its steady state, s. Default: 50 periods of the
        closest beat.
    noise : float
        Variance of the observation noise over the prior variance of a coefficient (default 0.1).
    max_pull_hz : float, optional
        Largest distance of a tracked frequency from its nominal value, Hz. Default: a twentieth
        of it, or a quarter of the distance to the next tone where that is less.

    References
    ----------
    Bar-Shalom, Li and Kirubarajan, Estimation with Applications to Tracking and Navigation, 2001,
    section 11.6 (multiple models). Gardner, Phaselock Techniques, 2005.
    """

    saved_name: ClassVar[str] = "TrackingKalman"
    saved_parameters: ClassVar[dict[str, str]] = {"max_pull_hz": "pull_hz"}

    max_pull_hz: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.noise > 0, "noise", self.noise, "must be above 0")
        pull_hz = self.max_pull_hz
        check(pull_hz is None or pull_hz >= 0, "max_pull_hz", pull_hz, "0 or more")

    @property
    def max_offset_hz(self) -> Float[np.ndarray, " K"]:
        """Largest distance of each frequency from its nominal value, Hz."""
        if self.max_pull_hz is not None:
            return np.full(self.n_tones, float(self.max_pull_hz))
        return np.minimum(MAX_OFFSET_RATIO * np.array(self.frequencies_hz), self.spacing_hz / 4)

    def initial_state(self, n_streams: int) -> TrackerState:  # type: ignore[override]
        """Return the prior of both banks, at the nominal frequencies."""
        odds = np.tile([0.0, 0.0, LOG_ODDS_PRIOR], (n_streams, 1))
        return self._initial_bank(n_streams), self._initial_bank(n_streams), odds

    def step(  # type: ignore[override]
        self, samples: Float[np.ndarray, "B T"], state: TrackerState
    ) -> tuple[Float[np.ndarray, "B T K"], TrackerState]:
        """Process a block of any length."""
        inputs = np.ascontiguousarray(samples)
        max_offset = self.max_offset_hz / self.rate_hz
        fixed, fixed_innovation, fixed_state = self._run(inputs, state[0], 0 * max_offset)
        moving, moving_innovation, moving_state = self._run(inputs, state[1], max_offset)
        memory = LIKELIHOOD_MEMORIES * min(self.memory_samples, MAX_MEMORY_SAMPLES)
        decay = np.exp(-1 / memory)
        odds, weight = state[2].copy(), np.empty(inputs.shape)
        compiled.two_model_odds(inputs, fixed_innovation, moving_innovation, decay, odds, weight)
        estimate = weight[..., None] * fixed + (1 - weight[..., None]) * moving
        return estimate, (fixed_state, moving_state, odds)

    def _initial_bank(self, n_streams: int) -> PllState:
        d, zero = 2 * self.n_tones + 1, np.zeros((n_streams, self.n_tones))
        prior = np.eye(d)
        prior[-1, -1] = PRIOR_VAR_DC
        P = np.tile(prior, (n_streams, 1, 1))
        return zero, zero, np.zeros((n_streams, d)), P, np.zeros((n_streams, 3))

    def _run(
        self,
        samples: Float[np.ndarray, "B T"],
        state: PllState,
        max_offset: Float[np.ndarray, " K"],
    ) -> tuple[Float[np.ndarray, "B T K"], Float[np.ndarray, "B T"], PllState]:
        """Tones, innovations, and the state after."""
        phase, offset, x, P, innovation_var = after = tuple(part.copy() for part in state)
        noise_var = self.noise * abs(self.gain) ** 2
        dc_corner = 2 * np.pi * min(self.frequencies_hz) / self.rate_hz / DC_CORNER_RATIO
        tones = np.empty((*samples.shape, self.n_tones))
        innovations = np.empty(samples.shape)
        compiled.kalman_pll(
            samples,
            np.array(self.frequencies_hz) / self.rate_hz,
            complex(self.gain),
            2 * self.noise / self.memory_samples**2,
            noise_var * dc_corner**2,
            noise_var,
            2 * np.pi * max_offset / OFFSET_PRIOR_RATIO,
            max_offset,
            phase,
            offset,
            x,
            P,
            innovation_var,
            tones,
            innovations,
        )
        return tones, innovations, after  # type: ignore[return-value]
