"""Whether a tone is there: false alarms, power, and stronger lines beside it."""

from __future__ import annotations

import numpy as np
import pytest
import scipy

from tonesieve.signals.baseband import Baseband
from tonesieve.signals.line_course import find_course
from tonesieve.signals.line_detection import (
    LineDetection,
    Neighbour,
    _best_test,
    _stationarity,
    detect_line,
    find_neighbours,
)

RATE_HZ, HZ = 500.0, 50.0


def outcome(
    samples: np.ndarray, within_hz: float = 1.0, *, search: bool = True
) -> tuple[LineDetection, Neighbour | None]:
    made = Baseband(HZ, RATE_HZ, within_hz)
    made.update(samples[None])
    phasors, weights = (values[0] for values in made.finish())
    shifts_s = made.shifts_s[0]
    course = find_course(phasors, weights, made.step_s, within_hz, shifts_s) if search else None
    found = phasors, weights, made.step_s, within_hz
    return (
        detect_line(*found, course, shifts_s),
        next(iter(find_neighbours(*found, course, shifts_s)), None),
    )


def times(duration_s: float) -> np.ndarray:
    return np.arange(int(duration_s * RATE_HZ)) / RATE_HZ


def noise(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    white = rng.normal(size=n)
    if kind == "red":
        return np.cumsum(white)
    if kind == "autoregressive":
        return scipy.signal.lfilter([1.0], [1.0, -1.66, 0.94], white)
    if kind == "impulsive":
        return white + 20 * (rng.random(n) < 0.003) * rng.standard_cauchy(n)
    return white


def test_the_p_value_of_one_test_is_that_of_the_f_distribution() -> None:
    # White phasors whose power is 3 times as high in one bin: the ratio has a closed form.
    rng = np.random.default_rng(1)
    n = 256
    spectrum = np.exp(2j * np.pi * rng.random(n))  # of unit power in every bin
    spectrum[0] *= np.sqrt(30.0)
    line = np.fft.ifft(spectrum) * np.sqrt(n)
    best = _best_test(line, np.ones(n), 1.0, 8 / n)
    assert best is not None
    assert best.ratio == pytest.approx(30.0)
    # Bins 2 to 18 on both sides; five widths, four sizes of windows.
    share = _stationarity(line)
    expected = scipy.special.fdtrc(2, 2 * 34 * share, 30.0) * 5 * 4
    assert best.p_value == pytest.approx(expected)


@pytest.mark.parametrize("snr_db", [-20.0, 0.0])
@pytest.mark.parametrize("offset_hz", [0.0, 0.3])
def test_a_tone_is_found(snr_db: float, offset_hz: float) -> None:
    t = times(60)
    rng = np.random.default_rng(2)
    tone = np.cos(2 * np.pi * (HZ + offset_hz) * t)
    samples = tone + rng.normal(size=len(t)) * np.sqrt(0.5 / 10 ** (snr_db / 10))
    found, neighbour = outcome(samples)
    assert found.status == "found"
    assert found.p_value < 1e-6
    assert neighbour is None


def test_a_burst_is_found_in_its_time() -> None:
    t = times(64)
    samples = np.random.default_rng(3).normal(size=len(t))
    samples += 0.4 * np.cos(2 * np.pi * HZ * t) * ((t > 32) & (t < 40))
    found, _ = outcome(samples, search=False)
    assert found.status == "found"
    assert found.start_s >= 24 and found.stop_s <= 48  # noqa: PT018


def test_a_rhythm_as_broad_as_a_tenth_of_its_frequency_is_found() -> None:
    rng = np.random.default_rng(4)
    t = times(60)
    parts = rng.normal(size=(2, len(t)))
    smooth = scipy.ndimage.gaussian_filter1d(parts, RATE_HZ / (2 * np.pi * 1.5), axis=1)
    smooth /= smooth.std()
    rhythm = smooth[0] * np.cos(2 * np.pi * HZ * t) + smooth[1] * np.sin(2 * np.pi * HZ * t)
    found, _ = outcome(0.5 * rhythm + rng.normal(size=len(t)), 5.0, search=False)
    assert found.status == "found"
    assert found.bandwidth_hz > 1.0


def test_a_stronger_neighbour_is_reported_with_its_level() -> None:
    t = times(60)
    rng = np.random.default_rng(5)
    tone, near = np.cos(2 * np.pi * HZ * t), 10 * np.cos(2 * np.pi * 50.65 * t + 1)
    found, neighbour = outcome(tone + near + rng.normal(size=len(t)))
    assert found.status == "found"
    assert neighbour is not None
    assert neighbour.offset_hz == pytest.approx(0.65, abs=0.001)
    assert neighbour.amplitude == pytest.approx(10, rel=0.03)
    assert neighbour.level_db == pytest.approx(20, abs=1.0)


def test_a_weaker_neighbour_is_not_stronger() -> None:
    t = times(60)
    samples = np.cos(2 * np.pi * HZ * t) + 0.7 * np.cos(2 * np.pi * 51.5 * t)
    _, neighbour = outcome(samples + np.random.default_rng(6).normal(size=len(t)))
    assert neighbour is not None
    assert not neighbour.is_stronger
    assert neighbour.level_db == pytest.approx(-3.1, abs=0.5)


def test_a_line_beside_the_range_is_no_tone() -> None:
    t = times(60)
    samples = 30 * np.cos(2 * np.pi * 51.3 * t) + np.random.default_rng(7).normal(size=len(t))
    found, neighbour = outcome(samples)
    assert found.status != "found"
    assert neighbour is not None
    assert neighbour.level_db > 40


def test_nothing_at_all() -> None:
    for samples in (np.zeros(5000), np.full(5000, np.nan), np.zeros(2)):
        found, neighbour = outcome(samples)
        assert (found.status, found.p_value, neighbour) == ("nothing", 1.0, None)


def test_scale_and_level_change_nothing() -> None:
    t = times(30)
    samples = np.random.default_rng(8).normal(size=len(t)) + 0.1 * np.cos(2 * np.pi * HZ * t)
    one, _ = outcome(samples)
    other, _ = outcome(1e-9 * samples + 1e-6)
    assert other.p_value == pytest.approx(one.p_value, rel=1e-4)
    assert other.status == one.status


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["white", "red", "autoregressive", "impulsive"])
@pytest.mark.parametrize("duration_s", [4.0, 20.0])
def test_false_alarms_after_the_search_are_as_rare_as_stated(kind: str, duration_s: float) -> None:
    n_runs = 300
    rng = np.random.default_rng(9)
    within_hz = max(1.0, 3 / duration_s)
    status = [
        outcome(noise(kind, int(duration_s * RATE_HZ), rng), within_hz)[0].status
        for _ in range(n_runs)
    ]
    # Binomial bounds: exceeded with a probability of 0.001 at the stated rates.
    n_found, n_doubtful = status.count("found"), status.count("doubtful")
    assert scipy.special.bdtrc(n_found - 1, n_runs, 0.01) > 0.001 if n_found else True
    assert scipy.special.bdtrc(n_found + n_doubtful - 1, n_runs, 0.2) > 0.001
