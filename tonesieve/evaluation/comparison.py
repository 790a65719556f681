"""Extractors side by side on the same records, each beside the limit for what it observes.

Three conditions: known phase with fixed and with random start, and unknown phase. Axes: B records,
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
from tonesieve.evaluation.metrics import standard_error
from tonesieve.extractors.bayes.limit import BayesLimit, ObservationWindow, limit
from tonesieve.extractors.bayes.posterior_mean import mmse_extractor
from tonesieve.extractors.filters.registry import FILTERS, build_filter
from tonesieve.extractors.protocol import Extractor
from tonesieve.inference.compiled_network import CompiledNetwork, compiled_core
from tonesieve.signals.signal_model import even_starts, tone_response
from tonesieve.signals.synthesis import Records, draw_records

CONDITIONS: dict[str, dict[str, str]] = {
    "fixed start": {"regime": "locked", "start": "fixed"},
    "random start": {"regime": "locked", "start": "random"},
    "free": {"regime": "free", "start": "random"},
}
BEST = "best possible"
# Guard against rounding: a limit below this has no ratio.
SMALLEST_LIMIT = 1e-20
# Guard against chance: a timing is repeated, up to so often, while it has taken less than this.
MAX_TIMINGS, TIMING_S = 5, 1.0
# Chosen, not tuned: bins of the age, evenly on a logarithmic scale.
N_AGES = 48


@dataclass(frozen=True)
class Entry:
    """An extractor that takes part in a comparison.

    Parameters
    ----------
    name : str
        Its name in the table.
    extractor : Extractor
        The extractor.
    view : ObservationWindow or None
        Samples that each of its estimates is based on. None: no limit is computed for it.
    """

    name: str
    extractor: Extractor
    view: ObservationWindow | None


@dataclass(frozen=True)
class Condition:
    """Results on one kind of record.

    Parameters
    ----------
    name : str
        One of `CONDITIONS`.
    rows : list of dict
        One row an extractor.
    ages_s : ndarray, shape (A,)
        Geometric centres of the age bins, s.
    by_age : dict of ndarray, shape (A,)
        Mean squared error of every extractor by age.
    limit_by_age : ndarray, shape (A,), or None
        Limit of an extractor that has observed all samples so far.
    limit_kind : str or None
        Whether that limit is exact, or that of linear extractors.
    limit_note : str or None
        Why no limit is known.
    """

    name: str
    rows: list[dict[str, Any]]
    ages_s: Float[np.ndarray, " A"]
    by_age: dict[str, Float[np.ndarray, " A"]]
    limit_by_age: Float[np.ndarray, " A"] | None
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
    """Compare runs with all classical extractors and the MMSE extractor, on the same records.

    Parameters
    ----------
    runs : sequence of Entry
        Extractors to compare.
    data : DataSettings
        Settings of the signal; regime and start are those of the condition.
    n_records : int
        Records of every condition.
    n_samples : int
        Length of a record.
    settle : int
        Samples of start-up that settled metrics leave out.
    on_part : callable
        Called with the number of extractors that are done, of `n_parts`.

    Returns
    -------
    list of Condition
        Results, in the order of `CONDITIONS`.
    """
    conditions = []
    for index, (name, settings) in enumerate(CONDITIONS.items()):
        drawn = data.model_copy(update=settings)
        rng = np.random.default_rng([data.test_seed, 7, index])
        starts = even_starts(drawn, n_records, rng=rng) if name == "random start" else None
        records = draw_records(drawn, n_records, n_samples, rng=rng, starts=starts)
        entries = [*runs, *_classical(drawn)]
        n_before = index * n_parts(len(runs)) // len(CONDITIONS)
        report = partial(_report, on_part, n_before)
        conditions.append(_evaluate(name, entries, records, settle, report))
    return conditions


def _report(on_part: Callable[[int], None], n_before: int, n_done: int) -> None:
    on_part(n_before + n_done)


def n_parts(n_runs: int) -> int:
    """Count the extractors that `compare_extractors` evaluates, over all conditions.

    Parameters
    ----------
    n_runs : int
        Number of runs.

    Returns
    -------
    int
        The number of which ``on_part`` counts.
    """
    return len(CONDITIONS) * (n_runs + len(FILTERS) + 1)


def _classical(data: DataSettings) -> list[Entry]:
    """Every filter, given the gain of the tones in the mixture; and the MMSE one, where known."""
    entries = []
    for name in FILTERS:
        extractor = build_filter(name, data.frequencies_hz, data.rate_hz, gain=_gain(data))
        entries.append(Entry(name, extractor, _full_view(extractor)))
    try:
        best = mmse_extractor(data)
    except UserError:
        return entries
    return [*entries, Entry(BEST, best, _full_view(best))]


def _gain(data: DataSettings) -> complex:
    # At phase_scale 1.0 nothing of the tones is left to be scaled: guard against rounding.
    response = tone_response(data)
    return response if abs(response) > 1e-9 else 1 / data.n_components


def _full_view(extractor: Extractor) -> ObservationWindow:
    return ObservationWindow(None, 0 if extractor.causal else None)


def _evaluate(
    name: str,
    entries: Sequence[Entry],
    records: Records,
    settle: int,
    on_part: Callable[[int], None],
) -> Condition:
    n_samples = records.mixture.shape[1]
    limits: dict[ObservationWindow, BayesLimit] = {}
    note = None
    has_limit = name != "fixed start"  # where the start is known, nothing is left to estimate
    edges = _age_edges(n_samples)
    rows, by_age = [], {}
    for index, entry in enumerate(entries):
        error = (entry.extractor.extract(records.mixture) - records.targets) ** 2
        best = None
        if has_limit and entry.view is not None and not _is_longer(entry.view, n_samples):
            try:
                if entry.view not in limits:
                    limits[entry.view] = limit(records.data, entry.view, n_samples, settle=settle)
                best = limits[entry.view]
            except UserError as reason:
                note = str(reason)
        rows.append(_row(entry, error, best, settle, records))
        by_age[entry.name] = _mean_by_age(error.mean(axis=(0, 2)), edges)
        on_part(index + 1)
    causal = limits.get(ObservationWindow())
    return Condition(
        name=name,
        rows=rows,
        ages_s=np.sqrt(edges[:-1] * edges[1:]) / records.data.rate_hz,
        by_age=by_age,
        limit_by_age=None if causal is None else _mean_by_age(causal.by_age, edges),
        limit_kind=None if causal is None else causal.kind,
        limit_note=note,
    )


def _is_longer(view: ObservationWindow, n_samples: int) -> bool:
    return (view.past or 0) + (view.future or 0) >= n_samples


def _row(
    entry: Entry,
    error: Float[np.ndarray, "B T K"],
    best: BayesLimit | None,
    settle: int,
    records: Records,
) -> dict[str, Any]:
    """Metrics of one extractor; the ratio is over samples whose whole view lies in the record."""
    n_samples = error.shape[1]
    view = entry.view or ObservationWindow()
    viewed = error[:, (view.past or 0) : n_samples - (view.future or 0)]
    by_record = error.mean(axis=(1, 2))
    late = error[:, settle:]
    has_ratio = best is not None and best.mse > SMALLEST_LIMIT and viewed.size > 0
    return {
        "name": entry.name,
        "mse": float(by_record.mean()),
        "stderr": standard_error(by_record),
        "settled_mse": float(late.mean()) if late.size else None,
        "per_component": [
            {"hz": f, "mse": float(error[..., k].mean())}
            for k, f in enumerate(records.data.frequencies_hz)
        ],
        "limit": None if best is None else best.mse,
        "limit_kind": None if best is None else best.kind,
        "ratio": float(viewed.mean()) / best.mse if best is not None and has_ratio else None,
        "ratio_stderr": standard_error(viewed.mean(axis=(1, 2))) / best.mse
        if best is not None and has_ratio
        else None,
        "causal": entry.extractor.causal,
        "delay_samples": entry.extractor.delay,
        "us_per_sample": us_per_sample(entry.extractor, records.mixture[:1]),
    }


def us_per_sample(extractor: Extractor, mixture: Float[np.ndarray, "1 T"]) -> float:
    """Measure the processing time of one record, alone and in one piece.

    Parameters
    ----------
    extractor : Extractor
        The extractor to time.
    mixture : ndarray, shape (1, T)
        The record.

    Returns
    -------
    float
        Microseconds a sample; the median of up to 5 passes.
    """
    if isinstance(extractor, CompiledNetwork):
        compiled_core()  # else the NumPy fallback might be timed
    times_s: list[float] = []
    while len(times_s) < MAX_TIMINGS and sum(times_s) < TIMING_S:
        start = time.perf_counter()
        extractor.extract(mixture)
        times_s.append(time.perf_counter() - start)
    return float(np.median(times_s)) / mixture.shape[1] * 1e6


def _age_edges(n_samples: int) -> Float[np.ndarray, " E"]:
    """Edges of the age bins, in samples from 1."""
    edges = np.unique(np.round(np.geomspace(1, n_samples + 1, N_AGES + 1)))
    return edges.astype(float)


def _mean_by_age(by_sample: Float[np.ndarray, " T"], edges: Float[np.ndarray, " E"]) -> np.ndarray:
    """Means over the age bins; NaN beyond the last sample."""
    indices = (edges - 1).astype(int)
    return np.array(
        [by_sample[a:b].mean() if a < len(by_sample) else np.nan for a, b in pairwise(indices)]
    )
