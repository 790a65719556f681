"""The compiled core beside PyTorch: every recurrent model of the zoo, however it is fed."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch

from tests.zoo import ZOO
from tests.zoo import settings as zoo_settings
from tonesieve.config.config import Config, make_config
from tonesieve.errors import UserError
from tonesieve.inference import compiled_network
from tonesieve.inference.compiled_network import CompiledNetwork
from tonesieve.inference.compiler import KINDS, compile_network
from tonesieve.inference.program import Program
from tonesieve.inference.run_directory import as_compiled
from tonesieve.learning.loop.checkpoints import to_arrays
from tonesieve.learning.models import build_network
from tonesieve.learning.network_extractor import StatefulNetwork
from tonesieve.signals.synthesis import draw_records

SELECTORS = ("input", "readout", "initial_state", "film", "none")


@pytest.fixture(scope="module", autouse=True)
def _ready() -> None:
    """NumPy would run the first tests on a fresh machine, and rounds differently."""
    compiled_network.compiled_core()


def configured(name: str, selector: str, **training: Any) -> Config | None:
    """An entry with a selector; None where the two do not go together."""
    model = zoo_settings(name, selector=selector, tasks=[], scale_input=True)
    try:
        return make_config({"model": model, "training": {"batch_size": 3, **training}})
    except UserError:
        return None


@functools.cache
def both(name: str, selector: str) -> tuple[Program | None, StatefulNetwork]:
    config = configured(name, selector)
    assert config is not None
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = build_network(config).eval()
        for parameter in network.parameters():  # none is left where it begins, at 0 or 1
            parameter.data += 0.1 * torch.randn_like(parameter)
    program = compile_network(to_arrays(network.state_dict()), config)
    return program, StatefulNetwork(network, config)


CASES = [
    (name, selector)
    for name in ZOO
    for selector in SELECTORS
    if configured(name, selector) and both(name, selector)[0]
]


@functools.cache
def mixture() -> np.ndarray:
    data = make_config({"data": {"start": "random"}}).data
    return draw_records(data, 7, 203, rng=np.random.default_rng(3)).mixture


def compiled(name: str, selector: str) -> CompiledNetwork:
    program, reference = both(name, selector)
    assert program is not None
    return CompiledNetwork(program, reference.config)


def test_every_plain_recurrent_model_is_compiled() -> None:
    names = {name for name, _ in CASES}
    assert {"lstm", "lstm, 3 layers, dropout", "gru", "rnn", "lru", "observer"} <= names
    assert {"cnn-lstm", "residual", "layer norm", "recurrent dropout"} <= names
    assert {ZOO[name].model.get("kind", "lstm") for name in names} == set(KINDS)


def rounding(name: str) -> float:
    """What single precision may differ by; the linear recurrence's long sums gather more of it."""
    return 1e-5 if "lru" in name else 2e-6


@pytest.mark.parametrize(("name", "selector"), CASES)
def test_estimates_what_torch_estimates(name: str, selector: str) -> None:
    np.testing.assert_allclose(
        compiled(name, selector).extract(mixture()),
        both(name, selector)[1].extract(mixture()),
        rtol=0,
        atol=rounding(name),
    )


@pytest.mark.parametrize(("name", "selector"), CASES)
def test_a_block_streams_and_steps_agree_to_the_last_bit(name: str, selector: str) -> None:
    network = compiled(name, selector)
    together = network.extract(mixture())
    for n, stream in enumerate(mixture()):
        np.testing.assert_array_equal(network.extract(stream[None])[0], together[n])
    take, stepped = network.stepper(), []
    for sample in mixture()[0]:
        take(sample)
        stepped.append(take.estimates.ravel().copy())
    n_components = together.shape[2]
    every = np.broadcast_to(np.array(stepped), (203, n_components))
    np.testing.assert_array_equal(every, together[0])


@pytest.mark.parametrize(("name", "selector"), CASES)
def test_any_chunking_equals_one_pass(name: str, selector: str) -> None:
    network = compiled(name, selector)
    state = network.initial_state(7)
    parts = []
    for part in np.split(mixture(), [0, 1, 4, 4, 77, 202], axis=1):
        before = state[0].copy()
        estimate, after = network.step(part, state)
        np.testing.assert_array_equal(state[0], before)  # what was given stays as it was
        parts.append(estimate)
        state = after
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), network.extract(mixture()))


@pytest.mark.parametrize(("name", "selector"), CASES)
def test_swaps_the_selector_as_torch_does(name: str, selector: str) -> None:
    network, reference = compiled(name, selector), both(name, selector)[1]
    first, then = mixture()[:, :50], mixture()[:, 50:]
    swapped = network.swap_selector(network.step(first, network.initial_state(7))[1])
    expected = reference.swap_selector(reference.step(first, reference.initial_state(7))[1])
    np.testing.assert_allclose(
        network.step(then, swapped)[0],
        reference.step(then, expected)[0],
        rtol=0,
        atol=rounding(name),
    )


@pytest.mark.parametrize(("name", "selector"), CASES)
def test_numpy_runs_until_it_is_compiled(
    name: str, selector: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = compiled(name, selector)
    expected = network.extract(mixture())
    monkeypatch.setattr(compiled_network, "compiled_core", lambda wait_s: None)
    np.testing.assert_allclose(
        network.extract(mixture()), expected, rtol=0, atol=rounding(name) / 2
    )


def test_the_core_takes_over_where_numpy_has_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    network, asked = compiled("gru", "input"), []
    expected = network.extract(mixture())
    core = compiled_network.compiled_core()

    def soon(wait_s: float) -> Any:
        asked.append(wait_s)
        return core if len(asked) > 3 else None

    monkeypatch.setattr(compiled_network, "compiled_core", soon)
    monkeypatch.setattr(compiled_network, "NUMPY_CHUNK", 50)
    estimate = network.extract(mixture())
    np.testing.assert_allclose(estimate, expected, rtol=0, atol=1e-6)
    assert len(asked) == 4
    # By NumPy, which rounds differently.
    assert np.abs(estimate[:, :150] - expected[:, :150]).max() > 0


@pytest.mark.parametrize("name", ["lstm", "lru", "observer", "cnn-lstm", "layer norm"])
@pytest.mark.parametrize("selector", ["readout", "film"])
def test_weights_that_do_not_fit_are_refused(name: str, selector: str) -> None:
    reference = both(name, selector)[1]
    tensors = to_arrays(reference.network.state_dict())
    assert as_compiled(tensors, reference.config) is not None
    for key in tensors:
        missing = {k: v for k, v in tensors.items() if k != key}
        tensor = tensors[key]
        twice = np.concatenate([tensor, tensor]) if tensor.ndim else np.zeros(3, np.float32)
        longer = {**tensors, key: twice}
        for broken in (missing, longer):
            with pytest.raises(UserError, match="do not fit"):
                as_compiled(broken, reference.config)


def test_a_layer_as_wide_as_its_inputs_is_left_to_torch() -> None:
    # The mixture's scale lies in the first weights; a residual would miss it.
    config = make_config(
        {"model": {"residual": True, "hidden_size": 5, "scale_input": True, "selector": "input"}}
    )
    assert compile_network(to_arrays(build_network(config).state_dict()), config) is None


@pytest.mark.parametrize("gap", [np.nan, np.inf, -np.inf, 1e300])
def test_gaps_are_the_mean(gap: float, monkeypatch: pytest.MonkeyPatch) -> None:
    network = compiled("lstm", "readout")
    broken, filled = mixture().copy(), mixture().copy()
    broken[:, 5:9], filled[:, 5:9] = gap, 0
    np.testing.assert_array_equal(network.extract(broken), network.extract(filled))
    take, other = network.stepper(), network.stepper()
    for one, two in zip(broken[0], filled[0], strict=True):
        take(one)
        other(two)
    np.testing.assert_array_equal(take.estimates, other.estimates)
    monkeypatch.setattr(compiled_network, "compiled_core", lambda wait_s: None)
    np.testing.assert_array_equal(network.extract(broken), network.extract(filled))


@pytest.mark.parametrize("selector", ["input", "readout"])
def test_strided_lanes_take_turns(selector: str) -> None:
    config = configured("lstm", selector, lanes="strided")
    assert config is not None
    assert config.stride == 3
    network = build_network(config).eval()
    program = compile_network(to_arrays(network.state_dict()), config)
    assert program is not None
    one, other = CompiledNetwork(program, config), StatefulNetwork(network, config)
    np.testing.assert_allclose(one.extract(mixture()), other.extract(mixture()), rtol=0, atol=2e-6)
    estimate, state = one.step(mixture()[:, :4], one.initial_state(7))
    later, _ = one.step(mixture()[:, 4:], state)
    np.testing.assert_array_equal(np.concatenate([estimate, later], axis=1), one.extract(mixture()))
    with pytest.raises(ValueError, match="strided"):
        one.stepper()


@pytest.mark.parametrize("name", ["attention, pooled", "bidirectional lstm", "tcn", "transformer"])
def test_what_it_has_no_instructions_for_is_left_to_torch(name: str) -> None:
    assert both(name, "readout")[0] is None
