"""The one training loop.

Everything random in epoch n follows from the seeds and n, so a training that goes on from its
checkpoint after epoch n - 1 takes the very steps that it would have taken without a break.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from tonesieve.config.config import Config
from tonesieve.learning.data.batches import Batch, count_batches, epoch_batches
from tonesieve.learning.data.prefetch import prefetch_thread
from tonesieve.learning.loop.age_weights import age_bins, n_ages, renew, sums_by_age, weights
from tonesieve.learning.loop.auxiliary import auxiliary_loss
from tonesieve.learning.loop.checkpoints import TrainingState, restore, save, to_arrays
from tonesieve.learning.loop.history import Epoch, History, best_epoch
from tonesieve.learning.loop.optimizers import build_optimizer
from tonesieve.learning.loop.schedules import learning_rate, warmup_factor
from tonesieve.learning.loop.validation import batch_loss, validation_loss
from tonesieve.learning.models import build_network
from tonesieve.learning.models.base import Network
from tonesieve.learning.runtime.distributed import (
    Report,
    check_devices,
    run_distributed,
    shard_batch,
)
from tonesieve.learning.runtime.threads import threads, tune_malloc


class TrainingDiverged(RuntimeError):
    """The loss is no longer a finite number."""


@dataclass(frozen=True)
class TrainingResult:
    """A network with its best weights, and how it came about."""

    network: Network
    history: History

    @property
    def best(self) -> Epoch:
        """The epoch whose weights were kept."""
        return best_epoch(self.history)


def train(
    config: Config,
    *,
    checkpoint: Path | None = None,
    on_epoch: Callable[[History], None] = lambda history: None,
    on_batch: Callable[[int, int], None] = lambda n_epochs, n_batches: None,
) -> TrainingResult:
    """Train a network as the settings say; the best weights by validation loss are kept.

    With ``checkpoint``, every epoch is written there and a training that was interrupted goes
    on from there. ``on_epoch`` gets the history after every epoch, ``on_batch`` the epochs and
    batches done after every batch.

    With several devices, each is a process of its own that takes its part of every batch.

    Raises `TrainingDiverged` when the loss is not finite, `UserError` for devices that are not
    there.
    """
    check_devices(config)
    fabric = Fabric(accelerator=config.training.device, devices=1)
    progress = _begin(config, fabric.device)
    if config.training.devices == 1:
        _train(config, fabric, progress, checkpoint, on_epoch, on_batch)
    else:
        hear: dict[str, Callable[..., None]] = {"epoch": on_epoch, "batch": on_batch}
        best, progress.history = run_distributed(train_part, config, checkpoint, hear=hear)
        progress.best_weights = {name: torch.from_numpy(array) for name, array in best.items()}
    progress.network.load_state_dict(progress.best_weights)
    return TrainingResult(progress.network, progress.history)


def train_part(
    fabric: Fabric, tell: Report, config: Config, checkpoint: Path | None
) -> tuple[dict[str, np.ndarray], History]:
    """What each of several processes does; the best weights, and how they came about."""
    progress = _begin(config, fabric.device)
    on_epoch, on_batch = partial(tell, "epoch"), partial(tell, "batch")
    _train(config, fabric, progress, checkpoint, on_epoch, on_batch)
    return to_arrays(progress.best_weights), progress.history


def _train(
    config: Config,
    fabric: Fabric,
    progress: TrainingState,
    checkpoint: Path | None,
    on_epoch: Callable[[History], None],
    on_batch: Callable[[int, int], None],
) -> None:
    if checkpoint is not None and checkpoint.exists():
        restore(progress, checkpoint, config)
        on_epoch(progress.history)
    network, optimizer = fabric.setup(progress.network, progress.optimizer)
    tune_malloc()
    with threads(config):
        while not _finished(config, progress.history):
            epoch = _train_epoch(config, fabric, network, optimizer, progress, on_batch)
            progress.history += (epoch,)
            if epoch == best_epoch(progress.history):
                progress.best_weights = _copy(progress.network)
            if checkpoint is not None and fabric.is_global_zero:
                save(progress, checkpoint, config)
            on_epoch(progress.history)


def _begin(config: Config, device: torch.device) -> TrainingState:
    network = build_network(config).to(device)
    optimizer = build_optimizer(config, network.parameters())
    errors = torch.zeros((2, n_ages(config)), device=device)
    return TrainingState(network, optimizer, _copy(network), errors)


def _copy(network: Network) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def _finished(config: Config, history: History) -> bool:
    training = config.training
    if not history:
        return False
    since_best = len(history) - best_epoch(history).epoch
    spent = sum(epoch.seconds for epoch in history)
    return (
        len(history) >= training.epochs
        or (training.patience is not None and since_best >= training.patience)
        or (training.max_seconds is not None and spent >= training.max_seconds)
    )


def _train_epoch(
    config: Config,
    fabric: Fabric,
    network: Any,
    optimizer: Any,
    progress: TrainingState,
    on_batch: Callable[[int, int], None],
) -> Epoch:
    began = time.perf_counter()
    number = len(progress.history) + 1
    rate = learning_rate(config, progress.history)
    # Dropout must not be alike in all processes. The first one's seed is a lone one's.
    seeds = [config.training.seed, number, fabric.global_rank]
    seed = np.random.SeedSequence(seeds).generate_state(1)[0]
    with torch.random.fork_rng():  # dropout draws from PyTorch's global generator
        torch.manual_seed(int(seed))
        batches = epoch_batches(config, epoch=number, device=fabric.device)
        with prefetch_thread(batches) if config.prefetches else nullcontext(batches) as drawn:
            loss = _take_steps(
                config, number, drawn, fabric, network, optimizer, progress.errors, rate, on_batch
            )
    if not math.isfinite(loss):
        raise TrainingDiverged(
            f"training diverged in epoch {number} (loss {loss}); lower training.learning_rate"
        )
    first = fabric.is_global_zero
    validation = validation_loss(config, progress.network, fabric.device) if first else math.nan
    epoch = Epoch(number, loss, validation, rate(0.0), time.perf_counter() - began)
    return fabric.broadcast(epoch)  # the first one's, so that all of them stop alike


def _take_steps(
    config: Config,
    number: int,
    batches: Iterator[Batch],
    fabric: Fabric,
    network: Any,
    optimizer: Any,
    errors: Tensor,
    rate: Callable[[float], float],
    on_batch: Callable[[int, int], None],
) -> float:
    """One pass over the epoch's batches; the mean loss over all its samples."""
    bare = network.module
    bare.train()
    n_batches = count_batches(config)
    total = torch.zeros((), device=fabric.device)
    n_seen = 0
    state: tuple[Tensor, ...] | None = None
    for i, whole in enumerate(batches):
        warmed = warmup_factor(config, (number - 1) * n_batches + i)
        for group in optimizer.param_groups:
            group["lr"] = warmed * rate(min(1.0, i / n_batches))
        batch, share = shard_batch(whole, config, fabric.global_rank, fabric.world_size)
        state = _carried(bare, batch, state)
        outputs, after = network(batch.inputs, batch.selector, state, tasks=bool(bare.tasks))
        answers = outputs[..., : bare.n_outputs]
        loss = batch_loss(config, answers, batch)
        further = auxiliary_loss(config, bare, outputs[..., bare.n_outputs :], batch)
        optimizer.zero_grad()
        counted = _balanced(config, fabric, answers, batch, share, errors, loss)
        asked = counted if further is None else counted + further
        # DDP takes the mean over processes; this makes it the mean over the streams.
        fabric.backward(asked * (share * fabric.world_size))
        if config.training.clip_norm is not None:
            fabric.clip_gradients(network, optimizer, max_norm=config.training.clip_norm)
        optimizer.step()
        # Detached only now: within the chunk the gradient has flowed through the state.
        state = tuple(s.detach() for s in after)
        n_items = len(whole) * whole.inputs.shape[1]
        total += loss.detach() * (share * n_items)
        n_seen += n_items
        on_batch(number - 1, i + 1)
    whole_total: Any = fabric.all_reduce(total, reduce_op="sum")
    return float(whole_total) / n_seen


def _balanced(
    config: Config,
    fabric: Fabric,
    answers: Tensor,
    batch: Batch,
    share: float,
    errors: Tensor,
    loss: Tensor,
) -> Tensor:
    """The loss with the errors of every age counted alike, if it is asked for."""
    if config.training.balance != "age":
        return loss
    squared = ((answers - batch.targets) ** 2).mean(dim=2)
    ages = age_bins(batch)
    # A process with nothing left to do has a share of 0, and takes a stream of another's.
    own = sums_by_age(squared, ages, errors.shape[1]) * float(share > 0)
    sums: Any = fabric.all_reduce(own, reduce_op="sum")
    renew(errors, sums)
    return (squared * weights(errors, ages, config.training.balance_floor)).mean()


def _carried(
    network: Network, batch: Batch, state: tuple[Tensor, ...] | None
) -> tuple[Tensor, ...]:
    """The state that a batch starts from: carried on, or new where a stream starts anew."""
    if batch.reset is None or state is None or bool(batch.reset.all()):
        return network.initial_state(len(batch), batch.selector)
    state = tuple(s[: len(batch)] for s in state)
    if not bool(batch.reset.any()):
        return state
    fresh = network.initial_state(len(batch), batch.selector)
    reset = batch.reset[:, None, None]
    return tuple(torch.where(reset, new, old) for new, old in zip(fresh, state, strict=True))
