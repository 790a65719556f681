"""Trained weights and their settings on disk: safetensors with YAML inside, never pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tonesieve.config.config import (
    Config,
    from_yaml,
    to_yaml,
    with_absolute_background,
    with_relative_background,
)
from tonesieve.errors import UserError
from tonesieve.util.files import replacing

FORMAT = "tonesieve"
VERSION = 1
# The pretrained extractor's: where the package has them, what they say they are, their version.
PRETRAINED, PRETRAINED_FORMAT, PRETRAINED_VERSION = "pretrained.safetensors", "pretrained", 1


def save_weights(
    path: Path, tensors: Mapping[str, np.ndarray], config: Config, **notes: Any
) -> None:
    """Write named arrays, the settings that they belong to, and notes (JSON) in one piece."""
    about = {
        "version": VERSION,
        "config": to_yaml(with_relative_background(config)),
        "notes": notes,
    }
    write_tensors(path, tensors, about)


def load_weights(path: Path) -> tuple[dict[str, np.ndarray], Config, dict[str, Any]]:
    """Read what `save_weights` wrote: arrays, settings, notes.

    Raises `UserError` for a file that is missing, cut short, not a checkpoint, or of another
    format version.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; is the run finished?")
    tensors, about = read_tensors(path)
    _check_about(path, about, VERSION, config=str, notes=dict)
    config = with_absolute_background(from_yaml(about["config"], where=str(path)), path.parent)
    return tensors, config, about["notes"]


def save_pretrained(
    path: Path, tensors: Mapping[str, np.ndarray], notes: Mapping[str, Any], *, force: bool = True
) -> None:
    """Write the weights of a pretrained extractor as float32, and notes (JSON), in one piece."""
    narrow = {name: np.asarray(array, dtype=np.float32) for name, array in tensors.items()}
    about = {"format": PRETRAINED_FORMAT, "version": PRETRAINED_VERSION, "notes": dict(notes)}
    write_tensors(path, narrow, about, force=force)


def load_pretrained(
    path: str | Path | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `save_pretrained` wrote, by default what comes with the package: arrays, notes.

    Raises `UserError` for a file that is missing, damaged, or something else.
    """
    if path is None:
        with as_file(files("tonesieve") / PRETRAINED) as place:
            if not place.is_file():
                raise UserError(
                    "this tonesieve came without a pretrained extractor; make one with "
                    f"`tonesieve pretrain`, and name the file ({place} is missing)"
                )
            return load_pretrained(place)
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; `tonesieve pretrain` makes one")
    tensors, about = read_tensors(path)
    if about.get("format") != PRETRAINED_FORMAT:
        raise UserError(f"{path}: not the weights of a pretrained extractor")
    _check_about(path, about, PRETRAINED_VERSION, notes=dict)
    _check_pretrained(tensors, path)
    check_finite(tensors, path)
    return tensors, about["notes"]


def write_tensors(
    path: Path, tensors: Mapping[str, np.ndarray], about: Mapping[str, Any], *, force: bool = True
) -> None:
    """Write named arrays, and what is to be said about them (JSON), in one piece."""
    # Not ascontiguousarray, which makes a vector of a scalar.
    whole = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    with replacing(path, force=force) as file:
        # One key, since the order of several would differ from file to file.
        file.write(save(whole, metadata={FORMAT: json.dumps(about)}))


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `write_tensors` wrote; raises `UserError` for what it did not write."""
    try:
        with safe_open(path, framework="np") as file:
            about = _about(path, file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError) as error:
        raise UserError(f"{path}: cut short, or not a checkpoint of tonesieve ({error})") from None
    return tensors, about


def take_tensor(
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
    """What is said about the arrays, once the file is known to be one of ours."""
    try:
        about = json.loads(metadata[FORMAT])
        if not isinstance(about, dict):
            raise TypeError
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path}: not a checkpoint of tonesieve") from None
    return about


def _check_about(path: Path, about: Mapping[str, Any], version: int, **kinds: type) -> None:
    if "version" not in about or not all(isinstance(about.get(n), k) for n, k in kinds.items()):
        raise UserError(f"{path}: not a checkpoint of tonesieve")
    if about["version"] != version:
        raise UserError(
            f"{path}: format version {about['version']}; this tonesieve reads {version}"
        )


def _check_pretrained(tensors: Mapping[str, np.ndarray], path: Path) -> None:
    """The kernels read as many numbers as they expect, whatever there is."""
    # Here, since a filter is extracted without Numba's compiler being loaded.
    from tonesieve.kernels.kalman_bank.features import n_features
    from tonesieve.kernels.kalman_bank.gating import N_CROSS
    from tonesieve.kernels.simd import WIDTH as m

    found = {name: array.shape for name, array in tensors.items()}
    h, i = (found.get(name, (0,))[-1] for name in ("gru.weight_hh_l0", "mix.bias"))
    expected = {
        "gru.weight_ih_l0": (3 * h, n_features()), "gru.bias_ih_l0": (3 * h,),
        "gru.weight_hh_l0": (3 * h, h), "gru.bias_hh_l0": (3 * h,),
        "head.weight": (m + 2, h), "head.bias": (m + 2,),
        "mix.weight": (i, 2 * h + 2 * (m + 1) + N_CROSS), "mix.bias": (i,),
        "two.weight": (2 * m + 2, i), "two.bias": (2 * m + 2,),
    }  # fmt: skip
    if found != expected:
        names = sorted(found.keys() ^ expected.keys())
        wrong = names or [name for name in expected if found[name] != expected[name]]
        raise UserError(f"{path}: {wrong[0]} is not as in a pretrained extractor's weights")
