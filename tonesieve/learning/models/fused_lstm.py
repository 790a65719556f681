"""nn.LSTM's layer by compiled kernels: the same numbers and gradients, in less time on one core.

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
    """Whether a layer can go through here: one LSTM in one direction, on a CPU, in whole lines."""
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
    """Hidden states at every sample, and the state after the last."""
    of = dict(cell.named_parameters())
    bias = of["bias_ih_l0"] + of["bias_hh_l0"]
    whole = torch.cat([of["weight_hh_l0"], of["weight_ih_l0"], bias[:, None]], dim=1)
    hidden, h_after, c_after = _Lstm.apply(whole, inputs, h, c)
    return hidden, h_after, c_after


def _in_tiles(rows: Float[Tensor, "N M"]) -> Tensor:
    """Zeros in place of a bias, then a matrix (inputs, outputs) as `kernels.gemv` takes it."""
    n, m = rows.shape
    tiled = m - m % TILE_WIDTH
    tiles = rows[:, :tiled].reshape(n, tiled // TILE_WIDTH, TILE_WIDTH).transpose(0, 1)
    lines = rows[:, tiled:].reshape(n, (m - tiled) // LINE, LINE).transpose(0, 1)
    return torch.cat([rows.new_zeros(TILE_WIDTH), tiles.flatten(), lines.flatten()])


class _Lstm(torch.autograd.Function):
    """One layer; ``whole``: (4H, H + F + 1) weights of state and features, and the bias."""

    @staticmethod
    def forward(
        ctx: Any, whole: Tensor, inputs: Tensor, h: Tensor, c: Tensor
    ) -> tuple[Tensor, ...]:
        n_streams, n_samples, n_features = inputs.shape
        size = h.shape[1]
        given = inputs.new_ones((n_samples + 1, n_streams, whole.shape[1]))
        given[:-1, :, size:-1] = inputs.transpose(0, 1)
        given[0, :, :size] = h
        halves = _halves(size).to(whole)
        gates = inputs.new_empty((n_samples, n_streams, 4 * size))
        cells = inputs.new_empty((n_samples + 1, n_streams, size))
        cells[0] = c
        bent = inputs.new_empty((n_samples, n_streams, size))
        scaled = whole * halves[:, None]
        tiles = _in_tiles(scaled.T)
        hidden = inputs.new_empty((n_streams, n_samples, size))
        arrays = (given, tiles, gates, cells, bent, hidden)
        kernels.forward(*(x.detach().numpy() for x in arrays))
        ctx.save_for_backward(scaled, given, gates, cells, bent)
        ctx.n_features = n_features
        return hidden, given[-1, :, :size].clone(), cells[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *of: Tensor) -> tuple[Tensor | None, ...]:
        scaled, given, gates, cells, bent = ctx.saved_tensors
        size = bent.shape[2]
        of_hidden, of_h, of_c = (x.contiguous() for x in of)
        of_h, of_c = of_h.clone(), of_c.clone()
        upstream = ctx.needs_input_grad[1]
        of_gates = gates.new_empty((len(gates) if upstream else 1, *gates.shape[1:]))
        tiles = _in_tiles(scaled[:, :size])
        of_rows = torch.zeros_like(scaled.T, memory_format=torch.contiguous_format)
        arrays = (of_hidden, of_h, of_c, tiles, gates, cells, bent, given, of_gates, of_rows)
        kernels.backward(*(x.detach().numpy() for x in arrays))
        of_whole = of_rows.T * _halves(size).to(scaled)[:, None]
        of_inputs = None
        if upstream:
            of_inputs = (of_gates @ scaled[:, size:-1]).transpose(0, 1)
        return of_whole, of_inputs, of_h, of_c


def _halves(size: int) -> Tensor:
    """What the weights of the gates i, f, g, o are multiplied by."""
    return torch.tensor([0.5, 0.5, 1.0, 0.5]).repeat_interleave(size)
