"""Tests whether a tone is there, at a stated false-alarm rate.

Axes: N steps of a baseband.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Complex, Float

from tonesieve.signals.line_course import LineCourse

# Chosen: false-alarm rates of `found`, and of `found` and `doubtful` together.
FOUND_RATE, DOUBTFUL_RATE = 0.01, 0.2


@dataclass(frozen=True)
class LineDetection:
    """Whether a tone stands out of the noise beside it.

    Parameters
    ----------
    status : {"found", "doubtful", "nothing"}
        In noise alone, ``found`` has a probability of 0.01 and ``doubtful`` of up to 0.2.
    p_value : float
        Probability of such a power in noise alone, corrected for all bandwidths and times tested.
    bandwidth_hz : float
        Bandwidth of the most significant test.
    start_s, stop_s : float
        Its stretch of time.
    excess_db : float
        Its power over the noise's in the same band.
    """

    status: Literal["found", "doubtful", "nothing"]
    p_value: float
    bandwidth_hz: float
    start_s: float
    stop_s: float
    excess_db: float


class Neighbour(NamedTuple):
    """A line near the tone and stronger.

    Attributes
    ----------
    offset_hz : float
        Its frequency minus the tone's nominal frequency.
    amplitude : float
        Its amplitude, in the recording's unit.
    level_db : float
        Its power over the tone's.
    """

    offset_hz: float
    amplitude: float
    level_db: float


def detect_line(
    phasors: Complex[np.ndarray, " N"],
    weights: Float[np.ndarray, " N"],
    step_s: float,
    within_hz: float,
    course: LineCourse | None = None,
) -> LineDetection:
    """Test whether a line is there.

    Parameters
    ----------
    phasors : ndarray, shape (N,)
        Baseband of one channel, by `Baseband`. One with a larger ``within_hz`` than the course's
        finds broader rhythms.
    weights : ndarray, shape (N,)
        Weight of every step, 0 in gaps.
    step_s : float
        Time between two steps.
    within_hz : float
        The baseband's.
    course : LineCourse, optional
        Where the line is; at its nominal frequency by default. That it was searched is taken into
        account.

    Returns
    -------
    LineDetection
        Status and evidence.
    """
    raise NotImplementedError


def stronger_neighbour(
    phasors: Complex[np.ndarray, " N"],
    weights: Float[np.ndarray, " N"],
    step_s: float,
    range_hz: float,
    course: LineCourse | None = None,
) -> Neighbour | None:
    """Return a line beside the tone that is more than 6 dB stronger.

    Parameters
    ----------
    phasors : ndarray, shape (N,)
        Baseband of one channel, by `Baseband`.
    weights : ndarray, shape (N,)
        Weight of every step, 0 in gaps.
    step_s : float
        Time between two steps.
    range_hz : float
        Distance from the nominal frequency up to which lines count; at most `baseband.PASS` times
        the baseband's ``within_hz``.
    course : LineCourse, optional
        Where the tone is; at its nominal frequency by default.

    Returns
    -------
    Neighbour or None
        The strongest such line, if any.
    """
    raise NotImplementedError
