"""A finished run's settings and weights; and its extractor without PyTorch, where there is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tonesieve.config.config import TRAINED, Config
from tonesieve.config.presets import load_config
from tonesieve.errors import UserError
from tonesieve.inference.compiled_network import CompiledNetwork
from tonesieve.inference.compiler import compile_network
from tonesieve.inference.weights import check_finite, load_weights

CONFIG, WEIGHTS = "config.yaml", "weights.safetensors"


def run_folder(folder: Path) -> Path:
    """The folder itself; raises `UserError` where it holds no run."""
    if not (folder / CONFIG).is_file():
        raise UserError(f"{folder}: not a run directory (it holds no {CONFIG})")
    return folder


def read_run(folder: str | Path) -> tuple[dict[str, np.ndarray], Config]:
    """Weights by name, and the settings as they stand now.

    Raises `UserError` for a folder without whole weights, and where they were trained under other
    settings.
    """
    path = run_folder(Path(folder)) / WEIGHTS
    tensors, trained, _ = load_weights(path)
    check_finite(tensors, path)
    config = load_config(Path(folder).resolve())
    if any(getattr(config, section) != getattr(trained, section) for section in TRAINED):
        raise UserError(f"{path}: was trained under other settings than {CONFIG} has now")
    return tensors, config


def load_compiled(folder: str | Path) -> CompiledNetwork | None:
    """A run's extractor as the compiled core has it; None where it needs PyTorch.

    Raises `UserError` as `read_run` does.
    """
    tensors, config = read_run(folder)
    return as_compiled(tensors, config, folder)


def memory_of(config: Config) -> int:
    """How far back, in samples, a network can have learned to look."""
    return config.n_record if config.stateful else config.model.window


def as_compiled(
    tensors: dict[str, np.ndarray], config: Config, folder: str | Path = ""
) -> CompiledNetwork | None:
    """A network as the compiled core has it; None for windows, and what it does not know.

    Raises `UserError` for weights that do not fit the settings.
    """
    try:
        packed = compile_network(tensors, config) if config.stateful else None
    except ValueError as error:
        path = Path(folder) / WEIGHTS
        raise UserError(
            f"{path}: its weights do not fit its settings ({error}); it was changed"
        ) from None
    return None if packed is None else CompiledNetwork(packed, config)
