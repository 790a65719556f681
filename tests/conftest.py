"""Shapes in signatures are checked in every test: the numeric packages are imported under a hook."""

from __future__ import annotations

import os

# One thread a process, as trainings have: several would wait for each other wherever the machine
# has other work. Before NumPy and PyTorch, which look at it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

PACKAGES = [
    "signals", "recordings", "inference", "extractors", "learning", "evaluation", "extraction",
]  # fmt: skip
hook = install_import_hook([f"tonesieve.{package}" for package in PACKAGES], "shapes.check")
hook.__enter__()  # for as long as the tests run

# The same examples every time, and no clock: machines are shared and noisy. No database either,
# so test processes share nothing.
settings.register_profile("tonesieve", deadline=None, derandomize=True, database=None)
settings.load_profile("tonesieve")


def pytest_configure(config: pytest.Config) -> None:
    """Give every test process a Numba cache of its own: two that write to one may mix it up."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None and config.cache is not None:
        os.environ["NUMBA_CACHE_DIR"] = str(config.cache.mkdir(f"numba-{worker}"))
