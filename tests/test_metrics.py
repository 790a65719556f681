"""Metrics against closed forms and NumPy's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import periodogram

from tonesieve.evaluation import metrics

T = np.arange(10_000) / 1000
SINE = np.sin(2 * np.pi * 3 * T)
RNG = np.random.default_rng(0)


def test_predicting_zero_scores_one_half() -> None:
    zero = np.zeros_like(SINE)
    assert metrics.mse(zero, SINE) == pytest.approx(0.5)
    assert metrics.r2(zero, SINE) == pytest.approx(0.0, abs=1e-12)
    assert metrics.correlation(zero, SINE) is None


def test_perfect_estimate() -> None:
    assert metrics.mse(SINE, SINE) == 0
    assert metrics.r2(SINE, SINE) == 1
    assert metrics.correlation(SINE, SINE) == pytest.approx(1)
    assert metrics.r2(SINE, np.ones_like(SINE)) is None


@given(st.floats(0.1, 10), st.floats(-3, 3))
def test_correlation_ignores_scale_and_offset(scale: float, offset: float) -> None:
    noisy = SINE + RNG.normal(size=SINE.size)
    once, again = (metrics.correlation(e, SINE) for e in (noisy, scale * noisy + offset))
    assert once == pytest.approx(again)


def test_random_estimates_score_as_expected() -> None:
    # E (u - y)^2 = y^2 + 1/3 for u from U(-1, 1)
    estimates = np.random.default_rng(1).uniform(-1, 1, (100, SINE.size))
    expected = np.broadcast_to(SINE, estimates.shape)
    # one standard error over the million estimates is 0.0008
    assert metrics.improvement_over_random(estimates, expected) == pytest.approx(0, abs=0.004)
    assert metrics.improvement_over_random(SINE, SINE) == 1
    assert metrics.improvement_over_mean(np.zeros_like(SINE), SINE) == pytest.approx(0, abs=1e-9)


def test_standard_error_of_independent_values() -> None:
    values = RNG.normal(size=(2000, 25))
    assert np.mean([metrics.standard_error(v) for v in values]) == pytest.approx(0.2, rel=0.03)


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (1.2, "excellent"),
        (1.21, "good"),
        (1.5, "good"),
        (2.0, "some overfitting"),
        (2.1, "overfitting"),
        (None, "no training error to compare with"),
    ],
)
def test_generalisation_verdicts(ratio: float | None, verdict: str) -> None:
    assert metrics.generalisation_verdict(ratio) == verdict


def test_bands() -> None:
    values = (0.05, 0.051, 0.1, 0.2, 0.21)
    assert [metrics.mse_band(v) for v in values] == [
        "excellent", "good", "good", "acceptable", "poor",
    ]  # fmt: skip


def test_gap() -> None:
    assert metrics.relative_gap(0.0745, 0.0744) == pytest.approx(-0.00134, abs=1e-5)
    assert metrics.relative_gap(0.0, 0.1) is None


def test_amplitude_and_peak() -> None:
    tone = 0.7 * np.sin(2 * np.pi * 5 * T + 0.4) + 3.0
    assert metrics.amplitude_at(tone, 5.0, 1000.0) == pytest.approx(0.7, rel=1e-6)
    assert metrics.amplitude_at(tone, 1.0, 1000.0) < 1e-6
    assert metrics.peak_hz(tone, 1000.0) == pytest.approx(5.0)


def test_spectrum_check_distinguishes_wanted_from_unwanted() -> None:
    frequencies = (1.0, 3.0, 5.0, 7.0)
    clean = metrics.spectrum_check(SINE, 1, frequencies, 1000.0)
    assert clean["clean"]
    leaky = SINE + 0.2 * np.sin(2 * np.pi * 7 * T)
    found = metrics.spectrum_check(leaky, 1, frequencies, 1000.0)
    assert found["holds_wanted"]
    assert not found["clean"]
    assert found["loudest_other_hz"] == 7.0
    assert found["loudest_other_db"] == pytest.approx(20 * np.log10(0.2), abs=0.01)
    wrong = metrics.spectrum_check(SINE, 0, frequencies, 1000.0)
    assert not wrong["holds_wanted"]
    alone = metrics.spectrum_check(SINE, 0, (3.0,), 1000.0)
    assert alone["clean"]
    assert alone["loudest_other_db"] is None


def test_band_power_is_parseval() -> None:
    noise = RNG.normal(size=100_000) * 2.0 + 5.0
    assert metrics.band_power(noise, 200.0, 0.0, 100.0) == pytest.approx(4.0, rel=0.02)
    assert metrics.band_power(noise, 200.0, 20.0, 40.0) == pytest.approx(0.8, rel=0.05)
    tone = 3 * np.sin(2 * np.pi * 50.2 * np.arange(100_000) / 200)
    assert metrics.band_power(tone, 200.0, 49.0, 51.0) == pytest.approx(4.5, rel=1e-4)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 100, 9999])
@pytest.mark.parametrize("band", [(0.0, 100.0), (20.0, 60.0), (100.0, 100.0)])
def test_band_power_is_that_of_scipys_periodogram(n: int, band: tuple[float, float]) -> None:
    samples = RNG.normal(size=n) + 5.0
    frequencies, density = periodogram(samples, 200.0, window="hann")
    inside = (frequencies >= band[0]) & (frequencies <= band[1])
    power = np.sum(density[inside]) * 200.0 / n
    assert metrics.band_power(samples, 200.0, *band) == pytest.approx(power, rel=1e-12, abs=1e-28)
