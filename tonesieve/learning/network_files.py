"""Trained networks on disk, and back again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tonesieve.config.config import Config
from tonesieve.errors import UserError
from tonesieve.inference.weights import check_finite, load_weights, save_weights
from tonesieve.learning.loop.checkpoints import to_arrays
from tonesieve.learning.models import build_network
from tonesieve.learning.models.base import Network


def save_network(network: Network, config: Config, path: Path) -> None:
    """Write weights and settings in one piece."""
    save_weights(path, to_arrays(network.state_dict()), config)


def load_network(path: Path) -> tuple[Network, Config]:
    """Read what `save_network` wrote; raises `UserError` as `load_weights` does."""
    tensors, config, _ = load_weights(path)
    check_finite(tensors, path)
    return as_network(tensors, config, path), config


def as_network(tensors: dict[str, np.ndarray], config: Config, path: Path) -> Network:
    """The network with these weights; raises `UserError` where they do not fit the settings."""
    network = build_network(config)
    try:
        network.load_state_dict({name: torch.from_numpy(t) for name, t in tensors.items()})
    except RuntimeError:
        raise UserError(f"{path}: its weights do not fit its settings; it was changed") from None
    return network
