"""What a user asks of an extraction, in one object from the command to the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ExtractOptions:
    """Options of `tonesieve.extract`, all but the recording and the extractor.

    Parameters
    ----------
    hz : sequence of float, optional
        Nominal frequencies of the tones in Hz; none: all that the extractor has.
    within_hz : float, optional
        Largest offset of a tone from its nominal frequency in Hz; by default 3.5% of it.
    causal : bool, default=False
        Whether an estimate rests on no later sample than its own.
    channels : {"auto", "together", "apart"}, default="auto"
        Whether channels share the course of a tone, and are estimated together: those of which a
        test says so, all, or none.
    columns : sequence of str, optional
        Columns or channels by name, or by number from 1, or ``all``; none: the only one.
    rate_hz : float, optional
        Sampling rate, where neither the file states it nor a time column gives it.
    time : str, optional
        The time column; by default found by its name.
    band_hz : tuple of float, optional
        Limits in Hz of the band where power is compared before and after; by default 2% on both
        sides of each tone, or as little as the recording resolves.
    remove : bool, default=False
        Whether the recording without the tones is written, in place of the tones.
    full : bool, default=False
        Whether amplitude, phase, frequency, 90% band and residual are written too.
    picture : bool, default=False
        Whether a PNG is drawn beside the output.
    out : path, optional
        The output file; by default NAME.tone or NAME.clean with the input's ending.
    force : bool, default=False
        Whether files that exist are overwritten.
    """

    hz: Sequence[float] = ()
    within_hz: float | None = None
    causal: bool = False
    channels: str = "auto"
    columns: Sequence[str] = ()
    rate_hz: float | None = None
    time: str | None = None
    band_hz: tuple[float, float] | None = None
    remove: bool = False
    full: bool = False
    picture: bool = False
    out: str | Path | None = None
    force: bool = False
