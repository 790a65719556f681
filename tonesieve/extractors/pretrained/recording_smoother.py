"""The pretrained extractor over a recording: combs, other tones, and short records.

Combs come first (`comb_smoother`), and tones whose course several channels share; the other tones
are estimated in what these leave over. Where several overlap, each is estimated once more without
the others.

Axes: B streams, T samples, K tones.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from tonesieve.extractors.pretrained.carriers import Courses, cycles_of
from tonesieve.extractors.pretrained.comb_smoother import (
    MIN_PERIODS,
    CombEstimate,
    Shared,
    smooth_comb,
)
from tonesieve.extractors.pretrained.extractor import PhasorEstimate, PretrainedExtractor
from tonesieve.extractors.pretrained.short_record import with_regression
from tonesieve.extractors.pretrained.smoother import Read, in_step, smooth_blocks
from tonesieve.extractors.protocol import SharedChannels, ToneBlock
from tonesieve.signals.comb import Comb
from tonesieve.signals.line_course import LineCourse

# Guard, of memory: samples of all tones and streams in a block, where combs alone are estimated.
BLOCK = 2**16
# Guard, of time: estimates of each of several combs.
N_ROUNDS = 2
# Chosen, not tuned: a tone that is closer to another one, over its frequency, is estimated jointly
# with it, and channel by channel.
MIN_APART = 0.25
# Guard: cycles of order 1 by which the common course of two tones differs at most, as their steps
# are not the same, and the number of times at which it is compared.
SAME_CYCLES, N_COMPARED = 0.02, 64


@dataclass(frozen=True)
class PretrainedSmoother:
    """The smoother of the pretrained extractor as a `BlockSmoother`.

    Parameters
    ----------
    extractor : PretrainedExtractor
        The extractor whose forward and backward runs are joined.
    combs : tuple of Comb, default ()
        Tones of the extractor that share a frequency.
    """

    extractor: PretrainedExtractor
    combs: tuple[Comb, ...] = ()

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
        courses: Courses | None = None,
        shared: Sequence[SharedChannels | None] = (),
        interferers_hz: Sequence[float] = (),
        has_gaps: bool = True,
        scratch: Path | None = None,
        on_samples: Callable[[int], None],
        on_pattern: Callable[[int, float], None] = lambda k, share: None,
    ) -> Iterator[ToneBlock]:
        """Yield tones and bands of blocks in turn, each from both directions.

        Interferers are estimated jointly with the tones, and left out.
        """
        folder = Path(tempfile.gettempdir()) if scratch is None else scratch
        run = _Run(self.extractor, read, n_samples, n_streams, courses, folder)
        jobs = run.jobs(self.combs, shared, interferers_hz)
        estimates = run.combs(jobs, has_gaps, on_samples)
        for job, estimate in zip(jobs, estimates, strict=True):
            for k, share in zip(job.comb.tones, estimate.shares, strict=True):
                if share is not None:
                    on_pattern(k, share)
        n_done = n_samples if jobs else 0
        n_twice = (2 * n_samples - n_done) / (2 * n_samples)

        def report(done: int) -> None:
            on_samples(n_done + int(done * n_twice))

        parts = _parts(jobs, n_streams, self.extractor.n_tones)
        blocks = [
            run.others(
                channels, tones, jobs, estimates, interferers_hz,
                _part(report, i, len(parts), 2 * n_samples),
            )
            for i, (tones, channels) in enumerate(parts.items())
        ]  # fmt: skip
        for start, ready in in_step(blocks):
            stop = start + ready[0].band.shape[1]
            shape = (n_streams, stop - start, self.extractor.n_tones)
            phasors, band = np.empty(shape, complex), np.empty(shape)
            for (tones, channels), part in zip(parts.items(), ready, strict=True):
                _put(phasors, band, channels, tones, part)
            for job, estimate in zip(jobs, estimates, strict=True):
                _put(phasors, band, job.channels, job.comb.tones, estimate.phasors(start, stop))
            yield ToneBlock(start, self.extractor.tones(phasors, start), band)
        for estimate in estimates:
            estimate.close()


class _Job(NamedTuple):
    """A comb, or a lone tone that channels share, in some channels."""

    comb: Comb
    channels: tuple[int, ...]
    shared: Shared | None


def _parts(
    jobs: Sequence[_Job], n_streams: int, n_tones: int
) -> dict[tuple[int, ...], tuple[int, ...]]:
    """By the tones that are left of a channel, the channels."""
    parts: dict[tuple[int, ...], tuple[int, ...]] = {}
    for c in range(n_streams):
        done = {k for job in jobs if c in job.channels for k in job.comb.tones}
        tones = tuple(k for k in range(n_tones) if k not in done)
        parts[tones] = (*parts.get(tones, ()), c)
    return parts


def _put(
    phasors: np.ndarray,
    band: np.ndarray,
    channels: Sequence[int],
    tones: Sequence[int],
    part: PhasorEstimate,
) -> None:
    """Write the estimate of some tones in some channels to its place."""
    for i, c in enumerate(channels):
        phasors[c][:, tones], band[c][:, tones] = part.phasors[i], part.band[i]


@dataclass(frozen=True)
class _Run:
    """An extractor over one recording."""

    extractor: PretrainedExtractor
    read: Read
    n_samples: int
    n_streams: int
    courses: Courses | None
    scratch: Path

    def jobs(
        self,
        combs: Sequence[Comb],
        shared: Sequence[SharedChannels | None],
        interferers_hz: Sequence[float],
    ) -> list[_Job]:
        """Combs and shared tones, those first that channels share."""
        if self.ahead is not None or self.courses is None:
            shared = ()
        shared = [*shared, *[None] * (self.extractor.n_tones - len(shared))]
        everywhere = tuple(range(self.n_streams))
        jobs: list[_Job] = []
        in_combs: set[int] = set()
        for comb in self.usable(combs):
            in_combs.update(comb.tones)
            one = shared[comb.tones[0]]
            if one is not None:
                jobs.append(_Job(comb, one.channels, Shared(one.is_certain)))
            rest = tuple(c for c in everywhere if one is None or c not in one.channels)
            if rest or not everywhere:
                jobs.append(_Job(comb, rest, None))
        hz = self.extractor.frequencies_hz
        for k, one in enumerate(shared):
            beside = [*(f for i, f in enumerate(hz) if i != k), *interferers_hz]
            lone = Comb(hz[k], (1.0,), (k,))
            if one is None or k in in_combs or not self._is_long(lone):
                continue
            is_apart = all(abs(f - hz[k]) > MIN_APART * hz[k] for f in beside)
            if is_apart and self._is_one_course(k, one.channels):
                jobs.append(_Job(lone, one.channels, Shared(one.is_certain)))
        return jobs

    def _is_one_course(self, k: int, channels: Sequence[int]) -> bool:
        """Whether channels have the same course of the k-th tone."""
        if self.courses is None:
            return False
        t_s = np.linspace(0, self.n_samples / self.extractor.rate_hz, N_COMPARED)
        return len(cycles_of([self.courses[c][k] for c in channels], t_s)) == 1

    def _is_long(self, comb: Comb) -> bool:
        """Whether the recording holds enough periods of a comb's spacing."""
        return comb.spacing_hz * self.n_samples / self.extractor.rate_hz >= MIN_PERIODS

    def usable(self, combs: Sequence[Comb]) -> list[Comb]:
        """Combs of which the recording holds enough periods, without tones that depart from them.

        The other tones are estimated as if they were in no comb.
        """
        used = []
        for comb in combs:
            tones = [i for i in range(len(comb.tones)) if self._follows(comb, i)]
            part = replace(
                comb,
                orders=tuple(comb.orders[i] for i in tones),
                tones=tuple(comb.tones[i] for i in tones),
            )
            if len(tones) > 1 and self._is_long(comb):
                used.append(part)
        return used

    def _follows(self, comb: Comb, i: int) -> bool:
        """Whether the i-th tone of a comb has the course of most of the others."""
        if comb.is_stated or self.courses is None or self.ahead is not None:
            return True
        t_s = np.linspace(0, self.n_samples / self.extractor.rate_hz, N_COMPARED)
        for stream in self.courses:
            cycles = np.array(
                [
                    stream[k].phase_cycles(t_s) / order
                    for k, order in zip(comb.tones, comb.orders, strict=True)
                ]
            )
            others = np.median(cycles, axis=0)
            if np.abs(cycles[i] - others).max() > SAME_CYCLES:
                return False
        return True

    @property
    def ahead(self) -> int | None:
        """Samples of the future that an estimate rests on at least; None: all of them."""
        ahead_s = self.extractor.ahead_s
        wanted = math.inf if ahead_s is None else ahead_s * self.extractor.rate_hz
        return None if wanted > self.n_samples - 0.5 else round(wanted)

    def combs(
        self, jobs: Sequence[_Job], has_gaps: bool, on_samples: Callable[[int], None]
    ) -> list[CombEstimate]:
        """Of each comb the estimate without the others."""
        estimates: dict[int, CombEstimate] = {}
        overlap = any(
            set(a.channels) & set(b.channels) for i, a in enumerate(jobs) for b in jobs[:i]
        )
        n_parts = len(jobs) * (N_ROUNDS if overlap else 1)
        for part in range(n_parts):
            i = part % len(jobs)
            job = jobs[i]
            beside = {j: estimate for j, estimate in estimates.items() if j != i}
            made = smooth_comb(
                self.extractor, job.comb, self._courses_of(job),
                self._without(job.channels, [jobs[j] for j in beside], list(beside.values())),
                self.n_samples, has_gaps=has_gaps, shared=job.shared, ahead=self.ahead,
                scratch=self.scratch,
                on_samples=_part(on_samples, part, n_parts, self.n_samples),
            )  # fmt: skip
            if i in estimates:
                estimates[i].close()
            estimates[i] = made
        return [estimates[i] for i in range(len(jobs))]

    def _courses_of(self, job: _Job) -> list[list[LineCourse]]:
        """Of each stream the courses of a comb's tones, at rest while looking ahead."""
        comb = job.comb
        if self.courses is None or self.ahead is not None:  # it must not know where a line will be
            duration_s = self.n_samples / self.extractor.rate_hz
            return [
                [LineCourse.at_rest(duration_s, 0.1 * comb.spacing_hz)] * len(comb.tones)
            ] * len(job.channels)
        return [[self.courses[c][k] for k in comb.tones] for c in job.channels]

    def _without(
        self, channels: Sequence[int], jobs: Sequence[_Job], estimates: Sequence[CombEstimate]
    ) -> Read:
        """The samples of some channels without some combs."""
        if not jobs and len(channels) == self.n_streams:
            return self.read
        rows = list(channels)

        def read(start: int, stop: int) -> Float[np.ndarray, "B T"]:
            rest = self.read(start, stop)
            if jobs:
                rest = rest.copy()
            for job, estimate in zip(jobs, estimates, strict=True):
                rest[list(job.channels)] -= estimate.total(start, stop)
            return rest[rows]

        return read

    def others(
        self,
        channels: Sequence[int],
        tones: Sequence[int],
        jobs: Sequence[_Job],
        combs: Sequence[CombEstimate],
        interferers_hz: Sequence[float],
        on_samples: Callable[[int], None],
    ) -> Iterator[PhasorEstimate]:
        """Blocks of the tones that are in no comb in some channels, empty where there are none."""
        n_streams = len(channels)
        if not tones:
            size = max(1, BLOCK // (n_streams * self.extractor.n_tones))
            for start in range(0, self.n_samples, size):
                shape = (n_streams, min(size, self.n_samples - start), 0)
                yield PhasorEstimate(np.empty(shape, complex), np.empty(shape))
                on_samples(2 * (start + shape[1]))
            return
        hz, courses = [self.extractor.frequencies_hz[k] for k in tones], None
        if self.courses is not None:
            joint = interferers_hz if self.ahead is None else ()
            beside = range(self.extractor.n_tones, self.extractor.n_tones + len(joint))
            courses = [[self.courses[c][k] for k in (*tones, *beside)] for c in channels]
            hz += joint
        extractor = replace(self.extractor, frequencies_hz=tuple(hz))
        read = self._without(channels, jobs, combs)
        blocks = smooth_blocks(
            extractor, read, self.n_samples, n_streams, ahead=self.ahead, courses=courses,
            scratch=self.scratch, on_samples=on_samples,
        )  # fmt: skip
        if self.ahead is None:
            blocks = with_regression(blocks, extractor, read, self.n_samples, n_streams, courses)
        for _, (phasors, band) in blocks:
            k = len(tones)
            yield PhasorEstimate(phasors[..., :k], band[..., :k])


def _part(
    on_samples: Callable[[int], None], part: int, n_parts: int, n_samples: int
) -> Callable[[int], None]:
    """Progress of one part of several that take as many samples together."""
    return lambda done: on_samples((part * n_samples + done) // n_parts)
