"""What a user should know of a recording beside its tones."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from tonesieve.extractors.source import Source
from tonesieve.recordings.recording import Recording
from tonesieve.recordings.recording_writer import RecordingWriter
from tonesieve.recordings.statistics import ChannelStats


def is_declipped(stats: list[ChannelStats], source: Source, causal: bool) -> bool:
    """Tell whether clipped samples are replaced: for the default alone, since a filter is linear.

    Parameters
    ----------
    stats : list of ChannelStats
        Of the channels.
    source : Source
        The extractor.
    causal : bool
        Whether it extracts from the past alone.

    Returns
    -------
    bool
        Whether any channel has such samples, and the whole recording serves.
    """
    smoother = None if causal else source.smoother
    is_whole = smoother is not None and smoother.ahead_s is None
    return is_whole and any(one.censored is not None for one in stats)


def recording_warnings(
    recording: Recording,
    stats: list[ChannelStats],
    source: Source,
    writer: RecordingWriter,
    *,
    declipped: bool,
) -> list[str]:
    """Return what is allowed, but makes the tone another than a user may think.

    Parameters
    ----------
    recording : Recording
        The recording.
    stats : list of ChannelStats
        Of its channels.
    source : Source
        The extractor.
    writer : RecordingWriter
        The output, all written.
    declipped : bool
        Whether clipped samples were replaced.

    Returns
    -------
    list of str
        A line each.
    """
    warnings = list(recording.grid.warnings)
    if source.data.regime == "locked":
        warnings.append(
            f"{source.name} learned tones of one amplitude and known start phases (data.regime "
            "locked), so the tone's amplitude follows from the recording's RMS alone; train with "
            "data.regime free for one that is estimated"
        )
    tones = sorted(source.frequencies_hz)
    for low, high in pairwise(tones):
        if (high - low) * recording.duration_s < 1:
            warnings.append(
                f"{low:.9g} and {high:.9g} Hz are resolved only after {1 / (high - low):.6g} s, "
                f"and the recording has {recording.duration_s:.6g} s"
            )
    warnings += [
        f"the tones are multiples of {comb.hz:.9g} Hz, and those that agree were found together; "
        "--harmonics or --orders states that all do"
        for comb in source.combs
        if not comb.is_stated and source.smoother is not None
    ]
    for channel, one in zip(recording.channels, stats, strict=True):
        if one.gaps.n_samples:
            warnings.append(
                f"{channel.name}: {one.gaps.n_samples:,} samples are missing, in "
                f"{one.gaps.n_stretches:,} gaps; there the tone is predicted"
            )
        if one.clipped.n_samples:
            warnings.append(
                f"{channel.name}: {one.clipped.n_samples:,} samples are clipped (at "
                f"{_ends(one)}, in {one.clipped.n_stretches:,} stretches); "
                + (
                    f"those at {_levels(one.censored)} were replaced by what the tones and "
                    "Gaussian noise let expect"
                    if one.censored and declipped
                    else "unless that is a natural bound, the tone is too small there"
                )
            )
    if writer.n_clipped:
        warnings.append(f"{writer.n_clipped} samples of the tone exceed full scale and are cut off")
    return warnings


def _ends(stats: ChannelStats) -> str:
    """Levels at which a channel is clipped."""
    levels = zip((stats.lowest, stats.highest), stats.clipped_ends, strict=True)
    return " or ".join(f"{level:g}" for level, is_clipped in levels if is_clipped)


def _levels(bounds: tuple[float, float]) -> str:
    return " and ".join(f"{level:g}" for level in bounds if np.isfinite(level))
