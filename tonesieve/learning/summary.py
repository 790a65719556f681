"""What a network is made of, before and after training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tonesieve.config.config import Config
from tonesieve.config.warnings import warnings_for
from tonesieve.learning.data.batches import count_batches, epoch_batches
from tonesieve.learning.data.features import one_hot, tap_features
from tonesieve.learning.models import n_parameters
from tonesieve.learning.models.attention import Attention
from tonesieve.learning.models.base import Network
from tonesieve.learning.models.convolution import LearnedWindow
from tonesieve.learning.network_extractor import NetworkExtractor, StatefulNetwork, as_extractor
from tonesieve.signals.synthesis import draw_exercise, of_part

# Samples of the test record over which activations are summarised. Chosen, not tuned.
N_SAMPLES = 1000


def statistics(network: Network, config: Config) -> dict[str, Any]:
    """Compute statistics of all weights and of every layer's activations.

    Parameters
    ----------
    network : Network
        The network.
    config : Config
        Its settings.

    Returns
    -------
    dict
        ``weights`` by tensor name and ``activations`` by layer: mean, standard deviation, extremes
        and shares of small and saturated values. Activations are those over the start of the test
        record, for all components.
    """
    return {
        "weights": {n: _statistics(t) for n, t in network.named_parameters()},
        "activations": _activations(network, config),
    }


def summarise(network: Network, config: Config) -> dict[str, Any]:
    """Summarise a network.

    Parameters
    ----------
    network : Network
        The network.
    config : Config
        Its settings.

    Returns
    -------
    dict
        Layers, shapes, parameter counts, the shapes of a batch, and warnings.
    """
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
            for name, layer in network.named_layers()
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
    """Return the length of a learned window.

    Parameters
    ----------
    network : Network
        The network.

    Returns
    -------
    float or None
        Samples; None where the length is fixed.
    """
    lengths = [layer.length for layer in network.modules() if isinstance(layer, LearnedWindow)]
    return lengths[0] if lengths else None


@torch.inference_mode()
def attention_weights(
    extractor: NetworkExtractor, mixture: Float[np.ndarray, " T"], component: int
) -> dict[str, Float[np.ndarray, "H N C"]]:
    """Run a network and capture the weights of every attention layer.

    Parameters
    ----------
    extractor : NetworkExtractor
        The network.
    mixture : ndarray, shape (T,)
        Samples.
    component : int
        The component to extract, where there is a selector.

    Returns
    -------
    dict of str to ndarray, shape (H, N, C)
        Weights by layer: of H heads, at N samples, by lag. Of windows, from the first full one on,
        the last position. Of strided lanes, the first, where a lag of 1 is one step of the lane.
        Empty without attention.
    """
    network, config = extractor.network, extractor.config
    layers = {n: layer for n, layer in network.named_modules() if isinstance(layer, Attention)}
    device = next(network.parameters()).device
    features = torch.from_numpy(np.array(tap_features(mixture[None], config.model.taps)))
    features = features[:, :: config.stride].to(device)
    windows = not isinstance(extractor, StatefulNetwork)
    if windows:
        features = features.unfold(1, config.model.window, 1)[0].transpose(1, 2)
    selector = None
    if config.model.selector not in ("readout", "none"):
        selector = one_hot(torch.tensor([component], device=device), config.data.n_components)
        selector = selector.expand(len(features), -1)
    for layer in layers.values():
        layer.captured = []
    try:
        network(features, selector, network.initial_state(len(features), selector))
        return {n.removeprefix("parts."): _by_lag(layer, windows) for n, layer in layers.items()}
    finally:
        for layer in layers.values():
            layer.captured = None


def _by_lag(layer: Attention, windows: bool) -> Float[np.ndarray, "H N C"]:
    blocks = layer.captured or []  # each (B, H, queries, keys)
    if windows:
        rows = list(blocks[-1][:, :, -1])
    else:
        rows = []
        for block in blocks:
            n_before = block.shape[3] - block.shape[2]
            rows += [block[0, :, n, : n_before + n + 1] for n in range(block.shape[2])]
    lags = [row.flip(1)[:, : layer.context] for row in rows]
    padded = [nn.functional.pad(row, (0, layer.context - row.shape[1])) for row in lags]
    return torch.stack(padded, dim=1).cpu().numpy()


def _activations(network: Network, config: Config) -> dict[str, dict[str, float]]:
    """Statistics of every layer's output, captured while the network runs as an extractor."""
    captured: dict[str, list[Tensor]] = {}

    def capture(name: str) -> Any:
        def hook(layer: nn.Module, inputs: Any, result: Any) -> None:
            output = result[0] if isinstance(result, tuple) else result
            captured.setdefault(name, []).append(output.flatten())

        return hook

    hooks = [layer.register_forward_hook(capture(name)) for name, layer in network.named_layers()]
    record = draw_exercise(of_part(config.data, "test"), seed=config.data.test_seed)
    try:
        as_extractor(network, config).extract(record.mixture[:, : N_SAMPLES + config.model.window])
    finally:
        for hook in hooks:
            hook.remove()
    return {name: _statistics(torch.cat(parts)) for name, parts in captured.items()}


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
