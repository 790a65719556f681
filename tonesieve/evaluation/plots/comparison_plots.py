"""Figures of comparisons: error by the age of the record, error by SNR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tonesieve.evaluation.comparison import Condition
from tonesieve.evaluation.injection_scores import ORACLE
from tonesieve.evaluation.plots.run_plots import DASHES, INK, PALE, STRONG, Style

# Chosen, not tuned: errors below this are not shown.
FLOOR = 1e-7


def errors_by_age(conditions: Sequence[Condition], runs: Sequence[str], best: str) -> Figure:
    """Plot the error against the age of the record, a panel a condition, with the limit.

    Parameters
    ----------
    conditions : sequence of Condition
        Results of a comparison.
    runs : sequence of str
        Names of the runs, drawn with thick lines; the classical extractors are drawn thin.
    best : str
        Name of the extractor that attains the limit.

    Returns
    -------
    Figure
        The figure.
    """
    figure = Figure(figsize=(5.0 * len(conditions), 6.4), layout="constrained")
    panels = figure.subplots(1, len(conditions), sharey=True, squeeze=False)[0]
    for axes, condition in zip(panels, conditions, strict=True):
        names = [row["name"] for row in condition.rows]
        filters = [name for name in names if name not in (*runs, best)]
        for name, error in condition.by_age.items():
            if name == best:
                style: Style = {"color": INK, "linewidth": 1.6, "linestyle": (0, (1, 1))}
            elif name in runs:
                index = list(runs).index(name)
                style = {"color": STRONG[index % len(STRONG)], "linewidth": 2.2}
                style["linestyle"] = DASHES[index // len(STRONG) % len(DASHES)]
            else:
                index = filters.index(name)
                style = {"color": PALE[index % len(PALE)], "linewidth": 1.0}
                style["linestyle"] = DASHES[1 + index // len(PALE) % (len(DASHES) - 1)]
            axes.loglog(condition.ages_s, error, label=name, **style)
        if condition.limit_by_age is not None:
            # An extractor that also observes the future may come below.
            exact = condition.limit_kind == "exact"
            label = "causal limit" if exact else "limit of linear extractors"
            limit = condition.limit_by_age
            axes.plot(condition.ages_s, limit, color=INK, linewidth=1.2, label=label)
            axes.fill_between(condition.ages_s, FLOOR, np.maximum(limit, FLOOR), color="#dddddd")
        axes.set(xlabel="age of the record (s)", title=condition.name, ylim=(FLOOR, 3.0))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("mean squared error")
    entries: dict[str, Any] = {}
    for axes in panels:
        entries |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(
        entries.values(), entries.keys(), loc="outside lower center", ncols=6, frameon=False
    )
    return figure


def error_by_snr(rows: pd.DataFrame, own_snr_db: Sequence[float], network: str) -> Figure:
    """Plot the NMSE against the SNR, causal filters in one panel and the others in a second one.

    The network is drawn with a thick line. Filters have the parameters that are best for each
    single record, where there is a choice.

    Parameters
    ----------
    rows : DataFrame
        Results of the injection test.
    own_snr_db : sequence of float
        SNRs of the recording's own tones, dB.
    network : str
        Name of the network in the results.

    Returns
    -------
    Figure
        The figure.
    """
    figure = Figure(figsize=(10, 5), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    learned = rows[rows["extractor"] == network]
    filters = rows[(rows["extractor"] != network)]
    for axes, causal in zip(panels, (True, False), strict=True):
        panel = filters[filters["causal"] == causal]
        for index, (name, scores) in enumerate(panel.groupby("extractor", sort=False)):
            choice = ORACLE if (scores["knobs"] == ORACLE).any() else "default"
            shown = scores[scores["knobs"] == choice]
            style: Style = {"color": PALE[index % len(PALE)], "linewidth": 1.2, "marker": "."}
            style["linestyle"] = DASHES[1 + index % (len(DASHES) - 1)]
            axes.plot(shown["snr_db"], shown["nmse_db"], label=f"{name}, {choice}", **style)
        axes.errorbar(
            learned["snr_db"],
            learned["nmse_db"],
            learned["stderr_db"],
            color=STRONG[0],
            linewidth=2.2,
            capsize=3,
            label="network (causal)",
        )
        for n, snr in enumerate(own_snr_db):
            label = "tone of the recording" if n == 0 else None
            axes.axvline(snr, color=INK, linewidth=0.8, linestyle=":", label=label)
        title = "causal filters" if causal else "filters that need the future"
        axes.set(xlabel="SNR in the band around the tone (dB)", title=title)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize="small")
    panels[0].set_ylabel("NMSE (dB)")
    return figure
