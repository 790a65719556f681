"""Arrays of numbers from whatever a user passes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tonesieve.errors import UserError


def number_rows(values: Any, name: str, *, several: bool = False) -> np.ndarray:
    """Return a row of numbers, from a list of them too.

    Parameters
    ----------
    values : array_like
        What the user passes.
    name : str
        As the user names it, for messages.
    several : bool, default False
        Whether it may be several rows of one length.

    Returns
    -------
    ndarray, shape (T,) or (C, T)
        Of floating-point numbers.

    Raises
    ------
    UserError
        If it is anything else.
    """
    try:
        rows = np.asarray(values)
    except ValueError:  # lists of several lengths
        rows = np.empty(0, dtype=object)
    fits = rows.ndim == 1 or (several and rows.ndim == 2 and len(rows) > 0)
    if not fits or rows.dtype.kind not in "biuf":
        raise UserError(
            f"{name} of shape {rows.shape} and type {rows.dtype}: must be a single row of numbers"
            + (", or rows of one length" if several else "")
        )
    return rows.astype(float)
