"""The ratio of an extractor's error to the limit, to a fraction of a percent.

The squared errors of the extractor and of the MMSE extractor are measured on the same records
(common random numbers). They are strongly correlated, so their difference has a far smaller
standard error than either alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tonesieve.config.config import DataSettings
from tonesieve.errors import UserError
from tonesieve.extractors.bayes.posterior_mean import mmse_extractor
from tonesieve.extractors.protocol import Extractor
from tonesieve.signals.synthesis import draw_records

# Guard against memory: samples of the records that are drawn at once.
BATCH_SAMPLES = 2**18
# Guard against a standard error from too few records.
MIN_RECORDS = 32


@dataclass(frozen=True)
class PairedRatio:
    """Errors over some ages of many records, and their ratio.

    Parameters
    ----------
    mse : float
        Mean squared error of the extractor.
    best_mse : float
        That of the MMSE extractor, on the same records.
    ratio : float
        The first over the second.
    ratio_stderr : float
        Standard error of the ratio.
    n_records : int
        Records drawn.
    """

    mse: float
    best_mse: float
    ratio: float
    ratio_stderr: float
    n_records: int


def paired_ratio(
    extractor: Extractor,
    data: DataSettings,
    *,
    n_samples: int,
    ages: slice,
    stderr: float,
    seed: int,
    most_records: int = 2**20,
    on_records: Callable[[int], None] = lambda n_done: None,
) -> PairedRatio:
    """Measure the ratio of an extractor's error to that of the MMSE extractor.

    Records start at random times, each with noise of its own. They are drawn until the standard
    error of the ratio is at most ``stderr``. The MMSE extractor observes all samples so far: for a
    window of L, take records of L samples and the last age alone.

    Parameters
    ----------
    extractor : Extractor
        The extractor to measure.
    data : DataSettings
        Settings of the signal; ``start`` is set to random.
    n_samples : int
        Length of a record.
    ages : slice
        Samples of each record over which the errors are averaged.
    stderr : float
        Standard error of the ratio to reach.
    seed : int
        Seed of the records.
    most_records : int
        Records after which to give up.
    on_records : callable
        Called with the number of records drawn so far.

    Returns
    -------
    PairedRatio
        Errors, ratio and its standard error.

    Raises
    ------
    UserError
        If no MMSE extractor is known or if its error is 0, if an estimate is not finite, or if
        ``stderr`` is not reached with ``most_records``.
    """
    data = data.model_copy(update={"start": "random"})
    best = mmse_extractor(data)
    rng = np.random.default_rng(seed)
    n_batch = max(2, min(BATCH_SAMPLES // n_samples, most_records))
    pairs = np.empty((0, 2))
    while len(pairs) < most_records:
        records = draw_records(data, n_batch, n_samples, rng=rng)
        errors = [_errors(e, records.mixture, records.targets, ages) for e in (extractor, best)]
        pairs = np.concatenate([pairs, np.stack(errors, axis=1)])
        if not np.isfinite(pairs).all():
            raise UserError("ratio: the estimate is not finite everywhere; there is no ratio")
        on_records(len(pairs))
        result = _ratio(pairs)
        if len(pairs) >= MIN_RECORDS and result.ratio_stderr <= stderr:
            return result
    raise UserError(
        f"ratio: the standard error is {result.ratio_stderr:.2g} after {len(pairs)} records, and "
        f"{stderr:.2g} was asked for; ask for a larger one"
    )


def _errors(
    extractor: Extractor,
    mixture: Float[np.ndarray, "B T"],
    targets: Float[np.ndarray, "B T K"],
    ages: slice,
) -> Float[np.ndarray, " B"]:
    """Mean squared error of every record."""
    error = extractor.extract(mixture)[:, ages] - targets[:, ages]
    return np.asarray(np.mean(error**2, axis=(1, 2)))


def _ratio(pairs: Float[np.ndarray, "B 2"]) -> PairedRatio:
    mse, best = pairs.mean(axis=0)
    if best == 0:
        raise UserError("ratio: the best possible extractor makes no error at these ages")
    ratio = mse / best
    # Delta method for a ratio of means.
    residual = pairs[:, 0] - ratio * pairs[:, 1]
    stderr = float(np.std(residual, ddof=1) / np.sqrt(len(pairs)) / best)
    return PairedRatio(float(mse), float(best), float(ratio), stderr, len(pairs))
