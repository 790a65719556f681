"""A picture of what was found: the spectrum of each channel, its floor, threshold and lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tonesieve.evaluation.plots.run_plots import BLUE, GREY, ORANGE, save_figure
from tonesieve.extraction.finding import Findings
from tonesieve.signals.line_evidence import MIN_AVERAGED, Average
from tonesieve.signals.segment_spectra import LOWEST_BIN, equivalent_noise_bins

# Chosen for the eye, not tuned: points of a spectrum, labelled combs and panels at most.
MAX_POINTS, MAX_LABELS, MAX_PANELS = 3000, 14, 16


def draw_findings(findings: Sequence[Findings], rate_hz: float, title: str, path: Path) -> None:
    """Draw a panel for each channel."""
    shown = findings[:MAX_PANELS]
    figure = Figure(figsize=(11, 1 + 3.6 * len(shown)), layout="constrained")
    axes = np.atleast_1d(figure.subplots(len(shown), 1))
    for axis, one in zip(axes, shown, strict=True):
        _draw_channel(axis, one, rate_hz)
    axes[0].set_title(f"{title}: {one_or_all(findings, shown)}")
    axes[-1].set_xlabel("frequency (Hz)")
    save_figure(figure, path, dpi=110)


def one_or_all(findings: Sequence[Findings], shown: Sequence[Findings]) -> str:
    """How many channels are drawn."""
    if len(shown) == len(findings):
        return f"{len(shown)} channel" + "s" * (len(shown) > 1)
    return f"the first {len(shown)} of {len(findings)} channels"


def _draw_channel(axis: Any, one: Findings, rate_hz: float) -> None:
    unit = one.channel.unit or "unit"
    axis.set_ylabel(f"{one.channel.name}\n({unit}$^2$/Hz)")
    if not one.averages:
        axis.text(0.5, 0.5, "nothing to search", ha="center", transform=axis.transAxes)
        return
    average = _shown_average(one.averages)
    bin_hz = rate_hz / average.resolution.length
    scale = 0.5 / (equivalent_noise_bins() * bin_hz)  # from the power of sines to a density
    bins = np.arange(LOWEST_BIN, len(average.power))
    edges = np.unique(np.geomspace(LOWEST_BIN, len(average.power), MAX_POINTS).astype(int))[:-1]
    at = edges - LOWEST_BIN
    # The highest of each group of bins: no line is lost.
    density = np.maximum.reduceat(scale * average.power[bins], at)
    axis.loglog(edges * bin_hz, density, color=GREY, linewidth=0.9, label="spectrum")
    floor = scale * average.floor
    axis.loglog(edges * bin_hz, floor[edges], color=BLUE, linewidth=1.2, label="noise floor")
    threshold = (floor * average.needed)[edges]
    axis.loglog(
        edges * bin_hz, threshold, color=BLUE, linewidth=0.9, linestyle=":",
        label="found above, in every segment",
    )  # fmt: skip
    for rhythm in one.rhythms:
        half = rhythm.bandwidth_hz / 2
        axis.axvspan(rhythm.hz - half, rhythm.hz + half, color=ORANGE, alpha=0.15, linewidth=0)
    axis.margins(y=0.2)  # room for labels
    _label_lines(axis, one, average, scale, bin_hz)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, loc="lower left", fontsize=8)


def _label_lines(axis: Any, one: Findings, average: Average, scale: float, bin_hz: float) -> None:
    """A marker on every line, and its frequency on the strongest."""
    labelled = {line.hz for line in sorted(one.lines, key=lambda line: -line.power)[:MAX_LABELS]}
    for line in one.lines:
        k = min(round(line.hz / bin_hz), len(average.power) - 1)
        near = average.power[max(0, k - 2) : k + 3]
        height = scale * float(near.max())
        axis.plot(line.hz, height, "v" if line.moves else "o", color=ORANGE, markersize=4)
        if line.hz in labelled:
            axis.annotate(
                f"{line.hz:.6g}", (line.hz, height), (0, 5), textcoords="offset points",
                ha="center", fontsize=7, rotation=60, color=ORANGE,
            )  # fmt: skip


def _shown_average(averages: Sequence[Average]) -> Average:
    """The finest resolution that is averaged."""
    return next((one for one in averages if one.n_segments >= MIN_AVERAGED), averages[-1])
