"""Stronger lines beside the tones, which are estimated with these and left out."""

from __future__ import annotations

import numpy as np
import pytest

import tonesieve
from tonesieve.extraction.interferers import interferers
from tonesieve.extraction.tone_line import ToneLine, line_warnings
from tonesieve.signals.line_course import LineCourse
from tonesieve.signals.line_detection import LineDetection, Neighbour

N, RATE = 100, 500.0
STEADY = LineCourse(
    0.2, 1.0, np.zeros(N), "nominal", True, 0.0, np.ones(N, bool), np.zeros(N)
)  # fmt: skip
WANDER = STEADY.shifted(0.1)
T = np.arange(15_000) / RATE


def line_at(hz: float, *neighbours_hz: float) -> ToneLine:
    beside = tuple(Neighbour(f - hz, 1.0, 10.0, WANDER) for f in neighbours_hz)
    return ToneLine(hz, 1.0, STEADY, LineDetection("found", 0.0, 1.0, 0.0, 1.0, 10.0), beside)


def test_interferers_are_neighbours_that_are_no_tones_each_once() -> None:
    lines = [
        [line_at(50.0, 49.0, 51.0), line_at(52.0, 49.01)],
        [line_at(50.0, 52.0), line_at(52.0)],
    ]
    beside = interferers(lines, 20.0)
    assert [one.hz for one in beside] == [49.0, 51.0]
    # What is less than three inverse durations from a tone is not resolved from it.
    assert interferers([[line_at(50.0, 49.9)]], 20.0) == []
    assert interferers([[line_at(50.0)]], 20.0) == []
    # Nor are there lines beyond half the rate, or at no frequency.
    assert interferers([[line_at(50.0, 61.0, -1.0, float("nan"))]], 20.0, 60.0) == []


def test_an_interferer_has_its_course_in_the_channels_that_have_it() -> None:
    lines = [[line_at(50.0)], [line_at(50.0, 49.0)], [line_at(50.0, 49.05)]]
    ((hz, courses),) = interferers(lines, 20.0)
    assert hz == 49.0
    assert [course.kind for course in courses] == ["nominal", "constant", "constant"]
    for course, offset_hz in zip(courses, (0.0, 0.1, 0.15), strict=True):
        np.testing.assert_allclose(course.steps_hz, offset_hz)


@pytest.mark.parametrize("wander_hz", [0.0, 0.05])
def test_a_tone_is_as_exact_as_without_the_stronger_lines_beside_it(wander_hz: float) -> None:
    noise = np.random.default_rng(1).standard_normal(len(T))
    tone = 0.3 * np.cos(2 * np.pi * 61 * T)
    wander = wander_hz * np.sin(2 * np.pi * T / 8) * 8 / (2 * np.pi)
    upper = 3.0 * np.cos(2 * np.pi * (61.8 * T - wander) + 1)
    lower = 1.0 * np.cos(2 * np.pi * 60.4 * T + 2)
    alone = tonesieve.pull(tone + noise, RATE, 61.0).tones[:, 0]
    result = tonesieve.pull(tone + noise + upper + lower, RATE, 61.0)
    beside = result.tones[:, 0]
    assert np.mean((beside - tone) ** 2) < 3 * np.mean((alone - tone) ** 2)
    offsets = [one.offset_hz for one in result.lines[0].neighbours]
    assert offsets == pytest.approx([0.8, -0.6], abs=0.06)


def test_a_causal_extraction_warns_of_the_stronger_line() -> None:
    noise = np.random.default_rng(2).standard_normal(len(T))
    samples = 0.3 * np.cos(2 * np.pi * 61 * T) + 3 * np.cos(2 * np.pi * 61.8 * T) + noise
    result = tonesieve.pull(samples, RATE, 61.0, causal=True)
    (warning,) = line_warnings([result.lines], ["x"])
    assert warning.startswith("x: 61 Hz: a line at 61.8 Hz is 20 dB stronger")


def test_a_line_as_strong_beside_the_tone_is_separated() -> None:
    """Eight beats in the record; sidebands of a tone that fades lie on both sides, and stay."""
    n, rate_hz = 8000, 1000.0
    t = np.arange(n) / rate_hz
    rng = np.random.default_rng(0)
    tone = np.sin(2 * np.pi * 150 * t)
    other = np.sin(2 * np.pi * 151 * t + 1)
    beside = tonesieve.pull(tone + other + 0.5 * rng.standard_normal(n), rate_hz, 150.0)
    (neighbour,) = beside.lines[0].neighbours
    assert neighbour.offset_hz == pytest.approx(1.0, abs=0.01)
    assert not neighbour.is_stronger
    assert not any("stronger" in text for text in line_warnings([beside.lines], ["x"]))
    assert np.mean((beside.tones[:, 0] - tone) ** 2) < 0.005
    fading = (0.525 + 0.475 * np.cos(2 * np.pi * 0.5 * t)) * tone
    alone = tonesieve.pull(fading + 0.5 * rng.standard_normal(n), rate_hz, 150.0)
    assert alone.lines[0].neighbours == ()
    assert np.mean((alone.tones[:, 0] - fading) ** 2) < 0.02
