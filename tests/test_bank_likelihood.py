"""Likelihoods of the filters and the line search, against sums written out and least squares."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import firwin

from tonesieve.extractors.pretrained.filter_table import FIXED_MEMORIES, TABLE, TRACKING_MEMORIES
from tonesieve.extractors.pretrained.front_end import ToneGroup
from tonesieve.kernels.kalman_bank import line_search
from tonesieve.kernels.kalman_bank.likelihood import (
    WEIGHT_MEMORY,
    add_to_block,
    begin_block,
    update_likelihoods,
)
from tonesieve.kernels.kalman_bank.state import (
    BLOCK_WEIGHT,
    DENSITY_RATIO,
    GATING_INTERVAL,
    N_SEARCH_BLOCKS,
    NOISE_VAR,
    SEARCH_BLOCK,
    TRACKS_FREQUENCY,
    BankModel,
    BankState,
    unpack,
)
from tonesieve.kernels.simd import WIDTH

FREQ = 0.12
OMEGA = 2 * np.pi * FREQ
GROUP = ToneGroup((FREQ,), 0.5 * np.exp(0.3j))
TRACKING = np.flatnonzero(TABLE[TRACKS_FREQUENCY])
LONG_TRACKING = TRACKING[[TRACKING_MEMORIES.index(m) for m in (220.0, 700.0, 2500.0)]]


def fresh(group: ToneGroup = GROUP) -> tuple[np.ndarray, BankState, BankModel]:
    """A bank before its first sample: the buffer, its views, and the model."""
    banks = group.initial_state(1).banks
    return banks, unpack(banks[0], len(group.freq_cycles)), BankModel(*group.bank_parameters())


# The likelihoods.


@pytest.mark.parametrize("variance", [1.0, 3.0])
def test_a_block_is_predicted_as_its_sum_written_out(variance: float) -> None:
    rng = np.random.default_rng(0)
    _, state, model = fresh()
    state.weight[:] = rng.dirichlet(np.ones(WIDTH))
    noise_var, ratio = 2.0, 0.7
    state.scalars[NOISE_VAR], state.scalars[DENSITY_RATIO] = noise_var, ratio
    phasors = rng.normal(size=WIDTH) + 1j * rng.normal(size=WIDTH)
    offsets = np.where(TABLE[TRACKS_FREQUENCY] == 1, rng.uniform(-0.02, 0.02, WIDTH), 0.0)
    gain = rng.normal(size=WIDTH) + 1j * rng.normal(size=WIDTH)
    state.x[0], state.x[1], state.freq_offset[0] = phasors.real, phasors.imag, offsets
    state.response[0, 0], state.response[0, 1] = gain.real, gain.imag
    state.log_weight[:] = before = rng.normal(size=WIDTH)
    begin_block(state)
    theta = 1.1 + OMEGA * np.arange(GATING_INTERVAL)
    v = rng.normal(size=GATING_INTERVAL)
    for n in range(GATING_INTERVAL):
        state.carrier[0] = np.cos(theta[n]), np.sin(theta[n])
        predicted = rng.normal(size=1)
        add_to_block(state, predicted, v[n] - predicted[0], variance)
    assert state.scalars[BLOCK_WEIGHT] == pytest.approx(GATING_INTERVAL / variance)
    update_likelihoods(state, model)
    # Each filter's tone, sample by sample, from its phasor before the block.
    steps = 1 + np.arange(GATING_INTERVAL)
    turned = gain[:, None] * phasors[:, None] * np.exp(1j * offsets[:, None] * steps)
    error = v - (turned * np.exp(1j * theta)).imag
    e = (error * np.exp(-1j * theta)).sum(axis=1) / variance
    loss = np.abs(e) ** 2 / (GATING_INTERVAL / variance * noise_var * ratio)
    expected = before * (1 - GATING_INTERVAL / WEIGHT_MEMORY) - loss
    fixed = offsets == 0
    np.testing.assert_allclose(state.log_weight[fixed], expected[fixed], rtol=1e-12)
    # To second order in the turn within a block, of 0.16 rad at most.
    np.testing.assert_allclose(state.log_weight, expected, rtol=0.02)
    # And the tone of the mixture against none.
    turned = turned[:, [3]] * np.exp(1j * offsets[:, None] * (0.5 * (GATING_INTERVAL + 1) - 4))
    mean = state.weight @ turned
    w = (v * np.exp(-1j * theta)).sum() / variance
    e = w - ((mean * np.exp(1j * theta)).imag * np.exp(-1j * theta)).sum() / variance
    precision = variance / (GATING_INTERVAL * noise_var * ratio)
    gained = (abs(w) ** 2 - abs(e) ** 2) * precision
    np.testing.assert_allclose(state.silence_gain[0], gained, rtol=1e-9)


def test_low_passed_noise_restarts_no_long_filter() -> None:
    n, n_streams = 6000, 24
    rng = np.random.default_rng(1)
    low_pass = firwin(201, 2 * 1.2 * FREQ)
    noise = np.stack(
        [np.convolve(row, low_pass, "same") for row in rng.normal(size=(n_streams, n))]
    )
    samples = np.sin(OMEGA * np.arange(n)) + noise
    group = ToneGroup((FREQ,))
    _, banks = group.run_bank(samples, group.initial_state(n_streams).banks)
    ages = np.stack([unpack(bank, 1).filter_age for bank in banks])
    for memory in (900.0, 3500.0):
        # None once the noise is known, and few before.
        assert (ages[:, FIXED_MEMORIES.index(memory)] > 0.75 * n).all()
        assert (ages[:, FIXED_MEMORIES.index(memory)] == n).mean() > 0.6


# The line search.


def blocks_of(phasor: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    """Sums (2, C) of v exp(-i theta), the latest block first, of a phasor in white noise."""
    v = (phasor * np.exp(1j * OMEGA * np.arange(phasor.size))).imag
    v += sigma * np.random.default_rng(seed).standard_normal(phasor.size)
    sums = (v * np.exp(-1j * OMEGA * np.arange(phasor.size))).reshape(-1, SEARCH_BLOCK).sum(axis=1)
    return np.stack([sums.real, sums.imag])[:, ::-1]


def test_a_line_is_found_to_its_cramer_rao_bound() -> None:
    # Too weak for a filter that starts at the nominal frequency, and the offset no multiple of the
    # grid's spacing.
    amplitude, n = 0.4, SEARCH_BLOCK * N_SEARCH_BLOCKS
    group = ToneGroup((FREQ,))
    offsets = np.random.default_rng(2).uniform(-0.8, 0.8, 48) * group.max_offset[0, 0]
    angle = (OMEGA + offsets[:, None]) * np.arange(n) + np.arange(48)[:, None]
    samples = amplitude * np.sin(angle) + np.random.default_rng(3).standard_normal((48, n))
    output, banks = group.run_bank(samples, group.initial_state(48).banks)
    states = [unpack(bank, 1) for bank in banks]
    found = np.array([state.found[0] for state in states])
    # Rife and Boorstyn: the bound of a real line's frequency in white noise.
    bound = np.sqrt(24 / (amplitude**2 * n**3))
    assert (found[:, 1] > 0).mean() > 0.9
    error = (found[:, 0] - offsets)[found[:, 1] > 0]
    assert np.sqrt(np.mean(error**2)) < 1.3 * bound
    # Long filters that track the frequency are at it.
    followed = np.stack([state.freq_offset[0, LONG_TRACKING] for state in states])
    near = np.abs(followed - offsets[:, None]) < np.pi / n
    assert near[found[:, 1] > 0].mean() > 0.9
    assert output.features[:, -1, 0, 4 * WIDTH + 12].min() >= 0


def test_white_noise_has_no_line_at_the_stated_rate() -> None:
    _, state, model = fresh(ToneGroup((FREQ,)))
    rng, n_trials, n_found = np.random.default_rng(4), 20_000, 0
    for sums in rng.standard_normal((n_trials, 2, N_SEARCH_BLOCKS)):
        state.search_blocks[0] = sums
        line_search._search(state, model, 0, N_SEARCH_BLOCKS)
        n_found += state.found[0, 1] > 0
    # Two lengths; a Poisson number of this mean exceeds three times it in one case of a thousand.
    assert n_found <= 3 * len(line_search.LENGTHS) * 1e-4 * n_trials


@pytest.mark.parametrize("part", [-1.4, -1.02, 1.02, 1.4])
def test_a_line_at_the_edge_of_the_range_is_not_taken(part: float) -> None:
    _, state, model = fresh(ToneGroup((FREQ,)))
    n = SEARCH_BLOCK * N_SEARCH_BLOCKS
    offset = part * model.max_offset[0, 0]
    state.search_blocks[0] = blocks_of(np.exp(1j * offset * np.arange(n)), 0.1)
    line_search._search(state, model, 0, N_SEARCH_BLOCKS)
    np.testing.assert_array_equal(state.found[0], 0.0)
    assert not state.freq_offset.any()
    # Inside, it is.
    offset = np.sign(part) * 0.8 * model.max_offset[0, 0]
    state.search_blocks[0] = blocks_of(np.exp(1j * offset * np.arange(n)), 0.1)
    line_search._search(state, model, 0, N_SEARCH_BLOCKS)
    # To what a parabola through three places differs by from the main lobe.
    assert state.found[0, 0] == pytest.approx(offset, abs=0.05 * np.pi / n)


@pytest.mark.parametrize("offset", [-0.017, 0.021])
def test_a_filter_restarts_at_the_least_squares_phasor(offset: float) -> None:
    _, state, model = fresh()
    n = SEARCH_BLOCK * N_SEARCH_BLOCKS
    rng = np.random.default_rng(5)
    gain = complex(*state.response[0, :, 0])
    phasor = 0.8 * np.exp(2j) * np.exp(1j * offset * np.arange(n))
    state.search_blocks[0] = blocks_of(gain * phasor, 0.3)
    state.x[:], state.P[:] = rng.normal(size=state.x.shape), rng.normal(size=state.P.shape)
    old = state.x.copy()
    line_search._search(state, model, 0, N_SEARCH_BLOCKS)
    found = state.found[0, 0]
    # The same samples, fitted by a sine and a cosine at the frequency that was found.
    v = (gain * phasor * np.exp(1j * OMEGA * np.arange(n))).imag
    v += 0.3 * np.random.default_rng(0).standard_normal(n)
    angle = (OMEGA + found) * np.arange(n)
    fit = np.linalg.lstsq(np.stack([np.sin(angle), np.cos(angle)], axis=1), v, rcond=None)[0]
    expected = (fit[0] + 1j * fit[1]) / gain * np.exp(1j * found * (n - 1))
    restarted = [j for j in TRACKING if TABLE[5, j] >= line_search.MIN_MEMORY]
    assert len(restarted) == 5
    for j in range(WIDTH):
        if j not in restarted:
            np.testing.assert_array_equal(state.x[:, j], old[:, j])
            assert state.freq_offset[0, j] == 0
            continue
        # Between the middle of a step and its end lies half a step.
        assert abs(complex(*state.x[:2, j]) - expected) < 0.02 * abs(expected)
        assert state.freq_offset[0, j] == found
        assert state.filter_age[j] == n
        # Twice the fit's, since the frequency is estimated too; nothing else is known with it.
        variance = 2 * 2 / (n * abs(gain) ** 2)
        np.testing.assert_allclose(state.P[:2, :2, j], variance * np.eye(2), rtol=1e-12)
        assert not state.P[:2, 2:, j].any()
        assert not state.P[2:, :2, j].any()
    np.testing.assert_array_equal(state.x[2:], old[2:])


def test_a_filter_at_the_line_does_not_restart() -> None:
    _, state, model = fresh()
    n = SEARCH_BLOCK * N_SEARCH_BLOCKS
    state.search_blocks[0] = blocks_of(np.exp(0.02j * np.arange(n)), 0.1)
    state.freq_offset[0] = 0.02 + 0.5 * np.pi / n
    line_search._search(state, model, 0, N_SEARCH_BLOCKS)
    assert state.found[0, 1] > 0
    assert not state.filter_age.any()
