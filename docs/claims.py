"""Write docs/claims.md: what the write-ups claim, and what came out when it was run again.

Reads docs/claims.yaml (which rows there are), the shipped sweeps (the claimed figures) and the
results kept under docs/results.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import sweep_tables
import yaml
from markdown import render, table
from scipy.stats import spearmanr
from tables import kept

from tonesieve.config.presets import load_config
from tonesieve.sweeping.plan import Plan, points_of, read_plan
from tonesieve.sweeping.worker import FINISHED
from tonesieve.util.text_table import number

DOCS = Path(__file__).parent
PAGE = DOCS / "claims.md"
# A figure within this fraction of the claimed one counts as the same.
NEAR = 0.15
# A claim below this fraction of the limit is below it: several standard errors of the limit.
BELOW = 0.95
NAMES = {
    "test_mse": "test",
    "train_mse": "train",
    "r2": "R2",
    "correlation": "correlation",
    "best_validation_loss": "validation",
}
SHOWN = ("test_mse", "train_mse")  # for every row
COLUMNS = ("setting", "claimed", "here", "epochs", "s", "seeds", "limit", "verdict")


@dataclass(frozen=True)
class Case:
    """One setting of a write-up: its figures and ours."""

    label: str
    claimed: dict[str, float]
    here: dict[str, Any]  # a point's means
    epochs: int  # asked for by the source
    stateful: bool
    tones: list[float]
    judged: str | None = None  # by hand, for a claim without a figure


@cache
def _plan(name: str) -> tuple[Plan, dict[str, Any]]:
    plan, base = read_plan(name)
    configs = {p.label: p.config for p in points_of(plan, base, where=name)}
    return plan, configs


def _finished(sweep: str, label: str) -> pd.DataFrame:
    """The finished runs of a point."""
    rows = sweep_tables.kept(sweep)
    mine = rows[(rows["label"] == label) & (rows["status"] == FINISHED)]
    if mine.empty:
        raise SystemExit(f"sweep {sweep}: {label}: no finished run is kept")
    return mine


def _cases(entry: dict[str, Any]) -> list[Case]:
    if "preset" in entry:
        return [_preset_case(entry)]
    name = entry["sweep"]
    plan, configs = _plan(name)
    labels = [entry["label"]] if "label" in entry else entry.get("labels", list(configs))
    epochs = load_config(plan.base).training.epochs
    here = {point["label"]: point for point in sweep_tables.points(name, plan)}
    cases = []
    for label in labels:
        mine = _finished(name, label)
        tones = [column for column in mine if column.startswith("test_mse_")]
        means = [float(mine[t].astype(float).mean()) for t in tones]
        asked, claimed = configs[label].training.epochs, plan.claims.get(label, {})
        cases.append(
            Case(
                label,
                claimed,
                here[label],
                round(claimed.get("epochs", max(epochs, asked) if plan.cut else asked)),
                configs[label].stateful,
                means,
                entry.get("judged", {}).get(label),
            )
        )
    return cases


class _Figures(dict[str, Any]):
    """Kept results by name, for the words that speak of them."""

    def __missing__(self, name: str) -> dict[str, Any]:
        return dict(kept(name))


def _preset_case(entry: dict[str, Any]) -> Case:
    result = kept(entry["preset"])
    tones = result["test"]["per_component"]
    here = {
        "finished": 1,
        "test_mse": result["test"]["mse"],
        "train_mse": result["train"]["mse"],
        "shifted_mse": result["shifted"]["mse"],
        "limit": result["shifted"]["limit"],
        "r2": sum(tone["r2"] for tone in tones) / len(tones),
        "correlation": sum(tone["correlation"] for tone in tones) / len(tones),
        **result["training"],
    }
    return Case(
        entry["preset"],
        entry["claimed"],
        here,
        result["preset_epochs"],
        load_config(entry["preset"]).stateful,
        [tone["mse"] for tone in tones],
    )


def _main_figure(figures: dict[str, Any]) -> float | None:
    """The test MSE, or the one that goes with an R2."""
    if figures.get("test_mse") is not None:
        return float(figures["test_mse"])
    r2 = figures.get("r2")
    return None if r2 is None else (1 - float(r2)) / 2


def verdict(case: Case, *, input_only: bool = False) -> str:
    """Compare a claim with what came out here, in a word or two."""
    claimed = _main_figure(case.claimed)
    if claimed is None:
        return case.judged or "no figure"
    limit, here = case.here["limit"], case.here["test_mse"]
    below = limit is not None and claimed < BELOW * limit
    if below and not case.stateful:
        return "impossible"
    if abs(here / claimed - 1) <= NEAR:
        found = "reproduced"
    else:
        found = "better" if here < claimed else "not reproduced"
    return f"{found}; only by a clock" if below and input_only else found


def _row(case: Case, *, input_only: bool) -> list[str]:
    here = case.here
    stated = {k: v for k, v in case.claimed.items() if k in NAMES}
    claimed = ", ".join(f"{NAMES[k]} {number(v)}" for k, v in stated.items()) or "-"
    mine = ["test_mse", "train_mse", *(k for k in stated if k not in SHOWN)]
    figures = [f"{NAMES[k]} {number(here[k])}" for k in mine if here.get(k) is not None]
    figures.append(f"random start {number(here['shifted_mse'])}")
    seeds = str(here["finished"])
    if here["finished"] > 1 and here.get("lowest") is not None:
        seeds += f" ({number(here['lowest'])} to {number(here['highest'])})"
    epochs = f"{here['epochs']:.0f} of {case.epochs}"
    return [
        case.label,
        claimed,
        ", ".join(figures),
        epochs,
        f"{here['seconds']:.0f}",
        seeds,
        number(here["limit"]),
        verdict(case, input_only=input_only),
    ]


def _order(cases: list[Case]) -> str | None:
    """Whether the rows of a table come in the order that the source gives."""
    both = [(_main_figure(c.claimed), c.here["test_mse"], c.label) for c in cases]
    known = [(x, y, label) for x, y, label in both if x is not None and y is not None]
    if len(known) < 3 or len({x for x, _, _ in known}) < 2:
        return None
    rho = float(spearmanr([x for x, _, _ in known], [y for _, y, _ in known]).statistic)
    best = [label for _, _, label in sorted(known)]
    mine = [label for _, _, label in sorted(known, key=lambda k: k[1])]
    return (
        f"Best first, claimed: {', '.join(best)}; here: {', '.join(mine)} "
        f"(Spearman's rank correlation {rho:+.2f})."
    )


def _ratios(entry: dict[str, Any]) -> list[str]:
    """Claims of how many times one row is another's."""
    lines = []
    for claim in entry["ratios"]:
        over, under = (_quantity(entry["sweep"], claim[k], claim["of"]) for k in ("over", "under"))
        lines.append(
            f"{claim['of']}, *{claim['over']}* over *{claim['under']}*: claimed "
            f"{claim['claimed']}, here {number(over / under)} = {number(over)} / {number(under)}."
        )
    return lines


# What a ratio may be of: columns of the kept results.
QUANTITIES = {
    "Seconds an epoch": lambda rows: rows["seconds"] / rows["epochs"],
    "Test MSE": lambda rows: rows["test_mse"],
    "Share of epochs whose loss rose": lambda rows: rows["rises"],
}


def _quantity(sweep: str, label: str, name: str) -> float:
    return float(QUANTITIES[name](_finished(sweep, label)).astype(float).mean())


def _evidence(entry: dict[str, Any]) -> dict[str, str]:
    """Other settings that could have given a claimed figure, each beside that figure."""
    chosen = entry["evidence"]
    cases = [c for name in chosen["sweeps"] for c in _cases({"sweep": name})]
    cases += [_preset_case({"preset": p, "claimed": {}}) for p in chosen.get("presets", [])]
    (asked,) = _cases(entry)
    claimed = _main_figure(asked.claimed)
    if claimed is None:
        raise SystemExit(f"{entry['source']}: {entry['setting']}: evidence for no figure")
    rows = []
    for case in cases:
        if case.label == chosen["of"]:
            continue
        figures = [case.here[k] for k in ("test_mse", "train_mse", "shifted_mse", "limit")]
        rows.append([case.label, *map(number, figures), number(case.here["test_mse"] / claimed)])
    for name, mse in (kept("rescored") if chosen.get("rescored") else {}).items():
        rows.append([name, number(mse), "-", "-", "-", number(mse / claimed)])
    head = ["instead", "test", "train", "random start", "limit", "test over claim"]
    return {"claimed": number(claimed), "table": table(rows, head)}


def _section(entry: dict[str, Any]) -> dict[str, Any]:
    cases = _cases(entry)
    input_only = entry.get("input_only", False)
    findings = []
    if len(cases) == 1:
        tones = ", ".join(number(x) for x in cases[0].tones)
        findings.append(f"Test MSE per tone (1, 3, 5, 7 Hz) here: {tones}.")
    findings += [order for order in (_order(cases),) if order]
    findings += _ratios(entry) if "ratios" in entry else []
    notes = []
    for key, words in (("also", "Also claimed"), ("why", "Why")):
        if key in entry:
            notes.append(f"*{words}:* {entry[key].format_map(_Figures()).rstrip('.')}.")
    if "sweep" in entry and (cut := _plan(entry["sweep"])[0].cut):
        notes.append(f"*Cut:* {cut.rstrip('.')}.")
    return {
        "source": entry["source"],
        "setting": entry["setting"],
        "table": table([_row(case, input_only=input_only) for case in cases], COLUMNS),
        "findings": findings,
        "evidence": _evidence(entry) if "evidence" in entry else None,
        "notes": notes,
        "command": f"run {entry['preset']}" if "preset" in entry else f"sweep {entry['sweep']}",
    }


def entries() -> list[dict[str, Any]]:
    """The rows, as docs/claims.yaml has them."""
    result: list[dict[str, Any]] = yaml.safe_load(
        (DOCS / "claims.yaml").read_text(encoding="utf-8")
    )
    return result


def page() -> str:
    """Fill the template with every claim."""
    return render("claims", near=f"{NEAR:.0%}", entries=[_section(entry) for entry in entries()])


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
