"""Sixteen numbers at once against NumPy, and slow tones thinned against a plain convolution."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numba import njit

from tonesieve.extractors.pretrained.front_end import ToneGroup
from tonesieve.kernels.kalman_bank.decimator import MIN_COVERAGE, N_STAGES, cic_response
from tonesieve.kernels.simd import (
    WIDTH,
    any_above,
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
    """All there is, each in a row of its own of a flat array, one number from its start."""
    one, two = load(a, 0), load(b, 0)
    store(out, 1, one + two)
    store(out, 17, one - two)
    store(out, 33, one * two)
    store(out, 49, one / two)
    store(out, 65, x + one)
    store(out, 81, one - x)
    store(out, 97, x * one)
    store(out, 113, x / one)
    store(out, 129, maximum(one, two))
    store(out, 145, minimum(one, two))
    store(out, 161, maximum(one, x))
    store(out, 177, lane_shift(one))
    return horizontal_sum(one), any_above(one, x)


@given(vectors, vectors, st.floats(-1e100, 1e100))
@settings(max_examples=50)
def test_lanes_are_so_many_numbers(a: np.ndarray, b: np.ndarray, x: float) -> None:
    out = np.full(12 * WIDTH + 2, 7.0)
    whole, above = compute(a, b, x, out)
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
        np.testing.assert_array_equal(whole, halves[0])
        assert above == (a > x).any()


@pytest.mark.parametrize("factor", [1, 2, 7, 50])
def test_the_window_is_three_means_in_a_row(factor: int) -> None:
    mean = np.full(factor, 1 / factor)
    expected = np.convolve(np.convolve(mean, mean), mean)
    np.testing.assert_allclose(cic_response(factor), expected, rtol=1e-13)


def test_the_window_of_a_very_slow_tone_is_there_at_once() -> None:
    # By a convolution it takes minutes.
    weights = cic_response(10**6 + 1)
    assert weights.sum() == pytest.approx(1, abs=1e-9)
    assert np.argmax(weights) == len(weights) // 2
    np.testing.assert_allclose(weights, weights[::-1])


def thinned(samples: np.ndarray, factor: int, cuts: tuple[int, ...] = ()) -> np.ndarray:
    """The steps of one stream, fed in chunks."""
    one = ToneGroup((1 / (12 * factor + 4),))
    assert one.factor == factor
    state, parts = one.initial_state(1), []
    for start, stop in pairwise([0, *cuts, len(samples)]):
        steps, state = one.decimate(samples[None, start:stop], state)
        parts.append(steps)
    return np.concatenate(parts, axis=1)[0]


def weighed(samples: np.ndarray, factor: int) -> np.ndarray:
    """What of the samples was heard, weighed by the window: one for every ``factor``."""
    heard = np.isfinite(samples)
    weights, n = cic_response(factor), len(samples) // factor
    found = np.full(n, np.nan)
    for step in range(N_STAGES - 1, n):
        part = slice((step + 1) * factor - len(weights), (step + 1) * factor)
        share = weights @ heard[part]
        if share >= MIN_COVERAGE:
            found[step] = weights @ np.nan_to_num(samples[part]) / share
    return found


@pytest.mark.parametrize("factor", [2, 3, 8, 31])
def test_thinning_is_a_convolution(factor: int) -> None:
    samples = 3 + np.random.default_rng(0).normal(size=20 * factor + 1)
    found, expected = thinned(samples, factor), weighed(samples, factor)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert np.isnan(found[: N_STAGES - 1]).all()
    assert np.isfinite(found[N_STAGES - 1 :]).all()


def test_what_is_lost_of_unlike_neighbours_is_left_out() -> None:
    # Signs that alternate: the last sample tells nothing of a lost one.
    rng = np.random.default_rng(1)
    samples = rng.random(4000) * (-1.0) ** np.arange(4000)
    samples[0] = 0.0
    samples[rng.random(4000) < 0.1] = np.nan
    samples[2000:2100] = np.nan
    found = thinned(samples, 10)
    np.testing.assert_allclose(found, weighed(samples, 10), atol=1e-12)
    # A gap of ten steps: of those whose window lies in it but for little.
    assert 6 <= np.isnan(found[N_STAGES - 1 :]).sum() <= 10


def test_what_is_lost_of_a_smooth_signal_costs_little() -> None:
    rng, t = np.random.default_rng(2), np.arange(20_000)
    whole = 100 + np.sin(2 * np.pi * t / 625)
    holed = np.where(rng.random(t.size) < 0.3, np.nan, whole)
    true = thinned(whole, 50)[5:]
    error = np.std(thinned(holed, 50)[5:] - true)
    assert error < 5e-3
    # Left out, they would cost more than twice as much.
    assert np.std(weighed(holed, 50)[5:] - true) > 2 * error


@given(st.lists(st.integers(0, 500), max_size=6), st.integers(2, 40))
@settings(max_examples=30)
def test_any_chunks_are_thinned_to_the_same_bits(cuts: list[int], factor: int) -> None:
    samples = np.random.default_rng(3).normal(size=500)
    samples[100:130] = np.nan
    found = thinned(samples, factor, tuple(sorted(cuts)))
    np.testing.assert_array_equal(found, thinned(samples, factor))


@pytest.mark.parametrize("turn", [0.3, 0.05, 0.03, 0.0011])
def test_a_tone_stands_in_the_steps_as_stated(turn: float) -> None:
    gain = 0.25 * np.exp(0.3j)
    one = ToneGroup((turn, turn / 3), gain)
    n = np.arange(40 * one.factor)
    for k in (0, 1):
        heard = (gain * np.exp(2j * np.pi * one.freq_cycles[k] * n)).imag
        steps, _ = one.decimate(heard[None], one.initial_state(1))
        at = np.arange(steps.shape[1])
        expected = (one.gains[k] * np.exp(1j * one.turn[k] * at)).imag
        np.testing.assert_allclose(steps[0, N_STAGES:], expected[N_STAGES:], atol=1e-12)
