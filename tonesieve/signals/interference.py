"""What sounds beside a tone: combs of unnamed lines, speech-like and music-like mixtures.

They come without a floor. Frequencies are in cycles a sample. Axis: T samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import scipy
from jaxtyping import Complex, Float

from tonesieve.signals.distributions import Rng, log_uniform

About = dict[str, float | str | bool]

# All ranges are chosen, not tuned: they define the family of scenes.
# Combs: how many harmonics, amplitude of the strongest over the tone's, fraction of combs whose
# lines decay, and amplitude of a line over that of the line below.
HARMONICS, COMB_LEVEL, DECAYING, DECAY = (4, 15), (0.3, 10.0), 0.5, (0.6, 0.95)
# Fraction of combs in which the tone is a harmonic, of those in which it is as strong as they are,
# of combs with aligned phases (crests), and of narrow pulse trains.
LOCKED, EQUAL, ALIGNED, NARROW = 0.6, 0.6, 2 / 3, 0.35
# The tone's number among the harmonics: the first in this fraction, else up to the second number.
FUNDAMENTAL, MAX_NUMBER = 0.5, 9
# Fundamental over the tone's frequency, where the tone is none of the harmonics.
UNRELATED = (0.07, 1.8)
# Narrow pulse trains: standard deviation of a pulse over their period, and a guard in samples, so
# that what is aliased is 40 dB down.
DUTY, MIN_SIGMA = (0.005, 0.1), 1.0
# Guard: a pulse's standard deviation over the tone's period, so that the tone is part of the train.
MAX_SIGMA = 0.25
# Guards: distance of lines from tones over their frequency and in multiples of 1 / T, places that
# are tried, highest frequency (cycles a sample).
APART, APART_BINS, N_TRIALS, MAX_FREQ_CYCLES = 0.02, 8, 20, 0.495

# Mixtures: fraction of speech; rms over the tone's.
SPEECH, MIXTURE_LEVEL = 0.5, (0.3, 30.0)
# Speech: pitch over the tone's frequency, and guards (in 1 / T and in cycles a sample); standard
# deviation of its logarithm; length of a syllable (periods of the pitch).
PITCH, MIN_PITCH_BINS, MAX_PITCH = (0.05, 4.0), 20, 0.1
INTONATION, SYLLABLE = (0.03, 0.2), (6.0, 40.0)
# Vowels: how many, their formants over the pitch, bandwidth of these over their frequency.
N_VOWELS, FORMANTS, FORMANT_WIDTH = 3, ((1.0, 3.0), (3.0, 9.0), (9.0, 25.0)), (0.05, 0.2)
# Fraction of the syllables that are pauses, and of the pauses that are fricatives; loudness.
PAUSES, FRICATIVES, LOUDNESS = (0.15, 0.5), 0.3, (0.2, 1.0)
# Music: fundamental of the scale over the tone's frequency, how many notes at once and in all, how
# many partials, exponent of their decay, length (periods of the tone), decay over length, attack
# over length, loudness.
SCALE, VOICES, MAX_NOTES, PARTIALS, ROLL_OFF = (0.2, 4.0), (1, 3), 24, (2, 8), (0.5, 2.0)
NOTE_LENGTH, NOTE_DECAY, ATTACK = (10.0, 1000.0), (0.2, 3.0), (0.005, 0.1)
# Semitones about the fundamental; guards: its highest frequency (cycles a sample), distance of
# partials from tones over their frequency.
SEMITONES, MAX_SCALE, PARTIAL_APART = 12, 0.2, 0.015


def draw_comb(
    freq_cycles: float,
    amplitude: float,
    cycles: Float[np.ndarray, " T"],
    occupied: Sequence[float],
    *,
    rng: Rng,
) -> tuple[Float[np.ndarray, " T"], About]:
    """Draw harmonics of a fundamental, of which the tone may be one.

    Where it is, the other harmonics keep their phase to it, whatever its frequency; its own
    amplitude and phase modulation are not theirs.

    Parameters
    ----------
    freq_cycles : float
        Frequency of the tone, cycles a sample.
    amplitude : float
        Amplitude of the tone.
    cycles : ndarray, shape (T,)
        Phase of the tone without its modulation, cycles; 0 where the sine is.
    occupied : sequence of float
        Frequencies of known tones, cycles a sample. No line is near them.
    rng : Generator
        Source of the comb.

    Returns
    -------
    comb : ndarray, shape (T,)
        The harmonics without the tone.
    about : dict
        Every number that was drawn.
    """
    n = len(cycles)
    apart = [max(APART_BINS / n, APART * f) for f in (freq_cycles, *occupied)]
    tones = (freq_cycles, *occupied)
    ratio = None if rng.random() < LOCKED else _unrelated(freq_cycles, apart[0], rng)
    about: About = {"comb_locked": ratio is None}
    if ratio is None:
        ratio = float(_number(freq_cycles, rng))
        # The first crest of the fundamental is one of the tone.
        turns = np.asarray((cycles - 0.25) / ratio, np.float64)
        level = 1.0 if rng.random() < EQUAL else log_uniform(COMB_LEVEL, rng)
    else:
        turns = np.asarray(freq_cycles / ratio * np.arange(n) + rng.random(), np.float64)
        level = log_uniform(COMB_LEVEL, rng)
    fundamental = freq_cycles / ratio
    angle: Float[np.ndarray, " T"] = 2 * np.pi * turns
    about |= {"comb": fundamental, "comb_ratio": ratio, "comb_level": level}

    def is_clear(number: int) -> bool:
        line = number * fundamental
        pairs = zip(tones, apart, strict=True)
        return line <= MAX_FREQ_CYCLES and all(abs(line - f) >= a for f, a in pairs)

    if rng.random() < NARROW:
        sigma = log_uniform(DUTY, rng)
        sigma = max(min(sigma, MAX_SIGMA / ratio), MIN_SIGMA * fundamental)
        train, height = _pulse_train(angle, sigma, ratio)
        skipped = [k for f in tones for k in (round(f / fundamental),) if not is_clear(k)]
        for number in sorted({k for k in skipped if 0 < k * fundamental <= MAX_FREQ_CYCLES}):
            train -= 2 * height * _coefficient(sigma, number) * np.cos(number * angle)
        return level * amplitude * train, about | {"comb_form": "pulses", "pulse_sigma": sigma}
    comb, more = _harmonics(np.exp(1j * angle), ratio, is_clear, rng)
    return level * amplitude * comb, about | more


def _number(freq_cycles: float, rng: Rng) -> int:
    """The tone's number among the harmonics, such that there are enough of these."""
    number = 1 if rng.random() < FUNDAMENTAL else int(rng.integers(2, MAX_NUMBER + 1))
    return max(number, math.ceil((HARMONICS[0] + 1) * freq_cycles / MAX_FREQ_CYCLES))


def _unrelated(freq_cycles: float, apart: float, rng: Rng) -> float | None:
    """The tone's frequency over a fundamental with no harmonic near the tone."""
    for _ in range(N_TRIALS):
        ratio = 1 / log_uniform(UNRELATED, rng)
        fundamental = freq_cycles / ratio
        distance = abs(ratio - max(round(ratio), 1)) * fundamental
        if distance >= apart and HARMONICS[0] * fundamental <= MAX_FREQ_CYCLES:
            return ratio
    return None


def _pulse_train(
    angle: Float[np.ndarray, " T"], sigma: float, ratio: float
) -> tuple[Float[np.ndarray, " T"], float]:
    """Gaussian pulses at each crest, and their height, so that the line at the tone is 1."""
    distance = (angle / (2 * np.pi) + 0.5) % 1.0 - 0.5
    height = 1 / (2 * _coefficient(sigma, max(1.0, ratio)))
    return height * np.exp(-0.5 * (distance / sigma) ** 2), height


def _coefficient(sigma: float, number: float) -> float:
    """Fourier coefficient of a train of Gaussians of height 1 and period 1."""
    return sigma * math.sqrt(2 * math.pi) * math.exp(-2 * (math.pi * sigma * number) ** 2)


def _harmonics(
    carrier: Complex[np.ndarray, " T"], ratio: float, is_clear: Callable[[int], bool], rng: Rng
) -> tuple[Float[np.ndarray, " T"], About]:
    """Sum of harmonics at least up to the tone, the strongest of height 1."""
    least = max(HARMONICS[0], math.ceil(ratio))
    n_harmonics = int(rng.integers(least, max(least, HARMONICS[1]) + 1))
    aligned, decays = bool(rng.random() < ALIGNED), bool(rng.random() < DECAYING)
    decay = rng.uniform(*DECAY) if decays else 1.0
    phases = np.exp(2j * np.pi * (np.zeros(n_harmonics) if aligned else rng.random(n_harmonics)))
    numbers = [k for k in range(1, n_harmonics + 1) if is_clear(k)]
    total, power = np.zeros(len(carrier)), np.ones(len(carrier), dtype=complex)
    for number in range(1, max(numbers, default=0) + 1):
        power = power * carrier
        if number in numbers:
            phasor = decay ** (number - 1) * phases[number - 1]
            total += phasor.real * power.real - phasor.imag * power.imag
    about: About = {"comb_form": "lines", "n_harmonics": float(len(numbers))}
    return total, about | {"comb_aligned": aligned, "comb_decay": decay}


def draw_mixture(
    n_samples: int, freq_cycles: float, rms: float, occupied: Sequence[float], *, rng: Rng
) -> tuple[Float[np.ndarray, " T"], About]:
    """Draw a speech-like or music-like signal.

    Parameters
    ----------
    n_samples : int
        Length.
    freq_cycles : float
        Frequency of the tone, cycles a sample.
    rms : float
        Root mean square of the tone.
    occupied : sequence of float
        Frequencies of known tones, cycles a sample. No partial of music is near them.
    rng : Generator
        Source of the signal.

    Returns
    -------
    mixture : ndarray, shape (T,)
        The signal.
    about : dict
        Every number that was drawn, but for those of single syllables and notes.
    """
    speaks = rng.random() < SPEECH
    level = log_uniform(MIXTURE_LEVEL, rng)
    if speaks:
        signal, about = _speech(n_samples, freq_cycles, rng)
    else:
        signal, about = _music(n_samples, freq_cycles, (freq_cycles, *occupied), rng)
    power = float(np.mean(signal * signal))
    about |= {"mixture": "speech" if speaks else "music", "mixture_level": level}
    return signal * (level * rms / math.sqrt(power) if power > 0 else 0.0), about


def _speech(n: int, freq_cycles: float, rng: Rng) -> tuple[Float[np.ndarray, " T"], About]:
    """Glottal pulses of moving pitch through formants that change from vowel to vowel."""
    pitch = min(max(freq_cycles * log_uniform(PITCH, rng), MIN_PITCH_BINS / n), MAX_PITCH)
    intonation, pauses = rng.uniform(*INTONATION), rng.uniform(*PAUSES)
    syllable = min(log_uniform(SYLLABLE, rng) / pitch, n / 2)
    n_knots = math.ceil(n / syllable) + 2
    knots, at = np.arange(n_knots), np.arange(n) / syllable + rng.random()
    contour = np.interp(at, knots, intonation * rng.standard_normal(n_knots))
    excitation = _glottal_pulses(pitch * np.exp(contour), rng)
    vowel = rng.integers(0, N_VOWELS, n_knots)
    loudness = log_uniform(LOUDNESS, rng, n_knots) * (rng.random(n_knots) >= pauses)
    # Guard: something is voiced.
    loudness[1] = max(loudness[1], LOUDNESS[0])
    fricative = (loudness == 0) & (rng.random(n_knots) < FRICATIVES)
    total = np.zeros(n)
    for number in range(N_VOWELS):
        gain = np.interp(at, knots, loudness * (vowel == number))
        for low, high in FORMANTS:
            formant, strength = pitch * rng.uniform(low, high), log_uniform(LOUDNESS, rng)
            width = log_uniform(FORMANT_WIDTH, rng)
            if formant < MAX_FREQ_CYCLES:
                total += strength * gain * _resonate(excitation, formant, width * formant)
    hiss = np.diff(rng.standard_normal(n + 1)) * math.sqrt(float(np.mean(total * total)) / 2)
    total += np.interp(at, knots, 0.5 * fricative) * hiss
    about: About = {"pitch": pitch, "intonation": intonation, "syllable": syllable}
    return total, about | {"pauses": pauses}


def _glottal_pulses(pitch: Float[np.ndarray, " T"], rng: Rng) -> Float[np.ndarray, " T"]:
    """Impulses, one a cycle, each divided between the two samples about it."""
    phase = np.cumsum(pitch) + rng.random()
    crossed = np.flatnonzero(np.diff(np.floor(phase)) > 0) + 1
    late = (phase[crossed] % 1.0) / pitch[crossed]
    excitation = np.zeros(len(pitch))
    excitation[crossed] = 1 - late
    excitation[crossed - 1] += late
    return excitation


def _resonate(
    excitation: Float[np.ndarray, " T"], freq_cycles: float, width: float
) -> Float[np.ndarray, " T"]:
    """Two-pole band-pass of gain 1 at its centre, with zeros at 0 and at half the rate."""
    radius = math.exp(-math.pi * width)
    a = [1.0, -2 * radius * math.cos(2 * math.pi * freq_cycles), radius * radius]
    b = (1 - radius * radius) / 2 * np.array([1.0, 0.0, -1.0])
    filtered: Float[np.ndarray, " T"] = scipy.signal.lfilter(b, a, excitation)
    return filtered


def _music(
    n: int, freq_cycles: float, tones: Sequence[float], rng: Rng
) -> tuple[Float[np.ndarray, " T"], About]:
    """Notes of several partials, none of them near a known tone."""
    base = min(freq_cycles * log_uniform(SCALE, rng), MAX_SCALE)
    length = log_uniform(NOTE_LENGTH, rng)
    n_voices, n_partials = (int(rng.integers(a, b + 1)) for a, b in (VOICES, PARTIALS))
    roll_off = rng.uniform(*ROLL_OFF)
    mean_length = max(length / freq_cycles, n * n_voices / MAX_NOTES, 4.0)
    total, n_notes = np.zeros(n), 0
    for _ in range(n_voices):
        start = -mean_length * rng.random()
        while start < n:
            lasts = mean_length * rng.uniform(0.5, 1.5)
            first = max(0, round(start))
            last = max(first, min(n, round(start + lasts)))
            fundamental = base * 2 ** (int(rng.integers(-SEMITONES, SEMITONES + 1)) / 12)
            note = _note(np.arange(first, last) - start, lasts, fundamental, n_partials, roll_off,
                         tones, rng)  # fmt: skip
            total[first:last] += note
            start, n_notes = start + lasts, n_notes + 1
    about: About = {"scale_freq": base, "note_length": mean_length, "n_notes": float(n_notes)}
    about |= {"n_voices": float(n_voices), "n_partials": float(n_partials)}
    return total, about | {"roll_off": roll_off}


def _note(
    time: Float[np.ndarray, " N"], length: float, fundamental: float, n_partials: int,
    roll_off: float, tones: Sequence[float], rng: Rng,
) -> Float[np.ndarray, " N"]:  # fmt: skip
    decay, attack = length * log_uniform(NOTE_DECAY, rng), length * log_uniform(ATTACK, rng)
    loudness, phases = log_uniform(LOUDNESS, rng), np.exp(2j * np.pi * rng.random(n_partials))
    envelope = loudness * (1 - np.exp(-time / attack)) * np.exp(-time / decay)
    envelope *= np.minimum((length - time) / attack, 1.0)
    carrier, power = np.exp(2j * np.pi * fundamental * time), np.ones(len(time), dtype=complex)
    total = np.zeros(len(time))
    for number in range(1, n_partials + 1):
        power, partial = power * carrier, number * fundamental
        near = any(abs(partial - tone) < PARTIAL_APART * tone for tone in tones)
        if partial <= MAX_FREQ_CYCLES and not near:
            total += number**-roll_off * (phases[number - 1] * power).imag
    return envelope * total
