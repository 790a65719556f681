"""Members of docs/kinds.py whose tones change, are short, or are not there: kinds 3, 7, 8, 10, 11.

Rates, frequencies, powers and lengths are chosen after the cases that each kind comes from, not
tuned.
"""

from __future__ import annotations

import kinds_backgrounds as backgrounds
import numpy as np
from kinds_members import Member, Rng, along, member, sign, steady

FOLLOWERS = ("tracker", "tracker, causal", "phase tracker")


# 3: the frequency drifts, runs up, or falls.
def _course(
    rng: Rng, course: np.ndarray, rate: float, nominal: float, noise: float | np.ndarray
) -> Member:
    tones, phase = along(course, rate, 1.0, rng)
    return Member(
        rate, (nominal,), tones, noise * rng.standard_normal(len(course)), FOLLOWERS, phase
    )


@member(3, "drift of 0.5%")
def _(rng: Rng) -> Member:
    rate, hz = float(rng.choice([500, 1000])), rng.uniform(40, 120)
    t = np.arange(int(60 * rate)) / rate
    slow = np.sin(2 * np.pi * t / rng.uniform(25, 60) + rng.uniform(0, 6))
    return _course(rng, hz * (1 + 0.005 * slow), rate, hz, 0.4)


@member(3, "run-up of 6%")
def _(rng: Rng) -> Member:
    rate, hz = 1000.0, rng.uniform(40, 120)
    t = np.arange(60_000) / rate
    ramp = np.clip((t - 10) / 40, 0, 1) * 2 - 1
    return _course(rng, hz * (1 + 0.03 * sign(rng) * ramp), rate, hz, 0.4)


@member(3, "1 Hz a second", quick=False)
def _(rng: Rng) -> Member:
    rate, hz = 1000.0, rng.uniform(80, 150)
    t = np.arange(30_000) / rate
    back = 2 * np.abs((t / 6 + rng.random()) % 1 - 0.5) * 3 - 1.5  # up and down again, 3 Hz wide
    return _course(rng, hz + back, rate, hz, 0.3)


@member(3, "chirp of 1 Hz a second from the nominal frequency")
def _(rng: Rng) -> Member:
    rate, hz = 1000.0, rng.uniform(100, 150)
    t = np.arange(20_000) / rate
    return _course(rng, hz + sign(rng) * np.clip(t - 5, 0, 10), rate, hz, 0.3)


@member(3, "grid that falls to 48 Hz")
def _(rng: Rng) -> Member:
    rate = float(rng.choice([250, 500]))
    t = np.arange(int(60 * rate)) / rate
    fall = 2 * np.clip((t - rng.uniform(15, 25)) / rng.uniform(10, 20), 0, 1)
    wander = 0.02 * np.cumsum(rng.standard_normal(len(t))) / np.sqrt(20 * rate)
    return _course(rng, 50.0 - fall + wander, rate, 50.0, 0.4)


@member(3, "drift of 0.5% in an eeg", quick=False)
def _(rng: Rng) -> Member:
    rate, hz = 500.0, 50.0
    t = np.arange(30_000) / rate
    course = hz * (1 + 0.005 * np.sin(2 * np.pi * t / 40 + rng.uniform(0, 6)))
    tones, phase = along(course, rate, 3.0, rng)
    rest = backgrounds.eeg(len(t), rate, hz, rng)
    return Member(rate, (hz,), tones, rest, FOLLOWERS, phase)


@member(3, "machine run-up with two orders", quick=False)
def _(rng: Rng) -> Member:
    rate = 2000.0
    t = np.arange(40_000) / rate
    course = 34 * (1 + 0.03 * sign(rng) * (np.clip((t - 2) / 16, 0, 1) * 2 - 1))
    tones, phase = along(course, rate, 1.0, rng)
    rest = 0.4 * np.cos(2 * phase[:, 0] + 1) + 0.5 * rng.standard_normal(len(t))
    return Member(rate, (34.0,), tones, rest, FOLLOWERS, phase)


# 7: rhythms of some width, and tones that come and go.
def _rhythm(rng: Rng, hz: float, width: float, rate: float, over: float) -> Member:
    n = int(60 * rate)
    tone = over * backgrounds.narrow_band(n, rate, hz, width, rng)
    rest = backgrounds.eeg(n, rate, hz, rng, alpha=0.0)
    return Member(rate, (hz,), tone[:, None], rest, ("tracker", "tracker, causal", "band-pass"))


@member(7, "alpha 0.5 Hz wide")
def _(rng: Rng) -> Member:
    return _rhythm(rng, rng.uniform(9, 11), 0.5, 250.0, 0.5)


@member(7, "alpha 1 Hz wide")
def _(rng: Rng) -> Member:
    return _rhythm(rng, rng.uniform(9, 11), 1.0, 250.0, 0.5)


@member(7, "theta a tenth wide", quick=False)
def _(rng: Rng) -> Member:
    return _rhythm(rng, rng.uniform(5, 7), 0.6, float(rng.choice([128, 200])), 1.0)


@member(7, "hum that fades")
def _(rng: Rng) -> Member:
    rate, hz = 500.0, 50.0
    t = np.arange(30_000) / rate
    edge = rng.uniform(0.1, 0.4)
    gate = np.cumsum(rng.uniform(3, 7, 20))
    height = np.zeros(len(t))
    for index, at in enumerate(gate):
        height += (1 if index % 2 else -1) * np.tanh((t - at) / edge) / 2
    height = np.clip(height - height.min(), 0, 1)
    tones, phase = steady(len(t), rate, hz, 4 * height, rng)
    rest = backgrounds.eeg(len(t), rate, hz, rng)
    rivals = ("tracker", "tracker, causal", "spectrum interpolation", "band-pass")
    return Member(rate, (hz,), tones, rest, rivals, phase)


@member(7, "Rayleigh fades, wide as a hundredth", quick=False)
def _(rng: Rng) -> Member:
    return _rhythm(rng, rng.uniform(30, 60), 0.4, 500.0, 2.0)


# 8: short trials.
def _trial(rng: Rng, seconds: float, rate: float = 250.0) -> Member:
    n, hz = int(seconds * rate), rng.uniform(8, 15)
    # As strong as the evoked potential of a flicker: -12 dB in 125 Hz.
    tones, phase = steady(n, rate, hz, 0.5, rng)
    rest = backgrounds.shaped(n, rate, lambda f: (1 + hz / np.maximum(f, 1)) / 2, rng)
    return Member(rate, (hz,), tones, rest, ("tracker", "tracker, causal", "least squares"), phase)


@member(8, "2 s", draws=24)
def _(rng: Rng) -> Member:
    return _trial(rng, 2.0)


@member(8, "5 s", draws=16)
def _(rng: Rng) -> Member:
    return _trial(rng, 5.0)


@member(8, "20 s", draws=8)
def _(rng: Rng) -> Member:
    return _trial(rng, 20.0)


@member(8, "two to four periods", draws=16)
def _(rng: Rng) -> Member:
    rate = float(rng.choice([100, 250, 1000]))
    hz = rng.uniform(0.02, 0.08) * rate
    n = int(rng.uniform(2.1, 4) * rate / hz)
    tones, phase = steady(n, rate, hz, 1.0, rng)
    rest = 0.2 * rng.standard_normal(n)
    return Member(rate, (hz,), tones, rest, ("tracker", "tracker, causal", "least squares"), phase)


# 10: a faint tone under a reference that wanders.
@member(10, "steady reference", draws=6)
def _(rng: Rng) -> Member:
    return _reference(rng, 0.0)


@member(10, "reference that wanders by 0.1%", draws=6, quick=False)
def _(rng: Rng) -> Member:
    return _reference(rng, 0.001)


@member(10, "reference that wanders by 0.3%", draws=6)
def _(rng: Rng) -> Member:
    return _reference(rng, 0.003)


def _reference(rng: Rng, wander: float) -> Member:
    rate = 5000.0
    t = np.arange(int(20 * rate)) / rate
    course = 137 * (1 + wander * np.sin(2 * np.pi * t / 11))
    tones, phase = along(course, rate, 0.02, rng)
    rest = 0.2 * rng.standard_normal(len(t))
    on = (t > 2) & (t < 18)
    rivals = ("tracker", "tracker, causal")
    return Member(rate, (137.0,), tones, rest, rivals, phase, own={"amplitude_over": on})


# 11: nothing there, another line near by, and tones that are lost.
@member(11, "no tone, white noise", draws=6)
def _(rng: Rng) -> Member:
    rate = float(rng.choice([250, 1000]))
    rest = rng.standard_normal(int(20 * rate))
    hz = rng.uniform(0.03, 0.3) * rate
    return _nothing(rest, rate, hz)


@member(11, "no tone, eeg", quick=False)
def _(rng: Rng) -> Member:
    return _nothing(backgrounds.eeg(10_000, 250.0, 20.0, rng, alpha=0.5), 250.0, 20.0)


@member(11, "no tone, music", quick=False)
def _(rng: Rng) -> Member:
    rest = backgrounds.music(40_000, 4000.0, rng)
    return _nothing(rest, 4000.0, rng.uniform(500, 900))


def _nothing(rest: np.ndarray, rate: float, hz: float) -> Member:
    tones = np.zeros((len(rest), 1))
    return Member(
        rate, (hz,), tones, rest, ("tracker", "tracker, causal"), own={"expected": "nothing"}
    )


@member(11, "a tenfold line 1.3% away")
def _(rng: Rng) -> Member:
    return _near(rng, 0.3, 3.0)


# Within the default range of the search, a lone line is the tone, its nominal frequency wrong.
@member(11, "a lone line 1.3% away", quick=False)
def _(rng: Rng) -> Member:
    return _near(rng, 0.0, 3.0)


def _near(rng: Rng, amplitude: float, other: float) -> Member:
    rate, hz, n = 1000.0, rng.uniform(40, 120), 30_000
    tones, phase = steady(n, rate, hz, amplitude, rng)
    line, line_phase = steady(n, rate, hz * (1 + sign(rng) * 0.013), other, rng)
    noise = rng.standard_normal(n)
    rivals = ("tracker", "tracker, causal", "least squares", "sine fit")
    if not amplitude:
        own = {"expected": "found"}
        return Member(rate, (hz,), line, noise, rivals, line_phase, own=own)
    own = {"expected": "found, and a warning"}
    return Member(rate, (hz,), tones, line[:, 0] + noise, rivals, phase, own=own)


@member(11, "lost: the frequency jumps by 4%")
def _(rng: Rng) -> Member:
    rate, hz, n = 1000.0, rng.uniform(40, 120), 30_000
    course = np.where(np.arange(n) < n // 3, hz, hz * (1 + 0.04 * sign(rng)))
    tones, phase = along(course, rate, 1.0, rng)
    rest = 0.5 * rng.standard_normal(n)
    own = {"expected": "found, then lost"}
    return Member(rate, (hz,), tones, rest, FOLLOWERS, phase, own=own)


@member(11, "lost: away for 5 s and back 0.7% off")
def _(rng: Rng) -> Member:
    rate, hz, n = 1000.0, rng.uniform(40, 120), 30_000
    at = np.arange(n) / rate
    course = np.where(at < 10, hz, hz * (1 + 0.007 * sign(rng)))
    tones, phase = along(course, rate, 1.0 * ((at < 10) | (at > 15)), rng)
    rest = 0.5 * rng.standard_normal(n)
    own = {"expected": "found, lost, found"}
    return Member(rate, (hz,), tones, rest, FOLLOWERS, phase, own=own)


# Also 11: what the band cannot know.
@member(11, "clipped at half its height", quick=False)
def _(rng: Rng) -> Member:
    rate, hz, n = 500.0, rng.uniform(20, 80), 15_000
    tones, phase = steady(n, rate, hz, 1.0, rng)
    clipped = np.clip(tones[:, 0] + 0.1 * rng.standard_normal(n), -0.5, 0.5)
    rest = clipped - tones[:, 0]
    own = {"expected": "found, and a warning"}
    return Member(rate, (hz,), tones, rest, FOLLOWERS, phase, own=own)


@member(11, "an unresolved neighbour", quick=False)
def _(rng: Rng) -> Member:
    rate, hz, n = 500.0, rng.uniform(20, 80), 5_000
    tones, phase = steady(n, rate, hz, 1.0, rng)
    line, _ = steady(n, rate, hz + sign(rng) * 0.4 * rate / n, 0.7, rng)
    own = {"expected": "found, and a warning"}
    rest = line[:, 0] + 0.3 * rng.standard_normal(n)
    return Member(rate, (hz,), tones, rest, FOLLOWERS, phase, own=own)
