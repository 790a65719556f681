"""Members of docs/kinds.py with steady tones in unsteady rests: kinds 1, 2, 4, 5, 6, 9, 12.

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


# 4: heart beats above a hum.
@member(4, "hum a tenth of R")
def _(rng: Rng) -> Member:
    return _heart(rng, 0.1, 0.01)


@member(4, "sharp QRS, clean", quick=False)
def _(rng: Rng) -> Member:
    return _heart(rng, 0.1, 0.002, 0.5)


@member(4, "hum a thirtieth of R", quick=False)
def _(rng: Rng) -> Member:
    return _heart(rng, 0.033, 0.01)


@member(4, "mean beat of an infant")
def _(rng: Rng) -> Member:
    return _heart(rng, 0.1, 0.01, 0.6, bpm=140.0)


def _heart(rng: Rng, hum: float, noise: float, width: float = 0.7, bpm: float = 0.0) -> Member:
    rate = float(rng.choice([250, 360, 500, 1000]))
    n = int(30 * rate)
    x, peaks = backgrounds.ecg(n, rate, rng, bpm or rng.uniform(55, 95), width)
    hz = float(rng.choice([50, 60]))
    tones, phase = steady(n, rate, hz, hum, rng)
    rest = x + noise * rng.standard_normal(n)
    return Member(rate, (hz,), tones, rest, CANCELLERS, phase, own={"r_peaks": peaks})


# 5: bursts, speech and music above a steady tone.
@member(5, "chirps beside 331 Hz")
def _(rng: Rng) -> Member:
    rate = 4096.0
    n = int(24 * rate)
    noise = backgrounds.shaped(n, rate, lambda f: 1 + (40 / np.maximum(f, 15)) ** 4, rng)
    burst = 8 * backgrounds.bursts(n, rate, rng, 20.0, 60.0)
    tones, phase = steady(n, rate, 331.0, 20.0, rng)
    own = {"burst": burst, "burst_band_hz": (12.0, 80.0)}
    return Member(rate, (331.0,), tones, 0.5 * noise + burst, CANCELLERS, phase, own=own)


@member(5, "loud chirps near the tone", quick=False)
def _(rng: Rng) -> Member:
    rate = 1000.0
    burst = 10 * backgrounds.bursts(30_000, rate, rng, 20.0, 60.0)
    hz = rng.uniform(90, 140)
    tones, phase = steady(30_000, rate, hz, 2.0, rng)
    own = {"burst": burst, "burst_band_hz": (12.0, 80.0)}
    rest = 0.2 * rng.standard_normal(30_000) + burst
    return Member(rate, (hz,), tones, rest, CANCELLERS, phase, own=own)


@member(5, "speech, hum")
def _(rng: Rng) -> Member:
    rate = 8000.0
    rest = backgrounds.speech(int(10 * rate), rate, rng) + 0.01 * rng.standard_normal(
        int(10 * rate)
    )
    hz = float(rng.choice([100, 120, 150]))
    tones, phase = steady(len(rest), rate, hz, 0.15, rng)
    return Member(rate, (hz,), tones, rest, CANCELLERS, phase)


@member(5, "speech, whistle")
def _(rng: Rng) -> Member:
    rate = float(rng.choice([8000, 16000]))
    n = int(8 * rate)
    rest = backgrounds.speech(n, rate, rng) + 0.01 * rng.standard_normal(n)
    hz = rng.uniform(600, 2500)
    tones, phase = steady(n, rate, hz, 0.3, rng)
    return Member(rate, (hz,), tones, rest, CANCELLERS, phase)


@member(5, "music, hum")
def _(rng: Rng) -> Member:
    rate = 8000.0
    rest = backgrounds.music(int(12 * rate), rate, rng)
    hz = float(rng.choice([50, 60, 100]))
    tones, phase = steady(len(rest), rate, hz, 0.1, rng)
    return Member(rate, (hz,), tones, rest, CANCELLERS, phase)


@member(5, "music, bass at 49 beside hum at 50")
def _(rng: Rng) -> Member:
    rate = 4000.0
    rest = backgrounds.music(int(20 * rate), rate, rng, bass_hz=49.0)
    tones, phase = steady(len(rest), rate, 50.0, 0.15, rng)
    return Member(rate, (50.0,), tones, rest, CANCELLERS, phase)


# 6: combs and pulses, of which the first line alone is named, or all are.
def _comb(
    n: int, rate: float, hz: float, heights: np.ndarray, rng: Rng, noise: float, named: int
) -> Member:
    drawn = [steady(n, rate, hz * (k + 1), one, rng) for k, one in enumerate(heights)]
    tones = np.concatenate([tone for tone, _ in drawn[:named]], axis=1)
    phase = np.concatenate([one for _, one in drawn[:named]], axis=1)
    rest = sum((tone[:, 0] for tone, _ in drawn[named:]), noise * rng.standard_normal(n))
    nominal = tuple(hz * (k + 1) for k in range(named))
    return Member(rate, nominal, tones, rest, (*STEADY, "least squares"), phase)


@member(6, "nine equal lines, one named")
def _(rng: Rng) -> Member:
    return _comb(30_000, 1000.0, 50.0, np.full(9, 5.0), rng, 1.0, 1)


@member(6, "nine equal lines in phase, one named", quick=False)
def _(rng: Rng) -> Member:
    n, rate, hz = 30_000, 1000.0, 50.0
    turn = 2 * np.pi * hz * np.arange(n) / rate
    lines = np.stack([5 * np.sin(k * turn + 0.7 * k) for k in range(1, 10)], axis=1)
    rest = lines[:, 1:].sum(axis=1) + rng.standard_normal(n)
    phase = (turn + 0.7 - np.pi / 2)[:, None]
    return Member(rate, (hz,), lines[:, :1], rest, (*STEADY, "least squares"), phase)


@member(6, "five to seven equal lines, one named")
def _(rng: Rng) -> Member:
    n_lines, rate = int(rng.integers(5, 8)), float(rng.choice([1000, 2000]))
    return _comb(int(20 * rate), rate, 60.0, np.full(n_lines, 3.0), rng, 1.0, 1)


@member(6, "five equal lines, all named")
def _(rng: Rng) -> Member:
    return _comb(20_000, 1000.0, 50.0, np.full(5, 3.0), rng, 1.0, 5)


@member(6, "1 ms pulses at 30 kHz")
def _(rng: Rng) -> Member:
    rate, hz = 30_000.0, 50.0
    n = int(4 * rate)
    cycles = (hz * np.arange(n) / rate + rng.random()) % 1
    away = (cycles - 0.5) / hz
    pulses = 10 * (np.abs(away) < 0.0005)
    rotor = np.exp(2j * np.pi * cycles)
    # The fundamental of a periodic train, by its Fourier sum over whole periods.
    phasor = 2 * np.mean(pulses * rotor.conj())
    tone = (phasor * rotor).real[:, None]
    rest = pulses - tone[:, 0] + rng.standard_normal(n)
    phase = (np.angle(phasor) + 2 * np.pi * np.unwrap(cycles, period=1))[:, None]
    return Member(rate, (hz,), tone, rest, (*STEADY, "least squares"), phase)


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


@member(12, "lfp, hum at 49.95")
def _(rng: Rng) -> Member:
    rest = backgrounds.lfp(40_000, 1000.0, 50.0, rng)
    return _beside(rest, 1000.0, 50.0, 4.0, rng, off=-0.001)


@member(12, "speech, hum", quick=False)
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
