"""The contract of every model in the zoo, and parameter counts by hand."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from tests.zoo import ZOO
from tests.zoo import settings as zoo_settings
from tonesieve.config.config import Config, make_config
from tonesieve.config.presets import load_config
from tonesieve.errors import UserError
from tonesieve.extractors.bayes.limit import limit, observation_window
from tonesieve.learning.data.batches import epoch_batches
from tonesieve.learning.data.features import one_hot
from tonesieve.learning.loop.training import train
from tonesieve.learning.models import FAMILIES, build_network, n_parameters
from tonesieve.learning.models.base import Network, State
from tonesieve.learning.models.lru import scan
from tonesieve.learning.network_extractor import as_extractor
from tonesieve.learning.network_files import load_network, save_network
from tonesieve.signals.synthesis import draw_records

SELECTORS = ("input", "readout", "initial_state", "film", "none")


def configured(name: str, **model: Any) -> Config:
    return make_config(
        {
            "data": {"duration_s": 0.1},
            "model": zoo_settings(name, **model),
            "training": {"batch_size": 6, "chunk_samples": 20},
            "evaluation": {"settle_s": 0},
        }
    )


def selected(name: str, selector: str) -> Config | None:
    """An entry with another selector; None where the two do not go together."""
    try:
        return configured(name, selector=selector, tasks=[])
    except UserError:
        return None


PAIRS = [(name, selector) for name in ZOO for selector in SELECTORS if selected(name, selector)]


@functools.cache
def network(name: str) -> tuple[Network, Config]:
    config = configured(name)
    return build_network(config).eval(), config


def selectors(config: Config, n_streams: int) -> torch.Tensor | None:
    n_components = config.data.n_components
    if config.model.selector in ("readout", "none"):
        return None
    return one_hot(torch.arange(n_streams) % n_components, n_components)


def test_every_kind_is_in_the_zoo() -> None:
    kinds = {zoo_settings(name).get("kind", "lstm") for name in ZOO}
    assert kinds == set(FAMILIES)


def test_only_unsupported_selectors_are_refused() -> None:
    # Bounded models have no state to initialise; an observer and a bank estimate all tones at once.
    refused = [(n, s) for n in ZOO for s in SELECTORS if selected(n, s) is None]
    bounded = {"feed-forward", "adaptive", "tcn", "transformer"}
    expected = {(n, "initial_state") for n in bounded}
    expected |= {("observer", s) for s in ("input", "initial_state")}
    assert set(refused) == expected | {("bank", s) for s in SELECTORS if s != "readout"}


@pytest.mark.parametrize("name", ZOO)
def test_parameters_are_those_counted_by_hand(name: str) -> None:
    assert n_parameters(network(name)[0]) == ZOO[name].n_parameters


@pytest.mark.parametrize(("name", "selector"), PAIRS)
def test_shapes_and_finite_gradients(name: str, selector: str) -> None:
    config = selected(name, selector)
    assert config is not None
    one = build_network(config).train()
    batch = next(epoch_batches(config, epoch=1, device=torch.device("cpu")))
    state = one.initial_state(len(batch), batch.selector)
    outputs, after = one(batch.inputs, batch.selector, state)
    assert outputs.shape == batch.targets.shape
    assert outputs.shape[2] == one.n_outputs == (4 if selector == "readout" else 1)
    assert [s.shape for s in after] == [s.shape for s in state]
    assert all(len(s) == len(batch) and s.ndim == 3 for s in after)
    penalty = one.penalty()
    ((outputs**2).mean() + (0 if penalty is None else penalty)).backward()
    for parameter_name, parameter in one.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name


# Added to all scores alike, to which a softmax is invariant: their gradient is rounding, or 0.
SHIFTS = ("key.bias", "score.2.bias")


@pytest.mark.parametrize("name", ZOO)
def test_every_parameter_matters(name: str) -> None:
    # Over two chunks, so that parameters that act only through the state are reached, too.
    config = configured(name)
    one = build_network(config).eval()
    torch.manual_seed(7)
    inputs, selector = torch.randn(4, 20, 1), selectors(config, 4)
    outputs, state = one(inputs, selector, one.initial_state(4, selector), tasks=True)
    more, _ = one(inputs, selector, state, tasks=True)
    penalty = one.penalty()
    ((outputs**2).mean() + (more**2).mean() + (0 if penalty is None else penalty)).backward()
    for parameter_name, parameter in one.named_parameters():
        assert parameter.grad is not None, parameter_name
        largest = float(parameter.grad.abs().max())
        if parameter_name.endswith(SHIFTS):
            assert largest < 1e-6, parameter_name
        else:
            assert largest > 0, parameter_name


@pytest.mark.parametrize("name", ZOO)
def test_weights_follow_the_seed_alone(name: str) -> None:
    config = configured(name)
    torch.manual_seed(5)
    one = build_network(config).state_dict()
    torch.manual_seed(6)
    before = torch.random.get_rng_state()
    again = build_network(config).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(one[key], again[key]) for key in one)
    reseeded = config.model_copy(
        update={"training": config.training.model_copy(update={"seed": 9})}
    )
    other = build_network(reseeded).state_dict()
    assert any(not torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", ZOO)
def test_saved_and_loaded_is_the_same(name: str, tmp_path: Path) -> None:
    config = configured(name)
    one = build_network(config)
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.add_(1.0)
    save_network(one, config, tmp_path / "w.safetensors")
    loaded, back = load_network(tmp_path / "w.safetensors")
    assert back == config
    for key, tensor in one.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[key])


CONDITIONED = [pair for pair in PAIRS if pair[1] not in ("readout", "none")]


@pytest.mark.parametrize(("name", "selector"), CONDITIONED)
def test_the_selector_is_used(name: str, selector: str) -> None:
    config = selected(name, selector)
    assert config is not None
    one = build_network(config).eval()
    selector_rows = selectors(config, 4)
    with torch.no_grad():
        outputs, _ = one(torch.ones(4, 5, 1), selector_rows, one.initial_state(4, selector_rows))
    assert len({round(float(o), 6) for o in outputs[:, -1, 0]}) == 4


CAUSAL = [name for name in ZOO if not ZOO[name].model.get("bidirectional")]


def test_causal_is_declared() -> None:
    assert [name for name in ZOO if network(name)[0].causal] == CAUSAL


@torch.no_grad()
def run(name: str, inputs: torch.Tensor, state: State | None = None) -> tuple[Any, State]:
    one, config = network(name)
    selector = selectors(config, len(inputs))
    state = one.initial_state(len(inputs), selector) if state is None else state
    outputs, after = one(inputs, selector, state)
    return outputs.numpy(), after


@pytest.mark.parametrize("name", CAUSAL)
@given(sizes=st.lists(st.integers(1, 150), min_size=1, max_size=5))
@settings(max_examples=5)
def test_any_chunking_equals_one_pass(name: str, sizes: list[int]) -> None:
    inputs = torch.from_numpy(np.random.default_rng(1).normal(size=(4, sum(sizes), 1))).float()
    parts, state = [], None
    for chunk in inputs.split(sizes, dim=1):
        outputs, state = run(name, chunk, state)
        parts.append(outputs)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), run(name, inputs)[0], atol=2e-6)


@pytest.mark.parametrize("name", ZOO)
def test_only_models_that_are_not_causal_depend_on_later_samples(name: str) -> None:
    inputs = torch.randn(4, 30, 1, generator=torch.Generator().manual_seed(2))
    other = inputs.clone()
    other[:, 15:] += 1
    change = np.abs(run(name, inputs)[0] - run(name, other)[0]).max(axis=(0, 2))
    assert change[15:].min() > 0
    assert (change[:15].max() < 1e-6) == (name in CAUSAL)


FIELDS = {n: c for n, c in ((n, configured(n).model.receptive_field) for n in ZOO) if c is not None}


@pytest.mark.parametrize("name", FIELDS)
def test_a_bounded_model_has_the_receptive_field_it_declares(name: str) -> None:
    inputs = torch.randn(4, 60, 1, generator=torch.Generator().manual_seed(3))
    other = inputs.clone()
    other[:, 20] += 3
    change = np.abs(run(name, inputs)[0] - run(name, other)[0]).max(axis=(0, 2))
    assert change[20 + FIELDS[name] :].max() < 1e-6
    # An adaptive window starts shorter than it may become.
    assert name == "adaptive" or change[20 + FIELDS[name] - 1] > 1e-7


@pytest.mark.parametrize("name", ZOO)
def test_a_reset_stream_is_a_fresh_one(name: str) -> None:
    one, config = network(name)
    inputs = torch.randn(4, 12, 1, generator=torch.Generator().manual_seed(4))
    _, state = run(name, inputs)
    fresh = one.initial_state(4, selectors(config, 4))
    mixed = tuple(torch.cat([new[:2], old[2:]]) for new, old in zip(fresh, state, strict=True))
    outputs = run(name, inputs, mixed)[0]
    np.testing.assert_allclose(outputs[:2], run(name, inputs)[0][:2], atol=2e-6)
    np.testing.assert_allclose(outputs[2:], run(name, inputs, state)[0][2:], atol=2e-6)


# The tiny task: two tones in white noise, windows of 4 samples, 313 steps. An untrained model
# scores 0.5 or worse, the limit is 0.12; every model's margin stands in the zoo.
TINY: dict[str, Any] = {
    "data": {
        "frequencies_hz": [1.0, 3.0], "rate_hz": 40.0, "duration_s": 250.0, "snr_db": 10.0,
        "start": "random", "noise": "fresh",
    },
    "training": {"epochs": 1, "batch_size": 32, "learning_rate": 0.02, "schedule": "cosine"},
    "evaluation": {"settle_s": 0},
}  # fmt: skip
WINDOW = 4


@functools.cache
def tiny_limit(selector: str) -> float:
    config = make_config({**TINY, "model": {"window": WINDOW, "selector": selector}})
    return limit(config.data, observation_window(config), 400, stderr=0.001).mse


def first_of_each_kind() -> list[Any]:
    """Every entry of the zoo; those whose kind another has shown before are slow."""
    seen: set[str] = set()
    params = []
    for name in ZOO:
        kind = zoo_settings(name).get("kind", "lstm")
        params.append(pytest.param(name, marks=pytest.mark.slow) if kind in seen else name)
        seen.add(kind)
    return params


@pytest.mark.parametrize("name", first_of_each_kind())
def test_learns_a_tiny_task(name: str) -> None:
    model = zoo_settings(name, window=WINDOW, context=WINDOW, hidden_size=16, scale_input=True)
    config = make_config({**TINY, "model": model})
    trained = train(config)
    records = draw_records(config.data, 50, 100 + WINDOW, rng=np.random.default_rng(7))
    estimate = as_extractor(trained.network, config).extract(records.mixture)
    mse = np.mean((estimate - records.targets)[:, WINDOW - 1 :] ** 2)
    best = tiny_limit(config.model.selector)
    assert 0.95 * best < mse < ZOO[name].margin * best


def test_the_scan_is_a_plain_recursion() -> None:
    rng = np.random.default_rng(8)
    exponent = -rng.uniform(0.001, 0.2, 3) + 1j * rng.uniform(0, 3, 3)
    driven = rng.normal(size=(2, 700, 3)) + 1j * rng.normal(size=(2, 700, 3))
    start = rng.normal(size=(2, 3)) + 0j
    h = scan(*(torch.from_numpy(a) for a in (exponent, driven, start))).numpy()
    for k in range(3):
        pole = np.exp(exponent[k])
        expected, _ = lfilter([1.0], [1.0, -pole], driven[..., k], zi=pole * start[:, k : k + 1])
        np.testing.assert_allclose(h[..., k], expected, rtol=1e-9)


def lstm_parameters(features: int, hidden: int, layers: int, outputs: int = 1) -> int:
    first = 4 * hidden * (features + hidden + 2)
    more = (layers - 1) * 4 * hidden * (2 * hidden + 2)
    return first + more + outputs * (hidden + 1)


# docs/exercise.md, "What can be true: the limit": counts as PyTorch has them.
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
    # docs/exercise.md, "The five write-ups": 51K, 201K, 802K and 3.2M parameters
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
    config = configured("lstm")
    path = tmp_path / "w.safetensors"
    save_network(build_network(config), config, path)
    raw = path.read_bytes()
    path.write_bytes(BROKEN[message](raw))
    assert path.read_bytes() != raw
    with pytest.raises(UserError, match=message):
        load_network(path)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    small, large = configured("lstm"), configured("lstm", n_layers=2)
    path = tmp_path / "w.safetensors"
    save_network(build_network(small), large, path)
    with pytest.raises(UserError, match="do not fit"):
        load_network(path)
    with pytest.raises(UserError, match="no such file; is the run finished"):
        load_network(tmp_path / "none")


def test_the_backward_direction_is_reset_in_every_chunk() -> None:
    # Carried over, its state at a chunk's end would be that of the start of the chunk before.
    config = make_config({"model": {"bidirectional": True, "hidden_size": 4, "n_layers": 2}})
    network = build_network(config)
    _, state = network(torch.randn(3, 20, 1), one_hot(torch.zeros(3, dtype=torch.int64), 4),
                       network.initial_state(3, None))  # fmt: skip
    for tensor in state:
        assert not tensor[:, 1::2].any()
        assert tensor[:, ::2].all()
