"""At baseband: a tone is shifted to zero frequency, where it is slow, and low-passed.

Axes: B streams, T samples, K tones, O low-passes in series, R rings of frequencies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy
from jaxtyping import Complex, Float

from tonesieve.extractors.filters.base import ToneFilter, check, fill_gaps, pad_with_tones

# Chosen, not tuned: the default time constant in periods of the closest beat, and its lower bound
# over the time of 200 samples.
TIME_BEATS, TIME_FRACTION = 0.3, 0.3
# Guard: a low-pass's output is divided by no smaller weight, since its first samples do not
# separate the tone from its neighbours.
MIN_WEIGHT = 0.3
# Guard: the same of the Wiener filter, at gaps and ends.
MIN_WIENER_WEIGHT = 0.25
# Guard: an order beyond this is no lock-in that anybody uses.
MAX_ORDER = 12
# Chosen, not tuned: the Wiener filter extends the ends by this many periods of the spacing.
PAD_BEATS = 6

# Low-pass state of the tone and of the weight, and the samples so far.
LockInState = tuple[Complex[np.ndarray, "O B K"], Complex[np.ndarray, "O B 1"], int]


@dataclass(frozen=True)
class LockIn(ToneFilter):
    """Lock-in amplifier: the shifted tone through ``order`` equal one-pole low-passes.

    The output is divided by the response to a weight that is 1 on samples and 0 in gaps, so that
    a record has no long ramp at its start and none after a gap; but by no less than `MIN_WEIGHT`.
    Gaps are left out. The delay is ``order`` time constants. An offset acts as one more tone, at
    zero frequency: subtract it first.

    Parameters
    ----------
    frequencies_hz : tuple of float
        Nominal frequencies of the tones.
    rate_hz : float
        Sampling rate.
    gain : complex
        Amplitude and phase in the mixture of a tone of amplitude 1 (default 1).
    time_s : float, optional
        Time constant of each low-pass, s. Default: 0.3 of a period of the closest beat, or 60
        samples where that is longer.
    order : int
        Number of low-passes, 1 to 12 (default 3).

    References
    ----------
    Meade, Lock-in Amplifiers: Principles and Applications, 1983.
    """

    time_s: float | None = None
    order: int = 3

    def __post_init__(self) -> None:
        check(self.time_s is None or self.time_s > 0, "time_s", self.time_s, "above 0")
        check(1 <= self.order <= MAX_ORDER, "order", self.order, f"must be 1 to {MAX_ORDER}")

    @property
    def time_samples(self) -> float:
        """Time constant of one low-pass, samples."""
        time_s = self.time_s or self.default_time_s(TIME_BEATS, TIME_FRACTION)
        return float(time_s * self.rate_hz)

    @property
    def delay(self) -> int:
        """Group delay of the low-passes, samples."""
        return round(self.order * self.time_samples)

    def initial_state(self, n_streams: int) -> LockInState:
        """Return empty low-passes."""
        shape = (self.order, n_streams)
        return np.zeros((*shape, self.n_tones), complex), np.zeros((*shape, 1), complex), 0

    def step(
        self, samples: Float[np.ndarray, "B T"], state: LockInState
    ) -> tuple[Float[np.ndarray, "B T K"], LockInState]:
        """Process a block of any length."""
        tone_state, weight_state, age = state
        good = np.isfinite(samples)[..., None]
        carrier = self.phasors(age, samples.shape[1])
        shifted = np.where(good, 2 / self.gain * samples[..., None] * carrier.conj(), 0)
        tone, tone_state = self._low_pass(shifted, tone_state)
        weight, weight_state = self._low_pass(good.astype(complex), weight_state)
        phasor = tone / np.maximum(weight.real, MIN_WEIGHT)
        state = (tone_state, weight_state, age + samples.shape[1])
        return (phasor * carrier).real, state

    def _low_pass(
        self, signals: Complex[np.ndarray, "B T N"], state: Complex[np.ndarray, "O B N"]
    ) -> tuple[Complex[np.ndarray, "B T N"], Complex[np.ndarray, "O B N"]]:
        pole = np.exp(-1 / self.time_samples)
        after = np.empty_like(state)
        for i in range(self.order if signals.shape[1] else 0):
            signals, final = scipy.signal.lfilter(
                [1 - pole], [1, -pole], signals, axis=1, zi=state[i][:, None]
            )
            after[i] = final[:, 0]
        return signals, after if signals.shape[1] else state


@dataclass(frozen=True)
class AdaptiveWiener(ToneFilter):
    """Wiener filter at baseband that estimates its own bandwidth; it has no parameters.

    The noise floor is measured in the sidebands, from a quarter of the distance to the next tone
    outwards, as the geometric mean of both sides, which is exact for a power law. Rings of
    frequencies around the tone, each twice as wide as the last, get the Wiener gain
    1 - floor / power. At gaps and ends the output is divided by the fraction of the filter that
    lies on samples. No delay; needs the future.

    Parameters
    ----------
    frequencies_hz : tuple of float
        Nominal frequencies of the tones.
    rate_hz : float
        Sampling rate.
    gain : complex
        Amplitude and phase in the mixture of a tone of amplitude 1 (default 1).

    References
    ----------
    Wiener, Extrapolation, Interpolation, and Smoothing of Stationary Time Series, 1949. Kay,
    Fundamentals of Statistical Signal Processing: Estimation Theory, 1993, section 12.7.
    """

    @property
    def causal(self) -> bool:
        """False: it needs the whole record."""
        return False

    def extract(self, mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T K"]:
        """Estimate every tone at every sample from the whole record."""
        n = mixture.shape[1]
        filled, is_observed = fill_gaps(mixture), np.isfinite(mixture)
        estimate = np.empty((*mixture.shape, self.n_tones))
        for k in range(self.n_tones):
            pad = min(4 * n, round(PAD_BEATS * self.rate_hz / self.spacing_hz[k]))
            carrier = self.phasors(-pad, n + 2 * pad)[:, k]
            good = np.pad(is_observed, ((0, 0), (pad, pad)), constant_values=True)
            band = self._pass_band(pad_with_tones(filled, self, pad), k)
            shifted = 2 / self.gain * band * carrier.conj()
            for b, phasor in enumerate(shifted):
                smoothed = self._smooth(phasor, good[b], float(self.spacing_hz[k]))
                estimate[b, :, k] = (smoothed * carrier).real[pad : pad + n]
        return estimate

    def _pass_band(self, padded: Float[np.ndarray, "B T"], k: int) -> Float[np.ndarray, "B T"]:
        """Without what is strong and far away, which would leak in at the ends of the record."""
        f, spacing = self.frequencies_hz[k], float(self.spacing_hz[k])
        low = float(np.hypot(f, spacing / 2) - spacing / 2)
        edges = (low, low + spacing)
        sections = scipy.signal.butter(2, edges, "bandpass", fs=self.rate_hz, output="sos")
        gain = abs(scipy.signal.sosfreqz(sections, worN=[f], fs=self.rate_hz)[1][0]) ** 2
        return np.asarray(scipy.signal.sosfiltfilt(sections, padded, axis=1, padtype=None) / gain)

    def _smooth(
        self, phasor: Complex[np.ndarray, " T"], good: np.ndarray, spacing_hz: float
    ) -> Complex[np.ndarray, " T"]:
        n = len(phasor)
        gains = _ring_gains(
            phasor * scipy.signal.get_window("hann", n), spacing_hz * n / self.rate_hz / 2
        )
        # Twice the length, so that circular convolution does not wrap one end to the other.
        size = 2 * n
        distance = np.abs(np.fft.fftfreq(size, 1 / n))
        low_pass = np.interp(np.log2(1 + distance), *gains, right=0.0)
        weight = np.fft.ifft(np.fft.fft(good, size) * low_pass)[:n].real
        smoothed = np.fft.ifft(np.fft.fft(np.where(good, phasor, 0), size) * low_pass)[:n]
        return smoothed / np.maximum(weight, MIN_WIENER_WEIGHT)


def _ring_gains(
    tapered: Complex[np.ndarray, " T"], spacing_bins: float
) -> tuple[Float[np.ndarray, " R"], Float[np.ndarray, " R"]]:
    """Wiener gain of rings around zero frequency, by log2(1 + bins from the middle).

    ``spacing_bins``: half the tone's spacing, in bins. The innermost ring holds the main lobe of
    the Hann window, two bins to each side.
    """
    power = np.abs(np.fft.fft(tapered)) ** 2
    last = max(2, min(int(spacing_bins), len(power) // 2 - 1))
    right, left = power[1 : last + 1], power[-1 : -last - 1 : -1]
    floor = _floor(left, right, max(2, last // 4))
    edges = [0, 2]
    while edges[-1] < last:
        edges.append(min(last, 2 * edges[-1]))
    positions: list[float] = []
    gains: list[float] = []
    for inner, outer in pairwise(edges):
        ring = np.concatenate(
            [left[inner:outer], right[inner:outer], power[: 1 if not inner else 0]]
        )
        # The mean of n exponential powers scatters by 1/sqrt(n): only what is two standard errors
        # above the floor counts as signal.
        threshold = floor * (1 + 2 / np.sqrt(len(ring))) if inner else floor
        gain = max(0.0, 1 - threshold / ring.mean()) if ring.mean() > 0 else 0.0
        gains.append(min([float(gain), *gains]))
        positions.append(math.log2(1 + (inner + outer) / 2))
    positions.append(math.log2(1 + last))
    return np.array([0.0, *positions]), np.array([gains[0], *gains, 0.0])


def _floor(left: Float[np.ndarray, " S"], right: Float[np.ndarray, " S"], inner: int) -> float:
    """Mean noise power in a bin at the middle: the geometric mean of both sidebands' medians."""
    sides = [side[inner:] for side in (left, right)]
    if not len(sides[0]):
        return 0.0  # the record is too short to show any sideband
    return float(np.sqrt(np.prod([np.median(side) / np.log(2) for side in sides])))
