"""Pictures of sweeps: the error by what varied, and the course of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tonesieve.evaluation.plots.run_plots import BLUE, GREY, INK, ORANGE

# Numbers further apart than this are drawn on a logarithmic axis.
WIDE = 10.0
# Numbers no further apart than this share are not drawn apart.
ALIKE = 0.05


def sweep(
    rows: pd.DataFrame,
    points: Sequence[Mapping[str, Any]],
    key: str,
    metric: str,
    title: str,
    claims: Mapping[str, Mapping[str, float]],
) -> Figure:
    """The metric by label: a dot a seed, a line through the means, the limit, the claims.

    ``key`` names the axis.
    """  # fmt: skip
    labels = [point["label"] for point in points]
    places, numeric = _places(labels)
    crowded = not numeric and sum(map(len, labels)) > 60
    figure = Figure(
        figsize=(max(7, 0.6 * len(labels)), 6 if crowded else 4.8), layout="constrained"
    )
    axes = figure.subplots()
    where = dict(zip(labels, places, strict=True))
    done = rows[rows[metric].notna()]
    axes.plot(
        [where[label] for label in done["label"]], done[metric], "o",
        color=BLUE, markersize=4, alpha=0.6, label="a run", zorder=3,
    )  # fmt: skip
    style = "-" if numeric else ""
    for name, label, colour, line, mark in (
        (metric, "mean of the seeds", BLUE, style, "_"),
        ("limit", "limit (random start)", INK, ":" if numeric else "", "2"),
    ):
        if name == "limit" and not metric.endswith("mse"):
            continue
        known = [(where[p["label"]], p[name]) for p in points if p[name] is not None]
        if known:
            x, y = zip(*known, strict=True)
            axes.plot(x, y, linestyle=line or "none", marker=mark, markersize=14, color=colour,
                      label=label, zorder=2)  # fmt: skip
    told = [(where[n], _claimed(c, metric)) for n, c in claims.items()]
    claimed = [(place, value) for place, value in told if value is not None]
    if claimed:
        x, y = zip(*claimed, strict=True)
        axes.plot(x, y, "x", color=ORANGE, markersize=8, markeredgewidth=2, label="claimed")
    _scale(axes, places, labels, numeric, crowded)
    values = [v for v in done[metric] if v > 0]
    if values and max(values) > WIDE * min(values):
        axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high - low < ALIKE * abs(high):  # what is the same shall look the same
        axes.set_ylim(low - ALIKE / 2 * abs(high), high + ALIKE / 2 * abs(high))
    axes.set(xlabel=key, ylabel=_words(metric), title=title)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


def search(
    rows: pd.DataFrame, front: Sequence[tuple[float, Mapping[str, Any]]], metric: str, title: str
) -> Figure:
    """The metric trial by trial, and against the time a sample; the limit where it is one."""
    figure = Figure(figsize=(12, 4.8), layout="constrained")
    course, cost = figure.subplots(1, 2, sharey=True)
    done = rows[rows[metric].notna()]
    given_up = rows.index[rows["status"] == "pruned"]
    course.plot(done.index, done[metric], "o", color=BLUE, markersize=4, label="trial")
    course.step(done.index, done[metric].cummin(), where="post", color=ORANGE, label="best so far")
    if len(given_up) and len(done):
        course.plot(given_up, [done[metric].max()] * len(given_up), "|", color=GREY,
                    label="given up", markersize=10)  # fmt: skip
    cost.plot(done["us_per_sample"], done[metric], "o", color=BLUE, markersize=4)
    if front:
        x = [row["us_per_sample"] for _, row in front]
        cost.plot(x, [row[metric] for _, row in front], drawstyle="steps-post", color=ORANGE,
                  marker="s", markersize=5, label="best for the budget")  # fmt: skip
    limits = done["limit"].dropna()
    if metric == "shifted_mse" and not limits.empty:
        for axes in (course, cost):
            axes.axhline(limits.min(), color=INK, linestyle=":", label="lowest limit")
    course.set(xlabel="trial", ylabel=_words(metric), title=title, yscale="log")
    cost.set(xlabel="µs a sample, in one piece", xscale="log", title="by the time it takes")
    for axes in (course, cost):
        axes.grid(alpha=0.3)
    handles = {label: h for axes in (course, cost)
               for h, label in zip(*axes.get_legend_handles_labels(), strict=True)}  # fmt: skip
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5,
                  frameon=False)  # fmt: skip
    return figure


def _claimed(claim: Mapping[str, float], metric: str) -> float | None:
    """What a source says of the metric. An R2 is an MSE of (1 - R2) / 2: targets have power 1/2."""
    if metric == "test_mse" and metric not in claim and "r2" in claim:
        return (1 - claim["r2"]) / 2
    return claim.get(metric)


def _words(metric: str) -> str:
    return metric.replace("_", " ").replace("mse", "MSE")


def _places(labels: Sequence[str]) -> tuple[list[float], bool]:
    """Where labels stand on the axis: at their numbers, or side by side."""
    try:
        return [float(label) for label in labels], True
    except ValueError:
        return [float(n) for n in range(len(labels))], False


def _scale(
    axes: Axes, places: Sequence[float], labels: Sequence[str], numeric: bool, crowded: bool
) -> None:
    if numeric and min(places) > 0 and max(places) > WIDE * min(places):
        axes.set_xscale("log")
        axes.minorticks_off()
    turned: dict[str, Any] = {"rotation": 35, "ha": "right"} if crowded else {}
    axes.set_xticks(list(places), list(labels), **turned)
