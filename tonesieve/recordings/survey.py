"""What a recording is like before anything is done with it: level, gaps, clipped stretches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from tonesieve.recordings.contents import ROWS
from tonesieve.recordings.recording import Recording

# Stretches that are named one by one.
MOST_NAMED = 1000
# Samples in a row at the very same extreme that are a clipped stretch.
CLIPPED_RUN = 3
# Of all samples in the outermost share of the range, clipping has most at the extreme itself.
NEAR = 0.02
# Fewer than this are chance.
LEAST_CLIPPED = 10


@dataclass
class Stretches:
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

    def figures(self, rate_hz: float) -> dict[str, Any]:
        """Counts, and the first stretches as start and length in seconds."""
        return {
            "samples": self.n_samples,
            "stretches": self.n_stretches,
            "first_s": [[first / rate_hz, n / rate_hz] for first, n in self.named],
        }


@dataclass
class Survey:
    """One channel."""

    n_samples: int
    first: float  # the first good sample
    mean: float
    rms: float  # about the mean
    lowest: float
    highest: float
    gaps: Stretches
    clipped: Stretches

    @property
    def unit(self) -> float:
        """A power of two near the largest distance from the mean; 1 where all is equal.

        Divided by it, squares neither over- nor underflow, and no digit is lost.
        """
        largest = max(abs(self.highest), abs(self.lowest))
        return power_of_two(largest)


def survey(recording: Recording) -> list[Survey]:
    """Every channel's; two passes over the recording."""
    n = recording.n_samples
    found = []
    for c in range(len(recording.channels)):
        lowest, highest, first = np.inf, -np.inf, np.nan
        gaps = Stretches()
        for start in range(0, n, ROWS):
            block = recording.read(start, start + ROWS)[c]
            good = np.isfinite(block)
            gaps.add(start, ~good)
            if good.any():
                first = float(block[good][0]) if np.isnan(first) else first
                lowest = min(lowest, float(block[good].min()))
                highest = max(highest, float(block[good].max()))
        found.append(_second_pass(recording, c, first, lowest, highest, gaps))
    return found


def power_of_two(largest: float) -> float:
    """The largest power of two that is no larger."""
    if not 0 < largest < np.inf:
        return 1.0
    return float(2.0 ** max(-1022, np.floor(np.log2(largest))))


def _second_pass(
    recording: Recording, c: int, first: float, lowest: float, highest: float, gaps: Stretches
) -> Survey:
    unit = power_of_two(max(abs(lowest), abs(highest)))
    total, squares, n_good, n_near = 0.0, 0.0, 0, 0
    clipped, run = Stretches(), _Runs()
    reach = NEAR * (highest / unit - lowest / unit) * unit if highest > lowest else 0.0
    for start in range(0, recording.n_samples, ROWS):
        block = recording.read(start, start + ROWS)[c]
        good = block[np.isfinite(block)]
        scaled = good / unit - first / unit
        total, squares = total + float(scaled.sum()), squares + float((scaled**2).sum())
        n_good += len(good)
        extreme = (block == lowest) | (block == highest)
        n_near += int(np.sum((good >= highest - reach) | (good <= lowest + reach)))
        clipped.add(start, run.long(extreme))
    mean = total / n_good if n_good else 0.0
    variance = max(squares / n_good - mean**2, 0.0) if n_good else 0.0
    natural = highest == lowest or clipped.n_samples < max(LEAST_CLIPPED, n_near / 2)
    return Survey(
        n_samples=recording.n_samples,
        first=first,
        mean=(first / unit + mean) * unit,
        rms=float(np.sqrt(variance)) * unit,
        lowest=lowest,
        highest=highest,
        gaps=gaps,
        clipped=Stretches() if natural else clipped,
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


def quiet(samples: Float[np.ndarray, " T"]) -> bool:
    """Whether there is nothing but one value, or nothing at all."""
    good = samples[np.isfinite(samples)]
    return not len(good) or bool(np.all(good == good[0]))
