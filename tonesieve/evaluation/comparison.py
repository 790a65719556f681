"""Extractors side by side: the same records for all, each row beside the limit for what it sees.

Three scenes: locked regime with fixed and with random start, and free regime. Axes: B records,
T samples, K components, A ages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float

from tonesieve.config.config import DataSettings
from tonesieve.errors import UserError
from tonesieve.evaluation import metrics
from tonesieve.extractors.bayes.limit import BayesLimit, ObservationWindow, limit
from tonesieve.extractors.bayes.posterior_mean import mmse_extractor
from tonesieve.extractors.filters.registry import FILTERS, build_filter
from tonesieve.extractors.protocol import Extractor
from tonesieve.inference.compiled_network import CompiledNetwork, compiled_core
from tonesieve.signals.signal_model import even_starts, tone_response
from tonesieve.signals.synthesis import Records, draw_records

SCENES: dict[str, dict[str, str]] = {
    "fixed start": {"regime": "locked", "start": "fixed"},
    "random start": {"regime": "locked", "start": "random"},
    "free": {"regime": "free", "start": "random"},
}
BEST = "best possible"
# Below this an error is rounding.
NOTHING = 1e-20
# A measurement of time is repeated while it has taken less than this.
TIMING_S = 1.0
# Points of a course over the age, evenly on a logarithmic scale.
N_AGES = 48


@dataclass(frozen=True)
class Entry:
    """An extractor, what it sees of a record, and which samples it has a full view of."""

    name: str
    extractor: Extractor
    view: ObservationWindow | None  # None: no limit is computed for it


@dataclass(frozen=True)
class Condition:
    """One kind of record: a row for every extractor, and their errors by age."""

    name: str
    rows: list[dict[str, Any]]
    ages_s: Float[np.ndarray, " A"]
    by_age: dict[str, Float[np.ndarray, " A"]]
    limit_by_age: Float[np.ndarray, " A"] | None  # of whoever has heard the whole past
    limit_kind: str | None
    limit_note: str | None


def compare_extractors(
    runs: Sequence[Entry],
    data: DataSettings,
    *,
    n_records: int,
    n_samples: int,
    settle: int,
    on_part: Callable[[int], None] = lambda n_done: None,
) -> list[Condition]:
    """Runs, all classical extractors and the best possible one on the same records, by scene.

    ``settle``: samples of start-up that settled figures leave out. ``on_part`` hears how many
    extractors have answered, of `n_parts`.
    """
    scenes = []
    for index, (name, setting) in enumerate(SCENES.items()):
        drawn = data.model_copy(update=setting)
        rng = np.random.default_rng([data.test_seed, 7, index])
        starts = even_starts(drawn, n_records, rng=rng) if name == "random start" else None
        records = draw_records(drawn, n_records, n_samples, rng=rng, starts=starts)
        field = [*runs, *_classical(drawn)]
        heard = index * n_parts(len(runs)) // len(SCENES)
        scenes.append(_scene(name, field, records, settle, partial(_count, on_part, heard)))
    return scenes


def _count(on_part: Callable[[int], None], heard: int, n_done: int) -> None:
    on_part(heard + n_done)


def n_parts(n_runs: int) -> int:
    """Answers that `compare_extractors` waits for."""
    return len(SCENES) * (n_runs + len(FILTERS) + 1)


def _classical(data: DataSettings) -> list[Entry]:
    """Every filter, told how the tones stand in the mixture; and the best, where it is known."""
    field = []
    for name in FILTERS:
        extractor = build_filter(name, data.frequencies_hz, data.rate_hz, gain=_gain(data))
        field.append(Entry(name, extractor, _whole(extractor)))
    try:
        best = mmse_extractor(data)
    except UserError:
        return field
    return [*field, Entry(BEST, best, _whole(best))]


def _gain(data: DataSettings) -> complex:
    # At phase_scale 1.0 nothing of the tones is left to be scaled.
    response = tone_response(data)
    return response if abs(response) > 1e-9 else 1 / data.n_components


def _whole(extractor: Extractor) -> ObservationWindow:
    return ObservationWindow(None, 0 if extractor.causal else None)


def _scene(
    name: str,
    field: Sequence[Entry],
    records: Records,
    settle: int,
    on_part: Callable[[int], None],
) -> Condition:
    n_samples = records.mixture.shape[1]
    limits: dict[ObservationWindow, BayesLimit] = {}
    note = None
    known = name != "fixed start"  # where the start is known, nothing is left to estimate
    edges = _age_edges(n_samples)
    rows, by_age = [], {}
    for index, one in enumerate(field):
        error = (one.extractor.extract(records.mixture) - records.targets) ** 2
        best = None
        if known and one.view is not None and not _too_long(one.view, n_samples):
            try:
                if one.view not in limits:
                    limits[one.view] = limit(records.data, one.view, n_samples, settle=settle)
                best = limits[one.view]
            except UserError as reason:
                note = str(reason)
        rows.append(_row(one, error, best, settle, records))
        by_age[one.name] = _by_age(error.mean(axis=(0, 2)), edges)
        on_part(index + 1)
    whole = limits.get(ObservationWindow())
    return Condition(
        name=name,
        rows=rows,
        ages_s=np.sqrt(edges[:-1] * edges[1:]) / records.data.rate_hz,
        by_age=by_age,
        limit_by_age=None if whole is None else _by_age(whole.by_age, edges),
        limit_kind=None if whole is None else whole.kind,
        limit_note=note,
    )


def _too_long(view: ObservationWindow, n_samples: int) -> bool:
    return (view.past or 0) + (view.future or 0) >= n_samples


def _row(
    one: Entry,
    error: Float[np.ndarray, "B T K"],
    best: BayesLimit | None,
    settle: int,
    records: Records,
) -> dict[str, Any]:
    """Figures of one extractor; the ratio is taken over samples whose whole view is there."""
    n_samples = error.shape[1]
    view = one.view or ObservationWindow()
    seen = error[:, (view.past or 0) : n_samples - (view.future or 0)]
    by_record = error.mean(axis=(1, 2))
    late = error[:, settle:]
    exists = best is not None and best.mse > NOTHING and seen.size > 0
    return {
        "name": one.name,
        "mse": float(by_record.mean()),
        "stderr": metrics.standard_error(by_record),
        "settled_mse": float(late.mean()) if late.size else None,
        "per_component": [
            {"hz": f, "mse": float(error[..., k].mean())}
            for k, f in enumerate(records.data.frequencies_hz)
        ],
        "limit": None if best is None else best.mse,
        "limit_kind": None if best is None else best.kind,
        "ratio": float(seen.mean()) / best.mse if best is not None and exists else None,
        "ratio_stderr": metrics.standard_error(seen.mean(axis=(1, 2))) / best.mse
        if best is not None and exists
        else None,
        "causal": one.extractor.causal,
        "delay_samples": one.extractor.delay,
        "us_per_sample": us_per_sample(one.extractor, records.mixture[:1]),
    }


def us_per_sample(extractor: Extractor, mixture: Float[np.ndarray, "1 T"]) -> float:
    """Time that one record takes, alone and in one piece, over its samples; median of up to 5."""
    if isinstance(extractor, CompiledNetwork):
        compiled_core()  # else NumPy might be timed
    taken: list[float] = []
    while len(taken) < 5 and sum(taken) < TIMING_S:
        start = time.perf_counter()
        extractor.extract(mixture)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken)) / mixture.shape[1] * 1e6


def _age_edges(n_samples: int) -> Float[np.ndarray, " E"]:
    """Ages in samples, from 1, that bound the bins of a course."""
    edges = np.unique(np.round(np.geomspace(1, n_samples + 1, N_AGES + 1)))
    return edges.astype(float)


def _by_age(course: Float[np.ndarray, " T"], edges: Float[np.ndarray, " E"]) -> np.ndarray:
    """Means of a course over its bins; NaN where it has ended."""
    places = (edges - 1).astype(int)
    return np.array(
        [course[a:b].mean() if a < len(course) else np.nan for a, b in pairwise(places)]
    )
