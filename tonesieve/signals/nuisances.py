"""Nuisances of the scenes: offset, trend, ramp, level steps, clipping, quantisation and gaps.

Axis: T samples. All ranges are chosen, not tuned: they define the family of scenes.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from tonesieve.signals.distributions import Rng, log_uniform

About = dict[str, float | str | bool]

# Nuisances: fraction of the scenes, and size over the rms of all the rest.
OFFSET, OFFSET_SIZE = 0.5, (0.01, 1000.0)
TREND, TREND_SIZE = 1 / 3, (0.1, 100.0)
# Ramps: amplitudes of the tone a period. Steps of the level: most of them, and amplitudes.
RAMP, RAMP_SLOPE = 1 / 6, (0.1, 100.0)
LEVEL_STEPS, MAX_LEVEL_STEPS, LEVEL_STEP_SIZE = 1 / 8, 4, (0.5, 100.0)
CLIPPING, CLIP_QUANTILE = 0.08, (0.5, 0.95)
# Quantisation: bits; a guard: its noise is at most this ratio to the noise at the tone.
QUANTISATION, BITS, COARSEST = 0.1, (3, 10), 10.0
# Gaps: most of them, their length (steps), samples lost singly, and a guard: the longest gap over
# the record.
GAPS, MAX_GAPS, GAP_STEPS, LOST, LONGEST_GAP = 0.15, 8, (1.0, 300.0), 0.05, 1 / 16


def add_nuisances(
    mixture: Float[np.ndarray, " T"], step: float, freq_cycles: float, amplitude: float, *, rng: Rng
) -> tuple[Float[np.ndarray, " T"], About]:
    """Add what recordings have, each where the draw says so.

    Parameters
    ----------
    mixture : ndarray, shape (T,)
        Samples, in units of the noise at the tone.
    step : float
        Samples in a step.
    freq_cycles : float
        Frequency of the tone, cycles a sample.
    amplitude : float
        Amplitude of the tone.
    rng : Generator
        Source of all random numbers.

    Returns
    -------
    samples : ndarray, shape (T,)
        Samples; NaN in gaps.
    about : dict
        Every number that was drawn.
    """
    about: About = {}
    rms, time = float(np.sqrt(np.mean(mixture * mixture))), np.linspace(-1.0, 1.0, len(mixture))
    sizes = log_uniform(OFFSET_SIZE, rng), log_uniform(TREND_SIZE, rng)
    signs, chances = rng.choice([-1.0, 1.0], 3), rng.random(7)
    if chances[0] < OFFSET:
        about["offset"] = float(signs[0] * sizes[0] * rms)
        mixture = mixture + about["offset"]
    if chances[1] < TREND:
        about["trend"], power = float(signs[1] * sizes[1] * rms), int(rng.integers(1, 3))
        about["trend_power"] = float(power)
        mixture = mixture + about["trend"] * time**power
    slope = float(signs[2] * amplitude * freq_cycles * log_uniform(RAMP_SLOPE, rng))
    if chances[5] < RAMP:
        about["slope"] = slope
        mixture = mixture + slope * np.arange(len(mixture))
    if chances[6] < LEVEL_STEPS:
        mixture = mixture + _level_steps(len(mixture), amplitude, about, rng)
    if chances[2] < CLIPPING:
        mixture, about["clip_quantile"] = _clip(mixture, rng)
    if chances[3] < QUANTISATION:
        mixture, about["bits"] = _quantise(mixture, rng)
    if chances[4] < GAPS:
        mixture, about["lost"] = _cut_gaps(mixture, step, rng)
    return mixture, about


def _level_steps(n: int, amplitude: float, about: About, rng: Rng) -> Float[np.ndarray, " T"]:
    """Steps of the level; their places and heights go into the description."""
    total = np.zeros(n)
    for number in range(int(rng.integers(1, MAX_LEVEL_STEPS + 1))):
        height = amplitude * log_uniform(LEVEL_STEP_SIZE, rng) * float(rng.choice([-1.0, 1.0]))
        start = int(rng.integers(0, n))
        total[start:] += height
        about |= {f"level_step_{number}": height, f"level_step_{number}_start": float(start)}
    return total


def _clip(mixture: Float[np.ndarray, " T"], rng: Rng) -> tuple[Float[np.ndarray, " T"], float]:
    quantile, mean = rng.uniform(*CLIP_QUANTILE), mixture.mean()
    distance = np.quantile(np.abs(mixture - mean), quantile)
    return np.clip(mixture, mean - distance, mean + distance), quantile


def _quantise(mixture: Float[np.ndarray, " T"], rng: Rng) -> tuple[Float[np.ndarray, " T"], float]:
    """Rounded to whole multiples of a quantum; the noise at the tone has variance 1."""
    bits, span = int(rng.integers(BITS[0], BITS[1] + 1)), float(np.ptp(mixture))
    # Derived: rounding to a quantum q has variance q^2 / 12.
    quantum = min(span / 2**bits, math.sqrt(12 * COARSEST))
    return quantum * np.round(mixture / quantum), math.log2(span / quantum)


def _cut_gaps(
    mixture: Float[np.ndarray, " T"], step: float, rng: Rng
) -> tuple[Float[np.ndarray, " T"], float]:
    """NaN in some stretches and, in half of these scenes, at single samples."""
    n = len(mixture)
    lost = rng.random(n) < (rng.uniform(0.0, LOST) if rng.random() < 0.5 else 0.0)
    n_gaps = int(rng.integers(1, MAX_GAPS + 1))
    # Guard: in the shortest records most samples are left.
    for _ in range(min(n_gaps, 1 + n // MAX_GAPS)):
        length = min(step * log_uniform(GAP_STEPS, rng), LONGEST_GAP * n)
        start = int(rng.integers(0, n))
        lost[start : start + max(1, round(length))] = True
    lost[0] &= not lost.all()
    return np.where(lost, np.nan, mixture), float(lost.mean())
