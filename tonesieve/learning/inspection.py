"""What a network is made of, before and after training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tonesieve.advice import warnings_for
from tonesieve.config import Config
from tonesieve.learning.layouts import count_batches, epoch_batches
from tonesieve.learning.models import n_parameters
from tonesieve.learning.models.network import Network
from tonesieve.learning.network_extractor import as_extractor
from tonesieve.signals.synthesis import draw_exercise

# Enough of the test record to see what the activations are like.
N_SAMPLES = 1000


def statistics(network: Network, config: Config) -> dict[str, Any]:
    """Mean, deviation and extremes of every weight and of every layer's activations.

    Activations: over the start of the test record, for all components.
    """
    return {
        "weights": {n: _statistics(t) for n, t in network.named_parameters()},
        "activations": _activations(network, config),
    }


def plan(network: Network, config: Config) -> dict[str, Any]:
    """Layers, shapes, parameter counts, what a batch looks like, and warnings."""
    extractor = as_extractor(network, config)
    batch = next(iter(epoch_batches(config, epoch=1, device=torch.device("cpu"))))
    outputs, _ = network(
        batch.inputs,
        batch.selector,
        network.initial_state(len(batch), batch.selector),
    )
    return {
        "name": config.name,
        "kind": config.model.kind,
        "causal": extractor.causal,
        "layers": [
            {
                "name": name,
                "layer": str(layer),
                "shapes": {n: list(p.shape) for n, p in layer.named_parameters(recurse=False)},
                "parameters": sum(p.numel() for p in layer.parameters()),
            }
            for name, layer in network.stages()
        ],
        "parameters": n_parameters(network),
        "batch": {
            "inputs": list(batch.inputs.shape),
            "selector": None if batch.selector is None else list(batch.selector.shape),
            "outputs": list(outputs.shape),
        },
        "batches_per_epoch": count_batches(config),
        "warnings": warnings_for(config),
    }


def _activations(network: Network, config: Config) -> dict[str, dict[str, float]]:
    """Statistics of every layer's output, caught while the network is used as an extractor."""
    caught: dict[str, list[Tensor]] = {}

    def catch(name: str) -> Any:
        def hook(layer: nn.Module, given: Any, answer: Any) -> None:
            output = answer[0] if isinstance(answer, tuple) else answer
            caught.setdefault(name, []).append(output.flatten())

        return hook

    hooks = [layer.register_forward_hook(catch(name)) for name, layer in network.stages()]
    record = draw_exercise(config.data, seed=config.data.test_seed)
    try:
        as_extractor(network, config).extract(record.mixture[:, : N_SAMPLES + config.model.window])
    finally:
        for hook in hooks:
            hook.remove()
    return {name: _statistics(torch.cat(parts)) for name, parts in caught.items()}


def _statistics(tensor: Tensor) -> dict[str, float]:
    values = tensor.detach().double()
    return {
        "mean": float(values.mean()),
        "std": float(values.std(unbiased=False)),
        "min": float(values.min()),
        "max": float(values.max()),
        "near_zero": float((values.abs() < 1e-3).double().mean()),
        "saturated": float((values.abs() > 0.99).double().mean()),
    }
