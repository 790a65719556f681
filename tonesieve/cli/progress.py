"""Warnings and progress on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tonesieve.util.progress import Reporter, Task

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class _BarTask(Task):
    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar, self._task = bar, task

    def update(self, n_done: int) -> None:
        self._bar.update(self._task, completed=n_done)

    def set_text(self, text: str) -> None:
        self._bar.update(self._task, note=text)


class Console(Reporter):
    """Warnings on standard error, and a progress bar where that is a terminal."""

    def warn(self, text: str) -> None:
        print(f"warning: {text}", file=sys.stderr)

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Task]:
        # Imported here: Rich loads slowly, and most verbs of short work need no bar.
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = RichConsole(stderr=True, highlight=False)
        bar = Progress(
            TextColumn(title),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        with bar:
            yield _BarTask(bar, bar.add_task(title, total=total, note=""))
