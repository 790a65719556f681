"""Attention against a plain loop, its weights by lag, and the auxiliary tasks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tonesieve.config.config import Config, make_config
from tonesieve.evaluation.plots import run_plots as draw
from tonesieve.learning import summary
from tonesieve.learning.loop.auxiliary import evaluate_auxiliary
from tonesieve.learning.loop.training import train
from tonesieve.learning.models import build_network
from tonesieve.learning.models.attention import Attention
from tonesieve.learning.network_extractor import as_extractor

N, F, CONTEXT = 300, 6, 5  # longer than a block of queries


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def matrix(layer: torch.nn.Linear) -> tuple[np.ndarray, np.ndarray]:
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()


def by_loop(layer: Attention, x: np.ndarray) -> np.ndarray:
    """Sample by sample, from the formulas."""
    outputs = []
    for n in range(len(x)):
        context = x[max(0, n - CONTEXT + 1) : n + 1]
        if layer.kind in ("weighted", "pooled"):
            (w1, b1), (w2, b2) = matrix(layer.score[0]), matrix(layer.score[2])
            weights = softmax((np.tanh(context @ w1.T + b1) @ w2.T + b2)[:, 0])
            outputs.append(weights @ context if layer.kind == "pooled" else weights[-1] * x[n])
        elif layer.kind == "memory":
            (wq, bq), (wk, bk) = matrix(layer.query), matrix(layer.key)
            past = context[:-1]
            attended = np.zeros(F)
            if len(past):
                attended = softmax((past @ wk.T + bk) @ (wq @ x[n] + bq) / np.sqrt(F)) @ past
            outputs.append(np.concatenate([x[n], attended]))
        else:
            (w, b), (wo, bo) = matrix(layer.joint), matrix(layer.mix)
            query, key, value = np.split(context @ w.T + b, 3, axis=1)
            size, heads = F // layer.n_heads, []
            for h in range(layer.n_heads):
                part = slice(h * size, (h + 1) * size)
                scores = key[:, part] @ query[-1, part] / np.sqrt(size)
                if layer.lag_weight is not None:
                    lags = np.arange(len(context))[::-1]
                    scores = scores + layer.lag_weight.detach().numpy()[h, lags]
                heads.append(softmax(scores) @ value[:, part])
            outputs.append(wo @ np.concatenate(heads) + bo)
    return np.array(outputs)


@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("kind", ["weighted", "pooled", "memory", "heads"])
def test_attention_is_what_its_formula_says(kind: str, positions: bool) -> None:
    torch.manual_seed(1)
    layer = Attention(F, kind, CONTEXT, 3, positions=positions)
    if layer.lag_weight is not None:
        torch.nn.init.normal_(layer.lag_weight)
    x = torch.randn(2, N, F)
    state = tuple(torch.zeros(2, *shape) for shape in layer.state_shapes)
    with torch.no_grad():
        outputs, _ = layer(x, state)
    for stream, output in zip(x.numpy(), outputs.numpy(), strict=True):
        np.testing.assert_allclose(output, by_loop(layer, stream), atol=1e-5)


def configured(**model: object) -> Config:
    settings = {"hidden_size": 8, "context": CONTEXT, **model}
    return make_config({"model": settings, "data": {"duration_s": 1}})


@pytest.mark.parametrize(
    ("model", "n_maps", "n_heads"),
    [
        ({"attention": "heads"}, 1, 4),
        ({"attention": "pooled", "selector": "readout"}, 1, 1),
        ({"attention": "weighted", "window": 10, "taps": 2}, 1, 1),
        ({"kind": "transformer", "n_layers": 2, "n_heads": 2, "window": 10}, 2, 2),
    ],
)
def test_weights_by_lag_add_up_to_one(model: dict[str, object], n_maps: int, n_heads: int) -> None:
    config = configured(**model)
    network = build_network(config)
    mixture = np.random.default_rng(2).normal(size=N)
    by_layer = summary.attention_weights(as_extractor(network, config), mixture, 1)
    assert len(by_layer) == n_maps
    for weights in by_layer.values():
        windowed = config.model.window > (config.model.receptive_field or 0) > 0
        first = config.model.window - 1 if config.model.window > 1 and not windowed else 0
        assert weights.shape == (n_heads, N - first, CONTEXT)
        np.testing.assert_allclose(weights.sum(axis=2), 1, atol=1e-5)
        assert weights.min() >= 0
    picture = draw.attention(by_layer, N, config.data.rate_hz)
    assert len(picture.axes) == 3 * n_maps  # map, its colour bar, profile


def test_a_marked_sample_is_attended_to_at_its_lag() -> None:
    # A score that grows with the mixture: one large sample gets all weight while in the context.
    config = configured(attention="pooled", selector="readout", kind="rnn")
    network = build_network(config)
    attention = network.parts["attention"]
    with torch.no_grad():
        network.parts["rnn"].cell.weight_ih_l0.fill_(5.0)
        network.parts["rnn"].cell.weight_hh_l0.fill_(0.0)
        attention.score[0].weight.fill_(1.0)
        attention.score[2].weight.fill_(5.0)
    mixture = np.zeros(40)
    mixture[20] = 1.0
    (weights,) = summary.attention_weights(as_extractor(network, config), mixture, 0).values()
    for lag in range(CONTEXT):
        assert weights[0, 20 + lag].argmax() == lag
        assert weights[0, 20 + lag].max() > 0.9
    assert weights[0, 20 + CONTEXT].max() < 0.5


def test_of_strided_lanes_the_first_is_captured() -> None:
    changes = {"attention": "pooled", "context": 5, "hidden_size": 6}
    strided = {"lanes": "strided", "batch_size": 4, "chunk_samples": 1}
    lanes = make_config({"model": changes, "training": strided})
    alone = make_config({"model": changes})
    network = build_network(lanes)
    mixture = np.random.default_rng(0).normal(size=80)
    (of_lane,) = summary.attention_weights(as_extractor(network, lanes), mixture, 0).values()
    (same,) = summary.attention_weights(as_extractor(network, alone), mixture[::4], 0).values()
    assert of_lane.shape == (1, 20, 5)
    np.testing.assert_array_equal(of_lane, same)
    figure = draw.attention({"a": of_lane}, len(mixture), 1000.0, 4)
    assert figure.axes[0].get_ylabel() == "lag (steps of 4 samples)"


def test_without_attention_there_are_no_weights() -> None:
    config = make_config({"model": {"hidden_size": 8}})
    extractor = as_extractor(build_network(config), config)
    assert summary.attention_weights(extractor, np.zeros(50), 0) == {}


@pytest.mark.slow
def test_a_learned_window_is_shorter_the_more_length_costs() -> None:
    def trained_length(penalty: float) -> float:
        config = make_config(
            {
                "data": {"duration_s": 2, "noise": "fresh", "start": "random"},
                "model": {
                    "kind": "adaptive", "selector": "readout", "window": 40, "context": 40,
                    "span_penalty": penalty, "scale_input": True, "hidden_size": 16,
                },
                "training": {"epochs": 3, "learning_rate": 0.02, "batch_size": 16},
            }
        )  # fmt: skip
        length = summary.learned_window(train(config).network)
        assert length is not None
        return length

    costly, cheap, free = trained_length(10.0), trained_length(0.1), trained_length(0.0)
    # Only the ramp is left of it; it started with half of the longest and the ramp.
    assert costly == pytest.approx(40 / 8, abs=0.5)
    assert costly < cheap < free - 5
    assert free == pytest.approx(0.5 * 40 + 40 / 8, rel=0.2)


def test_auxiliary_tasks_are_learned() -> None:
    config = make_config(
        {
            "data": {"duration_s": 4, "phase_scale": 0},
            "model": {"window": 20, "hidden_size": 16, "tasks": ["identity", "phase"]},
            "training": {"epochs": 2, "batch_size": 32, "learning_rate": 0.01},
        }
    )
    untrained = evaluate_auxiliary(build_network(config), config)
    after = evaluate_auxiliary(train(config).network, config)
    assert untrained["identity_accuracy"] < 0.6 < 0.99 < after["identity_accuracy"]
    # A random phase has an error of pi / sqrt(3) = 1.81 rad, RMS.
    assert after["phase_rms_rad"] < 1.4 < untrained["phase_rms_rad"]
