"""SOAP against Adam, its invariance to rotations, and the warm-up."""

from __future__ import annotations

from typing import Any

import torch

from tonesieve.config.config import make_config
from tonesieve.learning.loop.optimizers import BETAS, SOAP
from tonesieve.learning.loop.schedules import warmup_factor


def descend(
    optimizer: Any, parameter: torch.Tensor, gradient: Any, n_steps: int
) -> list[torch.Tensor]:
    steps = []
    for _ in range(n_steps):
        parameter.grad = gradient(parameter)
        optimizer.step()
        steps.append(parameter.detach().clone())
    return steps


def test_soap_on_a_vector_is_adam_one_step_later() -> None:
    scale = torch.tensor([1.0, 10.0, 0.1])
    ours, theirs = (torch.ones(3, requires_grad=True) for _ in range(2))
    soap = descend(SOAP([ours], lr=0.05), ours, lambda x: scale * x.detach(), 31)
    adam = torch.optim.Adam([theirs], lr=0.05, betas=BETAS)
    steps = descend(adam, theirs, lambda x: scale * x.detach(), 30)
    torch.testing.assert_close(soap[0], torch.ones(3))
    torch.testing.assert_close(soap[1:], steps, rtol=1e-5, atol=1e-6)


def test_soap_is_invariant_to_rotations_of_a_matrix() -> None:
    generator = torch.Generator().manual_seed(3)
    start, noise = (torch.randn(5, 5, generator=generator) for _ in range(2))
    curvature = torch.linspace(0.1, 3, 25).reshape(5, 5)
    left, right = (torch.linalg.qr(torch.randn(n, n, generator=generator)).Q for n in (5, 5))
    plain, rotated = start.clone().requires_grad_(), (left @ start @ right).requires_grad_()

    def slope(x: torch.Tensor) -> torch.Tensor:
        return curvature * x.detach() + noise

    a = descend(SOAP([plain], lr=0.01), plain, slope, 25)
    b = descend(
        SOAP([rotated], lr=0.01), rotated, lambda x: left @ slope(left.T @ x @ right.T) @ right, 25
    )
    torch.testing.assert_close(left @ a[-1] @ right, b[-1], rtol=0, atol=2e-2)
    assert float((a[-1] - start).abs().max()) > 0.1


def test_soap_is_faster_than_adam_where_gradients_correlate() -> None:
    generator = torch.Generator().manual_seed(4)
    mixing = torch.linalg.qr(torch.randn(16, 16, generator=generator)).Q
    inputs = torch.randn(256, 16, generator=generator) * torch.logspace(0, -3, 16) @ mixing
    truth = torch.randn(16, 8, generator=generator)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return ((inputs @ (x - truth)) ** 2).mean()

    ends = []
    for kind in (SOAP, torch.optim.Adam):
        x = torch.zeros(16, 8, requires_grad=True)
        optimizer = kind([x], lr=0.03)
        for _ in range(300):
            optimizer.zero_grad()
            loss(x).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        ends.append(float(loss(x.detach())))
    assert ends[0] < 0.2 * ends[1]


def test_the_learning_rate_warms_up() -> None:
    config = make_config({"training": {"warmup_batches": 4}})
    assert [warmup_factor(config, n) for n in (0, 1, 3, 4, 9)] == [0.25, 0.5, 1, 1, 1]
    assert warmup_factor(make_config({}), 0) == 1
