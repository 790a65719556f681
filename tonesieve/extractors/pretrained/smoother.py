"""The pretrained extractor in both directions: over a whole recording, or with a fixed lag.

Forward-backward smoothing in two-filter form (Fraser and Potter 1969): at every place between two
gating intervals a bank has filtered the past forwards and another the future backwards, with the
same filters and the same gating network. A second small network fuses both
(`kernels.kalman_bank.gating.fuse_directions`).

Passes over a recording, block by block:

1. forwards, for the noise model that the others begin with (`ToneGroup.warm_banks`);
2. backwards, keeping only the states between blocks;
3. forwards and once more backwards in each block, and both are fused.

Where the course of a tone's line is given (`signals.line_course`), its carrier follows it.

Reference: D. C. Fraser, J. E. Potter, The optimum linear smoother as a combination of two optimum
linear filters, IEEE Trans. Automatic Control 14 (1969) 387-390.

Axes: B streams, T samples, K tones, N steps, M filters, S numbers of a bank's state.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float

from tonesieve.extractors.noise_bands import Z90
from tonesieve.extractors.pretrained.carriers import (
    Carriers,
    Courses,
    make_carriers,
    remaining_ranges_hz,
)
from tonesieve.extractors.pretrained.extractor import PhasorEstimate, PretrainedExtractor
from tonesieve.extractors.pretrained.front_end import ToneGroup
from tonesieve.extractors.pretrained.gate import GateOutput, by_stream, weighted_phasors
from tonesieve.kernels.kalman_bank.gating import MIN_VARIANCE, fuse_directions
from tonesieve.kernels.kalman_bank.state import GATING_INTERVAL
from tonesieve.kernels.simd import WIDTH
from tonesieve.recordings.spool import Spool

# Guards, of memory: steps of a block at least, and blocks at most, between which states are kept.
BLOCK, MAX_BLOCKS = 2**11, 2**9
# Guard, of memory: samples that are decimated at once.
DECIMATED_AT_ONCE = 2**16

Read = Callable[[int, int], Float[np.ndarray, "B T"]]


class _DirectionState(NamedTuple):
    """One direction between two blocks.

    Copies: a view would keep all of its block in memory.
    """

    banks: Float[np.ndarray, "B S"]
    gate: GateOutput  # of the last interval
    phasors: Float[np.ndarray, "B 1 K 2 M"]  # after the last step
    end: int  # step that the direction began at, if it runs backwards


class _DirectionOutput(NamedTuple):
    """One direction over a block, in the order of the recording."""

    phasors: Float[np.ndarray, "B N K 2 M"]
    gate: GateOutput  # at every place between intervals, both ends of the block included


def smooth_blocks(
    extractor: PretrainedExtractor,
    read: Read,
    n_samples: int,
    n_streams: int,
    *,
    ahead: int | None = None,
    courses: Courses | None = None,
    scratch: Path | None = None,
    on_samples: Callable[[int], None] = lambda n: None,
) -> Iterator[tuple[int, PhasorEstimate]]:
    """Estimate the tones of a recording from the past and the future, block by block.

    Parameters
    ----------
    extractor : PretrainedExtractor
        The tones and the weights; its ``ahead_s`` is not read here.
    read : callable
        Returns samples start to stop, shape (B, stop - start), NaN in gaps.
    n_samples : int
        Samples of the recording.
    n_streams : int
        B.
    ahead : int, optional
        Samples of the future that each estimate uses at least; it uses at most twice as many. By
        default it uses all.
    courses : sequence of sequence of LineCourse, optional
        Of each stream the course of each tone. By default tones are at their nominal frequencies.
    scratch : Path, optional
        Folder for steps that do not fit into memory; by default the system's.
    on_samples : callable, optional
        Called with the number of samples done so far, of twice as many as there are.

    Yields
    ------
    start : int
        Index of a block's first sample.
    estimate : PhasorEstimate
        Phasors and bands of the block, relative to the nominal frequencies.
    """
    if ahead is not None and ahead >= n_samples:  # all of the recording
        ahead = None
    if ahead is not None:  # it must not know where a line is going to be
        courses = None
    rate_hz, duration_s = extractor.rate_hz, n_samples / extractor.rate_hz
    groups = []
    for tones, tone_group in extractor.groups:
        carriers = make_carriers(courses, tones, rate_hz, tone_group.factor)
        narrowed = tone_group
        if courses is not None:
            ranges = remaining_ranges_hz(courses, extractor.frequencies_hz, tones, duration_s)
            narrowed = tone_group.narrowed([within / rate_hz for within in ranges])
        groups.append(_Group(extractor, narrowed, carriers, read, n_samples, n_streams, ahead))
    folder = Path(tempfile.gettempdir()) if scratch is None else scratch
    for i, group in enumerate(groups):
        group.prepare(folder, partial(_report, on_samples, i, len(groups), n_samples))
    for start, ready in in_step([group.blocks() for group in groups]):
        n = ready[0].band.shape[1]
        shape = (n_streams, n, extractor.n_tones)
        estimate = PhasorEstimate(np.empty(shape, complex), np.empty(shape))
        for (tones, _), part in zip(extractor.groups, ready, strict=True):
            estimate.phasors[..., tones], estimate.band[..., tones] = part
        yield start, estimate
        on_samples(n_samples + start + n)


def in_step(
    iterators: Sequence[Iterator[PhasorEstimate]],
) -> Iterator[tuple[int, list[PhasorEstimate]]]:
    """Bring blocks of several estimates of one recording to the same lengths.

    Parameters
    ----------
    iterators : sequence of iterator
        Of each estimate the blocks in turn, of any lengths with the same sum.

    Yields
    ------
    start : int
        Index of the blocks' first sample.
    estimates : list of PhasorEstimate
        Of each estimate the block from there on.
    """
    # What is left of each block waits here.
    pending: list[PhasorEstimate | None] = [None for _ in iterators]
    start = 0
    while True:
        ready = [
            next(blocks, None) if left is None or not left.band.shape[1] else left
            for blocks, left in zip(iterators, pending, strict=True)
        ]
        parts = [part for part in ready if part is not None]
        if len(parts) < len(ready) or not ready:
            return
        n = min(part.band.shape[1] for part in parts)
        if n:
            yield start, [PhasorEstimate(*(array[:, :n] for array in part)) for part in parts]
        pending = [PhasorEstimate(*(array[:, n:] for array in part)) for part in parts]
        start += n


def _report(on_samples: Callable[[int], None], i: int, n: int, n_samples: int, done: int) -> None:
    """Report the progress of the i-th of n groups."""
    on_samples((i * n_samples + done) // n)


class _Group:
    """A group of tones over a whole recording."""

    def __init__(
        self,
        extractor: PretrainedExtractor,
        group: ToneGroup,
        carriers: Carriers | None,
        read: Read,
        n_samples: int,
        n_streams: int,
        ahead: int | None,
    ) -> None:
        self._gating, self._group, self._read = extractor.gating, group, read
        self._carriers, self._n_samples, self._n_streams = carriers, n_samples, n_streams
        self._n_steps = n_samples // group.factor
        # Whole intervals, two at least; what is beyond the end is a gap.
        self._n_padded = max(2, -(-self._n_steps // GATING_INTERVAL)) * GATING_INTERVAL
        longer = -(-self._n_padded // (MAX_BLOCKS * GATING_INTERVAL)) * GATING_INTERVAL
        self._block = max(BLOCK, longer)
        self._ahead = None
        if ahead is not None:
            n_intervals = max(1, -(-ahead // (group.factor * GATING_INTERVAL)))
            self._ahead = self._block = n_intervals * GATING_INTERVAL
        self._saved: dict[int, _DirectionState] = {}
        self._decimated: Spool | None = None
        self._learned: Float[np.ndarray, "B S"] | None = None  # banks that know the noise

    def prepare(self, scratch: Path, on_samples: Callable[[int], None]) -> None:
        """Decimate, learn the noise, run backwards, and keep the states between blocks."""
        if self._group.factor > 1:
            self._decimate(scratch)
        if self._ahead is not None:
            on_samples(self._n_samples)
            return
        starts = range(0, self._n_padded, self._block)
        banks = self._initial_state().banks
        for start in starts:
            stop = min(start + self._block, self._n_padded)
            _, banks = self._group.run_bank(self._steps(start, stop), banks)
            on_samples(stop * self._n_samples // (2 * self._n_padded))
        self._learned = banks
        state = self._initial_state(self._n_padded)
        for start in reversed(starts):
            stop = min(start + self._block, self._n_padded)
            self._saved[stop] = state
            _, state = self._run_backwards(start, stop, state)
            on_samples((2 * self._n_padded - start) * self._n_samples // (2 * self._n_padded))
        self._learned = state.banks

    def _decimate(self, scratch: Path) -> None:
        self._decimated = Spool(self._n_streams, scratch)
        state = self._group.initial_state(self._n_streams)
        for start in range(0, self._n_samples, DECIMATED_AT_ONCE):
            samples = self._read(start, min(start + DECIMATED_AT_ONCE, self._n_samples))
            steps, state = self._group.decimate(samples, state)
            self._decimated.append(steps.T)

    def blocks(self) -> Iterator[PhasorEstimate]:
        """Phasors and bands, block by block."""
        forward, done = self._initial_state(), 0
        for start in range(0, self._n_padded, self._block):
            stop = min(start + self._block, self._n_padded)
            past, forward = self._run_forwards(start, stop, forward)
            future, _ = self._run_backwards(start, stop, self._future_state(stop))
            phasors, band = self._fuse(start, stop, past, future)
            # A sample has the estimate of the nearest step.
            is_last = stop >= self._n_padded
            end = self._n_samples if is_last else min(self._first_sample(stop), self._n_samples)
            factor = self._group.factor
            samples = np.arange(done, end)
            nearest = (samples + 1 + factor // 2) // factor - 1 - start
            nearest = np.clip(nearest, 0, stop - start - 1)
            done = end
            at_samples, band = phasors[:, nearest], band[:, nearest]
            if self._carriers is not None:
                # The filters take the course for exact.
                course_error = Z90 * self._carriers.phase_std[:, None] * np.abs(at_samples)
                band = np.hypot(band, course_error)
                at_samples = at_samples * np.exp(1j * self._carriers.sample_phase(samples))
            yield PhasorEstimate(at_samples, band)

    def _first_sample(self, step: int) -> int:
        """The first sample whose nearest step this is."""
        factor = self._group.factor
        return (step + 1) * factor - 1 - factor // 2

    def _initial_state(self, end: int | None = None) -> _DirectionState:
        """Before the first step, forwards; or, at step ``end``, backwards."""
        k, backwards = len(self._group.freq_cycles), end is not None
        if self._learned is None:
            banks = self._group.initial_state(self._n_streams, backwards=backwards).banks
        else:
            banks = self._group.warm_banks(self._learned, backwards=backwards)
        gate = self._gating.initial_output(self._n_streams * k)
        phasors = np.zeros((self._n_streams, 1, k, 2, WIDTH))
        return _DirectionState(banks, gate, phasors, end or 0)

    def _steps(self, start: int, stop: int) -> Float[np.ndarray, "B N"]:
        """Steps of the recording; gaps beyond its end."""
        end = max(start, min(stop, self._n_steps))
        steps = np.full((self._n_streams, stop - start), np.nan)
        if end > start:
            if self._decimated is None:
                steps[:, : end - start] = self._read(start, end)
            else:
                steps[:, : end - start] = self._decimated.read(start, end).T
        return steps

    def _future_state(self, stop: int) -> _DirectionState:
        """The backward state at a step, from the recording's end or from the look-ahead's."""
        if self._ahead is None:
            return self._saved[stop]
        end = min(stop + self._ahead, self._n_padded)
        state = self._initial_state(end)
        return self._run_backwards(stop, end, state)[1] if end > stop else state

    def _run_forwards(
        self, start: int, stop: int, state: _DirectionState
    ) -> tuple[_DirectionOutput, _DirectionState]:
        course = None if self._carriers is None else self._carriers.offsets(start, stop)
        output, banks = self._group.run_bank(self._steps(start, stop), state.banks, course=course)
        gate = self._gating.run(output, state.gate)
        after = _DirectionState(banks, _last(gate), output.phasors[:, -1:].copy(), state.end)
        return _DirectionOutput(output.phasors, gate), after

    def _run_backwards(
        self, start: int, stop: int, state: _DirectionState
    ) -> tuple[_DirectionOutput, _DirectionState]:
        """The phasors at a step are those of the samples after it."""
        steps = np.ascontiguousarray(self._steps(start, stop)[:, ::-1])
        course: np.ndarray | None = None
        course_rad: np.ndarray | float = 0.0
        if self._carriers is not None:
            course = self._carriers.offsets(start, stop, backwards=True)
            course_rad = self._carriers.step_phase(state.end - 1)
        output, banks = self._group.run_bank(steps, state.banks, course=course, backwards=True)
        output = self._group.to_forward_phasors(output, state.end, course_rad)
        gate = self._gating.run(output, state.gate)
        after = _DirectionState(banks, _last(gate), output.phasors[:, -1:].copy(), state.end)
        previous = np.concatenate([state.phasors, output.phasors[:, :-1]], axis=1)
        in_order = GateOutput(*(part[:, ::-1] for part in gate))
        return _DirectionOutput(previous[:, ::-1], in_order), after

    def _fuse(
        self, start: int, stop: int, past: _DirectionOutput, future: _DirectionOutput
    ) -> tuple[Complex[np.ndarray, "B N K"], Float[np.ndarray, "B N K"]]:
        """Phasors and bands at every step."""
        hidden, outputs, weights, log_std, phasors, variances = (
            np.ascontiguousarray(np.stack(pair))
            for pair in zip(past.gate, future.gate, strict=True)
        )
        shape = log_std.shape[1:]
        fused, fused_log_std = np.empty((*shape, 2 * WIDTH)), np.empty(shape)
        # A direction that has only met gaps has no variance, and an infinite band.
        is_blind = variances.max(axis=-1) < MIN_VARIANCE
        finite_log_std = np.where(is_blind, 0.0, log_std)
        fuse_directions(
            hidden, outputs, weights, finite_log_std, phasors, variances, self._gating.w_mix,
            self._gating.w_fusion, fused, fused_log_std,
        )  # fmt: skip
        # Where one direction has no whole interval yet, the other one alone counts.
        places = np.arange(start, stop + 1, GATING_INTERVAL)
        at_ends = (places + GATING_INTERVAL > self._n_steps, places == 0)
        for side, at_end in enumerate(at_ends):
            alone = (at_end | is_blind[1 - side]) & ~is_blind[side]
            fused[alone] = 0.0
            fused[alone, side * WIDTH : (side + 1) * WIDTH] = weights[side][alone]
            fused_log_std[alone] = log_std[side][alone]
        both_blind = is_blind.all(axis=0)
        fused[both_blind], fused_log_std[both_blind] = 0.0, math.log(MIN_VARIANCE)
        nearest = (
            np.arange(start, stop) + GATING_INTERVAL // 2
        ) // GATING_INTERVAL - start // GATING_INTERVAL
        from_past, from_future = (
            weighted_phasors(
                np.ascontiguousarray(side.phasors), np.ascontiguousarray(part), nearest
            )
            for side, part in ((past, fused[..., :WIDTH]), (future, fused[..., WIDTH:]))
        )
        band = by_stream(np.exp(fused_log_std), self._n_streams)[:, nearest]
        return from_past + from_future, band


def _last(gate: GateOutput) -> GateOutput:
    """A copy of the last interval."""
    return GateOutput(*(part[:, -1:].copy() for part in gate))
