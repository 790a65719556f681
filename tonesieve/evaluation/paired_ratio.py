"""How much above the limit an extractor is, to a fraction of a percent.

Its squared error and that of the best possible extractor are taken on the same draws: what chance
adds to the one it adds to the other, so their difference is known long before either is.
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

# Records that are drawn at once, in samples: bounds memory.
AT_ONCE = 2**18
FEWEST = 32  # records, for a standard error that can be trusted


@dataclass(frozen=True)
class Excess:
    """Errors over some ages of many records, and the ratio of the two with its standard error."""

    mse: float
    best_mse: float
    ratio: float  # 1 + mean of the paired differences / best_mse
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
) -> Excess:
    """The error over samples ``ages`` of records of ``n_samples``, beside the best possible.

    Records begin at random times, each with noise of its own, and are drawn until the ratio's
    standard error is at most ``stderr``. The best extractor hears all samples so far: for a
    window of L, take records of L samples and the last age alone. Raises `UserError` where no best
    extractor is known, where it makes no error, and after ``most_records``.
    """
    shifted = data.model_copy(update={"start": "random"})
    best = mmse_extractor(shifted)
    rng = np.random.default_rng(seed)
    at_once = max(2, min(AT_ONCE // n_samples, most_records))
    pairs = np.empty((0, 2))
    while len(pairs) < most_records:
        records = draw_records(shifted, at_once, n_samples, rng=rng)
        errors = [_errors(e, records.mixture, records.targets, ages) for e in (extractor, best)]
        pairs = np.concatenate([pairs, np.stack(errors, axis=1)])
        if not np.isfinite(pairs).all():
            raise UserError("ratio: the estimate is not finite everywhere; there is none")
        on_records(len(pairs))
        found = _ratio(pairs)
        if len(pairs) >= FEWEST and found.ratio_stderr <= stderr:
            return found
    raise UserError(
        f"ratio: known to {found.ratio_stderr:.2g} after {len(pairs)} records, asked for "
        f"{stderr:.2g}; ask for less"
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


def _ratio(pairs: Float[np.ndarray, "B 2"]) -> Excess:
    mse, best = pairs.mean(axis=0)
    if best == 0:
        raise UserError("ratio: the best possible extractor makes no error at these ages")
    ratio = mse / best
    # Of a ratio of means: what is left of the one after so many times the other.
    left = pairs[:, 0] - ratio * pairs[:, 1]
    stderr = float(np.std(left, ddof=1) / np.sqrt(len(pairs)) / best)
    return Excess(float(mse), float(best), float(ratio), stderr, len(pairs))
