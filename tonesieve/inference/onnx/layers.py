"""Layers of a network as nodes of an ONNX graph.

Everything between layers is (T, rows, width), time first, as in ONNX's recurrent operators. Axes of
arrays: P passes, H hidden, K tones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from tonesieve.config.config import ModelSettings
from tonesieve.inference.compiler import GATES
from tonesieve.inference.onnx.graph import Graph
from tonesieve.inference.onnx.states import States
from tonesieve.inference.weights import take_tensor
from tonesieve.kernels.network_vm.opcodes import EPSILON, N_AGE_FEATURES, SPAN_RAMP, SPAN_RATE

OPERATORS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}
# Derived: PyTorch's gates in ONNX's order, i f g o as i o f c, and r z n as z r h.
ORDERS = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}


@dataclass
class LayerWriter:
    """Writes a network's layers into a graph, one after the other.

    Parameters
    ----------
    graph : Graph
        The graph.
    tensors : mapping of str to ndarray
        Weights by the names that they have on disk.
    states : States
        Where layers read and write their state.
    condition : ndarray, shape (P, N), optional
        What a selector sets of the initial states, as far as no layer has taken it.
    """

    graph: Graph
    tensors: Mapping[str, np.ndarray]
    states: States
    condition: Float[np.ndarray, "P N"] | None = None

    def linear(self, x: str, name: str, n: int, m: int) -> str:
        """Write an affine map of n features to m."""
        weight, bias = self.take(f"{name}.weight", m, n), self.take(f"{name}.bias", m)
        return self.affine(x, weight, bias)

    def affine(self, x: str, weight: Float[np.ndarray, "M N"], bias: np.ndarray) -> str:
        """Write an affine map, and return its outputs."""
        product = self.graph.op("MatMul", x, self.graph.constant(weight.T))
        return self.graph.op("Add", product, self.graph.constant(bias))

    def norm(self, x: str, name: str, n: int) -> str:
        """Write a layer norm over the features."""
        of = [self.graph.constant(self.take(f"{name}.{part}", n)) for part in ("weight", "bias")]
        return self.graph.op("LayerNormalization", x, *of, axis=-1, epsilon=EPSILON)

    def gelu(self, x: str) -> str:
        """Write a GELU."""
        g = self.graph
        erf = g.op("Erf", g.op("Mul", x, g.constant(np.sqrt(0.5))))
        return g.op("Mul", g.op("Mul", x, g.constant(0.5)), g.op("Add", erf, g.constant(1.0)))

    def recurrent(self, kind: str, x: str, n_inputs: int, size: int, model: ModelSettings) -> str:
        """Write layers of one stack, under one name on disk."""
        # A selector sets the hidden states of all layers first, then the cell states.
        n_layers = model.n_layers
        condition = [self.conditioning(n_layers, size) for _ in range(2 if kind == "lstm" else 1)]
        for n in range(n_layers):
            initial = [None if state is None else state[:, n] for state in condition]
            names = (f"parts.{kind}.cell", n, f"{kind}_{n + 1}")
            x, n_inputs = self._layer(kind, x, n_inputs, size, names, initial), size
        return x

    def separate_layers(
        self,
        kind: str,
        x: str,
        n_inputs: int,
        size: int,
        model: ModelSettings,
    ) -> str:
        """Write layers with a norm or a residual, each under a name of its own."""
        for n in range(model.n_layers):
            condition = [self.conditioning(size) for _ in range(2 if kind == "lstm" else 1)]
            part = f"parts.{kind}_{n + 1}"
            names = (f"{part}.recurrent.cell", 0, f"{kind}_{n + 1}")
            hidden = self._layer(kind, x, n_inputs, size, names, condition)
            if model.layer_norm:
                hidden = self.norm(hidden, f"{part}.norm", size)
            if model.residual and n_inputs == size:
                hidden = self.graph.op("Add", hidden, x)
            x, n_inputs = hidden, size
        return x

    def _layer(
        self,
        kind: str,
        x: str,
        n_inputs: int,
        size: int,
        names: tuple[str, int, str],
        initial: list[Float[np.ndarray, "P H"] | None],
    ) -> str:
        """Write one layer; ``names``: its cell and number on disk, and the name of its state."""
        cell, n, state = names
        n_gates = GATES[kind] * size
        matrices = [
            self._gates(kind, self.take(f"{cell}.weight_{of}_l{n}", n_gates, width))
            for of, width in (("ih", n_inputs), ("hh", size))
        ]
        biases = [
            self._gates(kind, self.take(f"{cell}.bias_{of}_l{n}", n_gates)) for of in ("ih", "hh")
        ]
        g = self.graph
        weights = [g.constant(array[None]) for array in (*matrices, np.concatenate(biases))]
        letters = "hc"[: len(initial)]
        axis = g.constant([0])
        before = [
            g.op("Unsqueeze", self.states.read(f"{state}_{letter}", (size,), start), axis)
            for letter, start in zip(letters, initial, strict=True)
        ]
        # GRU: the reset gate multiplies the candidate's bias, too, as in PyTorch.
        options = {"linear_before_reset": 1} if kind == "gru" else {}
        inputs = [x, *weights, "", *before]
        hidden, *after = g.ops(
            OPERATORS[kind], inputs, 1 + len(initial), hidden_size=size, **options
        )
        for letter, value in zip(letters, after, strict=True):
            self.states.write(f"{state}_{letter}", g.op("Squeeze", value, axis), (size,))
        return g.op("Squeeze", hidden, g.constant([1]))

    @staticmethod
    def _gates(kind: str, array: np.ndarray) -> np.ndarray:
        order = ORDERS[kind]
        parts = np.split(array, len(order))
        return np.concatenate([parts[gate] for gate in order])

    def with_history(self, x: str, name: str, n: int, width: int) -> str:
        """Prepend the ``n`` inputs that came before."""
        g = self.graph
        before = g.transpose(self.states.read(name, (n, width)), 1, 0, 2)
        extended = g.op("Concat", before, x, axis=0)
        self.states.write(name, g.transpose(g.slice_last(extended, n), 1, 0, 2), (n, width))
        return extended

    def convolution(
        self,
        x: str,
        name: str,
        state: str,
        shape: tuple[int, int, int],
        *,
        dilation: int = 1,
        mask: np.ndarray | None = None,
    ) -> str:
        """Write a causal convolution with ReLU; ``shape``: outputs, features, kernel."""
        _, n_features, kernel = shape
        weight, bias = self.take(f"{name}.weight", *shape), self.take(f"{name}.bias", shape[0])
        if mask is not None:
            weight = weight * mask
        extended = self.with_history(x, state, (kernel - 1) * dilation, n_features)
        g = self.graph
        conv_inputs = [g.transpose(extended, 1, 2, 0), g.constant(weight), g.constant(bias)]
        sums = g.op("Conv", *conv_inputs, dilations=[dilation], kernel_shape=[kernel])
        return g.op("Relu", g.transpose(sums, 2, 0, 1))

    def learned_window(self, x: str, n_features: int, size: int, longest: int) -> str:
        """Write a convolution over a window of learned length."""
        fraction = np.clip(0.5 + SPAN_RATE * self.take("parts.window.span"), 0, 1)
        ramp = max(1.0, longest / SPAN_RAMP)
        lag = np.arange(longest - 1, -1, -1)
        mask = np.clip((fraction * longest + ramp - lag) / ramp, 0, 1)
        shape = (size, n_features, longest)
        return self.convolution(x, "parts.window.weigh", "window", shape, mask=mask)

    def dense(self, x: str, n: int, size: int) -> str:
        """Write a linear layer with ReLU."""
        return self.graph.op("Relu", self.linear(x, f"parts.dense_{n}.linear", size, size))

    def temporal_block(self, x: str, n_inputs: int, size: int, kernel: int, dilation: int) -> str:
        """Write two dilated convolutions with ReLU and a skip connection."""
        block, hidden, width = f"parts.block_{dilation}", x, n_inputs
        for name in ("first", "second"):
            state, shape = f"block_{dilation}_{name}", (size, width, kernel)
            hidden = self.convolution(
                hidden, f"{block}.{name}.weigh", state, shape, dilation=dilation
            )
            width = size
        skipped = x if n_inputs == size else self.linear(x, f"{block}.skip", n_inputs, size)
        return self.graph.op("Relu", self.graph.op("Add", hidden, skipped))

    def squeeze_excitation(self, x: str, width: int, context: int) -> str:
        """Write a gate on every unit, computed from the running mean of all units."""
        g, squeezed, gate = self.graph, max(1, width // 4), "parts.squeeze_excitation.gate"
        extended = self.with_history(x, "squeeze_excitation", context - 1, width)
        mean = g.op("AveragePool", g.transpose(extended, 1, 2, 0), kernel_shape=[context])
        narrow = self.linear(g.transpose(mean, 2, 0, 1), f"{gate}.0", width, squeezed)
        wide = self.linear(self.gelu(narrow), f"{gate}.2", squeezed, width)
        return g.op("Mul", x, g.op("Sigmoid", wide))

    def lru(self, x: str, n: int, width: int, *, norm: bool) -> str:
        """Write a linear recurrent unit, mixed by a small network and added to its input."""
        g, part, state = self.graph, f"parts.oscillators_{n}", f"oscillators_{n}"
        condition = self.conditioning(2 * width)
        decay = np.exp(self.take(f"{part}.log_decay", width))
        eigenvalues = np.exp(-decay + 1j * self.take(f"{part}.turn", width))
        drive = self.take(f"{part}.drive", 2, width, width) * np.sqrt(-np.expm1(-2 * decay))
        inputs = self.norm(x, f"{part}.norm", width) if norm else x
        driven = g.op("MatMul", inputs, g.constant(np.concatenate(list(drive), axis=1)))
        before = self.states.read(state, (2 * width,), condition)
        rotate = self._rotation(eigenvalues.real, eigenvalues.imag)

        def step(inner: Graph, state_in: str, now: list[str]) -> str:
            return inner.op("Add", rotate(inner, state_in), now[0])

        states, last = g.scan(step, before, [driven])
        self.states.write(state, last, (2 * width,))
        mixed = self.linear(states, f"{part}.mix", 2 * width, width)
        direct = g.op("Mul", inputs, g.constant(self.take(f"{part}.direct", width)))
        activated = self.gelu(g.op("Add", mixed, direct))
        return g.op("Add", x, self.linear(activated, f"{part}.out", width, width))

    def observer(self, x: str, n_tones: int, size: int, n_layers: int) -> str:
        """Write an observer: oscillators, corrected by gains times the innovation."""
        g, width = self.graph, 2 * n_tones
        samples = g.op("Mul", x, g.constant(self.take("parts.observer.heard", 1)))
        gains = self._gains(x, width, size, n_layers)
        before = self.states.read("oscillators", (width,))
        cosines_sines = [
            self.take(f"parts.observer.{name}", n_tones) for name in ("cosines", "sines")
        ]
        rotate = self._rotation(*cosines_sines)
        output_weights = g.constant(self.take("parts.observer.seen", width)[:, None], double=True)

        def step(inner: Graph, state_in: str, now: list[str]) -> str:
            sample, gain = now
            predicted = rotate(inner, state_in)
            innovation = inner.op("Sub", sample, inner.op("MatMul", predicted, output_weights))
            return inner.op("Add", predicted, inner.op("Mul", gain, innovation))

        states, last = g.scan(step, before, [samples, gains])
        self.states.write("oscillators", last, (width,))
        return states

    def _gains(self, x: str, width: int, size: int, n_layers: int) -> str:
        """By a small network of the age features, which rise from 0 to 1."""
        g, gain = self.graph, "parts.observer.gain"
        one = g.constant(1.0)
        rates = g.constant(-1 / self.take("parts.observer.clocks", N_AGE_FEATURES))
        age = g.op("Add", g.cast(g.arange(g.length(x, 0))), one)
        age = g.reshape(age, -1, 1, 1)
        ages_before = self.states.read("clocks", (N_AGE_FEATURES,))
        remaining = g.op("Mul", g.op("Sub", one, ages_before), g.op("Exp", g.op("Mul", age, rates)))
        ages = g.op("Sub", one, remaining)
        first = g.op("Unsqueeze", ages_before, g.constant([0]))
        last = g.slice_last(g.op("Concat", first, ages, axis=0), 1)
        self.states.write("clocks", g.op("Squeeze", last, g.constant([0])), (N_AGE_FEATURES,))
        hidden = g.op("Sub", g.op("Mul", ages, g.constant(2.0)), one)
        n_inputs = N_AGE_FEATURES
        for n in range(n_layers):
            hidden = self.gelu(self.linear(hidden, f"{gain}.{2 * n}", n_inputs, size))
            n_inputs = size
        outputs = self.linear(hidden, f"{gain}.{2 * n_layers}", n_inputs, width + 1)
        parts = g.ops("Split", [outputs, g.constant([width, 1])], 2, axis=2)
        return g.op("Mul", parts[0], g.op("Exp", parts[1]))

    def _rotation(
        self, cosines: Float64[np.ndarray, " N"], sines: Float64[np.ndarray, " N"]
    ) -> Callable[[Graph, str], str]:
        """Return a writer of the rotation of complex numbers, real parts first."""
        n = len(cosines)
        diagonal = self.graph.constant(np.concatenate([cosines, cosines]), double=True)
        cross = self.graph.constant(np.concatenate([-sines, sines]), double=True)
        partner = self.graph.constant(np.roll(np.arange(2 * n), n))

        def rotate(inner: Graph, state_in: str) -> str:
            swapped = inner.op("Mul", inner.op("Gather", state_in, partner, axis=1), cross)
            return inner.op("Add", inner.op("Mul", state_in, diagonal), swapped)

        return rotate

    def conditioning(self, *shape: int) -> Float[np.ndarray, "P ..."] | None:
        """Take the next part of `condition`; None where there is none."""
        if self.condition is None:
            return None
        n = int(np.prod(shape))
        part, self.condition = self.condition[:, :n], self.condition[:, n:]
        return part.reshape(-1, *shape)

    def take(self, name: str, *shape: int) -> Float64[np.ndarray, "*shape"]:
        """Copy a tensor; raises ValueError where it is missing or of another shape."""
        return take_tensor(self.tensors, name, *shape)
