"""The next batches are drawn while the present one is learned from."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

# So many wait at most.
AHEAD = 2


@contextmanager
def drawn_ahead(items: Iterator[T]) -> Iterator[Iterator[T]]:
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
