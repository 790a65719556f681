"""The pretrained extractor over the family of tests, steady tones, and what it costs: figures.

It runs as users run it: causal through `Stream`, whole records through `run_over_recording`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from tonesieve.evaluation import benchmark
from tonesieve.evaluation.baselines import wrap_extractor
from tonesieve.extraction.pipeline import pull_array
from tonesieve.extractors.filters.registry import build_filter
from tonesieve.extractors.source import Source, make_source

N_PER_CELL, SEED = 4, 0
# Coverage needs no baselines, so that it may take more scenes; those above are the first of them.
N_COVERED = 4
# Processes, and scenes that one gets at a time.
N_WORKERS, SCENES_AT_ONCE = 2, 9
NAME, WAYS = "pretrained", ("causal", "whole")
# Axes of the tables beside those of the cells: slow tones, tones estimated together, clipping.
SLOW = 0.01
AXES = ("snr_bin", "dynamics", "noise", "frequency", "known tones", "clipping")

COST = Path(__file__).parent / "pretrained_cost.py"


def source(weights: str, freq_cycles: Sequence[float], rate_hz: float = 1.0) -> Source:
    """The extractor as the commands build it."""
    word = f"{NAME}:weights={weights}" if weights else NAME
    return make_source(word, freq_cycles)(rate_hz, "a scene")


def extract_tones(
    weights: str,
    freq_cycles: Sequence[float],
    whole: bool,
    samples: np.ndarray,
    rate_hz: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Tones (T, K) and half-widths of their bands, of samples (T,) as a user would have them."""
    made = source(weights, freq_cycles, rate_hz)
    chosen = range(len(made.frequencies_hz))
    tones, band, _ = pull_array(samples, rate_hz, made, chosen, causal=not whole)
    assert band is not None
    return tones, band


@lru_cache(maxsize=4)
def _extract_cached(
    weights: str, freq_cycles: tuple[float, ...], whole: bool, data: bytes
) -> tuple[np.ndarray, np.ndarray]:
    return extract_tones(weights, freq_cycles, whole, np.frombuffer(data))


@dataclass(frozen=True)
class ExtractorInScene:
    """An extractor for `evaluation.benchmark`; error and band use one cached estimate."""

    weights: str
    whole: bool
    freq_cycles: tuple[float, ...]

    def extract(self, mixture: np.ndarray) -> np.ndarray:
        """Tones (1, T, K)."""
        return self.extract_with_bands(mixture)[0]

    def extract_with_bands(self, mixture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tones and half-widths."""
        data = np.ascontiguousarray(mixture[0], dtype=float).tobytes()
        tones, band = _extract_cached(self.weights, self.freq_cycles, self.whole, data)
        return tones[None], band[None]


def builder(weights: str, whole: bool) -> Callable[[Sequence[float]], ExtractorInScene]:
    """Builds for the tones of a scene."""
    return lambda freq_cycles: ExtractorInScene(weights, whole, tuple(freq_cycles))


def classical_results(cache: Path) -> pd.DataFrame:
    """The filters over the family of tests; they do not depend on the weights."""
    began = time.monotonic()
    n_cells = len(benchmark.cell_grid())

    def report(number: int) -> None:
        if (number + 1) % n_cells == 0:
            print(f"filters: {number + 1} scenes, {time.monotonic() - began:.0f} s", flush=True)

    return benchmark.run_baselines(
        N_PER_CELL, cache, seed=SEED, n_workers=N_WORKERS, on_case=report
    )


class CaseResults(NamedTuple):
    """Results of one scene: scores where filters are compared, coverage by way, and clipping."""

    number: int
    scores: pd.DataFrame | None
    covered: dict[str, pd.DataFrame]
    is_clipped: bool


def case_results(number: int, weights: str, n_compared: int) -> CaseResults:
    """Run the extractor on one scene, both ways."""
    case = benchmark.draw_case(number, seed=SEED)
    ways = {way: builder(weights, way == "whole") for way in WAYS}
    baselines = [
        wrap_extractor(NAME, build, handles_nan=True, causal=way == "causal")
        for way, build in ways.items()
    ]
    return CaseResults(
        number,
        benchmark.run_benchmark(baselines, [case]) if number < n_compared else None,
        {way: benchmark.coverage(build, [case]) for way, build in ways.items()},
        "clip_quantile" in case.scene.about,
    )


def family_results(weights: str, cache: Path) -> dict[str, Any]:
    """All figures over the family of tests."""
    references = classical_results(cache)
    n_cells = len(benchmark.cell_grid())
    began, done = time.monotonic(), []
    work = partial(case_results, weights=weights, n_compared=N_PER_CELL * n_cells)
    with ProcessPoolExecutor(N_WORKERS, get_context("spawn")) as pool:
        for result in pool.map(work, range(N_COVERED * n_cells), chunksize=SCENES_AT_ONCE):
            done.append(result)
            if (result.number + 1) % n_cells == 0:
                print(f"{result.number + 1} scenes, {time.monotonic() - began:.0f} s", flush=True)
    parts = [one.scores for one in done if one.scores is not None]
    bands = {way: pd.concat([one.covered[way] for one in done]) for way in WAYS}
    clipped = {one.number for one in done if one.is_clipped}
    return family_figures(pd.concat([references, *parts], ignore_index=True), bands, clipped)


def family_figures(
    frame: pd.DataFrame, bands: dict[str, pd.DataFrame], clipped: Collection[int]
) -> dict[str, Any]:
    """Figures from a row a scene and setting, rows of `benchmark.coverage`, and the clipped."""
    frame = frame.assign(
        **{
            "frequency": np.where(frame["turn"] < SLOW, "slow", "fast"),
            "known tones": np.where(frame["n_tones"] == 1, "one", "several"),
            "clipping": np.where(frame["scene"].isin(list(clipped)), "clipped", "none"),
        }
    )
    summary = benchmark.summarise(frame)
    scenes = frame.drop_duplicates("scene").set_index("scene")
    scores = scores_of(frame, summary)
    for way in WAYS:
        scores[f"{way} covered"] = bands[way].set_index("scene")["covered"]
    by_axis = {
        axis: _rows(scores.join(scenes[axis]).groupby(axis, sort=False).mean(), axis)
        for axis in AXES
    }
    for axis, rows in by_axis.items():
        counts = scenes[axis].value_counts()
        for row in rows:
            row["scenes"] = int(counts[row[axis]])
    return {
        "scenes": len(scenes),
        "scenes_a_cell": N_PER_CELL,
        "summary": summary.astype(object).where(summary.notna(), None).to_dict("records"),
        "covered_a_cell": int(len(bands["causal"]) / len(benchmark.cell_grid())),
        "covered": {way: float(bands[way]["covered"].mean()) for way in WAYS},
        "unclipped": {way: _unclipped(bands[way], clipped) for way in WAYS},
        "by_axis": by_axis,
        "cells": cells_of(scores, scenes, bands),
        "worst": {way: worst_of(scores, scenes, way) for way in WAYS},
        "lost": {way: _lost(scores, way) for way in WAYS},
    }


def _unclipped(covered: pd.DataFrame, clipped: Collection[int]) -> dict[str, Any]:
    """The share within the band by cell, without the clipped scenes."""
    left = covered[~covered["scene"].isin(list(clipped))]
    by_cell = left.groupby(benchmark.CELL)["covered"].mean()
    return {"covered": float(left["covered"].mean()), "cells": by_cell.tolist()}


def scores_of(frame: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """NMSE by scene, causal and whole: pretrained, best fixed setting, oracle, oracle Kalman."""
    ways = {"causal": "causal", "whole": "zero-phase"}
    marked = frame["extractor"] + np.where(frame["setting"] == "", "", ": " + frame["setting"])
    scores = pd.DataFrame(index=frame["scene"].unique())
    for way, called in ways.items():
        mine = frame[frame["causal"] == (way == "causal")].assign(who=marked)
        table = mine.pivot(index="scene", columns="who", values="nmse_db")
        field = mine[mine["kind"] == "classical"]["who"].unique()
        best = summary[(summary["extractor"] == benchmark.BEST) & (summary["way"] == called)]
        scores[f"{way} {NAME}"] = table[NAME]
        scores[f"{way} best"] = table[best["who"].iloc[0]]
        scores[f"{way} oracle"] = table[field].min(axis=1)
        known = mine[mine["kind"] == "told"]["who"].unique()
        scores[f"{way} told"] = table[known[0]]
    return scores


def cells_of(
    scores: pd.DataFrame, scenes: pd.DataFrame, bands: dict[str, pd.DataFrame]
) -> list[dict[str, Any]]:
    """Of every cell and way: NMSE, what is lost or won over the best fixed setting, the bands."""
    rows = []
    shares = {way: bands[way].groupby(benchmark.CELL)["covered"].mean() for way in WAYS}
    for cell, mine in scores.join(scenes[benchmark.CELL]).groupby(benchmark.CELL, sort=False):
        row: dict[str, Any] = dict(zip(benchmark.CELL, cell, strict=True))
        for way in WAYS:
            over = mine[f"{way} {NAME}"] - mine[f"{way} best"]
            row[way] = {
                "nmse_db": float(mine[f"{way} {NAME}"].mean()),
                "over_db": float(over.mean()),
                "stderr_db": float(over.std(ddof=1) / np.sqrt(len(over))),
                "covered": float(shares[way][cell]),
            }
        rows.append(row)
    return rows


def worst_of(scores: pd.DataFrame, scenes: pd.DataFrame, way: str) -> list[dict[str, Any]]:
    """The scenes of the cell that is worst over the best fixed setting."""
    over = (scores[f"{way} {NAME}"] - scores[f"{way} best"]).rename("over")
    means = scenes[benchmark.CELL].join(over).groupby(benchmark.CELL)["over"].mean()
    mine = scenes[(scenes[benchmark.CELL] == list(means.idxmax())).all(axis=1)].index
    return [scene_row(scores, scenes, way, int(number)) for number in mine]


def scene_row(scores: pd.DataFrame, scenes: pd.DataFrame, way: str, number: int) -> dict[str, Any]:
    """What a scene is like, and how each did."""
    about, own = scenes.loc[number], scores.loc[number]
    return {
        "scene": number,
        "snr_db": float(about["snr_db"]),
        "turn": float(about["turn"]),
        "samples": int(about["n_samples"]),
        "known_tones": int(about["n_tones"]),
        **{name: str(about[name]) for name in ("dynamics", "noise")},
        **{who: float(own[f"{way} {who}"]) for who in (NAME, "best", "oracle", "told")},
    }


def _lost(scores: pd.DataFrame, way: str) -> dict[str, float]:
    """Shares of the scenes that are lost against the best fixed setting, by so much or more."""
    over = scores[f"{way} {NAME}"] - scores[f"{way} best"]
    shares = {f"{db:g}": float((over > db).mean()) for db in (0, 1, 3, 6)}
    return shares | {"won 3": float((over < -3).mean()), "worst_db": float(over.max())}


def _rows(table: pd.DataFrame, axis: str) -> list[dict[str, Any]]:
    return table.reset_index().rename(columns={"index": axis}).to_dict("records")


def curve_results(weights: str, n_scenes: int = 64) -> list[dict[str, Any]]:
    """Steady tones: NMSE by SNR and age, pretrained (causal) and oracle Kalman filter."""
    baseline = wrap_extractor(NAME, builder(weights, False), handles_nan=True)
    return benchmark.steady_curve([baseline], n_scenes=n_scenes, seed=SEED).to_dict("records")


def measured_cost(weights: str, before: Path | None = None) -> dict[str, Any]:
    """Measure time and memory, of another checkout too where one is given."""
    found = _cost_of(Path(__file__).parent.parent, weights)
    if before is not None:
        commit = subprocess.run(
            ["git", "-C", str(before), "rev-parse", "--short=10", "HEAD"],
            check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        found["before"] = {"commit": commit.stdout.strip(), **_cost_of(before, "")}
    return found


def _cost_of(checkout: Path, weights: str) -> dict[str, Any]:
    """`pretrained_cost` with the package of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
    weights = str(Path(weights).resolve()) if weights else ""
    done = subprocess.run(
        [sys.executable, str(COST), weights],
        check=True, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    return dict(json.loads(done.stdout.splitlines()[-1]))


def limits_results(weights: str, n_scenes: int = 12) -> list[dict[str, Any]]:
    """Beyond the family, one thing at a time: NMSE by how far, beside a tracker of 300 samples.

    A steady tone of 10 dB a sample in white noise, but for what is said.
    """
    wrong = [(f"{e:g}%", {"named": 1 + e / 100}) for e in (0, 0.5, 1, 2, 3, 4, 6)]
    beside = [(f"{d:g}%", {"beside": d / 100}) for d in (10, 5, 2, 1, 0.5, 0.2, 0.1)]
    quiet = [(f"{db} dB", {"snr_db": float(db)}) for db in (0, -10, -15, -20, -25, -30)]
    swing = [(f"{p:,} samples", {"period": float(p)}) for p in (3000, 1000, 300, 100, 30)]
    rows = []
    for what, cases in (
        ("the frequency is wrong by", wrong),
        ("an unnamed tone 20 dB stronger, at a distance of", beside),
        ("the SNR is", quiet),
        ("the frequency swings by ±0.5% of itself within", swing),
    ):
        for value, given in cases:
            found = np.array([_beyond(weights, number, **given) for number in range(n_scenes)])
            scores = dict(zip((*WAYS, "tracker"), found.mean(axis=0).tolist(), strict=True))
            rows.append({"what": what, "value": value, **scores})
    return rows


def _beyond(
    weights: str,
    number: int,
    *,
    snr_db: float = 10.0,
    named: float = 1.0,
    beside: float = 0.0,
    period: float = 0.0,
) -> list[float]:
    """NMSE in dB of both ways and of the tracker, the first quarter left out."""
    rng, n = np.random.default_rng((benchmark.TEST_SEED, SEED, number, 4)), 4000
    turn = float(np.exp(rng.uniform(np.log(1 / 16), np.log(0.4))))
    phases, noise = rng.uniform(0, 2 * np.pi, 3), rng.standard_normal(n)
    t = np.arange(n)
    true = np.sin(2 * np.pi * turn * t + phases[0])
    if period:
        swing = 0.005 * turn * np.sin(2 * np.pi * t / period + phases[2])
        true = np.sin(2 * np.pi * np.cumsum(turn + swing) + phases[0])
    true = true * np.sqrt(2 * 10 ** (snr_db / 10))
    samples = true + noise
    if beside:
        loud = np.sqrt(2 * 10 ** ((snr_db + 20) / 10))
        samples = samples + loud * np.sin(2 * np.pi * turn * (1 + beside) * t + phases[1])
    freq_cycles = (turn * named,)
    tracker = build_filter("tracker:memory_s=300", freq_cycles, 1.0).extract(
        (samples - samples[0])[None]
    )
    estimates = [extract_tones(weights, freq_cycles, whole, samples)[0] for whole in (False, True)]
    late = slice(n // 4, None)
    power = float(np.mean(true[late] ** 2))
    return [
        float(10 * np.log10(np.mean((estimate[late, 0] - true[late]) ** 2) / power))
        for estimate in (*estimates, tracker[0])
    ]
