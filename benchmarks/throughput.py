"""Training throughput: an LSTM of 64 units, 32 streams, 100 steps, one thread.

``python benchmarks/throughput.py`` takes PyTorch's layer and ours in turn, forward, backward and
Adam, beside the product of two 2048 x 2048 matrices in the same round; and the largest differences
of the gradients.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from kept import keep, spread
from torch import Tensor, nn

from tonesieve.learning.models.fused_lstm import run_lstm

HIDDEN, N_STREAMS, N_STEPS, N_OUTPUTS = 64, 32, 100, 4
SIDE, ROUNDS, REPEATS = 2048, 9, 30
# Of one pass forward; the gradients take twice as many again.
FORWARD = 2 * N_STREAMS * N_STEPS * (4 * HIDDEN * (HIDDEN + 1) + N_OUTPUTS * HIDDEN)


def layers() -> tuple[nn.LSTM, nn.Linear, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    cell, readout = nn.LSTM(1, HIDDEN, batch_first=True), nn.Linear(HIDDEN, N_OUTPUTS)
    inputs = torch.randn(N_STREAMS, N_STEPS, 1)
    return (
        cell,
        readout,
        inputs,
        torch.randn(N_STREAMS, N_STEPS, N_OUTPUTS),
        torch.zeros(N_STREAMS, HIDDEN),
    )


def loss_by(way: str, parts: tuple[nn.LSTM, nn.Linear, Tensor, Tensor, Tensor]) -> Tensor:
    cell, readout, inputs, targets, zero = parts
    if way == "ours":
        hidden = run_lstm(cell, inputs, zero, zero)[0]
    else:
        hidden = cell(inputs, (zero[None], zero[None]))[0]
    return nn.functional.mse_loss(readout(hidden), targets)


def gradients(way: str) -> list[Tensor]:
    parts = layers()
    loss_by(way, parts).backward()
    return [p.grad for p in parts[0].parameters() if p.grad is not None]


def stepper(way: str) -> Callable[[], None]:
    """A training step."""
    parts = layers()
    optimizer = torch.optim.Adam([*parts[0].parameters(), *parts[1].parameters()])

    def step() -> None:
        optimizer.zero_grad()
        loss_by(way, parts).backward()
        optimizer.step()

    return step


def main() -> None:
    torch.set_num_threads(1)
    one, other = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    steps = {way: stepper(way) for way in ("torch", "ours")}
    rounds: dict[str, list[float]] = {"peak": [], "torch": [], "ours": []}
    for step in steps.values():
        step()
    for _ in range(ROUNDS):
        began = time.perf_counter()
        one @ other
        rounds["peak"].append(2 * SIDE**3 / (time.perf_counter() - began) / 1e9)
        for way, step in steps.items():
            began = time.perf_counter()
            for _ in range(REPEATS):
                step()
            seconds = (time.perf_counter() - began) / REPEATS
            rounds[way].append(3 * FORWARD / seconds / 1e9)
    pairs = zip(gradients("torch"), gradients("ours"), strict=True)
    result: dict[str, Any] = {
        "gflops": {name: spread(values) for name, values in rounds.items()},
        "share": {
            way: spread((np.array(rounds[way]) / rounds["peak"]).tolist())
            for way in ("torch", "ours")
        },
        "ours_over_torch": spread((np.array(rounds["ours"]) / rounds["torch"]).tolist()),
        "gradients": max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs),
    }
    keep("throughput", result)
    for name in ("gflops", "share", "ours_over_torch", "gradients"):
        print(name, result[name])


if __name__ == "__main__":
    main()
