"""What every network is to the rest of the house: parts in a row, and a readout.

A part turns a sequence into a sequence and carries a state, so that any chunking gives what one
pass gives. Axes: B streams, T samples, F features, K components, O outputs; a state tensor is
(B, slots, size), zero for streams that have heard nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tonesieve.config.config import DataSettings, ModelSettings
from tonesieve.signals.signal_model import input_rms

State = tuple[Tensor, ...]
Shapes = tuple[tuple[int, int], ...]


class StreamingLayer(nn.Module, ABC):
    """One stage of a network."""

    causal = True
    width: int  # of what it gives
    # Whether what it gives is the tones themselves, which a readout may mix but not move.
    mixes = False
    state_shapes: Shapes = ()
    # How many of its state tensors, from the first, a selector may set at the start.
    n_told = 0

    @abstractmethod
    def forward(
        self, inputs: Float[Tensor, "B T F"], state: State
    ) -> tuple[Float[Tensor, "B T G"], State]:
        """What comes of the inputs, and the state after the last."""

    def penalty(self) -> Tensor | None:
        """What it adds to the loss in training."""
        return None


class Network(nn.Module):
    """Turns a mixture and a selector into outputs.

    Outputs: one per component when the selector is at the readout, else one. The selector stands
    among the inputs, sets the initial state, or scales and shifts what the readout takes (FiLM:
    Perez et al. 2018, arXiv:1709.07871).
    """

    input_scale: Tensor

    def __init__(
        self, settings: ModelSettings, data: DataSettings, parts: Mapping[str, StreamingLayer]
    ) -> None:
        super().__init__()
        self.selector, n_components = settings.selector, data.n_components
        self.tasks = settings.tasks
        self.parts = nn.ModuleDict(parts)
        self.n_outputs = n_components if self.selector == "readout" else 1
        width = list(parts.values())[-1].width
        self.dropout = nn.Dropout(settings.readout_dropout)
        mixes = list(parts.values())[-1].mixes
        self.readout = nn.Linear(width, self.n_outputs, bias=not mixes)
        if mixes:  # the mixture is the tones' mean
            with torch.no_grad():
                self.readout.weight.copy_(n_components * torch.eye(n_components))
        self.start = self.film = None
        if self.selector == "initial_state":
            told = [shape for p in parts.values() for shape in p.state_shapes[: p.n_told]]
            n_numbers = sum(slots * size for slots, size in told)
            self.start = nn.Linear(n_components, n_numbers)
        if self.selector == "film":
            self.film = nn.Linear(n_components, 2 * width)
        sizes = {"identity": n_components, "phase": 1}
        self.heads = nn.ModuleDict({task: nn.Linear(width, sizes[task]) for task in self.tasks})
        scale = 1.0 / input_rms(data) if settings.scale_input else 1.0
        self.register_buffer("input_scale", torch.tensor(scale, dtype=torch.float32))

    @property
    def causal(self) -> bool:
        """Whether no output rests on a later sample."""
        return all(part.causal for part in self._parts())

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Its layers by name, in the order that the data takes."""
        one = {"start": self.start, "film": self.film, "readout": self.readout}
        given = [(name, stage) for name, stage in one.items() if stage is not None]
        return [*self.parts.items(), *given, *self.heads.items()]

    def initial_state(self, n_streams: int, selector: Float[Tensor, "B K"] | None) -> State:
        """State of streams that have heard nothing: zero, or told by the selector."""
        told = None
        if self.start is not None:
            assert selector is not None
            told = self.start(selector).tanh()
        state, at = [], 0
        for part in self._parts():
            for n, (slots, size) in enumerate(part.state_shapes):
                if told is not None and n < part.n_told:
                    state.append(told[:, at : at + slots * size].reshape(n_streams, slots, size))
                    at += slots * size
                else:
                    state.append(self.readout.weight.new_zeros((n_streams, slots, size)))
        return tuple(state)

    def forward(
        self,
        inputs: Float[Tensor, "B T F"],
        selector: Float[Tensor, "B K"] | None,
        state: State,
        *,
        tasks: bool = False,
    ) -> tuple[Float[Tensor, "B T O"], State]:
        """Outputs at every sample, and the state after the last.

        With ``tasks``, what the further tasks answer stands beside the outputs.
        """
        hidden = inputs * self.input_scale
        if self.selector == "input":
            assert selector is not None
            shown = selector[:, None, :].expand(-1, inputs.shape[1], -1)
            hidden = torch.cat([hidden, shown], dim=2)
        after: list[Tensor] = []
        for part in self._parts():
            own = state[len(after) : len(after) + len(part.state_shapes)]
            hidden, kept = part(hidden, own)
            after += kept
        if self.film is not None:
            gain, shift = self.film(selector)[:, None].chunk(2, dim=2)
            hidden = (1 + gain) * hidden + shift
        hidden = self.dropout(hidden)
        answers = [self.readout(hidden)]
        if tasks:
            answers += [self.heads[task](hidden) for task in self.tasks]
        return torch.cat(answers, dim=2), tuple(after)

    def penalty(self) -> Tensor | None:
        """What its parts add to the loss in training."""
        found = [p for p in (part.penalty() for part in self._parts()) if p is not None]
        return torch.stack(found).sum() if found else None

    def _parts(self) -> Iterator[StreamingLayer]:
        for part in self.parts.values():
            assert isinstance(part, StreamingLayer)
            yield part


def remember(memory: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The inputs with what is remembered of those before, and what to remember: (B, M, F)."""
    whole = torch.cat([memory, inputs], dim=1)
    return whole, whole[:, whole.shape[1] - memory.shape[1] :]
