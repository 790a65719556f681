"""What there is in a recording: lines, their combs and rhythms, channel by channel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tonesieve.errors import UserError
from tonesieve.recordings.reader import Channel
from tonesieve.recordings.recording import Recording
from tonesieve.recordings.statistics import ChannelStats, survey
from tonesieve.signals.comb_orders import complete_combs
from tonesieve.signals.harmonic_grouping import FoundComb, group_harmonics, name_aliases
from tonesieve.signals.line_estimates import SpectralLine, estimate_line
from tonesieve.signals.line_evidence import Average
from tonesieve.signals.rhythms import Rhythm, find_rhythms
from tonesieve.signals.segment_spectra import LOWEST_BIN, resolutions
from tonesieve.signals.spectral_lines import FALSE_ALARM_RATE, find_spectral_lines

# Guard: of fewer samples no bin has a floor of its own.
MIN_SAMPLES = 64
# Chosen: what is listed in a message, and its longest text.
MAX_LISTED, MAX_TEXT = 8, 500
# Guard: least variation of a channel over its largest sample that is more than rounding.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Findings:
    """What was found in one channel.

    Parameters
    ----------
    channel : Channel
        Its name and unit.
    mean_square : float
        Of its samples about their mean.
    lines : tuple of SpectralLine
        By frequency.
    combs : tuple of FoundComb
        The strongest first.
    rhythms : tuple of Rhythm
        By frequency.
    averages : tuple of Average
        Its spectra, the finest first.
    """

    channel: Channel
    mean_square: float
    lines: tuple[SpectralLine, ...]
    combs: tuple[FoundComb, ...]
    rhythms: tuple[Rhythm, ...]
    averages: tuple[Average, ...]

    def metrics(self) -> dict[str, Any]:
        """Return the values by name, for JSON."""
        return {
            "name": self.channel.name,
            "unit": self.channel.unit,
            "lines": [line.metrics() for line in self.lines],
            "combs": [comb.metrics() for comb in self.combs],
            "rhythms": [rhythm.metrics() for rhythm in self.rhythms],
        }


def find_in_recording(
    recording: Recording, on_samples: Callable[[int], None] = lambda n: None
) -> tuple[list[Findings], list[str]]:
    """Find lines, combs and rhythms in every channel; memory does not grow with the recording.

    Also returns warnings. Raises `UserError` for a recording that is too short.
    """
    n = recording.n_samples
    if n < MIN_SAMPLES:
        raise UserError(
            f"{recording.path}: {n} samples are too short for a search; it needs {MIN_SAMPLES}"
        )
    findings, warnings = [], list(recording.grid.warnings)
    for c, (channel, one) in enumerate(zip(recording.channels, survey(recording), strict=True)):
        reason = _why_empty(one)
        if reason:
            warnings.append(f"{channel.name}: {reason}")
            findings.append(Findings(channel, 0.0, (), (), (), ()))
        else:
            found = _find_in_channel(recording, c, one)
            if not found.averages:
                warnings.append(f"{channel.name}: gaps leave no stretch to search")
            findings.append(found)
        on_samples((c + 1) * n)
    return findings, warnings


def _why_empty(one: ChannelStats) -> str:
    if one.gaps.n_samples == one.n_samples:
        return "holds no number at all"
    largest = max(abs(one.lowest), abs(one.highest))
    if one.highest - one.lowest <= ROUNDING * largest:
        return "is constant"
    return ""


def _find_in_channel(recording: Recording, c: int, one: ChannelStats) -> Findings:
    read = partial(recording.channel, c)
    candidates, averages = find_spectral_lines(read, recording.n_samples)
    lines = tuple(estimate_line(line, recording.rate_hz) for line in candidates)
    combs = complete_combs(
        read, group_harmonics(lines), list(zip(lines, candidates, strict=True)),
        recording.n_samples, recording.rate_hz,
    )  # fmt: skip
    lines = tuple(sorted((line for comb in combs for line in comb.lines), key=lambda one: one.hz))
    combs = name_aliases(combs, recording.rate_hz)
    rhythms = find_rhythms(averages, lines, recording.rate_hz)
    return Findings(
        recording.channels[c], one.rms**2, lines, tuple(combs), tuple(rhythms), tuple(averages)
    )


def searched_hz(recording: Recording) -> tuple[float, float]:
    """Lowest and highest frequency that a line may have to be found."""
    length = resolutions(recording.n_samples)[0].length
    return LOWEST_BIN * recording.rate_hz / length, recording.rate_hz / 2


def strongest_comb(findings: Sequence[Findings]) -> FoundComb | None:
    """The strongest comb of all channels; None without lines.

    Channels of different units are compared by the share of their power that a comb has.
    """
    shares = [
        (comb.power / max(one.mean_square, 1e-300), comb) for one in findings for comb in one.combs
    ]
    if not shares:
        return None
    return max(shares, key=lambda pair: pair[0])[1]


def listed(findings: Sequence[Findings]) -> str:
    """What was found, in at most one line: the strongest combs and rhythms."""
    shares = sorted(
        ((comb.power / max(one.mean_square, 1e-300), comb) for one in findings
         for comb in one.combs),
        key=lambda pair: -pair[0],
    )  # fmt: skip
    words: list[str] = []
    known: list[float] = []
    for _, comb in shares:
        if any(abs(comb.f0_hz - hz) <= 1e-3 * hz for hz in known):
            continue
        known.append(comb.f0_hz)
        orders = f" (orders {_ranges(comb.orders)})" if len(comb.orders) > 1 else ""
        words.append(f"{comb.f0_hz:.6g} Hz{orders}")
    if not words:
        return f"no line was found at a false-alarm rate of {100 * FALSE_ALARM_RATE:g}%"
    more = f" and {len(words) - MAX_LISTED} more" if len(words) > MAX_LISTED else ""
    text = f"found, strongest first: {', '.join(words[:MAX_LISTED])}{more}"
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 3] + "..."


def _ranges(orders: Sequence[int]) -> str:
    """Orders as ranges: 1-4, 6."""
    parts: list[list[int]] = []
    for n in orders:
        if parts and n == parts[-1][1] + 1:
            parts[-1][1] = n
        else:
            parts.append([n, n])
    words = [f"{a}" if a == b else f"{a}-{b}" for a, b in parts]
    return ", ".join(words[:4]) + (", ..." if len(words) > 4 else "")
