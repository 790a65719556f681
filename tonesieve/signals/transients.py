"""What interrupts a recording: heartbeat-like pulse trains and single transients, without a floor.

Times are in periods of the tone and heights in its amplitude. Axis: T samples, E events.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from tonesieve.signals.distributions import Rng, log_uniform
from tonesieve.signals.spectral_shaping import smooth

About = dict[str, float | str | bool]

# All ranges are chosen, not tuned: they define the family of scenes.
# Pulse trains: distance of the pulses and full width at half height of the main wave (periods),
# its height (amplitudes), standard deviation of the logarithm of the distance, correlation of
# successive distances, and relative standard deviation of the heights.
PULSE_DISTANCE, PULSE_WIDTH, PULSE_HEIGHT = (3.0, 300.0), (0.2, 3.0), (1.0, 50.0)
RATE_VARIATION, RATE_MEMORY, HEIGHT_VARIATION = (0.01, 0.08), (0.0, 0.9), (0.0, 0.15)
PULSE_SHAPES = ("triphasic", "biphasic", "sum")
# Guards: pulses are narrower than this part of their distance, and wider than this (samples).
MAX_DUTY, MIN_WIDTH = 1 / 8, 1.5
# Waves beside the main one: most of them, their delay and standard deviation over the distance of
# the pulses, and their height over the main wave's.
SLOW_WAVES, SLOW_DELAY, SLOW_WIDTH, SLOW_HEIGHT = 2, (0.15, 0.6), (0.02, 0.08), (0.05, 0.5)
# Fraction of scenes with ectopic pulses, their fraction of the pulses, how early they are and how
# much wider.
ECTOPIC, ECTOPIC_SHARE, ECTOPIC_EARLY, ECTOPIC_WIDTH = 0.25, (0.02, 0.15), (0.2, 0.5), (1.5, 3.0)
# Derived: full width at half maximum of a Gaussian over its standard deviation.
FWHM = 2 * math.sqrt(2 * math.log(2))
# Guard: Gaussians are cut off at this many standard deviations, where 4e-6 is left.
REACH = 5.0

# Transients: mean distance (periods) and most of them, height (amplitudes) of the highest, height
# of each over that.
TRANSIENT_DISTANCE, MAX_TRANSIENTS = (5.0, 200.0), 24
TRANSIENT_HEIGHT, TRANSIENT_SPREAD = (1.0, 50.0), (0.2, 1.0)
MAX_FORMS = 3
# Clicks: decay (periods) and frequency over the tone's. Pops: decay (periods), rise over decay.
CLICK_DECAY, CLICK_PITCH = (0.05, 0.5), (1.1, 10.0)
POP_DECAY, POP_RISE = (0.3, 10.0), (0.02, 0.3)
# Frequency over the tone's below and above it, of bursts and of the ends of chirps; lengths
# (periods) of bursts, of chirps and of those that cross the tone, and the fraction that do.
BELOW, ABOVE = (0.2, 0.9), (1.1, 3.0)
BURST_LENGTH, CHIRP_LENGTH, CROSSING_LENGTH, CROSSING = (5.0, 100.0), (5.0, 60.0), (2.0, 20.0), 0.5
BURST_ENVELOPES = ("flat", "ringing", "bell")
# Movements: length (periods), and bandwidth (standard deviation) over the tone's frequency.
MOVEMENT_LENGTH, MOVEMENT_WIDTH = (5.0, 100.0), (0.02, 0.2)
# Wavelets about the tone: standard deviation (periods), and frequency over the tone's. They are
# shorter than the bursts of a tone that is on and off.
WAVELET_WIDTH, WAVELET_PITCH = (0.3, 4.0), (0.85, 1.18)
# Guard: highest frequency, cycles a sample.
MAX_FREQ_CYCLES = 0.495


def scatter_gaussians(
    n_samples: int,
    centres: Float[np.ndarray, " E"],
    widths: float | Float[np.ndarray, " E"],
    heights: Float[np.ndarray, " E"],
) -> Float[np.ndarray, " T"]:
    """Add Gaussian bells.

    Parameters
    ----------
    n_samples : int
        Length of the record.
    centres : ndarray, shape (E,)
        Times of the E bells, samples; also outside the record.
    widths : float or ndarray, shape (E,)
        Standard deviations, samples.
    heights : ndarray, shape (E,)
        Heights.

    Returns
    -------
    ndarray, shape (T,)
        Their sum.
    """
    reach = math.ceil(REACH * float(np.max(widths, initial=0.0)))
    index = np.floor(centres).astype(int)[:, None] + np.arange(-reach, reach + 2)
    distance = (index - centres[:, None]) / np.reshape(widths, (-1, 1))
    values = heights[:, None] * np.exp(-0.5 * distance * distance)
    inside = (index >= 0) & (index < n_samples)
    return np.bincount(index[inside], values[inside], n_samples)


def draw_pulses(
    n_samples: int, freq_cycles: float, amplitude: float, *, rng: Rng
) -> tuple[Float[np.ndarray, " T"], About]:
    """Draw a quasi-periodic train of short waves, with slower waves between them.

    Parameters
    ----------
    n_samples : int
        Length.
    freq_cycles : float
        Frequency of the tone, cycles a sample.
    amplitude : float
        Amplitude of the tone.
    rng : Generator
        Source of the pulses.

    Returns
    -------
    pulses : ndarray, shape (T,)
        The train.
    about : dict
        Every number that was drawn, but for those of single pulses.
    """
    period = 1 / freq_cycles
    distance = min(period * log_uniform(PULSE_DISTANCE, rng), n_samples / 3)
    width = min(period * log_uniform(PULSE_WIDTH, rng), MAX_DUTY * distance)
    sigma = max(width, MIN_WIDTH) / FWHM
    height = amplitude * log_uniform(PULSE_HEIGHT, rng) * rng.choice([-1.0, 1.0])
    variation, memory = log_uniform(RATE_VARIATION, rng), rng.uniform(*RATE_MEMORY)
    times, n_pulses = _pulse_times(n_samples, distance, variation, memory, rng)
    spread = rng.uniform(*HEIGHT_VARIATION)
    heights = height * (1 + spread * rng.standard_normal(len(times)))
    about: About = {
        "pulse_distance": distance, "pulse_width": sigma * FWHM, "pulse_height": float(height),
        "rate_variation": variation, "rate_memory": memory, "height_variation": spread,
        "n_pulses": float(n_pulses),
    }  # fmt: skip
    widths = np.full(len(times), sigma)
    if rng.random() < ECTOPIC:
        share, early = rng.uniform(*ECTOPIC_SHARE), rng.uniform(*ECTOPIC_EARLY)
        wider, sign = rng.uniform(*ECTOPIC_WIDTH), rng.choice([-1.0, 1.0])
        ectopic = rng.random(len(times)) < share
        times = times - np.where(ectopic, early * distance, 0.0)
        widths = np.where(ectopic, wider * widths, widths)
        heights = np.where(ectopic, sign * heights, heights)
        about |= {"ectopic_share": share, "ectopic_early": early, "ectopic_width": wider}
    shape = str(rng.choice(PULSE_SHAPES))
    total = np.zeros(n_samples)
    for offset, relative_width, weight in _pulse_shape(shape, rng):
        total += scatter_gaussians(
            n_samples, times + offset * widths, relative_width * widths, weight * heights
        )
    slow_waves = int(rng.integers(0, SLOW_WAVES + 1))
    for _ in range(slow_waves):
        delay, slow = rng.uniform(*SLOW_DELAY), rng.uniform(*SLOW_WIDTH)
        weight = log_uniform(SLOW_HEIGHT, rng) * rng.choice([-1.0, 1.0])
        total += scatter_gaussians(
            n_samples, times + delay * distance, max(slow * distance, sigma), weight * heights
        )
    return total, about | {"pulse_shape": shape, "slow_waves": float(slow_waves)}


def _pulse_times(
    n: int, distance: float, variation: float, memory: float, rng: Rng
) -> tuple[Float[np.ndarray, " E"], int]:
    """Times of the pulses about a record, and how many lie within it."""
    # Guard: a quarter more than fit on average, and some for the ends.
    most = math.ceil(1.25 * n / distance) + 6
    innovations = rng.standard_normal(most)
    correlated = np.empty(most)
    last = innovations[0]
    for number, innovation in enumerate(innovations):
        last = memory * last + math.sqrt(1 - memory * memory) * innovation
        correlated[number] = last
    times = np.cumsum(distance * np.exp(variation * correlated)) - distance * (1 + rng.random())
    return times[times < n + distance], int(np.sum((times >= 0) & (times < n)))


def _pulse_shape(shape: str, rng: Rng) -> list[tuple[float, float, float]]:
    """Offsets and widths over the main wave's standard deviation, and heights, of Gaussians.

    The largest value of their sum is 1.
    """
    if shape == "triphasic":
        parts = [
            (-rng.uniform(1.5, 3.0), rng.uniform(0.6, 1.2), -rng.uniform(0.0, 0.4)),
            (0.0, 1.0, 1.0),
            (rng.uniform(1.5, 3.0), rng.uniform(0.6, 1.2), -rng.uniform(0.0, 0.6)),
        ]
    elif shape == "biphasic":
        parts = [(-1.0, 1.0, 1.0), (1.0, 1.0, -rng.uniform(0.5, 1.0))]
    else:
        parts = [
            (rng.uniform(-3.0, 3.0), rng.uniform(0.6, 1.5), rng.uniform(-1.0, 1.0))
            for _ in range(int(rng.integers(2, 6)))
        ]
    grid = np.linspace(-8.0, 8.0, 321)
    total = sum(w * np.exp(-0.5 * ((grid - at) / sigma) ** 2) for at, sigma, w in parts)
    highest = float(np.abs(total).max())
    return [(at, sigma, weight / highest) for at, sigma, weight in parts]


def draw_transients(
    n_samples: int, freq_cycles: float, amplitude: float, *, rng: Rng
) -> tuple[Float[np.ndarray, " T"], About]:
    """Draw single events: clicks, pops, steps, chirps, bursts, movements and wavelets.

    Parameters
    ----------
    n_samples : int
        Length.
    freq_cycles : float
        Frequency of the tone, cycles a sample.
    amplitude : float
        Amplitude of the tone.
    rng : Generator
        Source of the events.

    Returns
    -------
    transients : ndarray, shape (T,)
        Their sum.
    about : dict
        Form, first sample and height of every event, and what else was drawn.
    """
    distance = log_uniform(TRANSIENT_DISTANCE, rng) / freq_cycles
    n_events = min(max(1, int(rng.poisson(n_samples / distance))), MAX_TRANSIENTS)
    height = amplitude * log_uniform(TRANSIENT_HEIGHT, rng)
    forms = rng.choice(list(FORMS), int(rng.integers(1, MAX_FORMS + 1)), replace=False)
    about: About = {"transient_distance": distance, "n_transients": float(n_events)}
    total = np.zeros(n_samples)
    for number in range(n_events):
        form, start = str(rng.choice(forms)), int(rng.integers(0, n_samples))
        size = height * log_uniform(TRANSIENT_SPREAD, rng) * float(rng.choice([-1.0, 1.0]))
        event, more = FORMS[form](n_samples - start, freq_cycles, rng)
        length = min(len(event), n_samples - start)
        total[start : start + length] += size * event[:length]
        key = f"transient_{number}"
        about |= {key: form, f"{key}_start": float(start), f"{key}_height": size}
        about |= {f"{key}_{name}": value for name, value in more.items()}
    return total, about


# An event of height 1 (movements: of standard deviation 1 in the middle), as far as it is needed,
# and what was drawn. Arguments: samples that are left, frequency of the tone.
_Event = tuple[Float[np.ndarray, " N"], About]


def _click(left: int, freq_cycles: float, rng: Rng) -> _Event:
    decay = max(log_uniform(CLICK_DECAY, rng) / freq_cycles, 0.5)
    pitch = min(freq_cycles * log_uniform(CLICK_PITCH, rng), MAX_FREQ_CYCLES)
    n = np.arange(min(left, math.ceil(8 * decay) + 1))
    wave = np.exp(-n / decay) * np.cos(2 * np.pi * pitch * n)
    return wave, {"decay": decay, "freq": pitch}


def _pop(left: int, freq_cycles: float, rng: Rng) -> _Event:
    decay = max(log_uniform(POP_DECAY, rng) / freq_cycles, 1.0)
    rise = decay * log_uniform(POP_RISE, rng)
    n = np.arange(min(left, math.ceil(10 * decay) + 1))
    # Derived: the difference of the exponentials is highest where their slopes are equal.
    peak = math.log(decay / rise) * decay * rise / (decay - rise)
    highest = math.exp(-peak / decay) - math.exp(-peak / rise)
    return (np.exp(-n / decay) - np.exp(-n / rise)) / highest, {"decay": decay, "rise": rise}


def _level(left: int, freq_cycles: float, rng: Rng) -> _Event:
    return np.ones(left), {}


def _beside(freq_cycles: float, above: bool, rng: Rng) -> float:
    """A frequency beside the tone's; below it where there is no place above."""
    highest = min(ABOVE[1] * freq_cycles, MAX_FREQ_CYCLES)
    below = freq_cycles * log_uniform(BELOW, rng)
    if not above or highest <= ABOVE[0] * freq_cycles:
        return below
    return log_uniform((ABOVE[0] * freq_cycles, highest), rng)


def _chirp(left: int, freq_cycles: float, rng: Rng) -> _Event:
    crosses, above = bool(rng.random() < CROSSING), bool(rng.random() < 0.5)
    length = log_uniform(CROSSING_LENGTH if crosses else CHIRP_LENGTH, rng) / freq_cycles
    n = np.arange(min(left, max(4, round(length))))
    first = _beside(freq_cycles, above, rng)
    last = _beside(freq_cycles, above != crosses, rng)
    cycles = first * n + (last - first) * n * n / (2 * length) + rng.random()
    envelope = np.sin(np.pi * np.minimum((n + 0.5) / length, 1.0)) ** 2
    about: About = {"length": length, "first_freq": first, "last_freq": last}
    return envelope * np.sin(2 * np.pi * cycles), about


def _burst(left: int, freq_cycles: float, rng: Rng) -> _Event:
    pitch = _beside(freq_cycles, bool(rng.random() < 0.5), rng)
    length = max(4.0, log_uniform(BURST_LENGTH, rng) / freq_cycles)
    shape = str(rng.choice(BURST_ENVELOPES))
    n = np.arange(min(left, round(length)))
    part = (n + 0.5) / length
    if shape == "ringing":
        envelope = np.minimum(20 * part, 1.0) * np.exp(5 * (0.05 - part))
    elif shape == "bell":
        envelope = np.exp(-0.5 * ((part - 0.5) / 0.15) ** 2)
    else:
        envelope = np.sin(np.pi / 2 * np.minimum(np.minimum(part, 1 - part) / 0.1, 1.0)) ** 2
    wave = envelope * np.sin(2 * np.pi * (pitch * n + rng.random()))
    return wave, {"length": length, "freq": pitch, "envelope": shape}


def _movement(left: int, freq_cycles: float, rng: Rng) -> _Event:
    length = max(4.0, log_uniform(MOVEMENT_LENGTH, rng) / freq_cycles)
    width = freq_cycles * log_uniform(MOVEMENT_WIDTH, rng)
    n = np.arange(min(left, round(length)))
    envelope = np.sin(np.pi * (n + 0.5) / length) ** 2
    return envelope * smooth(len(n), width, rng=rng).real, {"length": length, "width": width}


def _wavelet(left: int, freq_cycles: float, rng: Rng) -> _Event:
    width = max(log_uniform(WAVELET_WIDTH, rng) / freq_cycles, 1.0)
    pitch = min(freq_cycles * log_uniform(WAVELET_PITCH, rng), MAX_FREQ_CYCLES)
    n = np.arange(min(left, math.ceil(2 * REACH * width)))
    envelope = np.exp(-0.5 * (n / width - REACH) ** 2)
    return envelope * np.sin(2 * np.pi * (pitch * n + rng.random())), {
        "width": width, "freq": pitch,
    }  # fmt: skip


FORMS: dict[str, Callable[[int, float, Rng], _Event]] = {
    "click": _click, "pop": _pop, "level": _level, "chirp": _chirp, "burst": _burst,
    "movement": _movement, "wavelet": _wavelet,
}  # fmt: skip
