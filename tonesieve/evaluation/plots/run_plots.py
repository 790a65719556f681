"""Figures of one run or two: signals, spectra, errors, training curves, attention weights.

Lines differ in dash and width as well as in colour, so that they are distinct in grey.
Axes: T samples, K tones, H heads, N outputs, C lags.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tonesieve.util.files import replacing

Style = dict[str, Any]
INK, ORANGE, BLUE, GREY = "#000000", "#d55e00", "#0072b2", "#9a9a9a"
TARGET: Style = {"color": INK, "linewidth": 2.2, "label": "target"}
ESTIMATE: Style = {"color": ORANGE, "linewidth": 1.4, "linestyle": (0, (4, 2)), "label": "estimate"}
MIXTURE: Style = {"color": GREY, "linewidth": 0.6, "label": "mixture S", "zorder": 0}

# Colours of runs and of filters; dashes for lines that share a colour.
STRONG = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#7b3294", "#a6761d")
PALE = ("#56b4e9", "#e69f00", "#77ac30", "#9a9a9a", "#b2727f")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (2, 1)), (0, (6, 1.5, 1, 1.5)))
Line = Float[np.ndarray, " T"]


def save_figure(figure: Figure, path: Path, *, dpi: int) -> None:
    """Write a figure as a PNG file, atomically.

    Parameters
    ----------
    figure : Figure
        The figure.
    path : Path
        File to write.
    dpi : int
        Resolution, dots an inch.
    """
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=dpi)


def single_component(
    time_s: Line, mixture: Line, target: Line, estimate: Line, hz: float
) -> Figure:
    """Plot the target, the estimate dashed on top, and the mixture in the background.

    Parameters
    ----------
    time_s : ndarray, shape (T,)
        Times of the samples, s.
    mixture, target, estimate : ndarray, shape (T,)
        Signals.
    hz : float
        Frequency of the tone, Hz.

    Returns
    -------
    Figure
        The figure.
    """
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
    """Plot every component in a panel of its own.

    Parameters
    ----------
    time_s : ndarray, shape (T,)
        Times of the samples, s.
    mixture : ndarray, shape (T,)
        Input.
    targets, estimates : ndarray, shape (T, K)
        True and estimated tones.
    frequencies_hz : tuple of float
        Frequencies of the tones, Hz.

    Returns
    -------
    Figure
        The figure.
    """
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
    """Plot the losses by epoch and, on its own axis, the learning rate.

    Parameters
    ----------
    history : DataFrame
        Columns ``epoch``, ``train_loss``, ``validation_loss`` and ``learning_rate``.
    best_epoch : int
        Epoch of the least validation loss.

    Returns
    -------
    Figure
        The figure.
    """
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
    """Plot the amplitude spectra of mixture, target and estimate.

    Parameters
    ----------
    mixture, target, estimate : ndarray, shape (T,)
        Signals.
    rate_hz : float
        Sampling rate, Hz.
    hz : float
        Frequency of the target, Hz.
    top_hz : float
        Highest frequency shown, Hz.

    Returns
    -------
    Figure
        The figure.
    """
    figure, axes = _sheet(9, 4.5)
    for samples, style in ((mixture, MIXTURE), (target, TARGET), (estimate, ESTIMATE)):
        frequencies, amplitude = _amplitude_spectrum(samples, rate_hz)
        shown = frequencies <= top_hz
        axes.semilogy(frequencies[shown], amplitude[shown], **style)
    axes.axvline(hz, color=INK, linewidth=0.8, linestyle=":", label=f"target frequency: {hz:g} Hz")
    axes.set(
        xlabel="frequency (Hz)", ylabel="amplitude", title=f"Amplitude spectra, target at {hz:g} Hz"
    )
    axes.set_ylim(1e-5, None)
    axes.grid(alpha=0.3)
    _legend_below(figure, axes)
    return figure


def errors(time_s: Line, target: Line, estimate: Line, hz: float) -> Figure:
    """Plot a histogram of the error, the estimate against the target, and the error over time.

    Parameters
    ----------
    time_s : ndarray, shape (T,)
        Times of the samples, s.
    target, estimate : ndarray, shape (T,)
        True and estimated tone.
    hz : float
        Frequency of the tone, Hz.

    Returns
    -------
    Figure
        The figure.
    """
    figure = Figure(figsize=(12, 4), layout="constrained")
    histogram, scatter, series = figure.subplots(1, 3)
    error = estimate - target
    histogram.hist(error, bins=60, color=BLUE, edgecolor="white", linewidth=0.3, log=True)
    histogram.set(xlabel="estimate - target", ylabel="number of samples", title="Errors")
    sparse = slice(None, None, max(1, len(target) // 2000))
    scatter.plot(target[sparse], estimate[sparse], ".", color=BLUE, markersize=3, label="samples")
    ends = [float(target.min()), float(target.max())]
    scatter.plot(ends, ends, color=INK, linewidth=1, linestyle="--", label="estimate = target")
    scatter.set(xlabel="target", ylabel="estimate", title="Estimate against target")
    scatter.legend(loc="lower right", frameon=False)
    series.plot(time_s, error, color=BLUE, linewidth=0.7)
    series.axhline(0, color=INK, linewidth=0.8)
    series.set(xlabel="time (s)", ylabel="estimate - target", title="Error over time")
    figure.suptitle(f"{hz:g} Hz, test record")
    return figure


def attention(
    weights: dict[str, Float[np.ndarray, "H N C"]], n_samples: int, rate_hz: float, stride: int = 1
) -> Figure:
    """Plot attention weights: the mean over heads by time and lag, and every head by lag.

    Parameters
    ----------
    weights : dict of ndarray, shape (H, N, C)
        Weights of every attention layer by head, output and lag.
    n_samples : int
        Samples of the record.
    rate_hz : float
        Sampling rate, Hz.
    stride : int
        Samples between two outputs.

    Returns
    -------
    Figure
        The figure.
    """
    lag = "lag (samples)" if stride == 1 else f"lag (steps of {stride} samples)"
    figure = Figure(figsize=(11, 3.4 * len(weights) + 0.4), layout="constrained")
    grid = figure.subplots(len(weights), 2, squeeze=False, width_ratios=(2, 1))
    for (name, by_lag), (image_axes, profile) in zip(weights.items(), grid, strict=True):
        n_heads, n_outputs, context = by_lag.shape
        first = max(0, n_samples - stride * n_outputs) / rate_hz
        image = image_axes.imshow(
            by_lag.mean(axis=0).T,
            aspect="auto",
            origin="lower",
            interpolation="nearest",
            cmap="cividis",
            extent=(first, n_samples / rate_hz, -0.5, context - 0.5),
        )
        figure.colorbar(image, ax=image_axes, label="weight")
        title = f"{name}: weights" + (f", mean of {n_heads} heads" if n_heads > 1 else "")
        image_axes.set(xlabel="time of the estimate (s)", ylabel=lag, title=title)
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
    """Plot the estimates of two runs on the same record, and below them their errors.

    Parameters
    ----------
    time_s : ndarray, shape (T,)
        Times of the samples, s.
    target : ndarray, shape (T,)
        True tone.
    estimates : tuple of ndarray, shape (T,)
        Estimates of the two runs.
    names : tuple of str
        Names of the two runs.
    hz : float
        Frequency of the tone, Hz.

    Returns
    -------
    Figure
        The figure.
    """
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
    amplitude = 2 * np.abs(np.fft.rfft(window * np.nan_to_num(samples))) / window.sum()
    return np.fft.rfftfreq(len(samples), 1 / rate_hz), amplitude
