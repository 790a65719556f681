"""Band-passes: Butterworth with and without the future, and a mask on the spectrum.

SciPy does the filtering; what is ours is where the bands lie, how a record starts, and that a
steady tone comes out with its own amplitude and phase. Axes: B streams, T samples, K tones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy
from jaxtyping import Float

from tonesieve.extractors.filters.base import ToneFilter, check, fill_gaps, pad_with_tones

# Of every tone the sections' memory; then, of every stream, the first good sample and the last
# one, and of every tone the last output.
ButterworthState = tuple[list[np.ndarray], np.ndarray, np.ndarray, Float[np.ndarray, "B K"]]


@dataclass(frozen=True)
class _BandPass(ToneFilter):
    """Knobs: ``bandwidth_hz``, from edge to edge; ``order`` of the low-pass it is made from.

    No default band is wider than the rate over `AVERAGED`.
    """

    bandwidth_hz: float | None = None
    order: int = 2

    def __post_init__(self) -> None:
        width, most = self.bandwidth_hz, 2 * float(self.spacing_hz.min())
        right = f"must lie between 0 and {most:g} Hz, where the next tone or an end of the band is"
        check(width is None or 0 < width < most, "bandwidth_hz", width, right)
        check(1 <= self.order <= 12, "order", self.order, "must be 1 to 12")

    def _edges(self, k: int, share: float) -> tuple[float, float]:
        """Edges whose geometric mean is the tone, where a band-pass turns no phase."""
        f = self.frequencies_hz[k]
        width = self.bandwidth_hz or self.default_width_hz(k, share)
        low = float(np.hypot(f, width / 2) - width / 2)
        return low, low + width

    def _sections(self, k: int, share: float) -> np.ndarray:
        edges = self._edges(k, share)
        sections = scipy.signal.butter(self.order, edges, "bandpass", fs=self.rate_hz, output="sos")
        return np.asarray(sections)

    def _response(self, sections: np.ndarray, k: int) -> complex:
        tone = [self.frequencies_hz[k]]
        return complex(scipy.signal.sosfreqz(sections, worN=tone, fs=self.rate_hz)[1][0])


@dataclass(frozen=True)
class Butterworth(_BandPass):
    """Causal Butterworth band-pass around every tone.

    Knobs: ``bandwidth_hz`` (default: 0.45 of the distance to the nearest neighbour, or to zero
    frequency) and ``order``. A record's first sample is taken for its level, so that an offset
    causes no step; a tone still needs the delay to build up. Gaps: the last sample is held. Lag:
    the group delay at the slowest tone to come.
    """

    @cached_property
    def _filters(self) -> list[tuple[np.ndarray, complex]]:
        """Sections, and what turns their answer to a steady tone into the tone."""
        sections = [self._sections(k, 0.45) for k in range(self.n_tones)]
        return [(s, 1 / (self.gain * self._response(s, k))) for k, s in enumerate(sections)]

    @cached_property
    def delay(self) -> int:
        """The longest group delay at a tone."""
        around = 1e-4 * self.spacing_hz
        delays = [
            np.angle(self._at(s, f - d) / self._at(s, f + d)) / (4 * np.pi * d) * self.rate_hz
            for (s, _), f, d in zip(self._filters, self.frequencies_hz, around, strict=True)
        ]
        return round(float(max(delays)))

    def _at(self, sections: np.ndarray, hz: float) -> complex:
        return complex(scipy.signal.sosfreqz(sections, worN=[hz], fs=self.rate_hz)[1][0])

    def initial_state(self, n_streams: int) -> ButterworthState:
        """Empty sections; no sample yet."""
        sections = [np.zeros((len(s), n_streams, 2)) for s, _ in self._filters]
        unheard = np.full(n_streams, np.nan)
        return sections, unheard, unheard, np.zeros((n_streams, self.n_tones))

    def step(
        self, samples: Float[np.ndarray, "B T"], state: ButterworthState
    ) -> tuple[Float[np.ndarray, "B T K"], ButterworthState]:
        """Answer a chunk of any length."""
        memory, first, held, before = state
        if not samples.shape[1]:
            return np.zeros((*samples.shape, self.n_tones)), state
        samples, first, held = _hold_last(samples, first, held)
        outputs, after, last = [], [], []
        for k, (sections, correction) in enumerate(self._filters):
            output, kept = scipy.signal.sosfilt(sections, samples, axis=1, zi=memory[k])
            after.append(kept)
            previous = np.concatenate([before[:, k : k + 1], output], axis=1)
            last.append(previous[:, -1])
            # A tone's quadrature from its last two samples: exact for the tone itself.
            angle = 2 * np.pi * self.frequencies_hz[k] / self.rate_hz
            quadrature = (output * np.cos(angle) - previous[:, :-1]) / np.sin(angle)
            outputs.append(output * correction.real + quadrature * correction.imag)
        return np.stack(outputs, axis=2), (after, first, held, np.stack(last, axis=1))


@dataclass(frozen=True)
class ZeroPhaseButterworth(_BandPass):
    """Butterworth band-pass run forwards and backwards over the whole record.

    Knobs: ``bandwidth_hz`` (default: a quarter of the distance to the nearest neighbour, or to
    zero frequency) and ``order`` of each pass. The ends are continued (`pad_with_tones`), so that they do
    not ring. Gaps: bridged by straight lines. No lag; needs the future.
    """

    @property
    def causal(self) -> bool:
        """It needs the whole record."""
        return False

    def extract(self, mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T K"]:
        """Estimate of every tone at every sample from the whole record."""
        filled = fill_gaps(mixture)
        outputs = []
        for k, f in enumerate(self.frequencies_hz):
            sections = self._sections(k, 0.25)
            # The filter rings for some periods of its bandwidth: continue the ends that far.
            low, high = self._edges(k, 0.25)
            reach = min(4 * filled.shape[1], round(2 * self.rate_hz / (high - low)))
            longer = pad_with_tones(filled, self, reach)
            output = scipy.signal.sosfiltfilt(sections, longer, axis=1, padtype=None)
            output = output[:, reach : reach + filled.shape[1]]
            correction = 1 / (self.gain * abs(self._response(sections, k)) ** 2)
            outputs.append(_rotate(output, correction, f / self.rate_hz))
        return np.stack(outputs, axis=2)


@dataclass(frozen=True)
class FftMask(ToneFilter):
    """What lies within ``width_hz`` of a tone in the spectrum of the whole record.

    Knob: ``width_hz``, from edge to edge (default: 0.2 of the distance to the nearest neighbour,
    or to zero frequency, and at least three bins). A tone that does not fit the record a whole
    number of times leaks out of the mask, most at the ends. Gaps: bridged by straight lines. No
    lag; needs the future.
    """

    width_hz: float | None = None

    def __post_init__(self) -> None:
        check(self.width_hz is None or self.width_hz > 0, "width_hz", self.width_hz, "above 0")

    @property
    def causal(self) -> bool:
        """It needs the whole record."""
        return False

    def extract(self, mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T K"]:
        """Estimate of every tone at every sample from the whole record."""
        n = mixture.shape[1]
        spectrum = np.fft.rfft(fill_gaps(mixture), axis=1)
        bins = np.fft.rfftfreq(n, 1 / self.rate_hz)
        outputs = []
        for k, f in enumerate(self.frequencies_hz):
            width = self.width_hz or self.default_width_hz(k, 0.2)
            kept = np.abs(bins - f) <= max(width / 2, 1.5 * self.rate_hz / n)
            outputs.append(np.fft.irfft(spectrum * kept / self.gain, n, axis=1))
        return np.stack(outputs, axis=2)


def _hold_last(
    samples: Float[np.ndarray, "B T"], first: Float[np.ndarray, " B"], held: Float[np.ndarray, " B"]
) -> tuple[Float[np.ndarray, "B T"], Float[np.ndarray, " B"], Float[np.ndarray, " B"]]:
    """Samples over the stream's first one, gaps filled with the last; 0 before there is any."""
    whole = np.concatenate([held[:, None], samples], axis=1)
    good = np.isfinite(whole)
    place = np.maximum.accumulate(np.where(good, np.arange(whole.shape[1]), 0), axis=1)
    filled = np.take_along_axis(whole, place, axis=1)
    start = np.take_along_axis(whole, good.argmax(axis=1)[:, None], axis=1)[:, 0]
    first = np.where(np.isfinite(first), first, start)
    return np.nan_to_num(filled[:, 1:] - first[:, None]), first, filled[:, -1]


def _rotate(
    output: Float[np.ndarray, "B T"], correction: complex, turn: float
) -> Float[np.ndarray, "B T"]:
    """A tone times a complex number, its quadrature from both neighbours of each sample."""
    if correction.imag == 0 or output.shape[1] < 2:
        return output * correction.real
    angle = 2 * np.pi * turn
    quadrature = np.empty_like(output)
    quadrature[:, 1:-1] = (output[:, 2:] - output[:, :-2]) / (2 * np.sin(angle))
    quadrature[:, 0] = (output[:, 1] - output[:, 0] * np.cos(angle)) / np.sin(angle)
    quadrature[:, -1] = (output[:, -1] * np.cos(angle) - output[:, -2]) / np.sin(angle)
    return output * correction.real + quadrature * correction.imag
