"""The pretrained extractor: chunks, channels, groups of tones, and both directions."""

from __future__ import annotations

import functools
import tracemalloc
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tonesieve
from tonesieve.errors import UserError
from tonesieve.extraction.pipeline import make_source
from tonesieve.extractors.pretrained import smoother
from tonesieve.extractors.pretrained.carriers import Courses
from tonesieve.extractors.pretrained.extractor import PretrainedExtractor
from tonesieve.extractors.pretrained.front_end import MAX_FREQUENCY_RATIO, group_by_span
from tonesieve.extractors.pretrained.smoother import smooth_blocks
from tonesieve.extractors.protocol import ToneEstimate
from tonesieve.extractors.source import Source
from tonesieve.extractors.streaming import Stream
from tonesieve.kernels.kalman_bank.state import GATING_INTERVAL
from tonesieve.signals.line_course import LineCourse

RATE = 200.0
# Every sample a step; many samples a step; one group; several groups.
CASES = {
    "fast": (31.0,),
    "slow": (1.3,),
    "two": (30.0, 21.0),
    "groups": (0.9, 12.0, 61.0, 13.0),
}


@functools.cache
def built(hz: tuple[float, ...], gain: complex = 1.0) -> PretrainedExtractor:
    return PretrainedExtractor(hz, RATE, gain)


def source(*hz: float, parameters: str = "") -> Source:
    found = make_source(f"pretrained{parameters}", hz)(RATE, "a test")
    assert isinstance(found, Source)
    return found


def with_gaps(n: int, n_channels: int = 2) -> np.ndarray:
    """A tone at every frequency of the cases in noise, with gaps of many lengths."""
    rng, t = np.random.default_rng(4), np.arange(n) / RATE
    samples = rng.standard_normal((n_channels, n))
    for f in {f for hz in CASES.values() for f in hz}:
        samples += np.sin(2 * np.pi * f * t + rng.uniform(0, 6, (n_channels, 1)))
    samples[:, n // 3 : n // 3 + 60] = np.nan
    samples[0, rng.integers(0, n, n // 20)] = np.nan
    samples[-1, :7] = np.nan
    return samples


def same(found: ToneEstimate, expected: ToneEstimate) -> None:
    for name, one, other in zip(ToneEstimate._fields, found, expected, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.mark.parametrize("name", CASES)
@given(cuts=st.lists(st.integers(0, 600), max_size=8))
@settings(max_examples=10)
def test_any_chunks_are_the_same_bits(name: str, cuts: list[int]) -> None:
    samples, one = with_gaps(600), built(CASES[name], 0.25 * np.exp(0.3j))
    whole, _ = one.step_detailed(samples, one.initial_state(2))
    state, parts = one.initial_state(2), []
    for start, stop in pairwise([0, *sorted(cuts), 600]):
        estimate, state = one.step_detailed(samples[:, start:stop], state)
        parts.append(estimate)
    same(
        ToneEstimate(*(np.concatenate(column, axis=1) for column in zip(*parts, strict=True))),
        whole,
    )
    np.testing.assert_array_equal(one.extract(samples), whole.tones)


@pytest.mark.parametrize("name", CASES)
def test_longer_than_one_compiled_call(name: str) -> None:
    samples, one = with_gaps(10_000, 1), built(CASES[name])
    whole, _ = one.step_detailed(samples, one.initial_state(1))
    state, parts = one.initial_state(1), []
    for start, stop in pairwise([0, 1, 4095, 4097, 9000, 10_000]):
        estimate, state = one.step_detailed(samples[:, start:stop], state)
        parts.append(estimate)
    same(
        ToneEstimate(*(np.concatenate(column, axis=1) for column in zip(*parts, strict=True))),
        whole,
    )


@pytest.mark.parametrize("name", CASES)
def test_a_state_may_be_used_more_than_once(name: str) -> None:
    # No step writes into the state that it begins from.
    samples, one = with_gaps(900), built(CASES[name])
    fresh = one.initial_state(2)
    _, middle = one.step_detailed(samples[:, :500], fresh)
    first, _ = one.step_detailed(samples[:, 500:], middle)
    again, _ = one.step_detailed(samples[:, 500:], middle)
    same(again, first)
    anew, _ = one.step_detailed(samples[:, 500:], fresh)
    same(anew, one.step_detailed(samples[:, 500:], one.initial_state(2))[0])


@pytest.mark.parametrize("name", CASES)
def test_every_channel_is_estimated_by_itself(name: str) -> None:
    samples, one = with_gaps(900, 3), built(CASES[name])
    whole, _ = one.step_detailed(samples, one.initial_state(3))
    for c in range(3):
        alone, _ = one.step_detailed(samples[c : c + 1], one.initial_state(1))
        same(alone, ToneEstimate(*(column[c : c + 1] for column in whole)))


def test_no_channel_at_all() -> None:
    one = built(CASES["groups"])
    estimate, _ = one.step_detailed(np.empty((0, 50)), one.initial_state(0))
    assert all(column.shape == (0, 50, 4) for column in estimate)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("n", [1, 7, 8, 401])
def test_a_saved_stream_continues_to_the_bit(name: str, n: int, tmp_path: Path) -> None:
    samples, hz = 3 + with_gaps(800), CASES[name]
    whole, stream = Stream(source(*hz), 2), Stream(source(*hz), 2)
    stream.process_detailed(samples[:, :n])
    stream.save(tmp_path / "state")
    later = Stream(source(*hz), 2)
    later.restore(tmp_path / "state")
    expected = whole.process_detailed(samples)
    same(
        later.process_detailed(samples[:, n:]),
        ToneEstimate(*(column[:, n:] for column in expected)),
    )


def test_the_parts_of_an_estimate_agree() -> None:
    samples, one = with_gaps(3000), built(CASES["groups"], 0.125)
    estimate, _ = one.step_detailed(samples, one.initial_state(2))
    assert all(np.isfinite(column).all() for column in estimate)
    turned = 2 * np.pi * np.arange(3000)[:, None] * np.array(CASES["groups"]) / RATE
    again = estimate.amplitude * np.sin(turned + estimate.phase)
    np.testing.assert_allclose(estimate.tones, again, atol=1e-9)
    # Before the first sample nothing is known.
    assert (estimate.band[:, 7:] > 0).all()
    # At first nothing is known but the largest sample.
    first = np.nan_to_num(np.abs(samples[0, :5]))
    np.testing.assert_allclose(estimate.band[0, :5, 2], np.maximum.accumulate(first) / 0.125)


def test_a_streams_estimate_is_in_its_unit() -> None:
    samples = with_gaps(1500)
    once = Stream(source(7.0, 13.0), 2).process_detailed(samples)
    again = Stream(source(7.0, 13.0), 2).process_detailed(1024 * samples)
    expected = [1024, 1024, 1, 1, 1024]
    for name, one, other, factor in zip(ToneEstimate._fields, once, again, expected, strict=True):
        np.testing.assert_allclose(other, factor * one, 1e-9, 1e-100, err_msg=name)


@given(st.lists(st.floats(1e-4, 0.49), min_size=1, max_size=12))
def test_groups_hold_every_tone_once(freq_cycles: list[float]) -> None:
    groups = group_by_span(freq_cycles)
    assert sorted(k for group in groups for k in group) == list(range(len(freq_cycles)))
    for group in groups:
        own = [freq_cycles[k] for k in group]
        assert max(own) <= MAX_FREQUENCY_RATIO * min(own) * (1 + 1e-12)
    for higher, lower in pairwise(groups):
        assert min(freq_cycles[k] for k in higher) > max(freq_cycles[k] for k in lower)


# Seconds of settling, of a record of 20 s.
SETTLED = 600


def scene(
    hz: tuple[float, ...], sizes: tuple[float, ...], seed: int = 0, n: int = 4000
) -> tuple[np.ndarray, np.ndarray]:
    """Samples (8, T) and tones (8, T, K) of any phase, in white noise."""
    rng, t = np.random.default_rng(seed), np.arange(n)[:, None] / RATE
    phases = rng.uniform(0, 2 * np.pi, (8, 1, len(hz)))
    tones = np.array(sizes) * np.sin(2 * np.pi * np.array(hz) * t + phases)
    return rng.standard_normal((8, n)) + tones.sum(axis=2), tones


def rms(array: np.ndarray) -> float:
    return float(np.sqrt(np.mean(array**2)))


@pytest.mark.parametrize("f", [12.0, 1.2])
def test_a_strong_neighbour_does_not_leak(f: float) -> None:
    hz, n = (f, 1.02 * f), int(48_000 / f)
    samples, tones = scene(hz, (1.0, 100.0), n=n)
    weak, settled = tones[..., 0], n // 2
    joint = built(hz).extract(samples)[..., 0]
    alone = built(hz[:1]).extract(samples - tones[..., 1])[..., 0]
    errors = [rms((found - weak)[:, settled:]) for found in (joint, alone)]
    assert 20 * np.log10(errors[0] / errors[1]) < 4
    # If it is not among the tones, it does.
    assert rms((built(hz[:1]).extract(samples)[..., 0] - weak)[:, settled:]) > 10 * errors[0]


@pytest.mark.parametrize("both", [False, True])
def test_the_order_of_tones_makes_no_difference(both: bool) -> None:
    hz = (13.0, 0.9, 61.0, 12.0)
    samples, _ = scene(hz, (1.0, 2.0, 0.5, 1.0), n=2000)
    order = [2, 0, 3, 1]
    one, other = built(hz), built(tuple(hz[k] for k in order))
    found = (
        [smoothed(e, samples).tones for e in (one, other)]
        if both
        else [e.extract(samples) for e in (one, other)]
    )
    np.testing.assert_allclose(found[1], found[0][..., order], atol=1e-6)


def test_a_tone_asked_for_twice_is_one_tone() -> None:
    assert source(7.0, 13.0, 7.0).frequencies_hz == (7.0, 13.0)
    samples, _ = scene((7.0,), (1.0,), n=1000)
    twice = built((7.0, 7.0)).extract(samples)
    assert np.isfinite(twice).all()
    # Neither can be distinguished from the other.
    np.testing.assert_allclose(twice[..., 1], twice[..., 0], atol=1e-3)


# Past and future.


class Both(tuple):
    """Tones and bands of a record, with the future."""

    tones = property(lambda self: self[0])
    band = property(lambda self: self[1])


def smoothed(
    one: PretrainedExtractor,
    samples: np.ndarray,
    ahead: int | None = None,
    courses: Courses | None = None,
) -> Both:
    """All estimates, one block after the other."""
    done: list[int] = []
    found = list(
        smooth_blocks(
            one,
            lambda start, stop: samples[:, start:stop],
            samples.shape[1],
            len(samples),
            ahead=ahead,
            courses=courses,
            on_samples=done.append,
        )
    )
    assert done == sorted(done)
    assert done[-1] == 2 * samples.shape[1]
    starts = np.cumsum([0] + [estimate.band.shape[1] for _, estimate in found])
    np.testing.assert_array_equal([start for start, _ in found], starts[:-1])
    phasors = np.concatenate([estimate.phasors for _, estimate in found], axis=1)
    band = np.concatenate([estimate.band for _, estimate in found], axis=1)
    assert phasors.shape == band.shape == (*samples.shape, one.n_tones)
    return Both((one.tones(phasors, 0), band))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("n", [1200, 1193])
def test_the_size_of_blocks_changes_nothing(
    name: str, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, one = with_gaps(4 * n if name == "slow" else n), built(CASES[name])
    whole = smoothed(one, samples)
    for block in (GATING_INTERVAL, 5 * GATING_INTERVAL):
        monkeypatch.setattr(smoother, "BLOCK", block)
        monkeypatch.setattr(smoother, "DECIMATED_AT_ONCE", 7 * block)
        again = smoothed(one, samples)
        np.testing.assert_array_equal(again.tones, whole.tones)
        np.testing.assert_array_equal(again.band, whole.band)


def swinging(n: int, hz: float, swing_hz: float) -> LineCourse:
    """The course of a line that swings about its nominal frequency twice in n samples."""
    step_s = 10 / RATE
    steps = np.arange(n // 10 + 2)
    offsets = swing_hz * np.sin(4 * np.pi * steps / len(steps))
    there = np.ones(len(steps), bool)
    return LineCourse(step_s, 2 * swing_hz, offsets, "course", True, 1e-9, there, 0 * offsets)


@pytest.mark.parametrize("hz", [31.0, 1.3])
def test_along_its_course_a_swinging_line_is_as_well_estimated_as_a_steady_one(
    hz: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    n, one = int(72_000 / hz), built((hz,))
    course = swinging(n, hz, 0.03 * hz)
    t = np.arange(n) / RATE
    noise = 0.5 * np.random.default_rng(8).standard_normal(n)
    steady, moving = (
        np.sin(2 * np.pi * (hz * t + part * course.phase_cycles(t)))[None] for part in (0, 1)
    )
    inner = slice(n // 10, -n // 10)
    expected = smoothed(one, steady + noise)
    found = smoothed(one, moving + noise, courses=[[course]])
    error = rms((expected.tones[..., 0] - steady)[:, inner])
    # The noise model is learned before, at the nominal frequency, with some of the line in it.
    assert rms((found.tones[..., 0] - moving)[:, inner]) < 2.2 * error
    lost = smoothed(one, moving + noise)
    assert rms((lost.tones[..., 0] - moving)[:, inner]) > 4 * error
    # Blocks of any length, to the rounding of the phases.
    monkeypatch.setattr(smoother, "BLOCK", 5 * GATING_INTERVAL)
    again = smoothed(one, moving + noise, courses=[[course]])
    np.testing.assert_allclose(again.tones, found.tones, 1e-7, 1e-7)
    np.testing.assert_allclose(again.band, found.band, 1e-7, 1e-7)


def test_courses_of_nominal_lines_are_none() -> None:
    samples, one = with_gaps(900), built(CASES["two"])
    course = replace(swinging(900, 30.0, 0.1), kind="nominal", found=False, steps_hz=np.zeros(92))
    found, expected = smoothed(one, samples, courses=[[course, course]] * 2), smoothed(one, samples)
    np.testing.assert_array_equal(found.tones, expected.tones)


def test_a_look_ahead_does_not_follow_a_course_that_it_cannot_know() -> None:
    samples, one = with_gaps(900), built(CASES["fast"])
    courses = [[swinging(900, 31.0, 0.9)]] * 2
    found, expected = smoothed(one, samples, 40, courses), smoothed(one, samples, 40)
    np.testing.assert_array_equal(found.tones, expected.tones)


@pytest.mark.slow
def test_six_tones_take_little_memory() -> None:
    # Ten minutes at 1 kHz.
    n, hz = 600_000, (50.0, 61.0, 100.0, 150.0, 200.0, 250.0)
    samples = np.random.default_rng(9).standard_normal((1, n))
    one = PretrainedExtractor(hz, 1000.0)
    for _ in smooth_blocks(one, lambda start, stop: samples[:, start:stop], 5000, 1):
        pass  # compiled, and read from disk
    tracemalloc.start()
    try:
        total = 0
        for _, estimate in smooth_blocks(one, lambda start, stop: samples[:, start:stop], n, 1):
            total += estimate.band.shape[1]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == n
    assert peak <= 50e6


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 9, 16, 17, 50])
def test_the_shortest_records_are_estimated_in_both_directions(name: str, n: int) -> None:
    for samples in (np.ones((2, n)), np.full((2, n), np.nan), with_gaps(100)[:, :n]):
        for ahead in (None, 1, 100):
            found = smoothed(built(CASES[name]), samples, ahead)
            assert np.isfinite(found.tones).all()
            assert not np.isnan(found.band).any()


@pytest.mark.parametrize("hz", [12.0, 1.2])
def test_a_record_read_backwards_gives_the_tone_backwards(hz: float) -> None:
    # Not to the last digit: a sample belongs to the past of its own step, steps of several
    # samples begin from one end, and the network has weights for either side.
    samples, tones = scene((hz,), (1.0,), n=int(36_000 / hz / 8) * 8)
    one = built((hz,))
    found = smoothed(one, samples).tones
    back = smoothed(one, np.ascontiguousarray(samples[:, ::-1])).tones[:, ::-1]
    inner = slice(samples.shape[1] // 10, -samples.shape[1] // 10)
    assert rms((back - found)[:, inner]) < 0.5 * rms((found - tones)[:, inner])


@pytest.mark.parametrize("name", CASES)
def test_a_look_ahead_over_all_of_it_is_all_of_it(name: str) -> None:
    samples, one = with_gaps(1500), built(CASES[name])
    whole, ahead = smoothed(one, samples), smoothed(one, samples, 3000)
    np.testing.assert_array_equal(ahead.tones, whole.tones)
    np.testing.assert_array_equal(ahead.band, whole.band)


@pytest.mark.parametrize("name", CASES)
def test_a_look_ahead_looks_no_further(name: str) -> None:
    samples, one, at = with_gaps(3000), built(CASES[name]), 1700
    steps = max(group.factor for _, group in one.groups) * GATING_INTERVAL
    ahead = 2 * steps
    assert 2 * ahead < at
    other = samples.copy()
    other[:, at:] += 50 * np.random.default_rng(1).standard_normal(other[:, at:].shape)
    once, again = (smoothed(one, s, ahead).tones for s in (samples, other))
    np.testing.assert_array_equal(again[:, : at - 2 * ahead], once[:, : at - 2 * ahead])
    # And that far it does.
    assert (again != once)[:, at - ahead : at].any(axis=(0, 1)).all()
    past, same_past = (one.extract(s) for s in (samples, other))
    np.testing.assert_array_equal(same_past[:, :at], past[:, :at])


def test_the_future_helps() -> None:
    samples, tones = scene((12.0,), (0.5,))
    one = built((12.0,))
    causal = rms((one.extract(samples) - tones)[:, SETTLED:-SETTLED])
    assert rms((smoothed(one, samples).tones - tones)[:, SETTLED:-SETTLED]) < causal


# Files.


@pytest.mark.parametrize("how", ["", ":ahead_s=0.5", "causal"])
def test_columns_agree_with_each_other(how: str, tmp_path: Path) -> None:
    samples = 20 + with_gaps(1500, 1)[0]
    lines = [f"{v!r}" if np.isfinite(v) else "" for v in samples.tolist()]
    (tmp_path / "log.csv").write_text("x\n" + "\n".join(lines) + "\n")
    causal = how == "causal"
    tonesieve.extract(
        tmp_path / "log.csv", [12.0, 0.9], with_="pretrained" + how * (not causal),
        causal=causal, full=True, rate_hz=RATE,
    )  # fmt: skip
    table = pd.read_csv(tmp_path / "log.tone.csv")
    assert np.isfinite(table.drop(columns="residual")).all(axis=None)
    for name in ("12Hz", "0.9Hz"):
        tone, amplitude = table[f"tone_{name}"], table[f"amplitude_{name}"]
        half = table[f"tone_high_{name}"] - tone
        assert (half >= 0).all()
        np.testing.assert_allclose(tone - table[f"tone_low_{name}"], half, atol=1e-9)
        np.testing.assert_allclose(table[f"amplitude_high_{name}"] - amplitude, half, atol=1e-9)
        expected = np.maximum(amplitude - half, 0)
        np.testing.assert_allclose(table[f"amplitude_low_{name}"], expected, atol=1e-9)
    rest = samples - table["tone_12Hz"] - table["tone_0.9Hz"]
    np.testing.assert_allclose(table["residual"], rest, atol=1e-9)
    np.testing.assert_array_equal(table["gap"], ~np.isfinite(samples))
    if causal:
        estimate = Stream(source(12.0, 0.9)).process_detailed(samples[None])
        np.testing.assert_array_equal(table["tone_12Hz"], estimate.tones[0, :, 0])
        band = (table["tone_high_12Hz"] - table["tone_low_12Hz"]) / 2
        np.testing.assert_allclose(band, estimate.band[0, :, 0], atol=1e-9)


@pytest.mark.parametrize("f", [0.0, -1.0, 100.0, 250.0, np.nan, np.inf])
def test_a_frequency_out_of_bounds_is_refused(f: float) -> None:
    with pytest.raises(UserError, match="must be above 0 and below 100 Hz"):
        make_source("pretrained", [7.0, f])(RATE, "a test")


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("pretrained:memory=3", "pretrained: no parameter 'memory'; there is weights, ahead_s"),
        ("pretrained:ahead_s=long", "ahead_s=long: not a number"),
        ("pretrained:ahead_s=0", "ahead_s 0.0: must be above 0"),
        ("pretrained:ahead_s=nan", "ahead_s nan: must be above 0"),
        ("pretrained:weights=nowhere", "nowhere: no such file"),
        ("pretrained2", "neither a run directory, nor pretrained, nor a filter"),
    ],
)
def test_wrong_parameters_are_named(name: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        Stream(make_source(name, [7.0])(RATE, "a test"))
