"""A finished run as an ONNX file, for use without tonesieve; works without PyTorch."""

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

# The file is compared with the run on records with a gap, in chunks of these lengths in turn.
# Chosen, not tuned.
SEED, N_RECORDS, N_SAMPLES, CHUNKS = 0, 2, 1000, (1, 30, 7, 100, 2)


def export(run: str | Path, *, onnx: str | Path, force: bool = False) -> dict[str, Any]:
    """Write a finished run as one ONNX graph.

    The state of the network is passed in and out as named inputs and outputs.

    Parameters
    ----------
    run : str or Path
        Run directory.
    onnx : str or Path
        File to write.
    force : bool
        Whether to overwrite ``onnx``.

    Returns
    -------
    dict
        ``file``, ``bytes``, ``inputs`` and ``outputs`` (names and shapes), ``usage``, and
        ``difference``, the largest absolute difference from the run's own extractor on a test
        mixture. It is None where that extractor or ONNX Runtime is not installed.

    Raises
    ------
    UserError
        For a folder that is not a finished run, for a kind of network that has no ONNX graph, and
        for a file that exists or cannot be written.

    Examples
    --------
    >>> import tonesieve
    >>> tonesieve.export("runs/first", onnx="first.onnx")["file"]  # doctest: +SKIP
    'first.onnx'
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
        **_description(model, config),
        "difference": difference,
    }


def _description(model: ModelProto, config: Config) -> dict[str, Any]:
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
    """The largest difference of the graph from the run's extractor, on a test mixture in chunks."""
    if find_spec("onnxruntime") is None:
        return None
    n_samples = config.model.window + N_SAMPLES // 5 if by_windows(config) else N_SAMPLES
    rng = np.random.default_rng(SEED)
    mixture = draw_records(config.data, N_RECORDS, n_samples, rng=rng).mixture.astype(np.float32)
    mixture[:, 40:45] = np.nan
    try:
        with _extractor_of(run) as extractor:
            expected = extractor.extract(mixture.astype(np.float64))
    except ModuleNotFoundError:  # windows need PyTorch
        return None
    padding = -n_samples % config.stride
    lanes = _to_lanes(np.pad(mixture, ((0, 0), (0, padding))), config.stride)
    estimate = _from_lanes(_run(raw, lanes), config.stride)[:, :n_samples]
    return float(np.abs(estimate - expected).max())


def _extractor_of(run: str | Path) -> AbstractContextManager[Extractor]:
    """The extractor that `extract` uses for this run."""
    compiled = load_compiled(run)
    if compiled is not None:
        return nullcontext(compiled)
    return _torch_extractor(run)


@contextmanager
def _torch_extractor(run: str | Path) -> Iterator[Extractor]:
    from tonesieve.commands.run_files import source_of

    with source_of(run) as source:
        yield source.extractor


def _run(raw: bytes, samples: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T K"]:
    """The estimate of the graph, chunk by chunk."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(raw, options, ["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    state = {
        value.name: np.zeros((len(samples), *value.shape[1:]), dtype=np.float32)
        for value in session.get_inputs()
        if value.name != SAMPLES
    }
    estimates = []
    for chunk in np.split(samples, _chunk_ends(samples.shape[1]), axis=1):
        outputs = dict(zip(names, session.run(None, {SAMPLES: chunk, **state}), strict=True))
        estimates.append(outputs[ESTIMATE])
        state = {name: outputs[f"next_{name}"] for name in state}
    return np.concatenate(estimates, axis=1)


def _chunk_ends(n_samples: int) -> Sequence[int]:
    """Where all chunks but the last end."""
    ends = np.cumsum(np.resize(CHUNKS, n_samples))
    return [int(end) for end in ends if end < n_samples]


def _to_lanes(samples: Float[np.ndarray, "B T"], stride: int) -> Float[np.ndarray, "N M"]:
    """Split every stream into its lanes; with stride 1 the stream is the lane."""
    rounds = samples.reshape(len(samples), -1, stride)
    return rounds.transpose(0, 2, 1).reshape(len(samples) * stride, -1)


def _from_lanes(estimate: Float[np.ndarray, "N M K"], stride: int) -> Float[np.ndarray, "B T K"]:
    """Join the estimates of the lanes of each stream."""
    lanes = estimate.reshape(-1, stride, *estimate.shape[1:])
    return lanes.transpose(0, 2, 1, 3).reshape(len(lanes), -1, estimate.shape[2])


def _version() -> str:
    try:
        return version("tonesieve")
    except PackageNotFoundError:  # run from a source tree
        return "unknown"
