"""The noises of a family of signals, as strong at the tone as white noise of variance 1.

=========  ======================================================================================
white      white, or mildly coloured by one pole
red        falls as 1/f^beta above a corner; or a steep hump below the tone over a white floor;
           or rises towards high frequencies
lines      white or mildly red, and lines that nobody has named, some of them wandering
impulses   white or mildly red, and rare impulses, single samples or short decaying bursts
=========  ======================================================================================

Axis: T samples. Frequencies are in cycles a sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy
from jaxtyping import Complex, Float

from tonesieve.signals.backgrounds import Rng

NOISES = ("white", "red", "lines", "impulses")
About = dict[str, float | str | bool]

# No noise has more power than so much over the tone's, on average (dB).
LOUDEST_DB = 90.0
# white: share of scenes with one pole, and its greatest size.
COLOURED, POLE = 0.4, 0.5
# red: share of scenes of each form; fall of the power law, and its corner over the tone's
# frequency; mild ones under lines and impulses; rise of the blue.
FORMS = {"fall": 0.9 - 1 / 3, "hump": 1 / 3, "rise": 0.1}
FALL, MILD_FALL, RISE = (0.5, 5.0), (0.3, 1.2), (0.5, 2.5)
CORNER = (1 / 300, 1 / 3)
# The hump: its place over the tone's frequency, its quality, how often the resonance is cascaded,
# and its power over the tone's (dB).
HUMP_PLACE, HUMP_QUALITY, HUMP_ORDER = (1 / 30, 1 / 2), (1.0, 10.0), (1, 2)
HUMP_DB = (0.0, LOUDEST_DB)
# lines: how many, level over the tone (dB), distance to the tone over its frequency and in
# multiples of 1 / T, share of scenes with harmonics, share of lines that wander, their quality.
LINES, LINE_DB = (1, 4), (-20.0, 40.0)
LINE_APART, LINE_BINS = 0.02, 8
HARMONIC, WANDERING, LINE_QUALITY = 1 / 3, 0.4, (20.0, 2000.0)
# A wandering line's band (standard deviation) is at most this share of its distance to the tone,
# so that it is no noise at the tone.
LINE_BAND = 0.15
# impulses: share of the samples that begin one, height over the noise's standard deviation,
# length of the bursts (samples), shares of scenes with bursts and with one sign.
IMPULSE_SHARE, IMPULSE_HEIGHT, IMPULSE_LENGTH = (1e-3, 0.03), (5.0, 50.0), (2, 10)
DECAYING, ONE_SIGN = 0.4, 0.4


def log_uniform(limits: tuple[float, float], rng: Rng) -> float:
    """A number whose logarithm is uniform between those of the limits."""
    return math.exp(rng.uniform(math.log(limits[0]), math.log(limits[1])))


def log_uniforms(limits: tuple[float, float], n: int, rng: Rng) -> Float[np.ndarray, " N"]:
    """So many of them."""
    return np.exp(rng.uniform(math.log(limits[0]), math.log(limits[1]), n))


def smooth(n_samples: int, width: float, *, rng: Rng) -> Complex[np.ndarray, " T"]:
    """Complex Gaussian process whose spectrum is a bell of this standard deviation (cycles).

    Real and imaginary part have variance 1 each and do not depend on each other.
    """
    n = scipy.fft.next_fast_len(2 * n_samples)
    # A bell has ended after six standard deviations.
    reach = min(n // 2 - 1, math.ceil(6 * width * n))
    bins = np.arange(-reach, reach + 1)
    gain = np.exp(-((bins / (n * width)) ** 2) / 4)
    spectrum = np.zeros(n, dtype=complex)
    draws = rng.standard_normal((2, len(bins)))
    spectrum[bins] = gain * (draws[0] + 1j * draws[1])
    return np.fft.ifft(spectrum)[:n_samples] * (n / math.sqrt(np.sum(gain**2)))


def draw_noise(
    kind: str,
    n_samples: int,
    turn: float,
    *,
    tone_power: float,
    taken: Sequence[float] = (),
    plain: bool = False,
    rng: Rng,
) -> tuple[Float[np.ndarray, " T"], About]:
    """Noise of that kind about a tone of this frequency and power, and what was drawn.

    ``taken`` are frequencies that no line may stand at; ``plain`` white noise has no colour.
    """
    loudest = tone_power * 10 ** (LOUDEST_DB / 10)
    if kind == "white":
        return _white(n_samples, turn, plain, rng)
    if kind == "red":
        return _red(n_samples, turn, tone_power, rng)
    noise, about = _mild(n_samples, turn, loudest, rng)
    if kind == "lines":
        lines, more = _lines(n_samples, turn, tone_power, taken, rng)
        return noise + lines, about | more
    impulses, more = _impulses(n_samples, turn, float(noise.std()), rng)
    return noise + impulses, about | more


def _white(n: int, turn: float, plain: bool, rng: Rng) -> tuple[Float[np.ndarray, " T"], About]:
    coloured, pole = rng.random() < COLOURED, rng.uniform(-POLE, POLE)
    lead = 64  # the pole has forgotten its start by then
    noise = rng.standard_normal(n + lead)
    if plain or not coloured:
        return noise[lead:], {"pole": 0.0}
    at_tone = abs(1 - pole * np.exp(-2j * np.pi * turn))
    return at_tone * scipy.signal.lfilter([1.0], [1.0, -pole], noise)[lead:], {"pole": pole}


def _mild(n: int, turn: float, loudest: float, rng: Rng) -> tuple[Float[np.ndarray, " T"], About]:
    """White in half of the scenes, else mildly red."""
    if rng.random() < 0.5:
        return rng.standard_normal(n), {"fall": 0.0}
    return _power_law(n, turn, rng.uniform(*MILD_FALL), loudest, rng)


def _red(n: int, turn: float, tone_power: float, rng: Rng) -> tuple[Float[np.ndarray, " T"], About]:
    form = str(rng.choice(list(FORMS), p=list(FORMS.values())))
    loudest = tone_power * 10 ** (LOUDEST_DB / 10)
    if form == "hump":
        noise, about = _hump(n, turn, tone_power, rng)
    else:
        fall = rng.uniform(*FALL) if form == "fall" else -rng.uniform(*RISE)
        noise, about = _power_law(n, turn, fall, loudest, rng)
    return noise, {"form": form, **about}


def _power_law(
    n: int, turn: float, fall: float, loudest: float, rng: Rng
) -> tuple[Float[np.ndarray, " T"], About]:
    """Density 1/f^fall above a corner and flat below, 1 at the tone; rising if negative."""
    corner = turn * log_uniform(CORNER, rng)
    length, f = _circle(n)
    # Less steep until the power is within bounds.
    grid = np.geomspace(1 / length, 0.5, 128)
    while _power(_law(grid, corner, turn, fall), grid) > loudest and abs(fall) > 0.01:
        fall *= 0.95
    density = _law(f, corner, turn, fall)
    return _shaped(np.sqrt(density), n, length, rng), {"fall": fall, "corner": corner}


def _law(
    f: Float[np.ndarray, " F"], corner: float, turn: float, fall: float
) -> Float[np.ndarray, " F"]:
    return ((f * f + corner * corner) / (turn * turn + corner * corner)) ** (-fall / 2)


def _power(density: Float[np.ndarray, " F"], f: Float[np.ndarray, " F"]) -> float:
    """Mean square of noise of that density over a logarithmic grid of frequencies."""
    return float(2 * np.trapezoid(density * f, np.log(f)))


def _hump(
    n: int, turn: float, tone_power: float, rng: Rng
) -> tuple[Float[np.ndarray, " T"], About]:
    """A resonance far below the tone that drowns it, above a white floor."""
    place, quality = turn * log_uniform(HUMP_PLACE, rng), log_uniform(HUMP_QUALITY, rng)
    order = int(rng.choice(HUMP_ORDER))
    length, f = _circle(n)
    bell, at_tone = (_resonance(x / place, quality, order) for x in (f, np.array([turn])))
    mean = float(2 * bell[1:].mean() / 2)
    # With a floor of 1 and a hump of height h the power is (1 + h mean) / (1 + h at_tone), over
    # the density at the tone: h for the power wanted, as far as the hump's own skirt allows.
    wanted = tone_power * 10 ** (rng.uniform(*HUMP_DB) / 10)
    wanted = float(np.clip(wanted, 1.5, max(1.5, 0.95 * mean / at_tone[0])))
    height = (wanted - 1) / max(mean - wanted * at_tone[0], 1e-3 * mean)
    density = (1 + height * bell) / (1 + height * at_tone[0])
    about: About = {"hump": place, "quality": quality, "order": float(order)}
    return _shaped(np.sqrt(density), n, length, rng), about | {"hump_power": wanted}


def _resonance(
    over: Float[np.ndarray, " F"], quality: float, order: int
) -> Float[np.ndarray, " F"]:
    """Density of a cascade of resonances, by frequency over the resonance's."""
    square = over * over
    return ((1 - square) ** 2 + square / quality**2) ** -order


def _circle(n_samples: int) -> tuple[int, Float[np.ndarray, " F"]]:
    """Length of the circle that a record is cut from, at least twice as long, and its bins."""
    length = scipy.fft.next_fast_len(2 * n_samples, real=True)
    return length, np.fft.rfftfreq(length)


def _shaped(
    gain: Float[np.ndarray, " F"], n: int, length: int, rng: Rng
) -> Float[np.ndarray, " T"]:
    """Noise with these gains, cut from a circle so that its end does not meet its start.

    No power at frequency 0: offsets are drawn by themselves.
    """
    draws = rng.standard_normal((len(gain), 2)).view(complex)[:, 0]
    spectrum = math.sqrt(length / 2) * gain * draws
    spectrum[0] = 0.0
    return np.fft.irfft(spectrum, length)[:n]


def _lines(
    n: int, turn: float, tone_power: float, taken: Sequence[float], rng: Rng
) -> tuple[Float[np.ndarray, " T"], About]:
    at = np.arange(n)
    total = np.zeros(n)
    harmonics = bool(rng.random() < HARMONIC)
    about: About = {"line_harmonics": harmonics}
    for index in range(int(rng.integers(LINES[0], LINES[1] + 1))):
        place = place_line(turn, n, taken, harmonic=harmonics and index < 2, rng=rng)
        level_db, wanders = rng.uniform(*LINE_DB), rng.random() < WANDERING
        quality = log_uniform(LINE_QUALITY, rng)
        if place is None:
            continue
        width = min(place / (2.355 * quality), LINE_BAND * abs(place - turn))
        start = np.exp(2j * np.pi * rng.random())
        course = smooth(n, width, rng=rng) / math.sqrt(2) if wanders else start
        amplitude = math.sqrt(2 * tone_power * 10 ** (level_db / 10))
        total += amplitude * (course * np.exp(2j * np.pi * (place * at % 1.0))).imag
        about |= {f"line_{index}": place, f"line_{index}_db": level_db}
        about[f"line_{index}_width"] = width if wanders else 0.0
    return total, about


def place_line(
    turn: float, n_samples: int, taken: Sequence[float], *, harmonic: bool, rng: Rng
) -> float | None:
    """A frequency at a distance from the tone and from those taken; None where none is found."""
    apart = max(LINE_BINS / n_samples, LINE_APART * turn)
    for _ in range(20):
        multiple = float(rng.choice([1 / 3, 1 / 2, 2, 3, 4, 5]))
        near = turn * (1 + log_uniform((LINE_APART, 0.5), rng) * rng.choice([-1, 1]))
        far = log_uniform((max(turn / 30, 2 / n_samples), 0.495), rng)
        place = turn * multiple if harmonic else near if rng.random() < 0.5 else far
        others = [abs(place - other) for other in taken]
        clear = abs(place - turn) >= apart and all(away >= apart for away in others)
        if clear and 2 / n_samples <= place <= 0.495:
            return float(place)
    return None


def _impulses(
    n: int, turn: float, deviation: float, rng: Rng
) -> tuple[Float[np.ndarray, " T"], About]:
    """Rare impulses; ``impulse_variance`` is that of white noise as strong at the tone."""
    share = log_uniform(IMPULSE_SHARE, rng)
    decaying, one_sign = bool(rng.random() < DECAYING), bool(rng.random() < ONE_SIGN)
    length = int(rng.integers(IMPULSE_LENGTH[0], IMPULSE_LENGTH[1] + 1)) if decaying else 1
    decay = np.exp(-3 * np.arange(length) / length)
    share /= length
    heights = deviation * log_uniforms(IMPULSE_HEIGHT, n, rng)
    heights *= np.where(rng.random(n) < (0.0 if one_sign else 0.5), -1.0, 1.0)
    hits = np.where(rng.random(n) < share, heights, 0.0)
    at_tone = abs(np.sum(decay * np.exp(-2j * np.pi * turn * np.arange(length)))) ** 2
    mean_square = deviation**2 * _mean_square(IMPULSE_HEIGHT)
    about: About = {"impulse_share": share, "impulse_length": float(length)}
    about |= {"one_sign": one_sign, "impulse_variance": share * mean_square * at_tone}
    return np.convolve(hits, decay)[:n], about


def _mean_square(limits: tuple[float, float]) -> float:
    """Mean square of a log-uniform number."""
    low, high = limits
    return (high * high - low * low) / (2 * math.log(high / low))
