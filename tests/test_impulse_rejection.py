"""Rejection of impulses before decimation, against the exact predictor of autoregressive noise."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.signal import lfilter

from tonesieve.extractors.pretrained.front_end import ToneGroup
from tonesieve.kernels.kalman_bank.decimator import N_STAGES, cic_response
from tonesieve.kernels.kalman_bank.impulse_rejection import (
    LATTICE_MEMORY,
    MAX_RUN,
    ORDER,
    REFLECTION,
    reject_impulse,
    rejection_size,
)

AR_1, AR_2 = 1.2, -0.6


def cleaned(samples: np.ndarray, *freq_cycles: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cleaned samples, their certainties, and the state after them."""
    state, freqs = np.zeros(rejection_size(len(freq_cycles))), np.array(freq_cycles)
    pairs = [reject_impulse(z, n, state, freqs) for n, z in enumerate(samples.tolist())]
    return *np.array(pairs).T, state


def noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(n)


def autoregression(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """AR(2) noise and its innovations, of variance 1."""
    innovations = noise(n, seed)
    return lfilter([1.0], [1.0, -AR_1, -AR_2], innovations), innovations


def test_the_lattice_finds_the_reflection_coefficients() -> None:
    samples, _ = autoregression(8000)
    _, _, state = cleaned(samples)
    found = state[REFLECTION + 1 : REFLECTION + ORDER + 1]
    # By the Levinson recursion: k_1 = -r_1 / r_0, k_2 = -a_2, and no more.
    expected = np.zeros(ORDER)
    expected[:2] = -AR_1 / (1 - AR_2), -AR_2
    np.testing.assert_allclose(found, expected, atol=4 / np.sqrt(LATTICE_MEMORY))


def test_a_rejected_sample_is_the_exact_predictors() -> None:
    samples, innovations = autoregression(8000)
    at = np.arange(3000, 8000, 50)
    # The exact prediction of a sample from those before it, which are clean.
    predicted = (samples - innovations)[at]
    disturbed = samples.copy()
    disturbed[at] += 40 * np.random.default_rng(1).choice([-1, 1], at.size)
    found, certainty, _ = cleaned(disturbed)
    error = found[at] - predicted
    # Of ORDER coefficients from so many samples.
    assert np.mean(error**2) < 4 * ORDER / LATTICE_MEMORY
    # What is known of it is what the past explains of its variance.
    explained = 1 - 1 / np.var(samples)
    np.testing.assert_allclose(certainty[at], explained, atol=0.1)
    rest = np.setdiff1d(np.arange(8000), at)
    changed = found[rest] != disturbed[rest]
    assert changed.mean() < 1e-3
    np.testing.assert_array_equal(certainty[rest] != 1, changed)


def test_gaussian_samples_are_kept() -> None:
    samples = noise(50_000)
    found, certainty, _ = cleaned(samples)
    # Beyond 4.5 deviations lie 7 in a million; the deviation is estimated.
    assert (certainty < 1).sum() <= 5
    np.testing.assert_array_equal(found[certainty == 1], samples[certainty == 1])


PERIOD = 50


def pulse_train() -> np.ndarray:
    return noise(6000) + 30.0 * (np.arange(6000) % PERIOD == 20)


def square_wave() -> np.ndarray:
    return 0.1 * noise(6000) + np.sign(np.sin(2 * np.pi * (np.arange(6000) + 0.5) / PERIOD))


@pytest.mark.parametrize("make", [pulse_train, square_wave])
def test_what_recurs_at_one_phase_of_the_tone_is_kept(make) -> None:  # type: ignore[no-untyped-def]
    samples, late = make(), slice(20 * PERIOD, None)
    found, certainty, _ = cleaned(samples, 1 / PERIOD)
    np.testing.assert_array_equal(found[late], samples[late])
    np.testing.assert_array_equal(certainty[late], 1.0)


def test_what_recurs_at_no_phase_of_the_tone_is_removed() -> None:
    samples = pulse_train()
    is_pulse = np.arange(6000) % PERIOD == 20
    for freqs in ((), (0.0137,), (0.0137, 0.031)):
        found, certainty, _ = cleaned(samples, *freqs)
        late = is_pulse & (np.arange(6000) > 500)
        assert (certainty[late] < 1).mean() > 0.95
        assert np.abs(found[late]).max() < 5


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_step_is_accepted_after_the_longest_run(sign: int) -> None:
    samples = noise(4000)
    samples[2000:] += 40 * sign
    for freqs in ((), (0.23,)):
        found, certainty, _ = cleaned(samples, *freqs)
        after = certainty[2000:] < 1
        assert after.sum() == MAX_RUN
        assert after[: int(MAX_RUN)].all()
        np.testing.assert_array_equal(found[2000 + int(MAX_RUN) :], samples[2000 + int(MAX_RUN) :])


def test_what_is_frequent_is_accepted() -> None:
    samples, rng = noise(6000), np.random.default_rng(2)
    is_large = rng.random(6000) < 0.5
    is_large[:1000] = False
    samples[is_large] *= 50
    _, certainty, _ = cleaned(samples)
    assert (certainty[1500:] < 1).mean() < 0.05


@pytest.mark.parametrize("factor", [2, 7])
def test_any_chunks_reject_the_same(factor: int) -> None:
    group = ToneGroup((1 / (6 * factor + 2),))
    assert group.factor == factor
    samples = pulse_train()[:1000]
    samples[500] = 1e3
    whole, state = group.decimate(samples[None], group.initial_state(1))
    # The impulse is gone: aside from the pulses, its size is in no step.
    assert np.nanmax(np.abs(whole)) < 100
    for cuts in ([499, 500, 501], [1, 2, 3, 700], list(range(0, 1000, 13))):
        after, parts = group.initial_state(1), []
        for start, stop in pairwise([0, *cuts, 1000]):
            steps, after = group.decimate(samples[None, start:stop], after)
            parts.append(steps)
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
        for one, other in zip(after, state, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("factor", [2, 3, 7])
def test_a_wave_that_was_taken_for_an_impulse_is_restored(factor: int) -> None:
    samples, at = noise(2000), 1000 + factor // 2
    samples[at:] += 40.0
    # Every step is then the weighted mean of the samples as they are, but for those that ended
    # before it was known.
    group = ToneGroup((1 / (6 * factor + 2),))
    steps, _ = group.decimate(samples[None], group.initial_state(1))
    weights = cic_response(factor)
    ends = factor * (1 + np.arange(steps.shape[1]))
    whole = ends >= N_STAGES * factor
    expected = [weights @ samples[end - len(weights) : end] for end in ends[whole]]
    known = (ends[whole] <= at) | (ends[whole] > at + MAX_RUN)
    assert (~known).sum() >= 4 // factor
    np.testing.assert_allclose(steps[0, whole][known], np.array(expected)[known], atol=1e-9)
