"""Statistics of a recording's channels: mean, RMS, range, gaps and clipped intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from tonesieve.recordings.reader import rows_in_block
from tonesieve.recordings.recording import Recording

# Guard: intervals that are listed one by one.
MAX_LISTED = 1000
# Of the samples in this outermost fraction of the range, clipping has at least half at the end
# itself. Chosen, not tuned.
OUTERMOST = 0.02
# Of coarsely quantised samples, this many levels count as outermost; with fewer levels in the whole
# range clipping cannot be known. Chosen, not tuned.
N_LEVELS, LEAST_LEVELS = 5, 16
# Samples at one end alone, over all, from which on the signal may be a rectified one. Chosen, not
# tuned: of a rectified tone it is a half.
RECTIFIED = 0.45
# Guard against chance: fewer clipped samples are none.
MIN_CLIPPED = 10


@dataclass
class Intervals:
    """Intervals of samples where a condition holds, found block by block.

    Parameters
    ----------
    max_listed : int
        Intervals that are listed one by one, in `listed`.
    n_samples : int, default=0
        Samples where it holds.
    n_stretches : int, default=0
        Intervals of consecutive ones.
    """

    max_listed: int = MAX_LISTED
    n_samples: int = 0
    n_stretches: int = 0

    def __post_init__(self) -> None:
        self.listed: list[list[int]] = []  # first sample, length
        self._open = False

    def add(self, start: int, condition: Bool[np.ndarray, " T"]) -> None:
        """Add a block.

        Parameters
        ----------
        start : int
            Number of its first sample; blocks come in turn.
        condition : ndarray of bool, shape (T,)
            Where it holds.
        """
        edges = np.diff(np.concatenate([[False], condition, [False]]).astype(np.int8))
        for first, last in zip(
            np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True
        ):
            n = int(last - first)
            self.n_samples += n
            if first == 0 and self._open:
                if self.listed and sum(self.listed[-1]) == start:
                    self.listed[-1][1] += n
                continue
            self.n_stretches += 1
            if len(self.listed) < self.max_listed:
                self.listed.append([start + int(first), n])
        if len(condition):
            self._open = bool(condition[-1])

    def metrics(self, rate_hz: float) -> dict[str, Any]:
        """Return counts, and the first intervals by start and length in seconds.

        Parameters
        ----------
        rate_hz : float
            Sampling rate.

        Returns
        -------
        dict
            As it is written to JSON.
        """
        return {
            "samples": self.n_samples,
            "stretches": self.n_stretches,
            "first_s": [[first / rate_hz, n / rate_hz] for first, n in self.listed],
        }


def merged(several: Sequence[Intervals]) -> Intervals:
    """Join intervals of different conditions.

    Parameters
    ----------
    several : sequence of Intervals
        They have no sample in common.

    Returns
    -------
    Intervals
        All of them.
    """
    made = Intervals()
    made.n_samples = sum(one.n_samples for one in several)
    made.n_stretches = sum(one.n_stretches for one in several)
    made.listed = sorted(item for one in several for item in one.listed)[: made.max_listed]
    return made


@dataclass
class ChannelStats:
    """Statistics of one channel.

    Parameters
    ----------
    n_samples : int
        Samples, gaps among them.
    first : float
        The first finite sample.
    mean : float
        Mean of the finite samples.
    rms : float
        RMS about the mean.
    lowest : float
        The smallest sample.
    highest : float
        The largest sample.
    gaps : Intervals
        Where samples are missing.
    clipped : Intervals
        Where samples lie at an end of the range, if that is where they are clipped.
    clipped_ends : tuple of bool
        Whether samples are clipped at the lowest value, and at the highest.
    """

    n_samples: int
    first: float
    mean: float
    rms: float
    lowest: float
    highest: float
    gaps: Intervals
    clipped: Intervals
    clipped_ends: tuple[bool, bool] = (False, False)

    @property
    def censored(self) -> tuple[float, float] | None:
        """Levels beyond which samples are not known, NaN at an end without; None: no such end.

        Samples at 0 and above are taken as they are: 0 is a natural bound of counts and powers. So
        are those of a signal of which about half is at one end: it may be rectified.
        """
        low, high = self.clipped_ends
        n_valid = self.n_samples - self.gaps.n_samples
        rectified = low != high and self.clipped.n_samples > RECTIFIED * n_valid
        low = low and self.lowest != 0
        if rectified or not (low or high):
            return None
        return self.lowest if low else np.nan, self.highest if high else np.nan

    @property
    def unit(self) -> float:
        """A power of two near the largest magnitude.

        Divided by it, squares neither overflow nor underflow, and no digit is lost.
        """
        return power_of_two(max(abs(self.highest), abs(self.lowest)))


def survey(recording: Recording) -> list[ChannelStats]:
    """Compute the statistics of every channel, in two passes over the recording.

    Parameters
    ----------
    recording : Recording
        Any recording.

    Returns
    -------
    list of ChannelStats
        One for every channel.
    """
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
    return [one.stats(n) for one in sums]


def power_of_two(largest: float) -> float:
    """Return the largest power of two that is no larger.

    Parameters
    ----------
    largest : float
        A magnitude.

    Returns
    -------
    float
        A normal number; 1 for 0, infinity and NaN.
    """
    if not 0 < largest < np.inf:
        return 1.0
    return float(2.0 ** max(-1022, np.floor(np.log2(largest))))


class _Range:
    """The first pass over a channel: the ends of its range, and the samples next to them."""

    def __init__(self) -> None:
        self.first, self.gaps = np.nan, Intervals()
        self.lowest = self.above = np.inf
        self.highest = self.below = -np.inf

    def add(self, start: int, block: Float[np.ndarray, " T"]) -> None:
        missing = ~np.isfinite(block)
        self.gaps.add(start, missing)
        valid = block[~missing]
        if not len(valid):
            return
        self.first = float(valid[0]) if np.isnan(self.first) else self.first
        low, high = min(self.lowest, float(valid.min())), max(self.highest, float(valid.max()))
        inner = [x for x in (self.lowest, self.above) if low < x < np.inf]
        self.above = min([*inner, float(np.min(valid, where=valid > low, initial=np.inf))])
        inner = [x for x in (self.highest, self.below) if -np.inf < x < high]
        self.below = max([*inner, float(np.max(valid, where=valid < high, initial=-np.inf))])
        self.lowest, self.highest = low, high


class _Sums:
    """The second pass: mean, RMS, and samples at the very ends of the range."""

    def __init__(self, range_: _Range) -> None:
        self._range = range_
        low, high = range_.lowest, range_.highest
        self._unit = power_of_two(max(abs(low), abs(high)))
        self._ends = [_End(low, high, range_.above), _End(high, low, range_.below)]
        self._total, self._squares, self._n_valid = 0.0, 0.0, 0

    def add(self, start: int, block: Float[np.ndarray, " T"]) -> None:
        valid = block[np.isfinite(block)]
        scaled = valid / self._unit - self._range.first / self._unit
        self._total += float(scaled.sum())
        self._squares += float((scaled**2).sum())
        self._n_valid += len(valid)
        for end in self._ends:
            end.add(start, block)

    def stats(self, n_samples: int) -> ChannelStats:
        n, range_, unit = self._n_valid, self._range, self._unit
        mean = self._total / n if n else 0.0
        variance = max(self._squares / n - mean**2, 0.0) if n else 0.0
        # A square wave lies at the ends of its range by nature.
        natural = sum(end.at_end.n_samples for end in self._ends) >= n
        is_low, is_high = (not natural and end.is_clipped for end in self._ends)
        clipped = [end.at_end for end in self._ends if end.is_clipped and not natural]
        return ChannelStats(
            n_samples=n_samples,
            first=range_.first,
            mean=(range_.first / unit + mean) * unit,
            rms=float(np.sqrt(variance)) * unit,
            lowest=range_.lowest,
            highest=range_.highest,
            gaps=range_.gaps,
            clipped=merged(clipped),
            clipped_ends=(is_low, is_high),
        )


class _End:
    """Samples at one end of the range, and how many are near it."""

    def __init__(self, end: float, other: float, next_to_end: float) -> None:
        self.at_end, self._end, self._n_near = Intervals(), end, 0
        # In halves: the whole range may be more than the largest number.
        half, half_step = abs(end / 2 - other / 2), abs(next_to_end / 2 - end / 2)
        self._has_levels = bool(np.isfinite(half_step) and LEAST_LEVELS * half_step <= half)
        self._half_near = max(OUTERMOST * half, N_LEVELS * half_step) if self._has_levels else 0.0

    def add(self, start: int, block: Float[np.ndarray, " T"]) -> None:
        self.at_end.add(start, block == self._end)
        with np.errstate(invalid="ignore"):
            self._n_near += int(np.sum(np.abs(block / 2 - self._end / 2) <= self._half_near))

    @property
    def is_clipped(self) -> bool:
        n = self.at_end.n_samples
        return self._has_levels and n >= max(MIN_CLIPPED, self._n_near / 2)
