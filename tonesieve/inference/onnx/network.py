"""A trained network as one ONNX graph: samples and state in, estimates and next state out.

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
# Guard: bytes of weights; a protobuf message, and so an ONNX file, holds 2 GiB.
MAX_WEIGHT_BYTES = 2**31 - 2**20


def unsupported_reason(config: Config) -> str | None:
    """Say why a network cannot be exported.

    Parameters
    ----------
    config : Config
        The run's settings.

    Returns
    -------
    str or None
        The reason; None for a network that can be exported.
    """
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
        return f"it needs {model.taps} samples to come and cannot stream (model.taps)"
    if config.evaluation.join == "mean" and not config.stateful:
        return "the mean over windows needs samples to come (evaluation.join)"
    return None


def by_windows(config: Config) -> bool:
    """Return whether every estimate comes from a window of its own.

    Parameters
    ----------
    config : Config
        The run's settings.

    Returns
    -------
    bool
        True for such a network, as `learning.network_extractor` runs it.
    """
    field = config.model.receptive_field
    return not config.stateful and (field is None or field > config.model.window)


def network_graph(tensors: Mapping[str, np.ndarray], config: Config, version: str) -> ModelProto:
    """Write a network as an ONNX model.

    Parameters
    ----------
    tensors : mapping of str to ndarray
        Weights by the names that they have on disk.
    config : Config
        The run's settings, for which `unsupported_reason` returns None.
    version : str
        Version of tonesieve, for the model's metadata.

    Returns
    -------
    onnx.ModelProto
        The model.

    Raises
    ------
    ValueError
        For weights that do not fit the settings, or into one file.
    """
    if sum(array.nbytes for array in tensors.values()) > MAX_WEIGHT_BYTES:
        raise ValueError("they are more than the 2 GB that one ONNX file holds")
    graph = Graph()
    about = "the mixture; what is not finite is a gap, taken as 0"
    samples = graph.input(SAMPLES, ("batch", "time"), about)
    gap = graph.op("Or", graph.op("IsNaN", samples), graph.op("IsInf", samples))
    filled = graph.op("Where", gap, graph.constant(0.0), samples)
    write = _write_windows if by_windows(config) else _write_stream
    write(graph, tensors, config, filled)
    return graph.model(config.name, usage(config), metadata(config, version), version)


def usage(config: Config) -> str:
    """Describe how to run the graph.

    Parameters
    ----------
    config : Config
        The run's settings.

    Returns
    -------
    str
        The description that the model carries.
    """
    text = (
        f"Takes tones out of a mixture at {config.data.rate_hz:g} Hz. Feed chunks of one sample "
        "or more as samples; begin every state input with zeros, and give the next_state_* outputs "
        "of one chunk to the state_* inputs of the next."
    )
    if config.stride > 1:
        text += (
            f" This is one lane of {config.stride}: lane k takes samples k, k + {config.stride}, "
            f"k + {2 * config.stride}, ... alone. Feed the {config.stride} lanes as a batch."
        )
    if by_windows(config):
        text += (
            f" Every estimate is computed anew from a window of {config.model.window} samples: "
            "memory grows with the chunk."
        )
    return text


def metadata(config: Config, version: str) -> dict[str, str]:
    """Collect the model's metadata.

    Parameters
    ----------
    config : Config
        The run's settings.
    version : str
        Version of tonesieve.

    Returns
    -------
    dict of str to str
        Numbers as JSON, the settings as YAML.
    """
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
    graph: Graph, tensors: Mapping[str, np.ndarray], config: Config, samples: str
) -> None:
    """The network as it runs, with its own state."""
    states = ExternalState(graph, _n_passes(config))
    network = _Network(graph, tensors, config, states)
    estimates = network.estimates(network.hidden(graph.transpose(samples, 1, 0)))
    _write_estimate(graph, config, graph.transpose(estimates, 1, 0, 2))
    states.finish()


def _write_windows(
    graph: Graph, tensors: Mapping[str, np.ndarray], config: Config, samples: str
) -> None:
    """Every estimate from the window that ends at its sample; the state are past samples.

    All windows run side by side, each from the initial state. Before the first full one there are
    fewer samples: these come first in the window, and the estimate is read at the last of them,
    on which nothing behind it has an effect.
    """
    length = config.model.window
    before = graph.input("state_samples", ("batch", length - 1), "the last samples, 0 at the start")
    count = graph.input("state_count", ("batch", 1), "how many these are, 0 at the start")
    extended = graph.op("Concat", before, samples, axis=1)
    times = graph.arange(graph.length(samples, 1))
    n_before = graph.op("Cast", count, to=TensorProto.INT64)
    n_observed = graph.op("Add", graph.op("Add", n_before, times), graph.constant([1]))
    n_observed = graph.op("Min", n_observed, graph.constant([length]))  # B, T: in every window
    network = _Network(
        graph,
        tensors,
        config,
        WindowState(graph, _n_passes(config), graph.reshape(graph.op("Size", samples), 1)),
    )
    hidden = network.hidden(_windows(graph, extended, n_observed, times, length))
    hidden = network.select_time(graph.op("Sub", n_observed, graph.constant([1])), hidden, length)
    tones = graph.constant([config.data.n_components])
    shape = graph.op("Concat", graph.op("Shape", samples), tones, axis=0)
    _write_estimate(graph, config, graph.op("Reshape", network.estimates(hidden), shape))
    after = graph.slice_last(extended, length - 1, axis=1)
    graph.output("next_state_samples", after, ("batch", length - 1), "the next state_samples")
    latest = graph.slice_last(graph.op("Concat", n_before, n_observed, axis=1), 1, axis=1)
    latest = graph.op("Min", latest, graph.constant([length - 1]))
    latest = graph.cast(latest)
    graph.output("next_state_count", latest, ("batch", 1), "the next state_count")


def _write_estimate(graph: Graph, config: Config, estimates: str) -> None:
    about = f"the tones at {', '.join(f'{hz:g}' for hz in config.data.frequencies_hz)} Hz"
    graph.output(ESTIMATE, estimates, ("batch", "time", config.data.n_components), about)


def _windows(graph: Graph, extended: str, n_observed: str, times: str, length: int) -> str:
    """The window that ends at each sample, observed samples first, then padding: (L, BT).

    ``extended``: (B, L - 1 + T); ``n_observed``: (B, T); ``times``: 0, 1, ... T - 1.
    """
    missing = graph.op("Sub", graph.constant([length]), n_observed)
    within = graph.op(
        "Add",
        graph.op("Unsqueeze", missing, graph.constant([2])),
        graph.constant(np.arange(length)),
    )
    within = graph.op("Min", within, graph.constant([length - 1]))
    index = graph.op("Add", within, graph.reshape(times, -1, 1))
    windows = graph.op("GatherElements", extended, graph.reshape(index, 0, -1), axis=1)
    return graph.transpose(graph.reshape(windows, -1, length), 1, 0)


def _n_passes(config: Config) -> int:
    """Passes a stream needs: one a component, unless one estimates all."""
    conditioned = config.model.selector in ("input", "initial_state", "film")
    return config.data.n_components if conditioned else 1


class _Network:
    """The network between samples (times, streams) and estimates (times, streams, K)."""

    def __init__(
        self, graph: Graph, tensors: Mapping[str, np.ndarray], config: Config, states: States
    ) -> None:
        self.graph, self.config = graph, config
        self.n_tones, self.n_passes = config.data.n_components, _n_passes(config)
        self.size = config.model.size(self.n_tones)
        self.width = 2 * self.n_tones if config.model.kind == "observer" else self.size
        self.layers = LayerWriter(graph, tensors, states)
        if config.model.selector == "initial_state":
            n_states = 1 if config.model.kind in ("gru", "rnn") else 2
            self.layers.condition = np.tanh(
                self._condition("start", n_states * self.size * self._n_layers)
            )

    @property
    def _n_layers(self) -> int:
        return self.config.model.n_layers

    def hidden(self, samples: str) -> str:
        """Inputs of the readout: (times, rows, width)."""
        x, n_features = self._features(samples)
        model, layers, size = self.config.model, self.layers, self.size
        if model.kind == "observer":
            return layers.observer(x, self.n_tones, size, self._n_layers)
        if model.kind == "lru":
            x = layers.linear(x, "parts.embedding.linear", n_features, size)
            for n in range(self._n_layers):
                x = layers.lru(x, n + 1, size, norm=model.layer_norm)
        elif model.kind == "tcn":
            for n in range(self._n_layers):
                x = layers.temporal_block(x, n_features, size, model.kernel, 2**n)
                n_features = size
        elif model.kind in ("feed-forward", "adaptive"):
            x = self._one_vector(x, n_features)
        else:
            x = self._recurrent(x, n_features)
        if model.squeeze_excitation:
            x = layers.squeeze_excitation(x, size, model.look_back)
        return x

    def select_time(self, time: str, hidden: str, length: int) -> str:
        """Hidden units of a window at one time: (1, rows, width)."""
        g = self.graph
        by_stream = g.reshape(hidden, 0, -1, self.n_passes * self.width)
        times = g.constant(np.arange(length)[:, None, None])
        mask = g.op("Equal", times, g.reshape(time, 1, -1, 1))
        selected = g.op("Mul", by_stream, g.cast(mask))
        return g.reshape(g.op("ReduceSum", selected, g.constant([0])), 1, -1, self.width)

    def estimates(self, hidden: str) -> str:
        """Estimates of all tones: (times, streams, K)."""
        g, selector = self.graph, self.config.model.selector
        if selector == "film":
            film = self._condition("film", 2 * self.width)
            by_pass = g.reshape(hidden, 0, -1, self.n_passes, self.width)
            modulated = g.op("Mul", by_pass, g.constant(1 + film[:, : self.width]))
            modulated = g.op("Add", modulated, g.constant(film[:, self.width :]))
            hidden = g.reshape(modulated, 0, -1, self.width)
        n_outputs = self.n_tones if selector == "readout" else 1
        outputs = self.layers.linear(hidden, "readout", self.width, n_outputs)
        estimates = g.reshape(outputs, 0, -1, self.n_passes * n_outputs)
        if selector == "none":  # one output for every component
            estimates = g.op("Mul", estimates, g.constant(np.ones(self.n_tones)))
        return estimates

    def _features(self, samples: str) -> tuple[str, int]:
        """Features of every pass, (times, rows, features), and their number."""
        g, with_selector = self.graph, self.config.model.selector == "input"
        n_features = 1 + (self.n_tones if with_selector else 0)
        scale, selector = np.zeros(n_features), np.zeros((self.n_passes, n_features))
        scale[0] = self.layers.take("input_scale")
        if with_selector:
            selector[:, 1:] = np.eye(self.n_tones)
        column = g.op("Unsqueeze", samples, g.constant([2, 3]))
        features = g.op("Add", g.op("Mul", column, g.constant(scale)), g.constant(selector))
        return g.reshape(features, 0, -1, n_features), n_features

    def _recurrent(self, x: str, n_features: int) -> str:
        model, kind = self.config.model, self.config.model.kind
        if kind == "cnn-lstm":
            kind, shape = "lstm", (model.channels, n_features, model.kernel)
            x = self.layers.convolution(x, "parts.convolution.weigh", "convolution", shape)
            n_features = model.channels
        is_separate = model.residual or model.layer_norm or model.recurrent_dropout > 0
        write = self.layers.separate_layers if is_separate else self.layers.recurrent
        return write(kind, x, n_features, self.size, model)

    def _one_vector(self, x: str, n_features: int) -> str:
        model, size = self.config.model, self.size
        if model.kind == "adaptive":
            x = self.layers.learned_window(x, n_features, size, model.look_back)
        else:
            shape = (size, n_features, model.look_back)
            x = self.layers.convolution(x, "parts.window.weigh", "window", shape)
        for n in range(2, self._n_layers + 1):
            x = self.layers.dense(x, n, size)
        return x

    def _condition(self, name: str, n: int) -> Float[np.ndarray, "P N"]:
        """What the selector contributes to every pass."""
        weight = self.layers.take(f"{name}.weight", n, self.n_tones)
        return (weight + self.layers.take(f"{name}.bias", n)[:, None]).T
