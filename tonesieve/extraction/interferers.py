"""Stronger lines beside the tones of a recording, which are estimated with these and left out.

Axes: C channels, K tones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from tonesieve.extraction.tone_line import ToneLine
from tonesieve.signals.line_course import LineCourse

# Stronger lines are estimated jointly if they are this many inverse durations apart; chosen, not
# tuned: closer ones are hardly resolved.
APART_BINS = 3.0


class Interferer(NamedTuple):
    """A line beside the tones.

    Attributes
    ----------
    hz : float
        Its frequency.
    courses : list of LineCourse
        In each of C channels its frequency over time, relative to ``hz``.
    """

    hz: float
    courses: list[LineCourse]


def interferers(
    lines: Sequence[Sequence[ToneLine]], duration_s: float, below_hz: float = math.inf
) -> list[Interferer]:
    """Return the stronger lines beside the tones, each once, none of them a tone.

    Parameters
    ----------
    lines : sequence of sequence of ToneLine
        Of each channel the K lines.
    duration_s : float
        Duration of the recording.
    below_hz : float, optional
        Half the rate; what is not below it is an image of a line.

    Returns
    -------
    list of Interferer
        In a channel that does not have it, its frequency is constant.
    """
    apart = APART_BINS / duration_s
    steady = [channel[0].course.at_nominal(found=True) for channel in lines]
    found: list[Interferer] = []
    for c, channel in enumerate(lines):
        for line in channel:
            taken = [other.hz for other in lines[0]]
            if line.course.kind == "constant":
                taken.append(line.hz + float(line.course.steps_hz[0]))
            for neighbour in line.neighbours:
                hz = line.hz + neighbour.offset_hz
                if not 0 < hz < below_hz:
                    continue
                if any(abs(hz - other) <= apart for other in taken):
                    continue
                known = next((one for one in found if abs(hz - one.hz) <= apart), None)
                if known is None:
                    known = Interferer(hz, list(steady))
                    found.append(known)
                known.courses[c] = neighbour.course.shifted(hz - known.hz)
    return found
