"""What a recording is like before anything is done with it: level, gaps, clipped stretches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from tonesieve.recordings.reader import rows_in_block
from tonesieve.recordings.recording import Recording

# Stretches that are named one by one.
MOST_NAMED = 1000
# Samples in a row at the very same extreme that are a clipped stretch.
CLIPPED_RUN = 3
# Of all samples in the outermost share of the range, clipping has most at the extreme itself.
NEAR = 0.02
# A range of few levels: so many of them count as outermost.
LEVELS = 5
# Fewer than this are chance.
LEAST_CLIPPED = 10


@dataclass
class Intervals:
    """Where something holds: stretches of samples, found block by block."""

    longest_named: int = MOST_NAMED
    n_samples: int = 0
    n_stretches: int = 0

    def __post_init__(self) -> None:
        self.named: list[list[int]] = []  # first sample, length
        self._open = False

    def add(self, start: int, holds: Bool[np.ndarray, " T"]) -> None:
        """A block that begins at sample ``start``."""
        edges = np.diff(np.concatenate([[False], holds, [False]]).astype(np.int8))
        for first, last in zip(
            np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True
        ):
            n = int(last - first)
            self.n_samples += n
            if first == 0 and self._open:
                if self.named and sum(self.named[-1]) == start:
                    self.named[-1][1] += n
                continue
            self.n_stretches += 1
            if len(self.named) < self.longest_named:
                self.named.append([start + int(first), n])
        if len(holds):
            self._open = bool(holds[-1])

    def metrics(self, rate_hz: float) -> dict[str, Any]:
        """Counts, and the first stretches as start and length in seconds."""
        return {
            "samples": self.n_samples,
            "stretches": self.n_stretches,
            "first_s": [[first / rate_hz, n / rate_hz] for first, n in self.named],
        }


@dataclass
class ChannelStats:
    """One channel."""

    n_samples: int
    first: float  # the first good sample
    mean: float
    rms: float  # about the mean
    lowest: float
    highest: float
    gaps: Intervals
    clipped: Intervals

    @property
    def unit(self) -> float:
        """A power of two near the largest distance from the mean; 1 where all is equal.

        Divided by it, squares neither over- nor underflow, and no digit is lost.
        """
        largest = max(abs(self.highest), abs(self.lowest))
        return power_of_two(largest)


def survey(recording: Recording) -> list[ChannelStats]:
    """Every channel's; two passes over the recording, whatever its channels."""
    n, channels = recording.n_samples, range(len(recording.channels))
    step = rows_in_block(len(channels))
    ranges = [_Range() for _ in channels]
    for start in range(0, n, step):
        block = recording.read(start, start + step)
        for c in channels:
            ranges[c].add(start, block[c])
    sums = [_Sums(one) for one in ranges]
    for start in range(0, n, step):
        block = recording.read(start, start + step)
        for c in channels:
            sums[c].add(start, block[c])
    return [one.survey(n) for one in sums]


def power_of_two(largest: float) -> float:
    """The largest power of two that is no larger."""
    if not 0 < largest < np.inf:
        return 1.0
    return float(2.0 ** max(-1022, np.floor(np.log2(largest))))


class _Range:
    """The first pass over a channel: its ends, and what lies next to them."""

    def __init__(self) -> None:
        self.first, self.gaps = np.nan, Intervals()
        self.lowest = self.above = np.inf
        self.highest = self.below = -np.inf

    def add(self, start: int, block: Float[np.ndarray, " T"]) -> None:
        """A block that begins at sample ``start``."""
        missing = ~np.isfinite(block)
        self.gaps.add(start, missing)
        good = block[~missing]
        if not len(good):
            return
        self.first = float(good[0]) if np.isnan(self.first) else self.first
        low, high = min(self.lowest, float(good.min())), max(self.highest, float(good.max()))
        inner = [x for x in (self.lowest, self.above) if low < x < np.inf]
        self.above = min([*inner, float(np.min(good, where=good > low, initial=np.inf))])
        inner = [x for x in (self.highest, self.below) if -np.inf < x < high]
        self.below = max([*inner, float(np.max(good, where=good < high, initial=-np.inf))])
        self.lowest, self.highest = low, high


class _Sums:
    """The second pass: level, and samples that stand at the very ends of the range."""

    def __init__(self, found: _Range) -> None:
        self._found = found
        low, high = found.lowest, found.highest
        self._unit = power_of_two(max(abs(low), abs(high)))
        # In halves: the whole range may be more than the largest number.
        wide = NEAR * (high / 2 - low / 2) if high > low else 0.0
        self._above = 2 * max(wide, LEVELS / 2 * (min(found.above, high) - low) if wide else 0.0)
        self._below = 2 * max(wide, LEVELS / 2 * (high - max(found.below, low)) if wide else 0.0)
        self._total, self._squares, self._n_good, self._n_near, self._n_ends = 0.0, 0.0, 0, 0, 0
        self._clipped, self._run = Intervals(), _Runs()

    def add(self, start: int, block: Float[np.ndarray, " T"]) -> None:
        """A block that begins at sample ``start``."""
        low, high, unit = self._found.lowest, self._found.highest, self._unit
        good = block[np.isfinite(block)]
        scaled = good / unit - self._found.first / unit
        self._total += float(scaled.sum())
        self._squares += float((scaled**2).sum())
        self._n_good += len(good)
        near = (good >= high - self._below) | (good <= low + self._above)
        self._n_near += int(np.sum(near))
        extreme = (block == low) | (block == high)
        self._n_ends += int(np.sum(extreme))
        self._clipped.add(start, self._run.long(extreme))

    def survey(self, n_samples: int) -> ChannelStats:
        """All that was found."""
        found, unit = self._found, self._unit
        mean = self._total / self._n_good if self._n_good else 0.0
        variance = max(self._squares / self._n_good - mean**2, 0.0) if self._n_good else 0.0
        # A square wave stands at its ends by nature.
        natural = self._n_ends == self._n_good or self._clipped.n_samples < max(
            LEAST_CLIPPED, self._n_near / 2
        )
        return ChannelStats(
            n_samples=n_samples,
            first=found.first,
            mean=(found.first / unit + mean) * unit,
            rms=float(np.sqrt(variance)) * unit,
            lowest=found.lowest,
            highest=found.highest,
            gaps=found.gaps,
            clipped=Intervals() if natural else self._clipped,
        )


class _Runs:
    """Which samples belong to runs of `CLIPPED_RUN` at least; runs over a block's end count there
    from the block that they go on in."""

    def __init__(self) -> None:
        self._carried = 0

    def long(self, holds: Bool[np.ndarray, " T"]) -> Bool[np.ndarray, " T"]:
        """Of one block."""
        edges = np.diff(np.concatenate([[False], holds, [False]]).astype(np.int8))
        starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        lengths = stops - starts
        if len(starts) and starts[0] == 0:
            lengths[0] += self._carried
        kept = np.zeros(len(holds), dtype=bool)
        for start, stop, length in zip(starts, stops, lengths, strict=True):
            if length >= CLIPPED_RUN:
                kept[start:stop] = True
        last = len(starts) and stops[-1] == len(holds)
        self._carried = int(lengths[-1]) if last else 0
        return kept
