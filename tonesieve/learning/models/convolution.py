"""Networks that look back over a bounded stretch: convolutions, and windows as one vector.

SPEC, section 3. What lies before a record is 0.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tonesieve.config.config import DataSettings, ModelSettings
from tonesieve.learning.models.base import State, StreamingLayer, remember
from tonesieve.learning.models.recurrent import recurrent_parts

# How fast a learned window changes: its share of the longest, over what the optimiser moves.
PACE = 0.1


class Convolution(StreamingLayer):
    """A causal convolution: every output rests on ``kernel`` inputs, ``dilation`` apart."""

    def __init__(self, n_features: int, width: int, kernel: int, *, dilation: int = 1) -> None:
        super().__init__()
        self.width = width
        self.weigh = nn.Conv1d(n_features, width, kernel, dilation=dilation)
        self.state_shapes = (((kernel - 1) * dilation, n_features),)

    def forward(
        self, inputs: Float[Tensor, "B T F"], state: State
    ) -> tuple[Float[Tensor, "B T G"], State]:
        """The weighted sums."""
        whole, memory = remember(state[0], inputs)
        return self.weigh(whole.transpose(1, 2)).transpose(1, 2), (memory,)


class ReluConvolution(Convolution):
    """A causal convolution and a rectifier."""

    def forward(
        self, inputs: Float[Tensor, "B T F"], state: State
    ) -> tuple[Float[Tensor, "B T G"], State]:
        """The weighted sums, none below 0."""
        hidden, after = super().forward(inputs, state)
        return nn.functional.relu(hidden), after


class LearnedWindow(ReluConvolution):
    """A rectified convolution that learns how far back it looks.

    The weight at lag d is multiplied by a mask that falls from 1 to 0 over a ramp; where it falls
    is learned, and length costs (adaptive span: Sukhbaatar et al. 2019, arXiv:1905.07799).
    """

    def __init__(self, n_features: int, width: int, longest: int, cost: float) -> None:
        super().__init__(n_features, width, longest)
        self.longest, self.cost = longest, cost
        self.ramp = max(1.0, longest / 8)
        self.span = nn.Parameter(torch.tensor(0.0))

    @property
    def share(self) -> Tensor:
        """How much of the longest window lies before the ramp; half at the start.

        It moves slowly, since far lags are worth nothing before their weights have been learned.
        """
        return (0.5 + PACE * self.span).clamp(0, 1)

    @property
    def length(self) -> float:
        """Samples that it looks at: lags whose mask is not 0."""
        reach = float(self.share.detach()) * self.longest
        return min(float(self.longest), reach + self.ramp)

    def forward(
        self, inputs: Float[Tensor, "B T F"], state: State
    ) -> tuple[Float[Tensor, "B T G"], State]:
        """The weighted sums, none below 0."""
        whole, memory = remember(state[0], inputs)
        lag = torch.arange(self.longest - 1, -1, -1, device=inputs.device)
        reach = self.share * self.longest
        mask = ((reach + self.ramp - lag) / self.ramp).clamp(0, 1)
        hidden = nn.functional.conv1d(
            whole.transpose(1, 2), self.weigh.weight * mask, self.weigh.bias
        )
        return nn.functional.relu(hidden).transpose(1, 2), (memory,)

    def penalty(self) -> Tensor:
        """Length in shares of the longest, times its cost."""
        return self.cost * self.share


class Dense(StreamingLayer):
    """A rectified linear layer, sample by sample, with dropout before it."""

    def __init__(self, n_features: int, width: int, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(n_features, width)

    def forward(
        self, inputs: Float[Tensor, "B T F"], state: State
    ) -> tuple[Float[Tensor, "B T G"], State]:
        """Every sample by itself."""
        return nn.functional.relu(self.linear(self.dropout(inputs))), ()


class TemporalBlock(StreamingLayer):
    """Two rectified dilated convolutions, their input added (Bai et al. 2018, arXiv:1803.01271)."""

    def __init__(
        self, n_features: int, width: int, kernel: int, dilation: int, dropout: float
    ) -> None:
        super().__init__()
        self.width = width
        self.first = ReluConvolution(n_features, width, kernel, dilation=dilation)
        self.second = ReluConvolution(width, width, kernel, dilation=dilation)
        self.state_shapes = self.first.state_shapes + self.second.state_shapes
        self.dropout = nn.Dropout(dropout)
        self.skip = nn.Identity() if n_features == width else nn.Linear(n_features, width)

    def forward(
        self, inputs: Float[Tensor, "B T F"], state: State
    ) -> tuple[Float[Tensor, "B T G"], State]:
        """What the convolutions add to their input."""
        hidden, kept = self.first(inputs, state[:1])
        hidden, more = self.second(self.dropout(hidden), state[1:])
        return nn.functional.relu(self.dropout(hidden) + self.skip(inputs)), kept + more


def cnn_lstm_parts(
    settings: ModelSettings, data: DataSettings, n_features: int
) -> dict[str, StreamingLayer]:
    """A rectified convolution, then an LSTM."""
    before = ReluConvolution(n_features, settings.channels, settings.kernel)
    return {"convolution": before} | recurrent_parts(settings, data, before.width, "lstm")


def feed_forward_parts(
    settings: ModelSettings, data: DataSettings, n_features: int
) -> dict[str, StreamingLayer]:
    """The window as one vector through dense layers."""
    size = settings.size(data.n_components)
    return {"window": ReluConvolution(n_features, size, settings.look_back)} | _dense(
        settings, size
    )


def adaptive_parts(
    settings: ModelSettings, data: DataSettings, n_features: int
) -> dict[str, StreamingLayer]:
    """The same, over a window whose length is learned."""
    size = settings.size(data.n_components)
    first = LearnedWindow(n_features, size, settings.look_back, settings.span_penalty)
    return {"window": first} | _dense(settings, size)


def _dense(settings: ModelSettings, size: int) -> dict[str, StreamingLayer]:
    more = range(2, settings.n_layers + 1)
    return {f"dense_{n}": Dense(size, size, settings.dropout) for n in more}


def tcn_parts(
    settings: ModelSettings, data: DataSettings, n_features: int
) -> dict[str, StreamingLayer]:
    """Temporal blocks of dilation 1, 2, 4, ..."""
    parts: dict[str, StreamingLayer] = {}
    size, width = settings.size(data.n_components), n_features
    for n in range(settings.n_layers):
        dilation = 2**n
        parts[f"block_{dilation}"] = TemporalBlock(
            width, size, settings.kernel, dilation, settings.dropout
        )
        width = size
    return parts
