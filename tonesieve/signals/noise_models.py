"""Noise models of the scenes, as strong at the tone as white noise of variance 1.

That is said of the stationary floor. What is not stationary comes on top of it, as strong as stated
relative to the tone.

==========  =====================================================================================
white       white, or mildly coloured by one pole
red         falls as 1/f^beta above a corner; or a steep hump below the tone over a white floor;
            or rises towards high frequencies
low-passed  flat up to 1.1 to 4 times the tone's frequency, or only in a band about it, or a
            resonance at 0.7 to 1.4 times it; steep, and 20 to 100 dB lower elsewhere
lines       white or mildly red, and unknown spectral lines, some of them narrow-band noise
comb        white or mildly red, and 4 to 15 harmonics or narrow pulses of one fundamental, 0.3 to
            10 times the tone; in 6 of 10 scenes the tone is a harmonic and the others keep their
            phase to it
impulses    white or mildly red, and rare impulses, single samples or short decaying bursts
pulses      white or mildly red, and heartbeat-like waves 0.2 to 3 periods wide, every 3 to 300
            periods, 1 to 50 times the tone's amplitude, with slower waves between them
transients  white or mildly red, and clicks, pops, steps of the level, chirps, bursts beside the
            tone, movements and wavelets about it, 0.2 to 50 times the tone's amplitude
mixture     white or mildly red, and a speech-like or music-like signal, -10 to 30 dB over the tone
==========  =====================================================================================

Axes: T samples, F bins. Frequencies are in cycles a sample. All ranges are chosen, not tuned: they
define the family of scenes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy
from jaxtyping import Float

from tonesieve.signals.distributions import Rng, log_uniform
from tonesieve.signals.interference import draw_comb, draw_mixture
from tonesieve.signals.spectral_shaping import (
    circle_bins,
    mean_power,
    power_law_density,
    resonance_density,
    shaped_noise,
    smooth,
)
from tonesieve.signals.transients import draw_pulses, draw_transients

NOISES = (
    "white", "red", "low-passed", "lines", "comb", "impulses", "pulses", "transients", "mixture",
)  # fmt: skip
# Of plain scenes.
PLAIN_NOISES = ("white", "red", "lines")
About = dict[str, float | str | bool]

# Guard: no noise has more power than this over the tone's, on average (dB).
MAX_NOISE_DB = 90.0
# white: fraction of scenes with one pole, and its largest modulus; samples after which the pole has
# forgotten its start.
COLOURED, POLE, POLE_LEAD = 0.4, 0.5, 64
# red: fraction of scenes of each form; exponent of the power law, of mild ones under lines and
# impulses, and of the rising one; corner of the power law over the tone's frequency.
FORMS = {"fall": 0.9 - 1 / 3, "hump": 1 / 3, "rise": 0.1}
FALL, MILD_FALL, RISE = (0.5, 5.0), (0.3, 1.2), (0.5, 2.5)
CORNER = (1 / 300, 1 / 3)
# The hump: its frequency over the tone's, its quality factor, how often the resonance is cascaded,
# and its power over the tone's (dB).
HUMP_PLACE, HUMP_QUALITY, HUMP_ORDER = (1 / 30, 1 / 2), (1.0, 10.0), (1, 2)
HUMP_DB = (0.0, MAX_NOISE_DB)
# low-passed: fraction of scenes of each form; edges and resonance over the tone's frequency,
# order of the Butterworth edges, depth of the stop-band (dB), quality factor and order of the
# resonance.
BANDS = {"low-pass": 0.5, "band-pass": 0.3, "resonance": 0.2}
UPPER_EDGE, LOWER_EDGE, EDGE_ORDER, STOP_DB = (1.1, 4.0), (0.1, 0.9), (4.0, 40.0), (20.0, 100.0)
RESONANCE_PLACE, RESONANCE_QUALITY, RESONANCE_ORDER = (0.7, 1.4), (1.0, 15.0), (2, 3, 4)
# lines: how many; power over the tone's (dB); distance from the tone over its frequency and in
# multiples of 1 / T; fraction of scenes with harmonics; fraction of lines that are narrow-band
# noise, and their quality factor.
LINES, LINE_DB = (1, 4), (-20.0, 40.0)
LINE_APART, LINE_BINS = 0.02, 8
HARMONIC, WANDERING, LINE_QUALITY = 1 / 3, 0.4, (20.0, 2000.0)
# Guard: a line's bandwidth (standard deviation) is at most this fraction of its distance to the
# tone, so that it is no noise at the tone.
LINE_BAND = 0.15
# impulses: fraction of the samples that begin one, height over the noise's standard deviation,
# length of the bursts (samples), fractions of scenes with bursts and with one sign.
IMPULSE_SHARE, IMPULSE_HEIGHT, IMPULSE_LENGTH = (1e-3, 0.03), (5.0, 50.0), (2, 10)
DECAYING, ONE_SIGN = 0.4, 0.4
# Guard: places that are tried for a line, and its lowest and highest frequency, in 1 / T and in
# cycles a sample.
N_TRIALS, MIN_LINE_BINS, MAX_FREQ_CYCLES = 20, 2, 0.495


def draw_noise(
    kind: str,
    n_samples: int,
    freq_cycles: float,
    *,
    tone_power: float,
    occupied: Sequence[float] = (),
    cycles: Float[np.ndarray, " T"] | None = None,
    plain: bool = False,
    rng: Rng,
) -> tuple[Float[np.ndarray, " T"], About]:
    """Draw noise around a tone.

    Parameters
    ----------
    kind : str
        One of `NOISES`.
    n_samples : int
        Length.
    freq_cycles : float
        Frequency of the tone, cycles a sample.
    tone_power : float
        Power of the tone.
    occupied : sequence of float
        Frequencies that no line may be near, cycles a sample.
    cycles : ndarray, shape (T,), optional
        Phase of the tone without its modulation, cycles; by default that of a sine.
    plain : bool
        Whether white noise has no colour (default False).
    rng : Generator
        Source of the noise.

    Returns
    -------
    noise : ndarray, shape (T,)
        As strong at the tone as white noise of variance 1; what is not stationary comes on top.
    about : dict
        Every number that was drawn.
    """
    max_power = tone_power * 10 ** (MAX_NOISE_DB / 10)
    if kind == "white":
        return _white(n_samples, freq_cycles, plain, rng)
    if kind == "red":
        return _red(n_samples, freq_cycles, tone_power, rng)
    if kind == "low-passed":
        return _low_passed(n_samples, freq_cycles, max_power, rng)
    noise, about = _mild(n_samples, freq_cycles, max_power, rng)
    amplitude = math.sqrt(2 * tone_power)
    if kind == "lines":
        added, more = _lines(n_samples, freq_cycles, tone_power, occupied, rng)
    elif kind == "comb":
        if cycles is None:
            cycles = freq_cycles * np.arange(n_samples)
        added, more = draw_comb(freq_cycles, amplitude, cycles, occupied, rng=rng)
    elif kind == "impulses":
        added, more = _impulses(n_samples, freq_cycles, float(noise.std()), rng)
    elif kind == "pulses":
        added, more = draw_pulses(n_samples, freq_cycles, amplitude, rng=rng)
    elif kind == "transients":
        added, more = draw_transients(n_samples, freq_cycles, amplitude, rng=rng)
    else:
        rms = math.sqrt(tone_power)
        added, more = draw_mixture(n_samples, freq_cycles, rms, occupied, rng=rng)
    return noise + added, about | more


def _white(
    n: int, freq_cycles: float, plain: bool, rng: Rng
) -> tuple[Float[np.ndarray, " T"], About]:
    coloured, pole = rng.random() < COLOURED, rng.uniform(-POLE, POLE)
    noise = rng.standard_normal(n + POLE_LEAD)
    if plain or not coloured:
        return noise[POLE_LEAD:], {"pole": 0.0}
    at_tone = abs(1 - pole * np.exp(-2j * np.pi * freq_cycles))
    filtered = scipy.signal.lfilter([1.0], [1.0, -pole], noise)
    return at_tone * filtered[POLE_LEAD:], {"pole": pole}


def _mild(
    n: int, freq_cycles: float, max_power: float, rng: Rng
) -> tuple[Float[np.ndarray, " T"], About]:
    """White in half of the scenes, else mildly red."""
    if rng.random() < 0.5:
        return rng.standard_normal(n), {"fall": 0.0}
    return _power_law(n, freq_cycles, rng.uniform(*MILD_FALL), max_power, rng)


def _red(
    n: int, freq_cycles: float, tone_power: float, rng: Rng
) -> tuple[Float[np.ndarray, " T"], About]:
    form = str(rng.choice(list(FORMS), p=list(FORMS.values())))
    max_power = tone_power * 10 ** (MAX_NOISE_DB / 10)
    if form == "hump":
        noise, about = _hump(n, freq_cycles, tone_power, rng)
    else:
        fall = rng.uniform(*FALL) if form == "fall" else -rng.uniform(*RISE)
        noise, about = _power_law(n, freq_cycles, fall, max_power, rng)
    return noise, {"form": form, **about}


def _power_law(
    n: int, freq_cycles: float, fall: float, max_power: float, rng: Rng
) -> tuple[Float[np.ndarray, " T"], About]:
    """Density 1/f^fall above a corner and flat below, 1 at the tone; rising if negative."""
    corner = freq_cycles * log_uniform(CORNER, rng)
    length, f = circle_bins(n)
    # Less steep until the power is within bounds.
    grid = np.geomspace(1 / length, 0.5, 128)
    while (
        mean_power(power_law_density(grid, corner, freq_cycles, fall), grid) > max_power
        and abs(fall) > 0.01
    ):
        fall *= 0.95
    density = power_law_density(f, corner, freq_cycles, fall)
    return shaped_noise(np.sqrt(density), n, length, rng), {"fall": fall, "corner": corner}


def _hump(
    n: int, freq_cycles: float, tone_power: float, rng: Rng
) -> tuple[Float[np.ndarray, " T"], About]:
    """A resonance far below the tone and stronger than it, above a white floor."""
    centre, quality = freq_cycles * log_uniform(HUMP_PLACE, rng), log_uniform(HUMP_QUALITY, rng)
    order = int(rng.choice(HUMP_ORDER))
    length, f = circle_bins(n)
    bell, at_tone = (
        resonance_density(x / centre, quality, order) for x in (f, np.array([freq_cycles]))
    )
    mean = float(2 * bell[1:].mean() / 2)
    # Derived: with a floor of 1 and a hump of height h the power is (1 + h mean) / (1 + h at_tone),
    # over the density at the tone; h for the wanted power, as far as the hump's own skirt allows.
    wanted = tone_power * 10 ** (rng.uniform(*HUMP_DB) / 10)
    wanted = float(np.clip(wanted, 1.5, max(1.5, 0.95 * mean / at_tone[0])))
    height = (wanted - 1) / max(mean - wanted * at_tone[0], 1e-3 * mean)
    density = (1 + height * bell) / (1 + height * at_tone[0])
    about: About = {"hump": centre, "quality": quality, "order": float(order)}
    return shaped_noise(np.sqrt(density), n, length, rng), about | {"hump_power": wanted}


def _low_passed(
    n: int, freq_cycles: float, max_power: float, rng: Rng
) -> tuple[Float[np.ndarray, " T"], About]:
    """Noise of a band that holds the tone, over a far weaker white floor."""
    form = str(rng.choice(list(BANDS), p=list(BANDS.values())))
    upper, lower = (freq_cycles * log_uniform(edge, rng) for edge in (UPPER_EDGE, LOWER_EDGE))
    order, stop_db = log_uniform(EDGE_ORDER, rng), rng.uniform(*STOP_DB)
    centre, quality = (
        freq_cycles * log_uniform(RESONANCE_PLACE, rng),
        log_uniform(RESONANCE_QUALITY, rng),
    )
    cascade = int(rng.choice(RESONANCE_ORDER))
    about: About = {"band": form, "stop_db": stop_db}
    if form == "resonance":
        about |= {"resonance": centre, "quality": quality, "order": float(cascade)}
    else:
        about |= {"upper_edge": upper, "order": order}
        about |= {"lower_edge": lower} if form == "band-pass" else {}

    def decibels(f: Float[np.ndarray, " F"]) -> Float[np.ndarray, " F"]:
        if form == "resonance":
            passed = resonance_density(f / centre, quality, cascade) / quality ** (2 * cascade)
        else:
            passed = 1 / (1 + (f / upper) ** (2 * order))
            if form == "band-pass":
                passed = passed / (1 + (lower / np.maximum(f, 1e-3 * lower)) ** (2 * order))
        return 10 * np.log10(passed + 10 ** (-stop_db / 10))

    length, f = circle_bins(n)
    at_tone = float(decibels(np.array([freq_cycles]))[0])
    # Less steep until the power is within bounds.
    grid, steepness = np.geomspace(1 / length, 0.5, 256), 1.0
    while mean_power(10 ** (steepness * (decibels(grid) - at_tone) / 10), grid) > max_power:
        steepness *= 0.9
        if steepness < 0.01:
            break
    gain = 10 ** (steepness * (decibels(f) - at_tone) / 20)
    return shaped_noise(gain, n, length, rng), about | {"steepness": steepness}


def _lines(
    n: int, freq_cycles: float, tone_power: float, occupied: Sequence[float], rng: Rng
) -> tuple[Float[np.ndarray, " T"], About]:
    index = np.arange(n)
    total = np.zeros(n)
    harmonics = bool(rng.random() < HARMONIC)
    about: About = {"line_harmonics": harmonics}
    for number in range(int(rng.integers(LINES[0], LINES[1] + 1))):
        line = place_line(freq_cycles, n, occupied, harmonic=harmonics and number < 2, rng=rng)
        level_db, wanders = rng.uniform(*LINE_DB), rng.random() < WANDERING
        quality = log_uniform(LINE_QUALITY, rng)
        if line is None:
            continue
        # Derived: 2.355 standard deviations are the full width at half maximum of a Gaussian.
        width = min(line / (2.355 * quality), LINE_BAND * abs(line - freq_cycles))
        start = np.exp(2j * np.pi * rng.random())
        phasor = smooth(n, width, rng=rng) / math.sqrt(2) if wanders else start
        amplitude = math.sqrt(2 * tone_power * 10 ** (level_db / 10))
        total += amplitude * (phasor * np.exp(2j * np.pi * (line * index % 1.0))).imag
        about |= {f"line_{number}": line, f"line_{number}_db": level_db}
        about[f"line_{number}_width"] = width if wanders else 0.0
    return total, about


def place_line(
    freq_cycles: float, n_samples: int, occupied: Sequence[float], *, harmonic: bool, rng: Rng
) -> float | None:
    """Draw the frequency of a line, apart from the tone and from occupied frequencies.

    Parameters
    ----------
    freq_cycles : float
        Frequency of the tone, cycles a sample.
    n_samples : int
        Length of the record.
    occupied : sequence of float
        Frequencies that the line may not be near, cycles a sample.
    harmonic : bool
        Whether it is a harmonic or subharmonic of the tone.
    rng : Generator
        Source of the frequency.

    Returns
    -------
    float or None
        Cycles a sample; None where none was found.
    """
    apart = max(LINE_BINS / n_samples, LINE_APART * freq_cycles)
    lowest = MIN_LINE_BINS / n_samples
    for _ in range(N_TRIALS if lowest < MAX_FREQ_CYCLES else 0):
        multiple = float(rng.choice([1 / 3, 1 / 2, 2, 3, 4, 5]))
        near = freq_cycles * (1 + log_uniform((LINE_APART, 0.5), rng) * rng.choice([-1, 1]))
        far = log_uniform((max(freq_cycles / 30, lowest), MAX_FREQ_CYCLES), rng)
        line = freq_cycles * multiple if harmonic else near if rng.random() < 0.5 else far
        others = [abs(line - other) for other in occupied]
        is_clear = abs(line - freq_cycles) >= apart and all(d >= apart for d in others)
        if is_clear and lowest <= line <= MAX_FREQ_CYCLES:
            return float(line)
    return None


def _impulses(
    n: int, freq_cycles: float, deviation: float, rng: Rng
) -> tuple[Float[np.ndarray, " T"], About]:
    """Rare impulses; ``impulse_variance`` is that of white noise as strong at the tone."""
    probability = log_uniform(IMPULSE_SHARE, rng)
    decaying, one_sign = bool(rng.random() < DECAYING), bool(rng.random() < ONE_SIGN)
    length = int(rng.integers(IMPULSE_LENGTH[0], IMPULSE_LENGTH[1] + 1)) if decaying else 1
    decay = np.exp(-3 * np.arange(length) / length)
    probability /= length
    heights = deviation * log_uniform(IMPULSE_HEIGHT, rng, n)
    heights *= np.where(rng.random(n) < (0.0 if one_sign else 0.5), -1.0, 1.0)
    impulses = np.where(rng.random(n) < probability, heights, 0.0)
    at_tone = abs(np.sum(decay * np.exp(-2j * np.pi * freq_cycles * np.arange(length)))) ** 2
    mean_square = deviation**2 * _mean_square(IMPULSE_HEIGHT)
    about: About = {"impulse_share": probability, "impulse_length": float(length)}
    about |= {"one_sign": one_sign, "impulse_variance": probability * mean_square * at_tone}
    return np.convolve(impulses, decay)[:n], about


def _mean_square(limits: tuple[float, float]) -> float:
    """Mean square of a log-uniform number."""
    low, high = limits
    return (high * high - low * low) / (2 * math.log(high / low))
