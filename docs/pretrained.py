"""Write docs/model-card.md from the results kept under docs/results.

``python docs/pretrained.py judge`` judges the shipped extractor over the family of tests (five
minutes; the filters, a quarter of an hour, are kept in runs/pretrained) and draws the pictures;
``... real`` sets it beside the filters in the noise of real recordings; ``--weights FILE`` names
other weights. Each then writes the page, as ``python docs/pretrained.py`` does alone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pretrained_page as parts

from tonesieve.util.files import write_text

DOCS = Path(__file__).parent
RESULTS, PAGE = DOCS / "results", DOCS / "model-card.md"
KEPT, REAL = RESULTS / "pretrained.json", RESULTS / "pretrained-real.json"
RUNS = DOCS.parent / "runs" / "pretrained"

HEAD = """# The pretrained extractor

What `tonesieve extract` and `tonesieve stream` use by default: the tones that are named, out of any
recording or stream, with no training and no knob to turn. It tells the tone, its amplitude, phase
and frequency, and a band that should hold the true tone in 9 cases of 10.

It can be run in three ways: *causal*, each answer from the past alone (`stream`, `extract
--causal`); with a *look-ahead* (`--with pretrained:ahead_s=2`: two seconds of the future count at
least); and on the *whole record*, what `extract` does.

Every figure on this page is written by `docs/pretrained.py` from `docs/results/pretrained.json` and
`docs/results/pretrained-real.json`; nothing in the tables is typed.

## How it works

```text
samples
  |   slow tones: averaged to a dozen steps a period
steps
  |   impulses and gaps left out, whitened by an autoregression fitted on the way
16 candidates a tone: Kalman filters of other memories, six of them following the frequency
  |   phasors           \\
  |                      evidence: how each foretells, how far neighbours are apart, ages, noise
  |                        |
  |                      network: a gated recurrent unit, one look every 8 steps
  |                        |
  +------------------ weights of the candidates, and of nothing
  |
tone, amplitude, phase, frequency, band
```

A tone that keeps still is best averaged for long, one that changes for a short time, and nobody
says beforehand which it is. So sixteen trackers run side by side, all of them textbook filters, and
a small network hears how each has done so far and weighs them; it never touches the samples, so
that it can only ever answer a mean of sixteen filters, or less of it. Tones that are named together
are fitted together, so that close ones do not leak into each other. On a whole record the same goes
forwards and backwards, and a second small network weighs both. The band is what the weighed
candidates say of their errors, corrected by the network.

## What it was trained on

Made-up signals alone, from `tonesieve/signals/scenes.py`; no recording of any kind, and nothing of
the tests: those have seeds of their own.

"""
RECIPE = """
Frequencies are in cycles a sample; a step is a sample, or a sixteenth of the tone's period where
that is longer. These weights:

"""
GOALS = """
## Goals

The goals were set before the training. Over {scenes} scenes of the family, {scenes_a_cell} in each
of {cells} cells (SNR, dynamics, noise), everyone answers each of them. NMSE: squared error over the
tone's power in dB after the first 200 steps, less is better, 0 is an answer of nothing; the mean
over scenes, each held to -60 to +10 dB.

- *best fixed*: of all classical filters and settings (named in the table) the one that is best on
  average over these scenes; nobody knows it before the test.
- *oracle*: for each scene the best of all these filters and settings, chosen by the truth.
- *told*: a Kalman filter (whole record: smoother) that is told the tones' powers, the noise's level
  and how much the tone walks. It is not told of lines, trends and wrong frequencies.

"""
CELLS = """
![NMSE over the best fixed setting in every cell](figures/pretrained-cells.png)

A cell has {scenes_a_cell} scenes, so its mean is known to a decibel or two only: its standard error
is {stderr_causal} dB in the median of the cells for causal answers, and {stderr_whole} dB for
whole records.

Steady tones, which all filters are best at:

![NMSE of a steady tone over its age](figures/pretrained-steady.png)

## By axis

NMSE in dB, mean over the scenes; *in band*: share of the samples whose true tone lies within the
band.

"""
COVERED = """
## Calibration by cell

Percent of the samples within the band, causal / whole record; bold: outside {low:.0f} to
{high:.0f}%.

"""
CLIPPED = """
Most of what is below comes from clipping, the least covered cell too: a clipped tone is smaller
than the true one by a share that nothing in the samples tells. Everyone has the same error there,
and the band, which knows of noise only, does not hold it. Above are mostly steady tones and drifts:
there the bands are wider than they need be. Each cell has {covered_a_cell} scenes here.

"""
WORST = """
## The worst cell, and why

"""
FAILS = """
## Where it fails

Against the best fixed setting, scene by scene:

"""
LOST = """
What the scenes that are lost by most have in common:

- *The tone is taken for noise.* Of a strong tone that changes fast, the candidates leave so much
  that the autoregression, which is meant to learn the noise, learns the tone and whitens some of
  it away. Scene 468 (a tone of 28 dB that fades and sways once in some 1,400 steps, 0.013 cycles a
  sample) shows it: -11 dB by the past alone and -33 dB with all of the record, where a Wiener
  filter has -43 dB. The band tells.
- *Strong lines that nobody named, close by* (scenes 38, 530; one at a time: below). All candidates
  hear them. With the lines within a quarter of the tone's frequency named as tones, too, both
  scenes are answered to -23 dB and better.
- *Nothing but noise after the first moments* (scenes 17, 208): see the worst cell.

And where the family does not go: it has learned of up to four tones at once, and a dozen that are
1 Hz apart, at 1000 Hz, are answered wildly for the first seconds; so are tones on a slope that
rises by a thousand times their amplitude a second. `--with tracker` is the better one there. Where
most samples are missing, the bands of slow tones are too narrow.

"""
LIMITS = """Beyond what it was trained on, one thing at a time: a steady tone of 10 dB a sample in
white noise, 4,000 samples, the first quarter left out, mean over 12 scenes, NMSE in dB; beside it a
tracker with a memory of 300 samples.

![NMSE beyond the family](figures/pretrained-limits.png)

"""
SHOWN = """
## Shown

A drifting hum, followed:

![true and followed frequency; tone, estimate and band](figures/pretrained-hum.png)

A burst. At its end the causal answer goes on until there is evidence that nothing is there, and for
that while its band is too narrow; the whole record knows:

![a burst, causal and with the whole record](figures/pretrained-burst.png)

Two close tones. A lock-in that is fast enough to follow them beats with the other tone:

![amplitudes of two close tones](figures/pretrained-close.png)
"""
REAL_HEAD = """
## In the noise of real recordings

Known tones put into the noise of a recording, as [own-noise.md](own-noise.md) tells, and the very
same test; nothing about the pretrained extractor was chosen with these recordings. A filter stands
there by its default and *tuned*, with the one setting that is best over all these records and SNRs,
chosen by the truth. NMSE in dB, mean over stretches ± standard error. SNR: over the noise in the
band from 0.8 to 1.25 times the frequency.

"""
REAL_SAYS = """
In the seismometer's noise it is, to about a decibel, as good as the network that was trained there,
but for the faintest tones. Seven periods in the steep noise of the pole are too short for it: on
the whole record the zero-phase filters are better there, and faint tones are lost; the network that
has learned that very noise knows at least when to answer nothing.
"""
COST = """
## Cost

{machine}; from Python, one stream.

"""
FOOT = """
## How to check it in your own noise

- `tonesieve run --recording FILE --hz F` takes the tone out of a recording, puts known ones in,
  trains a network in that very noise and sets it beside every filter; where your noise is unlike
  the family's, that network is the one to compare with.
- `tonesieve.evaluation.injection` puts known tones into a background and asks any extractor for them
  (`draw_test`, `judge_field`, `verdict`); `docs/pretrained_real.py` is an example of 100 lines.
- `tonesieve.evaluation.benchmark` judges any extractor over the family: `judge_references`, `judge`,
  `summarise`.

## How it was made

`tonesieve pretrain` draws scenes, runs the candidates, and trains the two networks; the same seed
gives the same weights on the same machine. `make pretrained` judges them and writes this page.
"""


def why(way: str) -> str:
    """What is to be seen in the scenes of the worst cell."""
    return WHY.get(way, "")


WHY = {
    "causal": "It is no worse than the best fixed setting by more than chance. What it loses, it "
    "loses in scene 484: a tone of 4,160 samples a period at -9 dB that walks, beside three that "
    "are asked for with it, one of them 19 dB louder.",
    "whole": "One scene makes the cell: in scene 17 the tone is on for some 14 samples at the "
    "record's very beginning and never again, so nothing is there while it is judged, and a Wiener "
    "filter that finds no tone answers exactly 0, which counts as -60 dB. The pretrained extractor "
    "answers a little of the noise. The next worst cell, of bursts in white noise, is so by "
    "scene 208 in the same way; bursts in all other cells are won. The third, fades of 15 to 30 dB "
    "in white noise, is so by scene 468 (below).",
}


def page(kept: dict[str, Any] | None = None, real: dict[str, Any] | None = None) -> str:
    """The whole page."""
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if kept is None else kept
    real = json.loads(REAL.read_text(encoding="utf-8")) if real is None else real
    middle = {
        f"stderr_{way}": parts.db(_median([row[way]["stderr_db"] for row in kept["cells"]]))
        for way in parts.WAYS
    }
    numbers = {**kept, **middle, "cells": len(kept["cells"])}
    low, high = (100 * share for share in parts.CELL_COVERED)
    return "".join(
        [
            HEAD,
            parts.family_tables(),
            RECIPE,
            parts.recipe(kept["weights"]["notes"]),
            GOALS.format(**numbers),
            parts.summary_table(kept),
            "\n",
            parts.goal_table(kept),
            CELLS.format(**numbers),
            parts.axis_tables(kept),
            COVERED.format(low=low, high=high),
            parts.covered_table(kept),
            CLIPPED.format(**kept),
            parts.unclipped_lines(kept),
            WORST,
            parts.worst_tables(kept, why).rstrip("\n") + "\n",
            FAILS,
            parts.lost_lines(kept),
            LOST,
            LIMITS,
            parts.limits_tables(kept),
            SHOWN,
            REAL_HEAD,
            parts.real_sections(real),
            REAL_SAYS,
            COST.format(**kept["cost"]),
            parts.cost_table(kept),
            FOOT,
        ]
    )


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def judge(weights: str) -> None:
    """Judge the extractor, keep the figures, draw the pictures."""
    import pretrained_judging as judging
    import pretrained_pictures as pictures

    from tonesieve.extractors.pretrained.gate import load_gating
    from tonesieve.inference.weights import load_pretrained

    notes = load_pretrained(weights or None)[1]
    RUNS.mkdir(parents=True, exist_ok=True)
    kept = {
        "weights": {"digest": load_gating(weights).digest, "notes": notes},
        **judging.judged_family(weights, RUNS / "classical.parquet"),
        "curve": judging.judged_curve(weights),
        "limits": judging.judged_limits(weights),
        "cost": judging.measured_cost(weights),
    }
    _keep(KEPT, kept)
    pictures.draw_kept(kept)
    pictures.draw_heard(weights)


def real(weights: str) -> None:
    """The comparison in real noise."""
    from pretrained_real import judged_recordings

    _keep(REAL, judged_recordings(weights, RUNS))


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
    """Judge what is named, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=("judge", "real"), help="what to judge anew")
    parser.add_argument("--weights", default="", help="a file; by default the package's own")
    words = parser.parse_args()
    if words.what == "judge":
        judge(words.weights)
    elif words.what == "real":
        real(words.weights)
    if KEPT.exists() and REAL.exists():
        write_text(PAGE, page())


if __name__ == "__main__":
    main()
