"""Extractors on records: the exercise's own, and the same with random start times."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from tonesieve.config.config import Config
from tonesieve.errors import UserError
from tonesieve.evaluation import metrics
from tonesieve.extractors.bayes.limit import (
    BayesLimit,
    ObservationWindow,
    limit,
    observation_window,
)
from tonesieve.extractors.protocol import Extractor
from tonesieve.signals.synthesis import Records, draw_exercise, draw_records, of_part

# A window sees nothing before its L samples, so shorter records serve: this many samples more
# than the start-up.
WINDOWS_PER_RECORD = 500
# An error this many standard errors below the limit is no chance.
MOST_STDERRS = 5
# A fixed-start error below this share of the limit calls for a probe.
FAR_BELOW = 0.5
# Train record, test record, records with random start.
N_PARTS = 3

Figures = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """The figures, and what they were read off."""

    figures: Figures
    test: Records
    estimate: Float[np.ndarray, "T K"]  # of the test record
    n_skipped: int  # samples at its start that no full window ends in


def evaluate_extractor(
    extractor: Extractor, config: Config, *, on_part: Callable[[int], None] = lambda n_done: None
) -> Evaluation:
    """Judge an extractor under the settings of a run (SPEC, sections 4 and 7).

    Every record and component starts from the initial state. The figures have the sections
    ``train``, ``test``, ``generalisation`` and ``shifted``, and ``warnings`` has what they betray.
    ``on_part`` hears how many of the `N_PARTS` records are done.
    """
    skip = config.model.window - 1
    train = draw_exercise(of_part(config.data, "train"), seed=config.data.train_seed)
    test = draw_exercise(of_part(config.data, "test"), seed=config.data.test_seed)
    on_train = extractor.extract(train.mixture)[:, skip:]
    on_part(1)
    on_test = extractor.extract(test.mixture)
    on_part(2)
    figures: Figures = {
        "train": _exercise_figures(on_train, train.targets[:, skip:], config),
        "test": _exercise_figures(on_test[:, skip:], test.targets[:, skip:], config),
        "shifted": _shifted_figures(extractor, config),
    }
    on_part(N_PARTS)
    figures["generalisation"] = _generalisation(figures["train"], figures["test"], config)
    figures["warnings"] = _leak_warnings(figures)
    return Evaluation(figures, test, on_test[0], skip)


def _exercise_figures(
    estimate: Float[np.ndarray, "1 T K"], target: Float[np.ndarray, "1 T K"], config: Config
) -> Figures:
    overall = metrics.mse(estimate, target)
    # The marks are for tones of amplitude 1; upon a background they have any.
    band = metrics.mse_band(overall) if config.data.background is None else None
    return {
        "mse": overall,
        "band": band,
        "passed": None if band is None else band in ("excellent", "good"),
        "improvement_over_mean": metrics.improvement_over_mean(estimate, target),
        "improvement_over_random": metrics.improvement_over_random(estimate, target),
        "per_component": [
            _component_figures(estimate[0, :, k], target[0, :, k], k, config)
            for k in range(config.data.n_components)
        ],
    }


def _component_figures(
    estimate: Float[np.ndarray, " T"], target: Float[np.ndarray, " T"], k: int, config: Config
) -> Figures:
    data = config.data
    return {
        "hz": data.frequencies_hz[k],
        "mse": metrics.mse(estimate, target),
        "r2": metrics.r2(estimate, target),
        "correlation": metrics.correlation(estimate, target),
        "spectrum": metrics.spectrum_check(estimate, k, data.frequencies_hz, data.rate_hz),
    }


def _generalisation(train: Figures, test: Figures, config: Config) -> Figures:
    for on_train, on_test in zip(train["per_component"], test["per_component"], strict=True):
        gap = metrics.relative_gap(on_train["mse"], on_test["mse"])
        on_train["gap"] = on_test["gap"] = gap
        on_train["ratio"] = on_test["ratio"] = None if gap is None else gap + 1
    gap = metrics.relative_gap(train["mse"], test["mse"])
    ratio = None if gap is None else gap + 1
    verdict = metrics.generalisation_verdict(ratio)
    if config.data.background is not None:
        gap = ratio = None
        verdict = "nothing to tell: the tones of the two records are of other sizes"
    threshold = config.evaluation.gap_threshold
    return {
        "ratio": ratio,
        "verdict": verdict,
        "gap": gap,
        "gap_threshold": threshold,
        "gap_within_threshold": gap is not None and gap <= threshold,
    }


def _shifted_figures(extractor: Extractor, config: Config) -> Figures:
    """The same test with random start times, beside the limit; standard errors over records.

    Only samples whose whole view lies in the record are counted.
    """
    data, evaluation = config.data, config.evaluation
    shifted = of_part(data.model_copy(update={"start": "random"}), "test")
    view, best, note = _limit_beside(config)
    skip, cut = view.past or 0, view.future or 0
    settle, n_samples = max(skip, settle_samples(config)), shifted_samples(config)
    rng = np.random.default_rng([data.test_seed, 5])
    records = draw_records(shifted, evaluation.shifted_records, n_samples, rng=rng)
    error = ((extractor.extract(records.mixture) - records.targets) ** 2)[:, : n_samples - cut]
    by_record = error[:, skip:].mean(axis=(1, 2))
    late = error[:, settle:]  # nothing, where the records are no longer than the start-up
    settled = late.mean(axis=(1, 2)) if late.size else None
    figures: Figures = {
        "mse": float(by_record.mean()),
        "stderr": metrics.standard_error(by_record),
        **_beside(by_record, best, note),
        "settled_mse": None if settled is None else float(settled.mean()),
        "settled_stderr": None if settled is None else metrics.standard_error(settled),
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
    return figures


def settle_samples(config: Config) -> int:
    """Samples of the start-up that settled figures leave out."""
    return round(config.evaluation.settle_s * config.data.rate_hz)


def shifted_samples(config: Config) -> int:
    """Length of a record with random start: for windows short ones serve."""
    if config.stateful:
        return config.data.n_samples
    view = observation_window(config)
    before = max(settle_samples(config), view.past or 0)
    return min(config.data.n_samples, before + WINDOWS_PER_RECORD + (view.future or 0))


def _limit_beside(config: Config) -> tuple[ObservationWindow, BayesLimit | None, str | None]:
    """What the model sees, the limit for it, or why there is none."""
    n_samples = shifted_samples(config)
    try:
        view = observation_window(config)
        if (view.past or 0) + (view.future or 0) >= n_samples:
            raise UserError("data.duration_s: no sample's whole view lies in so short a record")
        best = limit(config.data, view, n_samples, settle=settle_samples(config))
    except UserError as error:
        return (
            ObservationWindow(None if config.stateful else config.model.window - 1),
            None,
            str(error),
        )
    return view, best, None


def _beside(
    by_record: Float[np.ndarray, " B"], best: BayesLimit | None, note: str | None
) -> Figures:
    """An error beside its limit; ``beats_limit``: by more than chance allows."""
    if best is None:
        names = ("limit", "limit_stderr", "limit_kind", "ratio", "ratio_stderr")
        return dict.fromkeys(names) | {"beats_limit": False, "limit_note": note}
    mse, stderr = float(by_record.mean()), metrics.standard_error(by_record)
    exists = best.mse > 0
    spread = math.hypot(stderr, best.stderr)
    return {
        "limit": best.mse,
        "limit_stderr": best.stderr,
        "limit_kind": best.kind,
        "ratio": mse / best.mse if exists else None,
        "ratio_stderr": math.hypot(stderr, mse / best.mse * best.stderr) / best.mse
        if exists
        else None,
        "beats_limit": best.kind == "exact" and best.mse - mse > MOST_STDERRS * spread,
        "limit_note": None,
    }


def _leak_warnings(figures: Figures) -> list[str]:
    """What the figures say beyond themselves: a leak, or a clock."""
    shifted, fixed = figures["shifted"], figures["test"]["mse"]
    found = []
    if shifted["beats_limit"]:
        found.append(
            f"LEAK: the random-start MSE of {shifted['mse']:.3g} is below what any method can "
            f"reach from these samples ({shifted['limit']:.3g}) by more than {MOST_STDERRS} "
            "standard errors: the estimate must know more than it should, the target or the "
            "start or samples beyond its view; trust none of these figures"
        )
    if shifted["limit"] is not None and fixed < FAR_BELOW * shifted["limit"]:
        found.append(
            f"the fixed-start test MSE of {fixed:.3g} is far below the limit for an unknown start "
            f"({shifted['limit']:.3g}): the network may run as a clock rather than listen; "
            "`tonesieve probe RUN` tells"
        )
    return found
