"""A picture of an extraction: a few periods, the amplitude, and spectra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from jaxtyping import Float
from matplotlib.figure import Figure

from tonesieve.evaluation.plots.run_plots import BLUE, GREY, INK, ORANGE, save_figure
from tonesieve.extraction.tone_parameters import ToneParameters

# Guards against time: samples of a spectrum, and points of a line, at most.
MAX_SAMPLES, MAX_POINTS = 2**20, 4000
# Chosen for the eye, not tuned.
PERIODS_SHOWN = 12
# Bins of a spectrum that are shown beside the tones, at least. Chosen for the eye.
BINS_BESIDE = 60


def spectra(
    axes: Sequence[Any],
    before: Float[np.ndarray, " T"],
    after: Float[np.ndarray, " T"],
    rate_hz: float,
    frequencies_hz: list[float],
    unit: str,
) -> None:
    """Draw the power density of a recording with and without its tones: all, and near the tones."""
    # A dozen averages, and lines no wider than a fortieth of the lowest tone.
    n = int(min(len(before), max(256, 40 * rate_hz / min(frequencies_hz), len(before) / 6)))
    beside = max(0.1 * min(frequencies_hz), BINS_BESIDE * rate_hz / n)
    near = (min(frequencies_hz) - beside, max(frequencies_hz) + beside)
    for samples, colour, width, label in (
        (before, GREY, 1.6, "recording"),
        (after, BLUE, 0.9, "tones removed"),
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


def draw_extraction(parameters: ToneParameters, path: Path) -> None:
    """Draw the first channel: a few periods, amplitude over the whole time, spectra."""
    recording = parameters.recording
    n, rate = recording.n_samples, recording.rate_hz
    unit = recording.channels[0].unit or "unit of the recording"
    figure = Figure(figsize=(11, 9), layout="constrained")
    axes = figure.subplot_mosaic([["near", "near"], ["course", "course"], ["all", "around"]])
    near, course = axes["near"], axes["course"]
    hz = parameters.frequencies_hz
    shown = min(n, max(50, round(PERIODS_SHOWN * rate / min(hz))))
    begin = (n - shown) // 2
    samples = recording.read(begin, begin + shown)[0]
    tones = parameters.tones(begin, begin + shown)
    time_s = (begin + np.arange(shown)) / rate
    near.plot(time_s, samples - np.nanmean(samples), color=GREY, linewidth=0.8, label="recording")
    for k, f in enumerate(hz):
        colour = (ORANGE, BLUE, "#009e73", "#cc79a7")[k % 4]
        near.plot(time_s, tones[0, :, k], color=colour, linewidth=1.5, label=f"{f:g} Hz")
        course.plot(*_amplitude(parameters, k), color=colour, linewidth=1.2, label=f"{f:g} Hz")
    near.set(xlabel="time (s)", ylabel=unit, title=f"{recording.path.name}: {shown} samples")
    near.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    course.set(xlabel="time (s)", ylabel=f"amplitude ({unit})")
    course.set_ylim(0, 1.1 * max(course.get_ylim()[1], 1e-300))
    course.set_title("amplitude of the tone")
    course.grid(alpha=0.3)
    first = max(0, (n - MAX_SAMPLES) // 2)
    before = recording.read(first, first + MAX_SAMPLES)[0]
    before = np.where(np.isfinite(before), before, parameters.stats[0].mean)
    after = before - parameters.tones(first, first + len(before))[0].sum(axis=1)
    spectra((axes["all"], axes["around"]), before, after, rate, hz, unit)
    for axis in (near, course):
        axis.axhline(0, color=INK, linewidth=0.4)
    save_figure(figure, path, dpi=110)


def _amplitude(
    parameters: ToneParameters, k: int
) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, " P"]]:
    """Times and amplitudes over the whole recording, every N-th sample."""
    n, rate = parameters.recording.n_samples, parameters.recording.rate_hz
    step = max(1, n // MAX_POINTS)
    amplitudes, times = [], []
    for start, stop in parameters.blocks():
        amplitude, _, _ = parameters.demodulate(k, start, stop)
        offsets = np.arange(-start % step, stop - start, step)
        amplitudes.append(amplitude[0, offsets])
        times.append((start + offsets) / rate)
    return np.concatenate(times), np.concatenate(amplitudes)
