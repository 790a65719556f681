"""Learning-rate schedules: functions of the history alone, so that a resumed training agrees."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from tonesieve.config.config import Config
from tonesieve.learning.loop.history import History


def learning_rate(config: Config, history: History) -> Callable[[float], float]:
    """Learning rate within the next epoch, as a function of the share of it that is done.

    cosine: to zero over all epochs, batch by batch. step: times ``schedule_factor`` after
    ``schedule_epochs`` epochs. plateau: times the factor whenever the validation loss has not
    improved for that many epochs.
    """
    training, done = config.training, len(history)
    if training.schedule == "cosine":
        return lambda share: _cosine(training.learning_rate, (done + share) / training.epochs)
    rate = training.learning_rate
    if training.schedule == "step" and done >= training.schedule_epochs:
        rate *= training.schedule_factor
    if training.schedule == "plateau":
        rate = _plateau(config, history)
    return lambda share: rate


def warmup_factor(config: Config, n_batches: int) -> float:
    """Share of the learning rate that the batch after ``n_batches`` others gets."""
    return min(1.0, (n_batches + 1) / max(1, config.training.warmup_batches))


def _cosine(base: float, share: float) -> float:
    return base * (1 + math.cos(math.pi * share)) / 2


def _plateau(config: Config, history: History) -> float:
    """What PyTorch's own plateau schedule makes of the losses so far."""
    training = config.training
    holder = torch.optim.SGD([torch.zeros(1)], lr=training.learning_rate)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        holder, factor=training.schedule_factor, patience=training.schedule_epochs
    )
    for epoch in history:
        schedule.step(epoch.validation_loss)
    return float(holder.param_groups[0]["lr"])
