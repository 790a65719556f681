"""Writing files so that nothing is lost or left half-written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tonesieve.errors import UserError


@contextmanager
def replacing(path: Path, *, force: bool = True) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` that takes its place when the block ends well.

    Raises `UserError` when ``path`` exists and ``force`` is off, and when the folder cannot be
    written or the disk is full; then nothing is left behind and an old file stays as it was.
    """
    refuse_existing(path, force=force)
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix, delete=False
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
    """Write a text file in one piece (UTF-8)."""
    with replacing(path, force=force) as file:
        file.write(text.encode())


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise `UserError` when a file is in the way and may not be overwritten."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a file")
    if path.exists() and not force:
        raise UserError(f"{path}: exists; choose another --out, or --force to overwrite it")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
