"""The one idea: whatever turns a mixture into tones is an extractor.

Every causal extractor is the same thing, ``(samples, state) -> (estimate, state)`` with an
``initial_state``. Extractors that need the future say so, and only the offline path takes them.
Axes: B streams, T samples, K components.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, TypeGuard, runtime_checkable

import numpy as np
from jaxtyping import Float

State = Any


@runtime_checkable
class Extractor(Protocol):
    """Takes tones out of whole records. NaN samples are gaps; the estimate is always finite."""

    @property
    def frequencies_hz(self) -> tuple[float, ...]:
        """The tones, in the order of the estimate's last axis."""
        ...

    @property
    def rate_hz(self) -> float:
        """The sampling rate that it works at."""
        ...

    @property
    def causal(self) -> bool:
        """Whether it needs no sample later than the one that it answers."""
        ...

    @property
    def delay(self) -> int | None:
        """Samples by which the estimate lags behind a change of the tone; None: it grows.

        0 where none is built in: what has been learned, or computed, finds its own.
        """
        ...

    def extract(self, mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T K"]:
        """Estimate of every tone at every sample, each stream from its start."""
        ...


@runtime_checkable
class CausalExtractor(Extractor, Protocol):
    """An extractor that needs no sample later than the one it answers."""

    def initial_state(self, n_streams: int) -> State:
        """State of ``n_streams`` streams that have seen nothing."""
        ...

    def step(
        self, samples: Float[np.ndarray, "B T"], state: State
    ) -> tuple[Float[np.ndarray, "B T K"], State]:
        """Answer a chunk of any length; chunks in turn equal one pass."""
        ...


class ToneEstimate(NamedTuple):
    """What is told of tones beside themselves, all at every sample."""

    tones: Float[np.ndarray, "B T K"]
    amplitude: Float[np.ndarray, "B T K"]
    phase: Float[np.ndarray, "B T K"]  # rad, against sin(2 pi hz t)
    hz: Float[np.ndarray, "B T K"]  # the frequency that is followed
    band: Float[np.ndarray, "B T K"]  # half of the width that holds the tone in 9 cases of 10


@runtime_checkable
class DetailedExtractor(CausalExtractor, Protocol):
    """A causal extractor that knows how sure it is."""

    def step_detailed(
        self, samples: Float[np.ndarray, "B T"], state: State
    ) -> tuple[ToneEstimate, State]:
        """Answer a chunk of any length, with all that is told of the tones."""
        ...


def is_causal(extractor: Extractor) -> TypeGuard[CausalExtractor]:
    """Whether the extractor can stream."""
    return extractor.causal


class ToneBlock(NamedTuple):
    """Tones of a stretch of a recording.

    Parameters
    ----------
    start : int
        Number of the first sample.
    tones : ndarray, shape (B, T, K)
        The tones.
    band : ndarray, shape (B, T, K), or None
        Half-widths of their 90% bands, where the extractor gives them.
    """

    start: int
    tones: Float[np.ndarray, "B T K"]
    band: Float[np.ndarray, "B T K"] | None


@runtime_checkable
class BlockSmoother(Protocol):
    """An extractor's own way through a recording, which joins past and future block by block."""

    @property
    def ahead_s(self) -> float | None:
        """Seconds of the future that an estimate rests on at least; None: the whole recording."""
        ...

    def run_blocks(
        self,
        read: Callable[[int, int], Float[np.ndarray, "B T"]],
        n_samples: int,
        n_streams: int,
        *,
        on_samples: Callable[[int], None],
    ) -> Iterator[ToneBlock]:
        """Estimate the tones of a recording.

        Parameters
        ----------
        read : callable
            Takes the first sample and the one after the last, in any order, and returns the
            samples between them, shape (B, T).
        n_samples : int
            Length of the recording.
        n_streams : int
            Number of streams, B.
        on_samples : callable
            Called with the number of samples done, of ``2 * n_samples``.

        Yields
        ------
        ToneBlock
            Blocks in turn.
        """
        ...
