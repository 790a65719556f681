"""A picture of what was taken out of a recording: a stretch of time, amplitude, and spectra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from jaxtyping import Float
from matplotlib.figure import Figure

from tonesieve.evaluation.plots.run_plots import BLUE, GREY, INK, ORANGE, save_figure

# Samples that spectra are taken of, at most, and points of a line.
MOST, POINTS = 2**20, 4000
PERIODS_SHOWN = 12
# Bins of a spectrum that are shown beside the tones, at least.
ASIDE = 60


def spectra(
    axes: Sequence[Any],
    before: Float[np.ndarray, " T"],
    after: Float[np.ndarray, " T"],
    rate_hz: float,
    frequencies_hz: list[float],
    unit: str,
) -> None:
    """Power density of a recording with and without its tones: all of it, and around the tones."""
    # A dozen averages, and lines no wider than a fortieth of the lowest tone.
    n = int(min(len(before), max(256, 40 * rate_hz / min(frequencies_hz), len(before) / 6)))
    beside = max(0.1 * min(frequencies_hz), ASIDE * rate_hz / n)
    near = (min(frequencies_hz) - beside, max(frequencies_hz) + beside)
    for samples, colour, width, label in (
        (before, GREY, 1.6, "recording"),
        (after, BLUE, 0.9, "tones taken out"),
    ):
        f, density = scipy.signal.welch(samples, rate_hz, nperseg=n, detrend="linear")
        axes[0].loglog(f[1:], density[1:], color=colour, linewidth=width, label=label)
        around = (f >= near[0]) & (f <= near[1]) & (f > 0)
        axes[1].semilogy(f[around], density[around], color=colour, linewidth=width)
    for axis, title in zip(axes, ("spectra before and after", "around the tones"), strict=True):
        for hz in frequencies_hz:
            axis.axvline(hz, color=ORANGE, linewidth=0.8, linestyle=":")
        axis.set(xlabel="frequency (Hz)", title=title)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(f"power density ({unit}$^2$/Hz)")
    axes[0].legend(frameon=False, loc="lower left")


def draw_extraction(readings: Any, path: Path) -> None:
    """Of the first channel: a few periods, amplitude over the whole time, spectra."""
    recording = readings.recording
    n, rate = recording.n_samples, recording.rate_hz
    unit = recording.channels[0].unit or "unit of the recording"
    figure = Figure(figsize=(11, 9), layout="constrained")
    places = figure.subplot_mosaic([["near", "near"], ["course", "course"], ["all", "around"]])
    near, course = places["near"], places["course"]
    hz = readings.frequencies_hz
    shown = min(n, max(50, round(PERIODS_SHOWN * rate / min(hz))))
    begin = (n - shown) // 2
    samples, tones = recording.read(begin, begin + shown)[0], readings.tones(begin, begin + shown)
    time_s = (begin + np.arange(shown)) / rate
    near.plot(time_s, samples - np.nanmean(samples), color=GREY, linewidth=0.8, label="recording")
    for k, f in enumerate(hz):
        colour = (ORANGE, BLUE, "#009e73", "#cc79a7")[k % 4]
        near.plot(time_s, tones[0, :, k], color=colour, linewidth=1.5, label=f"{f:g} Hz")
        every = _amplitude(readings, k)
        course.plot(*every, color=colour, linewidth=1.2, label=f"{f:g} Hz")
    near.set(xlabel="time (s)", ylabel=unit, title=f"{recording.path.name}: {shown} samples")
    near.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    course.set(xlabel="time (s)", ylabel=f"amplitude ({unit})")
    course.set_ylim(0, 1.1 * max(course.get_ylim()[1], 1e-300))
    course.set_title("amplitude of the tone")
    course.grid(alpha=0.3)
    first = max(0, (n - MOST) // 2)
    before = recording.read(first, first + MOST)[0]
    before = np.where(np.isfinite(before), before, readings.surveys[0].mean)
    after = before - readings.tones(first, first + len(before))[0].sum(axis=1)
    spectra((places["all"], places["around"]), before, after, rate, hz, unit)
    for axis in (near, course):
        axis.axhline(0, color=INK, linewidth=0.4)
    save_figure(figure, path, dpi=110)


def _amplitude(readings: Any, k: int) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, " P"]]:
    """Amplitude over the whole recording, thinned out."""
    n, rate = readings.recording.n_samples, readings.recording.rate_hz
    step = max(1, n // POINTS)
    parts, at = [], []
    for start, stop in readings.blocks():
        amplitude, _, _ = readings.read(k, start, stop)
        places = np.arange(-start % step, stop - start, step)
        parts.append(amplitude[0, places])
        at.append((start + places) / rate)
    return np.concatenate(at), np.concatenate(parts)
