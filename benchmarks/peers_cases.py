"""The cases of benchmarks/peers.py: known tones in the noise of real recordings, drawn by seed.

All frequencies, lengths and powers are chosen, not tuned; frequencies keep clear of lines that a
recording has of its own. A tone's SNR is stated over white noise as strong as the recording within
10% of its frequency. Axes: C channels, T samples, K tones.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import kinds_backgrounds
import kinds_records
import numpy as np
import peers_noise
from kinds_members import Rng, sign

SEED = 17
# Range of the SNR (dB) where a row states none.
SNR_DB = (-6.0, 6.0)
# Spread (dB) of the harmonics' SNR, and of the channels' amplitudes.
HARMONIC_SPREAD_DB, CHANNEL_SPREAD_DB = 5.0, 4.0
MISNAMED, DRIFT, COMB_WANDER, APART = 0.006, 0.005, 0.002, 0.005
# Cycles that two close tones are apart in a record.
BEATS = 8.0
# Fraction of a record that is missing, and the longest gap in periods of the tone.
MISSING, LONGEST_GAP = 0.12, 8.0
# Fraction of a channel's noise that comes from the other channels' sources.
MIXED = 0.5


@dataclass(frozen=True)
class Row:
    """What a case is drawn from.

    Attributes
    ----------
    kind : str
        What the tone does.
    noise : str
        A key of `peers_noise.NOISES`.
    hz : tuple of float
        Range of the nominal frequency.
    n : int
        Samples.
    snr_db : tuple of float
        Range of the SNR.
    orders : int
        Harmonics of a comb, its fundamental included; 1 for a single tone.
    channels : int
        Channels.
    """

    kind: str
    noise: str
    hz: tuple[float, float]
    n: int = 8000
    snr_db: tuple[float, float] = SNR_DB
    orders: int = 1
    channels: int = 1

    @property
    def name(self) -> str:
        """How ``--only`` and the page call it."""
        of = f"{self.orders} harmonics" * (self.orders > 1)
        many = f"{self.channels} channels" * (self.channels > 1)
        return ", ".join(word for word in (self.kind, of, many, self.noise) if word)


@dataclass(frozen=True)
class Case:
    """A recording whose tones are known.

    Attributes
    ----------
    row : Row
        What it was drawn from.
    rate_hz : float
        Samples a second.
    hz : tuple of float
        Nominal frequencies (K,), as a user would state them.
    tones : ndarray, shape (C, T)
        Sum of the named tones.
    rest : ndarray, shape (C, T)
        All else.
    phase_rad : ndarray, shape (C, T, K)
        Phases of the named tones.
    missing : ndarray of bool, shape (C, T)
        Samples that are not there.
    """

    row: Row
    rate_hz: float
    hz: tuple[float, ...]
    tones: np.ndarray
    rest: np.ndarray
    phase_rad: np.ndarray
    missing: np.ndarray

    @property
    def samples(self) -> np.ndarray:
        """The recording (C, T); NaN where a sample is missing."""
        return np.where(self.missing, np.nan, self.rest + self.tones)


ROWS = (
    Row("steady", "ecg", (25, 55)),
    Row("steady", "music", (900, 2500), 16000),
    Row("steady", "broadband", (0.15, 0.4)),
    Row("misnamed", "eeg", (15, 45)),
    Row("misnamed", "emg", (60, 140)),
    Row("misnamed", "very long period", (0.006, 0.02)),
    Row("drifting", "seismometer", (20, 40)),
    Row("drifting", "eeg, 1 kHz", (60, 90)),
    Row("drifting", "music", (900, 2500), 16000),
    Row("fading", "ecg at rest", (55, 90)),
    Row("fading", "broadband", (0.15, 0.4)),
    Row("fading", "strong motion", (48, 65)),
    Row("bursts", "eeg", (15, 45), snr_db=(0, 10)),
    Row("bursts", "music", (900, 2500), 16000, (0, 10)),
    Row("bursts", "geophones", (130, 165), snr_db=(0, 10)),
    Row("comb", "ecg", (28, 33), orders=5),
    Row("comb", "seismometer", (12, 14), orders=6),
    Row("comb", "eeg, 1 kHz", (41, 44), orders=10),
    Row("comb", "ecg at rest", (21, 23), orders=20),
    Row("comb", "music", (100, 120), orders=20),
    Row("close pair", "seismometer", (20, 40)),
    Row("close pair", "polar motion", (1 / 250, 1 / 120)),
    Row("close neighbour", "music", (900, 2500)),
    Row("close neighbour", "geophones", (130, 165)),
    Row("faint", "ecg", (25, 55), 16000, (-20, -20)),
    Row("faint", "seismometer", (20, 40), 16000, (-20, -20)),
    Row("faint", "eeg, 1 kHz", (60, 90), 16000, (-20, -20)),
    Row("short", "eeg", (8, 15), snr_db=(3, 10)),
    Row("short", "pulse wave", (5, 9), snr_db=(3, 10)),
    Row("short", "co2", (0.02, 0.04), snr_db=(3, 10)),
    Row("stepped", "ecg", (25, 55)),
    Row("stepped", "emg", (60, 140)),
    Row("gappy", "eeg", (15, 45)),
    Row("gappy", "pulse wave", (15, 35), 2400),
    Row("gappy", "broadband", (0.15, 0.4)),
    Row("slow", "polar motion", (1 / 2100, 1 / 1900), 23000),
    Row("slow", "seismometer", (0.09, 0.11), 40000),
    Row("near half the rate", "ecg at rest", (460, 490)),
    Row("near half the rate", "emg", (460, 490)),
    Row("many", "geophones", (130, 165), channels=6),
    Row("many", "strong motion", (48, 65), channels=6),
    Row("many", "eeg, 1 kHz", (60, 90), channels=8),
    Row("many", "eeg", (15, 45), 6000, channels=32),
    Row("many, in phase", "eeg", (15, 45), 6000, (15, 25), channels=32),
    Row("many, comb", "eeg, 1 kHz", (41, 44), orders=5, channels=8),
    Row("many, apart", "eeg, 1 kHz", (60, 90), channels=8),
)  # fmt: skip
N_SHORT = 3.0  # periods


def draw(row: Row, seed: int = 0) -> Case:
    """The case of a row; the same for the same seed, whatever else is drawn."""
    rng = np.random.default_rng([SEED, zlib.crc32(row.name.encode()), seed])
    whole, rate_hz = peers_noise.load(row.noise)
    hz = float(rng.uniform(*row.hz))
    n = row.n if row.kind != "short" else int(np.ceil(N_SHORT * rate_hz / hz))
    rest, n = _excerpts(whole, row.channels, n, rng), min(n, whole.shape[1])
    courses = _courses(row, hz, n, rate_hz, rng)
    named = _named(row, hz, n, rate_hz)
    in_phase = row.kind == "many, in phase"
    phase = _phases(courses, named, hz, rate_hz, row.channels, rng, in_phase=in_phase)
    amplitude = _amplitudes(row, whole, rate_hz, named, rng)
    tones = amplitude[:, None] * _envelope(row.kind, n, rng)[None, :, None] * np.cos(phase)
    if row.kind == "close neighbour":  # the second tone belongs to the rest
        rest, tones, phase, named = rest + tones[..., 1], tones[..., :1], phase[..., :1], named[:1]
    return Case(
        row, rate_hz, named, tones.sum(axis=2), rest, phase,
        _missing(row, hz / rate_hz, n, rng),
    )  # fmt: skip


def _excerpts(whole: np.ndarray, n_channels: int, n: int, rng: Rng) -> np.ndarray:
    """Channels (C, T): the recording's own, or excerpts of one that are mixed with each other."""
    n = min(n, whole.shape[1])
    if n_channels in (1, len(whole)):
        at = int(rng.integers(0, whole.shape[1] - n + 1))
        return whole[:n_channels, at : at + n].copy()
    starts = rng.integers(0, whole.shape[1] - n + 1, n_channels)
    signs = rng.choice([-1, 1], n_channels)
    sources = np.stack(
        [whole[0, at : at + n][::one] for at, one in zip(starts, signs, strict=True)]
    )
    mixing = rng.standard_normal((n_channels, n_channels)) / np.sqrt(n_channels)
    return (1 - MIXED) * sources + MIXED * mixing @ sources


def _courses(row: Row, hz: float, n: int, rate_hz: float, rng: Rng) -> np.ndarray:
    """Frequency of the first named tone in each channel (C, T)."""
    t = np.arange(n) / n
    if row.kind == "misnamed":
        course = np.full(n, hz * (1 + MISNAMED * sign(rng)))
    elif row.kind == "drifting":
        course = hz * (1 + DRIFT * np.sin(2 * np.pi * (1.5 * t + rng.random())))
    elif row.orders > 1:
        wander = kinds_backgrounds.power_law(n, rate_hz, 2.0, rate_hz / n, rng)
        course = hz * (1 + COMB_WANDER * wander / np.std(wander))
    elif row.kind == "many, apart":
        own = rng.uniform(-1, 1, row.channels)
        phase = 2 * np.pi * rng.random((row.channels, 1))
        return hz * (1 + APART * (own[:, None] + np.sin(2 * np.pi * t + phase)) / 2)
    else:
        course = np.full(n, hz)
    return np.repeat(course[None], row.channels, axis=0)


def _named(row: Row, hz: float, n: int, rate_hz: float) -> tuple[float, ...]:
    """Nominal frequencies of the tones."""
    if row.kind.startswith("close"):
        return (hz, hz + BEATS * rate_hz / n)
    return tuple(order * hz for order in range(1, row.orders + 1))


def _phases(
    courses: np.ndarray,
    named: tuple[float, ...],
    hz: float,
    rate_hz: float,
    n_channels: int,
    rng: Rng,
    *,
    in_phase: bool,
) -> np.ndarray:
    """Phases (C, T, K): every tone on the first one's course, with lags of their own."""
    cycles = np.cumsum(courses, axis=1)[..., None] / rate_hz * (np.array(named) / hz)
    lags = rng.uniform(0, 2 * np.pi, (1 if in_phase else n_channels, 1, len(named)))
    return 2 * np.pi * cycles + lags


def _amplitudes(
    row: Row, whole: np.ndarray, rate_hz: float, named: tuple[float, ...], rng: Rng
) -> np.ndarray:
    """Amplitudes (C, K) of the stated SNR over the recording near each tone."""
    level = np.array(
        [[kinds_records.density_near(one, rate_hz, hz) for hz in named] for one in whole]
    )
    snr_db = rng.uniform(*row.snr_db) + np.zeros((row.channels, len(named)))
    if row.orders > 1:
        snr_db = snr_db + HARMONIC_SPREAD_DB * rng.standard_normal(len(named))
    if row.channels > 1:
        snr_db = snr_db + CHANNEL_SPREAD_DB * rng.standard_normal((row.channels, 1))
    channels = np.arange(row.channels) % len(whole)
    return np.sqrt(2) * 10 ** (snr_db / 20) * level[channels]


def _envelope(kind: str, n: int, rng: Rng) -> np.ndarray:
    """Amplitude over time (T,), at most 1."""
    return ENVELOPES[kind](n, rng) if kind in ENVELOPES else np.ones(n)


def _fades(n: int, rng: Rng) -> np.ndarray:
    """Three to six fades, nearly to nothing."""
    cycles = rng.uniform(3, 6) * np.arange(n) / n + rng.random()
    return 0.525 + 0.475 * np.cos(2 * np.pi * cycles)


def _bursts(n: int, rng: Rng) -> np.ndarray:
    """Five bursts, each of 6% of the record, with edges of a tenth of that."""
    length = int(0.06 * n)
    burst = np.minimum(1, 10 * np.bartlett(length) / 2)
    envelope = np.zeros(n)
    for part in range(5):
        at = int((part + rng.uniform(0, 0.6)) * n / 5)
        envelope[at : at + length] = burst[: n - at]
    return envelope


def _steps(n: int, rng: Rng) -> np.ndarray:
    """Three levels, changed at once."""
    edges = (np.sort(rng.uniform(0.2, 0.8, 2)) * n).astype(int)
    return np.array([0.3, 1.0, 0.5])[np.searchsorted(edges, np.arange(n), side="right")]


ENVELOPES: dict[str, Callable[[int, Rng], np.ndarray]] = {
    "fading": _fades,
    "bursts": _bursts,
    "stepped": _steps,
}


def _missing(row: Row, freq_cycles: float, n: int, rng: Rng) -> np.ndarray:
    """Gaps of up to `LONGEST_GAP` periods, until `MISSING` of the samples are away."""
    missing = np.zeros((row.channels, n), bool)
    while row.kind == "gappy" and missing.mean() < MISSING:
        length = int(rng.uniform(0.1, LONGEST_GAP) / freq_cycles) + 1
        at = int(rng.integers(0, n - length))
        missing[:, at : at + length] = True
    return missing
