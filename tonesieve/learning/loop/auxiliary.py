"""Auxiliary tasks beside the signal: which component is asked for, and its phase.

docs/exercise.md, "Models": multi-task. With the selector at the readout there are none: one pass
estimates all components.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tonesieve.config.config import Config
from tonesieve.learning.data.batches import record_batches
from tonesieve.learning.data.features import Batch
from tonesieve.learning.models.base import Network
from tonesieve.signals.synthesis import draw_exercise


def auxiliary_loss(
    config: Config, network: Network, outputs: Tensor, batch: Batch
) -> Tensor | None:
    """Compute what training adds to the signal's loss.

    Parameters
    ----------
    config : Config
        The settings, which weight the tasks.
    network : Network
        The network, for its tasks and its regularisation terms.
    outputs : Tensor, shape (B, T, ...)
        Outputs of its auxiliary heads: logits of the components, and the quadrature.
    batch : Batch
        The targets.

    Returns
    -------
    Tensor, scalar, or None
        Losses of the tasks and regularisation terms; None without any.
    """
    part, penalty = positions(config), network.penalty()
    losses = [] if penalty is None else [penalty]
    if "identity" in network.tasks:
        logits = outputs[:, part, : config.data.n_components]
        component = batch.component[:, None].expand(logits.shape[:2])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), component.flatten())
        losses.append(config.model.task_weight * loss)
    if batch.quadrature is not None:
        loss = nn.functional.mse_loss(outputs[:, part, -1:], batch.quadrature[:, part])
        losses.append(config.model.task_weight * loss)
    return torch.stack(losses).sum() if losses else None


def positions(config: Config) -> slice:
    """Return the positions of a window or chunk that the loss counts.

    Parameters
    ----------
    config : Config
        The settings.

    Returns
    -------
    slice
        All, or the last.
    """
    return slice(-1, None) if config.training.positions == "last" else slice(None)


@torch.inference_mode()
def evaluate_auxiliary(network: Network, config: Config) -> dict[str, float]:
    """Evaluate the auxiliary tasks on the test record.

    Parameters
    ----------
    network : Network
        The network; it is set to evaluation mode.
    config : Config
        The settings.

    Returns
    -------
    dict of str to float
        ``identity_accuracy``, the share of samples whose component is identified;
        ``phase_rms_rad``, the RMS phase error in rad. Of a window only the last sample counts.
    """
    network.eval()
    record = draw_exercise(config.data, seed=config.data.test_seed, quadratures=True)
    last = slice(None) if config.stateful else slice(-1, None)
    hits, errors = [], []
    for batch in record_batches(config, record, network.readout.weight.device):
        state = network.initial_state(len(batch), batch.selector)
        outputs = network(batch.inputs, batch.selector, state, tasks=True)[0][:, last]
        estimate, auxiliary = outputs[..., :1], outputs[..., 1:]
        if "identity" in network.tasks:
            identified = auxiliary[..., : config.data.n_components].argmax(dim=2)
            hits.append((identified == batch.component[:, None]).flatten())
        if batch.quadrature is not None:
            phase = torch.atan2(estimate, auxiliary[..., -1:])
            true_phase = torch.atan2(batch.targets[:, last], batch.quadrature[:, last])
            wrapped = torch.remainder(phase - true_phase + math.pi, 2 * math.pi) - math.pi
            errors.append(wrapped.flatten())
    result = {}
    if hits:
        result["identity_accuracy"] = float(torch.cat(hits).float().mean())
    if errors:
        result["phase_rms_rad"] = float((torch.cat(errors) ** 2).mean().sqrt())
    return result
