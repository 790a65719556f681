"""The page of the twelve kinds of recordings: kept results in, Markdown out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import markdown
import numpy as np

Kept = dict[str, Any]
Row = dict[str, Any]
WAYS = {"whole": "whole record", "causal": "causal"}
# The goal of the coverage of the 90% bands in every kind.
LEAST_COVERED = 0.8
# Of each kind: title, and what its members are.
ABOUT = {
    1: ("The nominal frequency is wrong",
        "Steady tones 0.05 to 0.5% off their nominal frequency, in noise of an ECG, a local field "
        "potential, a hydrophone, an EEG, a seismometer and a pulse sensor."),
    2: ("Oversampled and low-passed recordings",
        "Backgrounds that end far below half the rate, so that most of the spectrum is empty."),
    3: ("Drifts, run-ups and falls",
        "Tones whose frequency changes by 0.5 to 6% in the course of the record."),
    4: ("Hum in an ECG",
        "A steady hum, a tenth or a thirtieth of the R peaks, under heart beats. The kind's own "
        "metric is the change of the R peaks' height, in percent, where the tone is removed."),
    5: ("Bursts, speech and music",
        "A steady tone beside bursts, chirps, speech-like and music-like mixtures and muscle "
        "activity. The kind's own metric is the error inside the bursts' band while they last, in "
        "dB over their power: what is taken from them."),
    6: ("Combs and pulse trains",
        "A tone that is one of several equal lines, of which one or all are named; short pulses at "
        "a high rate."),
    7: ("Rhythms and fades",
        "Narrow-band rhythms, up to a tenth of their frequency wide, and tones that come and go."),
    8: ("Short records", "Trials of 2, 5 and 20 s, and of two to four periods."),
    9: ("Ramps of the level", "A level that rises by 1 to 100 amplitudes of the tone a second."),
    10: ("A wandering reference",
         "A faint tone whose frequency wanders by up to 0.3%. The kind's own metric is the bias of "
         "its amplitude, in percent."),
    11: ("Tones that are absent, lost or beside a stronger line",
         "Records without a tone, or with a stronger line near by; tones that jump or are away for "
         "a while; errors that a band cannot know. Without a tone, NMSE has no meaning; what is "
         "returned is stated over the standard deviation of the rest."),
    12: ("The neighbourhood of the tone",
         "What is taken from the frequencies beside the tone: the error in 0.8 to 1.25 times its "
         "frequency, outside 2.5% on both sides of it, in dB over the power of the rest there."),
}  # fmt: skip
# Own metrics by key: their label, and how the worst of several is chosen.
OWN: dict[str, tuple[str, Callable[[float], float]]] = {
    "r_median_percent": ("change of the R peaks, median of a record (%)", abs),
    "r_worst_percent": ("worst peak of a record (%)", abs),
    "burst_error_db": ("error in the bursts' band (dB)", float),
    "amplitude_bias_percent": ("bias of the amplitude (%)", abs),
    "found_over_rest": ("returned over the rest's standard deviation", float),
    "damage_db": ("error beside the tone (dB)", float),
}
DAMAGE_KIND = 12


def is_causal(rival: str) -> bool:
    """Whether a simple tool needs no later samples."""
    return rival.endswith(", causal")


def overview(kept: Kept) -> str:
    """A row a kind: the default beside the best simple tool of each record and the tracker."""
    rows = []
    for number, records in by_kind(kept).items():
        cells = [f"{number} {ABOUT[number][0]}", str(len(records))]
        for way in WAYS:
            tools = [best_tool(row, way) for row in records]
            cells += [
                _median_and_worst(row[way]["nmse_db"] for row in records),
                _median(tool[1] for tool in tools if tool is not None),
                _median(tracker_db(row, way) for row in records),
                _median_and_worst((row[way]["gap_db"] for row in records), "+"),
                _percent(row[way]["covered"] for row in records),
            ]
        rows.append(cells)
    own = ("best tool", "tracker", "gap", "in band")
    head = ("kind", "records", *(word for way in WAYS.values() for word in (way, *own)))
    return markdown.table(rows, head)


def goals(kept: Kept) -> str:
    """In how many kinds the default is as good as the best tool, and its bands hold enough."""
    kinds = by_kind(kept)
    lines = []
    for way, shown in WAYS.items():
        gaps = {
            number: float(np.median(found))
            for number, records in kinds.items()
            if (found := [r[way]["gap_db"] for r in records if r[way]["gap_db"] is not None])
        }
        covered = {
            number: float(
                np.mean([r[way]["covered"] for r in records if r[way]["covered"] is not None])
            )
            for number, records in kinds.items()
        }
        worse = [str(number) for number, gap in gaps.items() if gap > 0]
        below = [str(number) for number, share in covered.items() if share < LEAST_COVERED]
        lines.append(
            f"- {shown}: no worse than the best simple tool, in the median of the records, in "
            f"{len(gaps) - len(worse)} of {len(gaps)} kinds{_but(worse)}; bands hold at least "
            f"{100 * LEAST_COVERED:.0f}% in {len(covered) - len(below)} of {len(covered)} kinds"
            f"{_but(below)}"
        )
    return "\n".join(lines) + "\n"


def _but(numbers: Sequence[str]) -> str:
    return f" (not in {', '.join(numbers)})" if numbers else ""


def sections(kept: Kept) -> list[dict[str, str]]:
    """Title, text and tables of each kind."""
    return [
        {
            "number": str(number),
            "title": ABOUT[number][0],
            "about": ABOUT[number][1],
            "members": members_table(records),
            "own": own_table(number, records),
            "status": status_table(records),
        }
        for number, records in by_kind(kept).items()
    ]


def by_kind(kept: Kept) -> dict[int, list[Row]]:
    """Records by the number of their kind."""
    numbers = sorted({row["number"] for row in kept["records"]})
    return {n: [row for row in kept["records"] if row["number"] == n] for n in numbers}


def best_tool(row: Row, way: str) -> tuple[str, float] | None:
    """The best simple tool in a record; of causal ones for the causal estimate."""
    errors = {
        name: found["nmse_db"]
        for name, found in row["rivals"].items()
        if found["nmse_db"] is not None and (way == "whole" or is_causal(name))
    }
    return min(errors.items(), key=lambda item: item[1]) if errors else None


def tracker_db(row: Row, way: str) -> float | None:
    """NMSE of the package's own tracker."""
    found = row["rivals"].get("tracker" if way == "whole" else "tracker, causal", {})
    return None if not found else found["nmse_db"]


def members_table(records: Sequence[Row]) -> str:
    """A row a member: means over its draws."""
    rows = []
    for member in dict.fromkeys(row["member"] for row in records):
        mine = [row for row in records if row["member"] == member]
        cells = [member, str(len(mine))]
        for way in WAYS:
            tools = [tool for row in mine if (tool := best_tool(row, way)) is not None]
            usual = Counter(name for name, _ in tools).most_common(1)
            best = f"{_mean(tool[1] for tool in tools)} ({usual[0][0]})" if usual else ""
            cells += [
                _mean(row[way]["nmse_db"] for row in mine),
                best.replace(", causal)", ")"),
                _mean(tracker_db(row, way) for row in mine),
                _mean((row[way]["gap_db"] for row in mine), "+"),
                _percent(row[way]["covered"] for row in mine),
            ]
        rows.append(cells)
    own = ("best tool", "tracker", "gap", "in band")
    head = ("member", "draws", *(word for way in WAYS.values() for word in (way, *own)))
    return markdown.table(rows, head)


def own_table(number: int, records: Sequence[Row]) -> str:
    """The kind's own metrics of the default and of the tools: median and worst of the records."""
    keys = [
        key
        for key in OWN
        if any(key in row["whole"] for row in records)
        and (key != "damage_db" or number == DAMAGE_KIND)
    ]
    if not keys:
        return ""
    rivals = dict.fromkeys(name for row in records for name in row["rivals"])
    rows = []
    for name, found in (
        ("**default**, whole record", [row["whole"] for row in records]),
        ("**default**, causal", [row["causal"] for row in records]),
        *((name, [row["rivals"].get(name, {}) for row in records]) for name in rivals),
    ):
        cells = [name]
        for key in keys:
            values = [one[key] for one in found if one.get(key) is not None]
            worst = max(values, key=OWN[key][1], default=None)
            cells.append("" if worst is None else f"{np.median(values):.2f}, worst {worst:.2f}")
        rows.append(cells)
    return markdown.table(rows, ("estimate", *(OWN[key][0] for key in keys)))


def status_table(records: Sequence[Row]) -> str:
    """Of records with an expected status: what was stated."""
    rows = []
    for member in dict.fromkeys(row["member"] for row in records if row["expected"]):
        mine = [row for row in records if row["member"] == member]
        stated = [row["whole"]["stated"] for row in mine]
        counts = Counter(status for one in stated for status in one.get("status", ()))
        lines = sum(hz is not None for one in stated for hz in one.get("stronger_line_hz", ()))
        shown = ", ".join(f"{name} {count}" for name, count in counts.most_common())
        rows.append([member, mine[0]["expected"], shown, str(lines)])
    head = ("member", "expected", "status in the draws", "stronger line reported in")
    return markdown.table(rows, head) if rows else ""


def examples_table(kept: Kept) -> str:
    """The worked examples: the default over the tracker."""
    rows = [
        (row["example"], "causal" if row["causal"] else "whole record",
         _db(row["over_tracker_db"], "+"))
        for row in kept["worked_examples"]
    ]  # fmt: skip
    return markdown.table(rows, ("example", "input", "NMSE over the tracker's (dB)"))


def _db(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.1f}".replace("-0.0", "0.0")


def known(values: Iterable[float | None]) -> list[float]:
    """Values without those that are not there."""
    return [value for value in values if value is not None]


def _median(values: Iterable[float | None]) -> str:
    found = known(values)
    return _db(float(np.median(found))) if found else ""


def _mean(values: Iterable[float | None], sign: str = "") -> str:
    found = known(values)
    return _db(float(np.mean(found)), sign) if found else ""


def _median_and_worst(values: Iterable[float | None], sign: str = "") -> str:
    found = known(values)
    if not found:
        return ""
    return f"{_db(float(np.median(found)), sign)} ({_db(max(found), sign)})"


def _percent(values: Iterable[float | None]) -> str:
    found = known(values)
    if not found:
        return ""
    share = float(np.mean(found))
    return f"{100 * share:.0f}%" if share >= LEAST_COVERED else f"**{100 * share:.0f}%**"
