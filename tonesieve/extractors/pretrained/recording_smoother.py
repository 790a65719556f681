"""The pretrained extractor over a recording: combs, other tones, and short records.

Combs come first (`comb_smoother`); the other tones are estimated in what these leave over. Where
several combs overlap, each is estimated once more without the others.

Axes: B streams, T samples, K tones.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from tonesieve.extractors.pretrained.carriers import Courses
from tonesieve.extractors.pretrained.comb_smoother import (
    MIN_PERIODS,
    CombEstimate,
    smooth_comb,
)
from tonesieve.extractors.pretrained.extractor import PhasorEstimate, PretrainedExtractor
from tonesieve.extractors.pretrained.short_record import with_regression
from tonesieve.extractors.pretrained.smoother import Read, smooth_blocks
from tonesieve.extractors.protocol import ToneBlock
from tonesieve.signals.comb import Comb
from tonesieve.signals.line_course import LineCourse

# Guard, of memory: samples of all tones and streams in a block, where combs alone are estimated.
BLOCK = 2**16
# Guard, of time: estimates of each of several combs.
N_ROUNDS = 2
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
        interferers_hz: Sequence[float] = (),
        has_gaps: bool = True,
        scratch: Path | None = None,
        on_samples: Callable[[int], None],
    ) -> Iterator[ToneBlock]:
        """Yield tones and bands of blocks in turn, each from both directions.

        Interferers are estimated jointly with the tones, and left out.
        """
        folder = Path(tempfile.gettempdir()) if scratch is None else scratch
        run = _Run(self.extractor, read, n_samples, n_streams, courses, folder)
        combs = run.usable(self.combs)
        estimates = run.combs(combs, has_gaps, on_samples)
        n_done = n_samples if combs else 0
        n_twice = (2 * n_samples - n_done) / (2 * n_samples)

        def report(done: int) -> None:
            on_samples(n_done + int(done * n_twice))

        in_combs = {k for comb in combs for k in comb.tones}
        others = [k for k in range(self.extractor.n_tones) if k not in in_combs]
        shape = (n_streams, 0, self.extractor.n_tones)
        for start, of_others in run.others(others, estimates, interferers_hz, report):
            stop = start + of_others.band.shape[1]
            shape = (n_streams, stop - start, self.extractor.n_tones)
            phasors, band = np.empty(shape, complex), np.empty(shape)
            phasors[..., others], band[..., others] = of_others
            for comb, estimate in zip(combs, estimates, strict=True):
                tones = list(comb.tones)
                phasors[..., tones], band[..., tones] = estimate.phasors(start, stop)
            yield ToneBlock(start, self.extractor.tones(phasors, start), band)
        for estimate in estimates:
            estimate.close()


@dataclass(frozen=True)
class _Run:
    """An extractor over one recording."""

    extractor: PretrainedExtractor
    read: Read
    n_samples: int
    n_streams: int
    courses: Courses | None
    scratch: Path

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
            n_periods = comb.spacing_hz * self.n_samples / self.extractor.rate_hz
            if len(tones) > 1 and n_periods >= MIN_PERIODS:
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
        self, combs: Sequence[Comb], has_gaps: bool, on_samples: Callable[[int], None]
    ) -> list[CombEstimate]:
        """Of each comb the estimate without the others."""
        estimates: dict[int, CombEstimate] = {}
        n_rounds = N_ROUNDS if len(combs) > 1 else 1
        n_parts = max(1, n_rounds * len(combs))
        for part in range(n_rounds * len(combs)):
            i = part % len(combs)
            beside = [estimate for j, estimate in estimates.items() if j != i]
            made = smooth_comb(
                self.extractor, combs[i], self._courses_of(combs[i]), self._without(beside),
                self.n_samples, has_gaps=has_gaps, ahead=self.ahead, scratch=self.scratch,
                on_samples=_part(on_samples, part, n_parts, self.n_samples),
            )  # fmt: skip
            if i in estimates:
                estimates[i].close()
            estimates[i] = made
        return [estimates[i] for i in range(len(combs))]

    def _courses_of(self, comb: Comb) -> list[list[LineCourse]]:
        """Of each stream the courses of a comb's tones, at rest while looking ahead."""
        if self.courses is None or self.ahead is not None:  # it must not know where a line will be
            duration_s = self.n_samples / self.extractor.rate_hz
            return [
                [LineCourse.at_rest(duration_s, 0.1 * comb.spacing_hz)] * len(comb.tones)
            ] * self.n_streams
        return [[stream[k] for k in comb.tones] for stream in self.courses]

    def _without(self, estimates: Sequence[CombEstimate]) -> Read:
        """The samples without some combs."""
        if not estimates:
            return self.read

        def read(start: int, stop: int) -> Float[np.ndarray, "B T"]:
            rest = self.read(start, stop)
            for estimate in estimates:
                rest = rest - estimate.total(start, stop)
            return rest

        return read

    def others(
        self,
        tones: Sequence[int],
        combs: Sequence[CombEstimate],
        interferers_hz: Sequence[float],
        on_samples: Callable[[int], None],
    ) -> Iterator[tuple[int, PhasorEstimate]]:
        """Blocks of the tones that are in no comb, empty ones where there are none."""
        if not tones:
            size = max(1, BLOCK // (self.n_streams * self.extractor.n_tones))
            for start in range(0, self.n_samples, size):
                shape = (self.n_streams, min(size, self.n_samples - start), 0)
                yield start, PhasorEstimate(np.empty(shape, complex), np.empty(shape))
                on_samples(2 * (start + shape[1]))
            return
        hz, courses = [self.extractor.frequencies_hz[k] for k in tones], None
        if self.courses is not None:
            joint = interferers_hz if self.ahead is None else ()
            beside = range(self.extractor.n_tones, self.extractor.n_tones + len(joint))
            courses = [[stream[k] for k in (*tones, *beside)] for stream in self.courses]
            hz += joint
        extractor = replace(self.extractor, frequencies_hz=tuple(hz))
        read = self._without(combs)
        blocks = smooth_blocks(
            extractor, read, self.n_samples, self.n_streams, ahead=self.ahead, courses=courses,
            scratch=self.scratch, on_samples=on_samples,
        )  # fmt: skip
        if self.ahead is None:
            blocks = with_regression(
                blocks, extractor, read, self.n_samples, self.n_streams, courses
            )
        for start, (phasors, band) in blocks:
            k = len(tones)
            yield start, PhasorEstimate(phasors[..., :k], band[..., :k])


def _part(
    on_samples: Callable[[int], None], part: int, n_parts: int, n_samples: int
) -> Callable[[int], None]:
    """Progress of one part of several that take as many samples together."""
    return lambda done: on_samples((part * n_samples + done) // n_parts)
