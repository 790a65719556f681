"""From a recording to a background: tones out, noise as it was, parts that do not overlap."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import periodogram

import tonesieve
from tests.recordings import AMPLITUDE, RATE_HZ, TONE_HZ, hum, write_csv
from tonesieve.commands.train_on_recording import prepare
from tonesieve.config.config import make_config
from tonesieve.errors import UserError
from tonesieve.evaluation.metrics import band_rms
from tonesieve.signals.backgrounds import (
    PARTS,
    Background,
    draw_phasors,
    draw_segments,
    load_background,
    modulate_noise,
    save_background,
    split_parts,
)
from tonesieve.signals.synthesis import draw_records
from tonesieve.signals.tone_removal import find_tone, fit_tones, remove_tones
from tonesieve.signals.whitening import burg_whitening

N = 20_000


def noise_and_tone(amplitude: float, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    noise = np.random.default_rng(seed).standard_normal(N)
    tone = amplitude * np.sin(2 * np.pi * TONE_HZ / RATE_HZ * np.arange(N) + 0.7)
    return noise, tone


def test_a_tone_is_found_where_it_is() -> None:
    noise, tone = noise_and_tone(1.0)
    frequency, detected = find_tone(noise + tone, RATE_HZ, 10.0, [])
    assert detected
    assert frequency == pytest.approx(TONE_HZ, abs=0.1 * RATE_HZ / N)
    assert find_tone(noise, RATE_HZ, 10.0, []) == (10.0, False)


def test_removal_takes_the_tone_and_leaves_the_noise() -> None:
    noise, tone = noise_and_tone(5.0)
    removal = remove_tones(noise + tone + 3.0, RATE_HZ, [10.0])
    assert removal.amplitudes()[0] == pytest.approx(5.0, rel=0.01)
    assert np.var(removal.background) == pytest.approx(np.var(noise), rel=0.01)


def test_a_filled_notch_has_the_power_of_its_surroundings() -> None:
    # Over twelve draws, in bands of two inverse windows: white noise has 2 / rate a hertz. Half of
    # it is the least that noise and filling, which do not correlate, come to where both are halved.
    powers = []
    for seed in range(12):
        noise, tone = noise_and_tone(5.0, seed)
        removal = remove_tones(noise + tone, RATE_HZ, [10.0])
        width = RATE_HZ / removal.window
        middles = TONE_HZ + width * np.array([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0])
        bands = [(f - width, f + width) for f in middles]
        expected = 2 * width * 2 / RATE_HZ
        powers.append([band_rms(removal.background, RATE_HZ, b) ** 2 / expected for b in bands])
    power = np.mean(powers, axis=0)
    assert power.min() > 0.5
    assert power.max() < 1.6


def test_an_unfilled_notch_would_be_deep() -> None:
    # What the filling is for: least squares alone leave next to nothing at the tone.
    noise, tone = noise_and_tone(5.0)
    fit = fit_tones(noise + tone, np.ones(N, bool), RATE_HZ, [TONE_HZ], 2000)
    residual = noise + tone - fit.tones[:, 0]
    band = (TONE_HZ - 0.01, TONE_HZ + 0.01)
    assert band_rms(residual, RATE_HZ, band) < 0.3 * band_rms(noise, RATE_HZ, band)


def test_removal_follows_a_tone_that_wanders() -> None:
    samples = hum(N)
    removal = remove_tones(samples, RATE_HZ, [10.0])
    frequencies, power = periodogram(removal.background, RATE_HZ, window="hann")
    near = np.abs(frequencies - TONE_HZ) < 0.1
    around = (np.abs(frequencies - TONE_HZ) < 1.0) & ~near
    # Less than 1% of the tone's power is left above the noise.
    left = (power[near].mean() - power[around].mean()) * near.sum() * frequencies[1]
    assert left < 0.01 * AMPLITUDE**2 / 2
    assert removal.amplitudes()[0] == pytest.approx(AMPLITUDE, rel=0.05)
    # 0.3 rad over 40 s: 0.3 / 40 Hz at most, 0.0053 on average; windows blunt it.
    assert 0.001 < removal.wander_hz(RATE_HZ)[0] < 0.01


def test_close_tones_are_separated_and_gaps_stay() -> None:
    noise, tone = noise_and_tone(3.0)
    other = 2.0 * np.cos(2 * np.pi * 10.2 / RATE_HZ * np.arange(N))
    samples = noise + tone + other
    samples[500:600] = np.nan
    removal = remove_tones(samples, RATE_HZ, [TONE_HZ, 10.2])
    np.testing.assert_allclose(removal.amplitudes(), [3.0, 2.0], rtol=0.05)
    assert np.isnan(removal.background[500:600]).all()
    assert np.isfinite(removal.background).sum() == N - 100


def test_whitening_makes_white() -> None:
    noise = hum(N, amplitude=0.0)
    coefficients = burg_whitening(noise)
    assert coefficients[0] == pytest.approx(-0.6, abs=0.03)
    white = np.convolve(noise - noise.mean(), [1.0, *coefficients], mode="valid")
    assert np.var(white) == pytest.approx(1.0, rel=0.03)
    lag = np.corrcoef(white[1:], white[:-1])[0, 1]
    assert abs(lag) < 4 / np.sqrt(N)


@given(st.integers(200, 100_000), st.floats(0, 0.05))
def test_parts_do_not_overlap(n: int, fraction: float) -> None:
    guard = int(fraction * n)
    parts = split_parts(n, guard)
    assert list(parts) == list(PARTS)
    bounds = [parts[name] for name in PARTS]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == n
    for (_, end), (start, _) in pairwise(bounds):
        assert start - end == guard
    assert all(end > start for start, end in bounds)


def counted(n: int = 1000) -> Background:
    """Samples that count from 0."""
    return Background(np.arange(n, dtype=float), 10.0, 1.0, split_parts(n, 20))


@pytest.mark.parametrize("part", PARTS)
def test_segments_come_from_their_part_alone(part: str) -> None:
    background = counted()
    low, high = background.parts[part]
    drawn = draw_segments(background, part, 200, 50, rng=np.random.default_rng(1))
    np.testing.assert_allclose(drawn.mean(axis=1), 0, atol=1e-9)
    steps = np.diff(drawn)
    np.testing.assert_allclose(steps, steps[:, :1] * np.ones(49), atol=1e-9)  # contiguous
    plain = np.abs(np.abs(steps[:, 0]) - 1) < 1e-9  # forwards or backwards; the others are of two
    assert {1.0, -1.0} == set(np.round(steps[plain, 0], 9))
    assert 0.4 < plain.mean() < 0.6 if part == "train" else plain.all()
    with pytest.raises(UserError, match=f"{high - low} samples to {part} on"):
        draw_segments(background, part, 1, high - low + 1, rng=np.random.default_rng(1))


def test_a_background_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "b.npz"
    save_background(counted(), path)
    back = load_background(path)
    np.testing.assert_array_equal(back.samples, counted().samples)
    assert back.parts == counted().parts
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="not a background"):
        load_background(path)
    with pytest.raises(UserError, match="no such file"):
        load_background(tmp_path / "none.npz")


def drawing(tmp_path: Path, **background: object) -> tonesieve.Config:
    path = tmp_path / "b.npz"
    noise = np.random.default_rng(5).standard_normal(4000)
    save_background(Background(noise, 100.0, 7.0, split_parts(4000, 50)), path)
    given = {"file": str(path), "wander_hz": [1e-6, 1e-6], "fading": [1e-6, 1e-6], **background}
    data = {"frequencies_hz": [3.0, 11.0], "rate_hz": 100.0, "duration_s": 5.0, "regime": "free",
            "noise": "fresh", "background": given}  # fmt: skip
    return make_config({"data": data, "model": {"kind": "bank", "selector": "readout"}})


def test_records_are_noise_and_the_tones_mean(tmp_path: Path) -> None:
    data = drawing(tmp_path, tone_range=[0.5, 2.0]).data
    records = draw_records(data, 30, 500, rng=np.random.default_rng(2))
    noise = records.mixture - records.targets.mean(axis=2)
    assert np.var(noise) == pytest.approx(1.0, rel=0.1)
    # Steady tones: amplitude in the mixture within the range, their logarithm evenly in it.
    amplitudes = np.sqrt(2 * np.mean(records.targets**2, axis=1)) / 2
    assert 0.49 < amplitudes.min() < 0.7
    assert 1.4 < amplitudes.max() < 2.05
    assert np.log(amplitudes).mean() == pytest.approx(0.0, abs=0.2)


def test_the_sum_of_two_segments_keeps_the_power(tmp_path: Path) -> None:
    noise = np.random.default_rng(5).standard_normal(4000)
    background = Background(noise, 100.0, 1.0, split_parts(4000, 50))
    drawn = draw_segments(background, "train", 400, 200, rng=np.random.default_rng(6))
    assert np.var(drawn) == pytest.approx(1.0, rel=0.05)
    gappy = Background(np.where(np.arange(4000) == 100, np.nan, noise), 100.0, 1.0,
                       split_parts(4000, 50))  # fmt: skip
    drawn = draw_segments(gappy, "train", 400, 200, rng=np.random.default_rng(6))
    assert 0 < np.isnan(drawn).any(axis=1).mean() < 0.5


def test_noise_is_modulated_around_the_tones_alone() -> None:
    rng = np.random.default_rng(7)
    noise = rng.standard_normal((40, 2000))
    noise[3, 100:200] = np.nan
    changed = modulate_noise(noise, [10.0], 100.0, 6.0, rng=rng)
    np.testing.assert_array_equal(np.isnan(changed), np.isnan(noise))
    whole = np.delete(np.arange(40), 3)
    power = [np.abs(np.fft.rfft(x[whole], axis=1)) ** 2 for x in (noise, changed)]
    db = 10 * np.log10(power[1] / power[0])
    f = np.fft.rfftfreq(2000, 0.01)
    at_tone = db[:, np.abs(f - 10) < 0.02].ravel()
    assert 4 < at_tone.max() <= 6
    assert -6 <= at_tone.min() < -4
    assert np.abs(db[:, (f > 0) & (f < 2.5)]).max() < 0.1  # two octaves away


def test_phasors_have_the_deviations_of_the_settings(tmp_path: Path) -> None:
    settings = drawing(
        tmp_path, wander_hz=[0.2, 0.2], fading=[0.3, 0.3], change_s=[0.5, 0.5]
    ).data.background
    assert settings is not None
    phasors = draw_phasors(settings, 100.0, (50, 2000, 2), rng=np.random.default_rng(3))
    hz = np.angle(phasors[:, 1:] * phasors[:, :-1].conj()) * 100.0 / (2 * np.pi)
    assert np.std(hz) == pytest.approx(0.2, rel=0.05)
    assert np.std(np.log(np.abs(phasors))) == pytest.approx(0.3, rel=0.05)
    lag = np.mean(hz[:, 50:] * hz[:, :-50]) / np.mean(hz**2)
    assert lag == pytest.approx(np.exp(-1), abs=0.08)


def test_a_recording_is_understood(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "hum.csv", 1000 * hum(8000))
    own = prepare(path, [10.0])
    data = own.config.data
    assert data.rate_hz == RATE_HZ
    assert data.frequencies_hz[0] == pytest.approx(TONE_HZ, abs=0.01)
    (tone,) = own.properties["tones"]
    assert tone["stands_out"]
    assert tone["amplitude"] == pytest.approx(1000 * AMPLITUDE, rel=0.05)
    # One pole at 0.6: unit white noise through it has this density, one-sided over 50 Hz.
    band = np.linspace(*tone["band_hz"], 200)
    density = 1 / np.abs(1 - 0.6 * np.exp(-2j * np.pi * band / RATE_HZ)) ** 2 / (RATE_HZ / 2)
    power = density.mean() * np.ptp(band)
    expected = 10 * np.log10(AMPLITUDE**2 / 2 / power)
    assert tone["snr_db"] == pytest.approx(expected, abs=0.7)
    assert data.background is not None
    low, high = data.background.tone_range
    assert 10 * low <= data.background.found[0] * 1.001
    assert high >= 3 * data.background.found[0]


def test_another_kind_of_network_can_learn_in_it(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "hum.csv", hum(8000))
    config = prepare(path, [10.0], overrides=["model.kind=gru", "model.hidden_size=8"]).config
    assert config.model.kind == "gru"
    assert config.model.whitening == ()
    assert len(prepare(path, [10.0]).config.model.whitening) > 0
    assert prepare(path, [10.0], source="free").config.model.kind == "observer"


def test_a_tone_that_is_not_there_is_fine(tmp_path: Path) -> None:
    own = prepare(write_csv(tmp_path / "n.csv", hum(8000, amplitude=0.0)), [10.0])
    assert own.config.data.frequencies_hz == (10.0,)
    assert not own.properties["tones"][0]["stands_out"]


REFUSED = {
    "must be above 0 and below 50 Hz": (hum(4000), [50.0]),
    "give the nominal frequency of the tone with --hz": (hum(4000), []),
    "the same tone twice": (hum(4000), [3.0, 3.0]),
    "constant": (np.full(4000, 2.5), [10.0]),
    "take at least 475": (hum(400), [10.0]),
    "to separate these tones from the noise takes at least 300": (hum(4000), [10.0, 10.001]),
    "nothing but the tones": (np.sin(2 * np.pi * np.arange(4000) / 10), [10.0]),
}


@pytest.mark.parametrize("message", REFUSED)
def test_refusals(message: str, tmp_path: Path) -> None:
    samples, hz = REFUSED[message]
    path = tmp_path / "r.csv"
    with pytest.raises(UserError, match=message):
        prepare(write_csv(path, samples), hz)


def test_settings_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    values = drawing(tmp_path).model_dump(mode="json")
    for change, message in (
        ({"regime": "locked"}, "regime free"),
        ({"snr_db": 3.0}, "brings its own"),
    ):
        with pytest.raises(UserError, match=message):
            make_config({**values, "data": {**values["data"], **change}})
    many = [1.0 + n for n in range(9)]
    with pytest.raises(UserError, match="separates at most 8 tones"):
        make_config({**values, "data": {**values["data"], "frequencies_hz": many}})
    with pytest.raises(UserError, match="low <= high"):
        drawing(tmp_path, tone_range=[2.0, 1.0])
    with pytest.raises(UserError, match="no limit is known"):
        tonesieve.limit(_written(values, tmp_path))


def _written(values: dict, folder: Path) -> Path:
    path = folder / "c.yaml"
    path.write_text(tonesieve.config.config.to_yaml(make_config(values)))
    return path
