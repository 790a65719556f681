"""The one idea: whatever turns a mixture into tones is an extractor.

Every causal extractor is the same thing, ``(samples, state) -> (estimate, state)`` with an
``initial_state``. Extractors that need the future say so, and only the offline path takes them.
Axes: B streams, T samples, K components.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeGuard, runtime_checkable

import numpy as np
from jaxtyping import Float

from tonesieve.signals.line_course import LineCourse

State = Any


@runtime_checkable
class Extractor(Protocol):
    """Estimates tones from complete records.

    NaN samples are gaps; the estimate is always finite.
    """

    @property
    def frequencies_hz(self) -> tuple[float, ...]:
        """Nominal frequencies of the K tones, in the order of the estimate's last axis."""
        ...

    @property
    def rate_hz(self) -> float:
        """Sampling rate that the extractor works at."""
        ...

    @property
    def causal(self) -> bool:
        """Whether an estimate rests on no later sample than its own."""
        ...

    @property
    def delay(self) -> int | None:
        """Samples by which the estimate lags behind a change of the tone; None: it grows.

        0 where no delay is built in. What is learned or computed has a delay of its own.
        """
        ...

    def extract(self, mixture: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T K"]:
        """Estimate every tone at every sample, each stream from its start.

        Parameters
        ----------
        mixture : ndarray, shape (B, T)
            Samples; NaN in gaps.

        Returns
        -------
        ndarray, shape (B, T, K)
            The tones, finite everywhere.
        """
        ...


@runtime_checkable
class CausalExtractor(Extractor, Protocol):
    """An extractor whose estimate rests on no later sample than its own."""

    def initial_state(self, n_streams: int) -> State:
        """Return the state before the first sample.

        Parameters
        ----------
        n_streams : int
            Number of streams, B.

        Returns
        -------
        State
            Anything that `step` takes; nested tuples, lists and mappings of arrays.
        """
        ...

    def step(
        self, samples: Float[np.ndarray, "B T"], state: State
    ) -> tuple[Float[np.ndarray, "B T K"], State]:
        """Process a block of any length; consecutive blocks equal one pass.

        Parameters
        ----------
        samples : ndarray, shape (B, T)
            The next samples of every stream; NaN in gaps.
        state : State
            What the block before returned, or `initial_state`.

        Returns
        -------
        estimate : ndarray, shape (B, T, K)
            The tones at these samples.
        state : State
            For the next block. The state that was passed in is left as it is.
        """
        ...


class ToneEstimate(NamedTuple):
    """Tones and their parameters, all at every sample.

    Parameters
    ----------
    tones : ndarray, shape (B, T, K)
        The tones themselves.
    amplitude : ndarray, shape (B, T, K)
        Instantaneous amplitude.
    phase : ndarray, shape (B, T, K)
        Instantaneous phase against sin(2 pi hz t), rad.
    hz : ndarray, shape (B, T, K)
        The frequency that is tracked.
    band : ndarray, shape (B, T, K)
        Half width of the interval that holds the tone in 9 cases of 10.
    """

    tones: Float[np.ndarray, "B T K"]
    amplitude: Float[np.ndarray, "B T K"]
    phase: Float[np.ndarray, "B T K"]
    hz: Float[np.ndarray, "B T K"]
    band: Float[np.ndarray, "B T K"]


@runtime_checkable
class DetailedExtractor(CausalExtractor, Protocol):
    """A causal extractor that estimates amplitude, phase, frequency and uncertainty, too."""

    def step_detailed(
        self, samples: Float[np.ndarray, "B T"], state: State
    ) -> tuple[ToneEstimate, State]:
        """Process a block of any length and return the tones with their parameters.

        Parameters
        ----------
        samples : ndarray, shape (B, T)
            The next samples of every stream; NaN in gaps.
        state : State
            As of `CausalExtractor.step`.

        Returns
        -------
        estimate : ToneEstimate
            Tones, amplitudes, phases, frequencies and bands at these samples.
        state : State
            For the next block.
        """
        ...


def is_causal(extractor: Extractor) -> TypeGuard[CausalExtractor]:
    """Whether an extractor can stream.

    Parameters
    ----------
    extractor : Extractor
        Any extractor.

    Returns
    -------
    bool
        True for a `CausalExtractor`.
    """
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


class SharedChannels(NamedTuple):
    """Channels that share the course of a tone.

    Parameters
    ----------
    channels : tuple of int
        Indices of the channels.
    is_certain : bool
        Whether that is stated by a user; otherwise a test says so.
    """

    channels: tuple[int, ...]
    is_certain: bool


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
        courses: Sequence[Sequence[LineCourse]] | None,
        shared: Sequence[SharedChannels | None],
        interferers_hz: Sequence[float],
        has_gaps: bool,
        scratch: Path,
        on_samples: Callable[[int], None],
        on_pattern: Callable[[int, float], None],
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
        courses : sequence of sequence of LineCourse, or None
            Of each stream the course of each tone's line, then that of each stronger line beside
            the tones; None: at their nominal frequencies.
        shared : sequence of SharedChannels or None
            Of each tone the streams that share its course; None, or left out, where none do.
        interferers_hz : sequence of float
            Frequencies of stronger lines beside the tones.
        has_gaps : bool
            Whether samples are missing anywhere.
        scratch : Path
            Folder for what does not fit into memory.
        on_samples : callable
            Called with the number of samples done, of ``2 * n_samples``.
        on_pattern : callable
            Called with the index of each tone that streams have in common, and the share of its
            power over noise that one pattern explains.

        Yields
        ------
        ToneBlock
            Blocks in turn.
        """
        ...
