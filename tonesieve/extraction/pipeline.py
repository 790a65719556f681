"""A recording in, the tone out: with what is told of it, in constant memory.

Axes: C channels, T samples, K tones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tonesieve.errors import UserError
from tonesieve.extraction.passes import delay_of, n_steps, run_over_recording
from tonesieve.extraction.tone_parameters import ToneParameters
from tonesieve.extractors.source import Source, SourceFactory, choose_tones
from tonesieve.extractors.source import (
    make_source as make_source,  # Python's users find it here
)
from tonesieve.recordings.reader import Channel
from tonesieve.recordings.recording import (
    FORMATS,
    TABLES,
    Recording,
    RecordingWriter,
    from_array,
    open_writer,
    read_recording,
    tone_names,
)
from tonesieve.recordings.statistics import ChannelStats, survey
from tonesieve.signals.signal_model import tone_gain
from tonesieve.util.files import refuse_existing, write_text
from tonesieve.util.progress import Reporter

# A tone may be larger than the recording, and its band larger still.
LARGEST = 1e305


@dataclass(frozen=True)
class Output:
    """What is written of a recording."""

    remove: bool = False  # the recording without the tones, not the tones
    full: bool = False  # amplitude, phase, frequency, bands and residual too
    picture: bool = False


def extract_recording(
    recording: str | Path,
    source: Source | SourceFactory,
    hz: Sequence[float] = (),
    *,
    causal: bool = False,
    columns: Sequence[str] = (),
    rate_hz: float | None = None,
    time: str | None = None,
    band_hz: tuple[float, float] | None = None,
    remove: bool = False,
    full: bool = False,
    picture: bool = False,
    out: str | Path | None = None,
    force: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Write the tones at ``hz`` (default: all that the source knows) as a file of their own.

    The output has the input's rows and, unless ``out`` ends otherwise, its format; its default
    name is NAME.tone.ENDING, or NAME.clean.ENDING with ``remove``, which writes the recording
    without the tones. ``full`` (tables only) adds amplitude, phase, frequency, a credible band
    (90%) and the residual. Rows in gaps are answered by the forecast, and marked in a column
    ``gap``. ``causal`` uses no sample later than the one that is answered; otherwise the whole
    recording serves. ``band_hz`` is where power is compared before and after (default: 2% either
    side of each tone, or as little as the recording resolves). The figures are answered, and
    written beside the output as JSON; with ``picture`` a PNG too.

    Raises `UserError` for what `read_recording` refuses, a frequency that the source does not
    know, a recording that is too short or too slow, and an output that exists.
    """
    path, reporter = Path(recording), reporter or Reporter()
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"{path}: ending {path.suffix!r}; readable are {', '.join(FORMATS)}")
    if picture:  # before any work is done in vain
        from tonesieve.extraction.plots import draw_extraction
    output = Output(remove, full, picture)
    target = _target(path, out, output, force)
    whole = read_recording(path, columns=columns, rate_hz=rate_hz, time=time, scratch=target.parent)
    surveys = survey(whole)
    _check_heard(whole, surveys)
    if not isinstance(source, Source):
        source = source(whole.rate_hz, str(path))
    chosen = choose_tones(source, hz)
    frequencies = [source.frequencies_hz[k] for k in chosen]
    _check_band(whole, band_hz)
    _check_fit(whole, source, frequencies, causal)
    n_passes = n_steps(whole, source, causal=causal)
    with reporter.task("extracting", n_passes + whole.n_samples) as task:
        taken = run_over_recording(
            whole, surveys, source, causal=causal, scratch=target.parent, on_samples=task.update
        )
        readings = ToneParameters(
            whole, surveys, taken, source, chosen, causal=causal, bands=full, band_hz=band_hz
        )
        names = _columns(whole, surveys, frequencies, output, target)
        with open_writer(whole, names, target, force=force) as sink:
            _write(readings, sink, surveys, output, target, lambda n: task.update(n_passes + n))
            result = {
                "recording": str(path),
                "out": str(target),
                "with": source.name,
                "samples": len(whole.rows),
                "rate_hz": whole.rate_hz,
                "extractor_rate_hz": source.data.rate_hz,
                "causal": causal,
                "columns": [name.name for name in names],
                "channels": [
                    _channel_figures(c, s, whole)
                    for c, s in zip(whole.channels, surveys, strict=True)
                ],
                "warnings": _warnings(whole, surveys, source, sink),
                "tones": readings.figures(tone_names(frequencies)),
            }
            # Before the output takes its place: where it stands, all that belongs to it does.
            write_text(beside(target, ".json"), json.dumps(result, indent=2) + "\n")
            if picture:
                draw_extraction(readings, beside(target, ".png"))
    return result


def extract_array(
    samples: Float[np.ndarray, " T"],
    rate_hz: float,
    source: Source,
    *,
    causal: bool = False,
    reporter: Reporter | None = None,
) -> Float[np.ndarray, "T K"]:
    """Every tone that the source knows, in the samples' own unit, rate and length."""
    chosen = range(len(source.frequencies_hz))
    return pull_array(samples, rate_hz, source, chosen, causal=causal, reporter=reporter)[0]


def pull_array(
    samples: Float[np.ndarray, " T"],
    rate_hz: float,
    source: Source,
    chosen: Sequence[int],
    *,
    causal: bool,
    reporter: Reporter | None = None,
) -> tuple[Float[np.ndarray, "T K"], Float[np.ndarray, "T K"] | None]:
    """The chosen of the source's tones, and the half-widths of their bands where it tells them."""
    whole = from_array(samples, rate_hz)
    surveys = survey(whole)
    _check_heard(whole, surveys)
    n = n_steps(whole, source, causal=causal)
    with (reporter or Reporter()).task("extracting", n) as task:
        tones, band = run_over_recording(
            whole,
            surveys,
            source,
            causal=causal,
            scratch=whole.rows.folder,
            on_samples=task.update,
        )
    found = tones.read(0, len(tones))[:, list(chosen)]
    return found, None if band is None else band.read(0, len(band))[:, list(chosen)]


def _target(path: Path, out: str | Path | None, output: Output, force: bool) -> Path:
    word = "clean" if output.remove else "tone"
    target = path.with_suffix(f".{word}{path.suffix}") if out is None else Path(out)
    if target.suffix.lower() not in FORMATS:
        raise UserError(f"{target}: ending {target.suffix!r}; writable are {', '.join(FORMATS)}")
    if output.full and target.suffix.lower() not in TABLES:
        raise UserError(
            f"--full: {target.suffix} holds sound alone; end --out with {' or '.join(TABLES)}"
        )
    if target.resolve() == path.resolve():
        raise UserError(f"{target}: is the recording itself; choose another --out")
    endings = [".json"] + [".png"] * output.picture
    for place in (target, *(beside(target, ending) for ending in endings)):
        refuse_existing(place, force=force)
    return target


def beside(target: Path, ending: str) -> Path:
    """A file of another kind that belongs to an output: ``log.tone.csv.json``."""
    return target.with_name(target.name + ending)


def _columns(
    recording: Recording,
    surveys: list[ChannelStats],
    frequencies: Sequence[float],
    output: Output,
    target: Path,
) -> list[Channel]:
    """The columns of the output, in the order in which `Readings.columns` gives them."""
    several = len(recording.channels) > 1
    found = []
    for channel, one in zip(recording.channels, surveys, strict=True):
        head, unit = f"{channel.name}_" if several else "", channel.unit
        if output.remove:
            found.append(channel)
        else:
            found += [Channel(head + name, unit) for name in tone_names(frequencies)]
        for name in tone_names(frequencies) if output.full else ():
            tail = name.removeprefix("tone")
            found += [
                Channel(f"{head}{word}{tail}", {"phase_rad": "rad", "hz": "Hz"}.get(word, unit))
                for word in ("amplitude", "phase_rad", "hz", "tone_low", "tone_high",
                             "amplitude_low", "amplitude_high")
            ]  # fmt: skip
        if output.full:
            found.append(Channel(f"{head}{'tones' if output.remove else 'residual'}", unit))
        if one.gaps.n_samples and target.suffix.lower() in TABLES:
            found.append(Channel(f"{head}gap", whole=True))
    return found


def _write(
    readings: ToneParameters,
    sink: RecordingWriter,
    surveys: list[ChannelStats],
    output: Output,
    target: Path,
    on_samples: Callable[[int], None],
) -> None:
    table = target.suffix.lower() in TABLES
    marked = [bool(one.gaps.n_samples) and table for one in surveys]
    for start, stop in readings.blocks():
        columns = readings.columns(start, stop, remove=output.remove, full=output.full, gap=marked)
        sink.write(start, columns)
        on_samples(stop)


def _channel_figures(channel: Channel, found: ChannelStats, recording: Recording) -> dict[str, Any]:
    return {
        "name": channel.name,
        "unit": channel.unit,
        "mean": found.mean,
        "rms": found.rms,
        "gaps": found.gaps.figures(recording.rate_hz),
        "clipped": found.clipped.figures(recording.rate_hz),
    }


def _warnings(
    recording: Recording, surveys: list[ChannelStats], source: Source, sink: RecordingWriter
) -> list[str]:
    """What the tone is not, and what became of it on its way."""
    found = list(recording.grid.warnings)
    if source.data.regime == "locked":
        found.append(
            f"{source.name} learned tones of one amplitude and known start phases (data.regime "
            "locked), so the tone's amplitude follows from the recording's RMS alone; train with "
            "data.regime free for one that is heard"
        )
    tones = sorted(source.frequencies_hz)
    for low, high in pairwise(tones):
        if (high - low) * recording.duration_s < 1:
            found.append(
                f"{low:.9g} and {high:.9g} Hz are told apart only after {1 / (high - low):.6g} s, "
                f"and the recording has {recording.duration_s:.6g} s"
            )
    for channel, one in zip(recording.channels, surveys, strict=True):
        if one.gaps.n_samples:
            found.append(
                f"{channel.name}: {one.gaps.n_samples:,} samples are missing, in "
                f"{one.gaps.n_stretches:,} gaps; the tone goes on through them by forecast"
            )
        if one.clipped.n_samples:
            found.append(
                f"{channel.name}: {one.clipped.n_samples:,} samples are clipped (at "
                f"{one.lowest:g} or {one.highest:g}, in {one.clipped.n_stretches:,} stretches); "
                "the tone is too small there"
            )
    if sink.n_clipped:
        found.append(f"{sink.n_clipped} samples of the tone lie beyond full scale and are cut off")
    return found


def _check_heard(recording: Recording, surveys: list[ChannelStats]) -> None:
    for channel, one in zip(recording.channels, surveys, strict=True):
        if one.gaps.n_samples == one.n_samples:
            raise UserError(f"{recording.path}: {channel.name} holds no number at all")
        if max(abs(one.lowest), abs(one.highest)) > LARGEST:
            raise UserError(
                f"{recording.path}: {channel.name} reaches from {one.lowest:g} to {one.highest:g}; "
                "scale it, there are hardly any larger numbers"
            )


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
    n = round(recording.n_samples * data.rate_hz / recording.rate_hz)
    future = 0 if source.extractor.causal else delay_of(source.extractor, source.memory_samples)
    needed = max(min(future, source.memory_samples), int(np.ceil(data.rate_hz / min(frequencies))))
    if n < needed:
        raise UserError(
            f"{path}: {recording.n_samples} samples at {recording.rate_hz:g} Hz are shorter "
            f"than the {needed / data.rate_hz:g} s that {source.name} needs"
        )
    if causal and not source.extractor.causal:
        raise UserError(f"--causal: {source.name} needs the future; leave --causal away")
    if causal and data.rate_hz != recording.rate_hz:
        raise UserError(
            f"--causal: {path} has {recording.rate_hz:g} Hz and {source.name} {data.rate_hz:g} Hz; "
            "resampling uses the future, so bring the recording to that rate first"
        )
