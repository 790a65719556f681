"""Any tone out of any recording: candidates of every memory, weighed by a network trained once.

Axes: B streams, T samples, K tones, N steps, R frames, M candidates, H hidden.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Complex, Float

from tonesieve.errors import UserError
from tonesieve.extractors.filters.base import ToneFilter, check
from tonesieve.extractors.pretrained.front_end import (
    MAX_FREQUENCY_RATIO,
    BankOutput,
    ToneGroup,
    ToneGroupState,
    group_by_span,
)
from tonesieve.extractors.protocol import ToneEstimate
from tonesieve.inference.weights import load_pretrained
from tonesieve.kernels.kalman_bank.gating import (
    N_OUTPUTS,
    gate_outputs,
    mix_phasors,
    pack_dense,
    run_gru,
)
from tonesieve.kernels.kalman_bank.process import process_block, process_sample, synthesise
from tonesieve.kernels.simd import WIDTH

# Samples that are answered at once; periods over which the frequency is averaged.
CHUNK, TURNS = 2**12, 20


class GatingWeights:
    """The network's weights, packed for the kernels."""

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        def both(name: str, kind: str) -> np.ndarray:
            parts = (tensors[f"{name}.weight{kind}"], tensors[f"{name}.bias{kind}"])
            return pack_dense(*(np.asarray(part, dtype=float) for part in parts))

        self.taken, self.carried = both("gru", "_ih_l0"), both("gru", "_hh_l0")
        self.answer, self.mix, self.two = both("head", ""), both("mix", ""), both("two", "")
        self.n_hidden = tensors["gru.weight_hh_l0"].shape[1]
        parts = b"".join(np.ascontiguousarray(tensors[name]).tobytes() for name in sorted(tensors))
        self.digest = hashlib.sha256(parts).hexdigest()[:16]


@cache
def load_gating(path: str) -> GatingWeights:
    """The network of a file, or the package's own; read once."""
    return GatingWeights(load_pretrained(path or None)[0])


class GateOutput(NamedTuple):
    """What the network holds at the ends of frames, and what follows from it."""

    hidden: Float[np.ndarray, "S R H"]
    told: Float[np.ndarray, "S R O"]
    weights: Float[np.ndarray, "S R M"]
    sure: Float[np.ndarray, "S R"]
    phasors: Float[np.ndarray, "S R 2 M"]
    variances: Float[np.ndarray, "S R M"]


class GroupState(NamedTuple):
    """Of a group of tones: what listens, thinks, and was answered last."""

    hearing: ToneGroupState
    hidden: Float[np.ndarray, "B K H"]
    weights: Float[np.ndarray, "B K M"]  # those in force
    sure: Float[np.ndarray, "B K"]  # logarithm of the band's half-width
    phasor: Complex[np.ndarray, "B K"]
    turning: Complex[np.ndarray, "B K"]  # running sum of how the phasor turns
    widest: Float[np.ndarray, " B"]  # the largest sample


class PhasorEstimate(NamedTuple):
    """Phasors Z (the tone is Im(Z exp(i theta))), and the band's half-width, at every sample."""

    phasors: Complex[np.ndarray, "B T K"]
    band: Float[np.ndarray, "B T K"]
    hz: Float[np.ndarray, "B T K"]  # how far the frequency is from its name


@dataclass(frozen=True)
class PretrainedExtractor(ToneFilter):
    """The extractor that comes with the package: no training, no bandwidth to choose.

    Sixteen trackers of every memory, six of which follow the frequency, hear the samples, whitened
    and cleaned of impulses; a small recurrent network, trained once on a wide family of signals
    (`signals.scenes`), weighs them by how each has done. Gaps: coasts. Tones that are named
    together, and less than three octaves apart, are fitted together. What is slower than a twelfth
    of the rate is first averaged to a dozen steps a period.

    ``weights`` is a file that `tonesieve pretrain` has made (default: the package's own);
    ``ahead_s``, seconds of the future that count at least, and twice as many at most, but whole
    frames of eight steps: where not the whole recording may (`extractors.pretrained.smoother`).
    """

    saved_name: ClassVar[str] = "Pretrained"

    weights: str = ""
    ahead_s: float | None = None

    def __post_init__(self) -> None:
        check(self.ahead_s is None or self.ahead_s > 0, "ahead_s", self.ahead_s, "must be above 0")

    @cached_property
    def judge(self) -> GatingWeights:
        """The network."""
        return load_gating(self.weights)

    @property
    def digest(self) -> str:
        """The same for the same weights."""
        return self.judge.digest

    @cached_property
    def groups(self) -> list[tuple[list[int], ToneGroup]]:
        """Which tones are heard together, and how."""
        turns = [f / self.rate_hz for f in self.frequencies_hz]
        return [(g, ToneGroup(tuple(turns[k] for k in g), self.gain)) for g in group_by_span(turns)]

    def initial_state(self, n_streams: int) -> tuple[GroupState, ...]:
        """Nothing heard; equal weights, and no answer."""
        if self.ahead_s is not None:
            raise UserError("ahead_s: what goes sample by sample has no future to look ahead to")
        return tuple(self.init_group(hearing, n_streams) for _, hearing in self.groups)

    def step(
        self, samples: Float[np.ndarray, "B T"], state: tuple[GroupState, ...]
    ) -> tuple[Float[np.ndarray, "B T K"], tuple[GroupState, ...]]:
        """Answer a chunk of any length."""
        first = state[0].hearing[0]
        estimate, state = self.process(samples, state)
        return self.tones(estimate.phasors, first), state

    def step_detailed(
        self, samples: Float[np.ndarray, "B T"], state: tuple[GroupState, ...]
    ) -> tuple[ToneEstimate, tuple[GroupState, ...]]:
        """Answer a chunk of any length, with all that is told of the tones."""
        first = state[0].hearing[0]
        estimate, state = self.process(samples, state)
        phasors = estimate.phasors
        hz = estimate.hz + np.array(self.frequencies_hz)
        tones = self.tones(phasors, first)
        return ToneEstimate(tones, np.abs(phasors), np.angle(phasors), hz, estimate.band), state

    def tones(
        self, phasors: Complex[np.ndarray, "B T K"], first: int
    ) -> Float[np.ndarray, "B T K"]:
        """The tones whose phasors these are, from sample ``first`` on."""
        tones = np.empty(phasors.shape)
        synthesise(phasors, first, self._turns, tones)
        return tones

    @cached_property
    def _turns(self) -> Float[np.ndarray, " K"]:
        """Cycles a sample."""
        return np.array(self.frequencies_hz) / self.rate_hz

    def process(
        self, samples: Float[np.ndarray, "B T"], state: tuple[GroupState, ...]
    ) -> tuple[PhasorEstimate, tuple[GroupState, ...]]:
        """Phasors and bands of a chunk of any length, each from what was heard up to it."""
        n = samples.shape[1]
        if len(self.groups) == 1 and n <= CHUNK:
            found, after = self._answered(0, samples, state[0])
            return found, (after,)
        shape = (*samples.shape, self.n_tones)
        whole = PhasorEstimate(np.empty(shape, complex), np.empty(shape), np.empty(shape))
        goes_on = list(state)
        for start in range(0, n, CHUNK):
            chunk = samples[:, start : start + CHUNK]
            for g, (own, _) in enumerate(self.groups):
                found, goes_on[g] = self._answered(g, chunk, goes_on[g])
                for all_, part in zip(whole, found, strict=True):
                    all_[:, start : start + CHUNK, own] = part
        return whole, tuple(goes_on)

    def init_group(self, hearing: ToneGroup, n_streams: int) -> GroupState:
        """A group's state that has heard nothing."""
        shape = (n_streams, len(hearing.freq_cycles))
        return GroupState(
            hearing.initial_state(n_streams),
            np.zeros((*shape, self.judge.n_hidden)),
            np.full((*shape, WIDTH), 1 / (WIDTH + 1)),
            np.full(shape, np.inf),
            np.zeros(shape, complex),
            np.zeros(shape, complex),
            np.zeros(n_streams),
        )

    def _answered(
        self, g: int, samples: Float[np.ndarray, "B T"], state: GroupState
    ) -> tuple[PhasorEstimate, GroupState]:
        """Of one group: its tones' phasors, bands and frequencies."""
        constants, hz_a_radian = self._constants[g]
        first, memory, sums, listening = state.hearing
        goes_on = [part.copy() for part in (memory, sums, listening, *state[1:])]
        shape = (*samples.shape, state.phasor.shape[1])
        found = PhasorEstimate(np.empty(shape, complex), np.empty(shape), np.empty(shape))
        process_block(np.ascontiguousarray(samples), first, *goes_on, *constants, *found)
        found.hz[:] *= hz_a_radian
        after = (first + samples.shape[1], *goes_on[:3])
        return found, GroupState(after, *goes_on[3:])

    @cached_property
    def _constants(self) -> list[tuple[tuple[Any, ...], float]]:
        """What the kernel is told of each group, beside its state; Hz for a radian a step."""
        judge = self.judge
        found = []
        for _, hearing in self.groups:
            kept = 1 - hearing.turn.min() / (TURNS * 2 * np.pi)
            told = (*hearing.constants, judge.taken, judge.carried, judge.answer, kept)
            found.append((told, self.rate_hz / hearing.factor / (2 * np.pi)))
        return found

    def stepper(self) -> Stepper:
        """What takes one stream sample by sample, the fastest way from Python."""
        return Stepper(self)

    def initial_gate(self, hearing: ToneGroup, n_streams: int) -> GateOutput:
        """Where no frame has ended yet."""
        s = n_streams * len(hearing.freq_cycles)
        return GateOutput(
            np.zeros((s, 1, self.judge.n_hidden)),
            np.zeros((s, 1, N_OUTPUTS)),
            np.full((s, 1, WIDTH), 1 / (WIDTH + 1)),
            np.full((s, 1), np.inf),
            np.zeros((s, 1, 2, WIDTH)),
            np.zeros((s, 1, WIDTH)),
        )

    def gate(self, evidence: BankOutput, before: GateOutput) -> GateOutput:
        """Of every frame that ends, the last one before them first."""
        n_streams, n_frames, k = evidence.variances.shape[:3]
        s = n_streams * k
        features = _by_tone(evidence.features)
        phasors, variances = (
            _by_tone(evidence.phasors[:, evidence.ends]),
            _by_tone(evidence.variances),
        )
        hidden, told = (
            np.empty((s, n_frames, self.judge.n_hidden)),
            np.empty((s, n_frames, N_OUTPUTS)),
        )
        carried = before.hidden[:, -1].copy()
        judge = self.judge
        run_gru(features, carried, judge.taken, judge.carried, judge.answer, hidden, told)
        weights, sure = np.empty((s, n_frames, WIDTH)), np.empty((s, n_frames))
        gate_outputs(told, phasors, variances, weights, sure)
        found = GateOutput(hidden, told, weights, sure, phasors, variances)
        return GateOutput(*(np.concatenate(two, axis=1) for two in zip(before, found, strict=True)))


class Stepper(partial[None]):
    """One stream: call it with a sample (NaN: a gap), then read what is told of the tones.

    A partial application of the compiled step: a method in between would cost a twentieth.

    Example:
        take = Pretrained((50.0,), 1000.0).stepper()
        take(0.5)
        take.tones  # (K): a view that the next sample changes, as are bands and phasors
    """

    tones: Float[np.ndarray, " K"]
    bands: Float[np.ndarray, " K"]
    phasors: Complex[np.ndarray, " K"]

    def __new__(cls, extractor: PretrainedExtractor) -> Stepper:
        if len(extractor.groups) > 1:
            raise UserError(
                f"tones more than {MAX_FREQUENCY_RATIO} times apart are stepped by a stepper each"
            )
        hearing = extractor.groups[0][1]
        constants, hz_a_radian = extractor._constants[0]
        samples_a_step, *others, kept = constants[1:]
        window = constants[0]
        state = extractor.initial_state(1)[0]
        k = len(hearing.freq_cycles)
        head = [k, extractor.judge.n_hidden, len(window), samples_a_step, kept, 0.0, 0.0]
        parts = [
            np.array(head), *state.hearing[1:], *state[1:], window, *others, np.zeros(5 * k)
        ]  # fmt: skip
        flat = [np.ascontiguousarray(part).view(np.float64).ravel() for part in parts]
        whole = np.concatenate(flat)
        stepper = super().__new__(cls, process_sample, whole)
        stepper.tones, stepper.bands, stepper._turned = whole[-5 * k : -2 * k].reshape(3, k)
        stepper.phasors = whole[-2 * k :].view(complex)
        stepper._hz = (np.array(extractor.frequencies_hz), hz_a_radian)
        return stepper

    _turned: Float[np.ndarray, " K"]
    _hz: tuple[Float[np.ndarray, " K"], float]

    @property
    def hz(self) -> Float[np.ndarray, " K"]:
        """The frequencies that are followed."""
        names, hz_a_radian = self._hz
        return names + hz_a_radian * self._turned


def weighted_phasors(
    phasors: Float[np.ndarray, "B N K 2 M"],
    weights: Float[np.ndarray, "S R M"],
    frames: np.ndarray,
) -> Complex[np.ndarray, "B N K"]:
    """The candidates' phasors, weighed as their frame says."""
    n_streams, n_steps, k = phasors.shape[:3]
    both = np.empty((n_streams, n_steps, k, 2))
    mix_phasors(phasors, weights.reshape(n_streams, k, weights.shape[1], WIDTH), frames, both)
    return both[..., 0] + 1j * both[..., 1]


def _by_tone(array: np.ndarray) -> np.ndarray:
    """(B, R, K, ...) as (B x K, R, ...)."""
    moved = np.moveaxis(array, 2, 1)
    return np.ascontiguousarray(moved.reshape(len(moved) * moved.shape[1], *moved.shape[2:]))


def by_stream(array: np.ndarray, n_streams: int) -> np.ndarray:
    """(B x K, R, ...) as (B, R, K, ...)."""
    if n_streams == 0:
        return np.moveaxis(array.reshape(0, 1, *array.shape[1:]), 1, 2)
    return np.moveaxis(array.reshape(n_streams, -1, *array.shape[1:]), 1, 2)
