"""What a training sets for its process: threads, and how memory is kept."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from tonesieve.config.config import Config

# Of glibc's mallopt: what to set, and to how many bytes.
M_TRIM_THRESHOLD, TRIM = -1, 2**29
M_MMAP_THRESHOLD, MMAP = -3, 2**25  # the most that it takes


@contextmanager
def threads(config: Config) -> Iterator[None]:
    """Run on the number of CPU threads that the settings name; put it back afterwards."""
    with torch_threads(config.training.n_threads):
        yield


@contextmanager
def torch_threads(n: int | None) -> Iterator[None]:
    """Run on so many CPU threads, if it is said how many; put it back afterwards."""
    before = torch.get_num_threads()
    if n is not None:
        torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def tune_malloc() -> None:
    """Have the C library keep what is freed for the next batch, up to half a gigabyte.

    It would give buffers of a few megabytes back to the system at every step, and get them again
    page by page, which takes up to a third of a training's time. It stays so for as long as the
    process lives. Only where glibc is.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MMAP)
        mallopt(M_TRIM_THRESHOLD, TRIM)
