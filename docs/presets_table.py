"""Write the README's table of presets from the metrics kept under docs/results.

``python docs/presets_table.py [RUN ...]`` first keeps the metrics of the runs that are named. The
table stands between two markers; `make presets` runs everything.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tonesieve.catalogue import load_config

DOCS = Path(__file__).parent
KEPT = DOCS / "results"
README = DOCS.parent / "README.md"
BEGIN, END = "<!-- made by `make presets` -->", "<!-- end -->"
ORDER = ("sieve", "window10", "deep50", "config-l1", "guide", "journey", "journey-selector")
HEAD = (
    "| preset | parameters | epochs | seconds | train MSE | test MSE | per tone | "
    "random start | settled |\n|---|---|---|---|---|---|---|---|---|"
)


def keep(run: Path) -> None:
    """Copy a run's metrics under its preset's name, with the epochs that the preset asks for."""
    name = load_config(run).name
    epochs = load_config(name).training.epochs
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    kept = {"preset": name, "preset_epochs": epochs, **metrics}
    (KEPT / f"{name}.json").write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def line(result: dict[str, Any]) -> str:
    """One row of the table."""
    training, shifted = result["training"], result["shifted"]
    per_tone = ", ".join(f"{c['mse']:.2g}" for c in result["test"]["per_component"])
    epochs = f"{training['epochs']} of {result['preset_epochs']}"
    return (
        f"| `{result['preset']}` | {training['parameters']:,} | {epochs} | "
        f"{training['seconds']:.0f} | {result['train']['mse']:.3g} | {result['test']['mse']:.3g} | "
        f"{per_tone} | {shifted['mse']:.3g} ± {shifted['stderr']:.1g} | "
        f"{shifted['settled_mse']:.3g} |"
    )


def table() -> str:
    """All kept results, in the order of the presets."""
    files = [KEPT / f"{name}.json" for name in ORDER]
    results = [json.loads(f.read_text(encoding="utf-8")) for f in files if f.exists()]
    return "\n".join([HEAD, *map(line, results)])


def rewritten(text: str) -> str:
    """The README with the table as the kept results have it."""
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        keep(Path(folder))
    README.write_text(rewritten(README.read_text(encoding="utf-8")), encoding="utf-8")
