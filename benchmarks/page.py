"""Write docs/benchmarks.md from the results kept under docs/results/benchmarks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from kept import FOLDER, kept

DOCS = Path(__file__).parent.parent / "docs"
sys.path.append(str(DOCS))  # the templates and their renderer
from markdown import render, table  # noqa: E402

PAGE = DOCS / "benchmarks.md"
# What each preset is for: figure, goal, and how it is read.
GOALS = [
    ("limit10", "windows, L=10, last position", "last", 1.02, 120),
    ("limit50", "windows, L=50", "last", 1.05, 300),
    ("limit100", "windows, L=100", "last", 1.10, 600),
    ("sieve", "stateful, settled (1 to 10 s)", "settled", 1e-4, 120),
    ("settled", "stateful, settled", "settled", 2e-5, 600),
    ("onset", "stateful, first 200 ms", "onset", 1.10, 600),
    ("free", "unknown phase, settled", "free", 1.2, 600),
]
ROWS = {"step": "one step", "block": "block of 100,000", "streams": "256 streams, a stream"}
WAYS = ("tonesieve", "torch, nn.LSTM", "torch, LSTMCell", "ONNX Runtime", "SciPy, sosfilt")
STREAM_GOALS = {"step": 1.0, "block": 0.65, "streams": 0.40}


def number(value: float) -> str:
    return f"{value:.3g}"


def times(row: dict[str, Any]) -> str:
    return f"{number(row['median'])} ({number(row['least'])} to {number(row['most'])})"


def reached(value: float, goal: float) -> str:
    return "reached" if value <= goal else "missed"


def figure(run: dict[str, Any], kind: str) -> tuple[float, str]:
    """What a goal is about, and how it is written."""
    if kind == "settled":
        found = run["settled"]
        return found["mse"], f"{found['mse']:.2e} ± {found['stderr']:.0e}"
    found = run["settled"] if kind == "free" else run[kind]
    return found["ratio"], f"{found['ratio']:.4f} ± {found['ratio_stderr']:.4f} x"


def limits() -> str:
    rows = []
    for name, what, kind, goal, seconds in GOALS:
        result = kept(f"limits-{name}")
        if result is None:
            continue
        figures = sorted((figure(run, kind) for run in result["runs"]), key=lambda f: f[0])
        middle = figures[len(figures) // 2]
        others = "" if len(figures) == 1 else f" ({', '.join(text for _, text in figures)})"
        bound = f"{goal:.0e}" if kind == "settled" else f"{goal:g} x"
        took = result["seconds"]
        rows.append(
            [
                f"`{name}`",
                what,
                f"{bound} in {seconds / 60:g} min",
                middle[1] + others,
                reached(middle[0], goal),
                f"{took['median']:.0f}"
                + (f" ({took['least']:.0f} to {took['most']:.0f})" if len(figures) > 1 else ""),
                reached(took["median"], seconds),
                f"{result['runs'][0]['parameters']:,}",
            ]
        )
    head = ["preset", "what", "goal", "found", "", "seconds of training", "", "parameters"]
    return table(rows, head)


def recipes() -> str:
    rows = []
    for name in ("window10", "deep50", "config-l1"):
        result = kept(f"recipe-{name}")
        if result is None:
            continue
        plain = result["plain"]
        seconds = sorted(run["seconds"] for run in result["ours"] if run["seconds"] is not None)
        all_reached = len(seconds) == len(result["ours"])
        ours = seconds[len(seconds) // 2] if all_reached else float("nan")
        rows.append(
            [
                f"`{name}`",
                f"{plain['mse']:.4f}",
                f"{plain['seconds']:.0f}",
                f"{plain['course'][-1][0]:.0f} ({plain.get('day', result['day'])})",
                f"`{result['preset']}`",
                f"{ours:.1f} ({seconds[0]:.1f} to {seconds[-1]:.1f})"
                if all_reached
                else "not reached",
                f"{plain['seconds'] / ours:.0f} x" if all_reached else "",
            ]
        )
    head = [
        "recipe",
        "its best test MSE",
        "after s",
        "all its epochs, s",
        "ours",
        "as good after s",
    ]
    return table(rows, [*head, "ratio"])


def throughput() -> dict[str, Any] | None:
    result = kept("throughput")
    if result is None:
        return None
    rows = [
        [
            name,
            times(result["gflops"][key]),
            f"{100 * result['share'][key]['median']:.0f}%" if key in result["share"] else "100%",
        ]
        for key, name in {
            "peak": "product of two 2048 x 2048 matrices, PyTorch",
            "torch": "PyTorch's LSTM",
            "ours": "ours",
        }.items()
    ]
    ratio = result["ours_over_torch"]
    return {
        "table": table(rows, ["", "GFLOP/s", "fraction"]),
        "ratio": times(ratio),
        "gradients": f"{result['gradients']:.1e}",
    }


def streaming() -> dict[str, Any] | None:
    result = kept("streaming")
    if result is None:
        return None
    rows = []
    for key, name in ROWS.items():
        found = [times(result[key][way]) if way in result[key] else "-" for way in WAYS]
        goal = STREAM_GOALS[key]
        met = reached(result[key]["tonesieve"]["median"], goal)
        rows.append([name, *found, f"{goal:g}", met])
    slow, grown, start = result["slowest"], result["growth"], result["start"]
    return {
        "table": table(rows, ["", *WAYS, "goal", "met"]),
        "difference": f"{result['difference']['torch']:.1e}",
        "slow": {
            "median": f"{slow['median']:.2f}",
            "p99": f"{slow['99']:.2f}",
            "p999": f"{slow['99.9']:.2f}",
            "most": f"{slow['most']:.0f}",
        },
        "few": f"{grown['samples'] // 100:,}",
        "many": f"{grown['samples']:,}",
        "before_mb": f"{grown['before_mb']:.1f}",
        "after_mb": f"{grown['after_mb']:.1f}",
        "warm": times(start["warm"]["first_s"]),
        "cold": times(start["cold"]["first_s"]),
        "compiled": times(start["cold"]["compiled_s"]),
        "cold_difference": f"{start['cold']['difference']:.1e}",
    }


def recordings() -> dict[str, Any] | None:
    large, day = kept("recordings-large"), kept("recordings-day")
    if large is None or day is None:
        return None
    rows = [
        [f"{r['samples']:,}", f"{r['file_mb']:.0f}", f"{r['seconds']:.0f}", f"{r['peak_mb']:.0f}"]
        for r in large["result"]
    ]
    one = day["result"]
    return {
        "table": table(rows, ["samples", "file, MB", "seconds", "peak memory, MB"]),
        "lines": f"{one['lines']:,}",
        "seconds": f"{one['seconds']:.0f}",
        "us_per_line": f"{one['us_per_line']:.2f}",
        "peak_mb": f"{one['peak_mb']:.0f}",
        "killed_after": f"{one['killed_after_lines']:,}",
        "same": "the same bytes as" if one["same"] else "OTHER BYTES than",
    }


def growth() -> str | None:
    result = kept("growth")
    if result is None:
        return None
    rows = [
        [
            name,
            course["unit"],
            ", ".join(f"{x:g}: {number(y)}" for x, y in zip(course["x"], course["y"], strict=True)),
            f"{course['exponent']:.2f}",
        ]
        for name, course in result["courses"].items()
    ]
    return table(rows, ["", "unit", "found", "exponent"])


def provenance() -> str:
    rows = []
    for path in sorted(FOLDER.glob("*.json")):
        result = kept(path.stem)
        assert result is not None
        of = result["machine"]
        rows.append(
            [
                f"[{path.stem}](results/benchmarks/{path.name})",
                result["day"],
                f"{of['processor']}, {of['cores']} cores",
                f"Python {of['python']}, NumPy {of['numpy']}, PyTorch {of['torch']}",
            ]
        )
    return table(rows, ["result", "day", "processor", "software"])


def page() -> str:
    """Fill the template with the kept results."""
    return render(
        "benchmarks",
        limits=limits(),
        recipes=recipes(),
        throughput=throughput(),
        streaming=streaming(),
        recordings=recordings(),
        growth=growth(),
        provenance=provenance(),
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
