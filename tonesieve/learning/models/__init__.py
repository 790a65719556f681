"""The networks as they train, one file a family, and the one table of their names.

A network is parts in a row (`StreamingLayer`), each carrying its state, and a readout. To add a kind: a
function that makes its parts, a line in `FAMILIES`, its name in `ModelSettings.kind`; the contract
suite then tests it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from tonesieve.config.config import Config, DataSettings, ModelSettings
from tonesieve.learning.models.attention import transformer_parts
from tonesieve.learning.models.base import Network, StreamingLayer
from tonesieve.learning.models.convolution import (
    adaptive_parts,
    cnn_lstm_parts,
    feed_forward_parts,
    tcn_parts,
)
from tonesieve.learning.models.lru import lru_parts
from tonesieve.learning.models.multiscale_bank import bank_parts
from tonesieve.learning.models.observer import observer_parts
from tonesieve.learning.models.recurrent import multi_scale_parts, recurrent_parts

# What makes a kind's parts from the settings and the number of features.
FAMILIES: dict[str, Callable[[ModelSettings, DataSettings, int], dict[str, StreamingLayer]]] = {
    "lstm": partial(recurrent_parts, kind="lstm"),
    "gru": partial(recurrent_parts, kind="gru"),
    "rnn": partial(recurrent_parts, kind="rnn"),
    "lru": lru_parts,
    "observer": observer_parts,
    "bank": bank_parts,
    "cnn-lstm": cnn_lstm_parts,
    "multi-scale": multi_scale_parts,
    "feed-forward": feed_forward_parts,
    "adaptive": adaptive_parts,
    "tcn": tcn_parts,
    "transformer": transformer_parts,
}


def build_network(config: Config) -> Network:
    """The untrained network of a configuration; its weights follow from ``training.seed``."""
    settings, data = config.model, config.data
    n_features = 2 * settings.taps + 1 + data.n_components * (settings.selector == "input")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        parts = FAMILIES[settings.kind](settings, data, n_features)
        return Network(settings, data, parts)


def n_parameters(network: nn.Module) -> int:
    """How many numbers training may change."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)
