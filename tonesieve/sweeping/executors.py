"""Who does the runs: processes on this machine, or a Ray cluster.

An engine takes tasks and gives back outcomes as they come; a task whose worker dies under it is
done again, elsewhere if need be.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tonesieve.errors import UserError
from tonesieve.learning.runtime.processes import end_with_parent, without_main
from tonesieve.sweeping.optuna_search import run_trial
from tonesieve.sweeping.worker import FAILED, Outcome, Task

# A task that takes its worker down with it this often is given up.
MOST_ATTEMPTS = 3
CONNECT_TIMEOUT_S = 10.0

Finished = tuple[Task, Outcome]


class Engine(ABC):
    """Does tasks side by side."""

    # Tasks that it does at a time, and those that are worth having in hand: what is asked for
    # only as the last ones end can be chosen by them.
    n_workers: int
    n_queued: int

    @abstractmethod
    def submit(self, task: Task) -> None:
        """Take a task in."""

    @abstractmethod
    def wait(self) -> list[Finished]:
        """What has been done since; waits for something."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the workers; what is unfinished stays so."""


def run_all(
    engine: Engine,
    tasks: Iterable[Task],
    on_done: Callable[[Task, Outcome], None],
    *,
    chosen: bool = False,
) -> None:
    """Do tasks as they are asked for.

    ``chosen``: each is chosen by what came of those before, so none is asked for before there is
    a hand for it.
    """
    waiting, n_open = iter(tasks), 0
    while True:
        while n_open < (engine.n_workers if chosen else engine.n_queued):
            task = next(waiting, None)
            if task is None:
                break
            engine.submit(task)
            n_open += 1
        if not n_open:
            return
        for task, outcome in engine.wait():
            n_open -= 1
            on_done(task, outcome)


class Local(Engine):
    """Processes on this machine, a thread each; the death of one concerns its task alone."""

    def __init__(self, n_workers: int) -> None:
        self.n_workers = self.n_queued = n_workers
        self._free = [_new_worker() for _ in range(n_workers)]
        self._open: dict[Future[Outcome], tuple[Task, ProcessPoolExecutor]] = {}
        self._attempts: dict[str, int] = {}

    def submit(self, task: Task) -> None:
        """Take a task in."""
        worker = self._free.pop()
        with _as_a_worker_begins():
            try:
                future = worker.submit(run_trial, task)
            except BrokenProcessPool:  # killed while it had nothing to do
                worker = _new_worker()
                future = worker.submit(run_trial, task)
        self._open[future] = (task, worker)

    def wait(self) -> list[Finished]:
        """What has been done since; a worker that died is replaced."""
        while True:
            done, _ = wait(self._open, return_when=FIRST_COMPLETED)
            finished = [f for f in map(self._finish, done) if f is not None]
            if finished:
                return finished

    def close(self) -> None:
        """Let go of the workers."""
        for worker in [*self._free, *(worker for _, worker in self._open.values())]:
            for process in list((worker._processes or {}).values()):
                process.terminate()
            worker.shutdown(wait=True, cancel_futures=True)

    def _finish(self, future: Future[Outcome]) -> Finished | None:
        """A task's outcome; None for one that is done again."""
        task, worker = self._open.pop(future)
        try:
            outcome = future.result()
        except BrokenProcessPool:
            worker.shutdown(wait=True)
            self._free.append(_new_worker())
            self._attempts[task.name] = self._attempts.get(task.name, 0) + 1
            if self._attempts[task.name] < MOST_ATTEMPTS:
                self.submit(task)
                return None
            return task, Outcome(FAILED, "its worker was killed again and again")
        except Exception as error:
            outcome = Outcome(FAILED, f"{type(error).__name__}: {error}")
        self._free.append(worker)
        return task, outcome


def _new_worker() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        1, mp_context=multiprocessing.get_context("spawn"), initializer=end_with_parent
    )


@contextmanager
def _as_a_worker_begins() -> Iterator[None]:
    """One thread a worker, and none runs the caller's script again."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        with without_main():
            yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


@dataclass(frozen=True)
class Resources:
    """What one run takes of a cluster."""

    cpus: float = 1.0
    gpus: float = 0.0


class Ray(Engine):
    """Tasks on a Ray cluster; those of a worker or node that dies are done again elsewhere."""

    def __init__(self, address: str | None, resources: Resources, n_parallel: int | None) -> None:
        self._ray = _import_ray()
        self._begun = not self._ray.is_initialized()
        if self._begun:
            self._start(address)
        elif address is not None:
            raise UserError(f"--address {address}: this process has joined a Ray cluster already")
        hidden = {} if resources.gpus else {"CUDA_VISIBLE_DEVICES": ""}
        self._work = self._ray.remote(
            num_cpus=resources.cpus,
            num_gpus=resources.gpus,
            max_retries=MOST_ATTEMPTS,
            max_calls=0,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": "1", **hidden}},
        )(run_trial)
        self._open: dict[Any, Task] = {}
        room = self._room(resources)
        self.n_workers = n_parallel or room
        self.n_queued = n_parallel or 10_000  # the cluster queues what it has no room for

    def submit(self, task: Task) -> None:
        """Take a task in."""
        self._open[self._work.remote(task)] = task

    def wait(self) -> list[Finished]:
        """What has been done since."""
        done, _ = self._ray.wait(list(self._open), num_returns=1)
        return [self._finish(ref) for ref in done]

    def close(self) -> None:
        """Take back what is not begun, and leave the cluster as it was."""
        for ref in self._open:
            self._ray.cancel(ref, force=True)
        if self._begun:
            self._ray.shutdown()

    def _finish(self, ref: Any) -> Finished:
        task = self._open.pop(ref)
        try:
            return task, self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0]
            return task, Outcome(FAILED, f"{type(error).__name__}: {reason}")

    def _start(self, address: str | None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        given = address or os.environ.get("RAY_ADDRESS")
        try:
            _knock(given or "")
            self._ray.init(
                address=given,
                log_to_driver=False,
                logging_level="error",
                include_dashboard=False if given is None else None,
            )
        except (OSError, ValueError, RuntimeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"--address {given}: no Ray cluster answers ({reason})") from None

    def _room(self, resources: Resources) -> int:
        """Runs that the cluster has room for; raises `UserError` where no node has for one."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        asked = {"CPU": resources.cpus, "GPU": resources.gpus}
        for name, share in asked.items():
            largest = max((node.get(name, 0.0) for node in nodes), default=0.0)
            if share > largest:
                self.close()
                raise UserError(
                    f"a run asks for {share:g} {name}s, and no node has more than {largest:g}; "
                    "ask for fewer"
                )
        room = [
            min(int(node.get(name, 0.0) / share) for name, share in asked.items() if share)
            for node in nodes
            if any(asked.values())
        ]
        return max(1, sum(room))


def _knock(address: str) -> None:
    """Raise `OSError` where nobody listens at HOST:PORT: Ray itself may wait for ever."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()


def _import_ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ModuleNotFoundError:
        raise UserError(
            "--engine ray: Ray is not installed; pip install 'tonesieve[ray]'"
        ) from None
    return ray


def open_engine(
    name: str, *, n_workers: int | None, address: str | None, resources: Resources
) -> Engine:
    """The engine of that name: local or ray."""
    if name == "ray":
        return Ray(address, resources, n_workers)
    return Local(n_workers or os.cpu_count() or 1)
