"""Figures as text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def metrics_text(result: dict[str, Any]) -> str:
    """The closing lines of a run."""
    test, train, shifted = result["test"], result["train"], result["shifted"]
    overall, training = result["generalisation"], result["training"]
    rows = [["component", "train MSE", "test MSE", "test R2", "correlation", "gap", "other tones"]]
    for on_train, on_test in zip(train["per_component"], test["per_component"], strict=True):
        rows.append(
            [
                f"{on_test['hz']:g} Hz",
                number(on_train["mse"]),
                number(on_test["mse"]),
                number(on_test["r2"]),
                number(on_test["correlation"]),
                percent(on_test["gap"]),
                decibels(on_test["spectrum"]["loudest_other_db"]),
            ]
        )
    ratio, gap = number(overall["ratio"]), percent(overall["gap"])
    rows.append(["all", number(train["mse"]), number(test["mse"]), "", "", gap, ""])
    settled = f"{number(shifted['settled_mse'])} +- {number(shifted['settled_stderr'])}"
    return "\n".join(
        [
            table(rows),
            "",
            f"test MSE {number(test['mse'])}: {test['band']} "
            f"({percent(test['improvement_over_mean'])} better than the mean, "
            f"{percent(test['improvement_over_random'])} than random answers)",
            f"generalisation: test/train {ratio}, {overall['verdict']}",
            f"random start:   MSE {number(shifted['mse'])} +- {number(shifted['stderr'])}, "
            f"settled {settled}",
            f"training:       {training['epochs']} epochs (best {training['best_epoch']}), "
            f"{training['seconds']:.0f} s, {training['parameters']:,} parameters",
            f"run:            {result['run']}",
        ]
    )


def describe_text(result: dict[str, Any]) -> str:
    """Layers, parameters, a batch, statistics and warnings."""
    rows = [["layer", "what", "shapes", "parameters"]]
    for layer in result["layers"]:
        shapes = ", ".join(f"{n} {_shape(s)}" for n, s in layer["shapes"].items())
        rows.append([layer["name"], layer["layer"], shapes or "-", f"{layer['parameters']:,}"])
    rows.append(["all", "", "", f"{result['parameters']:,}"])
    batch = {k: "none" if s is None else _shape(s) for k, s in result["batch"].items()}
    causal = "causal" if result["causal"] else "needs the future"
    lines = [
        f"{result['name']}: {result['kind']}, {causal}",
        "",
        table(rows, wrap=2),
        "",
        f"a batch: inputs {batch['inputs']}, selector {batch['selector']}, "
        f"outputs {batch['outputs']}; {result['batches_per_epoch']:,} batches an epoch",
    ]
    for kind in ("weights", "activations"):
        if kind in result:
            lines += ["", _statistics_table(kind, result[kind])]
    lines += [f"warning: {text}" for text in result["warnings"]]
    return "\n".join(lines)


def generate_text(result: dict[str, Any]) -> str:
    """One line on the file that was written."""
    tones = ", ".join(f"{f:g}" for f in result["frequencies_hz"])
    return (
        f"{result['out']}: {result['samples']:,} samples at {result['rate_hz']:g} Hz, tones at "
        f"{tones} Hz, {result['split']} seed {result['seed']}"
    )


def extract_text(result: dict[str, Any]) -> str:
    """Power before and after, a row a tone."""
    rows = [["column", "tone", "band", "power before", "after", "change", "tone outside band"]]
    for tone in result["tones"]:
        low, high = tone["band_hz"]
        rows.append(
            [
                tone["column"],
                f"{tone['hz']:g} Hz",
                f"{low:g}-{high:g} Hz",
                number(tone["recording_power_in_band"]),
                number(tone["residual_power_in_band"]),
                decibels(tone["reduction_db"]),
                percent(tone["outside_band_share"]),
            ]
        )
    lines = [table(rows), "", f"{result['samples']:,} samples written to {result['out']}"]
    lines += [f"warning: {text}" for text in result["warnings"]]
    return "\n".join(lines)


def table(rows: Sequence[Sequence[str]], *, wrap: int | None = None) -> str:
    """Rows of words in columns, the first row underlined; column ``wrap`` comes last, unaligned."""
    order = [i for i in range(len(rows[0])) if i != wrap] + ([] if wrap is None else [wrap])
    cells = [[row[i] for i in order] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(order))]
    lines = ["  ".join(f"{c:<{w}}" for c, w in zip(r, widths, strict=True)).rstrip() for r in cells]
    return "\n".join([lines[0], "  ".join("-" * min(w, 40) for w in widths), *lines[1:]])


def number(value: float | None) -> str:
    """Three significant digits, or a dash."""
    return "-" if value is None else f"{value:.3g}"


def percent(value: float | None) -> str:
    """A share in percent, or a dash."""
    return "-" if value is None else f"{100 * value:.3g}%"


def decibels(value: float | None) -> str:
    """A ratio in dB, or a dash."""
    return "-" if value is None else f"{value:.1f} dB"


def _statistics_table(kind: str, statistics: dict[str, dict[str, float]]) -> str:
    names = list(next(iter(statistics.values())))
    rows = [[kind, *names]]
    rows += [[layer, *(number(s[n]) for n in names)] for layer, s in statistics.items()]
    return table(rows)


def _shape(shape: Sequence[int]) -> str:
    return "x".join(str(n) for n in shape)
