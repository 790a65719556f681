"""What a network is made of, before and after training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tonesieve.config.config import Config
from tonesieve.config.warnings import warnings_for
from tonesieve.learning.data.batches import count_batches, epoch_batches, one_hot, tap_features
from tonesieve.learning.models import n_parameters
from tonesieve.learning.models.attention import Attention
from tonesieve.learning.models.base import Network
from tonesieve.learning.models.convolution import LearnedWindow
from tonesieve.learning.network_extractor import NetworkExtractor, StatefulNetwork, as_extractor
from tonesieve.signals.synthesis import draw_exercise, of_part

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


def summarise(network: Network, config: Config) -> dict[str, Any]:
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
        "learned_window": learned_window(network),
        "batch": {
            "inputs": list(batch.inputs.shape),
            "selector": None if batch.selector is None else list(batch.selector.shape),
            "outputs": list(outputs.shape),
        },
        "batches_per_epoch": count_batches(config),
        "warnings": warnings_for(config),
    }


def learned_window(network: Network) -> float | None:
    """Samples that a learned window has come to; None where the length is given."""
    found = [part.length for part in network.modules() if isinstance(part, LearnedWindow)]
    return found[0] if found else None


@torch.inference_mode()
def attention_weights(
    extractor: NetworkExtractor, mixture: Float[np.ndarray, " T"], component: int
) -> dict[str, Float[np.ndarray, "H N C"]]:
    """What every attention of a network looks at while it answers each sample: weights by lag.

    Of windows, from the first full one on, the last position, which is the one that answers. Of
    strided lanes, the first, whose lags are steps of as many samples as there are lanes. Empty
    where there is no attention.
    """
    network, config = extractor.network, extractor.config
    watched = {n: part for n, part in network.named_modules() if isinstance(part, Attention)}
    device = next(network.parameters()).device
    features = torch.from_numpy(np.array(tap_features(mixture[None], config.model.taps)))
    features = features[:, :: config.stride].to(device)
    windows = not isinstance(extractor, StatefulNetwork)
    if windows:
        features = features.unfold(1, config.model.window, 1)[0].transpose(1, 2)
    told = None
    if config.model.selector not in ("readout", "none"):
        told = one_hot(torch.tensor([component], device=device), config.data.n_components)
        told = told.expand(len(features), -1)
    for part in watched.values():
        part.seen = []
    try:
        network(features, told, network.initial_state(len(features), told))
        return {n.removeprefix("parts."): _by_lag(part, windows) for n, part in watched.items()}
    finally:
        for part in watched.values():
            part.seen = None


def _by_lag(part: Attention, windows: bool) -> Float[np.ndarray, "H N C"]:
    blocks = part.seen or []  # each (B, H, answers, samples looked at)
    if windows:
        rows = list(blocks[-1][:, :, -1])
    else:
        rows = []
        for block in blocks:
            before = block.shape[3] - block.shape[2]
            rows += [block[0, :, n, : before + n + 1] for n in range(block.shape[2])]
    lags = [row.flip(1)[:, : part.context] for row in rows]
    padded = [nn.functional.pad(row, (0, part.context - row.shape[1])) for row in lags]
    return torch.stack(padded, dim=1).cpu().numpy()


def _activations(network: Network, config: Config) -> dict[str, dict[str, float]]:
    """Statistics of every layer's output, caught while the network is used as an extractor."""
    caught: dict[str, list[Tensor]] = {}

    def catch(name: str) -> Any:
        def hook(layer: nn.Module, given: Any, answer: Any) -> None:
            output = answer[0] if isinstance(answer, tuple) else answer
            caught.setdefault(name, []).append(output.flatten())

        return hook

    hooks = [layer.register_forward_hook(catch(name)) for name, layer in network.stages()]
    record = draw_exercise(of_part(config.data, "test"), seed=config.data.test_seed)
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
