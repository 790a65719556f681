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
# Of the pretrained extractor: file in the package, format in its header, version.
PRETRAINED, PRETRAINED_FORMAT, PRETRAINED_VERSION = "pretrained.safetensors", "pretrained", 2


def save_weights(
    path: Path, tensors: Mapping[str, np.ndarray], config: Config, **notes: Any
) -> None:
    """Write a network's weights with its settings, in one piece or not at all.

    Parameters
    ----------
    path : Path
        The file.
    tensors : mapping of str to ndarray
        Weights by name.
    config : Config
        The settings that they belong to.
    **notes : any
        Whatever JSON holds.
    """
    header = {
        "version": VERSION,
        "config": to_yaml(with_relative_background(config)),
        "notes": notes,
    }
    write_tensors(path, tensors, header)


def load_weights(path: Path) -> tuple[dict[str, np.ndarray], Config, dict[str, Any]]:
    """Read what `save_weights` wrote.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    tensors : dict of str to ndarray
        Weights by name.
    config : Config
        The settings.
    notes : dict
        The notes.

    Raises
    ------
    UserError
        For a file that is missing, cut short, not a checkpoint, or of another format version.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; is the run finished?")
    tensors, header = read_tensors(path)
    _check_header(path, header, VERSION, config=str, notes=dict)
    config = with_absolute_background(from_yaml(header["config"], where=str(path)), path.parent)
    return tensors, config, header["notes"]


def save_pretrained(
    path: Path, tensors: Mapping[str, np.ndarray], notes: Mapping[str, Any], *, force: bool = True
) -> None:
    """Write the weights of a pretrained extractor as float32, in one piece or not at all.

    Parameters
    ----------
    path : Path
        The file.
    tensors : mapping of str to ndarray
        Weights by name.
    notes : mapping
        Whatever JSON holds.
    force : bool, optional
        Whether to replace a file that exists.
    """
    narrow = {name: np.asarray(array, dtype=np.float32) for name, array in tensors.items()}
    header = {"format": PRETRAINED_FORMAT, "version": PRETRAINED_VERSION, "notes": dict(notes)}
    write_tensors(path, narrow, header, force=force)


def load_pretrained(
    path: str | Path | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `save_pretrained` wrote.

    Parameters
    ----------
    path : str or Path, optional
        The file; by default the one in the package.

    Returns
    -------
    tensors : dict of str to ndarray
        Weights by name.
    notes : dict
        The notes.

    Raises
    ------
    UserError
        For a file that is missing, damaged, or something else.
    """
    if path is None:
        with as_file(files("tonesieve") / PRETRAINED) as packaged:
            if not packaged.is_file():
                raise UserError(
                    "this tonesieve came without a pretrained extractor; make one with "
                    f"`tonesieve pretrain`, and name the file ({packaged} is missing)"
                )
            return load_pretrained(packaged)
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; `tonesieve pretrain` makes one")
    tensors, header = read_tensors(path)
    if header.get("format") != PRETRAINED_FORMAT:
        raise UserError(f"{path}: not the weights of a pretrained extractor")
    _check_header(path, header, PRETRAINED_VERSION, notes=dict)
    _check_pretrained(tensors, path)
    check_finite(tensors, path)
    return tensors, header["notes"]


def write_tensors(
    path: Path, tensors: Mapping[str, np.ndarray], header: Mapping[str, Any], *, force: bool = True
) -> None:
    """Write named arrays and a header, in one piece or not at all.

    Parameters
    ----------
    path : Path
        The file.
    tensors : mapping of str to ndarray
        Arrays by name.
    header : mapping
        Whatever JSON holds.
    force : bool, optional
        Whether to replace a file that exists.
    """
    # Not ascontiguousarray, which makes a vector of a scalar.
    ordered = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    with replacing(path, force=force) as file:
        # One key, since the order of several would differ from file to file.
        file.write(save(ordered, metadata={FORMAT: json.dumps(header)}))


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `write_tensors` wrote.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    tensors : dict of str to ndarray
        Arrays by name.
    header : dict
        The header.

    Raises
    ------
    UserError
        For a file that it did not write.
    """
    try:
        with safe_open(path, framework="np") as file:
            header = _header(path, file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError) as error:
        raise UserError(f"{path}: cut short, or not a checkpoint of tonesieve ({error})") from None
    return tensors, header


def take_tensor(
    tensors: Mapping[str, np.ndarray], name: str, *shape: int
) -> Float64[np.ndarray, "*shape"]:
    """Copy a tensor in double precision.

    Parameters
    ----------
    tensors : mapping of str to ndarray
        Arrays by name.
    name : str
        Its name.
    *shape : int
        The shape that it must have.

    Returns
    -------
    ndarray of float64
        The copy.

    Raises
    ------
    ValueError
        Where it is missing or of another shape.
    """
    tensor = tensors.get(name)
    if shape == () and tensor is not None and tensor.shape == (1,):
        tensor = tensor[0]  # the first files of this format have vectors of one for scalars
    if tensor is None or tensor.shape != shape:
        found = "missing" if tensor is None else f"of shape {tensor.shape}"
        raise ValueError(f"{name} is {found}, not {shape}")
    return np.array(tensor, dtype=np.float64)


def check_finite(tensors: Mapping[str, np.ndarray], path: Path) -> None:
    """Refuse weights that are not finite, as a training that diverges leaves them.

    Parameters
    ----------
    tensors : mapping of str to ndarray
        Weights by name.
    path : Path
        Their file, for the message.

    Raises
    ------
    UserError
        Where a number is not finite.
    """
    broken = [name for name, array in tensors.items() if not np.isfinite(array).all()]
    if broken:
        raise UserError(f"{path}: {broken[0]} holds numbers that are not finite; train again")


def _header(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The header of a file that `write_tensors` wrote."""
    try:
        header = json.loads(metadata[FORMAT])
        if not isinstance(header, dict):
            raise TypeError
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path}: not a checkpoint of tonesieve") from None
    return header


def _check_header(path: Path, header: Mapping[str, Any], version: int, **kinds: type) -> None:
    if "version" not in header or not all(isinstance(header.get(n), k) for n, k in kinds.items()):
        raise UserError(f"{path}: not a checkpoint of tonesieve")
    if header["version"] != version:
        raise UserError(
            f"{path}: format version {header['version']}; this tonesieve reads {version}"
        )


def _check_pretrained(tensors: Mapping[str, np.ndarray], path: Path) -> None:
    """Check all shapes, since the kernels check none."""
    # Imported here, since a filter runs without Numba.
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
