"""SIMD vectors and flat buffers against NumPy, and the decimator against a plain convolution."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numba import njit

from tonesieve.extractors.pretrained.front_end import ToneGroup
from tonesieve.kernels.buffer import buffer_size, split_buffer
from tonesieve.kernels.kalman_bank.decimator import MIN_COVERAGE, N_STAGES, cic_response
from tonesieve.kernels.kalman_bank.impulse_rejection import MAX_RUN
from tonesieve.kernels.simd import (
    WIDTH,
    any_above,
    dot,
    horizontal_sum,
    lane_shift,
    load,
    maximum,
    minimum,
    store,
)

vectors = arrays(float, WIDTH, elements=st.floats(-1e100, 1e100) | st.sampled_from([0.0, np.nan]))


@njit(error_model="numpy")
def compute(a: np.ndarray, b: np.ndarray, x: float, out: np.ndarray) -> tuple[float, bool]:
    """All operations, each in a row of its own of a flat array, one number from its start."""
    u, v = load(a, 0), load(b, 0)
    store(out, 1, u + v)
    store(out, 17, u - v)
    store(out, 33, u * v)
    store(out, 49, u / v)
    store(out, 65, x + u)
    store(out, 81, u - x)
    store(out, 97, x * u)
    store(out, 113, x / u)
    store(out, 129, maximum(u, v))
    store(out, 145, minimum(u, v))
    store(out, 161, maximum(u, x))
    store(out, 177, lane_shift(u))
    return horizontal_sum(u), any_above(u, x)


@given(vectors, vectors, st.floats(-1e100, 1e100))
@settings(max_examples=50)
def test_vectors_are_computed_lane_by_lane(a: np.ndarray, b: np.ndarray, x: float) -> None:
    out = np.full(12 * WIDTH + 2, 7.0)
    total, above = compute(a, b, x, out)
    with np.errstate(all="ignore"):
        expected = [
            a + b, a - b, a * b, a / b, x + a, a - x, x * a, x / a,
            np.where(a > b, a, b), np.where(a < b, a, b), np.where(a > x, a, x),
            np.concatenate([a[:1], a[:-1]]),
        ]  # fmt: skip
        halves = a
        while len(halves) > 1:
            halves = halves[: len(halves) // 2] + halves[len(halves) // 2 :]
        np.testing.assert_array_equal(out[1:-1].reshape(-1, WIDTH), expected)
        assert (out[0], out[-1]) == (7.0, 7.0)
        np.testing.assert_array_equal(total, halves[0])
        assert above == (a > x).any()


@njit(error_model="numpy")
def compute_dot(a: np.ndarray, b: np.ndarray) -> float:
    return dot(load(a, 0), load(b, 0))


def test_dot_is_the_sum_of_products() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, WIDTH))
    assert compute_dot(a, b) == pytest.approx(float(a @ b), abs=1e-14)


SHAPES = ((3,), (2, WIDTH), (2, 3, WIDTH), (1, 0), (2,))


@njit(error_model="numpy")
def split(buffer: np.ndarray, shapes: tuple[tuple[int, ...], ...]) -> tuple[np.ndarray, ...]:
    return split_buffer(buffer, shapes)


@njit(error_model="numpy")
def add(table: np.ndarray, cube: np.ndarray) -> None:
    store(cube, (1, 2), load(table, 1) + load(cube, 0))


def test_a_buffer_is_split_in_compiled_code_as_in_python() -> None:
    buffer = np.arange(float(buffer_size(SHAPES)))
    assert buffer.size == 3 + 2 * WIDTH + 6 * WIDTH + 2
    views, compiled = split_buffer(buffer, SHAPES), split(buffer, SHAPES)
    expected = views[1][1] + views[2][0, 0]
    add(compiled[1], compiled[2])
    for view, other, shape in zip(views, compiled, SHAPES, strict=True):
        assert view.shape == other.shape == shape
        np.testing.assert_array_equal(view, other)
        assert not view.size or np.shares_memory(view, buffer)
        assert not view.size or np.shares_memory(other, buffer)
    np.testing.assert_array_equal(views[2][1, 2], expected)


@pytest.mark.parametrize("factor", [1, 2, 7, 50])
def test_the_response_is_four_moving_means_in_a_row(factor: int) -> None:
    mean = np.full(factor, 1 / factor)
    twice = np.convolve(mean, mean)
    expected = np.convolve(twice, twice)
    np.testing.assert_allclose(cic_response(factor), expected, rtol=1e-13)


def test_the_response_for_a_very_slow_tone_takes_no_time() -> None:
    # By a convolution it takes minutes.
    weights = cic_response(10**6 + 1)
    assert weights.sum() == pytest.approx(1, abs=1e-9)
    assert np.argmax(weights) == len(weights) // 2
    np.testing.assert_allclose(weights, weights[::-1])


def decimated(samples: np.ndarray, factor: int, cuts: tuple[int, ...] = ()) -> np.ndarray:
    """The steps of one stream, fed in chunks."""
    group = ToneGroup((1 / (6 * factor + 2),))
    assert group.factor == factor
    state, parts = group.initial_state(1), []
    for start, stop in pairwise([0, *cuts, len(samples)]):
        steps, state = group.decimate(samples[None, start:stop], state)
        parts.append(steps)
    return np.concatenate(parts, axis=1)[0]


def convolved(samples: np.ndarray, factor: int) -> np.ndarray:
    """Weighted means of the observed samples: one for every ``factor``."""
    is_observed = np.isfinite(samples)
    weights, n = cic_response(factor), len(samples) // factor
    steps = np.full(n, np.nan)
    for step in range(N_STAGES - 1, n):
        part = slice((step + 1) * factor - len(weights), (step + 1) * factor)
        coverage = weights @ is_observed[part]
        if coverage >= MIN_COVERAGE:
            steps[step] = weights @ np.nan_to_num(samples[part]) / coverage
    return steps


@pytest.mark.parametrize("factor", [2, 3, 8, 31])
def test_decimation_is_a_convolution(factor: int) -> None:
    samples = 3 + np.random.default_rng(0).normal(size=20 * factor + 1)
    steps, expected = decimated(samples, factor), convolved(samples, factor)
    np.testing.assert_allclose(steps, expected, atol=1e-12)
    assert np.isnan(steps[: N_STAGES - 1]).all()
    assert np.isfinite(steps[N_STAGES - 1 :]).all()


def test_missing_samples_without_correlation_are_left_out() -> None:
    # Signs alternate: the last sample is no estimate of a missing one.
    rng = np.random.default_rng(1)
    samples = rng.random(4000) * (-1.0) ** np.arange(4000)
    samples[0] = 0.0
    samples[rng.random(4000) < 0.1] = np.nan
    samples[2000:2100] = np.nan
    steps = decimated(samples, 10)
    np.testing.assert_allclose(steps, convolved(samples, 10), atol=1e-12)
    # A gap of ten steps: those are missing whose windows lie almost all in it.
    assert 6 <= np.isnan(steps[N_STAGES - 1 :]).sum() <= 10


def test_missing_samples_of_a_smooth_signal_cost_little() -> None:
    rng, t = np.random.default_rng(2), np.arange(20_000)
    signal = 100 + np.sin(2 * np.pi * t / 625)
    gappy = np.where(rng.random(t.size) < 0.3, np.nan, signal)
    true = decimated(signal, 50)[5:]
    error = np.std(decimated(gappy, 50)[5:] - true)
    assert error < 5e-3
    # Left out, they would cost more than twice as much.
    assert np.std(convolved(gappy, 50)[5:] - true) > 2 * error


@given(st.lists(st.integers(0, 500), max_size=6), st.integers(2, 40))
@settings(max_examples=30)
def test_any_chunks_are_decimated_to_the_same_bits(cuts: list[int], factor: int) -> None:
    samples = np.random.default_rng(3).normal(size=500)
    samples[100:130] = np.nan
    steps = decimated(samples, factor, tuple(sorted(cuts)))
    np.testing.assert_array_equal(steps, decimated(samples, factor))


@pytest.mark.parametrize("freq", [0.3, 0.05, 0.03, 0.0011])
def test_a_tone_in_the_steps_has_the_stated_gain(freq: float) -> None:
    gain = 0.25 * np.exp(0.3j)
    group = ToneGroup((freq, freq / 3), gain)
    t = np.arange(40 * group.factor)
    for k in (0, 1):
        samples = (gain * np.exp(2j * np.pi * group.freq_cycles[k] * t)).imag
        steps, _ = group.decimate(samples[None], group.initial_state(1))
        n = np.arange(steps.shape[1])
        expected = (group.gains[k] * np.exp(1j * group.omega[k] * n)).imag
        np.testing.assert_allclose(steps[0, N_STAGES:], expected[N_STAGES:], atol=1e-12)


def test_a_wave_that_was_taken_for_an_impulse_is_restored() -> None:
    # Steps that end after the decision are those of the samples as they are.
    factor, n, rng = 7, 4200, np.random.default_rng(4)
    samples = rng.standard_normal(n)
    wave = samples.copy()
    wave[2100:2130] += 60 * np.hanning(32)[1:-1] + 30
    expected = np.convolve(wave, cic_response(factor))[: n // factor * factor]
    expected = expected[factor - 1 :: factor]
    steps = decimated(wave, factor)
    decided = (2100 + MAX_RUN) // factor
    np.testing.assert_allclose(steps[decided:], expected[decided:], rtol=0, atol=1e-9)
    # A short impulse is not.
    impulse = samples.copy()
    impulse[2100:2102] += 60
    kept = np.convolve(impulse, cic_response(factor))[factor - 1 :: factor][decided]
    assert abs(decimated(impulse, factor)[decided] - kept) > 1
