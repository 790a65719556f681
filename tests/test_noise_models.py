"""Every noise has the level that it states: its floor at the tone, the rest over the tone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import welch

from tonesieve.signals.noise_models import BANDS, NOISES, draw_noise

# Kinds with a part that is relative to the tone.
RELATIVE = ("lines", "comb", "pulses", "transients", "mixture")


def density_at(noise: np.ndarray, freq_cycles: float, n_bins: int = 4096) -> float:
    """Welch's estimate, interpolated: 1 for white noise of variance 1."""
    f, density = welch(noise, window="blackmanharris", nperseg=n_bins, detrend=False)
    return float(np.exp(np.interp(freq_cycles, f, np.log(density)))) / 2


@pytest.mark.parametrize("noise", [kind for kind in NOISES if kind != "impulses"])
@pytest.mark.parametrize("freq_cycles", [0.03, 0.21, 0.45])
def test_the_floor_is_1_at_the_tone(noise: str, freq_cycles: float) -> None:
    """About a tone that is far weaker than the floor, which alone is left.

    The mean of 12 records of 31 segments scatters by 5% or less.
    """
    found = []
    for seed in range(12):
        rng = np.random.default_rng((1, seed))
        drawn, _ = draw_noise(noise, 2**16, freq_cycles, tone_power=1e-7, rng=rng)
        found.append(density_at(drawn, freq_cycles))
    assert np.mean(found) == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("freq_cycles", [0.02, 0.1])
def test_low_passed_noise_is_weaker_elsewhere_by_what_was_drawn(freq_cycles: float) -> None:
    checked, forms = 0, set()
    for seed in range(60):
        rng = np.random.default_rng((2, seed))
        noise, about = draw_noise("low-passed", 2**15, freq_cycles, tone_power=1.0, rng=rng)
        forms.add(about["band"])
        stop_db = float(about["stop_db"])
        assert 20.0 <= stop_db <= 100.0
        assert about["steepness"] == 1.0  # a power of 90 dB is far away
        if about["band"] == "resonance":
            ratio = float(about["resonance"]) / freq_cycles
            assert 0.7 <= ratio <= 1.4
            continue
        upper, order = float(about["upper_edge"]) / freq_cycles, float(about["order"])
        assert 1.1 <= upper <= 4.0
        # A Butterworth edge falls by 6.02 dB an octave and order.
        far = min(0.49, 8 * upper * freq_cycles)
        fall_db = 20 * order * np.log10(far / freq_cycles / upper)
        at_tone = 10 * np.log10(1 + upper ** (-2 * order))
        if fall_db < stop_db + 15:
            continue
        found = 10 * np.log10(density_at(noise, far, 1024) / density_at(noise, freq_cycles, 2048))
        # A Blackman-Harris window's own side lobes are 92 dB down.
        assert found == pytest.approx(-min(stop_db, 92) + at_tone, abs=4.0)
        checked += 1
    assert checked > 10
    assert forms == set(BANDS)


def test_a_band_pass_is_also_weaker_below() -> None:
    checked = 0
    for seed in range(60):
        rng = np.random.default_rng((3, seed))
        noise, about = draw_noise("low-passed", 2**15, 0.1, tone_power=1.0, rng=rng)
        if about["band"] != "band-pass" or float(about["lower_edge"]) < 0.03:
            continue
        assert 0.1 <= float(about["lower_edge"]) / 0.1 <= 0.9
        below = density_at(noise, float(about["lower_edge"]) / 5) / density_at(noise, 0.1)
        assert 10 * np.log10(below) < -17.0
        checked += 1
    assert checked > 3


def test_a_resonance_peaks_where_it_was_drawn_and_is_1_at_the_tone() -> None:
    at_tone = []
    for seed in range(120):
        rng = np.random.default_rng((4, seed))
        noise, about = draw_noise("low-passed", 2**14, 0.1, tone_power=1.0, rng=rng)
        if about["band"] == "resonance" and float(about["quality"]) > 3:
            f, density = welch(noise, nperseg=1024)
            assert f[np.argmax(density)] == pytest.approx(float(about["resonance"]), rel=0.12)
            at_tone.append(density_at(noise, 0.1))
    assert len(at_tone) > 5
    # Seven segments scatter by half of it in each, and the slope adds to some.
    assert 0.5 < np.exp(np.mean(np.log(at_tone))) < 1.8


@pytest.mark.parametrize("noise", RELATIVE)
def test_what_is_not_the_floor_grows_with_the_tone(noise: str) -> None:
    for seed in range(12):
        # Four and sixteen times the power: twice and four times the amplitude.
        one, two, four = (
            draw_noise(noise, 2000, 0.07, tone_power=p, rng=np.random.default_rng((5, seed)))[0]
            for p in (1.0, 4.0, 16.0)
        )
        size = np.abs(four).max()
        assert np.abs(four - two).max() > 0
        np.testing.assert_allclose((four - two) / size, 2 * (two - one) / size, atol=1e-12)


@pytest.mark.parametrize("noise", NOISES)
def test_the_same_generator_gives_the_same_noise(noise: str) -> None:
    first, same, other = (
        draw_noise(noise, 3000, 0.07, tone_power=2.0, rng=np.random.default_rng((6, seed)))
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first[0], same[0])
    assert first[1] == same[1]
    assert not np.array_equal(first[0], other[0])


def test_noise_follows_a_bound_of_its_power() -> None:
    """A weak tone within a strong resonance: less steep until 90 dB over the tone is enough."""
    bounded = 0
    for seed in range(80):
        rng = np.random.default_rng((7, seed))
        noise, about = draw_noise("low-passed", 2**14, 0.1, tone_power=1e-7, rng=rng)
        assert np.mean(noise**2) < 1e-7 * 10**9.6
        bounded += float(about["steepness"]) < 1
    assert bounded > 0
