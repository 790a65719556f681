"""A bank of averages: every tone fitted over many spans at once, and a network that weighs them.

The averages (`kernels.multiscale_fit`) have no parameters: they are what lock-in amplifiers of many time
constants and slopes would tell, freed of each other and of an offset. Which of them is right
depends on the noise and on how fast the tone changes, which nobody knows; a recurrent network hears
how they differ and answers weights over them, and a small correction. Scaled and turned, neither
the recording's unit nor the tone's phase shows: what comes out is in the units of what went in.
Several tones go through the same weights, each for itself. Axes: B streams, T samples, K tones,
M averages.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tonesieve.config.config import DataSettings, ModelSettings
from tonesieve.kernels.multiscale_fit import N_FITS, fit, n_features, state_size
from tonesieve.learning.models.base import State, StreamingLayer
from tonesieve.learning.models.recurrent import Recurrent

# Time constants: the first in samples, or half a period of the lowest tone; then each four times
# the last.
SHORTEST, FACTOR, N_TIMES = 4.0, 4.0, 6
# What the weight of nothing begins at, as a logarithm.
NOTHING = -3.0


class MultiscaleBank(StreamingLayer):
    """Averages of every tone, and the recurrent network that weighs them."""

    mixes = True
    turns: Tensor
    gains: Tensor
    whitening: Tensor
    shares: Tensor

    def __init__(self, settings: ModelSettings, data: DataSettings) -> None:
        super().__init__()
        self.width = n = data.n_components
        size = settings.size(n)
        tables = bank_tables(settings, data)
        for name, table in tables.items():
            self.register_buffer(name, torch.from_numpy(table).float())
        self.weigher = Recurrent(
            n_features(N_TIMES), "lstm", size, n_layers=settings.n_layers, dropout=settings.dropout
        )
        self.answer = nn.Linear(size, N_FITS * N_TIMES + 1 + 2)
        with torch.no_grad():  # begins with a mean of the averages, and no correction
            self.answer.weight[-2:] = 0
            self.answer.bias[-3:] = torch.tensor([NOTHING, 0.0, 0.0])
        n_numbers = state_size(n, N_TIMES, len(tables["whitening"]) - 1)
        # Twice: what float32 holds of a number, and the rest; else chunks would not equal one pass.
        carried = (n * settings.n_layers, size)
        self.state_shapes = ((2, n_numbers), carried, carried)

    def forward(
        self, inputs: Float[Tensor, "B T F"], state: State
    ) -> tuple[Float[Tensor, "B T K"], State]:
        """Every tone as it stands in the mixture."""
        n_streams, n_samples, _ = inputs.shape
        n = self.width
        if n_samples == 0:
            return inputs.new_zeros((n_streams, 0, n)), state
        kept, features, averages, carriers = self._averaged(inputs, state[0])
        streams = features.transpose(1, 2).flatten(0, 1)  # B x K, T, F
        given = tuple(s.unflatten(1, (n, -1)).flatten(0, 1) for s in state[1:])
        hidden, after = self.weigher(streams, given)
        told = self.answer(hidden).unflatten(0, (n_streams, n)).transpose(1, 2)  # B, T, K, M + 3
        # One more weight than averages: what it takes is shrunk towards nothing.
        weights = torch.softmax(told[..., :-2], dim=3)[..., :-1]
        level = (weights[..., None] * averages).sum(dim=3) + told[..., -2:]
        tones = level[..., 0] * carriers[..., 0] - level[..., 1] * carriers[..., 1]
        back = tuple(s.unflatten(0, (n_streams, n)).flatten(1, 2) for s in after)
        return tones, (kept, *back)

    @torch.no_grad()
    def _averaged(
        self, inputs: Float[Tensor, "B T F"], kept: Float[Tensor, "B 2 S"]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The state after, features, averages and carriers; nothing here can be learned."""
        n_streams, n_samples, width = inputs.shape
        samples = inputs[..., width // 2].detach().cpu().numpy().astype(np.float64)
        parts = kept.detach().cpu().numpy().astype(np.float64)
        state = np.ascontiguousarray(parts[:, 0] + parts[:, 1])
        tables = [getattr(self, name).cpu().numpy().astype(np.float64) for name in TABLES]
        shape = (n_streams, n_samples, self.width)
        features = np.empty((*shape, n_features(N_TIMES)), dtype=np.float32)
        averages = np.empty((*shape, N_FITS * N_TIMES, 2), dtype=np.float32)
        carriers = np.empty((*shape, 2), dtype=np.float32)
        fit(samples, state, *tables, features, averages, carriers)
        coarse = state.astype(np.float32)
        after = np.stack([coarse, (state - coarse).astype(np.float32)], axis=1)
        found = (torch.from_numpy(a) for a in (after, features, averages, carriers))
        one, two, three, four = (tensor.to(inputs.device) for tensor in found)
        return one, two, three, four


TABLES = ("turns", "gains", "whitening", "shares")


def bank_tables(settings: ModelSettings, data: DataSettings) -> dict[str, np.ndarray]:
    """What follows from the tones, the rate and the noise: `TABLES`, for `fit`."""
    turn = 2 * math.pi * np.array(data.frequencies_hz) / data.rate_hz
    whitening = np.array([1.0, *settings.whitening])
    answered = np.exp(-1j * turn[:, None] * np.arange(len(whitening))) @ whitening
    shortest = max(SHORTEST, data.rate_hz / min(data.frequencies_hz) / 2)
    times = shortest * FACTOR ** np.arange(N_TIMES)
    return {
        "turns": np.stack([np.cos(turn), np.sin(turn)], axis=1),
        "gains": np.stack([answered.real, answered.imag], axis=1),
        "whitening": whitening,
        "shares": -np.expm1(-1 / times),
    }


def bank_parts(
    settings: ModelSettings, data: DataSettings, n_features: int
) -> dict[str, StreamingLayer]:
    """The bank alone."""
    return {"bank": MultiscaleBank(settings, data)}
