"""The limit: the smallest expected squared error of any method, by what it observes.

Known phase (``regime locked``): the mean posterior variance over random records. Unknown phase
(``regime free``): linear algebra. See docs/exercise.md, What can be true: the limit.
"""

from __future__ import annotations

from collections.abc import Callable

from tonesieve.config.config import Config, DataSettings
from tonesieve.errors import UserError
from tonesieve.extractors.bayes.known_phase_limit import known_phase_limit
from tonesieve.extractors.bayes.limit_types import BayesLimit, ObservationWindow
from tonesieve.extractors.bayes.unknown_phase_limit import unknown_phase_limit

__all__ = ["BayesLimit", "ObservationWindow", "limit", "observation_window"]

# Chosen: the seed of random records, a fixed one so that a limit is reproducible.
SEED = 20


def observation_window(config: Config) -> ObservationWindow:
    """Find which samples of a record the configured model observes.

    Parameters
    ----------
    config : Config
        Model, lanes and evaluation.

    Returns
    -------
    ObservationWindow
        Past, future and stride.

    Raises
    ------
    UserError
        For taps on strided lanes, whose limit is not computed.
    """
    taps, target_known = config.model.taps, config.model.selector != "none"
    target_known = target_known or config.data.n_components == 1
    field = config.model.receptive_field
    if config.stateful:
        if taps and config.stride > 1:
            raise UserError("training.lanes: no limit is computed for strided lanes with taps")
        if config.model.bidirectional:
            return ObservationWindow(None, None, config.stride, target_known)
        past = None if field is None else (field - 1) * config.stride + taps
        return ObservationWindow(past, taps, config.stride, target_known)
    length = config.model.window if field is None else min(field, config.model.window)
    past = length - 1 + taps
    future = past if config.evaluation.join == "mean" else taps
    return ObservationWindow(past, future, 1, target_known)


def limit(
    data: DataSettings,
    window: ObservationWindow,
    n_samples: int,
    *,
    settle: int = 0,
    stderr: float | None = None,
    seed: int = SEED,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> BayesLimit:
    """Compute the limit for records of ``n_samples`` samples with unknown start.

    With a bounded past it is that of a sample whose whole window lies in the record; ``by_age``
    is then that of windows that fill, and after their last past sample of the future as it comes
    in. With the whole past it is the mean over the ages of a record (without those at its end
    whose future is cut off), and ``settled`` that over the ages after ``settle`` samples.

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
    stderr : float, optional
        Known phase: records are drawn until ``mse`` has this standard error. Default: 1% of it.
        The other fields have whatever error follows.
    seed : int
        Of random records and gaps.
    on_progress : callable
        Gets the fraction of the way that is done, 0 to 1.

    Returns
    -------
    BayesLimit
        The limit, its standard errors, and its course over the age.

    Raises
    ------
    UserError
        Where no limit is known.

    References
    ----------
    Van Trees, Detection, Estimation, and Modulation Theory, Part I, 1968, section 2.4 (the
    posterior mean has the least mean squared error). Kay, Fundamentals of Statistical Signal
    Processing: Estimation Theory, 1993, chapters 3 (Cramer-Rao bound), 11 and 12.
    """
    if data.regime == "free":
        return unknown_phase_limit(data, window, n_samples, settle, seed)
    return known_phase_limit(
        data, window, n_samples, settle, stderr=stderr, seed=seed, on_progress=on_progress
    )
