"""Settings and weights of a finished run, and its extractor without PyTorch where there is one."""

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
    """Check that a folder holds a run.

    Parameters
    ----------
    folder : Path
        The folder.

    Returns
    -------
    Path
        The same.

    Raises
    ------
    UserError
        Where it holds no run.
    """
    if not (folder / CONFIG).is_file():
        raise UserError(f"{folder}: not a run directory (it holds no {CONFIG})")
    return folder


def read_run(folder: str | Path) -> tuple[dict[str, np.ndarray], Config]:
    """Read a run's weights and its present settings.

    Parameters
    ----------
    folder : str or Path
        The run's folder.

    Returns
    -------
    tensors : dict of str to ndarray
        Weights by name.
    config : Config
        The settings.

    Raises
    ------
    UserError
        For a folder without complete weights, and where they were trained under other settings.
    """
    path = run_folder(Path(folder)) / WEIGHTS
    tensors, trained, _ = load_weights(path)
    check_finite(tensors, path)
    config = load_config(Path(folder).resolve())
    if any(getattr(config, section) != getattr(trained, section) for section in TRAINED):
        raise UserError(f"{path}: was trained under other settings than {CONFIG} has now")
    return tensors, config


def load_compiled(folder: str | Path) -> CompiledNetwork | None:
    """Load a run's extractor without PyTorch.

    Parameters
    ----------
    folder : str or Path
        The run's folder.

    Returns
    -------
    CompiledNetwork or None
        The extractor; None where it needs PyTorch.

    Raises
    ------
    UserError
        As `read_run` does, and for weights that do not fit the settings.
    """
    tensors, config = read_run(folder)
    return as_compiled(tensors, config, folder)


def memory_samples(config: Config) -> int:
    """Return how far back a network can have learned to look.

    Parameters
    ----------
    config : Config
        The run's settings.

    Returns
    -------
    int
        Samples.
    """
    return config.n_record if config.stateful else config.model.window


def as_compiled(
    tensors: dict[str, np.ndarray], config: Config, folder: str | Path = ""
) -> CompiledNetwork | None:
    """Compile a network.

    Parameters
    ----------
    tensors : dict of str to ndarray
        Weights by name.
    config : Config
        The settings.
    folder : str or Path, optional
        Where they come from, for the message of an error.

    Returns
    -------
    CompiledNetwork or None
        The extractor; None for a network of windows, and one without instructions.

    Raises
    ------
    UserError
        For weights that do not fit the settings.
    """
    try:
        program = compile_network(tensors, config) if config.stateful else None
    except ValueError as error:
        path = Path(folder) / WEIGHTS
        raise UserError(
            f"{path}: its weights do not fit its settings ({error}); it was changed"
        ) from None
    return None if program is None else CompiledNetwork(program, config)
