"""Storage of a sweep's results: a folder, or any address that fsspec supports.

In a folder every run works in place. Otherwise it works in a temporary folder: its stored files are
downloaded before, and those that have changed are uploaded after. Files are written atomically.
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
Upload = Callable[[Sequence[str]], None]


@dataclass(frozen=True)
class ResultStore:
    """A folder or an address such as s3://bucket/sweep."""

    address: str

    @property
    def folder(self) -> Path | None:
        """The folder, if it is one."""
        return None if "://" in self.address else Path(self.address)

    def read(self, name: str) -> str | None:
        """Read a text file; None if there is none."""
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
        """Write a text file."""
        folder = self.folder
        if folder is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_text(folder / name, text)
            return
        files, root = self._files()
        files.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
        files.pipe_file(f"{root}/{name}", text.encode())

    def create(self) -> None:
        """Create the folder of the runs."""
        try:
            if self.folder is not None:
                (self.folder / RUNS).mkdir(parents=True, exist_ok=True)
            else:
                files, root = self._files()
                files.makedirs(f"{root}/{RUNS}", exist_ok=True)
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"{self.address}: cannot be created: {reason}") from None

    def runs(self) -> list[str]:
        """List the names of all runs that have files."""
        if self.folder is not None:
            return sorted(path.name for path in (self.folder / RUNS).iterdir() if path.is_dir())
        files, root = self._files()
        try:
            paths = files.ls(f"{root}/{RUNS}", False)
        except FileNotFoundError:  # an object store has no empty folders
            return []
        return sorted(str(name).rstrip("/").rpartition("/")[2] for name in paths)

    def upload(self, name: str, path: Path) -> None:
        """Copy a local file into the store."""
        if self.folder is not None:
            if path.resolve() != (self.folder / name).resolve():
                shutil.copy(path, self.folder / name)
            return
        files, root = self._files()
        files.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
        files.put_file(str(path), f"{root}/{name}")

    @contextmanager
    def working_directory(self, run: str) -> Iterator[tuple[Path, Upload]]:
        """Open a local directory with the stored files of a run; the function stores more."""
        if self.folder is not None:
            yield self.folder / RUNS / run, lambda names: None
            return
        files, root = self._files()
        stored = f"{root}/{RUNS}/{run}"
        with tempfile.TemporaryDirectory(prefix="tonesieve-") as temporary:
            folder = Path(temporary) / run
            if files.exists(stored):
                for path in files.find(stored):
                    target = folder / str(path)[len(stored.rstrip("/")) :].lstrip("/")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    files.get_file(path, str(target))

            def upload(names: Sequence[str]) -> None:
                for name in names:
                    self.upload(f"{RUNS}/{run}/{name}", folder / name)

            yield folder, upload

    def _files(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs

        try:
            files, root = url_to_fs(self.address)
        except (ValueError, ImportError) as error:
            raise UserError(f"{self.address}: unknown kind of address ({error})") from None
        return files, str(root).rstrip("/")
