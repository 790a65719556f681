"""Attention over the recent past, and the Transformer encoder made of it.

Every kind looks back over a bounded context and carries what it needs of the past, so that it
streams. Axes: B streams, T samples, S samples looked at, H heads, C context.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tonesieve.config.config import DataSettings, ModelSettings
from tonesieve.learning.models.base import State, StreamingLayer, remember

# Samples answered at a time: each block looks at this many and the context before.
BLOCK = 128


class Attention(StreamingLayer):
    """Weights over the last ``context`` inputs, the present one among them.

    weighted: additive scores (Linear-tanh-Linear), softmax; the present input times its own weight,
    so a sequence remains (the write-up window10). pooled: the inputs' weighted sum in its place
    (guide). memory: the present input beside the sum of the past ones, weighted by likeness to it
    (config-l1). heads: multi-head self-attention (Vaswani et al. 2017, arXiv:1706.03762; deep50);
    ``positions`` adds a learned weight for every lag and head, as in T5.
    """

    def __init__(
        self, width: int, kind: str, context: int, n_heads: int = 4, *, positions: bool = False
    ) -> None:
        super().__init__()
        self.kind, self.context = kind, context
        self.width = 2 * width if kind == "memory" else width
        self.n_heads = n_heads if kind == "heads" else 1
        self.state_shapes = ((context - 1, width), (context - 1, 1))
        self.seen: list[Tensor] | None = None  # weights, while somebody watches
        self.lag_weight = None
        if kind in ("weighted", "pooled"):
            self.score = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))
        elif kind == "memory":
            self.query = nn.Linear(width, width)
            self.key = nn.Linear(width, width)
        else:
            self.joint = nn.Linear(width, 3 * width)
            self.mix = nn.Linear(width, width)
            if positions:
                self.lag_weight = nn.Parameter(torch.zeros(n_heads, context))

    def forward(
        self, inputs: Float[Tensor, "B T F"], state: State
    ) -> tuple[Float[Tensor, "B T G"], State]:
        """What is attended to at every sample."""
        memory, heard = state
        whole, after = remember(memory, inputs)
        known, heard_after = remember(heard, inputs.new_ones((*inputs.shape[:2], 1)))
        n_before = memory.shape[1]
        if not bool(heard.any()):  # nothing came before: no need to look there
            whole, known, n_before = whole[:, n_before:], known[:, n_before:], 0
        answers = []
        for start in range(0, inputs.shape[1], BLOCK):
            stop = min(start + BLOCK, inputs.shape[1])
            first = max(0, start + n_before - (self.context - 1))
            part = slice(first, stop + n_before)
            lag = self._lags(stop - start, stop + n_before - first, inputs.device)
            allowed = (lag >= 0) & (lag < self.context) & (known[:, part, 0] > 0)[:, None]
            if self.kind == "memory":
                allowed &= lag > 0
            answers.append(self._look(whole[:, part], lag, allowed[:, None]))
        return torch.cat(answers, dim=1), (after, heard_after)

    @staticmethod
    def _lags(n_answers: int, n_looked_at: int, device: torch.device) -> Tensor:
        """How far before each answered sample each one looked at lies."""
        answered = torch.arange(n_looked_at - n_answers, n_looked_at, device=device)
        return answered[:, None] - torch.arange(n_looked_at, device=device)

    def _look(
        self, whole: Float[Tensor, "B S F"], lag: Tensor, allowed: Bool[Tensor, "B 1 T S"]
    ) -> Float[Tensor, "B T G"]:
        n_answers = lag.shape[0]
        present = whole[:, -n_answers:]
        if self.kind == "heads":
            return self._heads(whole, lag, allowed)
        if self.kind == "memory":
            query, key = self.query(present), self.key(whole)
            weights = self._softmax((query @ key.transpose(1, 2))[:, None], whole.shape[2], allowed)
            return torch.cat([present, weights[:, 0] @ whole], dim=2)
        scores = self.score(whole)[..., 0][:, None, None].expand(allowed.shape)
        weights = self._softmax(scores, 1, allowed)
        if self.kind == "pooled":
            return weights[:, 0] @ whole
        own = weights[:, 0].diagonal(whole.shape[1] - n_answers, dim1=1, dim2=2)
        return own[..., None] * present

    def _heads(self, whole: Tensor, lag: Tensor, allowed: Tensor) -> Tensor:
        n_answers = lag.shape[0]
        split = self.joint(whole).unflatten(2, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = split[0][:, :, -n_answers:], split[1], split[2]  # B H S size
        scores = query @ key.transpose(2, 3)
        if self.lag_weight is not None:
            near = self.lag_weight[:, lag.clamp(0, self.context - 1)]
            scores = scores + near * math.sqrt(query.shape[3])
        weights = self._softmax(scores, query.shape[3], allowed)
        return self.mix((weights @ value).transpose(1, 2).flatten(2))

    def _softmax(self, scores: Tensor, size: int, allowed: Tensor) -> Float[Tensor, "B H T S"]:
        """Weights that add up to 1, or are all 0 where nothing may be looked at."""
        scores = (scores / math.sqrt(size)).masked_fill(~allowed, -1e9)
        weights = scores.softmax(dim=3) * allowed
        if self.seen is not None:
            self.seen.append(weights.detach())
        return weights


class EncoderLayer(StreamingLayer):
    """Self-attention and a two-layer network, each added to its input (normed beforehand)."""

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
        """The inputs and what was added to them."""
        found, after = self.attention(self.norm_1(inputs), state)
        hidden = inputs + self.dropout(found)
        wide = nn.functional.gelu(self.wide(self.norm_2(hidden)))
        return hidden + self.dropout(self.narrow(wide)), after


class Embedding(StreamingLayer):
    """A linear layer, sample by sample."""

    def __init__(self, n_features: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(n_features, width)

    def forward(
        self, inputs: Float[Tensor, "B T F"], state: State
    ) -> tuple[Float[Tensor, "B T G"], State]:
        """Every sample by itself."""
        return self.linear(inputs), ()


def transformer_parts(
    settings: ModelSettings, data: DataSettings, n_features: int
) -> dict[str, StreamingLayer]:
    """An embedding and encoder layers."""
    size = settings.size(data.n_components)
    parts: dict[str, StreamingLayer] = {"embedding": Embedding(n_features, size)}
    for n in range(settings.n_layers):
        parts[f"encoder_{n + 1}"] = EncoderLayer(
            size, settings.look_back, settings.n_heads, settings.dropout
        )
    return parts
