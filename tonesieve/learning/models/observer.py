"""An observer: one oscillator a tone, corrected by what it failed to foresee, by learned gains.

The oscillators turn at the tones' frequencies; after every sample their states are moved by a gain
times the surprise, the difference between the sample and what they foretold. The gains come from a
small network that hears how old the stream is. A Kalman filter has this form with gains from a
model of the noise (Kalman 1960); here they are learned (as in KalmanNet: Revach et al. 2022,
arXiv:2107.10043). Axes: B streams, T samples, K components.
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

# Time constants of the clocks: from so many samples to so many periods of the lowest tone.
SHORTEST_SAMPLES, LONGEST_PERIODS = 2.0, 30.0
# Gains at the start: the exponential of this, all in phase.
LOG_GAIN = -3.0


class Observer(StreamingLayer):
    """Oscillators at the tones' frequencies, and the small network that finds their gains."""

    clocks: Tensor
    cosines: Tensor
    sines: Tensor

    def __init__(self, n_features: int, size: int, n_layers: int, data: DataSettings) -> None:
        super().__init__()
        n = data.n_components
        self.width = 2 * n
        self.state_shapes = ((1, 2 * n), (1, N_AGE_FEATURES))
        turn = 2 * math.pi * torch.tensor(data.frequencies_hz, dtype=torch.float64) / data.rate_hz
        self.register_buffer("cosines", torch.cos(turn).float())
        self.register_buffer("sines", torch.sin(turn).float())
        longest = LONGEST_PERIODS * data.rate_hz / min(data.frequencies_hz)
        spread = torch.linspace(math.log(SHORTEST_SAMPLES), math.log(longest), N_AGE_FEATURES)
        self.register_buffer("clocks", torch.exp(spread))  # time constants, samples
        heard = torch.zeros(n_features)
        heard[n_features // 2] = 1  # the present sample, between its neighbours
        self.heard = nn.Parameter(heard)
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
        """The oscillators' states, which hold every tone and its quadrature."""
        if inputs.shape[1] == 0:
            return inputs.new_zeros((len(inputs), 0, self.width)), state
        samples = inputs @ self.heard
        clocks = self._clocks(inputs.shape[1], state[1])
        answer = self.gain(2 * clocks - 1)
        gains = answer[..., :-1] * torch.exp(answer[..., -1:])
        before = state[0][:, 0].contiguous()
        if samples.device.type == "cpu":
            states: Tensor = _Observing.apply(
                samples, gains, self.seen, self.cosines, self.sines, before
            )
        else:
            states = observer_reference(samples, gains, self.seen, self.cosines, self.sines, before)
        return states, (states[:, -1:], clocks[:, -1:])

    def _clocks(self, n_samples: int, begun: Float[Tensor, "B 1 N"]) -> Float[Tensor, "B T N"]:
        """Each rises from 0 to 1 with its time constant."""
        step = torch.arange(1, n_samples + 1, device=begun.device)[:, None]
        return 1 - (1 - begun) * torch.exp(-step / self.clocks)


class _Observing(torch.autograd.Function):
    """The recurrence on a CPU, compiled, with its exact gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        samples: Tensor,
        gains: Tensor,
        seen: Tensor,
        cosines: Tensor,
        sines: Tensor,
        before: Tensor,
    ) -> Tensor:
        given = (samples.contiguous(), gains.contiguous(), seen, cosines, sines, before)
        states, surprises = torch.empty_like(given[1]), torch.empty_like(given[0])
        observer_forward(*(tensor.detach().numpy() for tensor in (*given, states, surprises)))
        ctx.save_for_backward(*given[1:], states, surprises)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *of_states: Tensor) -> tuple[Tensor | None, ...]:
        gains, seen, _, _, before, _, surprises = ctx.saved_tensors
        of_samples, of_gains = torch.empty_like(surprises), torch.empty_like(gains)
        of_seen, of_before = torch.zeros_like(seen), torch.empty_like(before)
        given = (of_states[0].contiguous(), *ctx.saved_tensors)
        found = (of_samples, of_gains, of_seen, of_before)
        observer_backward(*(tensor.detach().numpy() for tensor in (*given, *found)))
        return of_samples, of_gains, of_seen, None, None, of_before


def observer_reference(
    samples: Float[Tensor, "B T"],
    gains: Float[Tensor, "B T S"],
    seen: Float[Tensor, " S"],
    cosines: Float[Tensor, " K"],
    sines: Float[Tensor, " K"],
    before: Float[Tensor, "B S"],
) -> Float[Tensor, "B T S"]:
    """The recurrence in PyTorch alone, sample by sample: for accelerators."""
    state, states = before, []
    for sample, gain in zip(samples.unbind(1), gains.unbind(1), strict=True):
        one, other = state.chunk(2, dim=1)
        turned = torch.cat([cosines * one - sines * other, sines * one + cosines * other], dim=1)
        surprise = sample - turned @ seen
        state = turned + gain * surprise[:, None]
        states.append(state)
    return torch.stack(states, dim=1)


def observer_parts(
    settings: ModelSettings, data: DataSettings, n_features: int
) -> dict[str, StreamingLayer]:
    """The observer alone."""
    size = settings.size(data.n_components)
    return {"observer": Observer(n_features, size, settings.n_layers, data)}
