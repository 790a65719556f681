"""Finished runs on the same records as all filters, with the limit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tonesieve.commands.run_files import FIGURES, LoadedRun, check_synthetic, load_run
from tonesieve.errors import UserError
from tonesieve.evaluation.comparison import (
    BEST,
    Condition,
    Entry,
    compare_extractors,
    n_parts,
)
from tonesieve.evaluation.exercise import settle_samples
from tonesieve.evaluation.plots import run_plots
from tonesieve.evaluation.plots.comparison_plots import errors_by_age
from tonesieve.extractors.bayes.limit import ObservationWindow, observation_window
from tonesieve.extractors.filters.registry import is_filter
from tonesieve.learning.runtime.threads import threads
from tonesieve.util.files import write_text
from tonesieve.util.progress import Reporter

TABLE, FIGURE = "compare.csv", "compare.png"
# Chosen, not tuned.
N_RECORDS, SECONDS = 16, 3.0


def compare(
    runs: Sequence[str | Path],
    *,
    records: int = N_RECORDS,
    seconds: float | None = None,
    out: str | Path | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Compare runs with all filters and the limit on the same records.

    There are three conditions: the regime `locked` with fixed start and with random start, and the
    regime `free`. Jitter and noise are those of the first run's settings.

    Parameters
    ----------
    runs : sequence of str or Path
        Run directories.
    records : int
        Number of records in each condition, 2 or more.
    seconds : float, optional
        Length of a record. The default is 3 s, or the first run's duration where that is shorter.
    out : str or Path, optional
        Folder for ``compare.csv`` and ``figures/compare.png``. The default is the first run's
        directory.
    reporter : Reporter, optional
        Receives progress.

    Returns
    -------
    dict
        ``scenes``, one for each condition, with a row for each extractor; ``table`` and
        ``picture``, the paths written; ``records``, ``seconds``, ``settle_s`` and ``runs``.

    Raises
    ------
    UserError
        For folders that are not finished runs, and for runs of different frequencies or rates.

    Examples
    --------
    >>> import tonesieve
    >>> result = tonesieve.compare(["runs/first"], records=4, seconds=2)  # doctest: +SKIP
    >>> for row in result["scenes"][1]["rows"]:  # doctest: +SKIP
    ...     print(row["name"], row["mse"], row["limit"])
    """
    if not runs:
        raise UserError("compare: give at least one run directory")
    if records < 2:
        raise UserError(f"--records {records}: must be 2 or more, for a standard error")
    loaded = [load_run(folder) for folder in runs]
    for folder, run in zip(runs, loaded, strict=True):
        check_synthetic("compare", folder, run.config)
    config = loaded[0].config
    for folder, run in zip(runs, loaded, strict=True):
        _check_same_tones(str(folder), run, str(runs[0]), loaded[0])
    seconds = min(SECONDS, config.data.duration_s) if seconds is None else seconds
    n_samples = round(seconds * config.data.rate_hz)
    if not 2 <= n_samples * records <= 10**8:
        raise UserError(f"--seconds {seconds:g}: {n_samples} samples; a record has 2 to 1e8")
    names = _unique_names([run.config.name for run in loaded], [str(folder) for folder in runs])
    entries = [
        Entry(name, run.extractor, _view(run)) for name, run in zip(names, loaded, strict=True)
    ]
    reporter = reporter or Reporter()
    with threads(config), reporter.task("comparing", n_parts(len(entries))) as task:
        conditions = compare_extractors(
            entries,
            config.data,
            n_records=records,
            n_samples=n_samples,
            settle=settle_samples(config),
            on_part=task.update,
        )
    folder = Path(runs[0]) if out is None else Path(out)
    (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    write_text(folder / TABLE, _long_table(conditions).to_csv(index=False))
    figure = errors_by_age(conditions, names, BEST)
    run_plots.save_figure(figure, folder / FIGURES / FIGURE, dpi=config.visualisation.dpi)
    return {
        "records": records,
        "seconds": n_samples / config.data.rate_hz,
        "settle_s": config.evaluation.settle_s,
        "runs": dict(zip(names, map(str, runs), strict=True)),
        "scenes": [
            {"scene": c.name, "limit_note": c.limit_note, "rows": c.rows} for c in conditions
        ],
        "table": str(folder / TABLE),
        "picture": str(folder / FIGURES / FIGURE),
    }


def _view(run: LoadedRun) -> ObservationWindow | None:
    try:
        return observation_window(run.config)
    except UserError:
        return None


def _unique_names(names: list[str], folders: list[str]) -> list[str]:
    """Each run's name, or its folder where that name is given twice or is a filter's."""
    return [
        folder if names.count(name) > 1 or is_filter(name) else name
        for name, folder in zip(names, folders, strict=True)
    ]


def _check_same_tones(folder: str, run: LoadedRun, first_folder: str, first: LoadedRun) -> None:
    expected, data = first.config.data, run.config.data
    if data.frequencies_hz != expected.frequencies_hz or data.rate_hz != expected.rate_hz:
        tones = ", ".join(f"{f:g}" for f in data.frequencies_hz)
        raise UserError(
            f"{folder}: is for {tones} Hz at {data.rate_hz:g} Hz, {first_folder} is not; "
            "compare runs of the same tones and rate"
        )


def _long_table(conditions: Sequence[Condition]) -> pd.DataFrame:
    """One row for each extractor and condition."""
    rows = []
    for condition in conditions:
        for row in condition.rows:
            by_tone = {f"mse_{c['hz']:g}Hz": c["mse"] for c in row["per_component"]}
            others = {key: value for key, value in row.items() if key != "per_component"}
            rows.append({"scene": condition.name, **others, **by_tone})
    return pd.DataFrame(rows)
