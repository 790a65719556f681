"""Work on independent rows of arrays, divided among threads.

Compiled kernels release Python's lock, so that threads run on several cores. Each row's numbers are
computed as by one thread, so the result does not depend on how many there are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def n_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def over_rows(work: Callable[[slice], None], n_rows: int, n_threads: int | None = None) -> None:
    """Call a function with slices of rows that make up all, in threads.

    Parameters
    ----------
    work : callable
        Takes a slice of the rows.
    n_rows : int
        Number of rows.
    n_threads : int, optional
        Threads at most; by default as many as there are cores.
    """
    n_parts = min(n_cores() if n_threads is None else n_threads, n_rows)
    if n_parts < 2:
        work(slice(0, n_rows))
        return
    edges = [i * n_rows // n_parts for i in range(n_parts + 1)]
    parts = [slice(*edges[i : i + 2]) for i in range(n_parts)]
    for _ in _pool(os.getpid(), n_parts).map(work, parts):
        pass


def map_rows(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Call a function with each of some items, in threads.

    Parameters
    ----------
    function : callable
        Takes an item.
    items : sequence
        Any number of them.

    Returns
    -------
    list
        What it returns for each, in their order.
    """
    results: dict[int, Result] = {}

    def work(rows: slice) -> None:
        for i in range(len(items))[rows]:
            results[i] = function(items[i])

    over_rows(work, len(items))
    return [results[i] for i in range(len(items))]


@cache
def _pool(process: int, n_threads: int) -> ThreadPoolExecutor:
    """Threads of a process; a fork has none of its parent's."""
    return ThreadPoolExecutor(n_threads, thread_name_prefix=f"rows-{process}")
