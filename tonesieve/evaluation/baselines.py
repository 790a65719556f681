"""Baselines for the test scenes: classical filters over a grid, oracle Kalman filters, new ones.

A baseline estimates the tones of one scene at a time, in the scene's own unit. Causal filters are
given the samples less the first valid one, as a stream would have it; filters that need the whole
record are given the samples less their mean. Axes: T samples, K tones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from jaxtyping import Float

from tonesieve.extractors.filters.bandpass import (
    CAUSAL_FRACTION,
    MASK_FRACTION,
    ZERO_PHASE_FRACTION,
    Butterworth,
    FftMask,
    ZeroPhaseButterworth,
)
from tonesieve.extractors.filters.base import ToneFilter
from tonesieve.extractors.filters.baseband import LockIn
from tonesieve.extractors.filters.kalman import OscillatorKalman
from tonesieve.extractors.filters.least_squares import HarmonicLeastSquares
from tonesieve.extractors.filters.registry import build_filter
from tonesieve.extractors.gap_filling import GapFiller
from tonesieve.kernels import kalman as compiled
from tonesieve.signals.scenes import Scene

# Kinds of baselines, as they are written to the results.
CLASSICAL, KNOWS_MODEL, CANDIDATE = "classical", "told", "candidate"
# Guards against a band-pass that cannot be built: its width over the distance to the nearest
# neighbour, and its upper edge over the sampling rate.
MAX_RELATIVE_WIDTH, MAX_EDGE = 1.9, 0.4995
# Chosen, not tuned: the prior variance of the constant term in the oracle filters, over about the
# variance of the samples. So large that it hardly constrains the constant.
PRIOR_VAR_DC = 10.0


class ToneEstimator(Protocol):
    """What a candidate builds for the tones of a scene."""

    def extract(self, mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T K"]:
        """Estimate every tone at every sample; finite where the mixture is NaN, too."""
        ...


Build = Callable[[Sequence[float]], ToneEstimator]


@dataclass(frozen=True)
class Baseline:
    """One extractor with one setting of its parameters.

    Parameters
    ----------
    name : str
        Name of the extractor.
    setting : str
        Its parameters, in words.
    kind : str
        `CLASSICAL`, `KNOWS_MODEL` or `CANDIDATE`.
    causal : bool
        Whether an estimate depends on no later sample.
    estimate : callable
        Maps a scene to its tones, shape (T, K), in the scene's order and unit.
    """

    name: str
    setting: str
    kind: str
    causal: bool
    estimate: Callable[[Scene], Float[np.ndarray, "T K"]]


@dataclass(frozen=True)
class ParameterGrid:
    """Values of one parameter of a filter: multiples of its default, and values relative to a step.

    A step is the unit of time of a scene, in samples.

    Parameters
    ----------
    filter : str
        Name of the filter.
    parameter : str
        Name of the parameter.
    default : callable
        Maps a filter to its own default, in samples or cycles a sample.
    steps : tuple of float
        Values, in steps or cycles a step.
    step_power : int
        1 for a time, measured in steps; -1 for a width, measured in cycles a step.
    factors : tuple of float
        Multiples of the default.
    fixed : str
        Further parameters, the same for all values.
    """

    filter: str
    parameter: str
    default: Callable[[ToneFilter], float]
    steps: tuple[float, ...]
    step_power: int = 1
    factors: tuple[float, ...] = (0.25, 4.0)
    fixed: str = ""


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
    fractions = {
        Butterworth: CAUSAL_FRACTION,
        ZeroPhaseButterworth: ZERO_PHASE_FRACTION,
        FftMask: MASK_FRACTION,
    }
    return built.default_width_hz(0, fractions[type(built)])


# Chosen, not tuned: about two values a decade, over the times in which a scene's tone changes.
_MEMORIES = (30.0, 100.0, 300.0, 1000.0, 3000.0)
_WIDTHS = (0.02, 0.006, 0.002, 0.0006, 0.0002)
GRIDS = (
    ParameterGrid("tracker", "memory_s", _memory, _MEMORIES),
    ParameterGrid("kalman", "memory_s", _memory, (*_MEMORIES, float("inf"))),
    ParameterGrid("least-squares", "window_s", _window, (50.0, 150.0, 500.0, 1500.0, 5000.0)),
    ParameterGrid("lock-in", "time_s", _time, (10.0, 30.0, 100.0, 300.0, 1000.0), fixed="order=1"),
    ParameterGrid("lock-in", "time_s", _time, (10.0, 30.0, 100.0, 300.0, 1000.0), fixed="order=3"),
    ParameterGrid("butterworth", "bandwidth_hz", _width, _WIDTHS, -1),
    ParameterGrid("zero-phase", "bandwidth_hz", _width, _WIDTHS, -1),
    ParameterGrid("fft-mask", "width_hz", _width, _WIDTHS, -1),
)
WITHOUT_PARAMETERS = ("least-squares-growing", "wiener")


def classical_baselines() -> list[Baseline]:
    """List every classical filter at its default and over a grid of its parameter.

    Returns
    -------
    list of Baseline
        Of kind `CLASSICAL`.
    """
    baselines = [_classical(name, "default", lambda built, step: "") for name in WITHOUT_PARAMETERS]
    for grid in GRIDS:
        name, fixed = grid.filter, f" {grid.fixed}" if grid.fixed else ""
        default = partial(_parameters, grid, None, None)
        baselines.append(_classical(name, f"default{fixed}", default))
        for factor in grid.factors:
            setting = f"{factor:g} x default{fixed}"
            baselines.append(_classical(name, setting, partial(_parameters, grid, factor, None)))
        for steps in grid.steps:
            unit = "steps" if grid.step_power > 0 else "/ step"
            setting = f"{steps:g} {unit}{fixed}"
            baselines.append(_classical(name, setting, partial(_parameters, grid, None, steps)))
    return baselines


def oracle_kalman() -> list[Baseline]:
    """List the Kalman filter and smoother that know the model of every scene.

    They know the tones' powers, the variance of white noise as strong as the noise and impulses at
    the first tone, and the mean variance that the coefficients gain a sample. A constant term takes
    up the offset. They do not model lines, trends, clipping or a wrong nominal frequency.

    Returns
    -------
    list of Baseline
        Of kind `KNOWS_MODEL`: the filter, then the smoother.
    """
    return [
        Baseline("kalman told", "", KNOWS_MODEL, True, partial(_oracle, smooth=False)),
        Baseline("smoother told", "", KNOWS_MODEL, False, partial(_oracle, smooth=True)),
    ]


def wrap_extractor(
    name: str, build: Build, *, handles_nan: bool = False, causal: bool = True
) -> Baseline:
    """Wrap a new extractor as a baseline.

    Parameters
    ----------
    name : str
        Its name in the results.
    build : callable
        Maps the frequencies of a scene's tones (cycles a sample) to an extractor.
    handles_nan : bool
        Whether it takes NaN for missing samples. If not, a prediction takes their place.
    causal : bool
        Whether an estimate depends on no later sample.

    Returns
    -------
    Baseline
        Of kind `CANDIDATE`.
    """
    return Baseline(name, "", CANDIDATE, causal, partial(_extract, build, handles_nan))


def centre_and_scale(scene: Scene, *, first: bool) -> tuple[Float[np.ndarray, "1 T"], float, float]:
    """Subtract a constant from the samples of a scene and divide by a power of two.

    Parameters
    ----------
    scene : Scene
        The scene.
    first : bool
        Whether the constant is the first valid sample, as in a stream, or the mean.

    Returns
    -------
    scaled : ndarray, shape (1, T)
        Samples of about unit variance.
    dc : float
        The constant.
    unit : float
        The power of two.
    """
    valid = scene.samples[np.isfinite(scene.samples)]
    dc = float(valid[0] if first else valid.mean())
    deviation = float(valid.std())
    unit = float(2.0 ** round(np.log2(deviation))) if deviation > 0 else 1.0
    return (scene.samples - dc)[None] / unit, dc, unit


def fill_gaps(scene: Scene) -> Float[np.ndarray, "1 T"]:
    """Fill missing samples with the prediction of oscillators at the tones' frequencies.

    Parameters
    ----------
    scene : Scene
        The scene.

    Returns
    -------
    ndarray, shape (1, T)
        Its samples, all finite.
    """
    scaled, dc, unit = centre_and_scale(scene, first=True)
    filler = GapFiller(scene.freq_cycles, 1.0)
    return filler.step(scaled, filler.initial_state(1))[0] * unit + dc


def _extract(build: Build, handles_nan: bool, scene: Scene) -> Float[np.ndarray, "T K"]:
    mixture = scene.samples[None] if handles_nan else fill_gaps(scene)
    return build(scene.freq_cycles).extract(mixture)[0]


def _classical(name: str, setting: str, parameters: Callable[[ToneFilter, float], str]) -> Baseline:
    def estimate(scene: Scene) -> Float[np.ndarray, "T K"]:
        given = parameters(build_filter(name, scene.freq_cycles, 1.0), scene.step)
        built = build_filter(f"{name}:{given}", scene.freq_cycles, 1.0)
        mixture, _, unit = centre_and_scale(scene, first=causal)
        return built.extract(mixture)[0] * unit

    causal = build_filter(name, [0.1], 1.0).causal
    return Baseline(name, setting, CLASSICAL, causal, estimate)


def _parameters(
    grid: ParameterGrid, factor: float | None, steps: float | None, built: ToneFilter, step: float
) -> str:
    """Parameters as `build_filter` takes them; a band that is too wide is narrowed."""
    if factor is None and steps is None:
        return grid.fixed
    value = grid.default(built) * factor if factor else (steps or 0.0) * step**grid.step_power
    if grid.step_power < 0:
        f = built.frequencies_hz
        # The tone is the geometric mean of a band's edges, so the upper one is farther from it.
        highest = min((MAX_EDGE**2 - tone**2) / MAX_EDGE for tone in f)
        value = min(value, MAX_RELATIVE_WIDTH * float(built.spacing_hz.min()), highest)
    return ",".join(part for part in (grid.fixed, f"{grid.parameter}={value:.12g}") if part)


def _oracle(scene: Scene, smooth: bool) -> Float[np.ndarray, "T K"]:
    """Kalman filter or smoother with the true noise variances of the scene.

    State: sine and cosine coefficients of every tone, and a constant. H is the design matrix, the
    transition matrix F is the identity.
    """
    mixture, _, unit = centre_and_scale(scene, first=not smooth)
    tones = ToneFilter(scene.freq_cycles, 1.0)
    n, k = mixture.shape[1], tones.n_tones
    H = np.concatenate([tones.design_matrix(0, n), np.ones((n, 1))], axis=1)
    powers = np.mean(np.abs(scene.phasors) ** 2, axis=0) / 2
    increments = np.mean(np.abs(np.diff(scene.phasors, axis=0)) ** 2, axis=0) / 2
    increments[0] = scene.walk_variance
    Q = np.concatenate([increments, increments, [0.0]]) / unit**2
    P = np.diag(np.concatenate([powers / unit**2, powers / unit**2, [PRIOR_VAR_DC]]))
    R = scene.noise_variance + float(scene.about.get("impulse_variance", 0.0))
    states = np.empty((1, *H.shape))
    if smooth:
        compiled.kalman_smooth(mixture[0], H, P, Q, R / unit**2, states[0])
    else:
        x = np.zeros((1, H.shape[1]))
        compiled.kalman(mixture, H, x, P[None], Q, R / unit**2, states)
    terms = states[0] * H
    return (terms[:, :k] + terms[:, k : 2 * k]) * unit
