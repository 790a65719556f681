"""What docs/kinds.py measures on: a known tone and a known rest, drawn by seed.

Axes: T samples, K tones.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Rng = np.random.Generator
SEED = 16

# By number: the name of each kind.
KINDS = {
    1: "name-offset",
    2: "low-passed",
    3: "drift",
    4: "ecg",
    5: "bursts",
    6: "buzz",
    7: "rhythm",
    8: "trials",
    9: "ramp",
    10: "reference",
    11: "absent",
    12: "neighbourhood",
}


@dataclass(frozen=True)
class Member:
    """One record of a kind: the samples are the sum of the tones and the rest.

    Attributes
    ----------
    rate_hz : float
        Sampling rate.
    hz : tuple of float
        Nominal frequencies (K,), as a user would state them.
    tones : ndarray, shape (T, K)
        The tones.
    rest : ndarray, shape (T,)
        All else.
    rivals : tuple of str
        Keys of `kinds_rivals.RIVALS`.
    phase_rad : ndarray, shape (T, K), or None
        The tones' phase, for the limit of a known course.
    scored : ndarray of bool, shape (T,), or None
        Samples whose error counts; by default all.
    within_hz : float or None
        How far from its nominal frequency a tone may lie, where the user states that.
    own : dict
        What the kind's own metrics need.
    """

    rate_hz: float
    hz: tuple[float, ...]
    tones: np.ndarray
    rest: np.ndarray
    rivals: tuple[str, ...] = ()
    phase_rad: np.ndarray | None = None
    scored: np.ndarray | None = None
    within_hz: float | None = None
    own: dict[str, Any] = field(default_factory=dict)

    @property
    def samples(self) -> np.ndarray:
        """The mixture (T,)."""
        return self.rest + self.tones.sum(axis=1)

    @property
    def mask(self) -> np.ndarray:
        """Samples whose error counts (T,)."""
        return np.ones(len(self.rest), bool) if self.scored is None else self.scored


Maker = Callable[[Rng], Member]


@dataclass(frozen=True)
class Entry:
    """A member of a kind: what draws it, how often, and whether a quick run has it."""

    kind: int
    name: str
    maker: Maker
    draws: int
    quick: bool

    def draw(self, index: int) -> Member:
        """The same for the same index, whatever else is drawn."""
        seed = [SEED, self.kind, zlib.crc32(self.name.encode()), index]
        return self.maker(np.random.default_rng(seed))


ENTRIES: list[Entry] = []


def member(kind: int, name: str, *, draws: int = 3, quick: bool = True) -> Callable[[Maker], Maker]:
    """Enter a maker of members in the table."""

    def enter(maker: Maker) -> Maker:
        ENTRIES.append(Entry(kind, name, maker, draws, quick))
        return maker

    return enter


def steady(
    n: int, rate_hz: float, hz: float, amplitude: float | np.ndarray, rng: Rng
) -> tuple[np.ndarray, np.ndarray]:
    """A tone of constant frequency and its phase, both (T, 1)."""
    return along(np.full(n, hz), rate_hz, amplitude, rng)


def along(
    course_hz: np.ndarray, rate_hz: float, amplitude: float | np.ndarray, rng: Rng
) -> tuple[np.ndarray, np.ndarray]:
    """A tone whose frequency is given at every sample, and its phase, both (T, 1)."""
    phase = 2 * np.pi * np.cumsum(course_hz) / rate_hz + rng.uniform(0, 2 * np.pi)
    return (amplitude * np.cos(phase))[:, None], phase[:, None]


def sign(rng: Rng) -> float:
    """Plus or minus 1."""
    return float(rng.choice([-1.0, 1.0]))
