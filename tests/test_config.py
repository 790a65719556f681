"""Settings: lossless, and refusing what is wrong with the key and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonesieve.config.config import Config, from_yaml, make_config, to_yaml
from tonesieve.config.presets import load_config, preset_yaml, presets
from tonesieve.config.schema import ModelSettings
from tonesieve.config.warnings import warnings_for
from tonesieve.errors import UserError

# docs/exercise.md, "Commands and metrics": settings that must exist under these names.
NAMED = {
    "data": [
        "frequencies_hz",
        "phases_rad",
        "rate_hz",
        "duration_s",
        "phase_scale",
        "amplitude_range",
        "train_seed",
        "test_seed",
        "regime",
        "start",
        "noise",
        "snr_db",
        "frequency_drift",
    ],
    "model": ["kind", "hidden_size", "n_layers", "dropout", "selector", "window"],
    "training": [
        "epochs",
        "batch_size",
        "learning_rate",
        "optimizer",
        "weight_decay",
        "clip_norm",
        "patience",
        "seed",
        "device",
        "max_seconds",
    ],
    "evaluation": ["gap_threshold"],
    "visualisation": ["component", "samples", "dpi"],
}


@pytest.mark.parametrize("section", NAMED)
def test_named_settings_exist(section: str) -> None:
    assert set(NAMED[section]) <= set(Config.model_fields[section].annotation.model_fields)


@given(
    st.lists(st.floats(0.001, 499), min_size=1, max_size=6, unique=True),
    st.floats(0, 2),
    st.integers(0, 2**63 - 1),
    st.none() | st.floats(-60, 60),
    st.sampled_from(["input", "readout", "none"]),
)
def test_yaml_is_lossless(
    frequencies: list[float], scale: float, seed: int, snr: float | None, selector: str
) -> None:
    data = {"frequencies_hz": frequencies, "phase_scale": scale, "train_seed": seed, "snr_db": snr}
    config = make_config({"data": data, "model": {"selector": selector}})
    assert from_yaml(to_yaml(config)) == config


def test_defaults_are_the_exercise() -> None:
    data = Config().data
    assert data.frequencies_hz == (1, 3, 5, 7)
    assert (data.rate_hz, data.n_samples, data.phase_scale) == (1000, 10_000, 0.01)
    assert (data.amplitude_range, data.train_seed, data.test_seed) == ((0.8, 1.2), 1, 2)


BAD = {
    "data.rate: no such key; did you mean rate_hz": {"data": {"rate": 5}},
    "trainin: no such key; did you mean training": {"trainin": {}},
    "training.learning_rate: .*greater than 0, not -1": {"training": {"learning_rate": -1}},
    "training.epochs: .*greater than or equal to 1, not 0": {"training": {"epochs": 0}},
    "model.dropout: .*less than 1, not 1": {"model": {"dropout": 1}},
    "model.kind: .*'lstm'": {"model": {"kind": "lstn"}},
    "5 Hz is at or above half the rate": {"data": {"rate_hz": 10}},
    "model.window: 20000 is longer than the record": {"model": {"window": 20000}},
    "phases_rad: 1 phases for 4": {"data": {"phases_rad": [0.5]}},
    "the same frequency twice": {"data": {"frequencies_hz": [3, 3]}},
    "frequencies_hz: .*at least 1": {"data": {"frequencies_hz": []}},
    "amplitude_range: must be": {"data": {"amplitude_range": [2, 1]}},
    "data.snr_db: .*finite": {"data": {"snr_db": float("inf")}},
    "duration_s: .*2 to 1e8": {"data": {"duration_s": 1e9}},
    "visualisation.component: 4 is not among": {"visualisation": {"component": 4}},
    "a selector in the initial state is lost": {
        "model": {"selector": "initial_state"},
        "training": {"state_reset": "epoch"},
    },
    "lanes for 9000 training rows": {"training": {"batch_size": 9001}},
    "leaves none to train on": {"training": {"validation_fraction": 0.99999}},
    "record_s: shorter than 2 samples": {
        "data": {"noise": "fresh"},
        "training": {"record_s": 0.001},
    },
    "positions: last is for windows": {"training": {"positions": "last"}},
    "join: the mean over windows needs": {
        "model": {"window": 10},
        "training": {"positions": "last"},
        "evaluation": {"join": "mean"},
    },
    "epochs: must not be true": {"training": {"epochs": True}},
    "settle_s: .*1000000000000": {"evaluation": {"settle_s": 1e307}},
    "training.device: .*'cpu'": {"training": {"device": "gpu"}},
    "must be a mapping": [1, 2],
    "data: .*not 3": {"data": 3},
    "name: .*pattern": {"name": "../../etc"},
    "model.attention: is for lstm.*, not for tcn": {"model": {"kind": "tcn", "attention": "heads"}},
    "model.bidirectional: is for": {"model": {"kind": "lru", "bidirectional": True}},
    "model.selector: transformer has no state": {
        "model": {"kind": "transformer", "selector": "initial_state"}
    },
    "model.tasks: there is no one component": {
        "model": {"tasks": ["phase"], "selector": "readout"}
    },
    "model.tasks: the same one twice": {"model": {"tasks": ["phase", "phase"]}},
    "model.n_heads: 4 heads cannot share a hidden_size of 30": {
        "model": {"attention": "heads", "hidden_size": 30}
    },
    "model.n_heads: 3 heads .* of 128": {
        "model": {"kind": "transformer", "hidden_size": "auto", "n_heads": 3}
    },
}


@pytest.mark.parametrize("message", BAD)
def test_bad_settings_are_refused_by_their_key(message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make_config(BAD[message], where="my.yaml")
    assert str(caught.value).startswith("my.yaml: ")
    assert "\n" not in str(caught.value)


WARNED = {
    "data.phase_scale": {"data": {"phase_scale": 1.0}},
    "data.test_seed": {"data": {"test_seed": 1}},
    "training.shuffle": {"training": {"shuffle": True}},
    "training.batch_size": {"training": {"batch_size": 1}},
    "model.dropout": {"model": {"dropout": 0.2}},
    "training.record_s: does nothing here": {"training": {"record_s": 1}},
    "training.order: does nothing here": {
        "data": {"noise": "fresh"},
        "training": {"order": "interleaved"},
    },
    "training.state_reset: does nothing here": {
        "data": {"noise": "fresh"},
        "training": {"state_reset": "epoch"},
    },
    "model.selector": {"model": {"selector": "none", "taps": 2}},
    "model.context 20: does nothing": {"model": {"context": 20}},
    "model.context 20: windows have only 10": {
        "model": {"context": 20, "window": 10, "attention": "pooled"}
    },
    "model.bidirectional": {"model": {"bidirectional": True}},
}


@pytest.mark.parametrize("key", WARNED)
def test_warnings_start_with_the_key(key: str) -> None:
    found = warnings_for(make_config(WARNED[key]))
    assert len(found) == 1
    assert found[0].startswith(key)


def test_no_warning_without_cause() -> None:
    assert warnings_for(Config()) == []
    assert warnings_for(make_config({"model": {"window": 10}})) == []


def test_floor_without_selector_is_that_of_the_exercise() -> None:
    # The best single estimate of four orthogonal targets is their mean: 0.5 (1 - 1/4).
    assert "0.375" in warnings_for(make_config({"model": {"selector": "none"}}))[0]


def test_hidden_size_by_the_number_of_components() -> None:
    # docs/exercise.md, "Models": 128 up to 4, 256 up to 8, else 512
    auto = ModelSettings(hidden_size="auto")
    assert [auto.size(n) for n in (1, 4, 5, 8, 9, 20)] == [128, 128, 256, 256, 512, 512]
    assert ModelSettings(hidden_size=7).size(20) == 7


@pytest.mark.parametrize("name", presets())
def test_presets_load_under_their_own_name(name: str) -> None:
    assert load_config(name).name == name
    assert preset_yaml(name).startswith("#")


# docs/exercise.md, "The five write-ups": window, hidden, layers, dropout, batch, rate, epochs,
# phase_scale.
SETTINGS = {
    "window10": (10, 64, 2, 0.2, 32, 1e-3, 50, 0.01),
    "deep50": (50, 128, 2, 0.2, 64, 1e-3, 50, 0.01),
    "config-l1": (1, 128, 1, 0.0, 32, 1e-4, 100, 0.01),
    "guide": (1, 64, 1, 0.0, 32, 1e-3, 50, 1.0),
    "journey": (50, 256, 2, 0.2, 16, 0.01, 30, 0.01),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_presets_have_the_settings_of_their_sources(name: str) -> None:
    c = load_config(name)
    assert SETTINGS[name] == (
        c.model.window,
        c.model.hidden_size,
        c.model.n_layers,
        c.model.dropout,
        c.training.batch_size,
        c.training.learning_rate,
        c.training.epochs,
        c.data.phase_scale,
    )
    assert (c.data.noise, c.data.start, c.data.regime) == ("frozen", "fixed", "locked")


def test_presets_particulars() -> None:
    l1, guide, journey = (load_config(n) for n in ("config-l1", "guide", "journey"))
    assert (l1.training.lanes, l1.training.state_reset, l1.training.clip_norm) == (
        "strided",
        "epoch",
        1.0,
    )
    assert (guide.training.lanes, guide.training.state_reset) == ("strided", "component")
    assert l1.training.chunk_samples == guide.training.chunk_samples == 1
    assert (journey.model.taps, journey.training.patience) == (2, 10)
    assert (journey.training.schedule, journey.training.validation_fraction) == ("plateau", 0.2)
    assert load_config("deep50").training.weight_decay > 0
    assert load_config("window10").evaluation.join == "last"


def test_overrides() -> None:
    config = load_config("deep50", ["training.epochs=3", "data.snr_db=", "model.selector=readout"])
    assert (config.training.epochs, config.data.snr_db) == (3, None)
    assert config.model.selector == "readout"


BAD_OVERRIDES = {
    "did you mean training.epochs": "epochs=3",
    "no such key; did you mean epochs": "training.epoch=3",
    "not YAML": "training.epochs=[3",
    "not an override": "=3",
    "data is a section; write data.key=value": "data=3",
    "is not a section": "name.first=3",
    "training.epochs: .*not 'many'": "training.epochs=many",
}


@pytest.mark.parametrize("message", BAD_OVERRIDES)
def test_bad_overrides(message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config("sieve", [BAD_OVERRIDES[message]])


def test_presets_come_before_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "guide").mkdir()
    assert load_config("guide").name == "guide"


ODD_YAML = {
    "the key 'epochs' is given twice": "training:\n  epochs: 3\n  epochs: 4\n",
    "not YAML: month must be in": "name: 2020-13-45\n",
    "not YAML: maximum recursion": "[" * 5000,
    "line 1: not YAML": "a: b: c\n",
}


@pytest.mark.parametrize("message", ODD_YAML)
def test_odd_yaml(message: str) -> None:
    with pytest.raises(UserError, match=f"my.yaml.*{message}"):
        from_yaml(ODD_YAML[message], where="my.yaml")


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "data:\n  rate_hz: 1000\n"])
def test_what_is_left_out_is_the_default(text: str) -> None:
    assert from_yaml(text) == Config()


def test_unknown_sources() -> None:
    with pytest.raises(UserError, match="no such preset; did you mean sieve"):
        load_config("seive")
    with pytest.raises(UserError, match=r"missing.yaml: no such file"):
        load_config("missing.yaml")
