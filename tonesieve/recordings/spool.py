"""Intermediate rows of numbers: few in memory, many in an unnamed file.

Axes: T rows, C columns.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import Float

from tonesieve.errors import UserError

# Guard against memory: bytes of a spool that are not yet in a file. Chosen, not tuned: several are
# open at once.
IN_MEMORY = 2**22
_NUMBER = np.dtype(np.float64)


class Spool:
    """Numbers appended in rows and read again in any order, in constant memory.

    The file has no name, so that nothing is left of it whatever happens.

    Parameters
    ----------
    n_columns : int
        Numbers in a row.
    folder : Path
        Where the file lies.
    """

    def __init__(self, n_columns: int, folder: Path) -> None:
        self.n_columns, self.folder = n_columns, folder
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY, "w+b", dir=str(folder))  # noqa: SIM115
        self._n_rows = 0

    def __len__(self) -> int:
        return self._n_rows

    def append(self, rows: Float[np.ndarray, "T C"]) -> None:
        """Append rows.

        Parameters
        ----------
        rows : ndarray, shape (T, C)
            Any number of rows.

        Raises
        ------
        UserError
            If the disk is full.
        """
        raw = np.ascontiguousarray(rows, dtype=_NUMBER)
        try:
            self._file.seek(0, os.SEEK_END)
            self._file.write(raw.data.cast("B") if raw.size else b"")
        except OSError as error:
            raise UserError(
                f"{self.folder}: no space for intermediate numbers: {error.strerror or error}"
            ) from None
        self._n_rows += len(rows)

    def read(self, start: int, stop: int) -> Float[np.ndarray, "T C"]:
        """Read rows again.

        Parameters
        ----------
        start : int
            The first row.
        stop : int
            The one after the last; rows that are not there are left out.

        Returns
        -------
        ndarray, shape (T, C)
            Read-only.
        """
        start, stop = max(0, start), min(stop, self._n_rows)
        n_bytes = _NUMBER.itemsize * self.n_columns
        self._file.seek(start * n_bytes)
        raw = self._file.read(max(0, stop - start) * n_bytes)
        return np.frombuffer(raw, dtype=_NUMBER).reshape(-1, self.n_columns)

    def close(self) -> None:
        """Free the memory or the file now."""
        self._file.close()

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()
