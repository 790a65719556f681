"""Training in the noise of a recording: the settings are estimated from the recording."""

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
from tonesieve.evaluation.injection import band_around, evaluate_injected, n_parts
from tonesieve.evaluation.injection_scores import NETWORK
from tonesieve.evaluation.metrics import band_rms
from tonesieve.evaluation.plots.comparison_plots import error_by_snr
from tonesieve.extractors.protocol import Extractor
from tonesieve.recordings.recording import read_recording
from tonesieve.signals.backgrounds import SHARES, Background, save_background, split_parts
from tonesieve.signals.synthesis import background_of
from tonesieve.signals.tone_removal import Removal, remove_tones
from tonesieve.signals.whitening import burg_whitening
from tonesieve.util.files import write_text

__all__ = ["RecordingTask", "evaluate_on_recording", "n_parts", "prepare", "store"]
PRESET = "own"
# Files of a run directory.
FILE, PROPERTIES, TABLE = "background.npz", "recording.json", "injected.csv"
# Samples of a recording, at most. Guard: the recording is held in memory.
MAX_SAMPLES = 2**25
# Samples of a training record, at most and at least, and its periods of the lowest tone at least.
# Chosen, not tuned.
MAX_RECORD_SAMPLES, MIN_RECORD_SAMPLES, MIN_PERIODS = 4096, 64, 4
# The largest fraction of a recording that the guards between its parts take together; the test
# part is divided into this many stretches. Chosen, not tuned.
MAX_GUARD_FRACTION, N_STRETCHES = 0.1, 4
# Amplitudes of the added tones reach from this far below to this far above the measured amplitude
# (dB). They cover at least this range of SNR in the band (dB). Chosen, not tuned.
BELOW_DB, ABOVE_DB, LOW_SNR_DB, HIGH_SNR_DB = 20.0, 10.0, -15.0, 15.0
# Range of the largest standard deviation of a tone's log-amplitude. Chosen, not tuned.
FADING_RANGE = 0.3, 0.7
# Range of the variation of the noise around the tones (dB), and the largest number of pieces that
# it is estimated from. Chosen, not tuned.
SWAY_RANGE_DB, MAX_PIECES = (0.5, 10.0), 10
# Guard: a residual this small relative to the recording is rounding, not noise.
ROUNDING = 1e-6


@dataclass(frozen=True)
class RecordingTask:
    """The settings of a training, its background, and the properties of the recording."""

    config: Config
    background: Background
    properties: dict[str, Any]


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
    """Remove the tones near ``hz`` from a recording and derive the settings of a training.

    Frequencies, rate, amplitudes, their drift and the spectrum of the noise are estimated.
    ``overrides`` take precedence. Raises `UserError` for a recording that cannot be used.
    """
    path = Path(recording)
    columns = () if column is None else (column,)
    file = read_recording(path, columns=columns, rate_hz=rate_hz, time=time)
    if file.n_samples > MAX_SAMPLES:
        raise UserError(
            f"{path}: {file.n_samples:,} samples; training takes at most {MAX_SAMPLES:,}"
        )
    samples, rate = file.samples, file.rate_hz
    _check(path, samples, rate, hz)
    try:
        removal = remove_tones(samples, rate, hz)
    except UserError as reason:
        raise UserError(f"{path}: {reason}") from None
    unit = float(np.sqrt(np.nanmean(removal.background**2)))
    if not unit > ROUNDING * float(np.nanstd(samples)):
        raise UserError(f"{path}: holds nothing but the tones; there is no noise to train in")
    guard = min(removal.window // 2, int(MAX_GUARD_FRACTION / 2 * len(samples)))
    noise = removal.background / unit
    parts = split_parts(len(samples), guard)
    background = Background(noise.astype(np.float32).astype(float), rate, unit, parts)
    _check_parts(path, background, removal.frequencies_hz)
    properties = _properties(path, background, removal, hz)
    overridden = dict(read_override(override) for override in overrides)
    derived = _settings(background, removal, properties)
    if overridden.get("model.kind", load_config(source).model.kind) != "bank":
        del derived["model.whitening"]
    where = " ".join([str(source), *overrides])
    config = change_config(source, {**derived, **overridden}, where=where)
    return RecordingTask(config, background, properties)


def store(folder: Path, config: Config, task: RecordingTask | None) -> Config:
    """Write a background into a run directory; return the settings that refer to it there.

    Without ``task``, for a run that is repeated, the background is that of the settings.
    """
    background = background_of(config.data) if task is None else task.background
    save_background(background, folder / FILE)
    if task is not None:
        write_text(folder / PROPERTIES, json.dumps(task.properties, indent=2) + "\n")
    return with_background(config, FILE)


def evaluate_on_recording(
    folder: Path, config: Config, extractor: Extractor, *, on_part: Callable[[int], None]
) -> tuple[dict[str, Any], Figure]:
    """Compare a run with the filters in its recording's held-out noise: metrics and a figure.

    The table is written to ``injected.csv``. ``on_part`` is called with the number of the `n_parts`
    that are done.
    """
    metrics, table = evaluate_injected(extractor, config, on_part=on_part)
    write_text(folder / TABLE, table.to_csv(index=False))
    recording_snr = [snr for snr in metrics["recording_snr_db"] if snr is not None]
    path = folder / PROPERTIES
    properties = {"recording": json.loads(path.read_text("utf-8"))} if path.exists() else {}
    return {"injected": metrics, **properties}, error_by_snr(table, recording_snr, NETWORK)


def _check(
    path: Path, samples: Float[np.ndarray, " T"], rate_hz: float, hz: Sequence[float]
) -> None:
    if not hz:
        raise UserError("--recording: give the nominal frequency of the tone with --hz, in Hz")
    for f in hz:
        if not 0 < f < rate_hz / 2:
            raise UserError(
                f"--hz {f:g}: must be above 0 and below {rate_hz / 2:g} Hz, half the rate of {path}"
            )
    if len(set(hz)) < len(hz):
        raise UserError("--hz: the same tone twice; all must differ")
    valid = samples[np.isfinite(samples)]
    if len(valid) == 0:
        raise UserError(f"{path}: gaps alone; there are no samples to train on")
    if np.ptp(valid) == 0:
        raise UserError(f"{path}: constant; there is no noise to train in")


def _check_parts(path: Path, background: Background, frequencies_hz: Sequence[float]) -> None:
    """Raise `UserError` where the parts are too short, or a gap fills one."""
    n = len(background.samples)
    needed = max(MIN_RECORD_SAMPLES, MIN_PERIODS * background.rate_hz / min(frequencies_hz))
    if len(background.part("validation")) < needed:
        total = math.ceil(needed / SHARES[1] / (1 - MAX_GUARD_FRACTION))
        raise UserError(
            f"{path}: too short: {n} samples; separate parts to train, validate and test on take "
            f"at least {total} ({total / background.rate_hz:g} s)"
        )
    for name in background.parts:
        if not np.isfinite(background.part(name)).any():
            raise UserError(f"{path}: the part to {name} on is one gap; cut the recording first")


def _properties(
    path: Path, background: Background, removal: Removal, hz: Sequence[float]
) -> dict[str, Any]:
    """Properties of the recording, for `recording.json` and `metrics.json`."""
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
    """How far the noise around the tones varies: twice its deviation over pieces of the train part.

    Every piece has at least a few periods. In short recordings chance adds to the result.
    """
    rate, part = background.rate_hz, background.part("train")
    deviations = []
    for f in frequencies_hz:
        n_pieces = int(np.clip(len(part) * f / rate / (2 * MIN_PERIODS), 2, MAX_PIECES))
        pieces = [p for p in np.array_split(part, n_pieces) if np.isfinite(p).sum() > len(p) / 2]
        rms = [band_rms(p, rate, band_around(f, rate)) for p in pieces]
        deviations.append(float(np.std(20 * np.log10(np.maximum(rms, 1e-30)))) if rms else 0.0)
    return float(np.clip(2 * max(deviations), *SWAY_RANGE_DB))


def _settings(
    background: Background, removal: Removal, properties: dict[str, Any]
) -> dict[str, Any]:
    """Settings by dotted keys."""
    rate, unit = background.rate_hz, background.unit
    lowest = min(removal.frequencies_hz)
    n_train, n_validation, n_test = (b - a for a, b in background.parts.values())
    n_record = min(MAX_RECORD_SAMPLES, n_validation, n_train // 2)
    n_min = math.ceil(MIN_PERIODS * rate / lowest)
    n_record = max(n_record, min(n_validation, n_min))
    n_stretch = max(min(n_record, n_test // N_STRETCHES), 2 * n_min)
    n_stretch = min(n_stretch, n_test // 2)
    chunk = min(n_record, max(512, math.ceil(rate / lowest)))
    record_s, max_wander = n_record / rate, max(removal.wander_hz(rate))
    tones = properties["tones"]
    scale = [t["noise_rms_in_band"] * math.sqrt(2) / unit for t in tones]
    snrs = [t["snr_db"] for t in tones]
    low_db, high_db = min(LOW_SNR_DB, min(snrs) - BELOW_DB), max(HIGH_SNR_DB, max(snrs) + ABOVE_DB)
    low_db = max(low_db, 2 * LOW_SNR_DB)  # guard against tones that were not detected
    settings = {
        "file": FILE,
        "unit": unit,
        "found": [t["amplitude"] / unit for t in tones],
        "tone_range": [min(scale) * 10 ** (low_db / 20), max(scale) * 10 ** (high_db / 20)],
        "wander_hz": [0.02 / record_s, max(0.5 / record_s, 2 * max_wander)],
        "fading": [0.01, float(np.clip(2 * max(removal.fading()), *FADING_RANGE))],
        "change_s": [record_s / 20, 2 * record_s],
        "sway_db": properties["sway_db"],
    }
    return {
        "data.regime": "free",
        "data.start": "random",
        "data.noise": "fresh",
        "data.background": settings,
        "data.frequencies_hz": list(removal.frequencies_hz),
        "data.rate_hz": rate,
        "data.duration_s": n_stretch / rate,
        "training.teacher": "none",
        "training.record_s": record_s,
        "training.chunk_samples": chunk,
        "evaluation.settle_s": n_stretch / rate / 4,
        "model.whitening": list(burg_whitening(background.part("train"))),
    }
