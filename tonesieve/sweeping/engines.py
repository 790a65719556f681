"""Who does the runs: processes on this machine, or a Ray cluster.

An engine takes tasks and gives back outcomes as they come; a task whose worker dies under it is
done again, elsewhere if need be.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from tonesieve.errors import UserError
from tonesieve.sweeping.searches import work_on
from tonesieve.sweeping.workers import FAILED, Outcome, Task

# A task that takes its worker down with it this often is given up.
MOST_ATTEMPTS = 3

Finished = tuple[Task, Outcome]


class Engine(ABC):
    """Does tasks side by side."""

    # Tasks that are worth having in hand at a time.
    n_parallel: int

    @abstractmethod
    def submit(self, task: Task) -> None:
        """Take a task in."""

    @abstractmethod
    def wait(self) -> list[Finished]:
        """What has been done since; waits for something."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the workers; what is unfinished stays so."""


def do_all(engine: Engine, tasks: Iterable[Task], on_done: Callable[[Task, Outcome], None]) -> None:
    """Do tasks as they are asked for, never more at a time than the engine has hands for."""
    waiting, n_open = iter(tasks), 0
    while True:
        while n_open < engine.n_parallel:
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
    """Processes on this machine, a thread each."""

    def __init__(self, n_workers: int) -> None:
        self.n_parallel = n_workers
        self._pool = self._new_pool()
        self._open: dict[Future[Outcome], Task] = {}
        self._attempts: dict[str, int] = {}

    def submit(self, task: Task) -> None:
        """Take a task in."""
        self._attempts[task.name] = self._attempts.get(task.name, 0) + 1
        self._open[self._pool.submit(work_on, task)] = task

    def wait(self) -> list[Finished]:
        """What has been done since; a pool that lost a worker is replaced."""
        while True:
            done, _ = wait(self._open, return_when=FIRST_COMPLETED)
            finished, lost = [], []
            for future in done:
                task = self._open.pop(future)
                try:
                    finished.append((task, future.result()))
                except BrokenProcessPool:
                    lost.append(task)
            if lost:
                finished += self._start_again(lost)
            if finished:
                return finished

    def close(self) -> None:
        """Let go of the workers."""
        for process in list((self._pool._processes or {}).values()):
            process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _start_again(self, lost: list[Task]) -> list[Finished]:
        # One worker's death breaks the pool for all: every task in hand is lost with it.
        lost += self._open.values()
        self._open = {}
        self._pool.shutdown(wait=True)
        self._pool = self._new_pool()
        given_up = []
        for task in lost:
            if self._attempts[task.name] < MOST_ATTEMPTS * self.n_parallel:
                self.submit(task)
            else:
                given_up.append((task, Outcome(FAILED, "its worker was killed again and again")))
        return given_up

    def _new_pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self.n_parallel,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin_worker,
        )


def _begin_worker() -> None:
    """One thread a worker, and none that outlives the driver."""
    os.environ["OMP_NUM_THREADS"] = "1"
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


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
        self._work = self._ray.remote(
            num_cpus=resources.cpus,
            num_gpus=resources.gpus,
            max_retries=MOST_ATTEMPTS,
            max_calls=0,
        )(work_on)
        self._open: dict[Any, Task] = {}
        self._check(resources)
        self.n_parallel = n_parallel or 10_000  # the cluster queues what it has no room for

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
            self._ray.init(
                address=given,
                log_to_driver=False,
                logging_level="error",
                include_dashboard=False if given is None else None,
                runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}},
            )
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"--address {given}: no Ray cluster answers ({reason})") from None

    def _check(self, resources: Resources) -> None:
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        for name, asked in (("CPU", resources.cpus), ("GPU", resources.gpus)):
            largest = max((node.get(name, 0.0) for node in nodes), default=0.0)
            if asked > largest:
                self.close()
                raise UserError(
                    f"a run asks for {asked:g} {name}s, and no node has more than {largest:g}; "
                    "ask for fewer"
                )


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
