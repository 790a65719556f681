"""What the write-ups do, as plainly as they do it: a dataset of items, a DataLoader, nn.LSTM, Adam.

Their settings (docs/exercise.md, The five write-ups), none of ours: no buffers, no fused kernels,
no fresh noise. The record, its noise and the test are the exercise's own. ``python
benchmarks/plain.py NAME`` prints test MSE and seconds of training after every epoch.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from tonesieve.config.config import DataSettings
from tonesieve.signals.synthesis import Records, draw_exercise

N_TONES = 4


@dataclass(frozen=True)
class Recipe:
    """One write-up's settings."""

    window: int
    hidden: int
    n_layers: int
    dropout: float
    batch: int
    rate: float
    epochs: int
    weight_decay: float = 0.0


RECIPES = {
    "window10": Recipe(10, 64, 2, 0.2, 32, 1e-3, 50),
    "deep50": Recipe(50, 128, 2, 0.2, 64, 1e-3, 50, weight_decay=1e-5),
    "config-l1": Recipe(1, 128, 1, 0.0, 32, 1e-4, 100),
}


class Items(Dataset[tuple[Tensor, Tensor]]):
    """One item a window, or a row at L=1: the mixture with its one-hot selector, and the target."""

    def __init__(self, records: Records, window: int, n_rows: int) -> None:
        self.mixture = torch.from_numpy(records.mixture[0]).float()
        self.targets = torch.from_numpy(records.targets[0]).float()
        self.window, self.n_rows = window, n_rows

    def __len__(self) -> int:
        return N_TONES * self.n_rows

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        tone, start = divmod(index, self.n_rows)
        part = slice(start, start + self.window)
        selector = torch.zeros(N_TONES)
        selector[tone] = 1.0
        inputs = torch.cat([self.mixture[part, None], selector.expand(self.window, -1)], dim=1)
        return inputs, self.targets[part, tone, None]


class PlainLSTM(nn.Module):
    """nn.LSTM and a linear layer."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        between = recipe.dropout if recipe.n_layers > 1 else 0.0
        self.lstm = nn.LSTM(
            1 + N_TONES, recipe.hidden, recipe.n_layers, dropout=between, batch_first=True
        )
        self.dropout = nn.Dropout(recipe.dropout)
        self.linear = nn.Linear(recipe.hidden, 1)

    def forward(
        self, inputs: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        hidden, state = self.lstm(inputs, state)
        return self.linear(self.dropout(hidden)), state


def follow(name: str, *, epochs: int | None = None) -> Iterator[tuple[float, float]]:
    """Seconds of training so far, and test MSE, after every epoch."""
    recipe = RECIPES[name]
    data = DataSettings()
    train, test = (draw_exercise(data, seed=seed) for seed in (data.train_seed, data.test_seed))
    torch.manual_seed(0)
    network = PlainLSTM(recipe)
    optimizer = torch.optim.Adam(
        network.parameters(), lr=recipe.rate, weight_decay=recipe.weight_decay
    )
    n_rows = int(0.9 * (data.n_samples - recipe.window + 1)) if recipe.window > 1 else 10_000
    items = Items(train, recipe.window, n_rows)
    loader = DataLoader(items, batch_size=recipe.batch, shuffle=recipe.window > 1)
    seconds = 0.0
    for _ in range(epochs or recipe.epochs):
        began = time.perf_counter()
        _train_epoch(network, loader, optimizer, carried=recipe.window == 1)
        seconds += time.perf_counter() - began
        yield seconds, _test(network, test, recipe)


def _train_epoch(
    network: PlainLSTM,
    loader: DataLoader[tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    *,
    carried: bool,
) -> None:
    network.train()
    state: tuple[Tensor, Tensor] | None = None
    for inputs, targets in loader:
        if state is not None and state[0].shape[1] != len(inputs):
            state = (state[0][:, : len(inputs)], state[1][:, : len(inputs)])
        outputs, after = network(inputs, state)
        loss = nn.functional.mse_loss(outputs, targets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        state = (after[0].detach(), after[1].detach()) if carried else None


@torch.inference_mode()
def _test(network: PlainLSTM, test: Records, recipe: Recipe) -> float:
    """MSE over all rows: the last output of every window, or rows in the lanes of training."""
    network.eval()
    length, errors = recipe.window, []
    for tone in range(N_TONES):
        mixture = torch.from_numpy(test.mixture[0]).float()[:, None]
        selector = torch.zeros(len(mixture), N_TONES)
        selector[:, tone] = 1.0
        rows = torch.cat([mixture, selector], dim=1)
        target = torch.from_numpy(test.targets[0, :, tone]).float()
        if length > 1:
            windows = rows.unfold(0, length, 1).transpose(1, 2)
            estimates = [network(part)[0][:, -1, 0] for part in windows.split(2048)]
            errors.append((torch.cat(estimates) - target[length - 1 :]) ** 2)
        else:  # lane p sees rows p, p + B, ...; what is left of 10,000 rows is left out
            n = len(rows) // recipe.batch * recipe.batch
            lanes = rows[:n].unflatten(0, (-1, recipe.batch)).transpose(0, 1)
            estimate = network(lanes)[0][:, :, 0].T.flatten()
            errors.append((estimate - target[:n]) ** 2)
    return float(torch.cat(errors).mean())


if __name__ == "__main__":
    torch.set_num_threads(1)
    for epoch, (seconds, mse) in enumerate(follow(sys.argv[1]), start=1):
        print(f"{epoch} {seconds:.1f} s {mse:.4f}", flush=True)
