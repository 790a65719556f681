"""The networks as they train, one file a family, and the table of their kinds.

A network is layers in a row (`StreamingLayer`), each carrying its state, and a readout. To add a
kind: a function that builds its layers, a line in `FAMILIES`, its name in `ModelSettings.kind`; the
contract suite then tests it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from tonesieve.config.config import Config, DataSettings, ModelSettings
from tonesieve.learning.models.attention import transformer_layers
from tonesieve.learning.models.base import Network, StreamingLayer
from tonesieve.learning.models.convolution import (
    adaptive_layers,
    cnn_lstm_layers,
    feed_forward_layers,
    tcn_layers,
)
from tonesieve.learning.models.lru import lru_layers
from tonesieve.learning.models.multiscale_bank import bank_layers
from tonesieve.learning.models.observer import observer_layers
from tonesieve.learning.models.recurrent import multi_scale_layers, recurrent_layers

# What builds the layers of a kind from the settings and the number of features.
FAMILIES: dict[str, Callable[[ModelSettings, DataSettings, int], dict[str, StreamingLayer]]] = {
    "lstm": partial(recurrent_layers, kind="lstm"),
    "gru": partial(recurrent_layers, kind="gru"),
    "rnn": partial(recurrent_layers, kind="rnn"),
    "lru": lru_layers,
    "observer": observer_layers,
    "bank": bank_layers,
    "cnn-lstm": cnn_lstm_layers,
    "multi-scale": multi_scale_layers,
    "feed-forward": feed_forward_layers,
    "adaptive": adaptive_layers,
    "tcn": tcn_layers,
    "transformer": transformer_layers,
}


def build_network(config: Config) -> Network:
    """Build the untrained network of a configuration.

    Parameters
    ----------
    config : Config
        The settings; the initial weights follow from ``training.seed``.

    Returns
    -------
    Network
        The network, in training mode, on the CPU.
    """
    settings, data = config.model, config.data
    n_features = 2 * settings.taps + 1 + data.n_components * (settings.selector == "input")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        layers = FAMILIES[settings.kind](settings, data, n_features)
        return Network(settings, data, layers)


def n_parameters(network: nn.Module) -> int:
    """Count the trainable parameters.

    Parameters
    ----------
    network : nn.Module
        Any module.

    Returns
    -------
    int
        Numbers that training may change.
    """
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
