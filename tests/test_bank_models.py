"""What the bank models beside the tone: level and slope, the noise at the tone, a given course."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.signal import firwin, lfilter

from tonesieve.extractors.pretrained.filter_table import FIXED_MEMORIES, NO_RESTART_MEMORIES
from tonesieve.extractors.pretrained.front_end import BankOutput, ToneGroup
from tonesieve.kernels.kalman_bank.state import (
    AGE,
    AR_ORDER,
    DENSITY_RATIO,
    NOISE_VAR,
    BankState,
    unpack,
)

FREQ = 0.12
FIXED, INFINITE = (
    FIXED_MEMORIES.index(300.0),
    len(FIXED_MEMORIES) + NO_RESTART_MEMORIES.index(np.inf),
)


def noise(n: int, n_streams: int = 24, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n_streams, n))


def tones(n: int, n_streams: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Phasors (B) of size 1 and any phase, and their tones (B, N)."""
    phasors = np.exp(2j * np.pi * np.random.default_rng(0).random(n_streams))
    return phasors, (phasors[:, None] * np.exp(2j * np.pi * FREQ * np.arange(n))).imag


def complex_phasors(output: BankOutput) -> np.ndarray:
    """Phasors (B, N, K, M)."""
    return np.asarray(output.phasors[..., 0, :] + 1j * output.phasors[..., 1, :])


def filtered(samples: np.ndarray) -> np.ndarray:
    """Phasors (B, N, M) of the filters of one tone."""
    group = ToneGroup((FREQ,))
    banks = group.initial_state(len(samples)).banks
    output, _ = group.run_bank(np.ascontiguousarray(samples), banks)
    return complex_phasors(output)[:, :, 0]


def rms(array: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.abs(array) ** 2)))


# The level and its slope.


@pytest.mark.parametrize("slope", [0.1, -1.0])
def test_a_ramp_is_fitted_as_by_a_ramp_regressor(slope: float) -> None:
    n = 3000
    phasors, tone = tones(n)
    samples = tone + slope * np.arange(n) + noise(n)
    angle = 2 * np.pi * FREQ * np.arange(n)
    rows = np.stack([np.sin(angle), np.cos(angle), np.ones(n), np.arange(n)], axis=1)
    fit = np.linalg.lstsq(rows, samples.T, rcond=None)[0]
    expected = fit[0] + 1j * fit[1]
    error = rms(expected - phasors)
    difference = filtered(samples)[:, -1, INFINITE] - expected
    # As without a ramp (`test_kalman_bank`), and for what the start of a steep one costs.
    assert rms(difference) < 0.25 * error
    # Without the regressor the fit is far off.
    without = np.linalg.lstsq(rows[:, :3], samples.T, rcond=None)[0]
    assert rms(without[0] + 1j * without[1] - phasors) > 2 * error


def test_ramps_of_either_sign_are_mirror_images() -> None:
    ramp, tone = 0.5 * np.arange(1000), tones(1000)[1] + noise(1000)
    np.testing.assert_array_equal(filtered(tone + ramp), -filtered(-tone - ramp))


# The noise at the tone.


# Beside the edge, a filter that may restart does.
@pytest.mark.parametrize(("edge", "filters"), [(1.15, [INFINITE]), (1.5, [INFINITE, FIXED])])
def test_a_low_pass_above_the_tone_costs_little(edge: float, filters: list[int]) -> None:
    n, n_streams, half = 4000, 48, 100
    phasors, tone = tones(n, n_streams)
    white = noise(n + 2 * half, n_streams)
    low_pass = firwin(2 * half + 1, 2 * edge * FREQ)
    gain = abs(np.exp(-2j * np.pi * FREQ * np.arange(2 * half + 1)) @ low_pass)
    assert gain > 0.9
    limited = lfilter(low_pass, [1.0], white)[:, 2 * half :]
    # At the tone, both noises are the same.
    errors = [
        filtered(tone + other)[:, 2000:, filters] - phasors[:, None, None]
        for other in (white[:, half:-half], limited / gain)
    ]
    for i in range(len(filters)):
        flat, cut = (rms(error[..., i]) for error in errors)
        assert 20 * np.log10(cut / flat) < 1


def test_the_density_at_the_tone_is_that_of_the_noise() -> None:
    n, n_streams = 6000, 24
    response = firwin(201, 2 * 1.3 * FREQ)
    samples = tones(n, n_streams)[1] + lfilter(response, [1.0], noise(n, n_streams))
    group = ToneGroup((FREQ,))
    _, banks = group.run_bank(samples, group.initial_state(n_streams).banks)
    densities = []
    for bank in banks:
        state = unpack(bank, 1)
        gain = complex(*state.response[0, :, INFINITE])
        density = state.scalars[NOISE_VAR] * state.scalars[DENSITY_RATIO] / abs(gain) ** 2
        densities.append(density)
    expected = abs(np.exp(-2j * np.pi * FREQ * np.arange(201)) @ response) ** 2
    # The mixture takes some of the noise at the tone off.
    assert -2 < 10 * np.log10(np.median(densities) / expected) < 1


# A course.


def chirp(n: int, largest: float) -> np.ndarray:
    """Phases of an offset that swings to ``largest`` rad a step, 0 at the first step."""
    offsets = largest * np.sin(2 * np.pi * np.arange(n) / n)
    return np.asarray(np.cumsum(offsets) - offsets[0])


def along(
    group: ToneGroup,
    steps: np.ndarray,
    phase_rad: np.ndarray,
    backwards: bool,
    cuts: tuple[int, ...] = (),
) -> np.ndarray:
    """Phasors (B, N, M) of one tone along a course of these phases (N), chunk by chunk."""
    n, n_streams = len(phase_rad), len(steps)
    offsets = np.concatenate([[0.0], np.diff(phase_rad), [0.0]])
    course = offsets[:0:-1] if backwards else offsets[:-1]
    course = np.broadcast_to(course[:, None], (n_streams, n, 1))
    if backwards:
        steps = np.ascontiguousarray(steps[:, ::-1])
    banks, parts = group.initial_state(n_streams, backwards=backwards).banks, []
    for start, stop in pairwise([0, *cuts, n]):
        output, banks = group.run_bank(
            steps[:, start:stop], banks, course=course[:, start:stop], backwards=backwards
        )
        if backwards:
            last_rad = np.full((n_streams, 1), phase_rad[-1])
            output = group.to_forward_phasors(output, n, last_rad)
        parts.append(complex_phasors(output)[:, :, 0])
    found = np.concatenate(parts, axis=1)
    return found[:, ::-1] if backwards else found


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("freq", [FREQ, 0.021])
def test_a_chirp_along_its_course_is_a_steady_tone(freq: float, backwards: bool) -> None:
    group, n_steps = ToneGroup((freq,), 0.5 * np.exp(0.2j)), 2400
    n = n_steps * group.factor
    assert (group.factor > 1) == (freq == 0.021)
    per_step = chirp(n_steps, 0.02)
    at_steps = np.arange(n_steps) * group.factor + group.factor - 1
    per_sample = np.interp(np.arange(n), at_steps, per_step)
    phasor = 2 * np.exp(0.7j)
    rng = np.random.default_rng(6)
    disturbance = 0.3 * rng.standard_normal((8, n))
    errors = []
    for phase, course in ((per_sample, per_step), (0 * per_sample, 0 * per_step)):
        carrier = group.gain * phasor * np.exp(1j * (2 * np.pi * freq * np.arange(n) + phase))
        steps, _ = group.decimate(carrier.imag + disturbance, group.initial_state(8))
        errors.append(along(group, steps, course, backwards) - phasor)
    late = slice(300, -300)
    for filters in (FIXED, INFINITE, 2):
        chirped, steady = (rms(error[:, late, filters]) for error in errors)
        assert chirped < 1.3 * steady
        assert steady < 0.2
    # Off its course, it is lost by the long ones.
    carrier = group.gain * phasor * np.exp(1j * (2 * np.pi * freq * np.arange(n) + per_sample))
    steps, _ = group.decimate(carrier.imag + disturbance, group.initial_state(8))
    lost = along(group, steps, 0 * per_step, backwards) - phasor
    assert rms(lost[:, late, INFINITE]) > 1


@pytest.mark.parametrize("backwards", [False, True])
def test_a_course_in_chunks_is_the_same_to_the_bit(backwards: bool) -> None:
    group, phase = ToneGroup((FREQ,)), chirp(500, 0.03)
    steps = noise(500, 2)
    whole = along(group, steps, phase, backwards)
    for cuts in ((1,), (7, 8, 9), (250,)):
        np.testing.assert_array_equal(along(group, steps, phase, backwards, cuts), whole)


def test_no_course_is_a_course_of_zeros() -> None:
    group, steps = ToneGroup((FREQ,)), noise(400, 2)
    zeros = along(group, steps, np.zeros(400), False)
    output, _ = group.run_bank(steps, group.initial_state(2).banks)
    np.testing.assert_allclose(complex_phasors(output)[:, :, 0], zeros, rtol=0, atol=1e-12)


# A warm start.


def states_of(group: ToneGroup, banks: np.ndarray) -> list[BankState]:
    return [unpack(bank, len(group.freq_cycles)) for bank in banks]


@pytest.mark.parametrize("backwards", [False, True])
def test_a_warm_start_knows_the_noise_and_no_tone(backwards: bool) -> None:
    group = ToneGroup((FREQ, 0.17), 0.5 * np.exp(0.2j))
    samples = 5 * tones(3000, 4)[1] + lfilter([1.0], [1.0, -0.95], noise(3000, 4))
    _, learned = group.run_bank(samples, group.initial_state(4).banks)
    kept = learned.copy()
    warm = group.warm_banks(learned, backwards=backwards)
    np.testing.assert_array_equal(learned, kept)
    cold = group.initial_state(4, backwards=backwards).banks
    for state, old, new in zip(*(states_of(group, b) for b in (warm, learned, cold)), strict=True):
        np.testing.assert_array_equal(state.ar, old.ar)
        np.testing.assert_array_equal(state.ar_moments, old.ar_moments)
        for i in (NOISE_VAR, DENSITY_RATIO, AR_ORDER):
            assert state.scalars[i] == old.scalars[i] != new.scalars[i]
        # No sample yet, and no tone.
        assert state.scalars[AGE] == 0
        for name in ("x", "freq_offset", "log_weight", "cusum", "filter_age", "likelihood_gain",
                     "silence_gain", "search_blocks", "found", "course", "carrier", "gains",
                     "sample_history", "residual_history", "weight", "coherence"):  # fmt: skip
            np.testing.assert_array_equal(getattr(state, name), getattr(new, name), err_msg=name)
        # The prior is that of the samples: a tone in whitened ones is as large as its response.
        turns = np.exp(-2j * np.pi * np.array(group.freq_cycles)[:, None] * np.arange(17))
        gains = (state.gains @ np.array([1, 1j])) * (turns @ old.ar)
        for k in range(2):
            np.testing.assert_allclose(state.response[k, 0] + 1j * state.response[k, 1], gains[k])
            prior = new.P[2 * k, 2 * k] / abs(gains[k]) ** 2
            np.testing.assert_allclose(state.P[2 * k, 2 * k], prior)
            np.testing.assert_allclose(state.P[2 * k + 1, 2 * k + 1], prior)


def test_a_warm_start_settles_sooner_in_red_noise() -> None:
    phasors, tone = tones(4000)
    samples = tone + lfilter([1.0], [1.0, -0.98], noise(4000))
    group = ToneGroup((FREQ,))
    cold = group.initial_state(24).banks
    output, learned = group.run_bank(samples, cold)
    warm, _ = group.run_bank(samples, group.warm_banks(learned))
    early = slice(5, 60)
    errors = [
        rms(complex_phasors(found)[:, early, 0, INFINITE] - phasors[:, None])
        for found in (output, warm)
    ]
    assert errors[1] < 0.95 * errors[0]


def test_what_has_learned_nothing_starts_cold() -> None:
    group = ToneGroup((FREQ,))
    cold = group.initial_state(2).banks
    for samples in (np.full((2, 50), np.nan), np.zeros((2, 50)), np.ones((2, 5))):
        _, learned = group.run_bank(samples, cold)
        np.testing.assert_array_equal(group.warm_banks(learned), cold)
