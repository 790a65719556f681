"""LSTM, GRU and plain recurrent layers, and what may stand between and upon them.

SPEC, section 3. Parameters as PyTorch counts them: g H (F + H + 2) a layer (two bias vectors)
with F features in and g gates: 4 in an LSTM, 3 in a GRU, 1 in a plain one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tonesieve.config.config import DataSettings, ModelSettings
from tonesieve.learning.models.attention import Attention
from tonesieve.learning.models.base import State, StreamingLayer, remember
from tonesieve.learning.models.fused_lstm import is_supported, run_lstm

CELLS: dict[str, Any] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class Recurrent(StreamingLayer):
    """Recurrent layers of one kind, in one fused stack."""

    def __init__(
        self,
        n_features: int,
        kind: str,
        size: int,
        *,
        n_layers: int = 1,
        dropout: float = 0.0,
        bidirectional: bool = False,
        recurrent_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        directions = 2 if bidirectional else 1
        self.causal = not bidirectional
        self.width = directions * size
        self.cell = CELLS[kind](
            n_features,
            size,
            n_layers,
            dropout=dropout if n_layers > 1 else 0.0,
            batch_first=True,
            bidirectional=bidirectional,
        )
        self.recurrent_dropout = recurrent_dropout
        n_tensors = 2 if kind == "lstm" else 1
        self.state_shapes = ((directions * n_layers, size),) * n_tensors
        self.n_told = n_tensors

    def forward(
        self, inputs: Float[Tensor, "B T F"], state: State
    ) -> tuple[Float[Tensor, "B T G"], State]:
        """Hidden states at every sample."""
        if self._fused(inputs):
            hidden, *after_each = run_lstm(self.cell, inputs, state[0][:, 0], state[1][:, 0])
            return hidden, tuple(s[:, None] for s in after_each)
        layers_first = tuple(s.transpose(0, 1).contiguous() for s in state)
        given = layers_first if len(layers_first) == 2 else layers_first[0]
        if self.training and self.recurrent_dropout:
            hidden, after = torch.func.functional_call(self.cell, self._thinned(), (inputs, given))
        else:
            hidden, after = self.cell(inputs, given)
        kept = after if isinstance(after, tuple) else (after,)
        if not self.causal:  # the way back begins anew: its state is of samples already passed
            onward = hidden.new_tensor([1.0, 0.0])
            kept = tuple(s * onward.repeat(len(s) // 2)[:, None, None] for s in kept)
        return hidden, tuple(s.transpose(0, 1) for s in kept)

    def _fused(self, inputs: Tensor) -> bool:
        """Whether to go through our own kernels: where they learn faster than PyTorch's."""
        thinned = self.training and self.recurrent_dropout
        return torch.is_grad_enabled() and not thinned and is_supported(self.cell, inputs)

    def _thinned(self) -> dict[str, Tensor]:
        """Recurrent weights of which whole columns are dropped: as though the same units of the
        carried state were silent at every step (Gal and Ghahramani 2016, arXiv:1512.05287).

        One mask for all streams of a batch, so that the fused layer can be used.
        """
        keep = 1 - self.recurrent_dropout
        return {
            name: weight * (torch.rand(weight.shape[1]) < keep).to(weight) / keep
            for name, weight in self.cell.named_parameters()
            if name.startswith("weight_hh")
        }


class Layer(StreamingLayer):
    """One recurrent layer with a norm upon it, its input added, and dropout after it."""

    def __init__(
        self, recurrent: Recurrent, n_features: int, *, norm: bool, residual: bool, dropout: float
    ) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.causal, self.width = recurrent.causal, recurrent.width
        self.state_shapes, self.n_told = recurrent.state_shapes, recurrent.n_told
        self.norm = nn.LayerNorm(self.width) if norm else nn.Identity()
        # Where widths differ, as under the first layer, there is nothing to add.
        self.residual = residual and n_features == self.width
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, inputs: Float[Tensor, "B T F"], state: State
    ) -> tuple[Float[Tensor, "B T G"], State]:
        """Hidden states at every sample."""
        hidden, after = self.recurrent(inputs, state)
        hidden = self.norm(hidden)
        if self.residual:
            hidden = hidden + inputs
        return self.dropout(hidden), after


class SqueezeExcitation(StreamingLayer):
    """Gates every hidden unit by what the units have been on average over the context.

    Hu et al. 2018, arXiv:1709.01507, with the mean over the past in place of the whole, and GELU
    in place of the rectifier, so that a narrow gate does not begin dead.
    """

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.width = width
        squeezed = max(1, width // 4)
        self.gate = nn.Sequential(
            nn.Linear(width, squeezed), nn.GELU(), nn.Linear(squeezed, width), nn.Sigmoid()
        )
        self.state_shapes = ((context - 1, width),)

    def forward(
        self, inputs: Float[Tensor, "B T F"], state: State
    ) -> tuple[Float[Tensor, "B T F"], State]:
        """The gated units."""
        whole, memory = remember(state[0], inputs)
        context = state[0].shape[1] + 1
        mean = nn.functional.avg_pool1d(whole.transpose(1, 2), context, stride=1).transpose(1, 2)
        return inputs * self.gate(mean), (memory,)


class MultiScale(StreamingLayer):
    """Two stacks side by side: one hears all so far, one begins anew for every sample's window.

    Over windows of 50 with a context of 10: the joined hidden states of both.
    """

    def __init__(self, n_features: int, long: Recurrent, short: Recurrent, context: int) -> None:
        super().__init__()
        self.long, self.short = long, short
        self.width = long.width + short.width
        self.state_shapes = (*long.state_shapes, (context - 1, n_features))
        self.n_told = long.n_told

    def forward(
        self, inputs: Float[Tensor, "B T F"], state: State
    ) -> tuple[Float[Tensor, "B T G"], State]:
        """Hidden states of both, joined."""
        hidden, after = self.long(inputs, state[:-1])
        whole, memory = remember(state[-1], inputs)
        windows = whole.unfold(1, state[-1].shape[1] + 1, 1).transpose(2, 3)  # B T context F
        flat = windows.flatten(0, 1)
        zero = tuple(flat.new_zeros((len(flat), *shape)) for shape in self.short.state_shapes)
        last = self.short(flat, zero)[0][:, -1].unflatten(0, windows.shape[:2])
        return torch.cat([hidden, last], dim=2), (*after, memory)


def recurrent_parts(
    settings: ModelSettings, data: DataSettings, n_features: int, kind: str
) -> dict[str, StreamingLayer]:
    """The layers of a recurrent network, and what stands upon them."""
    parts = dict(_layers(settings, data, n_features, kind))
    return parts | upon(settings, list(parts.values())[-1].width)


def _layers(
    settings: ModelSettings, data: DataSettings, n_features: int, kind: str
) -> Iterator[tuple[str, StreamingLayer]]:
    size, n_layers = settings.size(data.n_components), settings.n_layers
    both = settings.bidirectional
    if not (settings.residual or settings.layer_norm or settings.recurrent_dropout):
        yield (
            kind,
            Recurrent(
                n_features,
                kind,
                size,
                n_layers=n_layers,
                dropout=settings.dropout,
                bidirectional=both,
            ),
        )
        return
    for n in range(n_layers):
        recurrent = Recurrent(
            n_features,
            kind,
            size,
            bidirectional=both,
            recurrent_dropout=settings.recurrent_dropout,
        )
        layer = Layer(
            recurrent,
            n_features,
            norm=settings.layer_norm,
            residual=settings.residual,
            dropout=settings.dropout if n < n_layers - 1 else 0.0,
        )
        yield f"{kind}_{n + 1}", layer
        n_features = layer.width


def upon(settings: ModelSettings, width: int) -> dict[str, StreamingLayer]:
    """Squeeze and excitation, and attention, where they are asked for."""
    parts: dict[str, StreamingLayer] = {}
    if settings.squeeze_excitation:
        parts["squeeze_excitation"] = SqueezeExcitation(width, settings.look_back)
    if settings.attention != "none":
        parts["attention"] = Attention(
            width, settings.attention, settings.look_back, settings.n_heads
        )
    return parts


def multi_scale_parts(
    settings: ModelSettings, data: DataSettings, n_features: int
) -> dict[str, StreamingLayer]:
    """A long and a short LSTM side by side."""
    long, short = (
        Recurrent(
            n_features,
            "lstm",
            settings.size(data.n_components),
            n_layers=settings.n_layers,
            dropout=settings.dropout,
        )
        for _ in range(2)
    )
    return {"scales": MultiScale(n_features, long, short, settings.look_back)}
