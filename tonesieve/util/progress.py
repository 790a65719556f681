"""Progress and warnings of a long job; the classes here discard them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Task:
    """A job in countable parts; this one reports nowhere."""

    def update(self, n_done: int) -> None:
        """Set the number of parts that are done."""

    def set_text(self, text: str) -> None:
        """Set the text beside the progress bar."""


class Reporter:
    """Receives warnings and progress; this one discards them."""

    def warn(self, text: str) -> None:
        """Report something that is allowed, but probably not meant."""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Task]:
        """Open a task of ``total`` parts, for as long as the block lasts."""
        yield Task()
