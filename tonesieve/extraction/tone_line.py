"""What is known of a tone's line in one channel, and what a user should be warned of.

Axes: C channels, K tones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tonesieve.signals.comb import Comb
from tonesieve.signals.line_course import LineCourse
from tonesieve.signals.line_detection import LineDetection, Neighbour

# A tone that is lost for less than this part of a recording is not reported; chosen, not tuned.
MIN_LOST = 0.05
# Chosen, for the eye: frequencies that a message lists.
MAX_LISTED = 8


class SharedLine(NamedTuple):
    """That channels share the course of a tone.

    Attributes
    ----------
    channels : tuple of int
        Indices of the channels.
    log_evidence : float
        Logarithm of the Bayes factor of one course for them over one for each.
    is_certain : bool
        Whether the user states it; otherwise the Bayes factor does.
    """

    channels: tuple[int, ...]
    log_evidence: float
    is_certain: bool


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
        Lines beside it that are stronger, or hardly weaker; the strongest one first.
    shared : SharedLine, optional
        That its course is that of several channels.
    """

    hz: float
    within_hz: float
    course: LineCourse
    detection: LineDetection
    neighbours: tuple[Neighbour, ...]
    shared: SharedLine | None = None

    @property
    def neighbour(self) -> Neighbour | None:
        """The strongest of the stronger lines."""
        strongest = self.neighbours[0] if self.neighbours else None
        return strongest if strongest is not None and strongest.is_stronger else None

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


def line_warnings(
    lines: Sequence[Sequence[ToneLine]], channels: Sequence[str], combs: Sequence[Comb] = ()
) -> list[str]:
    """Say which tones are not there, lost at times, or beside a stronger line.

    Parameters
    ----------
    lines : sequence of sequence of ToneLine
        Of each channel the K lines.
    channels : sequence of str
        Names of the channels.
    combs : sequence of Comb, optional
        Tones that are reported together.

    Returns
    -------
    list of str
        A line each.
    """
    warnings = []
    together = {k for comb in combs for k in comb.tones}
    for name, channel in zip(channels, lines, strict=True):
        for comb in combs:
            warnings += _of_comb(comb, [channel[k] for k in comb.tones], f"{name}: ")
        for k, line in enumerate(channel):
            if k not in together:
                warnings += _of_line(line, f"{name}: {line.hz:.9g} Hz")
    return warnings


def _of_line(line: ToneLine, head: str) -> list[str]:
    warnings = []
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
    return warnings + _stronger(line, head)


def _of_comb(comb: Comb, lines: Sequence[ToneLine], head: str) -> list[str]:
    """Of all tones of a comb in one channel; those of the lowest that is found, for its course."""
    name = f"{head}{comb.hz:.9g} Hz and its multiples"
    found = [line for line in lines if line.detection.status == "found"]
    missing = [f"{line.hz:.6g}" for line in lines if line.detection.status == "nothing"]
    warnings = []
    if not found:
        warnings.append(f"{name}: no tone is sure to be there; the estimates may be noise")
    else:
        warnings += _off_name(found[0], f"{head}{found[0].hz:.9g} Hz")
        if missing:
            warnings.append(
                f"{name}: at {_listed(missing)} Hz nothing stands out of the noise; these "
                "estimates may be noise"
            )
    for line in lines:
        warnings += _stronger(line, f"{head}{line.hz:.9g} Hz")
    return warnings


def _listed(items: Sequence[str]) -> str:
    """Some items, and how many more there are."""
    shown = ", ".join(items[:MAX_LISTED])
    return shown if len(items) <= MAX_LISTED else f"{shown} and {len(items) - MAX_LISTED} more"


def _stronger(line: ToneLine, head: str) -> list[str]:
    return [
        f"{head}: a line at {line.hz + neighbour.offset_hz:.6g} Hz is "
        f"{neighbour.level_db:.0f} dB stronger; if it is the wanted one, name it by --hz"
        for neighbour in line.neighbours
        if neighbour.is_stronger
    ]


def comb_metrics(
    lines: Sequence[Sequence[ToneLine]], channels: Sequence[str], combs: Sequence[Comb]
) -> list[dict[str, Any]]:
    """Return what is written of combs beside an output.

    Parameters
    ----------
    lines : sequence of sequence of ToneLine
        Of each channel the K lines.
    channels : sequence of str
        Names of the channels.
    combs : sequence of Comb
        The combs.

    Returns
    -------
    list of dict
        One of each channel and comb: ``channel``; ``hz``, the nominal frequency; ``orders`` and
        ``found_orders``; ``line_hz``, the mean frequency of order 1, with its standard error
        ``line_std_hz`` and its range ``line_range_hz``; None where nothing is found.
    """
    metrics = []
    for name, channel in zip(channels, lines, strict=True):
        for comb in combs:
            pairs = [(k, channel[i]) for k, i in zip(comb.orders, comb.tones, strict=True)]
            found = [(k, line) for k, line in pairs if line.detection.status == "found"]
            entry: dict[str, Any] = {
                "channel": name,
                "hz": comb.hz,
                "orders": list(comb.orders),
                "found_orders": [k for k, _ in found],
                "line_hz": None,
                "line_std_hz": None,
                "line_range_hz": None,
            }
            if found:
                # All have the same course; the finest steps are those of the widest range.
                k, line = min(found, key=lambda pair: pair[1].course.step_s)
                hz = comb.hz + line.course.steps_hz / k
                entry["line_hz"] = float(hz.mean())
                entry["line_std_hz"] = float(np.median(line.course.std_hz)) / k
                entry["line_range_hz"] = [float(hz.min()), float(hz.max())]
            metrics.append(entry)
    return metrics


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
