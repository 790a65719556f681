"""The training loop: `train`, its epochs, and their batches.

There is no other. Everything random in epoch n follows from the seeds and n, so a training that is
resumed from the checkpoint of epoch n - 1 takes the very steps that it would have taken without a
break.
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
from tonesieve.learning.data.batches import count_batches, epoch_batches
from tonesieve.learning.data.features import Batch
from tonesieve.learning.data.prefetch import prefetch_thread
from tonesieve.learning.loop import age_weights
from tonesieve.learning.loop.auxiliary import auxiliary_loss
from tonesieve.learning.loop.checkpoints import TrainingState, restore, save, to_arrays
from tonesieve.learning.loop.history import Epoch, History, best_epoch
from tonesieve.learning.loop.optimizers import build_optimizer
from tonesieve.learning.loop.schedules import learning_rate, warmup_factor
from tonesieve.learning.loop.validation import batch_loss, validation_loss
from tonesieve.learning.models import build_network
from tonesieve.learning.models.base import Network, State
from tonesieve.learning.runtime.distributed import (
    Report,
    check_devices,
    run_distributed,
    shard_batch,
)
from tonesieve.learning.runtime.threads import threads, tune_malloc

OnEpoch = Callable[[History], None]
OnBatch = Callable[[int, int], None]


class TrainingDiverged(RuntimeError):
    """The loss is no longer a finite number."""


@dataclass(frozen=True)
class TrainingResult:
    """A trained network, and its history.

    Attributes
    ----------
    network : Network
        The network with its best weights.
    history : tuple of Epoch
        All epochs.
    """

    network: Network
    history: History

    @property
    def best(self) -> Epoch:
        """The epoch of the best weights."""
        return best_epoch(self.history)


def train(
    config: Config,
    *,
    checkpoint: Path | None = None,
    on_epoch: OnEpoch = lambda history: None,
    on_batch: OnBatch = lambda n_epochs, n_batches: None,
) -> TrainingResult:
    """Train a network; the best weights by validation loss are kept.

    With several devices, each is a process of its own that takes its part of every batch.

    Parameters
    ----------
    config : Config
        The settings.
    checkpoint : Path or None
        File that is written after every epoch; if it exists, training resumes from it.
    on_epoch : callable
        Called with the history after every epoch, and after resuming.
    on_batch : callable
        Called with the epochs and batches done after every batch.

    Returns
    -------
    TrainingResult
        The network with its best weights, and the history.

    Raises
    ------
    TrainingDiverged
        When the loss is not finite.
    UserError
        For devices that are not present, and a checkpoint that does not fit.
    """
    check_devices(config)
    fabric = Fabric(accelerator=config.training.device, devices=1)
    state = _init_training(config, fabric.device)
    if config.training.devices == 1:
        _train_epochs(config, fabric, state, checkpoint, on_epoch, on_batch)
    else:
        handlers: dict[str, Callable[..., None]] = {"epoch": on_epoch, "batch": on_batch}
        best, state.history = run_distributed(train_worker, config, checkpoint, handlers=handlers)
        state.best_weights = {name: torch.from_numpy(array) for name, array in best.items()}
    state.network.load_state_dict(state.best_weights)
    return TrainingResult(state.network, state.history)


def train_worker(
    fabric: Fabric, report: Report, config: Config, checkpoint: Path | None
) -> tuple[dict[str, np.ndarray], History]:
    """Train in one of several processes.

    Parameters
    ----------
    fabric : Fabric
        The process group.
    report : callable
        Called as ``report("epoch", history)`` and ``report("batch", n_epochs, n_batches)``.
    config : Config
        The settings.
    checkpoint : Path or None
        As in `train`; the first process writes it.

    Returns
    -------
    best_weights : dict of str to ndarray
        The weights of the lowest validation loss.
    history : tuple of Epoch
        All epochs.
    """
    state = _init_training(config, fabric.device)
    on_epoch, on_batch = partial(report, "epoch"), partial(report, "batch")
    _train_epochs(config, fabric, state, checkpoint, on_epoch, on_batch)
    return to_arrays(state.best_weights), state.history


@dataclass(frozen=True)
class _Loop:
    """What all steps of a training need."""

    config: Config
    fabric: Fabric
    network: Any  # as Fabric wraps them
    optimizer: Any
    state: TrainingState
    on_batch: OnBatch


def _init_training(config: Config, device: torch.device) -> TrainingState:
    network = build_network(config).to(device)
    optimizer = build_optimizer(config, network.parameters())
    errors = torch.zeros((2, age_weights.n_ages(config)), device=device)
    return TrainingState(network, optimizer, _copy_weights(network), errors)


def _copy_weights(network: Network) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def _train_epochs(
    config: Config,
    fabric: Fabric,
    state: TrainingState,
    checkpoint: Path | None,
    on_epoch: OnEpoch,
    on_batch: OnBatch,
) -> None:
    if checkpoint is not None and checkpoint.exists():
        restore(state, checkpoint, config)
        on_epoch(state.history)
    network, optimizer = fabric.setup(state.network, state.optimizer)
    loop = _Loop(config, fabric, network, optimizer, state, on_batch)
    tune_malloc()
    with threads(config):
        while not _is_finished(config, state.history):
            epoch = _train_epoch(loop)
            state.history += (epoch,)
            if epoch == best_epoch(state.history):
                state.best_weights = _copy_weights(state.network)
            if checkpoint is not None and fabric.is_global_zero:
                save(state, checkpoint, config)
            on_epoch(state.history)


def _is_finished(config: Config, history: History) -> bool:
    training = config.training
    if not history:
        return False
    since_best = len(history) - best_epoch(history).epoch
    seconds = sum(epoch.seconds for epoch in history)
    return (
        len(history) >= training.epochs
        or (training.patience is not None and since_best >= training.patience)
        or (training.max_seconds is not None and seconds >= training.max_seconds)
    )


def _train_epoch(loop: _Loop) -> Epoch:
    """One pass over the training data, then validation."""
    config, fabric, state = loop.config, loop.fabric, loop.state
    start = time.perf_counter()
    number = len(state.history) + 1
    rate = learning_rate(config, state.history)
    # Dropout must not be alike in all processes. The first one's seed is a lone one's.
    seeds = [config.training.seed, number, fabric.global_rank]
    seed = np.random.SeedSequence(seeds).generate_state(1)[0]
    with torch.random.fork_rng():  # dropout draws from PyTorch's global generator
        torch.manual_seed(int(seed))
        batches = epoch_batches(config, epoch=number, device=fabric.device)
        with prefetch_thread(batches) if config.prefetches else nullcontext(batches) as drawn:
            loss = _train_batches(loop, number, drawn, rate)
    if not math.isfinite(loss):
        raise TrainingDiverged(
            f"training diverged in epoch {number} (loss {loss}); lower training.learning_rate"
        )
    first = fabric.is_global_zero
    validation = validation_loss(config, state.network, fabric.device) if first else math.nan
    epoch = Epoch(number, loss, validation, rate(0.0), time.perf_counter() - start)
    return fabric.broadcast(epoch)  # the first one's, so that all of them stop alike


def _train_batches(
    loop: _Loop, number: int, batches: Iterator[Batch], rate: Callable[[float], float]
) -> float:
    """One step a batch; the mean loss over all samples."""
    config, fabric, optimizer = loop.config, loop.fabric, loop.optimizer
    model = loop.network.module
    model.train()
    n_batches = count_batches(config)
    total = torch.zeros((), device=fabric.device)
    n_samples = 0
    state: State | None = None
    for i, batch in enumerate(batches):
        warmup = warmup_factor(config, (number - 1) * n_batches + i)
        for group in optimizer.param_groups:
            group["lr"] = warmup * rate(min(1.0, i / n_batches))
        shard, fraction = shard_batch(batch, config, fabric.global_rank, fabric.world_size)
        state = _carry_state(model, shard, state)
        outputs, state_after = loop.network(
            shard.inputs, shard.selector, state, tasks=bool(model.tasks)
        )
        estimate, auxiliary = outputs[..., : model.n_outputs], outputs[..., model.n_outputs :]
        loss = batch_loss(config, estimate, shard)
        added = auxiliary_loss(config, model, auxiliary, shard)
        optimizer.zero_grad()
        objective = _weighted_by_age(loop, estimate, shard, fraction, loss)
        if added is not None:
            objective = objective + added
        # DDP averages over processes; this factor makes it the mean over streams.
        fabric.backward(objective * (fraction * fabric.world_size))
        if config.training.clip_norm is not None:
            fabric.clip_gradients(loop.network, optimizer, max_norm=config.training.clip_norm)
        optimizer.step()
        # Detached only now: within the chunk the gradient has flowed through the state.
        state = tuple(s.detach() for s in state_after)
        n_in_batch = len(batch) * batch.inputs.shape[1]
        total += loss.detach() * (fraction * n_in_batch)
        n_samples += n_in_batch
        loop.on_batch(number - 1, i + 1)
    total_of_all: Any = fabric.all_reduce(total, reduce_op="sum")
    return float(total_of_all) / n_samples


def _weighted_by_age(
    loop: _Loop, estimate: Tensor, batch: Batch, fraction: float, loss: Tensor
) -> Tensor:
    """The loss; with ``balance: age``, the errors of every age weighted alike."""
    training, errors = loop.config.training, loop.state.errors
    if training.balance != "age":
        return loss
    squared = ((estimate - batch.targets) ** 2).mean(dim=2)
    ages = age_weights.age_bins(batch)
    # A process without streams has a fraction of 0, and takes a stream of another's.
    own_sums = age_weights.sums_by_age(squared, ages, errors.shape[1]) * float(fraction > 0)
    sums: Any = loop.fabric.all_reduce(own_sums, reduce_op="sum")
    age_weights.update(errors, sums)
    return (squared * age_weights.weights(errors, ages, training.balance_floor)).mean()


def _carry_state(network: Network, batch: Batch, state: State | None) -> State:
    """The state before a batch: of the batch before, or initial where a stream starts anew."""
    if batch.reset is None or state is None or bool(batch.reset.all()):
        return network.initial_state(len(batch), batch.selector)
    state = tuple(s[: len(batch)] for s in state)
    if not bool(batch.reset.any()):
        return state
    initial = network.initial_state(len(batch), batch.selector)
    reset = batch.reset[:, None, None]
    return tuple(torch.where(reset, new, old) for new, old in zip(initial, state, strict=True))
