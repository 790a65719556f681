"""Worker processes: how they start, and that they end with their parent."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

LOG_LEVEL = "TORCH_CPP_LOG_LEVEL"


def end_with_parent() -> None:
    """Start a thread that ends this process as soon as its parent ends, however that ends.

    Otherwise a worker might write on where the next run has begun. Without effect in a process
    that `multiprocessing` did not start.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextmanager
def without_main() -> Iterator[None]:
    """Have processes started in this context not run the caller's script again.

    Spawned processes import the main module otherwise. Nor do they warn that DDP found no unused
    parameters.

    Yields
    ------
    None
        For as long as processes are started.
    """
    main, level = sys.modules["__main__"], os.environ.get(LOG_LEVEL)
    sys.modules["__main__"] = ModuleType("__main__")
    os.environ[LOG_LEVEL] = level or "ERROR"
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        if level is None:
            del os.environ[LOG_LEVEL]
