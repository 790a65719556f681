"""What users read of a tone's line: the table of `extract`, and its warnings."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

from tonesieve.cli.recording_text import extract_text
from tonesieve.extraction.tone_line import ToneLine, line_warnings
from tonesieve.signals.line_course import LineCourse
from tonesieve.signals.line_detection import LineDetection, Neighbour

Status = Literal["found", "doubtful", "nothing"]


def line(
    offsets_hz: list[float],
    status: Status = "found",
    neighbours: tuple[Neighbour, ...] = (),
) -> ToneLine:
    """A line of 50 Hz, of one step a second."""
    steps = np.array(offsets_hz)
    kind: Literal["nominal", "constant", "course"] = "course"
    if np.ptp(steps) == 0:
        kind = "constant" if steps[0] else "nominal"
    n = len(steps)
    course = LineCourse(
        1.0, 1.75, steps, kind, status == "found", 1e-9, np.ones(n, bool), np.zeros(n)
    )
    return ToneLine(50.0, 1.75, course, LineDetection(status, 0.3, 1.0, 0.0, n, 20.0), neighbours)


def result(one: ToneLine) -> dict[str, Any]:
    tone = {
        "column": "tone_50_hz",
        "hz": 50.0,
        "amplitude": 1.0,
        "amplitude_half_width": 0.1,
        "followed_hz": 49.951,
        "band_hz": (49.0, 51.0),
        "recording_power_in_band": 1.0,
        "residual_power_in_band": 0.1,
        "reduction_db": -10.0,
        "outside_band_share": 0.01,
        **one.metrics(),
    }
    warnings = line_warnings([[one]], ["x"])
    return {"tones": [tone], "samples": 1000, "out": "log.tone.csv", "warnings": warnings,
            "combs": [], "channels_together": []}  # fmt: skip


def test_the_table_has_status_and_line() -> None:
    text = extract_text(result(line([-0.06] * 100)))
    head = text.splitlines()[0]
    assert head.index("status") < head.index("line") < head.index("amplitude")
    assert "found" in text
    assert "49.94 Hz" in text
    assert "49.951 Hz" in text


def test_the_table_has_the_range_of_a_line_that_moves() -> None:
    assert "50.05 Hz (49.9-50.2)" in extract_text(result(line([-0.1, 0.2])))


def test_the_table_has_no_line_where_nothing_is() -> None:
    text = extract_text(result(line([0.0] * 100, "nothing")))
    assert "nothing" in text
    assert "50 Hz (" not in text
    assert "warning: x: 50 Hz: no tone stands out of the noise within 1.75 Hz (p = 0.3)" in text


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (line([0.0] * 100), None),
        (line([-0.06] * 100), "the tone was found at 49.94 Hz; searched were 1.75 Hz"),
        (line([-0.001] * 100), None),  # less than the record of 100 s resolves
        (line([-0.1, 0.2] * 50), "the tone was found at 49.9 to 50.2 Hz"),
        (line([0.0] * 100, "doubtful"), "it is doubtful whether a tone is there (p = 0.3)"),
    ],
)
def test_warnings_of_a_line(one: ToneLine, said: str | None) -> None:
    warnings = line_warnings([[one]], ["x"])
    assert (said is None) == (warnings == [])
    assert said is None or warnings[0].startswith(f"x: 50 Hz: {said}")


def test_every_stronger_line_is_reported() -> None:
    steady = line([0.0] * 100).course
    beside = (Neighbour(0.65, 3.0, 20.0, steady), Neighbour(-1.0, 1.0, 10.0, steady))
    one = line([0.0] * 100, neighbours=beside)
    first, second = line_warnings([[one]], ["x"])
    assert first.startswith("x: 50 Hz: a line at 50.65 Hz is 20 dB stronger")
    assert second.startswith("x: 50 Hz: a line at 49 Hz is 10 dB stronger")
    assert one.metrics()["stronger_line_hz"] == pytest.approx(50.65)
    assert one.metrics()["stronger_line_db"] == 20.0
