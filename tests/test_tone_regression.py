"""The regression of tones in short records, and its average with the smoother."""

import numpy as np
import pytest

import tonesieve
from tonesieve.extractors.pretrained import short_record
from tonesieve.extractors.pretrained.short_record import duration_weight
from tonesieve.signals import tone_regression
from tonesieve.signals.tone_regression import BlockMeans, fit_tones, max_modes, resolvable_modes

F = 0.031


def blocks_of(samples, freq_cycles):
    """Blocks of one sample."""
    t = np.arange(len(samples))
    carriers = np.exp(2j * np.pi * np.outer(t, freq_cycles))
    observed = np.isfinite(samples)
    tau = (t + 0.5) / len(t)
    return BlockMeans(np.nan_to_num(samples), carriers, tau, observed.astype(float))


def least_squares(samples, freq_cycles):
    """Tones (T, K) by an independent method: numpy's, with a level and a slope."""
    t = np.arange(len(samples))
    angles = 2 * np.pi * np.outer(t, freq_cycles)
    design = np.concatenate([np.sin(angles), np.cos(angles), np.ones((len(t), 1)), t[:, None]], 1)
    known = np.isfinite(samples)
    found = np.linalg.lstsq(design[known], samples[known], rcond=None)[0]
    k = len(freq_cycles)
    return design[:, :k] * found[:k] + design[:, k : 2 * k] * found[k : 2 * k]


def error_db(tones, truth):
    return 10 * np.log10(np.sum((tones - truth) ** 2) / np.sum(truth**2))


def fitted(samples, freq_cycles, n_modes=None):
    blocks = blocks_of(samples, freq_cycles)
    fit = fit_tones(blocks, n_modes or resolvable_modes(freq_cycles, len(samples)))
    tones = (fit.phasors(blocks.tau) * blocks.carriers).imag
    return tones, fit.half_widths(blocks.tau, blocks.carriers)


def test_steady_tones_without_noise_are_exact_beside_level_slope_and_gap():
    t = np.arange(90)
    truth = np.stack([np.sin(2 * np.pi * F * t + 1), 3 * np.cos(2 * np.pi * 2.3 * F * t)], 1)
    samples = truth.sum(axis=1) + 40 - 0.5 * t
    samples[30:45] = np.nan
    tones, band = fitted(samples, [F, 2.3 * F])
    np.testing.assert_allclose(tones, truth, atol=1e-4)
    assert band.max() < 1e-2


@pytest.mark.parametrize("n", [70, 130, 260])  # two to eight periods
def test_band_holds_nine_tenths_and_error_is_that_of_least_squares(n):
    rng, held, errors, reference = np.random.default_rng(n), [], [], []
    truth = np.sin(2 * np.pi * F * np.arange(n) + 0.3)[:, None]
    for _ in range(120):
        samples = truth[:, 0] + 0.3 * rng.standard_normal(n) + 2
        tones, band = fitted(samples, [F])
        held.append(np.mean(np.abs(tones - truth) <= band))
        errors.append(np.mean((tones - truth) ** 2))
        reference.append(np.mean((least_squares(samples, [F]) - truth) ** 2))
    assert 0.86 < np.mean(held) < 0.97  # 0.9, and what the changes add; 3 standard errors are 0.06
    assert 10 * np.log10(np.mean(errors) / np.mean(reference)) < 0.5


def test_without_changes_and_correlation_it_is_least_squares(monkeypatch):
    monkeypatch.setattr(tone_regression, "CORRELATIONS", (0.0,))
    monkeypatch.setattr(tone_regression, "_whitening", lambda residual, kept: (1.0,))
    samples = np.random.default_rng(1).standard_normal(200)
    samples += 5 * np.sin(2 * np.pi * F * np.arange(200))
    tones, _ = fitted(samples, [F], (0,))
    np.testing.assert_allclose(tones, least_squares(samples, [F]), atol=5e-3)


def test_band_is_that_of_students_t(monkeypatch):
    """The closed form of linear regression, of white noise and steady tones alone."""
    monkeypatch.setattr(tone_regression, "CORRELATIONS", (0.0,))
    monkeypatch.setattr(tone_regression, "_whitening", lambda residual, kept: (1.0,))
    n = 40
    samples = np.random.default_rng(2).standard_normal(n) + np.sin(2 * np.pi * F * np.arange(n))
    _, band = fitted(samples, [F], (0,))
    angle = 2 * np.pi * F * np.arange(n)
    design = np.stack([np.sin(angle), np.cos(angle), np.ones(n), np.arange(n)], axis=1)
    residual = samples - design @ np.linalg.lstsq(design, samples, rcond=None)[0]
    covariance = np.linalg.inv(design.T @ design)[:2, :2] * (residual @ residual) / (n - 4)
    rows = design[:, :2]
    expected = 1.6883 * np.sqrt(np.sum(rows @ covariance * rows, axis=1))  # table: t_36, 0.95
    np.testing.assert_allclose(band[:, 0], expected, rtol=0.05)


def test_tone_that_fades_and_one_off_its_frequency_are_followed():
    n, rng = 400, np.random.default_rng(3)  # twelve periods
    t = np.arange(n)
    for truth in (
        (1 + 0.8 * np.cos(2 * np.pi * t / n)) * np.sin(2 * np.pi * F * t),
        np.sin(2 * np.pi * 1.02 * F * t),
    ):
        samples = truth + 0.1 * rng.standard_normal(n)
        tones, band = fitted(samples, [F])
        error = error_db(tones[:, 0], truth)
        assert error < error_db(least_squares(samples, [F])[:, 0], truth) - 10
        assert np.mean(np.abs(tones[:, 0] - truth) <= band[:, 0]) > 0.8


def test_coloured_noise_is_whitened():
    rng, errors, reference, held = np.random.default_rng(4), [], [], []
    truth = np.sin(2 * np.pi * F * np.arange(130))[:, None]
    for _ in range(60):
        samples = truth[:, 0] + np.cumsum(rng.standard_normal(130))
        tones, band = fitted(samples, [F])
        errors.append(np.sum((tones - truth) ** 2))
        reference.append(np.sum((least_squares(samples, [F]) - truth) ** 2))
        held.append(np.mean(np.abs(tones - truth) <= band))
    assert np.mean(errors) < 0.9 * np.mean(reference)  # on a random walk least squares is poor
    assert np.mean(held) > 0.8


def test_outliers_are_left_out():
    rng = np.random.default_rng(5)
    truth = np.sin(2 * np.pi * F * np.arange(200))
    samples = truth + 0.05 * rng.standard_normal(200)
    samples[[40, 41, 42, 130]] += 20
    tones, _ = fitted(samples, [F])
    assert error_db(tones[:, 0], truth) < -30
    assert error_db(least_squares(samples, [F])[:, 0], truth) > -20


def test_impulse_in_silence_leaves_no_noise():
    samples = np.zeros(60)
    samples[31] = 1.0
    tones, band = fitted(samples, [F])
    np.testing.assert_allclose(tones, 0, atol=1e-9)
    assert np.isfinite(band).all()


def test_unresolved_tones_share_what_is_there():
    """Flat priors would give amplitudes of any size."""
    samples = np.sin(2 * np.pi * F * np.arange(70))
    samples += 0.1 * np.random.default_rng(6).standard_normal(70)
    tones, _ = fitted(samples, [F, 1.0001 * F])
    assert np.abs(tones).max() < 2


def test_too_few_or_equal_blocks_have_no_fit():
    assert fit_tones(blocks_of(np.arange(4.0), [F]), (0,)) is None
    assert fit_tones(blocks_of(np.full(50, np.nan), [F]), (0,)) is None
    assert fit_tones(blocks_of(np.ones(50), [F]), (0,)) is None


def test_cosines_of_a_tone():
    assert resolvable_modes([0.05], 10_000) == (max_modes(1),)
    assert resolvable_modes([0.05], 160) == (3,)  # 1 + 8 periods / 4
    assert resolvable_modes([0.05, 0.0601], 100) == (1, 1)
    assert resolvable_modes([0.05, 0.0501], 100) == (0, 0)
    assert resolvable_modes([0.499], 400) == (0,)


def test_weight_falls_from_one_to_zero_without_a_jump():
    weights = np.array([duration_weight(n) for n in range(900)])
    assert (weights[:201] == 1).all()
    assert (weights[800:] == 0).all()
    assert weights[400] == pytest.approx(0.5)
    assert np.diff(weights).min() > -0.004
    assert np.diff(weights).max() <= 0


@pytest.mark.parametrize("rate_hz", [100.0, 48_000.0])
def test_default_extractor_on_three_periods(rate_hz, monkeypatch):
    """As good as least squares, in several channels and tones with gaps, whatever the rate."""
    n, rng = int(3.3 * rate_hz / 5), np.random.default_rng(7)
    monkeypatch.setattr(short_record, "SAMPLES_AT_ONCE", n // 3)  # in several pieces
    hz, t = [5.0, 12.0], np.arange(n) / rate_hz
    truth = np.stack([np.sin(2 * np.pi * f * t + f) for f in hz], axis=1)
    gap = slice(n // 2, n // 2 + n // 10)
    errors, reference = [], []
    for _ in range(8):
        samples = truth.sum(axis=1) + 0.02 * np.sqrt(rate_hz) * rng.standard_normal(n)
        samples[gap] = np.nan
        result = tonesieve.pull(samples, rate_hz, hz)
        errors.append(np.sum((result.tones - truth) ** 2))
        expected = least_squares(samples, np.array(hz) / rate_hz)
        reference.append(np.sum((expected - truth) ** 2))
        assert np.isfinite(result.bands).all()
    assert 10 * np.log10(np.mean(errors) / np.mean(reference)) < 1.0


def test_long_record_is_left_to_the_smoother(monkeypatch):
    samples = np.random.default_rng(8).standard_normal(6000)
    samples += np.sin(2 * np.pi * 0.05 * np.arange(6000))
    result = tonesieve.pull(samples, 1.0, 0.05)
    monkeypatch.setattr(short_record, "fit_tones", None)  # not called
    np.testing.assert_array_equal(tonesieve.pull(samples, 1.0, 0.05).tones, result.tones)
