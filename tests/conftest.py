"""The numeric packages are imported under a hook that checks the shapes in signatures."""

from __future__ import annotations

import os
from pathlib import Path

# One thread a process, as in trainings: several would wait for each other on a busy machine. Set
# before NumPy and PyTorch are imported, which read it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from filelock import FileLock
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
    """Have the test processes share a Numba cache: each kernel is compiled once, not by each."""
    if "PYTEST_XDIST_WORKER" in os.environ and config.cache is not None:
        folder = config.cache.mkdir("numba")
        os.environ["NUMBA_CACHE_DIR"] = str(folder)
        write_numba_cache_in_turn(folder)


def write_numba_cache_in_turn(folder: Path) -> None:
    """Let one test process at a time add to the Numba cache.

    Numba reads a kernel's index, takes the next free name, and writes both index and code. Two
    processes that add different signatures at once would give them the same name.
    """
    from numba.core.caching import IndexDataCacheFile  # reads NUMBA_CACHE_DIR at import

    lock, save = FileLock(folder / ".lock"), IndexDataCacheFile.save

    def save_alone(self: IndexDataCacheFile, key: object, data: object) -> None:
        with lock:
            save(self, key, data)

    IndexDataCacheFile.save = save_alone


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the pictures of runs, which take most of the time of one so small."""
    from tonesieve.commands import evaluate, train

    for module in (train, evaluate):
        monkeypatch.setattr(module, "save_figure", lambda folder, name, figure, config: None)
