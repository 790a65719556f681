"""The page of docs/peers.md: kept results in, Markdown out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from kinds_page import known
from markdown import table
from peers_noise import Noise
from peers_tools import OWN_TOOL, TOOLS, Tool

Kept = dict[str, Any]
Rows = Sequence[dict[str, Any]]
# By way: the name of tonesieve's own rows.
WAYS = {"whole": OWN_TOOL, "causal": f"{OWN_TOOL}, causal"}
TITLES = {"whole": "whole record", "causal": "causal"}
KNOWN = "Vold-Kalman, true course"
# What differs from case to case in an error's text.
NUMBER = re.compile(r"\[?-?\d[\d. -]*\]?")
# The goals: mean over the best setting by the truth, most over a default, and over a tracker with
# the true course.
MEAN_GOAL_DB = {"whole": 3.0, "causal": 2.0}
DEFAULT_GOAL_DB, KNOWN_GOAL_DB = 1.0, 3.0


def of_case(kept: Kept, name: str) -> Rows:
    """Rows of one case."""
    return [row for row in kept["rows"] if row["case"] == name]


def value(row: dict[str, Any], which: str, key: str = "nmse_db") -> float | None:
    """A figure of the default or the best setting, if there is one."""
    found: float | None = (row.get(which) or {}).get(key)
    return found


def row_of(rows: Rows, tool: str) -> dict[str, Any]:
    """A tool's row."""
    return next((row for row in rows if row["tool"] == tool), {})


def own_db(rows: Rows, way: str, key: str = "nmse_db") -> float | None:
    """Error of tonesieve."""
    return value(row_of(rows, WAYS[way]), "default", key)


def best_tool(
    rows: Rows, way: str, which: str, *, packages_alone: bool = False, key: str = "nmse_db"
) -> tuple[float, str] | None:
    """Error and name of the best of the others; for causal among the causal ones."""
    found = [
        (error, row["tool"])
        for row in rows
        if is_rival(TOOLS[row["tool"]], way, packages_alone=packages_alone)
        and (error := value(row, which, key)) is not None
    ]
    return min(found) if found else None


def is_rival(tool: Tool, way: str, *, packages_alone: bool) -> bool:
    """Whether a tool is compared with tonesieve."""
    if tool.is_limit or tool.package == "tonesieve" or (packages_alone and tool.package == "own"):
        return False
    return way == "whole" or tool.causal


def over_db(
    rows: Rows, way: str, which: str, *, packages_alone: bool = False, key: str = "nmse_db"
) -> float | None:
    """The best of the others' error over tonesieve's: positive where tonesieve is better."""
    best = best_tool(rows, way, which, packages_alone=packages_alone, key=key)
    own = own_db(rows, way, key)
    return None if best is None or own is None else best[0] - own


def goals(kept: Kept) -> str:
    """Where tonesieve stands: a line a goal."""
    by_case = {case["case"]: of_case(kept, case["case"]) for case in kept["cases"]}
    lines = []
    for way in WAYS:
        lines += [_mean_line(by_case, way, alone) for alone in PACKAGES_ALONE]
    halves = known(over_db(rows, "causal", "best", key="settled_db") for rows in by_case.values())
    if halves:
        lines.append(
            f"causal, second half of the records alone: mean of {len(halves)} cases, beside the "
            f"best of all settings: {np.mean(halves):+.1f} dB"
        )
    for way in WAYS:
        lines += [_default_line(by_case, way, alone) for alone in PACKAGES_ALONE]
    combs = {case["case"]: by_case[case["case"]] for case in kept["cases"] if case["is_comb"]}
    if gaps := known(over_told(rows) for rows in combs.values()):
        within = sum(gap <= KNOWN_GOAL_DB for gap in gaps)
        lines.append(
            f"combs, whole record: within {KNOWN_GOAL_DB:.0f} dB of a Vold-Kalman tracker with the "
            f"true course, at its best width, in {within} of {len(gaps)}; mean "
            f"{np.mean(gaps):+.1f} dB, worst {max(gaps):+.1f} dB"
        )
    failed = [name for name, rows in by_case.items() if own_db(rows, "whole") is None]
    lines.append(f"tonesieve refuses or fails in {len(failed)} cases{_listed(failed)}")
    return "\n".join(f"- {line}" for line in lines) + "\n"


# Whose settings a goal is about.
PACKAGES_ALONE = {True: "packages'", False: "packages' and our own plain trackers'"}


def _mean_line(by_case: Mapping[str, Rows], way: str, alone: bool) -> str:
    over = known(over_db(rows, way, "best", packages_alone=alone) for rows in by_case.values())
    mean = f"{np.mean(over):+.1f} dB" if over else "none"
    return (
        f"{TITLES[way]}: error below that of the best of the {PACKAGES_ALONE[alone]} settings by "
        f"the truth, mean of {len(over)} cases: {mean} (goal: {MEAN_GOAL_DB[way]:+.0f})"
    )


def _default_line(by_case: Mapping[str, Rows], way: str, alone: bool) -> str:
    worse = []
    for name, rows in by_case.items():
        over = over_db(rows, way, "default", packages_alone=alone)
        if over is not None and over < -DEFAULT_GOAL_DB:
            worse.append(name)
    return (
        f"{TITLES[way]}: more than {DEFAULT_GOAL_DB:.0f} dB worse than the best of the "
        f"{PACKAGES_ALONE[alone]} defaults in {len(worse)} of {len(by_case)} cases (goal: 0)"
        f"{_listed(worse)}"
    )


def _listed(names: Sequence[str]) -> str:
    return f": {'; '.join(names)}" if names else ""


def over_told(rows: Rows) -> float | None:
    """tonesieve's error over that of the tracker with the true course."""
    known, own = value(row_of(rows, KNOWN), "best"), own_db(rows, "whole")
    return None if known is None or own is None else own - known


def shown(found: float | None, form: str = ".1f") -> str:
    """A figure, or nothing."""
    return "" if found is None else format(found, form)


def named(best: tuple[float, str] | None) -> str:
    """A figure and whose it is."""
    return "" if best is None else f"{best[0]:.1f} ({best[1].removesuffix(', causal')})"


def cases_table(kept: Kept, way: str) -> str:
    """A row a case: NMSE of tonesieve, the best default, the best setting by the truth."""
    lines = []
    for case in kept["cases"]:
        rows = of_case(kept, case["case"])
        over = over_db(rows, way, "best")
        lines.append(
            [
                case["case"],
                shown(own_db(rows, way)),
                named(best_tool(rows, way, "default")),
                named(best_tool(rows, way, "best")),
                shown(over, "+.1f") if over is None or over >= 0 else f"**{over:+.1f}**",
                shown(value(row_of(rows, KNOWN), "best"))
                if way == "whole"
                else shown(over_db(rows, way, "best", key="settled_db"), "+.1f"),
            ]
        )
    head = ["case", "tonesieve", "best default", "best setting by the truth", "difference"]
    return table(lines, [*head, "true course" if way == "whole" else "second half"])


def kinds_table(kept: Kept) -> str:
    """A row a kind: mean differences."""
    lines = []
    for kind in dict.fromkeys(case["kind"] for case in kept["cases"]):
        mine = [of_case(kept, case["case"]) for case in kept["cases"] if case["kind"] == kind]
        cells = [kind, str(len(mine))]
        for way in WAYS:
            for which in ("default", "best"):
                found = known(over_db(rows, way, which) for rows in mine)
                cells.append(f"{np.mean(found):+.1f}" if found else "")
        lines.append(cells)
    head = ["kind", "cases"]
    for title in TITLES.values():
        head += [f"{title}: best default", f"{title}: best setting"]
    return table(lines, head)


def lost(kept: Kept) -> list[dict[str, Any]]:
    """By kind and way: the cases in which another's best setting is ahead of tonesieve."""
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for case in kept["cases"]:
        rows = of_case(kept, case["case"])
        for way in WAYS:
            over = over_db(rows, way, "best")
            if over is not None and over < 0:
                groups.setdefault((case["kind"], way), []).append(_ahead(case["case"], rows, way))
    return [
        {"kind": kind, "way": way, "title": TITLES[way], "cases": cases}
        for (kind, way), cases in groups.items()
    ]


def _ahead(case: str, rows: Rows, way: str) -> dict[str, str]:
    """Who is ahead, by how much, with which setting, and by how much a default is."""
    best, over = best_tool(rows, way, "best"), over_db(rows, way, "best")
    usual = over_db(rows, way, "default")
    assert best is not None
    assert over is not None
    return {
        "case": case,
        "who": best[1].removesuffix(", causal"),
        "setting": row_of(rows, best[1])["setting"],
        "by": f"{-over:.1f}",
        "default": "" if usual is None or usual >= 0 else f"{-usual:.1f}",
    }


def beside_table(kept: Kept) -> str:
    """A row a case: what is left in the band, and what is taken beside it."""
    lines = []
    for case in kept["cases"]:
        rows = of_case(kept, case["case"])
        best = best_tool(rows, "whole", "best")
        other = {} if best is None else row_of(rows, best[1])
        own = row_of(rows, OWN_TOOL)
        cells = [case["case"]]
        for key in ("left_db", "damage_db"):
            cells += [shown(value(own, "default", key), "+.1f"),
                      shown(value(other, "best", key), "+.1f")]  # fmt: skip
        lines.append([*cells, "" if best is None else best[1]])
    return table(
        lines,
        ["case", "left in the band: tonesieve", "best setting", "taken beside it: tonesieve",
         "best setting", "whose"],
    )  # fmt: skip


def tools_table(kept: Kept, tools: Mapping[str, Tool]) -> str:
    """A row a tool: medians over its cases, time and memory."""
    lines = []
    for name in dict.fromkeys(row["tool"] for row in kept["rows"]):
        tool, mine = tools[name], [row for row in kept["rows"] if row["tool"] == name]
        ran = [row for row in mine if value(row, "best") is not None]
        way = "causal" if tool.causal else "whole"
        lines.append(
            [
                f"**{name}**" if tool.package == "tonesieve" else name,
                tool.package,
                f"{len(ran)} of {sum('left_out' not in row for row in mine)}",
                _median(value(row, "default") for row in ran),
                _median(value(row, "best") for row in ran),
                str(_wins(kept, name, way)),
                _median((_time_ratio(kept, row, way) for row in ran), ".2g"),
                _median((value(row, "best", "peak_mb") for row in ran), ".0f"),
            ]
        )
    head = ["tool", "package", "ran in", "default", "best setting", "best of all in",
            "CPU time over tonesieve's", "memory, MB"]  # fmt: skip
    return table(lines, head)


def _wins(kept: Kept, tool: str, way: str) -> int:
    """Cases in which a tool's best setting, or tonesieve, has the smallest error of its way."""
    count = 0
    for case in kept["cases"]:
        rows = of_case(kept, case["case"])
        best, over = best_tool(rows, way, "best"), over_db(rows, way, "best")
        own_wins = over is not None and over >= 0
        count += tool == (WAYS[way] if own_wins else best[1] if best else "")
    return count


def _time_ratio(kept: Kept, row: dict[str, Any], way: str) -> float | None:
    own = value(row_of(of_case(kept, row["case"]), WAYS[way]), "default", "cpu_s")
    seconds = value(row, "best", "cpu_s")
    return None if not own or seconds is None else seconds / own


def _median(values: Iterable[float | None], form: str = ".1f") -> str:
    found = known(values)
    return format(float(np.median(found)), form) if found else ""


def failures_table(kept: Kept) -> str:
    """A row a tool and an error of its default: in how many cases, and the first of them."""
    errors: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], str] = {}
    for row in kept["rows"]:
        if error := (row.get("default") or {}).get("error"):
            key = (row["tool"], _one_line(error))
            errors[key] += 1
            first.setdefault(key, row["case"])
    rows = [[tool, text, str(count), first[tool, text]] for (tool, text), count in errors.items()]
    return table(rows, ["tool", "error with its default", "cases", "first of them"]) if rows else ""


def _one_line(text: str) -> str:
    return " ".join(NUMBER.sub("N", text.replace("|", "/")).split())[:120]


def versions_table(kept: Kept) -> str:
    """Packages and their versions, and the machine."""
    of = kept["machine"]
    rows = [[name, of[name]] for name in ("python", "numpy", *kept["packages"])]
    return table([*rows, ["processor", of["processor"]]], ["package", "version"])


def noises_table(noises: Sequence[Noise]) -> str:
    """A row a recording."""
    rows = [[n.name, n.about, n.source, f"`{n.file}`", n.unit, n.licence] for n in noises]
    return table(rows, ["noise", "what was recorded", "package", "file", "unit", "licence"])
