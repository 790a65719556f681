"""The state of a training after an epoch, in one file that replaces the one before."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tonesieve.config.config import TRAINED, Config
from tonesieve.errors import UserError
from tonesieve.inference.weights import load_weights, save_weights
from tonesieve.learning.loop.history import Epoch, History
from tonesieve.learning.models.base import Network


@dataclass
class TrainingState:
    """All that changes from epoch to epoch.

    Attributes
    ----------
    network : Network
        The network with its present weights.
    optimizer : Optimizer
        The optimiser with its state.
    best_weights : dict of str to Tensor
        The weights of the lowest validation loss.
    errors : Tensor, shape (2, N)
        Running means by age, as `learning.loop.age_weights` keeps them.
    history : tuple of Epoch
        The epochs so far.
    """

    network: Network
    optimizer: torch.optim.Optimizer
    best_weights: dict[str, Tensor]
    errors: Tensor
    history: History = ()


def save(state: TrainingState, path: Path, config: Config) -> None:
    """Write a checkpoint in one piece.

    Parameters
    ----------
    state : TrainingState
        The training.
    path : Path
        The file, which is replaced.
    config : Config
        The settings, written with it.
    """
    optimizer_state = state.optimizer.state_dict()["state"]
    tensors = {f"network.{name}": t for name, t in state.network.state_dict().items()}
    tensors |= {f"best.{name}": t for name, t in state.best_weights.items()}
    for index, values in optimizer_state.items():
        present = {name: value for name, value in values.items() if value is not None}
        tensors |= {f"optimizer.{index}.{name}": value for name, value in present.items()}
    tensors["errors"] = state.errors
    history = [asdict(epoch) for epoch in state.history]
    save_weights(path, to_arrays(tensors), config, history=history)


def restore(state: TrainingState, path: Path, config: Config) -> None:
    """Read a checkpoint into a training.

    Parameters
    ----------
    state : TrainingState
        The training, which is overwritten.
    path : Path
        What `save` wrote.
    config : Config
        The settings of the training.

    Raises
    ------
    UserError
        For a file that `load_weights` refuses or that is no checkpoint, and when the settings were
        changed in between.
    """
    arrays, saved_config, notes = load_weights(path)
    changed = next((s for s in TRAINED if getattr(config, s) != getattr(saved_config, s)), None)
    if changed is not None:
        raise UserError(f"{path}: was trained under other settings ({changed}); put them back")
    try:
        _set(state, arrays, notes)
    except (RuntimeError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: not a whole checkpoint of a training; remove it") from None


def _set(state: TrainingState, arrays: dict[str, np.ndarray], notes: dict[str, Any]) -> None:
    tensors = {name: torch.from_numpy(array).clone() for name, array in arrays.items()}
    state.network.load_state_dict(_with_prefix("network.", tensors))
    state.best_weights = _with_prefix("best.", tensors)
    state.errors.copy_(tensors["errors"])
    initial: dict[str, Any] = state.optimizer.state_dict()
    by_index: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _with_prefix("optimizer.", tensors).items():
        index, key = name.split(".", 1)
        by_index.setdefault(int(index), {})[key] = tensor
    state.optimizer.load_state_dict({**initial, "state": by_index})
    state.history = tuple(Epoch(**epoch) for epoch in notes["history"])
    if not state.history:
        raise ValueError("no epoch is done")


def to_arrays(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Copy tensors of any device to arrays.

    Parameters
    ----------
    tensors : dict of str to Tensor
        Tensors by name.

    Returns
    -------
    dict of str to ndarray
        The same on the CPU, without gradients.
    """
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}


def _with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
