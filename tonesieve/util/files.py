"""Atomic writes: a file is replaced whole, or stays as it was."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tonesieve.errors import UserError

# Ending of a file while it is being written.
TEMPORARY = ".tmp"


@contextmanager
def replacing(path: Path, *, force: bool = True) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces ``path`` when the block ends without an error.

    Parameters
    ----------
    path : Path
        File to write. A link is followed: its target is replaced.
    force : bool
        Whether an existing file may be replaced.

    Yields
    ------
    BinaryIO
        The temporary file, open for writing. It is deleted if the block fails.

    Raises
    ------
    UserError
        If ``path`` exists and ``force`` is off, if the folder cannot be written, or if the disk is
        full. The old file stays as it was.
    """
    refuse_existing(path, force=force)
    path = path.resolve()  # what a link points to is replaced, not the link
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY, delete=False
        ) as file:
            temporary = Path(file.name)
            yield file  # type: ignore[misc]  # the wrapper is a BinaryIO in all but name
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str, *, force: bool = True) -> None:
    """Write a UTF-8 text file atomically."""
    with replacing(path, force=force) as file:
        file.write(text.encode())


def refuse_existing(path: Path, *, force: bool, option: str = "--out") -> None:
    """Raise `UserError` if no file can be written to ``path``, or if one is there already.

    Parameters
    ----------
    path : Path
        File to be written.
    force : bool
        Whether an existing file may be replaced.
    option : str
        Command-line option that sets the path, for the message.

    Raises
    ------
    UserError
        If ``path`` is a folder or a special file, if its folder does not exist, or if it exists and
        ``force`` is off.
    """
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a file")
    if not path.parent.is_dir():
        raise UserError(f"{path}: cannot be written: no such folder as {path.parent}")
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: is no ordinary file; name another {option}")
    if path.exists() and not force:
        raise UserError(f"{path}: exists; choose another {option}, or --force to overwrite it")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
