"""Attention over the recent past, and the Transformer encoder made of it.

Every kind attends to a bounded context and carries the inputs of that context as its state, so
that it streams. Axes: B streams, T samples (queries), S samples attended to (keys), H heads,
C context.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tonesieve.config.config import DataSettings, ModelSettings
from tonesieve.learning.models.base import State, StreamingLayer, append_history

# Queries computed at once. Guard: against memory that grows with the square of a chunk's length.
BLOCK = 128


class Attention(StreamingLayer):
    """Attention over the last C inputs, the present one included: (B, T, F) to (B, T, G).

    ``weighted``: additive scores [1]_, softmax; the output is the present input times its own
    weight (the write-up window10). ``pooled``: the same scores; the weighted sum of the inputs
    (guide). ``memory``: the present input and, beside it, the sum of the past ones weighted by
    scaled dot products (config-l1). ``heads``: multi-head self-attention [2]_ (deep50).

    Parameters
    ----------
    width : int
        Features of the input, F.
    kind : {"weighted", "pooled", "memory", "heads"}
        The kind; ``memory`` has 2 F outputs, the others F.
    context : int
        Samples attended to, C.
    n_heads : int
        Heads, H, of kind ``heads``; the others have one.
    positions : bool
        Whether kind ``heads`` adds a learned bias for every lag and head, as T5 does [3]_.

    References
    ----------
    .. [1] D. Bahdanau, K. Cho and Y. Bengio, "Neural machine translation by jointly learning to
       align and translate", ICLR 2015, arXiv:1409.0473.
    .. [2] A. Vaswani et al., "Attention is all you need", NeurIPS 2017, arXiv:1706.03762.
    .. [3] C. Raffel et al., "Exploring the limits of transfer learning with a unified text-to-text
       transformer", JMLR 21, 2020, arXiv:1910.10683.
    """

    def __init__(
        self, width: int, kind: str, context: int, n_heads: int = 4, *, positions: bool = False
    ) -> None:
        super().__init__()
        self.kind, self.context = kind, context
        self.width = 2 * width if kind == "memory" else width
        self.n_heads = n_heads if kind == "heads" else 1
        # The inputs before this chunk, and which of them there were.
        self.state_shapes = ((context - 1, width), (context - 1, 1))
        self.captured: list[Tensor] | None = None  # weights (B, H, T, S) by block, if not None
        self.lag_weight = None
        if kind in ("weighted", "pooled"):
            self.score = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))
        elif kind == "memory":
            self.query = nn.Linear(width, width)
            self.key = nn.Linear(width, width)
        else:
            self.joint = nn.Linear(width, 3 * width)  # query, key and value
            self.mix = nn.Linear(width, width)
            if positions:
                self.lag_weight = nn.Parameter(torch.zeros(n_heads, context))

    def forward(
        self, inputs: Float[Tensor, "B T F"], state: State
    ) -> tuple[Float[Tensor, "B T G"], State]:
        """Attend to the context of every sample."""
        history, observed = state
        extended, history_after = append_history(history, inputs)
        valid, observed_after = append_history(observed, inputs.new_ones((*inputs.shape[:2], 1)))
        n_before = history.shape[1]
        if not bool(observed.any()):  # no stream has a past: leave its zeros out
            extended, valid, n_before = extended[:, n_before:], valid[:, n_before:], 0
        outputs = []
        for start in range(0, inputs.shape[1], BLOCK):
            stop = min(start + BLOCK, inputs.shape[1])
            first = max(0, start + n_before - (self.context - 1))
            keys = slice(first, stop + n_before)
            lag = self._lags(stop - start, stop + n_before - first, inputs.device)
            mask = (lag >= 0) & (lag < self.context) & (valid[:, keys, 0] > 0)[:, None]
            if self.kind == "memory":
                mask &= lag > 0
            outputs.append(self._attend(extended[:, keys], lag, mask[:, None]))
        return torch.cat(outputs, dim=1), (history_after, observed_after)

    @staticmethod
    def _lags(n_queries: int, n_keys: int, device: torch.device) -> Tensor:
        """How many samples every key lies before every query: (T, S)."""
        queries = torch.arange(n_keys - n_queries, n_keys, device=device)
        return queries[:, None] - torch.arange(n_keys, device=device)

    def _attend(
        self, extended: Float[Tensor, "B S F"], lag: Tensor, mask: Bool[Tensor, "B 1 T S"]
    ) -> Float[Tensor, "B T G"]:
        n_queries = lag.shape[0]
        present = extended[:, -n_queries:]
        if self.kind == "heads":
            return self._multi_head(extended, lag, mask)
        if self.kind == "memory":
            query, key = self.query(present), self.key(extended)
            scores = (query @ key.transpose(1, 2))[:, None]
            weights = self._masked_softmax(scores, extended.shape[2], mask)
            return torch.cat([present, weights[:, 0] @ extended], dim=2)
        scores = self.score(extended)[..., 0][:, None, None].expand(mask.shape)
        weights = self._masked_softmax(scores, 1, mask)
        if self.kind == "pooled":
            return weights[:, 0] @ extended
        lag_0 = weights[:, 0].diagonal(extended.shape[1] - n_queries, dim1=1, dim2=2)
        return lag_0[..., None] * present

    def _multi_head(self, extended: Tensor, lag: Tensor, mask: Tensor) -> Tensor:
        n_queries = lag.shape[0]
        split = self.joint(extended).unflatten(2, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = split[0][:, :, -n_queries:], split[1], split[2]  # (B, H, S, F / H)
        scores = query @ key.transpose(2, 3)
        if self.lag_weight is not None:
            bias = self.lag_weight[:, lag.clamp(0, self.context - 1)]
            scores = scores + bias * math.sqrt(query.shape[3])
        weights = self._masked_softmax(scores, query.shape[3], mask)
        return self.mix((weights @ value).transpose(1, 2).flatten(2))

    def _masked_softmax(self, scores: Tensor, size: int, mask: Tensor) -> Float[Tensor, "B H T S"]:
        """Weights that sum to 1, or are all 0 where the mask allows no key."""
        scores = (scores / math.sqrt(size)).masked_fill(~mask, -1e9)
        weights = scores.softmax(dim=3) * mask
        if self.captured is not None:
            self.captured.append(weights.detach())
        return weights


class EncoderLayer(StreamingLayer):
    """A pre-norm Transformer encoder layer: (B, T, F) to (B, T, F).

    Self-attention, then a two-layer network, each after a layer norm and with a residual
    connection [1]_, [2]_.

    Parameters
    ----------
    width : int
        Features, F.
    context : int
        Samples attended to.
    n_heads : int
        Heads of the attention.
    dropout : float
        Share of the features dropped before each residual sum.

    References
    ----------
    .. [1] A. Vaswani et al., "Attention is all you need", NeurIPS 2017, arXiv:1706.03762.
    .. [2] R. Xiong et al., "On layer normalization in the Transformer architecture", ICML 2020,
       arXiv:2002.04745.
    """

    def __init__(self, width: int, context: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.attention = Attention(width, "heads", context, n_heads, positions=True)
        self.state_shapes = self.attention.state_shapes
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, inputs: Float[Tensor, "B T F"], state: State
    ) -> tuple[Float[Tensor, "B T F"], State]:
        """Run over a chunk."""
        attended, state_after = self.attention(self.norm_1(inputs), state)
        hidden = inputs + self.dropout(attended)
        wide = nn.functional.gelu(self.wide(self.norm_2(hidden)))
        return hidden + self.dropout(self.narrow(wide)), state_after


class Embedding(StreamingLayer):
    """A linear layer, sample by sample: (B, T, F) to (B, T, G).

    Parameters
    ----------
    n_features : int
        Features of the input, F.
    width : int
        Features of the output, G.
    """

    def __init__(self, n_features: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(n_features, width)

    def forward(
        self, inputs: Float[Tensor, "B T F"], state: State
    ) -> tuple[Float[Tensor, "B T G"], State]:
        """Run over a chunk; there is no state."""
        return self.linear(inputs), ()


def transformer_layers(
    settings: ModelSettings, data: DataSettings, n_features: int
) -> dict[str, StreamingLayer]:
    """Build an embedding and ``n_layers`` Transformer encoder layers.

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
        The layers by name, first to last.
    """
    size = settings.size(data.n_components)
    layers: dict[str, StreamingLayer] = {"embedding": Embedding(n_features, size)}
    for n in range(settings.n_layers):
        layers[f"encoder_{n + 1}"] = EncoderLayer(
            size, settings.look_back, settings.n_heads, settings.dropout
        )
    return layers
