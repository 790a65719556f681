"""Results of a sweep: a row a run, a row a point, and tables of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from tonesieve.errors import UserError
from tonesieve.sweeping.plan import Plan, Point
from tonesieve.sweeping.worker import FINISHED, Outcome
from tonesieve.util.text_table import number, table

# Columns of the results, and their section and key in ``metrics.json``.
COLUMNS = {
    "train_mse": ("train", "mse"),
    "test_mse": ("test", "mse"),
    "shifted_mse": ("shifted", "mse"),
    "shifted_stderr": ("shifted", "stderr"),
    "limit": ("shifted", "limit"),
    "ratio": ("shifted", "ratio"),
    "settled_mse": ("shifted", "settled_mse"),
    "gap": ("generalisation", "gap"),
    "best_validation_loss": ("training", "best_validation_loss"),
    "parameters": ("training", "parameters"),
    "epochs": ("training", "epochs"),
    "best_epoch": ("training", "best_epoch"),
    "seconds": ("training", "seconds"),
}
# Columns that are means over the components.
MEANS = ("r2", "correlation")
# Columns that a sweep may plot.
METRICS = (*COLUMNS, *MEANS, "us_per_sample")
# Chosen, not tuned: time budgets for which the best trial is shown, us a sample.
BUDGETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def check_metric(plan: Plan, *, where: str) -> None:
    """Raise `UserError` for a metric or a claim that is no column of the results."""
    named = [("metric", plan.metric)]
    named += [(f"claims: {label}", name) for label, c in plan.claims.items() for name in c]
    for key, name in named:
        if name not in METRICS:
            raise UserError(f"{where}: {key}: {name}: no such column; {', '.join(METRICS)}")
    if plan.search and plan.metric in MEANS:
        raise UserError(
            f"{where}: metric: {plan.metric}: a search minimises its metric; choose test_mse"
        )


def metric_of(
    name: str, outcome: Outcome | None, metrics: Mapping[str, Any] | None
) -> float | None:
    """Return one metric of a run; None if it is unfinished or has none."""
    if outcome is None or outcome.status != FINISHED or metrics is None:
        return None
    if name == "us_per_sample":
        return outcome.us_per_sample
    if name in MEANS:
        values = [tone[name] for tone in metrics["test"]["per_component"]]
        known = bool(values) and all(value is not None for value in values)
        return sum(values) / len(values) if known else None
    section, key = COLUMNS[name]
    value = metrics[section][key]
    return None if value is None else float(value)


def row_of(
    point: Point, outcome: Outcome | None, metrics: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Convert a run to a row; what an unfinished one lacks is None."""
    row: dict[str, Any] = {"label": point.label, "seed": point.seed}
    row |= point.varied
    row["status"] = "open" if outcome is None else outcome.status
    row["reason"] = "" if outcome is None else outcome.reason
    finished = metrics is not None and outcome is not None and outcome.status == FINISHED
    for name in (*COLUMNS, *MEANS):
        row[name] = metric_of(name, outcome, metrics)
    tones = metrics["test"]["per_component"] if finished and metrics else []
    for k, f in enumerate(point.config.data.frequencies_hz):
        row[f"test_mse_{f:g}Hz"] = tones[k]["mse"] if tones else None
        row[f"correlation_{f:g}Hz"] = tones[k]["correlation"] if tones else None
    row["us_per_sample"] = None if outcome is None else outcome.us_per_sample
    row["worker"] = None if outcome is None else outcome.worker
    if not finished and outcome is not None:
        row["epochs"] = outcome.epochs
    return row


def by_point(rows: pd.DataFrame, metric: str) -> list[dict[str, Any]]:
    """Compute means over the seeds of every point, and the extremes of the metric.

    Parameters
    ----------
    rows : DataFrame
        A row a run, as of `row_of`.
    metric : str
        Column of which ``lowest`` and ``highest`` are computed.

    Returns
    -------
    list of dict
        A row a point.
    """
    result = []
    for label, seeds in rows.groupby("label", sort=False):
        done = seeds[seeds["status"] == FINISHED]
        summary: dict[str, Any] = {"label": label, "runs": len(seeds), "finished": len(done)}
        for name in METRICS:
            values = done[name].dropna()
            summary[name] = None if values.empty else float(values.mean())
        values = done[metric].dropna()
        summary["lowest"] = None if values.empty else float(values.min())
        summary["highest"] = None if values.empty else float(values.max())
        result.append(summary)
    return result


def sweep_text(result: Mapping[str, Any]) -> str:
    """Format the table of a sweep, with notes and the files written."""
    lines = [search_text(result) if result["search"] else points_text(result)]
    if result["cut"]:
        lines.append(f"cut: {result['cut']}")
    for row in result["unfinished"]:
        lines.append(f"{row['status']}: {row['label']}, seed {row['seed']}: {row['reason']}")
    lines.append(
        f"{result['finished']} of {result['runs']} runs finished"
        + (f", {result['pruned']} pruned as hopeless" if result["pruned"] else "")
        + (
            f", {result['refused']} with settings that cannot be combined"
            if result["refused"]
            else ""
        )
        + f"; {result['begun_now']} run now in {result['wall_s']:.0f} s"
    )
    lines.append(f"written: {', '.join(result['files'])}")
    return "\n".join(lines)


def points_text(result: Mapping[str, Any]) -> str:
    """Format a row a point: the metric, its extremes over the seeds, the limit and the claim."""
    metric = result["metric"]
    others = [m for m in ("train_mse", "test_mse", "shifted_mse") if m != metric]
    claimed = list(dict.fromkeys(name for c in result["claims"].values() for name in c))
    head = [result["name"], metric, "seeds", "spread", *others, "limit", "ratio", "settled"]
    head += ["r2", *(f"claimed {name}" for name in claimed)]
    rows = [[*head, "seconds", "us/sample"]]
    for one in result["points"]:
        extremes = "-"
        if one["finished"] > 1:
            extremes = f"{number(one['lowest'])} to {number(one['highest'])}"
        rows.append(
            [
                one["label"],
                number(one[metric]),
                str(one["finished"]),
                extremes,
                *(number(one[name]) for name in others),
                number(one["limit"]),
                number(one["ratio"]),
                number(one["settled_mse"]),
                number(one["r2"]),
                *(number(result["claims"].get(one["label"], {}).get(name)) for name in claimed),
                number(one["seconds"]),
                number(one["us_per_sample"]),
            ]
        )
    return table(rows)


def search_text(result: Mapping[str, Any]) -> str:
    """Format the best trials, and the best within every time budget."""
    metric, keys = result["metric"], result["varied"]
    done = [row for row in result["rows"] if row["status"] == FINISHED]
    best = sorted((r for r in done if r[metric] is not None), key=lambda r: r[metric])
    rows = [["best trials", metric, "limit", "ratio", "us/sample", "parameters", *map(_last, keys)]]
    rows += [_trial_row(row["label"], row, metric, keys) for row in best[:10]]
    lines = [table(rows), ""]
    budgets = best_by_budget(best, metric)
    if budgets:
        head = ["best for us/sample", metric, "limit", "ratio", "us/sample", "parameters"]
        rows = [[*head, *map(_last, keys)]]
        rows += [_trial_row(f"up to {b:g}", row, metric, keys) for b, row in budgets]
        lines += [table(rows), ""]
    return "\n".join(lines)


def best_by_budget(
    done: Sequence[Mapping[str, Any]], metric: str
) -> list[tuple[float, Mapping[str, Any]]]:
    """Find the best run within every time budget; repeated ones are left out.

    Parameters
    ----------
    done : sequence of mapping
        Rows of finished runs.
    metric : str
        Column to minimise.

    Returns
    -------
    list of tuple
        Budget (us a sample) and row.
    """
    front: list[tuple[float, Mapping[str, Any]]] = []
    for budget in BUDGETS:
        within = [r for r in done if r["us_per_sample"] is not None]
        within = [r for r in within if r["us_per_sample"] <= budget and r[metric] is not None]
        if not within:
            continue
        best = min(within, key=lambda r: r[metric])
        if not front or front[-1][1]["label"] != best["label"]:
            front.append((float(budget), best))
    return front


def _trial_row(name: str, row: Mapping[str, Any], metric: str, keys: Sequence[str]) -> list[str]:
    figures = [number(row[n]) for n in (metric, "limit", "ratio", "us_per_sample")]
    words = [number(v) if isinstance(v, float) else str(v) for v in (row[k] for k in keys)]
    return [name, *figures, f"{row['parameters']:,.0f}", *words]


def _last(key: str) -> str:
    return key.rpartition(".")[2]
