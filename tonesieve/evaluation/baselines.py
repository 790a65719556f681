"""Who answers the scenes of the family: every classical filter over its knobs, the told, the new.

All answer one scene at a time, in the scene's own unit. Filters hear the samples less the first
good one, as a stream would have it, or less their mean where they need the whole record anyway.
Axes: T samples, K tones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from jaxtyping import Float

from tonesieve.extractors.filters.bandpass import Butterworth, FftMask, ZeroPhaseButterworth
from tonesieve.extractors.filters.base import ToneFilter
from tonesieve.extractors.filters.baseband import LockIn
from tonesieve.extractors.filters.kalman import OscillatorKalman
from tonesieve.extractors.filters.least_squares import HarmonicLeastSquares
from tonesieve.extractors.filters.registry import build_filter
from tonesieve.extractors.gap_filling import GapFiller
from tonesieve.kernels import kalman as compiled
from tonesieve.signals.scenes import Scene

CLASSICAL, TOLD, CANDIDATE = "classical", "told", "candidate"
# A band-pass is at most so wide, over the room that the tone has; and ends below half the rate.
WIDEST, HIGHEST = 1.9, 0.4995
# Variance that the told expect of the level, over that of the samples, about.
UNTOLD = 10.0


class Extracting(Protocol):
    """What a candidate builds for the tones of a scene."""

    def extract(self, mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T K"]:
        """Estimate of every tone at every sample; finite where the mixture is NaN, too."""
        ...


Build = Callable[[Sequence[float]], Extracting]


@dataclass(frozen=True)
class Baseline:
    """One setting of an extractor; ``answer`` gives its tones, those of the scene in order."""

    name: str
    setting: str
    kind: str  # classical, told or candidate
    causal: bool
    answer: Callable[[Scene], Float[np.ndarray, "T K"]]


@dataclass(frozen=True)
class Grid:
    """Values of one knob: multiples of the default, and values for a scene's step.

    ``default`` is what the filter takes by itself, in samples or cycles a sample; ``step_power``
    is 1 for a time, which is so many steps long, and -1 for a width, so many cycles a step.
    """

    filter: str
    knob: str
    default: Callable[[ToneFilter], float]
    steps: tuple[float, ...]
    step_power: int = 1
    times: tuple[float, ...] = (0.25, 4.0)
    also: str = ""  # further knobs, the same for all


def _memory(built: ToneFilter) -> float:
    assert isinstance(built, OscillatorKalman)
    return built.memory_samples


def _window(built: ToneFilter) -> float:
    assert isinstance(built, HarmonicLeastSquares)
    assert built.window_samples is not None
    return float(built.window_samples)


def _time(built: ToneFilter) -> float:
    assert isinstance(built, LockIn)
    return built.time_samples


def _width(built: ToneFilter) -> float:
    shares = {Butterworth: 0.45, ZeroPhaseButterworth: 0.25, FftMask: 0.2}
    return built.default_width_hz(0, shares[type(built)])


_MEMORIES = (30.0, 100.0, 300.0, 1000.0, 3000.0)
_WIDTHS = (0.02, 0.006, 0.002, 0.0006, 0.0002)
GRIDS = (
    Grid("tracker", "memory_s", _memory, _MEMORIES),
    Grid("kalman", "memory_s", _memory, (*_MEMORIES, float("inf"))),
    Grid("least-squares", "window_s", _window, (50.0, 150.0, 500.0, 1500.0, 5000.0)),
    Grid("lock-in", "time_s", _time, (10.0, 30.0, 100.0, 300.0, 1000.0), also="order=1"),
    Grid("lock-in", "time_s", _time, (10.0, 30.0, 100.0, 300.0, 1000.0), also="order=3"),
    Grid("butterworth", "bandwidth_hz", _width, _WIDTHS, -1),
    Grid("zero-phase", "bandwidth_hz", _width, _WIDTHS, -1),
    Grid("fft-mask", "width_hz", _width, _WIDTHS, -1),
)
WITHOUT_KNOBS = ("least-squares-growing", "wiener")


def classical_rivals() -> list[Baseline]:
    """Every classical filter at its default and over a grid of its knob."""
    rivals = [_rival(name, "default", lambda built, step: "") for name in WITHOUT_KNOBS]
    for grid in GRIDS:
        beside = f" {grid.also}" if grid.also else ""
        rivals.append(_rival(grid.filter, f"default{beside}", partial(_knobs, grid, None, None)))
        for times in grid.times:
            setting = f"{times:g} x default{beside}"
            rivals.append(_rival(grid.filter, setting, partial(_knobs, grid, times, None)))
        for steps in grid.steps:
            unit = "steps" if grid.step_power > 0 else "/ step"
            setting = f"{steps:g} {unit}{beside}"
            rivals.append(_rival(grid.filter, setting, partial(_knobs, grid, None, steps)))
    return rivals


def oracle_kalman() -> list[Baseline]:
    """The Kalman filter and smoother that are told how the first tone walks, and how loud it is.

    They know the tones' powers, the variance of white noise as strong as the noise and impulses at
    the first tone, and the mean variance that the coefficients gain a sample; a level beside the
    tones takes up the offset. They know of no line, trend or clipping, and no wrong frequency.
    """
    return [
        Baseline("kalman told", "", TOLD, True, partial(_told, whole=False)),
        Baseline("smoother told", "", TOLD, False, partial(_told, whole=True)),
    ]


def wrap_extractor(
    name: str, build: Build, *, handles_nan: bool = False, causal: bool = True
) -> Baseline:
    """A new extractor, built for each scene's ``turns`` (cycles a sample), given what is heard.

    One that ``handles_nan`` is given NaN; another a forecast in their place.
    """
    return Baseline(name, "", CANDIDATE, causal, partial(_answer, build, handles_nan))


def heard_less_level(scene: Scene, *, first: bool) -> tuple[Float[np.ndarray, "1 T"], float, float]:
    """Samples less the first good one, or their mean, over a power of two; that level and power."""
    good = scene.samples[np.isfinite(scene.samples)]
    level = float(good[0] if first else good.mean())
    spread = float(good.std())
    unit = float(2.0 ** round(np.log2(spread))) if spread > 0 else 1.0
    return (scene.samples - level)[None] / unit, level, unit


def bridged(scene: Scene) -> Float[np.ndarray, "1 T"]:
    """What is heard, in gaps the forecast of oscillators at the tones' frequencies."""
    away, level, unit = heard_less_level(scene, first=True)
    bridge = GapFiller(scene.freq_cycles, 1.0)
    return bridge.step(away, bridge.initial_state(1))[0] * unit + level


def _answer(build: Build, handles_nan: bool, scene: Scene) -> Float[np.ndarray, "T K"]:
    mixture = scene.samples[None] if handles_nan else bridged(scene)
    return build(scene.freq_cycles).extract(mixture)[0]


def _rival(name: str, setting: str, knobs: Callable[[ToneFilter, float], str]) -> Baseline:
    def answer(scene: Scene) -> Float[np.ndarray, "T K"]:
        given = knobs(build_filter(name, scene.freq_cycles, 1.0), scene.step)
        built = build_filter(f"{name}:{given}", scene.freq_cycles, 1.0)
        mixture, _, unit = heard_less_level(scene, first=causal)
        return built.extract(mixture)[0] * unit

    causal = build_filter(name, [0.1], 1.0).causal
    return Baseline(name, setting, CLASSICAL, causal, answer)


def _knobs(
    grid: Grid, times: float | None, steps: float | None, built: ToneFilter, step: float
) -> str:
    """The knobs as `build_filter` takes them; a band that does not fit is as wide as it can be."""
    if times is None and steps is None:
        return grid.also
    value = grid.default(built) * times if times else (steps or 0.0) * step**grid.step_power
    if grid.step_power < 0:
        f = built.frequencies_hz
        # A band whose edges have the tone as their geometric mean reaches farther up than down.
        highest = min((HIGHEST**2 - tone**2) / HIGHEST for tone in f)
        value = min(value, WIDEST * float(built.spacing_hz.min()), highest)
    return ",".join(part for part in (grid.also, f"{grid.knob}={value:.12g}") if part)


def _told(scene: Scene, whole: bool) -> Float[np.ndarray, "T K"]:
    mixture, _, unit = heard_less_level(scene, first=not whole)
    tones = ToneFilter(scene.freq_cycles, 1.0)
    n, k = mixture.shape[1], tones.n_tones
    rows = np.concatenate([tones.design_matrix(0, n), np.ones((n, 1))], axis=1)
    powers = np.mean(np.abs(scene.phasors) ** 2, axis=0) / 2
    walks = np.mean(np.abs(np.diff(scene.phasors, axis=0)) ** 2, axis=0) / 2
    walks[0] = scene.walk_variance
    walk = np.concatenate([walks, walks, [0.0]]) / unit**2
    prior = np.diag(np.concatenate([powers / unit**2, powers / unit**2, [UNTOLD]]))
    told = scene.noise_variance + float(scene.about.get("impulse_variance", 0.0))
    path = np.empty((1, *rows.shape))
    if whole:
        compiled.kalman_smooth(mixture[0], rows, prior, walk, told / unit**2, path[0])
    else:
        still = np.zeros((1, rows.shape[1]))
        compiled.kalman(mixture, rows, still, prior[None], walk, told / unit**2, path)
    swings = path[0] * rows
    return (swings[:, :k] + swings[:, k : 2 * k]) * unit
