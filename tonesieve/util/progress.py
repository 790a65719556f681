"""What a long job tells while it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Task:
    """A stretch of work in countable parts; this one tells nobody."""

    def reach(self, n_done: int) -> None:
        """So many parts are done."""

    def note(self, text: str) -> None:
        """What stands beside the bar."""


class Reporter:
    """Hears warnings and progress; this one keeps silent."""

    def warn(self, text: str) -> None:
        """Something is allowed, but probably not meant."""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Task]:
        """Work of ``total`` parts, for as long as the block lasts."""
        yield Task()
