"""Combs: tones at multiples of one frequency, over recordings and in streams."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tonesieve
from tonesieve.cli import app
from tonesieve.errors import UserError
from tonesieve.extraction.comb_lines import comb_lines
from tonesieve.extractors.pretrained.down_converter import DownConverter, real_stream
from tonesieve.extractors.source import make_source
from tonesieve.extractors.streaming import Stream
from tonesieve.recordings.recording import read_recording
from tonesieve.signals.baseband import Baseband
from tonesieve.signals.comb import (
    Comb,
    comb_tones,
    implied_combs,
    parse_harmonics,
    parse_orders,
)
from tonesieve.signals.comb_course import HarmonicBaseband, find_comb_course
from tonesieve.signals.phase_smoother import smooth_common_phase, smooth_phase

Command = Callable[..., tuple[int, str, str]]

RATE, N = 1000.0, 20_000
T = np.arange(N) / RATE


def wander(rng: np.random.Generator, hz: float, std_hz: float, n: int = N) -> np.ndarray:
    """Phase (T,) in cycles of a frequency that wanders within seconds."""
    steps = np.convolve(rng.standard_normal(n + 4000), np.hanning(4000), "valid")[:n]
    return np.cumsum(hz + std_hz * steps / steps.std()) / RATE


def comb(cycles: np.ndarray, amplitudes: dict[float, float]) -> np.ndarray:
    """Tones (T, K) at multiples of a phase."""
    return np.stack(
        [a * np.sin(2 * np.pi * (k * cycles + 0.13 * k)) for k, a in amplitudes.items()], axis=1
    )


def nmse_db(estimate: np.ndarray, tone: np.ndarray) -> np.ndarray:
    return 10 * np.log10(np.mean((estimate - tone) ** 2, axis=0) / np.mean(tone**2, axis=0))


def with_true_course(x: np.ndarray, cycles: np.ndarray, order: float) -> np.ndarray:
    """Lock-in at the true phase over Hann windows of 2 s: a tracker that knows the course."""
    window = np.hanning(2001)
    mixed = np.convolve(x * np.exp(-2j * np.pi * order * cycles), window, "same")
    weight = np.convolve(np.ones(len(x)), window, "same")
    return 2 * (mixed / weight * np.exp(2j * np.pi * order * cycles)).real


# Names


@pytest.mark.parametrize(
    ("given_", "number"), [(None, None), ("all", 0), (" ALL ", 0), ("3", 3), (7, 7), (1, 1)]
)
def test_harmonics_are_read(given_: int | str | None, number: int | None) -> None:
    assert parse_harmonics(given_) == number


@pytest.mark.parametrize("wrong", ["x", "0", -1, "2.5", 2.5, "1001", "", True, "nan", "inf"])
def test_harmonics_that_are_none_are_refused(wrong: int | str) -> None:
    with pytest.raises(UserError, match=r"--harmonics .*whole number from 1 to 1000.*all"):
        parse_harmonics(wrong)


def test_orders_are_read_sorted_and_once() -> None:
    assert parse_orders("2.5, 0.5,1,1") == (0.5, 1.0, 2.5)
    assert parse_orders([3, 1]) == (1.0, 3.0)
    assert parse_orders(None) == ()


@pytest.mark.parametrize("wrong", ["1,,2", "0", "-1", "a", "inf", "nan", "", []])
def test_orders_that_are_none_are_refused(wrong: str) -> None:
    with pytest.raises(UserError, match="--orders"):
        parse_orders(wrong)


def test_all_harmonics_end_below_half_the_rate() -> None:
    tones, (one,) = comb_tones([50.0], 1000.0, 0)
    assert tones == tuple(50.0 * k for k in range(1, 10))
    assert one == Comb(50.0, tuple(map(float, range(1, 10))), tuple(range(9)))


def test_a_harmonic_above_half_the_rate_is_refused() -> None:
    with pytest.raises(UserError, match=r"10 times 50 Hz.*500 Hz.*the highest is 9"):
        comb_tones([50.0], 1000.0, 12)
    with pytest.raises(UserError, match=r"--orders: 10.5 times 50 Hz"):
        comb_tones([50.0], 1000.0, None, (1.0, 10.5))


def test_both_options_are_refused() -> None:
    with pytest.raises(UserError, match="leave --harmonics away"):
        comb_tones([50.0], 1000.0, 3, (1.0, 2.0))


def test_a_tone_of_two_combs_is_in_the_first() -> None:
    tones, combs = comb_tones([50.0, 100.0], 1000.0, 2)
    assert tones == (50.0, 100.0, 200.0)
    assert [(one.hz, one.orders, one.tones) for one in combs] == [(50.0, (1.0, 2.0), (0, 1))]


@pytest.mark.parametrize(
    ("hz", "base"),
    [((50, 100, 150), 50), ((150, 50, 100), 50), ((100, 150, 200), 50), ((300, 500, 700), 100)],
)
def test_names_imply_a_comb(hz: tuple[int, ...], base: int) -> None:
    (one,) = implied_combs(hz)
    assert one.hz == base
    assert not one.is_stated
    np.testing.assert_allclose(np.array(one.orders) * base, hz)


@pytest.mark.parametrize("hz", [(50, 100), (50, 101, 150), (7.0, 11.3, 17.9)])
def test_other_names_imply_none(hz: tuple[float, ...]) -> None:
    assert implied_combs(hz) == []


# The common course


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=4, deadline=None)
def test_the_common_phase_of_one_line_is_that_of_the_line(seed: int) -> None:
    rng = np.random.default_rng(seed)
    phase = 0.02 * np.cumsum(rng.standard_normal(200))
    phasors = np.exp(1j * phase) + 0.1 * (rng.standard_normal(200) + 1j * rng.standard_normal(200))
    precision, reference = np.full(200, 50.0), np.zeros(200)
    one = smooth_phase(phasors, precision, reference, 5.0)
    common = smooth_common_phase(phasors[None], precision[None], np.ones(1), reference, 5.0)
    blocks = np.arange(200.0)
    # They start from different phases, and end at the same.
    np.testing.assert_allclose(common.slope(blocks), one.slope(blocks), atol=5e-3)


def test_lines_know_the_phase_by_the_square_of_their_order() -> None:
    """Fisher information of theta: the sum of 2 k^2 A^2 c over lines; the error follows it."""
    rng, errors, n = np.random.default_rng(3), [], 400
    phase = 1e-4 * np.arange(n) ** 1.5
    orders = np.array([1.0, 5.0])
    for _ in range(8):
        noise = rng.standard_normal((2, n)) + 1j * rng.standard_normal((2, n))
        phasors = np.exp(1j * orders[:, None] * phase) + noise / np.sqrt(2)
        reference = phase + 0.02 * np.sin(np.arange(n) / 60)
        turned = phasors * np.exp(-1j * orders[:, None] * reference)
        slopes = [
            smooth_common_phase(turned[k], np.ones((len(k), n)), orders[k], reference, 6.0)
            .slope(np.arange(50.0, 350.0))
            for k in ([0], [0, 1])
        ]  # fmt: skip
        true = np.gradient(phase)[50:350]
        errors.append([np.sqrt(np.mean((slope - true) ** 2)) for slope in slopes])
    alone, together = np.median(errors, axis=0)
    # Of steady lines the ratio of errors would be sqrt(1 + 25) = 5.1.
    assert 2.5 < alone / together < 9


def basebands(x: np.ndarray, orders: list[float], hz: float = 50.0) -> list[HarmonicBaseband]:
    lines = []
    for k in orders:
        within = min(1.75 * k, 10.0)
        one = Baseband(k * hz, RATE, within)
        one.update(x[None])
        phasors, weights = one.finish()
        lines.append(
            HarmonicBaseband(k, phasors[0], weights[0], one.step_s, within, one.shifts_s[0])
        )
    return lines


def test_a_comb_is_found_that_no_line_shows() -> None:
    """Ten lines, each 14 dB below what is found alone, at constant frequency."""
    found, alone = 0, 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        # Of a steady sine in white noise the power over a bin's noise is A^2 T / (4 S) = 8.
        amplitude = np.sqrt(8 * 4 * (1 / RATE) / (N / RATE))
        x = rng.standard_normal(N)
        x += comb(50.31 * T, dict.fromkeys(range(1, 10), amplitude)).sum(axis=1)
        course, _ = find_comb_course(basebands(x, list(map(float, range(1, 10)))))
        found += course.found and abs(float(course.steps_hz.mean()) - 0.31) < 0.02
        alone += sum(find_comb_course([line])[0].found for line in basebands(x, [1.0, 2.0, 3.0]))
    assert found >= 3
    assert alone <= 3


def test_noise_has_no_comb() -> None:
    """The stated bound: 1% of recordings."""
    lines = [
        basebands(np.random.default_rng(seed).standard_normal(N // 2), [1.0, 2.0])
        for seed in range(20)
    ]
    # Binomial: more than 2 of 20 have a probability of 1e-3.
    assert sum(find_comb_course(line)[0].found for line in lines) <= 2


def test_a_missing_fundamental_costs_nothing() -> None:
    rng = np.random.default_rng(5)
    cycles = wander(rng, 50.2, 0.02)
    x = comb(cycles, {3: 1.0, 5: 0.5}).sum(axis=1) + rng.standard_normal(N)
    course, of_lines = find_comb_course(basebands(x, [1.0, 2.0, 3.0, 5.0]))
    error = course.phase_cycles(T) + 50 * T - cycles
    assert course.found
    assert 2 * np.pi * np.std(error) < 0.02
    np.testing.assert_allclose(of_lines[2].offset_hz(T), 3 * course.offset_hz(T), atol=0.02)


def test_a_line_of_its_own_departs_where_nothing_is_stated() -> None:
    rng = np.random.default_rng(6)
    x = comb(50.2 * T, {1: 1.0, 2: 0.7}).sum(axis=1) + np.sin(2 * np.pi * 149.1 * T)
    x += 0.5 * rng.standard_normal(N)
    lines = basebands(x, [1.0, 2.0, 3.0])
    own = find_comb_course(lines, is_stated=False)[1]
    assert np.mean(own[2].steps_hz) == pytest.approx(-0.9, abs=0.01)
    stated = find_comb_course(lines)[1]
    assert np.mean(stated[2].steps_hz) == pytest.approx(0.6, abs=0.02)
    assert np.mean(own[0].steps_hz) == pytest.approx(0.2, abs=0.01)


# Down-conversion


@given(st.floats(6.1, 60.0), st.integers(1, 12), st.floats(0.1, 3.0), st.floats(-3.1, 3.1))
@settings(max_examples=15, deadline=None)
def test_a_tone_stands_still_in_its_stream(
    period: float, order: int, amplitude: float, phase: float
) -> None:
    """In closed form: A cos(pi m / 2 + phase), whatever the other tones and the level."""
    n = 4000
    if order >= period / 2 - 2:  # the image of negative frequency is near
        order = 1
    at = np.arange(n)

    def tone(k: int) -> np.ndarray:
        return np.cos(2 * np.pi * k * at / period + phase)

    others = [k for k in range(1, int(period / 2 - 0.5) + 1) if k != order]
    x = amplitude * tone(order) + sum((tone(k) for k in others), start=5 + 0.01 * at)
    converter = DownConverter(1 / period, n)

    def read(start: int, stop: int) -> np.ndarray:
        return x[None, start:stop]

    blocks = converter.basebands(
        read,
        lambda samples: 2 * np.pi * order * samples[None] / period,
        converter.running_mean(read, 1),
        has_gaps=False,
    )
    stream = real_stream(np.concatenate(list(blocks), axis=1), 0)[0]
    assert len(stream) == converter.n_steps
    expected = amplitude * np.cos(np.pi * np.arange(len(stream)) / 2 + phase)
    inside = np.isfinite(stream)
    assert inside.mean() > 0.8
    # Boxcars of a fractional number of samples are zero at the multiples up to 2%.
    np.testing.assert_allclose(stream[inside], expected[inside], atol=0.05 * (amplitude + 1))


def test_blocks_of_a_stream_are_those_of_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3000)) + 100
    x[1, 700:800] = np.nan
    converter = DownConverter(0.0421, 3000)

    def read(start: int, stop: int) -> np.ndarray:
        return x[:, start:stop]

    def stream() -> np.ndarray:
        blocks = converter.basebands(
            read, lambda at: 0.3 * np.stack([at, at]), converter.running_mean(read, 2),
            has_gaps=True,
        )  # fmt: skip
        return np.concatenate(list(blocks), axis=1)

    whole = stream()
    monkeypatch.setattr("tonesieve.extractors.pretrained.down_converter.SAMPLES_AT_ONCE", 400)
    np.testing.assert_allclose(stream(), whole, atol=1e-9)


# Over recordings


def test_twenty_tones_come_near_a_tracker_with_true_course() -> None:
    rng = np.random.default_rng(1)
    cycles = wander(rng, 23.1, 0.02)
    truth = comb(cycles, {k: 1 / np.sqrt(k) for k in range(1, 21)})
    x = truth.sum(axis=1) + rng.standard_normal(N)
    result = tonesieve.pull(x, RATE, 23.0, harmonics=20)
    known = np.stack([with_true_course(x, cycles, k) for k in range(1, 21)], axis=1)
    ours, theirs = nmse_db(result.tones, truth), nmse_db(known, truth)
    assert np.median(ours - theirs) < 1
    assert np.max(ours - theirs) < 3
    assert result.bands is not None
    inside = np.mean(np.abs(result.tones - truth) <= result.bands, axis=0)
    assert np.mean(inside) > 0.75


def test_named_together_is_not_worse_than_alone() -> None:
    rng = np.random.default_rng(2)
    truth = comb(wander(rng, 49.9, 0.02), {1: 1.0, 2: 0.5, 3: 0.8, 4: 0.3})
    x = truth.sum(axis=1) + rng.standard_normal(N)
    together = nmse_db(tonesieve.pull(x, RATE, 50.0, harmonics=4).tones, truth)
    named = nmse_db(tonesieve.pull(x, RATE, [50.0, 100.0, 150.0, 200.0]).tones, truth)
    alone = [
        nmse_db(tonesieve.pull(x, RATE, 50.0 * k).tones, truth[:, [k - 1]])[0] for k in range(1, 5)
    ]
    assert np.all(together < np.array(alone) + 0.5)
    assert np.all(named < np.array(alone) + 0.5)


def test_a_buzz_of_nine_comes_out() -> None:
    """SpikeInterface #3521: steady, nine equal tones; a least-squares sine reaches -49 dB."""
    n = 30_000
    t = np.arange(n) / RATE
    truth = np.stack([5 * np.sin(2 * np.pi * 50 * k * t + 0.7 * k) for k in range(1, 10)], axis=1)
    x = np.random.default_rng(1).standard_normal(n) + truth.sum(axis=1)
    for given_ in ({"harmonics": 9}, {"harmonics": "all"}):
        assert nmse_db(tonesieve.pull(x, RATE, 50.0, **given_).tones, truth).max() < -40
    named = tonesieve.pull(x, RATE, [50.0 * k for k in range(1, 10)])
    assert nmse_db(named.tones, truth).max() < -40


def test_orders_need_not_be_whole() -> None:
    rng = np.random.default_rng(4)
    truth = comb(wander(rng, 40.1, 0.02), {0.5: 1.0, 1: 0.5, 2.5: 0.8, 3.1: 0.7})
    x = truth.sum(axis=1) + rng.standard_normal(N)
    result = tonesieve.pull(x, RATE, 40.0, orders="0.5,1,2.5,3.1")
    assert nmse_db(result.tones, truth).max() < -17


def test_two_combs_at_once() -> None:
    rng = np.random.default_rng(8)
    one = comb(wander(rng, 50.0, 0.02), {1: 1.0, 2: 0.5, 3: 0.5})
    other = comb(wander(rng, 60.0, 0.02), {1: 1.0, 2: 0.5, 3: 0.5})
    x = one.sum(axis=1) + other.sum(axis=1) + 0.5 * rng.standard_normal(N)
    result = tonesieve.pull(x, RATE, [50.0, 60.0], harmonics=3)
    assert nmse_db(result.tones, np.hstack([one, other])).max() < -20


@pytest.mark.parametrize("harm", ["gaps", "impulses", "offset", "line beside"])
def test_combs_survive(harm: str) -> None:
    rng = np.random.default_rng(9)
    truth = comb(wander(rng, 50.1, 0.02), {1: 1.0, 2: 0.7, 3: 0.5, 4: 0.5})
    x = truth.sum(axis=1) + rng.standard_normal(N)
    if harm == "gaps":
        for start in range(300, N - 500, 700):
            x[start : start + rng.integers(5, 300)] = np.nan
    elif harm == "impulses":
        at = rng.random(N) < 0.003
        x[at] += 60 * rng.standard_normal(at.sum())
    elif harm == "offset":
        x += 1e6 + 3 * np.arange(N)
    else:
        x += 10 * np.sin(2 * np.pi * 52.3 * T)
    tones = tonesieve.pull(x, RATE, 50.0, harmonics=4).tones
    assert np.all(np.isfinite(tones))
    assert nmse_db(tones, truth).max() < -14


def test_a_comb_of_few_periods_is_estimated_jointly() -> None:
    rng = np.random.default_rng(3)
    t = np.arange(60) / RATE  # three periods
    truth = comb(50 * t, {1: 1.0, 2: 0.5})
    result = tonesieve.pull(truth.sum(axis=1) + 0.02 * rng.standard_normal(60), RATE, 50.0,
                            harmonics=2)  # fmt: skip
    assert nmse_db(result.tones, truth).max() < -20


def test_channels_keep_courses_of_their_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(10)
    parts = [comb(wander(rng, hz, 0.02), {1: 1.0, 2: 0.5}) for hz in (50.3, 49.8)]
    x = np.stack([part.sum(axis=1) for part in parts]) + 0.3 * rng.standard_normal((2, N))
    np.savez(tmp_path / "two.npz", samples=x.T, rate_hz=RATE)
    recording = read_recording(tmp_path / "two.npz", columns=["all"], scratch=tmp_path)
    found = comb_lines(recording, Comb(50.0, (1.0, 2.0), (0, 1)))
    first = [float(line.course.steps_hz.mean()) for line in found[0]]
    np.testing.assert_allclose(first, [0.3, -0.2], atol=0.05)


def test_the_cost_is_linear_in_the_number_of_tones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted: one stream of the same length each, whatever their number."""
    lengths: list[int] = []
    made = DownConverter.basebands

    def counted(self: DownConverter, *given_: object, **options: object) -> object:
        lengths.append(self.n_steps)
        return made(self, *given_, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(DownConverter, "basebands", counted)
    x = np.random.default_rng(0).standard_normal(N)
    for n_tones in (3, 12):
        lengths.clear()
        tonesieve.pull(x, RATE, 20.0, harmonics=n_tones)
        assert lengths == [N // 25] * n_tones


# In streams


def comb_source(**given_: object) -> object:
    return make_source("pretrained", [50.0], **given_)(RATE, "the test")  # type: ignore[arg-type]


def test_any_division_into_chunks_equals_one_pass() -> None:
    rng = np.random.default_rng(0)
    x = comb(50.1 * T, dict.fromkeys(range(1, 7), 1.0)).sum(axis=1)[None, :3000]
    x = x + 0.1 * rng.standard_normal(x.shape)
    x[0, 900:950] = np.nan
    source = comb_source(harmonics=6)
    whole = Stream(source).process_detailed(x)
    stream, parts = Stream(source), []
    edges = [0, 1, 2, 39, 40, 41, 777, 1600, 1601, 3000]
    for start, stop in pairwise(edges):
        parts.append(stream.process_detailed(x[:, start:stop]))
    for name in whole._fields:
        joined = np.concatenate([getattr(part, name) for part in parts], axis=1)
        np.testing.assert_array_equal(joined, getattr(whole, name), err_msg=name)


def test_a_saved_stream_goes_on(tmp_path: Path) -> None:
    x = comb(50.1 * T, dict.fromkeys(range(1, 6), 1.0)).sum(axis=1)[None, :2500]
    source = comb_source(harmonics=5)
    whole = Stream(source).process(x)
    first = Stream(source)
    before = first.process(x[:, :1333])
    first.save(tmp_path / "state")
    second = Stream(source)
    second.restore(tmp_path / "state")
    after = second.process(x[:, 1333:])
    np.testing.assert_array_equal(np.concatenate([before, after], axis=1), whole)
    with pytest.raises(UserError, match="another stream"):
        Stream(comb_source(harmonics=4)).restore(tmp_path / "state")


def test_a_stream_follows_the_common_frequency() -> None:
    """Named 0.6% off: tones far above the noise lead the weak ones."""
    rng = np.random.default_rng(7)
    amplitudes = {1: 1.0, 2: 0.7, 3: 0.7, 7: 0.4, 9: 0.2}
    truth = comb(wander(rng, 49.7, 0.01), amplitudes)
    x = truth.sum(axis=1) + 0.3 * rng.standard_normal(N)
    tones = tonesieve.pull(x, RATE, 50.0, orders=tuple(amplitudes), causal=True).tones
    settled = nmse_db(tones[N // 2 :], truth[N // 2 :])
    assert settled.max() < -10
    assert settled[:2].max() < -15


def test_a_stream_has_a_comb_and_other_tones() -> None:
    """A comb of one tone alone is no comb; it is estimated in what the first leaves over."""
    rng = np.random.default_rng(11)
    first = comb(50 * T, dict.fromkeys(range(1, 9), 1.0))
    other = np.sin(2 * np.pi * 230 * T + 0.4)
    x = first.sum(axis=1) + other + 0.3 * rng.standard_normal(N)
    source = make_source("pretrained", [50.0, 230.0], orders=[1, 2, 4, 6])
    with pytest.raises(UserError, match="--orders"):
        source(RATE, "the test")
    tones = tonesieve.pull(x, RATE, [50.0, 230.0], orders=[1, 2], causal=True).tones
    assert nmse_db(tones[N // 2 :, :2], first[N // 2 :, :2]).max() < -25
    assert nmse_db(tones[N // 2 :, 2], other[N // 2 :]) < -20


# The command


@pytest.fixture
def hum(tmp_path: Path) -> Path:
    rng = np.random.default_rng(12)
    x = comb(wander(rng, 49.8, 0.02), {1: 1.0, 2: 0.3, 3: 0.5}).sum(axis=1)
    path = tmp_path / "hum.csv"
    x = x + 0.2 * rng.standard_normal(N)
    path.write_text("time,signal\n" + "\n".join(f"{t:.3f},{v:.6f}" for t, v in zip(T, x)))  # noqa: B905
    return path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run ``tonesieve extract``: exit code, standard output, standard error."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tonesieve", "extract", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            app.main()
        return int(caught.value.code or 0), *capsys.readouterr()

    return call


def test_the_command_states_the_comb(command: Command, hum: Path) -> None:
    code, out, _ = command(hum, "--hz", "50", "--harmonics", "4", "--remove")
    assert code == 0
    assert "signal: comb of 50 Hz: at 49.8" in out
    assert "3 of 4 multiples found" in out
    assert "at 200 Hz nothing stands out" in out
    written = json.loads((hum.parent / "hum.clean.csv.json").read_text())
    (one,) = written["combs"]
    assert one["found_orders"] == [1.0, 2.0, 3.0]
    assert one["line_hz"] == pytest.approx(49.8, abs=0.02)
    assert one["line_range_hz"][0] < one["line_hz"] < one["line_range_hz"][1]
    amplitudes = [tone["amplitude"] for tone in written["tones"]]
    for amplitude, true, tone in zip(
        amplitudes, [1.0, 0.3, 0.5, 0.0], written["tones"], strict=True
    ):
        assert abs(amplitude - true) < 2 * tone["amplitude_half_width"] + 0.02


def test_multiples_named_singly_get_a_hint(hum: Path) -> None:
    result = tonesieve.extract(hum, [50.0, 100.0, 150.0])
    assert any(
        "multiples of 50 Hz" in text and "--harmonics" in text for text in result["warnings"]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--harmonics", "40"], "the highest is 9"),
        (["--harmonics", "none"], "whole number"),
        (["--orders", "1;2"], "numbers above 0"),
        (["--harmonics", "2", "--orders", "1,2"], "leave --harmonics away"),
    ],
)
def test_what_is_no_comb_is_refused(
    command: Command, hum: Path, options: list[str], message: str
) -> None:
    code, _, error = command(hum, "--hz", "50", *options)
    assert code == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not list(hum.parent.glob("*.tone.*"))
