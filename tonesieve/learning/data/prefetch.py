"""The next batches are drawn while the network trains on the present one."""

from __future__ import annotations

import multiprocessing
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from tonesieve.learning.runtime.processes import end_with_parent, without_main

T = TypeVar("T")

# Items that wait at most: of the thread, and of each process. Guard: against memory full of batches
# that are not needed yet.
THREAD_QUEUE_SIZE, PROCESS_QUEUE_SIZE = 2, 4
# How often a consumer without an item checks that the process that draws it is alive. Guard:
# against waiting for one that was killed.
POLL_INTERVAL_S = 0.5


@contextmanager
def prefetch_thread(items: Iterator[T]) -> Iterator[Iterator[T]]:
    """Iterate over items in a thread, ahead of the consumer.

    Parameters
    ----------
    items : iterator
        What to iterate over; taken from in the thread alone.

    Yields
    ------
    iterator
        The same items in the same order, for as long as the context lasts. An exception of
        ``items`` is raised where the item would be taken.
    """
    items_drawn: queue.Queue[tuple[str, Any]] = queue.Queue(THREAD_QUEUE_SIZE)
    stopped = threading.Event()

    def put(kind: str, item: Any) -> None:
        while not stopped.is_set():
            try:
                items_drawn.put((kind, item), timeout=0.1)
            except queue.Full:
                continue
            return

    def draw() -> None:
        try:
            for item in items:
                put("item", item)
                if stopped.is_set():
                    return
            put("end", None)
        except BaseException as error:  # raised where the items are taken
            put("error", error)

    thread = threading.Thread(target=draw, name="batches", daemon=True)
    thread.start()
    try:
        yield _take_all(items_drawn)
    finally:
        stopped.set()
        thread.join()


def _take_all(items_drawn: queue.Queue[tuple[str, Any]]) -> Iterator[Any]:
    while True:
        kind, item = items_drawn.get()
        if kind == "end":
            return
        if kind == "error":
            raise item
        yield item


@contextmanager
def prefetch_processes(
    draw: Callable[..., T], keys: Sequence[Any], n_workers: int
) -> Iterator[Iterator[T]]:
    """Call a function of every key in worker processes, ahead of the consumer.

    For what keeps Python busy: a thread would take that time from the training.

    Parameters
    ----------
    draw : callable
        A function of a module, or a partial one; called with a key.
    keys : sequence
        Its arguments.
    n_workers : int
        Processes; 0: ``draw`` is called in this one, when its result is taken.

    Yields
    ------
    iterator
        ``draw(key)`` of every key in order, for as long as the context lasts.
    """
    if not n_workers:
        yield map(draw, keys)
        return
    n_workers = min(n_workers, len(keys))
    context = multiprocessing.get_context("spawn")
    queues = [context.Queue(PROCESS_QUEUE_SIZE) for _ in range(n_workers)]
    # Round-robin, so that the order is the same for any number of workers.
    workers = [
        context.Process(target=_work, args=(results, draw, keys[w::n_workers]), daemon=True)
        for w, results in enumerate(queues)
    ]
    try:
        with without_main():
            for worker in workers:
                worker.start()
        numbers = (n % n_workers for n in range(len(keys)))
        yield (_take(queues[w], workers[w].is_alive) for w in numbers)
    finally:
        for worker, results in zip(workers, queues, strict=True):
            if worker.pid is not None:
                worker.kill()
                worker.join()
            results.cancel_join_thread()
            results.close()


def _work(results: Any, draw: Callable[..., Any], keys: Sequence[Any]) -> None:
    """Run one of the worker processes."""
    # An interrupt reaches all processes of the training; the parent ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    try:
        for key in keys:
            results.put(("item", draw(key)))
    except Exception as error:  # raised where the items are taken
        results.put(("error", error))


def _take(results: Any, is_alive: Callable[[], bool]) -> Any:
    while True:
        was_alive = is_alive()  # before the wait: what it put last is then still taken
        try:
            kind, item = results.get(timeout=POLL_INTERVAL_S)
        except queue.Empty:
            if not was_alive:
                raise RuntimeError("a process that draws batches has ended") from None
            continue
        if kind == "error":
            raise item
        return item
