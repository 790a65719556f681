"""The line of each tone in a recording: its course, whether it is there, what is beside it.

Axes: C channels, T samples, K tones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tonesieve.errors import UserError
from tonesieve.recordings.reader import rows_in_block
from tonesieve.recordings.recording import Recording
from tonesieve.signals.baseband import MAX_RANGE_RATIO, PASS, Baseband, default_within_hz
from tonesieve.signals.line_course import LineCourse, find_course
from tonesieve.signals.line_detection import (
    LineDetection,
    Neighbour,
    detect_line,
    stronger_neighbour,
)

# Half-width, over the frequency, of the band in which a tone is detected: rhythms may be as broad
# as a tenth of their frequency. Chosen, not tuned.
DETECTION_RATIO = 0.1
# Range over the frequency in which a stronger line is reported; chosen, not tuned.
NEIGHBOUR_RATIO = 0.05
# Largest range of the search over the distance to another tone; chosen, not tuned: none is taken
# for the other.
MAX_SPACING = 0.4


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
    neighbour : Neighbour or None
        A stronger line beside it.
    """

    hz: float
    within_hz: float
    course: LineCourse
    detection: LineDetection
    neighbour: Neighbour | None

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
        }
        if len(offsets):
            found["line_range_hz"] = [self.hz + float(f) for f in (offsets.min(), offsets.max())]
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
    if within_hz is not None and not within_hz > 0:
        raise UserError(f"--within {within_hz:g}: must be above 0 Hz")
    ranges = []
    for f in hz:
        largest = MAX_RANGE_RATIO * f
        if within_hz is not None and within_hz > largest:
            raise UserError(
                f"--within {within_hz:g}: must be {largest:g} Hz or less, a quarter of {f:g} Hz"
            )
        wanted = default_within_hz(f, duration_s) if within_hz is None else within_hz
        others = [MAX_SPACING * abs(f - g) for g in hz if g != f]
        ranges.append(min([wanted, *others]))
    return ranges


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
        by_tone.append(_lines_of(recording, f, within))
        on_samples((k + 1) * recording.n_samples // len(ranges))
    return [list(channel) for channel in zip(*by_tone, strict=True)]


def _lines_of(recording: Recording, hz: float, within_hz: float) -> list[ToneLine]:
    """The line of one tone in each channel."""
    n_channels, rate_hz = len(recording.channels), recording.rate_hz
    broad_hz = max(DETECTION_RATIO * hz, within_hz)
    narrow = Baseband(hz, rate_hz, within_hz, n_channels)
    broad = Baseband(hz, rate_hz, broad_hz, n_channels)
    block = rows_in_block(n_channels)
    for start in range(0, recording.n_samples, block):
        samples = recording.read(start, min(start + block, recording.n_samples))
        narrow.update(samples)
        broad.update(samples)
    (phasors, weights), (broad_phasors, broad_weights) = narrow.finish(), broad.finish()
    lines = []
    for c in range(n_channels):
        course = find_course(phasors[c], weights[c], narrow.step_s, within_hz)
        beside = broad_phasors[c], broad_weights[c], broad.step_s
        detection = detect_line(*beside, broad_hz, course)
        near_hz = min(NEIGHBOUR_RATIO * hz, PASS * broad_hz)
        neighbour = stronger_neighbour(*beside, near_hz, course)
        lines.append(ToneLine(hz, within_hz, course, detection, neighbour))
    return lines


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
                warnings.append(
                    f"{head}: it is doubtful whether a tone is there "
                    f"(p = {line.detection.p_value:.2g})"
                )
            elif line.course.kind != "nominal" and len(line.course.steps_hz):
                warnings += _off_name(line, head)
            if line.neighbour is not None:
                warnings.append(
                    f"{head}: a line at {line.hz + line.neighbour.offset_hz:.6g} Hz is "
                    f"{line.neighbour.level_db:.0f} dB stronger; if it is the wanted one, "
                    "name it by --hz"
                )
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
