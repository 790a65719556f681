"""The state of a pretraining: network, optimizer and step; saved, so that it can be resumed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tonesieve.errors import UserError
from tonesieve.inference.weights import read_tensors, write_tensors
from tonesieve.learning.pretraining.gating_network import (
    GatingNetwork,
    TensorBatch,
    compute_losses,
)
from tonesieve.learning.pretraining.recipe import LEARNING_RATE, Recipe

MAX_GRADIENT_NORM = 1.0  # guard: gradients are clipped to it
N_LOSSES = 50  # losses that the displayed one averages; chosen, not tuned
# The format of an unfinished pretraining, and the prefixes of its tensors.
PART_FORMAT, PART_VERSION = "pretraining", 1
NETWORK, OPTIMIZER = "weigher", "optimizer"


def train_step(
    network: GatingNetwork, optimizer: torch.optim.Optimizer, batch: TensorBatch
) -> float:
    """One step of the optimizer; returns the loss before it."""
    causal, smoothing = compute_losses(network, batch)
    loss = causal.loss + smoothing.loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT_NORM)
    optimizer.step()
    return float(loss.detach())


class TrainingState:
    """A pretraining after some steps."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self._recipe, self.step, self._losses = recipe, 0, [0.0]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.network = GatingNetwork(recipe.n_hidden).to(device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=LEARNING_RATE)

    def train_on(self, batch: TensorBatch) -> None:
        """Train on the next batch."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._recipe.learning_rate(self.step)
        loss = train_step(self.network, self.optimizer, batch)
        if not math.isfinite(loss):
            raise RuntimeError(f"the loss of step {self.step} is {loss}")
        self.step += 1
        self._losses = [*self._losses[1 - N_LOSSES :], loss] if self.step > 1 else [loss]

    def summary(self) -> str:
        """Step and loss, for display."""
        return f"{self.step}/{self._recipe.n_steps} loss {np.mean(self._losses):.2f}"

    def save(self, path: Path) -> None:
        """Write all that the next step needs."""
        tensors = {f"{NETWORK}.{n}": t for n, t in self.network.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"{OPTIMIZER}.{index}.{key}": tensor for key, tensor in state.items()}
        about = {
            "format": PART_FORMAT,
            "version": PART_VERSION,
            "recipe": self._recipe.to_metadata(),
            "step": self.step,
        }
        write_tensors(path, to_arrays(tensors), about)

    def resume(self, path: Path) -> None:
        """Continue from a saved state; raises `UserError` where it does not fit."""
        tensors, about = read_tensors(path)
        if about.get("format") != PART_FORMAT or about.get("version") != PART_VERSION:
            raise UserError(f"{path}: not what is left of a pretraining; remove it, or --force")
        own, saved = self._recipe.to_metadata(), dict(about.get("recipe") or {})
        changed = [name for name in own if own[name] != saved.get(name)]
        if changed:
            name = changed[0]
            raise UserError(
                f"{path}: was begun with {name} {saved.get(name)}, not {own[name]}; "
                "continue with that, remove it, or --force to begin anew"
            )
        try:
            self._load({n: torch.from_numpy(a).clone() for n, a in tensors.items()})
            self.step = int(about["step"])
        except (KeyError, RuntimeError, TypeError, ValueError):
            raise UserError(f"{path}: not a whole pretraining; remove it, or --force") from None

    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        weights: dict[str, Tensor] = {}
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            prefix, rest = name.split(".", 1)
            if prefix == NETWORK:
                weights[rest] = tensor
            else:
                index, key = rest.split(".", 1)
                state.setdefault(int(index), {})[key] = tensor
        self.network.load_state_dict(weights)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})


def start_or_resume(
    recipe: Recipe, device: torch.device, path: Path, *, force: bool
) -> TrainingState:
    """Resume from a file, or begin; with ``force`` also where the file does not fit."""
    if not path.exists():
        return TrainingState(recipe, device)
    try:
        state = TrainingState(recipe, device)
        state.resume(path)
    except UserError:
        if not force:
            raise
        state = TrainingState(recipe, device)
    return state


def to_arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Tensors as arrays."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
