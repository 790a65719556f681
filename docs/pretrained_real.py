"""The pretrained extractor in the noise of real recordings, beside the filters: figures.

Stretches, tones and filters are those of `tonesieve run --recording`, which gets its backgrounds
from the recordings under examples in the same way; so the network that such a run trains in the
recording's own noise has had the very same test.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tonesieve.commands.train_on_recording import FILE, prepare, store
from tonesieve.config.config import DataSettings, with_background
from tonesieve.errors import UserError
from tonesieve.evaluation import injection, injection_scores
from tonesieve.extraction.tone_lines import find_lines
from tonesieve.extractors.pretrained.extractor import PretrainedExtractor
from tonesieve.extractors.pretrained.smoother import smooth_blocks
from tonesieve.recordings.recording import from_array
from tonesieve.signals.line_course import LineCourse
from tonesieve.signals.synthesis import background_of

DOCS = Path(__file__).parent
EXAMPLES = DOCS.parent / "examples"
# Title; recording, tones, and the other arguments of `prepare`, as in docs/own_noise.py.
RECORDINGS: dict[str, tuple[str, Path, list[float], dict[str, Any]]] = {
    "seismometer": (
        "Mains hum in a seismometer",
        EXAMPLES / "seismometer" / "seismometer_200hz.csv",
        [50.0],
        {},
    ),
    "polar-motion": (
        "Chandler and annual wobble of the Earth's pole",
        EXAMPLES / "polar_motion" / "polar_motion_daily.csv",
        [0.8425, 1.0],
        {"column": "x_arcsec", "rate_hz": 365.25},
    ),
}
CHOICES = ("default", *injection_scores.CHOICES)


@dataclass(frozen=True)
class Fitted:
    """The extractor on records of a test: less the first sample, or the mean, of each."""

    weights: str
    data: DataSettings
    whole: bool

    def extract(self, mixture: np.ndarray) -> np.ndarray:
        """Tones (B, T, K)."""
        gain = 1 / self.data.n_components
        made = PretrainedExtractor(self.data.frequencies_hz, self.data.rate_hz, gain, self.weights)
        if not self.whole:
            first = np.isfinite(mixture).argmax(axis=1)
            level = np.nan_to_num(mixture[np.arange(len(mixture)), first])
            return np.asarray(made.extract(mixture - level[:, None]))
        away = mixture - np.nanmean(mixture, axis=1, keepdims=True)
        courses = [self._courses(record) for record in away]
        blocks = smooth_blocks(
            made,
            lambda start, stop: away[:, start:stop],
            away.shape[1],
            len(away),
            courses=courses,
        )
        return np.concatenate([made.tones(a.phasors, start) for start, a in blocks], axis=1)

    def _courses(self, samples: np.ndarray) -> list[LineCourse]:
        """Lines of the tones in one record, as `extract` finds them."""
        recording = from_array(samples, self.data.rate_hz)
        (lines,) = find_lines(recording, self.data.frequencies_hz)
        recording.rows.close()
        return [line.course for line in lines]


def recordings_results(weights: str, folder: Path) -> dict[str, Any]:
    """All figures; the backgrounds are made anew in ``folder``."""
    return {name: _results_of(name, weights, folder / name) for name in RECORDINGS}


def _results_of(name: str, weights: str, folder: Path) -> dict[str, Any]:
    title, path, hz, given = RECORDINGS[name]
    if not path.is_file():
        raise UserError(f"{path}: missing; `git checkout examples` brings it back")
    own = prepare(path, hz, **given)
    folder.mkdir(parents=True, exist_ok=True)
    config = with_background(store(folder, own.config, own), str(folder / FILE))
    data = config.data
    test = injection.draw_test(data, background_of(data))
    field = injection.evaluate_filters(data, test)
    ways = {}
    for way, whole in (("causal", False), ("whole", True)):
        made = Fitted(weights, data, whole)
        scores = injection.relative_db(made.extract(test.records.mixture), test.records.targets)
        mine = injection_scores.FilterScores(
            injection_scores.NETWORK, not whole, [""], scores[None]
        )
        alike = [one for one in field if one.causal is not whole]
        table = injection_scores.score_table([mine, *alike], test)
        ways[way] = {
            "rows": _compact(table),
            "verdict": injection_scores.network_vs_filters([mine, *alike], test),
        }
    found = own.properties
    return {
        "title": title,
        "recording": path.name,
        "samples": found["samples"],
        "rate_hz": found["rate_hz"],
        "tones_hz": [tone["hz"] for tone in found["tones"]],
        "stretches": len(np.unique(test.segment)),
        "independent_stretches": test.n_independent,
        "draws": injection.TONES_PER_SEGMENT,
        "periods_a_stretch": data.duration_s * min(data.frequencies_hz),
        "snr_db": sorted(float(snr) for snr in np.unique(test.snr_db)),
        "own_noise": _trained(name, ways["causal"]["rows"]),
        **ways,
    }


def _compact(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A row an extractor and choice of parameters, its figures by rising SNR."""
    rows = []
    table = table.sort_values("snr_db", kind="stable")
    for (name, choice), mine in table.groupby(["extractor", "knobs"], sort=False):
        figures = {key: [round(x, 3) for x in mine[key]] for key in ("nmse_db", "stderr_db")}
        setting = str(mine["setting"].iloc[0])
        rows.append({"extractor": name, "knobs": choice, "setting": setting, **figures})
    return rows


def _trained(name: str, rows: list[dict[str, Any]]) -> list[float] | None:
    """By SNR, the network that was trained in this noise, where the test was the same."""
    path = DOCS / "results" / f"own-noise-{name}.json"
    kept = _compact(pd.DataFrame(json.loads(path.read_text("utf-8"))["injected"]["rows"]))

    def of(rows: list[dict[str, Any]], who: str) -> list[float]:
        return next(
            row["nmse_db"] for row in rows if (row["extractor"], row["knobs"]) == (who, "default")
        )

    pairs = [(of(rows, who), of(kept, who)) for who in ("tracker", "least-squares")]
    same = all(len(a) == len(b) and np.allclose(a, b, atol=0.01) for a, b in pairs)
    return of(kept, injection_scores.NETWORK) if same else None
