"""Synthetic records: tones, jitter, noise, mixtures.

See docs/exercise.md, The problem. Axes: B records, T samples, K components. Phases are counted in
cycles, so that a phase stays exact however late a record starts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import scipy
from jaxtyping import Complex, Float, Int

from tonesieve.config.config import DataSettings
from tonesieve.errors import UserError
from tonesieve.signals.backgrounds import (
    Background,
    draw_amplitudes,
    draw_phasors,
    draw_segments,
    load_background,
    modulate_noise,
)
from tonesieve.signals.distributions import Rng
from tonesieve.signals.record_noise import additive_noise, draw_gaps
from tonesieve.signals.signal_model import cycles_after, cycles_per_sample, starts_at


@dataclass(frozen=True)
class Records:
    """Synthetic records with their ground truth.

    Parameters
    ----------
    mixture : ndarray, shape (B, T)
        Samples; NaN in gaps.
    targets : ndarray, shape (B, T, K)
        The clean tones.
    data : DataSettings
        What they were drawn from.
    quadratures : ndarray, shape (B, T, K), optional
        The targets a quarter of a cycle ahead, cosines to their sines, where they were asked for.
    """

    mixture: Float[np.ndarray, "B T"]
    targets: Float[np.ndarray, "B T K"]
    data: DataSettings
    quadratures: Float[np.ndarray, "B T K"] | None = None

    @property
    def time_s(self) -> Float[np.ndarray, " T"]:
        """Time of every sample since the start of the record, s."""
        return np.arange(self.mixture.shape[1]) / self.data.rate_hz


def draw_exercise(data: DataSettings, *, seed: int, quadratures: bool = False) -> Records:
    """Draw the exercise's own record: one, of the full length, from time 0.

    Parameters
    ----------
    data : DataSettings
        The model of the signals. Only the unknown-phase regime gives it a random start.
    seed : int
        Of the record.
    quadratures : bool
        Whether to return quadratures, too.

    Returns
    -------
    Records
        mixture (1, T), targets (1, T, K).
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
    """Draw records, each with its own noise and, if the settings say so, its own start.

    The unknown-phase regime draws a phase and an amplitude for every tone. With
    ``data.background`` the tones are added to segments of a recording's own noise.

    Parameters
    ----------
    data : DataSettings
        The model of the signals.
    n_records : int
        Number of records, B.
    n_samples : int
        Samples of each, T.
    rng : Generator
        Source of all random numbers.
    starts : ndarray, shape (B,), optional
        Start times with known phase, samples. Without it they are 0 or drawn, as ``data.start``
        says.
    quadratures : bool
        Whether to return quadratures, too.

    Returns
    -------
    Records
        mixture (B, T), targets (B, T, K).

    Examples
    --------
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
        mixture[draw_gaps(data, n_records, n_samples, rng=rng)] = np.nan
    cosines = amplitude[:, None, :] * np.cos(2 * np.pi * cycles) if quadratures else None
    return Records(mixture, targets, data, cosines)


def _draw_on_background(
    data: DataSettings, n_records: int, n_samples: int, rng: Rng, quadratures: bool
) -> Records:
    """Tones of random amplitude that drift and fade, added to segments of a recording's noise."""
    assert data.background is not None
    background = background_of(data)
    noise = draw_segments(background, data.background.part, n_records, n_samples, rng=rng)
    if data.background.part == "train" and data.background.sway_db:
        sway_db = data.background.sway_db
        noise = modulate_noise(noise, data.frequencies_hz, data.rate_hz, sway_db, rng=rng)
    amplitudes = draw_amplitudes(data.background, n_records, data.n_components, rng=rng)
    shape = (n_records, n_samples, data.n_components)
    phasors = draw_phasors(data.background, data.rate_hz, shape, rng=rng)
    records = inject(noise, amplitudes[:, None] * phasors, data)
    return records if quadratures else replace(records, quadratures=None)


def inject(
    noise: Float[np.ndarray, "B T"], phasors: Complex[np.ndarray, "B T K"], data: DataSettings
) -> Records:
    """Add tones of these complex amplitudes to noise.

    Parameters
    ----------
    noise : ndarray, shape (B, T)
        Segments of noise; NaN in gaps.
    phasors : ndarray, shape (B, T, K)
        Complex amplitudes in the mixture.
    data : DataSettings
        Frequencies and rate.

    Returns
    -------
    Records
        Mixture, targets and quadratures.
    """
    steps = np.array([float(s) for s in cycles_per_sample(data.frequencies_hz, data.rate_hz)])
    tones = phasors * np.exp(2j * np.pi * np.arange(noise.shape[1])[:, None] * steps)
    # The mixture is a mean, so a target is K times as large as its tone in it.
    targets = data.n_components * tones
    return Records(noise + tones.imag.sum(axis=2), targets.imag, data, targets.real)


def background_of(data: DataSettings) -> Background:
    """Load the background that the settings refer to.

    Parameters
    ----------
    data : DataSettings
        With a background.

    Returns
    -------
    Background
        Noise at the rate of the settings.

    Raises
    ------
    UserError
        For a file that is missing, damaged, or of another rate.
    """
    assert data.background is not None
    background = load_background(data.background.file)
    if background.rate_hz != data.rate_hz:
        raise UserError(
            f"{data.background.file}: has {background.rate_hz:g} Hz, and data.rate_hz is "
            f"{data.rate_hz:g}"
        )
    return background


def of_part(data: DataSettings, part: str) -> DataSettings:
    """Return the same settings with another part of the background.

    Parameters
    ----------
    data : DataSettings
        With a background or without.
    part : str
        ``train``, ``validation`` or ``test``.

    Returns
    -------
    DataSettings
        Unchanged where there is no background.
    """
    if data.background is None:
        return data
    other = data.background.model_copy(update={"part": part})
    return data.model_copy(update={"background": other})


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


def _elapsed_cycles(
    data: DataSettings, n_records: int, n_samples: int, rng: Rng
) -> Float[np.ndarray, "B T K"]:
    """Cycles since the start of the record, frequency drift included."""
    frequencies = np.array(data.frequencies_hz)
    steady = np.arange(n_samples)[None, :, None] * (frequencies / data.rate_hz)
    if not data.frequency_drift:
        return steady
    deviation = _ornstein_uhlenbeck(data, (n_records, n_samples, data.n_components), rng)
    excess = np.cumsum(deviation, axis=1) - deviation
    return steady + data.frequency_drift * excess * (frequencies / data.rate_hz)


def _ornstein_uhlenbeck(data: DataSettings, shape: tuple[int, int, int], rng: Rng) -> np.ndarray:
    """Process of unit variance, sampled exactly, from its steady state."""
    rho = math.exp(-1 / (data.drift_time_s * data.rate_hz))
    innovations = rng.standard_normal(shape)
    innovations[:, 1:] *= math.sqrt(1 - rho * rho)
    return scipy.signal.lfilter([1.0], [1.0, -rho], innovations, axis=1)


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
