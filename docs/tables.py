"""Write the documents' tables from the results kept under docs/results.

``python docs/tables.py presets RUN ...`` keeps the metrics of runs, ``... compare RUN ...``
compares runs and keeps that, ``... limits`` computes the limit by window and phase_scale; each then
writes the tables anew, as ``python docs/tables.py`` does alone. A table stands between two markers.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from markdown import table

import tonesieve

DOCS = Path(__file__).parent
KEPT = DOCS / "results"
DOCUMENTS = (DOCS.parent / "README.md", DOCS / "limit.md")
ORDER = (
    "sieve",
    "window10",
    "deep50",
    "config-l1",
    "guide",
    "journey",
    "journey-selector",
    "clock",
)
PHASE_SCALES, WINDOWS = (0.001, 0.01, 0.1, 1.0), (1, 5, 10, 20, 50, 100, 200)
STDERR = 0.0005


def keep(name: str, result: dict[str, Any]) -> None:
    """Keep a result under its name."""
    (KEPT / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def kept(name: str) -> Any:
    """What was kept under a name."""
    return json.loads((KEPT / f"{name}.json").read_text(encoding="utf-8"))


def keep_runs(runs: list[str]) -> None:
    """Keep runs' metrics under their presets' names, with the epochs that the presets ask for."""
    for run in runs:
        name = tonesieve.load_config(run).name
        epochs = tonesieve.load_config(name).training.epochs
        metrics = json.loads((Path(run) / "metrics.json").read_text(encoding="utf-8"))
        keep(name, {"preset": name, "preset_epochs": epochs, **metrics})


def keep_comparison(runs: list[str]) -> None:
    """Compare runs, keep the figures and the picture."""
    result = tonesieve.compare(runs)
    shutil.copy(result["picture"], DOCS / "figures" / "compare.png")
    keep("compare", {key: result[key] for key in ("records", "seconds", "settle_s", "scenes")})


def keep_limits() -> None:
    """The limit by phase_scale and window, and the seconds that each took."""
    rows = []
    for phase_scale in PHASE_SCALES:
        for window in WINDOWS:
            start = time.perf_counter()
            best = tonesieve.limit(window=window, phase_scale=phase_scale, stderr=STDERR)
            rows.append(
                {
                    "phase_scale": phase_scale,
                    "window": window,
                    "mse": best["mse"],
                    "stderr": best["stderr"],
                    "per_component": best["per_component"],
                    "seconds": time.perf_counter() - start,
                }
            )
    keep("limits", {"asked_stderr": STDERR, "rows": rows})


def presets_table() -> str:
    """Write a row a preset."""
    head = [
        "preset", "parameters", "epochs", "seconds", "train MSE", "test MSE", "per tone",
        "random start", "limit", "ratio", "settled",
    ]  # fmt: skip
    names = [name for name in ORDER if (KEPT / f"{name}.json").exists()]
    return table([_preset_row(kept(name)) for name in names], head)


def _preset_row(result: dict[str, Any]) -> list[str]:
    training, shifted = result["training"], result["shifted"]
    return [
        f"`{result['preset']}`",
        f"{training['parameters']:,}",
        f"{training['epochs']} of {result['preset_epochs']}",
        f"{training['seconds']:.0f}",
        f"{result['train']['mse']:.3g}",
        f"{result['test']['mse']:.3g}",
        ", ".join(f"{c['mse']:.2g}" for c in result["test"]["per_component"]),
        f"{shifted['mse']:.3g} ± {shifted['stderr']:.1g}",
        f"{shifted['limit']:.3g}",
        f"{shifted['ratio']:.3g}",
        f"{shifted['settled_mse']:.3g}",
    ]


def compare_table() -> str:
    """Write a row an extractor, random start, the best first."""
    result = kept("compare")
    (scene,) = (s for s in result["scenes"] if s["scene"] == "random start")
    head = ["extractor", "MSE", "settled", "limit", "ratio", "causal", "delay", "µs a sample"]
    rows = sorted(scene["rows"], key=lambda row: (not row["causal"], row["mse"]))
    return table([_compare_row(row) for row in rows], head)


def _compare_row(row: dict[str, Any]) -> list[str]:
    return [
        row["name"],
        _with_error(row["mse"], row["stderr"]),
        f"{row['settled_mse']:.3g}",
        "" if row["limit"] is None else f"{row['limit']:.3g}",
        "" if row["ratio"] is None else _with_error(row["ratio"], row["ratio_stderr"]),
        "yes" if row["causal"] else "no",
        "grows" if row["delay_samples"] is None else f"{row['delay_samples']:,}",
        f"{row['us_per_sample']:.2g}",
    ]


def _with_error(value: float, stderr: float) -> str:
    return f"{value:.3g} ± {float(f'{stderr:.1g}'):g}"


def limits_table() -> str:
    """Write the limit: a row a phase_scale, a column a window."""
    result = kept("limits")
    cells = {(row["phase_scale"], row["window"]): row for row in result["rows"]}
    lines = []
    for p in PHASE_SCALES:
        row = [cells[p, w] for w in WINDOWS]
        figures = [f"{c['mse']:.3g} ± {c['stderr']:.1g}" for c in row]
        lines.append([f"{p:g}", *figures, f"{sum(c['seconds'] for c in row):.0f}"])
    return table(lines, ["phase_scale", *(f"L={w}" for w in WINDOWS), "seconds"])


def pretrained_table() -> str:
    """Write the pretrained extractor's NMSE over the test scenes, beside the filters'."""
    rows = kept("pretrained")["summary"]
    found = {(row["extractor"], row["way"]): row for row in rows}
    best = {way: found["best fixed", way] for way in ("causal", "zero-phase")}
    shown = [
        ("`pretrained`", "pretrained", "pretrained"),
        ("best filter for every single record, chosen by the true tone", "oracle", "oracle"),
        ("the one filter and setting that is best over all", "best fixed", "best fixed"),
        ("oracle Kalman filter, smoother: noise and drift known", "kalman told", "smoother told"),
    ]
    lines = []
    for name, *keys in shown:
        cells = []
        for way, key in zip(best, keys, strict=True):
            who = best[way]["who"].split(":")[0]
            who = f" (`{who}`)" if key == "best fixed" else ""
            cells.append(f"{found[key, way]['nmse_db']:.1f}{who}")
        lines.append([name, *cells])
    return table(lines, ["NMSE in dB, mean over the family", "causal", "whole recording"])


TABLES = {
    "presets": presets_table,
    "compare": compare_table,
    "limits": limits_table,
    "pretrained": pretrained_table,
}


def rewritten(text: str) -> str:
    """Return a document with its tables as the kept results have them."""
    for name, write in TABLES.items():
        begin, end = f"<!-- made by `make {name}` -->", f"<!-- end of {name} -->"
        if begin in text and (name == "presets" or (KEPT / f"{name}.json").exists()):
            before, rest = text.split(begin)
            text = f"{before}{begin}\n{write()}{end}{rest.split(end)[1]}"
    return text


def main(words: list[str]) -> None:
    """Keep what is asked for, then write all tables."""
    if words:
        {"presets": keep_runs, "compare": keep_comparison, "limits": lambda _: keep_limits()}[
            words[0]
        ](words[1:])
    for document in DOCUMENTS:
        document.write_text(rewritten(document.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
