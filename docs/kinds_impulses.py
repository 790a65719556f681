"""Members of docs/kinds.py with a steady tone among beats, bursts and combs: kinds 4, 5 and 6.

Rates, frequencies, powers and lengths are chosen after the cases that each kind comes from, not
tuned.
"""

from __future__ import annotations

import kinds_backgrounds as backgrounds
import numpy as np
from kinds_disturbances import CANCELLERS, STEADY
from kinds_members import Member, Rng, member, steady


# 4: heart beats above a hum.
@member(4, "hum a tenth of R")
def _(rng: Rng) -> Member:
    return _heart(rng, 0.1, 0.01)


@member(4, "sharp QRS, clean", quick=False)
def _(rng: Rng) -> Member:
    return _heart(rng, 0.1, 0.002, 0.5)


@member(4, "narrow QRS at 1000 Hz", draws=4)
def _(rng: Rng) -> Member:
    return _heart(rng, 0.1, 0.003, rng.uniform(0.2, 0.4), rate=1000.0)


@member(4, "narrow QRS at 1000 Hz, noisy", draws=4)
def _(rng: Rng) -> Member:
    return _heart(rng, 0.1, 0.02, rng.uniform(0.2, 0.4), rate=1000.0)


@member(4, "narrow QRS at 2000 Hz", quick=False)
def _(rng: Rng) -> Member:
    return _heart(rng, 0.1, 0.003, rng.uniform(0.2, 0.5), rate=2000.0)


@member(4, "hum a thirtieth of R", quick=False)
def _(rng: Rng) -> Member:
    return _heart(rng, 0.033, 0.01)


@member(4, "beat of an infant")
def _(rng: Rng) -> Member:
    return _heart(rng, 0.1, 0.01, 0.6, bpm=140.0)


def _heart(
    rng: Rng, hum: float, noise: float, width: float = 0.7, bpm: float = 0.0, rate: float = 0.0
) -> Member:
    rate = rate or float(rng.choice([250, 360, 500, 1000]))
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


@member(5, "bursts of 20 to 60 Hz about 331 Hz", draws=4)
def _(rng: Rng) -> Member:
    return _burst_at_line(rng, 4096.0, 331.0)


@member(5, "bursts of 20 to 60 Hz about the tone", quick=False)
def _(rng: Rng) -> Member:
    return _burst_at_line(rng, 1024.0, rng.uniform(100, 300))


def _burst_at_line(rng: Rng, rate: float, hz: float) -> Member:
    n = int(16 * rate)
    height = float(rng.choice([3.0, 10.0, 30.0]))
    burst = height * backgrounds.sine_gaussians(n, rate, rng, hz, (20.0, 60.0))
    tones, phase = steady(n, rate, hz, 3.0, rng)
    own = {"burst": burst, "burst_band_hz": (hz - 80, hz + 80)}
    return Member(rate, (hz,), tones, rng.standard_normal(n) + burst, CANCELLERS, phase, own=own)


@member(5, "chirps that cross the tone")
def _(rng: Rng) -> Member:
    rate, hz = float(rng.choice([1024, 4096])), rng.uniform(150, 331)
    n = int(16 * rate)
    burst = 5 * backgrounds.bursts(n, rate, rng, 0.85 * hz, 1.15 * hz)
    tones, phase = steady(n, rate, hz, 2.0, rng)
    own = {"burst": burst, "burst_band_hz": (0.75 * hz, 1.3 * hz)}
    return Member(rate, (hz,), tones, rng.standard_normal(n) + burst, CANCELLERS, phase, own=own)


@member(5, "line above a wall of low frequencies", quick=False)
def _(rng: Rng) -> Member:
    rate = 4096.0
    n = int(16 * rate)
    rest = backgrounds.shaped(n, rate, lambda f: 1 + (60 / np.maximum(f, 10)) ** 12, rng)
    tones, phase = steady(n, rate, 331.0, 3.0, rng)
    return Member(rate, (331.0,), tones, rest, CANCELLERS, phase)


@member(5, "speech, hum")
def _(rng: Rng) -> Member:
    rate = 8000.0
    rest = backgrounds.speech(int(10 * rate), rate, rng) + 0.01 * rng.standard_normal(
        int(10 * rate)
    )
    hz = float(rng.choice([100, 120, 150]))
    tones, phase = steady(len(rest), rate, hz, rng.uniform(0.05, 0.15), rng)
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
    tones, phase = steady(len(rest), rate, 50.0, 0.3, rng)
    return Member(rate, (50.0,), tones, rest, CANCELLERS, phase, within_hz=0.3)


# 6: combs and pulses, of which the first line alone is named, or all are.
def _comb(
    rng: Rng,
    n_lines: int,
    *,
    named: int = 1,
    rate: float = 1000.0,
    hz: float = 50.0,
    height: float = 5.0,
    in_phase: bool = True,
) -> Member:
    """Equal lines; in phase but for a delay they are a train of impulses."""
    n = int(30 * rate)
    turn, k = 2 * np.pi * hz * np.arange(n) / rate, np.arange(1, n_lines + 1)
    shift = k * rng.uniform(0, 2 * np.pi) if in_phase else rng.uniform(0, 2 * np.pi, n_lines)
    phase = turn[:, None] * k + shift + rng.uniform(0, 2 * np.pi)
    lines = height * np.cos(phase)
    rest = lines[:, named:].sum(axis=1) + rng.standard_normal(n)
    rivals = (*STEADY, "least squares")
    nominal = tuple(float(one) for one in hz * k[:named])
    return Member(rate, nominal, lines[:, :named], rest, rivals, phase[:, :named])


@member(6, "nine equal lines, one named")
def _(rng: Rng) -> Member:
    return _comb(rng, 9)


@member(6, "nine equal lines, all named", quick=False)
def _(rng: Rng) -> Member:
    return _comb(rng, 9, named=9)


@member(6, "five to eight equal lines, one named", draws=4)
def _(rng: Rng) -> Member:
    rate, hz = float(rng.choice([1000, 2000])), float(rng.choice([50, 60]))
    n_lines, height = int(rng.integers(5, 9)), float(rng.choice([2.0, 5.0, 10.0]))
    return _comb(rng, n_lines, rate=rate, hz=hz, height=height)


@member(6, "five equal lines, all named")
def _(rng: Rng) -> Member:
    return _comb(rng, 5, named=5, height=3.0)


@member(6, "seven lines of random phases, one named")
def _(rng: Rng) -> Member:
    return _comb(rng, 7, in_phase=False)


@member(6, "1 ms pulses at 30 kHz")
def _(rng: Rng) -> Member:
    return _pulses(rng, 50.0, 10.0)


@member(6, "1 ms pulses at 30 kHz, a third of the time", quick=False)
def _(rng: Rng) -> Member:
    return _pulses(rng, 300.0, 10.0)


@member(6, "1 ms pulses at 30 kHz, high", quick=False)
def _(rng: Rng) -> Member:
    return _pulses(rng, 60.0, 100.0)


def _pulses(rng: Rng, hz: float, height: float) -> Member:
    rate = 30_000.0
    n = int(4 * rate)
    cycles = (hz * np.arange(n) / rate + rng.random()) % 1
    pulses = height * (np.abs(cycles - 0.5) / hz < 0.0005)
    rotor = np.exp(2j * np.pi * cycles)
    # The fundamental of a periodic train, by its Fourier sum over whole periods.
    phasor = 2 * np.mean(pulses * rotor.conj())
    tone = (phasor * rotor).real[:, None]
    rest = pulses - tone[:, 0] + rng.standard_normal(n)
    phase = (np.angle(phasor) + 2 * np.pi * np.unwrap(cycles, period=1))[:, None]
    return Member(rate, (hz,), tone, rest, (*STEADY, "least squares"), phase)
