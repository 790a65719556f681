"""The baseband of a recording, and the course of a line in it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from tonesieve.kernels.viterbi import best_path
from tonesieve.signals import phase_smoother
from tonesieve.signals.baseband import BETA, PASS, Baseband, default_within_hz
from tonesieve.signals.line_course import LineCourse, find_course, is_steady
from tonesieve.signals.ridge import spectrogram

RATE_HZ, HZ = 500.0, 50.0


def baseband(
    samples: np.ndarray, within_hz: float, hz: float = HZ, block: int = 10**9
) -> tuple[Baseband, np.ndarray, np.ndarray]:
    made = Baseband(hz, RATE_HZ, within_hz)
    for start in range(0, len(samples), block):
        made.update(samples[None, start : start + block])
    phasors, weights = made.finish()
    return made, phasors[0], weights[0]


def course_of(samples: np.ndarray, within_hz: float, hz: float = HZ) -> LineCourse:
    made, phasors, weights = baseband(samples, within_hz, hz)
    return find_course(phasors, weights, made.step_s, within_hz, made.shifts_s[0])


def times(duration_s: float) -> np.ndarray:
    return np.arange(int(duration_s * RATE_HZ)) / RATE_HZ


def tone(t: np.ndarray, offset_hz: np.ndarray | float, phase_rad: float = 0.7) -> np.ndarray:
    """Of unit amplitude; the offset is integrated by the trapezoidal rule, from time 0."""
    hz = np.broadcast_to(offset_hz, t.shape)
    cycles = np.concatenate([[0.0], np.cumsum((hz[1:] + hz[:-1]) / 2)]) / RATE_HZ
    return np.cos(2 * np.pi * (HZ * t + cycles) + phase_rad)


def noise(t: np.ndarray, snr_db: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=len(t)) * np.sqrt(0.5 / 10 ** (snr_db / 10))


# The baseband.


def test_a_tone_becomes_its_phasor_beside_gaps_level_and_slope() -> None:
    t = times(30)
    samples = 1.3 * tone(t, 0.0) + 1e3 + 100 * t
    samples[2000:2300] = np.nan
    samples[5000:9000:7] = np.nan
    samples[10000:13000] = np.nan
    _, phasors, weights = baseband(samples, 1.0)
    assert np.abs(phasors - 1.3 * np.exp(0.7j))[weights > 0.02].max() < 1e-6
    assert weights.max() <= 1
    assert np.all(phasors[weights == 0] == 0)
    assert np.sum(weights == 0) > 0.8 * (6.0 - 0.75 * 2) * 8  # of a gap of 6 s, less its windows


def test_any_division_into_blocks_gives_the_same_steps() -> None:
    t = times(20)
    samples = tone(t, 0.1) + noise(t, 0.0, 1)
    samples[3000:3500] = np.nan
    _, whole, weights = baseband(samples, 1.0)
    for block in (1, 37, 4096):
        _, parts, part_weights = baseband(samples, 1.0, block=block)
        assert np.abs(whole - parts).max() < 1e-12
        assert np.abs(weights - part_weights).max() < 1e-12


def test_a_step_is_a_weighted_least_squares_fit() -> None:
    t = times(8)
    samples = noise(t, 0.0, 2)
    samples[1000:1100] = np.nan
    made, phasors, _ = baseband(samples, 1.0)
    step = 17
    centre, length = step * made.factor, 6 * made.factor
    window = np.kaiser(length + 1, BETA)[:length]
    at = centre - length // 2 + np.arange(length)
    use = np.isfinite(samples[at])
    angle = 2 * np.pi * HZ * at / RATE_HZ
    basis = np.stack([np.ones(length), (at - centre) / length, np.cos(angle), -np.sin(angle)])
    root = np.sqrt(window[use])
    fit = np.linalg.lstsq((basis[:, use] * root).T, samples[at[use]] * root, rcond=None)[0]
    assert abs(phasors[step] - (fit[2] + 1j * fit[3])) < 1e-9


def test_an_offset_turns_and_is_attenuated_as_stated() -> None:
    t = times(30)
    made, phasors, _ = baseband(tone(t, 0.5, 0.0), 1.0)
    steps = np.arange(len(phasors)) * made.step_s
    expected = made.response(np.array([0.5]))[0] * np.exp(2j * np.pi * 0.5 * steps)
    assert np.abs(phasors - expected)[6:-6].max() < 1e-4


def test_what_would_fold_into_the_range_is_80_db_down() -> None:
    made = Baseband(HZ, RATE_HZ, 1.0)
    folds_hz = 1 / made.step_s - PASS
    far = made.response(np.linspace(folds_hz, HZ, 2000))
    assert np.abs(far).max() < 1e-4


def test_the_time_of_a_cut_window_is_its_centre_of_mass() -> None:
    t = times(30)
    made, phasors, weights = baseband(tone(t, 0.2, 0.0), 1.0)
    steps = np.arange(len(phasors)) * made.step_s + made.shifts_s[0]
    error = np.angle(phasors * np.exp(-2j * np.pi * 0.2 * steps))
    assert made.shifts_s[0, 0] > 0.05  # half a window is ahead of its step
    assert np.abs(error[weights > 0.1]).max() < 0.02


def test_the_range_by_default() -> None:
    assert default_within_hz(50.0, 1000.0) == pytest.approx(1.75)
    assert default_within_hz(50.0, 1.5) == 2.0
    assert default_within_hz(50.0, 0.04) == 12.5


# The path of a line, against all paths.


@pytest.mark.parametrize("reach", [1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_the_path_is_the_best_of_all(reach: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    power = rng.exponential(size=(4, 4)) * 4
    power[2] = np.nan
    move, turn = rng.dirichlet(np.ones(2 * reach + 1)), rng.dirichlet(np.ones(2), size=2)
    move, turn = np.log(move), np.log(turn)
    snr, temper = 5.0, 0.75
    path, is_on = np.zeros(4, dtype=np.int64), np.zeros(4, dtype=np.bool_)
    best = best_path(power, temper, snr, move, turn, path, is_on)
    gain = temper * (power * snr / (1 + snr) - np.log1p(snr))

    def value(states: tuple[int, ...], on: tuple[int, ...]) -> float:
        total = -np.log(8.0)
        for j, (k, a) in enumerate(zip(states, on, strict=True)):
            total += gain[j, k] if a and np.isfinite(gain[j, k]) else 0.0
        for (k, a), (q, b) in pairwise(zip(states, on, strict=True)):
            # States are visited backwards: the move to k is stated by where it came from.
            total += turn[a, b] + (move[reach + k - q] if abs(k - q) <= reach else -np.inf)
        return float(total)

    states, turns = list(np.ndindex(4, 4, 4, 4)), list(np.ndindex(2, 2, 2, 2))
    assert best == pytest.approx(max(value(s, a) for s in states for a in turns))
    # Of paths that differ in a gap alone, several may be the best.
    assert best == pytest.approx(value(tuple(path.tolist()), tuple(int(a) for a in is_on)))


@pytest.mark.parametrize("n_steps", [64, 37, 3000])
@pytest.mark.parametrize("limit_hz", [0.0, 20.0])
def test_the_power_of_a_frame_is_that_of_the_sum_written_out(n_steps: int, limit_hz: float) -> None:
    rng = np.random.default_rng(4)
    phasors = rng.normal(size=n_steps) + 1j * rng.normal(size=n_steps)
    weights, step_s = rng.random(n_steps), 0.01
    for window in (8, n_steps):
        frames = spectrogram(phasors, weights, step_s, window, limit_hz)
        lone = window == n_steps
        taper = np.ones(n_steps) if lone else np.hanning(window + 1)[:-1]
        for j in (0, 3, len(frames.power) - 2)[: 1 if lone else 3]:
            at = np.arange(len(taper)) + (0 if lone else (j - 1) * frames.hop)
            inside = (at >= 0) & (at < n_steps)
            at, taper_here = at[inside], taper[inside]
            waves = np.exp(-2j * np.pi * frames.hz[:, None] * step_s * at)
            power = np.abs(waves @ (weights[at] * phasors[at] * taper_here)) ** 2
            power /= np.sum(weights[at] * taper_here**2)
            np.testing.assert_allclose(frames.power[j], power, rtol=1e-9)


def test_determinant_of_differences() -> None:
    for n in (5, 9, 40):
        for order in (2, 3):
            difference = np.diff(np.eye(n), order, axis=0)
            exact = np.linalg.slogdet(difference @ difference.T)[1]
            assert phase_smoother._log_det_differences(n, order) == pytest.approx(exact)


# Courses.


def test_steady_tones_reach_the_cramer_rao_bound() -> None:
    # Rife, Boorstyn 1974, for a real tone: var omega = 12 / (snr n (n^2 - 1)).
    t, offset, snr_db, n_runs = times(30), 0.3, -5.0, 40
    snr = 10 ** (snr_db / 10)
    bound = np.sqrt(12 / (snr * (2 * np.pi / RATE_HZ) ** 2 * len(t) * (len(t) ** 2 - 1)))
    made = [course_of(tone(t, offset) + noise(t, snr_db, s), 1.0) for s in range(n_runs)]
    assert all(course.kind == "constant" for course in made)
    assert all(np.ptp(course.steps_hz) == 0 for course in made)
    errors = np.array([course.steps_hz[0] - offset for course in made])
    # Of 40 squares, the mean is below 1.45 of its expectation with probability 0.97.
    assert np.sqrt(np.mean(errors**2)) < bound * np.sqrt(1.45)
    assert made[0].std_hz[0] == pytest.approx(bound, rel=0.25)


@pytest.mark.parametrize("snr_db", [-15.0, 0.0, 20.0])
def test_a_tone_at_its_nominal_frequency_is_exactly_there(snr_db: float) -> None:
    t = times(30)
    for seed in range(4):
        course = course_of(tone(t, 0.0) + noise(t, snr_db, seed), 1.0)
        assert course.found
        assert course.kind == "nominal"
        assert np.all(course.steps_hz == 0)
        assert np.all(course.phase_cycles(t) == 0)


COURSES = {
    "slow drift": (lambda t: 0.25 * np.sin(2 * np.pi * t / 40), 1.0, 0.01),
    "run-up": (lambda t: np.interp(t, [10, 50], [-1.5, 1.5]), 2.0, 0.06),
    "linear": (lambda t: -1.5 + t / 20, 2.0, 0.003),
    "to 48 Hz": (lambda t: -2 * np.clip((t - 20) / 20, 0, 1), 2.5, 0.06),
}


@pytest.mark.parametrize("name", COURSES)
def test_courses_in_noise(name: str) -> None:
    law, within_hz, limit_hz = COURSES[name]
    t = times(60)
    course = course_of(tone(t, law(t)) + noise(t, 0.0, 5), within_hz)
    assert course.found
    assert course.kind == "course"
    assert course.is_on.mean() > 0.95
    assert np.sqrt(np.mean((course.offset_hz(t) - law(t)) ** 2)) < limit_hz
    # As a carrier: the phase stays within a small part of a cycle, up to a constant.
    line = np.exp(2j * np.pi * (course.phase_cycles(t) - np.cumsum(law(t)) / RATE_HZ))
    assert abs(line.mean()) > 0.97


def test_a_chirp_without_noise_is_exact() -> None:
    t = times(10)
    course = course_of(tone(t, t - 5), 6.0)
    error = course.offset_hz(t) - (t - 5)
    assert np.abs(error[200:-200]).max() < 0.005


def test_fades_and_bursts_are_lost_but_do_not_move_the_line() -> None:
    t = times(60)
    is_on = (t % 20) < 8
    course = course_of(tone(t, 0.3) * is_on + noise(t, -3.0, 7), 1.0)
    assert course.kind == "constant"
    assert course.steps_hz[0] == pytest.approx(0.3, abs=0.005)
    assert 0.3 < course.is_on.mean() < 0.5
    assert len(course.lost_s()) == 3
    assert course.lost_s()[0] == pytest.approx((8.0, 20.0), abs=1.6)


def test_a_stronger_neighbour_beside_the_range_is_not_followed() -> None:
    t = times(60)
    near = 30 * np.cos(2 * np.pi * 51.3 * t + 1)
    course = course_of(tone(t, 0.05) + near + noise(t, 0.0, 8), 1.0)
    assert course.found
    assert np.sqrt(np.mean((course.steps_hz - 0.05) ** 2)) < 0.002
    assert not course_of(near + noise(t, 0.0, 9), 1.0).found


def test_a_weaker_line_at_the_nominal_frequency_takes_precedence() -> None:
    t = times(60)
    course = course_of(tone(t, 0.0) + 10 * np.cos(2 * np.pi * 50.65 * t) + noise(t, 0.0, 10), 1.0)
    assert course.kind == "nominal"
    assert course.found


def test_noise_is_not_followed() -> None:
    t = times(30)
    for seed in range(10):
        course = course_of(noise(t, 0.0, 100 + seed), 1.0)
        assert course.kind == "nominal" or course.p_value > 1e-4
        assert course.found == (course.p_value <= 0.01)


def test_nothing_at_all() -> None:
    for samples in (np.zeros(5000), np.full(5000, np.nan), np.zeros(3), np.zeros(0)):
        course = course_of(samples, 1.0)
        assert not course.found
        assert course.p_value == 1.0
        assert np.all(course.steps_hz == 0)


# Invariances.


def test_scale_level_slope_and_phase_change_nothing() -> None:
    t = times(40)
    law = 0.2 * np.sin(2 * np.pi * t / 25)
    samples = tone(t, law) + noise(t, 0.0, 11)
    course = course_of(samples, 1.0)
    other = course_of(1e-6 * samples + 1e-3 + 1e-4 * t, 1.0)
    assert other.kind == course.kind == "course"
    assert np.abs(other.steps_hz - course.steps_hz).max() < 1e-5


def test_backwards_the_course_is_reversed() -> None:
    t = times(40 + 1 / RATE_HZ)  # a whole number of steps, so that both have the same centres
    t = t[: (len(t) - 1) // 62 * 62 + 1]
    samples = tone(t, 0.2 * np.sin(2 * np.pi * t / 25)) + noise(t, 0.0, 12)
    course, back = course_of(samples, 1.0), course_of(samples[::-1], 1.0)
    assert len(course.steps_hz) == len(back.steps_hz)
    assert np.sqrt(np.mean((course.steps_hz - back.steps_hz[::-1]) ** 2)) < 0.003


def test_mirrored_at_the_nominal_frequency_the_course_is_mirrored() -> None:
    t = times(40)
    made, phasors, weights = baseband(tone(t, 0.2 * np.sin(t / 4)) + noise(t, 0.0, 13), 1.0)
    course = find_course(phasors, weights, made.step_s, 1.0, made.shifts_s[0])
    mirror = find_course(phasors.conj(), weights, made.step_s, 1.0, made.shifts_s[0])
    assert np.abs(course.steps_hz + mirror.steps_hz).max() < 1e-4


def test_the_phase_is_the_integral_of_the_offset() -> None:
    steps = np.array([0.0, 0.2, 0.1, 0.4])
    course = LineCourse(0.5, 1.0, steps, "course", True, 0.0, np.ones(4, bool), np.zeros(4))
    t = np.linspace(-1.0, 3.0, 4001)
    offset, phase = course.offset_hz(t), course.phase_cycles(t)
    integral = np.concatenate([[0.0], np.cumsum((offset[1:] + offset[:-1]) / 2)]) * (t[1] - t[0])
    integral -= integral[np.argmin(np.abs(t))]
    assert np.abs(phase - integral).max() < 1e-6
    assert course.phase_cycles(np.zeros(1))[0] == 0


# A steady line at the nominal frequency.


@pytest.mark.parametrize(
    ("offset_hz", "expected"), [(0.0, True), (0.05, False), (0.2, False), (0.4, False)]
)
def test_a_steady_line_is_at_its_nominal_frequency_alone(offset_hz: float, expected: bool) -> None:
    # 0.4 Hz are whole cycles in each of 8 segments of 20 s; 0.05 Hz are one in the record.
    t = times(20)
    _, phasors, weights = baseband(tone(t, offset_hz) + noise(t, 0, 1), 1.0)
    assert is_steady(phasors, weights) == expected


def test_a_steady_line_has_precedence_over_a_stronger_one_that_moves() -> None:
    t = times(60)
    wander = 0.3 * np.sin(2 * np.pi * t / 7) + 0.8
    both = 0.5 * tone(t, 0.0) + tone(t, wander) + noise(t, 10, 2)
    assert course_of(both, 1.75).kind == "nominal"
    assert course_of(both - 0.5 * tone(t, 0.0), 1.75).kind == "course"


def test_noise_and_what_comes_and_goes_are_no_steady_line() -> None:
    t = times(20)
    for seed in range(40):
        _, phasors, weights = baseband(noise(t, 0, 100 + seed), 1.0)
        assert not is_steady(phasors, weights)
    _, phasors, weights = baseband(tone(t, 0.0) * (t < 10) + noise(t, 10, 3), 1.0)
    assert not is_steady(phasors, weights)


def test_the_phase_of_a_course_is_as_uncertain_as_is_stated() -> None:
    t, errors, stated = times(60), [], []
    wander = 0.2 * np.sin(2 * np.pi * t / 20)
    cycles = np.concatenate([[0.0], np.cumsum((wander[1:] + wander[:-1]) / 2)]) / RATE_HZ
    for seed in range(4):
        found = course_of(tone(t, wander) + noise(t, -5, 10 + seed), 1.75)
        assert found.kind == "course"
        error = 2 * np.pi * (found.phase_cycles(t) - cycles)[3000:-3000:50]
        errors.append(np.std(error - error.mean()))
        stated.append(found.phase_std_rad)
    # Within a factor of 1.6: the smoother's bias is as large as its variance where it is optimal.
    assert 1 / 1.6 < np.mean(errors) / np.mean(stated) < 1.6
    assert course_of(tone(t, 0.0) + noise(t, 0, 1), 1.75).phase_std_rad == 0
