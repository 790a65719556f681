"""The networks as they train, one file a family, and the one table of their names.

A family is a `Network`. To add one: a file here, a line in `FAMILIES`, its name in
`ModelSettings.kind`; the contract suite then tests it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tonesieve.config import Config
from tonesieve.learning.models.lstm import Lstm
from tonesieve.learning.models.network import Network
from tonesieve.signals.synthesis import input_rms

FAMILIES: dict[str, Any] = {
    "lstm": Lstm,
}


def build_network(config: Config) -> Network:
    """The untrained network of a configuration; its weights follow from ``training.seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        family = FAMILIES[config.model.kind]
        network: Network = family(
            config.model, config.data.n_components, input_rms=input_rms(config.data)
        )
    return network


def n_parameters(network: nn.Module) -> int:
    """How many numbers training may change."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
