"""One contract for every extractor, and networks run by plain loops as the oracle."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tonesieve.config.config import Config, DataSettings, make_config
from tonesieve.extractors.bayes.posterior_mean import StartPosterior, mmse_extractor
from tonesieve.extractors.filters.registry import FILTERS, build_filter
from tonesieve.extractors.pretrained.extractor import PretrainedExtractor
from tonesieve.extractors.protocol import CausalExtractor, Extractor, is_causal
from tonesieve.learning.data.features import one_hot, tap_features
from tonesieve.learning.models import build_network
from tonesieve.learning.network_extractor import StatefulNetwork, WindowLast, as_extractor

CASES: dict[str, dict[str, dict[str, object]]] = {
    f"{window}-{selector}": {"model": {"window": window, "selector": selector}}
    for window in (1, 10)
    for selector in ("input", "readout", "initial_state", "none")
}
CASES |= {
    "strided": {"training": {"lanes": "strided", "batch_size": 7}},
    "strided-readout": {
        "model": {"selector": "readout"},
        "training": {"lanes": "strided", "batch_size": 7},
    },
    "taps": {"model": {"taps": 2}},
    "taps-window": {"model": {"taps": 2, "window": 10}},
    "mean-join": {"model": {"window": 10}, "evaluation": {"join": "mean"}},
    "one-tone": {"data": {"frequencies_hz": [3.0]}},
    "film": {"model": {"selector": "film"}},
    "attention": {"model": {"attention": "heads", "context": 6, "kind": "gru"}},
    "attention-window": {"model": {"attention": "pooled", "window": 10}},
    "transformer-window": {"model": {"kind": "transformer", "window": 10}},
    "strided-oscillators": {
        "model": {"kind": "lru"},
        "training": {"lanes": "strided", "batch_size": 7},
    },
    "tcn-window": {"model": {"kind": "tcn", "window": 20}},
    "both-ways-window": {"model": {"bidirectional": True, "window": 10}},
    "both-ways": {"model": {"bidirectional": True}},
}


def configured(name: str) -> Config:
    sections = {"model": {"hidden_size": 8, "n_layers": 2}, **CASES[name]}
    sections["model"] = {"hidden_size": 8, "n_layers": 2, **CASES[name].get("model", {})}
    return make_config(sections)


TONES, RATE = (1.0, 3.0, 5.0, 7.0), 1000.0
# Extractors that are no network: the filters and the MMSE ones.
OTHERS: dict[str, Callable[[], Extractor]] = {
    name: functools.partial(build_filter, name, TONES, RATE) for name in FILTERS
}
OTHERS |= {
    "pretrained": lambda: PretrainedExtractor(TONES, RATE),
    "known phase": lambda: StartPosterior(DataSettings()),
    "known phase in noise": lambda: StartPosterior(DataSettings(snr_db=-10.0)),
    "known phase on a fine grid": lambda: StartPosterior(
        DataSettings(frequencies_hz=(1.2345,), snr_db=-10.0)
    ),
    "unknown phase": lambda: mmse_extractor(DataSettings(regime="free")),
}
ALL = [*CASES, *OTHERS]


@functools.cache
def extractor(name: str) -> Extractor:
    if name in OTHERS:
        return OTHERS[name]()
    config = configured(name)
    return as_extractor(build_network(config), config)


def noise(n_streams: int, n_samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n_streams, n_samples))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("n_samples", [1, 3, 9, 10, 11, 101])
def test_output_is_as_long_as_the_input(name: str, n_samples: int) -> None:
    one = extractor(name)
    estimate = one.extract(noise(2, n_samples))
    assert estimate.shape == (2, n_samples, len(one.frequencies_hz))
    assert np.isfinite(estimate).all()


@pytest.mark.parametrize("name", ALL)
def test_gaps_leave_the_estimate_finite(name: str) -> None:
    mixture = noise(1, 50)
    mixture[0, 10:20] = np.nan
    assert np.isfinite(extractor(name).extract(mixture)).all()


@pytest.mark.parametrize(
    "name", [n for n in ALL if n != "random"]
)  # it draws for all streams at once
def test_streams_do_not_mix(name: str) -> None:
    mixture = noise(3, 40)
    one = extractor(name)
    alone = np.concatenate([one.extract(row[None]) for row in mixture])
    np.testing.assert_allclose(one.extract(mixture), alone, atol=1e-6)


NOT_CAUSAL = ["taps", "taps-window", "mean-join", "both-ways", "zero-phase", "fft-mask", "wiener"]
CAUSAL = [name for name in ALL if name not in NOT_CAUSAL]


def test_which_extractors_are_causal() -> None:
    assert [name for name in ALL if extractor(name).causal] == CAUSAL
    assert all(isinstance(extractor(name), CausalExtractor) for name in CAUSAL)


@pytest.mark.parametrize("name", CAUSAL)
@given(sizes=st.lists(st.integers(0, 25), min_size=1, max_size=8))
@settings(max_examples=10)
def test_any_chunking_equals_one_pass(name: str, sizes: list[int]) -> None:
    one = extractor(name)
    assert is_causal(one)
    mixture = noise(2, sum(sizes))
    state = one.initial_state(2)
    parts, start = [], 0
    for size in sizes:
        estimate, state = one.step(mixture[:, start : start + size], state)
        assert estimate.shape[1] == size
        parts.append(estimate)
        start += size
    np.testing.assert_allclose(np.concatenate(parts, axis=1), one.extract(mixture), atol=1e-6)


@pytest.mark.parametrize("name", CAUSAL)
def test_causal_means_the_future_changes_nothing(name: str) -> None:
    one, mixture = extractor(name), noise(1, 60)
    other = mixture.copy()
    other[0, 30:] = 5.0
    before = [one.extract(m)[:, :30] for m in (mixture, other)]
    np.testing.assert_allclose(*before, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in NOT_CAUSAL if n != "mean-join"])
def test_the_others_use_the_future(name: str) -> None:
    one, mixture = extractor(name), noise(1, 60)
    other = mixture.copy()
    other[0, 30:] = 5.0
    assert np.abs(one.extract(mixture)[:, :30] - one.extract(other)[:, :30]).max() > 1e-3


def test_the_mean_waits_for_whole_windows() -> None:
    # Which windows hold a sample depends on where the record ends.
    one, mixture = extractor("mean-join"), noise(1, 60)
    whole, cut = one.extract(mixture), one.extract(mixture[:, :40])
    np.testing.assert_allclose(whole[:, :31], cut[:, :31], atol=1e-6)
    assert np.abs(whole[:, 31:40] - cut[:, 31:40]).max() > 1e-4


def outputs_of(config: Config, mixture: np.ndarray, component: int) -> np.ndarray:
    """The network's outputs over a segment from its initial state, without streaming."""
    network = build_network(config).eval()
    features = torch.from_numpy(np.array(tap_features(mixture[None], config.model.taps)))
    condition = one_hot(torch.tensor([component]), config.data.n_components)
    with torch.no_grad():
        return network(features, condition, network.initial_state(1, condition))[0][0, :, 0].numpy()


def test_strided_lanes_are_as_many_networks_in_turn() -> None:
    config = configured("strided")
    mixture = noise(1, 51)
    estimate = extractor("strided").extract(mixture)
    for k in range(4):
        for lane in range(7):
            expected = outputs_of(config, mixture[0, lane::7], k)
            np.testing.assert_allclose(estimate[0, lane::7, k], expected, atol=1e-6)


def test_last_of_window_by_a_loop() -> None:
    config = configured("10-input")
    mixture = noise(1, 35)
    estimate = extractor("10-input").extract(mixture)
    for n in range(35):
        window = mixture[0, max(0, n - 9) : n + 1]
        for k in range(4):
            last = outputs_of(config, window, k)[-1]
            assert estimate[0, n, k] == pytest.approx(last, abs=1e-6)


def test_mean_of_windows_by_a_loop() -> None:
    config = configured("mean-join")
    mixture = noise(1, 35)
    estimate = extractor("mean-join").extract(mixture)
    for k in range(4):
        held: list[list[float]] = [[] for _ in range(35)]
        for start in range(26):
            for j, value in enumerate(outputs_of(config, mixture[0, start : start + 10], k)):
                held[start + j].append(float(value))
        np.testing.assert_allclose(estimate[0, :, k], [np.mean(v) for v in held], atol=1e-6)


def test_taps_see_two_samples_each_way() -> None:
    config = configured("taps")
    mixture = noise(1, 30)
    estimate = extractor("taps").extract(mixture)
    for k in range(4):
        np.testing.assert_allclose(estimate[0, :, k], outputs_of(config, mixture[0], k), atol=1e-6)


@pytest.mark.parametrize("window", [13, 20])
def test_a_bounded_model_is_the_same_in_one_pass_and_by_windows(window: int) -> None:
    # Two layers of kernel 3 see 13 samples.
    model = {"kind": "tcn", "window": window, "hidden_size": 8, "n_layers": 2}
    config = make_config({"model": model})
    network = build_network(config).eval()
    one = as_extractor(network, config)
    assert isinstance(one, StatefulNetwork)
    mixture = noise(2, 50)
    slow = WindowLast(network, config).extract(mixture)
    np.testing.assert_allclose(one.extract(mixture), slow, atol=1e-6)


def test_a_window_shorter_than_the_receptive_field_stays_a_window() -> None:
    config = make_config({"model": {"kind": "tcn", "window": 12, "n_layers": 2}})
    assert isinstance(as_extractor(build_network(config), config), WindowLast)


@pytest.mark.parametrize("name", ["1-input", "1-readout", "strided", "10-input"])
def test_a_swapped_selector_continues_from_another_tones_state(name: str) -> None:
    config, one, mixture = configured(name), extractor(name), noise(1, 60)
    assert is_causal(one)
    state = one.step(mixture[:, :28], one.initial_state(1))[1]
    after = one.step(mixture[:, 28:], one.swap_selector(state))[0]
    network = build_network(config).eval()
    for k in range(4):
        before, after_swap = (one_hot(torch.tensor([c]), 4) for c in ((k - 1) % 4, k))
        for n in range(28, 60):
            if config.stateful:
                lane = slice(n % config.stride, n + 1, config.stride)
                features = torch.from_numpy(np.array(tap_features(mixture[:, lane], 0)))
                first = len(range(n % config.stride, 28, config.stride))
                with torch.no_grad():
                    start = network.initial_state(1, before)
                    carried = network(features[:, :first], before, start)[1] if first else start
                    expected = network(features[:, first:], after_swap, carried)[0][0, -1]
                column = k if config.model.selector == "readout" else 0
                assert after[0, n - 28, k] == pytest.approx(float(expected[column]), abs=1e-6)
            else:
                window = mixture[0, max(0, n - 9) : n + 1]
                assert after[0, n - 28, k] == pytest.approx(
                    outputs_of(config, window, k)[-1], abs=1e-6
                )
