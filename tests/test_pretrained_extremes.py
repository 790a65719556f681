"""The pretrained extractor on bad and extreme input: every input gives finite numbers."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import tonesieve
from tonesieve.errors import UserError
from tonesieve.extraction.passes import run_over_recording
from tonesieve.extraction.pipeline import make_source
from tonesieve.extraction.tone_lines import find_lines
from tonesieve.extractors.pretrained.extractor import PretrainedExtractor
from tonesieve.extractors.source import Source
from tonesieve.extractors.streaming import Stream
from tonesieve.recordings.recording import from_array
from tonesieve.recordings.statistics import survey

RATE, N = 200.0, 600
T = np.arange(N)
NOISE = np.random.default_rng(0).standard_normal(N)
PLAIN = NOISE + np.sin(2 * np.pi * 0.035 * T)


def only(n: int) -> np.ndarray:
    """One number among gaps."""
    return np.where(n == T, 5.0, np.nan)


SAMPLES = {
    "plain": PLAIN,
    "the tone alone": np.sin(2 * np.pi * 0.035 * T),
    "an offset": 1e9 + PLAIN,
    "integers": np.rint(3 * PLAIN),
    "one": PLAIN[:1],
    "two": PLAIN[:2],
    "runs of gaps": np.where((T // 40) % 3 == 1, np.nan, PLAIN),
    "gaps but one": only(350),
    "gaps but the last": only(N - 1),
    "a late start": np.where(T < 500, np.nan, PLAIN),
    "a leap in a gap": np.where((T > 150) & (T < 450), np.nan, 1e6 * np.cumsum(PLAIN)),
    "constant": np.full(N, 7.25),
    "zeros": np.zeros(N),
    "zeros, then not": np.where(T < 400, 0.0, 1e-3 * PLAIN),
    "not, then zeros": np.where(T < 400, PLAIN, 0.0),
    "a signal that falls silent": np.where(T < 400, PLAIN, 1e-30 * PLAIN),
    "a signal that wakes up": np.where(T < 400, 1e-30 * PLAIN, PLAIN),
    "tiny": 1e-300 * PLAIN,
    "denormal": 1e-310 * PLAIN,
    "huge": 1e300 * PLAIN,
    "almost scaled": 1e99 * PLAIN,
    "a step": PLAIN + 1e12 * (T >= 300),
    "an impulse": np.where(T == 300, 1e30, PLAIN),
    "an impulse in silence": np.where(T == 300, 1e30, 0.0),
    "huge at first": np.where(T == 0, 1e90, PLAIN),
    "alternating": np.where(T % 2, 1e12, -1e12),
    "alternating with noise": np.where(T % 2, 1e12, -1.0) * PLAIN,
    "growing": PLAIN * 10.0 ** (T / 10 - 30),
    "shrinking": PLAIN * 10.0 ** (30 - T / 10),
    "a square wave": np.sign(np.sin(2 * np.pi * 0.035 * T + 0.1)),
    "a ramp": 1.0 * T,
    "a parabola": 1.0 * T**2,
    "exponential": np.exp(T / 1.5 - 200),
}
# Cycles a sample: less than a step, almost half the rate, many at once.
TONES = {
    "usual": (0.035,),
    "very slow": (1e-5,),
    "very fast": (0.4999,),
    "hardly two": (0.035, 0.0351),
    "far apart": (1e-4, 0.005, 0.25, 0.495),
}


@functools.cache
def source(freq_cycles: tuple[float, ...], parameters: str = "") -> Source:
    built = make_source(f"pretrained{parameters}", [f * RATE for f in freq_cycles])(RATE, "a test")
    assert isinstance(built, Source)
    return built


def estimates(samples: np.ndarray, freq_cycles: tuple[float, ...]) -> list[np.ndarray]:
    """All estimates: in a stream, with the whole future, and with some of it."""
    estimate = Stream(source(freq_cycles)).process_detailed(samples[None])
    found = [column[0] for column in estimate]
    if not np.isfinite(samples).any():
        return found  # a recording without any number is refused
    whole = from_array(samples, RATE)
    lines = find_lines(whole, [f * RATE for f in freq_cycles])
    for parameters in ("", ":ahead_s=0.2"):
        made = source(freq_cycles, parameters)
        taken = run_over_recording(
            whole, survey(whole), made, causal=False, lines=lines, scratch=whole.rows.folder
        )
        assert taken.band is not None
        found += [taken.tones.read(0, len(samples)), taken.band.read(0, len(samples))]
    return found


def check(samples: np.ndarray, freq_cycles: tuple[float, ...]) -> None:
    found = estimates(samples, freq_cycles)
    for column in found:
        assert column.shape == (len(samples), len(freq_cycles))
        assert np.isfinite(column).all()
    for k in range(4, len(found), 2):  # the bands
        assert (found[k] >= 0).all()


@pytest.mark.parametrize("tones", TONES)
@pytest.mark.parametrize("name", SAMPLES)
def test_estimates_are_finite(name: str, tones: str) -> None:
    check(SAMPLES[name], TONES[tones])


def test_nothing_but_gaps() -> None:
    estimate = Stream(source((0.035,))).process_detailed(np.full((1, 500), np.nan))
    assert not estimate.tones.any()


def test_infinities_are_gaps() -> None:
    wild, gaps = (np.where(T % 40 == 0, hole, PLAIN) for hole in (np.inf, np.nan))
    found, expected = (Stream(source((0.035,))).process_detailed(s[None]) for s in (wild, gaps))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


MANY = {
    "apart": tuple(np.linspace(0.01, 0.48, 30)),
    "close": tuple(0.05 + 5e-5 * np.arange(30)),
}


@pytest.mark.parametrize("name", ["plain", "a step", "alternating", "zeros, then not"])
@pytest.mark.parametrize("tones", MANY)
def test_thirty_tones_at_once(name: str, tones: str) -> None:
    estimate = Stream(source(MANY[tones])).process_detailed(SAMPLES[name][None])
    assert all(np.isfinite(column).all() for column in estimate)


@pytest.mark.parametrize("n", [8, 16])
def test_tones_that_are_hardly_distinct_stay_bounded(n: int) -> None:
    # Whitening by rounding errors once drove eight to 1e62, and tracking filters sixteen to NaN.
    rng, t = np.random.default_rng(0), np.arange(6000)
    samples = rng.standard_normal(6000) + np.sin(2 * np.pi * 0.035 * t)
    samples[3000:] += 1e12 * (n == 16)
    estimate = Stream(source(tuple(0.05 + 5e-5 * np.arange(n)))).process_detailed(samples[None])
    assert all(np.isfinite(column).all() for column in estimate)
    assert np.abs(estimate.tones.sum(axis=2)).max() < 1e6 * np.abs(samples).max()


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf, 1e200, -1e308])
def test_a_stepper_takes_what_is_no_sample_as_a_gap(hole: float) -> None:
    take, same = (PretrainedExtractor((7.0,), RATE).stepper() for _ in range(2))
    for n, sample in enumerate(PLAIN[:60]):
        take(hole if n % 7 == 3 else sample)
        same(np.nan if n % 7 == 3 else sample)
        np.testing.assert_array_equal([take.tones, take.bands], [same.tones, same.bands])
    assert np.isfinite([*take.tones, *take.bands, *take.hz]).all()


@pytest.mark.parametrize(
    "samples",
    [3.0, None, [], [[[1.0, 2.0]]], [[1.0], [1.0, 2.0]], ["1"], [1.0, None], np.ones(9) * 1j,
     [np.nan, np.inf], [1e306, 1.0]],
)  # fmt: skip
def test_what_is_no_row_of_numbers_is_refused(samples: object) -> None:
    with pytest.raises(UserError, match=r"a single row of numbers|no number at all|scale it"):
        tonesieve.pull(samples, RATE, [7.0])  # type: ignore[arg-type]


def test_a_row_of_any_numbers_will_do() -> None:
    whole = np.rint(3 * PLAIN)
    expected = tonesieve.pull(whole, RATE, [7.0])
    for row in (whole.tolist(), whole.astype(int), whole.astype(np.float32), (whole + 0.0)[::1]):
        np.testing.assert_array_equal(tonesieve.pull(row, RATE, [7.0]).tones, expected.tones)


@pytest.mark.parametrize(("f", "rate"), [(1e-9, 200.0), (1e-300, 200.0), (1e299, 1e300)])
def test_a_period_or_rate_beyond_all_is_refused(f: float, rate: float) -> None:
    with pytest.raises(UserError, match=r"a period may have 1e8 samples|rate_hz 1e\+300: must be"):
        tonesieve.pull(PLAIN, rate, [f])


@pytest.mark.parametrize("seconds", ["3", "1e9", "1e308", "inf"])
def test_a_look_ahead_beyond_the_end_is_to_the_end(seconds: str) -> None:
    whole = tonesieve.pull(PLAIN, RATE, [7.0])
    ahead = tonesieve.pull(PLAIN, RATE, [7.0], with_=f"pretrained:ahead_s={seconds}")
    np.testing.assert_array_equal(ahead.tones, whole.tones)


values = (
    st.floats(allow_nan=True, allow_infinity=True)
    | st.floats(-1, 1)
    | st.sampled_from([0.0, 1.0, -1.0, 1e-300, 1e300, 1e12, np.nan])
)
wild = st.lists(
    st.tuples(arrays(float, st.integers(1, 12), elements=values), st.integers(1, 40)),
    min_size=1,
    max_size=6,
)
freq_cycles = st.lists(st.floats(1e-5, 0.4999), min_size=1, max_size=3, unique=True)


def piled(parts: list[tuple[np.ndarray, int]]) -> np.ndarray:
    """Pieces, each over and over."""
    return np.concatenate([np.tile(piece, n) for piece, n in parts])


def check_wild(parts: list[tuple[np.ndarray, int]], freq_cycles: list[float]) -> None:
    samples = piled(parts)
    # What goes beyond is refused before it is extracted.
    samples = np.where(np.abs(samples) < 1e305, samples, np.nan)
    check(samples, tuple(freq_cycles))


@given(wild, freq_cycles)
@settings(max_examples=20)
def test_wild_numbers(parts: list[tuple[np.ndarray, int]], freq_cycles: list[float]) -> None:
    check_wild(parts, freq_cycles)


@pytest.mark.slow
@given(wild, freq_cycles)
@settings(max_examples=2000)
def test_many_wild_numbers(parts: list[tuple[np.ndarray, int]], freq_cycles: list[float]) -> None:
    check_wild(parts, freq_cycles)
