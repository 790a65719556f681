"""Measure the default extractor on members of twelve kinds of recordings, beside simple tools.

``PYTHONPATH=. python docs/kinds.py`` writes docs/results/kinds.json and docs/kinds.md; ``--only
KIND ...`` (a number or a name) leaves the other kinds away, ``--quick`` draws few members once,
``--out FILE`` writes results and page (FILE with the ending .md) elsewhere, ``--page`` writes the
page from the kept results alone.

A line a member: error of the tone (NMSE in dB) from the whole record and causal, that of the causal
estimate's second half, how much worse each is than the best tool (positive: worse; a causal tool
for the causal estimate), fractions inside the 90% bands, the tools' errors, and the metrics of the
kind. The worked examples' rows are those of docs/results/examples.json.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import kinds_courses  # enters members
import kinds_disturbances  # enters members
import kinds_impulses  # enters members
import kinds_metrics as metrics
import kinds_page as parts
import kinds_records  # enters members
import numpy as np
from kinds_members import ENTRIES, KINDS, Entry, Member
from kinds_rivals import RIVALS, known_course
from markdown import render

import tonesieve
from tonesieve.util.files import write_text

MAKERS = (kinds_courses, kinds_disturbances, kinds_impulses, kinds_records)
RESULTS = Path(__file__).parent / "results"
KEPT, EXAMPLES = RESULTS / "kinds.json", RESULTS / "examples.json"
PAGE = RESULTS.parent / "kinds.md"
WAYS = ("whole", "causal")
# Rivals whose damage and own metrics are kept too.
COMPARED = ("tracker", "notch", "FIR notch", "spectrum interpolation", "least squares")
# What is kept of a tone's line.
STATED = ("status", "p_value", "line_hz", "stronger_line_hz")


def evaluate(member: Member) -> dict[str, Any]:
    """All metrics of one member, by way and by rival."""
    row: dict[str, Any] = {}
    given = {}
    if member.within_hz is not None:
        given["within_hz"] = member.within_hz
    for way in WAYS:
        began = time.perf_counter()
        result = tonesieve.pull(
            member.samples, member.rate_hz, member.hz, causal=way == "causal", **given
        )
        seconds = time.perf_counter() - began
        row[way] = {
            **measure(member, result.tones),
            "settled_db": metrics.settled_db(member, result.tones),
            "covered": metrics.covered(member, result.tones, result.bands),
            "stated": stated(result),
            "us_a_sample": 1e6 * seconds / len(member.rest) / len(member.hz),
        }
    row["rivals"] = {
        name: measure(member, RIVALS[name][0](member.samples, member.rate_hz, member.hz))
        for name in member.rivals
    }
    for way in WAYS:
        row[way]["gap_db"] = gap_db(row, way)
    if member.phase_rad is not None:
        made = known_course(member.samples, member.rate_hz, member.phase_rad)
        row["known_course_db"] = metrics.nmse_db(member, made)
    return row


def measure(member: Member, tones: np.ndarray) -> dict[str, Any]:
    """Metrics of an estimate."""
    return {
        "nmse_db": metrics.nmse_db(member, tones),
        "damage_db": metrics.damage_db(member, tones),
        **metrics.own_metrics(member, tones),
    }


def gap_db(row: dict[str, Any], way: str) -> float | None:
    """Error over that of the best rival that is causal too, or of the best of all."""
    rivals = [name for name in row["rivals"] if way == "whole" or RIVALS[name][1]]
    errors = [row["rivals"][name]["nmse_db"] for name in rivals]
    if row[way]["nmse_db"] is None or not errors:
        return None
    return row[way]["nmse_db"] - min(errors)


def stated(result: Any) -> dict[str, list[Any]]:
    """What the result states of its tones."""
    lines = [line.metrics() for line in result.lines]
    return {key: [line[key] for line in lines] for key in STATED}


def results(only: list[str], *, quick: bool) -> list[dict[str, Any]]:
    """A row a draw of each member; prints a line a member."""
    rows = []
    for entry in chosen(only, quick=quick):
        n_draws = max(1, entry.draws // 3) if quick else entry.draws
        mine = []
        for index in range(n_draws):
            member = entry.draw(index)
            mine.append(
                {
                    "kind": KINDS[entry.kind],
                    "number": entry.kind,
                    "member": entry.name,
                    "draw": index,
                    "rate_hz": member.rate_hz,
                    "samples": len(member.rest),
                    "hz": list(member.hz),
                    "expected": member.own.get("expected"),
                    **evaluate(member),
                }
            )
        print(line(entry, mine), flush=True)
        rows += mine
    return rows


def chosen(only: list[str], *, quick: bool) -> list[Entry]:
    """Members of the kinds that are named, by kind."""
    wanted = {number for number, name in KINDS.items() if {str(number), name} & set(only)}
    unknown = set(only) - {str(number) for number in KINDS} - set(KINDS.values())
    if unknown:
        raise SystemExit(f"{', '.join(sorted(unknown))}: no such kind; there are {KINDS}")
    entries = [
        one for one in ENTRIES if (not only or one.kind in wanted) and (one.quick or not quick)
    ]
    return sorted(entries, key=lambda one: one.kind)


def line(entry: Entry, rows: list[dict[str, Any]]) -> str:
    """Means over the draws."""
    whole, causal = ([row[way] for row in rows] for way in WAYS)
    words = [
        f"{entry.kind:2d} {entry.name:44.44s}",
        f"whole {_mean(whole, 'nmse_db'):6.1f}",
        f"causal {_mean(causal, 'nmse_db'):6.1f} ({_mean(causal, 'settled_db'):6.1f})",
        f"gap {_mean(whole, 'gap_db'):+5.1f} {_mean(causal, 'gap_db'):+5.1f}",
        f"in band {_mean(whole, 'covered'):4.2f} {_mean(causal, 'covered'):4.2f} |",
    ]
    for name in rows[0]["rivals"]:
        words.append(f"{name} {_mean([row['rivals'][name] for row in rows], 'nmse_db'):.1f};")
    if "known_course_db" in rows[0]:
        words.append(f"(course known {_mean(rows, 'known_course_db'):.1f})")
    own = [key for key in whole[0] if key.startswith(("r_", "burst", "amplitude", "found"))]
    if entry.kind == 12:
        own = ["damage_db"]
    for key in own:
        compared = [name for name in rows[0]["rivals"] if entry.kind == 12 or name in COMPARED]
        others = [
            f"{name} {_mean([row['rivals'][name] for row in rows], key):.2f}" for name in compared
        ]
        words.append(
            f"| {key}: {_mean(whole, key):.2f} causal {_mean(causal, key):.2f}, {', '.join(others)}"
        )
    if rows[0]["expected"]:
        words.append(f"| {rows[0]['expected']}: {whole[0]['stated']} {causal[0]['stated']}")
    return " ".join(words)


def _mean(rows: list[dict[str, Any]], key: str) -> float:
    values = [row[key] for row in rows if row.get(key) is not None]
    return float(np.mean(values)) if values else float("nan")


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row a kind: medians and worst over its members, and the calibration."""
    made = []
    for number, name in KINDS.items():
        mine = [row for row in rows if row["number"] == number]
        if not mine:
            continue
        one: dict[str, Any] = {"number": number, "kind": name, "records": len(mine)}
        for way in WAYS:
            own = [row[way] for row in mine]
            for key in ("nmse_db", "gap_db", "damage_db"):
                values = [row[key] for row in own if row[key] is not None]
                one[f"{way}_{key}"] = _median_and_worst(values)
            one[f"{way}_covered"] = _mean(own, "covered")
        names = dict.fromkeys(rival for row in mine for rival in row["rivals"])
        one["rivals"] = {
            rival: _median_and_worst(
                [
                    row["rivals"][rival]["nmse_db"]
                    for row in mine
                    if row["rivals"].get(rival, {}).get("nmse_db") is not None
                ]
            )
            for rival in names
        }
        made.append(one)
    return made


def worked_examples() -> list[dict[str, Any]]:
    """Error of the default over the tracker's in each row of the kept worked examples."""
    rows = []
    for name, example in json.loads(EXAMPLES.read_text(encoding="utf-8")).items():
        by = {(row["method"], row["causal"]): row["nmse_db"] for row in example["rows"]}
        for causal in (True, False):
            gap = by["pretrained", causal] - by["tracker", causal]
            rows.append({"example": name, "causal": causal, "over_tracker_db": gap})
    return rows


def _median_and_worst(values: list[float]) -> list[float]:
    return [float(np.median(values)), float(np.max(values))] if values else []


def rounded(tree: Any) -> Any:
    """Four digits are enough to read; JSON has no infinite numbers."""
    if isinstance(tree, dict):
        return {key: rounded(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [rounded(value) for value in tree]
    if isinstance(tree, float):
        return float(f"{tree:.4g}") if np.isfinite(tree) else None
    return tree


def as_text(kept: dict[str, Any]) -> str:
    """JSON with a line a row, which keeps the file small and its changes readable."""
    parts = []
    for key, value in kept.items():
        rows = ",\n ".join(json.dumps(one) for one in value) if isinstance(value, list) else None
        parts.append(f"{json.dumps(key)}: {json.dumps(value) if rows is None else f'[{rows}]'}")
    return "{" + ",\n".join(parts) + "}\n"


def page(kept: dict[str, Any] | None = None) -> str:
    """Fill the template with the kept results."""
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if kept is None else kept
    return render(
        "kinds",
        n_records=len(kept["records"]),
        quick=kept["quick"],
        least=f"{100 * parts.LEAST_COVERED:.0f}",
        overview=parts.overview(kept),
        goals=parts.goals(kept),
        examples=parts.examples_table(kept),
        sections=parts.sections(kept),
    )


def main() -> None:
    """Measure and keep, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="KIND", help="numbers or names")
    parser.add_argument("--quick", action="store_true", help="few members, drawn once")
    parser.add_argument("--out", type=Path, default=KEPT, help="where the results are written")
    parser.add_argument("--page", action="store_true", help="write the page alone")
    words = parser.parse_args()
    if words.page:
        kept = json.loads(words.out.read_text(encoding="utf-8"))
        write_text(page_of(words.out), page(kept))
        return
    tonesieve.pull(np.sin(np.arange(500.0)), 100.0, 10.0)  # compiles
    rows = results(words.only, quick=words.quick)
    kept = {
        "quick": words.quick,
        "kinds": summary(rows),
        "worked_examples": worked_examples(),
        "records": rows,
    }
    for one in kept["kinds"]:
        print({key: value for key, value in rounded(one).items() if key != "rivals"})
    for one in kept["worked_examples"]:
        print(rounded(one))
    write_text(words.out, as_text(rounded(kept)))
    write_text(page_of(words.out), page(rounded(kept)))


def page_of(results: Path) -> Path:
    """Where the page of these results is written."""
    return PAGE if results.resolve() == KEPT.resolve() else results.with_suffix(".md")


if __name__ == "__main__":
    main()
