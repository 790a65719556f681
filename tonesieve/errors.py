"""The error for mistakes in the user's input."""

from __future__ import annotations

# Module -> optional install that contains it.
EXTRAS = {
    "torch": "train",
    "lightning_fabric": "train",
    "matplotlib": "train",
    "onnx": "onnx",
    "pyarrow": "parquet",
    "pyedflib": "edf",
    "pylsl": "lsl",
}


class UserError(ValueError):
    """An input that cannot be used: the message states what is wrong, where, and what is allowed.

    The command line prints it as one line and exits with code 2.
    """


def needs_extra(error: ModuleNotFoundError) -> str:
    """Name the optional install that a missing module belongs to.

    Parameters
    ----------
    error : ModuleNotFoundError
        Error of the failed import.

    Returns
    -------
    str
        Message with the ``pip install`` command, or the error's own text.
    """
    if error.name in EXTRAS:
        extra = EXTRAS[error.name]
        return f"{error.name} is not installed; this needs: pip install 'tonesieve[{extra}]'"
    return str(error)
