"""How far an estimate is likely to be off: a credible band for any extractor.

The error of a steady tone's estimate is what the extractor lets through of the noise near the tone.
How much it lets through is measured, by giving it white noise on top of what it hears; how strong
the noise is, is read off the sidebands of what is left when the tones are taken out. What a tone
does faster than the extractor follows is not in the band, but where it shows in the sidebands.
Axes: B streams, T samples, K tones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float

Z90 = 1.6448536269514722  # of a band that holds nine tenths of a normal distribution
# White noise given on top: as many streams, as long at most, and so strong beside the recording.
N_STREAMS, LONGEST, STRENGTH = 16, 2**15, 0.1
PER_OCTAVE = 4
# Sidebands lie so many bandwidths beside the tone, and are averaged over so many of their own
# time constants.
SIDEBAND_OFFSET, STEADY = 3.0, 30.0
# One-poles in a row: steep, since noise far away may be a million times as strong.
ORDER = 3

Run = Callable[[Float[np.ndarray, "B T"]], Float[np.ndarray, "B T K"]]


@dataclass(frozen=True)
class NoiseGain:
    """Variance of a tone's estimate for white noise of variance 1, by the age of the stream."""

    ages: Float[np.ndarray, " A"]
    gains: Float[np.ndarray, "A K"]
    memory: float  # samples after which it stays as it is

    @property
    def settled(self) -> Float[np.ndarray, " K"]:
        """When all memory is filled."""
        return self.at(np.array([self.memory]))[0]

    def at(self, age: Float[np.ndarray, " T"]) -> Float[np.ndarray, "T K"]:
        """At these ages, in samples from 1."""
        last = float(self.ages[-1])
        within = np.log(np.clip(age, self.ages[0], last))
        found = [np.exp(np.interp(within, np.log(self.ages), np.log(g))) for g in self.gains.T]
        # A memory longer than what was tried goes on growing.
        grown = np.maximum(1.0, np.minimum(age, self.memory) / last)
        return np.stack(found, axis=1) / grown[:, None]


def noise_gain(
    run: Run, heard: Float[np.ndarray, " T"], memory: float, *, both: bool, rng: np.random.Generator
) -> NoiseGain:
    """Measured on a stretch of what the extractor hears.

    ``both``: the run knows the whole stretch, and age is the distance from the nearer end.
    """
    heard = np.nan_to_num(heard[:LONGEST])
    strength = STRENGTH * (float(heard.std()) or 1.0)
    noise = strength * rng.standard_normal((N_STREAMS, len(heard)))
    moved = run(heard + noise) - run(heard[None])
    power = (moved**2).mean(axis=0) / strength**2
    if both:
        half = (len(power) + 1) // 2
        power = (power[:half] + power[::-1][:half]) / 2
    edges = np.unique(
        np.round(2 ** np.arange(0, np.log2(max(2, len(power))), 1 / PER_OCTAVE)).astype(int)
    )
    stops = np.append(edges[1:], len(power) + 1)
    gains = [power[a - 1 : b - 1].mean(axis=0) for a, b in zip(edges, stops, strict=True)]
    ages = np.sqrt(edges * np.maximum(stops - 1, edges))
    return NoiseGain(
        ages.astype(float), np.maximum(np.stack(gains), 1e-300), float(max(memory, ages[-1]))
    )


class SidebandNoise:
    """Variance of white noise as strong as what is heard beside a tone, as it comes.

    Two lock-ins beside the tone, as wide as the extractor's own band; causal, any chunking alike.
    ``spacing_hz``: how far the tone is from whatever else is known to be there.
    """

    def __init__(
        self, hz: float, rate_hz: float, band_hz: float, spacing_hz: float, n_streams: int = 1
    ) -> None:
        aside = min(max(SIDEBAND_OFFSET * band_hz, 2 * rate_hz / LONGEST), spacing_hz / 2)
        width = min(band_hz, aside / 2)
        self._time = max(2.0, rate_hz / (2 * np.pi * width))
        self._turns = (np.array([-aside, aside]) + hz) / rate_hz
        shape = (n_streams, 1)
        self.state = {
            "low": np.zeros((2, ORDER, *shape), complex),  # side, order, stream
            "good": np.zeros((ORDER, *shape)),
            "power": np.zeros(shape),
            "weight": np.zeros(shape),
            "age": np.zeros((), dtype=np.int64),
        }

    @property
    def settling(self) -> int:
        """Samples after which it has averaged for long enough."""
        return int(self._time * STEADY)

    def take(self, residual: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T"]:
        """The level after each sample; NaN is passed over."""
        before, n = self.state, residual.shape[1]
        if not n:
            return np.zeros(residual.shape)
        good = np.isfinite(residual)
        heard = np.where(good, residual, 0.0)
        first, after = int(before["age"]), {k: v.copy() for k, v in before.items()}
        pole = np.exp(-1 / self._time)
        power = np.zeros(residual.shape)
        for i, turn in enumerate(self._turns):
            at = ((first + np.arange(n)) % 2**40) * turn % 1
            shifted = heard * np.exp(-2j * np.pi * at)
            power += np.abs(_low_pass(shifted, pole, after["low"][i])) ** 2 / 2
        # Young low-passes let less through, and so do those that heard little but gaps.
        share = _low_pass(good.astype(float), pole, after["good"]) * _filled(first, n, self._time)
        slow = np.exp(-1 / (STEADY * self._time))
        mean, after["power"] = _one_pole(power / _bandwidth(pole), slow, after["power"])
        weight, after["weight"] = _one_pole(share, slow, after["weight"])
        after["age"] = np.array(first + n, dtype=np.int64)
        self.state = after
        return mean / np.maximum(weight, 1e-12)


def _one_pole(values: np.ndarray, pole: float, memory: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    passed, kept = scipy.signal.lfilter([1 - pole], [1, -pole], values, axis=1, zi=memory)
    return np.asarray(passed), np.asarray(kept)


def _low_pass(values: np.ndarray, pole: float, memory: np.ndarray) -> np.ndarray:
    """Equal one-poles in a row; their memory (O, B, 1) is renewed in place."""
    for order in range(ORDER):
        values, memory[order] = _one_pole(values, pole, memory[order])
    return values


def _bandwidth(pole: float) -> float:
    """Power that the low-passes let through of white noise of variance 1: the sum of h^2."""
    square = pole * pole
    return float((1 - pole) * (1 + 4 * square + square**2) / (1 + pole) ** 5)


def _filled(first: int, n: int, time: float) -> Float[np.ndarray, " T"]:
    """The share of that power that they let through at an age: a gamma distribution's."""
    x = 2 * np.arange(first + 1, first + n + 1) / time
    return np.maximum(scipy.special.gammainc(2 * ORDER - 1, x), 1e-6)
