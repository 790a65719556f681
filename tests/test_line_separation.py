"""A tone beside stronger lines: separated from them, and found where it is."""

from __future__ import annotations

import numpy as np
import pytest

from tonesieve.signals.baseband import Baseband
from tonesieve.signals.line_course import LineCourse, find_course
from tonesieve.signals.line_detection import Neighbour, find_neighbours
from tonesieve.signals.line_search import LineSearch, window_mean
from tonesieve.signals.line_separation import separate_lines

RATE_HZ, HZ, WITHIN_HZ = 500.0, 50.0, 1.75
T = np.arange(15_000) / RATE_HZ


def baseband(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    made = Baseband(HZ, RATE_HZ, WITHIN_HZ)
    made.update(samples[None])
    phasors, weights = made.finish()
    return phasors[0], weights[0], made.shifts_s[0], made.step_s


def course_of(samples: np.ndarray) -> LineCourse:
    phasors, weights, shifts_s, step_s = baseband(samples)
    return find_course(phasors, weights, step_s, WITHIN_HZ, shifts_s)


def tone(offset_hz: float, wander_hz: float = 0.0, period_s: float = 9.0) -> np.ndarray:
    wander = wander_hz * period_s / (2 * np.pi) * np.sin(2 * np.pi * T / period_s)
    return np.cos(2 * np.pi * ((HZ + offset_hz) * T + wander) + 0.5)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=len(T))


def test_a_window_mean_is_a_weighted_sum() -> None:
    rng = np.random.default_rng(3)
    phasors, weights = rng.normal(size=30) + 1j * rng.normal(size=30), rng.random(30)
    taper = np.hanning(7)[1:-1]
    mean = window_mean(phasors, weights, 5)
    for i in (2, 10, 27):
        part = slice(i - 2, i + 3)
        expected = np.sum(taper * weights[part] * phasors[part]) / np.sum(taper * weights[part])
        assert mean[i] == pytest.approx(expected)
    np.testing.assert_allclose(
        window_mean(phasors, weights, 30), np.sum(weights * phasors) / np.sum(weights)
    )


def test_steady_lines_are_those_of_joint_least_squares() -> None:
    # Frequencies are known to least squares, and searched here.
    samples = 0.3 * tone(0.0) + 3 * tone(0.55) + 2 * tone(-0.9) + noise(1)
    phasors, weights, shifts_s, step_s = baseband(samples)
    search = LineSearch(phasors, weights, shifts_s, step_s, WITHIN_HZ)
    separation = separate_lines(search, np.zeros(search.n), search.n, WITHIN_HZ)
    assert [np.median(line.hz) for line in separation.lines] == pytest.approx(
        [0.55, -0.9], abs=0.002
    )
    basis = np.exp(2j * np.pi * np.outer(step_s * np.arange(search.n) + shifts_s, [0, 0.55, -0.9]))
    fitted = np.linalg.lstsq(basis, search.phasors, rcond=None)[0]
    error = abs(separation.tone[search.n // 2] - fitted[0])
    assert error < 0.1 * abs(fitted[0])


@pytest.mark.parametrize(
    ("offset_hz", "wander_hz"),
    [(0.2, 0.0), (-0.4, 0.0), (0.9, 0.0), (-1.5, 0.0), (-0.4, 0.02), (0.9, 0.05), (-1.5, 0.05)],
)
def test_a_tone_beside_a_far_stronger_line_is_found(offset_hz: float, wander_hz: float) -> None:
    # 0.2 Hz are 6 inverse durations.
    samples = 0.3 * tone(0.0) + 6 * tone(offset_hz, wander_hz) + noise(4)
    course = course_of(samples)
    assert course.kind == "nominal"
    assert course.found


@pytest.mark.parametrize("offset_hz", [0.05, 0.2, -0.4, 0.9, -1.5])
@pytest.mark.parametrize("wander_hz", [0.0, 0.02, 0.2])
def test_a_lone_line_is_the_tone(offset_hz: float, wander_hz: float) -> None:
    for seed in range(3):
        course = course_of(6 * tone(offset_hz, wander_hz) + noise(10 + seed))
        assert course.kind != "nominal"
        median_hz = np.median(course.steps_hz)
        assert abs(median_hz - offset_hz) < max(0.01, wander_hz)


def test_a_lone_line_that_drifts_or_beats_is_the_tone() -> None:
    law = np.cumsum(np.linspace(-1.2, 1.2, len(T))) / RATE_HZ
    drift = np.cos(2 * np.pi * (HZ * T + law))
    beating = (1 + 0.5 * np.cos(2 * np.pi * 0.3 * T)) * tone(0.7)
    for samples in (6 * drift, 6 * beating):
        assert course_of(samples + noise(20)).kind != "nominal"


@pytest.mark.parametrize(
    ("offset_hz", "wander_hz", "period_s"), [(0.2, 0.9, 20.0), (0.1, 0.6, 15.0), (-0.4, 1.2, 8.0)]
)
def test_a_lone_line_that_swings_across_its_nominal_frequency_is_the_tone(
    offset_hz: float, wander_hz: float, period_s: float
) -> None:
    # What is left of it at the nominal frequency is no second line: alone it explains more.
    samples = 6 * tone(offset_hz, wander_hz, period_s) + noise(5)
    assert course_of(samples).kind == "course"


@pytest.mark.parametrize("width_hz", [0.2, 0.5, 2.0])
@pytest.mark.parametrize("snr_db", [0.0, 20.0])
def test_parts_of_a_rhythm_are_no_lines_beside_it(width_hz: float, snr_db: float) -> None:
    """Narrow-band noise about the nominal frequency; a line that wanders is one."""
    hz = np.fft.fftfreq(len(T), 1 / RATE_HZ)
    shape = np.exp(-0.5 * (hz / (width_hz / 2.35)) ** 2)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        spectrum = shape * (rng.normal(size=len(T)) + 1j * rng.normal(size=len(T)))
        phasor = np.fft.ifft(spectrum)
        rhythm = np.real(phasor / np.std(phasor) * np.exp(2j * np.pi * HZ * T))
        samples = rhythm + 10 ** (-snr_db / 20) * noise(seed)
        assert not neighbours_of(samples)
    wandering = 3 * tone(-0.9, 0.1) + tone(0.0) + 0.1 * noise(7)
    (neighbour,) = neighbours_of(wandering)
    assert neighbour.offset_hz == pytest.approx(-0.9, abs=0.1)


def neighbours_of(samples: np.ndarray) -> tuple[Neighbour, ...]:
    phasors, weights, shifts_s, step_s = baseband(samples)
    course = find_course(phasors, weights, step_s, WITHIN_HZ, shifts_s)
    return find_neighbours(phasors, weights, step_s, WITHIN_HZ, course, shifts_s)
