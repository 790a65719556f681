"""Write docs/own-noise.md from the results kept under docs/results.

``python docs/own_noise.py NAME RUN`` keeps a run's figures under a name, the picture of the first,
too; ``python docs/own_noise.py`` writes the page anew.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import markdown

DOCS = Path(__file__).parent
KEPT, PAGE = DOCS / "results", DOCS / "own-noise.md"
PICTURE = DOCS / "figures" / "own-noise.png"
# Name, title, the command without what the page itself adds, units of time and frequency.
RECORDINGS = {
    "seismometer": (
        "Mains hum in a seismometer",
        "tonesieve run --recording seismometer_200hz.csv --hz 50",
        ("s", "Hz"),
    ),
    "polar-motion": (
        "Chandler and annual wobble of the Earth's pole",
        "tonesieve run --recording polar_motion_daily.csv --column x_arcsec --rate 365.25 "
        "--hz 0.8425 --hz 1.0",
        ("years", "a year"),
    ),
}


def keep(name: str, run: str) -> None:
    """Keep a run's figures, and the first one's picture."""
    metrics = json.loads((Path(run) / "metrics.json").read_text(encoding="utf-8"))
    metrics["recording"]["recording"] = Path(metrics["recording"]["recording"]).name
    kept = {key: metrics[key] for key in ("recording", "injected", "training")}
    text = json.dumps(kept, indent=1) + "\n"
    (KEPT / f"own-noise-{name}.json").write_text(text, encoding="utf-8")
    if name == next(iter(RECORDINGS)):
        shutil.copy(Path(run) / "figures" / "injected.png", PICTURE)


def section(name: str) -> dict[str, Any]:
    """Collect what the template says of one recording."""
    title, command, (time, frequency) = RECORDINGS[name]
    kept = json.loads((KEPT / f"own-noise-{name}.json").read_text(encoding="utf-8"))
    found, injected, training = kept["recording"], kept["injected"], kept["training"]
    return {
        "title": title,
        "command": command,
        "time": time,
        "frequency": frequency,
        "samples": f"{found['samples']:,}",
        "rate": f"{found['rate_hz']:g}",
        "tones": "; ".join(
            f"{t['hz']:g} {frequency} (nominal: {t['asked_hz']:g}), amplitude "
            f"{t['amplitude']:.3g}, {t['snr_db']:.1f} dB"
            for t in found["tones"]
        ),
        "removal_window": f"{found['removal_window_s']:.3g}",
        "stretches": injected["stretches"],
        "stretch": f"{injected['seconds_a_stretch']:.3g}",
        "independent": f"{injected['independent_stretches']:.1f}",
        "draws": injected["tones_a_stretch"],
        "seconds": f"{training['seconds']:.0f}",
        "parameters": f"{training['parameters']:,}",
        "noise": [
            {
                "hz": f"{t['hz']:g}",
                "over": f"{t['noise_by_part_db']['test'] - t['noise_by_part_db']['train']:+.1f}",
            }
            for t in found["tones"]
        ],
        "table": table(injected["rows"]),
        "findings": [f"{text[0].upper()}{text[1:]}" for text in injected["says"]],
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Write a row an extractor and choice of parameters, a column an SNR."""
    snrs = sorted({row["snr_db"] for row in rows})
    cells: dict[tuple[bool, str, str], list[str]] = {}
    for row in rows:
        cell = f"{row['nmse_db']:.1f} ± {row['stderr_db']:.1f}"
        cells.setdefault((row["causal"], row["extractor"], row["knobs"]), []).append(cell)
    lines = []
    for (causal, name, choice), found in sorted(cells.items(), key=lambda item: not item[0][0]):
        shown = name if causal else f"{name} (needs the future)"
        lines.append([shown, "learned" if name == "network" else choice, *found])
    return markdown.table(lines, ["extractor", "parameters", *(f"{s:g} dB" for s in snrs)])


def page() -> str:
    """Fill the template with the kept results."""
    return markdown.render("own-noise", sections=[section(name) for name in RECORDINGS])


def main(words: list[str]) -> None:
    """Keep what is named, then write the page."""
    if words:
        keep(*words)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
