"""The parts of a network as nodes of an ONNX graph.

Everything between parts is (T, rows, width), time first, as ONNX has its recurrent layers. Axes of
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
from tonesieve.kernels.network_vm.opcodes import EPSILON, N_AGE_FEATURES

OPERATORS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}
# PyTorch's gates in the order that ONNX has them: i f g o as i o f c; r z n as z r h.
ORDERS = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}
PACE, RAMP = 0.1, 8  # of a learned window, as in `learning.models.convolution`


@dataclass
class LayerWriter:
    """What writes a network's parts into a graph, one after the other."""

    graph: Graph
    tensors: Mapping[str, np.ndarray]
    states: States
    told: Float[np.ndarray, "P N"] | None = None  # by the selector at the start, not yet taken

    def linear(self, x: str, name: str, n: int, m: int) -> str:
        """An affine map of n features to m."""
        weight, bias = self.take(f"{name}.weight", m, n), self.take(f"{name}.bias", m)
        return self.affine(x, weight, bias)

    def affine(self, x: str, weight: Float[np.ndarray, "M N"], bias: np.ndarray) -> str:
        product = self.graph.op("MatMul", x, self.graph.constant(weight.T))
        return self.graph.op("Add", product, self.graph.constant(bias))

    def norm(self, x: str, name: str, n: int) -> str:
        """A layer norm over the features."""
        of = [self.graph.constant(self.take(f"{name}.{part}", n)) for part in ("weight", "bias")]
        return self.graph.op("LayerNormalization", x, *of, axis=-1, epsilon=EPSILON)

    def gelu(self, x: str) -> str:
        g = self.graph
        erf = g.op("Erf", g.op("Mul", x, g.constant(np.sqrt(0.5))))
        return g.op("Mul", g.op("Mul", x, g.constant(0.5)), g.op("Add", erf, g.constant(1.0)))

    def recurrent(self, kind: str, x: str, n_inputs: int, size: int, model: ModelSettings) -> str:
        """Layers in one stack, under one name on disk."""
        # The selector tells the hidden states of all layers first, then the cells.
        n_layers = model.n_layers
        told = [self.telling(n_layers, size) for _ in range(2 if kind == "lstm" else 1)]
        for n in range(n_layers):
            own = [None if part is None else part[:, n] for part in told]
            names = (f"parts.{kind}.cell", n, f"{kind}_{n + 1}")
            x, n_inputs = self._layer(kind, x, n_inputs, size, names, own), size
        return x

    def layers_apart(
        self,
        kind: str,
        x: str,
        n_inputs: int,
        size: int,
        model: ModelSettings,
    ) -> str:
        """Layers with something between them, each under a name of its own."""
        for n in range(model.n_layers):
            told = [self.telling(size) for _ in range(2 if kind == "lstm" else 1)]
            part = f"parts.{kind}_{n + 1}"
            names = (f"{part}.recurrent.cell", 0, f"{kind}_{n + 1}")
            hidden = self._layer(kind, x, n_inputs, size, names, told)
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
        told: list[Float[np.ndarray, "P H"] | None],
    ) -> str:
        """One layer: its cell and number on disk, and the name of its state."""
        cell, n, state = names
        wide = GATES[kind] * size
        matrices = [
            self._gates(kind, self.take(f"{cell}.weight_{of}_l{n}", wide, width))
            for of, width in (("ih", n_inputs), ("hh", size))
        ]
        biases = [
            self._gates(kind, self.take(f"{cell}.bias_{of}_l{n}", wide)) for of in ("ih", "hh")
        ]
        g = self.graph
        weights = [g.constant(array[None]) for array in (*matrices, np.concatenate(biases))]
        letters = "hc"[: len(told)]
        first = g.constant([0])
        before = [
            g.op("Unsqueeze", self.states.begin(f"{state}_{letter}", (size,), start), first)
            for letter, start in zip(letters, told, strict=True)
        ]
        # GRU: the candidate's bias lies within the reset gate, as PyTorch has it.
        more = {"linear_before_reset": 1} if kind == "gru" else {}
        given = [x, *weights, "", *before]
        hidden, *after = g.ops(OPERATORS[kind], given, 1 + len(told), hidden_size=size, **more)
        for letter, value in zip(letters, after, strict=True):
            self.states.keep(f"{state}_{letter}", g.op("Squeeze", value, first), (size,))
        return g.op("Squeeze", hidden, g.constant([1]))

    @staticmethod
    def _gates(kind: str, array: np.ndarray) -> np.ndarray:
        order = ORDERS[kind]
        parts = np.split(array, len(order))
        return np.concatenate([parts[gate] for gate in order])

    def remember(self, x: str, name: str, n: int, width: int) -> str:
        """The inputs after the ``n`` that came before them."""
        g = self.graph
        before = g.transpose(self.states.begin(name, (n, width)), 1, 0, 2)
        whole = g.op("Concat", before, x, axis=0)
        self.states.keep(name, g.transpose(g.last(whole, n), 1, 0, 2), (n, width))
        return whole

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
        """A rectified causal convolution; ``shape``: outputs, features, kernel."""
        _, n_features, kernel = shape
        weight, bias = self.take(f"{name}.weight", *shape), self.take(f"{name}.bias", shape[0])
        if mask is not None:
            weight = weight * mask
        whole = self.remember(x, state, (kernel - 1) * dilation, n_features)
        g = self.graph
        given = [g.transpose(whole, 1, 2, 0), g.constant(weight), g.constant(bias)]
        sums = g.op("Conv", *given, dilations=[dilation], kernel_shape=[kernel])
        return g.op("Relu", g.transpose(sums, 2, 0, 1))

    def learned_window(self, x: str, n_features: int, size: int, longest: int) -> str:
        """A convolution over as much of the window as has been learned to count."""
        share = np.clip(0.5 + PACE * self.take("parts.window.span"), 0, 1)
        ramp = max(1.0, longest / RAMP)
        lag = np.arange(longest - 1, -1, -1)
        mask = np.clip((share * longest + ramp - lag) / ramp, 0, 1)
        shape = (size, n_features, longest)
        return self.convolution(x, "parts.window.weigh", "window", shape, mask=mask)

    def dense(self, x: str, n: int, size: int) -> str:
        """A rectified linear layer."""
        return self.graph.op("Relu", self.linear(x, f"parts.dense_{n}.linear", size, size))

    def temporal_block(self, x: str, n_inputs: int, size: int, kernel: int, dilation: int) -> str:
        """Two rectified dilated convolutions, their input added."""
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
        """Every unit gated by what the units have been on average."""
        g, squeezed, gate = self.graph, max(1, width // 4), "parts.squeeze_excitation.gate"
        whole = self.remember(x, "squeeze_excitation", context - 1, width)
        mean = g.op("AveragePool", g.transpose(whole, 1, 2, 0), kernel_shape=[context])
        narrow = self.linear(g.transpose(mean, 2, 0, 1), f"{gate}.0", width, squeezed)
        wide = self.linear(self.gelu(narrow), f"{gate}.2", squeezed, width)
        return g.op("Mul", x, g.op("Sigmoid", wide))

    def oscillators(self, x: str, n: int, width: int, *, norm: bool) -> str:
        """Damped oscillators, what they hear mixed by a small network and added to the input."""
        g, part, state = self.graph, f"parts.oscillators_{n}", f"oscillators_{n}"
        told = self.telling(2 * width)
        decay = np.exp(self.take(f"{part}.log_decay", width))
        swing = np.exp(-decay + 1j * self.take(f"{part}.turn", width))
        drive = self.take(f"{part}.drive", 2, width, width) * np.sqrt(-np.expm1(-2 * decay))
        heard = self.norm(x, f"{part}.norm", width) if norm else x
        driven = g.op("MatMul", heard, g.constant(np.concatenate(list(drive), axis=1)))
        before = self.states.begin(state, (2 * width,), told)
        turned = self._turning(swing.real, swing.imag)

        def step(inner: Graph, held: str, now: list[str]) -> str:
            return inner.op("Add", turned(inner, held), now[0])

        states, last = g.scan(step, before, [driven])
        self.states.keep(state, last, (2 * width,))
        mixed = self.linear(states, f"{part}.mix", 2 * width, width)
        direct = g.op("Mul", heard, g.constant(self.take(f"{part}.direct", width)))
        bent = self.gelu(g.op("Add", mixed, direct))
        return g.op("Add", x, self.linear(bent, f"{part}.out", width, width))

    def observer(self, x: str, n_tones: int, size: int, n_layers: int) -> str:
        """Oscillators at the tones' frequencies, moved by gains times what they did not foresee."""
        g, width = self.graph, 2 * n_tones
        samples = g.op("Mul", x, g.constant(self.take("parts.observer.heard", 1)))
        gains = self._gains(x, width, size, n_layers)
        before = self.states.begin("oscillators", (width,))
        turns = [self.take(f"parts.observer.{name}", n_tones) for name in ("cosines", "sines")]
        turned = self._turning(*turns)
        seen = g.constant(self.take("parts.observer.seen", width)[:, None], double=True)

        def step(inner: Graph, held: str, now: list[str]) -> str:
            sample, gain = now
            foreseen = turned(inner, held)
            surprise = inner.op("Sub", sample, inner.op("MatMul", foreseen, seen))
            return inner.op("Add", foreseen, inner.op("Mul", gain, surprise))

        states, last = g.scan(step, before, [samples, gains])
        self.states.keep("oscillators", last, (width,))
        return states

    def _gains(self, x: str, width: int, size: int, n_layers: int) -> str:
        """By a small network, which hears clocks that rise from 0 to 1 as the stream grows old."""
        g, gain = self.graph, "parts.observer.gain"
        one = g.constant(1.0)
        rates = g.constant(-1 / self.take("parts.observer.clocks", N_AGE_FEATURES))
        age = g.op("Add", g.cast(g.counting(g.length(x, 0))), one)
        age = g.reshape(age, -1, 1, 1)
        begun = self.states.begin("clocks", (N_AGE_FEATURES,))
        left = g.op("Mul", g.op("Sub", one, begun), g.op("Exp", g.op("Mul", age, rates)))
        clocks = g.op("Sub", one, left)
        first = g.op("Unsqueeze", begun, g.constant([0]))
        last = g.last(g.op("Concat", first, clocks, axis=0), 1)
        self.states.keep("clocks", g.op("Squeeze", last, g.constant([0])), (N_AGE_FEATURES,))
        hidden = g.op("Sub", g.op("Mul", clocks, g.constant(2.0)), one)
        n_inputs = N_AGE_FEATURES
        for n in range(n_layers):
            hidden = self.gelu(self.linear(hidden, f"{gain}.{2 * n}", n_inputs, size))
            n_inputs = size
        answer = self.linear(hidden, f"{gain}.{2 * n_layers}", n_inputs, width + 1)
        parts = g.ops("Split", [answer, g.constant([width, 1])], 2, axis=2)
        return g.op("Mul", parts[0], g.op("Exp", parts[1]))

    def _turning(
        self, cosines: Float64[np.ndarray, " N"], sines: Float64[np.ndarray, " N"]
    ) -> Callable[[Graph, str], str]:
        """What writes the turn of complex numbers, real parts before the imaginary ones."""
        n = len(cosines)
        own = self.graph.constant(np.concatenate([cosines, cosines]), double=True)
        others = self.graph.constant(np.concatenate([-sines, sines]), double=True)
        partner = self.graph.constant(np.roll(np.arange(2 * n), n))

        def turned(inner: Graph, held: str) -> str:
            swapped = inner.op("Mul", inner.op("Gather", held, partner, axis=1), others)
            return inner.op("Add", inner.op("Mul", held, own), swapped)

        return turned

    def telling(self, *shape: int) -> Float[np.ndarray, "P ..."] | None:
        """The next numbers that the selector tells at the start, if it does."""
        if self.told is None:
            return None
        n = int(np.prod(shape))
        part, self.told = self.told[:, :n], self.told[:, n:]
        return part.reshape(-1, *shape)

    def take(self, name: str, *shape: int) -> Float64[np.ndarray, "*shape"]:
        """A copy of a tensor; raises ValueError where it is missing or of another shape."""
        return take_tensor(self.tensors, name, *shape)
