"""Keep the shipped sweeps' results, and write docs/sweeps.md from them.

``python docs/sweep_tables.py FOLDER ...`` keeps what sweeps came to under docs/results/sweeps and
docs/figures; without folders it only writes the page anew.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from markdown import render

from tonesieve.config.presets import shipped_experiments
from tonesieve.sweeping.plan import Plan, read_plan, slug
from tonesieve.sweeping.results import by_point, points_text, search_text
from tonesieve.sweeping.worker import FINISHED, PRUNED

DOCS = Path(__file__).parent
KEPT = DOCS / "results" / "sweeps"
PAGE = DOCS / "sweeps.md"


def keep(folder: Path) -> None:
    """Keep a sweep's rows, without the names of machines, and its picture."""
    plan, _ = read_plan(folder / "sweep.yaml")
    rows = pd.read_csv(folder / "results.csv", dtype={"label": str})
    KEPT.mkdir(parents=True, exist_ok=True)
    rows["rises"] = [_rises(folder / "runs" / name) for name in _run_folders(folder, rows)]
    rows.drop(columns="worker").to_csv(KEPT / f"{plan.name}.csv", index=False)
    shutil.copy(folder / "figures" / "sweep.png", DOCS / "figures" / f"sweep-{plan.name}.png")


def _run_folders(folder: Path, rows: pd.DataFrame) -> list[str]:
    """The folder of every row; a search's trials have other names, and are not looked into."""
    return [
        f"{slug(label)}-seed{seed}" for label, seed in zip(rows["label"], rows["seed"], strict=True)
    ]


def _rises(run: Path) -> float | None:
    """The share of epochs whose training loss is above that of the epoch before."""
    try:
        history = pd.read_csv(run / "history.csv")
    except OSError:
        return None
    steps = history["train_loss"].diff().dropna()
    return None if steps.empty else float((steps > 0).mean())


def kept(name: str) -> pd.DataFrame:
    """The rows that were kept of a sweep; gaps are None."""
    rows = pd.read_csv(KEPT / f"{name}.csv", dtype={"label": str})
    return rows.astype(object).where(rows.notna(), None)


def points(name: str, plan: Plan) -> list[dict[str, Any]]:
    """A row a point of what was kept, means over its seeds."""
    return by_point(kept(name), plan.metric)


def _table(name: str, plan: Plan) -> str:
    rows = kept(name)
    result: dict[str, Any] = {
        "name": plan.name,
        "metric": plan.metric,
        "claims": plan.claims,
        "varied": list(plan.search.space) if plan.search else [],
        "rows": rows.to_dict("records"),
        "points": [] if plan.search else points(name, plan),
    }
    status = list(rows["status"])
    pruned = status.count(PRUNED)
    words = f"{status.count(FINISHED)} of {len(rows)} runs finished"
    if pruned:
        words += f", {pruned} pruned as hopeless"
    text = search_text(result) if plan.search else points_text(result)
    return f"{text.rstrip()}\n{words}"


def _about(text: str) -> str:
    """The comment at the head of a sweep's file."""
    lines = io.StringIO(text).readlines()
    head = []
    for line in lines:
        if not line.startswith("#"):
            break
        head.append(line[1:].strip())
    return " ".join(head)


def page() -> str:
    """Fill the template with all sweeps of which results are kept."""
    sweeps = []
    for name, text in shipped_experiments().items():
        if (KEPT / f"{name}.csv").exists():
            plan, _ = read_plan(name)
            sweeps.append(
                {"name": name, "about": _about(text), "cut": plan.cut, "table": _table(name, plan)}
            )
    return render("sweeps", sweeps=sweeps)


def main(folders: list[str]) -> None:
    """Keep the results of the folders given, then write the page."""
    for folder in folders:
        keep(Path(folder))
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
