"""The pretrained extractor of tones some of which are multiples of one frequency, in streams.

Combs are filtered one after the other (`comb_filter`), each in what the earlier ones leave over,
and the tones in no comb last.

Axes: B streams, T samples, K tones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from tonesieve.extractors.filters.base import ToneFilter
from tonesieve.extractors.pretrained.comb_filter import CombFilter
from tonesieve.extractors.pretrained.extractor import (
    PretrainedExtractor,
    empty_outputs,
    tones_of,
)
from tonesieve.extractors.protocol import ToneEstimate
from tonesieve.signals.baseband import RANGE_RATIO
from tonesieve.signals.comb import Comb


@dataclass(frozen=True)
class CombExtractor(ToneFilter):
    """The pretrained extractor of tones, some of which are multiples of one frequency.

    Parameters
    ----------
    frequencies_hz : tuple of float
        Nominal frequencies of the K tones.
    rate_hz : float
        Sampling rate.
    gain : complex, default 1
        Complex amplitude, in the mixture, of a tone of amplitude 1.
    combs : tuple of Comb, default ()
        Tones that share a frequency.
    weights : str, default ""
        A file that ``tonesieve pretrain`` has written; empty: the package's own weights.
    within_hz : float, optional
        Largest offset of order 1, and of tones in no comb, from its nominal frequency; by default
        3.5% of it.
    """

    saved_name: ClassVar[str] = "Combs"

    combs: tuple[Comb, ...] = ()
    weights: str = ""
    within_hz: float | None = None

    @property
    def digest(self) -> str:
        """A hash of the weights."""
        return PretrainedExtractor((1.0,), 100.0, weights=self.weights).digest

    @cached_property
    def _filters(self) -> list[CombFilter]:
        return [
            CombFilter(
                comb, self.rate_hz, self.gain, self.weights,
                RANGE_RATIO * comb.hz if self.within_hz is None else self.within_hz,
            )
            for comb in self.combs
        ]  # fmt: skip

    @cached_property
    def _other_tones(self) -> list[int]:
        in_combs = {k for comb in self.combs for k in comb.tones}
        return [k for k in range(self.n_tones) if k not in in_combs]

    @cached_property
    def _others(self) -> PretrainedExtractor | None:
        if not self._other_tones:
            return None
        frequencies_hz = tuple(self.frequencies_hz[k] for k in self._other_tones)
        return PretrainedExtractor(
            frequencies_hz, self.rate_hz, self.gain, weights=self.weights, within_hz=self.within_hz
        )

    def initial_state(self, n_streams: int) -> tuple[Any, ...]:
        """Return the state before the first sample."""
        others = () if self._others is None else self._others.initial_state(n_streams)
        return (*(one.initial_state(n_streams) for one in self._filters), others)

    def step(
        self, samples: Float[np.ndarray, "B T"], state: tuple[Any, ...]
    ) -> tuple[Float[np.ndarray, "B T K"], tuple[Any, ...]]:
        """Estimate the tones in a chunk of any length."""
        estimate, state = self.step_detailed(samples, state)
        return estimate.tones, state

    def step_detailed(
        self, samples: Float[np.ndarray, "B T"], state: tuple[Any, ...]
    ) -> tuple[ToneEstimate, tuple[Any, ...]]:
        """Estimate tones, amplitudes, phases, frequencies and bands in a chunk of any length."""
        phasors, band, offset_hz = empty_outputs((*samples.shape, self.n_tones))
        *comb_states, others = state
        # Later combs and tones are estimated in what the earlier ones leave over.
        left, start = samples, comb_states[0].n_samples
        after: list[Any] = []
        for one, before in zip(self._filters, comb_states, strict=True):
            tones = list(one.comb.tones)
            outputs, new = one.process(left, before)
            for array, values in zip((phasors, band, offset_hz), outputs, strict=True):
                array[..., tones] = values
            after.append(new)
            if one is not self._filters[-1] or self._others is not None:
                parts = tones_of(self.gain * outputs.phasors, start, self._freq_cycles[tones])
                left = left - parts.sum(axis=2)
        if self._others is not None:
            tones = self._other_tones
            estimate, offset_hz[..., tones], others = self._others.process(left, others)
            phasors[..., tones], band[..., tones] = estimate
        estimates = tones_of(phasors, start, self._freq_cycles)
        hz = offset_hz + np.array(self.frequencies_hz)
        made_of = ToneEstimate(estimates, np.abs(phasors), np.angle(phasors), hz, band)
        return made_of, (*after, others)

    @cached_property
    def _freq_cycles(self) -> Float[np.ndarray, " K"]:
        """Cycles a sample."""
        return np.array(self.frequencies_hz) / self.rate_hz
