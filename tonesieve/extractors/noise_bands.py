"""Confidence bands for the estimate of any extractor.

The error of a steady tone's estimate is what the extractor passes of the noise near the tone. How
much it passes is measured, by adding white noise to its input; how strong the noise is, is
measured in the sidebands of the residual, the recording without the tones. Changes of the tone
that are faster than the extractor follows are not in the band, except where they show in the
sidebands. Axes: B streams, T samples, K tones, A ages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Float

# Derived: the quantile of a normal distribution whose central interval holds nine tenths.
Z90 = 1.6448536269514722
# Chosen, not tuned: streams of added white noise; their length at most (a guard on time); their
# standard deviation over the recording's.
N_STREAMS, MAX_PROBE_SAMPLES, PROBE_LEVEL = 16, 2**15, 0.1
# Chosen, not tuned: bins of age in an octave.
BINS_PER_OCTAVE = 4
# Chosen, not tuned: distance of the sidebands from the tone in bandwidths, and the time constant of
# their average in time constants of the lock-in.
SIDEBAND_OFFSET, AVERAGING_RATIO = 3.0, 30.0
# Chosen, not tuned: one-poles in series. Steep, since noise far away may be a million times as
# strong.
ORDER = 3
# Guard: a sample index is reduced by this before it is multiplied by a frequency.
INDEX_MODULUS = 2**40

Run = Callable[[Float[np.ndarray, "B T"]], Float[np.ndarray, "B T K"]]


@dataclass(frozen=True)
class NoiseGain:
    """Variance of a tone's estimate for white noise of variance 1, by the age of the stream.

    Parameters
    ----------
    ages : ndarray, shape (A,)
        Ages at which it was measured, samples.
    gains : ndarray, shape (A, K)
        Variance of every tone's estimate at these ages.
    memory_samples : float
        Samples after which it stays constant.
    """

    ages: Float[np.ndarray, " A"]
    gains: Float[np.ndarray, "A K"]
    memory_samples: float

    @property
    def steady_state(self) -> Float[np.ndarray, " K"]:
        """Gain of every tone when all memory is filled."""
        return self.at(np.array([self.memory_samples]))[0]

    def at(self, age: Float[np.ndarray, " T"]) -> Float[np.ndarray, "T K"]:
        """Interpolate the gain.

        Parameters
        ----------
        age : ndarray, shape (T,)
            Samples since the start of the stream, from 1.

        Returns
        -------
        ndarray, shape (T, K)
            Variance of every tone's estimate.
        """
        last = float(self.ages[-1])
        log_age = np.log(np.clip(age, self.ages[0], last))
        gains = [np.exp(np.interp(log_age, np.log(self.ages), np.log(g))) for g in self.gains.T]
        # A memory longer than what was measured averages on: variance falls as 1 / age.
        excess = np.maximum(1.0, np.minimum(age, self.memory_samples) / last)
        return np.stack(gains, axis=1) / excess[:, None]


def noise_gain(
    run: Run,
    samples: Float[np.ndarray, " T"],
    memory_samples: float,
    *,
    two_sided: bool,
    rng: np.random.Generator,
) -> NoiseGain:
    """Measure how much white noise an extractor passes, around the input that it gets.

    Parameters
    ----------
    run : callable
        The extractor: samples (B, T) to estimates (B, T, K).
    samples : ndarray, shape (T,)
        A stretch of its input; NaN counts as 0.
    memory_samples : float
        Samples that the extractor's memory lasts.
    two_sided : bool
        Whether the run has the whole stretch; age is then the distance from the nearer end.
    rng : Generator
        Source of the noise.

    Returns
    -------
    NoiseGain
        Variance of the estimate over the variance of the noise, by age.
    """
    samples = np.nan_to_num(samples[:MAX_PROBE_SAMPLES])
    sigma = PROBE_LEVEL * (float(samples.std()) or 1.0)
    noise = sigma * rng.standard_normal((N_STREAMS, len(samples)))
    difference = run(samples + noise) - run(samples[None])
    power = (difference**2).mean(axis=0) / sigma**2
    if two_sided:
        half = (len(power) + 1) // 2
        power = (power[:half] + power[::-1][:half]) / 2
    edges = np.unique(
        np.round(2 ** np.arange(0, np.log2(max(2, len(power))), 1 / BINS_PER_OCTAVE)).astype(int)
    )
    stops = np.append(edges[1:], len(power) + 1)
    gains = [power[a - 1 : b - 1].mean(axis=0) for a, b in zip(edges, stops, strict=True)]
    ages = np.sqrt(edges * np.maximum(stops - 1, edges))
    return NoiseGain(
        ages.astype(float),
        np.maximum(np.stack(gains), 1e-300),
        float(max(memory_samples, ages[-1])),
    )


class SidebandNoise:
    """Variance of white noise as strong as what lies beside a tone, estimated recursively.

    Two lock-ins, one on each side of the tone, as wide as the extractor's own band. Causal; any
    blocks equal one pass.

    Parameters
    ----------
    hz : float
        Frequency of the tone.
    rate_hz : float
        Sampling rate.
    band_hz : float
        Noise bandwidth of the extractor around the tone.
    spacing_hz : float
        Distance of the tone from the nearest other known tone, from zero and from half the rate.
    n_streams : int
        Number of streams, B.
    """

    def __init__(
        self, hz: float, rate_hz: float, band_hz: float, spacing_hz: float, n_streams: int = 1
    ) -> None:
        least_hz = 2 * rate_hz / MAX_PROBE_SAMPLES
        offset_hz = min(max(SIDEBAND_OFFSET * band_hz, least_hz), spacing_hz / 2)
        width_hz = min(band_hz, offset_hz / 2)
        self._time = max(2.0, rate_hz / (2 * np.pi * width_hz))
        self._freq_cycles = (np.array([-offset_hz, offset_hz]) + hz) / rate_hz
        shape = (n_streams, 1)
        self.state = {
            "low": np.zeros((2, ORDER, *shape), complex),  # side, order, stream
            "good": np.zeros((ORDER, *shape)),
            "power": np.zeros(shape),
            "weight": np.zeros(shape),
            "age": np.zeros((), dtype=np.int64),
        }

    @property
    def settling_samples(self) -> int:
        """Samples after which the average is long enough."""
        return int(self._time * AVERAGING_RATIO)

    def update(self, residual: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T"]:
        """Process a block of the residual and return the noise variance after each sample.

        Parameters
        ----------
        residual : ndarray, shape (B, T)
            The recording without the tones; NaN is skipped.

        Returns
        -------
        ndarray, shape (B, T)
            Variance of white noise as strong as the noise in the sidebands.
        """
        before, n = self.state, residual.shape[1]
        if not n:
            return np.zeros(residual.shape)
        good = np.isfinite(residual)
        samples = np.where(good, residual, 0.0)
        first, after = int(before["age"]), {k: v.copy() for k, v in before.items()}
        pole = np.exp(-1 / self._time)
        power = np.zeros(residual.shape)
        for i, freq_cycles in enumerate(self._freq_cycles):
            cycles = ((first + np.arange(n)) % INDEX_MODULUS) * freq_cycles % 1
            shifted = samples * np.exp(-2j * np.pi * cycles)
            power += np.abs(_low_pass(shifted, pole, after["low"][i])) ** 2 / 2
        # Low-passes pass less while they fill, and where their input was mostly gaps.
        filled = _low_pass(good.astype(float), pole, after["good"]) * _filled(first, n, self._time)
        slow = np.exp(-1 / (AVERAGING_RATIO * self._time))
        mean, after["power"] = _one_pole(power / _bandwidth(pole), slow, after["power"])
        weight, after["weight"] = _one_pole(filled, slow, after["weight"])
        after["age"] = np.array(first + n, dtype=np.int64)
        self.state = after
        return mean / np.maximum(weight, 1e-12)


def _one_pole(values: np.ndarray, pole: float, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    output, state = scipy.signal.lfilter([1 - pole], [1, -pole], values, axis=1, zi=state)
    return np.asarray(output), np.asarray(state)


def _low_pass(values: np.ndarray, pole: float, state: np.ndarray) -> np.ndarray:
    """Equal one-poles in series; their state (O, B, 1) is updated in place."""
    for order in range(ORDER):
        values, state[order] = _one_pole(values, pole, state[order])
    return values


def _bandwidth(pole: float) -> float:
    """Power that the low-passes pass of white noise of variance 1: the sum of h^2."""
    square = pole * pole
    return float((1 - pole) * (1 + 4 * square + square**2) / (1 + pole) ** 5)


def _filled(first: int, n: int, time: float) -> Float[np.ndarray, " T"]:
    """Fraction of that power that they pass at an age: a gamma distribution function."""
    x = 2 * np.arange(first + 1, first + n + 1) / time
    return np.maximum(scipy.special.gammainc(2 * ORDER - 1, x), 1e-6)
