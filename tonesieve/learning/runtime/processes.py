"""Processes that work for this one: how they begin, and that they end with it."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

LOG_LEVEL = "TORCH_CPP_LOG_LEVEL"


def end_with_parent() -> None:
    """However the parent ends: nothing may go on writing where the next training begins."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def without_main() -> Iterator[None]:
    """Processes begun in here do not run the caller's script again, as spawned ones would.

    Nor do they print that DDP looked for unused parameters in vain.
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
