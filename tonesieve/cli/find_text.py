"""The result of a search, as text."""

from __future__ import annotations

from typing import Any

from tonesieve.util.text_table import decibels, number, table

# Chosen: rows of one channel.
MAX_ROWS = 60


def find_text(result: dict[str, Any]) -> str:
    """Lines by comb, the strongest first, and rhythms: a row each."""
    parts = []
    low, high = result["searched_hz"]
    for channel in result["channels"]:
        parts += [*_comb_rows(channel), *_rhythm_rows(channel), ""]
    rate = 100 * result["false_alarm_rate"]
    parts.append(
        f"{result['samples']:,} samples at {result['rate_hz']:g} Hz, searched from {low:.3g} to "
        f"{high:.4g} Hz; false-alarm rate {rate:g}% a channel"
    )
    if result["picture"]:
        parts.append(f"picture: {result['picture']}")
    parts += [f"warning: {text}" for text in result["warnings"]]
    return "\n".join(parts)


def _comb_rows(channel: dict[str, Any]) -> list[str]:
    unit = f" ({channel['unit']})" if channel["unit"] else ""
    if not channel["lines"]:
        return [f"{channel['name']}: no line"]
    by_hz = {line["hz"]: line for line in channel["lines"]}
    rows = [["comb", "order", "line", "+-", "drift", f"amplitude{unit}", "90% band", "p", "note"]]
    for comb in channel["combs"]:
        for order, hz in zip(comb["orders"], comb["lines_hz"], strict=True):
            line = by_hz[hz]
            is_first = order == comb["orders"][0]
            words = ["by order"] * line["by_comb"] + ["moves"] * line["moves"]
            note = ", ".join(words)
            rows.append(
                [
                    f"{comb['f0_hz']:.7g} Hz" if is_first else "",
                    str(order) if len(comb["orders"]) > 1 else "",
                    f"{hz:.7g} Hz",
                    f"{line['hz_stderr']:.1g}",
                    "-" if line["drift_hz"] is None else f"{line['drift_hz']:+.2g} Hz",
                    number(line["amplitude"]),
                    f"{number(line['amplitude_low'])}-{number(line['amplitude_high'])}",
                    f"{line['p_value']:.0e}",
                    comb["alias"] if is_first and comb["alias"] else note,
                ]
            )
    more = len(rows) - 1 - MAX_ROWS
    shown = [f"{channel['name']}:", table(rows[: MAX_ROWS + 1])]
    return shown + [f"and {more} more lines (--json lists all)"] * (more > 0)


def _rhythm_rows(channel: dict[str, Any]) -> list[str]:
    return [
        f"rhythm at {one['hz']:.4g} Hz, {one['bandwidth_hz']:.2g} Hz wide, "
        f"{decibels(one['excess_db'])} over the floor, p {one['p_value']:.0e}"
        for one in channel["rhythms"]
    ]
