"""A trained network as one ONNX graph: samples in, estimates of all tones out, the state beside.

Axes: B streams, T samples, L window, P passes (one a component, or one for all), K components.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from onnx import ModelProto, TensorProto

from tonesieve.config.config import Config, to_yaml
from tonesieve.inference.onnx.graph import Graph
from tonesieve.inference.onnx.layers import LayerWriter
from tonesieve.inference.onnx.states import ExternalState, States, WindowState

SAMPLES, ESTIMATE = "samples", "estimate"
LARGEST = 2**31 - 2**20  # bytes of weights that fit into one ONNX file


def unsupported_reason(config: Config) -> str | None:
    """Why a network has no graph of this kind; None for one that has."""
    model = config.model
    if model.kind == "transformer" or model.attention != "none":
        return "it looks back by attention; recurrent and convolutional networks alone can be"
    if model.kind == "bank":
        return "its averages are fitted by least squares, which is not written as a graph"
    if model.kind == "multi-scale":
        return "one of its two scales begins anew at every sample; this is not written as a graph"
    if model.bidirectional:
        return "it reads both ways and cannot stream (model.bidirectional)"
    if model.taps:
        return f"it hears {model.taps} samples to come and cannot stream (model.taps)"
    if config.evaluation.join == "mean" and not config.stateful:
        return "the mean over windows needs samples to come (evaluation.join)"
    return None


def by_windows(config: Config) -> bool:
    """Whether every estimate comes from a window of its own, as `learning.network_extractor`."""
    field = config.model.receptive_field
    return not config.stateful and (field is None or field > config.model.window)


def network_graph(tensors: Mapping[str, np.ndarray], config: Config, version: str) -> ModelProto:
    """The graph of a network that `unsupported_reason` has nothing against.

    Raises ValueError for weights that do not fit the settings, or into one file.
    """
    if sum(array.nbytes for array in tensors.values()) > LARGEST:
        raise ValueError("they are more than the 2 GB that one ONNX file holds")
    graph = Graph()
    about = "the mixture; what is not finite is a gap, heard as 0"
    samples = graph.input(SAMPLES, ("batch", "time"), about)
    gap = graph.op("Or", graph.op("IsNaN", samples), graph.op("IsInf", samples))
    heard = graph.op("Where", gap, graph.constant(0.0), samples)
    write = _write_windows if by_windows(config) else _write_stream
    write(graph, tensors, config, heard)
    return graph.model(config.name, usage(config), metadata(config, version), version)


def usage(config: Config) -> str:
    """How to feed the graph, in words that go with it."""
    text = (
        f"Takes tones out of a mixture at {config.data.rate_hz:g} Hz. Feed chunks of one sample "
        "or more as samples; begin every state input with zeros, and give the next_state_* outputs "
        "of one chunk to the state_* inputs of the next."
    )
    if config.stride > 1:
        text += (
            f" This is one lane of {config.stride}: lane k hears samples k, k + {config.stride}, "
            f"k + {2 * config.stride}, ... alone. Feed the {config.stride} lanes as a batch."
        )
    if by_windows(config):
        text += (
            f" Every estimate is computed anew from a window of {config.model.window} samples: "
            "memory grows with the chunk."
        )
    return text


def metadata(config: Config, version: str) -> dict[str, str]:
    """What goes with the graph: numbers as JSON, the settings as YAML."""
    return {
        "tonesieve": version,
        "config": to_yaml(config),
        "kind": config.model.kind,
        "frequencies_hz": json.dumps(config.data.frequencies_hz),
        "rate_hz": json.dumps(config.data.rate_hz),
        "window": json.dumps(config.model.window),
        "stride": json.dumps(config.stride),
    }


def _write_stream(
    graph: Graph, tensors: Mapping[str, np.ndarray], config: Config, heard: str
) -> None:
    """The network as it runs, its own state carried."""
    states = ExternalState(graph, _n_passes(config))
    network = _Network(graph, tensors, config, states)
    answers = network.answers(network.hidden(graph.transpose(heard, 1, 0)))
    _write_estimate(graph, config, graph.transpose(answers, 1, 0, 2))
    states.finish()


def _write_windows(
    graph: Graph, tensors: Mapping[str, np.ndarray], config: Config, heard: str
) -> None:
    """Every estimate from the window that ends at its sample; what is carried are samples.

    All windows go through side by side, each from the start. Before the first whole one there are
    fewer samples: these come first in the window, and the answer is read at the last of them, which
    nothing behind it reaches.
    """
    length = config.model.window
    before = graph.input(
        "state_samples", ("batch", length - 1), "the last ones heard, 0 at the start"
    )
    count = graph.input("state_count", ("batch", 1), "how many these are, 0 at the start")
    whole = graph.op("Concat", before, heard, axis=1)
    at = graph.counting(graph.length(heard, 1))
    so_far = graph.op("Cast", count, to=TensorProto.INT64)
    n_heard = graph.op("Add", graph.op("Add", so_far, at), graph.constant([1]))
    n_heard = graph.op("Min", n_heard, graph.constant([length]))  # B, T: in every window
    network = _Network(
        graph,
        tensors,
        config,
        WindowState(graph, _n_passes(config), graph.reshape(graph.op("Size", heard), 1)),
    )
    hidden = network.hidden(_windows(graph, whole, n_heard, at, length))
    hidden = network.only_at(graph.op("Sub", n_heard, graph.constant([1])), hidden, length)
    tones = graph.constant([config.data.n_components])
    shape = graph.op("Concat", graph.op("Shape", heard), tones, axis=0)
    _write_estimate(graph, config, graph.op("Reshape", network.answers(hidden), shape))
    after = graph.last(whole, length - 1, axis=1)
    graph.output("next_state_samples", after, ("batch", length - 1), "the next state_samples")
    latest = graph.last(graph.op("Concat", so_far, n_heard, axis=1), 1, axis=1)
    latest = graph.op("Min", latest, graph.constant([length - 1]))
    latest = graph.cast(latest)
    graph.output("next_state_count", latest, ("batch", 1), "the next state_count")


def _write_estimate(graph: Graph, config: Config, answers: str) -> None:
    about = f"the tones at {', '.join(f'{hz:g}' for hz in config.data.frequencies_hz)} Hz"
    graph.output(ESTIMATE, answers, ("batch", "time", config.data.n_components), about)


def _windows(graph: Graph, whole: str, n_heard: str, at: str, length: int) -> str:
    """The window that ends at each sample, what was heard first, then what plays no part: (L, BT).

    ``whole``: (B, L - 1 + T); ``n_heard``: (B, T); ``at``: 0, 1, ... T - 1.
    """
    missing = graph.op("Sub", graph.constant([length]), n_heard)
    within = graph.op(
        "Add",
        graph.op("Unsqueeze", missing, graph.constant([2])),
        graph.constant(np.arange(length)),
    )
    within = graph.op("Min", within, graph.constant([length - 1]))
    place = graph.op("Add", within, graph.reshape(at, -1, 1))
    windows = graph.op("GatherElements", whole, graph.reshape(place, 0, -1), axis=1)
    return graph.transpose(graph.reshape(windows, -1, length), 1, 0)


def _n_passes(config: Config) -> int:
    """Passes a stream needs: one a component, unless one answers all."""
    told = config.model.selector in ("input", "initial_state", "film")
    return config.data.n_components if told else 1


class _Network:
    """The network itself, between samples (times, streams) and answers (times, streams, K)."""

    def __init__(
        self, graph: Graph, tensors: Mapping[str, np.ndarray], config: Config, states: States
    ) -> None:
        self.graph, self.config = graph, config
        self.n_tones, self.n_passes = config.data.n_components, _n_passes(config)
        self.size = config.model.size(self.n_tones)
        self.width = 2 * self.n_tones if config.model.kind == "observer" else self.size
        self.parts = LayerWriter(graph, tensors, states)
        if config.model.selector == "initial_state":
            n_states = 1 if config.model.kind in ("gru", "rnn") else 2
            self.parts.told = np.tanh(self._told("start", n_states * self.size * self._n_layers))

    @property
    def _n_layers(self) -> int:
        return self.config.model.n_layers

    def hidden(self, samples: str) -> str:
        """What the readout takes: (times, rows, width)."""
        x, n_features = self._features(samples)
        model, parts, size = self.config.model, self.parts, self.size
        if model.kind == "observer":
            return parts.observer(x, self.n_tones, size, self._n_layers)
        if model.kind == "lru":
            x = parts.linear(x, "parts.embedding.linear", n_features, size)
            for n in range(self._n_layers):
                x = parts.oscillators(x, n + 1, size, norm=model.layer_norm)
        elif model.kind == "tcn":
            for n in range(self._n_layers):
                x = parts.temporal_block(x, n_features, size, model.kernel, 2**n)
                n_features = size
        elif model.kind in ("feed-forward", "adaptive"):
            x = self._one_vector(x, n_features)
        else:
            x = self._recurrent(x, n_features)
        if model.squeeze_excitation:
            x = parts.squeeze_excitation(x, size, model.look_back)
        return x

    def only_at(self, place: str, hidden: str, length: int) -> str:
        """Of a window's hidden units those at one place: (1, rows, width)."""
        g = self.graph
        beside = g.reshape(hidden, 0, -1, self.n_passes * self.width)
        places = g.constant(np.arange(length)[:, None, None])
        there = g.op("Equal", places, g.reshape(place, 1, -1, 1))
        there = g.op("Mul", beside, g.cast(there))
        return g.reshape(g.op("ReduceSum", there, g.constant([0])), 1, -1, self.width)

    def answers(self, hidden: str) -> str:
        """Estimates of all tones: (times, streams, K)."""
        g, selector = self.graph, self.config.model.selector
        if selector == "film":
            told = self._told("film", 2 * self.width)
            apart = g.reshape(hidden, 0, -1, self.n_passes, self.width)
            bent = g.op("Mul", apart, g.constant(1 + told[:, : self.width]))
            bent = g.op("Add", bent, g.constant(told[:, self.width :]))
            hidden = g.reshape(bent, 0, -1, self.width)
        n_outputs = self.n_tones if selector == "readout" else 1
        outputs = self.parts.linear(hidden, "readout", self.width, n_outputs)
        beside = g.reshape(outputs, 0, -1, self.n_passes * n_outputs)
        if selector == "none":  # one answer stands for every component
            beside = g.op("Mul", beside, g.constant(np.ones(self.n_tones)))
        return beside

    def _features(self, samples: str) -> tuple[str, int]:
        """What every pass hears: (times, rows, features), and how many features."""
        g, shown = self.graph, self.config.model.selector == "input"
        n_features = 1 + (self.n_tones if shown else 0)
        scale, told = np.zeros(n_features), np.zeros((self.n_passes, n_features))
        scale[0] = self.parts.take("input_scale")
        if shown:
            told[:, 1:] = np.eye(self.n_tones)
        apart = g.op("Unsqueeze", samples, g.constant([2, 3]))
        features = g.op("Add", g.op("Mul", apart, g.constant(scale)), g.constant(told))
        return g.reshape(features, 0, -1, n_features), n_features

    def _recurrent(self, x: str, n_features: int) -> str:
        model, kind = self.config.model, self.config.model.kind
        if kind == "cnn-lstm":
            kind, shape = "lstm", (model.channels, n_features, model.kernel)
            x = self.parts.convolution(x, "parts.convolution.weigh", "convolution", shape)
            n_features = model.channels
        apart = model.residual or model.layer_norm or model.recurrent_dropout > 0
        write = self.parts.layers_apart if apart else self.parts.recurrent
        return write(kind, x, n_features, self.size, model)

    def _one_vector(self, x: str, n_features: int) -> str:
        model, size = self.config.model, self.size
        if model.kind == "adaptive":
            x = self.parts.learned_window(x, n_features, size, model.look_back)
        else:
            shape = (size, n_features, model.look_back)
            x = self.parts.convolution(x, "parts.window.weigh", "window", shape)
        for n in range(2, self._n_layers + 1):
            x = self.parts.dense(x, n, size)
        return x

    def _told(self, name: str, n: int) -> Float[np.ndarray, "P N"]:
        """What the selector tells in every pass."""
        weight = self.parts.take(f"{name}.weight", n, self.n_tones)
        return (weight + self.parts.take(f"{name}.bias", n)[:, None]).T
