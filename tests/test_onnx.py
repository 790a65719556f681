"""ONNX graphs beside PyTorch: every network of the zoo that has one, however it is fed."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import tonesieve
from tests.zoo import ZOO
from tests.zoo import settings as zoo_settings
from tonesieve.commands import export
from tonesieve.config.config import Config, from_yaml, make_config, to_yaml
from tonesieve.errors import UserError
from tonesieve.inference.onnx.network import by_windows, network_graph, unsupported_reason
from tonesieve.inference.weights import take_tensor
from tonesieve.learning.loop.checkpoints import to_arrays
from tonesieve.learning.models import build_network
from tonesieve.learning.network_extractor import WindowLast, as_extractor
from tonesieve.learning.network_files import save_network
from tonesieve.signals.synthesis import draw_records

SELECTORS = ("input", "readout", "initial_state", "film", "none")
WINDOW, LONG, SHORT = 8, 1000, 90
REPOSITORY = Path(__file__).parent.parent


def configured(name: str, **sections: Any) -> Config | None:
    """An entry with other settings; None where these do not go together."""
    model = {"tasks": [], "scale_input": True, **sections.pop("model", {})}
    try:
        return make_config({"model": zoo_settings(name, **model), **sections})
    except UserError:
        return None


def randomised(config: Config) -> Any:
    """A network none of whose weights is left where it begins, at 0 or 1."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = build_network(config).eval()
        for parameter in network.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return network


def session_of(network: Any, config: Config) -> onnxruntime.InferenceSession:
    return opened(network_graph(to_arrays(network.state_dict()), config, "1.2.3"))


def opened(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


@functools.cache
def both(name: str, selector: str, window: int) -> tuple[onnxruntime.InferenceSession, Any]:
    config = configured(name, model={"selector": selector, "window": window})
    assert config is not None
    network = randomised(config)
    return session_of(network, config), as_extractor(network, config)


# Entries that differ in their selector alone are one here.
MODELS: dict[Config, tuple[str, str]] = {}
for _name in ZOO:
    for _selector in SELECTORS:
        _config = configured(_name, model={"selector": _selector})
        if _config is not None and unsupported_reason(_config) is None:
            MODELS.setdefault(_config, (_name, _selector))
CASES = list(MODELS.values())


def first_of_each_kind() -> list[Any]:
    """All cases; those whose kind and selector another has shown before are slow."""
    seen, found = set(), []
    for name, selector in CASES:
        what = (zoo_settings(name).get("kind", "lstm"), selector == "initial_state")
        slow = [pytest.mark.slow] if what in seen else []
        found.append(pytest.param(name, selector, marks=slow))
        seen.add(what)
    return found


def zeros(session: onnxruntime.InferenceSession, n_streams: int) -> dict[str, np.ndarray]:
    return {
        i.name: np.zeros((n_streams, *i.shape[1:]), np.float32) for i in session.get_inputs()[1:]
    }


def streamed(
    session: onnxruntime.InferenceSession,
    samples: np.ndarray,
    ends: Any = (),
    state: Mapping[str, np.ndarray] | None = None,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Estimates of chunks in turn, and the state after the last."""
    state, answers = dict(state or zeros(session, len(samples))), []
    for chunk in np.split(samples.astype(np.float32), ends, axis=1):
        estimate, *after = session.run(None, {"samples": chunk, **state})
        state = dict(zip(state, after, strict=True))
        answers.append(estimate)
    return np.concatenate(answers, axis=1), state


@functools.cache
def mixture() -> np.ndarray:
    data = make_config({"data": {"start": "random"}}).data
    records = draw_records(data, 3, LONG, rng=np.random.default_rng(3)).mixture
    records[1, 20:25] = np.nan
    return records


def test_every_recurrent_and_convolutional_kind_is_exported() -> None:
    kinds = {zoo_settings(name).get("kind", "lstm") for name, _ in CASES}
    assert kinds == {"lstm", "gru", "rnn", "lru", "observer", "cnn-lstm", "feed-forward",
                     "adaptive", "tcn"}  # fmt: skip
    options = {"residual", "layer norm", "recurrent dropout", "squeeze and excitation"}
    assert options <= {name for name, _ in CASES}


@pytest.mark.parametrize(("name", "selector"), CASES)
def test_estimates_what_torch_estimates_in_any_chunks(name: str, selector: str) -> None:
    session, torches = both(name, selector, 1)
    rng = np.random.default_rng(len(name))
    expected = torches.extract(mixture())
    for streams in (slice(0, 3), slice(1, 2)):
        ends = np.sort(rng.choice(np.arange(1, LONG), size=12, replace=False))
        found, _ = streamed(session, mixture()[streams], ends)
        np.testing.assert_allclose(found, expected[streams], rtol=0, atol=1e-5)
    steps, _ = streamed(session, mixture()[:1, :30], range(1, 30))
    np.testing.assert_allclose(steps, expected[:1, :30], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "selector"), first_of_each_kind())
def test_windows_stream_like_any_other(name: str, selector: str) -> None:
    session, torches = both(name, selector, WINDOW)
    rng = np.random.default_rng(len(name))
    samples = mixture()[:, :SHORT]
    ends = np.sort(rng.choice(np.arange(1, SHORT), size=6, replace=False))
    found, _ = streamed(session, samples, ends)
    np.testing.assert_allclose(found, torches.extract(samples), rtol=0, atol=1e-5)
    assert by_windows(torches.config) == isinstance(torches, WindowLast)
    assert ("state_samples" in zeros(session, 1)) == isinstance(torches, WindowLast)


@pytest.mark.parametrize("window", [1, WINDOW])
@pytest.mark.parametrize(("name", "selector"), first_of_each_kind())
def test_a_stream_begins_anew_with_zeros(name: str, selector: str, window: int) -> None:
    session, _ = both(name, selector, window)
    samples = mixture()[:, :40]
    fresh, state = streamed(session, samples)
    for array in state.values():
        array[0] = 0
    mixed, _ = streamed(session, samples, state=state)
    np.testing.assert_allclose(mixed[0], fresh[0], rtol=0, atol=1e-6)
    assert np.abs(mixed[1:] - fresh[1:]).max() > 1e-4  # the others went on


@pytest.mark.parametrize("gap", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("window", [1, WINDOW])
def test_gaps_are_the_mean(gap: float, window: int) -> None:
    session, _ = both("lstm", "readout", window)
    broken, filled = mixture()[:1, :40].copy(), mixture()[:1, :40].copy()
    broken[:, 5:9], filled[:, 5:9] = gap, 0
    np.testing.assert_array_equal(streamed(session, broken)[0], streamed(session, filled)[0])


@pytest.mark.parametrize("selector", ["input", "readout"])
def test_strided_lanes_are_fed_as_a_batch(selector: str) -> None:
    training = {"batch_size": 3, "lanes": "strided"}
    config = configured("lstm", model={"selector": selector}, training=training)
    assert config is not None
    network = randomised(config)
    session, samples = session_of(network, config), np.nan_to_num(mixture()[:1, :300])
    lanes, _ = streamed(session, samples.reshape(100, 3).T, [17])  # lane k: k, k + 3, ...
    together = lanes.transpose(1, 0, 2).reshape(1, 300, -1)
    expected = as_extractor(network, config).extract(samples)
    np.testing.assert_allclose(together, expected, rtol=0, atol=1e-5)
    about = session.get_modelmeta()
    assert about.custom_metadata_map["stride"] == "3"
    assert "one lane of 3" in about.description


@pytest.mark.parametrize("span", [-9.0, -3.7, 2.2, 9.0])
def test_a_window_of_any_learned_length(span: float) -> None:
    config = configured("adaptive", model={"context": 20})
    assert config is not None
    network = randomised(config)
    network.parts["window"].span.data.fill_(span)
    found, _ = streamed(session_of(network, config), mixture()[:, :100], [31])
    expected = as_extractor(network, config).extract(mixture()[:, :100])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


REFUSED = {
    "attention": ["attention, weighted", "attention, pooled", "attention, memory", "transformer",
                  "attention, 4 heads", "lru, norm, attention", "every option"],
    "fitted by least squares": ["bank"],
    "begins anew at every sample": ["multi-scale"],
    "reads both ways": ["bidirectional lstm", "bidirectional gru, 2 layers"],
}  # fmt: skip


def test_the_others_say_why_not() -> None:
    for reason, names in REFUSED.items():
        for name in names:
            config = configured(name)
            assert config is not None
            assert reason in str(unsupported_reason(config)), name
    refused = {name for names in REFUSED.values() for name in names}
    assert refused == {name for name in ZOO if unsupported_reason(configured(name) or Config())}
    taps = make_config({"model": {"taps": 2, "window": 5}})
    mean = make_config({"model": {"window": 5}, "evaluation": {"join": "mean"}})
    assert "needs 2 samples to come" in str(unsupported_reason(taps))
    assert "mean over windows" in str(unsupported_reason(mean))


@pytest.mark.parametrize("window", [1, WINDOW])
@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_one_graph_of_standard_operators(name: str, window: int) -> None:
    config = configured(name, model={"window": window})
    assert config is not None
    model = network_graph(to_arrays(randomised(config).state_dict()), config, "1.2.3")
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert not model.functions
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    session = opened(model)
    given, found = session.get_inputs(), session.get_outputs()
    assert (given[0].name, given[0].shape) == ("samples", ["batch", "time"])
    assert (found[0].name, found[0].shape) == ("estimate", ["batch", "time", 4])
    assert [f"next_{i.name}" for i in given[1:]] == [o.name for o in found[1:]]
    assert [i.shape for i in given[1:]] == [o.shape for o in found[1:]]
    assert all(i.name.startswith("state_") and i.shape[0] == "batch" for i in given[1:])
    assert {i.type for i in given} == {"tensor(float)"}
    assert len(given) > 1


@pytest.mark.parametrize("name", ["lstm", "gru", "residual", "lru", "observer", "tcn",
                                  "adaptive", "feed-forward", "cnn-lstm"])  # fmt: skip
def test_weights_that_do_not_fit_are_refused(name: str) -> None:
    config = configured(name, model={"selector": "film"})
    assert config is not None
    whole = to_arrays(randomised(config).state_dict())
    for key in whole:
        missing = {k: v for k, v in whole.items() if k != key}
        longer = {**whole, key: np.concatenate([np.atleast_1d(whole[key])] * 2)}
        for broken in (missing, longer):
            with pytest.raises(ValueError, match=re.escape(key)):
                network_graph(broken, config, "0")


def test_the_first_files_have_vectors_of_one_for_scalars() -> None:
    assert take_tensor({"a": np.ones(1, np.float32)}, "a").shape == ()
    with pytest.raises(ValueError, match="of shape"):
        take_tensor({"a": np.ones(2, np.float32)}, "a")


def saved(folder: Path, **sections: Any) -> Path:
    """A finished run, as far as export looks."""
    config = make_config(sections)
    folder.mkdir()
    (folder / "config.yaml").write_text(to_yaml(config))
    save_network(randomised(config), config, folder / "weights.safetensors")
    return folder


SMALL = {"hidden_size": 8, "selector": "readout"}


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    return saved(tmp_path / "run", model=SMALL)


def test_the_file_describes_itself(finished: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.onnx"
    result = tonesieve.export(finished, onnx=file)
    assert result["bytes"] == file.stat().st_size
    assert result["difference"] < 1e-5
    assert result["inputs"]["state_lstm_1_h"] == ["batch", 1, 8]
    assert list(result["outputs"]) == ["estimate", "next_state_lstm_1_h", "next_state_lstm_1_c"]
    about = onnxruntime.InferenceSession(file).get_modelmeta()
    assert (about.producer_name, about.graph_name) == ("tonesieve", "tonesieve")
    metadata = about.custom_metadata_map
    config = from_yaml((finished / "config.yaml").read_text(), where="config.yaml")
    assert from_yaml(metadata.pop("config"), where="metadata") == config
    assert json.loads(metadata.pop("frequencies_hz")) == [1, 3, 5, 7]
    assert metadata.pop("tonesieve")
    assert metadata == {"kind": "lstm", "rate_hz": "1000.0", "window": "1", "stride": "1"}
    assert "zeros" in about.description


@pytest.mark.parametrize(
    "sections",
    [
        {"model": {**SMALL, "window": 5}},
        {"model": {"hidden_size": 8}, "training": {"lanes": "strided", "batch_size": 7}},
        {"model": {**SMALL, "kind": "tcn"}, "data": {"frequencies_hz": [50.0]}},
    ],
)
def test_the_difference_is_to_the_runs_own_extractor(
    sections: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(tmp_path / "run", **sections)
    assert tonesieve.export(folder, onnx=tmp_path / "a.onnx")["difference"] < 1e-5
    tensors, config = export.read_run(folder)
    tensors["readout.bias"] = tensors["readout.bias"] + np.float32(0.25)
    monkeypatch.setattr(export, "read_run", lambda run: (tensors, config))
    found = tonesieve.export(folder, onnx=tmp_path / "b.onnx")["difference"]
    assert found == pytest.approx(0.25, abs=1e-4)


def test_without_onnx_runtime_nothing_is_tried(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    result = tonesieve.export(finished, onnx=tmp_path / "a.onnx")
    assert result["difference"] is None
    assert (tmp_path / "a.onnx").exists()


def test_an_existing_file_stays(finished: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.onnx"
    file.write_text("mine")
    with pytest.raises(UserError, match="exists; choose another --onnx, or --force"):
        tonesieve.export(finished, onnx=file)
    assert file.read_text() == "mine"
    tonesieve.export(finished, onnx=file, force=True)
    onnx.load(file)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.onnx", "run"]


def test_what_cannot_be_exported_leaves_nothing(tmp_path: Path) -> None:
    heads = saved(tmp_path / "heads", model={**SMALL, "attention": "heads"})
    with pytest.raises(UserError, match="heads: has no ONNX graph: it looks back by attention"):
        tonesieve.export(heads, onnx=tmp_path / "a.onnx")
    torn = saved(tmp_path / "torn", model=SMALL)
    larger = make_config({"model": {**SMALL, "hidden_size": 9}})
    save_network(build_network(make_config({"model": SMALL})), larger, torn / "weights.safetensors")
    (torn / "config.yaml").write_text(to_yaml(larger))
    with pytest.raises(UserError, match=r"cannot be exported: parts.lstm.cell.weight_ih_l0 is of"):
        tonesieve.export(torn, onnx=tmp_path / "a.onnx")
    assert not (tmp_path / "a.onnx").exists()


def alone(code: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Python code in a process of its own."""
    given = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(given, capture_output=True, text=True, check=False)


def test_needs_onnx_and_no_torch(finished: Path, tmp_path: Path) -> None:
    words = ("export", finished, "--onnx", tmp_path / "a.onnx")
    code = "import sys; from tonesieve.cli.app import main; sys.modules['onnx'] = None; main()"
    done = alone(code, *words)
    assert done.returncode == 2
    wanted = "tonesieve: onnx is not installed; this needs: pip install 'tonesieve[onnx]'\n"
    assert done.stderr == wanted
    code = (
        "import sys, tonesieve; done = tonesieve.export(sys.argv[2], onnx=sys.argv[4]); "
        "sys.exit('torch' in sys.modules or done['difference'] is None)"
    )
    assert alone(code, *words).returncode == 0


def test_windows_are_tried_where_there_is_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(run: Path) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(export, "_torch_extractor", missing)
    folder = saved(tmp_path / "run", model={**SMALL, "window": 5})
    assert tonesieve.export(folder, onnx=tmp_path / "a.onnx")["difference"] is None


def test_the_readmes_example_needs_onnx_runtime_alone(finished: Path, tmp_path: Path) -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (example,) = [block for block in blocks if "import onnxruntime" in block]
    assert len(example.splitlines()) <= 10
    assert "tonesieve" not in example
    tonesieve.export(finished, onnx=tmp_path / "first.onnx")
    names: dict[str, Any] = {}
    with chdir(tmp_path):
        exec(compile(example, "README.md", "exec"), names)
    assert names["estimate"].shape[2] == 4
