"""Noise from a recording: kept on disk, drawn in segments, with tones added to it.

A background is a recording without its wanted tones (`signals.tone_removal`), in units of its own
RMS. It is split into parts that never overlap: to train on, to choose the weights by, and to test
on. Axes: B records, T samples, K tones, N samples of a part.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import scipy
from jaxtyping import Complex, Float

from tonesieve.config.schema import BackgroundSettings
from tonesieve.errors import UserError
from tonesieve.signals.distributions import Rng, log_uniform
from tonesieve.util.files import replacing

PARTS = ("train", "validation", "test")
# Chosen, not tuned: fractions of a recording, in its order. The test part comes last, as what a
# network is used on does.
SHARES = (0.55, 0.15, 0.30)
# Chosen, not tuned: fraction of the training segments that are the sum of two.
MIXED_FRACTION = 0.5
# Chosen, not tuned: factor by which one tone of a record may be above or below the common
# amplitude, 10 dB.
MAX_RATIO = 10 ** (10 / 20)
# Chosen, not tuned: octaves in which a change of the noise around a tone falls off.
WIDTH_OCTAVES = 0.5


@dataclass(frozen=True)
class Background:
    """Noise of RMS 1, in parts.

    Parameters
    ----------
    samples : ndarray, shape (T,)
        The noise; NaN in gaps.
    rate_hz : float
        Sampling rate.
    unit : float
        What 1 is in the recording's unit.
    parts : dict of str to tuple of two int
        First sample of each part, and the one after its last.
    """

    samples: Float[np.ndarray, " T"]
    rate_hz: float
    unit: float
    parts: dict[str, tuple[int, int]]

    def part(self, name: str) -> Float[np.ndarray, " N"]:
        """Return the samples of one part."""
        return self.samples[slice(*self.parts[name])]


def split_parts(n_samples: int, guard: int) -> dict[str, tuple[int, int]]:
    """Split a recording into train, validation and test.

    Parameters
    ----------
    n_samples : int
        Length of the recording.
    guard : int
        Samples between two parts that belong to neither.

    Returns
    -------
    dict of str to tuple of two int
        First sample of each part, and the one after its last.
    """
    edges = np.round(np.cumsum([0.0, *SHARES]) * (n_samples - 2 * guard)).astype(int)
    return {
        name: (int(edges[i]) + i * guard, int(edges[i + 1]) + i * guard)
        for i, name in enumerate(PARTS)
    }


def save_background(background: Background, path: Path) -> None:
    """Write a background as .npz in one piece (float32, no pickle).

    Parameters
    ----------
    background : Background
        What is written.
    path : Path
        Where.
    """
    with replacing(path) as file:
        np.savez(
            file,
            samples=background.samples.astype(np.float32),
            rate_hz=np.array(background.rate_hz),
            unit=np.array(background.unit),
            parts=np.array([background.parts[name] for name in PARTS]),
        )


def load_background(path: str | Path) -> Background:
    """Read what `save_background` wrote.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    Background
        The noise.

    Raises
    ------
    UserError
        For a file that is missing or that is no background.
    """
    try:
        return _loaded(str(path), Path(path).stat().st_mtime_ns)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; the background of this run lies there") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a background that tonesieve wrote ({error})") from None


@lru_cache(maxsize=4)
def _loaded(path: str, modified_ns: int) -> Background:
    with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as stored:
        samples = stored["samples"].astype(np.float64)
        bounds = stored["parts"].astype(int)
        if samples.ndim != 1 or bounds.shape != (len(PARTS), 2):
            raise ValueError("arrays of other shapes")
        parts = {name: (int(a), int(b)) for name, (a, b) in zip(PARTS, bounds, strict=True)}
        return Background(samples, float(stored["rate_hz"]), float(stored["unit"]), parts)


def draw_segments(
    background: Background, part: str, n_records: int, n_samples: int, *, rng: Rng
) -> Float[np.ndarray, "B T"]:
    """Draw random segments of a part without their mean, half of them reversed in time.

    Reversed noise is as likely, and doubles the training data. A recording holds few independent
    samples of the noise in a narrow band, to which a network could overfit. So half of the training
    segments are the sum of two, weighted by sine and cosine of a random angle: of the same spectrum
    and power, but hardly ever the same twice.

    Parameters
    ----------
    background : Background
        The noise.
    part : str
        ``train``, ``validation`` or ``test``.
    n_records : int
        Number of segments, B.
    n_samples : int
        Samples of each, T.
    rng : Generator
        Source of the places and angles.

    Returns
    -------
    ndarray, shape (B, T)
        Noise; NaN in gaps.

    Raises
    ------
    UserError
        Where the part is shorter than a segment.
    """
    noise = background.part(part)
    check_length(background, part, n_samples)
    first = _cut(noise, n_records, n_samples, rng)
    if part != "train":
        return first
    second = _cut(noise, n_records, n_samples, rng)
    is_mixed = rng.random(n_records) < MIXED_FRACTION
    angle = np.where(is_mixed, rng.uniform(0, 2 * np.pi, n_records), 0.0)
    mixed = np.cos(angle)[:, None] * first + np.sin(angle)[:, None] * second
    # A segment that is not mixed has none of the second one's gaps.
    return np.where(angle[:, None] == 0, first, mixed)


def _cut(
    noise: Float[np.ndarray, " N"], n_records: int, n_samples: int, rng: Rng
) -> Float[np.ndarray, "B T"]:
    starts = rng.integers(0, len(noise) - n_samples + 1, n_records)
    segments = noise[starts[:, None] + np.arange(n_samples)]
    is_reversed = rng.random(n_records) < 0.5
    segments[is_reversed] = segments[is_reversed, ::-1]
    return centred(segments)


def check_length(background: Background, part: str, n_samples: int) -> None:
    """Check that a part of the background is long enough.

    Parameters
    ----------
    background : Background
        The noise.
    part : str
        ``train``, ``validation`` or ``test``.
    n_samples : int
        Length of a record.

    Raises
    ------
    UserError
        Where the part is shorter than a record.
    """
    n = len(background.part(part))
    if n_samples > n:
        raise UserError(
            f"the background has {n} samples to {part} on ({n / background.rate_hz:g} s), and a "
            f"record of {n_samples} is asked for; choose shorter ones (data.duration_s, "
            "training.record_s)"
        )


def centred(segments: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T"]:
    """Subtract from every segment the mean of its good samples.

    Parameters
    ----------
    segments : ndarray, shape (B, T)
        Samples; NaN in gaps.

    Returns
    -------
    ndarray, shape (B, T)
        Segments of mean 0.
    """
    good = np.isfinite(segments)
    mean = np.where(good, segments, 0.0).sum(axis=1) / np.maximum(good.sum(axis=1), 1)
    return np.asarray(segments - mean[:, None])


def modulate_noise(
    noise: Float[np.ndarray, "B T"],
    frequencies_hz: Sequence[float],
    rate_hz: float,
    sway_db: float,
    *,
    rng: Rng,
) -> Float[np.ndarray, "B T"]:
    """Make noise around the tones stronger or weaker, at random.

    Tomorrow's noise differs most from today's where few periods determine it: close to a slow tone.
    A network that was trained on one noise power alone would take it for certain.

    Parameters
    ----------
    noise : ndarray, shape (B, T)
        Segments; NaN in gaps.
    frequencies_hz : sequence of float
        The tones.
    rate_hz : float
        Sampling rate.
    sway_db : float
        Largest change of the power density at the tones, dB.
    rng : Generator
        Source of the changes.

    Returns
    -------
    ndarray, shape (B, T)
        The changed noise, gaps as they were.
    """
    octaves = np.fft.rfftfreq(noise.shape[1], 1 / rate_hz)
    octaves[1:] = np.log2(octaves[1:])
    octaves[0] = -np.inf
    bumps = [np.exp(-(((octaves - np.log2(f)) / WIDTH_OCTAVES) ** 2)) for f in frequencies_hz]
    change_db = rng.uniform(-sway_db, sway_db, (len(noise), 1)) * np.max(bumps, axis=0)
    spectrum = np.fft.rfft(np.nan_to_num(noise), axis=1) * 10 ** (change_db / 20)
    changed = np.fft.irfft(spectrum, noise.shape[1], axis=1)
    return np.where(np.isfinite(noise), changed, np.nan)


def draw_phasors(
    settings: BackgroundSettings, rate_hz: float, shape: tuple[int, int, int], *, rng: Rng
) -> Complex[np.ndarray, "B T K"]:
    """Draw complex amplitudes of tones whose frequency drifts and whose amplitude fades.

    The start phase is uniform; frequency and logarithm of the amplitude are Ornstein-Uhlenbeck
    processes, each with a standard deviation and a correlation time of the tone's own.

    Parameters
    ----------
    settings : BackgroundSettings
        Ranges of the standard deviations and correlation times.
    rate_hz : float
        Sampling rate.
    shape : tuple of three int
        (B, T, K).
    rng : Generator
        Source of all random numbers.

    Returns
    -------
    ndarray, shape (B, T, K)
        Phasors of unit median amplitude.
    """
    n_records, n_samples, n_tones = shape
    each = (n_records, n_tones)
    deviation = log_uniform(settings.wander_hz, rng, each) / rate_hz
    fading = log_uniform(settings.fading, rng, each)
    rho = np.exp(-1 / (log_uniform(settings.change_s, rng, (2, *each)) * rate_hz))
    start = rng.random(each)
    process = rng.standard_normal((2, n_records, n_tones, n_samples))
    process[..., 1:] *= np.sqrt(1 - rho**2)[..., None]
    for index in np.ndindex(2, n_records, n_tones):
        process[index] = scipy.signal.lfilter([1.0], [1.0, -rho[index]], process[index])
    freq_cycles, log_amplitude = process[0] * deviation[..., None], process[1] * fading[..., None]
    cycles = start[..., None] + np.cumsum(freq_cycles, axis=2) - freq_cycles
    phasors = np.exp(log_amplitude + 2j * np.pi * cycles)
    return np.asarray(phasors.transpose(0, 2, 1))


def draw_amplitudes(
    settings: BackgroundSettings, n_records: int, n_tones: int, *, rng: Rng
) -> Float[np.ndarray, "B K"]:
    """Draw log-uniform amplitudes, the tones of one record within 10 dB of a common one.

    Parameters
    ----------
    settings : BackgroundSettings
        Range of the amplitudes.
    n_records : int
        Number of records, B.
    n_tones : int
        Number of tones, K.
    rng : Generator
        Source of the amplitudes.

    Returns
    -------
    ndarray, shape (B, K)
        Over the RMS of the background.
    """
    common = log_uniform(settings.tone_range, rng, (n_records, 1))
    ratios = (1 / MAX_RATIO, MAX_RATIO) if n_tones > 1 else (1.0, 1.0)
    amplitudes = common * log_uniform(ratios, rng, (n_records, n_tones))
    return np.clip(amplitudes, *settings.tone_range)
