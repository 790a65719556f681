"""A recording in, its tones out, with their parameters, in constant memory.

Axes: C channels, T samples, K tones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tonesieve.errors import UserError
from tonesieve.extraction.channel_lines import ChannelMode, check_channels, sharing_metrics
from tonesieve.extraction.checks import check_band, check_fit, check_samples
from tonesieve.extraction.declipping import PERIODS, censored, widened
from tonesieve.extraction.options import ExtractOptions
from tonesieve.extraction.passes import ExtractedTones, n_steps, run_over_recording
from tonesieve.extraction.recording_warnings import is_declipped, recording_warnings
from tonesieve.extraction.tone_line import ToneLine, comb_metrics, line_warnings
from tonesieve.extraction.tone_lines import find_lines
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
    from_array,
    read_recording,
)
from tonesieve.recordings.recording_writer import RecordingWriter, open_writer, tone_names
from tonesieve.recordings.spool import Spool
from tonesieve.recordings.statistics import ChannelStats, survey
from tonesieve.util.files import refuse_existing, write_text
from tonesieve.util.progress import Reporter


def extract_recording(
    recording: str | Path,
    source: Source | SourceFactory,
    options: ExtractOptions | None = None,
    *,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Write tones of a recording as a file of their own: `tonesieve.extract` with an extractor.

    Returns the metrics, which are written beside the output as JSON. Raises `UserError` for what
    `read_recording` refuses, a frequency that the source does not have, a recording that is too
    short or too slow, and an output that exists.
    """
    path, reporter = Path(recording), reporter or Reporter()
    options = options or ExtractOptions()
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"{path}: ending {path.suffix!r}; readable are {', '.join(FORMATS)}")
    if options.picture:  # before any work is done in vain
        from tonesieve.extraction.plots import draw_extraction
    target = _target(path, options)
    opened = read_recording(
        path,
        columns=options.columns,
        rate_hz=options.rate_hz,
        time=options.time,
        scratch=target.parent,
    )
    stats = survey(opened)
    check_samples(opened, stats)
    if not isinstance(source, Source):
        source = source(opened.rate_hz, str(path))
    chosen = choose_tones(source, options.hz)
    frequencies = [source.frequencies_hz[k] for k in chosen]
    causal = options.causal
    check_band(opened, options.band_hz)
    check_fit(opened, source, frequencies, causal)
    mode = check_channels(options.channels, source, causal=causal)
    n_run = _n_steps(opened, stats, source, causal)
    with reporter.task("extracting", n_run + opened.n_samples) as task:
        lines, extracted, restored = _find_and_extract(
            opened, stats, source, causal, options.within_hz, mode, target.parent, task.update
        )
        chosen_lines = [[channel[k] for k in chosen] for channel in lines]
        names_of = [channel.name for channel in opened.channels]
        parameters = ToneParameters(restored, stats, extracted, source, chosen, options)
        names = _columns(opened, stats, frequencies, options, target)
        with open_writer(opened, names, target, force=options.force) as writer:
            _write(parameters, writer, options, target, lambda n: task.update(n_run + n))
            result = {
                "recording": str(path),
                "out": str(target),
                "with": source.name,
                "samples": len(opened.rows),
                "rate_hz": opened.rate_hz,
                "extractor_rate_hz": source.data.rate_hz,
                "causal": causal,
                "columns": [name.name for name in names],
                "channels": [
                    _channel_metrics(channel, one, opened)
                    for channel, one in zip(opened.channels, stats, strict=True)
                ],
                "warnings": recording_warnings(
                    opened, stats, source, writer, declipped=is_declipped(stats, source, causal)
                )
                + line_warnings(chosen_lines, names_of, source.combs),
                "combs": comb_metrics(chosen_lines, names_of, source.combs),
                "channels_together": sharing_metrics(
                    names_of, chosen_lines, [extracted.shares.get(k) for k in chosen]
                ),
                "tones": [
                    {**tone, **line.metrics()}
                    for tone, line in zip(
                        parameters.metrics(tone_names(frequencies)),
                        chain.from_iterable(chosen_lines),
                        strict=True,
                    )
                ],
            }
            # Written before the output is moved to its place: where it is, its metrics are too.
            write_text(beside(target, ".json"), json.dumps(result, indent=2) + "\n")
            if options.picture:
                draw_extraction(parameters, beside(target, ".png"))
    return result


def extract_array(
    samples: Float[np.ndarray, " T"],
    rate_hz: float,
    source: Source,
    *,
    causal: bool = False,
    reporter: Reporter | None = None,
) -> Float[np.ndarray, "T K"]:
    """Extract every tone of the source, in the samples' own unit, rate and length."""
    chosen = range(len(source.frequencies_hz))
    return pull_array(samples, rate_hz, source, chosen, causal=causal, reporter=reporter)[0]


def pull_array(
    samples: Float[np.ndarray, " T"],
    rate_hz: float,
    source: Source,
    chosen: Sequence[int],
    *,
    causal: bool,
    within_hz: float | None = None,
    reporter: Reporter | None = None,
) -> tuple[Float[np.ndarray, "T K"], Float[np.ndarray, "T K"] | None, list[ToneLine]]:
    """Extract the chosen tones, the half-widths of their bands where there are any; their lines."""
    tones, band, lines = pull_channels(
        samples[None], rate_hz, source, chosen, causal=causal, within_hz=within_hz,
        reporter=reporter,
    )  # fmt: skip
    return tones[0], None if band is None else band[0], lines[0]


def pull_channels(
    samples: Float[np.ndarray, "C T"],
    rate_hz: float,
    source: Source,
    chosen: Sequence[int],
    *,
    causal: bool,
    within_hz: float | None = None,
    channels: str = "auto",
    reporter: Reporter | None = None,
) -> tuple[Float[np.ndarray, "C T K"], Float[np.ndarray, "C T K"] | None, list[list[ToneLine]]]:
    """`pull_array` of several channels."""
    recording = from_array(samples, rate_hz)
    stats = survey(recording)
    check_samples(recording, stats)
    mode = check_channels(channels, source, causal=causal)
    if source.smoother is not None:  # below a period its band would be none
        check_fit(recording, source, [source.frequencies_hz[k] for k in chosen], causal)
    n_run = _n_steps(recording, stats, source, causal)
    with (reporter or Reporter()).task("extracting", n_run) as task:
        lines, (tones, band, _), _ = _find_and_extract(
            recording, stats, source, causal, within_hz, mode, recording.rows.folder, task.update
        )
    columns = list(chosen)

    def by_channel(rows: Spool) -> Float[np.ndarray, "C T K"]:
        every = rows.read(0, len(rows)).reshape(len(rows), len(samples), -1)
        return every.transpose(1, 0, 2)[..., columns]

    half_widths = None if band is None else by_channel(band)
    return by_channel(tones), half_widths, [[channel[k] for k in columns] for channel in lines]


def _n_steps(recording: Recording, stats: list[ChannelStats], source: Source, causal: bool) -> int:
    """Samples that `_find_and_extract` processes."""
    n_passes = 1 + len(PERIODS) * is_declipped(stats, source, causal)
    return recording.n_samples + n_passes * n_steps(recording, source, causal=causal)


def _find_and_extract(
    recording: Recording,
    stats: list[ChannelStats],
    source: Source,
    causal: bool,
    within_hz: float | None,
    mode: ChannelMode,
    scratch: Path,
    on_samples: Callable[[int], None],
) -> tuple[list[list[ToneLine]], ExtractedTones, Recording]:
    """The lines of the source's tones, the tones, and the recording without clipping."""
    hz, n_done = source.frequencies_hz, recording.n_samples
    lines = find_lines(
        recording, hz, within_hz=within_hz, combs=source.combs, channels=mode,
        on_samples=on_samples,
    )  # fmt: skip

    def extract(from_: Recording) -> ExtractedTones:
        return run_over_recording(
            from_, stats, source, causal=causal, lines=lines, scratch=scratch,
            on_samples=lambda done: on_samples(n_done + done),
        )  # fmt: skip

    raw = extracted = extract(recording)
    if all(one.censored is None for one in stats):
        return lines, extracted, recording
    if not is_declipped(stats, source, causal):
        marked = censored(recording, stats, raw, hz).uncorrected(PERIODS[0])
        return lines, widened(raw, marked, raw, scratch), recording
    for periods in PERIODS:
        n_done += n_steps(recording, source, causal=causal)
        restored = censored(recording, stats, extracted, hz).fitted(periods)
        extracted = extract(restored)
    return lines, widened(extracted, restored, raw, scratch), restored


def _target(path: Path, options: ExtractOptions) -> Path:
    word = "clean" if options.remove else "tone"
    default = path.with_suffix(f".{word}{path.suffix}")
    target = default if options.out is None else Path(options.out)
    if target.suffix.lower() not in FORMATS:
        raise UserError(f"{target}: ending {target.suffix!r}; writable are {', '.join(FORMATS)}")
    if options.full and target.suffix.lower() not in TABLES:
        raise UserError(
            f"--full: {target.suffix} holds sound alone; end --out with {' or '.join(TABLES)}"
        )
    if target.resolve() == path.resolve():
        raise UserError(f"{target}: is the recording itself; choose another --out")
    endings = [".json"] + [".png"] * options.picture
    for file in (target, *(beside(target, ending) for ending in endings)):
        refuse_existing(file, force=options.force)
    return target


def beside(target: Path, ending: str) -> Path:
    """A file of another kind that belongs to an output: ``log.tone.csv.json``."""
    return target.with_name(target.name + ending)


def _columns(
    recording: Recording,
    stats: list[ChannelStats],
    frequencies: Sequence[float],
    options: ExtractOptions,
    target: Path,
) -> list[Channel]:
    """The columns of the output, in the order in which `ToneParameters.columns` gives them."""
    several = len(recording.channels) > 1
    columns = []
    for channel, one in zip(recording.channels, stats, strict=True):
        head, unit = f"{channel.name}_" if several else "", channel.unit
        if options.remove:
            columns.append(channel)
        else:
            columns += [Channel(head + name, unit) for name in tone_names(frequencies)]
        for name in tone_names(frequencies) if options.full else ():
            tail = name.removeprefix("tone")
            columns += [
                Channel(f"{head}{word}{tail}", {"phase_rad": "rad", "hz": "Hz"}.get(word, unit))
                for word in ("amplitude", "phase_rad", "hz", "tone_low", "tone_high",
                             "amplitude_low", "amplitude_high")
            ]  # fmt: skip
        if options.full:
            columns.append(Channel(f"{head}{'tones' if options.remove else 'residual'}", unit))
        if one.gaps.n_samples and target.suffix.lower() in TABLES:
            columns.append(Channel(f"{head}gap", integer=True))
    return columns


def _write(
    parameters: ToneParameters,
    writer: RecordingWriter,
    options: ExtractOptions,
    target: Path,
    on_samples: Callable[[int], None],
) -> None:
    table = target.suffix.lower() in TABLES
    marks_gaps = [bool(one.gaps.n_samples) and table for one in parameters.stats]
    for start, stop in parameters.blocks():
        columns = parameters.columns(
            start, stop, remove=options.remove, full=options.full, gap=marks_gaps
        )
        writer.write(start, columns)
        on_samples(stop)


def _channel_metrics(channel: Channel, stats: ChannelStats, recording: Recording) -> dict[str, Any]:
    return {
        "name": channel.name,
        "unit": channel.unit,
        "mean": stats.mean,
        "rms": stats.rms,
        "gaps": stats.gaps.metrics(recording.rate_hz),
        "clipped": stats.clipped.metrics(recording.rate_hz),
    }
