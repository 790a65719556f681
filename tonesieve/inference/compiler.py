"""A trained network as a short program for the compiled core in `kernels.network_vm.interpreter`.

Takes weights by the names that they have on disk, and settings; needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64

from tonesieve.config.config import Config
from tonesieve.inference.weights import take_tensor
from tonesieve.kernels.network_vm import opcodes as codes
from tonesieve.kernels.network_vm.opcodes import N_AGE_FEATURES
from tonesieve.kernels.tiling import LINE, TILE_WIDTH

SAMPLE = 0  # where the mixture's sample stands in memory
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
KINDS = (*GATES, "lru", "observer", "cnn-lstm")
CODES = {"lstm": codes.LSTM, "gru": codes.GRU, "rnn": codes.RNN}


@dataclass(frozen=True)
class Program:
    """A network for `kernels.network_vm.interpreter`: its program and weights, and how memory begins."""

    program: Int32[np.ndarray, "I 8"]
    weights: Float32[np.ndarray, " W"]
    memory: Float32[np.ndarray, "P M"]  # of every pass: one a component, or one for all
    told: Int64[np.ndarray, " N"]  # places in memory that the selector has set
    answers_at: int
    n_outputs: int


def compile_network(tensors: Mapping[str, np.ndarray], config: Config) -> Program | None:
    """The network as a program, or None for one that the core has no instructions for.

    Raises ValueError for weights that do not fit the settings: what runs them looks at nothing.
    """
    model = config.model
    beyond = model.bidirectional or model.squeeze_excitation or model.attention != "none"
    # The mixture's scale is in the first weights, and would be missed where it is added as it is.
    shown = 1 + (config.data.n_components if model.selector == "input" else 0)
    beyond |= model.residual and shown == model.size(config.data.n_components)
    if beyond or model.taps or model.kind not in KINDS:
        return None
    return _Packing(tensors, config).compile()


def aligned(array: Float32[np.ndarray, " N"]) -> Float32[np.ndarray, " N"]:
    """A copy that begins with a cache line: a vector that lies across two is read at half speed."""
    room = np.zeros(array.size + LINE, dtype=array.dtype)
    first = -(room.ctypes.data // room.itemsize) % LINE
    room[first : first + array.size] = array
    return room[first : first + array.size]


@dataclass
class _Packing:
    tensors: Mapping[str, np.ndarray]
    config: Config
    rows: list[list[int]] = field(default_factory=list)
    weights: list[np.ndarray] = field(default_factory=list)
    n_weights: int = 0
    n_memory: int = 0
    # Where the numbers go that a selector may set at the start, in their order.
    told: list[list[tuple[int, int]]] = field(default_factory=list)

    def compile(self) -> Program:
        model, n_components = self.config.model, self.config.data.n_components
        shown = n_components if model.selector == "input" else 0
        at = self._room(1 + shown)
        width = 2 * n_components if model.kind == "observer" else self._width
        film = self._room(2 * width) if model.selector == "film" else 0
        at = self._body(at, 1 + shown)
        if model.selector == "film":
            bent = self._room(width)
            self._put(codes.FILM, width, width, at, bent, state=film)
            at = bent
        n_outputs = n_components if model.selector == "readout" else 1
        answers = self._affine("readout", at, width, n_outputs)
        memory = self._memory(film, width)
        return Program(
            np.array(self.rows, dtype=np.int32),
            aligned(np.concatenate(self.weights)),
            memory,
            self._told_places(film, width),
            answers,
            n_outputs,
        )

    @property
    def _width(self) -> int:
        return self.config.model.size(self.config.data.n_components)

    def _body(self, at: int, width: int) -> int:
        """All parts in a row: where they leave what they give."""
        kind = self.config.model.kind
        if kind == "lru":
            return self._oscillators(at, width)
        if kind == "observer":
            return self._observer()
        if kind == "cnn-lstm":
            at, width = self._convolution(at, width)
            kind = "lstm"
        for n in range(self.config.model.n_layers):
            at = self._recurrent(kind, n, at, width)
            width = self._width
        return at

    def _recurrent(self, kind: str, n: int, at: int, n_inputs: int) -> int:
        apart = f"parts.{kind}_{n + 1}.recurrent.cell"
        single = f"{apart}.weight_ih_l0" in self.tensors
        cell, layer = (apart, 0) if single else (f"parts.{kind}.cell", n)
        size = self._width
        wide = GATES[kind] * size
        shapes = {
            "weight_ih": (wide, n_inputs),
            "weight_hh": (wide, size),
            "bias_ih": (wide,),
            "bias_hh": (wide,),
        }
        of = {n: self._take(f"{cell}.{n}_l{layer}", *shape) for n, shape in shapes.items()}
        if at == SAMPLE:
            of["weight_ih"][:, 0] *= self._scale
        halved = {"lstm": (0, 1, 3), "gru": (0, 1), "rnn": ()}[kind]
        for gate in halved:  # sigmoids are taken by tanh of the half
            for name in of:
                of[name][gate * size : (gate + 1) * size] *= 0.5
        if kind != "gru":
            of["bias_ih"] += of.pop("bias_hh")
        room = self._room(GATES[kind] * size)
        if kind == "gru":
            where = self._keep_map(of["bias_ih"], of["weight_ih"])
            self._keep_map(of["bias_hh"], of["weight_hh"])
            self._room(GATES[kind] * size)
            state = self._room(size)
            places = [(state, size)]
        else:  # the state and the inputs go through one map
            whole = np.concatenate([of["weight_hh"], of["weight_ih"]], axis=1)
            where = self._keep_map(of["bias_ih"], whole)
            width = size + n_inputs
            state = self._room(width + (size if kind == "lstm" else 0))
            places = [(state, size), (state + width, size)][: 1 + (kind == "lstm")]
        self._tell(places, n, stacked=not single)
        self._put(CODES[kind], n_inputs, size, at, room, where, state)
        return self._upon(f"parts.{kind}_{n + 1}", state, at, n_inputs) if single else state

    def _convolution(self, at: int, n_features: int) -> tuple[int, int]:
        model = self.config.model
        shape = (model.channels, n_features, model.kernel)
        weight = self._take("parts.convolution.weigh.weight", *shape)
        weight[:, 0] *= self._scale
        width, _, kernel = weight.shape
        past = self._room(kernel * n_features)  # the oldest first
        self._put(codes.SHIFT_IN, n_features, 0, at, past, more=kernel * n_features)
        flat = weight.transpose(2, 1, 0).reshape(-1, width)
        where = self._keep_map(self._take("parts.convolution.weigh.bias", width), flat.T)
        room = self._room(width)
        self._put(codes.AFFINE, len(flat), width, past, room, where, more=codes.RELU)
        return room, width

    def _oscillators(self, at: int, n_features: int) -> int:
        width = self._width
        weight = self._take("parts.embedding.linear.weight", width, n_features)
        weight[:, 0] *= self._scale
        where = self._keep_map(self._take("parts.embedding.linear.bias", width), weight)
        given = self._room(width)
        self._put(codes.AFFINE, weight.shape[1], width, at, given, where)
        for n in range(self.config.model.n_layers):
            given = self._oscillator(f"parts.oscillators_{n + 1}", given, width)
        return given

    def _oscillator(self, name: str, given: int, width: int) -> int:
        shapes = {
            "log_decay": (width,),
            "turn": (width,),
            "drive": (2, width, width),
            "direct": (width,),
            "mix.weight": (width, 2 * width),
            "mix.bias": (width,),
        }
        of = {key: self._take(f"{name}.{key}", *shape) for key, shape in shapes.items()}
        state = self._room(3 * width)  # real parts, imaginary parts, and what is heard
        heard = state + 2 * width
        self.told.append([(state, 2 * width)])
        if self.config.model.layer_norm:
            self._norm(f"{name}.norm", width, given, heard)
        else:
            self._put(codes.SHIFT_IN, width, 0, given, heard, more=width)
        decay = np.exp(of["log_decay"])
        drive = of["drive"] * np.sqrt(-np.expm1(-2 * decay))
        where = self._keep_map(np.zeros(2 * width), np.concatenate(list(drive), axis=1).T)
        driven = self._room(2 * width)
        self._put(codes.AFFINE, width, 2 * width, heard, driven, where)
        swing = np.exp(-decay + 1j * of["turn"])
        where = self._keep(swing.real, swing.imag)
        self._put(codes.OSCILLATE, width, width, driven, driven, where, state)
        mix = np.concatenate([of["mix.weight"], np.diag(of["direct"])], axis=1)
        where = self._keep_map(of["mix.bias"], mix)
        mixed = self._room(width)
        self._put(codes.AFFINE, 3 * width, width, state, mixed, where, more=codes.GELU)
        room = self._affine(f"{name}.out", mixed, width, width)
        self._put(codes.ADD, width, width, given, room)
        return room

    def _observer(self) -> int:
        n_tones, size = self.config.data.n_components, self._width
        n_clocks, width = N_AGE_FEATURES, 2 * n_tones
        shapes = {
            "clocks": n_clocks,
            "seen": width,
            "cosines": n_tones,
            "sines": n_tones,
            "heard": 1,
        }
        of = {key: self._take(f"parts.observer.{key}", n) for key, n in shapes.items()}
        n_layers = self.config.model.n_layers
        widths = [n_clocks, *[size] * n_layers, width + 1]
        clocks = self._room(n_clocks)
        where = self._keep(-np.expm1(-1 / of["clocks"]))
        self._put(codes.AGE_FEATURES, n_clocks, 0, clocks, clocks, where, clocks)
        at = clocks
        for n in range(n_layers + 1):
            gain = f"parts.observer.gain.{2 * n}"
            weight = self._take(f"{gain}.weight", widths[n + 1], widths[n])
            bias = self._take(f"{gain}.bias", widths[n + 1])
            if n == 0:  # it hears the clocks from -1 to 1
                weight, bias = 2 * weight, bias - weight.sum(axis=1)
            where = self._keep_map(bias, weight)
            kind = codes.LINEAR if n == n_layers else codes.GELU
            room = self._room(len(weight))
            self._put(codes.AFFINE, weight.shape[1], len(weight), at, room, where, more=kind)
            at = room
        state = self._room(width)
        heard = of["heard"] * self._scale
        where = self._keep(of["cosines"], of["sines"], of["seen"], heard)
        self._put(codes.OBSERVER, width // 2, 0, at, state, where, state)
        return state

    def _told_places(self, film: int, width: int) -> Int64[np.ndarray, " N"]:
        """Where the selector stands in memory at every sample; what it sets at the start fades."""
        selector = self.config.model.selector
        if selector == "input":
            return np.arange(1, 1 + self.config.data.n_components)
        return film + np.arange(2 * width if selector == "film" else 0)

    def _memory(self, film: int, width: int) -> Float32[np.ndarray, "P M"]:
        """How every pass begins: told which tone is meant, in whatever way."""
        selector, n_components = self.config.model.selector, self.config.data.n_components
        n_passes = 1 if selector in ("readout", "none") else n_components
        memory = np.zeros((n_passes, self.n_memory), dtype=np.float32)
        for k in range(n_passes):
            if selector == "input":
                memory[k, 1 + k] = 1
            elif selector == "film":
                memory[k, film : film + 2 * width] = self._told("film", k, 2 * width)
            elif selector == "initial_state":
                places = [place for part in self.told for place in part]
                told, at = np.tanh(self._told("start", k, sum(n for _, n in places))), 0
                for where, n in places:
                    memory[k, where : where + n] = told[at : at + n]
                    at += n
        return memory

    def _told(self, name: str, k: int, n: int) -> np.ndarray:
        weight = self._take(f"{name}.weight", n, self.config.data.n_components)
        return np.asarray(weight[:, k] + self._take(f"{name}.bias", n))

    def _take(self, name: str, *shape: int) -> Float64[np.ndarray, "*shape"]:
        """A copy of a tensor; raises ValueError where it is missing or of another shape."""
        return take_tensor(self.tensors, name, *shape)

    def _norm(self, name: str, n: int, given: int, room: int) -> None:
        where = self._keep(self._take(f"{name}.weight", n), self._take(f"{name}.bias", n))
        self._put(codes.NORM, n, n, given, room, where)

    def _upon(self, name: str, given: int, inputs: int, n_inputs: int) -> int:
        """A norm upon a layer, and its inputs added."""
        model, size = self.config.model, self._width
        residual = model.residual and n_inputs == size
        if not (model.layer_norm or residual):
            return given
        room = self._room(size)
        if model.layer_norm:
            self._norm(f"{name}.norm", size, given, room)
        else:
            self._put(codes.SHIFT_IN, size, 0, given, room, more=size)
        if residual:
            self._put(codes.ADD, size, size, inputs, room)
        return room

    def _tell(self, places: list[tuple[int, int]], n: int, *, stacked: bool) -> None:
        """Note where a selector's numbers go: in a stack, those of all hidden states come first."""
        if not stacked:
            self.told.append(places)
            return
        if n == 0:
            self.told += [[] for _ in places]
        for t, place in enumerate(places):
            self.told[t].append(place)

    @property
    def _scale(self) -> float:
        """Of the mixture; it goes into the first weights."""
        return float(self._take("input_scale"))

    def _affine(self, name: str, at: int, n: int, m: int) -> int:
        """An affine map of n inputs; where its m outputs stand."""
        room = self._room(m)
        weight, bias = self._take(f"{name}.weight", m, n), self._take(f"{name}.bias", m)
        self._put(codes.AFFINE, n, m, at, room, self._keep_map(bias, weight))
        return room

    def _put(
        self,
        code: int,
        n: int,
        m: int,
        xs: int,
        zs: int,
        at: int = 0,
        state: int = 0,
        more: int = 0,
    ) -> None:
        """An instruction, as `kernels.network_vm.opcodes` lays them out."""
        self.rows.append([code, n, m, xs, zs, at, state, more])

    def _keep(self, *arrays: np.ndarray) -> int:
        """Where the arrays begin that stand one after the other."""
        at = self.n_weights
        for array in arrays:
            self.weights.append(np.ascontiguousarray(array, dtype=np.float32).ravel())
            self.n_weights += array.size
        rest = -self.n_weights % LINE
        self.weights.append(np.zeros(rest, dtype=np.float32))
        self.n_weights += rest
        return at

    def _keep_map(self, bias: np.ndarray, weight: np.ndarray) -> int:
        """Where an affine map begins: its bias, and its matrix (outputs, inputs)."""
        rows = np.pad(weight.T, ((0, 0), (0, -len(weight) % LINE)))
        tiled = rows.shape[1] - rows.shape[1] % TILE_WIDTH
        tiles = rows[:, :tiled].reshape(len(rows), -1 if tiled else 0, TILE_WIDTH)
        lines = rows[:, tiled:].reshape(len(rows), (rows.shape[1] - tiled) // LINE, LINE)
        at = self._keep(bias)
        self._keep(tiles.transpose(1, 0, 2), lines.transpose(1, 0, 2))
        return at

    def _room(self, n: int) -> int:
        at = self.n_memory
        self.n_memory += -(-n // LINE) * LINE
        return at
