"""Evaluation of an extractor on the exercise's records, and with random start times.

docs/exercise.md, "Training and evaluation" and "Commands and metrics". Axes: B records, T samples,
K components.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from tonesieve.config.config import Config
from tonesieve.errors import UserError
from tonesieve.evaluation.metrics import (
    correlation,
    generalisation_verdict,
    improvement_over_mean,
    improvement_over_random,
    mse,
    mse_band,
    r2,
    relative_gap,
    spectrum_check,
    standard_error,
)
from tonesieve.extractors.bayes.limit import (
    BayesLimit,
    ObservationWindow,
    limit,
    observation_window,
)
from tonesieve.extractors.protocol import Extractor
from tonesieve.signals.synthesis import Records, draw_exercise, draw_records, of_part

# Chosen, not tuned. A window sees nothing before its L samples, so short records suffice: they are
# this many samples longer than the start-up.
WINDOWS_PER_RECORD = 500
# Guard against a false alarm: an error fewer standard errors below the limit may be chance.
MAX_STDERRS = 5
# Chosen, not tuned: a fixed-start error below this fraction of the limit calls for a probe.
CLOCK_RATIO = 0.5
# Train record, test record, records with random start.
N_PARTS = 3

Metrics = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """The metrics of an extractor, and the test record that they were measured on.

    Parameters
    ----------
    metrics : dict
        Sections of ``metrics.json``.
    test : Records
        The test record.
    estimate : ndarray, shape (T, K)
        Estimate of its tones.
    n_skipped : int
        Samples at its start at which no full window ends.
    """

    metrics: Metrics
    test: Records
    estimate: Float[np.ndarray, "T K"]
    n_skipped: int


def evaluate_extractor(
    extractor: Extractor, config: Config, *, on_part: Callable[[int], None] = lambda n_done: None
) -> Evaluation:
    """Evaluate an extractor under the settings of a run.

    Every record and component starts from the initial state.

    Parameters
    ----------
    extractor : Extractor
        The extractor to evaluate.
    config : Config
        Settings of the run.
    on_part : callable
        Called with the number of records that are done, of `N_PARTS`.

    Returns
    -------
    Evaluation
        Its metrics have the sections ``train``, ``test``, ``generalisation`` and ``shifted``
        (random start), and ``warnings`` about a leak or a clock.
    """
    skip = config.model.window - 1
    train = draw_exercise(of_part(config.data, "train"), seed=config.data.train_seed)
    test = draw_exercise(of_part(config.data, "test"), seed=config.data.test_seed)
    on_train = extractor.extract(train.mixture)[:, skip:]
    on_part(1)
    on_test = extractor.extract(test.mixture)
    on_part(2)
    metrics: Metrics = {
        "train": _record_metrics(on_train, train.targets[:, skip:], config),
        "test": _record_metrics(on_test[:, skip:], test.targets[:, skip:], config),
        "shifted": _random_start_metrics(extractor, config),
    }
    on_part(N_PARTS)
    metrics["generalisation"] = _generalisation(metrics["train"], metrics["test"], config)
    metrics["warnings"] = _leak_warnings(metrics)
    return Evaluation(metrics, test, on_test[0], skip)


def _record_metrics(
    estimate: Float[np.ndarray, "1 T K"], target: Float[np.ndarray, "1 T K"], config: Config
) -> Metrics:
    overall = mse(estimate, target)
    # The bands are for tones of amplitude 1; upon a background they have any amplitude.
    band = mse_band(overall) if config.data.background is None else None
    return {
        "mse": overall,
        "band": band,
        "passed": None if band is None else band in ("excellent", "good"),
        "improvement_over_mean": improvement_over_mean(estimate, target),
        "improvement_over_random": improvement_over_random(estimate, target),
        "per_component": [
            _component_metrics(estimate[0, :, k], target[0, :, k], k, config)
            for k in range(config.data.n_components)
        ],
    }


def _component_metrics(
    estimate: Float[np.ndarray, " T"], target: Float[np.ndarray, " T"], k: int, config: Config
) -> Metrics:
    data = config.data
    return {
        "hz": data.frequencies_hz[k],
        "mse": mse(estimate, target),
        "r2": r2(estimate, target),
        "correlation": correlation(estimate, target),
        "spectrum": spectrum_check(estimate, k, data.frequencies_hz, data.rate_hz),
    }


def _generalisation(train: Metrics, test: Metrics, config: Config) -> Metrics:
    for on_train, on_test in zip(train["per_component"], test["per_component"], strict=True):
        gap = relative_gap(on_train["mse"], on_test["mse"])
        on_train["gap"] = on_test["gap"] = gap
        on_train["ratio"] = on_test["ratio"] = None if gap is None else gap + 1
    gap = relative_gap(train["mse"], test["mse"])
    ratio = None if gap is None else gap + 1
    verdict = generalisation_verdict(ratio)
    if config.data.background is not None:
        gap = ratio = None
        verdict = "not comparable: the tones of the two records have different amplitudes"
    threshold = config.evaluation.gap_threshold
    return {
        "ratio": ratio,
        "verdict": verdict,
        "gap": gap,
        "gap_threshold": threshold,
        "gap_within_threshold": gap is not None and gap <= threshold,
    }


def _random_start_metrics(extractor: Extractor, config: Config) -> Metrics:
    """The same test with random start times, beside the limit; standard errors over records.

    Only samples whose whole view lies in the record are counted.
    """
    data, evaluation = config.data, config.evaluation
    random_start = of_part(data.model_copy(update={"start": "random"}), "test")
    view, best, note = _limit_of(config)
    skip, cut = view.past or 0, view.future or 0
    settle, n_samples = max(skip, settle_samples(config)), random_start_samples(config)
    rng = np.random.default_rng([data.test_seed, 5])
    records = draw_records(random_start, evaluation.shifted_records, n_samples, rng=rng)
    error = ((extractor.extract(records.mixture) - records.targets) ** 2)[:, : n_samples - cut]
    by_record = error[:, skip:].mean(axis=(1, 2))
    late = error[:, settle:]  # empty where the records are no longer than the start-up
    settled = late.mean(axis=(1, 2)) if late.size else None
    metrics: Metrics = {
        "mse": float(by_record.mean()),
        "stderr": standard_error(by_record),
        **_relative_to_limit(by_record, best, note),
        "settled_mse": None if settled is None else float(settled.mean()),
        "settled_stderr": None if settled is None else standard_error(settled),
        "settled_limit": None if best is None else best.settled,
        "per_component": [
            {
                "hz": f,
                "mse": float(error[:, skip:, k].mean()),
                "limit": None if best is None else best.per_component[k],
            }
            for k, f in enumerate(data.frequencies_hz)
        ],
        "records": evaluation.shifted_records,
        "samples_per_record": n_samples - skip - cut,
    }
    return metrics


def settle_samples(config: Config) -> int:
    """Convert the start-up time that settled metrics leave out to samples.

    Parameters
    ----------
    config : Config
        Settings of a run.

    Returns
    -------
    int
        Samples of the start-up.
    """
    return round(config.evaluation.settle_s * config.data.rate_hz)


def random_start_samples(config: Config) -> int:
    """Choose the length of a record with random start; short ones suffice for windows.

    Parameters
    ----------
    config : Config
        Settings of a run.

    Returns
    -------
    int
        Samples of a record.
    """
    if config.stateful:
        return config.data.n_samples
    view = observation_window(config)
    before = max(settle_samples(config), view.past or 0)
    return min(config.data.n_samples, before + WINDOWS_PER_RECORD + (view.future or 0))


def _limit_of(config: Config) -> tuple[ObservationWindow, BayesLimit | None, str | None]:
    """What the model observes, and the limit for it or the reason why none is known."""
    n_samples = random_start_samples(config)
    try:
        view = observation_window(config)
        if (view.past or 0) + (view.future or 0) >= n_samples:
            raise UserError("data.duration_s: the record is shorter than what the model observes")
        best = limit(config.data, view, n_samples, settle=settle_samples(config))
    except UserError as error:
        return (
            ObservationWindow(None if config.stateful else config.model.window - 1),
            None,
            str(error),
        )
    return view, best, None


def _relative_to_limit(
    by_record: Float[np.ndarray, " B"], best: BayesLimit | None, note: str | None
) -> Metrics:
    """An error over its limit; ``beats_limit``: it is lower by more than chance allows."""
    if best is None:
        names = ("limit", "limit_stderr", "limit_kind", "ratio", "ratio_stderr")
        return dict.fromkeys(names) | {"beats_limit": False, "limit_note": note}
    error, stderr = float(by_record.mean()), standard_error(by_record)
    has_ratio = best.mse > 0
    difference_stderr = math.hypot(stderr, best.stderr)
    return {
        "limit": best.mse,
        "limit_stderr": best.stderr,
        "limit_kind": best.kind,
        "ratio": error / best.mse if has_ratio else None,
        "ratio_stderr": math.hypot(stderr, error / best.mse * best.stderr) / best.mse
        if has_ratio
        else None,
        "beats_limit": best.kind == "exact" and best.mse - error > MAX_STDERRS * difference_stderr,
        "limit_note": None,
    }


def _leak_warnings(metrics: Metrics) -> list[str]:
    """Warn of metrics that no honest extractor has: those of a leak, or of a clock."""
    shifted, fixed = metrics["shifted"], metrics["test"]["mse"]
    warnings = []
    if shifted["beats_limit"]:
        warnings.append(
            f"LEAK: the random-start MSE of {shifted['mse']:.3g} is below what any method can "
            f"reach from these samples ({shifted['limit']:.3g}) by more than {MAX_STDERRS} "
            "standard errors: the estimate must use the target, the start or samples that it must "
            "not observe; do not trust these metrics"
        )
    if shifted["limit"] is not None and fixed < CLOCK_RATIO * shifted["limit"]:
        warnings.append(
            f"the fixed-start test MSE of {fixed:.3g} is far below the limit for an unknown start "
            f"({shifted['limit']:.3g}): the network may run as a clock and ignore the mixture; "
            "`tonesieve probe RUN` shows whether it does"
        )
    return warnings
