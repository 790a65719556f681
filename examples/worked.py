"""Three recordings worked through: mains hum, two close wobbles of the Earth's pole, an EDF file.

Of each: the tones by the default extractor, with a picture; and, since nobody knows the truth of a
real recording, known tones put into the same noise, which ours and a Butterworth band-pass then
have to get back. `python examples/worked.py` makes docs/examples.md; --short is for the tests.
"""

from __future__ import annotations

import argparse
import json
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
from tonesieve.extraction.pipeline import extract_array, make_source
from tonesieve.recordings.recording import read_recording
from tonesieve.util.files import write_text

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
SEISMOMETER = HERE / "seismometer" / "seismometer_200hz.csv"
POLAR = HERE / "polar_motion" / "polar_motion_daily.csv"
# Chandler wobble and annual wobble, cycles a year; a year has so many days.
WOBBLES, YEAR_D = (365.25 / 433.5, 1.0), 365.25
# Half widths that a user of a band-pass might try, as shares of the room to the next tone.
# Who is compared where tones are steady.
STEADY = ("pretrained", "tracker", "kalman", "least-squares-growing", "wiener")
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
        rows.append(_row("Butterworth, as one would", causal, usual))
        rows.append(_row("Butterworth, best width by the truth", causal, best))
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
    told = tonesieve.extract(
        SEISMOMETER, [50.0], band_hz=(49, 51), full=True, picture=True, out=out / "hum.csv"
    )
    amplitude = told["tones"][0]["amplitude"]
    heard = read_recording(SEISMOMETER).samples
    t, rng = np.arange(heard.size) / 200.0, np.random.default_rng(0)
    trials = []
    for f in (46.0, 47.0, 53.0, 54.0)[: 1 if short else 4]:
        # As steady as the grid is: its frequency wanders by 0.03 Hz within some 20 s.
        wander = signal.lfilter([1], [1, -np.exp(-1 / 4000)], rng.standard_normal(t.size))
        turn = f + 0.03 * wander / wander.std()
        tone = amplitude * np.sin(2 * np.pi * (np.cumsum(turn) / 200 + rng.random()))
        trials.append(Trial(heard + tone, tone[:, None], 200.0, (f,), 3.0))
    return {
        "title": "Mains hum in a seismometer",
        "unit": "counts",
        "told": told["tones"],
        "known": "a tone of the hum's own amplitude at 46, 47, 53 and 54 Hz, its frequency "
        "wandering by 0.03 Hz (s.d.) within some 20 s, a trial each",
        "rows": compare(trials, names=("pretrained", "tracker", "kalman", "lock-in", "wiener")),
    }


def wobble(out: Path, short: bool) -> dict[str, Any]:
    """Chandler and annual wobble in the motion of the pole, by means over 30 days."""
    table = pd.read_csv(POLAR)
    whole = len(table) // 30 * 30
    means = table.iloc[:whole].groupby(np.arange(whole) // 30).mean()
    rate = YEAR_D / 30  # samples a year: all frequencies are in cycles a year
    means.to_csv(out / "means.csv", index=False)
    told = tonesieve.extract(
        out / "means.csv", WOBBLES, columns=["x_arcsec"], rate_hz=rate, picture=True,
        out=out / "wobble.csv",
    )  # fmt: skip
    heard = means["x_arcsec"].to_numpy()
    t, rng = np.arange(heard.size) / rate, np.random.default_rng(1)
    trials = []
    apart = WOBBLES[1] - WOBBLES[0]
    for f in np.linspace(1.4, 2.6, 2 if short else 8):
        pair = (float(f), float(f + apart))
        tones = np.stack(
            [
                one["amplitude"] * np.sin(2 * np.pi * (hz * t + rng.random()))
                for one, hz in zip(told["tones"], pair, strict=True)
            ],
            axis=1,
        )
        trials.append(Trial(heard + tones.sum(axis=1), tones, rate, pair, apart))
    return {
        "title": "Chandler and annual wobble of the pole (x)",
        "unit": "arc seconds; frequencies in cycles a year",
        "told": told["tones"],
        "known": "two steady tones of the wobbles' own amplitudes, as close to each other as they "
        "are, at eight places between 1.4 and 2.8 cycles a year, a trial each",
        "rows": compare(
            trials, names=("pretrained", "tracker", "kalman", "least-squares-growing", "wiener")
        ),
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
    told = tonesieve.extract(out / "sum.npz", frequencies, picture=True, out=out / "tones.npz")
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
        "told": told["tones"],
        "known": f"the file's own signals {', '.join(labels)} (100 uV each), added up with its "
        "signal noise; a trial is a quarter of the ten minutes",
        "rows": compare(
            trials, names=("pretrained", "tracker", "kalman", "least-squares-growing", "wiener")
        ),
    }


EXAMPLES: dict[str, Callable[[Path, bool], dict[str, Any]]] = {
    "mains": mains,
    "wobble": wobble,
    "edf": edf,
}
PICTURES = {"mains": "hum.csv.png", "wobble": "wobble.csv.png", "edf": "tones.npz.png"}


def page(results: dict[str, Any]) -> str:
    """The results as a page of the docs."""
    parts = [
        "# Three recordings, worked through",
        "",
        "Made by `python examples/worked.py`. *Followed*: the frequency at which the tone was "
        "found, and where nine tenths of its power lie. NMSE: squared error over the power of the "
        "known tone, in dB, the median over the trials with their spread; the first and last "
        "twentieth left out. Causal: by the past alone. Where frequencies are in cycles a year, "
        "the picture's s are years.",
    ]
    for name, found in results.items():
        parts += ["", f"## {found['title']}", "", f"![tone, amplitude and spectra](figures/example-"
                  f"{name}.png)", ""]  # fmt: skip
        parts += [f"| asked for | amplitude ({found['unit']}) | followed | from | to |",
                  "|---|---|---|---|---|"]  # fmt: skip
        for tone in found["told"]:
            parts.append(
                f"| {tone['hz']:.6g} | {tone['amplitude']:.3g} | {tone['followed_hz']:.6g} | "
                f"{tone['lowest_hz']:.6g} | {tone['highest_hz']:.6g} |"
            )
        parts += ["", f"Known tones in the same noise: {found['known']}.", ""]
        parts += ["| method | causal, NMSE dB | whole recording, NMSE dB |", "|---|---|---|"]
        methods = list(dict.fromkeys(row["method"] for row in found["rows"]))
        for method in methods:
            cells = [
                next((f"{r['nmse_db']:.1f} ± {r['spread_db']:.1f}" for r in found["rows"]
                      if r["method"] == method and r["causal"] is causal), "")
                for causal in (True, False)
            ]  # fmt: skip
            parts.append(f"| {method} | {cells[0]} | {cells[1]} |")
    return "\n".join(parts) + "\n"


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
