"""Synthetic records: tones, jitter, noise, mixtures.

SPEC, section 1. Axes: B records, T samples, K components. Angles inside are counted in
cycles, so that a phase stays exact however late a record starts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import scipy
from jaxtyping import Bool, Complex, Float, Int

from tonesieve.config.config import DataSettings
from tonesieve.errors import UserError
from tonesieve.signals.backgrounds import (
    Background,
    Rng,
    draw_amplitudes,
    draw_levels,
    draw_stretches,
    load_background,
    modulate_noise,
)


@dataclass(frozen=True)
class Records:
    """Synthetic records with their truth."""

    mixture: Float[np.ndarray, "B T"]  # NaN in gaps
    targets: Float[np.ndarray, "B T K"]
    data: DataSettings
    # The targets a quarter of a turn on, where they were asked for: cosines to their sines.
    quadratures: Float[np.ndarray, "B T K"] | None = None

    @property
    def time_s(self) -> Float[np.ndarray, " T"]:
        """Time of every sample since the start of the record, s."""
        return np.arange(self.mixture.shape[1]) / self.data.rate_hz


def draw_exercise(data: DataSettings, *, seed: int, quadratures: bool = False) -> Records:
    """Draw the exercise's own record: one, of the full length, from time 0.

    Only the free regime gives it a start of its own. Shapes: mixture (1, T), targets (1, T, K).
    """
    fixed = data.model_copy(update={"start": "fixed"})
    rng = np.random.default_rng(seed)
    return draw_records(fixed, 1, data.n_samples, rng=rng, quadratures=quadratures)


def draw_records(
    data: DataSettings,
    n_records: int,
    n_samples: int,
    *,
    rng: Rng,
    starts: Int[np.ndarray, " B"] | None = None,
    quadratures: bool = False,
) -> Records:
    """Draw records of ``n_samples`` samples, each with its own noise and, if asked, start.

    ``starts`` (samples; locked regime) sets the start times; without it they are 0 or drawn, as
    ``data.start`` says. The free regime draws a phase and amplitude a tone instead; with
    ``data.background`` they stand upon stretches of a recording's own noise.

    Example:
        >>> records = draw_records(DataSettings(), 2, 500, rng=np.random.default_rng(1))
        >>> records.mixture.shape, records.targets.shape
        ((2, 500), (2, 500, 4))
    """
    if data.background is not None:
        return _draw_on_background(data, n_records, n_samples, rng, quadratures)
    # Start and phase come from a generator of their own, so that the noise does not depend on
    # whether they are drawn.
    start, amplitude = _draw_tones(data, n_records, starts, rng.spawn(1)[0])
    cycles = start[:, None, :] + _elapsed_cycles(data, n_records, n_samples, rng)
    targets = amplitude[:, None, :] * np.sin(2 * np.pi * cycles)
    mixture = _jittered_mean(data, cycles, amplitude, rng)
    mixture = mixture + additive_noise(data, n_records, n_samples, rng=rng)
    if data.clip_level is not None:
        mixture = np.clip(mixture, -data.clip_level, data.clip_level)
    if data.gap_fraction:
        mixture[gaps(data, n_records, n_samples, rng=rng)] = np.nan
    cosines = amplitude[:, None, :] * np.cos(2 * np.pi * cycles) if quadratures else None
    return Records(mixture, targets, data, cosines)


def _draw_on_background(
    data: DataSettings, n_records: int, n_samples: int, rng: Rng, quadratures: bool
) -> Records:
    """Tones of drawn amplitude that wander and fade, upon stretches of a recording's noise."""
    assert data.background is not None
    background = background_of(data)
    noise = draw_stretches(background, data.background.part, n_records, n_samples, rng=rng)
    if data.background.part == "train" and data.background.sway_db:
        sway_db = data.background.sway_db
        noise = modulate_noise(noise, data.frequencies_hz, data.rate_hz, sway_db, rng=rng)
    amplitudes = draw_amplitudes(data.background, n_records, data.n_components, rng=rng)
    shape = (n_records, n_samples, data.n_components)
    levels = draw_levels(data.background, data.rate_hz, shape, rng=rng)
    drawn = inject(noise, amplitudes[:, None] * levels, data)
    return drawn if quadratures else replace(drawn, quadratures=None)


def inject(
    noise: Float[np.ndarray, "B T"], levels: Complex[np.ndarray, "B T K"], data: DataSettings
) -> Records:
    """Tones of these complex amplitudes added to noise; what is wanted of them, as records."""
    steps = np.array([float(turn) for turn in _turns(data)])
    swing = levels * np.exp(2j * np.pi * np.arange(noise.shape[1])[:, None] * steps)
    # The mixture is a mean, so a target is as many times larger as there are tones.
    targets = data.n_components * swing
    return Records(noise + swing.imag.sum(axis=2), targets.imag, data, targets.real)


def background_of(data: DataSettings) -> Background:
    """The background that the settings name; raises `UserError` for one that does not fit."""
    assert data.background is not None
    background = load_background(data.background.file)
    if background.rate_hz != data.rate_hz:
        raise UserError(
            f"{data.background.file}: has {background.rate_hz:g} Hz, and data.rate_hz is "
            f"{data.rate_hz:g}"
        )
    return background


def of_part(data: DataSettings, part: str) -> DataSettings:
    """The same on another part of the background; as they are where there is none."""
    if data.background is None:
        return data
    other = data.background.model_copy(update={"part": part})
    return data.model_copy(update={"background": other})


def common_period_samples(data: DataSettings) -> int:
    """Smallest number of samples after which all tones are back where they began.

    Exact for the decimal numbers given: 1, 3, 5, 7 Hz at 1000 Hz have 1000 samples.
    """
    return math.lcm(*(turn.denominator for turn in _turns(data)))


def starts_at(data: DataSettings, shares: Float[np.ndarray, " B"]) -> Int[np.ndarray, " B"]:
    """Whole samples at these shares (0 to 1) of the common period.

    Of a period longer than floating point can count, the first 2^53 samples serve.
    """
    period = min(common_period_samples(data), 2**53)
    return np.array([math.floor(share * period) for share in shares], dtype=np.int64)


def even_starts(
    data: DataSettings, n_records: int, *, rng: Rng | None = None
) -> Int[np.ndarray, " B"]:
    """Starts that lie evenly over the common period, the first at a random place if asked."""
    offset = 0.5 if rng is None else rng.random()
    return starts_at(data, (np.arange(n_records) + offset) / n_records)


def mixture_power(data: DataSettings) -> float:
    """Mean power of the jittered tones in the mixture, without any further noise.

    Closed form: distinct frequencies do not correlate over time, and E[sin^2] is 1/2 whatever
    the jitter, so K tones of mean square amplitude E[A^2], divided by K, have E[A^2] / (2 K).
    """
    low, high = data.amplitude_range
    mean_square = (low * low + low * high + high * high) / 3
    return mean_square / (2 * data.n_components)


def input_rms(data: DataSettings) -> float:
    """Root mean square of the mixture with its noise; clipping and gaps not counted.

    A background has 1 by itself, and the tones upon it are of many sizes: 1.
    """
    if data.background is not None:
        return 1.0
    power = mixture_power(data)
    total = power
    for snr_db in (data.snr_db, data.pink_snr_db):
        if snr_db is not None:
            total += power * 10 ** (-snr_db / 10)
    return math.sqrt(total + impulse_power(data))


def impulse_power(data: DataSettings) -> float:
    """Mean power of the impulses."""
    return mixture_power(data) * data.impulse_size**2 * _impulse_probability(data)


def tone_response(data: DataSettings) -> complex:
    """How a target stands in the mixture: amplitude (of a target of amplitude 1) and phase.

    E[A exp(i phi)] / K: the mean amplitude, times sinc(phase_scale) at the mean jitter's angle
    pi phase_scale, over K. Tones upon a background do not jitter.
    """
    if data.background is not None:
        return 1 / data.n_components
    turned = np.exp(1j * np.pi * data.phase_scale) * np.sinc(data.phase_scale)
    return complex(np.mean(data.amplitude_range) / data.n_components * turned)


def tone_gain(data: DataSettings) -> float:
    """How large a target of amplitude 1 stands in the mixture: the modulus of `tone_response`."""
    return abs(tone_response(data))


def jitter_power(data: DataSettings) -> float:
    """Mean power of what amplitude and phase jitter add to the mixture: white, of mean zero.

    Of E[A^2] / (2 K) in all, K |response|^2 / 2 is the tones' mean course (`tone_response`).
    """
    return mixture_power(data) - data.n_components * tone_gain(data) ** 2 / 2


def additive_noise(
    data: DataSettings, n_records: int, n_samples: int, *, rng: Rng
) -> Float[np.ndarray, "B T"]:
    """Sum of white noise, coloured noise and impulses, each where it is switched on."""
    shape = (n_records, n_samples)
    rms = math.sqrt(mixture_power(data))
    noise = np.zeros(shape)
    if data.snr_db is not None:
        noise += rms * 10 ** (-data.snr_db / 20) * rng.standard_normal(shape)
    if data.pink_snr_db is not None:
        pink = pink_noise(
            n_records, n_samples, exponent=data.pink_exponent, longest=data.n_samples, rng=rng
        )
        noise += rms * 10 ** (-data.pink_snr_db / 20) * pink
    if data.impulse_rate_hz:
        hit = rng.random(shape) < _impulse_probability(data)
        noise += hit * rng.normal(0.0, rms * data.impulse_size, shape)
    return noise


def pink_noise(
    n_records: int, n_samples: int, *, exponent: float = 1.0, longest: int = 0, rng: Rng
) -> Float[np.ndarray, "B T"]:
    """Gaussian noise of unit variance whose power density falls as 1/f^exponent.

    White noise shaped in the frequency domain over twice ``longest`` samples (at least twice
    ``n_samples``), of which pieces are cut: so its spectrum is that of the longest record however
    short the piece, and no end runs into a start. No power at zero frequency. Short pieces share
    long stretches, at random places.
    """
    n = 2 * max(longest, n_samples)
    gain = np.zeros(n // 2 + 1)
    gain[1:] = np.arange(1, n // 2 + 1) ** (-exponent / 2)
    power = (2 * np.sum(gain[1:-1] ** 2) + gain[-1] ** 2) / n
    n_stretches = math.ceil(2 * n_records * n_samples / n)
    white = np.fft.rfft(rng.standard_normal((n_stretches, n)), axis=1)
    shaped = np.fft.irfft(white * gain, n, axis=1) / math.sqrt(power)
    # A stretch is a circle: a piece may begin anywhere on it.
    where = rng.integers(0, n, (n_records, 1)) + np.arange(n_samples)
    return shaped[np.arange(n_records)[:, None] % n_stretches, where % n]


def gaps(
    data: DataSettings, n_records: int, n_samples: int, *, rng: Rng
) -> Bool[np.ndarray, "B T"]:
    """Which samples are lost: gaps of geometric length ``gap_s`` that may overlap.

    A sample is covered by a Poisson number of gaps, so their rate is -log(1 - share) / length.
    """
    mean_length = max(1.0, data.gap_s * data.rate_hz)
    rate = -math.log1p(-data.gap_fraction) / mean_length
    # Gaps that began before the record reach into it: draw a lead of many mean lengths.
    lead = math.ceil(10 * mean_length)
    n_starts = rng.poisson(rate, (n_records, lead + n_samples))
    edges = np.zeros((n_records, lead + n_samples + 1), dtype=np.int64)
    edges[:, :-1] += n_starts
    record, start = np.nonzero(n_starts)
    count = n_starts[record, start]
    record, start = np.repeat(record, count), np.repeat(start, count)
    stop = np.minimum(start + rng.geometric(1 / mean_length, start.size), lead + n_samples)
    np.subtract.at(edges, (record, stop), 1)
    return np.cumsum(edges, axis=1)[:, lead:-1] > 0


def _draw_tones(
    data: DataSettings, n_records: int, starts: Int[np.ndarray, " B"] | None, rng: Rng
) -> tuple[Float[np.ndarray, "B K"], Float[np.ndarray, "B K"]]:
    """Start phase (cycles) and amplitude of every tone of every record."""
    shape = (n_records, data.n_components)
    if data.regime == "free":
        sine, cosine = rng.normal(0.0, math.sqrt(0.5), (2, *shape))
        return np.arctan2(cosine, sine) / (2 * np.pi), np.hypot(sine, cosine)
    phases = np.broadcast_to(np.array(data.start_phases_rad) / (2 * np.pi), shape)
    if starts is None and data.start == "random":
        starts = starts_at(data, rng.random(n_records))
    if starts is not None:
        phases = phases + cycles_after(data, starts)
    return phases, np.ones(shape)


def turns_per_sample(frequencies_hz: Sequence[float], rate_hz: float) -> list[Fraction]:
    """Cycles of every tone from one sample to the next, exact for the decimal numbers given."""
    rate = Fraction(repr(float(rate_hz)))
    return [Fraction(repr(float(f))) / rate for f in frequencies_hz]


def _turns(data: DataSettings) -> list[Fraction]:
    return turns_per_sample(data.frequencies_hz, data.rate_hz)


def cycles_after(data: DataSettings, starts: Int[np.ndarray, " B"]) -> Float[np.ndarray, "B K"]:
    """Cycles of every tone after so many samples, modulo 1."""
    # Whole numbers of samples times exact fractions: no rounding however late a record starts.
    turns = _turns(data)
    return np.array([[float(int(n) * turn % 1) for turn in turns] for n in starts])


def _elapsed_cycles(
    data: DataSettings, n_records: int, n_samples: int, rng: Rng
) -> Float[np.ndarray, "B T K"]:
    """Cycles since the start of the record, frequency drift included."""
    frequencies = np.array(data.frequencies_hz)
    steady = np.arange(n_samples)[None, :, None] * (frequencies / data.rate_hz)
    if not data.frequency_drift:
        return steady
    deviation = _wander(data, (n_records, n_samples, data.n_components), rng)
    excess = np.cumsum(deviation, axis=1) - deviation
    return steady + data.frequency_drift * excess * (frequencies / data.rate_hz)


def _wander(data: DataSettings, shape: tuple[int, int, int], rng: Rng) -> np.ndarray:
    """Ornstein-Uhlenbeck process of unit variance, sampled exactly, from its steady state."""
    rho = math.exp(-1 / (data.drift_time_s * data.rate_hz))
    kicks = rng.standard_normal(shape)
    kicks[:, 1:] *= math.sqrt(1 - rho * rho)
    return scipy.signal.lfilter([1.0], [1.0, -rho], kicks, axis=1)


def _jittered_mean(
    data: DataSettings,
    cycles: Float[np.ndarray, "B T K"],
    amplitude: Float[np.ndarray, "B K"],
    rng: Rng,
) -> Float[np.ndarray, "B T"]:
    gain = rng.uniform(*data.amplitude_range, cycles.shape)
    jitter_cycles = data.phase_scale * rng.random(cycles.shape)
    tones = gain * np.sin(2 * np.pi * (cycles + jitter_cycles))
    return np.mean(amplitude[:, None, :] * tones, axis=2)


def _impulse_probability(data: DataSettings) -> float:
    return min(1.0, data.impulse_rate_hz / data.rate_hz)
