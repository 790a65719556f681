"""Where a sweep's results live: a folder, or any address that fsspec knows.

In a folder every run works in place. Elsewhere it works in a temporary folder, brings what is kept
of it before, and keeps what has changed after; a file appears there whole or not at all.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tonesieve.errors import UserError
from tonesieve.util.files import write_text

RUNS = "runs"
Keep = Callable[[Sequence[str]], None]


@dataclass(frozen=True)
class ResultStore:
    """A folder or an address such as s3://bucket/sweep."""

    address: str

    @property
    def folder(self) -> Path | None:
        """The folder, if it is one."""
        return None if "://" in self.address else Path(self.address)

    def read(self, name: str) -> str | None:
        """A text that is kept under a name; None where there is none."""
        folder = self.folder
        try:
            if folder is not None:
                return (folder / name).read_text(encoding="utf-8")
            files, root = self._files()
            return str(files.cat_file(f"{root}/{name}").decode())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{self.address}/{name}: cannot be read ({error})") from None

    def write(self, name: str, text: str) -> None:
        """Keep a text under a name."""
        folder = self.folder
        if folder is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_text(folder / name, text)
            return
        files, root = self._files()
        files.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
        files.pipe_file(f"{root}/{name}", text.encode())

    def make(self) -> None:
        """See to it that it is there."""
        try:
            if self.folder is not None:
                (self.folder / RUNS).mkdir(parents=True, exist_ok=True)
            else:
                files, root = self._files()
                files.makedirs(f"{root}/{RUNS}", exist_ok=True)
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"{self.address}: cannot be made: {reason}") from None

    def runs(self) -> list[str]:
        """Names of all runs that something is kept of."""
        if self.folder is not None:
            return sorted(path.name for path in (self.folder / RUNS).iterdir() if path.is_dir())
        files, root = self._files()
        try:
            found = files.ls(f"{root}/{RUNS}", False)
        except FileNotFoundError:  # an object store has no empty folders
            return []
        return sorted(str(name).rstrip("/").rpartition("/")[2] for name in found)

    def copy_in(self, name: str, path: Path) -> None:
        """Keep a file, whatever it holds, under a name."""
        if self.folder is not None:
            if path.resolve() != (self.folder / name).resolve():
                shutil.copy(path, self.folder / name)
            return
        files, root = self._files()
        files.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
        files.put_file(str(path), f"{root}/{name}")

    @contextmanager
    def workplace(self, run: str) -> Iterator[tuple[Path, Keep]]:
        """A run's directory to work in, with what is kept of it, and what keeps files of it."""
        if self.folder is not None:
            yield self.folder / RUNS / run, lambda names: None
            return
        files, root = self._files()
        kept = f"{root}/{RUNS}/{run}"
        with tempfile.TemporaryDirectory(prefix="tonesieve-") as temporary:
            folder = Path(temporary) / run
            if files.exists(kept):
                for path in files.find(kept):
                    target = folder / str(path)[len(kept.rstrip("/")) :].lstrip("/")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    files.get_file(path, str(target))

            def keep(names: Sequence[str]) -> None:
                for name in names:
                    self.copy_in(f"{RUNS}/{run}/{name}", folder / name)

            yield folder, keep

    def _files(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs

        try:
            files, root = url_to_fs(self.address)
        except (ValueError, ImportError) as error:
            raise UserError(f"{self.address}: no such kind of address ({error})") from None
        return files, str(root).rstrip("/")
