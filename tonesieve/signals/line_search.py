"""Search of a line in one baseband, and its candidates: nominal, constant and moving frequency.

Axes: N steps of the baseband, J blocks of steps.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import scipy
from jaxtyping import Complex, Float

from tonesieve.signals.baseband import PASS
from tonesieve.signals.noise_floor import level_weights, noise_floor, whitened
from tonesieve.signals.phase_smoother import SmoothPhase, smooth_phase, straight_phase
from tonesieve.signals.ridge import Ridge, best_ridge, ridge_path, spectrogram, window_lengths

# Chosen, not tuned: blocks in a window of the ridge, whose phases are smoothed.
BLOCKS_PER_WINDOW = 8
# Chosen: blocks of a record in which a constant frequency is fitted.
CONSTANT_BLOCKS = 64
# Share of its time in the range from which on a line is no neighbour; chosen, not tuned: half would
# take a chirp that leaves the range for one.
OWN_SHARE = 0.05
# Guard: lines beside the range that are removed before the search, at most; a removed line's score.
MAX_NEIGHBOURS, NEIGHBOUR_SCORE = 4, 12.0
# Guard: offset of a fitted constant frequency, in ranges, at most.
MAX_OFFSET = 1.05
# Guard: error of a subtracted line beside gaps, over its amplitude, and steps that it reaches.
EDGE_ERROR, EDGE_STEPS = 1.0, 11
# Guard: distance, in inverse windows, from which on two lines are apart; derived: there a Hann
# window, whose main lobe ends at 2, has sidelobes of -41 dB and less.
APART_BINS = 4.0
# Chosen, not tuned: evidence that a course has to have over a constant frequency.
COURSE_COST = 2.0


@dataclass(frozen=True)
class Candidate:
    """A frequency of a line over time, and its evidence.

    Parameters
    ----------
    kind : {"nominal", "constant", "course"}
        At its nominal frequency, beside it, or moving.
    hz : ndarray, shape (N,)
        Offset from the nominal frequency.
    score : float
        Logarithm of the evidence over noise alone, less the cost of the parameters.
    is_on : ndarray, shape (N,)
        Whether the line is there.
    std_hz : ndarray, shape (N,)
        Standard error of ``hz``.
    cost : float
        Of the parameters; ``score`` is less that.
    window : int
        Steps for which the line is coherent, of the lengths that were tried.
    phase_std_rad : float, default 0
        Standard error of its phase.
    """

    kind: Literal["nominal", "constant", "course"]
    hz: np.ndarray
    score: float
    is_on: np.ndarray
    std_hz: np.ndarray
    cost: float
    window: int
    phase_std_rad: float = 0.0


def weighted_rms(phasors: Complex[np.ndarray, " N"], weights: Float[np.ndarray, " N"]) -> float:
    """Root mean square of a baseband, 0 if there is nothing.

    Parameters
    ----------
    phasors : ndarray, shape (N,)
        Baseband.
    weights : ndarray, shape (N,)
        Its weights.

    Returns
    -------
    float
        In the unit of the baseband.
    """
    power = float(np.sum(weights * np.abs(phasors) ** 2))
    return float(np.sqrt(power / np.sum(weights))) if power > 0 else 0.0


def window_mean(
    phasors: Complex[np.ndarray, " N"], weights: Float[np.ndarray, " N"], window: int
) -> Complex[np.ndarray, " N"]:
    """Weighted mean about every step, in Hann windows; of all steps if a window holds them.

    Parameters
    ----------
    phasors : ndarray, shape (N,)
        Baseband.
    weights : ndarray, shape (N,)
        Its weights.
    window : int
        Length of the windows, in steps.

    Returns
    -------
    ndarray, shape (N,)
        The means; 0 where there is no weight.
    """
    n = len(phasors)
    if window >= n:
        return np.full(n, np.sum(weights * phasors) / max(float(np.sum(weights)), 1e-300))
    taper = np.hanning(window + 2)[1:-1]
    norm = scipy.signal.oaconvolve(weights, taper, mode="same")
    mean = scipy.signal.oaconvolve(weights * phasors, taper, mode="same")
    usable = norm > 1e-6 * norm.max()
    return np.asarray(np.divide(mean, norm, out=np.zeros_like(mean), where=usable))


class LineSearch:
    """The line in one baseband, its noise brought to density 1.

    Parameters
    ----------
    phasors : ndarray, shape (N,)
        Baseband.
    weights : ndarray, shape (N,)
        Its weights.
    shifts_s : ndarray, shape (N,)
        `Baseband.shifts_s`.
    step_s : float
        Time between two steps.
    within_hz : float
        The baseband's range.
    without_neighbours : bool
        Whether lines beside the range are subtracted.
    """

    def __init__(
        self, phasors: np.ndarray, weights: np.ndarray, shifts_s: np.ndarray, step_s: float,
        within_hz: float, *, without_neighbours: bool = True,
    ) -> None:  # fmt: skip
        self.shifts_s = shifts_s
        self.weights, self.step_s, self.within_hz = weights, step_s, within_hz
        self.n = len(phasors)
        self.floor = noise_floor(phasors, weights, step_s, within_hz)
        self.phasors = whitened(phasors, weights, step_s, self.floor)
        if without_neighbours and self._remove_neighbours():
            # Their skirts were taken for noise.
            floor = noise_floor(self.phasors, self.weights, step_s, within_hz, is_white=True)
            self.phasors = whitened(self.phasors, self.weights, step_s, floor)
        self.weights = level_weights(self.phasors, self.weights, step_s, within_hz)

    def ridge(self, limit_hz: float) -> Ridge:
        return best_ridge(self.phasors, self.weights, self.step_s, limit_hz)

    def ridge_beside(self, hz: np.ndarray, limit_hz: float) -> Ridge:
        """The line that is at least `APART_BINS` inverse windows away from a course."""
        carrier = np.exp(1j * self.phase(hz))
        ridge = best_ridge(
            self.phasors * carrier.conj(), self.weights, self.step_s, limit_hz,
            beside_bins=APART_BINS,
        )  # fmt: skip
        return replace(ridge, hz=ridge.hz + hz)

    def nominal(self) -> Candidate:
        return self._candidate("nominal", np.zeros(self.n), 0.0, np.zeros(self.n))

    def constant(self, ridge: Ridge) -> Candidate:
        """The best constant frequency: the highest peak of the periodogram, or the ridge's mean."""
        frames = spectrogram(self.phasors, self.weights, self.step_s, self.n, self.within_hz)
        peak = frames.hz[int(np.argmax(frames.power[0]))]
        starts = [float(peak)]
        if ridge.is_on.any():
            starts.append(float(np.median(ridge.hz[ridge.is_on])))
        made = []
        for hz in starts:
            smooth, block = self._smoothed(np.full(self.n, hz), self.n // CONSTANT_BLOCKS, True)
            fitted, std_hz = self.frequency(smooth, block)
            offset = float(np.mean(fitted))
            fitted = np.full(self.n, offset if abs(offset) <= MAX_OFFSET * self.within_hz else hz)
            made.append(self._candidate("constant", fitted, self._place_cost, std_hz))
        return max(made, key=lambda candidate: candidate.score)

    def course(self, ridge: Ridge, shortest: float = 0.0) -> Candidate:
        """The ridge, with its phase smoothed; ``shortest``: steps for which it is coherent."""
        smooth, block = self.refined(ridge)
        hz, std_hz = self.frequency(smooth, block)
        if smooth.order == 2 and np.isinf(smooth.time_blocks):  # a straight phase
            constant = np.full(self.n, float(np.mean(hz)))
            return self._candidate("constant", constant, self._place_cost, std_hz, shortest)
        cost = self._place_cost + smooth.cost + COURSE_COST
        made = self._candidate("course", hz, cost, std_hz, shortest)
        return replace(made, phase_std_rad=smooth.phase_std())

    def coherent(self, line: Candidate, shortest: float) -> Candidate:
        """The same line with its evidence in windows of at least some steps."""
        return self._candidate(line.kind, line.hz, line.cost, line.std_hz, shortest)

    def along(self, hz: np.ndarray) -> Candidate:
        """A line along a course, whose parameters cost nothing."""
        return self._candidate("course", hz, 0.0, np.zeros(self.n))

    def coherence(self, hz: np.ndarray) -> int:
        """Return the steps for which a line along a course is coherent, of the lengths tried."""
        return self.along(hz).window

    def with_phasors(self, phasors: np.ndarray) -> LineSearch:
        """The same search of other phasors, of noise of the same density."""
        other = copy.copy(self)
        other.phasors = phasors
        return other

    @property
    def _place_cost(self) -> float:
        """Logarithm of the number of frequencies that differ in the range."""
        return float(np.log(1 + 4 * self.within_hz * self.n * self.step_s))

    def phase(self, hz: np.ndarray) -> np.ndarray:
        """Return radians by step, where its samples have their centre."""
        cycles = np.concatenate([[0.0], np.cumsum((hz[1:] + hz[:-1]) / 2)]) * self.step_s
        cycles += hz * self.shifts_s
        return np.asarray(2 * np.pi * cycles)

    def _smoothed(
        self, hz: np.ndarray, block: int, straight: bool = False
    ) -> tuple[SmoothPhase, int]:
        """Smoothed phase of a line near a course, by block, and the steps in a block."""
        block = max(1, min(block, self.n // 8))
        phase = self.phase(hz)
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

    def refined(self, ridge: Ridge) -> tuple[SmoothPhase, int]:
        """The smoothed phase of a ridge, and the steps in a block."""
        return self._smoothed(ridge.hz, ridge.window // BLOCKS_PER_WINDOW)

    def frequency(self, smooth: SmoothPhase, block: int) -> tuple[np.ndarray, np.ndarray]:
        """Frequency (N) and its standard error (N)."""
        unit = 1 / (2 * np.pi * self.step_s * block)
        hz = smooth.slope((np.arange(self.n) - (block - 1) / 2) / block) * unit
        return hz, np.full(self.n, smooth.slope_std() * unit)

    def _candidate(
        self, kind: Literal["nominal", "constant", "course"], hz: np.ndarray, cost: float,
        std_hz: np.ndarray, shortest: float = 0.0,
    ) -> Candidate:  # fmt: skip
        """Evidence of a course: of the demodulated line, at the best window length."""
        line = self.phasors * np.exp(-1j * self.phase(hz))
        best, is_on, best_window = -np.inf, np.zeros(self.n, bool), self.n
        lengths = [window for window in window_lengths(self.n) if window >= shortest]
        for window in lengths:
            frames = spectrogram(line, self.weights, self.step_s, window, 0.0)
            _, on, score = ridge_path(frames)
            if score > best:
                best, best_window = score, window
                nearest = (np.arange(self.n) + frames.hop // 2) // frames.hop
                is_on = on[np.minimum(nearest, len(on) - 1)] & (self.weights > 0)
        score = best - float(np.log(len(lengths))) - cost
        return Candidate(kind, hz, score, is_on, std_hz, cost, best_window)

    def _remove_neighbours(self) -> bool:
        """Subtract lines beside the range, whose skirts would be taken for lines in it."""
        limit_hz = min(PASS * self.within_hz, 0.5 / self.step_s)
        for i in range(MAX_NEIGHBOURS):
            ridge = self.ridge(limit_hz)
            if ridge.score < NEIGHBOUR_SCORE or not ridge.is_on.any():
                return i > 0
            # A line that is in the range for a while is the one that is searched.
            if np.mean(np.abs(ridge.hz[ridge.is_on]) <= self.within_hz) > OWN_SHARE:
                return i > 0
            self.subtract(ridge)
        return True

    def subtract(self, ridge: Ridge) -> None:
        """Subtract a line; where its phase is uncertain beside gaps, weights fall."""
        hz = self.frequency(*self.refined(ridge))[0]
        phase = self.phase(hz)
        mean = window_mean(self.phasors * np.exp(-1j * phase), self.weights, ridge.window)
        mean *= scipy.ndimage.maximum_filter1d(ridge.is_on.astype(float), ridge.window | 1)
        self.phasors = self.phasors - mean * np.exp(1j * phase)
        self.weights = self.weights_beside_gaps(hz, np.abs(mean))

    def weights_beside_gaps(self, hz: np.ndarray, amplitude: np.ndarray) -> np.ndarray:
        """Weights, lower where the phase of a line that was subtracted is uncertain."""
        turn = np.minimum(np.abs(2 * np.pi * hz * self.shifts_s), 1.0)
        error = EDGE_ERROR * scipy.ndimage.maximum_filter1d(turn, EDGE_STEPS) * amplitude
        return np.asarray(self.weights / (1 + self.weights * error**2))
