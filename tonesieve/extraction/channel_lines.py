"""Which channels share the course of a line: what a user states, or what a test says.

Axes: C channels, K tones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from tonesieve.errors import UserError
from tonesieve.extraction.tone_line import SharedLine, ToneLine
from tonesieve.extractors.protocol import SharedChannels
from tonesieve.extractors.source import Source
from tonesieve.signals.channel_course import SharedCourse, share_course
from tonesieve.signals.comb_course import HarmonicBaseband

ChannelMode = Literal["auto", "together", "apart"]


def check_channels(channels: str, source: Source, *, causal: bool) -> ChannelMode:
    """Return the mode, as far as the extractor has it.

    Parameters
    ----------
    channels : str
        What the user states.
    source : Source
        The extractor.
    causal : bool
        Whether no estimate rests on a later sample than its own.

    Returns
    -------
    {"auto", "together", "apart"}
        ``apart`` for an extractor that knows no other, unless it is to be ``together``.

    Raises
    ------
    UserError
        If it is none of the three, or ``together`` with an extractor that cannot.
    """
    modes = get_args(ChannelMode)
    if channels not in modes:
        raise UserError(f"--channels {channels}: must be {', '.join(modes)}")
    smoother = source.smoother
    if not causal and smoother is not None and smoother.ahead_s is None:
        return channels  # type: ignore[return-value]
    if channels == "together":
        raise UserError(
            "--channels together: the pretrained extractor over a whole recording alone estimates "
            "channels together; leave --channels, --causal, --with and ahead_s away"
        )
    return "apart"


def find_shared(
    channels: Sequence[Sequence[HarmonicBaseband]], mode: ChannelMode, *, is_stated: bool = True
) -> SharedCourse | None:
    """Find the channels that share a course.

    Parameters
    ----------
    channels : sequence of sequence of HarmonicBaseband
        Of each of C channels the basebands of a tone, or of a comb's tones.
    mode : {"auto", "together", "apart"}
        What the user states.
    is_stated : bool, default True
        Of a comb's tones, whether it is certain that they share a frequency.

    Returns
    -------
    SharedCourse or None
        None where none do.
    """
    if mode == "apart" or len(channels) < 2:
        return None
    return share_course(channels, is_certain=mode == "together", is_stated=is_stated)


def marked_shared(
    line: ToneLine, channel: int, shared: SharedCourse | None, mode: ChannelMode
) -> ToneLine:
    """Note in a line that channels share it.

    Parameters
    ----------
    line : ToneLine
        The line of a tone in one channel.
    channel : int
        Index of the channel.
    shared : SharedCourse, optional
        What is shared.
    mode : {"auto", "together", "apart"}
        What the user states.

    Returns
    -------
    ToneLine
        The same one where the channel shares nothing.
    """
    if shared is None or channel not in shared.channels:
        return line
    return line._replace(
        shared=SharedLine(shared.channels, shared.log_evidence, mode == "together")
    )


def shared_channels(lines: Sequence[Sequence[ToneLine]]) -> list[SharedChannels | None]:
    """Return the channels that share the course of each tone.

    Parameters
    ----------
    lines : sequence of sequence of ToneLine
        Of each of C channels the K lines.

    Returns
    -------
    list of SharedChannels or None
        None where none do.
    """
    shared: list[SharedChannels | None] = []
    for of_tone in zip(*lines, strict=True):
        one = next((line.shared for line in of_tone if line.shared is not None), None)
        shared.append(None if one is None else SharedChannels(one.channels, one.is_certain))
    return shared


def sharing_metrics(
    names: Sequence[str], lines: Sequence[Sequence[ToneLine]], shares: Sequence[float | None]
) -> list[dict[str, Any]]:
    """Return what is written of the tones that channels share.

    Parameters
    ----------
    names : sequence of str
        Of each of C channels.
    lines : sequence of sequence of ToneLine
        Of each channel the K lines.
    shares : sequence of float or None
        Of each tone the share of the channels' pattern, where it was estimated by one.

    Returns
    -------
    list of dict
        An entry for each such tone.
    """
    found = []
    for of_tone, share in zip(zip(*lines, strict=True), shares, strict=True):
        one = next((line.shared for line in of_tone if line.shared is not None), None)
        if one is not None:
            found.append(
                {
                    "hz": of_tone[0].hz,
                    "channels": [names[c] for c in one.channels],
                    "log_evidence": one.log_evidence,
                    "pattern_share": share,
                }
            )
    return found
