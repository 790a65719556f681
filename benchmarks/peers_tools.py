"""The tools of benchmarks/peers.py and their settings: tonesieve, packages, two plain trackers.

The first of a tool's settings is its documented default; the others are a small grid, stated over
the tone's frequency where the default is in Hz, of which the truth chooses the best for each case.
Axes: C channels, T samples, K tones.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import peers_packages as packages
import peers_trackers as trackers
from peers_cases import Case
from peers_packages import Setting, Task

import tonesieve


# tonesieve
def pull(task: Task, *, causal: bool) -> np.ndarray:
    """tonesieve's defaults; combs and many channels in one call where `tonesieve.pull` has them."""
    offered = inspect.signature(tonesieve.pull).parameters
    hz: Any = task.hz
    words: Setting = {}
    if task.is_comb and "harmonics" in offered:
        hz, words = task.hz[0], {"harmonics": len(task.hz)}
    if len(task.x) > 1 and "channels" in offered:
        return tonesieve.pull(task.x, task.rate_hz, hz, causal=causal, **words).tones.sum(axis=-1)
    return np.stack(
        [
            tonesieve.pull(one, task.rate_hz, hz, causal=causal, **words).tones.sum(axis=1)
            for one in task.x
        ]
    )


# Our own, plain.
def sogi(task: Task, *, gain: float = np.sqrt(2), loop: float = 0.16) -> np.ndarray:
    """`peers_trackers.sogi_fll` a tone; usual: k of 1.41, and a loop gain of 50/s at 50 Hz."""
    return np.stack(
        [
            sum(trackers.sogi_fll(x, 2 * np.pi * hz / task.rate_hz, gain, loop) for hz in task.hz)
            for x in task.x
        ]
    )


def _orders(task: Task) -> np.ndarray:
    return np.array(task.hz) / task.hz[0]


def vold_kalman(task: Task, *, width: float = 0.01, periods: float = 40.0) -> np.ndarray:
    """`peers_trackers.vold_kalman` along the course of its own ridge."""
    phase = trackers.course_phase(task.x, task.freq_cycles, _orders(task), periods)
    along = phase[:, None] * _orders(task)
    return trackers.tones_along(task.x, along, width * task.freq_cycles)[0]


def vold_kalman_true_course(task: Task, *, width: float = 0.01) -> np.ndarray:
    """`peers_trackers.vold_kalman` along the true course, which no tool knows."""
    pairs = zip(task.x, task.phase_rad, strict=True)
    width_cycles = width * task.freq_cycles
    return np.concatenate(
        [trackers.tones_along(x[None], phase, width_cycles)[0] for x, phase in pairs]
    )


@dataclass(frozen=True)
class Tool:
    """A tool and its settings.

    Attributes
    ----------
    name : str
        How ``--tools`` and the page call it.
    package : str
        Its distribution; "own" for the plain trackers of this folder.
    estimate : callable
        Takes a task and a setting; returns the tones' sum (C, T).
    settings : tuple of dict
        The documented default, then the grid.
    causal : bool
        Whether it uses no later sample.
    only : str
        "combs" or "channels": the cases that it is made for; empty for all.
    max_values : int
        Samples times channels times tones above which it is left out, since it takes too long.
    is_limit : bool
        Whether it is given the truth.
    """

    name: str
    package: str
    estimate: Callable[..., np.ndarray]
    settings: tuple[Setting, ...]
    causal: bool = False
    only: str = ""
    max_values: int = 2**62
    is_limit: bool = False

    def suits(self, case: Case) -> str:
        """Empty, or why the tool is not run on a case."""
        if self.only == "combs" and case.row.orders == 1:
            return "for combs"
        if self.only == "channels" and len(case.tones) == 1:
            return "for several channels"
        if case.tones.size * len(case.hz) > self.max_values:
            return "too long"
        return ""


def _grid(**lists: Iterable[Any]) -> tuple[Setting, ...]:
    """A setting an index of the lists, which are of one length."""
    return tuple(
        dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)
    )


QUALITIES = _grid(quality=(30.0, 5.0, 15.0, 60.0, 120.0, 300.0))
BOTH_WAYS = (("", False), (", causal", True))


def _both(
    name: str, estimate: Callable[..., np.ndarray], settings: Any, only: str = ""
) -> list[Tool]:
    """A SciPy filter with filtfilt and, causal, with lfilter."""
    return [
        Tool(f"{name}{word}", "scipy", estimate,
             tuple(one | {"causal": causal} for one in settings), causal, only)
        for word, causal in BOTH_WAYS
    ]  # fmt: skip


OWN_TOOL = "tonesieve"
TOOLS = {
    tool.name: tool
    for tool in (
        Tool(OWN_TOOL, "tonesieve", pull, ({"causal": False},)),
        Tool(f"{OWN_TOOL}, causal", "tonesieve", pull, ({"causal": True},), True),
        Tool("MNE fir", "mne", packages.mne_fir, (
            {}, *_grid(width=(0.001, 0.005, 0.02, 0.05), transition=(0.005, 0.01, 0.02, 0.05)))),
        Tool("MNE spectrum_fit", "mne", packages.mne_fit, (
            {}, *_grid(periods=(50, 200, 800), width=(0.01, 0.01, 0.01)),
            {"periods": 200, "detect": True})),
        Tool("spectrum interpolation", "mne-denoise", packages.interpolated_spectrum, (
            {}, *_grid(width=(0.001, 0.005, 0.02, 0.05), beside=(0.01, 0.02, 0.05, 0.1)))),
        Tool("ZapLine", "mne-denoise", packages.zapline, (
            {}, {"n_select": 1}, {"n_select": 1, "alone": True}, {"n_select": 2, "alone": True},
            {"n_select": 2, "alone": True, "nfft": 4096}), only="channels"),
        Tool("ZapLine-plus", "mne-denoise", packages.zapline, (
            {"adaptive": True},
            *({"adaptive": True, "alone": True, "adaptive_params": {"min_chunk_len": seconds}}
              for seconds in (1.0, 3.0, 10.0))), only="channels"),
        Tool("dss_line", "meegkit", packages.dss_line, (
            {}, {"nremove": 2}, {"nfft": 4096}, {"nremove": 2, "nfft": 4096}), only="channels"),
        Tool("dss_line_iter", "meegkit", packages.dss_line_iter, (
            {}, *_grid(win_sz=(10, 5, 5), spot_sz=(2.5, 1, 0.5), nfft=(2048, 2048, 4096)),),
            only="channels"),
        Tool("UnobservedComponents", "statsmodels", packages.components, (
            {}, {"model": "damped"}, {"model": "season"}, {"model": "season", "level": "rwalk"}),
            max_values=9000),
        *_both("iirnotch", packages.notch, QUALITIES),
        *_both("iirpeak", packages.peak, QUALITIES),
        *_both("iircomb", packages.comb_notch,
               ({}, *({"nearest": True, **one} for one in QUALITIES)), "combs"),
        Tool("LMS", "padasip", packages.adaptive,
             _grid(kind=["FilterLMS"] * 4, mu=(0.01, 0.1, 0.001, 0.0002)), True,
             max_values=200_000),
        Tool("NLMS", "padasip", packages.adaptive,
             _grid(kind=["FilterNLMS"] * 4, mu=(0.1, 0.5, 0.01, 0.001)), True,
             max_values=200_000),
        Tool("RLS", "padasip", packages.adaptive,
             _grid(kind=["FilterRLS"] * 4, mu=(0.99, 0.999, 0.9997, 0.9999)), True,
             max_values=200_000),
        Tool("VMD", "vmdpy", packages.modes,
             _grid(alpha=(2000.0, 20_000.0, 200_000.0), n_modes=(3, 5, 5)), max_values=20_000),
        Tool("ssq_cwt", "ssqueezepy", packages.wavelet_ridge, (
            {}, {"penalty": 20.0}, {"width": 12},
            {"wavelet": ("gmw", {"gamma": 3, "beta": 200}), "penalty": 20.0}), max_values=90_000),
        Tool("ssq_stft", "ssqueezepy", packages.fourier_ridge, (
            {}, {"penalty": 20.0}, {"n_fft": 1024, "penalty": 20.0},
            {"n_fft": 2048, "penalty": 20.0, "width": 8}), max_values=90_000),
        Tool("SOGI-FLL", "own", sogi, (
            {}, *_grid(gain=(0.3, 0.1, 0.03, 0.01), loop=(0.1, 0.05, 0.02, 0.01))), True),
        Tool("Vold-Kalman", "own", vold_kalman, (
            {}, *_grid(width=(0.001, 0.003, 0.01, 0.03, 0.003),
                       periods=(160, 160, 160, 40, 40)))),
        Tool("Vold-Kalman, true course", "own", vold_kalman_true_course,
             _grid(width=(0.01, 0.001, 0.003, 0.03, 0.1)), is_limit=True),
    )
}  # fmt: skip
