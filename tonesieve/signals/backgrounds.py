"""Noise from a recording: kept on disk, dealt out in stretches, tones put upon it.

A background is what is left of a recording without its wanted tones (`signals.tone_removal`), in units
of its own RMS. It is cut into parts that never overlap: to train on, to choose the weights by, and
to judge on. Axes: B records, T samples, K tones.
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
from tonesieve.util.files import replacing

Rng = np.random.Generator
PARTS = ("train", "validation", "test")
# Shares of a recording, in its order: what is judged on comes last, as it does in use.
SHARES = (0.55, 0.15, 0.30)
# Of the stretches to train on, so many are the sum of two.
MIXED = 0.5
# How much (a factor) one tone of a record may be above or below what all are about.
APART = 10 ** (10 / 20)
# Octaves in which a change of the noise around a tone falls off.
WIDTH = 0.5


@dataclass(frozen=True)
class Background:
    """Noise of RMS 1, its rate, what 1 is in the recording's unit, and where its parts lie."""

    samples: Float[np.ndarray, " T"]  # NaN in gaps
    rate_hz: float
    unit: float
    parts: dict[str, tuple[int, int]]  # first sample, and the one after the last

    def part(self, name: str) -> Float[np.ndarray, " N"]:
        """The samples of one part."""
        return self.samples[slice(*self.parts[name])]


def cut_in_parts(n_samples: int, guard: int) -> dict[str, tuple[int, int]]:
    """Where train, validation and test lie, ``guard`` samples of no use between them."""
    edges = np.round(np.cumsum([0.0, *SHARES]) * (n_samples - 2 * guard)).astype(int)
    return {
        name: (int(edges[i]) + i * guard, int(edges[i + 1]) + i * guard)
        for i, name in enumerate(PARTS)
    }


def save_background(background: Background, path: Path) -> None:
    """Write it as .npz in one piece (float32, no pickle)."""
    with replacing(path) as file:
        np.savez(
            file,
            samples=background.samples.astype(np.float32),
            rate_hz=np.array(background.rate_hz),
            unit=np.array(background.unit),
            parts=np.array([background.parts[name] for name in PARTS]),
        )


def load_background(path: str | Path) -> Background:
    """Read what `save_background` wrote; raises `UserError` for what is not that."""
    try:
        return _loaded(str(path), Path(path).stat().st_mtime_ns)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; the background of this run lies there") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a background that tonesieve wrote ({error})") from None


@lru_cache(maxsize=4)
def _loaded(path: str, modified_ns: int) -> Background:
    with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as held:
        samples = held["samples"].astype(np.float64)
        bounds = held["parts"].astype(int)
        if samples.ndim != 1 or bounds.shape != (len(PARTS), 2):
            raise ValueError("arrays of other shapes")
        parts = {name: (int(a), int(b)) for name, (a, b) in zip(PARTS, bounds, strict=True)}
        return Background(samples, float(held["rate_hz"]), float(held["unit"]), parts)


def draw_stretches(
    background: Background, part: str, n_records: int, n_samples: int, *, rng: Rng
) -> Float[np.ndarray, "B T"]:
    """Random stretches of a part without their mean, half of them backwards.

    Noise read backwards is as likely, and makes twice as much to learn from. A recording holds few
    independent samples of the noise in a narrow band, which a network could learn by heart; so half
    of the stretches to train on are two, weighed by sine and cosine of a random angle: of the same
    spectrum and power, but hardly ever heard before.

    Raises `UserError` where the part is shorter than a stretch.
    """
    whole = background.part(part)
    check_length(background, part, n_samples)
    one = _cut(whole, n_records, n_samples, rng)
    if part != "train":
        return one
    other = _cut(whole, n_records, n_samples, rng)
    angle = np.where(rng.random(n_records) < MIXED, rng.uniform(0, 2 * np.pi, n_records), 0.0)
    mixed = np.cos(angle)[:, None] * one + np.sin(angle)[:, None] * other
    return np.where(angle[:, None] == 0, one, mixed)  # gaps of the other are none of its own


def _cut(
    whole: Float[np.ndarray, " N"], n_records: int, n_samples: int, rng: Rng
) -> Float[np.ndarray, "B T"]:
    starts = rng.integers(0, len(whole) - n_samples + 1, n_records)
    found = whole[starts[:, None] + np.arange(n_samples)]
    back = rng.random(n_records) < 0.5
    found[back] = found[back, ::-1]
    return centred(found)


def check_length(background: Background, part: str, n_samples: int) -> None:
    """Raise `UserError` where a part of the background is shorter than so many samples."""
    n = len(background.part(part))
    if n_samples > n:
        raise UserError(
            f"the background has {n} samples to {part} on ({n / background.rate_hz:g} s), and a "
            f"record of {n_samples} is asked for; choose shorter ones (data.duration_s, "
            "training.record_s)"
        )


def centred(stretches: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T"]:
    """Every stretch without the mean of its good samples."""
    good = np.isfinite(stretches)
    mean = np.where(good, stretches, 0.0).sum(axis=1) / np.maximum(good.sum(axis=1), 1)
    return np.asarray(stretches - mean[:, None])


def modulate_noise(
    noise: Float[np.ndarray, "B T"],
    frequencies_hz: Sequence[float],
    rate_hz: float,
    sway_db: float,
    *,
    rng: Rng,
) -> Float[np.ndarray, "B T"]:
    """Noise that is louder or quieter around the tones, by up to ``sway_db``, gaps as they were.

    What a recording's noise is tomorrow differs from today most where it is told from few periods:
    close to a slow tone. A network that had heard one level alone would take it for certain.
    """
    octaves = np.fft.rfftfreq(noise.shape[1], 1 / rate_hz)
    octaves[1:] = np.log2(octaves[1:])
    octaves[0] = -np.inf
    bumps = [np.exp(-(((octaves - np.log2(f)) / WIDTH) ** 2)) for f in frequencies_hz]
    change_db = rng.uniform(-sway_db, sway_db, (len(noise), 1)) * np.max(bumps, axis=0)
    spectrum = np.fft.rfft(np.nan_to_num(noise), axis=1) * 10 ** (change_db / 20)
    changed = np.fft.irfft(spectrum, noise.shape[1], axis=1)
    return np.where(np.isfinite(noise), changed, np.nan)


def draw_levels(
    settings: BackgroundSettings, rate_hz: float, shape: tuple[int, int, int], *, rng: Rng
) -> Complex[np.ndarray, "B T K"]:
    """Complex amplitudes of tones of unit mean amplitude, that wander and fade.

    A uniform start phase; frequency and logarithm of the amplitude are Ornstein-Uhlenbeck
    processes, each of a tone's own standard deviation and correlation time.
    """
    n_records, n_samples, n_tones = shape
    each = (n_records, n_tones)
    wander = log_uniform(settings.wander_hz, each, rng) / rate_hz
    fading = log_uniform(settings.fading, each, rng)
    pace = np.exp(-1 / (log_uniform(settings.change_s, (2, *each), rng) * rate_hz))
    start = rng.random(each)
    kicks = rng.standard_normal((2, n_records, n_tones, n_samples))
    kicks[..., 1:] *= np.sqrt(1 - pace**2)[..., None]
    for place in np.ndindex(2, n_records, n_tones):
        kicks[place] = scipy.signal.lfilter([1.0], [1.0, -pace[place]], kicks[place])
    turns, swell = kicks[0] * wander[..., None], kicks[1] * fading[..., None]
    cycles = start[..., None] + np.cumsum(turns, axis=2) - turns
    levels = np.exp(swell + 2j * np.pi * cycles)
    return np.asarray(levels.transpose(0, 2, 1))


def draw_amplitudes(
    settings: BackgroundSettings, n_records: int, n_tones: int, *, rng: Rng
) -> Float[np.ndarray, "B K"]:
    """Log-uniform amplitudes, the tones of one record within 10 dB of a common one."""
    common = log_uniform(settings.tone_range, (n_records, 1), rng)
    apart = (1 / APART, APART) if n_tones > 1 else (1.0, 1.0)
    own = common * log_uniform(apart, (n_records, n_tones), rng)
    return np.clip(own, *settings.tone_range)


def log_uniform(bounds: tuple[float, float], shape: tuple[int, ...], rng: Rng) -> np.ndarray:
    """Draws whose logarithm is uniform between those of two bounds."""
    low, high = np.log(bounds)
    return np.asarray(np.exp(rng.uniform(low, high, shape)))
