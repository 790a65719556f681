"""What all classical extractors share: the tones that they are told, and the trivial answers.

Axes: B streams, T samples, K components.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Complex, Float, Int

from tonesieve.errors import UserError
from tonesieve.signals.synthesis import turns_per_sample

# Unless told otherwise a filter averages over this many samples at least: white noise falls by
# 23 dB, however far the next tone is.
AVERAGED = 200
# Periods of the closest beat that the tones at a record's end are fitted over.
FIT_BEATS = 2
# Samples between two places where phases are counted exactly.
MARK = 4096
REFLECTED: Any = {"mode": "reflect", "reflect_type": "odd"}


@dataclass(frozen=True)
class ToneFilter:
    """Tones at known frequencies; ``gain`` is how a tone of amplitude 1 stands in the mixture.

    Its angle is a phase by which the tones in the mixture lead (rad); 1 for a recording whose
    tones are wanted as they are.
    """

    frequencies_hz: tuple[float, ...]
    rate_hz: float
    gain: complex = 1.0

    @property
    def n_tones(self) -> int:
        """K."""
        return len(self.frequencies_hz)

    @property
    def causal(self) -> bool:
        """Whether it needs no later sample."""
        return True

    @property
    def delay(self) -> int | None:
        """Samples by which the estimate lags behind a change of the tone."""
        return 0

    def initial_state(self, n_streams: int) -> Any:
        """State of streams that have heard nothing; only of causal ones."""
        raise NotImplementedError

    def step(
        self, samples: Float[np.ndarray, "B T"], state: Any
    ) -> tuple[Float[np.ndarray, "B T K"], Any]:
        """Answer a chunk of any length; only of causal ones."""
        raise NotImplementedError

    def extract(self, mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T K"]:
        """Estimate of every tone at every sample, each stream from its start."""
        return self.step(mixture, self.initial_state(len(mixture)))[0]

    @property
    def spacing_hz(self) -> Float[np.ndarray, " K"]:
        """How far each tone stands from whatever else is known to be there.

        From its neighbours, from zero frequency and from half the rate.
        """
        f = np.array(self.frequencies_hz)
        apart = np.abs(f[:, None] - f) + np.where(np.eye(len(f)), np.inf, 0.0)
        return np.minimum(np.minimum(apart.min(axis=1), f), self.rate_hz / 2 - f)

    def default_width_hz(self, k: int, share: float) -> float:
        """A band around a tone: this share of its room, and no wider than noise allows."""
        return min(share * float(self.spacing_hz[k]), self.rate_hz / AVERAGED)

    def default_time_s(self, beats: float, share: float = 1.0) -> float:
        """So many periods of the closest beat, and no shorter than noise allows."""
        return max(beats / float(self.spacing_hz.min()), share * AVERAGED / self.rate_hz)

    def phase_cycles(self, first: int, n_samples: int) -> Float[np.ndarray, "T K"]:
        """Cycles of every tone at samples ``first`` and after, modulo 1.

        Counted in whole multiples of a fraction, so that a stream of any age keeps its phase; from
        marks that lie where they lie whatever is asked for, so that no chunking changes a bit.
        """
        steps = turns_per_sample(self.frequencies_hz, self.rate_hz)
        at = np.arange(first, first + n_samples)
        marks = np.arange(first // MARK, (first + max(n_samples, 1) - 1) // MARK + 1)
        begin = np.array([[float(int(m) * MARK * step % 1) for step in steps] for m in marks])
        within = (at % MARK)[:, None] * np.array([float(step) for step in steps])
        return (begin[at // MARK - marks[0]] + within) % 1

    def phasors(self, first: int, n_samples: int) -> Complex[np.ndarray, "T K"]:
        """Every tone's unit phasor at samples ``first`` and after."""
        return np.exp(2j * np.pi * self.phase_cycles(first, n_samples))

    def design_matrix(self, first: int, n_samples: int) -> Float[np.ndarray, "T D"]:
        """What each of the D = 2 K coefficients gives in the mixture: sines, then cosines."""
        standing = self.gain * self.phasors(first, n_samples)
        return np.concatenate([standing.imag, standing.real], axis=1)

    def output_matrix(self, at: Int[np.ndarray, " T"]) -> Float[np.ndarray, "T K D"]:
        """What each coefficient gives in every tone at these samples."""
        first, last = (int(at.min()), int(at.max())) if len(at) else (0, -1)
        clean = self.phasors(first, last - first + 1)[at - first]
        result = np.zeros((len(at), self.n_tones, 2 * self.n_tones))
        own = np.arange(self.n_tones)
        result[:, own, own], result[:, own, self.n_tones + own] = clean.imag, clean.real
        return result


def check(condition: bool, name: str, value: object, right: str) -> None:
    """Refuse a knob with one line."""
    if not condition:
        raise UserError(f"{name} {value}: {right}")


def fill_gaps(mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T"]:
    """Gaps bridged by straight lines; a stream of gaps alone is 0."""
    filled = np.zeros_like(mixture)
    place = np.arange(mixture.shape[1])
    for row, samples in zip(filled, mixture, strict=True):
        good = np.isfinite(samples)
        if good.any():
            row[:] = np.interp(place, place[good], samples[good])
    return filled


def pad_with_tones(
    filled: Float[np.ndarray, "B T"], tones: ToneFilter, reach: int
) -> Float[np.ndarray, "B T2"]:
    """Records continued by ``reach`` samples at both ends.

    The known tones, fitted to the nearest stretch that tells them apart, go on as they are; the
    rest is reflected about its end, so that neither an offset nor a slope breaks off.
    """
    n = filled.shape[1]
    span = min(n, round(FIT_BEATS * tones.rate_hz / tones.spacing_hz.min()))
    place = np.arange(-reach, n + reach)
    clean = tones.phasors(-reach, n + 2 * reach)
    trend = np.stack([np.ones(len(place)), place / n], axis=1)
    rows = np.concatenate([clean.real, clean.imag, trend], axis=1)
    ends = []
    for near in (slice(reach, reach + span), slice(reach + n - span, reach + n)):
        stretch = filled[:, near.start - reach : near.stop - reach]
        fit = np.linalg.lstsq(rows[near], stretch.T, rcond=1e-6)[0][: 2 * tones.n_tones]
        ends.append((rows[:, : 2 * tones.n_tones] @ fit).T)
    first, last = ends
    before = np.pad(filled - first[:, reach : reach + n], ((0, 0), (reach, 0)), **REFLECTED)
    after = np.pad(filled - last[:, reach : reach + n], ((0, 0), (0, reach)), **REFLECTED)
    head = before[:, :reach] + first[:, :reach]
    tail = after[:, n:] + last[:, reach + n :]
    return np.concatenate([head, filled, tail], axis=1)


@dataclass(frozen=True)
class ZeroBaseline(ToneFilter):
    """Answers 0, the mean of every tone: what anything useful must beat."""

    def initial_state(self, n_streams: int) -> None:
        """There is none."""
        return

    def step(
        self, samples: Float[np.ndarray, "B T"], state: None
    ) -> tuple[Float[np.ndarray, "B T K"], None]:
        """Zeros."""
        return np.zeros((*samples.shape, self.n_tones)), None


@dataclass(frozen=True)
class RandomBaseline(ToneFilter):
    """Answers drawn from U(-1, 1), whatever it hears."""

    seed: int = 0

    def initial_state(self, n_streams: int) -> int:
        """How many samples have been answered."""
        return 0

    def step(
        self, samples: Float[np.ndarray, "B T"], state: int
    ) -> tuple[Float[np.ndarray, "B T K"], int]:
        """Draws, sample by sample, that no chunking changes."""
        n_streams, n_samples = samples.shape
        bits = np.random.PCG64(self.seed).advance(state * n_streams * self.n_tones)
        shape = (n_samples, n_streams, self.n_tones)
        draws = np.random.Generator(bits).uniform(-1.0, 1.0, shape)
        return np.ascontiguousarray(draws.transpose(1, 0, 2)), state + n_samples


@dataclass(frozen=True)
class RegressionFilter(ToneFilter):
    def _tones(self, path: Float[np.ndarray, "B T D"], first: int) -> Float[np.ndarray, "B T K"]:
        """The tones themselves, from their coefficients."""
        clean = self.phasors(first, path.shape[1])
        return path[..., : self.n_tones] * clean.imag + path[..., self.n_tones :] * clean.real
