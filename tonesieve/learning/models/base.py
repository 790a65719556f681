"""What every network is to the rest of the package: layers in a row, and a readout.

A layer maps a sequence to a sequence and carries a state, so that any chunking gives what one
pass gives. Axes: B streams, T samples, F features in, G features out, K components, O outputs; a
state tensor is (B, slots, size), zero for streams without a past.

Attributes that hold a submodule, a parameter or a buffer are tensor names in weights.safetensors:
some keep an older word, so that saved files stay readable.
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
    """One layer of a network: (B, T, F) to (B, T, G), with a state.

    Attributes
    ----------
    causal : bool
        Whether no output depends on a later input.
    width : int
        Features of the output, G.
    outputs_tones : bool
        Whether the outputs are the tones themselves; the readout may mix them, without a bias.
    state_shapes : tuple of (int, int)
        Slots and size of every state tensor.
    n_conditioned : int
        How many of the state tensors, from the first, a selector may initialise.
    """

    causal = True
    width: int
    outputs_tones = False
    state_shapes: Shapes = ()
    n_conditioned = 0

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def forward(
        self, inputs: Float[Tensor, "B T F"], state: State
    ) -> tuple[Float[Tensor, "B T G"], State]:
        """Run over a chunk.

        Parameters
        ----------
        inputs : Tensor, shape (B, T, F)
            Features of every sample.
        state : tuple of Tensor, each of shape (B, slots, size)
            State before the first sample, as in ``state_shapes``.

        Returns
        -------
        outputs : Tensor, shape (B, T, G)
            Features for the next layer.
        state : tuple of Tensor, each of shape (B, slots, size)
            State after the last sample.
        """

    def penalty(self) -> Tensor | None:
        """Return the regularisation term of this layer, added to the training loss."""
        return None


class Network(nn.Module):
    """Layers in a row and a linear readout, conditioned on a selector.

    The selector is a one-hot vector of the component to extract. It goes where
    ``settings.selector`` says: ``input`` appends it to the features, ``initial_state`` maps it to
    the initial state, ``film`` scales and shifts what the readout takes [1]_. With ``readout``
    there is no selector, and one output per component instead.

    Parameters
    ----------
    settings : ModelSettings
        The section ``model`` of a configuration.
    data : DataSettings
        The section ``data``: the components, and the scale of the input.
    layers : mapping of str to StreamingLayer
        The layers by name, first to last.

    References
    ----------
    .. [1] E. Perez et al., "FiLM: Visual reasoning with a general conditioning layer", AAAI 2018,
       arXiv:1709.07871.
    """

    input_scale: Tensor

    def __init__(
        self, settings: ModelSettings, data: DataSettings, layers: Mapping[str, StreamingLayer]
    ) -> None:
        super().__init__()
        self.selector, n_components = settings.selector, data.n_components
        self.tasks = settings.tasks
        self.parts = nn.ModuleDict(layers)  # the name in saved files
        self.n_outputs = n_components if self.selector == "readout" else 1
        last = list(layers.values())[-1]
        self.dropout = nn.Dropout(settings.readout_dropout)
        self.readout = nn.Linear(last.width, self.n_outputs, bias=not last.outputs_tones)
        if last.outputs_tones:  # the mixture is the tones' mean
            with torch.no_grad():
                self.readout.weight.copy_(n_components * torch.eye(n_components))
        self.start = self.film = None
        if self.selector == "initial_state":
            shapes = [s for x in layers.values() for s in x.state_shapes[: x.n_conditioned]]
            self.start = nn.Linear(n_components, sum(slots * size for slots, size in shapes))
        if self.selector == "film":
            self.film = nn.Linear(n_components, 2 * last.width)
        sizes = {"identity": n_components, "phase": 1}
        self.heads = nn.ModuleDict(
            {task: nn.Linear(last.width, sizes[task]) for task in self.tasks}
        )
        scale = 1.0 / input_rms(data) if settings.scale_input else 1.0
        self.register_buffer("input_scale", torch.tensor(scale, dtype=torch.float32))

    @property
    def causal(self) -> bool:
        """Whether no output depends on a later sample."""
        return all(layer.causal for layer in self._layers())

    def named_layers(self) -> list[tuple[str, nn.Module]]:
        """Return the layers, the readout and the heads by name, in the order of computation."""
        optional = {"start": self.start, "film": self.film, "readout": self.readout}
        present = [(name, layer) for name, layer in optional.items() if layer is not None]
        return [*self.parts.items(), *present, *self.heads.items()]

    def initial_state(self, n_streams: int, selector: Float[Tensor, "B K"] | None) -> State:
        """Return the state before the first sample.

        Parameters
        ----------
        n_streams : int
            Number of streams, B.
        selector : Tensor, shape (B, K), or None
            One-hot selector of every stream; None where the network takes none.

        Returns
        -------
        tuple of Tensor, each of shape (B, slots, size)
            Zeros; with selector ``initial_state``, a function of the selector.
        """
        conditioned = None
        if self.start is not None:
            assert selector is not None
            conditioned = self.start(selector).tanh()
        state, offset = [], 0
        for layer in self._layers():
            for n, (slots, size) in enumerate(layer.state_shapes):
                if conditioned is not None and n < layer.n_conditioned:
                    values = conditioned[:, offset : offset + slots * size]
                    state.append(values.reshape(n_streams, slots, size))
                    offset += slots * size
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
        """Run over a chunk.

        Parameters
        ----------
        inputs : Tensor, shape (B, T, F)
            Samples of the mixture, each with its context taps.
        selector : Tensor, shape (B, K), or None
            One-hot selector of every stream; None where the network takes none.
        state : tuple of Tensor, each of shape (B, slots, size)
            State before the first sample.
        tasks : bool
            Whether to append the outputs of the auxiliary heads.

        Returns
        -------
        outputs : Tensor, shape (B, T, O)
            Estimates, then the auxiliary outputs if asked for.
        state : tuple of Tensor, each of shape (B, slots, size)
            State after the last sample.
        """
        hidden = inputs * self.input_scale
        if self.selector == "input":
            assert selector is not None
            condition = selector[:, None, :].expand(-1, inputs.shape[1], -1)
            hidden = torch.cat([hidden, condition], dim=2)
        state_after: list[Tensor] = []
        for layer in self._layers():
            first = len(state_after)
            hidden, layer_state = layer(hidden, state[first : first + len(layer.state_shapes)])
            state_after += layer_state
        if self.film is not None:
            gain, shift = self.film(selector)[:, None].chunk(2, dim=2)
            hidden = (1 + gain) * hidden + shift
        hidden = self.dropout(hidden)
        outputs = [self.readout(hidden)]
        if tasks:
            outputs += [self.heads[task](hidden) for task in self.tasks]
        return torch.cat(outputs, dim=2), tuple(state_after)

    def penalty(self) -> Tensor | None:
        """Return the sum of the layers' regularisation terms; None without any."""
        terms = [p for p in (layer.penalty() for layer in self._layers()) if p is not None]
        return torch.stack(terms).sum() if terms else None

    def _layers(self) -> Iterator[StreamingLayer]:
        for layer in self.parts.values():
            assert isinstance(layer, StreamingLayer)
            yield layer


def append_history(
    history: Float[Tensor, "B M F"], inputs: Float[Tensor, "B T F"]
) -> tuple[Float[Tensor, "B N F"], Float[Tensor, "B M F"]]:
    """Put the last inputs of earlier chunks before those of this one.

    Parameters
    ----------
    history : Tensor, shape (B, M, F)
        The M inputs before this chunk.
    inputs : Tensor, shape (B, T, F)
        The inputs of this chunk.

    Returns
    -------
    extended : Tensor, shape (B, M + T, F)
        Both.
    history : Tensor, shape (B, M, F)
        The last M inputs, for the next chunk.
    """
    extended = torch.cat([history, inputs], dim=1)
    return extended, extended[:, extended.shape[1] - history.shape[1] :]
