"""Recordings: what goes in comes out, and what cannot be read is refused with its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from tonesieve.errors import UserError
from tonesieve.recordings.reader import Channel
from tonesieve.recordings.recording import Recording, read_recording
from tonesieve.recordings.recording_writer import open_writer, tone_names
from tonesieve.recordings.resampling import resample


def write_tones(
    recording: Recording, tones: np.ndarray, frequencies: list[float], path: Path
) -> None:
    names = [Channel(name) for name in tone_names(frequencies)]
    with open_writer(recording, names, path) as writer:
        writer.write(0, tones)


def csv(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "log.csv"
    path.write_text(text)
    return path


GOOD = "time_s,level\n0.0,1\n0.005,2\n0.01,3.5\n"


def test_csv_in(tmp_path: Path) -> None:
    recording = read_recording(csv(tmp_path, GOOD))
    np.testing.assert_array_equal(recording.samples, [1, 2, 3.5])
    assert recording.rate_hz == 200


def test_csv_out_keeps_time_and_length(tmp_path: Path) -> None:
    recording = read_recording(csv(tmp_path, GOOD))
    write_tones(recording, np.array([[1.0], [2.0], [3.0]]), [3.0], tmp_path / "out.csv")
    table = pd.read_csv(tmp_path / "out.csv")
    assert list(table.columns) == ["time_s", "tone"]
    np.testing.assert_array_equal(table["time_s"], [0.0, 0.005, 0.01])
    np.testing.assert_array_equal(table["tone"], [1, 2, 3])


def test_names_of_several_tones() -> None:
    assert tone_names([3.0]) == ["tone"]
    assert tone_names([3.0, 49.93]) == ["tone_3Hz", "tone_49.93Hz"]


def test_csv_without_time_needs_a_rate(tmp_path: Path) -> None:
    path = csv(tmp_path, "a,b\n1,2\n3,4\n")
    recording = read_recording(path, columns=("b",), rate_hz=10.0)
    np.testing.assert_array_equal(recording.samples, [2, 4])
    assert recording.rate_hz == 10
    with pytest.raises(UserError, match="give the rate with --rate"):
        read_recording(path, columns=("a",))


def test_csv_without_header_loses_no_row(tmp_path: Path) -> None:
    recording = read_recording(csv(tmp_path, "1,5\n2,6\n3,7\n"), columns=("2",), rate_hz=10.0)
    np.testing.assert_array_equal(recording.samples, [5, 6, 7])


BAD_CSV = {
    "empty; a header line": "",
    "column level, row 1: .*True.* is not a number": "time_s,level\n0,TRUE\n1,FALSE\n",
    "not a CSV table .*ength of header": "time_s,x\n0.0,0.3,1\n0.1,0.4,1\n",
    "empty; a header line and numbers": "time_s,level\n",
    "column level, row 2: 'two' is not a number": "time_s,level\n0,1\n1,two\n2,3\n",
    "uneven time stamps at row 6": "time_s,x\n0,1\n1,2\n2,3\n3,4\n4,5\n5.5,6\n6,7\n7,8\n",
    "uneven time stamps": "time_s,level\n2,1\n1,2\n0,3\n",
    "several columns; choose --column a or b": "time_s,a,b\n0,1,2\n1,2,3\n",
    "no column beside time_s": "time_s\n0\n1\n",
    "one row gives no rate": "time_s,a\n0,1\n",
    "not a CSV table": 'time_s,a\n0,"1\n1,2,3,4\n',
}


@pytest.mark.parametrize("text", ["\ufeffx\n5\n6\n", "\ufeff5\n6\n"])
def test_a_spreadsheets_mark_costs_no_row(tmp_path: Path, text: str) -> None:
    np.testing.assert_array_equal(read_recording(csv(tmp_path, text), rate_hz=1.0).samples, [5, 6])


def test_a_hash_in_a_name_is_no_comment(tmp_path: Path) -> None:
    recording = read_recording(csv(tmp_path, "# from a logger\nch#1\n5\n6\n\n"), rate_hz=1.0)
    np.testing.assert_array_equal(recording.samples, [5, 6])


@pytest.mark.parametrize(
    "text",
    [
        "x\n5\n\n6\n",
        "x\n5\nNaN\n6\n",
        "x\n5\n-inf\n6\n",
        "x\n5\n\n6\n\n\n",
        "x,y\n5,1\n,1\n6,1\n",
    ],
)
def test_a_missing_value_is_a_gap(tmp_path: Path, text: str) -> None:
    recording = read_recording(csv(tmp_path, text), columns=("x",), rate_hz=1.0)
    np.testing.assert_array_equal(recording.samples, [5, np.nan, 6])


@pytest.mark.parametrize("message", BAD_CSV)
def test_bad_csv(tmp_path: Path, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_recording(csv(tmp_path, BAD_CSV[message]))
    assert "log.csv: " in str(caught.value)


def test_no_such_column_or_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no column 'speed'; there are level"):
        read_recording(csv(tmp_path, GOOD), columns=("speed",))
    with pytest.raises(UserError, match="no such file"):
        read_recording(tmp_path / "none.csv")
    (tmp_path / "log.mp3").write_bytes(b"x")
    with pytest.raises(
        UserError, match=r"ending '.mp3'; readable are .csv, .parquet, .wav, .flac, .edf, .npz"
    ):
        read_recording(tmp_path / "log.mp3")
    with pytest.raises(UserError, match="--rate"):
        read_recording(csv(tmp_path, "a\n1\n2\n"), rate_hz=-5.0)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "DOUBLE"])
def test_wav_keeps_rate_length_and_format(tmp_path: Path, subtype: str) -> None:
    samples = np.linspace(-0.9, 0.9, 1001)
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype=subtype)
    recording = read_recording(tmp_path / "a.wav")
    write_tones(recording, recording.samples[:, None], [5.0], tmp_path / "b.wav")
    info = soundfile.info(tmp_path / "b.wav")
    assert (info.samplerate, info.frames, info.subtype) == (8000, 1001, subtype)
    np.testing.assert_allclose(soundfile.read(tmp_path / "b.wav")[0], samples, atol=2**-15)


def test_wav_channels(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.array([[0.1, 0.2]] * 9), 100, subtype="DOUBLE")
    assert read_recording(path, columns=("2",)).samples[0] == 0.2
    with pytest.raises(UserError, match="several channels; choose --column 1 or 2"):
        read_recording(path)
    with pytest.raises(UserError, match="no channel '3'"):
        read_recording(path, columns=("3",))
    with pytest.raises(UserError, match="states its own rate"):
        read_recording(path, columns=("1",), rate_hz=100.0)


def test_a_wav_that_is_cut_short_or_none_at_all(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(1000), 100, subtype="PCM_16")
    raw = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(raw[:-500])
    with pytest.raises(UserError, match="cut short; its header promises 2044 bytes"):
        read_recording(tmp_path / "cut.wav")
    soundfile.write(tmp_path / "b.wav", np.zeros(1000), 8000, format="OGG", subtype="VORBIS")
    with pytest.raises(UserError, match="not a WAV file but OGG"):
        read_recording(tmp_path / "b.wav")


@pytest.mark.parametrize("content", [b"", b"RIFF", b"not a wav file at all" * 9])
def test_bad_wav(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(UserError, match=r"a.wav: not a WAV file|a.wav: empty"):
        read_recording(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("from_hz", "to_hz"),
    [(44100.0, 1000.0), (1000.0, 44100.0), (200.0, 1000.0), (199.987, 200.0), (1.0, 7.3)],
)
def test_resampling_keeps_a_tone_where_it_is(from_hz: float, to_hz: float) -> None:
    # closed form: the same sinusoid on the other grid, away from the ends
    f = 0.0731 * min(from_hz, to_hz)
    n = max(4000, round(40 / f * from_hz))
    tone = resample(np.sin(2 * np.pi * f * np.arange(n) / from_hz + 0.3), from_hz, to_hz)
    expected = np.sin(2 * np.pi * f * np.arange(len(tone)) / to_hz + 0.3)
    edge = round(10 * to_hz / f)
    assert edge < len(tone) // 2
    np.testing.assert_allclose(tone[edge:-edge], expected[edge:-edge], atol=1e-4)


def test_resampling_lets_nothing_alias() -> None:
    t = np.arange(100_000) / 10_000
    high = np.sin(2 * np.pi * 530 * t)  # above half of 1000 Hz; would fold to 470 Hz
    assert np.abs(resample(high, 10_000.0, 1000.0)[200:-200]).max() < 1e-4


@given(st.integers(1, 400), st.floats(0.3, 3))
@settings(max_examples=40)
def test_resampling_there_and_back_keeps_the_length(n: int, ratio: float) -> None:
    there = resample(np.ones(n), 1.0, ratio)
    back = resample(there, ratio, 1.0, n_out=n) if len(there) else np.zeros(n)
    assert len(there) == round(n * ratio)
    assert len(back) == n
