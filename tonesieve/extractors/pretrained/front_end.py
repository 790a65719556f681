"""From samples to evidence: how the pretrained extractor hears the tones that it is told.

Tones that are not too far apart are heard together, so that none leaks into another; those that are
slow by the mean of so many samples, so that to the candidates every tone is as fast as any other.
Axes: B streams, T samples, N steps, K tones of a group, M candidates, R frames, F features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Complex, Float

from tonesieve.kernels.kalman_bank import filter as kernel
from tonesieve.kernels.kalman_bank.decimator import MEANS, N_MEMORY, ORIGIN, thin, window
from tonesieve.kernels.kalman_bank.features import n_features
from tonesieve.kernels.kalman_bank.state import age_place, begin, n_state
from tonesieve.kernels.simd import WIDTH

# The highest tone of a group has so many steps a period, at least; the lowest is so much lower at
# most.
STEPS_A_PERIOD, SPAN = 12, 8
# How far a candidate may follow a frequency, as a share of it; what was learned from was nearer, by
# a thousandth of a cycle a step at most.
PULL = 0.03
# Memories in steps: of candidates whose frequencies stay; of such that never begin anew, so that a
# strong line beside the tone does not drive them to follow its beat; of candidates that follow.
STAYS = (5.0, 14.0, 40.0, 110.0, 300.0, 900.0, 3500.0)
KEEPS = (300.0, 1200.0, math.inf)
FOLLOW = (30.0, 80.0, 220.0, 700.0, 2500.0, math.inf)
# What is told of them is averaged over so many memories, between bounds.
TOLD, SEEN, LONGEST = (4.0, 50.0), (2.0, 10.0), 4000.0


def candidates() -> Float[np.ndarray, " L"]:
    """The table that the kernel reads: rows of a number a candidate."""
    kinds = (STAYS, KEEPS, FOLLOW)
    memory = np.array([m for kind in kinds for m in kind])
    counts = [len(kind) for kind in kinds]
    follows, chained = (np.repeat(flags, counts) for flags in ((0.0, 0.0, 1.0), (1.0, 0.0, 1.0)))
    chained[[0, counts[0] + counts[1]]] = 0.0  # the shortest of a kind have no shorter one
    averaged = [np.clip(share * memory, least, LONGEST) for share, least in (TOLD, SEEN)]
    return np.concatenate([2 / memory**2, follows, chained, *averaged, memory])


TABLE = candidates()

# Of a group: samples so far, what is remembered of them, sums of the means, what listens (B, S).
HearingState = tuple[
    int, Float[np.ndarray, "B 6"], Float[np.ndarray, "B 3 2"], Float[np.ndarray, "B S"]
]


class Evidence(NamedTuple):
    """What was heard of a group's tones in some steps."""

    phasors: Float[np.ndarray, "B N K 2 M"]
    features: Float[np.ndarray, "B R K F"]
    variances: Float[np.ndarray, "B R K M"]
    ends: np.ndarray  # of the frames that end here, the number of their last step among these


@dataclass(frozen=True)
class Hearing:
    """Tones (cycles a sample) that are heard together, ``factor`` samples a step.

    ``gain`` is how a tone of amplitude 1 stands in the samples.
    """

    turns: tuple[float, ...]
    gain: complex = 1.0

    @cached_property
    def factor(self) -> int:
        """Samples a step."""
        return max(1, int(1 / (STEPS_A_PERIOD * max(self.turns))))

    @cached_property
    def turn(self) -> Float[np.ndarray, " K"]:
        """Radians a step."""
        return 2 * np.pi * self.factor * np.array(self.turns)

    @cached_property
    def gains(self) -> Complex[np.ndarray, " K"]:
        """How a tone stands in the steps, the first of which ends with sample ``factor`` - 1."""
        weights = window(self.factor)
        before = self.factor - 1 - np.arange(len(weights))
        angles = 2 * np.pi * np.array(self.turns)[:, None]
        return self.gain * (np.exp(1j * angles * before) @ weights)

    @cached_property
    def constants(self) -> tuple[Any, ...]:
        """What the kernel that answers is told, in its order."""
        return (
            window(self.factor),
            self.factor,
            np.array(self.turns),
            _pairs(self.gains),
            PULL * self.turn,
            TABLE,
        )

    def initial_state(self, n_streams: int, *, backwards: bool = False) -> HearingState:
        """Nothing heard; what begins ``backwards`` goes on so."""
        listening = np.zeros((n_streams, n_state(len(self.turns))))
        begin(listening, _pairs(self.gains.conj() if backwards else self.gains))
        memory = np.zeros((n_streams, N_MEMORY))
        memory[:, ORIGIN] = np.nan
        return 0, memory, np.zeros((n_streams, MEANS, 2)), listening

    def thin(
        self, samples: Float[np.ndarray, "B T"], state: HearingState
    ) -> tuple[Float[np.ndarray, "B N"], HearingState]:
        """The steps that end in these samples."""
        first, memory, sums, listening = state
        n = samples.shape[1]
        if self.factor == 1:
            return np.ascontiguousarray(samples), (first + n, memory, sums, listening)
        memory, sums = memory.copy(), sums.copy()
        steps = np.empty((len(samples), (first + n) // self.factor - first // self.factor))
        heard = np.ascontiguousarray(samples)
        thin(heard, first, memory, sums, window(self.factor), self.factor, steps)
        return steps, (first + n, memory, sums, listening)

    def listen(
        self,
        steps: Float[np.ndarray, "B N"],
        listening: Float[np.ndarray, "B S"],
        *,
        backwards: bool = False,
    ) -> tuple[Evidence, Float[np.ndarray, "B S"]]:
        """Evidence from some steps, and the state after; ``backwards``: the last step first."""
        listening = listening.copy()
        n_streams, n_steps = steps.shape
        k = len(self.turns)
        age = int(listening[0, age_place(k)]) if n_streams else 0
        first = kernel.FRAME - 1 - age % kernel.FRAME
        ends = np.arange(first, n_steps, kernel.FRAME)
        phasors = np.empty((n_streams, n_steps, k, 2, WIDTH))
        features = np.empty((n_streams, len(ends), k, n_features()))
        variances = np.empty((n_streams, len(ends), k, WIDTH))
        gains = self.gains.conj() if backwards else self.gains
        kernel.listen(
            np.ascontiguousarray(steps),
            listening,
            self.turn,
            _pairs(gains),
            PULL * self.turn,
            TABLE,
            phasors,
            features,
            variances,
        )
        return Evidence(phasors, features, variances, ends), listening

    def stood_forwards(self, evidence: Evidence, end: int) -> Evidence:
        """Phasors heard backwards from step ``end`` - 1 on, as they stand forwards.

        Against the carrier that the start has: Im(Z exp(i theta)) is Im(-Z* exp(-i theta)).
        """
        cycles = self.factor * np.array(self.turns) * (end - 1) % 1
        turn = -np.exp(-2j * np.pi * cycles)[:, None]
        stood = turn * (evidence.phasors[..., 0, :] - 1j * evidence.phasors[..., 1, :])
        return evidence._replace(phasors=np.stack([stood.real, stood.imag], axis=-2))


def grouped(turns: Sequence[float]) -> list[list[int]]:
    """Which tones are heard together: from the highest down, an octave thrice."""
    left, found = sorted(range(len(turns)), key=lambda k: -turns[k]), []
    while left:
        near = [k for k in left if turns[k] * SPAN >= turns[left[0]]]
        found.append(sorted(near))
        left = [k for k in left if k not in near]
    return found


def _pairs(gains: Complex[np.ndarray, " K"]) -> Float[np.ndarray, "K 2"]:
    return np.stack([gains.real, gains.imag], axis=1)
