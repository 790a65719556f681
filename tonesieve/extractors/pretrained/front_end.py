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
from tonesieve.kernels.kalman_bank.decimator import (
    N_MEMORY,
    N_STAGES,
    ORIGIN,
    cic_response,
    decimate,
)
from tonesieve.kernels.kalman_bank.features import n_features
from tonesieve.kernels.kalman_bank.state import age_index, init_state, state_size
from tonesieve.kernels.simd import WIDTH

# The highest tone of a group has so many steps a period, at least; the lowest is so much lower at
# most.
STEPS_A_PERIOD, MAX_FREQUENCY_RATIO = 12, 8
# How far a candidate may follow a frequency, as a share of it; what was learned from was nearer, by
# a thousandth of a cycle a step at most.
PULL = 0.03
# Memories in steps: of candidates whose frequencies stay; of such that never begin anew, so that a
# strong line beside the tone does not drive them to follow its beat; of candidates that follow.
FIXED_MEMORIES = (5.0, 14.0, 40.0, 110.0, 300.0, 900.0, 3500.0)
NO_RESTART_MEMORIES = (300.0, 1200.0, math.inf)
TRACKING_MEMORIES = (30.0, 80.0, 220.0, 700.0, 2500.0, math.inf)
# What is told of them is averaged over so many memories, between bounds.
TOLD, SEEN, LONGEST = (4.0, 50.0), (2.0, 10.0), 4000.0


def filter_table() -> Float[np.ndarray, " L"]:
    """The table that the kernel reads: rows of a number a candidate."""
    kinds = (FIXED_MEMORIES, NO_RESTART_MEMORIES, TRACKING_MEMORIES)
    memory = np.array([m for kind in kinds for m in kind])
    counts = [len(kind) for kind in kinds]
    follows, chained = (np.repeat(flags, counts) for flags in ((0.0, 0.0, 1.0), (1.0, 0.0, 1.0)))
    chained[[0, counts[0] + counts[1]]] = 0.0  # the shortest of a kind have no shorter one
    averaged = [np.clip(share * memory, least, LONGEST) for share, least in (TOLD, SEEN)]
    return np.concatenate([2 / memory**2, follows, chained, *averaged, memory])


TABLE = filter_table()

# Of a group: samples so far, what is remembered of them, sums of the means, what listens (B, S).
ToneGroupState = tuple[
    int, Float[np.ndarray, "B 6"], Float[np.ndarray, "B 3 2"], Float[np.ndarray, "B S"]
]


class BankOutput(NamedTuple):
    """What was heard of a group's tones in some steps."""

    phasors: Float[np.ndarray, "B N K 2 M"]
    features: Float[np.ndarray, "B R K F"]
    variances: Float[np.ndarray, "B R K M"]
    ends: np.ndarray  # of the frames that end here, the number of their last step among these


@dataclass(frozen=True)
class ToneGroup:
    """Tones (cycles a sample) that are heard together, ``factor`` samples a step.

    ``gain`` is how a tone of amplitude 1 stands in the samples.
    """

    freq_cycles: tuple[float, ...]
    gain: complex = 1.0

    @cached_property
    def factor(self) -> int:
        """Samples a step."""
        return max(1, int(1 / (STEPS_A_PERIOD * max(self.freq_cycles))))

    @cached_property
    def turn(self) -> Float[np.ndarray, " K"]:
        """Radians a step."""
        return 2 * np.pi * self.factor * np.array(self.freq_cycles)

    @cached_property
    def gains(self) -> Complex[np.ndarray, " K"]:
        """How a tone stands in the steps, the first of which ends with sample ``factor`` - 1."""
        weights = cic_response(self.factor)
        before = self.factor - 1 - np.arange(len(weights))
        angles = 2 * np.pi * np.array(self.freq_cycles)[:, None]
        return self.gain * (np.exp(1j * angles * before) @ weights)

    @cached_property
    def constants(self) -> tuple[Any, ...]:
        """What the kernel that answers is told, in its order."""
        return (
            cic_response(self.factor),
            self.factor,
            np.array(self.freq_cycles),
            _pairs(self.gains),
            PULL * self.turn,
            TABLE,
        )

    def initial_state(self, n_streams: int, *, backwards: bool = False) -> ToneGroupState:
        """Nothing heard; what begins ``backwards`` goes on so."""
        listening = np.zeros((n_streams, state_size(len(self.freq_cycles))))
        init_state(listening, _pairs(self.gains.conj() if backwards else self.gains))
        memory = np.zeros((n_streams, N_MEMORY))
        memory[:, ORIGIN] = np.nan
        return 0, memory, np.zeros((n_streams, N_STAGES, 2)), listening

    def decimate(
        self, samples: Float[np.ndarray, "B T"], state: ToneGroupState
    ) -> tuple[Float[np.ndarray, "B N"], ToneGroupState]:
        """The steps that end in these samples."""
        first, memory, sums, listening = state
        n = samples.shape[1]
        if self.factor == 1:
            return np.ascontiguousarray(samples), (first + n, memory, sums, listening)
        memory, sums = memory.copy(), sums.copy()
        steps = np.empty((len(samples), (first + n) // self.factor - first // self.factor))
        heard = np.ascontiguousarray(samples)
        decimate(heard, first, memory, sums, cic_response(self.factor), self.factor, steps)
        return steps, (first + n, memory, sums, listening)

    def run_bank(
        self,
        steps: Float[np.ndarray, "B N"],
        listening: Float[np.ndarray, "B S"],
        *,
        backwards: bool = False,
    ) -> tuple[BankOutput, Float[np.ndarray, "B S"]]:
        """Evidence from some steps, and the state after; ``backwards``: the last step first."""
        listening = listening.copy()
        n_streams, n_steps = steps.shape
        k = len(self.freq_cycles)
        age = int(listening[0, age_index(k)]) if n_streams else 0
        first = kernel.GATING_INTERVAL - 1 - age % kernel.GATING_INTERVAL
        ends = np.arange(first, n_steps, kernel.GATING_INTERVAL)
        phasors = np.empty((n_streams, n_steps, k, 2, WIDTH))
        features = np.empty((n_streams, len(ends), k, n_features()))
        variances = np.empty((n_streams, len(ends), k, WIDTH))
        gains = self.gains.conj() if backwards else self.gains
        kernel.run_kalman_bank(
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
        return BankOutput(phasors, features, variances, ends), listening

    def to_forward_phasors(self, evidence: BankOutput, end: int) -> BankOutput:
        """Phasors heard backwards from step ``end`` - 1 on, as they stand forwards.

        Against the carrier that the start has: Im(Z exp(i theta)) is Im(-Z* exp(-i theta)).
        """
        cycles = self.factor * np.array(self.freq_cycles) * (end - 1) % 1
        turn = -np.exp(-2j * np.pi * cycles)[:, None]
        stood = turn * (evidence.phasors[..., 0, :] - 1j * evidence.phasors[..., 1, :])
        return evidence._replace(phasors=np.stack([stood.real, stood.imag], axis=-2))


def group_by_span(turns: Sequence[float]) -> list[list[int]]:
    """Which tones are heard together: from the highest down, an octave thrice."""
    left, found = sorted(range(len(turns)), key=lambda k: -turns[k]), []
    while left:
        near = [k for k in left if turns[k] * MAX_FREQUENCY_RATIO >= turns[left[0]]]
        found.append(sorted(near))
        left = [k for k in left if k not in near]
    return found


def _pairs(gains: Complex[np.ndarray, " K"]) -> Float[np.ndarray, "K 2"]:
    return np.stack([gains.real, gains.imag], axis=1)
