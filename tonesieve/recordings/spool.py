"""Rows of numbers on the way: in memory while they are few, in an unnamed file when they are many.

Axes: T rows, C columns.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import Float

from tonesieve.errors import UserError

IN_MEMORY = 2**25  # bytes
_NUMBER = np.dtype(np.float64)


class Spool:
    """Numbers appended in rows, read again in any order. Constant memory, whatever the length.

    The file lies in ``folder`` and has no name, so that nothing is left of it whatever happens.
    Raises `UserError` where the disk is full.
    """

    def __init__(self, n_columns: int, folder: Path) -> None:
        self.n_columns, self.folder = n_columns, folder
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY, "w+b", dir=str(folder))  # noqa: SIM115
        self._n_rows = 0

    def __len__(self) -> int:
        return self._n_rows

    def append(self, rows: Float[np.ndarray, "T C"]) -> None:
        """Add rows at the end."""
        whole = np.ascontiguousarray(rows, dtype=_NUMBER)
        try:
            self._file.seek(0, os.SEEK_END)
            self._file.write(whole.data.cast("B") if whole.size else b"")
        except OSError as error:
            raise UserError(
                f"{self.folder}: no room for intermediate numbers: {error.strerror or error}"
            ) from None
        self._n_rows += len(rows)

    def read(self, start: int, stop: int) -> Float[np.ndarray, "T C"]:
        """Rows from ``start`` to before ``stop``, as far as there are any."""
        start, stop = max(0, start), min(stop, self._n_rows)
        n_bytes = _NUMBER.itemsize * self.n_columns
        self._file.seek(start * n_bytes)
        raw = self._file.read(max(0, stop - start) * n_bytes)
        return np.frombuffer(raw, dtype=_NUMBER).reshape(-1, self.n_columns)

    def close(self) -> None:
        """Give the room back, before the last of its users does."""
        self._file.close()

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()
