"""Before any training: the limit, and whether there is anything to learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tonesieve.config.config import Config
from tonesieve.config.presets import DEFAULT, load_config
from tonesieve.errors import UserError
from tonesieve.evaluation.exercise import settle_samples
from tonesieve.evaluation.learnability import diagnose_task
from tonesieve.extractors.bayes import limit as bayes_limit
from tonesieve.util.progress import Reporter

# Ages of which the limit is told: all of them up to so many, or about so many a decade.
MOST_AGES, PER_DECADE = 200, 10
LONGEST_WINDOW = 100_000


def limit(
    source: str | Path = DEFAULT,
    overrides: tuple[str, ...] = (),
    *,
    window: int | None = None,
    phase_scale: float | None = None,
    stderr: float | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """The smallest expected squared error that any method can have, start unknown.

    From exactly ``window`` samples; without it, from what the configured model sees. ``stderr`` is
    the standard error to reach (default: 1% of the limit), ``phase_scale`` a setting of its own
    for convenience. Answers ``mse``, ``stderr``, ``per_component`` and the course over the age.

    Raises `UserError` as `load_config` does, and where no limit is known.
    """
    if window is not None and not 1 <= window <= LONGEST_WINDOW:
        raise UserError(f"--window {window}: must be 1 to {LONGEST_WINDOW:,}")
    if stderr is not None and not 0 < stderr < np.inf:
        raise UserError(f"--stderr {stderr:g}: must be above 0")
    if phase_scale is not None:
        overrides = (*overrides, f"data.phase_scale={phase_scale!r}")
    config = load_config(source, overrides)
    view = (
        bayes_limit.observation_window(config)
        if window is None
        else bayes_limit.ObservationWindow(window - 1)
    )
    with (reporter or Reporter()).task("drawing records", 1000) as task:
        best = bayes_limit.limit(
            config.data,
            view,
            config.data.n_samples,
            settle=settle_samples(config),
            stderr=stderr,
            on_progress=lambda fraction: task.reach(round(1000 * fraction)),
        )
    return {
        "name": config.name,
        "mse": best.mse,
        "stderr": best.stderr,
        "kind": best.kind,
        "per_component": [
            {"hz": f, "mse": m, "stderr": e}
            for f, m, e in zip(
                config.data.frequencies_hz,
                best.per_component,
                best.per_component_stderr,
                strict=True,
            )
        ],
        "settled_mse": best.settled if view.past is None else None,
        "settled_stderr": best.settled_stderr if view.past is None else None,
        "cramer_rao_settled": _settled_bound(best, view, config),
        "by_age": _by_age(best),
        "records": best.n_records,
        "view": {"past": view.past, "future": view.future, "stride": view.stride},
        "told": view.target_known,
        "phase_scale": config.data.phase_scale,
        "regime": config.data.regime,
    }


def diagnose(
    source: str | Path = DEFAULT,
    overrides: tuple[str, ...] = (),
    *,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Whether a task can be learned, and how well at best, before any training.

    Answers correlations, variances, mutual information, the limit and a plain ``verdict``.
    """
    config = load_config(source, overrides)
    with (reporter or Reporter()).task("diagnosing", 1):
        return diagnose_task(config)


def _settled_bound(
    best: bayes_limit.BayesLimit, view: bayes_limit.ObservationWindow, config: Config
) -> float | None:
    bound = best.cramer_rao_by_age
    if bound is None:
        return None
    late = bound[-1:] if view.past is not None else bound[settle_samples(config) :]
    return float(late.mean()) if len(late) and np.isfinite(late).all() else None


def _by_age(best: bayes_limit.BayesLimit) -> list[dict[str, float | None]]:
    n = len(best.by_age)
    ages = np.arange(1, n + 1)
    if n > MOST_AGES:
        steps = round(np.log10(n) * PER_DECADE) + 1
        ages = np.unique(np.round(np.geomspace(1, n, steps)).astype(int))
    bound = best.cramer_rao_by_age
    return [
        {
            "samples": int(age),
            "mse": float(best.by_age[age - 1]),
            "stderr": float(best.by_age_stderr[age - 1]),
            "cramer_rao": float(bound[age - 1])
            if bound is not None and np.isfinite(bound[age - 1])
            else None,
        }
        for age in ages
    ]
