"""Synthetic records against closed forms and independent methods."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal, stats

from tonesieve.config.config import DataSettings
from tonesieve.signals.record_noise import additive_noise, draw_gaps, pink_noise
from tonesieve.signals.signal_model import (
    common_period_samples,
    input_rms,
    mixture_power,
    tone_gain,
)
from tonesieve.signals.synthesis import draw_exercise, draw_records


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_exercise_targets_are_the_clean_sinusoids() -> None:
    records = draw_exercise(DataSettings(), seed=1)
    n = np.arange(10_000)
    for k, f in enumerate((1, 3, 5, 7)):
        np.testing.assert_allclose(
            records.targets[0, :, k], np.sin(2 * np.pi * f * n / 1000), atol=1e-9
        )
    np.testing.assert_array_equal(records.time_s, n / 1000)


def test_without_jitter_the_mixture_is_the_mean_of_the_targets() -> None:
    data = DataSettings(phase_scale=0, amplitude_range=(1, 1), phases_rad=(0, 1, 2, 3))
    records = draw_exercise(data, seed=1)
    np.testing.assert_allclose(records.mixture, records.targets.mean(axis=2), atol=1e-12)
    np.testing.assert_allclose(records.targets[0, 0], np.sin([0, 1, 2, 3]), atol=1e-12)


def test_jitter_is_drawn_anew_for_every_sample_and_component() -> None:
    # The jitter's own part of the mixture is white: no correlation from sample to sample.
    data = DataSettings(phase_scale=0, frequencies_hz=(3.0,))
    records = draw_exercise(data, seed=1)
    clean = records.targets[0, :, 0]
    big = np.abs(clean) > 0.5
    gain = records.mixture[0, big] / clean[big]
    assert 0.8 <= gain.min() <= gain.max() <= 1.2
    assert stats.kstest(gain, stats.uniform(0.8, 0.4).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(gain[1:], gain[:-1])[0, 1]) < 4 / math.sqrt(len(gain))


def test_seeds_decide_the_noise_and_nothing_else() -> None:
    first, again, other = (draw_exercise(DataSettings(), seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.mixture, again.mixture)
    assert np.mean(first.mixture == other.mixture) < 0.01
    np.testing.assert_array_equal(first.targets, other.targets)


def test_phase_scale_one_has_no_information_on_time() -> None:
    # docs/exercise.md, What can be true: the limit. The density of A sin(theta + phi)
    # does not depend on theta.
    data = DataSettings(phase_scale=1.0, frequencies_hz=(1.0,), duration_s=40)
    mixture = draw_exercise(data, seed=1).mixture.reshape(-1, 1000)
    low, high = mixture[:, 0:250].ravel(), mixture[:, 500:750].ravel()
    assert stats.ks_2samp(low, high).pvalue > 1e-3


@pytest.mark.parametrize(
    ("frequencies", "rate", "period"),
    [((1, 3, 5, 7), 1000, 1000), ((49.93,), 200, 20_000), ((1.5, 2.5), 1000, 2000), ((3,), 7, 7)],
)
def test_common_period(frequencies: tuple[float, ...], rate: float, period: int) -> None:
    data = DataSettings(frequencies_hz=frequencies, rate_hz=rate)
    assert common_period_samples(data) == period
    # by brute force: no smaller number of samples brings all tones back
    cycles = np.outer(np.arange(1, period + 1), np.array(frequencies) / rate)
    back = np.all(np.abs(cycles - np.rint(cycles)) < 1e-7, axis=1)
    assert np.flatnonzero(back)[0] + 1 == period


@given(st.integers(0, 10**9))
@settings(max_examples=30)
def test_a_late_start_is_the_same_signal_later(start: int) -> None:
    data = DataSettings(phases_rad=(0.1, 0.2, 0.3, 0.4))
    late = draw_records(data, 1, 50, rng=rng(), starts=np.array([start])).targets
    phase = start % 1000  # the common period
    whole = draw_records(data, 1, 1050, rng=rng(), starts=np.array([0])).targets
    np.testing.assert_allclose(late[0], whole[0, phase : phase + 50], atol=1e-9)


def test_random_starts_are_whole_samples_uniform_over_the_period() -> None:
    data = DataSettings(start="random", phase_scale=0)
    targets = draw_records(data, 4000, 2, rng=rng()).targets
    # the first component goes once round in the period, so its phase is the start
    cycles = np.arctan2(
        targets[:, 0, 0],
        (targets[:, 1, 0] - targets[:, 0, 0] * np.cos(2e-3 * np.pi)) / np.sin(2e-3 * np.pi),
    ) / (2 * np.pi)
    starts = (cycles % 1) * 1000
    assert np.max(np.abs(starts - np.rint(starts))) < 1e-6
    assert stats.kstest(starts / 1000, "uniform").pvalue > 1e-3
    np.testing.assert_allclose(
        targets[:, 0], np.sin(2 * np.pi * np.outer(starts, [1, 3, 5, 7]) / 1000), atol=1e-6
    )


def test_unknown_phase_has_gaussian_coefficients() -> None:
    data = DataSettings(regime="free", frequencies_hz=(250.0,))
    targets = draw_records(data, 4000, 2, rng=rng()).targets[:, :, 0]
    # at a quarter of the rate, the first two samples are the cosine and the sine coefficient
    for coefficient in targets.T:
        assert stats.kstest(coefficient, stats.norm(0, math.sqrt(0.5)).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(targets.T)[0, 1]) < 4 / math.sqrt(4000)


@pytest.mark.parametrize("regime", ["locked", "free"])
def test_powers_have_their_closed_forms(regime: str) -> None:
    clean = DataSettings(regime=regime, start="random", phase_scale=0.1)
    noisy = clean.model_copy(
        update={"snr_db": 3.0, "pink_snr_db": 0.0, "impulse_rate_hz": 10.0, "impulse_size": 5.0}
    )
    for data, expected in ((clean, mixture_power(clean)), (noisy, input_rms(noisy) ** 2)):
        power = np.mean(draw_records(data, 1000, 1000, rng=rng()).mixture ** 2, axis=1)
        error = np.std(power) / math.sqrt(len(power))
        assert abs(power.mean() - expected) < 4 * error


@pytest.mark.parametrize("phase_scale", [0.0, 0.01, 0.3])
def test_tone_gain_is_the_regression_of_mixture_on_target(phase_scale: float) -> None:
    data = DataSettings(phase_scale=phase_scale, amplitude_range=(0.5, 1.0), duration_s=100)
    records = draw_exercise(data, seed=3)
    carrier = np.exp(-2j * np.pi * 5 * records.time_s)
    measured = abs(2 * np.mean(records.mixture[0] * carrier))
    assert measured == pytest.approx(tone_gain(data), abs=4e-3 * 0.75)


def test_white_noise_has_its_snr() -> None:
    data = DataSettings(snr_db=7.0)
    power = np.mean(additive_noise(data, 10, 10_000, rng=rng()) ** 2)
    assert 10 * math.log10(mixture_power(data) / power) == pytest.approx(7.0, abs=0.1)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_pink_noise_falls_as_asked(exponent: float) -> None:
    noise = pink_noise(200, 4096, exponent=exponent, rng=rng())
    f, density = signal.welch(noise, nperseg=4096, detrend=False)
    band = (f > 0.01) & (f < 0.4)
    slope = np.polyfit(np.log(f[band]), np.log(density.mean(axis=0)[band]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.05)
    assert np.mean(noise**2) == pytest.approx(1.0, rel=0.2 if exponent > 1 else 0.05)


@pytest.mark.parametrize("n_samples", [10, 1000])
def test_pieces_of_pink_noise_are_pieces_of_the_longest_record(n_samples: int) -> None:
    # The variance of one-sample steps shows the spectrum: it must not depend on the length.
    def step_variance(n: int) -> np.ndarray:
        noise = pink_noise(500, n, longest=5000, rng=rng())
        return np.mean(np.diff(noise, axis=1) ** 2, axis=1)

    short, long = step_variance(n_samples), step_variance(5000)
    error = math.hypot(short.std(), long.std()) / math.sqrt(500)
    assert abs(short.mean() - long.mean()) < 5 * error


@pytest.mark.parametrize("n_samples", [5, 50, 2000])
def test_gaps_cover_their_fraction_in_short_records_too(n_samples: int) -> None:
    data = DataSettings(gap_fraction=0.3, gap_s=0.1)
    fraction = draw_gaps(data, 2000, n_samples, rng=rng()).mean(axis=1)
    assert abs(fraction.mean() - 0.3) < 5 * fraction.std() / math.sqrt(2000)


def test_the_start_does_not_change_the_noise() -> None:
    data = DataSettings(phase_scale=0, snr_db=0.0, amplitude_range=(1, 1))
    moved = data.model_copy(update={"start": "random"})
    fixed, late = (draw_records(d, 1, 500, rng=rng(4)) for d in (data, moved))
    noises = [r.mixture - r.targets.mean(axis=2) for r in (fixed, late)]
    np.testing.assert_allclose(*noises, atol=1e-9)
    assert np.abs(fixed.targets - late.targets).max() > 0.1


def test_drift_wanders_with_its_deviation_and_time() -> None:
    data = DataSettings(
        frequencies_hz=(10.0,),
        rate_hz=100,
        frequency_drift=0.01,
        drift_time_s=5,
        regime="free",
        phase_scale=0,
    )
    targets = draw_records(data, 400, 4000, rng=rng()).targets[:, :, 0]
    phase = np.unwrap(np.angle(signal.hilbert(targets, axis=1)), axis=1)
    inner = slice(500, 3500)
    hz = np.diff(phase, axis=1)[:, inner] * 100 / (2 * np.pi)
    slow = signal.fftconvolve(hz, np.ones((1, 21)) / 21, mode="valid", axes=1)
    deviation = slow / 10 - 1
    assert deviation.std() == pytest.approx(0.01, rel=0.1)
    # correlation after one drift time: 1/e
    pairs = deviation[:, 500:] * deviation[:, :-500]
    assert pairs.mean() / deviation.var() == pytest.approx(math.exp(-1), abs=0.1)


def test_gaps_cover_their_fraction() -> None:
    data = DataSettings(gap_fraction=0.2, gap_s=0.05)
    lost = draw_gaps(data, 200, 5000, rng=rng())
    fraction = lost.mean(axis=1)
    assert abs(fraction.mean() - 0.2) < 4 * fraction.std() / math.sqrt(200)
    early = lost[:, :50].mean()  # no lack of gaps at the start
    assert early == pytest.approx(0.2, abs=0.06)
    lengths = [len(list(g)) for row in lost for on, g in itertools.groupby(row) if on]
    assert 50 < np.mean(lengths) < 60  # the mean gap, a little longer where two overlap
    records = draw_records(data, 3, 1000, rng=rng())
    assert np.isnan(records.mixture).any()
    assert np.isfinite(records.targets).all()


def test_impulses_and_clipping() -> None:
    quiet = DataSettings()
    loud = DataSettings(impulse_rate_hz=5, impulse_size=50)
    extra = additive_noise(loud, 1, 100_000, rng=rng())
    hits = np.count_nonzero(extra)
    assert abs(hits - 500) < 4 * math.sqrt(500)
    assert np.count_nonzero(additive_noise(quiet, 1, 1000, rng=rng())) == 0
    clipped = draw_exercise(DataSettings(clip_level=0.5), seed=1).mixture
    assert np.max(np.abs(clipped)) == 0.5
