"""The one error that a user can cause and mend."""

from __future__ import annotations

# Modules that only some verbs need, and the optional install that brings them.
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
    """A user's mistake: the message says what is wrong, where, and what would be right.

    The command line prints it as one line and exits with code 2.
    """


def needs_extra(error: ModuleNotFoundError) -> str:
    """What to install when a module of an optional install is missing."""
    if error.name in EXTRAS:
        extra = EXTRAS[error.name]
        return f"{error.name} is not installed; this needs: pip install 'tonesieve[{extra}]'"
    return str(error)
