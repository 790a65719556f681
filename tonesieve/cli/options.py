"""What the verbs of the command line share: options, and how a result is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the output if it exists.")]


def print_result(result: dict[str, Any], as_json: bool, text: Callable[[], str]) -> None:
    """Print a result as text or as JSON."""
    print(json.dumps(result, indent=2) if as_json else text())
