"""What turns gradients into steps: PyTorch's own, and SOAP.

SOAP (Vyas et al. 2024, arXiv:2409.11321) is Adam in the eigenbasis of Shampoo's preconditioner:
where gradients of a matrix's entries correlate, as they do in recurrent networks near the optimum,
it takes about half the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from tonesieve.config.config import Config

# Of the moving means: gradient, its square, and its correlations.
BETAS = (0.95, 0.95)
EPSILON = 1e-8
# The bases are renewed every so many steps.
EVERY = 10
# Sides longer than this keep their own basis: the basis costs the cube of it.
LONGEST = 256


def build_optimizer(config: Config, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """The optimiser that the settings name."""
    training = config.training
    kinds: dict[str, Any] = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD, "soap": SOAP}
    made = kinds[training.optimizer](
        parameters, lr=training.learning_rate, weight_decay=training.weight_decay
    )
    assert isinstance(made, torch.optim.Optimizer)
    return made


class SOAP(torch.optim.Optimizer):
    """Adam in a slowly turning basis of each matrix; weight decay is added to the gradient."""

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, *, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step; the first one only learns the bases."""
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
            _begin(state, matrix)
            return
        n = int(state["n"])
        state["n"] += 1
        first, second = BETAS
        state["mean"].lerp_(matrix, 1 - first)
        turned = _turn(matrix, state)
        state["square"].mul_(second).addcmul_(turned, turned, value=1 - second)
        mean = _turn(state["mean"], state) / (1 - first**n)
        scale = (state["square"] / (1 - second**n)).sqrt_().add_(EPSILON)
        parameter.sub_((rate * _turn_back(mean / scale, state)).view_as(parameter))
        _correlate(state, matrix)
        if n % EVERY == 0 or n < 3:
            _renew(state)


def _as_matrix(gradient: Tensor) -> Tensor:
    return gradient.reshape(1, -1) if gradient.dim() < 2 else gradient.flatten(1)


def _begin(state: dict[str, Any], matrix: Tensor) -> None:
    state["n"] = torch.tensor(1.0)
    state["mean"], state["square"] = torch.zeros_like(matrix), torch.zeros_like(matrix)
    for side, size in zip(("rows", "columns"), matrix.shape, strict=True):
        if matrix.shape[0] > 1 and 1 < size <= LONGEST:
            state[side] = matrix.new_zeros((size, size))
    if not bool(matrix.isfinite().all()):
        return  # the loss will say so
    _correlate(state, matrix)
    for side in ("rows", "columns"):
        if side in state:
            state[f"{side}_basis"] = (
                torch.linalg.eigh(state[side]).eigenvectors.flip(1).contiguous()
            )


def _correlate(state: dict[str, Any], matrix: Tensor) -> None:
    if "rows" in state:
        state["rows"].lerp_(matrix @ matrix.T, 1 - BETAS[1])
    if "columns" in state:
        state["columns"].lerp_(matrix.T @ matrix, 1 - BETAS[1])


def _turn(matrix: Tensor, state: dict[str, Any]) -> Tensor:
    if "rows" in state:
        matrix = state["rows_basis"].T @ matrix
    return matrix @ state["columns_basis"] if "columns" in state else matrix


def _turn_back(matrix: Tensor, state: dict[str, Any]) -> Tensor:
    if "rows" in state:
        matrix = state["rows_basis"] @ matrix
    return matrix @ state["columns_basis"].T if "columns" in state else matrix


def _renew(state: dict[str, Any]) -> None:
    """One step of the power method for every basis, the largest eigenvalue first.

    Rows in one piece, as they come back from a checkpoint: else a product may round otherwise.
    """
    for axis, side in enumerate(("rows", "columns")):
        if side not in state:
            continue
        correlations, basis = state[side], state[f"{side}_basis"]
        order = (basis * (correlations @ basis)).sum(0).argsort(descending=True)
        state["square"] = state["square"].index_select(axis, order)
        state[f"{side}_basis"] = torch.linalg.qr(correlations @ basis[:, order]).Q.contiguous()
