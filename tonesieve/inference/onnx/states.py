"""Where a network's parts get their state from, and where it goes.

Within the graph a state is (rows, ...): every stream as many times as it has passes, those of one
stream side by side. Axes of arrays: P passes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from jaxtyping import Float

from tonesieve.inference.onnx.graph import Graph

PREFIX, NEXT = "state_", "next_"


class States(ABC):
    """What parts ask for their state at the start, and hand it to at the end."""

    def __init__(self, graph: Graph, n_passes: int) -> None:
        self.graph, self.n_passes = graph, n_passes

    @abstractmethod
    def begin(
        self, name: str, shape: tuple[int, ...], told: Float[np.ndarray, "P ..."] | None = None
    ) -> str:
        """A state of all rows; that of streams that have heard nothing is 0, or what is told."""

    @abstractmethod
    def keep(self, name: str, value: str, shape: tuple[int, ...]) -> None:
        """The state after the last sample."""


class ExternalState(States):
    """States that the caller carries: inputs and outputs of the graph.

    Zeros are the right start for all of them. Where a selector tells another, one more state says
    whether the stream has begun.
    """

    def __init__(self, graph: Graph, n_passes: int) -> None:
        super().__init__(graph, n_passes)
        self.begun: str | None = None
        self._kept: list[tuple[str, str, tuple[int, ...]]] = []

    def begin(
        self, name: str, shape: tuple[int, ...], told: Float[np.ndarray, "P ..."] | None = None
    ) -> str:
        about = "of every pass, 0 at the start"
        given = self.graph.input(PREFIX + name, ("batch", self.n_passes, *shape), about)
        if told is not None:
            begun = self.graph.reshape(self._whether_begun(), *[-1] + [1] * (1 + len(shape)))
            start = self.graph.constant(told.reshape(self.n_passes, *shape))
            given = self.graph.op("Where", begun, given, start)
        return self.graph.reshape(given, -1, *shape)

    def keep(self, name: str, value: str, shape: tuple[int, ...]) -> None:
        after = self.graph.reshape(value, -1, self.n_passes, *shape)
        self._kept.append((name, after, (self.n_passes, *shape)))

    def finish(self) -> None:
        """Write the outputs, in the order of the inputs."""
        of = {name: (value, shape) for name, value, shape in self._kept}
        for given in list(self.graph.inputs):
            name = given.name.removeprefix(PREFIX)
            if name in of:
                value, shape = of[name]
                about = f"the next {given.name}"
                self.graph.output(NEXT + given.name, value, ("batch", *shape), about)

    def _whether_begun(self) -> str:
        if self.begun is None:
            about = "whether the stream has begun, 0 at the start"
            flag = self.graph.input(f"{PREFIX}begun", ("batch", 1), about)
            zero, one = self.graph.constant(0.0), self.graph.constant(1.0)
            self.begun = self.graph.op("Greater", flag, zero)
            after = self.graph.op("Add", self.graph.op("Mul", flag, zero), one)
            self._kept.append(("begun", after, (1,)))
        return self.begun


class WindowState(States):
    """States of windows, each from the start: nobody carries them."""

    def __init__(self, graph: Graph, n_passes: int, n_windows: str) -> None:
        super().__init__(graph, n_passes)
        self.n_windows = n_windows  # a vector of one number

    def begin(
        self, name: str, shape: tuple[int, ...], told: Float[np.ndarray, "P ..."] | None = None
    ) -> str:
        whole = (self.n_passes, *shape)
        start = self.graph.constant(np.zeros(whole) if told is None else told.reshape(whole))
        ones = self.graph.constant([1] * len(whole))
        sizes = self.graph.op("Concat", self.n_windows, ones, axis=0)
        return self.graph.reshape(self.graph.op("Expand", start, sizes), -1, *shape)

    def keep(self, name: str, value: str, shape: tuple[int, ...]) -> None:
        return
