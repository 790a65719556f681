"""The full output of a tone: tracked frequency, amplitude, phase, confidence bands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tonesieve import UserError, extract
from tonesieve.extraction.options import ExtractOptions
from tonesieve.extraction.pipeline import extract_recording
from tonesieve.extractors.demodulation import ToneDemodulator
from tonesieve.extractors.filters.kalman import FrequencyTrackingKalman, OscillatorKalman
from tonesieve.extractors.filters.registry import build_filter
from tonesieve.extractors.noise_bands import SidebandNoise, noise_gain
from tonesieve.extractors.source import Source, choose_tones, make_source
from tonesieve.signals.record_noise import pink_noise

RATE = 200.0


def nmse_db(estimate: np.ndarray, truth: np.ndarray) -> float:
    return float(10 * np.log10(np.mean((estimate - truth) ** 2) / np.mean(truth**2)))


# The frequency-tracking filter.


@pytest.mark.parametrize("off_hz", [0.0, 0.07, -0.3, 0.8])
def test_a_frequency_that_is_not_quite_known_is_tracked(off_hz: float) -> None:
    t = np.arange(20_000) / RATE
    rng = np.random.default_rng(0)
    truth = np.sin(2 * np.pi * (50 + off_hz) * t + 1)
    samples = truth + rng.standard_normal(t.size) * 0.7
    tracker = FrequencyTrackingKalman((50.0,), RATE)
    estimate, state = tracker.step(samples[None], tracker.initial_state(1))
    # Within 1 dB of the filter that is given the exact frequency.
    oracle = OscillatorKalman((50 + off_hz,), RATE, memory_s=1.0).extract(samples[None])
    found, best = (nmse_db(e[0, 10_000:, 0], truth[10_000:]) for e in (estimate, oracle))
    assert found < best + 1
    assert state[1][1][0, 0] * RATE == pytest.approx(off_hz, abs=0.02)
    if abs(off_hz) > 0.1:  # a filter at the nominal frequency loses the tone
        fixed = OscillatorKalman((50.0,), RATE, memory_s=1.0).extract(samples[None])
        assert nmse_db(fixed[0, 10_000:, 0], truth[10_000:]) > -3


def test_a_frequency_that_drifts_is_tracked() -> None:
    t = np.arange(60_000) / RATE
    hz = 50 + 0.05 * np.sin(2 * np.pi * t / 100)
    truth = np.sin(2 * np.pi * np.cumsum(hz) / RATE)
    samples = truth + 0.3 * np.random.default_rng(1).standard_normal(t.size)
    estimate = FrequencyTrackingKalman((50.0,), RATE).extract(samples[None])[0, :, 0]
    assert nmse_db(estimate[5000:], truth[5000:]) < -22
    _, _, tracked = ToneDemodulator(50.0, RATE).demodulate(estimate[None], 0, centred=True)
    assert np.abs(tracked[0] - hz)[5000:-5000].max() < 0.03


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_no_noise_pulls_it_off(exponent: float) -> None:
    rng, t = np.random.default_rng(2), np.arange(8000) / RATE
    truth = np.sin(2 * np.pi * 20 * t + rng.random((16, 1)) * 6.28)
    samples = truth + 40 + pink_noise(16, t.size, exponent=exponent, rng=rng)
    tracker = FrequencyTrackingKalman((20.0,), RATE)
    estimate, state = tracker.step(samples, tracker.initial_state(16))
    assert np.abs(state[1][1][:, 0] * RATE).max() < 0.01
    assert max(nmse_db(e[400:, 0], x[400:]) for e, x in zip(estimate, truth, strict=True)) < -15


def test_the_offset_is_bounded() -> None:
    t = np.arange(20_000) / RATE
    tracker = FrequencyTrackingKalman((20.0,), RATE, max_pull_hz=0.1)
    _, state = tracker.step(np.sin(2 * np.pi * 20.5 * t)[None], tracker.initial_state(1))
    assert abs(state[1][1][0, 0]) * RATE <= 0.1 + 1e-12
    with pytest.raises(UserError, match="max_pull_hz -1"):
        FrequencyTrackingKalman((20.0,), RATE, max_pull_hz=-1.0)


# Demodulation.


@pytest.mark.parametrize("hz", [3.0, 20.3, 77.7])
@pytest.mark.parametrize("centred", [True, False])
def test_a_steady_tone_is_demodulated_exactly(hz: float, centred: bool) -> None:
    t = np.arange(8000) / RATE
    tone = 2.5 * np.sin(2 * np.pi * hz * t + 0.7)
    amplitude, phase, found = ToneDemodulator(hz, RATE).demodulate(tone[None], 0, centred=centred)
    np.testing.assert_allclose(amplitude[0, 200:], 2.5, rtol=1e-9)
    np.testing.assert_allclose(phase[0, 200:], 0.7, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found[0], hz, rtol=1e-6)
    off = ToneDemodulator(1.02 * hz, RATE).demodulate(tone[None], 0, centred=centred)[2]
    np.testing.assert_allclose(off[0, 3000:], hz, rtol=1e-3)


def test_a_part_is_demodulated_as_the_whole() -> None:
    demodulator = ToneDemodulator(13.0, RATE)
    tone = np.sin(2 * np.pi * 13.1 * np.arange(9000) / RATE)[None]
    whole = demodulator.demodulate(tone, 0, centred=True)
    first, last = 3000 - demodulator.support, 4000 + demodulator.support
    part = demodulator.demodulate(tone[:, first:last], first, centred=True)
    for one, other in zip(whole, part, strict=True):
        near = other[:, 3000 - first : 4000 - first]
        np.testing.assert_allclose(near, one[:, 3000:4000], atol=1e-9)


# Confidence bands.


@pytest.mark.parametrize("hz", [20.0, 61.0])
def test_the_noise_beside_a_tone_is_estimated(hz: float) -> None:
    rng = np.random.default_rng(3)
    sideband = SidebandNoise(hz, RATE, 0.5, 5.0, 4)
    variance = sideband.update(3.0 * rng.standard_normal((4, 60_000)))
    assert variance[:, 20_000:].mean() == pytest.approx(9.0, rel=0.1)
    # Of noise whose density falls with frequency, what lies at the tone counts.
    pink = pink_noise(16, 60_000, exponent=2.0, rng=rng)
    at_20_hz, at_40_hz = (SidebandNoise(f, RATE, 0.5, 5.0, 16).update(pink)[:, 20_000:].mean()
                  for f in (20.0, 40.0))  # fmt: skip
    assert at_20_hz / at_40_hz == pytest.approx(4.0, rel=0.25)


def test_the_noise_variance_in_chunks_and_gaps() -> None:
    rng = np.random.default_rng(3)
    noise = rng.standard_normal((1, 9000))
    whole = SidebandNoise(20.0, RATE, 0.5, 5.0).update(noise)
    parts = SidebandNoise(20.0, RATE, 0.5, 5.0)
    found = np.concatenate(
        [parts.update(noise[:, a : a + 700]) for a in range(0, 9000, 700)], axis=1
    )
    np.testing.assert_allclose(found, whole, rtol=1e-9)
    noise[:, 4000:4500] = np.nan
    with_gap = SidebandNoise(20.0, RATE, 0.5, 5.0).update(noise)
    assert np.isfinite(with_gap).all()


def test_noise_gain_by_the_impulse_response() -> None:
    # Linear and in steady state: the sum of squares of the impulse response, over a few phases.
    extractor = build_filter("butterworth", (20.0,), RATE)
    impulses = np.zeros((8, 6000))
    impulses[np.arange(8), 3000 + np.arange(8)] = 1
    expected = np.mean(np.sum(extractor.extract(impulses)[..., 0] ** 2, axis=1))
    rng = np.random.default_rng(0)
    samples = rng.standard_normal(20_000)
    gain = noise_gain(
        extractor.extract, samples, float(extractor.delay or 0), two_sided=False, rng=rng
    )
    assert gain.steady_state[0] == pytest.approx(expected, rel=0.15)


BANDED = ["tracker", "kalman", "lock-in", "least-squares", "butterworth", "zero-phase", "fft-mask"]
# In pink noise, one that follows the tone, one at a fixed frequency, and one that is not causal.
PINK = ("tracker", "kalman", "fft-mask")
BANDS = [
    pytest.param(name, exponent, marks=pytest.mark.slow if exponent and name not in PINK else ())
    for exponent in (0.0, 1.0)
    for name in BANDED
]


@pytest.mark.parametrize(("name", "exponent"), BANDS)
def test_nine_of_ten_lie_in_the_band(name: str, exponent: float, tmp_path: Path) -> None:
    # A steady tone in noise, many of them: the band of each sample's tone, once it has settled. In
    # Parquet, since writing so many numbers as text would take half the time.
    rng = np.random.default_rng(5)
    t, n_channels = np.arange(8000) / RATE, 12
    truth = np.sin(2 * np.pi * 20 * t[:, None] + rng.random(n_channels) * 6.28)
    samples = truth + pink_noise(n_channels, t.size, exponent=exponent, rng=rng).T
    names = [f"c{i}" for i in range(n_channels)]
    pd.DataFrame(samples, columns=names).to_parquet(tmp_path / "a.parquet", index=False)
    causal = name not in ("zero-phase", "fft-mask")
    extract(
        tmp_path / "a.parquet", [20.0], with_=name, causal=causal, columns=["all"], rate_hz=RATE,
        full=True,
    )  # fmt: skip
    table = pd.read_parquet(tmp_path / "a.tone.parquet")
    low, high = (table[[f"{c}_tone_{end}" for c in names]].to_numpy() for end in ("low", "high"))
    inside = (low <= truth) & (truth <= high)
    assert 0.82 < inside[2000:-500].mean() < 0.96
    amplitude = table[[f"{c}_amplitude" for c in names]].to_numpy()
    assert amplitude[2000:-500].mean() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("rate_hz", [100.0, 800.0])
def test_nine_of_ten_at_another_rate(rate_hz: float, tmp_path: Path) -> None:
    # A source of its own rate: the recording is resampled to it and back.
    built = make_source("kalman", [20.0])(RATE, "a test")
    assert isinstance(built, Source)
    rng, n = np.random.default_rng(6), round(40 * rate_hz)
    t, names = np.arange(n) / rate_hz, [f"c{i}" for i in range(12)]
    truth = np.sin(2 * np.pi * 20 * t[:, None] + rng.random(12) * 6.28)
    samples = truth + rng.standard_normal(truth.shape)
    pd.DataFrame(samples, columns=names).to_parquet(tmp_path / "a.parquet", index=False)
    options = ExtractOptions(columns=["all"], rate_hz=rate_hz, full=True)
    extract_recording(tmp_path / "a.parquet", built, options)
    table = pd.read_parquet(tmp_path / "a.tone.parquet")
    low, high = (table[[f"{c}_tone_{end}" for c in names]].to_numpy() for end in ("low", "high"))
    inside = ((low <= truth) & (truth <= high))[n // 5 : -n // 5]
    assert 0.82 < inside.mean() < 0.96


@pytest.mark.parametrize("name", ["tracker", "kalman"])
def test_causal_columns_never_look_ahead(name: str, tmp_path: Path) -> None:
    rng, t = np.random.default_rng(0), np.arange(16_000) / RATE
    samples = np.sin(2 * np.pi * 20 * t) + rng.standard_normal(t.size)
    other = np.where(t < 40, samples, 30 * rng.standard_normal(t.size))
    found = []
    for inputs in (samples, other):
        pd.DataFrame({"x": inputs}).to_csv(tmp_path / "a.csv", index=False)
        extract(tmp_path / "a.csv", [20.0], with_=name, causal=True, full=True, rate_hz=RATE,
                force=True)  # fmt: skip
        found.append(pd.read_csv(tmp_path / "a.tone.csv")[:8000])
    pd.testing.assert_frame_equal(*found, check_exact=True)


@pytest.mark.parametrize("causal", [True, False])
def test_a_slow_tone_is_demodulated_after_decimation(causal: bool, tmp_path: Path) -> None:
    # 2,000 samples a period; the rows between are interpolated.
    t = np.arange(60_000) / RATE
    tone = 3 * np.sin(2 * np.pi * 0.1 * t + 0.5)
    pd.DataFrame({"x": tone}).to_csv(tmp_path / "a.csv", index=False)
    extract(tmp_path / "a.csv", [0.1], with_="kalman", causal=causal, full=True, rate_hz=RATE)
    table = pd.read_csv(tmp_path / "a.tone.csv")[20_000:-20_000]
    np.testing.assert_allclose(table["amplitude"], 3, rtol=0.02)
    np.testing.assert_allclose(table["phase_rad"], 0.5, atol=0.02)
    np.testing.assert_allclose(table["hz"], 0.1, rtol=0.01)


def test_tones_too_close_for_the_recording_are_reported(tmp_path: Path) -> None:
    path, _ = hum(tmp_path)
    result = extract(path, [50.0, 50.01])
    assert "50 and 50.01 Hz are resolved only after 100 s, and the" in result["warnings"][0]
    result = extract(path, [50.0, 50.0000001], out=tmp_path / "one.csv")
    assert [tone["hz"] for tone in result["tones"]] == [50.0]
    assert result["tones"][0]["amplitude"] == pytest.approx(3.0, rel=0.03)


def test_frequencies_of_any_size_are_distinguished(tmp_path: Path) -> None:
    built = make_source("kalman", [2.67e-8])(1 / 86400, "a test")
    with pytest.raises(UserError, match=r"knows 2.67e-08 Hz"):
        choose_tones(built, [3.17e-8])  # type: ignore[arg-type]


# The output.


def hum(tmp_path: Path, *, gap: bool = False) -> tuple[Path, np.ndarray]:
    t = np.arange(6000) / RATE
    truth = 3 * np.sin(2 * np.pi * 49.93 * t)
    samples = truth + 100 + 0.5 * np.random.default_rng(0).standard_normal(t.size)
    if gap:
        samples[2000:2100] = np.nan
    path = tmp_path / "log.csv"
    pd.DataFrame({"time_s": t, "level [mV]": samples}).to_csv(path, index=False)
    return path, truth


def test_all_columns_agree(tmp_path: Path) -> None:
    path, truth = hum(tmp_path, gap=True)
    result = extract(path, [50.0], full=True, picture=True)
    table = pd.read_csv(tmp_path / "log.tone.csv")
    assert list(table.columns) == [
        "time_s", "tone", "amplitude", "phase_rad", "hz", "tone_low", "tone_high",
        "amplitude_low", "amplitude_high", "residual", "gap",
    ]  # fmt: skip
    samples = pd.read_csv(path)["level [mV]"]
    good = samples.notna()
    np.testing.assert_array_equal(table["gap"], (~good).astype(int))
    assert table["tone"].notna().all()
    np.testing.assert_allclose(table["tone"] + table["residual"], samples, atol=1e-9)
    assert table["residual"].isna().sum() == 100
    inner = slice(500, -500)
    assert nmse_db(table["tone"][inner], truth[inner]) < -25
    # The phase is relative to 50 Hz, so it falls at the rate of the difference.
    slope = np.polyfit(np.arange(6000)[inner] / RATE, np.unwrap(table["phase_rad"])[inner], 1)[0]
    assert slope / (2 * np.pi) == pytest.approx(-0.07, abs=2e-3)
    angle = 2 * np.pi * 50 * np.arange(6000) / RATE + table["phase_rad"]
    synthesised = table["amplitude"] * np.sin(angle)
    assert nmse_db(synthesised[inner], table["tone"][inner]) < -30
    (tone,) = result["tones"]
    assert tone["followed_hz"] == pytest.approx(49.93, abs=2e-3)
    assert tone["amplitude"] == pytest.approx(3.0, rel=0.03)
    (channel,) = result["channels"]
    assert channel["unit"] == "mV"
    assert channel["gaps"] == {"samples": 100, "stretches": 1, "first_s": [[10.0, 0.5]]}
    assert "100 samples are missing, in 1 gaps" in result["warnings"][0]
    assert (tmp_path / "log.tone.csv.json").stat().st_size > 500
    assert (tmp_path / "log.tone.csv.png").stat().st_size > 20_000


def test_the_recording_without_the_tone(tmp_path: Path) -> None:
    path, truth = hum(tmp_path)
    result = extract(path, [49.93], remove=True)
    assert result["out"].endswith("log.clean.csv")
    before, after = pd.read_csv(path), pd.read_csv(result["out"])
    assert list(after.columns) == list(before.columns)
    expected = before["level [mV]"] - truth
    assert np.sqrt(np.mean((after["level [mV]"] - expected) ** 2)) < 0.15
    pd.testing.assert_series_equal(before["time_s"], after["time_s"])


def test_clipping_is_reported(tmp_path: Path) -> None:
    t = np.arange(4000) / RATE
    pd.DataFrame({"x": np.clip(np.sin(2 * np.pi * 5 * t), -0.8, 0.8)}).to_csv(
        tmp_path / "a.csv", index=False
    )
    result = extract(tmp_path / "a.csv", [5.0], rate_hz=RATE)
    assert (
        "x: 1,800 samples are clipped (at -0.8 or 0.8, in 200 stretches)" in result["warnings"][0]
    )


def test_other_formats_and_several_channels(tmp_path: Path) -> None:
    t = np.arange(4000) / RATE
    table = pd.DataFrame({"t": t, "a": np.sin(2 * np.pi * 5 * t), "b": 2 * np.cos(12 * np.pi * t)})
    table.to_csv(tmp_path / "x.csv", index=False)
    source = make_source("kalman", [5.0, 6.0])
    for ending in ("parquet", "npz", "csv"):
        options = ExtractOptions(columns=["a", "b"], out=tmp_path / f"y.{ending}")
        result = extract_recording(tmp_path / "x.csv", source, options)
        assert result["columns"] == ["a_tone_5Hz", "a_tone_6Hz", "b_tone_5Hz", "b_tone_6Hz"]
    found = pd.read_parquet(tmp_path / "y.parquet")
    assert nmse_db(found["b_tone_6Hz"], table["b"]) < -30
    with np.load(tmp_path / "y.npz") as stored:
        np.testing.assert_array_equal(stored["b_tone_6Hz"], found["b_tone_6Hz"])
        np.testing.assert_allclose(stored["time_s"], t, atol=1e-12)


def test_blocks_and_stretches_leave_no_seam(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = hum(tmp_path)
    whole, parts = {}, {}
    for found in (whole, parts):
        for name in ("tracker", "zero-phase"):
            result = extract(path, [49.93], with_=name, full=True, force=True)
            found[name] = pd.read_csv(result["out"])
        for module, size in (
            ("extraction.tone_parameters.LEAST", 100), ("extraction.tone_parameters.BLOCK", 512),
            ("recordings.reader.ROWS", 300),
            ("extraction.passes.STRETCH", 3000), ("extraction.passes.OVERLAP", 800),
        ):  # fmt: skip
            monkeypatch.setattr(f"tonesieve.{module}", size)
    for name in whole:
        tolerance = 0.02 if name == "zero-phase" else 1e-9
        np.testing.assert_allclose(parts[name]["tone"], whole[name]["tone"], atol=tolerance)
        inner = slice(600, -600)
        for column in ("amplitude", "hz"):
            np.testing.assert_allclose(parts[name][column][inner], whole[name][column][inner],
                                       atol=2 * tolerance)  # fmt: skip
