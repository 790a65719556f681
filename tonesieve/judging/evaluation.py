"""Extractors on records: the exercise's own, and the same with random start times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from tonesieve.config import Config
from tonesieve.extractors.protocol import Extractor
from tonesieve.judging import metrics
from tonesieve.signals.synthesis import Records, draw_exercise, draw_records

# A window sees nothing before its L samples, so shorter records serve: this many samples more
# than the start-up.
WINDOWS_PER_RECORD = 500
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
    ``train``, ``test``, ``generalisation`` and ``shifted``. ``on_part`` hears how many of the
    `N_PARTS` records are done.
    """
    skip = config.model.window - 1
    train = draw_exercise(config.data, seed=config.data.train_seed)
    test = draw_exercise(config.data, seed=config.data.test_seed)
    on_train = extractor.extract(train.mixture)[:, skip:]
    on_part(1)
    on_test = extractor.extract(test.mixture)
    on_part(2)
    figures = {
        "train": _exercise_figures(on_train, train.targets[:, skip:], config),
        "test": _exercise_figures(on_test[:, skip:], test.targets[:, skip:], config),
        "shifted": _shifted_figures(extractor, config),
    }
    on_part(N_PARTS)
    figures["generalisation"] = _generalisation(figures["train"], figures["test"], config)
    return Evaluation(figures, test, on_test[0], skip)


def _exercise_figures(
    estimate: Float[np.ndarray, "1 T K"], target: Float[np.ndarray, "1 T K"], config: Config
) -> Figures:
    overall = metrics.mse(estimate, target)
    return {
        "mse": overall,
        "band": metrics.mse_band(overall),
        "passed": metrics.mse_band(overall) in ("excellent", "good"),
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
    threshold = config.evaluation.gap_threshold
    return {
        "ratio": ratio,
        "verdict": metrics.generalisation_verdict(ratio),
        "gap": gap,
        "gap_threshold": threshold,
        "gap_within_threshold": gap is not None and gap <= threshold,
    }


def _shifted_figures(extractor: Extractor, config: Config) -> Figures:
    """The same test with random start times; standard errors over records."""
    data, evaluation = config.data, config.evaluation
    shifted = data.model_copy(update={"start": "random"})
    skip, settle, n_samples = 0, round(evaluation.settle_s * data.rate_hz), data.n_samples
    if not config.stateful:
        skip = config.model.window - 1
        settle = max(settle, skip)
        n_samples = min(n_samples, settle + WINDOWS_PER_RECORD)
    rng = np.random.default_rng([data.test_seed, 5])
    records = draw_records(shifted, evaluation.shifted_records, n_samples, rng=rng)
    error = (extractor.extract(records.mixture) - records.targets) ** 2
    by_record = error[:, skip:].mean(axis=(1, 2))
    late = error[:, settle:]  # nothing, where the records are no longer than the start-up
    settled = late.mean(axis=(1, 2)) if late.size else None
    return {
        "mse": float(by_record.mean()),
        "stderr": metrics.standard_error(by_record),
        "limit": None,
        "ratio": None,
        "settled_mse": None if settled is None else float(settled.mean()),
        "settled_stderr": None if settled is None else metrics.standard_error(settled),
        "per_component": [
            {"hz": f, "mse": float(error[:, skip:, k].mean())}
            for k, f in enumerate(data.frequencies_hz)
        ],
        "records": evaluation.shifted_records,
        "samples_per_record": n_samples - skip,
    }
