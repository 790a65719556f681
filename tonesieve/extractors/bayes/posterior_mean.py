"""The best possible extractors: the posterior mean, with the model of the signals known.

Locked regime: one unknown, the start of the record, and its exact posterior. Free regime: sine
and cosine coefficients are Gaussian, and a Kalman filter computes their posterior. SPEC, section
6. Axes: B streams, T samples, K components, P starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Float

from tonesieve.config.config import DataSettings
from tonesieve.errors import UserError
from tonesieve.extractors.bayes.likelihood import (
    LikelihoodTable,
    StartGrid,
    densities,
    noise_sigma,
    positions,
)
from tonesieve.extractors.filters.base import ZeroBaseline
from tonesieve.extractors.filters.kalman import OscillatorKalman
from tonesieve.extractors.protocol import CausalExtractor
from tonesieve.kernels import grid_posterior as compiled
from tonesieve.signals.synthesis import impulse_power, jitter_power, tone_gain, tone_response

# Weights of all starts (B, P), and the samples so far.
PosteriorState = tuple[Float[np.ndarray, "B P"], int]
Moments = tuple[Float[np.ndarray, "B T K"], Float[np.ndarray, "B T K"]]

FAR = 2**62


def mmse_extractor(data: DataSettings) -> CausalExtractor:
    """The causal extractor that no other beats on such records with unknown start.

    In the free regime with jitter it is the best linear one. Raises `UserError` for noise under
    which the best one is not known.
    """
    return random_phase_kalman(data) if data.regime == "free" else StartPosterior(data)


def mmse_targets(
    data: DataSettings, mixture: Float[np.ndarray, "B T"]
) -> Float[np.ndarray, "B T K"]:
    """What `mmse_extractor` estimates of whole records, for training: quick, to about 1e-4."""
    best = _teacher(data)
    if not isinstance(best, StartPosterior) or not best.steps_are_whole:
        return best.extract(mixture)
    return best.average(mixture)


@lru_cache(maxsize=8)
def _teacher(data: DataSettings) -> CausalExtractor:
    return mmse_extractor(data)


def random_phase_kalman(data: DataSettings) -> OscillatorKalman | ZeroBaseline:
    """Kalman filter that attains the limit of the free regime: steady tones, all noise known.

    Exact where amplitude and phase do not jitter and all noise is Gaussian; otherwise it knows
    the mean and variance of what jitters, and is the best linear filter.
    """
    tone_power = tone_gain(data) ** 2 / 2  # variance of a coefficient as it stands in the mixture
    if tone_power < 1e-18:
        return ZeroBaseline(
            data.frequencies_hz, data.rate_hz
        )  # nothing linear is left of the tones
    # Without any noise the tones are known from their first samples, and all else is rounding.
    noise = max(free_noise_power(data) / tone_power, 1e-9)
    return OscillatorKalman(data.frequencies_hz, data.rate_hz, tone_response(data), np.inf, noise)


def free_noise_power(data: DataSettings) -> float:
    """Variance of all that is not the tones' mean course, white in the free regime.

    Raises `UserError` where it is not white, or not additive.
    """
    other = {
        "pink_snr_db": data.pink_snr_db is not None,
        "clip_level": data.clip_level is not None,
        "frequency_drift": data.frequency_drift > 0,
        "background": data.background is not None,
    }
    for name in (name for name, given in other.items() if given):
        raise UserError(
            f"data.{name}: no limit is known with it in the free regime; jitter, white noise "
            "(snr_db), impulses and gaps have one"
        )
    return jitter_power(data) + noise_sigma(data) ** 2 + impulse_power(data)


def is_gaussian(data: DataSettings) -> bool:
    """Whether the free regime's Kalman filter is the best of all, not of the linear ones alone."""
    return jitter_power(data) < 1e-15 and data.impulse_rate_hz == 0


@lru_cache(maxsize=8)
def _tables(data: DataSettings) -> tuple[StartGrid, LikelihoodTable]:
    where = positions(data)
    return where, densities(data, where)


@dataclass(frozen=True)
class StartPosterior:
    """Exact posterior over the start of the record; the estimate is its mean (locked regime).

    Causal, and the best possible: no other estimate from the same samples has a smaller expected
    squared error. A record may start anywhere in the common period (``data.start`` is not heeded:
    with a known start nothing would be left to estimate). ``stride``: it hears every so-manieth
    sample only. Gaps, and samples that no start explains, are passed over. Raises `UserError` for
    tones without a common period and noise without an exact posterior.
    """

    data: DataSettings
    stride: int = 1

    def __post_init__(self) -> None:
        _tables(_what_matters(self.data))  # refuses at once what has no exact posterior

    @property
    def frequencies_hz(self) -> tuple[float, ...]:
        """The tones."""
        return self.data.frequencies_hz

    @property
    def rate_hz(self) -> float:
        """Its rate."""
        return self.data.rate_hz

    @property
    def causal(self) -> bool:
        """It needs no later sample."""
        return True

    @property
    def delay(self) -> int:
        """None."""
        return 0

    @cached_property
    def _positions(self) -> StartGrid:
        return _tables(_what_matters(self.data))[0]

    @cached_property
    def _densities(self) -> LikelihoodTable:
        return _tables(_what_matters(self.data))[1]

    @property
    def steps_are_whole(self) -> bool:
        """Whether a sample is a whole number of positions after the one before."""
        return self._advance == int(self._advance)

    @cached_property
    def _singles(self) -> list[np.ndarray]:
        table = self._densities
        arrays = (table.lows, table.per_step, table.values, self.targets)
        return [array.astype(np.float32) for array in arrays]

    def average(self, mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T K"]:
        """What `extract` gives, in single precision; only where steps are whole."""
        largest = float(np.finfo(np.float32).max)  # the kernel knows neither NaN nor infinity
        heard = np.nan_to_num(mixture, nan=largest).clip(-largest, largest).astype(np.float32)
        mean = np.empty((*mixture.shape, self.data.n_components), dtype=np.float32)
        lows, per_step, values, targets = self._singles
        compiled.posterior_mean_f32(
            heard, int(self._advance), lows, per_step, values, targets, mean
        )
        return mean.astype(float)

    @property
    def informative(self) -> bool:
        """Whether a sample tells anything: its density is not the same at all positions."""
        table = self._densities
        return any(bool(np.any(x != x[0])) for x in (table.lows, table.per_step, table.values))

    @property
    def targets(self) -> Float[np.ndarray, "P K"]:
        """The clean tones at every position of the period."""
        return self._positions.targets

    @property
    def reach(self) -> tuple[float, float]:
        """Smallest and largest value that a sample can have."""
        table = self._densities
        last = table.lows + (table.values.shape[1] - 1) / table.per_step
        return float(table.lows.min()), float(last.max())

    def masses_between(
        self, edges: Float[np.ndarray, " E"], every: int = 1
    ) -> Float[np.ndarray, "P N"]:
        """Probability of a sample between consecutive edges, at ``every`` so-manieth position."""
        table = self._densities
        values = table.values[::every]
        n = values.shape[1]
        area = (values[:, 1:] + values[:, :-1]).astype(float) / 2
        nodes = np.concatenate([np.zeros((len(area), 1)), np.cumsum(area, axis=1)], axis=1)
        nodes /= nodes[:, -1:]
        below = [
            np.interp((edges - low) * per_step, np.arange(n), row)
            for low, per_step, row in zip(
                table.lows[::every], table.per_step[::every], nodes, strict=True
            )
        ]
        return np.diff(np.array(below), axis=1)

    @property
    def _advance(self) -> float:
        return self._positions.advance * self.stride

    def initial_state(self, n_streams: int) -> PosteriorState:
        """Every start equally likely."""
        n = len(self._positions.cycles)
        return np.full((n_streams, n), 1 / n), 0

    def step(
        self, samples: Float[np.ndarray, "B T"], state: PosteriorState
    ) -> tuple[Float[np.ndarray, "B T K"], PosteriorState]:
        """Answer a chunk of any length."""
        (mean, _), state = self.moments(samples, state)
        return mean, state

    def extract(self, mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T K"]:
        """Posterior mean of every tone at every sample, given the samples up to it."""
        return self.step(mixture, self.initial_state(len(mixture)))[0]

    def moments(
        self,
        samples: Float[np.ndarray, "B T"],
        state: PosteriorState,
        *,
        lag: int = 0,
        anchor: int = FAR,
    ) -> tuple[Moments, PosteriorState]:
        """Posterior mean and variance after every sample.

        Of the tones ``lag`` samples ago, at most of sample ``anchor`` of the stream.
        """
        weights, age = state[0].copy(), state[1]
        mean = np.empty((*samples.shape, self.data.n_components))
        variance = np.empty_like(mean)
        compiled.filter(
            np.ascontiguousarray(samples),
            weights,
            age,
            self._advance,
            lag,
            anchor,
            self._densities.lows,
            self._densities.per_step,
            self._densities.values,
            self._positions.targets,
            mean,
            variance,
        )
        return (mean, variance), (weights, age + samples.shape[1])

    def look_back(self, state: PosteriorState) -> Moments:
        """Posterior mean and variance of the tones at every sample so far, given all of them."""
        weights, age = state
        mean = np.empty((len(weights), age, self.data.n_components))
        variance = np.empty_like(mean)
        compiled.smooth(weights, self._advance, self._positions.targets, mean, variance)
        return mean, variance


def _what_matters(data: DataSettings) -> DataSettings:
    """The same settings for all records that share a table."""
    plain = DataSettings()
    same = ("train_seed", "test_seed", "start", "noise", "gap_fraction", "gap_s")
    return data.model_copy(update={name: getattr(plain, name) for name in same})
