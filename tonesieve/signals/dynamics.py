"""Dynamics of the scenes' tones: amplitude, phase and frequency over time.

Every rate is per step (see `scenes`), so that slow tones are to an extractor what fast ones are.
Axis: T samples. An envelope is complex: amplitude and phase of a tone of mean power 1/2. All
ranges are chosen, not tuned: they define the family of scenes.

========  =======================================================================================
steady    constant
walk      log-amplitude and phase are random walks, the former drawn back to its mean
rhythm    narrow-band Gaussian noise, 0.5% to 10% of its frequency wide
steps     amplitude and phase jump at the times of a Poisson process
fades     amplitude rises and falls slowly, the phase is modulated by up to half a radian
bursts    on and off with short ramps; 1 where it is fully on
drift     constant, of a frequency that is wrong, drifts or wanders (`draw_detuning`)
========  =======================================================================================

A nominal frequency is seldom exact: it is wrong by a constant in half of the steady tones and in 3
of 5 of all others but those that drift.
"""

from __future__ import annotations

import math

import numpy as np
import scipy
from jaxtyping import Complex, Float

from tonesieve.signals.distributions import Rng, log_uniform
from tonesieve.signals.spectral_shaping import smooth

DYNAMICS = ("steady", "walk", "rhythm", "steps", "fades", "bursts", "drift")
# Of plain scenes: all whose frequency is the nominal one.
PLAIN_DYNAMICS = ("steady", "walk", "rhythm", "steps", "fades", "bursts")
About = dict[str, float | str | bool]

# walk: variance a step of the log-amplitude and of the phase (rad^2), and the standard deviation
# of the log-amplitude in the long run.
WALK_RATE = (1e-6, 1e-2)
WALK_SIGMA = 0.75
# rhythm: full width at half power over the frequency, and how many poles the low-pass has.
RHYTHM_WIDTH, RHYTHM_POLES = (0.005, 0.1), (1, 2)
# steps: mean distance (steps) and amplitudes.
STEP_DISTANCE = (150.0, 3000.0)
STEP_AMPLITUDE = (0.2, 3.0)
# fades: depth of the amplitude, time scale (steps), phase modulation (rad); factor of the former
# and the latter in mild ones.
FADE_DEPTH = (0.3, 1.0)
FADE_TIME = (20.0, 2000.0)
FADE_PHASE = (0.0, 0.5)
MILD_FADE = 0.4
# Chosen: a Gaussian process times this, through tanh, fills most of (-1, 1) without clipping.
FADE_SATURATION = 1.2
# bursts: lengths of on- and off-times and of the ramps (steps).
BURST_LENGTH = (60.0, 2000.0)
BURST_RAMP = (2.0, 20.0)
# Offset of a frequency (cycles a step), and at most this fraction of the frequency: where drift is
# the dynamics, and elsewhere, in this fraction of the scenes.
DETUNING = (1e-6, 1e-3)
MAX_DRIFT, MAX_OFFSET, DETUNED = 0.03, 0.02, 0.6
# Offset of a steady tone over its frequency, and the fraction of steady tones that have one.
STEADY_OFFSET, STEADY_DETUNED = (1e-4, 0.015), 0.5


def draw_envelope(
    dynamics: str, n_samples: int, freq_cycles: float, step: float, *, mild: bool = False, rng: Rng
) -> tuple[Complex[np.ndarray, " T"], About]:
    """Draw a tone's complex amplitude.

    Parameters
    ----------
    dynamics : str
        One of `DYNAMICS`.
    n_samples : int
        Length.
    freq_cycles : float
        Frequency of the tone, cycles a sample.
    step : float
        Samples in a step.
    mild : bool
        Whether walks and fades are of the slow and shallow end of their ranges (default False).
    rng : Generator
        Source of all random numbers.

    Returns
    -------
    envelope : ndarray of complex, shape (T,)
        Of mean square 1; bursts are 1 where they are on.
    about : dict
        Every number that was drawn.
    """
    if dynamics == "walk":
        envelope, about = _walk(n_samples, step, mild, rng)
    elif dynamics == "rhythm":
        envelope, about = _rhythm(n_samples, freq_cycles, rng)
    elif dynamics == "steps":
        envelope, about = _steps(n_samples, step, rng)
    elif dynamics == "fades":
        envelope, about = _fades(n_samples, step, mild, rng)
    elif dynamics == "bursts":
        return _bursts(n_samples, step, rng)
    else:
        envelope, about = np.ones(n_samples, dtype=complex), {}
    return envelope / math.sqrt(np.mean(envelope.real**2 + envelope.imag**2)), about


def draw_detuning(
    dynamics: str, n_samples: int, step: float, freq_cycles: float, *, rng: Rng
) -> tuple[Float[np.ndarray, " T"] | None, About]:
    """Draw the deviation of a tone's frequency from its nominal value.

    Parameters
    ----------
    dynamics : str
        One of `DYNAMICS`.
    n_samples : int
        Length.
    step : float
        Samples in a step.
    freq_cycles : float
        Nominal frequency, cycles a sample.
    rng : Generator
        Source of all random numbers.

    Returns
    -------
    deviation : ndarray, shape (T,), or None
        Cycles a sample; None where there is none.
    about : dict
        Every number that was drawn.
    """
    size = log_uniform(DETUNING, rng)
    sign = float(rng.choice([-1.0, 1.0]))
    if dynamics == "drift":
        size = min(size, MAX_DRIFT * freq_cycles * step)
        kind = str(rng.choice(["offset", "ramp", "wander", "offset+ramp", "offset+wander"]))
        shape = _deviation(kind, n_samples, rng)
        return sign * size / step * shape, {"detuning": kind, "excursion": size}
    size = min(size, MAX_OFFSET * freq_cycles * step)
    if dynamics == "steady":
        size = log_uniform(STEADY_OFFSET, rng) * freq_cycles * step
    is_detuned = rng.random() < (STEADY_DETUNED if dynamics == "steady" else DETUNED)
    if not is_detuned:
        return None, {"detuning": "none", "excursion": 0.0}
    return np.full(n_samples, sign * size / step), {"detuning": "offset", "excursion": size}


def _deviation(kind: str, n: int, rng: Rng) -> Float[np.ndarray, " T"]:
    """Deviation of the frequency, of modulus 1 at most."""
    deviation = np.full(n, rng.uniform(-1.0, 1.0) if "+" in kind else float(kind == "offset"))
    if "ramp" in kind:
        deviation += np.linspace(0.0, 1.0, n) - (rng.uniform() if kind == "ramp" else 0.0)
    if "wander" in kind:
        walk = np.cumsum(rng.standard_normal(n))
        deviation += walk / np.abs(walk).max()
    return deviation / np.abs(deviation).max()


def _walk(n: int, step: float, mild: bool, rng: Rng) -> tuple[Complex[np.ndarray, " T"], About]:
    low, high = WALK_RATE
    limits = (low, math.sqrt(low * high)) if mild else WALK_RATE
    rates = log_uniform(limits, rng), log_uniform(limits, rng)
    decay = math.exp(-rates[0] / (2 * WALK_SIGMA**2) / step)
    innovations = rng.standard_normal((2, n))
    innovations[0] *= WALK_SIGMA * math.sqrt(1 - decay * decay)
    innovations[0, 0] = WALK_SIGMA * rng.standard_normal()
    log_amplitude = scipy.signal.lfilter([1.0], [1.0, -decay], innovations[0])
    phase = math.sqrt(rates[1] / step) * np.cumsum(innovations[1])
    return np.exp(log_amplitude + 1j * phase), {"amplitude_rate": rates[0], "phase_rate": rates[1]}


def low_pass_pole(width: float, n_poles: int) -> float:
    """Compute the pole of a cascade of equal real ones from its bandwidth.

    Parameters
    ----------
    width : float
        Full width at half power about frequency 0, cycles a sample.
    n_poles : int
        Length of the cascade.

    Returns
    -------
    float
        The pole.
    """
    # Derived: |1 - a e^{-jw}|^2 = r (1 - a)^2, with r = 2^(1 / n_poles) and w half the width, is
    # a quadratic equation in a.
    r = 2 ** (1 / n_poles)
    b = r - math.cos(math.pi * width)
    return (b - math.sqrt(b * b - (r - 1) ** 2)) / (r - 1)


def _rhythm(n: int, freq_cycles: float, rng: Rng) -> tuple[Complex[np.ndarray, " T"], About]:
    width, n_poles = freq_cycles * log_uniform(RHYTHM_WIDTH, rng), int(rng.choice(RHYTHM_POLES))
    pole = low_pass_pole(width, n_poles)
    innovations = rng.standard_normal((n + 1, 2)).view(complex)[:, 0]
    # Derived: stationary from the first sample on. One pole has variance 1 / (1 - a^2) =: v; its
    # covariance with the second one's output is v^2, and that has v^2 (1 + a^2) v.
    variance = 1 / (1 - pole * pole)
    innovations[0] *= math.sqrt(variance)
    envelope = scipy.signal.lfilter([1.0], [1.0, -pole], innovations)
    if n_poles == 2:
        rest = rng.standard_normal(2).view(complex)[0]
        first = variance * envelope[0] + pole * variance * math.sqrt(variance) * rest
        envelope, _ = scipy.signal.lfilter([1.0], [1.0, -pole], envelope[1:], zi=[pole * first])
    return envelope[-n:], {"rhythm_width": width, "rhythm_poles": float(n_poles)}


def _steps(n: int, step: float, rng: Rng) -> tuple[Complex[np.ndarray, " T"], About]:
    distance = log_uniform(STEP_DISTANCE, rng)
    jumps = np.sort(rng.integers(0, n, rng.poisson(n / (distance * step))))
    amplitude = log_uniform(STEP_AMPLITUDE, rng, len(jumps) + 1)
    phasors = amplitude * np.exp(2j * np.pi * rng.random(len(jumps) + 1))
    segment = np.searchsorted(jumps, np.arange(n), side="right")
    return phasors[segment], {"jump_distance": distance, "n_jumps": float(len(jumps))}


def _fades(n: int, step: float, mild: bool, rng: Rng) -> tuple[Complex[np.ndarray, " T"], About]:
    depth = rng.uniform(*FADE_DEPTH) * (MILD_FADE if mild else 1.0)
    sway = rng.uniform(*FADE_PHASE) * (MILD_FADE if mild else 1.0)
    scale = log_uniform(FADE_TIME, rng)
    width = 1 / (2 * np.pi * scale * step)  # standard deviation of the spectrum, cycles a sample
    periodic = bool(rng.random() < 0.5)
    # Bounded, so that depth and sway are the largest values.
    slow = np.tanh(FADE_SATURATION * smooth(n, width, rng=rng).real)
    if periodic:
        slow = np.sin(2 * np.pi * (width * np.arange(n) + rng.random()))
    phase = sway * np.tanh(FADE_SATURATION * smooth(n, width, rng=rng).real)
    about: About = {"depth": depth, "fade_time": scale, "sway": sway, "periodic": periodic}
    return (1 + depth * slow) * np.exp(1j * phase), about


def _bursts(n: int, step: float, rng: Rng) -> tuple[Complex[np.ndarray, " T"], About]:
    ramp = max(1, round(log_uniform(BURST_RAMP, rng) * step))
    new_phase = bool(rng.random() < 0.5)
    most = 3 + math.ceil(n / (BURST_LENGTH[0] * step))
    lengths = step * log_uniform(BURST_LENGTH, rng, most)
    lengths[0] *= rng.random()  # the record begins anywhere within the first
    edges = np.round(np.cumsum(lengths)).astype(int)
    segment = np.searchsorted(edges, np.arange(n), side="right")
    first_on = bool(rng.random() < 0.5) or edges[0] >= n  # the tone is on somewhere
    on = (segment % 2 == (0 if first_on else 1)).astype(float)
    # A raised-cosine ramp is the mean of on and off over a raised-cosine window, here centred.
    window = np.hanning(ramp + 2)[1:-1]
    amplitude = scipy.signal.oaconvolve(
        np.pad(on, ramp, mode="edge"), window / window.sum(), mode="same"
    )
    phases = rng.random(int(segment[-1]) + 2) if new_phase else np.zeros(int(segment[-1]) + 2)
    # The ramps extend into the pauses: from its middle on, a pause has the next burst's phase.
    burst = (segment + (0 if first_on else 1)) // 2
    middle = np.concatenate([[-1.0], (edges[:-1] + edges[1:]) / 2])
    burst += (on == 0) & (np.arange(n) > middle[segment])
    amplitude = np.where(amplitude > 1e-9, amplitude, 0.0)[ramp:-ramp]  # convolution rounds
    envelope = amplitude * np.exp(2j * np.pi * phases[burst])
    return envelope, {"ramp": ramp / step, "new_phase": new_phase, "on_share": float(on.mean())}
