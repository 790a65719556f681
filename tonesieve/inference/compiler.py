"""Compiler of trained networks: weights and settings in, a program for `kernels.network_vm` out.

Takes weights by the names that they have on disk; needs no PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float32, Float64, Int64

from tonesieve.config.config import Config
from tonesieve.inference.program import Program, ProgramBuilder
from tonesieve.inference.weights import take_tensor
from tonesieve.kernels.network_vm import opcodes as codes
from tonesieve.kernels.network_vm.opcodes import N_AGE_FEATURES

SAMPLE = 0  # derived: offset of the mixture's sample in memory, where `kernels` writes it
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
KINDS = (*GATES, "lru", "observer", "cnn-lstm")
CODES = {"lstm": codes.LSTM, "gru": codes.GRU, "rnn": codes.RNN}
# Gates whose sigmoid is computed as 1/2 + 1/2 tanh(x/2).
SIGMOID_GATES = {"lstm": (0, 1, 3), "gru": (0, 1), "rnn": ()}


def compile_network(tensors: Mapping[str, np.ndarray], config: Config) -> Program | None:
    """Compile a trained network.

    Parameters
    ----------
    tensors : mapping of str to ndarray
        Weights by the names that they have on disk.
    config : Config
        The run's settings.

    Returns
    -------
    Program or None
        The program; None for a network that needs instructions the interpreter has not.

    Raises
    ------
    ValueError
        For weights that do not fit the settings, since the interpreter checks nothing.
    """
    model = config.model
    unsupported = model.bidirectional or model.squeeze_excitation or model.attention != "none"
    # The input scale is in the first weights; a residual would add the input unscaled.
    n_features = 1 + (config.data.n_components if model.selector == "input" else 0)
    unsupported |= model.residual and n_features == model.size(config.data.n_components)
    if unsupported or model.taps or model.kind not in KINDS:
        return None
    return _Compiler(tensors, config).compile()


class _Compiler:
    def __init__(self, tensors: Mapping[str, np.ndarray], config: Config) -> None:
        self.tensors, self.config = tensors, config
        self.builder = ProgramBuilder()
        # (offset, size) of every state that a selector sets at the start, in the selector's order.
        self.selected_states: list[list[tuple[int, int]]] = []

    def compile(self) -> Program:
        model, n_components = self.config.model, self.config.data.n_components
        n_selector = n_components if model.selector == "input" else 0
        x = self.builder.allocate(1 + n_selector)
        width = 2 * n_components if model.kind == "observer" else self._size
        film = self.builder.allocate(2 * width) if model.selector == "film" else 0
        x = self._layers(x, 1 + n_selector)
        if model.selector == "film":
            modulated = self.builder.allocate(width)
            self.builder.emit(codes.FILM, width, width, x, modulated, state=film)
            x = modulated
        n_outputs = n_components if model.selector == "readout" else 1
        outputs = self._affine("readout", x, width, n_outputs)
        memory = self._initial_memory(film, width)
        offsets = self._selector_offsets(film, width)
        return self.builder.finish(memory, offsets, outputs, n_outputs)

    @property
    def _size(self) -> int:
        return self.config.model.size(self.config.data.n_components)

    @property
    def _input_scale(self) -> float:
        """Scale of the mixture; it goes into the first weights."""
        return float(self._take("input_scale"))

    def _layers(self, x: int, width: int) -> int:
        """All layers in a row; returns the offset of their outputs."""
        kind = self.config.model.kind
        if kind == "lru":
            return self._lru(x, width)
        if kind == "observer":
            return self._observer()
        if kind == "cnn-lstm":
            x, width = self._convolution(x, width)
            kind = "lstm"
        for n in range(self.config.model.n_layers):
            x = self._recurrent(kind, n, x, width)
            width = self._size
        return x

    def _recurrent(self, kind: str, n: int, x: int, n_inputs: int) -> int:
        separate = f"parts.{kind}_{n + 1}.recurrent.cell"
        is_separate = f"{separate}.weight_ih_l0" in self.tensors
        cell, layer = (separate, 0) if is_separate else (f"parts.{kind}.cell", n)
        size = self._size
        n_gates = GATES[kind] * size
        shapes = {
            "weight_ih": (n_gates, n_inputs),
            "weight_hh": (n_gates, size),
            "bias_ih": (n_gates,),
            "bias_hh": (n_gates,),
        }
        of = {n: self._take(f"{cell}.{n}_l{layer}", *shape) for n, shape in shapes.items()}
        if x == SAMPLE:
            of["weight_ih"][:, 0] *= self._input_scale
        for gate in SIGMOID_GATES[kind]:
            for name in of:
                of[name][gate * size : (gate + 1) * size] *= 0.5
        if kind != "gru":
            of["bias_ih"] += of.pop("bias_hh")
        gates = self.builder.allocate(GATES[kind] * size)
        if kind == "gru":
            weights = self.builder.store_affine(of["bias_ih"], of["weight_ih"])
            self.builder.store_affine(of["bias_hh"], of["weight_hh"])
            self.builder.allocate(GATES[kind] * size)
            state = self.builder.allocate(size)
            states = [(state, size)]
        else:  # the state and the inputs go through one map
            weight = np.concatenate([of["weight_hh"], of["weight_ih"]], axis=1)
            weights = self.builder.store_affine(of["bias_ih"], weight)
            width = size + n_inputs
            state = self.builder.allocate(width + (size if kind == "lstm" else 0))
            states = [(state, size), (state + width, size)][: 1 + (kind == "lstm")]
        self._register_states(states, n, stacked=not is_separate)
        self.builder.emit(CODES[kind], n_inputs, size, x, gates, weights, state)
        if not is_separate:
            return state
        return self._post_layers(f"parts.{kind}_{n + 1}", state, x, n_inputs)

    def _convolution(self, x: int, n_features: int) -> tuple[int, int]:
        model = self.config.model
        shape = (model.channels, n_features, model.kernel)
        weight = self._take("parts.convolution.weigh.weight", *shape)
        weight[:, 0] *= self._input_scale
        width, _, kernel = weight.shape
        history = self.builder.allocate(kernel * n_features)  # the oldest first
        n_history = kernel * n_features
        self.builder.emit(codes.SHIFT_IN, n_features, 0, x, history, extra=n_history)
        flat = weight.transpose(2, 1, 0).reshape(-1, width)
        bias = self._take("parts.convolution.weigh.bias", width)
        weights = self.builder.store_affine(bias, flat.T)
        y = self.builder.allocate(width)
        self.builder.emit(codes.AFFINE, len(flat), width, history, y, weights, extra=codes.RELU)
        return y, width

    def _lru(self, x: int, n_features: int) -> int:
        width = self._size
        weight = self._take("parts.embedding.linear.weight", width, n_features)
        weight[:, 0] *= self._input_scale
        bias = self._take("parts.embedding.linear.bias", width)
        weights = self.builder.store_affine(bias, weight)
        y = self.builder.allocate(width)
        self.builder.emit(codes.AFFINE, weight.shape[1], width, x, y, weights)
        for n in range(self.config.model.n_layers):
            y = self._lru_layer(f"parts.oscillators_{n + 1}", y, width)
        return y

    def _lru_layer(self, name: str, x: int, width: int) -> int:
        shapes = {
            "log_decay": (width,),
            "turn": (width,),
            "drive": (2, width, width),
            "direct": (width,),
            "mix.weight": (width, 2 * width),
            "mix.bias": (width,),
        }
        of = {key: self._take(f"{name}.{key}", *shape) for key, shape in shapes.items()}
        builder = self.builder
        state = builder.allocate(3 * width)  # real parts, imaginary parts, and the inputs
        inputs = state + 2 * width
        self.selected_states.append([(state, 2 * width)])
        if self.config.model.layer_norm:
            self._norm(f"{name}.norm", width, x, inputs)
        else:
            builder.emit(codes.SHIFT_IN, width, 0, x, inputs, extra=width)
        decay = np.exp(of["log_decay"])
        drive = of["drive"] * np.sqrt(-np.expm1(-2 * decay))
        weights = builder.store_affine(np.zeros(2 * width), np.concatenate(list(drive), axis=1).T)
        driven = builder.allocate(2 * width)
        builder.emit(codes.AFFINE, width, 2 * width, inputs, driven, weights)
        eigenvalues = np.exp(-decay + 1j * of["turn"])
        weights = builder.store(eigenvalues.real, eigenvalues.imag)
        builder.emit(codes.OSCILLATE, width, width, driven, driven, weights, state)
        mix = np.concatenate([of["mix.weight"], np.diag(of["direct"])], axis=1)
        weights = builder.store_affine(of["mix.bias"], mix)
        mixed = builder.allocate(width)
        builder.emit(codes.AFFINE, 3 * width, width, state, mixed, weights, extra=codes.GELU)
        y = self._affine(f"{name}.out", mixed, width, width)
        builder.emit(codes.ADD, width, width, x, y)
        return y

    def _observer(self) -> int:
        n_tones, size = self.config.data.n_components, self._size
        n_ages, width = N_AGE_FEATURES, 2 * n_tones
        shapes = {"clocks": n_ages, "seen": width, "cosines": n_tones, "sines": n_tones, "heard": 1}
        of = {key: self._take(f"parts.observer.{key}", n) for key, n in shapes.items()}
        n_layers = self.config.model.n_layers
        widths = [n_ages, *[size] * n_layers, width + 1]
        builder = self.builder
        ages = builder.allocate(n_ages)
        weights = builder.store(-np.expm1(-1 / of["clocks"]))
        builder.emit(codes.AGE_FEATURES, n_ages, 0, ages, ages, weights, ages)
        x = ages
        for n in range(n_layers + 1):
            name = f"parts.observer.gain.{2 * n}"
            weight = self._take(f"{name}.weight", widths[n + 1], widths[n])
            bias = self._take(f"{name}.bias", widths[n + 1])
            if n == 0:  # the network takes the age features from -1 to 1
                weight, bias = 2 * weight, bias - weight.sum(axis=1)
            weights = builder.store_affine(bias, weight)
            activation = codes.LINEAR if n == n_layers else codes.GELU
            y = builder.allocate(len(weight))
            builder.emit(
                codes.AFFINE, weight.shape[1], len(weight), x, y, weights, extra=activation
            )
            x = y
        state = builder.allocate(width)
        input_tap = of["heard"] * self._input_scale
        weights = builder.store(of["cosines"], of["sines"], of["seen"], input_tap)
        builder.emit(codes.OBSERVER, width // 2, 0, x, state, weights, state)
        return state

    def _selector_offsets(self, film: int, width: int) -> Int64[np.ndarray, " N"]:
        """Where the selector stays in memory; what it sets in the initial state alone fades."""
        selector = self.config.model.selector
        if selector == "input":
            return np.arange(1, 1 + self.config.data.n_components)
        return film + np.arange(2 * width if selector == "film" else 0)

    def _initial_memory(self, film: int, width: int) -> Float32[np.ndarray, "P M"]:
        """Initial memory of every pass, conditioned on the pass's tone."""
        selector, n_components = self.config.model.selector, self.config.data.n_components
        n_passes = 1 if selector in ("readout", "none") else n_components
        memory = np.zeros((n_passes, self.builder.n_memory), dtype=np.float32)
        for k in range(n_passes):
            if selector == "input":
                memory[k, 1 + k] = 1
            elif selector == "film":
                memory[k, film : film + 2 * width] = self._condition("film", k, 2 * width)
            elif selector == "initial_state":
                states = [state for group in self.selected_states for state in group]
                values = np.tanh(self._condition("start", k, sum(n for _, n in states)))
                first = 0
                for offset, n in states:
                    memory[k, offset : offset + n] = values[first : first + n]
                    first += n
        return memory

    def _condition(self, name: str, k: int, n: int) -> np.ndarray:
        """What the selector contributes to pass k."""
        weight = self._take(f"{name}.weight", n, self.config.data.n_components)
        return np.asarray(weight[:, k] + self._take(f"{name}.bias", n))

    def _take(self, name: str, *shape: int) -> Float64[np.ndarray, "*shape"]:
        return take_tensor(self.tensors, name, *shape)

    def _norm(self, name: str, n: int, x: int, y: int) -> None:
        gain, bias = self._take(f"{name}.weight", n), self._take(f"{name}.bias", n)
        self.builder.emit(codes.NORM, n, n, x, y, self.builder.store(gain, bias))

    def _affine(self, name: str, x: int, n: int, m: int) -> int:
        """An affine map of n inputs; returns the offset of its m outputs."""
        y = self.builder.allocate(m)
        weight, bias = self._take(f"{name}.weight", m, n), self._take(f"{name}.bias", m)
        self.builder.emit(codes.AFFINE, n, m, x, y, self.builder.store_affine(bias, weight))
        return y

    def _post_layers(self, name: str, hidden: int, inputs: int, n_inputs: int) -> int:
        """A norm of a layer's outputs, and its inputs added."""
        model, size = self.config.model, self._size
        residual = model.residual and n_inputs == size
        if not (model.layer_norm or residual):
            return hidden
        y = self.builder.allocate(size)
        if model.layer_norm:
            self._norm(f"{name}.norm", size, hidden, y)
        else:
            self.builder.emit(codes.SHIFT_IN, size, 0, hidden, y, extra=size)
        if residual:
            self.builder.emit(codes.ADD, size, size, inputs, y)
        return y

    def _register_states(self, states: list[tuple[int, int]], n: int, *, stacked: bool) -> None:
        """Note what a selector sets: in a stack, all hidden states come before the cell states."""
        if not stacked:
            self.selected_states.append(states)
            return
        if n == 0:
            self.selected_states += [[] for _ in states]
        for group, state in enumerate(states):
            self.selected_states[group].append(state)
