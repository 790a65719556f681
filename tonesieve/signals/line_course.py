"""A spectral line near its nominal frequency, and its course: its frequency over time.

Axes: N steps of a baseband, T any times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Complex, Float


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
        raise NotImplementedError

    def phase_cycles(self, t_s: Float[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
        """Integral of the offset from time 0 on, in cycles; continuous with its derivative."""
        raise NotImplementedError

    def lost_s(self) -> list[tuple[float, float]]:
        """Stretches (start, end), in s, in which the line is lost."""
        raise NotImplementedError


def find_course(
    phasors: Complex[np.ndarray, " N"],
    weights: Float[np.ndarray, " N"],
    step_s: float,
    within_hz: float,
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

    Returns
    -------
    LineCourse
        The line's frequency over time.
    """
    raise NotImplementedError
