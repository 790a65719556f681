"""The lines of a comb in a recording: their common frequency, and which of them are there.

Axes: C channels, K tones of the comb.
"""

from __future__ import annotations

from dataclasses import replace

from tonesieve.extraction.channel_lines import ChannelMode, find_shared, marked_shared
from tonesieve.extraction.line_basebands import LineBaseband, read_basebands
from tonesieve.extraction.tone_line import ToneLine
from tonesieve.recordings.recording import Recording
from tonesieve.signals.baseband import MAX_RANGE_RATIO, default_within_hz
from tonesieve.signals.channel_course import with_shared
from tonesieve.signals.comb import Comb
from tonesieve.signals.comb_course import HarmonicBaseband, find_comb_course
from tonesieve.signals.line_course import LineCourse
from tonesieve.signals.line_detection import detect_line, find_neighbours

# Derived: largest range of a line over the comb's spacing. A baseband suppresses by 80 dB what is
# 4.9 ranges away, where the next line is.
MAX_SPACING = 0.2
# A comb that is found and reaches this part of its range is searched once more in a range that is
# larger by this factor. Chosen, not tuned.
EDGE, HOLD_STEP = 0.7, 2.5


def comb_lines(
    recording: Recording,
    comb: Comb,
    within_hz: float | None = None,
    channels: ChannelMode = "apart",
) -> list[list[ToneLine]]:
    """Find the lines of a comb in each channel.

    Parameters
    ----------
    recording : Recording
        The recording; it is read once or twice.
    comb : Comb
        The tones.
    within_hz : float, optional
        Half-width of the range in which order 1 is searched; by default `default_within_hz`.
    channels : {"apart", "together", "auto"}, default "apart"
        Whether channels share one course: none, all, or those of which a test says so.

    Returns
    -------
    list of list of ToneLine
        Of each tone, of each channel.
    """
    within = default_within_hz(comb.hz, recording.duration_s) if within_hz is None else within_hz
    basebands = _basebands(recording, comb, within)
    own = [_courses(comb, channel) for channel in zip(*basebands, strict=True)]
    widest = min(HOLD_STEP * within, MAX_RANGE_RATIO * comb.hz)
    if within_hz is None and any(_leaves(courses) for courses in own):
        wider = _basebands(recording, comb, widest)
        again = [_courses(comb, channel) for channel in zip(*wider, strict=True)]
        if all(courses[0].found for courses in again):
            basebands, own = wider, again
    shared = find_shared(
        [_harmonics(comb, channel) for channel in zip(*basebands, strict=True)],
        channels,
        is_stated=comb.is_stated,
    )
    of_channels = with_shared(own, shared)
    lines = []
    for i, order in enumerate(comb.orders):
        of_tone = []
        for c, (baseband, courses) in enumerate(zip(basebands[i], of_channels, strict=True)):
            # That the comb was found says nothing of this line; its place was not searched.
            course = replace(courses[i], p_value=1.0)
            detection = detect_line(*baseband[:4], course, baseband.shifts_s)
            neighbours = find_neighbours(*baseband[:4], courses[i], baseband.shifts_s)
            line = ToneLine(order * comb.hz, baseband.within_hz, courses[i], detection, neighbours)
            of_tone.append(marked_shared(line, c, shared, channels))
        lines.append(of_tone)
    return lines


def _basebands(recording: Recording, comb: Comb, within_hz: float) -> list[list[LineBaseband]]:
    """Of each tone, of each channel."""
    widest = MAX_SPACING * comb.spacing_hz
    wanted = [(order * comb.hz, min(order * within_hz, widest)) for order in comb.orders]
    return read_basebands(recording, wanted)


def _courses(comb: Comb, channel: tuple[LineBaseband, ...]) -> list[LineCourse]:
    """Of each tone in one channel."""
    return find_comb_course(_harmonics(comb, channel), is_stated=comb.is_stated)[1]


def _harmonics(comb: Comb, channel: tuple[LineBaseband, ...]) -> list[HarmonicBaseband]:
    return [
        HarmonicBaseband(order, *baseband)
        for order, baseband in zip(comb.orders, channel, strict=True)
    ]


def _leaves(courses: list[LineCourse]) -> bool:
    """Whether a comb that was found reaches the edge of the range of its widest line."""
    if courses[0].kind == "nominal" or not courses[0].found:
        return False
    # The ranges of the higher ones are limited by their neighbours.
    return any(abs(one.steps_hz).max() > EDGE * one.within_hz for one in courses[:1])
