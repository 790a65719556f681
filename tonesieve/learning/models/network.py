"""What every network is to the rest of the house."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

State = tuple[Tensor, ...]


class Network(nn.Module, ABC):
    """Turns a mixture and a selector into outputs; axis 0 of every state tensor is the stream.

    Outputs: one per component when the selector is at the readout, else one.
    """

    causal: bool
    n_outputs: int

    @abstractmethod
    def initial_state(self, n_streams: int, selector: Float[Tensor, "B K"] | None) -> State:
        """State of streams that have seen nothing."""

    @abstractmethod
    def forward(
        self,
        inputs: Float[Tensor, "B T F"],
        selector: Float[Tensor, "B K"] | None,
        state: State,
    ) -> tuple[Float[Tensor, "B T O"], State]:
        """Outputs at every sample, and the state after the last."""
