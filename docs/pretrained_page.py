"""The model card of the pretrained extractor: kept results in, Markdown out."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import markdown

from tonesieve.evaluation.benchmark import AGES, BEST, ORACLE
from tonesieve.signals import dynamics, noise_models, scenes

Kept = dict[str, Any]
NAME = "pretrained"
WAYS = {"causal": "causal", "whole": "whole record"}
CALLED = {"causal": "causal", "whole": "zero-phase"}
# The oracle Kalman filter and smoother, as the kept results call them; their label here.
KNOWN = {"causal": "kalman told", "whole": "smoother told"}
LABELS = {"kalman told": "oracle Kalman filter", "smoother told": "oracle Kalman smoother"}
# The goals that were set before it was trained.
OVER_BEST, OVER_KNOWN, STEADY, WORST_CELL = 4.0, 1.5, 0.5, 1.0
COVERED, CELL_COVERED = (0.88, 0.92), (0.80, 0.97)
# By the way of running: microseconds a sample of one tone of 50 Hz at 1 kHz, at most.
COST_US = {"one sample a call": 3.0, "stream, chunks of 100,000": 0.7, "whole recording": 3.0}
MEMORY_MB, FIRST_S, BYTES = 50.0, 1.0, 1_000_000
# Cells that are listed.
N_WORST = 10
AXES = {
    "snr_bin": "SNR (dB)",
    "dynamics": "dynamics",
    "noise": "noise",
    "frequency": "frequency (slow: below 0.01 cycles a sample)",
    "known tones": "tones estimated together",
    "clipping": "samples clipped",
}


class Goal(NamedTuple):
    """A goal, what was found, and whether it is met."""

    wanted: str
    found: str
    met: bool


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return markdown.table(rows, head)


def db(value: float | None, sign: str = "") -> str:
    """Decibels to a tenth."""
    return "" if value is None else f"{value:{sign}.1f}".replace("-0.0", "0.0")


def goals(kept: Kept) -> list[Goal]:
    """Every goal beside what was found."""
    found = []
    for way, shown in WAYS.items():
        found += _levels(kept, way, shown)
    found.append(_steady(kept))
    found += [_cells(kept, way, shown) for way, shown in WAYS.items()]
    for way, shown in WAYS.items():
        share = kept["covered"][way]
        found.append(
            Goal(
                f"{shown}: the band holds {_percent(COVERED)}% overall",
                f"{100 * share:.1f}%",
                COVERED[0] <= share <= COVERED[1],
            )
        )
    found += [_cells_covered(kept, way, shown) for way, shown in WAYS.items()]
    return [*found, *_costs(kept["cost"])]


def _costs(cost: dict[str, Any]) -> list[Goal]:
    found = []
    for how, most in COST_US.items():
        (row,) = (
            r for r in cost["rows"] if r["how"] == how and (r["tones"], r["lowest_hz"]) == (1, 50)
        )
        found.append(Goal(f"at most {most:g} µs a sample (one tone, {how})",
                          f"{row['median']:.2f} µs", row["median"] <= most))  # fmt: skip
    memory, first = cost["memory_mb"], cost["first_answer_s"]["median"]
    return [
        *found,
        Goal(f"at most {MEMORY_MB:g} MB over the data for {cost['memory_tones']} tones",
             f"{memory:.0f} MB", memory <= MEMORY_MB),
        Goal(f"a stream's first estimate after at most {FIRST_S:g} s", f"{first:.2f} s",
             first <= FIRST_S),
        Goal(f"weights of at most {BYTES / 1e6:g} MB", f"{cost['bytes'] / 1e6:.3f} MB",
             cost["bytes"] <= BYTES),
    ]  # fmt: skip


def _percent(limits: tuple[float, float]) -> str:
    return " to ".join(f"{100 * share:.0f}" for share in limits)


def _better(over: float) -> str:
    return f"{db(abs(over))} dB {'better' if over >= 0 else 'worse'}"


def _level(kept: Kept, who: str, way: str) -> dict[str, Any]:
    rows = kept["summary"]
    return next(r for r in rows if r["extractor"] == who and r["way"] == CALLED[way])


def _levels(kept: Kept, way: str, shown: str) -> list[Goal]:
    known = KNOWN[way]
    what = {"causal": "oracle Kalman filter", "whole": "oracle Kalman smoother"}[way]
    own = _level(kept, NAME, way)["nmse_db"]
    better = {who: _level(kept, who, way)["nmse_db"] - own for who in (BEST, ORACLE, known)}
    return [
        Goal(f"{shown}: {OVER_BEST:g} dB better than the best fixed setting",
             _better(better[BEST]), better[BEST] >= OVER_BEST),
        Goal(f"{shown}: no worse than the oracle", _better(better[ORACLE]),
             better[ORACLE] >= 0),
        Goal(f"{shown}: {OVER_KNOWN:g} dB better than the {what}",
             _better(better[known]), better[known] >= OVER_KNOWN),
    ]  # fmt: skip


def _steady(kept: Kept) -> Goal:
    over = [(r[NAME] - r[KNOWN["causal"]], r) for r in kept["curve"]]
    worst, at = max(over, key=lambda pair: pair[0])
    missed = sum(gap > STEADY for gap, _ in over)
    return Goal(
        f"steady tones: within {STEADY:g} dB of the oracle Kalman filter at every age up to "
        f"{max(AGES):,} samples",
        f"{len(over) - missed} of {len(over)} ages and SNRs; farthest {db(worst, '+')} dB, at "
        f"{at['snr_db']:g} dB, {at['age']:,} samples",
        missed == 0,
    )


def _cells(kept: Kept, way: str, shown: str) -> Goal:
    rows = kept["cells"]
    lost = [row for row in rows if row[way]["over_db"] > WORST_CELL]
    surely = [r for r in lost if r[way]["over_db"] - 2 * r[way]["stderr_db"] > WORST_CELL]
    worst = max(rows, key=lambda row: float(row[way]["over_db"]))
    found = f"{len(lost)} of {len(rows)} cells are"
    if lost:
        found += f" ({len(surely)} by more than two standard errors)"
    return Goal(
        f"{shown}: no cell worse than the best fixed setting by more than {WORST_CELL:g} dB and "
        "two standard errors",
        f"{found}; worst: {_called(worst)}, {db(worst[way]['over_db'], '+')} ± "
        f"{db(worst[way]['stderr_db'])} dB",
        not surely,
    )


def _called(row: dict[str, Any]) -> str:
    return f"{row['snr_bin']} dB, {row['dynamics']}, {row['noise']}"


def _cells_covered(kept: Kept, way: str, shown: str) -> Goal:
    low, high = CELL_COVERED
    shares = [row[way]["covered"] for row in kept["cells"]]
    outside = sum(not low <= share <= high for share in shares)
    return Goal(
        f"{shown}: the band holds {_percent(CELL_COVERED)}% in every cell",
        f"outside in {outside} of {len(shares)} cells; {100 * min(shares):.0f} to "
        f"{100 * max(shares):.0f}%",
        outside == 0,
    )


def family_tables() -> str:
    """What a scene of the family is drawn from, as the modules themselves say it."""
    parts = []
    for module, head in ((scenes, "axis"), (dynamics, "dynamics"), (noise_models, "noise")):
        parts.append(_table((head, "what is drawn"), _listed(module)))
    return "\n".join(parts)


def _listed(module: ModuleType) -> list[tuple[str, str]]:
    """The rows of the table in a module's docstring."""
    lines = (module.__doc__ or "").splitlines()
    borders = [i for i, line in enumerate(lines) if line.startswith("===")]
    width = lines[borders[0]].index("  ") + 2
    rows: list[tuple[str, str]] = []
    for line in lines[borders[-2] + 1 : borders[-1]]:
        name, text = line[:width].strip(), line[width:].strip()
        if name:
            rows.append((name, text))
        else:
            rows[-1] = (rows[-1][0], f"{rows[-1][1]} {text}")
    return rows


def recipe(notes: dict[str, Any]) -> str:
    """List how these weights were made."""
    made, figures = notes["recipe"], notes["figures"]
    words = {"causal": "causal", "both_ways": "both ways"}
    sizes = "; ".join(
        f"{100 * share:g}% of {records} records of {frames} frames"
        for frames, records, share in made["sizes"]
    )
    rows = [
        ("seed", f"{made['seed']}"),
        ("steps", f"{made['n_steps']:,} batches: {sizes} (a frame is 8 steps)"),
        ("network", f"a gated recurrent unit of {made['n_hidden']}"),
        ("commit", f"`{(notes['commit'] or 'unknown')[:12]}`, PyTorch {notes['torch']}"),
        *(
            (f"on {made['n_validating']} batches of its own, {shown}",
             f"{figures[key]['nmse_db']:.2f} dB after the settling, "
             f"{figures[key]['early_nmse_db']:.2f} dB before; "
             f"{100 * figures[key]['covered']:.1f}% within the band")
            for key, shown in words.items()
        ),
    ]  # fmt: skip
    return _table(("what", "value"), rows)


def summary_table(kept: Kept) -> str:
    """The table of goals."""
    rows = []
    for row in kept["summary"]:
        own = row["extractor"] == NAME
        name = f"**{NAME}**" if own else LABELS.get(row["extractor"], row["extractor"])
        way = "causal" if row["way"] == "causal" else "whole record"
        worst = "" if row["worst_db"] is None or row["extractor"] == BEST else (
            f"{row['worst_cell']}: {db(row['worst_db'], '+')}"
        )  # fmt: skip
        over = "" if row["extractor"] == BEST else db(row["over_best_db"], "+")
        rows.append((name, way, row["who"], db(row["nmse_db"]), over, worst))
    head = ("extractor", "input", "setting", "NMSE (dB)", "over best fixed", "worst cell (dB over)")
    return _table(head, sorted(rows, key=lambda row: row[1]))


def goal_table(kept: Kept) -> str:
    """Met or missed."""
    rows = [(g.wanted, g.found, "met" if g.met else "**missed**") for g in goals(kept)]
    return _table(("goal", "found", ""), rows)


def axis_tables(kept: Kept) -> str:
    """NMSE and coverage along each axis."""
    parts = []
    for axis, shown in AXES.items():
        rows = []
        for row in kept["by_axis"][axis]:
            cells = [str(row[axis]), str(row["scenes"])]
            for way in WAYS:
                cells += [db(row[f"{way} {who}"]) for who in (NAME, "best", "oracle", "told")]
                cells.append(f"{100 * row[f'{way} covered']:.0f}%")
            rows.append(cells)
        own = ("best fixed", "oracle", "oracle Kalman", "in band")
        parts.append(
            _table((shown, "scenes", "causal", *own, "whole record", *own), rows)
        )  # fmt: skip
    return "\n".join(parts)


def covered_tables(kept: Kept) -> str:
    """The cells whose bands hold least, by way."""
    parts = []
    for way, shown in WAYS.items():
        cells = sorted(kept["cells"], key=lambda row: float(row[way]["covered"]))[:N_WORST]
        rows = [(*_place(row), _share(row[way]["covered"])) for row in cells]
        parts.append(_table((f"SNR (dB), {shown}", "dynamics", "noise", "% in band"), rows))
    return "\n".join(parts)


def lost_table(kept: Kept) -> str:
    """The cells that are worst over the best fixed setting, by way."""
    parts = []
    for way, shown in WAYS.items():
        cells = sorted(kept["cells"], key=lambda row: -float(row[way]["over_db"]))[:N_WORST]
        rows = [
            (*_place(row), db(row[way]["nmse_db"]),
             f"{db(row[way]['over_db'], '+')} ± {db(row[way]['stderr_db'])}")
            for row in cells
        ]  # fmt: skip
        head = (f"SNR (dB), {shown}", "dynamics", "noise", "NMSE (dB)", "over best fixed (dB)")
        parts.append(_table(head, rows))
    return "\n".join(parts)


def _place(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["snr_bin"], row["dynamics"], row["noise"]


def unclipped_lines(kept: Kept) -> str:
    """What is left of the cells outside without the clipped scenes."""
    lines = []
    for way, shown in WAYS.items():
        found = kept["unclipped"][way]
        low, high = CELL_COVERED
        below = sum(share < low for share in found["cells"])
        above = sum(share > high for share in found["cells"])
        lines.append(
            f"- {shown}, without clipped scenes: {100 * found['covered']:.1f}% overall; {below} of "
            f"{len(found['cells'])} cells below {100 * low:.0f}%, {above} above {100 * high:.0f}%"
        )
    return "\n".join(lines) + "\n"


def _share(covered: float) -> str:
    text = f"{100 * covered:.0f}"
    return text if CELL_COVERED[0] <= covered <= CELL_COVERED[1] else f"**{text}**"


def worst_cells(kept: Kept) -> list[dict[str, str]]:
    """The worst cell of each way of running, and its scenes."""
    found = []
    for way, shown in WAYS.items():
        cell = max(kept["cells"], key=lambda row: float(row[way]["over_db"]))
        rows = [
            (str(s["scene"]), db(s["snr_db"]), f"{s['turn']:.3g}", f"{s['samples']:,}",
             str(s["known_tones"]), *(db(s[who]) for who in (NAME, "best", "oracle", "told")))
            for s in kept["worst"][way]
        ]  # fmt: skip
        head = ("scene", "SNR (dB)", "cycles a sample", "samples", "known tones", NAME,
                "best fixed", "oracle", "oracle Kalman")  # fmt: skip
        found.append(
            {"key": way, "way": shown, "cell": _called(cell), "table": _table(head, rows).rstrip()}
        )
    return found


def limits_tables(kept: Kept) -> str:
    """One thing at a time, beyond what it was trained on."""
    parts = []
    for what in dict.fromkeys(row["what"] for row in kept["limits"]):
        rows = [
            (row["value"], *(db(row[who]) for who in ("causal", "whole", "tracker")))
            for row in kept["limits"]
            if row["what"] == what
        ]
        parts.append(_table((what, "causal", "whole record", "tracker (causal)"), rows))
    return "\n".join(parts)


def lost_lines(kept: Kept) -> str:
    """How often it is worse than the best fixed setting."""
    lines = []
    for way, shown in WAYS.items():
        lost = kept["lost"][way]
        lines.append(
            f"- {shown}: better than the best fixed setting by more than 3 dB in "
            f"{100 * lost['won 3']:.0f}% of the scenes, worse at all in {100 * lost['0']:.0f}%, by "
            f"more than 1 dB in {100 * lost['1']:.0f}%, by more than 3 dB in "
            f"{100 * lost['3']:.0f}%, by more than 6 dB in {100 * lost['6']:.1f}%, at most by "
            f"{db(lost['worst_db'])} dB"
        )
    return "\n".join(lines) + "\n"


def real_sections(kept: Kept) -> str:
    """One table for each recording and way of running."""
    return "\n".join(_real(found) for found in kept.values())


def _real(found: dict[str, Any]) -> str:
    tones = ", ".join(f"{hz:g}" for hz in found["tones_hz"])
    parts = [
        f"### {found['title']}\n",
        f"`{found['recording']}`, tones at {tones} (rate {found['rate_hz']:g}); "
        f"{found['stretches']} stretches of {found['periods_a_stretch']:.0f} periods "
        f"({found['independent_stretches']:.1f} side by side), {found['draws']} draws in each.\n",
    ]
    head = ("extractor", "parameters", *(f"{snr:g} dB" for snr in found["snr_db"]))
    for way, shown in WAYS.items():
        rows = []
        for row in found[way]["rows"]:
            own = row["extractor"] == "network"
            pairs = zip(row["nmse_db"], row["stderr_db"], strict=True)
            cells = [f"{db(mean)} ± {db(error)}" for mean, error in pairs]
            if own:
                rows.append((f"**{NAME}**", "none", *cells))
                if way == "causal" and found["own_noise"]:
                    trained = [db(mean) for mean in found["own_noise"]]
                    rows.append(("network trained in this noise", "learned", *trained))
            elif row["knobs"] in ("default", "tuned"):
                rows.append((row["extractor"], row["knobs"], *cells))
        parts.append(f"{shown.capitalize()}:\n\n{_table(head, rows)}")
        parts.append(_against(found[way]["verdict"]))
    return "\n".join(parts)


def _against(verdict: list[dict[str, Any]]) -> str:
    """The pretrained over the best filter under each choice of its parameters."""
    choices = {
        "tuned": "the one setting that is best over all SNRs",
        "by SNR": "the best setting at each SNR",
        "hindsight": "the best setting for every single record",
    }
    rows = [
        (shown, *(
            f"{db(r[f'over_{choice}_db'], '+')} ± {db(r[f'over_{choice}_stderr_db'])} "
            f"({r[f'{choice}_best']})" for r in verdict
        ))
        for choice, shown in choices.items()
    ]  # fmt: skip
    head = (f"{NAME} over (less than 0: better)", *(f"{r['snr_db']:g} dB" for r in verdict))
    return _table(head, rows)


def cost_table(kept: Kept) -> str:
    """Time a sample, memory, time to begin, size; of another checkout too where it was measured."""
    cost = kept["cost"]
    versions = [cost, *([cost["before"]] if "before" in cost else [])]
    texts = [_cost_texts(one) for one in versions]
    head = ["what", "median of 7 (least to most)"]
    head += [f"before (commit {cost['before']['commit']})"] if len(versions) > 1 else []
    return _table(head, [(what, *(text.get(what, "") for text in texts)) for what in texts[0]])


def _cost_texts(cost: dict[str, Any]) -> dict[str, str]:
    texts = {
        f"{r['tones']} tone{'s' if r['tones'] > 1 else ''} from {r['lowest_hz']:g} Hz on at "
        f"{r['rate_hz']:g} Hz, {r['how']}": f"{_spread(r)} µs a sample"
        for r in cost["rows"]
    }
    texts[
        f"memory over the data, `extract` of {cost['memory_tones']} tones from "
        f"{cost['memory_samples']:,} samples"
    ] = f"{cost['memory_mb']:.0f} MB"
    texts["from the start of `tonesieve stream` to the first estimate"] = (
        f"{_spread(cost['first_answer_s'])} s"
    )
    texts["`tonesieve extract` on 5,000 rows of CSV, all of it"] = f"{_spread(cost['extract_s'])} s"
    texts["weights"] = f"{cost['numbers']:,} numbers, {cost['bytes']:,} bytes"
    return texts


def _spread(found: dict[str, float]) -> str:
    return f"{found['median']:.2f} ({found['least']:.2f} to {found['most']:.2f})"
