"""Write docs/model-card.md from the results kept under docs/results.

``python docs/pretrained.py evaluate`` measures the shipped extractor over the test scenes and
draws the pictures. ``... classical`` runs the filters over these scenes, which needs no weights:
their results are kept in runs/pretrained, and ``evaluate`` runs what is missing. ``... cost``
measures time and memory again; with ``--before CHECKOUT`` also those of another checkout of the
package. ``... real`` compares the extractor with the filters in the noise of real recordings.
``--weights FILE`` chooses other weights. Each then writes the page; so does the script alone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pretrained_page as parts
from markdown import render

from tonesieve.util.files import write_text

DOCS = Path(__file__).parent
RESULTS, PAGE = DOCS / "results", DOCS / "model-card.md"
KEPT, REAL = RESULTS / "pretrained.json", RESULTS / "pretrained-real.json"
RUNS = DOCS.parent / "runs" / "pretrained"
CHOICES = ("evaluate", "classical", "cost", "real")


def page(kept: dict[str, Any] | None = None, real: dict[str, Any] | None = None) -> str:
    """Fill the template with the kept results."""
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if kept is None else kept
    real = json.loads(REAL.read_text(encoding="utf-8")) if real is None else real
    stderr = {
        f"stderr_{way}": parts.db(_median([row[way]["stderr_db"] for row in kept["cells"]]))
        for way in parts.WAYS
    }
    low, high = (f"{100 * fraction:.0f}" for fraction in parts.CELL_COVERED)
    return render(
        "model-card",
        family_tables=parts.family_tables(),
        recipe=parts.recipe(kept["weights"]["notes"]),
        scenes=kept["scenes"],
        scenes_a_cell=kept["scenes_a_cell"],
        n_cells=len(kept["cells"]),
        summary_table=parts.summary_table(kept),
        goal_table=parts.goal_table(kept),
        **stderr,
        axis_tables=parts.axis_tables(kept),
        covered_low=low,
        covered_high=high,
        covered_tables=parts.covered_tables(kept),
        lost_table=parts.lost_table(kept),
        n_worst=parts.N_WORST,
        covered_a_cell=kept["covered_a_cell"],
        unclipped_lines=parts.unclipped_lines(kept),
        worst=parts.worst_cells(kept),
        lost_lines=parts.lost_lines(kept),
        limits_tables=parts.limits_tables(kept),
        real_sections=parts.real_sections(real),
        machine=kept["cost"]["machine"],
        cost_table=parts.cost_table(kept),
    )


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def evaluate(weights: str, before: Path | None) -> None:
    """Evaluate the extractor, keep the figures, draw the pictures."""
    import pretrained_evaluation as evaluation
    import pretrained_pictures as pictures

    from tonesieve.extractors.pretrained.gate import load_gating
    from tonesieve.inference.weights import load_pretrained

    notes = load_pretrained(weights or None)[1]
    RUNS.mkdir(parents=True, exist_ok=True)
    kept = {
        "weights": {"digest": load_gating(weights).digest, "notes": notes},
        **evaluation.family_results(weights, RUNS / "classical.parquet"),
        "curve": evaluation.curve_results(weights),
        "limits": evaluation.limits_results(weights),
        "cost": evaluation.measured_cost(weights, before),
    }
    _keep(KEPT, kept)
    pictures.draw_kept(kept)
    pictures.draw_examples(weights)


def classical() -> None:
    """The filters, in advance."""
    from pretrained_evaluation import classical_results

    RUNS.mkdir(parents=True, exist_ok=True)
    classical_results(RUNS / "classical.parquet")


def cost(weights: str, before: Path | None) -> None:
    """Time and memory alone."""
    from pretrained_evaluation import measured_cost

    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    _keep(KEPT, kept | {"cost": measured_cost(weights, before)})


def real(weights: str) -> None:
    """The comparison in real noise."""
    from pretrained_real import recordings_results

    _keep(REAL, recordings_results(weights, RUNS))


def _keep(path: Path, kept: dict[str, Any]) -> None:
    write_text(path, json.dumps(_rounded(kept), indent=1) + "\n")


def _rounded(tree: Any) -> Any:
    """Six digits are enough to read, and make small files."""
    if isinstance(tree, dict):
        return {key: _rounded(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_rounded(value) for value in tree]
    return float(f"{tree:.6g}") if isinstance(tree, float) else tree


def main() -> None:
    """Run what is named again, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=CHOICES, help="what to run again")
    parser.add_argument("--weights", default="", help="a file; by default the package's own")
    parser.add_argument("--before", type=Path, help="a checkout whose cost is measured beside")
    words = parser.parse_args()
    if words.what == "classical":
        classical()
        return
    if words.what == "evaluate":
        evaluate(words.weights, words.before)
    elif words.what == "cost":
        cost(words.weights, words.before)
    elif words.what == "real":
        real(words.weights)
    if KEPT.exists() and REAL.exists():
        write_text(PAGE, page())


if __name__ == "__main__":
    main()
