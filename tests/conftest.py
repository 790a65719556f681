"""The numeric packages are imported under a hook that checks the shapes in signatures."""

from __future__ import annotations

import os

# One thread a process, as in trainings: several would wait for each other on a busy machine. Set
# before NumPy and PyTorch are imported, which read it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

PACKAGES = [
    "signals", "recordings", "inference", "extractors", "learning", "evaluation", "extraction",
]  # fmt: skip
hook = install_import_hook([f"tonesieve.{package}" for package in PACKAGES], "shapes.check")
hook.__enter__()  # for as long as the tests run

# The same examples every time, and no deadline: machines may be busy. No database either, so test
# processes share nothing.
settings.register_profile("tonesieve", deadline=None, derandomize=True, database=None)
settings.load_profile("tonesieve")


def pytest_configure(config: pytest.Config) -> None:
    """Give every test process a Numba cache of its own: two processes may corrupt a shared one."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None and config.cache is not None:
        os.environ["NUMBA_CACHE_DIR"] = str(config.cache.mkdir(f"numba-{worker}"))
