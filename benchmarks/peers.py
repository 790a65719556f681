"""Measure tonesieve beside others' tools on known tones in real noise, and write docs/peers.md.

`python benchmarks/peers.py` measures every tool on every case (`make peers` installs the extra
``bench`` first) and writes docs/results/peers.json and docs/peers.md. ``--only CASE ...`` takes the
cases whose name begins with one of these words, ``--tools NAME ...`` the tools of these names or
packages (tonesieve is always there), ``--quick`` one case a kind and the defaults alone, ``--seed``
draws other cases, ``--out FILE`` writes results and page (FILE with the ending .md) elsewhere, and
``--page`` writes the page from the kept results alone. A line a case is printed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent / "docs"
sys.path.append(str(DOCS))  # the benchmark of kinds, the templates and their renderer
import peers_page as parts  # noqa: E402
from kept import machine  # noqa: E402
from kinds import as_text, rounded  # noqa: E402
from markdown import render  # noqa: E402
from peers_cases import ROWS, Row, draw  # noqa: E402
from peers_noise import NOISES  # noqa: E402
from peers_tools import TOOLS, Tool  # noqa: E402
from peers_worker import LIMIT_S, Worker  # noqa: E402

from tonesieve.util.files import write_text  # noqa: E402

KEPT, PAGE = DOCS / "results" / "peers.json", DOCS / "peers.md"


def chosen_cases(only: list[str], *, quick: bool) -> list[int]:
    """Numbers of the rows whose names begin so; ``quick``: the first of each kind."""
    unknown = [word for word in only if not any(row.name.startswith(word) for row in ROWS)]
    if unknown:
        names = "; ".join(row.name for row in ROWS)
        raise SystemExit(f"{', '.join(unknown)}: no such case; there are {names}")
    numbers = [
        number
        for number, row in enumerate(ROWS)
        if not only or any(row.name.startswith(word) for word in only)
    ]
    if not quick:
        return numbers
    first = {ROWS[number].kind: number for number in reversed(numbers)}
    return sorted(first.values())


def chosen_tools(names: list[str]) -> list[Tool]:
    """tonesieve, and the tools of these names or packages; by default all."""
    known = {word for tool in TOOLS.values() for word in (tool.name, tool.package)}
    if unknown := set(names) - known:
        raise SystemExit(f"{', '.join(sorted(unknown))}: no such tool; there are {sorted(known)}")
    return [
        tool
        for tool in TOOLS.values()
        if not names or {tool.name, tool.package} & {*names, "tonesieve"}
    ]


def measure(number: int, tools: list[Tool], worker: Worker, *, seed: int, quick: bool) -> list[Any]:
    """A row a tool that suits the case: its default, and the best of its settings by the truth."""
    case, rows = draw(ROWS[number], seed), []
    for tool in tools:
        if reason := tool.suits(case):
            rows.append({"case": case.row.name, "tool": tool.name, "left_out": reason})
            continue
        settings = tool.settings[:1] if quick else tool.settings
        tried = []
        for index in range(len(settings)):
            tried.append(worker.run(number, tool.name, index))
            if "longer" in tried[-1].get("error", ""):
                break  # the others take as long
        done = [index for index, one in enumerate(tried) if "error" not in one]
        best = min(done, key=lambda index: tried[index]["nmse_db"], default=None)
        rows.append(
            {
                "case": case.row.name,
                "tool": tool.name,
                "default": tried[0],
                "setting": None if best is None else repr(settings[best]),
                "best": None if best is None else tried[best],
            }
        )
    return rows


def described(row: Row, seed: int) -> dict[str, Any]:
    """What the page says of a case."""
    case = draw(row, seed)
    return {
        "case": row.name,
        "kind": row.kind,
        "noise": row.noise,
        "is_comb": row.orders > 1,
        "rate_hz": case.rate_hz,
        "samples": case.tones.shape[1],
        "channels": len(case.tones),
        "hz": case.hz[0],
        "tones": len(case.hz),
    }


def line(case: str, rows: list[Any], seconds: float) -> str:
    """tonesieve and the best of the others, both ways."""
    words = [f"{case:48.48s}"]
    for way in parts.WAYS:
        own, best = parts.own_db(rows, way), parts.best_tool(rows, way, "best")
        beside = "" if best is None else f" {best[0]:.1f} ({best[1]})"
        words.append(f"{way} {'failed' if own is None else format(own, '.1f')} |{beside} |")
    return " ".join([*words, f"{seconds:.0f} s"])


def results(
    numbers: list[int], tools: list[Tool], *, seed: int, quick: bool
) -> dict[str, list[Any]]:
    """Cases and rows; prints a line a case."""
    worker, began, rows = Worker(seed), time.monotonic(), []
    for number in numbers:
        mine = measure(number, tools, worker, seed=seed, quick=quick)
        rows += mine
        print(line(ROWS[number].name, mine, time.monotonic() - began), flush=True)
    worker.close()
    return {"cases": [described(ROWS[number], seed) for number in numbers], "rows": rows}


def page(kept: dict[str, Any] | None = None) -> str:
    """Fill the template with the kept results."""
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if kept is None else kept
    used = [NOISES[name] for name in dict.fromkeys(case["noise"] for case in kept["cases"])]
    return render(
        "peers",
        quick=kept["quick"],
        seed=kept["seed"],
        day=kept["day"],
        limit_s=f"{LIMIT_S:.0f}",
        n_cases=len(kept["cases"]),
        n_noises=len(used),
        versions=parts.versions_table(kept),
        noises=parts.noises_table(used),
        goals=parts.goals(kept),
        tables={way: parts.cases_table(kept, way) for way in parts.WAYS},
        kinds=parts.kinds_table(kept),
        lost=parts.lost(kept),
        beside=parts.beside_table(kept),
        by_tool=parts.tools_table(kept, TOOLS),
        failed=parts.failures_table(kept),
    )


def page_of(out: Path) -> Path:
    """Where the page of these results is written."""
    return PAGE if out.resolve() == KEPT.resolve() else out.with_suffix(".md")


def main() -> None:
    """Measure and keep, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="CASE", help="beginnings of names")
    parser.add_argument("--tools", nargs="+", default=[], metavar="NAME", help="tools or packages")
    parser.add_argument("--quick", action="store_true", help="a case a kind, defaults alone")
    parser.add_argument("--seed", type=int, default=0, help="draws other cases")
    parser.add_argument("--out", type=Path, default=KEPT, help="where the results are written")
    parser.add_argument("--page", action="store_true", help="write the page alone")
    words = parser.parse_args()
    if words.page:
        kept = json.loads(words.out.read_text(encoding="utf-8"))
        write_text(page_of(words.out), page(kept))
        return
    numbers = chosen_cases(words.only, quick=words.quick)
    tools = chosen_tools(words.tools)
    found = results(numbers, tools, seed=words.seed, quick=words.quick)
    read = {NOISES[ROWS[number].noise].needs for number in numbers} - {None}
    packages = sorted(({tool.package for tool in tools} | read) - {"own"})
    kept = {
        "quick": words.quick,
        "seed": words.seed,
        "day": time.strftime("%Y-%m-%d"),
        "machine": machine(packages),
        "packages": packages,
        **found,
    }
    write_text(words.out, as_text(rounded(kept)))
    write_text(page_of(words.out), page(rounded(kept)))
    print(parts.goals(kept))


if __name__ == "__main__":
    main()
