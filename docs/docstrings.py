"""Validate the public docstrings by numpydoc's own rules; count the objects checked.

Run by ``make lint``::

    python docs/docstrings.py [MODULE_PREFIX ...]

Public functions and classes are checked in full: Parameters and Returns have to match the
signature. Of public methods and properties the sections may be left out, since most implement a
protocol that documents them; what they state is checked.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from typing import Any

from numpydoc.validate import validate
from pydantic import BaseModel

import tonesieve

PACKAGES = (
    "extractors", "inference", "evaluation", "signals", "recordings", "config", "learning.models",
)  # fmt: skip
# Not asked for: a See Also section (SA), an example (EX), an extended summary (ES), the layout of
# quotes (GL01, GL02), a capital in a parameter's description (PR08) and a list of the attributes of
# a class (numpydoc has no check for it).
CHECKS = {
    "GL03", "GL05", "GL06", "GL07", "GL08", "GL09", "GL10", "SS01", "SS02", "SS03", "SS04", "SS05",
    "PR01", "PR02", "PR03", "PR04", "PR05", "PR06", "PR07", "PR10", "RT01", "RT02", "RT03", "RT05",
    "YD01",
}  # fmt: skip
# A section that is left out.
MISSING = {"PR01", "RT01", "YD01"}


def public_objects(prefixes: tuple[str, ...]) -> Iterator[tuple[str, Any, bool]]:
    """Yield every public object: its dotted name, itself, and whether its sections are required."""
    seen: set[int] = set()
    for name in tonesieve.__all__:
        made = getattr(tonesieve, name)
        yield from _with_members(f"{made.__module__}.{made.__qualname__}", made, seen)
    for module in _modules(prefixes):
        for name, made in vars(module).items():
            own = getattr(made, "__module__", None) == module.__name__
            kind = inspect.isclass(made) or inspect.isroutine(made)
            if own and kind and not name.startswith("_"):
                yield from _with_members(f"{module.__name__}.{name}", made, seen)


def _with_members(name: str, made: Any, seen: set[int]) -> Iterator[tuple[str, Any, bool]]:
    if id(made) in seen:
        return
    seen.add(id(made))
    # The fields of a pydantic model have descriptions of their own, and its signature is generated;
    # so is that of a protocol.
    generated = getattr(made, "_is_protocol", False) or (
        inspect.isclass(made) and issubclass(made, BaseModel)
    )
    yield name, made, not generated
    if not inspect.isclass(made):
        return
    for member, value in vars(made).items():
        wrapped = inspect.isroutine(value) or isinstance(value, property | classmethod)
        wrapped = wrapped or type(value).__name__ == "cached_property"
        if wrapped and not member.startswith("_") and inspect.getdoc(getattr(made, member)):
            yield f"{name}.{member}", value, False


def _modules(prefixes: tuple[str, ...]) -> Iterator[Any]:
    for info in pkgutil.walk_packages(tonesieve.__path__, "tonesieve."):
        short = info.name.removeprefix("tonesieve.")
        if any(short == p or short.startswith(f"{p}.") for p in PACKAGES) and (
            not prefixes or short.startswith(prefixes)
        ):
            yield importlib.import_module(info.name)


def problems(name: str, required: bool) -> list[str]:
    """List the rules that a docstring breaks, one line each."""
    wanted = CHECKS if required else CHECKS - MISSING
    return [f"{name}: {code} {what}" for code, what in validate(name)["errors"] if code in wanted]


def main() -> int:
    """Check all public objects, or those of modules whose names begin with the words given."""
    prefixes = tuple(sys.argv[1:])
    checked = list(public_objects(prefixes))
    found = [line for name, _, required in checked for line in problems(name, required)]
    print(*found, sep="\n", end="\n" if found else "")
    print(f"docstrings: {len(checked)} public objects checked, {len(found)} problems")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
