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
    """Write weights and settings in one piece.

    Parameters
    ----------
    network : Network
        The network.
    config : Config
        Its settings.
    path : Path
        The file, which is replaced.
    """
    save_weights(path, to_arrays(network.state_dict()), config)


def load_network(path: Path) -> tuple[Network, Config]:
    """Read weights and settings.

    Parameters
    ----------
    path : Path
        What `save_network` wrote.

    Returns
    -------
    network : Network
        The network, on the CPU.
    config : Config
        Its settings.

    Raises
    ------
    UserError
        As in `load_weights` and `as_network`.
    """
    tensors, config, _ = load_weights(path)
    check_finite(tensors, path)
    return as_network(tensors, config, path), config


def as_network(tensors: dict[str, np.ndarray], config: Config, path: Path) -> Network:
    """Build a network with given weights.

    Parameters
    ----------
    tensors : dict of str to ndarray
        Weights by name.
    config : Config
        The settings.
    path : Path
        Where the weights come from, for the message of an error.

    Returns
    -------
    Network
        The network, on the CPU.

    Raises
    ------
    UserError
        Where the weights do not fit the settings.
    """
    network = build_network(config)
    try:
        network.load_state_dict({name: torch.from_numpy(t) for name, t in tensors.items()})
    except RuntimeError:
        raise UserError(f"{path}: its weights do not fit its settings; it was changed") from None
    return network
