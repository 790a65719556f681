"""Pictures: results in, figures out; nothing is computed here but what is drawn.

Lines differ in dash and width as well as in colour, so that they can be told apart in grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tonesieve.evaluation.comparison import Condition
from tonesieve.util.files import replacing

Style = dict[str, Any]
INK, ORANGE, BLUE, GREY = "#000000", "#d55e00", "#0072b2", "#9a9a9a"
TARGET: Style = {"color": INK, "linewidth": 2.2, "label": "target"}
ESTIMATE: Style = {"color": ORANGE, "linewidth": 1.4, "linestyle": (0, (4, 2)), "label": "estimate"}
MIXTURE: Style = {"color": GREY, "linewidth": 0.6, "label": "mixture S", "zorder": 0}

# Runs, filters; and dashes that tell those apart that share a colour.
STRONG = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#7b3294", "#a6761d")
PALE = ("#56b4e9", "#e69f00", "#77ac30", "#9a9a9a", "#b2727f")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (2, 1)), (0, (6, 1.5, 1, 1.5)))
# Errors below this are off the picture.
FLOOR = 1e-7

Line = Float[np.ndarray, " T"]


def save_figure(figure: Figure, path: Path, *, dpi: int) -> None:
    """Write a PNG in one piece."""
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=dpi)


def single_component(
    time_s: Line, mixture: Line, target: Line, estimate: Line, hz: float
) -> Figure:
    """Target as a line, estimate dashed on top, mixture in the background."""
    figure, axes = _sheet(9, 4)
    _draw_component(axes, time_s, mixture, target, estimate)
    axes.set(xlabel="time (s)", ylabel="amplitude", title=f"{hz:g} Hz: target and estimate")
    _legend_below(figure, axes)
    return figure


def all_components(
    time_s: Line,
    mixture: Line,
    targets: Float[np.ndarray, "T K"],
    estimates: Float[np.ndarray, "T K"],
    frequencies_hz: tuple[float, ...],
) -> Figure:
    """One panel a component."""
    n = len(frequencies_hz)
    n_columns = 1 if n == 1 else 2
    n_rows = -(-n // n_columns)
    figure = Figure(figsize=(5.2 * n_columns, 2.5 * n_rows + 0.6), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    for k, axes in enumerate(grid.flat):
        if k >= n:
            axes.set_visible(False)
            continue
        _draw_component(axes, time_s, mixture, targets[:, k], estimates[:, k])
        axes.set_title(f"{frequencies_hz[k]:g} Hz")
    for axes in grid[-1]:
        axes.set_xlabel("time (s)")
    for axes in grid[:, 0]:
        axes.set_ylabel("amplitude")
    _legend_below(figure, grid[0, 0])
    return figure


def training_curves(history: pd.DataFrame, best_epoch: int) -> Figure:
    """Losses and, on its own axis, the learning rate."""
    figure, axes = _sheet(8, 4.5)
    marks: Style = {"markevery": max(1, len(history) // 20), "markersize": 4}
    epochs = history["epoch"]
    axes.plot(epochs, history["train_loss"], color=BLUE, marker="o", label="train loss", **marks)
    axes.plot(
        epochs,
        history["validation_loss"],
        color=ORANGE,
        marker="s",
        linestyle="--",
        label="validation loss",
        **marks,
    )
    axes.axvline(best_epoch, color=INK, linewidth=0.8, linestyle=":", label=f"best: {best_epoch}")
    axes.set(xlabel="epoch", ylabel="mean squared error", yscale="log", title="Training")
    axes.grid(alpha=0.3)
    rate = axes.twinx()
    rate.plot(epochs, history["learning_rate"], color=GREY, linestyle="-.", label="learning rate")
    rate.set(ylabel="learning rate", ylim=(0, None))
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


def spectra(
    mixture: Line, target: Line, estimate: Line, rate_hz: float, hz: float, top_hz: float
) -> Figure:
    """Amplitude spectra of mixture, target and estimate up to ``top_hz``."""
    figure, axes = _sheet(9, 4.5)
    for samples, style in ((mixture, MIXTURE), (target, TARGET), (estimate, ESTIMATE)):
        frequencies, level = _amplitude_spectrum(samples, rate_hz)
        shown = frequencies <= top_hz
        axes.semilogy(frequencies[shown], level[shown], **style)
    axes.axvline(hz, color=INK, linewidth=0.8, linestyle=":", label=f"wanted: {hz:g} Hz")
    axes.set(xlabel="frequency (Hz)", ylabel="amplitude", title=f"Spectra, {hz:g} Hz wanted")
    axes.set_ylim(1e-5, None)
    axes.grid(alpha=0.3)
    _legend_below(figure, axes)
    return figure


def errors(time_s: Line, target: Line, estimate: Line, hz: float) -> Figure:
    """Histogram of the error, estimate against target, error over time."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    histogram, scatter, course = figure.subplots(1, 3)
    error = estimate - target
    histogram.hist(error, bins=60, color=BLUE, edgecolor="white", linewidth=0.3, log=True)
    histogram.set(xlabel="estimate - target", ylabel="samples (log)", title="Errors")
    thin = slice(None, None, max(1, len(target) // 2000))
    scatter.plot(target[thin], estimate[thin], ".", color=BLUE, markersize=3, label="samples")
    ends = [float(target.min()), float(target.max())]
    scatter.plot(ends, ends, color=INK, linewidth=1, linestyle="--", label="estimate = target")
    scatter.set(xlabel="target", ylabel="estimate", title="Estimate against target")
    scatter.legend(loc="lower right", frameon=False)
    course.plot(time_s, error, color=BLUE, linewidth=0.7)
    course.axhline(0, color=INK, linewidth=0.8)
    course.set(xlabel="time (s)", ylabel="estimate - target", title="Error over time")
    figure.suptitle(f"{hz:g} Hz, test record")
    return figure


def attention(
    weights: dict[str, Float[np.ndarray, "H N C"]], n_samples: int, rate_hz: float, stride: int = 1
) -> Figure:
    """What each attention looks at: mean over its heads by time and lag, and every head by lag.

    It answers every ``stride``-th of the samples.
    """
    lag = "lag (samples)" if stride == 1 else f"lag (steps of {stride} samples)"
    figure = Figure(figsize=(11, 3.4 * len(weights) + 0.4), layout="constrained")
    grid = figure.subplots(len(weights), 2, squeeze=False, width_ratios=(2, 1))
    for (name, by_lag), (course, profile) in zip(weights.items(), grid, strict=True):
        n_heads, n_answers, context = by_lag.shape
        first = max(0, n_samples - stride * n_answers) / rate_hz
        image = course.imshow(
            by_lag.mean(axis=0).T,
            aspect="auto",
            origin="lower",
            interpolation="nearest",
            cmap="cividis",
            extent=(first, n_samples / rate_hz, -0.5, context - 0.5),
        )
        figure.colorbar(image, ax=course, label="weight")
        title = f"{name}: weights" + (f", mean of {n_heads} heads" if n_heads > 1 else "")
        course.set(xlabel="time of the sample answered (s)", ylabel=lag, title=title)
        for n, head in enumerate(by_lag.mean(axis=1)):
            style = {"color": STRONG[n % len(STRONG)], "linestyle": DASHES[n % len(DASHES)]}
            profile.plot(head, label=f"head {n + 1}", **style)
        profile.set(xlabel=lag, ylabel="mean weight", title="mean over time")
        profile.set_ylim(0, None)
        profile.grid(alpha=0.3)
        if n_heads > 1:
            profile.legend(frameon=False, ncols=2)
    return figure


def two_runs(
    time_s: Line,
    target: Line,
    estimates: tuple[Line, Line],
    names: tuple[str, str],
    hz: float,
) -> Figure:
    """Two runs on the same record: their estimates, and below their errors."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    styles: tuple[Style, Style] = (
        {"color": ORANGE, "linewidth": 1.4, "linestyle": (0, (4, 2))},
        {"color": BLUE, "linewidth": 1.2, "linestyle": "-."},
    )
    above.plot(time_s, target, **{**TARGET, "alpha": 0.5})
    for estimate, name, style in zip(estimates, names, styles, strict=True):
        above.plot(time_s, estimate, label=name, **style)
        below.plot(time_s, estimate - target, label=name, **style)
    below.axhline(0, color=INK, linewidth=0.8)
    above.set(ylabel="amplitude", title=f"{hz:g} Hz: {names[0]} against {names[1]}")
    below.set(xlabel="time (s)", ylabel="estimate - target")
    _legend_below(figure, above)
    return figure


def errors_by_age(scenes: Sequence[Condition], runs: Sequence[str], best: str) -> Figure:
    """Error against the age of the record, a panel a scene; the limit drawn below.

    ``runs`` are drawn thick, the classical extractors thin; ``best`` attains the limit.
    """
    figure = Figure(figsize=(5.0 * len(scenes), 6.4), layout="constrained")
    panels = figure.subplots(1, len(scenes), sharey=True, squeeze=False)[0]
    for axes, scene in zip(panels, scenes, strict=True):
        names = [row["name"] for row in scene.rows]
        quiet = [name for name in names if name not in (*runs, best)]
        for name, course in scene.by_age.items():
            if name == best:
                style: Style = {"color": INK, "linewidth": 1.6, "linestyle": (0, (1, 1))}
            elif name in runs:
                at = list(runs).index(name)
                style = {"color": STRONG[at % len(STRONG)], "linewidth": 2.2}
                style["linestyle"] = DASHES[at // len(STRONG) % len(DASHES)]
            else:
                at = quiet.index(name)
                style = {"color": PALE[at % len(PALE)], "linewidth": 1.0}
                style["linestyle"] = DASHES[1 + at // len(PALE) % (len(DASHES) - 1)]
            axes.loglog(scene.ages_s, course, label=name, **style)
        if scene.limit_by_age is not None:
            # Whoever knows the future, too, may come below.
            label = "limit, from the past" if scene.limit_kind == "exact" else "best linear limit"
            axes.plot(scene.ages_s, scene.limit_by_age, color=INK, linewidth=1.2, label=label)
            axes.fill_between(
                scene.ages_s, FLOOR, np.maximum(scene.limit_by_age, FLOOR), color="#dddddd"
            )
        axes.set(xlabel="age of the record (s)", title=scene.name, ylim=(FLOOR, 3.0))
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
    """NMSE against SNR: the network thick, filters tuned in hindsight thin, causal ones beside
    those that need the future; ``own_snr_db`` marks the recording's own tones.
    """
    figure = Figure(figsize=(10, 5), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    learned = rows[rows["extractor"] == network]
    others = rows[(rows["extractor"] != network)]
    for axes, causal in zip(panels, (True, False), strict=True):
        mine = others[others["causal"] == causal]
        for at, (name, some) in enumerate(mine.groupby("extractor", sort=False)):
            given = "hindsight" if (some["knobs"] == "hindsight").any() else "default"
            shown = some[some["knobs"] == given]
            style: Style = {"color": PALE[at % len(PALE)], "linewidth": 1.2, "marker": "."}
            style["linestyle"] = DASHES[1 + at % (len(DASHES) - 1)]
            axes.plot(shown["snr_db"], shown["nmse_db"], label=f"{name}, {given}", **style)
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
            label = "the recording's own" if n == 0 else None
            axes.axvline(snr, color=INK, linewidth=0.8, linestyle=":", label=label)
        title = "causal filters" if causal else "filters that need the future"
        axes.set(xlabel="SNR in the band around the tone (dB)", title=title)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize="small")
    panels[0].set_ylabel("error over the tone's power, NMSE (dB)")
    return figure


def _sheet(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _draw_component(axes: Axes, time_s: Line, mixture: Line, target: Line, estimate: Line) -> None:
    axes.plot(time_s, mixture, **MIXTURE)
    axes.plot(time_s, target, **TARGET)
    axes.plot(time_s, estimate, **ESTIMATE)
    axes.margins(x=0)


def _legend_below(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)


def _amplitude_spectrum(
    samples: Line, rate_hz: float
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    window = np.hanning(len(samples))
    level = 2 * np.abs(np.fft.rfft(window * np.nan_to_num(samples))) / window.sum()
    return np.fft.rfftfreq(len(samples), 1 / rate_hz), level
