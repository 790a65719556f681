"""What a training reports of itself, epoch by epoch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

import pandas as pd

History = tuple["Epoch", ...]


@dataclass(frozen=True)
class Epoch:
    """One line of the history."""

    epoch: int  # from 1
    train_loss: float
    validation_loss: float
    learning_rate: float  # at the epoch's start
    seconds: float


def best_epoch(history: History) -> Epoch:
    """The epoch of the lowest validation loss, the first of equals."""
    return min(history, key=lambda epoch: epoch.validation_loss)


def to_table(history: History) -> pd.DataFrame:
    """A row an epoch, a column a figure."""
    return pd.DataFrame(
        [asdict(epoch) for epoch in history], columns=[f.name for f in fields(Epoch)]
    )
