"""Linear recurrences with complex eigenvalues: damped oscillators, trained by a parallel scan.

The linear recurrent unit of Orvieto et al. 2023, arXiv:2303.06349: h[t] = l h[t-1] + g B x[t] with
l = exp(-exp(nu) + i theta) a unit, and g = sqrt(1 - |l|^2), so that noise of unit power leaves a
state of unit power. Axes: B streams, T samples, N units.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from tonesieve.config.config import DataSettings, ModelSettings
from tonesieve.learning.models.attention import Embedding
from tonesieve.learning.models.base import State, StreamingLayer
from tonesieve.learning.models.recurrent import upon

# Samples in one scan: bounds its memory, and the doublings that it takes.
BLOCK = 256
# Time constants at the start: from so many samples to so many periods of the lowest tone.
SHORTEST_SAMPLES, LONGEST_PERIODS = 10.0, 3.0
# Frequencies at the start: from 0 to so many times the highest tone, but below half the rate.
TOP = 1.5


class LinearRecurrentUnit(StreamingLayer):
    """Damped oscillators, what they hear mixed by a small network and added to their input."""

    n_told = 1

    def __init__(self, width: int, data: DataSettings, *, norm: bool, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.state_shapes = ((2, width),)  # real and imaginary parts
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        decay, turn = _spread(width, data)
        self.log_decay = nn.Parameter(torch.log(decay))
        self.turn = nn.Parameter(turn)
        self.drive = nn.Parameter(torch.randn(2, width, width) / math.sqrt(2 * width))
        self.direct = nn.Parameter(torch.randn(width))
        self.mix = nn.Linear(2 * width, width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, inputs: Float[Tensor, "B T F"], state: State
    ) -> tuple[Float[Tensor, "B T F"], State]:
        """The inputs and what was added to them."""
        heard = self.norm(inputs)
        exponent = torch.complex(-torch.exp(self.log_decay), self.turn)
        gain = torch.sqrt(-torch.expm1(2 * exponent.real))
        driven = torch.complex(*(heard @ (part * gain) for part in self.drive))
        swing = scan(exponent, driven, torch.complex(*state[0].unbind(1)))
        last = swing[:, -1]
        mixed = self.mix(torch.cat([swing.real, swing.imag], dim=2)) + self.direct * heard
        after = torch.stack([last.real, last.imag], dim=1)
        return inputs + self.dropout(self.out(nn.functional.gelu(mixed))), (after,)


def scan(
    exponent: Complex[Tensor, " N"], driven: Complex[Tensor, "B T N"], start: Complex[Tensor, "B N"]
) -> Complex[Tensor, "B T N"]:
    """h[t] = exp(exponent) h[t-1] + driven[t] from h[-1] = start, in log2(T) doublings."""
    blocks, held = [], start
    for block in driven.split(BLOCK, dim=1):
        n_samples = block.shape[1]
        first = block[:, :1] + (torch.exp(exponent) * held)[:, None]
        swing, reach = torch.cat([first, block[:, 1:]], dim=1), 1
        while reach < n_samples:  # swing[t] sums over the last `reach` samples
            earlier = torch.exp(exponent * reach) * swing[:, : n_samples - reach]
            swing = torch.cat([swing[:, :reach], swing[:, reach:] + earlier], dim=1)
            reach *= 2
        blocks.append(swing)
        held = swing[:, -1]
    return torch.cat(blocks, dim=1)


def _spread(n: int, data: DataSettings) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Decay and turn of every unit, each a sample: frequencies evenly over the band, decays drawn.

    The band goes beyond the tones but knows no more of them.
    """
    top_hz = min(TOP * max(data.frequencies_hz), 0.5 * data.rate_hz)
    turn = 2 * math.pi * top_hz / data.rate_hz * (torch.arange(n) + 0.5) / n
    longest = max(2 * SHORTEST_SAMPLES, LONGEST_PERIODS * data.rate_hz / min(data.frequencies_hz))
    share = torch.rand(n)
    decay = 1 / (SHORTEST_SAMPLES ** (1 - share) * longest**share)
    return decay, turn


def lru_parts(
    settings: ModelSettings, data: DataSettings, n_features: int
) -> dict[str, StreamingLayer]:
    """An embedding, layers of oscillators, and what stands upon them."""
    size = settings.size(data.n_components)
    parts: dict[str, StreamingLayer] = {"embedding": Embedding(n_features, size)}
    for n in range(settings.n_layers):
        parts[f"oscillators_{n + 1}"] = LinearRecurrentUnit(
            size,
            data,
            norm=settings.layer_norm,
            dropout=settings.dropout if n < settings.n_layers - 1 else 0.0,
        )
    return parts | upon(settings, size)
