"""How a tone goes on: the courses that amplitude, phase and frequency take in a family of signals.

Every rate is a step's (see `family`), so that slow tones are to an extractor what fast ones are.
Axis: T samples. A course is complex: the amplitude and phase of a tone of mean power 1/2.

========  =======================================================================================
steady    constant
walk      log-amplitude and phase walk at random, the first drawn back to its mean
steps     amplitude and phase jump anew at times that have no memory
fades     amplitude swells and sinks slowly, the phase sways by up to half a radian
bursts    on and off with short ramps; 1 where it is fully on
drift     constant, of a frequency that is wrong, drifts or wanders (`draw_detuning`)
========  =======================================================================================
"""

from __future__ import annotations

import math

import numpy as np
import scipy
from jaxtyping import Complex, Float

from tonesieve.signals.backgrounds import Rng
from tonesieve.signals.noise_models import log_uniform, log_uniforms, smooth

DYNAMICS = ("steady", "walk", "steps", "fades", "bursts", "drift")
About = dict[str, float | str | bool]

# walk: variance a step of the log-amplitude and of the phase (rad^2), and the standard deviation
# of the log-amplitude in the long run.
WALK_RATE = (1e-6, 1e-2)
WALK_SPREAD = 0.75
# steps: mean distance (steps) and amplitudes.
STEP_DISTANCE = (150.0, 3000.0)
STEP_AMPLITUDE = (0.2, 3.0)
# fades: depth of the amplitude, time scale (steps), sway of the phase (rad).
FADE_DEPTH = (0.3, 0.95)
FADE_TIME = (50.0, 2000.0)
FADE_SWAY = (0.0, 0.5)
# bursts: lengths of on- and off-times and of the ramps (steps).
BURST_LENGTH = (60.0, 2000.0)
BURST_RAMP = (2.0, 20.0)
# How wrong a frequency is (cycles a step), at most this share of the frequency: where drift is the
# dynamics, and elsewhere, in this share of the scenes.
DETUNING = (1e-6, 1e-3)
DRIFT_SHARE, OFFSET_SHARE, DETUNED = 0.03, 0.02, 0.4


def draw_envelope(
    dynamics: str, n_samples: int, step: float, *, mild: bool = False, rng: Rng
) -> tuple[Complex[np.ndarray, " T"], About]:
    """A tone's complex amplitude, of mean square 1 (bursts: 1 where on), and what was drawn.

    ``mild`` keeps walks and fades to the slow and shallow end of their ranges.
    """
    if dynamics == "walk":
        course, about = _walk(n_samples, step, mild, rng)
    elif dynamics == "steps":
        course, about = _steps(n_samples, step, rng)
    elif dynamics == "fades":
        course, about = _fades(n_samples, step, mild, rng)
    elif dynamics == "bursts":
        return _bursts(n_samples, step, rng)
    else:
        course, about = np.ones(n_samples, dtype=complex), {}
    return course / math.sqrt(np.mean(course.real**2 + course.imag**2)), about


def draw_detuning(
    dynamics: str, n_samples: int, step: float, turn: float, *, rng: Rng
) -> tuple[Float[np.ndarray, " T"] | None, About]:
    """By how much a tone's frequency is other than named, cycles a sample; None: by nothing."""
    size = log_uniform(DETUNING, rng)
    sign = float(rng.choice([-1.0, 1.0]))
    if dynamics == "drift":
        size = min(size, DRIFT_SHARE * turn * step)
        kind = str(rng.choice(["offset", "ramp", "wander", "offset+ramp", "offset+wander"]))
        course = _deviation(kind, n_samples, rng)
        return sign * size / step * course, {"detuning": kind, "excursion": size}
    wrong = dynamics != "steady" and rng.random() < DETUNED
    size = min(size, OFFSET_SHARE * turn * step)
    if not wrong:
        return None, {"detuning": "none", "excursion": 0.0}
    return np.full(n_samples, sign * size / step), {"detuning": "offset", "excursion": size}


def _deviation(kind: str, n: int, rng: Rng) -> Float[np.ndarray, " T"]:
    """A course of the frequency, at most 1 from its name."""
    course = np.full(n, rng.uniform(-1.0, 1.0) if "+" in kind else float(kind == "offset"))
    if "ramp" in kind:
        course += np.linspace(0.0, 1.0, n) - (rng.uniform() if kind == "ramp" else 0.0)
    if "wander" in kind:
        walk = np.cumsum(rng.standard_normal(n))
        course += walk / np.abs(walk).max()
    return course / np.abs(course).max()


def _walk(n: int, step: float, mild: bool, rng: Rng) -> tuple[Complex[np.ndarray, " T"], About]:
    low, high = WALK_RATE
    limits = (low, math.sqrt(low * high)) if mild else WALK_RATE
    rates = log_uniform(limits, rng), log_uniform(limits, rng)
    kept = math.exp(-rates[0] / (2 * WALK_SPREAD**2) / step)
    kicks = rng.standard_normal((2, n))
    kicks[0] *= WALK_SPREAD * math.sqrt(1 - kept * kept)
    kicks[0, 0] = WALK_SPREAD * rng.standard_normal()
    logarithm = scipy.signal.lfilter([1.0], [1.0, -kept], kicks[0])
    phase = math.sqrt(rates[1] / step) * np.cumsum(kicks[1])
    return np.exp(logarithm + 1j * phase), {"amplitude_rate": rates[0], "phase_rate": rates[1]}


def _steps(n: int, step: float, rng: Rng) -> tuple[Complex[np.ndarray, " T"], About]:
    distance = log_uniform(STEP_DISTANCE, rng)
    jumps = np.sort(rng.integers(0, n, rng.poisson(n / (distance * step))))
    amplitude = log_uniforms(STEP_AMPLITUDE, len(jumps) + 1, rng)
    levels = amplitude * np.exp(2j * np.pi * rng.random(len(jumps) + 1))
    which = np.searchsorted(jumps, np.arange(n), side="right")
    return levels[which], {"jump_distance": distance, "n_jumps": float(len(jumps))}


def _fades(n: int, step: float, mild: bool, rng: Rng) -> tuple[Complex[np.ndarray, " T"], About]:
    depth = rng.uniform(*FADE_DEPTH) * (0.4 if mild else 1.0)
    sway = rng.uniform(*FADE_SWAY) * (0.4 if mild else 1.0)
    scale = log_uniform(FADE_TIME, rng)
    width = 1 / (2 * np.pi * scale * step)  # standard deviation of the spectrum, cycles a sample
    periodic = bool(rng.random() < 0.5)
    # Bounded, so that depth and sway are what they are called.
    slow = np.tanh(1.2 * smooth(n, width, rng=rng).real)
    if periodic:
        slow = np.sin(2 * np.pi * (width * np.arange(n) + rng.random()))
    phase = sway * np.tanh(1.2 * smooth(n, width, rng=rng).real)
    about: About = {"depth": depth, "fade_time": scale, "sway": sway, "periodic": periodic}
    return (1 + depth * slow) * np.exp(1j * phase), about


def _bursts(n: int, step: float, rng: Rng) -> tuple[Complex[np.ndarray, " T"], About]:
    ramp = max(1, round(log_uniform(BURST_RAMP, rng) * step))
    anew = bool(rng.random() < 0.5)
    most = 3 + math.ceil(n / (BURST_LENGTH[0] * step))
    lengths = step * log_uniforms(BURST_LENGTH, most, rng)
    lengths[0] *= rng.random()  # the record begins anywhere within the first
    edges = np.round(np.cumsum(lengths)).astype(int)
    stretch = np.searchsorted(edges, np.arange(n), side="right")
    first_on = bool(rng.random() < 0.5) or edges[0] >= n  # some of the tone is heard
    on = (stretch % 2 == (0 if first_on else 1)).astype(float)
    # A raised-cosine ramp is the mean of on and off over a raised-cosine window, here centred.
    window = np.hanning(ramp + 2)[1:-1]
    level = scipy.signal.oaconvolve(
        np.pad(on, ramp, mode="edge"), window / window.sum(), mode="same"
    )
    phases = rng.random(int(stretch[-1]) + 2) if anew else np.zeros(int(stretch[-1]) + 2)
    # The ramps reach into the pauses: from its middle on, a pause has the next burst's phase.
    burst = (stretch + (0 if first_on else 1)) // 2
    middle = np.concatenate([[-1.0], (edges[:-1] + edges[1:]) / 2])
    burst += (on == 0) & (np.arange(n) > middle[stretch])
    course = np.where(level > 1e-9, level, 0.0)[ramp:-ramp] * np.exp(2j * np.pi * phases[burst])
    return course, {"ramp": ramp / step, "new_phase": anew, "on_share": float(on.mean())}
