"""The frequency that the lines of a comb share, and its course over time.

Lines at multiples k f of one frequency have the phases k theta + c_k. Each is searched on its own,
in a range of the same share of its frequency. The line that explains most of the evidence of all
leads: the others are demodulated by its phase times their order, and theta is smoothed on all of
them together (`phase_smoother.smooth_common_phase`), where a line of order k knows theta k times as
well as its own phase. So neither a missing fundamental nor a line far below the noise matters.
Axes: N steps of a baseband, J blocks of time, H lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Complex, Float

from tonesieve.signals.line_course import (
    FOUND_P,
    MIN_STEPS,
    LineCourse,
    LineFit,
    fit_line,
    is_steady,
)
from tonesieve.signals.line_search import (
    BLOCKS_PER_WINDOW,
    COURSE_COST,
    Candidate,
    LineSearch,
    weighted_rms,
)
from tonesieve.signals.phase_smoother import SmoothPhase, smooth_common_phase

# Guard, of time: lines that may lead, at most. Chosen, not tuned.
MAX_LEADERS = 3
# Derived: in noise the evidence of a line exceeds this with a probability of 0.05 (Markov's
# inequality); below it a line has no part in the common phase.
MIN_EVIDENCE = 3.0
# Guard, of memory: blocks of the common phase, at most.
MAX_COMB_BLOCKS = 2**14
# Evidence, as a logarithm, by which a line that need not share the frequency has to be better on
# its own; derived: of a common course that is true, a probability of 5% (Markov's inequality).
OWN_EVIDENCE = 3.0
# Derived: phases that stay within this part of a cycle add up to half their sum and more.
SAME_LINE_CYCLES = 1.0
# Chosen: frequencies of the periodogram of a comb in the inverse duration of its highest line.
PARTS = 4


class HarmonicBaseband(NamedTuple):
    """Baseband of one line of a comb, by `Baseband`.

    Parameters
    ----------
    order : float
        Its frequency over the comb's.
    phasors : ndarray, shape (N,)
        Steps of the baseband.
    weights : ndarray, shape (N,)
        Weight of every step, 0 in gaps.
    step_s : float
        Time between two steps.
    within_hz : float
        The baseband's range.
    shifts_s : ndarray, shape (N,)
        `Baseband.shifts_s`.
    """

    order: float
    phasors: Complex[np.ndarray, " N"]
    weights: Float[np.ndarray, " N"]
    step_s: float
    within_hz: float
    shifts_s: Float[np.ndarray, " N"]


def find_comb_course(
    lines: Sequence[HarmonicBaseband], *, is_stated: bool = True
) -> tuple[LineCourse, list[LineCourse]]:
    """Find the frequency that the lines of a comb share.

    Parameters
    ----------
    lines : sequence of HarmonicBaseband
        Basebands around the H multiples of the nominal frequency, of one or of several channels.
    is_stated : bool, default True
        Whether it is certain that they share it. Otherwise a line follows its own course where that
        has more evidence.

    Returns
    -------
    course : LineCourse
        Frequency of order 1, relative to the nominal one.
    of_lines : list of LineCourse
        Of each line the frequency that follows from it, and when it is there. Their ``found`` and
        ``p_value`` are those of the comb.
    """
    comb = CombSearch.of(lines)
    found = comb.found().course
    return found, comb.courses_of(found, lines, is_stated=is_stated)


class ScoredCourse(NamedTuple):
    """A course of order 1, and its evidence.

    Parameters
    ----------
    course : LineCourse
        The course.
    score : float
        Its evidence less the cost of its parameters; 0 if it is not found.
    """

    course: LineCourse
    score: float


@dataclass(frozen=True)
class HarmonicSearch:
    """A line in its whitened baseband, and what is found in it alone.

    Parameters
    ----------
    index : int
        Of the line, among all.
    order : float
        Its frequency over the comb's.
    search : LineSearch
        The whitened baseband.
    fit : LineFit
        The line of most evidence.
    is_steady : bool
        Whether it is steady at its nominal frequency.
    """

    index: int
    order: float
    search: LineSearch
    fit: LineFit
    is_steady: bool

    @property
    def step_s(self) -> float:
        return self.search.step_s

    @property
    def t_s(self) -> np.ndarray:
        return self.step_s * np.arange(self.search.n)

    def along(self, course: LineCourse) -> Candidate:
        """The line along a course of the comb."""
        return self.search.along(self.order * course.offset_hz(self.t_s))

    def evidence(self, course: LineCourse) -> float:
        """Of the line along a course of the comb, over noise; 0 at least."""
        return max(0.0, self.along(course).score)

    def is_on_at(self, line: Candidate, course: LineCourse) -> np.ndarray:
        """Whether the line is on, at the steps of a course."""
        at = course.step_s * np.arange(len(course.steps_hz))
        nearest = np.round(at / self.step_s).astype(np.int64)
        return np.asarray(line.is_on[np.minimum(nearest, self.search.n - 1)])

    def departs(self, common: Candidate) -> bool:
        """Whether it is found, and elsewhere with more evidence than along the common course."""
        is_found = self.fit.p_value <= FOUND_P
        return bool(is_found and self.fit.best.score > common.score + OWN_EVIDENCE)

    def own_course(self) -> LineCourse:
        """The course that it has alone."""
        return self.fit.course(self.search, is_steady=self.is_steady)

    def lead(self, course: LineCourse) -> LineCourse:
        """The course of order 1 that follows from this line alone."""
        hz, std_hz = (values / self.order for values in (self.fit.best.hz, self.fit.best.std_hz))
        is_on = np.ones(len(hz), bool)
        return replace(
            course, step_s=self.step_s, steps_hz=hz, std_hz=std_hz, is_on=is_on, kind="course"
        )

    def block_means(
        self, course: LineCourse, block_s: float, n_blocks: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Average the line over blocks, demodulated: means, and their precision."""
        search = self.search
        hz = course.offset_hz(self.t_s)
        cycles = self.order * (course.phase_cycles(self.t_s) + hz * search.shifts_s)
        line = search.weights * search.phasors * np.exp(-2j * np.pi * cycles)
        block = np.minimum((self.t_s / block_s).astype(np.int64), n_blocks - 1)
        precision = np.bincount(block, search.weights, n_blocks)
        sums = np.bincount(block, line.real, n_blocks) + 1j * np.bincount(
            block, line.imag, n_blocks
        )
        means = np.divide(sums, precision, out=np.zeros_like(sums), where=precision > 0)
        return means, precision


@dataclass(frozen=True)
class CombSearch:
    """The lines of a comb whose basebands hold anything.

    Parameters
    ----------
    harmonics : list of HarmonicSearch
        The lines.
    empty : LineCourse
        The nominal frequency, on the coarsest steps.
    """

    harmonics: list[HarmonicSearch]
    empty: LineCourse

    @classmethod
    def of(cls, lines: Sequence[HarmonicBaseband]) -> CombSearch:
        """Whiten the basebands of lines, and find the line of each alone."""
        coarsest = max(lines, key=lambda line: (line.step_s, len(line.phasors)))
        n, within_hz = len(coarsest.phasors), max(line.within_hz / line.order for line in lines)
        empty = LineCourse(
            coarsest.step_s, within_hz, np.zeros(n), "nominal", False, 1.0, np.zeros(n, bool),
            np.full(n, within_hz),
        )  # fmt: skip
        harmonics = []
        for index, line in enumerate(lines):
            unit = weighted_rms(line.phasors, line.weights)
            if len(line.phasors) < MIN_STEPS or not unit > 0:
                continue
            phasors = line.phasors / unit
            search = LineSearch(phasors, line.weights, line.shifts_s, line.step_s, line.within_hz)
            steady = is_steady(phasors, line.weights)
            harmonics.append(HarmonicSearch(index, line.order, search, fit_line(search), steady))
        return cls(harmonics, empty)

    @property
    def duration_s(self) -> float:
        return self.empty.step_s * len(self.empty.steps_hz)

    def evidence(self, course: LineCourse) -> float:
        return float(sum(harmonic.evidence(course) for harmonic in self.harmonics))

    def courses_of(
        self, found: LineCourse, lines: Sequence[HarmonicBaseband], *, is_stated: bool = True
    ) -> list[LineCourse]:
        """Of each line the course that follows from the common one, and when it is there."""
        courses = [replace(found.scaled(line.order), within_hz=line.within_hz) for line in lines]
        if found.found:
            for harmonic in self.harmonics:
                line = courses[harmonic.index]
                common = harmonic.along(found)
                courses[harmonic.index] = replace(line, is_on=harmonic.is_on_at(common, found))
                if not is_stated and harmonic.departs(common):
                    courses[harmonic.index] = harmonic.own_course()
        return courses

    def found(self) -> ScoredCourse:
        """The course of most evidence, or the nominal frequency where nothing stands out."""
        if not self.harmonics:
            return ScoredCourse(self.empty, 0.0)
        p_sum, sum_hz = self._periodogram()
        # Two tests, and the first of as many lines; Bonferroni.
        p_value = min(harmonic.fit.p_value for harmonic in self.harmonics)
        p_value = min(1.0, 2 * min(p_value * len(self.harmonics), p_sum))
        if p_value > FOUND_P:
            return ScoredCourse(replace(self.empty, p_value=p_value), 0.0)
        nominal = replace(
            self.empty, found=True, p_value=p_value, std_hz=np.zeros(len(self.empty.std_hz)),
            is_on=np.ones(len(self.empty.is_on), bool),
        )  # fmt: skip
        at_sum = replace(nominal, steps_hz=np.full(len(nominal.steps_hz), sum_hz), kind="constant")
        by_p = sorted(self.harmonics, key=lambda one: (one.fit.p_value, -one.fit.best.score))
        leaders = [
            harmonic.lead(nominal)
            for harmonic in by_p[:MAX_LEADERS]
            if harmonic.fit.p_value <= FOUND_P
        ]
        lead = max([at_sum, *leaders], key=self.evidence)
        place_cost = float(np.log(1 + 4 * self._within_hz * self._highest * self.duration_s))
        courses = [(nominal, 0.0)]
        smooth, block_s = self._smoothed(lead, place_cost)
        made = self._course(nominal, smooth, block_s)
        mean_hz = float(np.mean(made.steps_hz))
        constant = replace(made, steps_hz=np.full(len(made.steps_hz), mean_hz), kind="constant",
                           phase_std_rad=0.0)  # fmt: skip
        courses.append((constant, place_cost))
        if not (smooth.order == 2 and np.isinf(smooth.time_blocks)):
            courses.append((made, place_cost + smooth.cost + COURSE_COST))
        scores = [self.evidence(course) - cost for course, cost in courses]
        best = int(np.argmax(scores))
        if courses[best][0].kind != "nominal" and self.is_steady_beside(courses[best][0]):
            best = 0
        return ScoredCourse(courses[best][0], float(scores[best]))

    @property
    def _within_hz(self) -> float:
        return self.empty.within_hz

    @property
    def _highest(self) -> float:
        return max(harmonic.order for harmonic in self.harmonics)

    def is_steady_beside(self, course: LineCourse) -> bool:
        """Whether the strongest line is steady at its nominal frequency, and not on the course."""
        strongest = max(self.harmonics, key=lambda one: one.fit.nominal.score)
        cycles = strongest.order * course.phase_cycles(strongest.t_s)
        # A line that is not quite steady passes that test, too.
        return strongest.is_steady and float(np.ptp(cycles)) > SAME_LINE_CYCLES

    def _periodogram(self) -> tuple[float, float]:
        """Of a comb of constant frequency: the probability of its power in noise, and where."""
        n = int(2 * PARTS * self._within_hz * self._highest * self.duration_s) // 2 * 2 + 1
        hz = np.linspace(-self._within_hz, self._within_hz, n)
        power, count = np.zeros(n), np.zeros(n)
        for one in self.harmonics:
            search = one.search
            inside = np.abs(one.order * hz) <= search.within_hz
            spectrum = scipy.signal.czt(
                search.weights * search.phasors, n,
                np.exp(-2j * np.pi * one.order * (hz[1] - hz[0]) * search.step_s)
                if n > 1 else 1.0,
                np.exp(2j * np.pi * one.order * hz[0] * search.step_s),
            )  # fmt: skip
            power += inside * np.abs(spectrum) ** 2 / max(float(np.sum(search.weights)), 1e-300)
            count += inside
        tail = scipy.stats.gamma.logsf(power, np.maximum(count, 1.0))
        best = int(np.argmin(tail))
        return float(min(1.0, n * np.exp(tail[best]))), float(hz[best])

    def _smoothed(self, lead: LineCourse, place_cost: float) -> tuple[SmoothPhase, float]:
        """The common phase near a course, and the duration of a block."""
        used = [one for one in self.harmonics if one.evidence(lead) > MIN_EVIDENCE]
        used = used or self.harmonics
        windows_s = [one.fit.ridge.window * one.step_s for one in used]
        block_s = min(windows_s) / BLOCKS_PER_WINDOW
        block_s = max(block_s, self.duration_s / MAX_COMB_BLOCKS, min(one.step_s for one in used))
        block_s = min(block_s, self.duration_s / BLOCKS_PER_WINDOW)
        n_blocks = max(4, int(np.ceil(self.duration_s / block_s)))
        means, precision = (
            np.array(values)
            for values in zip(
                *(one.block_means(lead, block_s, n_blocks) for one in used), strict=True
            )
        )
        centres_s = block_s * (np.arange(n_blocks) + 0.5)
        reference = 2 * np.pi * lead.phase_cycles(centres_s)
        orders = np.array([one.order for one in used])
        return smooth_common_phase(means, precision, orders, reference, place_cost), block_s

    def _course(self, nominal: LineCourse, smooth: SmoothPhase, block_s: float) -> LineCourse:
        """The course of a smoothed phase, on steps that resolve its blocks."""
        step_s = min(block_s / 2, nominal.step_s)
        n = int(np.ceil(self.duration_s / step_s))
        unit = 1 / (2 * np.pi * block_s)
        return replace(
            nominal,
            step_s=step_s,
            steps_hz=smooth.slope(step_s * np.arange(n) / block_s - 0.5) * unit,
            std_hz=np.full(n, smooth.slope_std() * unit),
            is_on=np.ones(n, bool),
            kind="course",
            phase_std_rad=smooth.phase_std(),
        )
