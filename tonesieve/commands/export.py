"""A finished run as an ONNX file, for use without tonesieve; needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from onnx import ModelProto, ValueInfoProto

from tonesieve.config.config import Config
from tonesieve.errors import UserError
from tonesieve.extractors.protocol import Extractor
from tonesieve.inference.onnx.network import (
    ESTIMATE,
    SAMPLES,
    by_windows,
    network_graph,
    unsupported_reason,
)
from tonesieve.inference.run_directory import WEIGHTS, load_compiled, read_run
from tonesieve.signals.synthesis import draw_records
from tonesieve.util.files import refuse_existing, replacing

# What the file is tried on: records with a gap, in chunks of these lengths in turn.
SEED, N_RECORDS, N_SAMPLES, CHUNKS = 0, 2, 1000, (1, 30, 7, 100, 2)


def export(run: str | Path, *, onnx: str | Path, force: bool = False) -> dict[str, Any]:
    """Write a finished run as one ONNX graph, its state as named inputs and outputs.

    Answers what was written, and the largest difference to the run's own extractor over a test
    mixture; None where that, or ONNX Runtime, is not installed.

    Raises `UserError` for a run that cannot be exported and why, and as `read_run` and
    `files.replacing` do.
    """
    path = Path(onnx)
    refuse_existing(path, force=force, option="--onnx")
    tensors, config = read_run(run)
    reason = unsupported_reason(config)
    if reason is not None:
        raise UserError(f"{run}: has no ONNX graph: {reason}")
    try:
        model = network_graph(tensors, config, _version())
    except ValueError as error:
        raise UserError(f"{Path(run) / WEIGHTS}: its weights cannot be exported: {error}") from None
    raw = model.SerializeToString()
    difference = _difference(raw, config, run)
    with replacing(path, force=force) as file:
        file.write(raw)
    return {
        "file": str(path),
        "bytes": len(raw),
        **_figures(model, config),
        "difference": difference,
    }


def _figures(model: ModelProto, config: Config) -> dict[str, Any]:
    return {
        "kind": config.model.kind,
        "frequencies_hz": list(config.data.frequencies_hz),
        "rate_hz": config.data.rate_hz,
        "window": config.model.window,
        "stride": config.stride,
        "inputs": {value.name: _shape(value) for value in model.graph.input},
        "outputs": {value.name: _shape(value) for value in model.graph.output},
        "usage": model.doc_string,
    }


def _shape(value: ValueInfoProto) -> list[int | str]:
    return [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]


def _difference(raw: bytes, config: Config, run: str | Path) -> float | None:
    """The largest between the graph and the run's own extractor, on a test mixture in chunks."""
    if find_spec("onnxruntime") is None:
        return None
    n_samples = config.model.window + N_SAMPLES // 5 if by_windows(config) else N_SAMPLES
    rng = np.random.default_rng(SEED)
    mixture = draw_records(config.data, N_RECORDS, n_samples, rng=rng).mixture.astype(np.float32)
    mixture[:, 40:45] = np.nan
    try:
        with _own(run) as extractor:
            expected = extractor.extract(mixture.astype(np.float64))
    except ModuleNotFoundError:  # windows need PyTorch
        return None
    rest = -n_samples % config.stride
    lanes = _dealt(np.pad(mixture, ((0, 0), (0, rest))), config.stride)
    answers = _gathered(_run(raw, lanes), config.stride)[:, :n_samples]
    return float(np.abs(answers - expected).max())


def _own(run: str | Path) -> AbstractContextManager[Extractor]:
    """The extractor that `extract` would take."""
    compiled = load_compiled(run)
    if compiled is not None:
        return nullcontext(compiled)
    return _by_torch(run)


@contextmanager
def _by_torch(run: str | Path) -> Iterator[Extractor]:
    from tonesieve.commands.train import source_of

    with source_of(run) as source:
        yield source.extractor


def _run(raw: bytes, samples: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T K"]:
    """The graph's answers, chunk by chunk."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(raw, options, ["CPUExecutionProvider"])
    names = [given.name for given in session.get_outputs()]
    state = {
        given.name: np.zeros((len(samples), *given.shape[1:]), dtype=np.float32)
        for given in session.get_inputs()
        if given.name != SAMPLES
    }
    answers = []
    for chunk in np.split(samples, _ends(samples.shape[1]), axis=1):
        found = dict(zip(names, session.run(None, {SAMPLES: chunk, **state}), strict=True))
        answers.append(found[ESTIMATE])
        state = {name: found[f"next_{name}"] for name in state}
    return np.concatenate(answers, axis=1)


def _ends(n_samples: int) -> Sequence[int]:
    """Where the chunks end, but for the last."""
    ends = np.cumsum(np.resize(CHUNKS, n_samples))
    return [int(end) for end in ends if end < n_samples]


def _dealt(samples: Float[np.ndarray, "B T"], stride: int) -> Float[np.ndarray, "N M"]:
    """Every stream as its lanes, side by side; with stride 1 as it is."""
    rounds = samples.reshape(len(samples), -1, stride)
    return rounds.transpose(0, 2, 1).reshape(len(samples) * stride, -1)


def _gathered(answers: Float[np.ndarray, "N M K"], stride: int) -> Float[np.ndarray, "B T K"]:
    """The lanes' answers as their streams."""
    lanes = answers.reshape(-1, stride, *answers.shape[1:])
    return lanes.transpose(0, 2, 1, 3).reshape(len(lanes), -1, answers.shape[2])


def _version() -> str:
    try:
        return version("tonesieve")
    except PackageNotFoundError:  # run from a source tree
        return "unknown"
