"""The losses of a training, epoch by epoch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

import pandas as pd

History = tuple["Epoch", ...]


@dataclass(frozen=True)
class Epoch:
    """One epoch of the history.

    Attributes
    ----------
    epoch : int
        Its number, from 1.
    train_loss, validation_loss : float
        Mean loss over the epoch, and the validation loss after it.
    learning_rate : float
        Learning rate at its start.
    seconds : float
        Time that it took, validation included.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    learning_rate: float
    seconds: float


def best_epoch(history: History) -> Epoch:
    """Find the epoch of the lowest validation loss.

    Parameters
    ----------
    history : tuple of Epoch
        At least one.

    Returns
    -------
    Epoch
        The first of equals.
    """
    return min(history, key=lambda epoch: epoch.validation_loss)


def to_table(history: History) -> pd.DataFrame:
    """Tabulate a history.

    Parameters
    ----------
    history : tuple of Epoch
        Any number.

    Returns
    -------
    DataFrame
        A row an epoch, a column a field.
    """
    return pd.DataFrame(
        [asdict(epoch) for epoch in history], columns=[f.name for f in fields(Epoch)]
    )
