"""From recording to tone: scale, rate, length and ends, with an extractor that is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from tonesieve.config.config import DataSettings
from tonesieve.errors import UserError
from tonesieve.extraction.options import ExtractOptions
from tonesieve.extraction.pipeline import extract_array, extract_recording
from tonesieve.extractors.input_scaling import running_standardise
from tonesieve.extractors.source import Source
from tonesieve.signals.signal_model import tone_gain
from tonesieve.signals.synthesis import draw_records


@dataclass(frozen=True)
class LeastSquares:
    """Fits sine and cosine of every frequency to the whole record; needs the future.

    Outputs targets of amplitude 1, as a network would: the fit over the gain of the mixture.
    """

    data: DataSettings
    causal: bool = False
    delay: int = 0

    @property
    def frequencies_hz(self) -> tuple[float, ...]:
        return self.data.frequencies_hz

    @property
    def rate_hz(self) -> float:
        return self.data.rate_hz

    def extract(self, mixture: np.ndarray) -> np.ndarray:
        n = np.arange(mixture.shape[1])
        angle = 2 * np.pi * np.outer(n, self.frequencies_hz) / self.rate_hz
        basis = np.hstack([np.sin(angle), np.cos(angle)])
        weights = np.linalg.lstsq(basis, mixture.T, rcond=None)[0]
        k = len(self.frequencies_hz)
        tones = angle * 0
        fits = []
        for column in weights.T:
            tones = np.sin(angle) * column[:k] + np.cos(angle) * column[k:]
            fits.append(tones / tone_gain(self.data))
        return np.array(fits)


FREE = DataSettings(regime="free", phase_scale=0, amplitude_range=(1, 1))


def source(data: DataSettings = FREE) -> Source:
    return Source(LeastSquares(data), data, 1, "least squares")


@dataclass(frozen=True)
class Smoother:
    """A causal running mean of two samples that spreads over all tones alike."""

    frequencies_hz: tuple[float, ...] = FREE.frequencies_hz
    rate_hz: float = 1000.0
    causal: bool = True
    delay: int = 0

    def initial_state(self, n_streams: int) -> np.ndarray:
        return np.zeros((n_streams, 1))

    def step(self, samples: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        whole = np.concatenate([state, samples], axis=1)
        mean = (whole[:, 1:] + whole[:, :-1]) / 2
        return np.repeat(mean[:, :, None], 4, axis=2), whole[:, -1:]

    def extract(self, mixture: np.ndarray) -> np.ndarray:
        return self.step(mixture, self.initial_state(len(mixture)))[0]


@pytest.mark.parametrize("rate_hz", [1000.0, 250.0, 4410.0])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_tones_come_back_in_unit_scale_and_rate(rate_hz: float, scale: float) -> None:
    # Truth: four tones of known amplitude on an offset, at another rate and in another unit.
    t = np.arange(round(10 * rate_hz)) / rate_hz
    angle = 2 * np.pi * np.outer(t, (1, 3, 5, 7))
    truth = scale * np.array([1, 2, 0.5, 3]) * np.sin(angle + np.array([1, 2, 3, 4]))
    tones = extract_array(truth.sum(axis=1) + 40 * scale, rate_hz, source())
    assert tones.shape == truth.shape
    inner = slice(round(rate_hz), -round(rate_hz))
    # the ends of the fit leak a little where the record is resampled twice
    np.testing.assert_allclose(tones[inner], truth[inner], atol=2e-3 * scale)


def test_the_tone_is_as_large_as_it_stands_in_the_mixture() -> None:
    # The exercise's target has amplitude 1; in the mixture the tone is a quarter of that.
    data = DataSettings(phase_scale=0.01)
    records = draw_records(data, 1, 10_000, rng=np.random.default_rng(0))
    tones = extract_array(records.mixture[0], 1000.0, source(data))
    # the jitter's mean phase, pi/100 of a quarter, and the scale read off the record itself
    np.testing.assert_allclose(tones, records.targets[0] * 0.25, atol=0.02)


def write_csv(path: Path, seconds: float = 4.0) -> np.ndarray:
    t = np.arange(round(seconds * 1000)) / 1000
    samples = 5 * np.sin(2 * np.pi * 3 * t) + 100
    pd.DataFrame({"time_s": t, "level": samples}).to_csv(path, index=False)
    return samples


def test_csv_in_csv_out_with_figures(tmp_path: Path) -> None:
    write_csv(tmp_path / "log.csv")
    result = extract_recording(tmp_path / "log.csv", source(), ExtractOptions([3.0]))
    table = pd.read_csv(tmp_path / "log.tone.csv")
    assert list(table.columns) == ["time_s", "tone"]
    assert len(table) == 4000 == result["samples"]
    np.testing.assert_allclose(table["tone"], 5 * np.sin(6 * np.pi * table["time_s"]), atol=1e-6)
    (figures,) = result["tones"]
    assert figures["band_hz"] == pytest.approx([2.5, 3.5])
    assert figures["tone_power"] == pytest.approx(12.5, rel=1e-3)
    assert figures["reduction_db"] < -80


def test_several_tones_and_a_band(tmp_path: Path) -> None:
    write_csv(tmp_path / "log.csv")
    out = tmp_path / "both.csv"
    options = ExtractOptions([7.0, 3.0], band_hz=(2.0, 4.0), out=out)
    result = extract_recording(tmp_path / "log.csv", source(), options)
    assert list(pd.read_csv(out).columns) == ["time_s", "tone_7Hz", "tone_3Hz"]
    assert result["tones"][1]["outside_band_share"] < 1e-6
    assert result["tones"][0]["band_hz"] == [2.0, 4.0]


def test_wav_in_wav_out(tmp_path: Path) -> None:
    t = np.arange(16_000) / 4000
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 5 * t), 4000, subtype="PCM_16")
    extract_recording(tmp_path / "a.wav", source(), ExtractOptions([5.0]))
    tone, rate = soundfile.read(tmp_path / "a.tone.wav")
    assert (rate, len(tone)) == (4000, 16_000)
    np.testing.assert_allclose(
        tone[4000:-4000], 0.5 * np.sin(2 * np.pi * 5 * t)[4000:-4000], atol=1e-3
    )


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    write_csv(path)
    with pytest.raises(UserError, match=r"--hz 4: least squares knows 1, 3, 5, 7 Hz"):
        extract_recording(path, source(), ExtractOptions([4.0]))
    with pytest.raises(UserError, match="--causal: least squares needs the future"):
        extract_recording(path, source(), ExtractOptions([3.0], causal=True))
    with pytest.raises(UserError, match=r"ending '.mp3'; writable are .csv, .parquet"):
        extract_recording(path, source(), ExtractOptions([3.0], out=tmp_path / "tone.mp3"))
    (tmp_path / "log.tone.csv").write_text("mine")
    with pytest.raises(UserError, match="exists; choose another --out, or --force"):
        extract_recording(path, source(), ExtractOptions([3.0]))
    assert (tmp_path / "log.tone.csv").read_text() == "mine"
    write_csv(tmp_path / "short.csv", seconds=0.2)
    with pytest.raises(UserError, match=r"shorter than the 0.334 s that least squares needs"):
        extract_recording(tmp_path / "short.csv", source(), ExtractOptions([3.0]))
    slow = tmp_path / "slow.csv"
    slow.write_text("x\n" + "1\n2\n" * 500)
    with pytest.raises(UserError, match="7 Hz is at or above half the recording's rate of 10 Hz"):
        extract_recording(slow, source(), ExtractOptions([7.0], rate_hz=10.0))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "log.csv", "log.tone.csv", "short.csv", "slow.csv",
    ]  # fmt: skip


finite = st.lists(
    st.floats(-1e6, 1e6, allow_subnormal=False).map(lambda x: round(x, 3)), min_size=1, max_size=50
)


@given(finite)
def test_the_running_shape_by_its_definition(values: list[float]) -> None:
    samples = np.array(values)
    running, so_far, _ = running_standardise(samples[None])
    for n in range(len(samples)):
        past = samples[: n + 1]
        spread = 1e-4 * (1 + np.abs(samples).max())  # cancellation of squares
        assert so_far[0, n] == pytest.approx(past.std(), abs=spread)
        if past.std() > 100 * spread:
            expected = (samples[n] - past.mean()) / past.std()
            assert running[0, n] == pytest.approx(expected, abs=1e-2)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_no_scale_is_too_small_or_too_large(tmp_path: Path, scale: float) -> None:
    truth = np.sin(6 * np.pi * np.arange(2000) / 1000)
    network = Source(Smoother(), FREE, 10, "smoother")
    for causal in (False, True):
        tones = extract_array(scale * truth, 1000.0, network, causal=causal)
        assert np.isfinite(tones).all()
        assert 0.1 < np.abs(tones / scale).max() < 10
    np.testing.assert_allclose(
        extract_array(scale * truth, 1000.0, source())[:, 1] / scale, truth, atol=1e-9
    )
    path = tmp_path / "log.csv"
    pd.DataFrame({"x": scale * truth}).to_csv(path, index=False)
    (figures,) = extract_recording(path, source(), ExtractOptions([3.0, 3.0], rate_hz=1000.0))[
        "tones"
    ]
    assert figures["reduction_db"] < -80


def test_a_constant_recording_holds_no_tone() -> None:
    tones = extract_array(np.full(2000, 7.0), 1000.0, source())
    np.testing.assert_array_equal(tones, 0)


def test_causal_and_resampling_exclude_each_other(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    pd.DataFrame({"x": np.sin(np.arange(9000))}).to_csv(path, index=False)
    causal = Source(Smoother(), FREE, 10, "smoother")
    extract_recording(path, causal, ExtractOptions(causal=True, rate_hz=1000.0))
    options = ExtractOptions(causal=True, rate_hz=500.0, out=tmp_path / "x.csv")
    with pytest.raises(UserError, match=r"--causal: .* has 500 Hz and smoother 1000 Hz"):
        extract_recording(path, causal, options)


def test_what_a_run_cannot_estimate_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    write_csv(path)
    assert extract_recording(path, source(), ExtractOptions([3.0]))["warnings"] == []
    locked = source(DataSettings())
    result = extract_recording(path, locked, ExtractOptions([3.0], force=True))
    assert "learned tones of one amplitude" in result["warnings"][0]
    with pytest.raises(UserError, match="the mixture holds no tone"):
        extract_recording(
            path, source(DataSettings(phase_scale=1.0)), ExtractOptions([3.0], force=True)
        )
    with pytest.raises(UserError, match="is the recording itself"):
        extract_recording(path, source(), ExtractOptions([3.0], out=path, force=True))


def test_both_directions_meet() -> None:
    # In the free regime the running mean of two samples becomes the symmetric one of three,
    # each direction weighted alike once both are old enough.
    causal = Source(Smoother(), FREE, 10, "smoother")
    x = np.random.default_rng(0).normal(size=200)
    both = extract_array(x, 1000.0, causal)[:, 0]
    once = extract_array(x, 1000.0, causal, causal=True)[:, 0]
    centred = (x - x.mean()) * tone_gain(FREE)
    expected = np.convolve(centred, [0.25, 0.5, 0.25], mode="same")
    np.testing.assert_allclose(both[20:-20], expected[20:-20], atol=1e-12)
    assert np.abs(once[20:-20] - expected[20:-20]).max() > 0.01


def test_causal_extraction_never_looks_ahead() -> None:
    causal = Source(Smoother(), FREE, 10, "smoother")
    x = np.random.default_rng(0).normal(size=200)
    other = np.concatenate([x[:100], 50 + x[100:]])
    tones = [extract_array(s, 1000.0, causal, causal=True)[:100] for s in (x, other)]
    np.testing.assert_array_equal(*tones)
