"""Members of docs/kinds.py with a steady tone in noise and trends: kinds 1, 2, 9 and 12.

Rates, frequencies, powers and lengths are chosen after the cases that each kind comes from, not
tuned.
"""

from __future__ import annotations

import kinds_backgrounds as backgrounds
import numpy as np
from kinds_members import Member, Rng, member, sign, steady

STEADY = ("tracker", "tracker, causal", "sine fit")
CANCELLERS = (*STEADY, "notch", "LMS, causal")


# 1: the nominal frequency is wrong by some permille.
def _misnamed(
    rest: np.ndarray, rate_hz: float, hz: float, amplitude: float, percent: float, rng: Rng
) -> Member:
    tones, phase = steady(len(rest), rate_hz, hz, amplitude, rng)
    nominal = hz / (1 + sign(rng) * percent / 100)
    return Member(rate_hz, (nominal,), tones, rest, STEADY, phase)


@member(1, "ecg 0.1%")
def _(rng: Rng) -> Member:
    return _misnamed_ecg(rng, 0.1)


@member(1, "ecg 0.05%", quick=False)
def _(rng: Rng) -> Member:
    return _misnamed_ecg(rng, 0.05)


def _misnamed_ecg(rng: Rng, percent: float) -> Member:
    rate = float(rng.choice([250, 360, 500]))
    x, _peaks = backgrounds.ecg(int(40 * rate), rate, rng, rng.uniform(55, 95), 0.7)
    rest = x + 0.01 * rng.standard_normal(len(x))
    return _misnamed(rest, rate, float(rng.choice([50, 60])), 0.15, percent, rng)


@member(1, "lfp 0.1%")
def _(rng: Rng) -> Member:
    rate, hz = 1000.0, rng.uniform(40, 130)
    rest = backgrounds.lfp(40_000, rate, hz, rng)
    return _misnamed(rest, rate, hz, 2.0, 0.1, rng)


@member(1, "hydrophone 0.2%")
def _(rng: Rng) -> Member:
    rate = float(rng.choice([1000, 2000]))
    hz = rng.uniform(60, 200)
    rest = backgrounds.hydrophone(int(30 * rate), rate, hz, rng)
    return _misnamed(rest, rate, hz, 2.0, 0.2, rng)


@member(1, "white 0.5%")
def _(rng: Rng) -> Member:
    rate = 500.0
    return _misnamed(rng.standard_normal(20_000), rate, rng.uniform(20, 80), 1.5, 0.5, rng)


@member(1, "ppg 0.3%", quick=False)
def _(rng: Rng) -> Member:
    rate = 100.0
    rest = backgrounds.ppg(6_000, rate, rng)
    return _misnamed(rest, rate, rng.uniform(15, 35), 0.1, 0.3, rng)


# 2: more samples than the background needs.
@member(2, "white below 120, tone 100")
def _(rng: Rng) -> Member:
    rate = 1000.0
    rest = backgrounds.low_passed(rng.standard_normal(30_000), rate, 120.0)
    tones, phase = steady(30_000, rate, 100.0, 1.5, rng)
    return Member(rate, (100.0,), tones, rest, STEADY, phase)


@member(2, "eeg below 70, rate 2000 to 5000")
def _(rng: Rng) -> Member:
    rate = float(rng.choice([2000, 2500, 5000]))
    n = int(20 * rate)
    hz = float(rng.choice([50, 60]))
    rest = backgrounds.low_passed(backgrounds.eeg(n, rate, hz, rng), rate, 70.0)
    tones, phase = steady(n, rate, hz, 5.0, rng)
    return Member(rate, (hz,), tones, rest / np.sqrt(rate / 500), STEADY, phase)


@member(2, "hydrophone 4 times oversampled")
def _(rng: Rng) -> Member:
    rate = float(rng.choice([4000, 8000]))
    n = int(15 * rate)
    hz = rng.uniform(0.06, 0.11) * rate
    rest = backgrounds.low_passed(backgrounds.hydrophone(n, rate, hz, rng), rate, rate / 8, 16)
    tones, phase = steady(n, rate, hz, 1.5, rng)
    return Member(rate, (hz,), tones, rest, STEADY, phase)


@member(2, "lfp smoothed", quick=False)
def _(rng: Rng) -> Member:
    rate, hz = 1000.0, rng.uniform(30, 60)
    rest = backgrounds.lfp(30_000, rate, hz, rng)
    rest = np.convolve(rest, np.hanning(9) / np.hanning(9).sum(), "same")
    tones, phase = steady(30_000, rate, hz, 1.5, rng)
    return Member(rate, (hz,), tones, rest, STEADY, phase)


# 9: a level that climbs.
def _ramp(rng: Rng, slope: float, rate: float = 100.0, hz: float = 1.7) -> Member:
    n = 8000
    tones, phase = steady(n, rate, hz, 1.0, rng)
    climb = slope * sign(rng) * np.arange(n) / rate
    rest = climb + 0.1 * rng.standard_normal(n)
    return Member(rate, (hz,), tones, rest, (*STEADY, "least squares"), phase)


@member(9, "1 amplitude a second")
def _(rng: Rng) -> Member:
    return _ramp(rng, 1.0)


@member(9, "10 amplitudes a second")
def _(rng: Rng) -> Member:
    return _ramp(rng, 10.0)


@member(9, "100 amplitudes a second")
def _(rng: Rng) -> Member:
    return _ramp(rng, 100.0)


@member(9, "10 amplitudes a second, faster tone", quick=False)
def _(rng: Rng) -> Member:
    return _ramp(rng, 10.0, float(rng.choice([250, 500])), rng.uniform(4, 25))


@member(9, "a slope that turns", quick=False)
def _(rng: Rng) -> Member:
    made = _ramp(rng, 0.0)
    bent = 10 * np.abs(np.arange(8000) - rng.integers(2500, 5500)) / made.rate_hz
    rest = made.rest + bent
    return Member(made.rate_hz, made.hz, made.tones, rest, STEADY, made.phase_rad)


# 12: what is taken from the frequencies beside the tone's.
BESIDE = ("tracker", "tracker, causal", "notch", "FIR notch", "spectrum interpolation")


def _beside(
    rest: np.ndarray, rate_hz: float, hz: float, amplitude: float, rng: Rng, off: float = 0.0
) -> Member:
    tones, phase = steady(len(rest), rate_hz, hz * (1 + off), amplitude, rng)
    return Member(rate_hz, (hz,), tones, rest, BESIDE, phase)


@member(12, "eeg, strong hum")
def _(rng: Rng) -> Member:
    rate = float(rng.choice([250, 500, 1000]))
    rest = backgrounds.eeg(int(40 * rate), rate, 50.0, rng)
    return _beside(rest, rate, 50.0, 10.0, rng)


@member(12, "eeg, faint hum")
def _(rng: Rng) -> Member:
    rate = float(rng.choice([250, 500]))
    rest = backgrounds.eeg(int(40 * rate), rate, 50.0, rng)
    return _beside(rest, rate, 50.0, 0.3, rng)


@member(12, "ecg, hum")
def _(rng: Rng) -> Member:
    rate = float(rng.choice([250, 500]))
    x, _peaks = backgrounds.ecg(int(40 * rate), rate, rng, rng.uniform(55, 95), 0.7)
    rest = x + 0.005 * rng.standard_normal(len(x))
    return _beside(rest, rate, float(rng.choice([50, 60])), 0.1, rng)


@member(12, "ecg of narrow QRS at 1000 Hz, hum")
def _(rng: Rng) -> Member:
    x, _peaks = backgrounds.ecg(30_000, 1000.0, rng, rng.uniform(55, 95), 0.3)
    rest = x + 0.01 * rng.standard_normal(len(x))
    return _beside(rest, 1000.0, float(rng.choice([50, 60])), 0.1, rng)


@member(12, "chirps that cross the tone")
def _(rng: Rng) -> Member:
    rest = 5 * backgrounds.bursts(30_000, 1000.0, rng, 80.0, 130.0) + rng.standard_normal(30_000)
    return _beside(rest, 1000.0, 100.0, 2.0, rng)


@member(12, "lfp, hum at 49.95")
def _(rng: Rng) -> Member:
    rest = backgrounds.lfp(40_000, 1000.0, 50.0, rng)
    return _beside(rest, 1000.0, 50.0, 4.0, rng, off=-0.001)


@member(12, "speech, hum")
def _(rng: Rng) -> Member:
    rate = 8000.0
    rest = backgrounds.speech(int(12 * rate), rate, rng) + 0.01 * rng.standard_normal(
        int(12 * rate)
    )
    return _beside(rest, rate, 100.0, 0.3, rng)


@member(12, "music, hum")
def _(rng: Rng) -> Member:
    rest = backgrounds.music(60_000, 4000.0, rng)
    return _beside(rest, 4000.0, float(rng.choice([50, 100])), 0.3, rng)


@member(12, "white, strong tone", quick=False)
def _(rng: Rng) -> Member:
    return _beside(rng.standard_normal(30_000), 1000.0, rng.uniform(30, 200), 10.0, rng)
