"""The next batches are drawn while the present one is learned from."""

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

# So many wait at most; of each process that draws, so many.
AHEAD, AHEAD_APART = 2, 4
LOOK_EVERY_S = 0.5


@contextmanager
def prefetch_thread(items: Iterator[T]) -> Iterator[Iterator[T]]:
    """The same items in the same order, made by a thread of their own for as long as this lasts."""
    waiting: queue.Queue[tuple[str, Any]] = queue.Queue(AHEAD)
    stopped = threading.Event()

    def put(kind: str, item: Any) -> None:
        while not stopped.is_set():
            try:
                waiting.put((kind, item), timeout=0.1)
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
        yield _taken(waiting)
    finally:
        stopped.set()
        thread.join()


def _taken(waiting: queue.Queue[tuple[str, Any]]) -> Iterator[Any]:
    while True:
        kind, item = waiting.get()
        if kind == "end":
            return
        if kind == "error":
            raise item
        yield item


@contextmanager
def prefetch_processes(
    draw: Callable[..., T], keys: Sequence[Any], n_workers: int
) -> Iterator[Iterator[T]]:
    """``draw(key)`` of every key in order, by processes of their own for as long as this lasts.

    For what keeps Python busy, which a thread would take from the learning. ``draw`` is a function
    of a module, or a partial one; without workers it is called here, when its answer is taken.
    """
    if not n_workers:
        yield map(draw, keys)
        return
    n_workers = min(n_workers, len(keys))
    context = multiprocessing.get_context("spawn")
    waiting = [context.Queue(AHEAD_APART) for _ in range(n_workers)]
    # Each its turn, so that the order is the same however many there are.
    workers = [
        context.Process(target=_work, args=(own, draw, keys[w::n_workers]), daemon=True)
        for w, own in enumerate(waiting)
    ]
    try:
        with without_main():
            for worker in workers:
                worker.start()
        turns = (n % n_workers for n in range(len(keys)))
        yield (_drawn(waiting[w], workers[w].is_alive) for w in turns)
    finally:
        for worker, own in zip(workers, waiting, strict=True):
            if worker.pid is not None:
                worker.kill()
                worker.join()
            own.cancel_join_thread()
            own.close()


def _work(waiting: Any, draw: Callable[..., Any], keys: Sequence[Any]) -> None:
    """What one of the processes does."""
    # Whoever interrupts the training, interrupts all its processes; it ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        for key in keys:
            waiting.put(("item", draw(key)))
    except Exception as error:  # raised where the items are taken
        waiting.put(("error", error))


def _drawn(waiting: Any, alive: Callable[[], bool]) -> Any:
    while True:
        lived = alive()
        try:
            kind, item = waiting.get(timeout=LOOK_EVERY_S)
        except queue.Empty:
            if not lived:
                raise RuntimeError("a process that draws batches has ended") from None
            continue
        if kind == "error":
            raise item
        return item
