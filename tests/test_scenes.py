"""The family of scenes: its labels agree with its samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import get_window

from tonesieve.errors import UserError
from tonesieve.signals import nuisances
from tonesieve.signals.dynamics import DYNAMICS
from tonesieve.signals.noise_models import MAX_NOISE_DB, NOISES, place_line
from tonesieve.signals.nuisances import add_nuisances
from tonesieve.signals.scenes import MAX_SAMPLES, MIN_STEPS, SNR_DB, Scene, draw_scene

SEEDS = st.integers(0, 2**32 - 1)


def noise_of(scene: Scene) -> np.ndarray:
    """The mixture without the tones."""
    return scene.samples - scene.tones.sum(axis=1)


def density(noise: np.ndarray, freq_cycles: float) -> float:
    """Power density about a frequency: 1 for white noise of variance 1, on average."""
    window = get_window("blackmanharris", len(noise))
    power = np.abs(np.fft.rfft(noise * window)) ** 2 / np.sum(window**2)
    middle = round(freq_cycles * len(noise))
    return float(power[middle - 8 : middle + 9].mean())


def test_the_same_seed_is_the_same_scene() -> None:
    first, same, other = (draw_scene(seed, 500) for seed in ((7, 3), (7, 3), (7, 4)))
    assert first.about == same.about
    np.testing.assert_array_equal(first.samples, same.samples)
    np.testing.assert_array_equal(first.phasors, same.phasors)
    assert first.freq_cycles != other.freq_cycles


def test_what_is_given_leaves_the_rest_as_drawn() -> None:
    drawn = draw_scene(5, 500)
    given_db = draw_scene(5, 500, snr_db=3.0)
    assert (drawn.freq_cycles, drawn.dynamics, drawn.noise) == (
        given_db.freq_cycles, given_db.dynamics, given_db.noise
    )  # fmt: skip


@given(SEEDS, st.sampled_from(DYNAMICS), st.sampled_from(NOISES), st.floats(-15.0, 30.0))
@settings(max_examples=60)
def test_labels_agree_with_the_samples(seed: int, dynamics: str, noise: str, snr_db: float) -> None:
    scene = draw_scene((1, seed), 300, snr_db=snr_db, dynamics=dynamics, noise=noise)
    assert (scene.dynamics, scene.noise, scene.snr_db) == (dynamics, noise, snr_db)
    assert scene.phasors.shape == (len(scene.samples), len(scene.freq_cycles))
    assert len(scene.samples) == min(round(300 * scene.step), MAX_SAMPLES)
    assert all(0 < f < 0.5 for f in scene.freq_cycles)
    assert np.isfinite(scene.phasors).all()
    assert scene.noise_variance > 0
    assert np.isfinite(scene.samples).any()
    # Gaps are NaN, and nothing else is.
    assert np.isnan(scene.samples).mean() == scene.about.get("lost", 0.0)
    # The label is the ratio of what the truth and the noise have.
    if dynamics != "bursts":
        power = np.mean(np.abs(scene.phasors[:, 0]) ** 2) / 2
        ratio = power / (scene.noise_variance / scene.step)
        assert 10 * np.log10(ratio) == pytest.approx(snr_db, abs=1e-6)


@given(SEEDS)
@settings(max_examples=30)
def test_what_is_drawn_is_within_bounds(seed: int) -> None:
    scene = draw_scene(seed, 64)
    assert SNR_DB[0] <= scene.snr_db <= SNR_DB[1]
    assert scene.dynamics in DYNAMICS
    assert scene.noise in NOISES


@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("noise", NOISES)
def test_the_shortest_scenes_are_whole(dynamics: str, noise: str) -> None:
    """Two periods: four steps of the fastest tones, 32 of slow ones."""
    for seed in range(12):
        for n_steps, freq_cycles in ((MIN_STEPS, 0.49), (MIN_STEPS, None), (32, 0.002)):
            scene = draw_scene(
                (13, seed), n_steps, dynamics=dynamics, noise=noise, freq_cycles=freq_cycles
            )
            assert len(scene.samples) == round(n_steps * scene.step)
            assert np.isfinite(scene.samples).any()
            assert np.isnan(scene.samples).mean() == scene.about.get("lost", 0.0)
            assert np.isfinite(scene.phasors).all()
            assert np.abs(scene.phasors[:, 0]).max() > 0


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("dynamics", ["rhythm", "drift"])
def test_all_is_times_the_scale(dynamics: str, noise: str) -> None:
    """Its logarithm is uniform over 12 decades, and no other label depends on it."""
    for seed in range(8):
        scene = draw_scene((14, seed), 300, dynamics=dynamics, noise=noise)
        scale = float(scene.about["scale"])
        assert 1e-6 <= scale <= 1e6
        assert scene.noise_variance == pytest.approx(scale**2)
        power = np.mean(np.abs(scene.phasors[:, 0] / scale) ** 2) / 2
        assert power == pytest.approx(10 ** (scene.snr_db / 10) / scene.step, rel=1e-6)


def test_every_label_is_drawn() -> None:
    scenes = [draw_scene((2, n), 16) for n in range(250)]
    assert {scene.dynamics for scene in scenes} == set(DYNAMICS)
    assert {scene.noise for scene in scenes} == set(NOISES)
    assert {len(scene.freq_cycles) for scene in scenes} == {1, 2, 3, 4}
    for nuisance in ("offset", "trend", "slope", "level_step_0", "clip_quantile", "bits", "lost"):
        assert any(nuisance in scene.about for scene in scenes)


def test_ramps_and_level_steps_are_what_was_drawn() -> None:
    """Added to next to nothing, so that all that depends on its rms is next to nothing too."""
    n, amplitude, freq_cycles = 500, 3.0, 0.04
    slopes, heights = [], []
    for seed in range(400):
        rng = np.random.default_rng((15, seed))
        nothing = 1e-9 * rng.standard_normal(n)
        samples, about = add_nuisances(nothing, 1.0, freq_cycles, amplitude, rng=rng)
        if about.keys() & {"clip_quantile", "bits"}:
            continue
        expected = np.arange(n) * float(about.get("slope", 0.0))
        for key in [key for key in about if key.endswith("_start")]:
            height, start = float(about[key.removesuffix("_start")]), int(about[key])
            expected += np.where(np.arange(n) < start, 0.0, height)
            heights.append(abs(height) / amplitude)
        if "slope" in about:
            slopes.append(abs(float(about["slope"])) / freq_cycles / amplitude)
        kept = np.isfinite(samples)
        np.testing.assert_allclose(samples[kept], expected[kept], atol=1e-5)
    assert 30 < len(slopes) < 100
    assert 0.1 <= min(slopes) < 0.3
    assert 30 < max(slopes) <= 100
    assert 0.5 <= min(heights) < 1
    assert 50 < max(heights) <= 100


@pytest.mark.parametrize("noise", ["white", "red"])
@pytest.mark.parametrize("freq_cycles", [0.2, 0.03])
def test_the_snr_is_that_of_the_label(noise: str, freq_cycles: float) -> None:
    # A mean over 17 bins and 80 scenes scatters by about 4%, and a slope bends it by 2% more.
    ratios = []
    for seed in range(80):
        scene = draw_scene(
            (3, seed), 4096, noise=noise, freq_cycles=freq_cycles, plain=True, dynamics="steady"
        )
        ratios.append(density(noise_of(scene), freq_cycles) / scene.noise_variance)
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.15)


def test_full_bursts_have_the_power_of_the_label() -> None:
    scene = draw_scene(1, 4096, dynamics="bursts", snr_db=10.0, freq_cycles=0.2, plain=True)
    power = np.abs(scene.phasors[:, 0]).max() ** 2 / 2
    assert power / scene.noise_variance == pytest.approx(10.0, rel=1e-6)
    assert 0 < np.mean(np.abs(scene.phasors[:, 0]) > 0) < 1


def test_tones_are_phasors_on_their_carriers() -> None:
    scene = next(s for s in (draw_scene((4, n), 400) for n in range(100)) if len(s.freq_cycles) > 2)
    n = np.arange(len(scene.samples))
    for k, freq_cycles in enumerate(scene.freq_cycles):
        carrier = np.exp(2j * np.pi * freq_cycles * n)
        expected = np.imag(scene.phasors[:, k] * carrier)
        size = np.abs(scene.phasors[:, k]).max()
        np.testing.assert_allclose(scene.tones[:, k] / size, expected / size, atol=1e-8)


def test_a_clean_scene_is_its_tone() -> None:
    scene = draw_scene(6, 1000, snr_db=200.0, noise="white", dynamics="fades", plain=True)
    assert len(scene.freq_cycles) == 1
    size = np.abs(scene.tones).max()
    np.testing.assert_allclose(scene.samples / size, scene.tones[:, 0] / size, atol=1e-8)


@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_walk_variance_is_that_of_the_increments(dynamics: str) -> None:
    seeds = range(40)
    scenes = [draw_scene((8, n), 800, dynamics=dynamics, freq_cycles=0.15) for n in seeds]
    exact = [scene for scene in scenes if scene.about["detuning"] == "none"]
    if dynamics in ("steady", "drift"):
        assert all(scene.walk_variance == 0 for scene in scenes)
    if dynamics == "drift":
        assert not exact
        return
    assert 5 < len(exact) < 40
    for scene in exact:
        increments = np.abs(np.diff(scene.phasors[:, 0])) ** 2
        expected = np.mean(increments) / 2
        assert scene.walk_variance == pytest.approx(expected, rel=1e-6, abs=1e-30)


def test_a_detuned_phasor_rotates_by_what_was_drawn() -> None:
    scenes = [draw_scene((9, n), 2000, dynamics="drift", freq_cycles=0.02) for n in range(60)]
    for scene in scenes:
        angles = np.diff(np.unwrap(np.angle(scene.phasors[:, 0]))) / (2 * np.pi)
        excursion = float(scene.about["excursion"])
        assert np.abs(angles).max() * scene.step <= excursion * (1 + 1e-6)
    assert {scene.about["detuning"] for scene in scenes} >= {"offset", "ramp", "wander"}


def test_noise_stays_within_its_bounds() -> None:
    # The bound is on the mean; a record of few slow swings may exceed it by some dB.
    over = []
    for seed in range(150):
        scene = draw_scene((10, seed), 1000, noise="red", plain=True, dynamics="steady")
        tone = np.mean(np.abs(scene.phasors[:, 0]) ** 2) / 2
        over.append(10 * np.log10(np.mean(noise_of(scene) ** 2) / tone))
    assert max(over) < MAX_NOISE_DB + 6
    assert max(over) > 50
    assert np.mean(np.array(over) > MAX_NOISE_DB) < 0.1


def test_gaps_are_lost_samples() -> None:
    scenes = [draw_scene((11, n), 400) for n in range(60)]
    gapped = [scene for scene in scenes if "lost" in scene.about]
    assert 2 < len(gapped) < 25
    for scene in gapped:
        assert 0 < np.isnan(scene.samples).mean() < 0.7


def test_lines_keep_their_distance() -> None:
    rng = np.random.default_rng(0)
    drawn = [place_line(0.1, 4096, [0.1, 0.2], harmonic=n % 2 == 0, rng=rng) for n in range(300)]
    placed = np.array([place for place in drawn if place is not None])
    assert len(placed) > 250
    assert np.abs(placed - 0.1).min() >= 0.002
    assert np.abs(placed - 0.2).min() >= 0.002


def test_gaps_leave_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nuisances, "LOST", 1.0)
    monkeypatch.setattr(nuisances, "GAPS", 1.0)
    for seed in range(100):
        rng = np.random.default_rng((16, seed))
        samples, about = add_nuisances(np.ones(4) + np.arange(4), 1.0, 0.1, 1.0, rng=rng)
        assert np.isfinite(samples).any()
        assert about["lost"] == np.isnan(samples).mean()


def test_plain_scenes_have_nothing_else() -> None:
    for seed in range(50):
        scene = draw_scene((12, seed), 64, plain=True)
        assert len(scene.freq_cycles) == 1
        assert scene.dynamics != "drift"
        assert scene.noise in {"white", "red", "lines"}
        assert np.isfinite(scene.samples).all()
        assert not scene.about.keys() & {
            "offset",
            "trend",
            "slope",
            "clip_quantile",
            "bits",
            "detuning",
        }


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_steps": 3}, "n_steps 3: must be 4"),
        ({"dynamics": "jumps"}, "dynamics jumps: must be one of steady"),
        ({"noise": "pink"}, "noise pink: must be one of white"),
        ({"freq_cycles": 0.5}, "freq_cycles 0.5: must lie between"),
        ({"plain": True, "dynamics": "drift"}, "plain: there is no plain drift"),
        ({"plain": True, "noise": "comb"}, "plain: there are no plain scenes with comb noise"),
    ],
)
def test_unknown_words_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        draw_scene(1, **{"n_steps": 100, **wrong})
