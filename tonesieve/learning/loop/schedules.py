"""Learning-rate schedules: functions of the history alone, so that a resumed training agrees."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from tonesieve.config.config import Config
from tonesieve.learning.loop.history import History


def learning_rate(config: Config, history: History) -> Callable[[float], float]:
    """Return the learning rate of the next epoch.

    ``cosine``: to zero over all epochs, batch by batch. ``step``: times ``schedule_factor`` after
    ``schedule_epochs`` epochs. ``plateau``: times the factor whenever the validation loss has not
    improved for that many epochs.

    Parameters
    ----------
    config : Config
        The settings.
    history : tuple of Epoch
        The epochs before.

    Returns
    -------
    callable
        The learning rate, as a function of the fraction of the epoch that is done.
    """
    training, n_done = config.training, len(history)
    if training.schedule == "cosine":
        return lambda fraction: _cosine(
            training.learning_rate, (n_done + fraction) / training.epochs
        )
    rate = training.learning_rate
    if training.schedule == "step" and n_done >= training.schedule_epochs:
        rate *= training.schedule_factor
    if training.schedule == "plateau":
        rate = _plateau(config, history)
    return lambda fraction: rate


def warmup_factor(config: Config, n_batches: int) -> float:
    """Return the factor of a batch's learning rate during warm-up.

    Parameters
    ----------
    config : Config
        The settings.
    n_batches : int
        Batches before it.

    Returns
    -------
    float
        It rises to 1 over the first ``warmup_batches`` batches.
    """
    return min(1.0, (n_batches + 1) / max(1, config.training.warmup_batches))


def _cosine(base: float, fraction: float) -> float:
    return base * (1 + math.cos(math.pi * fraction)) / 2


def _plateau(config: Config, history: History) -> float:
    """The rate of PyTorch's own plateau schedule after these losses."""
    training = config.training
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=training.learning_rate)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=training.schedule_factor, patience=training.schedule_epochs
    )
    for epoch in history:
        schedule.step(epoch.validation_loss)
    return float(optimizer.param_groups[0]["lr"])
