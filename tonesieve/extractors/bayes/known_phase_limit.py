"""The limit with known phase: the mean posterior variance over random records, by Monte Carlo.

The posterior of each record is exact; the mean over records is drawn, with a standard error. See
docs/exercise.md, What can be true: the limit. Axes: B records, T samples, A ages, K components.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from tonesieve.config.config import DataSettings
from tonesieve.errors import UserError
from tonesieve.extractors.bayes.limit_types import BayesLimit, ObservationWindow
from tonesieve.extractors.bayes.posterior_mean import StartPosterior
from tonesieve.signals.signal_model import even_starts
from tonesieve.signals.synthesis import draw_records

# Chosen: records or windows in a batch, and the fewest batches that a standard error rests on.
N_RECORDS, N_WINDOWS, MIN_BATCHES = 64, 512, 16
# Guard: of long records fewer make a batch: at most this many samples, and at least this many
# records.
MAX_BATCH_SAMPLES, MIN_RECORDS = 2**21, 4
# Guard: samples drawn at a time, which bounds memory.
MAX_DRAWN_SAMPLES = 2**18
# Chosen: ages that hold no more than this fraction of all error are drawn in the first batches
# only.
NEGLIGIBLE = 1e-4
# Derived: a standard error that is rounding, not chance.
ROUNDING = 1e-12
# Chosen: the standard error over the limit, where the caller gives none.
RELATIVE_STDERR = 0.01


def known_phase_limit(
    data: DataSettings,
    window: ObservationWindow,
    n_samples: int,
    settle: int,
    *,
    stderr: float | None,
    seed: int,
    on_progress: Callable[[float], None],
) -> BayesLimit:
    """Draw records until the mean posterior variance has the standard error that is wanted.

    Parameters
    ----------
    data : DataSettings
        The model of the signals.
    window : ObservationWindow
        What an estimate may rest on.
    n_samples : int
        Length of a record.
    settle : int
        Length of the start-up, samples.
    stderr : float or None
        Standard error; None: 1% of the limit.
    seed : int
        Of the records.
    on_progress : callable
        Gets the fraction of the way that is done, 0 to 1.

    Returns
    -------
    BayesLimit
        The limit.

    Raises
    ------
    UserError
        Where no limit is known.

    References
    ----------
    Van Trees, Detection, Estimation, and Modulation Theory, Part I, 1968, section 2.4.
    """
    draw = _MonteCarlo(data, window, n_samples, settle, np.random.default_rng(seed))
    totals = _Totals()
    while True:
        totals.add(draw.batch())
        if totals.n < MIN_BATCHES:
            continue
        missing = totals.missing(stderr)
        on_progress(min(1.0, 1 / missing) if missing > 0 else 1.0)
        if missing <= 1:
            return _result(draw, totals)
        if draw.shorten(totals):
            totals = _Totals()


class _MonteCarlo:
    """Posterior variances of random records under a window, a batch at a time.

    The starts of a batch lie evenly over the period, the first of them at random: every batch is
    a fair draw, and most of what differs from start to start cancels within it.
    """

    def __init__(
        self,
        data: DataSettings,
        window: ObservationWindow,
        n_samples: int,
        settle: int,
        rng: np.random.Generator,
    ) -> None:
        self.data, self.window, self.rng = data, window, rng
        self.posterior = StartPosterior(data, window.stride)
        self.windowed = window.past is not None
        future = window.future or 0
        if window.past is not None:
            if window.future is None or window.stride > 1:
                raise UserError("no limit is computed for a bounded past with this future")
            self.length, settle = window.past + 1 + future, window.past + future
            self.n_ages = self.length
            first = self.length - 1
        else:
            self.length, self.n_ages, first = n_samples, n_samples - future, 0
        # Ages of the overall mean, and of the settled one.
        self.overall, self.settled = range(first, self.n_ages), range(settle, self.n_ages)
        self._resize()
        # Ages that are no longer drawn: their errors and standard errors.
        self.tail: Float[np.ndarray, "A K"] = np.zeros((0, data.n_components))
        self.tail_stderr: Float[np.ndarray, " A"] = np.zeros(0)
        self.settled_stderr: np.ndarray | None = None

    def batch(self) -> list[np.ndarray]:
        """Of one batch: error overall, settled, by component, by age."""
        size = self.size
        starts = even_starts(self.data, size, rng=self.rng)
        total, n_done = np.zeros((0, self.data.n_components)), 0
        at_once = max(1, MAX_DRAWN_SAMPLES // self.length)
        while n_done < size:
            part = starts[n_done : n_done + at_once]
            records = draw_records(self.data, len(part), self.length, rng=self.rng, starts=part)
            errors = self._errors(records.mixture).sum(axis=0)
            total = errors if not n_done else total + errors
            n_done += len(part)
        by_age = total / size
        components = self._mean(by_age, self.overall)
        settled = self._mean(by_age, self.settled).mean() if len(self.settled) else np.nan
        means = [components.mean(), settled, components, by_age.mean(axis=1), by_age]
        return [np.asarray(mean) for mean in means]

    def _mean(self, by_age: Float[np.ndarray, "A K"], ages: range) -> Float[np.ndarray, " K"]:
        """Mean error over a range of ages, some of which may be no longer drawn."""
        drawn = by_age[ages.start : ages.stop].sum(axis=0)
        tail = self.tail[max(0, ages.start - len(by_age)) :].sum(axis=0)
        return (drawn + tail) / len(ages)

    def shorten(self, totals: _Totals) -> bool:
        """Draw only the start of records from now on, where all error that counts is there.

        The mean of the batches so far is kept for the ages after it.
        """
        if self.windowed or self.window.future != 0 or len(self.tail):
            return False
        by_age = totals.mean(4)
        remaining = np.cumsum(by_age[::-1].sum(axis=1))[::-1]  # of all ages from each on
        needed = int(np.searchsorted(-remaining, -NEGLIGIBLE * remaining[0]))
        needed = max(needed, self.window.stride)
        if needed >= self.length:
            return False
        self.tail, self.length = by_age[needed:], needed
        self.tail_stderr = totals.stderr(3)[needed:]
        if len(self.settled) and self.settled.start >= needed:
            self.settled_stderr = totals.stderr(1)
        self._resize()
        return True

    def _resize(self) -> None:
        self.size = N_WINDOWS if self.windowed else N_RECORDS
        if self.length * self.size > MAX_BATCH_SAMPLES:
            self.size = max(MIN_RECORDS, MAX_BATCH_SAMPLES // self.length)
        if not self.posterior.is_informative:
            self.size = 2  # every posterior is the prior

    def _errors(self, mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B A K"]:
        if self.window.future is None:
            _, state = self.posterior.moments(mixture, self.posterior.initial_state(len(mixture)))
            return self._error(*self.posterior.smooth(state))
        n, n_samples = mixture.shape
        stride, future = self.window.stride, self.window.future
        n_steps = -(-n_samples // stride)
        padded = np.pad(
            mixture, ((0, 0), (0, n_steps * stride - n_samples)), constant_values=np.nan
        )
        lanes = padded.reshape(n, n_steps, stride).transpose(0, 2, 1).reshape(n * stride, n_steps)
        start = self.posterior.initial_state(len(lanes))
        if self.windowed:
            moments, _ = self.posterior.moments(lanes, start, anchor=self.length - 1 - future)
        else:
            moments, _ = self.posterior.moments(lanes, start, lag=future)
        errors = self._error(*moments).reshape(n, stride, n_steps, -1)
        errors = errors.transpose(0, 2, 1, 3).reshape(n, n_steps * stride, -1)[:, :n_samples]
        # With a lag, the error after sample n is that of sample n - lag.
        return errors if self.windowed else errors[:, future:]

    def _error(
        self, mean: Float[np.ndarray, "B T K"], variance: Float[np.ndarray, "B T K"]
    ) -> Float[np.ndarray, "B T K"]:
        if self.window.target_known:
            return variance
        # One estimate for all components: the best is the mean of their posterior means.
        return variance + (mean - mean.mean(axis=2, keepdims=True)) ** 2


class _Totals:
    """Means over batches, and their standard errors."""

    def __init__(self) -> None:
        self.n = 0
        self.sums: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, means: list[np.ndarray]) -> None:
        new = [(x, x**2) for x in means]
        old = self.sums or [(0 * x, 0 * x) for x in means]
        self.sums = [(a + x, b + y) for (a, b), (x, y) in zip(old, new, strict=True)]
        self.n += 1

    def mean(self, i: int) -> np.ndarray:
        return np.asarray(self.sums[i][0] / self.n)

    def stderr(self, i: int) -> np.ndarray:
        variance = np.maximum(self.sums[i][1] / self.n - self.mean(i) ** 2, 0.0)
        return np.asarray(np.sqrt(variance / (self.n - 1)))

    def missing(self, wanted: float | None) -> float:
        """By which factor more batches are needed; at most 1: there are enough."""
        mean, error = float(self.mean(0)), float(self.stderr(0))
        if error <= ROUNDING:
            return 0.0
        return (error / (RELATIVE_STDERR * mean if wanted is None else wanted)) ** 2


def _result(draw: _MonteCarlo, totals: _Totals) -> BayesLimit:
    none_settled = math.isnan(float(totals.mean(1)))
    settled_stderr = totals.stderr(1) if draw.settled_stderr is None else draw.settled_stderr
    return BayesLimit(
        mse=float(totals.mean(0)),
        stderr=float(totals.stderr(0)),
        per_component=tuple(totals.mean(2).tolist()),
        per_component_stderr=tuple(totals.stderr(2).tolist()),
        by_age=np.concatenate([totals.mean(3), draw.tail.mean(axis=1)]),
        by_age_stderr=np.concatenate([totals.stderr(3), draw.tail_stderr]),
        settled=None if none_settled else float(totals.mean(1)),
        settled_stderr=None if none_settled else float(settled_stderr),
        n_records=totals.n * draw.size,
        kind="exact",
    )
