"""Rhythms have the bandwidth that was drawn; nominal frequencies are off by what was drawn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import freqz

from tonesieve.signals.dynamics import DYNAMICS, draw_detuning, draw_envelope, low_pass_pole
from tonesieve.signals.scenes import draw_scene


@pytest.mark.parametrize("n_poles", [1, 2])
@pytest.mark.parametrize("width", [1e-5, 0.003, 0.049])
def test_the_low_pass_is_3_db_down_at_half_its_width(width: float, n_poles: int) -> None:
    pole = low_pass_pole(width, n_poles)
    assert 0 < pole < 1
    _, gains = freqz([1.0], np.poly([pole] * n_poles), worN=[0.0, np.pi * width])
    assert np.abs(gains[1] / gains[0]) ** 2 == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize("n_poles", [1, 2])
def test_a_rhythm_has_the_autocorrelation_of_its_poles(n_poles: int) -> None:
    """One pole: exp(-pi B t). Two: exp(-c t) (1 + c t), with c = pi B / sqrt(sqrt(2) - 1)."""
    lags, found = np.array([0.1, 0.2, 0.4]), []
    for seed in range(60):
        rng = np.random.default_rng((1, seed))
        envelope, about = draw_envelope("rhythm", 60000, 0.2, 1.0, rng=rng)
        width = float(about["rhythm_width"])
        assert 0.005 <= width / 0.2 <= 0.1
        if about["rhythm_poles"] != n_poles:
            continue
        assert np.mean(np.abs(envelope) ** 2) == pytest.approx(1.0)
        shifts = np.round(lags / width).astype(int)
        parts = [np.mean(envelope[k:] * envelope[:-k].conj()).real for k in shifts]
        decays = np.pi * width * shifts / (1.0 if n_poles == 1 else np.sqrt(np.sqrt(2) - 1))
        expected = np.exp(-decays) * (1.0 if n_poles == 1 else 1 + decays)
        found.append(np.array(parts) / expected)
    assert len(found) > 15
    np.testing.assert_allclose(np.mean(found, axis=0), 1.0, atol=0.1)


def test_a_rhythm_is_complex_gaussian() -> None:
    """Its squared modulus is exponential: mean of its square twice the square of its mean."""
    moments, quadrature = [], []
    for seed in range(40):
        rng = np.random.default_rng((2, seed))
        envelope, _ = draw_envelope("rhythm", 60000, 0.3, 1.0, rng=rng)
        power = np.abs(envelope) ** 2
        moments.append(np.mean(power**2))
        quadrature.append(np.mean(envelope.real**2))
    assert np.mean(moments) == pytest.approx(2.0, abs=0.15)
    assert np.mean(quadrature) == pytest.approx(0.5, abs=0.05)


def test_a_rhythm_is_stationary_from_its_first_sample_on() -> None:
    first, middle, last = [], [], []
    for seed in range(1500):
        rng = np.random.default_rng((3, seed))
        envelope, _ = draw_envelope("rhythm", 400, 0.1, 1.0, rng=rng)
        first.append(np.abs(envelope[0]) ** 2)
        middle.append(np.abs(envelope[200]) ** 2)
        last.append(np.abs(envelope[-1]) ** 2)
    assert np.mean(first) == pytest.approx(np.mean(last), rel=0.12)
    assert np.mean(first) == pytest.approx(np.mean(middle), rel=0.12)


def test_rhythms_of_slow_tones_are_as_broad_in_periods() -> None:
    widths = [
        draw_envelope("rhythm", 8, f, 1.0, rng=np.random.default_rng((4, seed)))[1]["rhythm_width"]
        for f in (0.0005, 0.3)
        for seed in range(200)
    ]
    slow, fast = np.array(widths[:200]) / 0.0005, np.array(widths[200:]) / 0.3
    np.testing.assert_allclose(slow, fast, rtol=1e-9)
    assert np.median(np.log(fast)) == pytest.approx(np.log(np.sqrt(0.005 * 0.1)), abs=0.4)


@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_nominal_frequencies_are_seldom_exact(dynamics: str) -> None:
    deviations = []
    for seed in range(600):
        rng = np.random.default_rng((5, seed))
        deviation, about = draw_detuning(dynamics, 50, 2.0, 0.03, rng=rng)
        deviations.append(0.0 if deviation is None else float(np.abs(deviation).max()))
        assert deviations[-1] * 2.0 == pytest.approx(float(about["excursion"]))
    ratio = np.array(deviations) / 0.03
    share = {"steady": 0.5, "drift": 1.0}.get(dynamics, 0.6)
    assert np.mean(ratio > 0) == pytest.approx(share, abs=0.07)
    assert ratio.max() <= (0.03 if dynamics == "drift" else 0.02) * (1 + 1e-9)
    if dynamics == "steady":
        wrong = ratio[ratio > 0]
        assert wrong.min() >= 1e-4
        assert wrong.max() <= 0.015
        assert np.median(np.log(wrong)) == pytest.approx(np.log(np.sqrt(1e-4 * 0.015)), abs=0.5)


def test_a_steady_tone_of_another_frequency_turns() -> None:
    signs = set()
    for seed in range(40):
        scene = draw_scene((6, seed), 400, dynamics="steady", freq_cycles=0.07)
        turns = np.angle(scene.phasors[1:, 0] / scene.phasors[:-1, 0]) / (2 * np.pi)
        excursion = float(scene.about["excursion"]) / scene.step
        np.testing.assert_allclose(np.abs(turns), excursion, atol=1e-12)
        signs.add(np.sign(turns[0].round(12)))
        np.testing.assert_allclose(np.abs(scene.phasors[:, 0] / scene.phasors[0, 0]), 1.0)
    assert signs == {-1.0, 0.0, 1.0}


def test_a_plain_tone_keeps_its_nominal_frequency() -> None:
    for seed in range(40):
        scene = draw_scene((7, seed), 100, dynamics="steady", plain=True)
        assert np.ptp(scene.phasors[:, 0].real) == np.ptp(scene.phasors[:, 0].imag) == 0


def test_fades_reach_zero_and_are_as_fast_as_drawn() -> None:
    depths, times = [], []
    for seed in range(300):
        rng = np.random.default_rng((8, seed))
        _, about = draw_envelope("fades", 50, 0.1, 1.0, rng=rng)
        depths.append(float(about["depth"]))
        times.append(float(about["fade_time"]))
    assert max(depths) > 0.99
    assert min(depths) >= 0.3
    assert 20 <= min(times) < 25
