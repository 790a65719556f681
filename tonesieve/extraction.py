"""A recording in, the tone out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tonesieve.config import DataSettings
from tonesieve.errors import UserError
from tonesieve.extractors.filters import FILTERS, build_filter, is_filter
from tonesieve.extractors.protocol import Extractor, is_causal
from tonesieve.files import refuse_existing
from tonesieve.judging.metrics import band_power
from tonesieve.reporting import Reporter
from tonesieve.signals.recordings import (
    Recording,
    clipped_on_writing,
    read_recording,
    resample,
    tone_names,
    write_tones,
)
from tonesieve.signals.synthesis import input_rms, tone_gain

# Samples between two looks at the progress bar.
CHUNK = 50_000


@dataclass(frozen=True)
class Source:
    """An extractor and the signals that it was made for."""

    extractor: Extractor
    data: DataSettings
    memory_samples: int  # how far back it can have learned to look
    name: str
    linear: bool = False  # any scale will do: the recording is taken as it is
    unit: float | None = None  # the scale to take it at, where it is known


def network_source(
    extractor: Extractor, data: DataSettings, memory_samples: int, name: str
) -> Source:
    """A trained network; one that learned in a recording's noise takes it in that one's unit."""
    unit = None if data.background is None else data.background.unit
    return Source(extractor, data, memory_samples, name, unit is not None, unit)


# Filters are made for the recording at hand.
SourceFor = Callable[[Recording], Source]


def filter_source(name: str, hz: Sequence[float]) -> SourceFor:
    """The classical extractor ``name`` for the tones at ``hz``, at the rate of a recording.

    Raises `UserError` where no tone is named, and, once the recording is known, for tones at or
    above half its rate and for knobs that do not fit.
    """
    if not is_filter(name):
        raise UserError(
            f"--with {name}: neither a run directory nor a filter; filters are {', '.join(FILTERS)}"
        )
    if not hz:
        raise UserError(f"--hz: name the tone in Hz; {name} knows none by itself")

    def build(recording: Recording) -> Source:
        rate_hz = recording.rate_hz
        for f in hz:
            if not 0 < f < rate_hz / 2:
                raise UserError(
                    f"--hz {f:g}: must be above 0 and below {rate_hz / 2:g} Hz, half the rate of "
                    f"{recording.path}"
                )
        tones = tuple(dict.fromkeys(float(f) for f in hz))
        data = DataSettings(
            frequencies_hz=tones,
            rate_hz=rate_hz,
            duration_s=max(1000 / rate_hz, 1 / min(tones)),
            regime="free",
            phase_scale=0.0,
            amplitude_range=(1.0, 1.0),
        )
        extractor = build_filter(name, tones, rate_hz, gain=tone_gain(data))
        memory = extractor.delay or len(recording.samples)
        return Source(extractor, data, memory, name, linear=True)

    return build


def extract_recording(
    recording: str | Path,
    source: Source | SourceFor,
    hz: Sequence[float] = (),
    *,
    causal: bool = False,
    column: str | None = None,
    rate_hz: float | None = None,
    band_hz: tuple[float, float] | None = None,
    out: str | Path | None = None,
    force: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Write the tones at ``hz`` (default: all that the source knows) as a file of their own.

    The output has the input's format, rate and length, its default name is NAME.tone.csv or
    .wav. ``causal`` uses no sample later than the one that is answered; otherwise the whole
    recording serves. ``band_hz`` is where power is compared before and after (default: 2% either
    side of each tone). Answers the figures.

    Raises `UserError` for what `read_recording` refuses, a frequency that the source does not
    know, a recording that is too short or too slow, and an output that exists.
    """
    path = Path(recording)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    target = path.with_suffix(f".tone{path.suffix}") if out is None else Path(out)
    refuse_existing(target, force=force)
    if target.resolve() == path.resolve():
        raise UserError(f"{target}: is the recording itself; choose another --out")
    whole = read_recording(path, column=column, rate_hz=rate_hz)
    if not isinstance(source, Source):
        source = source(whole)
    chosen = _choose(source, hz)
    _check_band(whole, band_hz)
    _check_fit(whole, source, [source.data.frequencies_hz[k] for k in chosen], causal)
    tones = _extract_samples(whole, source, causal, reporter or Reporter())[:, chosen]
    frequencies = [source.data.frequencies_hz[k] for k in chosen]
    write_tones(whole, tones, frequencies, target, force=force)
    return {
        "recording": str(path),
        "out": str(target),
        "with": source.name,
        "samples": len(whole.samples),
        "rate_hz": whole.rate_hz,
        "extractor_rate_hz": source.data.rate_hz,
        "causal": causal,
        "warnings": _warnings(whole, tones, source),
        "tones": _figures(whole, tones, frequencies, band_hz),
    }


def extract_array(
    samples: Float[np.ndarray, " T"],
    rate_hz: float,
    source: Source,
    *,
    causal: bool = False,
    reporter: Reporter | None = None,
) -> Float[np.ndarray, "T K"]:
    """Every tone that the source knows, in the samples' own unit, rate and length."""
    whole = Recording(samples, rate_hz, Path("array"))
    return _extract_samples(whole, source, causal, reporter or Reporter())


def _warnings(recording: Recording, tones: Float[np.ndarray, "T K"], source: Source) -> list[str]:
    """What the tone is not, and what became of it on its way."""
    found = []
    if source.data.regime == "locked":
        found.append(
            f"{source.name} learned tones of one amplitude and known start phases (data.regime "
            "locked), so the tone's amplitude follows from the recording's RMS alone; train with "
            "data.regime free for one that is heard"
        )
    clipped = clipped_on_writing(recording, tones)
    if clipped:
        found.append(f"{clipped} samples of the tone lie beyond full scale and are cut off")
    return found


def _choose(source: Source, hz: Sequence[float]) -> list[int]:
    known = source.data.frequencies_hz
    if not hz:
        return list(range(len(known)))
    unknown = [f for f in hz if not any(np.isclose(f, g, rtol=1e-6) for g in known)]
    if unknown:
        names = ", ".join(f"{f:g}" for f in known)
        raise UserError(f"--hz {unknown[0]:g}: {source.name} knows {names} Hz; choose among these")
    nearest = [int(np.argmin([abs(f - g) for g in known])) for f in hz]
    return list(dict.fromkeys(nearest))  # a tone asked for twice is one tone


def _check_band(recording: Recording, band_hz: tuple[float, float] | None) -> None:
    half = recording.rate_hz / 2
    if band_hz is not None and not 0 <= band_hz[0] < band_hz[1] <= half:
        raise UserError(
            f"--band {band_hz[0]:g} {band_hz[1]:g}: must be LOW HIGH with 0 <= LOW < HIGH <= "
            f"{half:g} Hz, half the recording's rate"
        )


def _check_fit(
    recording: Recording, source: Source, frequencies: Sequence[float], causal: bool
) -> None:
    path, data = recording.path, source.data
    if tone_gain(data) < 1e-9:
        raise UserError(
            f"{source.name}: trained at phase_scale {data.phase_scale:g}, where the mixture holds "
            "no tone; choose another run"
        )
    if max(frequencies) >= recording.rate_hz / 2:
        raise UserError(
            f"{path}: {max(frequencies):g} Hz is at or above half the recording's rate of "
            f"{recording.rate_hz:g} Hz; it cannot be in there"
        )
    n = round(len(recording.samples) * data.rate_hz / recording.rate_hz)
    needed = max(
        source.memory_samples if not source.extractor.causal else 0,
        int(np.ceil(data.rate_hz / min(frequencies))),
    )
    if n < needed:
        raise UserError(
            f"{path}: {len(recording.samples)} samples at {recording.rate_hz:g} Hz are shorter "
            f"than the {needed / data.rate_hz:g} s that {source.name} needs"
        )
    if causal and not source.extractor.causal:
        raise UserError(f"--causal: {source.name} needs the future; leave --causal away")
    if causal and data.rate_hz != recording.rate_hz:
        raise UserError(
            f"--causal: {path} has {recording.rate_hz:g} Hz and {source.name} {data.rate_hz:g} Hz; "
            "resampling uses the future, so bring the recording to that rate first"
        )


def _extract_samples(
    recording: Recording, source: Source, causal: bool, reporter: Reporter
) -> Float[np.ndarray, "T K"]:
    rate_hz = source.data.rate_hz
    samples = resample(recording.samples, recording.rate_hz, rate_hz)
    if source.linear:
        unit = source.unit or unit_of(samples)
        level = samples[0] / unit if causal else np.mean(samples / unit)
        mixture = samples / unit - level
        scale = np.full(len(samples), unit * tone_gain(source.data))
    else:
        centred, rms = (running_shape if causal else overall_shape)(samples)
        mixture = centred * input_rms(source.data)
        scale = rms * tone_gain(source.data) / input_rms(source.data)
    tones = _estimate(source, mixture, causal, reporter) * scale[:, None]
    n = len(recording.samples)
    if rate_hz == recording.rate_hz:
        return tones
    back = [resample(tone, rate_hz, recording.rate_hz, n_out=n) for tone in tones.T]
    return np.stack(back, axis=1)


def overall_shape(
    samples: Float[np.ndarray, " T"],
) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    """Samples without their mean and of unit RMS, and the RMS at every sample."""
    unit = unit_of(samples)
    centred = samples / unit - np.mean(samples / unit)
    rms = np.full(len(samples), np.sqrt(np.mean(centred**2)))
    return _divide(centred, rms), unit * rms


def running_shape(
    samples: Float[np.ndarray, " T"],
) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    """The same with mean and RMS of the samples so far."""
    count = np.arange(1, len(samples) + 1)
    unit = unit_of(samples)
    origin = (samples - samples[0]) / unit  # an offset would drown the variance in rounding
    mean = np.cumsum(origin) / count
    variance = np.maximum(np.cumsum(origin**2) / count - mean**2, 0.0)
    rms = np.sqrt(variance)
    return _divide(origin - mean, rms), unit * rms


def unit_of(samples: Float[np.ndarray, " T"]) -> float:
    """A power of two near the largest sample: divided by it, squares neither over- nor underflow.

    A power of two, because dividing by one loses no digit.
    """
    largest = float(np.max(np.abs(samples)))
    return 2.0 ** np.floor(np.log2(largest)) if largest > 0 else 1.0


def _divide(centred: np.ndarray, rms: np.ndarray) -> np.ndarray:
    return np.divide(centred, rms, out=np.zeros_like(centred), where=rms > 0)


def _estimate(
    source: Source, mixture: Float[np.ndarray, " T"], causal: bool, reporter: Reporter
) -> Float[np.ndarray, "T K"]:
    """Causal: one pass. Otherwise, where the future tells as much as the past, two passes.

    In the free regime a record is as likely read backwards, so the estimate from the past is
    joined with the one from the future, each weighed by how long it has listened.
    """
    extractor = source.extractor
    both = extractor.causal and not causal and source.data.regime == "free"
    with reporter.task("extracting", (1 + both) * len(mixture)) as task:
        forward = _one_pass(extractor, mixture, task.reach)
        if not both:
            return forward
        backward = _one_pass(extractor, mixture[::-1], lambda n: task.reach(len(mixture) + n))[::-1]
    age = np.minimum(np.arange(1, len(mixture) + 1), source.memory_samples)[:, None]
    return (age * forward + age[::-1] * backward) / (age + age[::-1])


def _one_pass(
    extractor: Extractor, mixture: Float[np.ndarray, " T"], reach: Callable[[int], None]
) -> Float[np.ndarray, "T K"]:
    if not is_causal(extractor):
        return extractor.extract(mixture[None])[0]
    state = extractor.initial_state(1)
    answers = []
    for start in range(0, len(mixture), CHUNK):
        estimate, state = extractor.step(mixture[None, start : start + CHUNK], state)
        answers.append(estimate[0])
        reach(min(start + CHUNK, len(mixture)))
    return np.concatenate(answers)


def _figures(
    recording: Recording,
    tones: Float[np.ndarray, "T K"],
    frequencies: Sequence[float],
    band_hz: tuple[float, float] | None,
) -> list[dict[str, Any]]:
    unit, rate = unit_of(recording.samples), recording.rate_hz
    samples, tones = recording.samples / unit, tones / unit
    residual = samples - tones.sum(axis=1)
    result = []
    for tone, f, name in zip(tones.T, frequencies, tone_names(frequencies), strict=True):
        low, high = band_hz or (0.98 * f, 1.02 * f)
        before, after = (band_power(x, rate, low, high) for x in (samples, residual))
        own, total = band_power(tone, rate, low, high), band_power(tone, rate, 0.0, rate / 2)
        result.append(
            {
                "column": name,
                "hz": f,
                "band_hz": [low, high],
                "tone_power": _in_unit(total, unit),
                "outside_band_share": (total - own) / total if total > 0 else None,
                "recording_power_in_band": _in_unit(before, unit),
                "residual_power_in_band": _in_unit(after, unit),
                "reduction_db": float(10 * np.log10(after / before))
                if before * after > 0
                else None,
            }
        )
    return result


def _in_unit(power: float, unit: float) -> float | None:
    """Power in the recording's own unit, or None where no number is large enough."""
    with np.errstate(over="ignore"):
        whole = power * unit * unit
    return float(whole) if np.isfinite(whole) else None
