"""What a run directory holds beside its settings and weights, and loading a finished run.

A run directory holds ``config.yaml``, ``metrics.json``, ``history.csv``, ``weights.safetensors``
and ``figures/*.png``. While the network trains, it holds ``checkpoint.safetensors`` too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tonesieve.config.config import Config
from tonesieve.errors import UserError
from tonesieve.extractors.source import Source, network_source
from tonesieve.inference.compiled_network import CompiledNetwork
from tonesieve.inference.run_directory import WEIGHTS, as_compiled, memory_samples, read_run
from tonesieve.learning.network_extractor import NetworkExtractor, as_extractor
from tonesieve.learning.network_files import as_network
from tonesieve.learning.runtime.threads import threads
from tonesieve.util.files import write_text

METRICS, HISTORY = "metrics.json", "history.csv"
CHECKPOINT, FIGURES, LOCK = "checkpoint.safetensors", "figures", ".lock"


@dataclass(frozen=True)
class LoadedRun:
    """A finished run, ready to use."""

    config: Config
    extractor: NetworkExtractor | CompiledNetwork


def load_run(folder: str | Path) -> LoadedRun:
    """Read the extractor of a run; raises `UserError` for a folder without complete weights."""
    tensors, config = read_run(folder)
    compiled = as_compiled(tensors, config, folder)
    if compiled is not None:
        return LoadedRun(config, compiled)
    network = as_network(tensors, config, Path(folder) / WEIGHTS)
    return LoadedRun(config, as_extractor(network, config))


@contextmanager
def source_of(folder: str | Path) -> Iterator[Source]:
    """Yield the extractor of a run for recordings, on the threads that it was trained for."""
    loaded = load_run(folder)
    config = loaded.config
    with threads(config):
        yield network_source(loaded.extractor, config.data, memory_samples(config), str(folder))


def check_synthetic(verb: str, folder: str | Path, config: Config) -> None:
    """Raise `UserError` for a run that was trained in the noise of a recording."""
    if config.data.background is not None:
        raise UserError(
            f"{verb}: is for synthetic signals, and {folder} was trained in a recording's noise; "
            f"`tonesieve evaluate {folder}` compares it with the filters in that noise"
        )


@contextmanager
def locked(folder: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock of a run directory; raises `UserError` if it is not free within ``wait_s``."""
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=wait_s)
    except Timeout:
        raise UserError(f"{folder}: another process is working on it; wait for it") from None
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()  # the file stays: were it removed, two processes could hold one each


def write_metrics(folder: Path, metrics: dict[str, Any]) -> None:
    """Write ``metrics.json``."""
    write_text(folder / METRICS, json.dumps(metrics, indent=2) + "\n")


def read_metrics(folder: Path) -> dict[str, Any]:
    """Read ``metrics.json``; raises `UserError` where it is not the metrics of a run."""
    path = folder / METRICS
    try:
        metrics = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    if not {"train", "test", "generalisation", "shifted", "training"} <= metrics.keys():
        raise UserError(f"{path}: not a run's metrics; remove it, then --resume {folder}")
    return metrics
