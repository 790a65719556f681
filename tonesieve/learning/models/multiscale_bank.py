"""Least-squares fits of every tone at many time scales, and a recurrent network that weights them.

The fits (`kernels.multiscale_fit`) have no parameters: they are what lock-in amplifiers of many
time constants and slopes would output, with the other tones and an offset removed. Which of them is
best depends on the noise and on how fast the tone changes. A recurrent network sees how they differ
and outputs weights over them, and a small correction. Its features are scaled and rotated, so that
neither the recording's unit nor the tone's phase shows: the output is in the units of the input.
Every tone goes through the same weights. Axes: B streams, T samples, K tones, M fits.
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

# Time constants: the first in samples, or half a period of the lowest tone; then each times the
# factor. Chosen, not tuned.
SHORTEST, FACTOR, N_TIMES = 4.0, 4.0, 6
# Initial logit of the weight on 0, which shrinks the estimate. Chosen, not tuned.
ZERO_LOGIT = -3.0

# What `bank_tables` returns, in the order in which `fit` takes it. The names in saved files: turns
# for the rotations, gains for the whitener's response, shares for the averages' coefficients.
TABLES = ("turns", "gains", "whitening", "shares")


class MultiscaleBank(StreamingLayer):
    """Fits of every tone at many time scales, and the network that weights them.

    (B, T, F) to (B, T, K): the estimates of the tones, in the units of the input.

    Parameters
    ----------
    settings : ModelSettings
        Sizes of the recurrent network, and the whitening filter.
    data : DataSettings
        The components and the sample rate.
    """

    outputs_tones = True
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
        # The names in saved files: weigher for the recurrent network, answer for its readout.
        self.weigher = Recurrent(
            n_features(N_TIMES), "lstm", size, n_layers=settings.n_layers, dropout=settings.dropout
        )
        self.answer = nn.Linear(size, N_FITS * N_TIMES + 1 + 2)
        with torch.no_grad():  # starts with a mean of the fits, and no correction
            self.answer.weight[-2:] = 0
            self.answer.bias[-3:] = torch.tensor([ZERO_LOGIT, 0.0, 0.0])
        fit_size = state_size(n, N_TIMES, len(tables["whitening"]) - 1)
        recurrent_shape = (n * settings.n_layers, size)
        # The fits' state is float64, kept as a float32 and its remainder: chunks equal one pass.
        self.state_shapes = ((2, fit_size), recurrent_shape, recurrent_shape)

    def forward(
        self, inputs: Float[Tensor, "B T F"], state: State
    ) -> tuple[Float[Tensor, "B T K"], State]:
        """Run over a chunk; the outputs are the tones as they stand in the mixture."""
        n_streams, n_samples, _ = inputs.shape
        n = self.width
        if n_samples == 0:
            return inputs.new_zeros((n_streams, 0, n)), state
        fit_state, features, fits, carriers = self._fit(inputs, state[0])
        per_tone = features.transpose(1, 2).flatten(0, 1)  # (B x K, T, features)
        before = tuple(s.unflatten(1, (n, -1)).flatten(0, 1) for s in state[1:])
        hidden, after = self.weigher(per_tone, before)
        outputs = self.answer(hidden).unflatten(0, (n_streams, n)).transpose(1, 2)  # B T K M+3
        # One more weight than fits: what it takes shrinks the estimate towards 0.
        weights = torch.softmax(outputs[..., :-2], dim=3)[..., :-1]
        phasor = (weights[..., None] * fits).sum(dim=3) + outputs[..., -2:]
        tones = phasor[..., 0] * carriers[..., 0] - phasor[..., 1] * carriers[..., 1]
        recurrent_state = tuple(s.unflatten(0, (n_streams, n)).flatten(1, 2) for s in after)
        return tones, (fit_state, *recurrent_state)

    @torch.no_grad()
    def _fit(
        self, inputs: Float[Tensor, "B T F"], fit_state: Float[Tensor, "B 2 S"]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The state after, features, fits and carriers; none of it has a gradient."""
        n_streams, n_samples, width = inputs.shape
        samples = inputs[..., width // 2].detach().cpu().numpy().astype(np.float64)
        parts = fit_state.detach().cpu().numpy().astype(np.float64)
        state = np.ascontiguousarray(parts[:, 0] + parts[:, 1])
        tables = [getattr(self, name).cpu().numpy().astype(np.float64) for name in TABLES]
        shape = (n_streams, n_samples, self.width)
        features = np.empty((*shape, n_features(N_TIMES)), dtype=np.float32)
        fits = np.empty((*shape, N_FITS * N_TIMES, 2), dtype=np.float32)
        carriers = np.empty((*shape, 2), dtype=np.float32)
        fit(samples, state, *tables, features, fits, carriers)
        coarse = state.astype(np.float32)
        state_after = np.stack([coarse, (state - coarse).astype(np.float32)], axis=1)
        a, b, c, d = (
            torch.from_numpy(x).to(inputs.device) for x in (state_after, features, fits, carriers)
        )
        return a, b, c, d


def bank_tables(settings: ModelSettings, data: DataSettings) -> dict[str, np.ndarray]:
    """Compute the constants of the fits from the tones, the rate and the whitening filter.

    Parameters
    ----------
    settings : ModelSettings
        The whitening filter.
    data : DataSettings
        The components and the sample rate.

    Returns
    -------
    dict of str to ndarray
        ``turns``, shape (K, 2): cosine and sine of every tone's angle per sample. ``gains``, shape
        (K, 2): real and imaginary part of the whitening filter's response to it. ``whitening``:
        coefficients of the filter. ``shares``: coefficient of the exponential average, of every
        time constant.
    """
    omega = 2 * math.pi * np.array(data.frequencies_hz) / data.rate_hz
    whitening = np.array([1.0, *settings.whitening])
    response = np.exp(-1j * omega[:, None] * np.arange(len(whitening))) @ whitening
    shortest = max(SHORTEST, data.rate_hz / min(data.frequencies_hz) / 2)
    times = shortest * FACTOR ** np.arange(N_TIMES)
    return {
        "turns": np.stack([np.cos(omega), np.sin(omega)], axis=1),
        "gains": np.stack([response.real, response.imag], axis=1),
        "whitening": whitening,
        "shares": -np.expm1(-1 / times),
    }


def bank_layers(
    settings: ModelSettings, data: DataSettings, n_features: int
) -> dict[str, StreamingLayer]:
    """Build the bank.

    Parameters
    ----------
    settings : ModelSettings
        Sizes of the recurrent network, and the whitening filter.
    data : DataSettings
        The components and the sample rate.
    n_features : int
        Features of the input.

    Returns
    -------
    dict of str to StreamingLayer
        The one layer.
    """
    return {"bank": MultiscaleBank(settings, data)}
