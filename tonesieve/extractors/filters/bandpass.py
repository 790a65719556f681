"""Band-passes: Butterworth, causal and zero-phase, and a mask on the spectrum.

SciPy does the filtering. What is ours is where the bands lie, how a record starts, and that a
steady tone comes out with its own amplitude and phase. Axes: B streams, T samples, K tones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy
from jaxtyping import Float

from tonesieve.extractors.filters.base import ToneFilter, check, fill_gaps, pad_with_tones

# Chosen, not tuned: default bandwidths over the tone's spacing.
CAUSAL_FRACTION, ZERO_PHASE_FRACTION, MASK_FRACTION = 0.45, 0.25, 0.2
# Guard: SciPy's sections lose precision at higher orders.
MAX_ORDER = 12

# The sections' state of every tone; then of every stream the first good sample and the last one,
# and of every tone the last output.
ButterworthState = tuple[list[np.ndarray], np.ndarray, np.ndarray, Float[np.ndarray, "B K"]]


@dataclass(frozen=True)
class _BandPass(ToneFilter):
    """Parameters and design of the Butterworth filters."""

    bandwidth_hz: float | None = None
    order: int = 2

    def __post_init__(self) -> None:
        width, most = self.bandwidth_hz, 2 * float(self.spacing_hz.min())
        right = f"must lie between 0 and {most:g} Hz, where the next tone or an end of the band is"
        check(width is None or 0 < width < most, "bandwidth_hz", width, right)
        check(1 <= self.order <= MAX_ORDER, "order", self.order, f"must be 1 to {MAX_ORDER}")

    def _edges(self, k: int, fraction: float) -> tuple[float, float]:
        """Edges whose geometric mean is the tone, where a band-pass has no phase shift."""
        f = self.frequencies_hz[k]
        width = self.bandwidth_hz or self.default_width_hz(k, fraction)
        low = float(np.hypot(f, width / 2) - width / 2)
        return low, low + width

    def _sections(self, k: int, fraction: float) -> np.ndarray:
        edges = self._edges(k, fraction)
        sections = scipy.signal.butter(self.order, edges, "bandpass", fs=self.rate_hz, output="sos")
        return np.asarray(sections)

    def _response(self, sections: np.ndarray, hz: float) -> complex:
        return complex(scipy.signal.sosfreqz(sections, worN=[hz], fs=self.rate_hz)[1][0])


@dataclass(frozen=True)
class Butterworth(_BandPass):
    """Causal Butterworth band-pass around every tone.

    Second-order sections; the response at the tone is divided out. The first sample of a record
    counts as its offset, so that an offset causes no step; a tone still takes the delay to build
    up. In a gap the last sample is held. The delay is the group delay at the slowest tone to
    settle.

    Parameters
    ----------
    frequencies_hz : tuple of float
        Nominal frequencies of the tones.
    rate_hz : float
        Sampling rate.
    gain : complex
        Amplitude and phase in the mixture of a tone of amplitude 1 (default 1).
    bandwidth_hz : float, optional
        From edge to edge, Hz. Default: 0.45 of the distance to the nearest tone, or to zero
        frequency, and no more than the rate over 200.
    order : int
        Of the low-pass prototype, 1 to 12 (default 2).

    References
    ----------
    Butterworth, On the theory of filter amplifiers, Wireless Engineer 7, 1930. Oppenheim and
    Schafer, Discrete-Time Signal Processing, 3rd edition, 2010, chapter 7.
    """

    @cached_property
    def _filters(self) -> list[tuple[np.ndarray, complex]]:
        """Sections, and what corrects their response to a steady tone."""
        sections = [self._sections(k, CAUSAL_FRACTION) for k in range(self.n_tones)]
        responses = [
            self._response(s, f) for s, f in zip(sections, self.frequencies_hz, strict=True)
        ]
        return [(s, 1 / (self.gain * h)) for s, h in zip(sections, responses, strict=True)]

    @cached_property
    def delay(self) -> int:
        """The longest group delay at a tone, samples."""
        steps_hz = 1e-4 * self.spacing_hz
        delays = [
            np.angle(self._response(s, f - d) / self._response(s, f + d))
            / (4 * np.pi * d)
            * self.rate_hz
            for (s, _), f, d in zip(self._filters, self.frequencies_hz, steps_hz, strict=True)
        ]
        return round(float(max(delays)))

    def initial_state(self, n_streams: int) -> ButterworthState:
        """Return empty sections, without a first sample."""
        sections = [np.zeros((len(s), n_streams, 2)) for s, _ in self._filters]
        unknown = np.full(n_streams, np.nan)
        return sections, unknown, unknown, np.zeros((n_streams, self.n_tones))

    def step(
        self, samples: Float[np.ndarray, "B T"], state: ButterworthState
    ) -> tuple[Float[np.ndarray, "B T K"], ButterworthState]:
        """Process a block of any length."""
        section_states, origin, last_sample, last_output = state
        if not samples.shape[1]:
            return np.zeros((*samples.shape, self.n_tones)), state
        samples, origin, last_sample = _hold_last(samples, origin, last_sample)
        outputs, new_states, new_last = [], [], []
        for k, (sections, correction) in enumerate(self._filters):
            output, section_state = scipy.signal.sosfilt(
                sections, samples, axis=1, zi=section_states[k]
            )
            new_states.append(section_state)
            previous = np.concatenate([last_output[:, k : k + 1], output], axis=1)
            new_last.append(previous[:, -1])
            # A tone's quadrature from its last two samples: exact for the tone itself.
            omega = 2 * np.pi * self.frequencies_hz[k] / self.rate_hz
            quadrature = (output * np.cos(omega) - previous[:, :-1]) / np.sin(omega)
            outputs.append(output * correction.real + quadrature * correction.imag)
        state = (new_states, origin, last_sample, np.stack(new_last, axis=1))
        return np.stack(outputs, axis=2), state


@dataclass(frozen=True)
class ZeroPhaseButterworth(_BandPass):
    """Butterworth band-pass run forward and backward over the whole record.

    The ends are extended (`pad_with_tones`), so that they do not ring. Gaps are interpolated
    linearly. No delay; needs the future.

    Parameters
    ----------
    frequencies_hz : tuple of float
        Nominal frequencies of the tones.
    rate_hz : float
        Sampling rate.
    gain : complex
        Amplitude and phase in the mixture of a tone of amplitude 1 (default 1).
    bandwidth_hz : float, optional
        From edge to edge, Hz. Default: a quarter of the distance to the nearest tone, or to zero
        frequency, and no more than the rate over 200.
    order : int
        Of the low-pass prototype of each pass, 1 to 12 (default 2).

    References
    ----------
    Gustafsson, Determining the initial states in forward-backward filtering, IEEE Transactions on
    Signal Processing 44, 1996.
    """

    @property
    def causal(self) -> bool:
        """False: it needs the whole record."""
        return False

    def extract(self, mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T K"]:
        """Estimate every tone at every sample from the whole record."""
        filled = fill_gaps(mixture)
        outputs = []
        for k, f in enumerate(self.frequencies_hz):
            sections = self._sections(k, ZERO_PHASE_FRACTION)
            # The filter rings for some periods of its bandwidth: extend the ends that far.
            low, high = self._edges(k, ZERO_PHASE_FRACTION)
            pad = min(4 * filled.shape[1], round(2 * self.rate_hz / (high - low)))
            padded = pad_with_tones(filled, self, pad)
            output = scipy.signal.sosfiltfilt(sections, padded, axis=1, padtype=None)
            output = output[:, pad : pad + filled.shape[1]]
            correction = 1 / (self.gain * abs(self._response(sections, f)) ** 2)
            outputs.append(_rotate(output, correction, f / self.rate_hz))
        return np.stack(outputs, axis=2)


@dataclass(frozen=True)
class FftMask(ToneFilter):
    """The spectrum of the whole record within ``width_hz`` of a tone, transformed back.

    A tone without a whole number of periods in the record leaks out of the mask, most at the
    ends. Gaps are interpolated linearly. No delay; needs the future.

    Parameters
    ----------
    frequencies_hz : tuple of float
        Nominal frequencies of the tones.
    rate_hz : float
        Sampling rate.
    gain : complex
        Amplitude and phase in the mixture of a tone of amplitude 1 (default 1).
    width_hz : float, optional
        From edge to edge, Hz, and at least three bins. Default: 0.2 of the distance to the nearest
        tone, or to zero frequency, and no more than the rate over 200.

    References
    ----------
    Oppenheim and Schafer, Discrete-Time Signal Processing, 3rd edition, 2010, chapter 8.
    """

    width_hz: float | None = None

    def __post_init__(self) -> None:
        check(self.width_hz is None or self.width_hz > 0, "width_hz", self.width_hz, "above 0")

    @property
    def causal(self) -> bool:
        """False: it needs the whole record."""
        return False

    def extract(self, mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T K"]:
        """Estimate every tone at every sample from the whole record."""
        n = mixture.shape[1]
        spectrum = np.fft.rfft(fill_gaps(mixture), axis=1)
        bins_hz = np.fft.rfftfreq(n, 1 / self.rate_hz)
        outputs = []
        for k, f in enumerate(self.frequencies_hz):
            width = self.width_hz or self.default_width_hz(k, MASK_FRACTION)
            mask = np.abs(bins_hz - f) <= max(width / 2, 1.5 * self.rate_hz / n)
            outputs.append(np.fft.irfft(spectrum * mask / self.gain, n, axis=1))
        return np.stack(outputs, axis=2)


def _hold_last(
    samples: Float[np.ndarray, "B T"],
    origin: Float[np.ndarray, " B"],
    last_sample: Float[np.ndarray, " B"],
) -> tuple[Float[np.ndarray, "B T"], Float[np.ndarray, " B"], Float[np.ndarray, " B"]]:
    """Samples less the stream's first one, gaps filled with the last; 0 before there is any."""
    inputs = np.concatenate([last_sample[:, None], samples], axis=1)
    good = np.isfinite(inputs)
    index = np.maximum.accumulate(np.where(good, np.arange(inputs.shape[1]), 0), axis=1)
    filled = np.take_along_axis(inputs, index, axis=1)
    start = np.take_along_axis(inputs, good.argmax(axis=1)[:, None], axis=1)[:, 0]
    origin = np.where(np.isfinite(origin), origin, start)
    return np.nan_to_num(filled[:, 1:] - origin[:, None]), origin, filled[:, -1]


def _rotate(
    output: Float[np.ndarray, "B T"], correction: complex, freq_cycles: float
) -> Float[np.ndarray, "B T"]:
    """A tone times a complex number, its quadrature from both neighbours of each sample."""
    if correction.imag == 0 or output.shape[1] < 2:
        return output * correction.real
    omega = 2 * np.pi * freq_cycles
    quadrature = np.empty_like(output)
    quadrature[:, 1:-1] = (output[:, 2:] - output[:, :-2]) / (2 * np.sin(omega))
    quadrature[:, 0] = (output[:, 1] - output[:, 0] * np.cos(omega)) / np.sin(omega)
    quadrature[:, -1] = (output[:, -1] * np.cos(omega) - output[:, -2]) / np.sin(omega)
    return output * correction.real + quadrature * correction.imag
