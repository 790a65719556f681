"""Where a network's layers read their state, and where they write it.

Within the graph a state is (rows, ...), a row for every pass of every stream, those of one stream
side by side. Axes of arrays: P passes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from jaxtyping import Float

from tonesieve.inference.onnx.graph import Graph

PREFIX, NEXT = "state_", "next_"


class States(ABC):
    """Interface by which layers read and write their state.

    Parameters
    ----------
    graph : Graph
        The graph.
    n_passes : int
        Passes a stream.
    """

    def __init__(self, graph: Graph, n_passes: int) -> None:
        self.graph, self.n_passes = graph, n_passes

    @abstractmethod
    def read(
        self, name: str, shape: tuple[int, ...], initial: Float[np.ndarray, "P ..."] | None = None
    ) -> str:
        """Return the state of all rows; at the start of a stream 0, or ``initial``."""

    @abstractmethod
    def write(self, name: str, value: str, shape: tuple[int, ...]) -> None:
        """Set the state after the last sample."""


class ExternalState(States):
    """States that the caller carries: inputs and outputs of the graph.

    The caller starts all of them with zeros. Where a selector sets another initial state, one more
    state says whether the stream has begun.

    Parameters
    ----------
    graph : Graph
        The graph.
    n_passes : int
        Passes a stream.
    """

    def __init__(self, graph: Graph, n_passes: int) -> None:
        super().__init__(graph, n_passes)
        self.begun: str | None = None
        self._written: list[tuple[str, str, tuple[int, ...]]] = []

    def read(
        self, name: str, shape: tuple[int, ...], initial: Float[np.ndarray, "P ..."] | None = None
    ) -> str:
        """Declare an input of the graph, and return the state of all rows."""
        about = "of every pass, 0 at the start"
        state = self.graph.input(PREFIX + name, ("batch", self.n_passes, *shape), about)
        if initial is not None:
            begun = self.graph.reshape(self._has_begun(), *[-1] + [1] * (1 + len(shape)))
            start = self.graph.constant(initial.reshape(self.n_passes, *shape))
            state = self.graph.op("Where", begun, state, start)
        return self.graph.reshape(state, -1, *shape)

    def write(self, name: str, value: str, shape: tuple[int, ...]) -> None:
        """Set the output that `finish` declares."""
        by_pass = self.graph.reshape(value, -1, self.n_passes, *shape)
        self._written.append((name, by_pass, (self.n_passes, *shape)))

    def finish(self) -> None:
        """Declare the outputs, in the order of the inputs."""
        of = {name: (value, shape) for name, value, shape in self._written}
        for graph_input in list(self.graph.inputs):
            name = graph_input.name.removeprefix(PREFIX)
            if name in of:
                value, shape = of[name]
                about = f"the next {graph_input.name}"
                self.graph.output(NEXT + graph_input.name, value, ("batch", *shape), about)

    def _has_begun(self) -> str:
        if self.begun is None:
            about = "whether the stream has begun, 0 at the start"
            flag = self.graph.input(f"{PREFIX}begun", ("batch", 1), about)
            zero, one = self.graph.constant(0.0), self.graph.constant(1.0)
            self.begun = self.graph.op("Greater", flag, zero)
            after = self.graph.op("Add", self.graph.op("Mul", flag, zero), one)
            self._written.append(("begun", after, (1,)))
        return self.begun


class WindowState(States):
    """Initial states of windows; the states after them are dropped.

    Parameters
    ----------
    graph : Graph
        The graph.
    n_passes : int
        Passes a stream.
    n_windows : str
        Name of their number, a vector of one.
    """

    def __init__(self, graph: Graph, n_passes: int, n_windows: str) -> None:
        super().__init__(graph, n_passes)
        self.n_windows = n_windows  # a vector of one number

    def read(
        self, name: str, shape: tuple[int, ...], initial: Float[np.ndarray, "P ..."] | None = None
    ) -> str:
        """Return the initial state of all rows."""
        full_shape = (self.n_passes, *shape)
        values = np.zeros(full_shape) if initial is None else initial.reshape(full_shape)
        start = self.graph.constant(values)
        ones = self.graph.constant([1] * len(full_shape))
        sizes = self.graph.op("Concat", self.n_windows, ones, axis=0)
        return self.graph.reshape(self.graph.op("Expand", start, sizes), -1, *shape)

    def write(self, name: str, value: str, shape: tuple[int, ...]) -> None:
        """Drop the state."""
