"""Numbers and tables as text."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], *, wrap: int | None = None) -> str:
    """Rows of words in columns, the first row underlined; column ``wrap`` comes last, unaligned."""
    order = [i for i in range(len(rows[0])) if i != wrap] + ([] if wrap is None else [wrap])
    cells = [[row[i] for i in order] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(order))]
    lines = ["  ".join(f"{c:<{w}}" for c, w in zip(r, widths, strict=True)).rstrip() for r in cells]
    return "\n".join([lines[0], "  ".join("-" * min(w, 40) for w in widths), *lines[1:]])


def number(value: float | None) -> str:
    """Three significant digits, or a dash."""
    return "-" if value is None else f"{value:.3g}"


def percent(value: float | None) -> str:
    """A share in percent, or a dash."""
    return "-" if value is None else f"{100 * value:.3g}%"


def decibels(value: float | None) -> str:
    """A ratio in dB, or a dash."""
    return "-" if value is None else f"{value:.1f} dB"
