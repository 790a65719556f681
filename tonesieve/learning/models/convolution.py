"""Networks with a bounded receptive field: causal convolutions, and windows as one vector.

docs/exercise.md, "Models". What lies before a record is 0.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tonesieve.config.config import DataSettings, ModelSettings
from tonesieve.kernels.network_vm.opcodes import SPAN_RAMP, SPAN_RATE
from tonesieve.learning.models.base import State, StreamingLayer, append_history
from tonesieve.learning.models.recurrent import recurrent_layers


class Convolution(StreamingLayer):
    """A causal convolution: (B, T, F) to (B, T, G).

    Parameters
    ----------
    n_features : int
        Features of the input, F.
    width : int
        Features of the output, G.
    kernel : int
        Inputs that an output depends on.
    dilation : int
        Samples from one of these inputs to the next.
    """

    def __init__(self, n_features: int, width: int, kernel: int, *, dilation: int = 1) -> None:
        super().__init__()
        self.width = width
        # The name in saved files: weigh.
        self.weigh = nn.Conv1d(n_features, width, kernel, dilation=dilation)
        self.state_shapes = (((kernel - 1) * dilation, n_features),)

    def forward(
        self, inputs: Float[Tensor, "B T F"], state: State
    ) -> tuple[Float[Tensor, "B T G"], State]:
        """Convolve a chunk."""
        extended, history = append_history(state[0], inputs)
        return self.weigh(extended.transpose(1, 2)).transpose(1, 2), (history,)


class ReluConvolution(Convolution):
    """A causal convolution and a ReLU: (B, T, F) to (B, T, G).

    Parameters
    ----------
    n_features : int
        Features of the input, F.
    width : int
        Features of the output, G.
    kernel : int
        Inputs that an output depends on.
    dilation : int
        Samples from one of these inputs to the next.
    """

    def forward(
        self, inputs: Float[Tensor, "B T F"], state: State
    ) -> tuple[Float[Tensor, "B T G"], State]:
        """Convolve and rectify a chunk."""
        hidden, state_after = super().forward(inputs, state)
        return nn.functional.relu(hidden), state_after


class LearnedWindow(ReluConvolution):
    """A convolution and a ReLU whose kernel length is learned: (B, T, F) to (B, T, G).

    The weight at lag d is multiplied by a mask that falls from 1 to 0 over a ramp. Where it falls
    is learned, and length is penalised (adaptive span [1]_).

    Parameters
    ----------
    n_features : int
        Features of the input, F.
    width : int
        Features of the output, G.
    longest : int
        Longest window, in samples.
    cost : float
        Penalty of a window of the longest length.

    References
    ----------
    .. [1] S. Sukhbaatar et al., "Adaptive attention span in Transformers", ACL 2019,
       arXiv:1905.07799.
    """

    def __init__(self, n_features: int, width: int, longest: int, cost: float) -> None:
        super().__init__(n_features, width, longest)
        self.longest, self.cost = longest, cost
        self.ramp = max(1.0, longest / SPAN_RAMP)
        self.span = nn.Parameter(torch.tensor(0.0))

    @property
    def fraction(self) -> Tensor:
        """Fraction of the longest window that lies before the ramp; half at the start.

        It moves slowly: far lags are worth nothing before their weights have been learned.
        """
        return (0.5 + SPAN_RATE * self.span).clamp(0, 1)

    @property
    def length(self) -> float:
        """Length of the window in samples: the lags whose mask is not 0."""
        ramp_start = float(self.fraction.detach()) * self.longest
        return min(float(self.longest), ramp_start + self.ramp)

    def forward(
        self, inputs: Float[Tensor, "B T F"], state: State
    ) -> tuple[Float[Tensor, "B T G"], State]:
        """Convolve and rectify a chunk."""
        extended, history = append_history(state[0], inputs)
        lag = torch.arange(self.longest - 1, -1, -1, device=inputs.device)
        ramp_start = self.fraction * self.longest
        mask = ((ramp_start + self.ramp - lag) / self.ramp).clamp(0, 1)
        hidden = nn.functional.conv1d(
            extended.transpose(1, 2), self.weigh.weight * mask, self.weigh.bias
        )
        return nn.functional.relu(hidden).transpose(1, 2), (history,)

    def penalty(self) -> Tensor:
        """Return the window's length as a fraction of the longest, times its cost."""
        return self.cost * self.fraction


class Dense(StreamingLayer):
    """Dropout, a linear layer and a ReLU, sample by sample: (B, T, F) to (B, T, G).

    Parameters
    ----------
    n_features : int
        Features of the input, F.
    width : int
        Features of the output, G.
    dropout : float
        Share of the inputs dropped in training.
    """

    def __init__(self, n_features: int, width: int, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(n_features, width)

    def forward(
        self, inputs: Float[Tensor, "B T F"], state: State
    ) -> tuple[Float[Tensor, "B T G"], State]:
        """Run over a chunk; there is no state."""
        return nn.functional.relu(self.linear(self.dropout(inputs))), ()


class TemporalBlock(StreamingLayer):
    """A residual block of a temporal convolutional network [1]_: (B, T, F) to (B, T, G).

    Two dilated causal convolutions with ReLU and dropout, and a skip connection.

    Parameters
    ----------
    n_features : int
        Features of the input, F.
    width : int
        Features of the output, G.
    kernel : int
        Length of both kernels.
    dilation : int
        Dilation of both convolutions, in samples.
    dropout : float
        Share of the features dropped after each convolution.

    References
    ----------
    .. [1] S. Bai, J. Z. Kolter and V. Koltun, "An empirical evaluation of generic convolutional
       and recurrent networks for sequence modeling", 2018, arXiv:1803.01271.
    """

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
        """Run over a chunk."""
        hidden, first_state = self.first(inputs, state[:1])
        hidden, second_state = self.second(self.dropout(hidden), state[1:])
        outputs = nn.functional.relu(self.dropout(hidden) + self.skip(inputs))
        return outputs, first_state + second_state


def cnn_lstm_layers(
    settings: ModelSettings, data: DataSettings, n_features: int
) -> dict[str, StreamingLayer]:
    """Build a convolution with ReLU, then an LSTM.

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
    first = ReluConvolution(n_features, settings.channels, settings.kernel)
    return {"convolution": first} | recurrent_layers(settings, data, first.width, "lstm")


def feed_forward_layers(
    settings: ModelSettings, data: DataSettings, n_features: int
) -> dict[str, StreamingLayer]:
    """Build dense layers over the window as one vector; the first is a convolution as long as it.

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
    first = ReluConvolution(n_features, size, settings.look_back)
    return {"window": first} | _dense(settings, size)


def adaptive_layers(
    settings: ModelSettings, data: DataSettings, n_features: int
) -> dict[str, StreamingLayer]:
    """Build dense layers over a window whose length is learned.

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
    first = LearnedWindow(n_features, size, settings.look_back, settings.span_penalty)
    return {"window": first} | _dense(settings, size)


def _dense(settings: ModelSettings, size: int) -> dict[str, StreamingLayer]:
    numbers = range(2, settings.n_layers + 1)
    return {f"dense_{n}": Dense(size, size, settings.dropout) for n in numbers}


def tcn_layers(
    settings: ModelSettings, data: DataSettings, n_features: int
) -> dict[str, StreamingLayer]:
    """Build a temporal convolutional network: blocks of dilation 1, 2, 4, ...

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
    layers: dict[str, StreamingLayer] = {}
    size, width = settings.size(data.n_components), n_features
    for n in range(settings.n_layers):
        dilation = 2**n
        layers[f"block_{dilation}"] = TemporalBlock(
            width, size, settings.kernel, dilation, settings.dropout
        )
        width = size
    return layers
