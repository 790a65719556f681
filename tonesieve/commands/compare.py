"""Finished runs on trial: beside the filters and the limit, and whether they listen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tonesieve.commands.train import FIGURES, LoadedRun, load_run
from tonesieve.errors import UserError
from tonesieve.evaluation.comparison import (
    BEST,
    Condition,
    Entry,
    compare_extractors,
    n_parts,
)
from tonesieve.evaluation.exercise import settle_samples
from tonesieve.evaluation.plots import run_plots as draw
from tonesieve.evaluation.probes import N_PROBES, probe_extractor
from tonesieve.extractors.bayes.limit import ObservationWindow, observation_window
from tonesieve.extractors.filters.registry import is_filter
from tonesieve.learning.runtime.threads import threads
from tonesieve.util.files import write_text
from tonesieve.util.progress import Reporter

TABLE, PICTURE = "compare.csv", "compare.png"
RECORDS, SECONDS = 16, 3.0


def compare(
    runs: Sequence[str | Path],
    *,
    records: int = RECORDS,
    seconds: float | None = None,
    out: str | Path | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Runs and all classical extractors on the same records, beside the limit.

    In three scenes: the locked regime with fixed and with random start, and the free regime, with
    the jitter and noise of the first run's settings. ``records`` of ``seconds`` each (default: 3,
    or the first run's duration where that is shorter). The table goes to ``out``/compare.csv, the
    errors by age to ``out``/figures/compare.png; ``out`` defaults to the first run's directory.

    Raises `UserError` for folders that are no runs, and runs of other tones or rates.
    """
    if not runs:
        raise UserError("compare: name at least one run directory")
    if records < 2:
        raise UserError(f"--records {records}: must be 2 or more, for a standard error")
    loaded = [load_run(folder) for folder in runs]
    for folder, one in zip(runs, loaded, strict=True):
        _check_synthetic("compare", folder, one)
    first = loaded[0].config
    for folder, other in zip(runs, loaded, strict=True):
        _check_alike(str(folder), other, str(runs[0]), loaded[0])
    seconds = min(SECONDS, first.data.duration_s) if seconds is None else seconds
    n_samples = round(seconds * first.data.rate_hz)
    if not 2 <= n_samples * records <= 10**8:
        raise UserError(f"--seconds {seconds:g}: {n_samples} samples; a record has 2 to 1e8")
    names = _names([one.config.name for one in loaded], [str(folder) for folder in runs])
    field = [
        Entry(name, one.extractor, _view(one)) for name, one in zip(names, loaded, strict=True)
    ]
    reporter = reporter or Reporter()
    with threads(first), reporter.task("comparing", n_parts(len(field))) as task:
        scenes = compare_extractors(
            field,
            first.data,
            n_records=records,
            n_samples=n_samples,
            settle=settle_samples(first),
            on_part=task.reach,
        )
    folder = Path(runs[0]) if out is None else Path(out)
    (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    write_text(folder / TABLE, _tidy(scenes).to_csv(index=False))
    picture = draw.errors_by_age(scenes, names, BEST)
    draw.save_figure(picture, folder / FIGURES / PICTURE, dpi=first.visualisation.dpi)
    return {
        "records": records,
        "seconds": n_samples / first.data.rate_hz,
        "settle_s": first.evaluation.settle_s,
        "runs": dict(zip(names, map(str, runs), strict=True)),
        "scenes": [{"scene": s.name, "limit_note": s.limit_note, "rows": s.rows} for s in scenes],
        "table": str(folder / TABLE),
        "picture": str(folder / FIGURES / PICTURE),
    }


def probe(folder: str | Path, *, reporter: Reporter | None = None) -> dict[str, Any]:
    """Whether a run listens: shifted start, silent input, other tones, swapped selector.

    Answers ``verdict``, one of filter, clock, both and neither, and the figures behind it. Raises
    `UserError` for a folder that is no finished run.
    """
    loaded = load_run(folder)
    _check_synthetic("probe", folder, loaded)
    with threads(loaded.config), (reporter or Reporter()).task("probing", N_PROBES) as task:
        figures = probe_extractor(loaded.extractor, loaded.config, on_part=task.reach)
    return {"run": str(folder), "name": loaded.config.name, **figures}


def _check_synthetic(verb: str, folder: str | Path, one: LoadedRun) -> None:
    if one.config.data.background is not None:
        raise UserError(
            f"{verb}: is for synthetic signals, and {folder} learned in a recording's noise; "
            f"`tonesieve evaluate {folder}` puts it beside the filters there"
        )


def _view(one: LoadedRun) -> ObservationWindow | None:
    try:
        return observation_window(one.config)
    except UserError:
        return None


def _names(names: list[str], folders: list[str]) -> list[str]:
    """A name for every run, its folder where two are called alike or as a filter is."""
    return [
        folder if names.count(name) > 1 or is_filter(name) else name
        for name, folder in zip(names, folders, strict=True)
    ]


def _check_alike(folder: str, other: LoadedRun, first: str, one: LoadedRun) -> None:
    mine, theirs = one.config.data, other.config.data
    if mine.frequencies_hz != theirs.frequencies_hz or mine.rate_hz != theirs.rate_hz:
        tones = ", ".join(f"{f:g}" for f in theirs.frequencies_hz)
        raise UserError(
            f"{folder}: is for {tones} Hz at {theirs.rate_hz:g} Hz, {first} is not; "
            "compare runs of the same tones and rate"
        )


def _tidy(scenes: Sequence[Condition]) -> pd.DataFrame:
    """One row an extractor and scene."""
    rows = []
    for scene in scenes:
        for row in scene.rows:
            tones = {f"mse_{c['hz']:g}Hz": c["mse"] for c in row["per_component"]}
            rest = {key: value for key, value in row.items() if key != "per_component"}
            rows.append({"scene": scene.name, **rest, **tones})
    return pd.DataFrame(rows)
