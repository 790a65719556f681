"""What a training sets for its process: CPU threads, and how the C library keeps memory."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from tonesieve.config.config import Config

# Parameters of glibc's mallopt, and their values in bytes. TRIM: chosen, not tuned; MMAP: derived,
# the most that glibc takes.
M_TRIM_THRESHOLD, TRIM = -1, 2**29
M_MMAP_THRESHOLD, MMAP = -3, 2**25


@contextmanager
def threads(config: Config) -> Iterator[None]:
    """Run on ``training.n_threads`` CPU threads, and restore their number afterwards.

    Parameters
    ----------
    config : Config
        The settings.

    Yields
    ------
    None
        For as long as the context lasts.
    """
    with torch_threads(config.training.n_threads):
        yield


@contextmanager
def torch_threads(n: int | None) -> Iterator[None]:
    """Run on ``n`` CPU threads, and restore their number afterwards.

    Parameters
    ----------
    n : int or None
        Threads; None: as many as there are.

    Yields
    ------
    None
        For as long as the context lasts.
    """
    before = torch.get_num_threads()
    if n is not None:
        torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def tune_malloc() -> None:
    """Have the C library keep freed memory for the next batch, up to half a gigabyte.

    Otherwise it returns buffers of a few megabytes to the system at every step, and gets them again
    page by page, which takes up to a third of a training's time. It lasts as long as the process.
    Without effect where the C library is not glibc.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MMAP)
        mallopt(M_TRIM_THRESHOLD, TRIM)
