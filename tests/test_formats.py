"""Every format, there and back: samples, rate, rows, names and units; gaps and clipping."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyedflib
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from tonesieve.errors import UserError
from tonesieve.recordings import reader, time_grid
from tonesieve.recordings.recording import Recording, from_array, read_recording
from tonesieve.recordings.recording_writer import open_writer
from tonesieve.recordings.statistics import survey
from tonesieve.recordings.time_grid import Grid

RNG = np.random.default_rng(0)


def everything(recording: Recording) -> np.ndarray:
    return recording.read(0, recording.n_samples)


def copied(recording: Recording, path: Path, block: int = 100_000) -> Recording:
    """Written whole under ``path``, and read again."""
    with open_writer(recording, recording.channels, path, force=True) as writer:
        for start in range(0, recording.n_samples, block):
            writer.write(start, recording.read(start, start + block).T)
    return read_recording(path, columns=["all"])


def written(path: Path, content: str | bytes, encoding: str = "utf-8") -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


# ------------------------------------------------------------------------------------------ CSV

# One recording, written in many ways: 5, 6.5, -7 at 4 Hz.
DIALECTS = {
    "comma": "time_s,level [mV]\n0,5\n0.25,6.5\n0.5,-7\n",
    "semicolon and decimal comma": "time_s;level [mV]\n0,0;5\n0,25;6,5\n0,5;-7\n",
    "tab": "time_s\tlevel [mV]\n0\t5\n0.25\t6.5\n0.5\t-7\n",
    "tab, and a comma in a name": 'time_s\tlevel [mV]\t"a, b"\n0\t5\t1\n0.25\t6.5\t1\n0.5\t-7\t1\n',
    "quoted": '"time_s","level [mV]"\n"0","5"\n"0.25","6.5"\n"0.5","-7"\n',
    "quoted comma": '"level [mV]","a, b",time_s\n5,1,0\n6.5,1,0.25\n-7,1,0.5\n',
    "returns": "time_s,level [mV]\r\n0,5\r\n0.25,6.5\r\n0.5,-7\r\n",
    "returns alone": "time_s,level [mV]\r0,5\r0.25,6.5\r0.5,-7",
    "no end": "time_s,level [mV]\n0,5\n0.25,6.5\n0.5,-7",
    "byte order mark": "\ufefftime_s,level [mV]\n0,5\n0.25,6.5\n0.5,-7\n",
    "spaces": "time_s , level [mV]\n0, 5\n0.25 , 6.5 \n 0.5, -7\n\n",
    "comments": '# it"s a log\n#\n\ntime_s,level [mV]\n0,5\n0.25,6.5\n0.5,-7\n',
    "text beside": 'time_s,note,level [mV]\n0,"a\nb",5\n0.25,"x, y",6.5\n0.5,,-7\n',
    "dates": "time,level [mV]\n2008-01-01,5\n2008-01-01 00:00:00.25,6.5\n"
    "2008-01-01T00:00:00.5,-7\n",
    "zone": "utc,level [mV]\n2008-01-01T00:00:00Z,5\n2008-01-01T01:00:00.25+01:00,6.5\n"
    "2007-12-31T23:00:00.5-01:00,-7\n",
    "long ago": "utc,level [mV]\n1700-01-01T00:00:00Z,5\n1700-01-01T00:00:00.25Z,6.5\n"
    "1700-01-01T00:00:00.5Z,-7\n",
    "milliseconds": "time_ms,level [mV]\n0,5\n250,6.5\n500,-7\n",
    "unit in brackets": "Time (ms),level [mV]\n0,5\n250,6.5\n500,-7\n",
    "epoch": "timestamp,level [mV]\n1700000000,5\n1700000000.25,6.5\n1700000000.5,-7\n",
    "large and small": "time_s,level [mV]\n0e0,5.0e0\n25e-2,+6.5\n.5,-.7E1\n",
    "a comma behind": "time_s,level [mV],\n0,5,\n0.25,6.5,\n0.5,-7,\n",
}


@pytest.mark.parametrize("name", DIALECTS)
def test_csv_dialects(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / "a.csv", DIALECTS[name])
    recording = read_recording(path, columns=["level [mV]"])
    np.testing.assert_array_equal(everything(recording), [[5, 6.5, -7]])
    assert recording.rate_hz == 4
    assert recording.channels[0].unit == "mV"
    again = copied(recording, tmp_path / "b.csv", block=2)
    np.testing.assert_array_equal(everything(again), [[5, 6.5, -7]])
    assert again.channels == recording.channels
    # the time column is the input's, character by character
    layout = recording.output_format
    kept = [
        pd.read_csv(p, dtype=str, sep=layout.separator, comment="#", encoding=layout.encoding,
                    skipinitialspace=True)
        for p in (path, tmp_path / "b.csv")
    ]  # fmt: skip
    (of,) = [[c for c in table.columns if c.strip() == layout.time_name] for table in kept[:1]]
    assert [t.strip() for t in kept[0][of[0]]] == [t.strip() for t in kept[1][layout.time_name]]


def test_a_modified_julian_date(tmp_path: Path) -> None:
    lines = "".join(f"{54466 + n / 86400:.9f},{n}\n" for n in range(50))
    recording = read_recording(written(tmp_path / "a.csv", "mjd,x\n" + lines))
    assert recording.rate_hz == pytest.approx(1, rel=1e-5)  # a day's ninth digit is 0.1 ms


def test_decimal_commas_after_many_whole_numbers(tmp_path: Path) -> None:
    text = "x;y\n" + "1;2\n" * 500 + "3,25;4\n"
    recording = read_recording(written(tmp_path / "a.csv", text), columns=["x"], rate_hz=1.0)
    assert recording.samples[-1] == 3.25


@pytest.mark.parametrize("late", [False, True])
def test_an_older_table_of_characters(tmp_path: Path, late: bool) -> None:
    head = "time_s,note,x\n" if late else "time_s,note,größe [µV]\n"
    rows = "".join(
        f"{n},{'é' if n == 59_999 or not late else 'plain text'},1\n" for n in range(60_000)
    )
    path = written(tmp_path / "a.csv", head + rows, "latin-1")
    name = "x" if late else "größe [µV]"
    recording = read_recording(path, columns=[name])
    assert len(recording.rows) == 60_000
    assert copied(recording, tmp_path / "b.csv").channels[0].name == name


def test_a_mark_stands_at_the_start_alone(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", DIALECTS["byte order mark"])
    copied(read_recording(path), tmp_path / "b.csv", block=1)
    assert (tmp_path / "b.csv").read_bytes().count(b"\xef\xbb\xbf") == 1


def test_no_header_but_dates_loses_no_row(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "2008-01-01T00:00:00,5\n2008-01-01T00:00:01,6\n")
    recording = read_recording(path, columns=["2"], time="1")
    np.testing.assert_array_equal(everything(recording), [[5, 6]])


def test_numbers_that_pandas_wrote_over_columns_are_a_header(tmp_path: Path) -> None:
    pd.DataFrame([[5, 6], [7, 8]]).to_csv(tmp_path / "a.csv")
    recording = read_recording(tmp_path / "a.csv", columns=["1"], rate_hz=1.0)
    np.testing.assert_array_equal(everything(recording), [[6, 8]])


def test_names_that_stand_twice(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "time_s,x,x,y\n0,1,2,3\n1,4,5,6\n")
    with pytest.raises(UserError, match=r"several columns are named 'x'; .* --column 1 or 2"):
        read_recording(path, columns=["x"])
    np.testing.assert_array_equal(everything(read_recording(path, columns=["2"])), [[2, 5]])
    recording = read_recording(path, columns=["all", "y", "3"])
    assert [channel.name for channel in recording.channels] == ["x", "x.1", "y"]
    with pytest.raises(UserError, match="no column 'time_s'; there are x, x, y"):
        read_recording(path, columns=["time_s"], time="time_s")
    with pytest.raises(UserError, match="no column '9"):
        read_recording(path, columns=["9" * 5000])


def test_ten_thousand_columns_of_one_name(tmp_path: Path) -> None:
    text = ",".join(["x"] * 10_000) + "\n" + (",".join(["1"] * 10_000) + "\n") * 2
    path = written(tmp_path / "a.csv", text)
    with pytest.raises(UserError, match="10,000 columns at once; take at most 1,000"):
        read_recording(path, columns=["all"], rate_hz=1.0)
    assert everything(read_recording(path, columns=["10000"], rate_hz=1.0)).shape == (1, 2)


def test_of_a_decimal_comma_the_bad_cell_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "a;b\n1,5;2\n2,5;2\nx;2\n")
    with pytest.raises(UserError, match="column a, row 3: 'x' is not a number"):
        read_recording(path, columns=["a"], rate_hz=1.0)


@pytest.mark.parametrize("cell", ["1_000", "0x1F", "１２", "1 000", "True", "1d5", "nan(1)", "--5"])
@pytest.mark.parametrize("rows", ["{}\n1\n", "1\n{}\n", "{}\n"])
def test_what_is_no_number(tmp_path: Path, cell: str, rows: str) -> None:
    with pytest.raises(UserError, match="is not a number"):
        read_recording(written(tmp_path / "a.csv", "x\n" + rows.format(cell)), rate_hz=1.0)


LONG = 2 * reader.ROWS + 100
EDGES = [reader.ROWS - 1, reader.ROWS, reader.ROWS + 1, 2 * reader.ROWS]


@pytest.mark.parametrize("edge", EDGES)
def test_a_border_between_blocks(tmp_path: Path, edge: int) -> None:
    # a blank line, missing rows and a bad cell around the border, against plain lists
    rows = [f"{n / 8},{n}" for n in range(LONG)]
    rows[edge] = ""
    rows[edge - 3] += ",extra"
    path = written(tmp_path / "a.csv", "time_s,x\n" + "\n".join(rows) + "\n\n\n")
    with pytest.raises(UserError, match=f"row {edge - 2} has 3 cells, 2 are named"):
        read_recording(path)
    rows[edge - 3] = f"{(edge - 3) / 8},two"
    written(path, "time_s,x\n" + "\n".join(rows) + "\n\n\n")
    with pytest.raises(UserError, match=f"column x, row {edge - 2}: 'two'"):
        read_recording(path)
    del rows[edge - 4 : edge - 1]
    written(path, "time_s,x\n" + "\n".join(rows) + "\n\n\n")
    recording = read_recording(path)
    expected = np.arange(LONG, dtype=float)
    expected[edge - 4 : edge - 1] = np.nan
    expected[edge] = np.nan
    np.testing.assert_array_equal(everything(recording)[0], expected)
    assert recording.rate_hz == 8
    copied(recording, tmp_path / "b.csv")
    kept = (tmp_path / "b.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in kept[1:]] == [row.split(",")[0] for row in rows]


def test_rows_at_the_end_that_hold_nothing_are_rows(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "x,y\n5,1\nNaN,\n,\n\n\n")
    assert len(read_recording(path, columns=["x"], rate_hz=1.0).rows) == 3


@pytest.mark.parametrize("rate", [128.0, 60.0, 333.0])
def test_times_rounded_to_milliseconds_are_even(tmp_path: Path, rate: float) -> None:
    n = 20_000
    lines = "".join(f"{k / rate:.3f},1\n" for k in range(n))
    recording = read_recording(written(tmp_path / "a.csv", "time_s,x\n" + lines))
    assert recording.rate_hz == pytest.approx(rate, rel=1e-5)
    assert recording.n_samples == n


# -------------------------------------------------------------------------------------- Parquet


@pytest.mark.parametrize("unit", ["ns", "us", "ms"])
@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_parquet_moments(tmp_path: Path, unit: str, zone: str | None) -> None:
    n = 2 * reader.ROWS + 7
    first = pd.Timestamp("2009-12-21 23:59:00").value // 10**6  # over a decade of 3650 days
    counts = [(first + 5 * k) * {"ns": 10**6, "us": 10**3, "ms": 1}[unit] for k in range(n)]
    counts = counts[:100] + counts[103:]
    times = pa.array([*counts[:7], None, *counts[8:]], pa.timestamp(unit, zone))
    x = RNG.normal(size=len(counts))
    field = pa.field("x", pa.float64(), metadata={b"unit": "µV".encode()})
    schema = pa.schema([pa.field("when", times.type), field])
    parquet.write_table(pa.table([times, pa.array(x)], schema), tmp_path / "a.parquet")
    recording = read_recording(tmp_path / "a.parquet")
    assert recording.rate_hz == pytest.approx(200, rel=1e-12)
    assert recording.grid.total_lost == 3
    assert recording.channels[0].unit == "µV"
    again = copied(recording, tmp_path / "b.parquet", block=999)
    assert again.channels == recording.channels
    table = parquet.read_table(tmp_path / "b.parquet")
    assert table.column("when").combine_chunks().equals(times)
    np.testing.assert_array_equal(table.column("x"), x)


def test_parquet_numbers(tmp_path: Path) -> None:
    table = pa.table(
        {
            "time_ms": pa.array([0, 250, None, 750], pa.int64()),
            "i": pa.array([1, None, 3, 4], pa.int32()),
            "f [V]": pa.array([1.5, 2.5, None, 4.5], pa.float32()),
            "d": pa.array([1, 2, 3, 4], pa.int8()).cast(pa.decimal128(5, 1)),
            "h": pa.array(np.array([1, 2, 3, 4], np.float16)),
            "text": ["a", "b", "c", "d"],
        }
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    recording = read_recording(tmp_path / "a.parquet", columns=["all"])
    assert [c.name for c in recording.channels] == ["i", "f [V]", "d", "h"]
    assert [c.unit for c in recording.channels] == ["", "V", "", ""]
    np.testing.assert_array_equal(everything(recording)[0], [1, np.nan, 3, 4])
    np.testing.assert_array_equal(everything(recording)[1], [1.5, 2.5, np.nan, 4.5])
    np.testing.assert_array_equal(everything(recording)[2:], [[1, 2, 3, 4]] * 2)
    assert recording.rate_hz == 4
    copied(recording, tmp_path / "b.parquet")
    times = parquet.read_table(tmp_path / "b.parquet").column("time_ms").combine_chunks()
    assert times.equals(table.column("time_ms").combine_chunks())


def test_parquet_columns_of_one_name(tmp_path: Path) -> None:
    one = pa.array([1.0, 2.0])
    parquet.write_table(pa.table([one, one], names=["x", "x"]), tmp_path / "a.parquet")
    for column in ("x", "1"):
        with pytest.raises(UserError, match="several columns are named 'x'"):
            read_recording(tmp_path / "a.parquet", columns=[column], rate_hz=1.0)


# ---------------------------------------------------------------------------------------- sound

SUBTYPES = [
    (".wav", "WAV", "PCM_U8", 2**-7), (".wav", "WAV", "PCM_16", 2**-15),
    (".wav", "WAV", "PCM_24", 2**-23), (".wav", "WAV", "PCM_32", 2**-31),
    (".wav", "WAV", "FLOAT", 2**-24), (".wav", "WAV", "DOUBLE", 0),
    (".wav", "RF64", "PCM_16", 2**-15), (".wav", "WAVEX", "PCM_24", 2**-23),
    (".flac", "FLAC", "PCM_S8", 2**-7), (".flac", "FLAC", "PCM_16", 2**-15),
    (".flac", "FLAC", "PCM_24", 2**-23),
]  # fmt: skip


@pytest.mark.parametrize(("ending", "kind", "subtype", "step"), SUBTYPES)
def test_sound(tmp_path: Path, ending: str, kind: str, subtype: str, step: float) -> None:
    samples = RNG.uniform(-0.95, 0.95, (reader.ROWS + 333, 2))
    path = tmp_path / f"a{ending}"
    soundfile.write(path, samples, 44_100, subtype=subtype, format=kind)
    recording = read_recording(path, columns=["all"])
    assert (recording.rate_hz, [c.name for c in recording.channels]) == (44_100, ["1", "2"])
    np.testing.assert_allclose(everything(recording).T, samples, atol=step)
    np.testing.assert_array_equal(everything(recording).T, soundfile.read(path)[0])
    again = copied(recording, tmp_path / f"b{ending}")
    assert soundfile.info(tmp_path / f"b{ending}").subtype == subtype
    np.testing.assert_array_equal(everything(again), everything(recording))


def test_sound_that_loses_is_not_written_again(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(1001), 8000, subtype="IMA_ADPCM")
    recording = read_recording(tmp_path / "a.wav")
    again = copied(recording, tmp_path / "b.wav")
    assert soundfile.info(tmp_path / "b.wav").subtype == "PCM_24"
    assert again.n_samples == recording.n_samples


def test_rf64_that_is_cut_short(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(1000), 100, format="RF64", subtype="PCM_16")
    raw = (tmp_path / "a.wav").read_bytes()
    with pytest.raises(UserError, match="cut short"):
        read_recording(written(tmp_path / "a.wav", raw[:-500]))


@pytest.mark.parametrize(("rate", "channels", "ending"), [(700_000, 1, ".flac"), (9, 9, ".flac"),
                                                          (9, 1025, ".wav")])  # fmt: skip
def test_sound_that_the_format_does_not_hold(
    tmp_path: Path, rate: int, channels: int, ending: str
) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((9, channels)), rate_hz=rate)
    columns = ["all"] if channels <= 1000 else [str(n + 1) for n in range(1000)]
    recording = read_recording(tmp_path / "a.npz", columns=columns)
    wide = recording.channels * (2 if channels > 1000 else 1)
    with (
        pytest.raises(UserError, match=r"cannot be written|at most 8 channels"),
        open_writer(recording, wide, tmp_path / f"b{ending}"),
    ):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_lost_samples_take_their_place_in_sound(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "time_s,x\n0,0.1\n1,0.2\n4,0.5\n5,0.6\n")
    recording = read_recording(path)
    with open_writer(recording, recording.channels, tmp_path / "b.wav") as writer:
        writer.write(0, np.arange(6.0)[:, None] / 10)
    np.testing.assert_array_equal(soundfile.read(tmp_path / "b.wav")[0], np.arange(6) / 10)
    for ending in (".flac", ".edf"):
        with (
            pytest.raises(UserError, match=r"has gaps, which .* cannot distinguish from zeros"),
            open_writer(recording, recording.channels, tmp_path / f"c{ending}") as writer,
        ):
            writer.write(0, recording.read(0, 6).T)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "b.wav"]


# ------------------------------------------------------------------------------------------ EDF


def write_edf(path: Path, signals: dict[str, np.ndarray], rate: float, record_s: float) -> None:
    with pyedflib.EdfWriter(str(path), len(signals), pyedflib.FILETYPE_EDFPLUS) as file:
        for i, (label, samples) in enumerate(signals.items()):
            largest = float(np.ceil(np.abs(samples).max()))
            header = {"label": label, "dimension": "uV", "sample_frequency": rate}
            header |= {"physical_max": largest, "physical_min": -largest}
            header |= {"digital_max": 32767, "digital_min": -32768}
            file.setSignalHeader(i, {**header, "transducer": "", "prefilter": ""})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if record_s != 1:
                file.setDatarecordDuration(record_s)
        n = round(rate * record_s)
        for start in range(0, len(next(iter(signals.values()))), n):
            for samples in signals.values():
                file.writePhysicalSamples(np.ascontiguousarray(samples[start : start + n]))


@pytest.mark.parametrize("record_s", [1.0, 2.0, 0.5, 0.1])
def test_edf(tmp_path: Path, record_s: float) -> None:
    n = 37 * round(200 * record_s)
    signals = {"EEG Fp1-Ref": RNG.normal(size=n) * 30, "ECG": RNG.normal(size=n)}
    write_edf(tmp_path / "a.edf", signals, 200.0, record_s)
    recording = read_recording(tmp_path / "a.edf", columns=["all"])
    assert [(c.name, c.unit) for c in recording.channels] == [("EEG Fp1-Ref", "uV"), ("ECG", "uV")]
    assert (recording.rate_hz, recording.n_samples) == (200, n)
    with pyedflib.EdfReader(str(tmp_path / "a.edf")) as file:
        for i in range(2):
            np.testing.assert_array_equal(everything(recording)[i], file.readSignal(i))
    again = copied(recording, tmp_path / "b.edf")
    assert again.channels == recording.channels
    assert (again.rate_hz, again.n_samples) == (200, n)  # its length to the sample
    np.testing.assert_allclose(everything(again)[0], signals["EEG Fp1-Ref"], atol=30 * 5 / 2**14)
    np.testing.assert_allclose(everything(again)[1], signals["ECG"], atol=5 / 2**14)


@pytest.mark.parametrize("scale", [1e-4, 3.3e-3, 1.0, 9.9e6])
def test_edf_of_any_scale(tmp_path: Path, scale: float) -> None:
    x = scale * np.sin(np.arange(400.0))
    np.savez(tmp_path / "a.npz", **{"level [µV]": x}, rate_hz=100.0)
    again = copied(read_recording(tmp_path / "a.npz"), tmp_path / "b.edf")
    np.testing.assert_allclose(everything(again)[0], x, atol=scale * 2e-4 + 1e-9)


def test_edf_names_stay_apart(tmp_path: Path) -> None:
    names = ["a channel of so long a name 1", "a channel of so long a name 2", "other", "größe"]
    np.savez(tmp_path / "a.npz", **{n: np.arange(8.0) for n in names}, rate_hz=4.0)
    again = copied(read_recording(tmp_path / "a.npz", columns=["all"]), tmp_path / "b.edf")
    assert len({channel.name for channel in again.channels}) == 4
    assert read_recording(tmp_path / "b.edf", columns=["a channel o~2"]).n_samples == 8


@pytest.mark.parametrize("scale", [1e-9, 1e8])
def test_edf_that_would_lose_everything(tmp_path: Path, scale: float) -> None:
    np.savez(tmp_path / "a.npz", x=np.full(400, scale), rate_hz=100.0)
    recording = read_recording(tmp_path / "a.npz")
    with pytest.raises(UserError, match=r"x reaches .*, and .edf holds 1e-05 to 9,900,000; scale"):
        copied(recording, tmp_path / "b.edf")
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


# ------------------------------------------------------------------------------------------ NPZ


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_shapes(tmp_path: Path, save) -> None:
    n = reader.ROWS + 11
    one, two = RNG.normal(size=n), RNG.normal(size=(n, 3)).astype(np.float32)
    save(
        tmp_path / "a.npz", a=one, b=two, c=np.asfortranarray(two), d=one[None],
        e=(one * 100).astype(">i2"), rate_hz=50, note=np.array("text"),
    )  # fmt: skip
    recording = read_recording(tmp_path / "a.npz", columns=["all"])
    expected = [one, *two.T, *two.T, one, (one * 100).astype(np.int16)]
    names = "a b_1 b_2 b_3 c_1 c_2 c_3 d e"
    assert " ".join(c.name for c in recording.channels) == names
    np.testing.assert_array_equal(everything(recording), np.array(expected, dtype=float))
    np.testing.assert_array_equal(
        everything(read_recording(tmp_path / "a.npz", columns=["c_3", "b_1"])), two.T[[2, 0]]
    )
    again = copied(recording, tmp_path / "b.npz")
    np.testing.assert_array_equal(everything(again), everything(recording))
    assert again.rate_hz == 50


TIMES = [
    np.arange(100) * np.timedelta64(5, "ms") + np.datetime64("2024-02-29T12:00:00"),
    np.arange(100) * np.timedelta64(5_000_000, "ns") + np.datetime64("2024-02-29T12:00:00", "ns"),
    np.arange(100) * 0.005,
    (np.arange(100) * 0.005).astype(np.float32),
]


@pytest.mark.parametrize("times", TIMES, ids=lambda t: str(t.dtype))
def test_npz_times(tmp_path: Path, times: np.ndarray) -> None:
    times = np.delete(times, [50, 51])
    np.savez(tmp_path / "a.npz", time=times, x=np.arange(98))
    recording = read_recording(tmp_path / "a.npz")
    assert recording.rate_hz == pytest.approx(200, rel=1e-5)
    assert np.flatnonzero(np.isnan(recording.samples)).tolist() == [50, 51]
    copied(recording, tmp_path / "b.npz", block=7)
    np.testing.assert_array_equal(np.load(tmp_path / "b.npz")["time"], times)


def test_npz_lengths_that_differ(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(5.0), y=np.arange(6.0), rate_hz=1.0)
    with pytest.raises(UserError, match=r"different lengths \(x 5, y 6\)"):
        read_recording(tmp_path / "a.npz", columns=["all"])
    assert read_recording(tmp_path / "a.npz", columns=["y"]).n_samples == 6


# --------------------------------------------------------------------------- from one to another


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".npz", ".wav", ".flac", ".edf"])
def test_a_table_becomes_any_other(tmp_path: Path, ending: str) -> None:
    table = pd.DataFrame({"time_s": np.arange(400) / 100, "b": 0.5 * np.sin(np.arange(400))})
    table.to_csv(tmp_path / "a.csv", index=False)
    again = copied(read_recording(tmp_path / "a.csv"), tmp_path / f"b{ending}")
    assert again.rate_hz == 100
    np.testing.assert_allclose(everything(again)[0], table["b"], atol=2e-5)


# ----------------------------------------------------------------------------------------- time


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4)), max_size=8), st.integers(1, 9))
def test_rows_on_the_grid_by_brute_force(pauses: list[tuple[int, int]], after: int) -> None:
    rows = np.cumsum([n for n, _ in pauses], dtype=np.int64).reshape(-1)
    lost = np.array([n for _, n in pauses], dtype=np.int64).reshape(-1)
    grid, n_rows = Grid(1.0, rows, lost), int(rows[-1] if len(rows) else 0) + after
    expected: list[int] = []
    for row in range(n_rows):
        expected += [-1] * int(lost[rows == row].sum()) + [row]
    for start in range(0, len(expected), 3):
        row, there = grid.rows_at(start, min(start + 5, len(expected)))
        actual = np.where(there, row, -1)
        assert actual.tolist() == expected[start : start + 5]


@given(
    st.lists(st.one_of(st.none(), st.integers(1, 3)), min_size=1, max_size=20), st.integers(1, 7)
)
def test_steps_where_times_are_missing(gaps: list[int | None], block: int) -> None:
    # by interpolation between known neighbours, whatever the blocks
    times, now = [0.0], 0.0
    for gap in gaps:
        now += gap or 1
        times.append(np.nan if gap is None else now)
    array = np.array(times)

    def blocks():
        for start in range(0, len(array), block):
            yield array[start : start + block]

    steps = np.concatenate([*time_grid._steps(blocks), np.zeros(0)])
    known = np.flatnonzero(np.isfinite(array))
    filled = np.interp(np.arange(known[-1] + 1), known, array[known])
    np.testing.assert_allclose(steps, np.diff(filled), atol=1e-9)


@pytest.mark.parametrize("lead", [1, 3, 70_000])
def test_times_that_are_missing_at_the_start(tmp_path: Path, lead: int) -> None:
    times = np.arange(lead + 100) / 4
    times[:lead] = np.nan
    np.savez(tmp_path / "a.npz", time=np.delete(times, [lead + 50]), x=np.arange(lead + 99.0))
    recording = read_recording(tmp_path / "a.npz")
    assert recording.rate_hz == 4
    assert np.flatnonzero(np.isnan(recording.samples)).tolist() == [lead + 50]


# --------------------------------------------------------------------------------------- survey

maybe = st.one_of(st.floats(-1e3, 1e3), st.just(np.nan), st.just(7.0))


@given(st.lists(maybe, min_size=1, max_size=60))
def test_statistics_by_brute_force(values: list[float]) -> None:
    (found,) = survey(from_array(np.array(values), 10.0))
    good = np.array([v for v in values if np.isfinite(v)])
    assert found.gaps.n_samples == len(values) - len(good)
    starts = [i for i, v in enumerate(values) if np.isnan(v)]
    assert found.gaps.n_stretches == sum(i == 0 or i - 1 not in starts for i in starts)
    if len(good):
        assert found.mean == pytest.approx(good.mean(), rel=1e-9, abs=1e-9)
        assert found.rms == pytest.approx(good.std(), rel=1e-5, abs=1e-5)
        assert (found.lowest, found.highest) == (good.min(), good.max())


def test_gaps_over_a_border() -> None:
    x = np.arange(3 * reader.ROWS, dtype=float)
    x[reader.ROWS - 5 : reader.ROWS + 5] = np.nan
    x[2 * reader.ROWS] = np.nan
    (found,) = survey(from_array(x, 1.0))
    assert found.gaps.listed == [[reader.ROWS - 5, 10], [2 * reader.ROWS, 1]]


T = np.arange(100_000) / 1000
SINE = np.sin(2 * np.pi * 1.37 * T)
NOISE = np.random.default_rng(1).normal(size=len(T))
CLIPPED = {
    "sine": np.clip(SINE, -0.8, 0.8),
    "one side": np.clip(SINE, -2, 0.7),
    "noise": np.clip(SINE + 0.1 * NOISE, -0.9, 0.9),
    "16 bits": np.rint(np.clip(1.5 * SINE, -1, 1) * 32767),
    "8 bits": np.rint(np.clip(1.5 * SINE + 0.02 * NOISE, -1, 1) * 127),
    "huge": 1e300 * np.clip(SINE, -0.8, 0.8),
    "strong noise": np.clip(SINE + 2 * NOISE, -2, 2),
}
WHOLE = {
    "sine": SINE,
    "8 bits": np.rint(SINE * 127),
    "16 bits": np.rint(SINE * 32767),
    "slow": np.rint(np.sin(T / 10) * 127),
    "few levels": np.rint(SINE * 10),
    "square": np.sign(SINE + 1e-9),
    "constant": np.ones(1000),
    "noise": NOISE,
    "noise of few levels": np.rint(NOISE),
    "ramp": T % 1,
    "counts": np.random.default_rng(2).poisson(0.5, len(T)).astype(float),
    "a code for missing values": np.where(np.arange(len(T)) % 97 < 4, -9999.0, SINE),
}


@pytest.mark.parametrize("name", CLIPPED)
def test_clipping_is_found(name: str) -> None:
    x = CLIPPED[name]
    (found,) = survey(from_array(x, 1000.0))
    at_ends = np.stack([x == x.min(), x == x.max()])
    is_clipped = [True, True] if name != "one side" else [False, True]
    assert list(found.clipped_ends) == is_clipped
    assert found.clipped.n_samples == at_ends[is_clipped].sum()
    starts = np.diff(at_ends[is_clipped].astype(int), axis=1, prepend=0) == 1
    assert found.clipped.n_stretches == starts.sum()


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_whole_is_not_called_clipped(name: str) -> None:
    (found,) = survey(from_array(WHOLE[name], 1000.0))
    assert found.clipped.n_samples == 0


def test_many_channels_are_surveyed_together(tmp_path: Path) -> None:
    x = RNG.normal(size=(3000, 300))
    np.savez(tmp_path / "a.npz", x=x, rate_hz=1.0)
    found = survey(read_recording(tmp_path / "a.npz", columns=["all"]))
    np.testing.assert_allclose([one.mean for one in found], x.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose([one.rms for one in found], x.std(axis=0), rtol=1e-12)
