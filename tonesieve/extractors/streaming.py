"""A block in, a block out: any causal extractor on a live signal, with gaps and restarts.

Axes: C channels (streams), T samples, K tones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tonesieve.errors import UserError
from tonesieve.extractors.input_scaling import InputScaling, InputState, ScalingState
from tonesieve.extractors.protocol import (
    CausalExtractor,
    DetailedExtractor,
    Extractor,
    ToneEstimate,
)
from tonesieve.extractors.source import Source
from tonesieve.util.files import replacing

FORMAT = "tonesieve-stream"
EXTRACTOR = ", extractor "  # in the description of a stream, before the hash
# Networks by the names that they had when the format was made; filters have an `identity`.
_NAMES_IN_FINGERPRINTS = {"WindowLast": "LastOfWindow", "WindowMean": "MeanOfWindows"}
Estimate = TypeVar("Estimate")


class StreamState(NamedTuple):
    """All that goes from block to block, in the order in which saved streams hold it.

    Parameters
    ----------
    gap_filler : KalmanState or None
        None where the extractor handles NaN itself.
    extractor : State
        The extractor's own.
    n_samples : int
        Samples processed so far.
    scaling : ScalingState or None
        None where the scale is fixed.
    """

    gap_filler: Any
    extractor: Any
    n_samples: int
    scaling: ScalingState | None


class Stream:
    """One live signal of C channels: process blocks of it, save its state, restore it.

    Samples that are not finite are gaps. Through them the extractor predicts its tones.

    Parameters
    ----------
    source : Source
        A causal extractor, and the signals that it was made for.
    n_channels : int, default=1
        Channels, each a stream of its own.
    scaling : InputScaling, optional
        How samples become the extractor's input; by default by what came so far.

    Raises
    ------
    UserError
        If the extractor needs future samples.

    Examples
    --------
    >>> from tonesieve.extractors.source import make_source
    >>> stream = Stream(make_source("tracker", [50.0])(1000.0, "my sensor"))
    >>> stream.process(np.array([[0.1, 0.2, np.nan]])).shape
    (1, 3, 1)
    """

    def __init__(
        self, source: Source, n_channels: int = 1, *, scaling: InputScaling | None = None
    ) -> None:
        extractor = source.extractor
        if not extractor.causal:
            raise UserError(f"{source.name}: needs the future and cannot stream; choose another")
        if source.smoother is not None and source.smoother.ahead_s is not None:
            raise UserError(f"{source.name}: a stream has no future to look ahead to; drop ahead_s")
        assert isinstance(extractor, CausalExtractor)
        self.source, self.n_channels, self._extractor = source, n_channels, extractor
        self._scaling = scaling or InputScaling(source, source.data.rate_hz)
        gap_filler, running = self._scaling.initial_state(n_channels)
        self.state = StreamState(gap_filler, extractor.initial_state(n_channels), 0, running)

    @property
    def n_samples(self) -> int:
        """Samples processed so far."""
        return int(self.state.n_samples)

    def process(self, samples: Float[np.ndarray, "C T"]) -> Float[np.ndarray, "C T K"]:
        """Estimate the tones at every sample of a block.

        Parameters
        ----------
        samples : ndarray, shape (C, T)
            The next samples of every channel, any number of them.

        Returns
        -------
        ndarray, shape (C, T, K)
            The tones, in the signal's own unit.

        Raises
        ------
        UserError
            If there are not C rows.
        """
        tones, scale = self.process_unscaled(samples)
        return tones * scale

    def process_unscaled(
        self, samples: Float[np.ndarray, "C T"]
    ) -> tuple[Float[np.ndarray, "C T K"], Float[np.ndarray, "_ _ 1"]]:
        """Estimate the tones in the extractor's own unit.

        Parameters
        ----------
        samples : ndarray, shape (C, T)
            The next samples of every channel, any number of them.

        Returns
        -------
        tones : ndarray, shape (C, T, K)
            The extractor's output.
        scale : ndarray, shape (C, T, 1) or with 1 in place of C or T
            What an output of 1 is in the signal's unit.
        """
        return self._advance(samples, self._extractor.step)

    def process_detailed(self, samples: Float[np.ndarray, "C T"]) -> ToneEstimate:
        """Estimate the tones and their amplitude, phase, frequency and 90% band.

        Parameters
        ----------
        samples : ndarray, shape (C, T)
            The next samples of every channel, any number of them.

        Returns
        -------
        ToneEstimate
            In the signal's own unit.

        Raises
        ------
        UserError
            If the extractor estimates tones alone, or there are not C rows.
        """
        if not self.is_detailed:
            raise UserError(f"{self.source.name}: estimates the tone alone in a stream")
        assert isinstance(self._extractor, DetailedExtractor)
        estimate, scale = self._advance(samples, self._extractor.step_detailed)
        return estimate._replace(
            tones=estimate.tones * scale,
            amplitude=estimate.amplitude * scale,
            band=estimate.band * scale,
        )

    @property
    def is_detailed(self) -> bool:
        """Whether the extractor estimates more than the tones."""
        return isinstance(self._extractor, DetailedExtractor)

    def _advance(
        self,
        samples: Float[np.ndarray, "C T"],
        step: Callable[[Float[np.ndarray, "C T"], Any], tuple[Estimate, Any]],
    ) -> tuple[Estimate, Float[np.ndarray, "_ _ 1"]]:
        """The extractor's output, what one of it is in the signal's unit; and the next state."""
        if np.ndim(samples) != 2 or len(samples) != self.n_channels:
            raise UserError(
                f"samples of shape {np.shape(samples)}: must be ({self.n_channels}, any number), "
                "a row a channel"
            )
        gap_filler, extractor, n_samples, running = self.state
        mixture, scale, inputs = self._scaling.step(
            np.where(np.isfinite(samples), samples, np.nan), InputState(gap_filler, running)
        )
        estimate, extractor = step(mixture, extractor)
        n_samples += samples.shape[1]
        self.state = StreamState(inputs.gap_filler, extractor, n_samples, inputs.running)
        return estimate, scale[..., None]

    def save(self, path: Path) -> None:
        """Write the state, so that `restore` continues to the very same estimates.

        Parameters
        ----------
        path : Path
            File to write; it is replaced in one piece.
        """
        arrays = {f"{i:04d}": _as_real(leaf) for i, leaf in enumerate(_leaves(self.state))}
        with replacing(path) as file:
            file.write(save(arrays, metadata={FORMAT: self._description()}))

    def restore(self, path: Path) -> None:
        """Continue from a saved state.

        Parameters
        ----------
        path : Path
            File that `save` has written.

        Raises
        ------
        UserError
            If it is no saved state, or that of another stream.
        """
        arrays, description = _read(path)
        if description != self._description():
            what, own = description.partition(EXTRACTOR), self._description().partition(EXTRACTOR)
            why = (
                "by another extractor, other parameters or weights, or another version of "
                f"{self.source.name}"
                if what[0] == own[0]
                else f"{description}, not of {self._description()}"
            )
            raise UserError(
                f"{path}: the state of another stream ({why}); name another file, or remove this "
                "one"
            )
        leaves = [_as_real(leaf) for leaf in _leaves(self.state)]
        saved = [arrays.get(f"{i:04d}") for i in range(len(leaves))]
        if len(arrays) != len(leaves) or not all(map(_can_replace, saved, leaves)):
            raise UserError(f"{path}: not a whole state of this stream; remove it to begin anew")
        self.state = _with_leaves(self.state, iter(saved))

    def _description(self) -> str:
        data = self.source.data
        tones = ", ".join(f"{f:.12g}" for f in data.frequencies_hz)
        return (
            f"{tones} Hz, rate {data.rate_hz:.12g} Hz, {self.n_channels} channels{EXTRACTOR}"
            f"{fingerprint(self._extractor)}"
        )


def fingerprint(extractor: Extractor) -> str:
    """Hash an extractor's class, parameters, settings and weights.

    Parameters
    ----------
    extractor : Extractor
        Any extractor.

    Returns
    -------
    str
        The same for the same extractor, and for no other; it does not change between versions.
    """
    name = type(extractor).__name__
    name = _NAMES_IN_FINGERPRINTS.get(name, name)
    identity = getattr(extractor, "identity", None)
    if identity is None:
        identity = f"{name} {getattr(extractor, 'config', extractor)!r}"
    hashed = hashlib.sha256(f"{identity}{getattr(extractor, 'digest', '')}".encode())
    program, network = getattr(extractor, "program", None), getattr(extractor, "network", None)
    if program is not None:
        hashed.update(program.weights.tobytes() + program.instructions.tobytes())
    if network is not None:
        for key, tensor in network.state_dict().items():
            hashed.update(key.encode() + tensor.cpu().numpy().tobytes())
    return hashed.hexdigest()[:16]


def _can_replace(saved: np.ndarray | None, leaf: np.ndarray) -> bool:
    """Whether a saved array fits in another's place: only what is empty at first may have grown."""
    if saved is None or saved.dtype != leaf.dtype or saved.ndim != leaf.ndim:
        return False
    return all(n == m or m == 0 for n, m in zip(saved.shape, leaf.shape, strict=True))


def _leaves(tree: Any) -> list[Any]:
    """Arrays and numbers in nested tuples, lists and mappings."""
    if tree is None:
        return []
    if isinstance(tree, Mapping):
        return [leaf for key in sorted(tree) for leaf in _leaves(tree[key])]
    if isinstance(tree, tuple | list):
        return [leaf for part in tree for leaf in _leaves(part)]
    return [tree]


def _with_leaves(tree: Any, leaves: Any) -> Any:
    """The same nesting with other leaves."""
    if tree is None:
        return None
    if isinstance(tree, Mapping):
        return {key: _with_leaves(tree[key], leaves) for key in sorted(tree)}
    if isinstance(tree, tuple | list):
        parts = [_with_leaves(part, leaves) for part in tree]
        return tree._make(parts) if hasattr(tree, "_make") else type(tree)(parts)
    leaf = next(leaves)
    if isinstance(tree, int | float):
        return type(tree)(leaf)
    if isinstance(tree, np.ndarray):
        return leaf.view(tree.dtype)[..., 0] if np.iscomplexobj(tree) else leaf
    return tree.new_tensor(leaf)  # PyTorch's, of networks that need it


def _as_real(leaf: Any) -> np.ndarray:
    """An array as the file holds it: complex numbers as pairs."""
    array = leaf.numpy() if hasattr(leaf, "numpy") else np.asarray(leaf)  # PyTorch's, or ours
    array = np.asarray(array, order="C")
    return array[..., None].view(array.real.dtype) if np.iscomplexobj(array) else array


def _read(path: Path) -> tuple[dict[str, np.ndarray], str]:
    try:
        with safe_open(path, framework="numpy") as file:
            description = (file.metadata() or {}).get(FORMAT)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a saved state ({error})") from None
    if description is None:
        raise UserError(f"{path}: not the saved state of a stream")
    return arrays, description
