"""Figures as text for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from tonesieve.util.text_table import decibels, number, percent, table

# Rows of a course over the age.
MOST_ROWS = 24
# Parts of a recording whose noise differs by more are worth a word.
NOTABLE_DB = 2.0
VERDICTS = {
    "filter": "filter; it listens, and shifts along with S",
    "clock": "clock; it runs by itself from time 0 and does not listen",
    "both": "both; it listens, and runs by itself as well",
    "neither": "neither; its output follows nothing",
}


def metrics_text(result: dict[str, Any]) -> str:
    """The closing lines of a run."""
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
            f"{percent(test['improvement_over_random'])} than random answers)",
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
    """The closing lines of a run in a recording's own noise."""
    injected, training = result["injected"], result["training"]
    snrs = sorted({row["snr_db"] for row in injected["rows"]})
    rows = [["NMSE, dB, at an SNR of", "knobs", *(f"{s:g} dB" for s in snrs)]]
    found: dict[tuple[bool, str, str], list[str]] = {}
    for row in injected["rows"]:
        cell = f"{row['nmse_db']:.1f} +- {row['stderr_db']:.1f}"
        found.setdefault((row["causal"], row["extractor"], row["knobs"]), []).append(cell)
    for (causal, name, knobs), cells in sorted(found.items(), key=lambda item: not item[0][0]):
        about = knobs if name != "network" else "learned"
        rows.append([name if causal else f"{name} (needs the future)", about, *cells])
    lines = [table(rows), ""]
    if "recording" in result:
        lines += _recording_lines(result["recording"])
    lines += [
        f"test:           {injected['stretches']} held-out stretches of "
        f"{injected['seconds_a_stretch']:.4g} s ({injected['independent_stretches']:.1f} side by "
        f"side), {injected['tones_a_stretch']} tones in each; hindsight: the best for each record",
        *(f"verdict:        {text}" for text in injected["says"]),
        f"training:       {training['epochs']} epochs (best {training['best_epoch']}), "
        f"{training['seconds']:.0f} s, {training['parameters']:,} parameters",
        f"run:            {result['run']}",
    ]
    return "\n".join(lines)


def _recording_lines(found: dict[str, Any]) -> list[str]:
    lines = []
    for tone in found["tones"]:
        there = "" if tone["stands_out"] else " (does not stand out)"
        low, high = tone["band_hz"]
        lines.append(
            f"tone:           {tone['hz']:g} Hz{there}, amplitude {tone['amplitude']:.3g}, "
            f"{tone['snr_db']:.1f} dB over the noise from {low:.4g} to {high:.4g} Hz"
        )
        trained, tested = (tone["noise_by_part_db"][part] for part in ("train", "test"))
        if abs(tested - trained) > NOTABLE_DB:
            lines.append(
                f"note:           the noise there is {abs(tested - trained):.1f} dB "
                f"{'louder' if tested > trained else 'quieter'} in the part to test on than in the "
                "one to train on"
            )
    return lines


def _limit_text(shifted: dict[str, Any]) -> str:
    """The best possible error for the samples that the model sees, and how far it is."""
    if shifted.get("limit") is None:
        return f"unknown ({shifted.get('limit_note') or 'evaluate the run again'})"
    best = f"{number(shifted['limit'])} +- {number(shifted['limit_stderr'])}"
    if shifted["limit_kind"] != "exact":
        best += f" ({shifted['limit_kind']} estimate; a network may beat it)"
    if shifted["ratio"] is None:
        return best
    ratio, stderr = number(shifted["ratio"]), number(shifted["ratio_stderr"])
    return f"{best} for the samples that it sees; {ratio} +- {stderr} times that"


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


def export_text(result: dict[str, Any]) -> str:
    """What goes into the graph and comes out of it, and how it is fed."""
    rows = [["", "name", "shape"]]
    for way, side in (("in", "inputs"), ("out", "outputs")):
        rows += [[way, name, " x ".join(map(str, shape))] for name, shape in result[side].items()]
    difference = result["difference"]
    tried = "not tried (this needs ONNX Runtime, and the run's own extractor)"
    if difference is not None:
        tried = f"{number(difference)} at most from the run's own answers, on a test mixture"
    return "\n".join(
        [
            table(rows),
            "",
            *textwrap.wrap(result["usage"], 88),
            "",
            f"difference: {tried}",
            f"{result['file']}: {result['bytes']:,} bytes",
        ]
    )


def extract_text(result: dict[str, Any]) -> str:
    """Amplitude, frequency, power before and after: a row a tone."""
    rows = [
        ["column", "tone", "amplitude", "followed", "band", "power before", "after", "change",
         "tone outside band"]
    ]  # fmt: skip
    for tone in result["tones"]:
        low, high = tone["band_hz"]
        followed = tone["followed_hz"]
        rows.append(
            [
                tone["column"],
                f"{tone['hz']:g} Hz",
                number(tone["amplitude"]),
                "" if followed is None else f"{followed:.6g} Hz",
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


def limit_text(result: dict[str, Any]) -> str:
    """The limit overall, by component and by age."""
    view = result["view"]
    if view["past"] is None:
        seen = (
            "all samples so far"
            if view["stride"] == 1
            else f"one in {view['stride']} samples so far"
        )
    else:
        seen = f"{view['past'] + 1} sample{'s' if view['past'] else ''}"
    if view["future"] is None:
        seen = "the whole record"
    elif view["future"]:
        seen += f" and {view['future']} later"
    untold = "" if result["told"] else ", not told which component is meant"
    kind = "limit" if result["kind"] == "exact" else f"limit ({result['kind']} estimate)"
    lines = [
        f"{kind} from {seen}{untold}: MSE {_with_error(result['mse'], result['stderr'])}",
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
        head = ["samples heard", "limit", "+-"] + (["Cramer-Rao"] if bounded else [])
        shown = ages if len(ages) <= MOST_ROWS else ages[:: -(-len(ages) // MOST_ROWS)] + ages[-1:]
        courses = [
            [f"{a['samples']:,}", number(a["mse"]), f"{a['stderr']:.1g}"]
            + ([number(a["cramer_rao"])] if bounded else [])
            for a in shown
        ]
        lines += ["", table([head, *courses])]
    return "\n".join(lines)


def diagnose_text(result: dict[str, Any]) -> str:
    """What S tells of each target, and the verdict."""
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
            f"variance of S {number(result['mixture_variance'])}; of the targets "
            f"{number(result['target_variance'])}, the MSE of predicting 0",
            f"information by: {result['information_estimator']}",
            f"limit from {result['view']}: {best}",
            f"verdict: {result['explanation']}",
        ]
    )


def compare_text(result: dict[str, Any]) -> str:
    """A table a scene."""
    lines = [
        f"{result['records']} records of {result['seconds']:g} s; settled: after "
        f"{result['settle_s']:g} s; ratio: to the limit for what each one sees"
    ]
    for scene in result["scenes"]:
        tones = [f"{c['hz']:g} Hz" for c in scene["rows"][0]["per_component"]]
        head = ["MSE", "+-", "settled", *tones, "limit", "ratio", "causal", "delay", "us/sample"]
        rows = [[scene["scene"], *head]]
        for row in scene["rows"]:
            linear = "" if row["limit_kind"] in (None, "exact") else "*"
            rows.append(
                [
                    row["name"],
                    number(row["mse"]),
                    f"{row['stderr']:.1g}",
                    number(row["settled_mse"]),
                    *(number(c["mse"]) for c in row["per_component"]),
                    number(row["limit"]) + linear,
                    "-" if row["ratio"] is None else _with_error(row["ratio"], row["ratio_stderr"]),
                    "yes" if row["causal"] else "no",
                    "grows" if row["delay_samples"] is None else str(row["delay_samples"]),
                    number(row["us_per_sample"]),
                ]
            )
        lines += ["", table(rows)]
        if any(row["limit_kind"] == "best linear" for row in scene["rows"]):
            lines.append("* of linear estimates; a network may beat it")
        if scene["limit_note"]:
            lines.append(f"no limit: {scene['limit_note']}")
    return "\n".join([*lines, "", f"written: {result['table']}, {result['picture']}"])


def probe_text(result: dict[str, Any]) -> str:
    """The verdict and the four probes behind it."""
    start, silence = result["shifted_start"], result["silence"]
    first, other, swap = start["at_first"], result["other_tone"], result["swapped_selector"]
    rows = [
        ["probe", "the output follows", "share"],
        ["start shifted", "the shifted targets", percent(start["follows_start"])],
        ["", "a clock begun at time 0", percent(start["follows_clock"])],
        *(
            [
                ["  at first", "the shifted targets", percent(first["follows_start"])],
                ["", "a clock begun at time 0", percent(first["follows_clock"])],
            ]
            if first
            else []
        ),
        ["silence", "a clock begun at time 0", percent(silence["follows_clock"])],
        ["", "(RMS over that of a tone)", percent(silence["relative_rms"])],
    ]
    if other is not None:
        rows.append(["another tone alone", "that tone", percent(other["follows_sounding"])])
        if other["follows_wanted"] is not None:
            rows.append(["", "the wanted one, silent", percent(other["follows_wanted"])])
        rows.append(["", "(RMS over that of a tone)", percent(other["relative_rms"])])
    if swap is not None:
        rows.append(["selector swapped", "the new tone", percent(swap["follows_new"])])
        rows.append(["", "the old tone", percent(swap["follows_old"])])
    settle = result["settle_samples"]
    return "\n".join(
        [
            table(rows),
            "",
            f"share: of the targets' power (1 - MSE / power), {start['records']} starts, in "
            f"{result['looked_at_samples']:,} samples after {settle:,}; at first: in those",
            f"MSE with shifted starts: {number(start['mse'])} to the targets, "
            f"{number(start['mse_to_clock'])} to the clock",
            *([] if swap else ["selector swapped: not tried (one tone, or no stream to swap in)"]),
            f"verdict: {VERDICTS[result['verdict']]}",
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
