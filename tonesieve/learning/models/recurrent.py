"""LSTM, GRU and Elman layers, and the layers that may follow them.

docs/exercise.md, "Models". Parameters as PyTorch counts them: g H (F + H + 2) a layer (two bias
vectors) with F features, H hidden units and g gates: 4 in an LSTM, 3 in a GRU, 1 in a plain layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tonesieve.config.config import DataSettings, ModelSettings
from tonesieve.learning.models.attention import Attention
from tonesieve.learning.models.base import State, StreamingLayer, append_history
from tonesieve.learning.models.fused_lstm import is_supported, run_lstm

CELLS: dict[str, Any] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class Recurrent(StreamingLayer):
    """Recurrent layers of one kind, in one fused stack: (B, T, F) to (B, T, H).

    An LSTM [1]_, a GRU [2]_ or a plain recurrent layer, as PyTorch has them. Bidirectional layers
    have 2 H outputs and are not causal.

    Parameters
    ----------
    n_features : int
        Features of the input, F.
    kind : {"lstm", "gru", "rnn"}
        The cell.
    size : int
        Hidden units, H.
    n_layers : int
        Layers in the stack.
    dropout : float
        Share of the features dropped between layers.
    bidirectional : bool
        Whether every layer also runs backwards over each chunk.
    recurrent_dropout : float
        Share of the hidden units whose recurrent connections are dropped, for a whole chunk [3]_.

    References
    ----------
    .. [1] S. Hochreiter and J. Schmidhuber, "Long short-term memory", Neural Computation 9, 1997.
    .. [2] K. Cho et al., "Learning phrase representations using RNN encoder-decoder for
       statistical machine translation", EMNLP 2014, arXiv:1406.1078.
    .. [3] Y. Gal and Z. Ghahramani, "A theoretically grounded application of dropout in recurrent
       neural networks", NeurIPS 2016, arXiv:1512.05287.
    """

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
        self.n_conditioned = n_tensors

    def forward(
        self, inputs: Float[Tensor, "B T F"], state: State
    ) -> tuple[Float[Tensor, "B T G"], State]:
        """Run over a chunk; the outputs are the last layer's hidden states."""
        if self._uses_kernels(inputs):
            hidden, *last = run_lstm(self.cell, inputs, state[0][:, 0], state[1][:, 0])
            return hidden, tuple(s[:, None] for s in last)
        layers_first = tuple(s.transpose(0, 1).contiguous() for s in state)
        before = layers_first if len(layers_first) == 2 else layers_first[0]
        if self.training and self.recurrent_dropout:
            weights = self._dropped_weights()
            hidden, after = torch.func.functional_call(self.cell, weights, (inputs, before))
        else:
            hidden, after = self.cell(inputs, before)
        after = after if isinstance(after, tuple) else (after,)
        if not self.causal:  # the backward direction's state is of samples before this chunk
            forward_only = hidden.new_tensor([1.0, 0.0])
            after = tuple(s * forward_only.repeat(len(s) // 2)[:, None, None] for s in after)
        return hidden, tuple(s.transpose(0, 1) for s in after)

    def _uses_kernels(self, inputs: Tensor) -> bool:
        """Whether to run the compiled kernels: where they train faster than PyTorch's."""
        drops = self.training and self.recurrent_dropout
        return torch.is_grad_enabled() and not drops and is_supported(self.cell, inputs)

    def _dropped_weights(self) -> dict[str, Tensor]:
        """Recurrent weights with whole columns zeroed: variational dropout of the state.

        One mask for all streams of a batch, so that PyTorch's fused layer can be used.
        """
        keep = 1 - self.recurrent_dropout
        return {
            name: weight * (torch.rand(weight.shape[1]) < keep).to(weight) / keep
            for name, weight in self.cell.named_parameters()
            if name.startswith("weight_hh")
        }


class Layer(StreamingLayer):
    """A recurrent layer with layer norm, residual connection and dropout: (B, T, F) to (B, T, H).

    Parameters
    ----------
    recurrent : Recurrent
        The layer.
    n_features : int
        Features of its input, F.
    norm : bool
        Whether to normalise its output.
    residual : bool
        Whether to add its input to its output, where both are as wide.
    dropout : float
        Share of the outputs dropped.
    """

    def __init__(
        self, recurrent: Recurrent, n_features: int, *, norm: bool, residual: bool, dropout: float
    ) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.causal, self.width = recurrent.causal, recurrent.width
        self.state_shapes = recurrent.state_shapes
        self.n_conditioned = recurrent.n_conditioned
        self.norm = nn.LayerNorm(self.width) if norm else nn.Identity()
        self.residual = residual and n_features == self.width
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, inputs: Float[Tensor, "B T F"], state: State
    ) -> tuple[Float[Tensor, "B T G"], State]:
        """Run over a chunk."""
        hidden, state_after = self.recurrent(inputs, state)
        hidden = self.norm(hidden)
        if self.residual:
            hidden = hidden + inputs
        return self.dropout(hidden), state_after


class SqueezeExcitation(StreamingLayer):
    """Gates on the features, from their mean over the context: (B, T, F) to (B, T, F).

    Squeeze and excitation [1]_, with the mean over the past context in place of the whole record,
    and GELU in place of ReLU, so that a narrow gate is not dead at the start.

    Parameters
    ----------
    width : int
        Features, F.
    context : int
        Samples of the mean.

    References
    ----------
    .. [1] J. Hu, L. Shen and G. Sun, "Squeeze-and-excitation networks", CVPR 2018,
       arXiv:1709.01507.
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
        """Run over a chunk."""
        extended, history = append_history(state[0], inputs)
        context = state[0].shape[1] + 1
        mean = nn.functional.avg_pool1d(extended.transpose(1, 2), context, stride=1)
        return inputs * self.gate(mean.transpose(1, 2)), (history,)


class MultiScale(StreamingLayer):
    """Two recurrent stacks side by side: (B, T, F) to (B, T, H + H2).

    One carries its state over all samples so far. The other starts from zero at the beginning of
    the short window that ends at each sample.

    Parameters
    ----------
    n_features : int
        Features of the input, F.
    long : Recurrent
        The stack that carries its state, H wide.
    short : Recurrent
        The stack that runs over short windows, H2 wide.
    context : int
        Samples of the short window.
    """

    def __init__(self, n_features: int, long: Recurrent, short: Recurrent, context: int) -> None:
        super().__init__()
        self.long, self.short = long, short
        self.width = long.width + short.width
        self.state_shapes = (*long.state_shapes, (context - 1, n_features))
        self.n_conditioned = long.n_conditioned

    def forward(
        self, inputs: Float[Tensor, "B T F"], state: State
    ) -> tuple[Float[Tensor, "B T G"], State]:
        """Run over a chunk; the outputs are the hidden states of both."""
        hidden, long_state = self.long(inputs, state[:-1])
        extended, history = append_history(state[-1], inputs)
        windows = extended.unfold(1, state[-1].shape[1] + 1, 1).transpose(2, 3)  # (B, T, C, F)
        flat = windows.flatten(0, 1)
        zero = tuple(flat.new_zeros((len(flat), *shape)) for shape in self.short.state_shapes)
        last = self.short(flat, zero)[0][:, -1].unflatten(0, windows.shape[:2])
        return torch.cat([hidden, last], dim=2), (*long_state, history)


def recurrent_layers(
    settings: ModelSettings, data: DataSettings, n_features: int, kind: str
) -> dict[str, StreamingLayer]:
    """Build recurrent layers, and the layers that the settings put after them.

    Parameters
    ----------
    settings : ModelSettings
        Sizes and options.
    data : DataSettings
        The components.
    n_features : int
        Features of the input.
    kind : {"lstm", "gru", "rnn"}
        The cell.

    Returns
    -------
    dict of str to StreamingLayer
        The layers by name, first to last.
    """
    layers = dict(_stack(settings, data, n_features, kind))
    return layers | post_layers(settings, list(layers.values())[-1].width)


def _stack(
    settings: ModelSettings, data: DataSettings, n_features: int, kind: str
) -> Iterator[tuple[str, StreamingLayer]]:
    size, n_layers = settings.size(data.n_components), settings.n_layers
    bidirectional = settings.bidirectional
    if not (settings.residual or settings.layer_norm or settings.recurrent_dropout):
        yield (
            kind,
            Recurrent(
                n_features,
                kind,
                size,
                n_layers=n_layers,
                dropout=settings.dropout,
                bidirectional=bidirectional,
            ),
        )
        return
    for n in range(n_layers):
        recurrent = Recurrent(
            n_features,
            kind,
            size,
            bidirectional=bidirectional,
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


def post_layers(settings: ModelSettings, width: int) -> dict[str, StreamingLayer]:
    """Build squeeze and excitation, and attention, where the settings ask for them.

    Parameters
    ----------
    settings : ModelSettings
        Options.
    width : int
        Features of the input.

    Returns
    -------
    dict of str to StreamingLayer
        The layers by name, first to last; empty without either option.
    """
    layers: dict[str, StreamingLayer] = {}
    if settings.squeeze_excitation:
        layers["squeeze_excitation"] = SqueezeExcitation(width, settings.look_back)
    if settings.attention != "none":
        layers["attention"] = Attention(
            width, settings.attention, settings.look_back, settings.n_heads
        )
    return layers


def multi_scale_layers(
    settings: ModelSettings, data: DataSettings, n_features: int
) -> dict[str, StreamingLayer]:
    """Build a long and a short LSTM side by side.

    Parameters
    ----------
    settings : ModelSettings
        Sizes and options.
    data : DataSettings
        The components.
    n_features : int
        Features of the input.

    Returns
    -------
    dict of str to StreamingLayer
        The one layer.
    """
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
