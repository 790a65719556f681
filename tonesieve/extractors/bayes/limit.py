"""The limit: the smallest expected squared error that any method can have, by what it sees.

Locked regime: the mean posterior variance over random records (the posterior is exact, the mean
over records is drawn, with a standard error). Free regime: linear algebra. SPEC, section 6. Axes:
T ages, K components.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from tonesieve.config.config import Config, DataSettings
from tonesieve.errors import UserError
from tonesieve.extractors.bayes.posterior_mean import StartPosterior, free_noise_power, is_gaussian
from tonesieve.extractors.filters.base import ToneFilter
from tonesieve.signals.synthesis import draw_records, even_starts, gaps, tone_response

# Records or windows in a batch, and batches that a standard error rests on at least.
RECORDS, WINDOWS, FEWEST_BATCHES = 64, 512, 16
# Of long records fewer make a batch: at most so many samples, at least so many records.
MOST_SAMPLES, FEWEST_RECORDS = 2**21, 4
# Samples drawn at a time: bounds memory.
AT_ONCE = 2**18
# Ages that hold no more than this share of all error are drawn in the first batches only.
NEGLIGIBLE = 1e-4
# A standard error that is rounding, not chance.
ROUNDING = 1e-12
# The asked standard error, over the limit, where none is asked for.
RELATIVE = 0.01
SEED = 20
# Patterns of gaps that the free regime's limit is averaged over.
N_GAP_RECORDS = 32
# Ages taken at a time, and how many of a long record are computed one by one.
BLOCK, MOST_AGES = 4096, 2**16
# Noise so small that a steady tone is known from its first samples; keeps the algebra finite.
TINY = 1e-12


@dataclass(frozen=True)
class ObservationWindow:
    """Which samples an estimate may rest on, counted from the one that is answered."""

    past: int | None = None  # samples before it; None: all
    future: int | None = 0  # samples after it; None: all
    stride: int = 1  # only every so-manieth sample
    told: bool = True  # which component is meant


@dataclass(frozen=True)
class BayesLimit:
    """Expected squared error of the best estimate, with the standard errors of the figures."""

    mse: float
    stderr: float
    per_component: tuple[float, ...]
    per_component_stderr: tuple[float, ...]
    # By age: after 1, 2, ... samples (of those that the view lets through).
    by_age: Float[np.ndarray, " T"]
    by_age_stderr: Float[np.ndarray, " T"]
    settled: float | None  # mean over the ages after the start-up; None: there are none
    settled_stderr: float | None
    n_records: int  # drawn; 0: in closed form
    kind: str  # "exact" or "best linear"
    # Cramer-Rao bound of unbiased estimates, by age, where it applies; infinite at the start.
    cramer_rao_by_age: Float[np.ndarray, " T"] | None = None


def view_of(config: Config) -> ObservationWindow:
    """What the configured model sees of a record.

    Raises `UserError` for taps on strided lanes, whose limit is not computed.
    """
    taps, told = config.model.taps, config.model.selector != "none"
    told = told or config.data.n_components == 1
    field = config.model.receptive_field
    if config.stateful:
        if taps and config.stride > 1:
            raise UserError("training.lanes: no limit is computed for strided lanes with taps")
        if config.model.bidirectional:
            return ObservationWindow(None, None, config.stride, told)
        past = None if field is None else (field - 1) * config.stride + taps
        return ObservationWindow(past, taps, config.stride, told)
    seen = config.model.window if field is None else min(field, config.model.window)
    reach = seen - 1 + taps
    return ObservationWindow(reach, reach if config.evaluation.join == "mean" else taps, 1, told)


def limit(
    data: DataSettings,
    view: ObservationWindow,
    n_samples: int,
    *,
    settle: int = 0,
    stderr: float | None = None,
    seed: int = SEED,
    on_share: Callable[[float], None] = lambda share: None,
) -> BayesLimit:
    """The limit for records of ``n_samples`` samples with unknown start.

    With a bounded past: of a sample whose whole view lies in the record; ``by_age`` then tells of
    windows that have filled so far, and after their last sample of the future as it comes in.
    With the whole past: the mean over the ages of a record (without those at its end whose future
    is cut off), and ``settled`` that over the ages after ``settle`` samples.

    Draws records until the standard error of ``mse`` is ``stderr``, or 1% of it where that is
    None; the other figures have the error that comes of it. ``on_share`` hears how much of the way
    is done. Raises `UserError`
    where no limit is known.
    """
    if data.regime == "free":
        return _free_limit(data, view, n_samples, settle, seed)
    draw = _MonteCarlo(data, view, n_samples, settle, np.random.default_rng(seed))
    totals = _Totals()
    while True:
        totals.add(draw.batch())
        if totals.n < FEWEST_BATCHES:
            continue
        missing = totals.missing(stderr)
        on_share(min(1.0, 1 / missing) if missing > 0 else 1.0)
        if missing <= 1:
            return _drawn(draw, totals)
        if draw.shorten(totals):
            totals = _Totals()


class _MonteCarlo:
    """Posterior variances of random records under a view, a batch at a time.

    The starts of a batch lie evenly over the period, the first of them at random: every batch is
    a fair draw, and most of what differs from start to start cancels within it.
    """

    def __init__(
        self,
        data: DataSettings,
        view: ObservationWindow,
        n_samples: int,
        settle: int,
        rng: np.random.Generator,
    ) -> None:
        self.data, self.view, self.rng = data, view, rng
        self.posterior = StartPosterior(data, view.stride)
        self.windowed = view.past is not None
        future = view.future or 0
        if view.past is not None:
            if view.future is None or view.stride > 1:
                raise UserError("no limit is computed for a bounded past with this future")
            self.length, settle = view.past + 1 + future, view.past + future
            self.scored = self.length
            first = self.length - 1
        else:
            self.length, self.scored, first = n_samples, n_samples - future, 0
        # Ages that make the overall figure, and the settled one.
        self.overall, self.settled = range(first, self.scored), range(settle, self.scored)
        self._resize()
        # Ages that are drawn no more: their errors, and how sure those are.
        self.tail: Float[np.ndarray, "A K"] = np.zeros((0, data.n_components))
        self.tail_stderr: Float[np.ndarray, " A"] = np.zeros(0)
        self.settled_stderr: np.ndarray | None = None

    def batch(self) -> list[np.ndarray]:
        """Of one batch: error overall, settled, by component, by age."""
        size = self.size
        starts = even_starts(self.data, size, rng=self.rng)
        total, done = np.zeros((0, self.data.n_components)), 0
        at_once = max(1, AT_ONCE // self.length)
        while done < size:
            part = starts[done : done + at_once]
            records = draw_records(self.data, len(part), self.length, rng=self.rng, starts=part)
            errors = self._errors(records.mixture).sum(axis=0)
            total = errors if not done else total + errors
            done += len(part)
        by_age = total / size
        components = self._mean(by_age, self.overall)
        settled = self._mean(by_age, self.settled).mean() if len(self.settled) else np.nan
        figures = [components.mean(), settled, components, by_age.mean(axis=1), by_age]
        return [np.asarray(figure) for figure in figures]

    def _mean(self, by_age: Float[np.ndarray, "A K"], ages: range) -> Float[np.ndarray, " K"]:
        """Mean error over a range of ages, some of which may be drawn no more."""
        drawn = by_age[ages.start : ages.stop].sum(axis=0)
        kept = self.tail[max(0, ages.start - len(by_age)) :].sum(axis=0)
        return (drawn + kept) / len(ages)

    def shorten(self, totals: _Totals) -> bool:
        """Draw only the start of records from now on, where all that counts happens there.

        What follows is kept as the batches so far have it.
        """
        if self.windowed or self.view.future != 0 or len(self.tail):
            return False
        by_age = totals.mean(4)
        rest = np.cumsum(by_age[::-1].sum(axis=1))[::-1]  # of all ages from each on
        needed = max(int(np.searchsorted(-rest, -NEGLIGIBLE * rest[0])), self.view.stride)
        if needed >= self.length:
            return False
        self.tail, self.length = by_age[needed:], needed
        self.tail_stderr = totals.stderr(3)[needed:]
        if len(self.settled) and self.settled.start >= needed:
            self.settled_stderr = totals.stderr(1)
        self._resize()
        return True

    def _resize(self) -> None:
        self.size = WINDOWS if self.windowed else RECORDS
        if self.length * self.size > MOST_SAMPLES:
            self.size = max(FEWEST_RECORDS, MOST_SAMPLES // self.length)
        if not self.posterior.informative:
            self.size = 2  # every posterior is the prior

    def _errors(self, mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B A K"]:
        if self.view.future is None:
            _, state = self.posterior.moments(mixture, self.posterior.initial_state(len(mixture)))
            return self._error(*self.posterior.look_back(state))
        n, n_samples = mixture.shape
        stride, future = self.view.stride, self.view.future
        rounds = -(-n_samples // stride)
        padded = np.pad(mixture, ((0, 0), (0, rounds * stride - n_samples)), constant_values=np.nan)
        lanes = padded.reshape(n, rounds, stride).transpose(0, 2, 1).reshape(n * stride, rounds)
        start = self.posterior.initial_state(len(lanes))
        if self.windowed:
            moments, _ = self.posterior.moments(lanes, start, anchor=self.length - 1 - future)
        else:
            moments, _ = self.posterior.moments(lanes, start, lag=future)
        errors = self._error(*moments).reshape(n, stride, rounds, -1)
        errors = errors.transpose(0, 2, 1, 3).reshape(n, rounds * stride, -1)[:, :n_samples]
        # Read with a lag, the error after sample n is that of sample n - lag.
        return errors if self.windowed else errors[:, future:]

    def _error(
        self, mean: Float[np.ndarray, "B T K"], variance: Float[np.ndarray, "B T K"]
    ) -> Float[np.ndarray, "B T K"]:
        if self.view.told:
            return variance
        # One answer for all: the best is the mean of what would be answered for each.
        return variance + (mean - mean.mean(axis=2, keepdims=True)) ** 2


class _Totals:
    """Means over batches, and their standard errors."""

    def __init__(self) -> None:
        self.n = 0
        self.sums: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, figures: list[np.ndarray]) -> None:
        new = [(x, x**2) for x in figures]
        old = self.sums or [(0 * x, 0 * x) for x in figures]
        self.sums = [(a + x, b + y) for (a, b), (x, y) in zip(old, new, strict=True)]
        self.n += 1

    def mean(self, i: int) -> np.ndarray:
        return np.asarray(self.sums[i][0] / self.n)

    def stderr(self, i: int) -> np.ndarray:
        spread = np.maximum(self.sums[i][1] / self.n - self.mean(i) ** 2, 0.0)
        return np.asarray(np.sqrt(spread / (self.n - 1)))

    def missing(self, asked: float | None) -> float:
        """By which factor more batches are needed; at most 1: there are enough."""
        mean, error = float(self.mean(0)), float(self.stderr(0))
        if error <= ROUNDING:
            return 0.0
        return (error / (RELATIVE * mean if asked is None else asked)) ** 2


def _drawn(draw: _MonteCarlo, totals: _Totals) -> BayesLimit:
    nothing = math.isnan(float(totals.mean(1)))
    kept = draw.settled_stderr
    settled_stderr = totals.stderr(1) if kept is None else kept
    return BayesLimit(
        mse=float(totals.mean(0)),
        stderr=float(totals.stderr(0)),
        per_component=tuple(totals.mean(2).tolist()),
        per_component_stderr=tuple(totals.stderr(2).tolist()),
        by_age=np.concatenate([totals.mean(3), draw.tail.mean(axis=1)]),
        by_age_stderr=np.concatenate([totals.stderr(3), draw.tail_stderr]),
        settled=None if nothing else float(totals.mean(1)),
        settled_stderr=None if nothing else float(settled_stderr),
        n_records=totals.n * draw.size,
        kind="exact",
    )


def _free_limit(
    data: DataSettings, view: ObservationWindow, n_samples: int, settle: int, seed: int
) -> BayesLimit:
    """Posterior covariance of the coefficients, given the samples that each estimate sees."""
    noise = free_noise_power(data)
    n_masks = N_GAP_RECORDS if data.gap_fraction else 1
    rng = np.random.default_rng(seed)
    records = [_free_record(data, view, n_samples, settle, noise, rng) for _ in range(n_masks)]
    components, settled, by_age, bound = (np.array(part) for part in zip(*records, strict=True))
    overall = components.mean(axis=1)
    nothing = bool(np.isnan(settled).any())
    steady = is_gaussian(data) and noise > 0 and view.told
    return BayesLimit(
        mse=float(overall.mean()),
        stderr=float(_spread(overall)),
        per_component=tuple(float(x) for x in components.mean(axis=0)),
        per_component_stderr=tuple(_spread(components).tolist()),
        by_age=by_age.mean(axis=0),
        by_age_stderr=_spread(by_age),
        settled=None if nothing else float(settled.mean()),
        settled_stderr=None if nothing else float(_spread(settled)),
        n_records=n_masks if data.gap_fraction else 0,
        kind="exact" if is_gaussian(data) else "best linear",
        cramer_rao_by_age=bound.mean(axis=0) if steady else None,
    )


def _spread(values: np.ndarray) -> np.ndarray:
    """Standard error of a mean over the first axis; 0 where it is no mean."""
    n = len(values)
    return np.asarray(np.std(values, axis=0, ddof=1) / math.sqrt(n) if n > 1 else 0 * values[0])


def _free_record(
    data: DataSettings,
    view: ObservationWindow,
    n_samples: int,
    settle: int,
    noise: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, float, np.ndarray, np.ndarray]:
    """Of one record: error a component (K,), settled error, error and Cramer-Rao bound by age.

    The information on the coefficients is a running sum over the samples seen, carried from block
    to block.
    """
    windowed, future = view.past is not None, view.future or 0
    if windowed and (view.future is None or view.stride > 1):
        raise UserError("no limit is computed for a bounded past with this future")
    length = n_samples if view.past is None else view.past + 1 + future
    heard = np.ones(length) if not data.gap_fraction else 1.0 - gaps(data, 1, length, rng=rng)[0]
    tones = ToneFilter(data.frequencies_hz, data.rate_hz, tone_response(data))
    carried = np.zeros((view.stride, 2 * tones.n_tones, 2 * tones.n_tones))
    bounded = is_gaussian(data) and noise > 0 and view.told
    parts = []
    block = view.stride * -(-BLOCK // view.stride)
    for first in range(0, length, block):
        n = min(block, length - first)
        thin = 1 if first < MOST_AGES else 1 + length // MOST_AGES
        rows = tones.design_matrix(first, n)
        seen = heard[first : first + n, None, None] * rows[:, :, None] * rows[:, None, :]
        seen /= max(noise, TINY)
        for lane in range(min(view.stride, n)):
            seen[lane :: view.stride] = carried[lane] + np.cumsum(seen[lane :: view.stride], axis=0)
            carried[lane] = seen[lane :: view.stride][-1]
        if view.future is None:
            continue
        # As in the locked regime: windows that fill, then the future as it comes in; or all that
        # is heard of the samples so far, answered with a lag.
        at = np.arange(first, first + n)
        at = np.minimum(at, view.past) if view.past is not None else at - future
        parts.append(_errors(seen[at >= 0], tones, at[at >= 0], view.told, bounded, thin))
    if view.future is None:
        for first in range(0, length, block):
            at = np.arange(first, min(first + block, length))
            thin = 1 if first < MOST_AGES else 1 + length // MOST_AGES
            whole = np.broadcast_to(carried[0], (len(at), *carried[0].shape))
            parts.append(_errors(whole, tones, at, view.told, bounded, thin))
    error, bound = (np.concatenate(part) for part in zip(*parts, strict=True))
    scored, late = (error[-1:], error[-1:]) if windowed else (error, error[settle:])
    settled = float(late.mean()) if late.size else math.nan
    return scored.mean(axis=0), settled, error.mean(axis=1), bound


def _errors(
    information: Float[np.ndarray, "T D D"],
    tones: ToneFilter,
    at: Int[np.ndarray, " T"],
    told: bool,
    bounded: bool,
    thin: int,
) -> tuple[Float[np.ndarray, "T K"], Float[np.ndarray, " T"]]:
    """Mean squared error of every tone, and the Cramer-Rao bound of their mean, at some samples.

    The prior of every coefficient is N(0, 1/2). Without it there is a bound only where the samples
    tell all coefficients apart; elsewhere it is infinite. Of long records every ``thin`` sample is
    computed and stands for those around it.
    """
    n_samples = len(at)
    information, reads = information[::thin], tones.output_matrix(at[::thin])
    n = information.shape[1]
    covariance = np.linalg.inv(information + 2.0 * np.eye(n))
    error = np.einsum("tki,tij,tkj->tk", reads, covariance, reads)
    if not told:
        # Covariance of the posterior means; one answer for all tones is best their mean.
        known = np.einsum("tki,tij,tlj->tkl", reads, 0.5 * np.eye(n) - covariance, reads)
        error = 0.5 - 2 * known.mean(axis=2) + known.mean(axis=(1, 2))[:, None]
    bound = np.full(len(reads), np.inf)
    if bounded:
        eigenvalues = np.linalg.eigvalsh(information)
        regular = eigenvalues[:, 0] > 1e-10 * eigenvalues[:, -1]
        inverse, seen = np.linalg.inv(information[regular]), reads[regular]
        bound[regular] = np.einsum("tki,tij,tkj->tk", seen, inverse, seen).mean(axis=1)
    return (
        np.repeat(error, thin, axis=0)[:n_samples],
        np.repeat(bound, thin)[:n_samples],
    )
