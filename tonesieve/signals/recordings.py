"""Real recordings in and out: samples, rate, channels; and resampling between rates."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import soundfile
import soxr
from jaxtyping import Float

from tonesieve.errors import UserError
from tonesieve.files import replacing

FORMATS = (".csv", ".wav")
TIME_COLUMNS = ("time_s", "time", "t", "seconds", "t_s")
# Time stamps are usually rounded decimals: a step may be off by 1% of itself.
UNEVEN = 0.01
TAIL = 512  # samples, at the slower rate, that the resampling filter reaches on either side


@dataclass(frozen=True)
class Recording:
    """One channel of a real recording."""

    samples: Float[np.ndarray, " T"]
    rate_hz: float
    path: Path
    time: pd.Series | None = None  # CSV: the time column as it was
    subtype: str | None = None  # WAV: the sample format as it was


def read_recording(
    path: Path, *, column: str | None = None, rate_hz: float | None = None
) -> Recording:
    """Read one channel of a CSV or WAV file.

    CSV: ``column`` names the channel; without it there must be just one beside the time column.
    The rate follows from the time column (named time_s, time, t or seconds, in seconds) or is
    given as ``rate_hz``. Without a header line columns are named 1, 2, ... ; lines at the top that
    begin with # are passed over. WAV: ``column`` is the channel's number from 1.

    Raises `UserError` for a file that is missing, empty, of another format, has text in a
    number column, uneven time stamps, no such column, or NaN.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if rate_hz is not None and not 0 < rate_hz < math.inf:
        raise UserError(f"{path}: --rate {rate_hz:g}: must be above 0 Hz")
    readers = {".csv": _read_csv, ".wav": _read_wav}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: ending {path.suffix!r}; readable are {', '.join(FORMATS)}")
    recording = reader(path, column, rate_hz)
    _check_samples(recording.samples, path)
    return recording


def write_tones(
    recording: Recording,
    tones: Float[np.ndarray, "T K"],
    frequencies_hz: Sequence[float],
    path: Path,
    *,
    force: bool = False,
) -> None:
    """Write tones in the recording's format, rate and length.

    CSV: the time column (or none) and ``tone``, or ``tone_3Hz``, ... for several. WAV: a channel
    a tone, in the recording's own sample format. Raises `UserError` as `replacing` does.
    """
    if path.suffix.lower() != recording.path.suffix.lower():
        raise UserError(
            f"{path}: the recording is {recording.path.suffix}; end the output's name so too"
        )
    with replacing(path, force=force) as file:
        if path.suffix.lower() == ".csv":
            _write_csv(recording, tones, tone_names(frequencies_hz), file)
        else:
            _write_wav(recording, tones, file)


def tone_names(frequencies_hz: Sequence[float]) -> list[str]:
    """Column names: ``tone`` for one frequency, ``tone_3Hz``, ``tone_5Hz`` for several."""
    return ["tone"] if len(frequencies_hz) == 1 else [f"tone_{f:.12g}Hz" for f in frequencies_hz]


def clipped_on_writing(recording: Recording, tones: Float[np.ndarray, "T K"]) -> int:
    """How many samples of the tones lie beyond full scale of the recording's WAV format."""
    if recording.subtype is None or recording.subtype in ("FLOAT", "DOUBLE"):
        return 0
    return int(np.sum(np.abs(tones) > 1.0))


def resample(
    samples: Float[np.ndarray, " T"], from_hz: float, to_hz: float, *, n_out: int | None = None
) -> Float[np.ndarray, " N"]:
    """Bring samples from one rate to another, band-limited (soxr, very high quality).

    Sample 0 stays at time 0. The ends are continued by odd reflection before filtering, so that
    they do not ring. ``n_out`` samples come back (default: round(T * to / from)).
    """
    n_out = round(len(samples) * to_hz / from_hz) if n_out is None else n_out
    if from_hz == to_hz and n_out == len(samples):
        return samples.copy()
    # The lead is cut off again after resampling, so it must be a whole number of samples at
    # both rates: the best of many lengths is, to a hundredth of a sample, whatever the ratio.
    ratio = to_hz / from_hz
    shortest = math.ceil(TAIL * max(1.0, 1 / ratio))
    leads = np.arange(shortest, shortest + 100_000)
    lead_in = int(leads[np.argmin(np.abs(leads * ratio - np.rint(leads * ratio)))])
    lead_out = round(lead_in * ratio)
    extended = np.pad(samples, lead_in, mode="reflect", reflect_type="odd")
    out = soxr.resample(extended, from_hz, to_hz, quality="VHQ")
    return out[lead_out : lead_out + n_out]


def _read_wav(path: Path, column: str | None, rate_hz: float | None) -> Recording:
    if rate_hz is not None:
        raise UserError(f"{path}: a WAV file states its own rate; leave --rate away")
    try:
        with soundfile.SoundFile(path) as file:
            subtype, rate, kind = file.subtype, file.samplerate, file.format
            samples = file.read(dtype="float64", always_2d=True)
    except (soundfile.LibsndfileError, ValueError) as error:
        raise UserError(f"{path}: not a WAV file that can be read ({error})") from None
    if kind not in ("WAV", "WAVEX", "RF64"):
        raise UserError(f"{path}: not a WAV file but {kind}; convert it first")
    _check_whole_wav(path)
    channel = _wav_channel(path, column, samples.shape[1])
    return Recording(samples[:, channel], float(rate), path, subtype=subtype)


def _check_whole_wav(path: Path) -> None:
    """A file shorter than its own header says was cut off."""
    with path.open("rb") as file:
        head = file.read(8)
    size = int.from_bytes(head[4:8], "little")
    streamed = size in (0, 2**32 - 1)  # a writer that could not go back to say
    if head[:4] == b"RIFF" and not streamed and size + 8 > path.stat().st_size + 1:
        raise UserError(f"{path}: cut short; its header promises {size + 8} bytes")


def _wav_channel(path: Path, column: str | None, n_channels: int) -> int:
    if column is None and n_channels == 1:
        return 0
    numbers = [str(i + 1) for i in range(n_channels)]
    if column not in numbers:
        what = "several channels" if column is None else f"no channel {column!r}"
        raise UserError(f"{path}: {what}; choose --column {' or '.join(numbers)}")
    return int(column) - 1


def _read_csv(path: Path, column: str | None, rate_hz: float | None) -> Recording:
    table = _read_table(path)
    time_name = next((c for c in table.columns if c.lower() in TIME_COLUMNS), None)
    name = _csv_channel(path, table, column, time_name)
    samples = _numbers(path, table, name)
    time = None if time_name is None else table[time_name]
    if rate_hz is None:
        if time_name is None:
            raise UserError(
                f"{path}: no time column ({', '.join(TIME_COLUMNS)}); give the rate with --rate"
            )
        rate_hz = _rate_from(path, _numbers(path, table, time_name))
    return Recording(samples, rate_hz, path, time=time)


def _read_table(path: Path) -> pd.DataFrame:
    try:
        n_comments, first = _head(path)
        bare = all(_is_number(word) for word in first.split(","))
        with warnings.catch_warnings():
            # Rows longer than the header would lose their ends.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                path,
                skiprows=n_comments,
                header=None if bare else 0,
                index_col=False,
                skip_blank_lines=False,  # a blank line is a missing value, not nothing
                skipinitialspace=True,
                low_memory=False,
            )
    except pd.errors.EmptyDataError:
        raise UserError(f"{path}: empty; a header line and numbers are needed") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"{path}: not a CSV table ({reason})") from None
    if bare:
        table.columns = [str(i + 1) for i in range(table.shape[1])]
    filled = np.flatnonzero(table.notna().any(axis=1))  # blank lines at the end are nothing
    if filled.size == 0:
        raise UserError(f"{path}: empty; a header line and numbers are needed")
    return table.iloc[: filled[-1] + 1].rename(columns=str)


def _head(path: Path) -> tuple[int, str]:
    """How many comment lines stand at the top, and the line after them."""
    with path.open(encoding="utf-8-sig") as file:  # spreadsheets put a mark at the start
        for number, line in enumerate(file):
            if not line.startswith("#"):
                return number, line
    return 0, ""


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _csv_channel(path: Path, table: pd.DataFrame, column: str | None, time_name: str | None) -> str:
    channels = [c for c in table.columns if c != time_name]
    if column is not None:
        if column not in channels:
            raise UserError(f"{path}: no column {column!r}; there are {', '.join(channels)}")
        return column
    if len(channels) == 1:
        return channels[0]
    if not channels:
        raise UserError(f"{path}: no column beside {time_name}; one with samples is needed")
    raise UserError(f"{path}: several columns; choose --column {' or '.join(channels)}")


def _numbers(path: Path, table: pd.DataFrame, name: str) -> Float[np.ndarray, " T"]:
    values = table[name]
    numbers = pd.to_numeric(values, errors="coerce")
    truth = pd.api.types.is_bool_dtype(values)
    bad = np.flatnonzero(truth | (numbers.isna() & values.notna()))
    if bad.size:
        raise UserError(
            f"{path}: column {name}, row {bad[0] + 1}: {values.iloc[bad[0]]!r} is not a number"
        )
    return numbers.to_numpy(dtype=np.float64)


def _rate_from(path: Path, time_s: Float[np.ndarray, " T"]) -> float:
    if len(time_s) < 2:
        raise UserError(f"{path}: one row tells no rate; give it with --rate")
    steps = np.diff(time_s)
    mean = (time_s[-1] - time_s[0]) / (len(time_s) - 1)
    # A missing time counts as standing still; the median, because one gap would move the mean.
    steps = np.where(np.isfinite(steps), steps, 0.0)
    usual = float(np.median(steps))
    uneven = np.flatnonzero(np.abs(steps - usual) > UNEVEN * abs(usual))
    if uneven.size or not usual > 0:
        row = int(uneven[0]) + 2 if uneven.size else 2
        raise UserError(
            f"{path}: uneven time stamps at row {row}; resample the recording evenly first"
        )
    return _tidy(1 / mean)


def _tidy(rate_hz: float) -> float:
    """Drop the rounding of decimal time stamps: 199.99999999 Hz is 200 Hz."""
    rounded = float(f"{rate_hz:.9g}")
    return rounded if abs(rounded - rate_hz) < 1e-9 * rate_hz else rate_hz


def _check_samples(samples: Float[np.ndarray, " T"], path: Path) -> None:
    if len(samples) == 0:
        raise UserError(f"{path}: empty; it holds no samples")
    bad = np.flatnonzero(~np.isfinite(samples))
    if bad.size:
        raise UserError(
            f"{path}: {bad.size} samples are not finite numbers, the first in row {bad[0] + 1}; "
            "fill or cut these gaps first"
        )


def _write_csv(
    recording: Recording, tones: Float[np.ndarray, "T K"], names: list[str], file: BinaryIO
) -> None:
    table = pd.DataFrame(tones, columns=names)
    if recording.time is not None:
        table.insert(0, recording.time.name, recording.time.to_numpy())
    table.to_csv(file, index=False, lineterminator="\n")


def _write_wav(recording: Recording, tones: Float[np.ndarray, "T K"], file: BinaryIO) -> None:
    whole = io.BytesIO()  # so that a full disk meets our own writing, not the library's callback
    rate = round(recording.rate_hz)
    soundfile.write(whole, tones, rate, subtype=recording.subtype, format="WAV")
    file.write(whole.getbuffer())
