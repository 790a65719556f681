"""One run of a sweep, on whatever machine: begun or gone on with, and its outcome kept.

``outcome.json`` is written last: where it stands, the run is done and is not begun again.
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
from tonesieve.sweeping.storage import RUNS, Keep, ResultStore
from tonesieve.util.files import write_text

OUTCOME = "outcome.json"
# A checkpoint is sent to an address no more often than this.
KEEP_EVERY_S = 30.0
# A worker whose node has just died may hold a run's lock for a moment longer.
PATIENCE_S = 120.0

# Samples whose time is taken: windows cost L times a step.
TIMED_SAMPLES, TIMED_WINDOWS = 10_000, 1000

FINISHED, PRUNED, FAILED = "finished", "pruned", "failed"
# Told of every epoch; raises `Pruned` to end a run for good.
OnEpoch = Callable[[History], None]


class Pruned(Exception):
    """A run is hopeless, and is given up."""


@dataclass(frozen=True)
class Trial:
    """Of a search: where its study is and what it is called, and who gives up trials."""

    storage: str
    study: str
    number: int
    pruner: str


@dataclass(frozen=True)
class Task:
    """A run to be done, as it is sent to a worker."""

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
    epochs: int | None = None  # trained, where it was given up
    worker: str = ""  # machine, process and, on a cluster, node that did it

    @property
    def done(self) -> bool:
        """Whether there is nothing to do again."""
        return self.status in (FINISHED, PRUNED)

    def to_json(self) -> str:
        """As it is kept."""
        return json.dumps(asdict(self)) + "\n"


def outcome_of(shelf: ResultStore, name: str) -> Outcome | None:
    """How a run ended; None while it has not."""
    return _parse(shelf.read(f"{RUNS}/{name}/{OUTCOME}"))


def keep_outcome(shelf: ResultStore, name: str, outcome: Outcome) -> None:
    """Keep the outcome of a run whose worker could not."""
    shelf.write(f"{RUNS}/{name}/{OUTCOME}", outcome.to_json())


def _parse(text: str | None) -> Outcome | None:
    try:
        return None if text is None else Outcome(**json.loads(text))
    except (ValueError, TypeError):
        return None  # not ours, or of another version: do it again


def work(task: Task, on_epoch: OnEpoch | None = None) -> Outcome:
    """Do one run, or what is left of it, and keep its outcome.

    A run that fails ends as such; only what the machine does to a worker ends the worker.
    """
    config = from_yaml(task.config_yaml, where=task.name)
    shelf = ResultStore(task.address)
    before = outcome_of(shelf, task.name)
    if before is not None and before.done:
        return before
    with shelf.workplace(task.name) as (folder, keep):
        outcome = replace(_attempt(task, config, folder, keep, on_epoch), worker=_whoami())
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / OUTCOME, outcome.to_json())
        files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != OUTCOME]
        kept = [str(p.relative_to(folder)) for p in files if not p.name.startswith(".")]
        keep([*kept, OUTCOME])
    return outcome


def _attempt(
    task: Task, config: Config, folder: Path, keep: Keep, on_epoch: OnEpoch | None
) -> Outcome:
    history: History = ()
    last_kept = time.monotonic()

    def hear(so_far: History) -> None:
        nonlocal history, last_kept
        history = so_far
        if time.monotonic() - last_kept >= KEEP_EVERY_S:
            keep([CONFIG, HISTORY, CHECKPOINT])
            last_kept = time.monotonic()
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
            resume(folder, on_epoch=hear, wait_s=PATIENCE_S)
        else:
            run(config, out=folder, on_epoch=hear)
        return Outcome(FINISHED, "", speed or _speed(config, folder))
    except Pruned as stopped:
        return Outcome(PRUNED, str(stopped), None, len(history))
    except Exception as error:
        # Whatever it was: the other runs go on, and the row says what it was.
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return Outcome(FAILED, reason, None, len(history))


def _whoami() -> str:
    name = f"{platform.node()}:{os.getpid()}"
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        name += f":node-{ray.get_runtime_context().get_node_id()[:8]}"
    return name


def _speed(config: Config, folder: Path | None = None) -> float:
    """Microseconds a sample of a run, or of its untrained network: weights cost no time."""
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


def metrics_of(shelf: ResultStore, name: str) -> dict[str, Any] | None:
    """A finished run's metrics."""
    text = shelf.read(f"{RUNS}/{name}/{METRICS}")
    return None if text is None else dict(json.loads(text))
