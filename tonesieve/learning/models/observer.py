"""A Luenberger observer with learned, age-dependent gains: one oscillator a tone.

The model of the mixture y is z[t] = R z[t-1], y[t] = c z[t] + noise, with R the rotations of the
tones. The observer predicts p = R z[t-1], takes the innovation e = y[t] - c p and updates
z[t] = p + g[t] e. A Kalman filter has this form, with gains from a model of the noise (Kalman
1960); here a small network computes g from the stream's age (learned gains: KalmanNet, Revach et
al. 2022). Axes: B streams, T samples, K components, S = 2 K states, N age features.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tonesieve.config.config import DataSettings, ModelSettings
from tonesieve.kernels.network_vm.opcodes import N_AGE_FEATURES
from tonesieve.kernels.observer import observer_backward, observer_forward
from tonesieve.learning.models.base import State, StreamingLayer

# Time constants of the age features: from this many samples to this many periods of the lowest
# tone. Chosen, not tuned.
SHORTEST_SAMPLES, LONGEST_PERIODS = 2.0, 30.0
# Logarithm of the initial gains, which are all in phase. Chosen, not tuned.
LOG_GAIN = -3.0


class Observer(StreamingLayer):
    """An observer [1]_, and the network that computes its gains [2]_: (B, T, F) to (B, T, 2 K).

    The outputs are every tone and its quadrature. They are linear in the samples.

    Parameters
    ----------
    n_features : int
        Features of the input, F: a sample and its neighbours.
    size : int
        Hidden units of the gain network.
    n_layers : int
        Hidden layers of the gain network.
    data : DataSettings
        The components and the sample rate.

    References
    ----------
    .. [1] R. E. Kalman, "A new approach to linear filtering and prediction problems", Journal of
       Basic Engineering 82, 1960.
    .. [2] G. Revach et al., "KalmanNet: Neural network aided Kalman filtering for partially known
       dynamics", IEEE Transactions on Signal Processing 70, 2022, arXiv:2107.10043.
    """

    clocks: Tensor
    cosines: Tensor
    sines: Tensor

    def __init__(self, n_features: int, size: int, n_layers: int, data: DataSettings) -> None:
        super().__init__()
        n = data.n_components
        self.width = 2 * n
        self.state_shapes = ((1, 2 * n), (1, N_AGE_FEATURES))
        omega = 2 * math.pi * torch.tensor(data.frequencies_hz, dtype=torch.float64) / data.rate_hz
        self.register_buffer("cosines", torch.cos(omega).float())
        self.register_buffer("sines", torch.sin(omega).float())
        longest = LONGEST_PERIODS * data.rate_hz / min(data.frequencies_hz)
        log_times = torch.linspace(math.log(SHORTEST_SAMPLES), math.log(longest), N_AGE_FEATURES)
        # The names in saved files: clocks for the time constants of the age features, in samples;
        # heard for the input taps, seen for the output weights c.
        self.register_buffer("clocks", torch.exp(log_times))
        input_taps = torch.zeros(n_features)
        input_taps[n_features // 2] = 1  # the present sample, between its neighbours
        self.heard = nn.Parameter(input_taps)
        in_phase = torch.cat([torch.ones(n), torch.zeros(n)])
        self.seen = nn.Parameter(in_phase / math.sqrt(n))
        layers: list[nn.Module] = []
        for width in (N_AGE_FEATURES, *[size] * (n_layers - 1)):
            layers += [nn.Linear(width, size), nn.GELU()]
        last = nn.Linear(size, 2 * n + 1)
        with torch.no_grad():
            last.bias.copy_(torch.cat([in_phase, torch.tensor([LOG_GAIN])]))
        self.gain = nn.Sequential(*layers, last)

    def forward(
        self, inputs: Float[Tensor, "B T F"], state: State
    ) -> tuple[Float[Tensor, "B T G"], State]:
        """Run over a chunk; the outputs are the oscillators' states."""
        if inputs.shape[1] == 0:
            return inputs.new_zeros((len(inputs), 0, self.width)), state
        input_taps, output_weights = self.heard, self.seen
        samples = inputs @ input_taps
        age_features = self._age_features(inputs.shape[1], state[1])
        direction_and_log = self.gain(2 * age_features - 1)
        gains = direction_and_log[..., :-1] * torch.exp(direction_and_log[..., -1:])
        start = state[0][:, 0].contiguous()
        recurrence = _Recurrence.apply if samples.device.type == "cpu" else observer_reference
        states: Tensor = recurrence(samples, gains, output_weights, self.cosines, self.sines, start)
        return states, (states[:, -1:], age_features[:, -1:])

    def _age_features(
        self, n_samples: int, before: Float[Tensor, "B 1 N"]
    ) -> Float[Tensor, "B T N"]:
        """1 - exp(-age / time constant), for every time constant."""
        step = torch.arange(1, n_samples + 1, device=before.device)[:, None]
        return 1 - (1 - before) * torch.exp(-step / self.clocks)


class _Recurrence(torch.autograd.Function):
    """The recurrence on a CPU, compiled, with its exact gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        samples: Tensor,
        gains: Tensor,
        output_weights: Tensor,
        cosines: Tensor,
        sines: Tensor,
        start: Tensor,
    ) -> Tensor:
        samples, gains = samples.contiguous(), gains.contiguous()
        states, innovations = torch.empty_like(gains), torch.empty_like(samples)
        fixed = (gains, output_weights, cosines, sines, start, states, innovations)
        observer_forward(*(tensor.detach().numpy() for tensor in (samples, *fixed)))
        ctx.save_for_backward(*fixed)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gains, output_weights, _, _, start, _, innovations = ctx.saved_tensors
        grad_samples, grad_gains = torch.empty_like(innovations), torch.empty_like(gains)
        grad_weights, grad_start = torch.zeros_like(output_weights), torch.empty_like(start)
        known = (grads[0].contiguous(), *ctx.saved_tensors)
        wanted = (grad_samples, grad_gains, grad_weights, grad_start)
        observer_backward(*(tensor.detach().numpy() for tensor in (*known, *wanted)))
        return grad_samples, grad_gains, grad_weights, None, None, grad_start


def observer_reference(
    samples: Float[Tensor, "B T"],
    gains: Float[Tensor, "B T S"],
    output_weights: Float[Tensor, " S"],
    cosines: Float[Tensor, " K"],
    sines: Float[Tensor, " K"],
    start: Float[Tensor, "B S"],
) -> Float[Tensor, "B T S"]:
    """Run the observer's recurrence in PyTorch alone, sample by sample: for accelerators.

    Parameters
    ----------
    samples : Tensor, shape (B, T)
        The mixture y.
    gains : Tensor, shape (B, T, S)
        Gain g of every sample.
    output_weights : Tensor, shape (S,)
        How the states stand in the mixture, c.
    cosines : Tensor, shape (K,)
        Cosines of the tones' angles per sample.
    sines : Tensor, shape (K,)
        Their sines.
    start : Tensor, shape (B, S)
        State before the first sample: all tones, then all quadratures.

    Returns
    -------
    Tensor, shape (B, T, S)
        State z after every sample.
    """
    state, states = start, []
    for sample, gain in zip(samples.unbind(1), gains.unbind(1), strict=True):
        a, b = state.chunk(2, dim=1)
        predicted = torch.cat([cosines * a - sines * b, sines * a + cosines * b], dim=1)
        innovation = sample - predicted @ output_weights
        state = predicted + gain * innovation[:, None]
        states.append(state)
    return torch.stack(states, dim=1)


def observer_layers(
    settings: ModelSettings, data: DataSettings, n_features: int
) -> dict[str, StreamingLayer]:
    """Build the observer.

    Parameters
    ----------
    settings : ModelSettings
        Sizes of the gain network.
    data : DataSettings
        The components and the sample rate.
    n_features : int
        Features of the input.

    Returns
    -------
    dict of str to StreamingLayer
        The one layer.
    """
    size = settings.size(data.n_components)
    return {"observer": Observer(n_features, size, settings.n_layers, data)}
