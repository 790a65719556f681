"""Numbers and tables as text."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], *, wrap: int | None = None) -> str:
    """Format rows as aligned columns, the first row underlined.

    Parameters
    ----------
    rows : sequence of sequences of str
        Cells; the first row is the head.
    wrap : int, optional
        Column of long text. It comes last and its underline has at most 40 characters.

    Returns
    -------
    str
        The lines of the table.
    """
    order = [i for i in range(len(rows[0])) if i != wrap] + ([] if wrap is None else [wrap])
    cells = [[row[i] for i in order] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(order))]
    lines = ["  ".join(f"{c:<{w}}" for c, w in zip(r, widths, strict=True)).rstrip() for r in cells]
    return "\n".join([lines[0], "  ".join("-" * min(w, 40) for w in widths), *lines[1:]])


def number(value: float | None) -> str:
    """Format with three significant digits; None is a dash."""
    return "-" if value is None else f"{value:.3g}"


def percent(value: float | None) -> str:
    """Format a fraction as a percentage; None is a dash."""
    return "-" if value is None else f"{100 * value:.3g}%"


def decibels(value: float | None) -> str:
    """Format decibels with one decimal; None is a dash."""
    return "-" if value is None else f"{value:.1f} dB"
