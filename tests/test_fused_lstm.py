"""The LSTM layer of the compiled kernels against PyTorch's: the same outputs and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tonesieve.learning.models.fused_lstm import is_supported, run_lstm

# Streams that are no multiple of four, sizes with and without whole tiles, features of a stack.
SHAPES = [(1, 1, 1, 16), (5, 7, 1, 64), (4, 20, 3, 96), (6, 33, 64, 32), (32, 100, 1, 64)]


def outputs_and_gradients(kernels: bool, shape: tuple[int, int, int, int]) -> list[Tensor]:
    """Hidden states, states after, and the gradients of a sum of all with random weights."""
    n_streams, n_samples, n_features, size = shape
    torch.manual_seed(1)
    cell = nn.LSTM(n_features, size, batch_first=True)
    inputs = torch.randn(n_streams, n_samples, n_features, requires_grad=True)
    h, c = (torch.randn(n_streams, size, requires_grad=True) for _ in range(2))
    if kernels:
        outputs = run_lstm(cell, inputs, h, c)
    else:
        hidden, (last_h, last_c) = cell(inputs, (h[None], c[None]))
        outputs = (hidden, last_h[0], last_c[0])
    loss = sum((torch.randn(part.shape) * part).sum() for part in outputs)
    assert isinstance(loss, Tensor)
    loss.backward()  # type: ignore[no-untyped-call]
    leaves = (inputs, h, c, *cell.parameters())
    return [*(x.detach() for x in outputs), *(x.grad for x in leaves if x.grad is not None)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_and_gradients_are_pytorchs(shape: tuple[int, int, int, int]) -> None:
    ours, theirs = (outputs_and_gradients(kernels, shape) for kernels in (True, False))
    assert len(ours) == len(theirs) == 3 + 3 + 4
    for a, b in zip(ours, theirs, strict=True):
        scale = float(b.abs().max())
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * scale)


def test_a_wrong_gradient_is_noticed() -> None:
    ours, theirs = (outputs_and_gradients(kernels, SHAPES[1]) for kernels in (True, False))
    ours[6] = ours[6] * (1 + 1e-4)
    with pytest.raises(AssertionError, match="close"):
        torch.testing.assert_close(ours[6], theirs[6], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("cell", "supported"),
    [
        (nn.LSTM(1, 16), True),
        (nn.LSTM(1, 12), False),
        (nn.LSTM(1, 16, 2), False),
        (nn.LSTM(1, 16, bidirectional=True), False),
        (nn.GRU(1, 16), False),
    ],
)
def test_only_some_layers_are_supported(cell: nn.Module, supported: bool) -> None:
    assert is_supported(cell, torch.zeros(2, 3, 1)) is supported
    assert not is_supported(cell, torch.zeros(2, 0, 1))
    assert not is_supported(cell, torch.zeros(2, 3, 1, dtype=torch.float64))
