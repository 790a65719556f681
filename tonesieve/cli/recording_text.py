"""What the verbs for recordings print."""

from __future__ import annotations

from typing import Any

from tonesieve.util.text_table import decibels, number, percent, table


def extract_text(result: dict[str, Any]) -> str:
    """Whether each tone is there, its frequency, amplitude, power before and after: a row each."""
    rows = [
        ["column", "tone", "status", "line", "amplitude", "estimated", "band", "power before",
         "after", "change", "tone outside band"]
    ]  # fmt: skip
    for tone in result["tones"]:
        low, high = tone["band_hz"]
        estimated_hz = tone["followed_hz"]
        rows.append(
            [
                tone["column"],
                f"{tone['hz']:g} Hz",
                tone["status"],
                _line_text(tone),
                _amplitude_text(tone),
                "" if estimated_hz is None else f"{estimated_hz:.6g} Hz",
                f"{low:g}-{high:g} Hz",
                number(tone["recording_power_in_band"]),
                number(tone["residual_power_in_band"]),
                decibels(tone["reduction_db"]),
                percent(tone["outside_band_share"]),
            ]
        )
    lines = [table(rows), "", *map(_comb_text, result["combs"])]
    lines.append(f"{result['samples']:,} samples written to {result['out']}")
    lines += [_together_text(one) for one in result["channels_together"]]
    lines += [f"warning: {text}" for text in result["warnings"]]
    return "\n".join(lines)


def _amplitude_text(tone: dict[str, Any]) -> str:
    """Mean amplitude, and the mean half-width of its 90% band."""
    half = tone["amplitude_half_width"]
    return number(tone["amplitude"]) + ("" if half is None else f" +- {half:.2g}")


def _comb_text(comb: dict[str, Any]) -> str:
    """The frequency of a comb in one channel, and how many of its tones stand out."""
    found = f"{len(comb['found_orders'])} of {len(comb['orders'])} multiples found"
    head = f"{comb['channel']}: comb of {comb['hz']:g} Hz"
    if comb["line_hz"] is None:
        return f"{head}: {found}"
    low, high = comb["line_range_hz"]
    moves = "" if f"{low:.6g}" == f"{high:.6g}" else f", moving from {low:.6g} to {high:.6g} Hz"
    return f"{head}: at {comb['line_hz']:.6g} Hz +- {comb['line_std_hz']:.1g} Hz{moves}; {found}"


def _together_text(shared: dict[str, Any]) -> str:
    """Which channels share a tone, and why."""
    share = shared["pattern_share"]
    pattern = (
        "no pattern stands out, so each was estimated by itself"
        if share is None
        else f"one pattern holds {percent(share)} of its power over noise"
    )
    return (
        f"{shared['hz']:g} Hz: {', '.join(shared['channels'])} share its course (log of the Bayes "
        f"factor {shared['log_evidence']:.3g}); {pattern}"
    )


def _line_text(tone: dict[str, Any]) -> str:
    """Frequency of a tone's line, or the range in which it moves."""
    if tone["line_hz"] is None or tone["status"] == "nothing":
        return ""
    low, high = (f"{hz:.6g}" for hz in tone["line_range_hz"])
    return f"{low} Hz" if low == high else f"{tone['line_hz']:.6g} Hz ({low}-{high})"
