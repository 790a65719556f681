"""Feed a chunk, get a chunk: any causal extractor on a live signal, gaps and restarts and all.

What the extractor was made for and what the signal is like meet here: its offset, its scale, its
gaps. Axes: C channels (streams), T samples, K tones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tonesieve.errors import UserError
from tonesieve.extractors.gap_filling import GapFiller
from tonesieve.extractors.protocol import (
    CausalExtractor,
    DetailedExtractor,
    Extractor,
    ToneEstimate,
)
from tonesieve.extractors.source import Source
from tonesieve.signals.signal_model import input_rms
from tonesieve.util.files import replacing

FORMAT = "tonesieve-stream"
# Numbers beyond this, or below its inverse, are scaled before they are squared.
EXTREME = 1e100


class Stream:
    """One live signal of C channels: `feed` it, save its state, go on from there.

    Samples that are not finite are gaps: they are answered by what the extractor foretells.

    Example:
        stream = Stream(source)
        tones = stream.process(np.array([[0.1, 0.2, np.nan]]))  # (C, T, K), as long as what went in
    """

    def __init__(self, source: Source, n_channels: int = 1) -> None:
        extractor = source.extractor
        if not extractor.causal:
            raise UserError(f"{source.name}: needs the future and cannot stream; choose another")
        if getattr(extractor, "ahead_s", None) is not None:
            raise UserError(f"{source.name}: a stream has no future to look ahead to; drop ahead_s")
        assert isinstance(extractor, CausalExtractor)
        self.source, self.n_channels, self._extractor = source, n_channels, extractor
        self._bridge = GapFiller(source.frequencies_hz, source.data.rate_hz)
        self.state: dict[str, Any] = {
            "extractor": extractor.initial_state(n_channels),
            "bridge": None if source.handles_nan else self._bridge.initial_state(n_channels),
            "shape": _initial_shape(n_channels),
            "n_samples": 0,
        }

    @property
    def n_samples(self) -> int:
        """Samples answered so far."""
        return int(self.state["n_samples"])

    def process(self, samples: Float[np.ndarray, "C T"]) -> Float[np.ndarray, "C T K"]:
        """The tones at every sample of a chunk of any length, in the signal's own unit.

        Raises `UserError` for anything but C rows of numbers.
        """
        mixture, scale, renewed = self._heard(samples)
        tones, extractor = self._extractor.step(mixture, self.state["extractor"])
        self.state = {**renewed, "extractor": extractor}
        return tones * (scale * self.source.gain)[..., None]

    def process_detailed(self, samples: Float[np.ndarray, "C T"]) -> ToneEstimate:
        """`feed`, with all that the extractor tells beside the tones, in the signal's own unit.

        Raises `UserError` for an extractor that tells no more than the tones.
        """
        if not self.is_detailed:
            raise UserError(f"{self.source.name}: tells no more than the tone in a stream")
        assert isinstance(self._extractor, DetailedExtractor)
        mixture, scale, renewed = self._heard(samples)
        told, extractor = self._extractor.step_detailed(mixture, self.state["extractor"])
        self.state = {**renewed, "extractor": extractor}
        unit = (scale * self.source.gain)[..., None]
        return told._replace(
            tones=told.tones * unit, amplitude=told.amplitude * unit, band=told.band * unit
        )

    @property
    def is_detailed(self) -> bool:
        """Whether the extractor knows how sure it is."""
        return isinstance(self._extractor, DetailedExtractor)

    def _heard(
        self, samples: Float[np.ndarray, "C T"]
    ) -> tuple[Float[np.ndarray, "C T"], Float[np.ndarray, "_ _"], dict[str, Any]]:
        """What the extractor hears, what one is in the signal's unit, and all else that goes on."""
        state, source = self.state, self.source
        if np.ndim(samples) != 2 or len(samples) != self.n_channels:
            raise UserError(
                f"samples of shape {np.shape(samples)}: must be ({self.n_channels}, any number), "
                "a row a channel"
            )
        heard = np.where(np.isfinite(samples), samples, np.nan)
        bridge = None
        if source.unit is not None:  # it has learned of signals without their mean, in this unit
            centred, rms, shape = running_standardise(heard, state["shape"])
            scale: np.ndarray = np.full((1, 1), source.unit)
            mixture = centred * rms / source.unit
        elif source.linear:
            level, shape = _first_good(heard, state["shape"])
            mixture, scale, shape = _scaled(heard - level, shape)
        else:
            centred, rms, shape = running_standardise(heard, state["shape"])
            mixture = centred * input_rms(source.data)
            scale = rms / input_rms(source.data)
        if not source.handles_nan:
            mixture, bridge = self._bridge.step(mixture, state["bridge"])
        n_samples = state["n_samples"] + samples.shape[1]
        return mixture, scale, {"bridge": bridge, "shape": shape, "n_samples": n_samples}

    def save(self, path: Path) -> None:
        """Write the state in one piece, so that `restore` goes on to the very same answers."""
        leaves = _leaves(self.state)
        arrays = {f"{i:04d}": _real(leaf) for i, leaf in enumerate(leaves)}
        with replacing(path) as file:
            file.write(save(arrays, metadata={FORMAT: self._about()}))

    def restore(self, path: Path) -> None:
        """Go on from a saved state; raises `UserError` for that of another stream."""
        arrays, about = _read(path)
        if about != self._about():
            raise UserError(
                f"{path}: the state of another stream ({about}), not of {self._about()}; name "
                "another file, or remove this one"
            )
        leaves = [_real(leaf) for leaf in _leaves(self.state)]
        found = [arrays.get(f"{i:04d}") for i in range(len(leaves))]
        if len(arrays) != len(leaves) or not all(map(_alike, found, leaves)):
            raise UserError(f"{path}: not a whole state of this stream; remove it to begin anew")
        self.state = _rebuilt(self.state, iter(found))

    def _about(self) -> str:
        data = self.source.data
        tones = ", ".join(f"{f:.12g}" for f in data.frequencies_hz)
        return (
            f"{tones} Hz, rate {data.rate_hz:.12g} Hz, {self.n_channels} channels, extractor "
            f"{fingerprint(self._extractor)}"
        )


def fingerprint(extractor: Extractor) -> str:
    """The same for the same extractor, knobs, settings, weights and all, and for no other."""
    config = getattr(extractor, "config", extractor)
    digest = getattr(extractor, "digest", "")
    identity = getattr(extractor, "identity", None) or f"{type(extractor).__name__} {config!r}"
    found = hashlib.sha256(f"{identity}{digest}".encode())
    program, network = getattr(extractor, "program", None), getattr(extractor, "network", None)
    if program is not None:
        found.update(program.weights.tobytes() + program.instructions.tobytes())
    if network is not None:
        for name, tensor in network.state_dict().items():
            found.update(name.encode() + tensor.cpu().numpy().tobytes())
    return found.hexdigest()[:16]


def _alike(found: np.ndarray | None, leaf: np.ndarray) -> bool:
    """Whether an array can stand for another: only what is empty at first may have grown."""
    if found is None or found.dtype != leaf.dtype or found.ndim != leaf.ndim:
        return False
    return all(n == m or m == 0 for n, m in zip(found.shape, leaf.shape, strict=True))


# Of every channel: the first good sample, how many, and sums of their distances from it and the
# squares of these; the distances in units of the largest power of two so far.
ShapeState = dict[str, np.ndarray]


def _initial_shape(n_channels: int) -> ShapeState:
    still = np.zeros((n_channels, 1))
    names = ("scale", "unit", "count", "sum", "squares")
    return {"origin": np.full_like(still, np.nan), **dict.fromkeys(names, still)}


def _first_good(
    samples: Float[np.ndarray, "C T"], state: ShapeState
) -> tuple[Float[np.ndarray, "C 1"], ShapeState]:
    """The first good sample of every channel, which an offset is taken off by."""
    origin = state["origin"].copy()
    for c, row in enumerate(samples):
        good = np.flatnonzero(np.isfinite(row))
        if np.isnan(origin[c, 0]) and good.size:
            origin[c, 0] = row[good[0]]
    return np.nan_to_num(origin), {**state, "origin": origin}


def _scaled(
    away: Float[np.ndarray, "C T"], state: ShapeState
) -> tuple[Float[np.ndarray, "C T"], Float[np.ndarray, "C 1"], ShapeState]:
    """Distances so large, or so small, that their squares are no numbers, over a power of two.

    Told by the first that is not 0, and kept.
    """
    scale = state["scale"].copy()
    for c, row in enumerate(away):
        told = np.flatnonzero(np.isfinite(row) & (row != 0))
        if scale[c, 0] == 0 and told.size:
            first = abs(float(row[told[0]]))
            usual = 1 / EXTREME < first < EXTREME
            scale[c, 0] = 1.0 if usual else 2.0 ** np.floor(np.log2(first))
    known = np.where(scale > 0, scale, 1.0)
    with np.errstate(over="ignore"):
        mixture = away / known
    # What is so much larger than the first is no sample of the same signal: a gap.
    mixture = np.where(np.abs(mixture) < EXTREME, mixture, np.nan)
    return mixture, known, {**state, "scale": scale}


def running_standardise(
    samples: Float[np.ndarray, "C T"], state: ShapeState | None = None
) -> tuple[Float[np.ndarray, "C T"], Float[np.ndarray, "C T"], ShapeState]:
    """Samples without the mean and over the RMS of all so far, that RMS, and the state after.

    Gaps stay gaps. Sample by sample, so that no chunking changes a bit.
    """
    state = _initial_shape(len(samples)) if state is None else state
    level, state = _first_good(samples, state)
    good = np.isfinite(samples)
    away = np.where(good, samples - level, 0.0)
    largest = np.maximum.accumulate(np.concatenate([state["unit"], np.abs(away)], axis=1), axis=1)
    # In units of 1e150 where numbers are so large that their squares are not finite, or so small.
    top = largest[:, -1:]
    unit = np.where(top > 1e140, 1e150, np.where((top < 1e-140) & (top > 0), 1e-150, 1.0))
    before = np.where(
        state["unit"] > 1e140,
        1e150,
        np.where((state["unit"] < 1e-140) & (state["unit"] > 0), 1e-150, 1.0),
    )
    ratio = before / unit
    scaled = away / unit
    count = _running(good.astype(float), state["count"])
    total = _running(scaled, state["sum"] * ratio)
    squares = _running(scaled**2, state["squares"] * ratio * ratio)
    safe = np.maximum(count, 1.0)
    mean = total / safe
    rms = np.sqrt(np.maximum(squares / safe - mean**2, 0.0))
    centred = np.divide(scaled - mean, rms, out=np.zeros_like(scaled), where=rms > 0)
    after = {**state, "unit": top, "count": count[:, -1:], "sum": total[:, -1:],
             "squares": squares[:, -1:]} if samples.shape[1] else state  # fmt: skip
    return np.where(good, centred, np.nan), rms * unit, after


def _running(values: Float[np.ndarray, "C T"], before: Float[np.ndarray, "C 1"]) -> np.ndarray:
    """Sums so far, added one by one as they would be in any other chunk."""
    return np.cumsum(np.concatenate([before, values], axis=1), axis=1)[:, 1:]


def _leaves(tree: Any) -> list[Any]:
    """Arrays and numbers in a nest of tuples, lists and mappings."""
    if tree is None:
        return []
    if isinstance(tree, Mapping):
        return [leaf for key in sorted(tree) for leaf in _leaves(tree[key])]
    if isinstance(tree, tuple | list):
        return [leaf for part in tree for leaf in _leaves(part)]
    return [tree]


def _rebuilt(tree: Any, leaves: Any) -> Any:
    """The same nest with other leaves."""
    if tree is None:
        return None
    if isinstance(tree, Mapping):
        return {key: _rebuilt(tree[key], leaves) for key in sorted(tree)}
    if isinstance(tree, tuple | list):
        parts = [_rebuilt(part, leaves) for part in tree]
        return tree._make(parts) if hasattr(tree, "_make") else type(tree)(parts)
    leaf = next(leaves)
    if isinstance(tree, int | float):
        return type(tree)(leaf)
    if isinstance(tree, np.ndarray):
        return leaf.view(tree.dtype)[..., 0] if np.iscomplexobj(tree) else leaf
    return tree.new_tensor(leaf)  # PyTorch's, of networks that need it


def _real(leaf: Any) -> np.ndarray:
    """An array as the file holds it: complex numbers as pairs."""
    array = leaf.numpy() if hasattr(leaf, "numpy") else np.asarray(leaf)  # PyTorch's, or ours
    array = np.asarray(array, order="C")
    return array[..., None].view(array.real.dtype) if np.iscomplexobj(array) else array


def _read(path: Path) -> tuple[dict[str, np.ndarray], str]:
    try:
        with safe_open(path, framework="numpy") as file:
            about = (file.metadata() or {}).get(FORMAT)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a saved state ({error})") from None
    if about is None:
        raise UserError(f"{path}: not the saved state of a stream")
    return arrays, about
