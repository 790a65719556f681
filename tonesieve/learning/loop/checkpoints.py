"""A training's state after an epoch, in one file that replaces the one before."""

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
    """All that changes from epoch to epoch."""

    network: Network
    optimizer: torch.optim.Optimizer
    best_weights: dict[str, Tensor]
    errors: Tensor  # running means by age, of `learning.loop.age_weights`
    history: History = ()


def save(progress: TrainingState, path: Path, config: Config) -> None:
    """Write weights, best weights, the optimizer's state and the history in one piece."""
    stored = progress.optimizer.state_dict()
    tensors = {f"network.{name}": t for name, t in progress.network.state_dict().items()}
    tensors |= {f"best.{name}": t for name, t in progress.best_weights.items()}
    for index, state in stored["state"].items():
        kept = {name: value for name, value in state.items() if value is not None}
        tensors |= {f"optimizer.{index}.{name}": value for name, value in kept.items()}
    tensors["errors"] = progress.errors
    history = [asdict(epoch) for epoch in progress.history]
    save_weights(path, to_arrays(tensors), config, history=history)


def restore(progress: TrainingState, path: Path, config: Config) -> None:
    """Set ``progress`` to what `save` wrote.

    Raises `UserError` as `load_weights` does, for weights that are no checkpoint of a training,
    and when the settings were changed in between: the rest would not fit what is done.
    """
    arrays, before, notes = load_weights(path)
    changed = next((s for s in TRAINED if getattr(config, s) != getattr(before, s)), None)
    if changed is not None:
        raise UserError(f"{path}: was trained under other settings ({changed}); put them back")
    try:
        _set(progress, arrays, notes)
    except (RuntimeError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: not a whole checkpoint of a training; remove it") from None


def _set(progress: TrainingState, arrays: dict[str, np.ndarray], notes: dict[str, Any]) -> None:
    tensors = {name: torch.from_numpy(array).clone() for name, array in arrays.items()}
    progress.network.load_state_dict(_under("network.", tensors))
    progress.best_weights = _under("best.", tensors)
    progress.errors.copy_(tensors["errors"])
    stored: dict[str, Any] = progress.optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _under("optimizer.", tensors).items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    progress.optimizer.load_state_dict({**stored, "state": state})
    progress.history = tuple(Epoch(**epoch) for epoch in notes["history"])
    if not progress.history:
        raise ValueError("no epoch is done")


def to_arrays(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Tensors of any device as arrays."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
