"""At baseband: the tone is shifted to zero frequency, where it is slow, and kept by a low-pass.

Axes: B streams, T samples, K tones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy
from jaxtyping import Complex, Float

from tonesieve.extractors.filters.base import ToneFilter, check, fill_gaps, pad_with_tones

# The least share of a low-pass's weight that its answer is scaled up from.
HEARD = 0.3

# Low-pass memory of the tone and of the weight (order, B, K), and the samples so far.
LockInState = tuple[Complex[np.ndarray, "O B K"], Complex[np.ndarray, "O B 1"], int]


@dataclass(frozen=True)
class LockIn(ToneFilter):
    """Lock-in amplifier: the shifted tone through ``order`` equal one-pole low-passes.

    Knobs: ``time_s``, the time constant of each (default: 0.3 of a period of the closest beat, or
    60 samples where that is longer), and ``order``. What the low-pass has heard is divided by how
    much of it has been heard, so that a record has no long ramp at its start and a gap none after
    it; but not by less than `HEARD`, for the first samples do not tell the tone from its
    neighbours. Lag: ``order`` time constants.
    An offset counts as one more tone, at zero frequency: take it off first.
    """

    time_s: float | None = None
    order: int = 3

    def __post_init__(self) -> None:
        check(self.time_s is None or self.time_s > 0, "time_s", self.time_s, "above 0")
        check(1 <= self.order <= 12, "order", self.order, "must be 1 to 12")

    @property
    def time_samples(self) -> float:
        """Time constant of one low-pass, in samples."""
        time_s = self.time_s or self.default_time_s(0.3, 0.3)
        return float(time_s * self.rate_hz)

    @property
    def delay(self) -> int:
        """Group delay of the low-passes."""
        return round(self.order * self.time_samples)

    def initial_state(self, n_streams: int) -> LockInState:
        """Nothing heard."""
        shape = (self.order, n_streams)
        return np.zeros((*shape, self.n_tones), complex), np.zeros((*shape, 1), complex), 0

    def step(
        self, samples: Float[np.ndarray, "B T"], state: LockInState
    ) -> tuple[Float[np.ndarray, "B T K"], LockInState]:
        """Answer a chunk of any length."""
        tone_memory, weight_memory, age = state
        good = np.isfinite(samples)[..., None]
        clean = self.phasors(age, samples.shape[1])
        shifted = np.where(good, 2 / self.gain * samples[..., None] * clean.conj(), 0)
        tone, tone_memory = self._low_pass(shifted, tone_memory)
        weight, weight_memory = self._low_pass(good.astype(complex), weight_memory)
        level = tone / np.maximum(weight.real, HEARD)
        state = (tone_memory, weight_memory, age + samples.shape[1])
        return (level * clean).real, state

    def _low_pass(
        self, signals: Complex[np.ndarray, "B T N"], memory: Complex[np.ndarray, "O B N"]
    ) -> tuple[Complex[np.ndarray, "B T N"], Complex[np.ndarray, "O B N"]]:
        pole = np.exp(-1 / self.time_samples)
        after = np.empty_like(memory)
        for i in range(self.order if signals.shape[1] else 0):
            signals, kept = scipy.signal.lfilter(
                [1 - pole], [1, -pole], signals, axis=1, zi=memory[i][:, None]
            )
            after[i] = kept[:, 0]
        return signals, after if signals.shape[1] else memory


@dataclass(frozen=True)
class AdaptiveWiener(ToneFilter):
    """Wiener filter at baseband that finds its bandwidth itself: no knobs.

    The noise floor is read off the sidebands, between a quarter of the way to the next tone and
    the whole way, and carried under the tone along a power law. Rings of frequencies around the
    tone, each twice as wide as the last, are kept as far as their power stands above that floor:
    gain = 1 - floor / power. Gaps and ends count by the share of the filter that lies on samples.
    No lag; needs the future.
    """

    @property
    def causal(self) -> bool:
        """It needs the whole record."""
        return False

    def extract(self, mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T K"]:
        """Estimate of every tone at every sample from the whole record."""
        n = mixture.shape[1]
        filled, heard = fill_gaps(mixture), np.isfinite(mixture)
        estimate = np.empty((*mixture.shape, self.n_tones))
        for k in range(self.n_tones):
            reach = min(4 * n, round(6 * self.rate_hz / self.spacing_hz[k]))
            clean = self.phasors(-reach, n + 2 * reach)[:, k]
            good = np.pad(heard, ((0, 0), (reach, reach)), constant_values=True)
            passed = self._pass_band(pad_with_tones(filled, self, reach), k)
            shifted = 2 / self.gain * passed * clean.conj()
            for b, level in enumerate(shifted):
                kept = self._keep(level, good[b], float(self.spacing_hz[k]))
                estimate[b, :, k] = (kept * clean).real[reach : reach + n]
        return estimate

    def _pass_band(self, longer: Float[np.ndarray, "B T"], k: int) -> Float[np.ndarray, "B T"]:
        """Without what is strong and far away, which would leak in at the ends of the record."""
        f, room = self.frequencies_hz[k], float(self.spacing_hz[k])
        low = float(np.hypot(f, room / 2) - room / 2)
        edges = (low, low + room)
        sections = scipy.signal.butter(2, edges, "bandpass", fs=self.rate_hz, output="sos")
        gain = abs(scipy.signal.sosfreqz(sections, worN=[f], fs=self.rate_hz)[1][0]) ** 2
        return np.asarray(scipy.signal.sosfiltfilt(sections, longer, axis=1, padtype=None) / gain)

    def _keep(
        self, level: Complex[np.ndarray, " T"], good: np.ndarray, spacing_hz: float
    ) -> Complex[np.ndarray, " T"]:
        n = len(level)
        gains = _ring_gains(
            level * scipy.signal.get_window("hann", n), spacing_hz * n / self.rate_hz / 2
        )
        # Twice the length, so that no end reaches round to the other.
        size = 2 * n
        distance = np.abs(np.fft.fftfreq(size, 1 / n))
        low_pass = np.interp(np.log2(1 + distance), *gains, right=0.0)
        weight = np.fft.ifft(np.fft.fft(good, size) * low_pass)[:n].real
        kept = np.fft.ifft(np.fft.fft(np.where(good, level, 0), size) * low_pass)[:n]
        return kept / np.maximum(weight, 0.25)


def _ring_gains(
    tapered: Complex[np.ndarray, " T"], reach: float
) -> tuple[Float[np.ndarray, " R"], Float[np.ndarray, " R"]]:
    """Wiener gain of rings around zero frequency, by log2(1 + bins from the middle).

    ``reach`` is how many bins the tone has to itself. The innermost ring holds the main lobe of
    the Hann window, two bins to each side.
    """
    power = np.abs(np.fft.fft(tapered)) ** 2
    last = max(2, min(int(reach), len(power) // 2 - 1))
    right, left = power[1 : last + 1], power[-1 : -last - 1 : -1]
    floor = _floor(left, right, max(2, last // 4))
    edges = [0, 2]
    while edges[-1] < last:
        edges.append(min(last, 2 * edges[-1]))
    places: list[float] = []
    gains: list[float] = []
    for inner, outer in pairwise(edges):
        ring = np.concatenate(
            [left[inner:outer], right[inner:outer], power[: 1 if not inner else 0]]
        )
        # A mean of n exponential powers strays by 1/sqrt(n): only what is above that stands out.
        below = floor * (1 + 2 / np.sqrt(len(ring))) if inner else floor
        gain = max(0.0, 1 - below / ring.mean()) if ring.mean() > 0 else 0.0
        gains.append(min([float(gain), *gains]))
        places.append(math.log2(1 + (inner + outer) / 2))
    places.append(math.log2(1 + last))
    return np.array([0.0, *places]), np.array([gains[0], *gains, 0.0])


def _floor(left: Float[np.ndarray, " S"], right: Float[np.ndarray, " S"], inner: int) -> float:
    """Mean noise power in a bin at the middle: the geometric mean of both sidebands' medians."""
    sides = [side[inner:] for side in (left, right)]
    if not len(sides[0]):
        return 0.0  # the record is too short to show any sideband
    return float(np.sqrt(np.prod([np.median(side) / np.log(2) for side in sides])))
