"""A spectral line near its nominal frequency, and its course: its frequency over time.

A path through spectrograms of many window lengths finds the line; the phase of the demodulated line
is smoothed as far as the noise requires. Of the nominal frequency, a constant one and the course,
that is chosen whose demodulated line has the most evidence, less the cost of its parameters. Axes:
N steps of a baseband, J blocks of steps, T any times.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Complex, Float

from tonesieve.signals.baseband import PASS
from tonesieve.signals.line_search import Candidate, LineSearch, weighted_rms
from tonesieve.signals.line_separation import at_nominal_beside
from tonesieve.signals.ridge import Ridge

# Chosen: a line is found at this bound of its probability in noise.
FOUND_P = 0.01
# Derived: efficiency of a median against a mean, for exponential variables.
FLOOR_EFFICIENCY = 0.48
# Numbers of segments of the test for a steady line, and its thresholds; derived: random phases
# exceed them with a probability of 1e-3 at most, exp(-0.85 * 8) and exp(-0.6 * 16). A line that
# turns by whole cycles a segment would pass, so one segment more is tested, too.
STEADY = {8: 0.85, 16: 0.6}
# Guard: the fewest steps in which a line is searched.
MIN_STEPS = 8


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
    phase_std_rad : float, default 0
        Standard error of the phase of a course; 0 where the frequency is constant.
    """

    step_s: float
    within_hz: float
    steps_hz: Float[np.ndarray, " N"]
    kind: Literal["nominal", "constant", "course"]
    found: bool
    p_value: float
    is_on: Bool[np.ndarray, " N"]
    std_hz: Float[np.ndarray, " N"]
    phase_std_rad: float = 0.0

    @classmethod
    def at_rest(cls, duration_s: float, within_hz: float) -> LineCourse:
        """Return the course of a line that was not searched.

        Parameters
        ----------
        duration_s : float
            Duration of the record.
        within_hz : float
            Half-width of the range in which it may be.

        Returns
        -------
        LineCourse
            At its nominal frequency, not found.
        """
        hz = np.zeros(2)
        is_on, std_hz = np.zeros(2, bool), np.full(2, within_hz)
        return cls(duration_s / 2, within_hz, hz, "nominal", False, 1.0, is_on, std_hz)

    def at_nominal(self, *, found: bool) -> LineCourse:
        """Return the course of a line at its nominal frequency, over the same time.

        Parameters
        ----------
        found : bool
            Whether that line was found.

        Returns
        -------
        LineCourse
            Constant.
        """
        steps_hz = np.zeros_like(self.steps_hz)
        return replace(self, steps_hz=steps_hz, kind="nominal", found=found, phase_std_rad=0.0)

    def shifted(self, hz: float) -> LineCourse:
        """Return the course of the same line relative to a frequency that is ``hz`` lower.

        Parameters
        ----------
        hz : float
            Hz.

        Returns
        -------
        LineCourse
            Its offsets are larger by ``hz``.
        """
        kind = "constant" if self.kind == "nominal" and hz else self.kind
        return replace(self, steps_hz=self.steps_hz + hz, kind=kind)

    def scaled(self, ratio: float) -> LineCourse:
        """Return the course of a line at a multiple of the frequency, over the same time.

        Parameters
        ----------
        ratio : float
            Its frequency over this one's.

        Returns
        -------
        LineCourse
            Of the same evidence.
        """
        return replace(
            self,
            within_hz=ratio * self.within_hz,
            steps_hz=ratio * self.steps_hz,
            std_hz=ratio * self.std_hz,
            phase_std_rad=ratio * self.phase_std_rad,
        )

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
        """Return stretches (start, end), in s, in which the line is lost."""
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
    unit = weighted_rms(phasors, weights)
    if n < MIN_STEPS or not unit > 0:
        return nothing
    phasors = phasors / unit
    shifts_s = np.zeros(n) if shifts_s is None else shifts_s
    line = LineSearch(phasors, weights, shifts_s, step_s, within_hz)
    fit = fit_line(line)
    if fit.p_value > FOUND_P:
        return replace(nothing, p_value=fit.p_value)
    return fit.course(line, is_steady=is_steady(phasors, weights))


class LineFit(NamedTuple):
    """What `fit_line` finds in one baseband.

    Attributes
    ----------
    ridge : Ridge
        The path through the spectrogram.
    nominal, best : Candidate
        The line at its nominal frequency, and that of most evidence.
    p_value : float
        Bound of the probability of such a line in Gaussian noise.
    """

    ridge: Ridge
    nominal: Candidate
    best: Candidate
    p_value: float

    def course(self, line: LineSearch, *, is_steady: bool) -> LineCourse:
        """Return the course of the line, which was found.

        Parameters
        ----------
        line : LineSearch
            The whitened baseband that was searched.
        is_steady : bool
            Whether a line at the nominal frequency lasts for all of the record; it takes
            precedence.

        Returns
        -------
        LineCourse
            That of most evidence.
        """
        best = at_nominal_beside(line, self.best) or self.best
        if best.kind != "nominal" and is_steady:
            best = self.nominal
        return LineCourse(
            line.step_s, line.within_hz, best.hz, best.kind, True, self.p_value, best.is_on,
            best.std_hz, best.phase_std_rad,
        )  # fmt: skip


def fit_line(line: LineSearch) -> LineFit:
    """Find the line of most evidence in a baseband.

    Parameters
    ----------
    line : LineSearch
        The whitened baseband.

    Returns
    -------
    LineFit
        The line, whether it stands out of the noise or not.
    """
    ridge = line.ridge(line.within_hz)
    candidates = [line.nominal(), line.constant(ridge), line.course(ridge)]
    score = max(ridge.score, candidates[0].score) - np.log(2.0)
    # As the tail of an F distribution, whose denominator is the estimated floor, to an exponential.
    freedom = max(FLOOR_EFFICIENCY * 2 * PASS * line.within_hz * line.n * line.step_s - 3, 1.0)
    score = freedom * np.log1p(max(score, 0.0) / freedom)
    best = max(candidates, key=lambda candidate: candidate.score)  # the first of equal ones
    return LineFit(ridge, candidates[0], best, float(np.exp(-score)))


def is_steady(phasors: Complex[np.ndarray, " N"], weights: Float[np.ndarray, " N"]) -> bool:
    """Test whether a steady line at the nominal frequency lasts for all of a record.

    Amplitudes z of consecutive segments add up in phase: |sum z|^2 / (n sum |z|^2) is 1 for a line
    that is steady, and exponentially distributed with mean 1 / n for random phases (a Rayleigh
    test). Whatever drifts, comes or goes fails it, and whoever names a frequency exactly means the
    line there, also beside a stronger one.

    Parameters
    ----------
    phasors : ndarray, shape (N,)
        Baseband of one channel, by `Baseband`.
    weights : ndarray, shape (N,)
        Weight of every step, 0 in gaps.

    Returns
    -------
    bool
        Whether it passes with any number of segments.
    """
    return any(
        all(_coherence(phasors, weights, n) > threshold for n in (n_segments, n_segments + 1))
        for n_segments, threshold in STEADY.items()
    )


def _coherence(phasors: np.ndarray, weights: np.ndarray, n_segments: int) -> float:
    """The ratio of `is_steady`; 0 where segments are too short or missing."""
    length = len(phasors) // n_segments
    if length < MIN_STEPS:
        return 0.0
    used = slice(n_segments * length)
    # A window, so that lines beside do not leak.
    window = np.hanning(length + 2)[1:-1] * weights[used].reshape(-1, length)
    total = window.sum(axis=1)
    if np.any(total <= 0):
        return 0.0
    z = (window * phasors[used].reshape(-1, length)).sum(axis=1) / total
    return float(abs(z.sum()) ** 2 / max(n_segments * np.sum(np.abs(z) ** 2), 1e-300))
