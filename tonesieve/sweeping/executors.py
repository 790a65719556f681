"""Executors of runs: processes on this machine, or a Ray cluster.

An executor takes tasks and returns outcomes in the order in which they finish. A task whose worker
dies is run again, on another node if necessary.
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

# Guard against a task that kills its worker: it fails after this many attempts.
MAX_ATTEMPTS = 3
# Guard against an address at which nothing accepts connections: Ray itself may wait forever.
CONNECT_TIMEOUT_S = 10.0
# Guard against memory: tasks that are queued on a cluster at a time.
MAX_QUEUED = 10_000

Finished = tuple[Task, Outcome]


class Engine(ABC):
    """Runs tasks in parallel."""

    # Tasks that it runs at a time, and tasks that it queues. A search queues none, so that each
    # trial can depend on the results of those before.
    n_workers: int
    n_queued: int

    @abstractmethod
    def submit(self, task: Task) -> None:
        """Queue a task."""

    @abstractmethod
    def wait(self) -> list[Finished]:
        """Wait until a task finishes; return all that have finished since the last call."""

    @abstractmethod
    def close(self) -> None:
        """Stop the workers; unfinished tasks stay unfinished."""


def run_all(
    engine: Engine,
    tasks: Iterable[Task],
    on_done: Callable[[Task, Outcome], None],
    *,
    sequential: bool = False,
) -> None:
    """Run tasks, taking them from the iterable as workers become free.

    Parameters
    ----------
    engine : Engine
        Executor.
    tasks : iterable of Task
        Tasks, which may be generated on demand.
    on_done : callable
        Called with every task that has finished and its outcome.
    sequential : bool
        Whether a task may depend on the outcomes of those before; then none is taken before a
        worker is free for it.
    """
    waiting, n_open = iter(tasks), 0
    while True:
        while n_open < (engine.n_workers if sequential else engine.n_queued):
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
    """Processes on this machine, one thread each; if one dies, only its task is affected."""

    def __init__(self, n_workers: int) -> None:
        self.n_workers = self.n_queued = n_workers
        self._free = [_new_worker() for _ in range(n_workers)]
        self._open: dict[Future[Outcome], tuple[Task, ProcessPoolExecutor]] = {}
        self._attempts: dict[str, int] = {}

    def submit(self, task: Task) -> None:
        """Queue a task."""
        worker = self._free.pop()
        with _worker_environment():
            try:
                future = worker.submit(run_trial, task)
            except BrokenProcessPool:  # killed while idle
                worker = _new_worker()
                future = worker.submit(run_trial, task)
        self._open[future] = (task, worker)

    def wait(self) -> list[Finished]:
        """Wait until a task finishes; a worker that died is replaced."""
        while True:
            done, _ = wait(self._open, return_when=FIRST_COMPLETED)
            finished = [f for f in map(self._finish, done) if f is not None]
            if finished:
                return finished

    def close(self) -> None:
        """Stop the workers."""
        for worker in [*self._free, *(worker for _, worker in self._open.values())]:
            for process in list((worker._processes or {}).values()):
                process.terminate()
            worker.shutdown(wait=True, cancel_futures=True)

    def _finish(self, future: Future[Outcome]) -> Finished | None:
        """The outcome of a task; None if it is run again."""
        task, worker = self._open.pop(future)
        try:
            outcome = future.result()
        except BrokenProcessPool:
            worker.shutdown(wait=True)
            self._free.append(_new_worker())
            self._attempts[task.name] = self._attempts.get(task.name, 0) + 1
            if self._attempts[task.name] < MAX_ATTEMPTS:
                self.submit(task)
                return None
            return task, Outcome(FAILED, f"its worker was killed {MAX_ATTEMPTS} times")
        except Exception as error:
            outcome = Outcome(FAILED, f"{type(error).__name__}: {error}")
        self._free.append(worker)
        return task, outcome


def _new_worker() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        1, mp_context=multiprocessing.get_context("spawn"), initializer=end_with_parent
    )


@contextmanager
def _worker_environment() -> Iterator[None]:
    """One thread a worker; no worker runs the caller's script again."""
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
    """CPUs and GPUs of one run on a cluster."""

    cpus: float = 1.0
    gpus: float = 0.0


class Ray(Engine):
    """Tasks on a Ray cluster; those of a worker or node that dies are run again on another."""

    def __init__(self, address: str | None, resources: Resources, n_parallel: int | None) -> None:
        self._ray = _import_ray()
        self._started = not self._ray.is_initialized()
        if self._started:
            self._start(address)
        elif address is not None:
            raise UserError(f"--address {address}: this process has a connection to a Ray cluster")
        no_gpus = {} if resources.gpus else {"CUDA_VISIBLE_DEVICES": ""}
        self._run = self._ray.remote(
            num_cpus=resources.cpus,
            num_gpus=resources.gpus,
            max_retries=MAX_ATTEMPTS,
            max_calls=0,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": "1", **no_gpus}},
        )(run_trial)
        self._open: dict[Any, Task] = {}
        capacity = self._capacity(resources)
        self.n_workers = n_parallel or capacity
        self.n_queued = n_parallel or MAX_QUEUED  # the cluster queues what it cannot run yet

    def submit(self, task: Task) -> None:
        """Queue a task."""
        self._open[self._run.remote(task)] = task

    def wait(self) -> list[Finished]:
        """Wait until a task finishes."""
        done, _ = self._ray.wait(list(self._open), num_returns=1)
        return [self._finish(ref) for ref in done]

    def close(self) -> None:
        """Cancel unfinished tasks and disconnect from the cluster."""
        for ref in self._open:
            self._ray.cancel(ref, force=True)
        if self._started:
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
            _check_address(given or "")
            self._ray.init(
                address=given,
                log_to_driver=False,
                logging_level="error",
                include_dashboard=False if given is None else None,
            )
        except (OSError, ValueError, RuntimeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"--address {given}: no Ray cluster responds ({reason})") from None

    def _capacity(self, resources: Resources) -> int:
        """Runs that fit the cluster at a time; raises `UserError` if none fits a node."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        required = {"CPU": resources.cpus, "GPU": resources.gpus}
        for name, count in required.items():
            largest = max((node.get(name, 0.0) for node in nodes), default=0.0)
            if count > largest:
                self.close()
                raise UserError(
                    f"a run asks for {count:g} {name}s, and no node has more than {largest:g}; "
                    "ask for fewer"
                )
        by_node = [
            min(int(node.get(name, 0.0) / count) for name, count in required.items() if count)
            for node in nodes
            if any(required.values())
        ]
        return max(1, sum(by_node))


def _check_address(address: str) -> None:
    """Raise `OSError` if nothing accepts connections at HOST:PORT."""
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
    """Create an executor by its name.

    Parameters
    ----------
    name : str
        "local" or "ray".
    n_workers : int, optional
        Runs at a time; default: one a core, or as many as fit the cluster.
    address : str, optional
        Address of a Ray cluster.
    resources : Resources
        CPUs and GPUs of one run on a cluster.

    Returns
    -------
    Engine
        The executor.

    Raises
    ------
    UserError
        If Ray is not installed, the cluster does not respond, or no node has the resources.
    """
    if name == "ray":
        return Ray(address, resources, n_workers)
    return Local(n_workers or os.cpu_count() or 1)
