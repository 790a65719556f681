"""The line of each tone in a recording: its course, whether it is there, what is beside it.

Axes: C channels, T samples, K tones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tonesieve.extraction.channel_lines import ChannelMode, find_shared, marked_shared
from tonesieve.extraction.comb_lines import comb_lines
from tonesieve.extraction.line_basebands import LineBaseband, read_basebands
from tonesieve.extraction.tone_line import ToneLine
from tonesieve.recordings.recording import Recording
from tonesieve.signals.baseband import MAX_RANGE_RATIO, check_within, default_within_hz
from tonesieve.signals.channel_course import with_shared
from tonesieve.signals.comb import Comb
from tonesieve.signals.comb_course import HarmonicBaseband
from tonesieve.signals.line_course import LineCourse, find_course
from tonesieve.signals.line_detection import detect_line, find_neighbours
from tonesieve.util.threads import map_rows

# Half-width, over the frequency, of the band in which a tone is detected: rhythms may be as broad
# as a tenth of their frequency. Chosen, not tuned.
DETECTION_RATIO = 0.1
# Largest range of the search over the distance to another tone; chosen, not tuned: none is taken
# for the other.
MAX_SPACING = 0.4
# Guard, of memory: least range of the search over the inverse duration, however close tones are.
LEAST_BINS = 0.25
# Guard: of tones that are closer than this many inverse durations, none is followed along a course:
# what looks like one is their beat.
CLOSE_BINS = 24.0
# A line that was found and reaches this part of its range is followed beyond it: in steps of this
# factor. It is the same line if the median difference is within this part of the range. Chosen, not
# tuned.
EDGE, HOLD_STEP, SAME_LINE = 0.7, 2.5, 0.25
# Guards: it must then be there for longer by this part of the recording, or its standard error fall
# by this factor.
MIN_GAIN, BETTER_STD = 0.1, 0.5
# Guards: what moves, and is there for less than this part of a recording, is no course to follow
# for all of it; nor is what leaves the range by this factor.
MIN_ON, FAR = 0.15, 1.5


def search_range_hz(hz: Sequence[float], within_hz: float | None, duration_s: float) -> list[float]:
    """Half-widths of the ranges in which the lines of some tones are searched.

    Parameters
    ----------
    hz : sequence of float
        Nominal frequencies.
    within_hz : float, optional
        What the user states.
    duration_s : float
        Duration of the recording.

    Returns
    -------
    list of float
        Hz.

    Raises
    ------
    UserError
        If the range is not above 0, or more than a quarter of a frequency.
    """
    check_within(hz, within_hz)
    ranges = []
    for f in hz:
        wanted = default_within_hz(f, duration_s)
        if within_hz is not None:  # a shorter recording does not resolve less
            wanted = max(within_hz, 1 / duration_s)
        least = LEAST_BINS / duration_s
        ranges.append(max(min(wanted, _limit_by_others(f, hz)), least))
    return ranges


def _limit_by_others(f: float, hz: Sequence[float]) -> float:
    """Largest range of a tone that reaches none of the others."""
    return min((MAX_SPACING * abs(f - g) for g in hz if g != f), default=np.inf)


def find_lines(
    recording: Recording,
    hz: Sequence[float],
    *,
    within_hz: float | None = None,
    combs: Sequence[Comb] = (),
    channels: ChannelMode = "apart",
    on_samples: Callable[[int], None] = lambda n: None,
) -> list[list[ToneLine]]:
    """Find the line of each tone in each channel.

    Parameters
    ----------
    recording : Recording
        The recording; it is read once for each tone.
    hz : sequence of float
        Nominal frequencies of the K tones.
    within_hz : float, optional
        Half-width of the range to search; by default `default_within_hz`. Of a comb, that of its
        order 1.
    combs : sequence of Comb, optional
        Tones that share a frequency.
    channels : {"apart", "together", "auto"}, default "apart"
        Whether channels share one course: none, all, or those of which a test says so.
    on_samples : callable, optional
        Called with the number of samples done, of `Recording.n_samples`.

    Returns
    -------
    list of list of ToneLine
        Of each channel the K lines.

    Raises
    ------
    UserError
        If the range does not fit the frequencies.
    """
    by_tone: dict[int, list[ToneLine]] = {}
    n = recording.n_samples
    for comb in combs:
        of_comb = comb_lines(recording, comb, within_hz, channels)
        by_tone.update(zip(comb.tones, of_comb, strict=True))
        on_samples(len(by_tone) * n // len(hz))
    others = [k for k in range(len(hz)) if k not in by_tone]
    ranges = search_range_hz(hz, within_hz, recording.duration_s) if others else []
    for k in others:
        f, within = hz[k], ranges[k]
        # A range that the user states is never left.
        widest = MAX_RANGE_RATIO * f if within_hz is None else within
        widest = min(widest, _limit_by_others(f, hz))
        alone = all(abs(f - g) * recording.duration_s > CLOSE_BINS for g in hz if g != f)
        by_tone[k] = _lines_of(recording, f, within, widest, channels, alone=alone)
        on_samples(len(by_tone) * n // len(hz))
    return [list(channel) for channel in zip(*(by_tone[k] for k in range(len(hz))), strict=True)]


def _lines_of(
    recording: Recording,
    hz: float,
    within_hz: float,
    widest_hz: float,
    channels: ChannelMode,
    *,
    alone: bool,
) -> list[ToneLine]:
    """The line of one tone in each channel; ``alone``: no other tone is very close."""
    near_hz = default_within_hz(hz, recording.duration_s)
    broad_hz = max(DETECTION_RATIO * hz, within_hz)
    basebands = _basebands(recording, hz, {within_hz, near_hz, broad_hz})
    searched = basebands[within_hz]
    courses = _courses_of(searched)
    hold_hz = within_hz
    while hold_hz < widest_hz and any(_leaves(course) for course in courses):
        hold_hz = min(HOLD_STEP * hold_hz, widest_hz)
        widened = _basebands(recording, hz, {hold_hz})[hold_hz]
        wider = _courses_of(widened)
        if not any(_continues(new, old) for new, old in zip(wider, courses, strict=True)):
            break
        searched = widened
        courses = [
            new if _continues(new, old) else old for new, old in zip(wider, courses, strict=True)
        ]
    shared = find_shared([[HarmonicBaseband(1.0, *one)] for one in searched], channels)
    courses = [one[0] for one in with_shared([[course] for course in courses], shared)]
    courses = [_followed(course, alone=alone) for course in courses]
    lines = []
    by_channel = zip(courses, basebands[near_hz], basebands[broad_hz], strict=True)
    for c, (course, beside, around) in enumerate(by_channel):
        detection = detect_line(*around[:4], course, around.shifts_s)
        neighbours = find_neighbours(*beside[:4], course, beside.shifts_s)
        line = ToneLine(hz, within_hz, course, detection, neighbours)
        lines.append(marked_shared(line, c, shared, channels))
    return lines


def _basebands(
    recording: Recording, hz: float, ranges_hz: set[float]
) -> dict[float, list[LineBaseband]]:
    """By range, of each channel the baseband about a tone."""
    wanted = sorted(ranges_hz)
    made = read_basebands(recording, [(hz, within) for within in wanted])
    return dict(zip(wanted, made, strict=True))


def _courses_of(channels: Sequence[LineBaseband]) -> list[LineCourse]:
    return map_rows(lambda channel: find_course(*channel), channels)


def _leaves(course: LineCourse) -> bool:
    """Whether a line that was found reaches the edge of its range."""
    return course.kind == "course" and _reach(course) > EDGE


def _reach(course: LineCourse) -> float:
    """Largest offset over the range."""
    return float(np.abs(course.steps_hz[course.is_on]).max(initial=0.0)) / course.within_hz


def _followed(course: LineCourse, *, alone: bool) -> LineCourse:
    """The course, or the nominal frequency where it is not to be relied on.

    That is, where it is there for too short a time, far off, or hardly apart from another tone.
    """
    if course.kind != "course":
        return course
    if not alone:
        return course.at_nominal(found=course.found)
    if _reach(course) <= FAR and course.is_on.mean() >= MIN_ON:
        return course
    return course.at_nominal(found=False)


def _continues(wider: LineCourse, course: LineCourse) -> bool:
    """Whether a course from a wider range is the same line, and better known."""
    # Beyond its range a line is attenuated, and then aliased.
    better = (
        _reach(course) > 1
        or wider.is_on.mean() - course.is_on.mean() > MIN_GAIN
        or np.median(wider.std_hz) < BETTER_STD * np.median(course.std_hz)
    )
    if not (_leaves(course) and wider.found and better):
        return False
    t_s = course.step_s * np.flatnonzero(course.is_on)
    difference = np.abs(wider.offset_hz(t_s) - course.offset_hz(t_s))
    return bool(np.median(difference) < SAME_LINE * course.within_hz)
