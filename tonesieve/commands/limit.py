"""The limit: the smallest error that any method can have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tonesieve.config.config import Config
from tonesieve.config.presets import DEFAULT, load_config
from tonesieve.errors import UserError
from tonesieve.evaluation.exercise import settle_samples
from tonesieve.extractors.bayes import limit as bayes_limit
from tonesieve.util.progress import Reporter

# Ages of which the limit is listed: all of them, or about ten a decade. Chosen, not tuned.
MAX_AGES, AGES_PER_DECADE = 200, 10
# Guard: time and memory grow with the window.
MAX_WINDOW = 100_000


def limit(
    source: str | Path = DEFAULT,
    overrides: tuple[str, ...] = (),
    *,
    window: int | None = None,
    phase_scale: float | None = None,
    stderr: float | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Compute the smallest expected squared error that any method can have.

    The start time of the record is unknown to the method.

    Parameters
    ----------
    source : str or Path
        Preset, YAML file or run directory.
    overrides : tuple of str
        Changes to the settings, each ``section.key=value``.
    window : int, optional
        Number of observed samples. The default is what the configured model observes.
    phase_scale : float, optional
        Short for the override ``data.phase_scale``.
    stderr : float, optional
        Standard error at which to stop drawing records. The default is 1% of the limit.
    reporter : Reporter, optional
        Receives progress.

    Returns
    -------
    dict
        ``mse`` and ``stderr``, ``per_component``, ``by_age`` (the limit by the number of observed
        samples), ``settled_mse`` and more.

    Raises
    ------
    UserError
        For settings that are wrong, and for settings of which no limit is known.

    Examples
    --------
    >>> import tonesieve
    >>> limit = tonesieve.limit("window10", stderr=0.01)
    >>> 0.15 < limit["mse"] < 0.25
    True
    """
    if window is not None and not 1 <= window <= MAX_WINDOW:
        raise UserError(f"--window {window}: must be 1 to {MAX_WINDOW:,}")
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
        result = bayes_limit.limit(
            config.data,
            view,
            config.data.n_samples,
            settle=settle_samples(config),
            stderr=stderr,
            on_progress=lambda fraction: task.update(round(1000 * fraction)),
        )
    return {
        "name": config.name,
        "mse": result.mse,
        "stderr": result.stderr,
        "kind": result.kind,
        "per_component": [
            {"hz": f, "mse": m, "stderr": e}
            for f, m, e in zip(
                config.data.frequencies_hz,
                result.per_component,
                result.per_component_stderr,
                strict=True,
            )
        ],
        "settled_mse": result.settled if view.past is None else None,
        "settled_stderr": result.settled_stderr if view.past is None else None,
        "cramer_rao_settled": _settled_bound(result, view, config),
        "by_age": _by_age(result),
        "records": result.n_records,
        "view": {"past": view.past, "future": view.future, "stride": view.stride},
        "told": view.target_known,
        "phase_scale": config.data.phase_scale,
        "regime": config.data.regime,
    }


def _settled_bound(
    result: bayes_limit.BayesLimit, view: bayes_limit.ObservationWindow, config: Config
) -> float | None:
    bound = result.cramer_rao_by_age
    if bound is None:
        return None
    settled = bound[-1:] if view.past is not None else bound[settle_samples(config) :]
    return float(settled.mean()) if len(settled) and np.isfinite(settled).all() else None


def _by_age(result: bayes_limit.BayesLimit) -> list[dict[str, float | None]]:
    n = len(result.by_age)
    ages = np.arange(1, n + 1)
    if n > MAX_AGES:
        steps = round(np.log10(n) * AGES_PER_DECADE) + 1
        ages = np.unique(np.round(np.geomspace(1, n, steps)).astype(int))
    bound = result.cramer_rao_by_age
    return [
        {
            "samples": int(age),
            "mse": float(result.by_age[age - 1]),
            "stderr": float(result.by_age_stderr[age - 1]),
            "cramer_rao": float(bound[age - 1])
            if bound is not None and np.isfinite(bound[age - 1])
            else None,
        }
        for age in ages
    ]
