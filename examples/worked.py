"""Three recordings worked through: mains hum, two close wobbles of the Earth's pole, an EDF file.

For each: the tones by the default extractor, with a picture. The true tones of a real recording are
unknown, so known tones are added to the same noise, and ours and a Butterworth band-pass extract
them. `python examples/worked.py` makes docs/examples.md; --short is for the tests.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import signal

import tonesieve
from tonesieve.extraction.pipeline import extract_array
from tonesieve.extractors.source import make_source
from tonesieve.recordings.recording import read_recording
from tonesieve.util.files import write_text

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
sys.path.append(str(DOCS))  # the templates and their renderer
from markdown import render, table  # noqa: E402

SEISMOMETER = HERE / "seismometer" / "seismometer_200hz.csv"
POLAR = HERE / "polar_motion" / "polar_motion_daily.csv"
# Chandler wobble and annual wobble, cycles a year; a year has so many days.
WOBBLES, YEAR_D = (365.25 / 433.5, 1.0), 365.25
# What is compared where tones are steady.
STEADY = ("pretrained", "tracker", "kalman", "least-squares-growing", "wiener")
# Half widths that a user of a band-pass might try, as fractions of the spacing to the next tone.
WIDTHS = (0.02, 0.05, 0.1, 0.2, 0.4)
USUAL = 0.2


@dataclass(frozen=True)
class Trial:
    """Noise with known tones in it: samples (T,), tones (T, K)."""

    samples: np.ndarray
    tones: np.ndarray
    rate_hz: float
    frequencies_hz: tuple[float, ...]
    spacing_hz: float

    def nmse_db(self, estimate: np.ndarray) -> float:
        """Error over power of the tones, the first and last twentieth left out; mean over tones."""
        edge = len(self.samples) // 20
        part = slice(edge, -edge)
        error = np.mean((estimate - self.tones)[part] ** 2, axis=0)
        return float(np.mean(10 * np.log10(error / np.mean(self.tones[part] ** 2, axis=0))))


def butterworth(trial: Trial, share: float, *, causal: bool) -> np.ndarray:
    """What a user of SciPy does: a band-pass of order 4 around each tone, one way or both."""
    width = share * trial.spacing_hz
    centred = trial.samples - np.mean(trial.samples)
    found = []
    for f in trial.frequencies_hz:
        edges = (max(f - width, f / 4), min(f + width, 0.49 * trial.rate_hz))
        sections = signal.butter(2, edges, "bandpass", fs=trial.rate_hz, output="sos")
        run = signal.sosfilt if causal else signal.sosfiltfilt
        found.append(run(sections, centred))
    return np.stack(found, axis=1)


def compare(trials: Sequence[Trial], *, names: Sequence[str]) -> list[dict[str, Any]]:
    """Every method's median over the trials, causal and with the whole recording."""
    rows = []
    for causal in (True, False):
        for name in names:
            found = [
                trial.nmse_db(_ours(trial, name, causal=causal))
                for trial in trials
                if causal is False or name not in ("wiener", "zero-phase")
            ]
            if found:
                rows.append(_row(name, causal, found))
        usual = [t.nmse_db(butterworth(t, USUAL, causal=causal)) for t in trials]
        best = [
            min(t.nmse_db(butterworth(t, share, causal=causal)) for share in WIDTHS) for t in trials
        ]
        rows.append(_row("Butterworth, usual width", causal, usual))
        rows.append(_row("Butterworth, best width by the true tone", causal, best))
    return rows


def _ours(trial: Trial, name: str, *, causal: bool) -> np.ndarray:
    source = make_source(name, trial.frequencies_hz)(trial.rate_hz, name)
    return extract_array(trial.samples, trial.rate_hz, source, causal=causal)


def _row(name: str, causal: bool, found: list[float]) -> dict[str, Any]:
    return {
        "method": name,
        "causal": causal,
        "nmse_db": float(np.median(found)),
        "spread_db": float(np.std(found)),
    }


def mains(out: Path, short: bool) -> dict[str, Any]:
    """Mains hum in a seismometer, near 50 Hz and not steady."""
    found = tonesieve.extract(
        SEISMOMETER, [50.0], band_hz=(49, 51), full=True, picture=True, out=out / "hum.csv"
    )
    amplitude = found["tones"][0]["amplitude"]
    samples = read_recording(SEISMOMETER).samples
    t, rng = np.arange(samples.size) / 200.0, np.random.default_rng(0)
    trials = []
    for f in (46.0, 47.0, 53.0, 54.0)[: 1 if short else 4]:
        # As steady as the grid is: its frequency wanders by 0.03 Hz within some 20 s.
        wander = signal.lfilter([1], [1, -np.exp(-1 / 4000)], rng.standard_normal(t.size))
        turn = f + 0.03 * wander / wander.std()
        tone = amplitude * np.sin(2 * np.pi * (np.cumsum(turn) / 200 + rng.random()))
        trials.append(Trial(samples + tone, tone[:, None], 200.0, (f,), 3.0))
    return {
        "title": "Mains hum in a seismometer",
        "unit": "counts",
        "tones": found["tones"],
        "known": "a tone of the hum's own amplitude at 46, 47, 53 and 54 Hz, its frequency "
        "wandering by 0.03 Hz (s.d.) within some 20 s, a trial each",
        "rows": compare(trials, names=("pretrained", "tracker", "kalman", "lock-in", "wiener")),
    }


def wobble(out: Path, short: bool) -> dict[str, Any]:
    """Chandler and annual wobble in the motion of the pole, by means over 30 days."""
    daily = pd.read_csv(POLAR)
    whole = len(daily) // 30 * 30
    means = daily.iloc[:whole].groupby(np.arange(whole) // 30).mean()
    rate = YEAR_D / 30  # samples a year: all frequencies are in cycles a year
    means.to_csv(out / "means.csv", index=False)
    found = tonesieve.extract(
        out / "means.csv", WOBBLES, columns=["x_arcsec"], rate_hz=rate, picture=True,
        out=out / "wobble.csv",
    )  # fmt: skip
    samples = means["x_arcsec"].to_numpy()
    t, rng = np.arange(samples.size) / rate, np.random.default_rng(1)
    trials = []
    apart = WOBBLES[1] - WOBBLES[0]
    for f in np.linspace(1.4, 2.6, 2 if short else 8):
        pair = (float(f), float(f + apart))
        tones = np.stack(
            [
                one["amplitude"] * np.sin(2 * np.pi * (hz * t + rng.random()))
                for one, hz in zip(found["tones"], pair, strict=True)
            ],
            axis=1,
        )
        trials.append(Trial(samples + tones.sum(axis=1), tones, rate, pair, apart))
    return {
        "title": "Chandler and annual wobble of the pole (x)",
        "unit": "arc seconds; frequencies in cycles a year",
        "tones": found["tones"],
        "known": "two steady tones of the wobbles' own amplitudes, as close to each other as they "
        "are, at eight places between 1.4 and 2.8 cycles a year, a trial each",
        "rows": compare(trials, names=STEADY),
    }


def edf(out: Path, short: bool) -> dict[str, Any]:
    """Labelled tones in pyEDFlib's own file: three close ones, added up with its noise."""
    path = Path(str(files("pyedflib") / "data" / "test_generator.edf"))
    labels = ["sine 8 Hz", "sine 8.1777 Hz", "sine 8.5 Hz"]
    tones = read_recording(path, columns=labels)
    noise = read_recording(path, columns=["noise"])
    n = 24_000 if short else tones.n_samples
    truth, rest = tones.read(0, n).T, noise.read(0, n)[0]
    frequencies = (8.0, 8.1777, 8.5)
    np.savez(out / "sum.npz", sum=truth.sum(axis=1) + rest, rate_hz=tones.rate_hz)
    found = tonesieve.extract(out / "sum.npz", frequencies, picture=True, out=out / "tones.npz")
    size = n // 4
    trials = [
        Trial(
            (truth.sum(axis=1) + rest)[a : a + size],
            truth[a : a + size],
            tones.rate_hz,
            frequencies,
            0.1777,
        )
        for a in range(0, n, size)
    ]
    return {
        "title": "Three close tones in an EDF file",
        "unit": "uV",
        "tones": found["tones"],
        "known": f"the file's own signals {', '.join(labels)} (100 uV each), added up with its "
        "signal noise; a trial is a quarter of the ten minutes",
        "rows": compare(trials, names=STEADY),
    }


EXAMPLES: dict[str, Callable[[Path, bool], dict[str, Any]]] = {
    "mains": mains,
    "wobble": wobble,
    "edf": edf,
}
PICTURES = {"mains": "hum.csv.png", "wobble": "wobble.csv.png", "edf": "tones.npz.png"}


def page(results: dict[str, Any]) -> str:
    """Fill the template with the results."""
    return render("examples", examples=[_example(name, found) for name, found in results.items()])


def _example(name: str, found: dict[str, Any]) -> dict[str, str]:
    tones = [
        [f"{tone['hz']:.6g}", f"{tone['amplitude']:.3g}",
         *(f"{tone[key]:.6g}" for key in ("followed_hz", "lowest_hz", "highest_hz"))]
        for tone in found["tones"]
    ]  # fmt: skip
    cells = {
        (row["method"], row["causal"]): f"{row['nmse_db']:.1f} ± {row['spread_db']:.1f}"
        for row in found["rows"]
    }
    methods = list(dict.fromkeys(row["method"] for row in found["rows"]))
    return {
        "name": name,
        "title": found["title"],
        "known": found["known"],
        "tones": table(
            tones, ["nominal", f"amplitude ({found['unit']})", "estimated", "from", "to"]
        ),
        "methods": table(
            [[m, cells.get((m, True), ""), cells.get((m, False), "")] for m in methods],
            ["method", "causal, NMSE dB", "whole recording, NMSE dB"],
        ),
    }


def main() -> None:
    """Work through the examples that are named, and write what came of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(EXAMPLES), help=", ".join(EXAMPLES))
    parser.add_argument("--short", action="store_true", help="fewer and shorter trials")
    parser.add_argument("--docs", type=Path, default=DOCS, help="where the page belongs")
    words = parser.parse_args()
    kept = words.docs / "results" / "examples.json"
    results = json.loads(kept.read_text()) if kept.is_file() else {}
    for name in words.names:
        with tempfile.TemporaryDirectory() as folder:
            results[name] = EXAMPLES[name](Path(folder), words.short)
            picture = words.docs / "figures" / f"example-{name}.png"
            picture.parent.mkdir(parents=True, exist_ok=True)
            picture.write_bytes((Path(folder) / PICTURES[name]).read_bytes())
    results = {name: results[name] for name in EXAMPLES if name in results}
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_text(kept, json.dumps(results, indent=2) + "\n")
    write_text(words.docs / "examples.md", page(results))
    print(page(results))


if __name__ == "__main__":
    main()
