"""Past and future together: the pretrained extractor on what is all there, or with a look-ahead.

Each place between two frames hears the past forwards and the future backwards, with the same
candidates and the same network; a small second network weighs both. A recording is read twice
backwards, a block at a time, since only the states between blocks are kept from the first time.
Axes: B streams, T samples, K tones, N steps, R frames, M candidates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float

from tonesieve.extractors.pretrained.extractor import (
    GateOutput,
    PretrainedExtractor,
    by_stream,
    weighted_phasors,
)
from tonesieve.extractors.pretrained.front_end import ToneGroup
from tonesieve.extractors.protocol import ToneBlock
from tonesieve.kernels.kalman_bank.filter import GATING_INTERVAL
from tonesieve.kernels.kalman_bank.gating import UNHEARD, fuse_directions
from tonesieve.kernels.simd import WIDTH

# Steps of a block, at least; and blocks, at most: so many states between them are kept.
BLOCK, MOST_BLOCKS = 2**14, 2**11
# Steps before a block from which on it is thinned: how alike neighbours are has been found by then.
THINNED = 128

Read = Callable[[int, int], Float[np.ndarray, "B T"]]


class SmoothedBlock(NamedTuple):
    """Phasors Z (the tone is Im(Z exp(i theta))), and the band's half-width at every sample."""

    phasors: Complex[np.ndarray, "B T K"]
    band: Float[np.ndarray, "B T K"]


class _DirectionState(NamedTuple):
    """One direction between two blocks: what listens, the last verdict, the last phasors.

    Copies: a view would hold all of its block for as long as this is kept.
    """

    listening: Float[np.ndarray, "B S"]
    verdict: GateOutput
    phasors: Float[np.ndarray, "B 1 K 2 M"]
    end: int  # where it came from, if it came from an end


class _DirectionOutput(NamedTuple):
    """One direction over a block, in the order of the recording."""

    phasors: Float[np.ndarray, "B N K 2 M"]
    verdict: GateOutput  # at every place between frames, the block's ends too


def smooth_blocks(
    extractor: PretrainedExtractor,
    read: Read,
    n_samples: int,
    n_streams: int,
    *,
    ahead: int | None = None,
    on_samples: Callable[[int], None] = lambda n: None,
) -> Iterator[tuple[int, SmoothedBlock]]:
    """First sample and answer of blocks in turn; ``read`` answers samples (B, stop - start).

    ``ahead``: so many samples of the future count at least, and twice as many at most; None: all.
    ``on_samples`` hears how many samples are done, of twice as many as there are.
    """
    parts = [
        _Group(extractor, hearing, read, n_samples, n_streams, ahead)
        for _, hearing in extractor.groups
    ]
    for i, part in enumerate(parts):
        part.prepare(partial(_report, on_samples, i, len(parts), n_samples))
    walks = [part.blocks() for part in parts]
    held: list[list[np.ndarray]] = [[] for _ in parts]
    start = 0
    while start < n_samples:
        for own, walk in zip(held, walks, strict=True):
            if not own or not own[0].shape[1]:
                phasors, band = next(walk)
                own[:] = [phasors, band]
        n = min(own[0].shape[1] for own in held)
        shape = (n_streams, n, extractor.n_tones)
        answer = SmoothedBlock(np.empty(shape, complex), np.empty(shape))
        for (tones, _), own in zip(extractor.groups, held, strict=True):
            answer.phasors[..., tones], answer.band[..., tones] = own[0][:, :n], own[1][:, :n]
            own[:] = [own[0][:, n:], own[1][:, n:]]
        yield start, answer
        start += n
        on_samples(n_samples + start)


def _report(on_samples: Callable[[int], None], i: int, n: int, n_samples: int, done: int) -> None:
    """So many samples are done by the i-th of n groups."""
    on_samples((i * n_samples + done) // n)


class _Group:
    """The tones of a group over a whole recording."""

    def __init__(
        self,
        extractor: PretrainedExtractor,
        hearing: ToneGroup,
        read: Read,
        n_samples: int,
        n_streams: int,
        ahead: int | None,
    ) -> None:
        self._extractor, self._hearing, self._read = extractor, hearing, read
        self._n_samples, self._n_streams = n_samples, n_streams
        self._n_steps = n_samples // hearing.factor
        # Whole frames, two at least: what is beyond the end is a gap.
        self._n_padded = max(2, -(-self._n_steps // GATING_INTERVAL)) * GATING_INTERVAL
        shared = -(-self._n_padded // (MOST_BLOCKS * GATING_INTERVAL)) * GATING_INTERVAL
        self._block = max(BLOCK, shared)
        self._ahead = None
        if ahead is not None:
            frames = max(1, -(-ahead // (hearing.factor * GATING_INTERVAL)))
            self._ahead = self._block = frames * GATING_INTERVAL
        self._saved: dict[int, _DirectionState] = {}

    def prepare(self, on_samples: Callable[[int], None]) -> None:
        """Go backwards through all of it, and keep how things stand between blocks."""
        if self._ahead is not None:
            on_samples(self._n_samples)
            return
        side = self._begun(self._n_padded)
        starts = range(0, self._n_padded, self._block)
        for start in reversed(starts):
            stop = min(start + self._block, self._n_padded)
            self._saved[stop] = side
            if start:
                _, side = self._backwards(start, stop, side)
            on_samples((self._n_padded - start) * self._n_samples // self._n_padded)

    def blocks(
        self,
    ) -> Iterator[tuple[Complex[np.ndarray, "B T K"], Float[np.ndarray, "B T K"]]]:
        """Phasors and bands, block after block."""
        forward, done = self._begun(), 0
        for start in range(0, self._n_padded, self._block):
            stop = min(start + self._block, self._n_padded)
            past, forward = self._forwards(start, stop, forward)
            future, _ = self._backwards(start, stop, self._future(stop))
            phasors, band = self._joined(start, stop, past, future)
            # A sample is answered by the nearest step.
            last = stop >= self._n_padded
            until = self._n_samples if last else min(self._owner(stop), self._n_samples)
            factor = self._hearing.factor
            at = np.arange(done, until)
            nearest = np.clip((at + 1 + factor // 2) // factor - 1 - start, 0, stop - start - 1)
            done = until
            yield phasors[:, nearest], band[:, nearest]

    def _owner(self, step: int) -> int:
        """The first sample whose nearest step is this one."""
        factor = self._hearing.factor
        return (step + 1) * factor - 1 - factor // 2

    def _begun(self, end: int | None = None) -> _DirectionState:
        """Nothing heard; whoever comes from an end comes backwards."""
        k = len(self._hearing.freq_cycles)
        back = end is not None
        listening = self._hearing.initial_state(self._n_streams, backwards=back)[3]
        verdict = self._extractor.initial_gate(self._hearing, self._n_streams)
        return _DirectionState(
            listening, verdict, np.zeros((self._n_streams, 1, k, 2, WIDTH)), end or 0
        )

    def _steps(self, start: int, stop: int) -> Float[np.ndarray, "B N"]:
        """Steps of the recording; gaps beyond its end."""
        factor, most = self._hearing.factor, max(start, min(stop, self._n_steps))
        steps = np.full((self._n_streams, stop - start), np.nan)
        before = max(0, start - THINNED) * factor if factor > 1 else start
        if most > start:
            samples = self._read(before, most * factor)
            _, memory, sums, listening = self._hearing.initial_state(self._n_streams)
            found, _ = self._hearing.decimate(samples, (before, memory, sums, listening))
            steps[:, : most - start] = found[:, found.shape[1] - (most - start) :]
        return steps

    def _future(self, stop: int) -> _DirectionState:
        """How things stand at a place for whoever comes from the end, or from so far ahead."""
        if self._ahead is None:
            return self._saved[stop]
        end = min(stop + self._ahead, self._n_padded)
        side = self._begun(end)
        return self._backwards(stop, end, side)[1] if end > stop else side

    def _forwards(
        self, start: int, stop: int, side: _DirectionState
    ) -> tuple[_DirectionOutput, _DirectionState]:
        evidence, listening = self._hearing.run_bank(self._steps(start, stop), side.listening)
        verdict = self._extractor.gate(evidence, side.verdict)
        last = GateOutput(*(part[:, -1:].copy() for part in verdict))
        after = _DirectionState(listening, last, evidence.phasors[:, -1:].copy(), side.end)
        return _DirectionOutput(evidence.phasors, verdict), after

    def _backwards(
        self, start: int, stop: int, side: _DirectionState
    ) -> tuple[_DirectionOutput, _DirectionState]:
        """The phasors at a step are those of what was heard after it."""
        steps = np.ascontiguousarray(self._steps(start, stop)[:, ::-1])
        evidence, listening = self._hearing.run_bank(steps, side.listening, backwards=True)
        turned = self._hearing.to_forward_phasors(evidence, side.end)
        verdict = self._extractor.gate(turned, side.verdict)
        last = GateOutput(*(part[:, -1:].copy() for part in verdict))
        after = _DirectionState(listening, last, turned.phasors[:, -1:].copy(), side.end)
        later = np.concatenate([side.phasors, turned.phasors[:, :-1]], axis=1)
        back = GateOutput(*(part[:, ::-1] for part in verdict))
        return _DirectionOutput(later[:, ::-1], back), after

    def _joined(
        self, start: int, stop: int, past: _DirectionOutput, future: _DirectionOutput
    ) -> tuple[Complex[np.ndarray, "B N K"], Float[np.ndarray, "B N K"]]:
        both = [
            np.ascontiguousarray(np.stack(pair))
            for pair in zip(past.verdict, future.verdict, strict=True)
        ]
        hidden, told, weights, sure, phasors, variances = both
        shape = sure.shape[1:]
        joined, band = np.empty((*shape, 2 * WIDTH)), np.empty(shape)
        judge = self._extractor.judge
        # Who has heard nothing but gaps is sure of nothing.
        deaf = variances.max(axis=-1) < UNHEARD
        known = np.where(deaf, 0.0, sure)
        fuse_directions(
            hidden, told, weights, known, phasors, variances, judge.mix, judge.two, joined, band
        )
        # Where one direction has heard no whole frame yet, the other answers alone.
        at = np.arange(start, stop + 1, GATING_INTERVAL)
        for side, end in enumerate((at + GATING_INTERVAL > self._n_steps, at == 0)):
            alone = (end | deaf[1 - side]) & ~deaf[side]
            joined[alone] = 0.0
            joined[alone, side * WIDTH : (side + 1) * WIDTH] = weights[side][alone]
            band[alone] = sure[side][alone]
        joined[deaf.all(axis=0)], band[deaf.all(axis=0)] = 0.0, math.log(UNHEARD)
        places = (
            np.arange(start, stop) + GATING_INTERVAL // 2
        ) // GATING_INTERVAL - start // GATING_INTERVAL
        own = (np.ascontiguousarray(part) for part in (joined[..., :WIDTH], joined[..., WIDTH:]))
        one, two = (
            weighted_phasors(np.ascontiguousarray(side.phasors), part, places)
            for side, part in zip((past, future), own, strict=True)
        )
        return one + two, by_stream(np.exp(band), self._n_streams)[:, places]


@dataclass(frozen=True)
class PretrainedSmoother:
    """`smooth_blocks` as a `BlockSmoother`.

    Parameters
    ----------
    extractor : PretrainedExtractor
        The extractor whose forward and backward runs are joined.
    """

    extractor: PretrainedExtractor

    @property
    def ahead_s(self) -> float | None:
        """Seconds of the future that an estimate rests on at least; None: the whole recording."""
        return self.extractor.ahead_s

    def run_blocks(
        self,
        read: Read,
        n_samples: int,
        n_streams: int,
        *,
        on_samples: Callable[[int], None],
    ) -> Iterator[ToneBlock]:
        """Yield tones and bands of blocks in turn, each from both directions."""
        ahead = None
        if self.ahead_s is not None:
            ahead = round(min(self.ahead_s * self.extractor.rate_hz, n_samples))
        blocks = smooth_blocks(
            self.extractor, read, n_samples, n_streams, ahead=ahead, on_samples=on_samples
        )
        for start, block in blocks:
            yield ToneBlock(start, self.extractor.tones(block.phasors, start), block.band)
