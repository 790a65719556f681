"""Linear recurrent units: linear recurrences with complex eigenvalues, run by a parallel scan.

h[t] = l h[t-1] + g B x[t] with eigenvalues l = exp(-exp(nu) + i theta) (Orvieto et al. 2023) and
g = sqrt(1 - |l|^2), so that white noise of unit power leaves a state of unit power. Axes: B
streams, T samples, N units.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from tonesieve.config.config import DataSettings, ModelSettings
from tonesieve.learning.models.attention import Embedding
from tonesieve.learning.models.base import State, StreamingLayer
from tonesieve.learning.models.recurrent import post_layers

# Samples in one scan. Guard: against memory, and doublings, that grow with a chunk's length.
BLOCK = 256
# Initial time constants: from this many samples to this many periods of the lowest tone. Chosen,
# not tuned.
SHORTEST_SAMPLES, LONGEST_PERIODS = 10.0, 3.0
# Initial frequencies: from 0 to the highest tone times this, but below Nyquist. Chosen, not tuned.
MAX_FREQUENCY_RATIO = 1.5


class LinearRecurrentUnit(StreamingLayer):
    """A residual block around linear recurrent units [1]_: (B, T, N) to (B, T, N).

    Layer norm, the recurrence, a linear layer on its state with GELU, a linear layer, dropout, and
    a skip connection.

    Parameters
    ----------
    width : int
        Features of input and output, and units, N.
    data : DataSettings
        The components: their band sets the initial frequencies and time constants.
    norm : bool
        Whether to normalise the input.
    dropout : float
        Share of the outputs dropped before the skip connection.

    References
    ----------
    .. [1] A. Orvieto et al., "Resurrecting recurrent neural networks for long sequences",
       ICML 2023, arXiv:2303.06349.
    """

    n_conditioned = 1

    def __init__(self, width: int, data: DataSettings, *, norm: bool, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.state_shapes = ((2, width),)  # real and imaginary parts
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        decay, theta = _initial_eigenvalues(width, data)
        # The names in saved files: log_decay for nu, turn for theta, drive for B, direct for D.
        self.log_decay = nn.Parameter(torch.log(decay))
        self.turn = nn.Parameter(theta)
        self.drive = nn.Parameter(torch.randn(2, width, width) / math.sqrt(2 * width))
        self.direct = nn.Parameter(torch.randn(width))
        self.mix = nn.Linear(2 * width, width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, inputs: Float[Tensor, "B T F"], state: State
    ) -> tuple[Float[Tensor, "B T F"], State]:
        """Run over a chunk."""
        x = self.norm(inputs)
        log_eigenvalues = torch.complex(-torch.exp(self.log_decay), self.turn)
        gain = torch.sqrt(-torch.expm1(2 * log_eigenvalues.real))
        driven = torch.complex(*(x @ (b * gain) for b in self.drive))
        h = scan(log_eigenvalues, driven, torch.complex(*state[0].unbind(1)))
        last = h[:, -1]
        mixed = self.mix(torch.cat([h.real, h.imag], dim=2)) + self.direct * x
        state_after = torch.stack([last.real, last.imag], dim=1)
        return inputs + self.dropout(self.out(nn.functional.gelu(mixed))), (state_after,)


def scan(
    exponent: Complex[Tensor, " N"], driven: Complex[Tensor, "B T N"], start: Complex[Tensor, "B N"]
) -> Complex[Tensor, "B T N"]:
    """Run the recurrence h[t] = exp(exponent) h[t-1] + driven[t] in log2(T) doublings.

    Parameters
    ----------
    exponent : Tensor, shape (N,), complex
        Logarithms of the eigenvalues.
    driven : Tensor, shape (B, T, N), complex
        Inputs of the units.
    start : Tensor, shape (B, N), complex
        State before the first sample.

    Returns
    -------
    Tensor, shape (B, T, N), complex
        State after every sample.
    """
    blocks, last = [], start
    for block in driven.split(BLOCK, dim=1):
        n_samples = block.shape[1]
        first = block[:, :1] + (torch.exp(exponent) * last)[:, None]
        h, span = torch.cat([first, block[:, 1:]], dim=1), 1
        while span < n_samples:  # h[t] sums over the last `span` samples
            earlier = torch.exp(exponent * span) * h[:, : n_samples - span]
            h = torch.cat([h[:, :span], h[:, span:] + earlier], dim=1)
            span *= 2
        blocks.append(h)
        last = h[:, -1]
    return torch.cat(blocks, dim=1)


def _initial_eigenvalues(
    n: int, data: DataSettings
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Decay and theta of every unit, per sample: theta evenly over the band, decays drawn.

    The band reaches beyond the tones; nothing else of them is used.
    """
    top_hz = min(MAX_FREQUENCY_RATIO * max(data.frequencies_hz), 0.5 * data.rate_hz)
    theta = 2 * math.pi * top_hz / data.rate_hz * (torch.arange(n) + 0.5) / n
    longest = max(2 * SHORTEST_SAMPLES, LONGEST_PERIODS * data.rate_hz / min(data.frequencies_hz))
    alpha = torch.rand(n)
    decay = 1 / (SHORTEST_SAMPLES ** (1 - alpha) * longest**alpha)
    return decay, theta


def lru_layers(
    settings: ModelSettings, data: DataSettings, n_features: int
) -> dict[str, StreamingLayer]:
    """Build an embedding, linear recurrent units, and the layers that the settings put after them.

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
        # The name in saved files: oscillators.
        layers[f"oscillators_{n + 1}"] = LinearRecurrentUnit(
            size,
            data,
            norm=settings.layer_norm,
            dropout=settings.dropout if n < settings.n_layers - 1 else 0.0,
        )
    return layers | post_layers(settings, size)
