"""Results as text for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from tonesieve.util.text_table import decibels, number, percent, table

# Rows of the limit by age, at most. Chosen, not tuned.
MAX_ROWS = 24
# A larger difference in noise between the parts of a recording is printed. Chosen, not tuned.
NOTABLE_DB = 2.0
PROBE_RESULTS = {
    "filter": "filter: the estimate follows the input and shifts with it",
    "clock": "clock: the output depends on the time since the start, not on the input",
    "both": "both: the output depends on the input and on the time since the start",
    "neither": "neither: the output depends on neither the input nor the time since the start",
}


def metrics_text(result: dict[str, Any]) -> str:
    """The metrics of a run."""
    if "injected" in result:
        return injected_text(result)
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
            f"{percent(test['improvement_over_random'])} better than random estimates)",
            f"generalisation: test/train {ratio}, {overall['verdict']}",
            f"random start:   MSE {number(shifted['mse'])} +- {number(shifted['stderr'])}, "
            f"settled {settled}",
            f"limit:          {_limit_text(shifted)}",
            f"training:       {training['epochs']} epochs (best {training['best_epoch']}), "
            f"{training['seconds']:.0f} s, {training['parameters']:,} parameters",
            f"run:            {result['run']}",
            *(f"WARNING: {text}" for text in result.get("warnings", [])),
        ]
    )


def injected_text(result: dict[str, Any]) -> str:
    """The metrics of a run that was trained in the noise of a recording."""
    injected, training = result["injected"], result["training"]
    snrs = sorted({row["snr_db"] for row in injected["rows"]})
    rows = [["NMSE, dB, at an SNR of", "parameters", *(f"{s:g} dB" for s in snrs)]]
    cells_of: dict[tuple[bool, str, str], list[str]] = {}
    for row in injected["rows"]:
        cell = f"{row['nmse_db']:.1f} +- {row['stderr_db']:.1f}"
        cells_of.setdefault((row["causal"], row["extractor"], row["knobs"]), []).append(cell)
    for (causal, name, chosen), cells in sorted(cells_of.items(), key=lambda item: not item[0][0]):
        parameters = chosen if name != "network" else "learned"
        rows.append([name if causal else f"{name} (not causal)", parameters, *cells])
    lines = [table(rows), ""]
    if "recording" in result:
        lines += _recording_lines(result["recording"])
    lines += [
        f"test:           {injected['stretches']} held-out stretches of "
        f"{injected['seconds_a_stretch']:.4g} s ({injected['independent_stretches']:.1f} without "
        f"overlap), {injected['tones_a_stretch']} tones in each; hindsight: the best parameters "
        "for each record, chosen with the targets known",
        *(f"result:         {text}" for text in injected["says"]),
        f"training:       {training['epochs']} epochs (best {training['best_epoch']}), "
        f"{training['seconds']:.0f} s, {training['parameters']:,} parameters",
        f"run:            {result['run']}",
    ]
    return "\n".join(lines)


def _recording_lines(recording: dict[str, Any]) -> list[str]:
    lines = []
    for tone in recording["tones"]:
        detected = "" if tone["stands_out"] else " (not detected)"
        low, high = tone["band_hz"]
        lines.append(
            f"tone:           {tone['hz']:g} Hz{detected}, amplitude {tone['amplitude']:.3g}, "
            f"{tone['snr_db']:.1f} dB above the noise from {low:.4g} to {high:.4g} Hz"
        )
        trained, tested = (tone["noise_by_part_db"][part] for part in ("train", "test"))
        if abs(tested - trained) > NOTABLE_DB:
            lines.append(
                f"note:           the noise in this band is {abs(tested - trained):.1f} dB "
                f"{'higher' if tested > trained else 'lower'} in the test part than in the "
                "training part"
            )
    return lines


def _limit_text(shifted: dict[str, Any]) -> str:
    """The smallest possible error for the samples that the model observes, and the ratio to it."""
    if shifted.get("limit") is None:
        return f"unknown ({shifted.get('limit_note') or 'evaluate the run again'})"
    best = f"{number(shifted['limit'])} +- {number(shifted['limit_stderr'])}"
    if shifted["limit_kind"] != "exact":
        best += f" (of the {shifted['limit_kind']} estimate; a network may be better)"
    if shifted["ratio"] is None:
        return best
    ratio, stderr = number(shifted["ratio"]), number(shifted["ratio_stderr"])
    return f"{best} for the observed samples; ratio {ratio} +- {stderr}"


def describe_text(result: dict[str, Any]) -> str:
    """Layers, parameters, a batch, statistics and warnings."""
    rows = [["layer", "type", "shapes", "parameters"]]
    for layer in result["layers"]:
        shapes = ", ".join(f"{n} {_shape(s)}" for n, s in layer["shapes"].items())
        rows.append([layer["name"], layer["layer"], shapes or "-", f"{layer['parameters']:,}"])
    rows.append(["all", "", "", f"{result['parameters']:,}"])
    batch = {k: "none" if s is None else _shape(s) for k, s in result["batch"].items()}
    causal = "causal" if result["causal"] else "not causal"
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
    """One line about the file that was written."""
    tones = ", ".join(f"{f:g}" for f in result["frequencies_hz"])
    return (
        f"{result['out']}: {result['samples']:,} samples at {result['rate_hz']:g} Hz, tones at "
        f"{tones} Hz, {result['split']} seed {result['seed']}"
    )


def export_text(result: dict[str, Any]) -> str:
    """Inputs and outputs of the graph, and how to use it."""
    rows = [["", "name", "shape"]]
    for direction, side in (("in", "inputs"), ("out", "outputs")):
        rows += [
            [direction, name, " x ".join(map(str, shape))] for name, shape in result[side].items()
        ]
    difference = result["difference"]
    compared = "not computed (this needs ONNX Runtime and the run's own extractor)"
    if difference is not None:
        compared = f"at most {number(difference)} from the run's own estimates, on a test mixture"
    return "\n".join(
        [
            table(rows),
            "",
            *textwrap.wrap(result["usage"], 88),
            "",
            f"difference: {compared}",
            f"{result['file']}: {result['bytes']:,} bytes",
        ]
    )


def limit_text(result: dict[str, Any]) -> str:
    """The limit overall, by component and by age."""
    view = result["view"]
    if view["past"] is None:
        observed = (
            "all past samples"
            if view["stride"] == 1
            else f"one of every {view['stride']} past samples"
        )
    else:
        observed = f"{view['past'] + 1} sample{'s' if view['past'] else ''}"
    if view["future"] is None:
        observed = "the whole record"
    elif view["future"]:
        observed += f" and {view['future']} later ones"
    no_selector = "" if result["told"] else ", without a selector"
    kind = "limit" if result["kind"] == "exact" else f"limit ({result['kind']} estimate)"
    lines = [
        f"{kind} from {observed}{no_selector}: MSE {_with_error(result['mse'], result['stderr'])}",
        f"{result['regime']} regime, phase_scale {result['phase_scale']:g}, unknown start; "
        + (f"{result['records']:,} records drawn" if result["records"] else "in closed form"),
    ]
    if result["settled_mse"] is not None:
        settled = _with_error(result["settled_mse"], result["settled_stderr"])
        lines.append(f"settled: {settled}")
    if result["cramer_rao_settled"] is not None:
        lines.append(f"Cramer-Rao bound, settled: {number(result['cramer_rao_settled'])}")
    rows = [["component", "limit", "+-"]]
    rows += [
        [f"{c['hz']:g} Hz", number(c["mse"]), f"{c['stderr']:.1g}"] for c in result["per_component"]
    ]
    lines += ["", table(rows)]
    ages = result["by_age"]
    if len(ages) > 1:
        bounded = any(age["cramer_rao"] is not None for age in ages)
        head = ["observed samples", "limit", "+-"] + (["Cramer-Rao"] if bounded else [])
        shown = ages if len(ages) <= MAX_ROWS else ages[:: -(-len(ages) // MAX_ROWS)] + ages[-1:]
        age_rows = [
            [f"{a['samples']:,}", number(a["mse"]), f"{a['stderr']:.1g}"]
            + ([number(a["cramer_rao"])] if bounded else [])
            for a in shown
        ]
        lines += ["", table([head, *age_rows])]
    return "\n".join(lines)


def diagnose_text(result: dict[str, Any]) -> str:
    """The information of S about each target, and the conclusion."""
    rows = [["component", "correlation with S", "variance", "information in one S", "limit"]]
    for c in result["components"]:
        bits = c["information_bits"]
        known = "-" if bits is None else f"{bits:.3g} +- {c['information_error_bits']:.1g} bit"
        rows.append(
            [
                f"{c['hz']:g} Hz",
                number(c["correlation"]),
                number(c["target_variance"]),
                known,
                number(c["limit"]),
            ]
        )
    best = "unknown"
    if result["limit"] is not None:
        best = _with_error(result["limit"], result["limit_stderr"])
        best += "" if result["limit_kind"] == "exact" else f" ({result['limit_kind']})"
    return "\n".join(
        [
            table(rows),
            "",
            f"variance: S {number(result['mixture_variance'])}, targets "
            f"{number(result['target_variance'])} (the MSE of the estimate 0)",
            f"estimator of the information: {result['information_estimator']}",
            f"limit from {result['view']}: {best}",
            f"result: {result['explanation']}",
        ]
    )


def compare_text(result: dict[str, Any]) -> str:
    """One table for each condition."""
    lines = [
        f"{result['records']} records of {result['seconds']:g} s; settled: after "
        f"{result['settle_s']:g} s; ratio: MSE over the limit from the samples that each observes"
    ]
    for scene in result["scenes"]:
        tones = [f"{c['hz']:g} Hz" for c in scene["rows"][0]["per_component"]]
        head = ["MSE", "+-", "settled", *tones, "limit", "ratio", "causal", "delay", "us/sample"]
        rows = [[scene["scene"], *head]]
        for row in scene["rows"]:
            mark = "" if row["limit_kind"] in (None, "exact") else "*"
            rows.append(
                [
                    row["name"],
                    number(row["mse"]),
                    f"{row['stderr']:.1g}",
                    number(row["settled_mse"]),
                    *(number(c["mse"]) for c in row["per_component"]),
                    number(row["limit"]) + mark,
                    "-" if row["ratio"] is None else _with_error(row["ratio"], row["ratio_stderr"]),
                    "yes" if row["causal"] else "no",
                    "grows" if row["delay_samples"] is None else str(row["delay_samples"]),
                    number(row["us_per_sample"]),
                ]
            )
        lines += ["", table(rows)]
        if any(row["limit_kind"] == "best linear" for row in scene["rows"]):
            lines.append("* the limit of linear estimates; a network may be better")
        if scene["limit_note"]:
            lines.append(f"no limit: {scene['limit_note']}")
    return "\n".join([*lines, "", f"written: {result['table']}, {result['picture']}"])


def probe_text(result: dict[str, Any]) -> str:
    """The results of the four probes, and the conclusion."""
    start, silence = result["shifted_start"], result["silence"]
    first, other, swap = start["at_first"], result["other_tone"], result["swapped_selector"]
    rows = [
        ["probe", "the output agrees with", "fraction"],
        ["start shifted", "the shifted targets", percent(start["follows_start"])],
        ["", "a clock that starts at time 0", percent(start["follows_clock"])],
        *(
            [
                ["  at first", "the shifted targets", percent(first["follows_start"])],
                ["", "a clock that starts at time 0", percent(first["follows_clock"])],
            ]
            if first
            else []
        ),
        ["silence", "a clock that starts at time 0", percent(silence["follows_clock"])],
        ["", "(RMS relative to a tone)", percent(silence["relative_rms"])],
    ]
    if other is not None:
        rows.append(["another tone alone", "that tone", percent(other["follows_sounding"])])
        if other["follows_wanted"] is not None:
            rows.append(["", "the selected one, silent", percent(other["follows_wanted"])])
        rows.append(["", "(RMS relative to a tone)", percent(other["relative_rms"])])
    if swap is not None:
        rows.append(["selector swapped", "the new tone", percent(swap["follows_new"])])
        rows.append(["", "the old tone", percent(swap["follows_old"])])
    settle = result["settle_samples"]
    return "\n".join(
        [
            table(rows),
            "",
            f"fraction: 1 - MSE / power of the targets, over {start['records']} starts, in "
            f"{result['looked_at_samples']:,} samples after the first {settle:,}; at first: in "
            f"the first {settle:,}",
            f"MSE with shifted starts: {number(start['mse'])} to the targets, "
            f"{number(start['mse_to_clock'])} to the clock",
            *([] if swap else ["selector swapped: not tested (one tone, or no selector to swap)"]),
            f"result: {PROBE_RESULTS[result['verdict']]}",
        ]
    )


def _with_error(value: float, stderr: float) -> str:
    return f"{number(value)} +- {float(f'{stderr:.1g}'):g}"


def _statistics_table(kind: str, statistics: dict[str, dict[str, float]]) -> str:
    names = list(next(iter(statistics.values())))
    rows = [[kind, *names]]
    rows += [[layer, *(number(s[n]) for n in names)] for layer, s in statistics.items()]
    return table(rows)


def _shape(shape: Sequence[int]) -> str:
    return "x".join(str(n) for n in shape)
