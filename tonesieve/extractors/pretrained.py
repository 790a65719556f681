"""Any tone out of any recording: candidates of every memory, weighed by a network trained once.

Axes: B streams, T samples, K tones, N steps, R frames, M candidates, H hidden.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float

from tonesieve.extractors.classical import Classical, require
from tonesieve.extractors.hearing import Evidence, Hearing, HearingState, grouped
from tonesieve.extractors.protocol import Told
from tonesieve.extractors.weights import load_pretrained
from tonesieve.kernels.lanes import WIDTH
from tonesieve.kernels.weighing import TOLD, combine, decide, packed, turning, weigh

# Samples that are answered at once; periods over which the frequency is averaged.
CHUNK, TURNS = 2**12, 20


class Judge:
    """The network's weights, packed for the kernels."""

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        def both(name: str, kind: str) -> np.ndarray:
            parts = (tensors[f"{name}.weight{kind}"], tensors[f"{name}.bias{kind}"])
            return packed(*(np.asarray(part, dtype=float) for part in parts))

        self.taken, self.carried = both("gru", "_ih_l0"), both("gru", "_hh_l0")
        self.answer, self.mix, self.two = both("head", ""), both("mix", ""), both("two", "")
        self.n_hidden = tensors["gru.weight_hh_l0"].shape[1]
        parts = b"".join(np.ascontiguousarray(tensors[name]).tobytes() for name in sorted(tensors))
        self.digest = hashlib.sha256(parts).hexdigest()[:16]


@cache
def judge_at(path: str) -> Judge:
    """The network of a file, or the package's own; read once."""
    return Judge(load_pretrained(path or None)[0])


class Verdict(NamedTuple):
    """What the network holds at the ends of frames, and what follows from it."""

    hidden: Float[np.ndarray, "S R H"]
    told: Float[np.ndarray, "S R O"]
    weights: Float[np.ndarray, "S R M"]
    sure: Float[np.ndarray, "S R"]
    phasors: Float[np.ndarray, "S R 2 M"]
    variances: Float[np.ndarray, "S R M"]


class GroupState(NamedTuple):
    """Of a group of tones: what listens, the last verdict, the last phasors, how they turn."""

    hearing: HearingState
    verdict: Verdict
    phasor: Complex[np.ndarray, "B K"]
    turning: Complex[np.ndarray, "B K"]
    widest: Float[np.ndarray, "B 1"]  # how far the samples have been from the first one


class Answer(NamedTuple):
    """Phasors Z (the tone is Im(Z exp(i theta))), and the band's half-width, at every sample."""

    phasors: Complex[np.ndarray, "B T K"]
    band: Float[np.ndarray, "B T K"]
    hz: Float[np.ndarray, "B T K"]  # how far the frequency is from its name


@dataclass(frozen=True)
class Pretrained(Classical):
    """The extractor that comes with the package: no training, no knobs to turn.

    Sixteen trackers of every memory, half of which follow the frequency, hear the samples, whitened
    and cleaned of impulses; a small recurrent network, trained once on a wide family of signals
    (`signals.family`), weighs them by how each has done. Gaps: coasts. Tones that are named
    together are told apart together. What is slower than a twelfth of the rate is first averaged
    to a dozen steps a period.

    ``weights`` is a file that `tonesieve pretrain` has made (default: the package's own);
    ``ahead_s``, seconds of the future that count at least, and twice as many at most, where the
    samples are there: it makes no difference to a stream.
    """

    weights: str = ""
    ahead_s: float | None = None

    def __post_init__(self) -> None:
        require(self.ahead_s is None or self.ahead_s > 0, "ahead_s", self.ahead_s, "above 0")

    @cached_property
    def judge(self) -> Judge:
        """The network."""
        return judge_at(self.weights)

    @property
    def digest(self) -> str:
        """The same for the same weights."""
        return self.judge.digest

    @cached_property
    def groups(self) -> list[tuple[list[int], Hearing]]:
        """Which tones are heard together, and how."""
        turns = [f / self.rate_hz for f in self.frequencies_hz]
        return [(g, Hearing(tuple(turns[k] for k in g), self.gain)) for g in grouped(turns)]

    def initial_state(self, n_streams: int) -> tuple[GroupState, ...]:
        """Nothing heard; equal weights, and no answer."""
        return tuple(self.begun(hearing, n_streams) for _, hearing in self.groups)

    def step(
        self, samples: Float[np.ndarray, "B T"], state: tuple[GroupState, ...]
    ) -> tuple[Float[np.ndarray, "B T K"], tuple[GroupState, ...]]:
        """Answer a chunk of any length."""
        first = int(state[0].hearing[0])
        answer, state = self.answer(samples, state)
        return self.tones(answer.phasors, first), state

    def tell(
        self, samples: Float[np.ndarray, "B T"], state: tuple[GroupState, ...]
    ) -> tuple[Told, tuple[GroupState, ...]]:
        """Answer a chunk of any length, with all that is told of the tones."""
        first = int(state[0].hearing[0])
        answer, state = self.answer(samples, state)
        phasors = answer.phasors
        hz = answer.hz + np.array(self.frequencies_hz)
        tones = self.tones(phasors, first)
        return Told(tones, np.abs(phasors), np.angle(phasors), hz, answer.band), state

    def tones(
        self, phasors: Complex[np.ndarray, "B T K"], first: int
    ) -> Float[np.ndarray, "B T K"]:
        """The tones whose phasors these are, from sample ``first`` on."""
        return (phasors * self.phasors(first, phasors.shape[1])).imag

    def answer(
        self, samples: Float[np.ndarray, "B T"], state: tuple[GroupState, ...]
    ) -> tuple[Answer, tuple[GroupState, ...]]:
        """Phasors and bands of a chunk of any length, each from what was heard up to it."""
        shape = (*samples.shape, self.n_tones)
        whole = Answer(np.empty(shape, complex), np.empty(shape), np.empty(shape))
        for start in range(0, max(1, samples.shape[1]), CHUNK):
            after = []
            chunk = samples[:, start : start + CHUNK]
            for (own, hearing), before in zip(self.groups, state, strict=True):
                found, renewed = self._answered(hearing, chunk, before)
                for all_, part in zip(whole, found, strict=True):
                    all_[:, start : start + CHUNK, own] = part
                after.append(renewed)
            state = tuple(after)
        return whole, state

    def begun(self, hearing: Hearing, n_streams: int) -> GroupState:
        """A group's state that has heard nothing."""
        k = len(hearing.turns)
        s = n_streams * k
        verdict = Verdict(
            np.zeros((s, 1, self.judge.n_hidden)),
            np.zeros((s, 1, TOLD)),
            np.full((s, 1, WIDTH), 1 / (WIDTH + 1)),
            np.full((s, 1), np.inf),
            np.zeros((s, 1, 2, WIDTH)),
            np.zeros((s, 1, WIDTH)),
        )
        still = np.zeros((n_streams, k), complex)
        return GroupState(
            hearing.initial_state(n_streams), verdict, still, still, np.zeros((n_streams, 1))
        )

    def _answered(
        self, hearing: Hearing, samples: Float[np.ndarray, "B T"], state: GroupState
    ) -> tuple[Answer, GroupState]:
        first = state.hearing[0]
        steps, heard = hearing.thin(samples, state.hearing)
        evidence, listening = hearing.listen(steps, heard[3])
        verdicts = self.verdicts(evidence, state.verdict)
        n_streams, n_steps = steps.shape
        ends = np.zeros(n_steps, dtype=int)
        ends[evidence.ends] = 1
        frame = np.concatenate([[0], np.cumsum(ends)])
        weighed = weighed_sum(evidence.phasors, verdicts.weights, frame[1:])
        turned, memory = np.empty(weighed.shape), state.turning.copy()
        kept = 1 - 1 / (TURNS * 2 * np.pi / hearing.turn.min())
        turning(weighed, state.phasor, kept, memory, turned)
        last_turned = np.angle(state.turning)[:, None]
        path = np.concatenate([state.phasor[:, None], weighed], axis=1)
        hz = np.concatenate([last_turned, turned], axis=1) * (
            self.rate_hz / hearing.factor / (2 * np.pi)
        )
        bands = by_stream(np.exp(verdicts.sure), n_streams)
        done = (first + 1 + np.arange(samples.shape[1])) // hearing.factor - first // hearing.factor
        band, widest = bands[:, frame[done]], state.widest
        if not np.isfinite(state.verdict.sure).all():
            # Before the first verdict nothing is known but how far the samples go.
            far = np.concatenate([widest, np.nan_to_num(np.abs(samples))], axis=1)
            far = np.maximum.accumulate(far, axis=1)[:, 1:]
            band = np.where(np.isfinite(band), band, (far / abs(self.gain))[..., None])
            widest = far[:, -1:] if far.shape[1] else widest
        last = Verdict(*(part[:, -1:] for part in verdicts))
        after = GroupState((*heard[:3], listening), last, path[:, -1], memory, widest)
        return Answer(path[:, done], band, hz[:, done]), after

    def verdicts(self, evidence: Evidence, before: Verdict) -> Verdict:
        """Of every frame that ends, the last one before them first."""
        n_streams, n_frames, k = evidence.variances.shape[:3]
        s = n_streams * k
        features = _by_tone(evidence.features)
        phasors, variances = (
            _by_tone(evidence.phasors[:, evidence.ends]),
            _by_tone(evidence.variances),
        )
        hidden, told = np.empty((s, n_frames, self.judge.n_hidden)), np.empty((s, n_frames, TOLD))
        carried = before.hidden[:, -1].copy()
        judge = self.judge
        weigh(features, carried, judge.taken, judge.carried, judge.answer, hidden, told)
        weights, sure = np.empty((s, n_frames, WIDTH)), np.empty((s, n_frames))
        decide(told, phasors, variances, weights, sure)
        found = Verdict(hidden, told, weights, sure, phasors, variances)
        return Verdict(*(np.concatenate(two, axis=1) for two in zip(before, found, strict=True)))


def weighed_sum(
    phasors: Float[np.ndarray, "B N K 2 M"],
    weights: Float[np.ndarray, "S R M"],
    frames: np.ndarray,
) -> Complex[np.ndarray, "B N K"]:
    """The candidates' phasors, weighed as their frame says."""
    n_streams, n_steps, k = phasors.shape[:3]
    both = np.empty((n_streams, n_steps, k, 2))
    combine(phasors, weights.reshape(n_streams, k, weights.shape[1], WIDTH), frames, both)
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
