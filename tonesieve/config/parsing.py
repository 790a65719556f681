"""From YAML text to plain values, and from errors of validation to messages."""

from __future__ import annotations

import difflib
import re
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic_core import ErrorDetails

from tonesieve.errors import UserError

# Sections of a configuration.
SECTIONS = ("data", "model", "training", "evaluation", "visualisation")
_TYPE = re.compile(r"constrained-\w+|int|float|(literal|list|tuple|dict)\[.*\]")


def parse_yaml(text: str, *, where: str) -> Any:
    """Parse the text of a YAML file.

    Parameters
    ----------
    text : str
        YAML text.
    where : str
        Where it is from, for the message of an error.

    Returns
    -------
    Any
        Plain values; an empty mapping for an empty text.

    Raises
    ------
    UserError
        If the text is not YAML, or a key is given twice.
    """
    values = parse_value(text, where=where)
    return {} if values is None else values


def parse_value(text: str, *, where: str) -> Any:
    """Parse one YAML value.

    Parameters
    ----------
    text : str
        YAML text.
    where : str
        Where it is from, for the message of an error.

    Returns
    -------
    Any
        Plain value; None for an empty text.

    Raises
    ------
    UserError
        If the text is not YAML, or a key is given twice.
    """
    try:
        return yaml.load(text, _StrictLoader)  # a safe loader that also refuses repeated keys
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not YAML: {str(error)[:200]}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{where}{line}: not YAML: {getattr(error, 'problem', error)}") from None


class _StrictLoader(yaml.SafeLoader):
    """YAML's plain types; a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
        if repeated is not None:
            raise yaml.constructor.ConstructorError(
                problem=f"the key {repeated!r} is given twice", problem_mark=node.start_mark
            )
        return super().construct_mapping(node, deep=deep)


def explain(error: ErrorDetails, root: type[BaseModel]) -> str:
    """Describe an error of validation in words.

    Parameters
    ----------
    error : ErrorDetails
        An error of pydantic.
    root : type
        The model that was validated.

    Returns
    -------
    str
        The key, what is wrong with it and what is allowed.
    """
    # Where several types are allowed, pydantic includes each in the path.
    parts = [str(part) for part in error["loc"]]
    path = ".".join(part for part in parts if not _TYPE.fullmatch(part))
    if error["type"] == "extra_forbidden":
        return f"{path}: no such key{_suggestion(error['loc'], root)}"
    if error["type"] == "value_error":
        reason = error["msg"].removeprefix("Value error, ")
        # A section's own checks begin with the key; a key's own checks do not.
        return f"{path}{'.' if path in SECTIONS else ': '}{reason}" if path else reason
    return f"{path}: {error['msg'][0].lower()}{error['msg'][1:]}, not {error['input']!r}"


def _suggestion(loc: tuple[int | str, ...], root: type[BaseModel]) -> str:
    section: Any = root
    for part in loc[:-1]:
        field = getattr(section, "model_fields", {}).get(str(part))
        section = getattr(field, "annotation", None)
    known = getattr(section, "model_fields", {})
    close = difflib.get_close_matches(str(loc[-1]), known, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known: {', '.join(known)}" if known else ""
