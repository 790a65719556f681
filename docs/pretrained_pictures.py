"""Pictures of the pretrained extractor: results or made-up signals in, figures out.

Lines differ in dash and width as well as in colour, so that they can be distinguished in grey.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pretrained_evaluation import extract_tones, source

from tonesieve.evaluation.plots.run_plots import BLUE, GREY, INK, ORANGE, save_figure
from tonesieve.extractors.protocol import ToneEstimate
from tonesieve.extractors.streaming import Stream

FIGURES = Path(__file__).parent / "figures"
GREEN = "#009e73"
WAYS = {"causal": "causal", "whole": "whole record"}
DPI = 110


def path_of(name: str) -> Path:
    """Where a picture is kept."""
    return FIGURES / f"pretrained-{name}.png"


def draw_kept(kept: dict[str, Any]) -> None:
    """The pictures that are drawn from results."""
    save_figure(cells(kept["cells"]), path_of("cells"), dpi=DPI)
    save_figure(steady(kept["curve"]), path_of("steady"), dpi=DPI)
    save_figure(limits(kept["limits"]), path_of("limits"), dpi=DPI)


def draw_examples(weights: str) -> None:
    """Draw the examples, for which the extractor runs."""
    for name, draw in (("hum", hum), ("burst", burst), ("close", close)):
        save_figure(draw(weights), path_of(name), dpi=DPI)


def cells(rows: list[dict[str, Any]]) -> Figure:
    """The pretrained over the best fixed setting, in every cell."""
    noises = list(dict.fromkeys(row["noise"] for row in rows))
    places = list(dict.fromkeys((row["snr_bin"], row["dynamics"]) for row in rows))
    figure = Figure(figsize=(13.5, 10.5), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    n_dynamics = len({dynamics for _, dynamics in places})
    for axes, way in zip(panels, WAYS, strict=True):
        over = np.full((len(places), len(noises)), np.nan)
        for row in rows:
            place = places.index((row["snr_bin"], row["dynamics"]))
            over[place, noises.index(row["noise"])] = row[way]["over_db"]
        image = axes.imshow(over, cmap="PuOr_r", vmin=-15, vmax=15, aspect="auto")
        for (i, j), value in np.ndenumerate(over):
            lost = value > 1
            axes.text(
                j, i, f"{value:+.1f}", ha="center", va="center", fontsize=7,
                color="white" if abs(value) > 10 else INK, weight="bold" if lost else "normal",
            )  # fmt: skip
            if lost:
                axes.add_patch(_frame(j, i))
        axes.set_xticks(range(len(noises)), noises, rotation=30, ha="right")
        axes.set_yticks(range(len(places)), [dynamics for _, dynamics in places])
        axes.set_title(WAYS[way])
        axes.set_xlabel("noise")
        for line in range(n_dynamics, len(places), n_dynamics):
            axes.axhline(line - 0.5, color=INK, linewidth=1.5)
    for index in range(0, len(places), n_dynamics):
        middle = index + (n_dynamics - 1) / 2
        panels[0].text(
            -0.22, middle, f"SNR {places[index][0]} dB", rotation=90, ha="center", va="center",
            transform=panels[0].get_yaxis_transform(),
        )  # fmt: skip
    figure.colorbar(image, ax=panels, shrink=0.5, label="NMSE over the best fixed setting (dB)")
    figure.suptitle("Less than 0: better than the best fixed setting; framed: more than 1 dB worse")
    return figure


def _frame(j: int, i: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((j - 0.46, i - 0.44), 0.92, 0.88, fill=False, edgecolor=INK, linewidth=1.4)


def steady(rows: list[dict[str, Any]]) -> Figure:
    """NMSE of a steady tone by age, and that of the oracle Kalman filter."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    snrs = sorted({row["snr_db"] for row in rows})
    colours = (ORANGE, BLUE, GREEN, INK)
    for snr, colour, marker in zip(snrs, colours, "osD^", strict=True):
        mine = [row for row in rows if row["snr_db"] == snr]
        ages = [row["age"] for row in mine]
        own = [row["pretrained"] for row in mine]
        axes.semilogx(ages, own, color=colour, marker=marker, label=f"pretrained, {snr:g} dB")
        axes.semilogx(
            ages, [row["kalman told"] for row in mine], color=colour, linestyle=(0, (4, 2)),
            linewidth=1.2,
        )  # fmt: skip
    axes.plot([], [], color=GREY, linestyle=(0, (4, 2)), label="oracle Kalman filter")
    axes.set(
        xlabel="age (samples)",
        ylabel="NMSE (dB)",
        title="Steady tones in white noise, by SNR a sample",
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower left")
    return figure


def limits(rows: list[dict[str, Any]]) -> Figure:
    """NMSE by how far beyond the family a signal is, one thing at a time."""
    figure = Figure(figsize=(9.6, 6.4), layout="constrained")
    kinds = list(dict.fromkeys(row["what"] for row in rows))
    for axes, what in zip(figure.subplots(2, 2).flat, kinds, strict=True):
        mine = [row for row in rows if row["what"] == what]
        for who, label, colour, marker, dash in (
            ("causal", "pretrained, causal", ORANGE, "o", "-"),
            ("whole", "pretrained, whole record", BLUE, "s", "-"),
            ("tracker", "tracker, memory of 300 samples", GREY, "^", (0, (4, 2))),
        ):
            axes.plot(
                [row[who] for row in mine], color=colour, marker=marker, linestyle=dash, label=label
            )
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set_xticks(range(len(mine)), [row["value"].replace(" samples", "") for row in mine])
        unit = " samples" if "samples" in mine[0]["value"] else ""
        axes.set_xlabel(f"{what} ...{unit}", fontsize=9)
        axes.set_ylabel("NMSE (dB)")
        axes.grid(alpha=0.3)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle("Beyond what it was trained on; 0 dB is the error of an estimate of zero")
    return figure


def _detailed(
    weights: str, hz: tuple[float, ...], rate_hz: float, samples: np.ndarray
) -> ToneEstimate:
    return Stream(source(weights, hz, rate_hz)).process_detailed(samples[None])


def _band(axes: Axes, t: np.ndarray, tone: np.ndarray, half: np.ndarray, colour: str) -> None:
    axes.fill_between(
        t, tone - half, tone + half, color=colour, alpha=0.25, linewidth=0, label="90% band"
    )


def hum(weights: str) -> Figure:
    """A hum whose frequency drifts, in noise as loud as itself."""
    rate, n = 1000.0, 60_000
    t = np.arange(n) / rate
    rng = np.random.default_rng(50)
    hz = 50 + 0.1 * np.sin(2 * np.pi * t / 40)
    true = np.sin(2 * np.pi * np.cumsum(hz) / rate)
    samples = true + rng.standard_normal(n) / np.sqrt(2)
    estimate = _detailed(weights, (50.0,), rate, samples)
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    upper, lower = figure.subplots(2, 1)
    upper.plot(t, hz, color=INK, linewidth=2, label="true")
    thin = slice(500, None, 20)
    upper.plot(t[thin], estimate.hz[0, thin, 0], color=ORANGE, linewidth=1, label="tracked")
    upper.set(xlabel="time (s)", ylabel="frequency (Hz)", ylim=(49.8, 50.2))
    upper.set_title("A hum that drifts between 49.9 and 50.1 Hz, nominal frequency 50 Hz; SNR 0 dB")
    upper.legend(frameon=False, loc="lower left", ncols=2)
    upper.grid(alpha=0.3)
    near = slice(50_000, 50_120)
    tone, half = estimate.tones[0, near, 0], estimate.band[0, near, 0]
    lower.plot(t[near], samples[near], color=GREY, linewidth=0.8, label="samples")
    _band(lower, t[near], tone, half, BLUE)
    lower.plot(t[near], true[near], color=INK, linewidth=2, label="true tone")
    lower.plot(
        t[near], tone, color=ORANGE, linewidth=1.4, linestyle=(0, (4, 2)), label="estimate (causal)"
    )
    lower.set(xlabel="time (s)", ylabel="amplitude")
    lower.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    lower.grid(alpha=0.3)
    return figure


def burst(weights: str) -> Figure:
    """A tone that comes and goes: what is known at the time, and afterwards."""
    rate, n = 1000.0, 3000
    t = np.arange(n) / rate
    rng = np.random.default_rng(7)
    on = ((t > 1.0) & (t < 1.9)).astype(float)
    true = on * np.sin(2 * np.pi * 20 * t)
    samples = true + 0.7 * rng.standard_normal(n)
    figure = Figure(figsize=(9, 7), layout="constrained")
    top, *panels = figure.subplots(3, 1, sharex=True)
    shown = slice(700, 2300)
    top.plot(t[shown], samples[shown], color=GREY, linewidth=0.6, label="samples")
    top.plot(t[shown], true[shown], color=INK, linewidth=1.4, label="true tone")
    top.set_title("A burst of 20 Hz at 1,000 samples a second; SNR 0 dB while it is on")
    for axes, way, colour in zip(panels, WAYS, (ORANGE, BLUE), strict=True):
        tones, bands = extract_tones(weights, (20.0,), way == "whole", samples, rate)
        tone, half = tones[shown, 0], bands[shown, 0]
        _band(axes, t[shown], tone, half, colour)
        axes.plot(t[shown], true[shown], color=INK, linewidth=1.6, label="true tone")
        axes.plot(
            t[shown], tone, color=colour, linewidth=1.3, linestyle=(0, (4, 2)), label=WAYS[way]
        )
        axes.set_ylim(-1.7, 1.7)
    for axes in (top, *panels):
        axes.set_ylabel("amplitude")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    panels[-1].set_xlabel("time (s)")
    return figure


def close(weights: str) -> Figure:
    """Two tones half a hertz apart, one of which swells and fades while the other jumps."""
    rate, n, pair = 500.0, 30_000, (50.0, 50.5)
    t = np.arange(n) / rate
    rng = np.random.default_rng(3)
    true = np.stack([1 + 0.4 * np.sin(2 * np.pi * t / 45), np.where(t < 30, 0.6, 0.25)], axis=1)
    tones = true * np.sin(2 * np.pi * np.array(pair) * t[:, None] + np.array([0.3, 1.9]))
    samples = tones.sum(axis=1) + rng.standard_normal(n)
    estimate = _detailed(weights, pair, rate, samples)
    from tonesieve.extractors.demodulation import ToneDemodulator
    from tonesieve.extractors.filters.registry import build_filter

    lock_in = build_filter("lock-in:time_s=0.5", pair, rate).extract(samples[None])
    figure = Figure(figsize=(9, 6), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    thin = slice(0, None, 10)
    for k, axes in enumerate(panels):
        reader = ToneDemodulator(pair[k], rate)
        amplitude, _, _ = reader.demodulate(lock_in[..., k], 0, centred=False)
        axes.plot(
            t[thin], amplitude[0, thin], color=BLUE, linewidth=0.9, label="lock-in\n(time 0.5 s)"
        )
        axes.plot(t, true[:, k], color=INK, linewidth=2.2, label="true")
        axes.plot(
            t[thin], estimate.amplitude[0, thin, k], color=ORANGE, linewidth=1.4,
            linestyle=(0, (4, 2)), label="pretrained\n(causal)",
        )  # fmt: skip
        axes.set(ylabel=f"amplitude at {pair[k]:g} Hz", ylim=(0, 2.2))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    panels[0].set_title("Two tones 0.5 Hz apart in noise of standard deviation 1")
    panels[-1].set_xlabel("time (s)")
    return figure
