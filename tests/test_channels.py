"""Channels that share a tone's course: the test that they do, the pattern, and what it gains."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy

import tonesieve
from tonesieve.commands.pull import Extracted
from tonesieve.errors import UserError
from tonesieve.extractors.pretrained.down_converter import real_stream
from tonesieve.kernels.ornstein_uhlenbeck import log_likelihood, smooth
from tonesieve.signals.baseband import Baseband
from tonesieve.signals.channel_course import share_course
from tonesieve.signals.channel_pattern import ChannelPattern, CrossSpectra
from tonesieve.signals.comb_course import HarmonicBaseband
from tonesieve.signals.slow_amplitude import smooth_slowly
from tonesieve.util import threads

RATE, HZ, N = 300.0, 50.0, 6000
T_S = np.arange(N) / RATE


def white(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def slow(seed: int, cycles: float = 4.0) -> np.ndarray:
    """A smooth course of unit variance that has some cycles."""
    k = np.arange(1, int(2 * cycles) + 1)[:, None]
    a, b = white(seed, 2, len(k), 1)
    course = np.sum(
        a * np.cos(np.pi * k * T_S / T_S[-1]) + b * np.sin(np.pi * k * T_S / T_S[-1]), 0
    )
    return np.asarray(course / course.std())


def tones(
    seed: int, n_channels: int, hz: float | np.ndarray = HZ, change: float = 0.3
) -> np.ndarray:
    """One tone with a wandering frequency and amplitude, of known sizes and lags in channels."""
    rng = np.random.default_rng(seed)
    cycles = np.outer(np.broadcast_to(hz, n_channels), T_S) + 0.2 * slow(seed)
    lag = rng.uniform(-np.pi, np.pi, (n_channels, 1))
    size = rng.uniform(0.5, 1.5, (n_channels, 1))
    return size * (1 + 0.3 * slow(seed + 1)) * np.sin(2 * np.pi * cycles + lag)


def nmse(estimate: np.ndarray, truth: np.ndarray) -> float:
    """In dB, the mean over channels of the logarithm."""
    ratio = np.mean((estimate - truth) ** 2, axis=-1) / np.mean(truth**2, axis=-1)
    return float(np.mean(10 * np.log10(ratio)))


def pull(samples: np.ndarray, mode: str = "auto", **named: object) -> Extracted:
    return tonesieve.pull(samples, RATE, HZ, channels=mode, **named)


def basebands(samples: np.ndarray, within_hz: float = 2.0) -> list[list[HarmonicBaseband]]:
    made = Baseband(HZ, RATE, within_hz, len(samples))
    made.update(samples)
    phasors, weights = made.finish()
    return [
        [HarmonicBaseband(1.0, phasors[c], weights[c], made.step_s, within_hz, made.shifts_s[c])]
        for c in range(len(samples))
    ]


# The course


def test_channels_of_one_course_share_it_and_others_do_not() -> None:
    hz = np.array([HZ, HZ, HZ + 0.7, HZ])
    shared = share_course(basebands(tones(1, 4, hz) + 0.5 * white(2, 4, N)))
    assert shared is not None
    assert shared.channels == (0, 1, 3)
    assert shared.log_evidence > 0
    truth = 0.2 * np.gradient(slow(1), T_S)
    for (course,) in shared.courses.values():
        assert np.std(course.offset_hz(T_S)[300:-300] - truth[300:-300]) < 0.02


def test_nothing_is_shared_by_channels_of_different_frequencies_or_of_noise() -> None:
    hz = HZ + np.array([-1.0, 0.0, 1.1])
    samples = np.stack([tones(3 + c, 1, f)[0] for c, f in enumerate(hz)])
    assert share_course(basebands(samples + 0.5 * white(4, 3, N))) is None
    assert share_course(basebands(white(5, 4, N))) is None
    certain = share_course(basebands(white(5, 4, N)), is_certain=True)
    assert certain is not None
    assert certain.channels == (0, 1, 2, 3)


def test_one_strong_channel_with_its_own_course_does_not_keep_others_apart() -> None:
    samples = tones(1, 4, np.array([HZ, HZ + 0.9, HZ, HZ])) + 0.5 * white(2, 4, N)
    samples[1] += 20 * tones(6, 1, HZ + 0.9)[0]
    shared = share_course(basebands(samples))
    assert shared is not None
    assert shared.channels == (0, 2, 3)


# The pattern


def test_the_combination_is_the_best_linear_unbiased_one() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal(4) + 1j * rng.standard_normal(4)
    mixing = rng.standard_normal((4, 4)) + 1j * rng.standard_normal((4, 4))
    noise = mixing @ mixing.conj().T
    pattern = ChannelPattern(a, noise, 1.0)
    n = mixing @ (rng.standard_normal((4, 50_000)) + 1j * rng.standard_normal((4, 50_000))) / 2**0.5
    least = 1 / float((a.conj() @ np.linalg.solve(noise, a)).real)  # Gauss and Markov
    assert np.mean(np.abs(pattern.combined(n)) ** 2) == pytest.approx(least, rel=0.03)
    s = rng.standard_normal(10) + 0j
    np.testing.assert_allclose(pattern.combined(a[:, None] * s), s)
    z = a[:, None] * s
    z[1, 3:] = np.nan  # the others know it
    np.testing.assert_allclose(pattern.combined(z), s)
    assert np.isnan(pattern.combined(np.full((4, 2), np.nan + 0j))).all()


def complex_white(seed: int, *shape: int) -> np.ndarray:
    real, imaginary = white(seed, 2, *shape)
    return np.asarray(real + 1j * imaginary) / 2**0.5


def spectra(z: np.ndarray, block: int = 700) -> CrossSpectra:
    made = CrossSpectra(len(z), z.shape[1])
    for start in range(0, z.shape[1], block):
        made.update(z[:, start : start + block])
    return made


def test_a_pattern_is_found_in_correlated_noise_and_none_in_noise_alone() -> None:
    mixing, a = complex_white(1, 6, 6) + np.eye(6), complex_white(2, 6)
    found = 0
    for seed in range(100):
        noise = mixing @ complex_white(10 + seed, 6, 2000)
        found += spectra(noise).pattern() is not None
        if seed == 0:
            pattern = spectra(noise + 0.5 * a[:, None]).pattern()
            assert pattern is not None
            angle = abs(np.vdot(pattern.pattern, a)) / np.linalg.norm(pattern.pattern)
            assert angle > 0.97 * np.linalg.norm(a)
            np.testing.assert_allclose(pattern.noise, mixing @ mixing.conj().T, atol=1.5)
    assert found <= 1  # stated: 1e-3 at most


def test_spectra_do_not_depend_on_blocks() -> None:
    z = complex_white(3, 3, 3000) + 0.3
    one, other = (spectra(z, block).pattern(is_certain=True) for block in (3000, 37))
    assert one is not None
    assert other is not None
    np.testing.assert_allclose(one.pattern, other.pattern)


# What a channel does not share


def dense_covariance(n: int, phi: float, q: float, w: np.ndarray) -> np.ndarray:
    lags = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    return np.asarray(q * phi**lags + np.diag(1 / w))


def test_the_kalman_smoother_is_the_gaussian_posterior() -> None:
    n, phi, q = 40, 0.9, 2.5
    rng = np.random.default_rng(1)
    y, w = complex_white(7, n), rng.uniform(0.5, 2, n)
    S = dense_covariance(n, phi, q, w)
    K = S - np.diag(1 / w)
    value, error = np.empty(n, complex), np.empty(n)
    scale = smooth(y, w, phi, q, value, error)
    np.testing.assert_allclose(value, K @ np.linalg.solve(S, y))
    np.testing.assert_allclose(error, np.diag(K - K @ np.linalg.solve(S, K)))
    assert scale == pytest.approx(float((y.conj() @ np.linalg.solve(S, y)).real) / n)
    expected = -n * np.log(scale) - np.linalg.slogdet(S)[1]
    assert log_likelihood(y, w, phi, q) == pytest.approx(expected)
    w[5:9] = 0  # a gap is as if it were not there
    S = np.delete(np.delete(S, slice(5, 9), 0), slice(5, 9), 1)
    y_in = np.delete(y, slice(5, 9))
    smooth(y, w, phi, q, value, error)
    np.testing.assert_allclose(value, np.delete(K, slice(5, 9), 1) @ np.linalg.solve(S, y_in))


def test_a_slow_amplitude_is_found_with_its_error_and_nothing_in_noise() -> None:
    n, phi = 2000, np.exp(-1 / 50)
    drive = complex_white(8, n) * np.sqrt(1 - phi**2)
    x = scipy.signal.lfilter([1.0], [1.0, -phi], drive)
    made = smooth_slowly(x + 3 * complex_white(9, n), np.ones(n))
    error = np.abs(made.value - x) ** 2
    assert np.mean(error) == pytest.approx(np.mean(made.variance), rel=0.3)
    assert np.mean(error) < 0.4
    nothing = smooth_slowly(complex_white(10, n), np.ones(n))
    assert np.mean(np.abs(nothing.value) ** 2) < 1e-4
    assert not smooth_slowly(np.zeros(n, complex), np.ones(n)).value.any()


# Tones


def test_one_row_of_several_is_that_row() -> None:
    samples = tones(20, 1) + white(21, 1, N)
    one, row = pull(samples), pull(samples[0])
    np.testing.assert_array_equal(one.tones[0], row.tones)
    assert row.bands is not None
    assert one.bands is not None
    np.testing.assert_array_equal(one.bands[0], row.bands)
    assert one.lines[0][0].metrics() == row.lines[0].metrics()


def test_identical_tones_gain_almost_the_number_of_channels() -> None:
    truth = tones(22, 8)
    samples = truth + 2 * white(30, 8, N)
    apart, together = (pull(samples, mode) for mode in ("apart", "auto"))
    gain = nmse(apart.tones[..., 0], truth) - nmse(together.tones[..., 0], truth)
    # 10 log10 8 = 9, less the error of each channel's own amplitude.
    assert 5.5 < gain < 10
    assert together.bands is not None
    assert np.mean(np.abs(together.tones[..., 0] - truth) < together.bands[..., 0]) > 0.8
    assert together.lines[3][0].shared is not None
    assert together.lines[3][0].shared.channels == tuple(range(8))


def test_two_channels_of_opposite_polarity_are_one_tone() -> None:
    samples = tones(23, 2) + white(24, 2, N)
    sign = np.array([[1.0], [-1.0]])
    one, other = pull(samples), pull(sign * samples)
    assert one.lines[0][0].shared is not None
    np.testing.assert_allclose(one.tones, sign[..., None] * other.tones, atol=1e-6)


def test_channels_that_share_nothing_are_estimated_as_apart() -> None:
    truth = np.stack([tones(40 + c, 1, HZ + c)[0, :2400] for c in range(3)])
    samples = truth + 0.7 * white(41, 3, 2400)
    np.testing.assert_array_equal(pull(samples).tones, pull(samples, "apart").tones)


def test_a_channel_without_the_tone_gets_none() -> None:
    truth = tones(25, 4)
    truth[2] = 0
    samples = truth + white(26, 4, N)
    apart, together = (pull(samples, mode).tones[2, :, 0] for mode in ("apart", "auto"))
    assert np.mean(together**2) < 1.1 * np.mean(apart**2)
    assert np.mean(together**2) < 0.002


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_flat_channel_has_no_tone_and_leaves_the_others_alone(value: float) -> None:
    truth = tones(27, 3)
    samples = truth + white(28, 3, N)
    with_flat = np.insert(samples, 1, value, axis=0)
    made = pull(with_flat)
    assert np.abs(made.tones[1]).max() < 1e-6
    others = np.delete(made.tones, 1, axis=0)
    assert nmse(others[..., 0], truth) < nmse(pull(samples).tones[..., 0], truth) + 0.2


def test_a_channel_of_gaps_alone_is_refused() -> None:
    samples = tones(29, 2)
    samples[1] = np.nan
    with pytest.raises(UserError, match=r"samples\[1\] holds no number at all"):
        pull(samples)


def test_in_the_gap_of_one_channel_the_others_know_the_tone() -> None:
    truth = tones(31, 4)
    samples = truth + 0.5 * white(32, 4, N)
    gap = slice(2400, 3600)
    samples[1, gap] = np.nan
    apart, together = (pull(samples, mode).tones[1, gap, 0] for mode in ("apart", "auto"))
    assert nmse(together, truth[1, gap]) < nmse(apart, truth[1, gap]) - 6
    assert nmse(together, truth[1, gap]) < -20


def test_what_a_channel_has_of_its_own_stays() -> None:
    truth = tones(33, 4)
    truth[0] *= 1 + 0.5 * slow(34, 2)
    samples = truth + 0.3 * white(35, 4, N)
    apart, together = (pull(samples, mode).tones[0, :, 0] for mode in ("apart", "auto"))
    assert nmse(together, truth[0]) < nmse(apart, truth[0]) + 0.5


def test_combs_and_channels_go_together() -> None:
    analytic = scipy.signal.hilbert(tones(36, 4))
    size, phase = np.abs(analytic), np.unwrap(np.angle(analytic))
    truth = np.stack([size * np.sin(k * phase + k) for k in (1, 2)], axis=-1)
    samples = truth.sum(axis=-1) + 1.5 * white(37, 4, N)
    apart, together = (pull(samples, mode, harmonics=2) for mode in ("apart", "auto"))
    for k in range(2):
        better = nmse(apart.tones[..., k], truth[..., k]) - 2
        assert nmse(together.tones[..., k], truth[..., k]) < better


@pytest.mark.parametrize("n_channels", [12, pytest.param(64, marks=pytest.mark.slow)])
def test_many_channels(n_channels: int) -> None:
    truth = tones(38, n_channels)[:, :900]
    samples = truth + 2 * white(39, n_channels, 900)
    apart = pull(samples[:6], "apart").tones[..., 0]
    made = pull(samples)
    assert nmse(made.tones[..., 0], truth) < nmse(apart, truth[:6]) - 2
    assert made.lines[-1][0].shared is not None


# Threads


def test_the_result_does_not_depend_on_the_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    samples = tones(42, 3)[:, :1500] + white(43, 3, 1500)
    made = []
    for n in (1, 4):
        monkeypatch.setattr(threads, "n_cores", lambda n=n: n)
        made.append([pull(samples, mode).tones for mode in ("apart", "together")])
    for others in made[1:]:
        for one, other in zip(made[0], others, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("n_rows", "n_threads"), [(0, 4), (1, 4), (3, 4), (17, 4), (17, 1)])
def test_every_row_is_worked_on_once(n_rows: int, n_threads: int) -> None:
    counts = np.zeros(n_rows, int)

    def work(rows: slice) -> None:
        counts[rows] += 1

    threads.over_rows(work, n_rows, n_threads)
    assert (counts == 1).all()


def test_errors_of_a_thread_are_raised() -> None:
    def fail(rows: slice) -> None:
        raise UserError(f"rows from {rows.start}")

    with pytest.raises(UserError, match="rows from 0"):
        threads.over_rows(fail, 4, 2)


def test_a_quarter_of_the_rate_is_where_the_tone_is() -> None:
    z = complex_white(50, 1, 64)
    at = np.arange(5, 69)
    np.testing.assert_allclose(
        real_stream(z, 5), 2 * (z * np.exp(0.5j * np.pi * at)).real, atol=1e-12
    )


# The command


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    samples = (tones(44, 3) + white(45, 3, N))[:, :3000]
    file = tmp_path / "three.csv"
    header = "time,left,middle,right"
    np.savetxt(file, np.vstack([T_S[:3000], samples]).T, delimiter=",", header=header, comments="")
    return file


@pytest.mark.parametrize(("mode", "n_shared"), [("auto", 3), ("together", 3), ("apart", 0)])
def test_the_answer_says_which_channels_were_taken_together(
    recording: Path, mode: str, n_shared: int
) -> None:
    result = tonesieve.extract(recording, [HZ], columns=["all"], channels=mode)
    written = json.loads((recording.parent / "three.tone.csv.json").read_text())
    assert written["channels_together"] == result["channels_together"]
    assert len(result["channels_together"]) == bool(n_shared)
    for one in result["channels_together"]:
        assert one["channels"] == ["left", "middle", "right"]
        assert one["hz"] == HZ
        assert one["log_evidence"] > 0
        assert 0.5 < one["pattern_share"] <= 1


def test_what_cannot_be_is_refused(recording: Path) -> None:
    with pytest.raises(UserError, match="--channels all: must be auto, together, apart"):
        tonesieve.extract(recording, [HZ], columns=["all"], channels="all")
    for named in ({"with_": "tracker"}, {"causal": True}, {"with_": "pretrained:ahead_s=1"}):
        with pytest.raises(UserError, match="--channels together: the pretrained extractor"):
            tonesieve.extract(recording, [HZ], columns=["all"], channels="together", **named)
    with pytest.raises(UserError, match="or rows of one length"):
        tonesieve.pull(np.zeros((2, 3, 4)), RATE, HZ)
    with pytest.raises(UserError, match=r"shape \(0, 4\)"):
        tonesieve.pull(np.zeros((0, 4)), RATE, HZ)
