"""Noise models of the scenes, as strong at the tone as white noise of variance 1.

=========  ======================================================================================
white      white, or mildly coloured by one pole
red        falls as 1/f^beta above a corner; or a steep hump below the tone over a white floor;
           or rises towards high frequencies
lines      white or mildly red, and unknown spectral lines, some of them narrow-band noise
impulses   white or mildly red, and rare impulses, single samples or short decaying bursts
=========  ======================================================================================

Axes: T samples, F bins. Frequencies are in cycles a sample. All ranges are chosen, not tuned: they
define the family of scenes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy
from jaxtyping import Complex, Float

from tonesieve.signals.distributions import Rng, log_uniform

NOISES = ("white", "red", "lines", "impulses")
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


def smooth(n_samples: int, width: float, *, rng: Rng) -> Complex[np.ndarray, " T"]:
    """Draw a complex Gaussian process with a Gaussian spectrum.

    Real and imaginary part are independent, of variance 1 each.

    Parameters
    ----------
    n_samples : int
        Length.
    width : float
        Standard deviation of the spectrum, cycles a sample.
    rng : Generator
        Source of the process.

    Returns
    -------
    ndarray of complex, shape (T,)
        The process.
    """
    n = scipy.fft.next_fast_len(2 * n_samples)
    # Derived: beyond six standard deviations nothing is left of a Gaussian.
    last_bin = min(n // 2 - 1, math.ceil(6 * width * n))
    bins = np.arange(-last_bin, last_bin + 1)
    gain = np.exp(-((bins / (n * width)) ** 2) / 4)
    spectrum = np.zeros(n, dtype=complex)
    draws = rng.standard_normal((2, len(bins)))
    spectrum[bins] = gain * (draws[0] + 1j * draws[1])
    return np.fft.ifft(spectrum)[:n_samples] * (n / math.sqrt(np.sum(gain**2)))


def draw_noise(
    kind: str,
    n_samples: int,
    freq_cycles: float,
    *,
    tone_power: float,
    occupied: Sequence[float] = (),
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
    plain : bool
        Whether white noise has no colour (default False).
    rng : Generator
        Source of the noise.

    Returns
    -------
    noise : ndarray, shape (T,)
        As strong at the tone as white noise of variance 1.
    about : dict
        Every number that was drawn.
    """
    max_power = tone_power * 10 ** (MAX_NOISE_DB / 10)
    if kind == "white":
        return _white(n_samples, freq_cycles, plain, rng)
    if kind == "red":
        return _red(n_samples, freq_cycles, tone_power, rng)
    noise, about = _mild(n_samples, freq_cycles, max_power, rng)
    if kind == "lines":
        lines, more = _lines(n_samples, freq_cycles, tone_power, occupied, rng)
        return noise + lines, about | more
    impulses, more = _impulses(n_samples, freq_cycles, float(noise.std()), rng)
    return noise + impulses, about | more


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
    length, f = _circle(n)
    # Less steep until the power is within bounds.
    grid = np.geomspace(1 / length, 0.5, 128)
    while _power(_law(grid, corner, freq_cycles, fall), grid) > max_power and abs(fall) > 0.01:
        fall *= 0.95
    density = _law(f, corner, freq_cycles, fall)
    return _shaped(np.sqrt(density), n, length, rng), {"fall": fall, "corner": corner}


def _law(
    f: Float[np.ndarray, " F"], corner: float, freq_cycles: float, fall: float
) -> Float[np.ndarray, " F"]:
    return ((f * f + corner * corner) / (freq_cycles * freq_cycles + corner * corner)) ** (
        -fall / 2
    )


def _power(density: Float[np.ndarray, " F"], f: Float[np.ndarray, " F"]) -> float:
    """Mean square of noise of that density over a logarithmic grid of frequencies."""
    return float(2 * np.trapezoid(density * f, np.log(f)))


def _hump(
    n: int, freq_cycles: float, tone_power: float, rng: Rng
) -> tuple[Float[np.ndarray, " T"], About]:
    """A resonance far below the tone and stronger than it, above a white floor."""
    centre, quality = freq_cycles * log_uniform(HUMP_PLACE, rng), log_uniform(HUMP_QUALITY, rng)
    order = int(rng.choice(HUMP_ORDER))
    length, f = _circle(n)
    bell, at_tone = (_resonance(x / centre, quality, order) for x in (f, np.array([freq_cycles])))
    mean = float(2 * bell[1:].mean() / 2)
    # Derived: with a floor of 1 and a hump of height h the power is (1 + h mean) / (1 + h at_tone),
    # over the density at the tone; h for the wanted power, as far as the hump's own skirt allows.
    wanted = tone_power * 10 ** (rng.uniform(*HUMP_DB) / 10)
    wanted = float(np.clip(wanted, 1.5, max(1.5, 0.95 * mean / at_tone[0])))
    height = (wanted - 1) / max(mean - wanted * at_tone[0], 1e-3 * mean)
    density = (1 + height * bell) / (1 + height * at_tone[0])
    about: About = {"hump": centre, "quality": quality, "order": float(order)}
    return _shaped(np.sqrt(density), n, length, rng), about | {"hump_power": wanted}


def _resonance(
    ratio: Float[np.ndarray, " F"], quality: float, order: int
) -> Float[np.ndarray, " F"]:
    """Density of a cascade of resonances, by frequency over the resonance's."""
    square = ratio * ratio
    return ((1 - square) ** 2 + square / quality**2) ** -order


def _circle(n_samples: int) -> tuple[int, Float[np.ndarray, " F"]]:
    """Length of the circle that a record is cut from, at least twice as long, and its bins."""
    length = scipy.fft.next_fast_len(2 * n_samples, real=True)
    return length, np.fft.rfftfreq(length)


def _shaped(
    gain: Float[np.ndarray, " F"], n: int, length: int, rng: Rng
) -> Float[np.ndarray, " T"]:
    """Noise with these gains, cut from a circle so that its end does not meet its start.

    No power at frequency 0: offsets are drawn separately.
    """
    draws = rng.standard_normal((len(gain), 2)).view(complex)[:, 0]
    spectrum = math.sqrt(length / 2) * gain * draws
    spectrum[0] = 0.0
    return np.fft.irfft(spectrum, length)[:n]


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
    for _ in range(N_TRIALS):
        multiple = float(rng.choice([1 / 3, 1 / 2, 2, 3, 4, 5]))
        near = freq_cycles * (1 + log_uniform((LINE_APART, 0.5), rng) * rng.choice([-1, 1]))
        lowest = MIN_LINE_BINS / n_samples
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
