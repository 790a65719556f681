"""Figures of sweeps: the error against the varied setting, and the trials of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tonesieve.evaluation.plots.run_plots import BLUE, GREY, INK, ORANGE

# Chosen, not tuned: a larger ratio of the extremes is drawn on a logarithmic axis.
LOG_RATIO = 10.0
# Chosen, not tuned: an axis spans at least this fraction of its values, so that rounding does not
# look like a difference.
MIN_SPAN = 0.05


def sweep(
    rows: pd.DataFrame,
    points: Sequence[Mapping[str, Any]],
    key: str,
    metric: str,
    title: str,
    claims: Mapping[str, Mapping[str, float]],
) -> Figure:
    """Plot a metric by point: a dot a seed, a line through the means, the limit, the claims.

    Parameters
    ----------
    rows : DataFrame
        A row a run.
    points : sequence of mapping
        Means over the seeds of every point, as of `by_point`.
    key : str
        Label of the horizontal axis.
    metric : str
        Column to plot.
    title : str
        Title of the figure.
    claims : mapping
        By label, metrics that a source states.

    Returns
    -------
    Figure
        The figure.
    """  # fmt: skip
    labels = [point["label"] for point in points]
    positions, numeric = _positions(labels)
    crowded = not numeric and sum(map(len, labels)) > 60
    figure = Figure(
        figsize=(max(7, 0.6 * len(labels)), 6 if crowded else 4.8), layout="constrained"
    )
    axes = figure.subplots()
    position = dict(zip(labels, positions, strict=True))
    done = rows[rows[metric].notna()]
    axes.plot(
        [position[label] for label in done["label"]], done[metric], "o",
        color=BLUE, markersize=4, alpha=0.6, label="run", zorder=3,
    )  # fmt: skip
    style = "-" if numeric else ""
    for name, label, colour, line, marker in (
        (metric, "mean over seeds", BLUE, style, "_"),
        ("limit", "limit (random start)", INK, ":" if numeric else "", "2"),
    ):
        if name == "limit" and not metric.endswith("mse"):
            continue
        known = [(position[p["label"]], p[name]) for p in points if p[name] is not None]
        if known:
            x, y = zip(*known, strict=True)
            axes.plot(x, y, linestyle=line or "none", marker=marker, markersize=14, color=colour,
                      label=label, zorder=2)  # fmt: skip
    values_at = [(position[label], _claimed(c, metric)) for label, c in claims.items()]
    claimed = [(x, value) for x, value in values_at if value is not None]
    if claimed:
        x, y = zip(*claimed, strict=True)
        axes.plot(x, y, "x", color=ORANGE, markersize=8, markeredgewidth=2, label="claimed")
    _scale(axes, positions, labels, numeric, crowded)
    values = [v for v in done[metric] if v > 0]
    if values and max(values) > LOG_RATIO * min(values):
        axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high - low < MIN_SPAN * abs(high):
        axes.set_ylim(low - MIN_SPAN / 2 * abs(high), high + MIN_SPAN / 2 * abs(high))
    axes.set(xlabel=key, ylabel=_title(metric), title=title)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


def search(
    rows: pd.DataFrame, front: Sequence[tuple[float, Mapping[str, Any]]], metric: str, title: str
) -> Figure:
    """Plot a metric by trial, and against the processing time, with the limit if known.

    Parameters
    ----------
    rows : DataFrame
        A row a trial.
    front : sequence of tuple
        Time budgets and the best row within each, as of `best_by_budget`.
    metric : str
        Column to plot.
    title : str
        Title of the figure.

    Returns
    -------
    Figure
        The figure.
    """
    figure = Figure(figsize=(12, 4.8), layout="constrained")
    by_trial, by_time = figure.subplots(1, 2, sharey=True)
    done = rows[rows[metric].notna()]
    pruned = rows.index[rows["status"] == "pruned"]
    by_trial.plot(done.index, done[metric], "o", color=BLUE, markersize=4, label="trial")
    by_trial.step(
        done.index, done[metric].cummin(), where="post", color=ORANGE, label="best so far"
    )
    if len(pruned) and len(done):
        by_trial.plot(pruned, [done[metric].max()] * len(pruned), "|", color=GREY,
                    label="pruned", markersize=10)  # fmt: skip
    by_time.plot(done["us_per_sample"], done[metric], "o", color=BLUE, markersize=4)
    if front:
        x = [row["us_per_sample"] for _, row in front]
        by_time.plot(x, [row[metric] for _, row in front], drawstyle="steps-post", color=ORANGE,
                  marker="s", markersize=5, label="best within a time budget")  # fmt: skip
    limits = done["limit"].dropna()
    if metric == "shifted_mse" and not limits.empty:
        for axes in (by_trial, by_time):
            axes.axhline(limits.min(), color=INK, linestyle=":", label="lowest limit")
    by_trial.set(xlabel="trial", ylabel=_title(metric), title=title, yscale="log")
    by_time.set(xlabel="processing time (µs a sample)", xscale="log", title="by processing time")
    for axes in (by_trial, by_time):
        axes.grid(alpha=0.3)
    handles = {label: h for axes in (by_trial, by_time)
               for h, label in zip(*axes.get_legend_handles_labels(), strict=True)}  # fmt: skip
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5,
                  frameon=False)  # fmt: skip
    return figure


def _claimed(claim: Mapping[str, float], metric: str) -> float | None:
    """The claimed value of a metric. An R2 is an MSE of (1 - R2) / 2: targets have power 1/2."""
    if metric == "test_mse" and metric not in claim and "r2" in claim:
        return (1 - claim["r2"]) / 2
    return claim.get(metric)


def _title(metric: str) -> str:
    return metric.replace("_", " ").replace("mse", "MSE")


def _positions(labels: Sequence[str]) -> tuple[list[float], bool]:
    """Positions of labels on the axis: their numbers, or one after another."""
    try:
        return [float(label) for label in labels], True
    except ValueError:
        return [float(n) for n in range(len(labels))], False


def _scale(
    axes: Axes, positions: Sequence[float], labels: Sequence[str], numeric: bool, crowded: bool
) -> None:
    if numeric and min(positions) > 0 and max(positions) > LOG_RATIO * min(positions):
        axes.set_xscale("log")
        axes.minorticks_off()
    rotation: dict[str, Any] = {"rotation": 35, "ha": "right"} if crowded else {}
    axes.set_xticks(list(positions), list(labels), **rotation)
