"""One run of a sweep, on any machine: it is started or resumed, and its outcome is stored.

``outcome.json`` is written last: if it exists, the run is done and is not started again.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tonesieve.commands.run_files import CHECKPOINT, HISTORY, METRICS, load_run
from tonesieve.commands.train import resume, run
from tonesieve.config.config import Config, from_yaml
from tonesieve.evaluation.comparison import us_per_sample
from tonesieve.extractors.protocol import Extractor
from tonesieve.inference.run_directory import CONFIG, as_compiled
from tonesieve.learning.loop.checkpoints import to_arrays
from tonesieve.learning.loop.history import History
from tonesieve.learning.models import build_network
from tonesieve.learning.network_extractor import as_extractor
from tonesieve.learning.runtime.threads import threads
from tonesieve.signals.synthesis import draw_exercise
from tonesieve.sweeping.storage import RUNS, ResultStore, Upload
from tonesieve.util.files import write_text

OUTCOME = "outcome.json"
# Guard against traffic: a checkpoint is uploaded no more often than this.
UPLOAD_EVERY_S = 30.0
# Guard against a worker whose node has just died: it may hold a run's lock for a moment longer.
LOCK_TIMEOUT_S = 120.0

# Chosen, not tuned: samples that are timed; fewer for windows, which cost L times a step.
TIMED_SAMPLES, TIMED_WINDOWS = 10_000, 1000

FINISHED, PRUNED, FAILED = "finished", "pruned", "failed"
# Called after every epoch; raises `Pruned` to end a run.
OnEpoch = Callable[[History], None]


class Pruned(Exception):
    """A run is not promising, and ends early."""


@dataclass(frozen=True)
class Trial:
    """A trial of a search: storage and name of its study, its number, and the pruner."""

    storage: str
    study: str
    number: int
    pruner: str


@dataclass(frozen=True)
class Task:
    """A run, as it is sent to a worker."""

    address: str
    name: str
    config_yaml: str
    trial: Trial | None = None
    most_us_per_sample: float | None = None


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    status: str
    reason: str = ""
    us_per_sample: float | None = None
    epochs: int | None = None  # epochs trained, if pruned or failed
    worker: str = ""  # machine, process and, on a cluster, node that ran it

    @property
    def done(self) -> bool:
        """Whether the run must not be started again."""
        return self.status in (FINISHED, PRUNED)

    def to_json(self) -> str:
        """Convert to the text of ``outcome.json``."""
        return json.dumps(asdict(self)) + "\n"


def outcome_of(store: ResultStore, name: str) -> Outcome | None:
    """Read the outcome of a run; None if it has none yet."""
    return _parse(store.read(f"{RUNS}/{name}/{OUTCOME}"))


def store_outcome(store: ResultStore, name: str, outcome: Outcome) -> None:
    """Store the outcome of a run whose worker could not."""
    store.write(f"{RUNS}/{name}/{OUTCOME}", outcome.to_json())


def _parse(text: str | None) -> Outcome | None:
    try:
        return None if text is None else Outcome(**json.loads(text))
    except (ValueError, TypeError):
        return None  # damaged, or of another version: run it again


def work(task: Task, on_epoch: OnEpoch | None = None) -> Outcome:
    """Start or resume one run and store its outcome.

    Parameters
    ----------
    task : Task
        The run.
    on_epoch : callable, optional
        Called with the history after every epoch; raises `Pruned` to end the run.

    Returns
    -------
    Outcome
        How it ended. An exception in the run does not end the worker.
    """
    config = from_yaml(task.config_yaml, where=task.name)
    store = ResultStore(task.address)
    before = outcome_of(store, task.name)
    if before is not None and before.done:
        return before
    with store.working_directory(task.name) as (folder, upload):
        outcome = replace(_attempt(task, config, folder, upload, on_epoch), worker=_worker_name())
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / OUTCOME, outcome.to_json())
        files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != OUTCOME]
        names = [str(p.relative_to(folder)) for p in files if not p.name.startswith(".")]
        upload([*names, OUTCOME])
    return outcome


def _attempt(
    task: Task, config: Config, folder: Path, upload: Upload, on_epoch: OnEpoch | None
) -> Outcome:
    history: History = ()
    last_upload = time.monotonic()

    def report(so_far: History) -> None:
        nonlocal history, last_upload
        history = so_far
        if time.monotonic() - last_upload >= UPLOAD_EVERY_S:
            upload([CONFIG, HISTORY, CHECKPOINT])
            last_upload = time.monotonic()
        if on_epoch is not None:
            on_epoch(so_far)

    (folder / OUTCOME).unlink(missing_ok=True)
    try:
        speed = None
        if task.most_us_per_sample is not None:
            speed = _speed(config)
            if speed > task.most_us_per_sample:
                return Outcome(PRUNED, f"{speed:.3g} us a sample", speed, 0)
        if (folder / CONFIG).is_file():
            resume(folder, on_epoch=report, wait_s=LOCK_TIMEOUT_S)
        else:
            run(config, out=folder, on_epoch=report)
        return Outcome(FINISHED, "", speed or _speed(config, folder))
    except Pruned as reason:
        return Outcome(PRUNED, str(reason), None, len(history))
    except Exception as error:
        # Whatever it was: the other runs continue, and the row states the reason.
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return Outcome(FAILED, text, None, len(history))


def _worker_name() -> str:
    name = f"{platform.node()}:{os.getpid()}"
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        name += f":node-{ray.get_runtime_context().get_node_id()[:8]}"
    return name


def _speed(config: Config, folder: Path | None = None) -> float:
    """Microseconds a sample of a run, or of its untrained network, which takes the same time."""
    with threads(config):
        extractor: Extractor
        if folder is None:
            network = build_network(config)
            tensors = to_arrays(network.state_dict())
            extractor = as_compiled(tensors, config) or as_extractor(network, config)
        else:
            extractor = load_run(folder).extractor
        record = draw_exercise(config.data, seed=config.data.test_seed)
        n_samples = TIMED_SAMPLES if config.stateful else TIMED_WINDOWS + config.model.window
        return us_per_sample(extractor, record.mixture[:, :n_samples])


def metrics_of(store: ResultStore, name: str) -> dict[str, Any] | None:
    """Read the metrics of a finished run."""
    text = store.read(f"{RUNS}/{name}/{METRICS}")
    return None if text is None else dict(json.loads(text))
