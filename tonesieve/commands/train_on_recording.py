"""A recording's own noise to train in: all that a run needs to know of it, found by itself."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from tonesieve.config.config import Config, with_background
from tonesieve.config.presets import change_config, load_config, read_override
from tonesieve.errors import UserError
from tonesieve.evaluation.injection import NETWORK, band_around, judge_injected, n_parts
from tonesieve.evaluation.metrics import band_rms
from tonesieve.evaluation.plots.run_plots import error_by_snr
from tonesieve.extractors.protocol import Extractor
from tonesieve.recordings.recording import read_recording
from tonesieve.signals.backgrounds import SHARES, Background, save_background, split_parts
from tonesieve.signals.synthesis import background_of
from tonesieve.signals.tone_removal import Removal, remove_tones
from tonesieve.signals.whitening import burg_whitening
from tonesieve.util.files import write_text

__all__ = ["RecordingTask", "judge", "store", "n_parts", "prepare"]
PRESET = "own"
# Within a run directory.
FILE, FOUND, TABLE = "background.npz", "recording.json", "injected.csv"
# A recording to learn from has at most so many samples: it is kept in memory.
MOST_READ = 2**25
# A training record has at most so many samples; at least so many, and so many periods.
MOST_SAMPLES, LEAST_SAMPLES, LEAST_PERIODS = 4096, 64, 4
# Guards take at most this share of a recording, together; stretches to judge on are a share of
# their part.
MOST_GUARDED, STRETCHES = 0.1, 4
# Tones are put in from this far below what was found to this far above (dB), and in any case over
# this range of tone over noise in the band.
BELOW_DB, ABOVE_DB, QUIET_DB, LOUD_DB = 20.0, 10.0, -15.0, 15.0
# The largest standard deviation of a tone's log-amplitude lies between these.
MOST_FADING = 0.3, 0.7
# How far the noise around the tones is taken to stray, from and to; told from so many pieces.
SWAY_DB, MOST_PIECES = (0.5, 10.0), 10
# A residue this small beside the tone is rounding, not noise.
NOTHING = 1e-6


@dataclass(frozen=True)
class RecordingTask:
    """A configuration to train, the background that it speaks of, and what was found."""

    config: Config
    background: Background
    found: dict[str, Any]


def prepare(
    recording: str | Path,
    hz: Sequence[float],
    *,
    source: str | Path = PRESET,
    overrides: Sequence[str] = (),
    column: str | None = None,
    rate_hz: float | None = None,
    time: str | None = None,
) -> RecordingTask:
    """Take the wanted tones out of a recording and settle how to train in the rest.

    Frequency near ``hz``, rate, amplitudes, their drift and the noise's colour are found; overrides
    have the last word. Raises `UserError` for a recording that this cannot be done with.
    """
    path = Path(recording)
    columns = () if column is None else (column,)
    given = read_recording(path, columns=columns, rate_hz=rate_hz, time=time)
    if given.n_samples > MOST_READ:
        raise UserError(
            f"{path}: {given.n_samples:,} samples; at most {MOST_READ:,} can be learned from"
        )
    samples, rate = given.samples, given.rate_hz
    _check(path, samples, rate, hz)
    try:
        removal = remove_tones(samples, rate, hz)
    except UserError as reason:
        raise UserError(f"{path}: {reason}") from None
    unit = float(np.sqrt(np.nanmean(removal.background**2)))
    if not unit > NOTHING * float(np.nanstd(samples)):
        raise UserError(f"{path}: holds nothing beside the tones; there is no noise to train in")
    guard = min(removal.window // 2, int(MOST_GUARDED / 2 * len(samples)))
    noise = removal.background / unit
    parts = split_parts(len(samples), guard)
    background = Background(noise.astype(np.float32).astype(float), rate, unit, parts)
    _check_parts(path, background, removal.frequencies_hz)
    found = _found(path, background, removal, hz)
    words = dict(read_override(override) for override in overrides)
    changes = _settings(background, removal, found)
    if words.get("model.kind", load_config(source).model.kind) != "bank":
        del changes["model.whitening"]
    where = " ".join([str(source), *overrides])
    config = change_config(source, {**changes, **words}, where=where)
    return RecordingTask(config, background, found)


def store(folder: Path, config: Config, own: RecordingTask | None) -> Config:
    """Write a background into a run directory; the settings that name it there.

    Without ``own`` it is the one that the settings name already: a run that is repeated.
    """
    noise = background_of(config.data) if own is None else own.background
    save_background(noise, folder / FILE)
    if own is not None:
        write_text(folder / FOUND, json.dumps(own.found, indent=2) + "\n")
    return with_background(config, FILE)


def judge(
    folder: Path, config: Config, extractor: Extractor, *, on_part: Callable[[int], None]
) -> tuple[dict[str, Any], Figure]:
    """A run beside the filters in its recording's held-out noise: figures, and a picture.

    The table goes to ``injected.csv``. ``on_part`` hears how many of `n_parts` are done.
    """
    figures, table = judge_injected(extractor, config, on_part=on_part)
    write_text(folder / TABLE, table.to_csv(index=False))
    own_snr = [snr for snr in figures["recording_snr_db"] if snr is not None]
    path = folder / FOUND
    found = {"recording": json.loads(path.read_text("utf-8"))} if path.exists() else {}
    return {"injected": figures, **found}, error_by_snr(table, own_snr, NETWORK)


def _check(
    path: Path, samples: Float[np.ndarray, " T"], rate_hz: float, hz: Sequence[float]
) -> None:
    if not hz:
        raise UserError("--recording: name the tone to learn with --hz, in Hz")
    for f in hz:
        if not 0 < f < rate_hz / 2:
            raise UserError(
                f"--hz {f:g}: must be above 0 and below {rate_hz / 2:g} Hz, half the rate of {path}"
            )
    if len(set(hz)) < len(hz):
        raise UserError("--hz: the same tone twice; each must differ")
    good = samples[np.isfinite(samples)]
    if len(good) == 0:
        raise UserError(f"{path}: gaps alone; there is nothing to learn from")
    if np.ptp(good) == 0:
        raise UserError(f"{path}: constant; there is no noise to train in")


def _check_parts(path: Path, background: Background, frequencies_hz: Sequence[float]) -> None:
    """Raise `UserError` where the parts are too short, or a gap fills one."""
    n = len(background.samples)
    needed = max(LEAST_SAMPLES, LEAST_PERIODS * background.rate_hz / min(frequencies_hz))
    if len(background.part("validation")) < needed:
        whole = math.ceil(needed / SHARES[1] / (1 - MOST_GUARDED))
        raise UserError(
            f"{path}: too short: {n} samples; to train, validate and test apart takes at least "
            f"{whole} ({whole / background.rate_hz:g} s)"
        )
    for name in background.parts:
        if not np.isfinite(background.part(name)).any():
            raise UserError(f"{path}: the part to {name} on is one gap; cut the recording first")


def _found(
    path: Path, background: Background, removal: Removal, hz: Sequence[float]
) -> dict[str, Any]:
    """What the recording is like, for `metrics.json`."""
    rate, unit, amplitudes = background.rate_hz, background.unit, removal.amplitudes()
    tones = []
    for k, f in enumerate(removal.frequencies_hz):
        band = band_around(f, rate)
        noise = unit * band_rms(background.samples, rate, band)
        by_part = {
            name: float(20 * np.log10(unit * band_rms(background.part(name), rate, band) / noise))
            for name in background.parts
        }
        tones.append(
            {
                "asked_hz": hz[k],
                "hz": f,
                "stands_out": removal.detected[k],
                "amplitude": float(amplitudes[k]),
                "band_hz": list(band),
                "noise_rms_in_band": noise,
                "noise_by_part_db": by_part,
                "snr_db": float(20 * np.log10(max(amplitudes[k], 1e-300) / noise / math.sqrt(2))),
                "wander_hz": float(removal.wander_hz(rate)[k]),
                "fading": float(removal.fading()[k]),
                "noise_filled_from_sides": removal.filled[k],
            }
        )
    return {
        "recording": str(path),
        "samples": len(background.samples),
        "rate_hz": rate,
        "noise_rms": unit,
        "removal_window_s": removal.window / rate,
        "parts_s": {n: [a / rate, b / rate] for n, (a, b) in background.parts.items()},
        "sway_db": _sway_db(background, removal.frequencies_hz),
        "tones": tones,
    }


def _sway_db(background: Background, frequencies_hz: Sequence[float]) -> float:
    """How far the noise around the tones strays: twice its deviation over pieces of the train part.

    Every piece has at least a few periods; of short recordings chance adds to what is found, for
    there little is known.
    """
    rate, part = background.rate_hz, background.part("train")
    strays = []
    for f in frequencies_hz:
        n_pieces = int(np.clip(len(part) * f / rate / (2 * LEAST_PERIODS), 2, MOST_PIECES))
        pieces = [p for p in np.array_split(part, n_pieces) if np.isfinite(p).sum() > len(p) / 2]
        levels = [band_rms(p, rate, band_around(f, rate)) for p in pieces]
        strays.append(float(np.std(20 * np.log10(np.maximum(levels, 1e-30)))) if levels else 0.0)
    return float(np.clip(2 * max(strays), *SWAY_DB))


def _settings(background: Background, removal: Removal, found: dict[str, Any]) -> dict[str, Any]:
    """Settings by dotted keys."""
    rate, unit = background.rate_hz, background.unit
    lowest = min(removal.frequencies_hz)
    n_train, n_held, n_test = (b - a for a, b in background.parts.values())
    n_record = min(MOST_SAMPLES, n_held, n_train // 2)
    n_least = math.ceil(LEAST_PERIODS * rate / lowest)
    n_record = max(n_record, min(n_held, n_least))
    n_stretch = max(min(n_record, n_test // STRETCHES), 2 * n_least)
    n_stretch = min(n_stretch, n_test // 2)
    chunk = min(n_record, max(512, math.ceil(rate / lowest)))
    record_s, loudest = n_record / rate, max(removal.wander_hz(rate))
    scale = [t["noise_rms_in_band"] * math.sqrt(2) / unit for t in found["tones"]]
    snrs = [t["snr_db"] for t in found["tones"]]
    low_db, high_db = min(QUIET_DB, min(snrs) - BELOW_DB), max(LOUD_DB, max(snrs) + ABOVE_DB)
    low_db = max(low_db, 2 * QUIET_DB)  # nothing is to be heard of tones that do not stand out
    own = {
        "file": FILE,
        "unit": unit,
        "found": [t["amplitude"] / unit for t in found["tones"]],
        "tone_range": [min(scale) * 10 ** (low_db / 20), max(scale) * 10 ** (high_db / 20)],
        "wander_hz": [0.02 / record_s, max(0.5 / record_s, 2 * loudest)],
        "fading": [0.01, float(np.clip(2 * max(removal.fading()), *MOST_FADING))],
        "change_s": [record_s / 20, 2 * record_s],
        "sway_db": found["sway_db"],
    }
    return {
        "data.regime": "free",
        "data.start": "random",
        "data.noise": "fresh",
        "data.background": own,
        "data.frequencies_hz": list(removal.frequencies_hz),
        "data.rate_hz": rate,
        "data.duration_s": n_stretch / rate,
        "training.teacher": "none",
        "training.record_s": record_s,
        "training.chunk_samples": chunk,
        "evaluation.settle_s": n_stretch / rate / 4,
        "model.whitening": list(burg_whitening(background.part("train"))),
    }
