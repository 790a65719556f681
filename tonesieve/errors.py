"""The one error that a user can cause and mend."""

from __future__ import annotations


class UserError(ValueError):
    """A user's mistake: the message says what is wrong, where, and what would be right.

    The command line prints it as one line and exits with code 2.
    """


def needs_extra(error: ModuleNotFoundError) -> str:
    """What to install when a module of the training install is missing."""
    if error.name in ("torch", "lightning_fabric", "matplotlib"):
        return f"{error.name} is not installed; this needs: pip install 'tonesieve[train]'"
    extras = {"pyarrow": "parquet", "pyedflib": "edf", "pylsl": "lsl", "onnx": "onnx"}
    if error.name in extras:
        extra = extras[error.name]
        return f"{error.name} is not installed; this needs: pip install 'tonesieve[{extra}]'"
    return str(error)
