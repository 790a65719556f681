"""One function for each tool of others' packages: a task and a setting in, the tones' sum out.

What a tool removes is its estimate of the tones. Without a setting it is called as documented.
Packages are imported where they are used, so that the cases can be tested without them. Axes: C
channels, T samples, K tones.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from peers_cases import Case
from scipy.signal import filtfilt, iircomb, iirnotch, iirpeak, lfilter

Setting = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """What a tool is given of a case.

    Attributes
    ----------
    x : ndarray, shape (C, T)
        The recording.
    rate_hz : float
        Samples a second.
    hz : tuple of float
        Nominal frequencies (K,).
    is_comb : bool
        Whether they are the harmonics of the first.
    phase_rad : ndarray, shape (C, T, K)
        True phases, for the limit alone.
    """

    x: np.ndarray
    rate_hz: float
    hz: tuple[float, ...]
    is_comb: bool
    phase_rad: np.ndarray

    @property
    def freq_cycles(self) -> float:
        """Nominal frequency of the first tone in cycles a sample."""
        return self.hz[0] / self.rate_hz

    @property
    def lines_hz(self) -> tuple[float, ...]:
        """What a tool must be called with that takes a line with its harmonics."""
        return self.hz[:1] if self.is_comb else self.hz


def task_of(case: Case, *, gaps: bool) -> Task:
    """A case's task; without ``gaps`` missing samples are interpolated linearly."""
    x = case.samples
    if not gaps:
        x = np.stack([_interpolated(one) for one in x])
    return Task(x, case.rate_hz, case.hz, case.row.orders > 1, case.phase_rad)


def _interpolated(x: np.ndarray) -> np.ndarray:
    known, at = np.isfinite(x), np.arange(len(x))
    return np.interp(at, at[known], x[known])


# MNE: widths in fractions of the first frequency, where the default is in Hz.
def mne_fir(
    task: Task, *, width: float | None = None, transition: float | None = None
) -> np.ndarray:
    """`mne.filter.notch_filter`, method "fir"."""
    import mne

    words: Setting = {}
    if width is not None and transition is not None:
        words = {"notch_widths": width * task.hz[0], "trans_bandwidth": transition * task.hz[0]}
    return task.x - mne.filter.notch_filter(
        task.x, task.rate_hz, np.array(task.hz), verbose="error", **words
    )


def mne_fit(
    task: Task, *, periods: float | None = None, width: float | None = None, detect: bool = False
) -> np.ndarray:
    """`mne.filter.notch_filter`, method "spectrum_fit"; ``detect``: it finds the lines itself."""
    import mne

    words: Setting = {}
    if periods is not None:
        words["filter_length"] = min(int(periods / task.freq_cycles), task.x.shape[1])
    if width is not None:
        words["notch_widths"] = width * task.hz[0]
    hz = None if detect else np.array(task.hz)
    return task.x - mne.filter.notch_filter(
        task.x, task.rate_hz, hz, method="spectrum_fit", verbose="error", **words
    )


# mne-denoise
def interpolated_spectrum(
    task: Task, *, width: float | None = None, beside: float | None = None
) -> np.ndarray:
    """`mne_denoise.spectrum_interpolation.interpolate_spectrum`."""
    from mne_denoise.spectrum_interpolation import interpolate_spectrum

    words: Setting = {}
    if width is not None and beside is not None:
        words = {"bandwidth": width * task.hz[0], "neighbour_width": beside * task.hz[0]}
    return task.x - interpolate_spectrum(task.x, task.rate_hz, np.array(task.hz), **words)


def zapline(task: Task, *, alone: bool = False, **words: Any) -> np.ndarray:
    """`mne_denoise.zapline.ZapLine` for each line in turn; ``alone``: without higher harmonics."""
    from mne_denoise.zapline import ZapLine

    cleaned = task.x
    for hz in task.lines_hz:
        n = len(task.hz) if task.is_comb else 1
        model = ZapLine(task.rate_hz, hz, n_harmonics=n if alone else None, **words)
        cleaned = model.fit_transform(cleaned)
    return task.x - cleaned


# meegkit, which reports on standard output
def dss_line(task: Task, **words: Any) -> np.ndarray:
    """`meegkit.dss.dss_line` for each line in turn."""
    from meegkit.dss import dss_line as remove

    cleaned = task.x.T
    with contextlib.redirect_stdout(io.StringIO()):
        for hz in task.lines_hz:
            cleaned = remove(cleaned.copy(), hz, task.rate_hz, **words)[0]
    return task.x - task.x.mean(axis=1, keepdims=True) - cleaned.T


def dss_line_iter(task: Task, **words: Any) -> np.ndarray:
    """`meegkit.dss.dss_line_iter` for each line in turn."""
    from meegkit.dss import dss_line_iter as remove

    level = task.x.mean(axis=1, keepdims=True)
    cleaned = (task.x - level).T
    with contextlib.redirect_stdout(io.StringIO()):
        for hz in task.lines_hz:
            cleaned = remove(cleaned.copy(), hz, task.rate_hz, **words)[0]
    return task.x - level - cleaned.T


# statsmodels
def components(
    task: Task, *, model: str = "cycle", level: str = "local level", within: float = 0.035
) -> np.ndarray:
    """`statsmodels.tsa.statespace.structural.UnobservedComponents`: smoothed cycle or season."""
    from statsmodels.tsa.statespace.structural import UnobservedComponents

    period = 1 / task.freq_cycles
    if model == "season":
        seasons = [{"period": 1 / hz * task.rate_hz, "harmonics": 1} for hz in task.lines_hz]
        if task.is_comb:
            seasons[0]["harmonics"] = len(task.hz)
        fitted = [UnobservedComponents(x, level, freq_seasonal=seasons).fit(disp=0) for x in task.x]
        return np.stack([sum(one.smoothed for one in fit.freq_seasonal) for fit in fitted])
    bounds = (period * (1 - within), period * (1 + within))
    return np.stack(
        [
            UnobservedComponents(
                x, level, cycle=True, stochastic_cycle=True, damped_cycle=model == "damped",
                cycle_period_bounds=bounds,
            ).fit(disp=0).cycle.smoothed
            for x in task.x
        ]
    )  # fmt: skip


# SciPy: a filter a tone, one after the other for notches, side by side for peaks.
def _applied(b: np.ndarray, a: np.ndarray, x: np.ndarray, *, causal: bool) -> np.ndarray:
    return lfilter(b, a, x) if causal else filtfilt(b, a, x)


def notch(task: Task, *, causal: bool = False, quality: float = 30.0) -> np.ndarray:
    """`scipy.signal.iirnotch`."""
    cleaned = task.x
    for hz in task.hz:
        cleaned = _applied(*iirnotch(hz, quality, fs=task.rate_hz), cleaned, causal=causal)
    return task.x - cleaned


def peak(task: Task, *, causal: bool = False, quality: float = 30.0) -> np.ndarray:
    """`scipy.signal.iirpeak`."""
    filters = [iirpeak(hz, quality, fs=task.rate_hz) for hz in task.hz]
    return sum((_applied(*one, task.x, causal=causal) for one in filters), np.zeros_like(task.x))


def comb_notch(
    task: Task, *, causal: bool = False, quality: float = 30.0, nearest: bool = False
) -> np.ndarray:
    """`scipy.signal.iircomb`; ``nearest``: at the nearest frequency that divides the rate."""
    hz = task.rate_hz / round(1 / task.freq_cycles) if nearest else task.hz[0]
    b, a = iircomb(hz, quality, ftype="notch", fs=task.rate_hz)
    return task.x - _applied(b, a, task.x, causal=causal)


# padasip: references in quadrature; weights begin at 0, since the default draws them without seed.
def adaptive(task: Task, *, kind: str, **words: Any) -> np.ndarray:
    """`padasip.filters.FilterLMS`, `FilterNLMS` or `FilterRLS`; the first sample is the level."""
    import padasip

    t = np.arange(task.x.shape[1]) / task.rate_hz
    parts = [f(2 * np.pi * hz * t) for hz in task.hz for f in (np.cos, np.sin)]
    references = np.stack(parts, axis=1)
    rows = []
    for one in task.x:
        canceller = getattr(padasip.filters, kind)(references.shape[1], w="zeros", **words)
        rows.append(canceller.run(one - one[0], references)[0])
    return np.stack(rows)


# vmdpy
def modes(task: Task, *, alpha: float = 2000.0, n_modes: int = 3) -> np.ndarray:
    """`vmdpy.VMD`: the modes nearest to the tones; an odd last sample is repeated."""
    from vmdpy import VMD

    rows = []
    for one in task.x:
        found, _, centres = VMD(one, alpha, 0.0, n_modes, 0, 1, 1e-7)
        nearest = {int(np.argmin(np.abs(centres[-1] - hz / task.rate_hz))) for hz in task.hz}
        tone = found[sorted(nearest)].sum(axis=0)
        rows.append(np.pad(tone, (0, len(one) - len(tone)), mode="edge"))
    return np.stack(rows)


# ssqueezepy: a ridge within a tenth of each nominal frequency, then the inverse about it. The rate
# is left at 1: at another one `issq_stft` of release 0.6.6 returns the recording times the rate.
RIDGE_RANGE = 0.1


def wavelet_ridge(
    task: Task, *, wavelet: Any = "gmw", penalty: float = 2.0, width: int = 4
) -> np.ndarray:
    """`ssqueezepy.ssq_cwt`, `extract_ridges` and `issq_cwt`."""
    import ssqueezepy

    def tones(x: np.ndarray) -> np.ndarray:
        transformed, _, at_cycles, scales = ssqueezepy.ssq_cwt(x, wavelet, fs=1.0)[:4]
        ridges = _ridges(task, transformed, at_cycles, scales, penalty, "cwt")
        bins = np.full_like(ridges, width)
        return ssqueezepy.issq_cwt(transformed, wavelet, cc=ridges, cw=bins)[:-1].sum(axis=0)

    return np.stack([tones(x - x.mean()) for x in task.x])


def fourier_ridge(
    task: Task, *, n_fft: int | None = None, penalty: float = 2.0, width: int = 4
) -> np.ndarray:
    """`ssqueezepy.ssq_stft`, `extract_ridges` and `issq_stft`."""
    import ssqueezepy

    def tones(x: np.ndarray) -> np.ndarray:
        size = None if n_fft is None else min(n_fft, len(x) // 2 * 2)
        transformed, _, at_cycles, _ = ssqueezepy.ssq_stft(x, n_fft=size, fs=1.0)[:4]
        ridges = _ridges(task, transformed, at_cycles, at_cycles, penalty, "stft")
        bins = np.full_like(ridges, width)
        return ssqueezepy.issq_stft(transformed, cc=ridges, cw=bins)[:-1].sum(axis=0)

    return np.stack([tones(x - x.mean()) for x in task.x])


def _ridges(
    task: Task,
    transformed: np.ndarray,
    at_cycles: np.ndarray,
    scales: np.ndarray,
    penalty: float,
    transform: str,
) -> np.ndarray:
    """Rows of the ridge near each nominal frequency (T, K)."""
    import ssqueezepy

    found = []
    for hz in task.hz:
        freq_cycles = hz / task.rate_hz
        near = np.flatnonzero(np.abs(at_cycles - freq_cycles) <= RIDGE_RANGE * freq_cycles)
        ridge = ssqueezepy.extract_ridges(
            transformed[near], scales[near], penalty=penalty, transform=transform
        )
        found.append(near[ridge[:, 0]])
    return np.stack(found, axis=1)
