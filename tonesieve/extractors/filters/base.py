"""What all filters share: tones at nominal frequencies, defaults from their spacing, baselines.

Axes: B streams, T samples, K tones, D = 2 K coefficients.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Complex, Float, Int

from tonesieve.errors import UserError
from tonesieve.signals.signal_model import cycles_per_sample

# Tuned on lone tones far from everything, whose default bands were so wide that the filters lost to
# an estimate of 0. By default a filter averages over this many samples at least: white noise falls
# by 23 dB, however far the next tone is.
MIN_AVERAGED_SAMPLES = 200
# Chosen, not tuned: periods of the closest beat that the tones at a record's end are fitted over.
FIT_BEATS = 2
# Chosen, not tuned: singular values below this, over the largest, count as 0 in that fit.
FIT_RCOND = 1e-6
# Derived: samples between two anchors where phases are counted exactly. In between, rounding grows
# to 1e-12 cycles at most.
ANCHOR_SAMPLES = 4096
REFLECTED: Any = {"mode": "reflect", "reflect_type": "odd"}


@dataclass(frozen=True)
class ToneFilter:
    """Base of all classical extractors: tones at nominal frequencies in a mixture.

    Parameters
    ----------
    frequencies_hz : tuple of float
        Nominal frequencies of the K tones.
    rate_hz : float
        Sampling rate.
    gain : complex
        A tone of amplitude 1 and phase 0 has this amplitude and this phase in the mixture.
        1 (the default) for a recording whose tones are wanted as they are.
    """

    # Name of the class in saved streams; empty: the class's own.
    saved_name: ClassVar[str] = ""
    # Names of parameters in saved streams, where they have been renamed since.
    saved_parameters: ClassVar[dict[str, str]] = {}

    frequencies_hz: tuple[float, ...]
    rate_hz: float
    gain: complex = 1.0

    @property
    def identity(self) -> str:
        """Class and parameters as saved streams record them, whatever either is called today."""
        name = self.saved_name or type(self).__name__
        values = ", ".join(
            f"{self.saved_parameters.get(field.name, field.name)}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
        )
        return f"{name} {name}({values})"

    @property
    def n_tones(self) -> int:
        """Number of tones, K."""
        return len(self.frequencies_hz)

    @property
    def causal(self) -> bool:
        """Whether an estimate rests on no later sample than its own."""
        return True

    @property
    def delay(self) -> int | None:
        """Samples by which the estimate lags behind a change of the tone."""
        return 0

    def initial_state(self, n_streams: int) -> Any:
        """Return the state before the first sample; only of causal filters."""
        raise NotImplementedError

    def step(
        self, samples: Float[np.ndarray, "B T"], state: Any
    ) -> tuple[Float[np.ndarray, "B T K"], Any]:
        """Process a block of any length; only of causal filters."""
        raise NotImplementedError

    def extract(self, mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T K"]:
        """Estimate every tone at every sample, each stream from its start."""
        return self.step(mixture, self.initial_state(len(mixture)))[0]

    @property
    def spacing_hz(self) -> Float[np.ndarray, " K"]:
        """Distance of each tone from its neighbours, from zero and from half the rate."""
        f = np.array(self.frequencies_hz)
        distance = np.abs(f[:, None] - f) + np.where(np.eye(len(f)), np.inf, 0.0)
        return np.minimum(np.minimum(distance.min(axis=1), f), self.rate_hz / 2 - f)

    def default_width_hz(self, k: int, fraction: float) -> float:
        """Width of a band around a tone.

        Parameters
        ----------
        k : int
            Index of the tone.
        fraction : float
            Width over the tone's spacing.

        Returns
        -------
        float
            That width in Hz, and never more than the rate over `MIN_AVERAGED_SAMPLES`.
        """
        return min(fraction * float(self.spacing_hz[k]), self.rate_hz / MIN_AVERAGED_SAMPLES)

    def default_time_s(self, beats: float, fraction: float = 1.0) -> float:
        """Time that separates the closest tones.

        Parameters
        ----------
        beats : float
            Periods of the closest beat: the smallest spacing.
        fraction : float
            Lower bound, over the time of `MIN_AVERAGED_SAMPLES`.

        Returns
        -------
        float
            Seconds.
        """
        least = fraction * MIN_AVERAGED_SAMPLES / self.rate_hz
        return max(beats / float(self.spacing_hz.min()), least)

    def phase_cycles(self, first: int, n_samples: int) -> Float[np.ndarray, "T K"]:
        """Phase of every tone, modulo 1.

        Counted in whole multiples of a fraction, so that a stream of any age keeps its phase; and
        from anchors at fixed samples, so that no division into blocks changes a bit.

        Parameters
        ----------
        first : int
            Index of the first sample.
        n_samples : int
            Number of samples.

        Returns
        -------
        ndarray, shape (T, K)
            Cycles, in [0, 1).
        """
        steps = cycles_per_sample(self.frequencies_hz, self.rate_hz)
        index = np.arange(first, first + n_samples)
        last = first + max(n_samples, 1) - 1
        anchors = np.arange(first // ANCHOR_SAMPLES, last // ANCHOR_SAMPLES + 1)
        begin = np.array(
            [[float(int(m) * ANCHOR_SAMPLES * step % 1) for step in steps] for m in anchors]
        )
        within = (index % ANCHOR_SAMPLES)[:, None] * np.array([float(step) for step in steps])
        return (begin[index // ANCHOR_SAMPLES - anchors[0]] + within) % 1

    def phasors(self, first: int, n_samples: int) -> Complex[np.ndarray, "T K"]:
        """Unit phasor of every tone.

        Parameters
        ----------
        first : int
            Index of the first sample.
        n_samples : int
            Number of samples.

        Returns
        -------
        ndarray, shape (T, K)
            exp(2 pi i phase).
        """
        return np.exp(2j * np.pi * self.phase_cycles(first, n_samples))

    def design_matrix(self, first: int, n_samples: int) -> Float[np.ndarray, "T D"]:
        """Build the regressors of the mixture: what a coefficient of 1 adds to it.

        Parameters
        ----------
        first : int
            Index of the first sample.
        n_samples : int
            Number of samples.

        Returns
        -------
        ndarray, shape (T, D)
            Columns of the K sines, then of the K cosines, with the gain.
        """
        response = self.gain * self.phasors(first, n_samples)
        return np.concatenate([response.imag, response.real], axis=1)

    def output_matrix(self, indices: Int[np.ndarray, " T"]) -> Float[np.ndarray, "T K D"]:
        """Build the regressors of the tones themselves, without the gain.

        Parameters
        ----------
        indices : ndarray, shape (T,)
            Indices of samples.

        Returns
        -------
        ndarray, shape (T, K, D)
            What a coefficient of 1 adds to each tone.
        """
        first, last = (int(indices.min()), int(indices.max())) if len(indices) else (0, -1)
        carrier = self.phasors(first, last - first + 1)[indices - first]
        result = np.zeros((len(indices), self.n_tones, 2 * self.n_tones))
        k = np.arange(self.n_tones)
        result[:, k, k], result[:, k, self.n_tones + k] = carrier.imag, carrier.real
        return result


def check(condition: bool, name: str, value: object, right: str) -> None:
    """Refuse the value of a parameter in one line.

    Parameters
    ----------
    condition : bool
        Whether the value is right.
    name : str
        The parameter.
    value : object
        What was given.
    right : str
        What would be right.

    Raises
    ------
    UserError
        Where the condition does not hold.
    """
    if not condition:
        raise UserError(f"{name} {value}: {right}")


def fill_gaps(mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T"]:
    """Interpolate gaps linearly.

    Parameters
    ----------
    mixture : ndarray, shape (B, T)
        Samples; NaN in gaps.

    Returns
    -------
    ndarray, shape (B, T)
        Finite samples; a gap at an end holds the nearest sample, a stream of gaps alone is 0.
    """
    filled = np.zeros_like(mixture)
    index = np.arange(mixture.shape[1])
    for row, samples in zip(filled, mixture, strict=True):
        good = np.isfinite(samples)
        if good.any():
            row[:] = np.interp(index, index[good], samples[good])
    return filled


def pad_with_tones(
    filled: Float[np.ndarray, "B T"], tones: ToneFilter, pad: int
) -> Float[np.ndarray, "B T2"]:
    """Extend records at both ends, so that a filter does not ring there.

    The known tones, fitted to the nearest stretch that separates them, continue as they are. The
    residual is reflected about its end, so that neither an offset nor a slope breaks off.

    Parameters
    ----------
    filled : ndarray, shape (B, T)
        Records without gaps.
    tones : ToneFilter
        The known tones.
    pad : int
        Samples to add at each end.

    Returns
    -------
    ndarray, shape (B, T + 2 pad)
        The extended records.
    """
    n = filled.shape[1]
    span = min(n, round(FIT_BEATS * tones.rate_hz / tones.spacing_hz.min()))
    index = np.arange(-pad, n + pad)
    carrier = tones.phasors(-pad, n + 2 * pad)
    trend = np.stack([np.ones(len(index)), index / n], axis=1)
    design = np.concatenate([carrier.real, carrier.imag, trend], axis=1)
    ends = []
    for near in (slice(pad, pad + span), slice(pad + n - span, pad + n)):
        segment = filled[:, near.start - pad : near.stop - pad]
        fit = np.linalg.lstsq(design[near], segment.T, rcond=FIT_RCOND)[0][: 2 * tones.n_tones]
        ends.append((design[:, : 2 * tones.n_tones] @ fit).T)
    first, last = ends
    before = np.pad(filled - first[:, pad : pad + n], ((0, 0), (pad, 0)), **REFLECTED)
    after = np.pad(filled - last[:, pad : pad + n], ((0, 0), (0, pad)), **REFLECTED)
    head = before[:, :pad] + first[:, :pad]
    tail = after[:, n:] + last[:, pad + n :]
    return np.concatenate([head, filled, tail], axis=1)


@dataclass(frozen=True)
class ZeroBaseline(ToneFilter):
    """Estimates 0, the mean of every tone: what anything useful must beat.

    Parameters
    ----------
    frequencies_hz : tuple of float
        Nominal frequencies of the tones; only their number counts.
    rate_hz : float
        Sampling rate; ignored.
    gain : complex
        Ignored.
    """

    saved_name: ClassVar[str] = "MeanAnswer"

    def initial_state(self, n_streams: int) -> None:
        """Return None: there is no state."""
        return

    def step(
        self, samples: Float[np.ndarray, "B T"], state: None
    ) -> tuple[Float[np.ndarray, "B T K"], None]:
        """Return zeros."""
        return np.zeros((*samples.shape, self.n_tones)), None


@dataclass(frozen=True)
class RandomBaseline(ToneFilter):
    """Estimates drawn from U(-1, 1), whatever the samples are.

    Parameters
    ----------
    frequencies_hz : tuple of float
        Nominal frequencies of the tones; only their number counts.
    rate_hz : float
        Sampling rate; ignored.
    gain : complex
        Ignored.
    seed : int
        Of the draws (default 0).
    """

    saved_name: ClassVar[str] = "RandomAnswer"

    seed: int = 0

    def initial_state(self, n_streams: int) -> int:
        """Return the number of samples so far, 0."""
        return 0

    def step(
        self, samples: Float[np.ndarray, "B T"], state: int
    ) -> tuple[Float[np.ndarray, "B T K"], int]:
        """Draw sample by sample, so that no division into blocks changes a draw."""
        n_streams, n_samples = samples.shape
        bits = np.random.PCG64(self.seed).advance(state * n_streams * self.n_tones)
        shape = (n_samples, n_streams, self.n_tones)
        draws = np.random.Generator(bits).uniform(-1.0, 1.0, shape)
        return np.ascontiguousarray(draws.transpose(1, 0, 2)), state + n_samples


@dataclass(frozen=True)
class RegressionFilter(ToneFilter):
    """Base of the filters that estimate a sine and a cosine coefficient of every tone.

    Parameters
    ----------
    frequencies_hz : tuple of float
        Nominal frequencies of the tones.
    rate_hz : float
        Sampling rate.
    gain : complex
        Amplitude and phase in the mixture of a tone of amplitude 1 (default 1).
    """

    def _tones(
        self, coefficients: Float[np.ndarray, "B T D"], first: int
    ) -> Float[np.ndarray, "B T K"]:
        """The tones themselves, from their coefficients."""
        carrier = self.phasors(first, coefficients.shape[1])
        sines, cosines = coefficients[..., : self.n_tones], coefficients[..., self.n_tones :]
        return sines * carrier.imag + cosines * carrier.real
