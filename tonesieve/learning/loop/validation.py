"""The loss of a batch, and the validation loss."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tonesieve.config.config import Config
from tonesieve.learning.data.batches import training_record, window_batches
from tonesieve.learning.data.features import Batch
from tonesieve.learning.data.online import draw_records_with_targets, fresh_shape, online_windows
from tonesieve.learning.loop.age_weights import geometric_mean
from tonesieve.learning.loop.auxiliary import positions
from tonesieve.learning.models.base import Network
from tonesieve.learning.network_extractor import as_extractor
from tonesieve.signals.synthesis import Records, of_part

# With fresh noise nothing of a record need be held back: validation draws its own samples, in at
# least this many records, or windows. Chosen, not tuned.
N_SAMPLES = 128_000
MIN_RECORDS = 8
N_WINDOWS = 8192
# Added to relative errors. Guard: against rewarding errors below it (60 dB).
RELATIVE_FLOOR = 1e-6
# Least power of a tone. Guard: against division by 0.
MIN_POWER = 1e-30


def batch_loss(config: Config, outputs: Tensor, batch: Batch) -> Tensor:
    """Compute the loss of a batch's estimates.

    Parameters
    ----------
    config : Config
        The settings.
    outputs : Tensor, shape (B, T, O)
        Estimates.
    batch : Batch
        The targets.

    Returns
    -------
    Tensor, scalar
        Mean squared error over all positions, or over the last of every window; with
        ``training.balance: tone``, `nmse_geomean`.
    """
    if config.training.balance == "tone":
        return nmse_geomean(outputs, batch.targets)
    part = positions(config)
    return nn.functional.mse_loss(outputs[:, part], batch.targets[:, part])


def nmse_geomean(outputs: Float[Tensor, "B T O"], targets: Float[Tensor, "B T O"]) -> Tensor:
    """Compute the geometric mean of the normalised mean squared errors.

    Parameters
    ----------
    outputs : Tensor, shape (B, T, O)
        Estimates.
    targets : Tensor, shape (B, T, O)
        The tones.

    Returns
    -------
    Tensor, scalar
        Error over power, of every stream and tone; the geometric mean over these.
    """
    error = ((outputs - targets) ** 2).mean(dim=1)
    relative = error / (targets**2).mean(dim=1).clamp(min=MIN_POWER)
    return torch.exp(torch.log(relative + RELATIVE_FLOOR).mean())


@torch.inference_mode()
def validation_loss(config: Config, network: Network, device: torch.device) -> float:
    """Compute the loss on the end of the training record, or with fresh noise on other draws.

    Windows count as in training. At L=1 whole records run from the zero state, so that the end of
    one has its past; only the end counts. With a teacher it is what the network adds to the limit;
    with ages balanced, for a carried state, its geometric mean over them.

    Parameters
    ----------
    config : Config
        The settings.
    network : Network
        The network; it is set to evaluation mode.
    device : torch.device
        Where it is.

    Returns
    -------
    float
        The loss.
    """
    network.eval()
    if not config.stateful:
        return _windows_loss(config, network, device)
    fresh = config.data.noise == "fresh"
    records = _fresh_records(config) if fresh else training_record(config)
    estimate = as_extractor(network, config).extract(records.mixture)
    if config.training.balance == "tone":
        return _loss_by_chunk(config, estimate, records.targets)
    error = estimate - records.targets
    if config.training.balance == "age" and fresh:
        return geometric_mean((error**2).mean(axis=2), config.training.balance_floor)
    return float(np.mean(error[:, 0 if fresh else config.n_train :] ** 2))


def _loss_by_chunk(
    config: Config, estimate: Float[np.ndarray, "B T K"], targets: Float[np.ndarray, "B T K"]
) -> float:
    """The relative error as in training, chunk by chunk; its geometric mean."""
    tensors = [torch.from_numpy(a) for a in (estimate, targets)]
    chunks = zip(*(t.split(config.training.chunk_samples, dim=1) for t in tensors), strict=True)
    return float(np.exp(np.mean([np.log(float(nmse_geomean(*chunk))) for chunk in chunks])))


def _windows_loss(config: Config, network: Network, device: torch.device) -> float:
    if config.data.noise == "fresh":
        batches = online_windows(config, _rng(config), device, n_items=N_WINDOWS)
    else:
        held_out = range(config.n_train, config.n_rows)
        batches = window_batches(config, training_record(config), held_out, None, device)
    total, n_windows = 0.0, 0
    for batch in batches:
        state = network.initial_state(len(batch), batch.selector)
        outputs, _ = network(batch.inputs, batch.selector, state)
        total += float(batch_loss(config, outputs, batch)) * len(batch)
        n_windows += len(batch)
    return total / n_windows


def _fresh_records(config: Config) -> Records:
    n_samples, _ = fresh_shape(config)
    n_records = max(MIN_RECORDS, N_SAMPLES // n_samples)
    held_out = config.model_copy(update={"data": of_part(config.data, "validation")})
    return draw_records_with_targets(held_out, n_records, n_samples, rng=_rng(config))


def _rng(config: Config) -> np.random.Generator:
    return np.random.default_rng([config.data.train_seed, 4])
