"""The lines of tones in a recording: the range that is searched, and what --within changes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import tonesieve
from tonesieve.errors import UserError
from tonesieve.extraction.tone_line import line_warnings
from tonesieve.extraction.tone_lines import FAR, find_lines, search_range_hz
from tonesieve.extractors.pretrained.extractor import PretrainedExtractor
from tonesieve.extractors.pretrained.filter_table import TABLE
from tonesieve.kernels.kalman_bank.state import MEMORY
from tonesieve.recordings.recording import from_array

RATE, N = 500.0, 10_000
T = np.arange(N) / RATE
NOISE = 0.3 * np.random.default_rng(0).standard_normal(N)


@pytest.mark.parametrize(
    ("hz", "within", "duration", "expected"),
    [
        # By default 3.5% of the frequency, but at least 3 inverse durations, and at most a quarter.
        ([50.0], None, 1000.0, [1.75]),
        ([50.0], None, 1.0, [3.0]),
        ([2.0], None, 1.0, [0.5]),
        ([50.0, 400.0], None, 1000.0, [1.75, 14.0]),
        ([50.0], 0.3, 1000.0, [0.3]),
        ([50.0, 200.0], 12.5, 1000.0, [12.5, 12.5]),
        # Of two tones, neither is searched where the other one is.
        ([50.0, 51.0], None, 1000.0, [0.4, 0.4]),
        ([50.0, 51.0, 60.0], 3.0, 1000.0, [0.4, 0.4, 3.0]),
        ([50.0, 51.0], 0.3, 1000.0, [0.3, 0.3]),
    ],
)
def test_the_range_is_that_stated_or_by_default_and_short_of_other_tones(
    hz: list[float], within: float | None, duration: float, expected: list[float]
) -> None:
    assert search_range_hz(hz, within, duration) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("within", "complaint"),
    [
        (0.0, "--within 0: must be a number of Hz above 0"),
        (-1.0, "--within -1: must be a number of Hz above 0"),
        (np.nan, "--within nan: must be a number of Hz above 0"),
        (12.6, "--within 12.6: must be 12.5 Hz or less, a quarter of 50 Hz"),
    ],
)
def test_a_range_out_of_bounds_is_refused(within: float, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        search_range_hz([90.0, 50.0], within, 10.0)


def test_ranges_of_two_tones_do_not_overlap() -> None:
    hz = sorted(np.random.default_rng(1).uniform(40, 60, 20).tolist())
    ranges = search_range_hz(hz, None, 100.0)
    for (f, g), (a, b) in zip(pairwise(hz), pairwise(ranges), strict=True):
        assert f + a < g - b


def test_the_line_of_each_tone_and_channel_is_its_own() -> None:
    channels = [
        np.sin(2 * np.pi * 50.4 * T) + np.sin(2 * np.pi * 80 * T) + NOISE,
        np.sin(2 * np.pi * 49.7 * T) + NOISE[::-1],
    ]
    found = [find_lines(from_array(samples, RATE), [50.0, 80.0])[0] for samples in channels]
    for (line, _), offset in zip(found, (0.4, -0.3), strict=True):
        assert line.detection.status == "found"
        np.testing.assert_allclose(line.course.steps_hz[line.course.is_on], offset, atol=0.01)
        metrics = line.metrics()
        assert metrics["line_hz"] == pytest.approx(50 + offset, abs=0.01)
        assert metrics["within_hz"] == pytest.approx(1.75)
    assert found[0][1].detection.status == "found"
    assert found[1][1].detection.status == "nothing"
    (warning,) = [w for w in line_warnings([found[1]], ["x"]) if "80" in w]
    assert warning.startswith("x: 80 Hz: no tone stands out of the noise within 2.8 Hz (p = ")


# A bass note beside the hum.
HUM, BASS = 0.05 * np.sin(2 * np.pi * 50 * T + 1), np.sin(2 * np.pi * 49 * T)


@pytest.mark.parametrize("causal", [True, False])
def test_what_is_stated_to_lie_outside_stays(causal: bool) -> None:
    samples, late = HUM + BASS + 0.1 * NOISE, slice(N // 2, -N // 10)
    taken = [
        tonesieve.pull(samples, RATE, 50.0, within_hz=within, causal=causal)
        for within in (0.3, None)
    ]
    stated, default = (one.tones[late, 0] for one in taken)
    assert taken[0].lines[0].within_hz == 0.3
    assert taken[1].lines[0].within_hz == pytest.approx(1.75)
    assert np.mean((stated - HUM[late]) ** 2) < 0.1 * np.mean(BASS[late] ** 2)
    if causal:  # without a range, the far stronger one is taken for the tone
        assert np.mean(default**2) > 0.5 * np.mean(BASS[late] ** 2)
    else:  # a steady line at the nominal frequency is the tone, and the other one beside it
        for one, tones in zip(taken, (stated, default), strict=True):
            assert np.mean((tones - HUM[late]) ** 2) < 0.01 * np.mean(HUM[late] ** 2)
            neighbour = one.lines[0].neighbour
            assert neighbour is not None
            assert neighbour.offset_hz == pytest.approx(-1, abs=0.01)


def test_no_filter_follows_a_tone_further_than_stated() -> None:
    (_, group), *_ = PretrainedExtractor((50.0,), RATE, within_hz=0.3).groups
    step_s = group.factor / RATE
    np.testing.assert_allclose(group.max_offset[:, 0], 2 * np.pi * 0.3 * step_s)
    (_, group), *_ = PretrainedExtractor((50.0,), RATE).groups
    np.testing.assert_allclose(group.max_offset[:, 0], 2 * np.pi * np.array([1.75, 3.5]) * step_s)


@pytest.mark.parametrize("within_hz", [None, 1.0])
def test_a_stream_follows_a_tone_beyond_the_range_of_its_search(within_hz: float | None) -> None:
    """But never beyond a stated one."""
    t = np.arange(int(60 * RATE)) / RATE
    course = 50 - 2.2 * np.clip((t - 10) / 30, 0, 1)  # 4.4% in half a minute
    tone = np.cos(2 * np.pi * np.cumsum(course) / RATE)
    noise = 0.3 * np.random.default_rng(4).normal(size=len(t))
    found = tonesieve.pull(tone + noise, RATE, 50.0, causal=True, within_hz=within_hz)
    late = t > 45
    error_db = 10 * np.log10(np.mean((found.tones[late, 0] - tone[late]) ** 2) / 0.5)
    assert error_db < -15 if within_hz is None else error_db > -3


@pytest.mark.parametrize("within", [0.0, -1.0, np.nan])
def test_an_extractor_refuses_a_range_that_is_none(within: float) -> None:
    with pytest.raises(UserError, match=r"within_hz .*: must be above 0"):
        PretrainedExtractor((50.0,), RATE, within_hz=within)


def test_a_line_that_leaves_its_range_is_followed_beyond() -> None:
    # 1 Hz a second from 4 s on, for 5 s.
    offset = np.clip(T - 4, 0, 5) * 1.0
    samples = np.sin(2 * np.pi * (50 * T + np.cumsum(offset) / RATE)) + 0.3 * NOISE
    (line,) = find_lines(from_array(samples, RATE), [50.0])[0]
    assert line.course.kind == "course"
    assert line.course.steps_hz.max() == pytest.approx(5, abs=0.1)
    # A range that is stated is never left.
    (stated,) = find_lines(from_array(samples, RATE), [50.0], within_hz=1.75)[0]
    assert stated.course.within_hz == 1.75
    assert np.abs(stated.course.steps_hz).max() < 1.75 * FAR + 0.1


def test_a_line_that_falls_far_is_followed_in_little_noise() -> None:
    # Beyond its range a line is seen in the baseband, too, but attenuated.
    t = np.arange(int(60 * RATE)) / RATE
    offset = -3 * np.clip((t - 5) / 50, 0, 1)
    samples = np.sin(2 * np.pi * (50 * t + np.cumsum(offset) / RATE))
    samples += 0.1 * np.random.default_rng(0).normal(size=len(t))
    (line,) = find_lines(from_array(samples, RATE), [50.0])[0]
    assert line.course.found
    assert line.course.steps_hz.min() == pytest.approx(-3, abs=0.05)


def test_a_recording_of_few_periods_is_too_short_to_test() -> None:
    samples = np.sin(2 * np.pi * 50 * T[:40])
    lines = find_lines(from_array(samples, RATE), [50.0])
    assert lines[0][0].detection.status == "doubtful"
    (warning,) = line_warnings(lines, ["x"])
    assert warning == "x: 50 Hz: the recording is too short to test whether a tone is there"


def test_the_search_of_very_close_tones_takes_no_more_than_a_record() -> None:
    ranges = search_range_hz([50.0, 50.0001], None, 2.0)
    assert ranges == [0.125, 0.125]


def test_a_range_that_is_stated_bounds_the_filters_bandwidth() -> None:
    (_, group), *_ = PretrainedExtractor((50.0,), RATE, within_hz=0.3).groups
    shortest_s = group.table[MEMORY].min() * group.factor / RATE
    assert shortest_s == pytest.approx(1 / (2 * np.pi * 0.3))
    (_, default), *_ = PretrainedExtractor((50.0,), RATE).groups
    np.testing.assert_array_equal(default.table, TABLE)


def test_the_beat_of_close_tones_is_no_course() -> None:
    # Ten inverse durations apart; each has the other in its neighbourhood.
    pair, samples = (50.0, 50.5), np.sin(2 * np.pi * 50 * T) + 0.8 * np.sin(2 * np.pi * 50.5 * T)
    for line in find_lines(from_array(samples + 0.1 * NOISE, RATE), pair)[0]:
        assert line.course.kind != "course"
        assert line.detection.status == "found"
