"""The LSTM, stateful or over windows, with the selector where the settings put it.

SPEC, section 3. Parameters as PyTorch counts them: 4 H (F + H + 2) a layer (two bias vectors)
and H O + O for the readout, with F features in and O outputs.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tonesieve.config import ModelSettings
from tonesieve.learning.models.network import Network, State


class Lstm(Network):
    """LSTM layers and a linear readout."""

    causal = True
    input_scale: Tensor

    def __init__(self, settings: ModelSettings, n_components: int, *, input_rms: float) -> None:
        super().__init__()
        self.selector = settings.selector
        self.n_outputs = n_components if self.selector == "readout" else 1
        n_features = 2 * settings.taps + 1 + n_components * (self.selector == "input")
        size, n_layers = settings.hidden_size, settings.n_layers
        self.lstm = nn.LSTM(
            n_features,
            size,
            n_layers,
            dropout=settings.dropout if n_layers > 1 else 0.0,
            batch_first=True,
        )
        self.dropout = nn.Dropout(settings.readout_dropout)
        self.readout = nn.Linear(size, self.n_outputs)
        self.start = None
        if self.selector == "initial_state":
            self.start = nn.Linear(n_components, 2 * n_layers * size)
        scale = 1.0 / input_rms if settings.scale_input else 1.0
        self.register_buffer("input_scale", torch.tensor(scale, dtype=torch.float32))

    def initial_state(self, n_streams: int, selector: Float[Tensor, "B K"] | None) -> State:
        """Hidden and cell state, (B, layers, H) each: zero, or told by the selector."""
        shape = (n_streams, self.lstm.num_layers, self.lstm.hidden_size)
        if self.start is None:
            weight = self.readout.weight
            return weight.new_zeros(shape), weight.new_zeros(shape)
        hidden, cell = self.start(selector).tanh().chunk(2, dim=1)
        return hidden.reshape(shape), cell.reshape(shape)

    def forward(
        self,
        inputs: Float[Tensor, "B T F"],
        selector: Float[Tensor, "B K"] | None,
        state: State,
    ) -> tuple[Float[Tensor, "B T O"], State]:
        """Outputs at every sample, and the state after the last."""
        features = inputs * self.input_scale
        if self.selector == "input":
            assert selector is not None
            shown = selector[:, None, :].expand(-1, inputs.shape[1], -1)
            features = torch.cat([features, shown], dim=2)
        layers_first = [s.transpose(0, 1).contiguous() for s in state]
        hidden, after = self.lstm(features, tuple(layers_first))
        outputs = self.readout(self.dropout(hidden))
        return outputs, tuple(s.transpose(0, 1) for s in after)
