"""Combs keep their phase to the tone and leave its line free; mixtures have the level drawn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import get_window

from tonesieve.signals import interference
from tonesieve.signals.interference import About, draw_comb, draw_mixture
from tonesieve.signals.scenes import Scene, draw_scene

N = 4096


def combs(freq_cycles: float, occupied: tuple[float, ...] = (), n_draws: int = 120, n: int = N):
    """Combs of amplitude 1 about a sine, and what was drawn."""
    cycles = freq_cycles * np.arange(n)
    for seed in range(n_draws):
        rng = np.random.default_rng((1, seed))
        yield draw_comb(freq_cycles, 1.0, cycles, occupied, rng=rng)


def line(signal: np.ndarray, freq_cycles: float) -> float:
    """Amplitude at a frequency; a Blackman-Harris window keeps lines 8 bins away 92 dB down."""
    window = get_window("blackmanharris", len(signal))
    carrier = np.exp(-2j * np.pi * freq_cycles * np.arange(len(signal)))
    return float(2 * abs(np.sum(window * signal * carrier)) / window.sum())


def test_every_form_is_drawn() -> None:
    drawn = [about for _, about in combs(0.03)]
    assert {about["comb_form"] for about in drawn} == {"lines", "pulses"}
    assert 0.4 < np.mean([bool(about["comb_locked"]) for about in drawn]) < 0.8
    locked = [about for about in drawn if about["comb_locked"]]
    assert {about["comb_ratio"] for about in locked} >= {1.0, 2.0, 3.0, 5.0, 9.0}
    assert 0.4 < np.mean([about["comb_ratio"] == 1 for about in locked]) < 0.75
    assert 0.4 < np.mean([about["comb_level"] == 1 for about in locked]) < 0.8


@pytest.mark.parametrize("freq_cycles", [0.0031, 0.03, 0.21, 0.43])
def test_no_comb_has_a_line_at_a_known_tone(freq_cycles: float) -> None:
    other = 2 * freq_cycles if freq_cycles < 0.2 else freq_cycles / 2
    n = 4 * N if freq_cycles < 0.01 else N
    strongest = 0.0
    for comb, _ in combs(freq_cycles, (other,), n_draws=80, n=n):
        size = np.abs(comb).max()
        strongest = max(strongest, size)
        assert line(comb, freq_cycles) < 1e-4 * size
        assert line(comb, other) < 1e-4 * size
    assert strongest > 1


def test_lines_stand_at_multiples_of_their_fundamental() -> None:
    for comb, about in combs(0.02, n_draws=60):
        if about["comb_form"] != "lines":
            continue
        sizes = [line(comb, k * float(about["comb"])) for k in range(1, 16)]
        level, decay = float(about["comb_level"]), float(about["comb_decay"])
        present = [k for k, size in enumerate(sizes) if size > 1e-3 * level]
        assert len(present) == about["n_harmonics"]
        expected = [level * decay**k for k in present]
        np.testing.assert_allclose([sizes[k] for k in present], expected, rtol=2e-3)


def locked_scenes(dynamics: str, n_scenes: int) -> list[Scene]:
    """Scenes with an aligned comb that the tone is part of, nearly without a floor."""
    found: list[Scene] = []
    for seed in range(2000):
        scene = draw_scene(
            (2, seed), 800, snr_db=160.0, noise="comb", dynamics=dynamics, freq_cycles=0.07
        )
        about = scene.about
        nuisances = {"offset", "trend", "slope", "level_step_0", "clip_quantile", "bits", "lost"}
        alone = len(scene.freq_cycles) == 1 and not nuisances & about.keys()
        crests = about["comb_form"] == "lines" and about["comb_aligned"]
        if about["comb_locked"] and crests and alone:
            found.append(scene)
        if len(found) == n_scenes:
            return found
    raise AssertionError("too few scenes")


@pytest.mark.parametrize("dynamics", ["steady", "drift"])
def test_aligned_harmonics_make_crests_with_the_tone(dynamics: str) -> None:
    """All lines have their crests where every m-th crest of the tone is, wrong name or not."""
    for scene in locked_scenes(dynamics, 5):
        phasor, number = scene.phasors[:, 0], round(float(scene.about["comb_ratio"]))
        cycles = scene.freq_cycles[0] * np.arange(len(phasor))
        cycles += np.unwrap(np.angle(phasor)) / (2 * np.pi)
        comb = (scene.samples - scene.tones[:, 0]) / np.abs(phasor[0])
        highest = max(number, 16)
        # The angle of the fundamental is known up to a whole number of cycles of the tone.
        angles = [2 * np.pi * (cycles - 0.25 + turn) / number for turn in range(number)]
        orders = np.arange(1, highest + 1)
        bases = [np.cos(np.outer(angle, orders)) for angle in angles]
        fits = [np.linalg.lstsq(basis, comb, rcond=None)[0] for basis in bases]
        best = int(np.argmax([sizes.sum() for sizes in fits]))
        sizes = fits[best]
        assert np.abs(bases[best] @ sizes - comb).max() < 1e-4
        present = np.abs(sizes) > 1e-3
        assert present.sum() == scene.about["n_harmonics"]
        assert not present[number - 1]
        decay = float(scene.about["comb_decay"]) ** (orders - 1)
        expected = float(scene.about["comb_level"]) * decay
        np.testing.assert_allclose(sizes[present], expected[present], atol=1e-4)


def test_a_narrow_train_and_its_tone_are_pulses() -> None:
    """Where the level is 1, the sum is a train of Gaussians: never below 0, and 0 in between."""
    found = 0
    for comb, about in combs(0.04):
        exact = about["comb_locked"] and about["comb_level"] == 1.0
        if about["comb_form"] != "pulses" or not exact:
            continue
        mixture = comb + np.sin(2 * np.pi * 0.04 * np.arange(N))
        sigma, ratio = float(about["pulse_sigma"]), float(about["comb_ratio"])
        assert mixture.min() > -1e-9
        assert mixture.max() > 1.5
        # Derived: a Gaussian is above half its height for 2.355 standard deviations.
        share = np.mean(mixture > np.quantile(mixture, 0.9999) / 2)
        assert share == pytest.approx(2.355 * sigma, abs=1.1 * float(about["comb"]))
        assert 0.005 <= sigma <= max(0.25 / ratio, 0.04 / ratio) + 1e-9
        found += 1
    assert found > 8


def mixtures(kind: str, freq_cycles: float, n_draws: int) -> list[tuple[np.ndarray, About]]:
    drawn = []
    for seed in range(4 * n_draws):
        rng = np.random.default_rng((3, seed))
        signal, about = draw_mixture(N, freq_cycles, 0.5, (), rng=rng)
        if about["mixture"] == kind:
            drawn.append((signal, about))
    return drawn[:n_draws]


@pytest.mark.parametrize("kind", ["speech", "music"])
@pytest.mark.parametrize("freq_cycles", [0.002, 0.03, 0.3])
def test_mixtures_have_the_level_that_was_drawn(kind: str, freq_cycles: float) -> None:
    drawn = mixtures(kind, freq_cycles, 20)
    assert len(drawn) == 20
    for signal, about in drawn:
        level = np.sqrt(np.mean(signal**2)) / 0.5
        assert level == pytest.approx(float(about["mixture_level"]), rel=1e-9)
        assert 0.3 <= level <= 30


def test_speech_has_pauses_and_its_pitch() -> None:
    quiet, pitched = [], []
    for signal, about in mixtures("speech", 0.03, 60):
        syllable = round(float(about["syllable"]))
        power = np.convolve(signal**2, np.ones(16) / 16, mode="same")
        quiet.append(np.mean(power < 1e-3 * power.max()))
        if float(about["intonation"]) < 0.06 and syllable > 200:
            spectrum = np.abs(np.fft.rfft(signal**2 * np.hanning(N))) ** 2
            pitch = float(about["pitch"])
            near = np.abs(np.fft.rfftfreq(N) / pitch - 1) < 0.15
            beside = np.abs(np.fft.rfftfreq(N) / pitch - 1.5) < 0.15
            pitched.append(spectrum[near].sum() / spectrum[beside].sum())
    assert 0.05 < np.mean(quiet) < 0.6
    assert len(pitched) > 3
    assert np.median(pitched) > 5


def test_glottal_pulses_stand_where_the_phase_is_whole() -> None:
    rng, same = np.random.default_rng(4), np.random.default_rng(4)
    pulses = interference._glottal_pulses(np.full(1000, 0.0137), rng)
    start = same.random()
    times = (np.arange(1, 14) - start) / 0.0137 - 1  # the phase is a sum up to the sample itself
    for time in times[(times > 1) & (times < 998)]:
        about = np.arange(int(time) - 1, int(time) + 4)
        assert pulses[about].sum() == pytest.approx(1.0)
        assert pulses[about] @ about == pytest.approx(time, abs=1e-6)


def test_a_formant_passes_its_centre() -> None:
    n = np.arange(8000)
    for freq_cycles, width in ((0.02, 0.002), (0.2, 0.02)):
        sizes = [
            np.std(interference._resonate(np.sin(2 * np.pi * f * n), freq_cycles, width)[4000:])
            for f in (freq_cycles, freq_cycles + width / 2, freq_cycles + 10 * width)
        ]  # fmt: skip
        assert np.array(sizes) * 2**0.5 == pytest.approx([1.0, 2**-0.5, 0.05], abs=0.04)


def test_notes_leave_out_partials_near_known_tones() -> None:
    time = np.arange(4000.0)
    draws = (4000.0, 0.0503, 3, 1.0)
    free, kept = (
        interference._note(time, *draws, tones, np.random.default_rng(5))
        for tones in ((0.2,), (0.1, 0.3))
    )
    assert line(kept, 0.1006) < 1e-3 * line(free, 0.1006)  # 0.6% from a tone
    assert line(kept, 0.0503) == pytest.approx(line(free, 0.0503), rel=1e-6)
    assert line(kept, 0.1509) == pytest.approx(line(free, 0.1509), rel=1e-3)


def test_music_is_made_of_notes_about_the_tone() -> None:
    for freq_cycles in (0.002, 0.03, 0.3):
        for _, about in mixtures("music", freq_cycles, 30):
            base = float(about["scale_freq"])
            assert 0.2 <= base / freq_cycles <= 4.0 or base == 0.2
            assert 1 <= float(about["n_notes"]) <= 2 * 24
