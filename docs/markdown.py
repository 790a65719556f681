"""Pages from templates: prose stands in ``docs/templates``, figures come from kept results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parent / "templates"

_ENVIRONMENT = Environment(
    loader=FileSystemLoader(TEMPLATES),
    undefined=StrictUndefined,  # a name that the generator does not give is an error
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # Markdown, not HTML
)


def render(template: str, /, **values: Any) -> str:
    """Fill a template of ``docs/templates``.

    Parameters
    ----------
    template : str
        Its name without the ending ``.md.j2``.
    **values : Any
        The names that the template uses.

    Returns
    -------
    str
        The page in Markdown.
    """
    return _ENVIRONMENT.get_template(f"{template}.md.j2").render(**values)


def table(rows: Iterable[Sequence[str]] | Iterable[Mapping[str, str]], head: Sequence[str]) -> str:
    """Write rows of text as a Markdown table.

    Parameters
    ----------
    rows : iterable of sequence of str
        The cells of each row; a mapping by column name also serves.
    head : sequence of str
        The names of the columns; an empty one is allowed.

    Returns
    -------
    str
        The table, with a line break at its end.
    """
    cells = [[row[h] for h in head] if isinstance(row, Mapping) else list(row) for row in rows]
    frame = pd.DataFrame(cells, columns=list(head), dtype=str)
    # Cells are text already: numbers must not be parsed and written again in another format.
    return frame.to_markdown(index=False, disable_numparse=True, tablefmt="github") + "\n"
