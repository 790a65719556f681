"""Carriers of a group of tones that follow the courses of their lines.

Axes: B streams, T samples, N steps, K tones of a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tonesieve.signals.line_course import LineCourse

Courses = Sequence[Sequence[LineCourse]]  # of B streams, of K tones
# Range in which the loops of the filters still follow a line that was found, over its frequency and
# over the inverse duration. Chosen, not tuned: a stronger line beside it stays out of reach.
FOUND_RANGE, FOUND_BINS = 0.005, 3.0


@dataclass(frozen=True)
class Carriers:
    """Phases of carriers relative to the nominal frequencies, from the first step on.

    Parameters
    ----------
    courses : sequence of sequence of LineCourse
        Of each of B streams the courses of the K tones.
    rate_hz : float
        Sampling rate.
    factor : int
        Samples a step.
    """

    courses: Courses
    rate_hz: float
    factor: int

    def offsets(
        self, start: int, stop: int, *, backwards: bool = False
    ) -> Float[np.ndarray, "B N K"]:
        """Return offsets of the frequencies at some steps.

        Parameters
        ----------
        start, stop : int
            The first step, and the one after the last.
        backwards : bool, default False
            Whether time runs backwards.

        Returns
        -------
        ndarray, shape (B, N, K)
            From the step before (in the order of the run) to each, rad a step.
        """
        steps = np.arange(start, stop + 1) if backwards else np.arange(start - 1, stop)
        offsets = np.diff(self._phase_rad(self._last_sample(steps)), axis=1)
        return offsets[:, ::-1] if backwards else offsets

    def step_phase(self, step: int) -> Float[np.ndarray, "B K"]:
        """Return the phases at a step, in rad.

        Parameters
        ----------
        step : int
            Index of the step.

        Returns
        -------
        ndarray, shape (B, K)
            Phases, 0 at the first step.
        """
        return self.sample_phase(self._last_sample(np.array([step])))[:, 0]

    def sample_phase(self, samples: np.ndarray) -> Float[np.ndarray, "B T K"]:
        """Return the phases at some samples, in rad.

        Parameters
        ----------
        samples : ndarray of int, shape (T,)
            Indices of the samples.

        Returns
        -------
        ndarray, shape (B, T, K)
            Phases, 0 at the first step.
        """
        return self._phase_rad(samples) - self._phase_rad(self._last_sample(np.array([0])))

    @property
    def phase_std(self) -> Float[np.ndarray, "B K"]:
        """Standard errors of the phases, in rad."""
        return np.array([[one.phase_std_rad for one in stream] for stream in self.courses])

    def _last_sample(self, steps: np.ndarray) -> np.ndarray:
        """A step is at its last sample."""
        return (steps + 1) * self.factor - 1

    def _phase_rad(self, samples: np.ndarray) -> Float[np.ndarray, "B T K"]:
        """Phases since the start of the courses."""
        t_s = samples / self.rate_hz
        cycles = [[one.phase_cycles(t_s) for one in stream] for stream in self.courses]
        return 2 * np.pi * np.array(cycles).transpose(0, 2, 1)


def make_carriers(
    courses: Courses | None, tones: Sequence[int], rate_hz: float, factor: int
) -> Carriers | None:
    """Choose the carriers of a group.

    Parameters
    ----------
    courses : sequence of sequence of LineCourse, optional
        Of each stream the courses of all tones.
    tones : sequence of int
        Indices of the group's tones.
    rate_hz : float
        Sampling rate.
    factor : int
        Samples a step.

    Returns
    -------
    Carriers or None
        None where all are at their nominal frequencies.
    """
    if courses is None:
        return None
    chosen = [[stream[k] for k in tones] for stream in courses]
    if all(course.kind == "nominal" for stream in chosen for course in stream):
        return None
    return Carriers(chosen, rate_hz, factor)


def remaining_ranges_hz(
    courses: Courses, frequencies_hz: Sequence[float], tones: Sequence[int], duration_s: float
) -> list[float]:
    """Return ranges in which tones are still to be followed beside their courses.

    Parameters
    ----------
    courses : sequence of sequence of LineCourse
        Of each stream the courses of all tones.
    frequencies_hz : sequence of float
        Nominal frequencies of all tones.
    tones : sequence of int
        Indices of the tones of interest.
    duration_s : float
        Duration of the recording.

    Returns
    -------
    list of float
        Hz; infinite where some stream's line was not found.
    """
    return [
        max(FOUND_RANGE * frequencies_hz[k], FOUND_BINS / duration_s)
        if all(stream[k].found for stream in courses)
        else np.inf
        for k in tones
    ]


def cycles_of(courses: Sequence[LineCourse], t_s: np.ndarray) -> Float[np.ndarray, "C T"]:
    """Return phases of courses, over those of the nominal frequency.

    Parameters
    ----------
    courses : sequence of LineCourse
        Of each of C channels.
    t_s : ndarray, shape (T,)
        Times in s.

    Returns
    -------
    ndarray, shape (C, T)
        Cycles; in one row where all courses are the same.
    """
    first = courses[0]
    if all(
        one.step_s == first.step_s and np.array_equal(one.steps_hz, first.steps_hz)
        for one in courses[1:]
    ):
        courses = [first]
    return np.stack([course.phase_cycles(t_s) for course in courses])
