"""The contract of every network family, and parameter counts by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tonesieve.catalogue import load_config
from tonesieve.config import Config, ModelSettings, make_config
from tonesieve.errors import UserError
from tonesieve.learning.layouts import epoch_batches, one_hot
from tonesieve.learning.models import FAMILIES, build_network, n_parameters
from tonesieve.learning.saved import load_network, save_network

SELECTORS = ("input", "readout", "initial_state", "none")
ZOO = [(kind, selector) for kind in FAMILIES for selector in SELECTORS]


def configured(kind: str, selector: str, **model: object) -> Config:
    return make_config(
        {
            "data": {"duration_s": 0.1},
            "model": {"kind": kind, "selector": selector, "hidden_size": 8, **model},
            "training": {"batch_size": 6, "chunk_samples": 20},
            "evaluation": {"settle_s": 0},
        }
    )


@pytest.mark.parametrize(("kind", "selector"), ZOO)
@pytest.mark.parametrize("extra", [{}, {"n_layers": 2, "dropout": 0.2, "taps": 2}])
def test_shapes_and_finite_gradients(kind: str, selector: str, extra: dict[str, object]) -> None:
    config = configured(kind, selector, **extra)
    network = build_network(config).train()
    batch = next(epoch_batches(config, epoch=1, device=torch.device("cpu")))
    state = network.initial_state(len(batch), batch.selector)
    outputs, after = network(batch.inputs, batch.selector, state)
    assert outputs.shape == batch.targets.shape
    assert outputs.shape[2] == network.n_outputs == (4 if selector == "readout" else 1)
    assert [s.shape for s in after] == [s.shape for s in state]
    assert all(len(s) == len(batch) for s in after)
    (outputs**2).mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize(("kind", "selector"), ZOO)
def test_weights_follow_the_seed_alone(kind: str, selector: str) -> None:
    config = configured(kind, selector)
    torch.manual_seed(5)
    one = build_network(config).state_dict()
    torch.manual_seed(6)
    before = torch.random.get_rng_state()
    again = build_network(config).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(one[name], again[name]) for name in one)
    reseeded = config.model_copy(
        update={"training": config.training.model_copy(update={"seed": 9})}
    )
    other = build_network(reseeded).state_dict()
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("kind", "selector"), ZOO)
def test_saved_and_loaded_is_the_same(kind: str, selector: str, tmp_path: Path) -> None:
    config = configured(kind, selector)
    network = build_network(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    save_network(network, config, tmp_path / "w.safetensors")
    loaded, back = load_network(tmp_path / "w.safetensors")
    assert back == config
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])


@pytest.mark.parametrize(
    ("kind", "selector"), [z for z in ZOO if z[1] in ("input", "initial_state")]
)
def test_the_selector_is_used(kind: str, selector: str) -> None:
    network = build_network(configured(kind, selector)).eval()
    inputs = torch.zeros(4, 5, 1)
    told = one_hot(torch.arange(4), 4)
    with torch.no_grad():
        outputs, _ = network(inputs, told, network.initial_state(4, told))
    assert len({round(float(o), 6) for o in outputs[:, -1, 0]}) == 4


def lstm_parameters(features: int, hidden: int, layers: int, outputs: int = 1) -> int:
    first = 4 * hidden * (features + hidden + 2)
    more = (layers - 1) * 4 * hidden * (2 * hidden + 2)
    return first + more + outputs * (hidden + 1)


# SPEC, section 6: counts as PyTorch has them.
COUNTS = {"deep50": 201_345, "config-l1": 69_249, "journey": 795_905}


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_of_the_write_ups(name: str) -> None:
    assert n_parameters(build_network(load_config(name))) == COUNTS[name]


@pytest.mark.parametrize(
    ("name", "by_hand"),
    [
        ("deep50", lstm_parameters(5, 128, 2)),
        ("window10", lstm_parameters(5, 64, 2)),
        ("guide", lstm_parameters(5, 64, 1)),
        ("journey", lstm_parameters(5, 256, 2)),
        ("journey-selector", lstm_parameters(9, 256, 2)),
        ("sieve", lstm_parameters(1, 64, 1, outputs=4)),
    ],
)
def test_parameter_counts_by_hand(name: str, by_hand: int) -> None:
    assert n_parameters(build_network(load_config(name))) == by_hand


def test_hidden_size_counts_of_deep50s_table() -> None:
    # SPEC, section 5: 51K, 201K, 802K and 3.2M parameters
    claimed = {64: 51_000, 128: 201_000, 256: 802_000, 512: 3_200_000}
    for hidden, count in claimed.items():
        assert lstm_parameters(5, hidden, 2) == pytest.approx(count, rel=0.02)


def test_scaled_input_has_unit_variance() -> None:
    config = load_config("sieve")
    batch = next(epoch_batches(config, epoch=1, device=torch.device("cpu")))
    scaled = batch.inputs * build_network(config).input_scale
    assert float(scaled.std()) == pytest.approx(1.0, abs=0.1)


BROKEN = {
    "cut short": lambda raw: raw[: len(raw) // 2],
    "cut short, or not": lambda raw: raw[:5],
    "not a checkpoint": lambda raw: b"",
    "format version 9": lambda raw: raw.replace(b'version\\": 1', b'version\\": 9'),
    "not a checkpoint of tonesieve": lambda raw: raw.replace(b'"tonesieve"', b'"otherwise"'),
}


@pytest.mark.parametrize("message", BROKEN)
def test_broken_checkpoints_are_refused(message: str, tmp_path: Path) -> None:
    config = configured("lstm", "input")
    path = tmp_path / "w.safetensors"
    save_network(build_network(config), config, path)
    raw = path.read_bytes()
    path.write_bytes(BROKEN[message](raw))
    assert path.read_bytes() != raw
    with pytest.raises(UserError, match=message):
        load_network(path)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    small, large = configured("lstm", "input"), configured("lstm", "input", n_layers=2)
    path = tmp_path / "w.safetensors"
    save_network(build_network(small), large, path)
    with pytest.raises(UserError, match="do not fit"):
        load_network(path)
    with pytest.raises(UserError, match="no such file; is the run finished"):
        load_network(tmp_path / "none")


def test_model_settings_reach_the_network() -> None:
    settings = ModelSettings(hidden_size=8, n_layers=3, dropout=0.25, readout_dropout=0.5)
    network = FAMILIES["lstm"](settings, 4, input_rms=1.0)
    assert (network.lstm.num_layers, network.lstm.dropout) == (3, 0.25)
    assert network.dropout.p == 0.5
    assert np.isclose(float(network.input_scale), 1.0)
