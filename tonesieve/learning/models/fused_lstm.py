"""nn.LSTM by compiled kernels: the same outputs and gradients, in less time on one core.

PyTorch's own layer spends as long on moving data between many small operations as on the sums. Here
a chunk is one call forward and one back.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tonesieve.kernels import lstm as kernels
from tonesieve.kernels.tiling import LINE, TILE_WIDTH


def is_supported(cell: nn.Module, inputs: Tensor) -> bool:
    """Check whether the kernels can run a layer.

    Parameters
    ----------
    cell : nn.Module
        The layer.
    inputs : Tensor, shape (B, T, F)
        What it would run over.

    Returns
    -------
    bool
        True for one LSTM layer in one direction, in float32 on a CPU, whose hidden size is a
        multiple of `LINE`.
    """
    return (
        isinstance(cell, nn.LSTM)
        and cell.num_layers == 1
        and not cell.bidirectional
        and cell.hidden_size % LINE == 0
        and inputs.device.type == "cpu"
        and inputs.dtype == torch.float32
        and inputs.shape[1] > 0
    )


def run_lstm(
    cell: nn.LSTM, inputs: Float[Tensor, "B T F"], h: Float[Tensor, "B H"], c: Float[Tensor, "B H"]
) -> tuple[Float[Tensor, "B T H"], Float[Tensor, "B H"], Float[Tensor, "B H"]]:
    """Run an LSTM layer over a chunk.

    Parameters
    ----------
    cell : nn.LSTM
        The layer, as `is_supported` accepts it.
    inputs : Tensor, shape (B, T, F)
        Features of every sample.
    h : Tensor, shape (B, H)
        Hidden state before the first sample.
    c : Tensor, shape (B, H)
        Cell state before the first sample.

    Returns
    -------
    hidden : Tensor, shape (B, T, H)
        Hidden states at every sample.
    h : Tensor, shape (B, H)
        Hidden state after the last sample.
    c : Tensor, shape (B, H)
        Cell state after the last sample.
    """
    parameters = dict(cell.named_parameters())
    bias = parameters["bias_ih_l0"] + parameters["bias_hh_l0"]
    weights = torch.cat(
        [parameters["weight_hh_l0"], parameters["weight_ih_l0"], bias[:, None]], dim=1
    )
    hidden, h_after, c_after = _Lstm.apply(weights, inputs, h, c)
    return hidden, h_after, c_after


def _in_tiles(rows: Float[Tensor, "N M"]) -> Tensor:
    """Zeros in place of a bias, then a matrix (inputs, outputs) as `kernels.gemv` takes it."""
    n, m = rows.shape
    tiled = m - m % TILE_WIDTH
    tiles = rows[:, :tiled].reshape(n, tiled // TILE_WIDTH, TILE_WIDTH).transpose(0, 1)
    lines = rows[:, tiled:].reshape(n, (m - tiled) // LINE, LINE).transpose(0, 1)
    return torch.cat([rows.new_zeros(TILE_WIDTH), tiles.flatten(), lines.flatten()])


class _Lstm(torch.autograd.Function):
    """One layer; ``weights``: (4H, H + F + 1), of state and features, and the bias."""

    @staticmethod
    def forward(
        ctx: Any, weights: Tensor, inputs: Tensor, h: Tensor, c: Tensor
    ) -> tuple[Tensor, ...]:
        n_streams, n_samples, n_features = inputs.shape
        size = h.shape[1]
        # Hidden states, features and a one for the bias, of every step.
        operands = inputs.new_ones((n_samples + 1, n_streams, weights.shape[1]))
        operands[:-1, :, size:-1] = inputs.transpose(0, 1)
        operands[0, :, :size] = h
        scales = _gate_scales(size).to(weights)
        gates = inputs.new_empty((n_samples, n_streams, 4 * size))
        cells = inputs.new_empty((n_samples + 1, n_streams, size))
        cells[0] = c
        tanh_c = inputs.new_empty((n_samples, n_streams, size))
        scaled = weights * scales[:, None]
        tiles = _in_tiles(scaled.T)
        hidden = inputs.new_empty((n_streams, n_samples, size))
        arrays = (operands, tiles, gates, cells, tanh_c, hidden)
        kernels.forward(*(x.detach().numpy() for x in arrays))
        ctx.save_for_backward(scaled, operands, gates, cells, tanh_c)
        ctx.n_features = n_features
        return hidden, operands[-1, :, :size].clone(), cells[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        scaled, operands, gates, cells, tanh_c = ctx.saved_tensors
        size = tanh_c.shape[2]
        grad_hidden, grad_h, grad_c = (x.contiguous() for x in grads)
        grad_h, grad_c = grad_h.clone(), grad_c.clone()
        needs_inputs = ctx.needs_input_grad[1]
        grad_gates = gates.new_empty((len(gates) if needs_inputs else 1, *gates.shape[1:]))
        tiles = _in_tiles(scaled[:, :size])
        grad_rows = torch.zeros_like(scaled.T, memory_format=torch.contiguous_format)
        arrays = (grad_hidden, grad_h, grad_c, tiles, gates, cells, tanh_c, operands)
        kernels.backward(*(x.detach().numpy() for x in (*arrays, grad_gates, grad_rows)))
        grad_weights = grad_rows.T * _gate_scales(size).to(scaled)[:, None]
        grad_inputs = None
        if needs_inputs:
            grad_inputs = (grad_gates @ scaled[:, size:-1]).transpose(0, 1)
        return grad_weights, grad_inputs, grad_h, grad_c


def _gate_scales(size: int) -> Tensor:
    """Factors of the weights of gates i, f, g, o: sigmoid(x) = (1 + tanh(x / 2)) / 2."""
    return torch.tensor([0.5, 0.5, 1.0, 0.5]).repeat_interleave(size)
