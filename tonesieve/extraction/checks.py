"""What an extractor cannot do with a recording, in one line each.

Axes: C channels, K tones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tonesieve.errors import UserError
from tonesieve.extraction.passes import delay_of
from tonesieve.extractors.source import Source
from tonesieve.recordings.recording import Recording
from tonesieve.recordings.statistics import ChannelStats
from tonesieve.signals.signal_model import tone_gain

# Guard: a tone may be larger than the recording, and its band larger still, below 1.8e308.
MAX_SAMPLE = 1e305
# Guard: a mixture that holds less of the tone holds none.
MIN_GAIN = 1e-9


def check_samples(recording: Recording, stats: list[ChannelStats]) -> None:
    """Refuse channels without numbers, and those beyond what a float holds.

    Parameters
    ----------
    recording : Recording
        The recording.
    stats : list of ChannelStats
        Of each of its C channels.

    Raises
    ------
    UserError
        If a channel is one of these.
    """
    for channel, one in zip(recording.channels, stats, strict=True):
        if one.gaps.n_samples == one.n_samples:
            raise UserError(f"{recording.path}: {channel.name} holds no number at all")
        if max(abs(one.lowest), abs(one.highest)) > MAX_SAMPLE:
            raise UserError(
                f"{recording.path}: {channel.name} reaches from {one.lowest:g} to {one.highest:g}; "
                "scale it, there are hardly any larger numbers"
            )


def check_band(recording: Recording, band_hz: tuple[float, float] | None) -> None:
    """Refuse a band that the recording does not have.

    Parameters
    ----------
    recording : Recording
        The recording.
    band_hz : tuple of float, optional
        The band's limits.

    Raises
    ------
    UserError
        If they are not in order, or not between 0 and half the rate.
    """
    half = recording.rate_hz / 2
    if band_hz is not None and not 0 <= band_hz[0] < band_hz[1] <= half:
        raise UserError(
            f"--band {band_hz[0]:g} {band_hz[1]:g}: must be LOW HIGH with 0 <= LOW < HIGH <= "
            f"{half:g} Hz, half the recording's rate"
        )


def check_fit(
    recording: Recording, source: Source, frequencies: Sequence[float], causal: bool
) -> None:
    """Refuse an extractor that does not suit a recording.

    Parameters
    ----------
    recording : Recording
        The recording.
    source : Source
        The extractor.
    frequencies : sequence of float
        Nominal frequencies of the K tones that are wanted.
    causal : bool
        Whether no estimate may rest on a later sample than its own.

    Raises
    ------
    UserError
        If the extractor knows no tone, needs a longer record or the future, or if a frequency is
        at or above half the rate.
    """
    path, data = recording.path, source.data
    if tone_gain(data) < MIN_GAIN:
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
