"""Optimisers: PyTorch's own, and SOAP."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from tonesieve.config.config import Config

# Exponential averages: of the gradient; of its square and its correlations. Chosen, not tuned: the
# paper's values.
BETAS = (0.95, 0.95)
# Guard: against division by 0.
EPSILON = 1e-8
# Steps from one update of the eigenbases to the next. Chosen, not tuned: the paper's value.
BASIS_INTERVAL = 10
# Longer sides have no eigenbasis. Guard: against its cost, which is the cube of the length.
MAX_BASIS_SIZE = 256


def build_optimizer(config: Config, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """Build the optimiser that the settings name.

    Parameters
    ----------
    config : Config
        The settings.
    parameters : iterable of Tensor
        What it optimises.

    Returns
    -------
    Optimizer
        Adam, SGD or `SOAP`.
    """
    training = config.training
    kinds: dict[str, Any] = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD, "soap": SOAP}
    optimizer = kinds[training.optimizer](
        parameters, lr=training.learning_rate, weight_decay=training.weight_decay
    )
    assert isinstance(optimizer, torch.optim.Optimizer)
    return optimizer


class SOAP(torch.optim.Optimizer):
    """Adam in the eigenbasis of Shampoo's preconditioner [1]_.

    Where gradients of a matrix's entries correlate, as they do in recurrent networks near the
    optimum, it takes about half the steps of Adam. The basis of each matrix is updated every
    `BASIS_INTERVAL` steps.

    Parameters
    ----------
    parameters : iterable of Tensor
        What it optimises.
    lr : float
        Learning rate.
    weight_decay : float
        L2 penalty: this times the parameter is added to the gradient.

    References
    ----------
    .. [1] N. Vyas et al., "SOAP: Improving and stabilizing Shampoo using Adam", ICLR 2025,
       arXiv:2409.11321.
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, *, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step; the first one only initialises the bases.

        Parameters
        ----------
        closure : None
            Not supported.
        """
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, group["lr"], group["weight_decay"])

    def _step(self, parameter: Tensor, rate: float, decay: float) -> None:
        gradient = parameter.grad
        assert gradient is not None
        if decay:
            gradient = gradient.add(parameter, alpha=decay)
        matrix = _as_matrix(gradient)
        state = self.state[parameter]
        if not state:
            _init_state(state, matrix)
            return
        n = int(state["n"])
        state["n"] += 1
        beta_1, beta_2 = BETAS
        state["mean"].lerp_(matrix, 1 - beta_1)
        projected = _project(matrix, state)
        state["square"].mul_(beta_2).addcmul_(projected, projected, value=1 - beta_2)
        mean = _project(state["mean"], state) / (1 - beta_1**n)
        scale = (state["square"] / (1 - beta_2**n)).sqrt_().add_(EPSILON)
        parameter.sub_((rate * _project_back(mean / scale, state)).view_as(parameter))
        _update_correlations(state, matrix)
        if n % BASIS_INTERVAL == 0 or n < 3:
            _update_bases(state)


def _as_matrix(gradient: Tensor) -> Tensor:
    return gradient.reshape(1, -1) if gradient.dim() < 2 else gradient.flatten(1)


def _init_state(state: dict[str, Any], matrix: Tensor) -> None:
    # The keys are names in checkpoint files.
    state["n"] = torch.tensor(1.0)
    state["mean"], state["square"] = torch.zeros_like(matrix), torch.zeros_like(matrix)
    for side, size in zip(("rows", "columns"), matrix.shape, strict=True):
        if matrix.shape[0] > 1 and 1 < size <= MAX_BASIS_SIZE:
            state[side] = matrix.new_zeros((size, size))
    if not bool(matrix.isfinite().all()):
        return  # the loss is not finite either, and raises
    _update_correlations(state, matrix)
    for side in ("rows", "columns"):
        if side in state:
            state[f"{side}_basis"] = (
                torch.linalg.eigh(state[side]).eigenvectors.flip(1).contiguous()
            )


def _update_correlations(state: dict[str, Any], matrix: Tensor) -> None:
    if "rows" in state:
        state["rows"].lerp_(matrix @ matrix.T, 1 - BETAS[1])
    if "columns" in state:
        state["columns"].lerp_(matrix.T @ matrix, 1 - BETAS[1])


def _project(matrix: Tensor, state: dict[str, Any]) -> Tensor:
    """Into the eigenbasis."""
    if "rows" in state:
        matrix = state["rows_basis"].T @ matrix
    return matrix @ state["columns_basis"] if "columns" in state else matrix


def _project_back(matrix: Tensor, state: dict[str, Any]) -> Tensor:
    if "rows" in state:
        matrix = state["rows_basis"] @ matrix
    return matrix @ state["columns_basis"].T if "columns" in state else matrix


def _update_bases(state: dict[str, Any]) -> None:
    """One step of the power method for every basis, the largest eigenvalue first.

    Bases are contiguous, as they are when read from a checkpoint: else a product may round
    otherwise.
    """
    for axis, side in enumerate(("rows", "columns")):
        if side not in state:
            continue
        correlations, basis = state[side], state[f"{side}_basis"]
        order = (basis * (correlations @ basis)).sum(0).argsort(descending=True)
        state["square"] = state["square"].index_select(axis, order)
        state[f"{side}_basis"] = torch.linalg.qr(correlations @ basis[:, order]).Q.contiguous()
