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
HEAD = """# Trained in a recording's own noise

`tonesieve run --recording FILE --hz F` takes the tone near F out of a recording, puts known tones
into what is left, trains a network to get them back, and sets it beside every classical filter on
a stretch of the recording that it has not learned from. Every figure here comes from such a run
(`docs/own_noise.py` writes the page from `docs/results/own-noise-*.json`).

How to read the tables: NMSE is the squared error over the tone's power in dB, less is better, 0 is
what an answer of nothing scores; mean over stretches ± standard error. SNR is the tone's power over
the noise's in the band from 0.8 to 1.25 times its frequency. A filter stands there four times: as
it is by default; *tuned*, with the one setting that is best on average over all these test records
and SNRs; *by SNR*, with the best at each SNR; and in *hindsight*, with the best setting for every
single record, chosen by the truth: no one can have that, it is a bound on what tuning could give.
All three choices see the test's truth, which the network does not. What is left out: the first
quarter of every stretch.

"""
FOOT = """
## What is done with the recording

- The tone's own frequency is looked for within 1% of F; the filters are told it, too.
- It is removed by harmonic least squares (all wanted tones, an offset, a slope) in windows that
  overlap by three quarters. The window is the longest after which nothing of the tone is left
  around it in any quarter of the recording: the slower it drifts, the narrower the notch.
- A notch takes out the noise in it as well, and a network that trained upon it would learn that
  there is no noise at the tone. So the notch is filled with what the same least squares find a few
  notch widths away on both sides, moved to the tone: real noise of the recording, of the level
  around, which still stands there, too: the filling repeats it, turned to another frequency, and
  an estimator that knew by how much could use that (none here is told). What is lost: the true
  noise within about an inverse window of the tone, with whatever makes it unlike its surroundings.
  A slow change of the tone that the window does not follow stays
  in the background.
- The recording is cut into 55% to train, 15% to choose the weights by and 30% to judge on, in this
  order, with guards of half a window between.
  From the whole recording, the test part with it, come the tone's frequency, the removal's window,
  the unit, and the level, fading and wandering of the tone and its noise that set what is injected;
  the network's weights, the noise's colour and its sway come from the training part alone.
- Injected tones: start phase uniform; amplitude log-uniform, from 20 dB below the recording's own
  tone (at least to -15 dB) to 10 dB above it (at least 15 dB); frequency and log-amplitude are
  Ornstein-Uhlenbeck processes whose deviation and pace are drawn log-uniformly, up to twice what
  the recording's own tone was seen to do. Of the stretches to train on, half are a mix of two (one
  recording holds few independent samples of the noise close to a tone), and the noise around the
  tones is made louder or quieter by as much as it was seen to stray in the training part. The test
  draws its tones in the same way: a tone that behaves otherwise is another task.
- What it learns is the noise of the training part. Where the noise around the tone is another in
  the test part (it is said above by how much), it is too cautious or too bold, and the filters,
  whose knobs are chosen on the test part itself, are not.
- The network is a `bank` (24 averages a tone, whitened by what the training part tells of the
  noise's colour, weighed by a small LSTM). It is told neither SNR nor drift.
"""


def keep(name: str, run: str) -> None:
    """Keep a run's figures, and the first one's picture."""
    metrics = json.loads((Path(run) / "metrics.json").read_text(encoding="utf-8"))
    metrics["recording"]["recording"] = Path(metrics["recording"]["recording"]).name
    kept = {key: metrics[key] for key in ("recording", "injected", "training")}
    text = json.dumps(kept, indent=1) + "\n"
    (KEPT / f"own-noise-{name}.json").write_text(text, encoding="utf-8")
    if name == next(iter(RECORDINGS)):
        shutil.copy(Path(run) / "figures" / "injected.png", PICTURE)


def section(name: str) -> str:
    """One recording: what was found, the table, the verdict."""
    title, command, (time, frequency) = RECORDINGS[name]
    kept = json.loads((KEPT / f"own-noise-{name}.json").read_text(encoding="utf-8"))
    found, injected, training = kept["recording"], kept["injected"], kept["training"]
    tones = "; ".join(
        f"{t['hz']:g} {frequency} (asked: {t['asked_hz']:g}), amplitude {t['amplitude']:.3g}, "
        f"{t['snr_db']:.1f} dB"
        for t in found["tones"]
    )
    lines = [
        f"## {title}",
        "",
        f"`{command}`",
        "",
        f"{found['samples']:,} samples at {found['rate_hz']:g} {frequency}. "
        f"Tones found at {tones}. "
        f"Removed in windows of {found['removal_window_s']:.3g} {time}. "
        f"{injected['stretches']} test stretches of {injected['seconds_a_stretch']:.3g} {time} "
        f"({injected['independent_stretches']:.1f} side by side), {injected['tones_a_stretch']} "
        f"draws in each. Training: {training['seconds']:.0f} s on one core, "
        f"{training['parameters']:,} parameters.",
        "",
        *(
            f"Noise around {t['hz']:g} {frequency} in the test part: "
            f"{t['noise_by_part_db']['test'] - t['noise_by_part_db']['train']:+.1f} dB over that "
            "in the training part.\n"
            for t in found["tones"]
        ),
        *table(injected["rows"]),
        "",
        *(f"- {text[0].upper()}{text[1:]}." for text in injected["says"]),
        "",
    ]
    return "\n".join(lines)


def table(rows: list[dict[str, Any]]) -> list[str]:
    """A row an extractor and choice of knobs, a column an SNR."""
    snrs = sorted({row["snr_db"] for row in rows})
    cells: dict[tuple[bool, str, str], list[str]] = {}
    for row in rows:
        cell = f"{row['nmse_db']:.1f} ± {row['stderr_db']:.1f}"
        cells.setdefault((row["causal"], row["extractor"], row["knobs"]), []).append(cell)
    lines = ["| extractor | knobs | " + " | ".join(f"{s:g} dB" for s in snrs) + " |"]
    lines.append("|---" * (len(snrs) + 2) + "|")
    for (causal, name, knobs), found in sorted(cells.items(), key=lambda item: not item[0][0]):
        shown = name if causal else f"{name} (needs the future)"
        about = "learned" if name == "network" else knobs
        lines.append(f"| {shown} | {about} | " + " | ".join(found) + " |")
    return lines


def page() -> str:
    """The whole page."""
    picture = "![NMSE over SNR, the network thick](figures/own-noise.png)\n"
    sections = [section(name) for name in RECORDINGS]
    return HEAD + sections[0] + "\n" + picture + "\n" + "\n".join(sections[1:]) + FOOT


def main(words: list[str]) -> None:
    """Keep what is named, then write the page."""
    if words:
        keep(*words)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
