"""A picture of what was taken out of a recording: a stretch of time, amplitude, and spectra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.signal import welch

from tonesieve.judging.figures import BLUE, GREY, INK, ORANGE, save_figure

# Samples that spectra are taken of, at most, and points of a line.
MOST, POINTS = 2**20, 4000
PERIODS_SHOWN = 12


def spectra(
    axis: Any,
    before: Float[np.ndarray, " T"],
    after: Float[np.ndarray, " T"],
    rate_hz: float,
    frequencies_hz: list[float],
    unit: str,
) -> None:
    """Power density of a recording with and without its tones."""
    # A dozen averages, and lines no wider than a fortieth of the lowest tone.
    n = int(min(len(before), max(256, 40 * rate_hz / min(frequencies_hz), len(before) / 6)))
    for samples, colour, width, label in (
        (before, GREY, 1.6, "recording"),
        (after, BLUE, 0.9, "tone taken out"),
    ):
        f, density = welch(samples, rate_hz, nperseg=n, detrend="linear")
        axis.loglog(f[1:], density[1:], color=colour, linewidth=width, label=label)
    for hz in frequencies_hz:
        axis.axvline(hz, color=ORANGE, linewidth=0.8, linestyle=":")
    axis.set(xlabel="frequency (Hz)", ylabel=f"power density ({unit}$^2$/Hz)")
    axis.legend(frameon=False, loc="lower left")
    axis.grid(alpha=0.3, which="both")


def draw_extraction(readings: Any, path: Path) -> None:
    """Of the first channel: a few periods, amplitude over the whole time, spectra."""
    recording = readings.recording
    n, rate = recording.n_samples, recording.rate_hz
    unit = recording.channels[0].unit or "unit of the recording"
    figure = Figure(figsize=(11, 9), layout="constrained")
    near, course, power = figure.subplots(3, 1)
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
    near.legend(frameon=False, loc="upper right")
    course.set(xlabel="time (s)", ylabel=f"amplitude ({unit})", ylim=(0, None))
    course.set_title("amplitude of the tone")
    course.grid(alpha=0.3)
    course.legend(frameon=False, loc="upper right")
    first = max(0, (n - MOST) // 2)
    before = recording.read(first, first + MOST)[0]
    before = np.where(np.isfinite(before), before, readings.surveys[0].mean)
    after = before - readings.tones(first, first + len(before))[0].sum(axis=1)
    spectra(power, before, after, rate, hz, unit)
    power.set_title("spectra before and after")
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
