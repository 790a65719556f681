"""The line of each tone in a recording: its course, whether it is there, what is beside it.

Axes: C channels, T samples, K tones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Complex, Float

from tonesieve.extractors.input_scaling import EXTREME
from tonesieve.recordings.reader import rows_in_block
from tonesieve.recordings.recording import Recording
from tonesieve.signals.baseband import MAX_RANGE_RATIO, Baseband, check_within, default_within_hz
from tonesieve.signals.line_course import LineCourse, find_course
from tonesieve.signals.line_detection import (
    LineDetection,
    Neighbour,
    detect_line,
    stronger_neighbours,
)

# Half-width, over the frequency, of the band in which a tone is detected: rhythms may be as broad
# as a tenth of their frequency. Chosen, not tuned.
DETECTION_RATIO = 0.1
# Largest range of the search over the distance to another tone; chosen, not tuned: none is taken
# for the other.
MAX_SPACING = 0.4
# Guard, of memory: least range of the search over the inverse duration, however close tones are.
LEAST_BINS = 0.25
# Guard: a sample that is this many times as far from the median of a block as others are is a gap.
WILD = 1e6
# Guard: of tones that are closer than this many inverse durations, none is followed along a course:
# what looks like one is their beat.
CLOSE_BINS = 24.0
# A tone that is lost for less than this part of a recording is not reported; chosen, not tuned.
MIN_LOST = 0.05
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


class ToneLine(NamedTuple):
    """The line of one tone in one channel.

    Attributes
    ----------
    hz : float
        Nominal frequency.
    within_hz : float
        Half-width of the range that was searched.
    course : LineCourse
        Its frequency over time.
    detection : LineDetection
        Whether it is there.
    neighbours : tuple of Neighbour
        Stronger lines beside it, the strongest one first.
    """

    hz: float
    within_hz: float
    course: LineCourse
    detection: LineDetection
    neighbours: tuple[Neighbour, ...]

    @property
    def neighbour(self) -> Neighbour | None:
        """The strongest of the stronger lines."""
        return self.neighbours[0] if self.neighbours else None

    def metrics(self) -> dict[str, Any]:
        """Return what is written beside an output."""
        offsets = self.course.steps_hz[self.course.is_on]
        found: dict[str, Any] = {
            "status": self.detection.status,
            "p_value": self.detection.p_value,
            "within_hz": self.within_hz,
            "line_hz": self.hz + float(offsets.mean()) if len(offsets) else None,
            "line_range_hz": None,
            "stronger_line_hz": None,
            "stronger_line_db": None,
            "lost_s": None,
        }
        if len(offsets):
            found["line_range_hz"] = [self.hz + float(f) for f in (offsets.min(), offsets.max())]
        if self.course.found:
            found["lost_s"] = sum(stop - start for start, stop in self.course.lost_s())
        if self.neighbour is not None:
            found["stronger_line_hz"] = self.hz + self.neighbour.offset_hz
            found["stronger_line_db"] = self.neighbour.level_db
        return found


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
        Half-width of the range to search; by default `default_within_hz`.
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
    ranges = search_range_hz(hz, within_hz, recording.duration_s)
    by_tone = []
    for k, (f, within) in enumerate(zip(hz, ranges, strict=True)):
        # A range that the user states is never left.
        widest = MAX_RANGE_RATIO * f if within_hz is None else within
        widest = min(widest, _limit_by_others(f, hz))
        alone = all(abs(f - g) * recording.duration_s > CLOSE_BINS for g in hz if g != f)
        by_tone.append(_lines_of(recording, f, within, widest, alone=alone))
        on_samples((k + 1) * recording.n_samples // len(ranges))
    return [list(channel) for channel in zip(*by_tone, strict=True)]


def _lines_of(
    recording: Recording, hz: float, within_hz: float, widest_hz: float, *, alone: bool
) -> list[ToneLine]:
    """The line of one tone in each channel; ``alone``: no other tone is very close."""
    near_hz = default_within_hz(hz, recording.duration_s)
    broad_hz = max(DETECTION_RATIO * hz, within_hz)
    basebands = _basebands(recording, hz, {within_hz, near_hz, broad_hz})
    courses = _courses_of(basebands[within_hz])
    hold_hz = within_hz
    while hold_hz < widest_hz and any(_leaves(course) for course in courses):
        hold_hz = min(HOLD_STEP * hold_hz, widest_hz)
        wider = _courses_of(_basebands(recording, hz, {hold_hz})[hold_hz])
        if not any(_continues(new, old) for new, old in zip(wider, courses, strict=True)):
            break
        courses = [
            new if _continues(new, old) else old for new, old in zip(wider, courses, strict=True)
        ]
    courses = [_followed(course, alone=alone) for course in courses]
    lines = []
    channels = zip(courses, basebands[near_hz], basebands[broad_hz], strict=True)
    for course, beside, around in channels:
        detection = detect_line(*around[:4], course, around.shifts_s)
        neighbours = stronger_neighbours(*beside[:4], course, beside.shifts_s)
        lines.append(ToneLine(hz, within_hz, course, detection, neighbours))
    return lines


class _Channel(NamedTuple):
    """The baseband of one channel; its first fields are arguments of the searches."""

    phasors: Complex[np.ndarray, " N"]
    weights: Float[np.ndarray, " N"]
    step_s: float
    within_hz: float
    shifts_s: Float[np.ndarray, " N"]


def _basebands(
    recording: Recording, hz: float, ranges_hz: set[float]
) -> dict[float, list[_Channel]]:
    """By range, of each channel the baseband about a tone; the recording is read once."""
    n, n_channels = recording.n_samples, len(recording.channels)
    made = [Baseband(hz, recording.rate_hz, within_hz, n_channels) for within_hz in ranges_hz]
    block = rows_in_block(n_channels)
    for start in range(0, n, block):
        samples = _without_wild(recording.read(start, min(start + block, n)))
        for one in made:
            one.update(samples)
    finished = {}
    for one in made:
        phasors, weights = one.finish()
        finished[one.within_hz] = [
            _Channel(phasors[c], weights[c], one.step_s, one.within_hz, one.shifts_s[c])
            for c in range(n_channels)
        ]
    return finished


def _without_wild(samples: Float[np.ndarray, "C T"]) -> Float[np.ndarray, "C T"]:
    """Samples that are no part of any signal become gaps."""
    samples = np.where(np.abs(samples) < EXTREME, samples, np.nan)
    for row in samples:
        observed = row[np.isfinite(row)]
        if len(observed):
            deviation = np.abs(row - np.median(observed))
            usual = float(np.median(deviation[np.isfinite(row)]))
            row[deviation > (WILD * usual if usual > 0 else np.inf)] = np.nan
    return samples


def _courses_of(channels: Sequence[_Channel]) -> list[LineCourse]:
    return [find_course(*channel) for channel in channels]


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


def line_warnings(lines: Sequence[Sequence[ToneLine]], channels: Sequence[str]) -> list[str]:
    """Say which tones are not there, lost at times, or beside a stronger line.

    Parameters
    ----------
    lines : sequence of sequence of ToneLine
        Of each channel the K lines.
    channels : sequence of str
        Names of the channels.

    Returns
    -------
    list of str
        A line each.
    """
    warnings = []
    for name, channel in zip(channels, lines, strict=True):
        for line in channel:
            head = f"{name}: {line.hz:.9g} Hz"
            if line.detection.status == "nothing":
                warnings.append(
                    f"{head}: no tone stands out of the noise within {line.within_hz:.3g} Hz "
                    f"(p = {line.detection.p_value:.2g}); the estimate may be noise"
                )
            elif line.detection.status == "doubtful":
                p_value = line.detection.p_value
                warnings.append(
                    f"{head}: it is doubtful whether a tone is there (p = {p_value:.2g})"
                    if p_value < 1
                    else f"{head}: the recording is too short to test whether a tone is there"
                )
            else:
                warnings += _off_name(line, head) + _lost(line, head)
            warnings += [
                f"{head}: a line at {line.hz + neighbour.offset_hz:.6g} Hz is "
                f"{neighbour.level_db:.0f} dB stronger; if it is the wanted one, name it by --hz"
                for neighbour in line.neighbours
            ]
    return warnings


def _off_name(line: ToneLine, head: str) -> list[str]:
    """Where the tone is found off its nominal frequency, by more than the record resolves."""
    offsets = line.course.steps_hz[line.course.is_on]
    duration_s = len(line.course.steps_hz) * line.course.step_s
    if not len(offsets) or np.abs(offsets).max() * duration_s < 1:
        return []
    low, high = line.hz + offsets.min(), line.hz + offsets.max()
    where = f"{low:.6g} Hz" if high - low < 1e-4 * line.hz else f"{low:.6g} to {high:.6g} Hz"
    return [
        f"{head}: the tone was found at {where}; searched were {line.within_hz:.3g} Hz on both "
        "sides (--within)"
    ]


def _lost(line: ToneLine, head: str) -> list[str]:
    """When a tone that is there is lost for a notable part of the time."""
    stretches = line.course.lost_s()
    total_s = sum(stop - start for start, stop in stretches)
    if not line.course.found or total_s < MIN_LOST * len(line.course.steps_hz) * line.course.step_s:
        return []
    start, stop = max(stretches, key=lambda stretch: stretch[1] - stretch[0])
    return [
        f"{head}: the tone is off or lost for {total_s:.3g} s in all, longest from {start:.6g} to "
        f"{stop:.6g} s"
    ]
