"""Trained weights and their settings on disk: safetensors with YAML inside, never pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tonesieve.config import Config, from_yaml, placed, portable, to_yaml
from tonesieve.errors import UserError
from tonesieve.files import replacing

FORMAT = "tonesieve"
VERSION = 1


def save_weights(
    path: Path, tensors: Mapping[str, np.ndarray], config: Config, **notes: Any
) -> None:
    """Write named arrays, the settings that they belong to, and notes (JSON) in one piece."""
    # One key, since the order of several would differ from file to file.
    about = {"version": VERSION, "config": to_yaml(portable(config)), "notes": notes}
    # Not ascontiguousarray, which makes a vector of a scalar.
    whole = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    with replacing(path) as file:
        file.write(save(whole, metadata={FORMAT: json.dumps(about)}))


def load_weights(path: Path) -> tuple[dict[str, np.ndarray], Config, dict[str, Any]]:
    """Read what `save_weights` wrote: arrays, settings, notes.

    Raises `UserError` for a file that is missing, cut short, not a checkpoint, or of another
    format version.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; is the run finished?")
    try:
        with safe_open(path, framework="np") as file:
            about = _about(path, file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError) as error:
        raise UserError(f"{path}: cut short, or not a checkpoint of tonesieve ({error})") from None
    config = placed(from_yaml(about["config"], where=str(path)), path.parent)
    return tensors, config, about["notes"]


def fitting(
    tensors: Mapping[str, np.ndarray], name: str, *shape: int
) -> Float64[np.ndarray, "*shape"]:
    """A copy of a tensor; raises ValueError where it is missing or of another shape."""
    tensor = tensors.get(name)
    if shape == () and tensor is not None and tensor.shape == (1,):
        tensor = tensor[0]  # the first files of this format have vectors of one for scalars
    if tensor is None or tensor.shape != shape:
        found = "missing" if tensor is None else f"of shape {tensor.shape}"
        raise ValueError(f"{name} is {found}, not {shape}")
    return np.array(tensor, dtype=np.float64)


def check_finite(tensors: Mapping[str, np.ndarray], path: Path) -> None:
    """Raises `UserError` for weights that a training has driven out of bounds."""
    broken = [name for name, array in tensors.items() if not np.isfinite(array).all()]
    if broken:
        raise UserError(f"{path}: {broken[0]} holds numbers that are not finite; train again")


def _about(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Settings and notes, once the file is known to be one of ours."""
    try:
        about = json.loads(metadata[FORMAT])
        version, text, notes = about["version"], about["config"], about["notes"]
        if not isinstance(text, str) or not isinstance(notes, dict):
            raise TypeError
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path}: not a checkpoint of tonesieve") from None
    if version != VERSION:
        raise UserError(f"{path}: format version {version}; this tonesieve reads {VERSION}")
    return dict(about)


def load_pretrained(path: str | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    from importlib.resources import files

    with safe_open(path or str(files("tonesieve") / "pretrained.safetensors"), framework="np") as f:
        return {name: f.get_tensor(name) for name in f.keys()}, {}  # noqa: SIM118
