"""What a network learns beside the signal: which component is asked for, and its phase.

SPEC, section 3: multi-task. All four targets from one pass need none of this: there the selector
is at the readout.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tonesieve.config.config import Config
from tonesieve.learning.data.batches import Batch, record_batches
from tonesieve.learning.models.base import Network
from tonesieve.signals.synthesis import draw_exercise


def auxiliary_loss(
    config: Config, network: Network, answers: Tensor, batch: Batch
) -> Tensor | None:
    """What training adds to the signal's loss: further tasks, and what the network's parts ask.

    ``answers`` (B, T, ...) are the tasks' outputs: scores of the components, and the quadrature.
    """
    part, found = positions(config), network.penalty()
    losses = [] if found is None else [found]
    if "identity" in network.tasks:
        scores = answers[:, part, : config.data.n_components]
        told = batch.component[:, None].expand(scores.shape[:2])
        loss = nn.functional.cross_entropy(scores.flatten(0, 1), told.flatten())
        losses.append(config.model.task_weight * loss)
    if batch.quadrature is not None:
        loss = nn.functional.mse_loss(answers[:, part, -1:], batch.quadrature[:, part])
        losses.append(config.model.task_weight * loss)
    return torch.stack(losses).sum() if losses else None


def positions(config: Config) -> slice:
    """Positions of a window or chunk that the loss counts."""
    return slice(-1, None) if config.training.positions == "last" else slice(None)


@torch.inference_mode()
def evaluate_auxiliary(network: Network, config: Config) -> dict[str, float]:
    """On the test record: how often the component is named, and the phase error, RMS in rad.

    A window counts with its last sample.
    """
    network.eval()
    record = draw_exercise(config.data, seed=config.data.test_seed, quadratures=True)
    last = slice(None) if config.stateful else slice(-1, None)
    hits, errors = [], []
    for batch in record_batches(config, record, network.readout.weight.device):
        state = network.initial_state(len(batch), batch.selector)
        answers = network(batch.inputs, batch.selector, state, tasks=True)[0][:, last]
        signal, rest = answers[..., :1], answers[..., 1:]
        if "identity" in network.tasks:
            named = rest[..., : config.data.n_components].argmax(dim=2)
            hits.append((named == batch.component[:, None]).flatten())
        if batch.quadrature is not None:
            found = torch.atan2(signal, rest[..., -1:])
            truth = torch.atan2(batch.targets[:, last], batch.quadrature[:, last])
            wrapped = torch.remainder(found - truth + math.pi, 2 * math.pi) - math.pi
            errors.append(wrapped.flatten())
    result = {}
    if hits:
        result["identity_accuracy"] = float(torch.cat(hits).float().mean())
    if errors:
        result["phase_rms_rad"] = float((torch.cat(errors) ** 2).mean().sqrt())
    return result
