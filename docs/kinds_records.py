"""Members of docs/kinds.py in the noise of real recordings, of kinds 1 to 5, 7, 8, 11 and 12.

The recordings lie under tests/data/records and examples. Each starts at a random place, half of
them reversed in time. A tone's power is stated over the recording's own within 10% of the
frequency.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import kinds_backgrounds as backgrounds
import numpy as np
from kinds_disturbances import BESIDE, CANCELLERS, STEADY
from kinds_members import Member, Rng, along, member, sign, steady
from scipy.signal import find_peaks, resample_poly

ROOT = Path(__file__).parent.parent
RECORDS, SEISMOMETER = (
    ROOT / "tests" / "data" / "records",
    ROOT / "examples" / "seismometer" / "seismometer_200hz.csv",
)
NAMES = (
    "ecg_mitbih",
    "ecg_plux",
    "eeg_physionet",
    "eeg_plux",
    "emg_plux",
    "music_vibe_ace",
    "ppg_heartpy",
    "seismometer",
)


@cache
def load(name: str) -> tuple[np.ndarray, float]:
    """Samples of a recording, of standard deviation 1, and its rate."""
    if name == "seismometer":
        x, rate_hz = np.loadtxt(SEISMOMETER, delimiter=",", skiprows=1, usecols=1), 200.0
    else:
        with np.load(RECORDS / f"{name}.npz") as kept:
            x, rate_hz = kept["samples"].astype(float), float(kept["rate_hz"])
    return (x - x.mean()) / x.std(), rate_hz


def excerpt(name: str, rng: Rng, seconds: float, *, turn: bool = True) -> tuple[np.ndarray, float]:
    """A stretch of a recording and its rate; ``turn``: maybe reversed in time."""
    x, rate_hz = load(name)
    n = min(int(seconds * rate_hz), len(x))
    at = int(rng.integers(0, len(x) - n + 1))
    piece = x[at : at + n]
    return (piece[::-1].copy() if turn and rng.random() < 0.5 else piece.copy()), rate_hz


def density_near(x: np.ndarray, rate_hz: float, hz: float) -> float:
    """Standard deviation of white noise as strong as the recording within 10% of a frequency."""
    at = np.fft.rfftfreq(len(x), 1 / rate_hz)
    power = np.abs(np.fft.rfft(np.hanning(len(x)) * x)) ** 2 / np.sum(np.hanning(len(x)) ** 2)
    return float(np.sqrt(np.median(power[np.abs(at - hz) < 0.1 * hz]) / np.log(2)))


def in_record(
    name: str,
    rng: Rng,
    hz: float,
    over: float,
    *,
    seconds: float = 30.0,
    off: float = 0.0,
    rivals: tuple[str, ...] = STEADY,
) -> Member:
    """A steady tone ``over`` times the noise there, at 1 + ``off`` times its nominal frequency."""
    rest, rate_hz = excerpt(name, rng, seconds)
    amplitude = over * density_near(rest, rate_hz, hz)
    tones, phase = steady(len(rest), rate_hz, hz * (1 + off), amplitude, rng)
    return Member(rate_hz, (hz,), tones, rest, rivals, phase)


# 1: the nominal frequency is wrong by some permille. The tones keep clear of the recordings' hum.
@member(1, "real ecg 0.1%")
def _(rng: Rng) -> Member:
    return in_record("ecg_mitbih", rng, rng.uniform(40, 55), 2.0, off=0.001 * sign(rng))


@member(1, "real ecg 0.3%", quick=False)
def _(rng: Rng) -> Member:
    return in_record("ecg_plux", rng, rng.uniform(55, 90), 2.0, off=0.003 * sign(rng))


@member(1, "real eeg 0.2%")
def _(rng: Rng) -> Member:
    return in_record("eeg_physionet", rng, rng.uniform(25, 50), 2.0, off=0.002 * sign(rng))


@member(1, "real seismometer 0.1%")
def _(rng: Rng) -> Member:
    hz = rng.uniform(20, 40)
    return in_record("seismometer", rng, hz, 2.0, seconds=100.0, off=0.001 * sign(rng))


@member(1, "real ppg 0.1%", quick=False)
def _(rng: Rng) -> Member:
    return in_record("ppg_heartpy", rng, rng.uniform(15, 40), 2.0, off=0.001 * sign(rng))


# 2: as recorded at four times the rate.
@member(2, "real eeg, four times oversampled")
def _(rng: Rng) -> Member:
    hz = rng.uniform(30, 60)
    return _oversampled(in_record("eeg_physionet", rng, hz, 2.0), 4, rng)


@member(2, "real ecg, three times oversampled", quick=False)
def _(rng: Rng) -> Member:
    hz = rng.uniform(60, 100)
    return _oversampled(in_record("ecg_mitbih", rng, hz, 2.0), 3, rng)


@member(2, "real music, twice oversampled", quick=False)
def _(rng: Rng) -> Member:
    hz = rng.uniform(1500, 3000)
    return _oversampled(in_record("music_vibe_ace", rng, hz, 1.0, seconds=4.0), 2, rng)


def _oversampled(made: Member, factor: int, rng: Rng) -> Member:
    rest, rate_hz = resample_poly(made.rest, factor, 1), factor * made.rate_hz
    amplitude = float(np.sqrt(2 * np.mean(made.tones**2)))
    tones, phase = steady(len(rest), rate_hz, made.hz[0], amplitude, rng)
    return Member(rate_hz, made.hz, tones, rest, made.rivals, phase)


# 4: hum a tenth of the R peaks.
@member(4, "real ecg at 360 Hz")
def _(rng: Rng) -> Member:
    return _heart("ecg_mitbih", rng, 50.0)


@member(4, "real ecg at 1000 Hz")
def _(rng: Rng) -> Member:
    return _heart("ecg_plux", rng, 60.0)


@member(4, "real ecg at 250 Hz", quick=False)
def _(rng: Rng) -> Member:
    made = _heart("ecg_plux", rng, 50.0)
    rest = resample_poly(made.rest, 1, 4)
    tones, phase = steady(len(rest), 250.0, 50.0, 0.1, rng)
    peaks = np.round(made.own["r_peaks"] / 4).astype(int)
    return Member(250.0, (50.0,), tones, rest, CANCELLERS, phase, own={"r_peaks": peaks})


def _heart(name: str, rng: Rng, hz: float) -> Member:
    rest, rate_hz = excerpt(name, rng, 30.0, turn=False)
    apart, width = int(0.3 * rate_hz), int(0.12 * rate_hz)
    threshold = 0.5 * np.quantile(rest, 0.998)
    peaks, _ = find_peaks(rest, height=threshold, distance=apart, prominence=threshold)
    peaks = peaks[(peaks > width) & (peaks < len(rest) - width)]
    rest /= np.median(rest[peaks])
    tones, phase = steady(len(rest), rate_hz, hz, 0.1, rng)
    return Member(rate_hz, (hz,), tones, rest, CANCELLERS, phase, own={"r_peaks": peaks})


# 5: music and muscle.
@member(5, "real music, hum")
def _(rng: Rng) -> Member:
    rest, rate_hz = excerpt("music_vibe_ace", rng, 6.0, turn=False)
    hz = float(rng.choice([50, 100, 120]))
    tones, phase = steady(len(rest), rate_hz, hz, 0.2, rng)
    return Member(rate_hz, (hz,), tones, rest, CANCELLERS, phase)


@member(5, "real music, whistle", quick=False)
def _(rng: Rng) -> Member:
    rest, rate_hz = excerpt("music_vibe_ace", rng, 6.0, turn=False)
    hz = rng.uniform(900, 2500)
    tones, phase = steady(len(rest), rate_hz, hz, 0.1, rng)
    return Member(rate_hz, (hz,), tones, rest, CANCELLERS, phase)


@member(5, "real emg bursts, hum")
def _(rng: Rng) -> Member:
    return in_record("emg_plux", rng, 60.0, 1.0, seconds=15.0, rivals=CANCELLERS)


# 7: rhythms and fades in a real eeg.
@member(7, "alpha 0.5 Hz wide in a real eeg")
def _(rng: Rng) -> Member:
    return _rhythm(rng, 0.5)


@member(7, "alpha 1 Hz wide in a real eeg")
def _(rng: Rng) -> Member:
    return _rhythm(rng, 1.0)


def _rhythm(rng: Rng, width_hz: float) -> Member:
    # At 13.5 Hz, where the recording has no rhythm of its own.
    rest, rate_hz = excerpt("eeg_physionet", rng, 60.0)
    hz, n = 13.5, len(rest)
    tone = density_near(rest, rate_hz, hz) * backgrounds.narrow_band(n, rate_hz, hz, width_hz, rng)
    rivals = ("tracker", "tracker, causal", "band-pass")
    return Member(rate_hz, (hz,), tone[:, None], rest, rivals)


@member(7, "hum on and off in a real eeg")
def _(rng: Rng) -> Member:
    rest, rate_hz = excerpt("eeg_physionet", rng, 60.0)
    t = np.arange(len(rest)) / rate_hz
    on = (np.searchsorted(np.cumsum(rng.uniform(2, 6, 40)), t) % 2).astype(float)
    width = int(0.2 * rate_hz)
    height = np.convolve(on, np.hanning(width) / np.hanning(width).sum(), "same")
    amplitude = 6 * density_near(rest, rate_hz, 50.0) * height
    tones, phase = steady(len(rest), rate_hz, 50.0, amplitude, rng)
    rivals = ("tracker", "tracker, causal", "spectrum interpolation", "band-pass")
    return Member(rate_hz, (50.0,), tones, rest, rivals, phase)


# 3: a drift in real noise.
@member(3, "drift of 0.5% in a real seismometer")
def _(rng: Rng) -> Member:
    rest, rate_hz = excerpt("seismometer", rng, 100.0)
    hz, t = rng.uniform(20, 40), np.arange(len(rest)) / rate_hz
    course = hz * (1 + 0.005 * np.sin(2 * np.pi * t / 40 + rng.uniform(0, 6)))
    amplitude = 3 * density_near(rest, rate_hz, hz)
    tones, phase = along(course, rate_hz, amplitude, rng)
    rivals = ("tracker", "tracker, causal", "phase tracker")
    return Member(rate_hz, (hz,), tones, rest, rivals, phase)


# 8: trials of a real eeg.
def _trial(rng: Rng, seconds: float, over: float) -> Member:
    name = str(rng.choice(["eeg_physionet", "eeg_plux"]))
    rivals = ("tracker", "tracker, causal", "least squares")
    hz = rng.uniform(12, 20)
    return in_record(name, rng, hz, over, seconds=seconds, rivals=rivals)


@member(8, "2 s of a real eeg", draws=24)
def _(rng: Rng) -> Member:
    return _trial(rng, 2.0, 0.8)


@member(8, "5 s of a real eeg", draws=16)
def _(rng: Rng) -> Member:
    return _trial(rng, 5.0, 0.8)


@member(8, "20 s of a real eeg", draws=8, quick=False)
def _(rng: Rng) -> Member:
    return _trial(rng, 20.0, 0.8)


# 11: nothing there.
@member(11, "no tone, real eeg", draws=4)
def _(rng: Rng) -> Member:
    rest, rate_hz = excerpt(str(rng.choice(["eeg_physionet", "eeg_plux"])), rng, 20.0)
    rivals = ("tracker", "tracker, causal")
    hz = rng.uniform(20, 45)
    tones = np.zeros((len(rest), 1))
    return Member(rate_hz, (hz,), tones, rest, rivals, own={"expected": "nothing"})


@member(11, "no tone, real ecg", quick=False)
def _(rng: Rng) -> Member:
    rest, rate_hz = excerpt("ecg_mitbih", rng, 30.0)
    rivals = ("tracker", "tracker, causal")
    tones = np.zeros((len(rest), 1))
    return Member(rate_hz, (45.0,), tones, rest, rivals, own={"expected": "nothing"})


# 12: what is taken from the neighbourhood.
@member(12, "real ecg, hum")
def _(rng: Rng) -> Member:
    return in_record("ecg_mitbih", rng, 50.0, 3.0, rivals=BESIDE)


@member(12, "real ecg at 1000 Hz, hum")
def _(rng: Rng) -> Member:
    return in_record("ecg_plux", rng, 60.0, 3.0, rivals=BESIDE)


@member(12, "real eeg, hum")
def _(rng: Rng) -> Member:
    return in_record("eeg_plux", rng, 60.0, 10.0, rivals=BESIDE)


@member(12, "real eeg, a tone of 20 Hz")
def _(rng: Rng) -> Member:
    return in_record("eeg_physionet", rng, 20.0, 1.0, rivals=BESIDE)


@member(12, "real emg, hum")
def _(rng: Rng) -> Member:
    return in_record("emg_plux", rng, 60.0, 1.0, rivals=BESIDE)


@member(12, "real music, hum")
def _(rng: Rng) -> Member:
    return in_record("music_vibe_ace", rng, 100.0, 2.0, seconds=7.0, rivals=BESIDE)


@member(12, "real ppg", quick=False)
def _(rng: Rng) -> Member:
    return in_record("ppg_heartpy", rng, 25.0, 3.0, rivals=BESIDE)
