"""The minimum mean-square-error (MMSE) extractors, with the model of the signals known.

Known phase (``regime locked``): one unknown, the start of the record, and its exact posterior.
Unknown phase (``regime free``): sine and cosine coefficients are Gaussian, and a Kalman filter
computes their posterior. See docs/exercise.md, What can be true: the limit; S. M. Kay, Fundamentals
of Statistical Signal Processing: Estimation Theory, 1993, chapters 10 to 13. Axes: B streams, T
samples, K components, P starts.
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
    likelihood_table,
    noise_sigma,
    start_grid,
)
from tonesieve.extractors.filters.base import ZeroBaseline
from tonesieve.extractors.filters.kalman import OscillatorKalman
from tonesieve.extractors.protocol import CausalExtractor
from tonesieve.kernels import grid_posterior as compiled
from tonesieve.signals.signal_model import impulse_power, jitter_power, tone_gain, tone_response

# Weights of all starts (B, P), and the samples so far.
PosteriorState = tuple[Float[np.ndarray, "B P"], int]
Moments = tuple[Float[np.ndarray, "B T K"], Float[np.ndarray, "B T K"]]

# An anchor later than any sample.
NO_ANCHOR = 2**62
# Guard: below this power no linear estimate of the tones exists but 0.
MIN_TONE_POWER = 1e-18
# Guard: without any noise the tones are known from their first samples, and the rest is rounding.
MIN_NOISE_RATIO = 1e-9


def mmse_extractor(data: DataSettings) -> CausalExtractor:
    """Build the causal extractor of least mean squared error on records with unknown start.

    In the unknown-phase regime with jitter it is the best linear one.

    Parameters
    ----------
    data : DataSettings
        The model of the signals.

    Returns
    -------
    CausalExtractor
        The posterior mean.

    Raises
    ------
    UserError
        For noise under which the posterior mean is not known.
    """
    return random_phase_kalman(data) if data.regime == "free" else StartPosterior(data)


def mmse_targets(
    data: DataSettings, mixture: Float[np.ndarray, "B T"]
) -> Float[np.ndarray, "B T K"]:
    """Estimate whole records as `mmse_extractor` does, quickly and to about 1e-4, for training.

    Parameters
    ----------
    data : DataSettings
        The model of the signals.
    mixture : ndarray, shape (B, T)
        Samples; NaN in gaps.

    Returns
    -------
    ndarray, shape (B, T, K)
        Posterior means.
    """
    best = _cached_extractor(data)
    if not isinstance(best, StartPosterior) or not best.has_integer_advance:
        return best.extract(mixture)
    return best.extract_f32(mixture)


@lru_cache(maxsize=8)
def _cached_extractor(data: DataSettings) -> CausalExtractor:
    return mmse_extractor(data)


def random_phase_kalman(data: DataSettings) -> OscillatorKalman | ZeroBaseline:
    """Build the Kalman filter that attains the limit of the unknown-phase regime.

    Exact where amplitude and phase do not jitter and all noise is Gaussian; otherwise it has the
    mean and variance of the jitter, and is the best linear filter.

    Parameters
    ----------
    data : DataSettings
        The model of the signals: steady tones, all noise known.

    Returns
    -------
    OscillatorKalman or ZeroBaseline
        The latter where nothing linear is left of the tones.

    Raises
    ------
    UserError
        For noise that is not white, or not additive.
    """
    tone_power = tone_gain(data) ** 2 / 2  # variance of a coefficient as it is in the mixture
    if tone_power < MIN_TONE_POWER:
        return ZeroBaseline(data.frequencies_hz, data.rate_hz)
    noise = max(random_phase_noise_power(data) / tone_power, MIN_NOISE_RATIO)
    return OscillatorKalman(data.frequencies_hz, data.rate_hz, tone_response(data), np.inf, noise)


def random_phase_noise_power(data: DataSettings) -> float:
    """Variance of everything but the tones' mean waveform; white in the unknown-phase regime.

    Parameters
    ----------
    data : DataSettings
        The model of the signals.

    Returns
    -------
    float
        In squared units of the mixture.

    Raises
    ------
    UserError
        Where it is not white, or not additive.
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
    """Whether `random_phase_kalman` is the best of all filters, not of the linear ones alone.

    Parameters
    ----------
    data : DataSettings
        The model of the signals.

    Returns
    -------
    bool
        True without jitter and impulses.
    """
    return jitter_power(data) < 1e-15 and data.impulse_rate_hz == 0


@lru_cache(maxsize=8)
def _tables(data: DataSettings) -> tuple[StartGrid, LikelihoodTable]:
    grid = start_grid(data)
    return grid, likelihood_table(data, grid)


@dataclass(frozen=True)
class StartPosterior:
    """Exact Bayes filter over the start of the record; the estimate is the posterior mean.

    For the known-phase regime. Causal, and the best possible: no other estimate from the same
    samples has a smaller expected squared error. A record may start anywhere in the common period:
    ``data.start`` is ignored, since with a known start nothing would be left to estimate. Gaps, and
    samples that no start explains, are skipped. No delay.

    Parameters
    ----------
    data : DataSettings
        The model of the signals.
    stride : int
        It observes every ``stride``-th sample only (default 1).

    Raises
    ------
    UserError
        For tones without a common period, and for noise without an exact posterior.

    References
    ----------
    Kay, Fundamentals of Statistical Signal Processing: Estimation Theory, 1993, chapters 10-11.
    """

    data: DataSettings
    stride: int = 1

    def __post_init__(self) -> None:
        _tables(_table_key(self.data))  # refuses at once what has no exact posterior

    @property
    def frequencies_hz(self) -> tuple[float, ...]:
        """Frequencies of the tones."""
        return self.data.frequencies_hz

    @property
    def rate_hz(self) -> float:
        """Sampling rate."""
        return self.data.rate_hz

    @property
    def causal(self) -> bool:
        """True: an estimate rests on no later sample than its own."""
        return True

    @property
    def delay(self) -> int:
        """No delay is built in: 0."""
        return 0

    @cached_property
    def _grid(self) -> StartGrid:
        return _tables(_table_key(self.data))[0]

    @cached_property
    def _table(self) -> LikelihoodTable:
        return _tables(_table_key(self.data))[1]

    @property
    def has_integer_advance(self) -> bool:
        """Whether a sample is a whole number of positions after the one before."""
        return self._advance == int(self._advance)

    @cached_property
    def _f32_arrays(self) -> list[np.ndarray]:
        table = self._table
        arrays = (table.lows, table.per_step, table.values, self.targets)
        return [array.astype(np.float32) for array in arrays]

    def extract_f32(self, mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T K"]:
        """Estimate as `extract` does, in single precision; only with an integer advance."""
        largest = float(np.finfo(np.float32).max)  # the kernel knows neither NaN nor infinity
        samples = np.nan_to_num(mixture, nan=largest).clip(-largest, largest).astype(np.float32)
        mean = np.empty((*mixture.shape, self.data.n_components), dtype=np.float32)
        lows, per_step, values, targets = self._f32_arrays
        compiled.posterior_mean_f32(
            samples, int(self._advance), lows, per_step, values, targets, mean
        )
        return mean.astype(float)

    @property
    def is_informative(self) -> bool:
        """Whether a sample has information: its density differs between positions."""
        table = self._table
        return any(bool(np.any(x != x[0])) for x in (table.lows, table.per_step, table.values))

    @property
    def targets(self) -> Float[np.ndarray, "P K"]:
        """The clean tones at every position of the period."""
        return self._grid.targets

    @property
    def sample_range(self) -> tuple[float, float]:
        """Smallest and largest value that a sample can have."""
        table = self._table
        last = table.lows + (table.values.shape[1] - 1) / table.per_step
        return float(table.lows.min()), float(last.max())

    def pmf_between(
        self, edges: Float[np.ndarray, " E"], every: int = 1
    ) -> Float[np.ndarray, "P N"]:
        """Probability of a sample between consecutive edges.

        Parameters
        ----------
        edges : ndarray, shape (E,)
            In increasing order.
        every : int
            Only every ``every``-th position is computed.

        Returns
        -------
        ndarray, shape (P / every, E - 1)
            Probability masses by position.
        """
        table = self._table
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
        return self._grid.advance * self.stride

    def initial_state(self, n_streams: int) -> PosteriorState:
        """Return a uniform distribution over the starts."""
        n = len(self._grid.cycles)
        return np.full((n_streams, n), 1 / n), 0

    def step(
        self, samples: Float[np.ndarray, "B T"], state: PosteriorState
    ) -> tuple[Float[np.ndarray, "B T K"], PosteriorState]:
        """Process a block of any length."""
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
        anchor: int = NO_ANCHOR,
    ) -> tuple[Moments, PosteriorState]:
        """Posterior mean and variance of the tones after every sample.

        Parameters
        ----------
        samples : ndarray, shape (B, T)
            The next samples of every stream; NaN in gaps.
        state : PosteriorState
            What the block before returned, or `initial_state`.
        lag : int
            The tones are those of ``lag`` samples ago (a fixed-lag smoother).
        anchor : int
            The tones are of no later sample of the stream than this one.

        Returns
        -------
        moments : tuple of two ndarray, shape (B, T, K)
            Means and variances.
        state : PosteriorState
            For the next block.
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
            self._table.lows,
            self._table.per_step,
            self._table.values,
            self._grid.targets,
            mean,
            variance,
        )
        return (mean, variance), (weights, age + samples.shape[1])

    def smooth(self, state: PosteriorState) -> Moments:
        """Posterior mean and variance of the tones at every sample so far, given all of them.

        Parameters
        ----------
        state : PosteriorState
            After T samples.

        Returns
        -------
        tuple of two ndarray, shape (B, T, K)
            Means and variances.
        """
        weights, age = state
        mean = np.empty((len(weights), age, self.data.n_components))
        variance = np.empty_like(mean)
        compiled.smooth(weights, self._advance, self._grid.targets, mean, variance)
        return mean, variance


def _table_key(data: DataSettings) -> DataSettings:
    """The same settings for all records that have the same table."""
    defaults = DataSettings()
    irrelevant = ("train_seed", "test_seed", "start", "noise", "gap_fraction", "gap_s")
    return data.model_copy(update={name: getattr(defaults, name) for name in irrelevant})
