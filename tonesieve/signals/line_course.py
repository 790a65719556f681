"""A spectral line near its nominal frequency, and its course: its frequency over time.

A path through spectrograms of many window lengths finds the line; the phase of the demodulated line
is smoothed as far as the noise requires. Of the nominal frequency, a constant one and the course,
that is chosen whose demodulated line has the most evidence, less the cost of its parameters. Axes:
N steps of a baseband, J blocks of steps, T any times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy
from jaxtyping import Bool, Complex, Float

from tonesieve.signals.baseband import PASS
from tonesieve.signals.phase_smoother import SmoothPhase, smooth_phase, straight_phase
from tonesieve.signals.ridge import (
    Ridge,
    best_ridge,
    level_weights,
    noise_floor,
    ridge_path,
    spectrogram,
    whitened,
    window_lengths,
)

# Chosen: a line is found at this bound of its probability in noise.
FOUND_P = 0.01
# Chosen, not tuned: blocks in a window of the ridge, whose phases are smoothed.
BLOCKS_PER_WINDOW = 8
# Chosen: blocks of a record in which a constant frequency is fitted.
CONSTANT_BLOCKS = 64
# Guard: lines beside the range that are removed before the search, at most; a removed line's score.
MAX_NEIGHBOURS, NEIGHBOUR_SCORE = 4, 12.0
# Guard: error of a subtracted line beside gaps, over its amplitude, and steps that it reaches.
EDGE_ERROR, EDGE_STEPS = 0.3, 11
# Guard: distance, in inverse windows, from which on two lines are apart.
APART_BINS = 4.0
# Guard: the fewest steps in which a line is searched.
MIN_STEPS = 8
# Chosen, not tuned: evidence that a course has to have over a constant frequency.
COURSE_COST = 2.0


@dataclass(frozen=True)
class LineCourse:
    """Frequency of a line over time, relative to its nominal frequency.

    Parameters
    ----------
    step_s : float
        Time between two steps.
    within_hz : float
        Half-width of the range that was searched.
    steps_hz : ndarray, shape (N,)
        Offset from the nominal frequency at every step; exactly 0 where ``kind`` is ``nominal``,
        exactly equal where it is ``constant``.
    kind : {"nominal", "constant", "course"}
        Whether the line is at its nominal frequency, beside it, or moves. A line that is not found
        is at its nominal frequency.
    found : bool
        Whether the line stands out of the noise at ``p_value`` 0.01.
    p_value : float
        Bound of the probability of such a line in Gaussian noise.
    is_on : ndarray, shape (N,)
        Whether the line is there at every step; False where it is lost, and in gaps.
    std_hz : ndarray, shape (N,)
        Standard error of ``steps_hz``, as far as white noise beside the line accounts for it.
    """

    step_s: float
    within_hz: float
    steps_hz: Float[np.ndarray, " N"]
    kind: Literal["nominal", "constant", "course"]
    found: bool
    p_value: float
    is_on: Bool[np.ndarray, " N"]
    std_hz: Float[np.ndarray, " N"]

    def offset_hz(self, t_s: Float[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
        """Offset from the nominal frequency at times in s after the first sample."""
        return np.interp(t_s, self.step_s * np.arange(len(self.steps_hz)), self.steps_hz)

    def phase_cycles(self, t_s: Float[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
        """Integral of the offset from time 0 on, in cycles; continuous with its derivative."""
        hz, last = self.steps_hz, len(self.steps_hz) - 1
        at_steps = np.concatenate([[0.0], np.cumsum((hz[1:] + hz[:-1]) / 2)]) * self.step_s
        place = np.asarray(t_s) / self.step_s
        below = np.clip(np.floor(place).astype(np.int64), 0, max(last - 1, 0))
        above = np.minimum(below + 1, last)
        # Beyond both ends the frequency is constant.
        inside = np.clip(place - below, 0.0, 1.0)
        outside = place - below - inside
        slope = hz[above] - hz[below]
        cycles = hz[below] * inside + slope * inside**2 / 2
        cycles += np.where(outside < 0, hz[below], hz[above]) * outside
        return np.asarray(at_steps[below] + cycles * self.step_s)

    def lost_s(self) -> list[tuple[float, float]]:
        """Stretches (start, end), in s, in which the line is lost."""
        edges = np.flatnonzero(np.diff(np.concatenate([[False], ~self.is_on, [False]]).astype(int)))
        return [
            (float(a) * self.step_s, float(b) * self.step_s)
            for a, b in zip(edges[::2], edges[1::2], strict=True)
        ]


def find_course(
    phasors: Complex[np.ndarray, " N"],
    weights: Float[np.ndarray, " N"],
    step_s: float,
    within_hz: float,
    shifts_s: Float[np.ndarray, " N"] | None = None,
) -> LineCourse:
    """Find a line within ``within_hz`` of the nominal frequency, and its course.

    Parameters
    ----------
    phasors : ndarray, shape (N,)
        Baseband of one channel, by `Baseband`.
    weights : ndarray, shape (N,)
        Weight of every step, 0 in gaps.
    step_s : float
        Time between two steps.
    within_hz : float
        Half-width of the range to search.
    shifts_s : ndarray, shape (N,), optional
        `Baseband.shifts_s`; 0 by default. Without it, steps beside gaps and ends are biased.

    Returns
    -------
    LineCourse
        The line's frequency over time.
    """
    n = len(phasors)
    nothing = LineCourse(
        step_s, within_hz, np.zeros(n), "nominal", False, 1.0, np.zeros(n, bool),
        np.full(n, within_hz),
    )  # fmt: skip
    power = float(np.sum(weights * np.abs(phasors) ** 2))
    if n < MIN_STEPS or not power > 0:
        return nothing
    phasors = phasors / np.sqrt(power / np.sum(weights))
    shifts_s = np.zeros(n) if shifts_s is None else shifts_s
    line = _Search(phasors, weights, shifts_s, step_s, within_hz)
    ridge = line.ridge(within_hz)
    candidates = [line.nominal(), line.constant(ridge), line.course(ridge)]
    score = max(ridge.score, candidates[0].score) - np.log(2.0)
    p_value = float(np.exp(-max(score, 0.0)))
    if p_value > FOUND_P:
        return nothing.__class__(**{**nothing.__dict__, "p_value": p_value})
    best = max(candidates, key=lambda candidate: candidate.score)  # the first of equal ones
    best = line.at_nominal_beside(best, ridge) or best
    return LineCourse(
        step_s, within_hz, best.hz, best.kind, True, p_value, best.is_on, best.std_hz
    )


@dataclass(frozen=True)
class _Candidate:
    kind: Literal["nominal", "constant", "course"]
    hz: np.ndarray
    score: float
    is_on: np.ndarray
    std_hz: np.ndarray


class _Search:
    """The line in one baseband, its noise of density 1."""

    def __init__(
        self, phasors: np.ndarray, weights: np.ndarray, shifts_s: np.ndarray, step_s: float,
        within_hz: float,
    ) -> None:  # fmt: skip
        self.shifts_s = shifts_s
        self.weights, self.step_s, self.within_hz = weights, step_s, within_hz
        self.n = len(phasors)
        floor = noise_floor(phasors, weights, step_s, within_hz)
        self.phasors = whitened(phasors, weights, step_s, floor)
        self._remove_neighbours()
        self.weights = level_weights(self.phasors, self.weights, step_s, within_hz)

    def ridge(self, limit_hz: float) -> Ridge:
        return best_ridge(self.phasors, self.weights, self.step_s, limit_hz)

    def nominal(self) -> _Candidate:
        return self._candidate("nominal", np.zeros(self.n), 0.0, np.zeros(self.n))

    def constant(self, ridge: Ridge) -> _Candidate:
        """The best constant frequency: the highest peak of the periodogram, or the ridge's mean."""
        frames = spectrogram(self.phasors, self.weights, self.step_s, self.n, self.within_hz)
        peak = frames.hz[int(np.argmax(frames.power[0]))]
        starts = [float(peak)]
        if ridge.is_on.any():
            starts.append(float(np.median(ridge.hz[ridge.is_on])))
        made = []
        for hz in starts:
            smooth, block = self._smoothed(np.full(self.n, hz), self.n // CONSTANT_BLOCKS, True)
            fitted, std_hz = self._frequency(smooth, block)
            fitted = fitted if abs(fitted[0]) <= self.within_hz * 1.05 else np.full(self.n, hz)
            made.append(self._candidate("constant", fitted, self._place_cost, std_hz))
        return max(made, key=lambda candidate: candidate.score)

    def course(self, ridge: Ridge) -> _Candidate:
        """The ridge, with its phase smoothed."""
        smooth, block = self._refined(ridge)
        hz, std_hz = self._frequency(smooth, block)
        cost = self._place_cost + smooth.cost + COURSE_COST
        return self._candidate("course", hz, cost, std_hz)

    def at_nominal_beside(self, found: _Candidate, ridge: Ridge) -> _Candidate | None:
        """A weaker line at the nominal frequency, apart from the one found: it takes precedence."""
        apart = APART_BINS / (min(ridge.window, self.n) * self.step_s)
        if not found.is_on.any() or np.min(np.abs(found.hz[found.is_on])) < apart:
            return None
        self._subtract(ridge)
        nominal, constant = self.nominal(), self.constant(self.ridge(apart / 2))
        is_there = nominal.score > max(NEIGHBOUR_SCORE, constant.score)
        return nominal if is_there else None

    @property
    def _place_cost(self) -> float:
        """Logarithm of the number of frequencies that differ in the range."""
        return float(np.log(1 + 4 * self.within_hz * self.n * self.step_s))

    def _phase(self, hz: np.ndarray) -> np.ndarray:
        """Radians by step, where its samples have their centre."""
        cycles = np.concatenate([[0.0], np.cumsum((hz[1:] + hz[:-1]) / 2)]) * self.step_s
        cycles += hz * self.shifts_s
        return np.asarray(2 * np.pi * cycles)

    def _smoothed(
        self, hz: np.ndarray, block: int, straight: bool = False
    ) -> tuple[SmoothPhase, int]:
        """Smoothed phase of a line near a course, by block, and the steps in a block."""
        block = max(1, min(block, self.n // 8))
        phase = self._phase(hz)
        n_blocks = -(-self.n // block)
        padding = n_blocks * block - self.n

        def sums(values: np.ndarray) -> np.ndarray:
            return np.pad(values, (0, padding)).reshape(n_blocks, block).sum(axis=1)

        weight = sums(self.weights)
        line = sums(self.weights * self.phasors * np.exp(-1j * phase))
        means = np.divide(line, weight, out=np.zeros_like(line), where=weight > 0)
        centres = block * np.arange(n_blocks) + (block - 1) / 2
        beyond = np.maximum(centres - self.n + 1, 0.0)
        unshifted = phase - 2 * np.pi * hz * self.shifts_s
        reference = np.interp(centres, np.arange(self.n), unshifted)
        reference += 2 * np.pi * self.step_s * hz[-1] * beyond
        if straight:
            return straight_phase(means, weight, reference), block
        return smooth_phase(means, weight, reference, self._place_cost), block

    def _refined(self, ridge: Ridge) -> tuple[SmoothPhase, int]:
        """The smoothed phase of a ridge, and the steps in a block."""
        return self._smoothed(ridge.hz, ridge.window // BLOCKS_PER_WINDOW)

    def _frequency(self, smooth: SmoothPhase, block: int) -> tuple[np.ndarray, np.ndarray]:
        """Frequency (N) and its standard error (N)."""
        unit = 1 / (2 * np.pi * self.step_s * block)
        hz = smooth.slope((np.arange(self.n) - (block - 1) / 2) / block) * unit
        return hz, np.full(self.n, smooth.slope_std() * unit)

    def _candidate(
        self, kind: Literal["nominal", "constant", "course"], hz: np.ndarray, cost: float,
        std_hz: np.ndarray,
    ) -> _Candidate:  # fmt: skip
        """Evidence of a course: of the demodulated line, at the best window length."""
        line = self.phasors * np.exp(-1j * self._phase(hz))
        best, is_on = -np.inf, np.zeros(self.n, bool)
        lengths = window_lengths(self.n)
        for window in lengths:
            frames = spectrogram(line, self.weights, self.step_s, window, 0.0)
            _, on, score = ridge_path(frames)
            if score > best:
                best = score
                nearest = (np.arange(self.n) + frames.hop // 2) // frames.hop
                is_on = on[np.minimum(nearest, len(on) - 1)] & (self.weights > 0)
        return _Candidate(kind, hz, best - float(np.log(len(lengths))) - cost, is_on, std_hz)

    def _remove_neighbours(self) -> None:
        """Subtract lines beside the range, whose skirts would be taken for lines in it."""
        limit_hz = min(PASS * self.within_hz, 0.5 / self.step_s)
        for _ in range(MAX_NEIGHBOURS):
            ridge = self.ridge(limit_hz)
            if ridge.score < NEIGHBOUR_SCORE or not ridge.is_on.any():
                return
            if np.median(np.abs(ridge.hz[ridge.is_on])) <= self.within_hz:
                return
            self._subtract(ridge)

    def _subtract(self, ridge: Ridge) -> None:
        """Subtract a line; where its phase is uncertain beside gaps, weights fall."""
        hz = self._frequency(*self._refined(ridge))[0]
        phase = self._phase(hz)
        turned = self.phasors * np.exp(-1j * phase)
        taper = np.hanning(min(ridge.window, self.n) + 2)[1:-1]
        if ridge.window >= self.n:
            taper = np.ones(2 * self.n - 1)
        norm = scipy.signal.oaconvolve(self.weights, taper, mode="same")
        mean = scipy.signal.oaconvolve(self.weights * turned, taper, mode="same")
        usable = norm > 1e-6 * norm.max()
        mean = np.divide(mean, norm, out=np.zeros_like(mean), where=usable)
        self.phasors = self.phasors - mean * np.exp(1j * phase)
        turn = np.minimum((2 * np.pi * hz * self.shifts_s) ** 2, 1.0)
        error = EDGE_ERROR * scipy.ndimage.maximum_filter1d(turn, EDGE_STEPS) * np.abs(mean)
        self.weights = self.weights / (1 + self.weights * error**2)
