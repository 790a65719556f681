"""Any extractor beside every classical filter and the oracle Kalman filters, on the same scenes.

The scenes and the score are those of `benchmark_scenes`. Axes: B records, T samples, K tones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from jaxtyping import Float

from tonesieve.errors import UserError
from tonesieve.evaluation.baselines import (
    CANDIDATE,
    CLASSICAL,
    KNOWS_MODEL,
    Baseline,
    classical_baselines,
    oracle_kalman,
)
from tonesieve.evaluation.benchmark_scenes import (
    CELL,
    TEST_SEED,
    Case,
    cell_grid,
    describe_case,
    draw_case,
    scene_nmse_db,
    settling_samples,
    test_scenes,
)
from tonesieve.signals.distributions import log_uniform
from tonesieve.signals.scenes import Scene, draw_scene
from tonesieve.util.files import replacing

# Guard against lost work: scenes between two writings of the cache.
CACHE_EVERY = 24
# Chosen, not tuned. Steady tones: SNRs (dB a sample), ages (samples), the end of the window that
# starts at an age, over that age, and the range of the tones' frequencies (cycles a sample).
CURVE_DB = (-10.0, 0.0, 10.0, 20.0)
AGES = (30, 100, 300, 1000, 3000, 10000, 20000)
CURVE_WINDOW, CURVE_FREQ_CYCLES = 1.2, (1 / 16, 0.45)

# Rows of the table of goals; values of its column ``way``.
BEST, ORACLE = "best fixed", "oracle"
CAUSALITIES = {True: "causal", False: "zero-phase"}


class IntervalEstimator(Protocol):
    """An extractor that also estimates how far its error may reach."""

    def extract_with_bands(
        self, mixture: Float[np.ndarray, "B T"]
    ) -> tuple[Float[np.ndarray, "B T K"], Float[np.ndarray, "B T K"]]:
        """Estimate every tone at every sample, and the half-width of its credible band."""
        ...


def run_benchmark(
    baselines: Sequence[Baseline],
    cases: Iterable[Case],
    *,
    on_case: Callable[[Case], None] | None = None,
) -> pd.DataFrame:
    """Score baselines on test scenes.

    Parameters
    ----------
    baselines : sequence of Baseline
        Extractors and their settings.
    cases : iterable of Case
        Test scenes.
    on_case : callable, optional
        Called with every scene that is done.

    Returns
    -------
    DataFrame
        A row for every scene, extractor and setting; the score is ``nmse_db``.
    """
    rows = []
    for case in cases:
        described = describe_case(case)
        for baseline in baselines:
            with np.errstate(all="ignore"):  # a filter that diverges has the worst score
                estimate = baseline.estimate(case.scene)[:, 0]
            rows.append({
                **described,
                "extractor": baseline.name,
                "setting": baseline.setting,
                "kind": baseline.kind,
                "causal": baseline.causal,
                "nmse_db": scene_nmse_db(estimate, case.scene),
            })  # fmt: skip
        if on_case is not None:
            on_case(case)
    return pd.DataFrame(rows)


def run_baselines(
    n_per_cell: int,
    cache: Path,
    *,
    seed: int = 0,
    n_workers: int = 1,
    on_case: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Score the classical filters and the oracle Kalman filters, and keep the results in a file.

    Scenes that the file holds are not run again. It is written while the benchmark runs.

    Parameters
    ----------
    n_per_cell : int
        Scenes of every cell. If the file holds more, the first ones are returned.
    cache : Path
        File of results, .parquet or .csv.
    seed : int
        Seed of the scenes.
    n_workers : int
        Processes.
    on_case : callable, optional
        Called with the number of every scene that is run.

    Returns
    -------
    DataFrame
        Results as of `run_benchmark`.

    Raises
    ------
    UserError
        If the file holds results on other scenes or of other baselines.
    """
    baselines = [*classical_baselines(), *oracle_kalman()]
    results = _read(cache) if cache.exists() else pd.DataFrame()
    n_cached = 0 if results.empty else int(results["scene"].max()) + 1
    if n_cached:
        _check_cache(results, baselines, next(test_scenes(1, seed=seed)), cache)
    numbers = range(n_cached, n_per_cell * len(cell_grid()))
    rows_of = partial(_baseline_rows, seed=seed)
    with ProcessPoolExecutor(n_workers, get_context("spawn")) as pool:
        run = pool.map if n_workers > 1 else map
        for start in range(0, len(numbers), CACHE_EVERY):
            done = numbers[start : start + CACHE_EVERY]
            results = pd.concat([results, *run(rows_of, done)], ignore_index=True)
            _write(results, cache)
            if on_case is not None:
                for number in done:
                    on_case(number)
    return results[results["scene"] < n_per_cell * len(cell_grid())].reset_index(drop=True)


def _baseline_rows(number: int, *, seed: int) -> pd.DataFrame:
    """Results of one scene."""
    return run_benchmark([*classical_baselines(), *oracle_kalman()], [draw_case(number, seed=seed)])


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """Compute the table of goals: the NMSE over all scenes of causal and of zero-phase extractors.

    Parameters
    ----------
    frame : DataFrame
        Results as of `run_benchmark`.

    Returns
    -------
    DataFrame
        Rows: of causal and of zero-phase filters the best fixed setting and the oracle, which is
        the best for each record; the oracle Kalman filters; the candidates. ``who``: the filter and
        setting of the row. ``over_best_db``: mean NMSE over that of the best fixed setting;
        ``worst_cell`` and ``worst_db``: the cell where that is highest.

    Raises
    ------
    UserError
        If not every extractor has a score on every scene.
    """
    scores = _scores(frame)
    cells = frame.drop_duplicates("scene").set_index("scene")[CELL].agg(", ".join, axis=1)
    best = {way: scores[(BEST, way)] for way in CAUSALITIES.values() if (BEST, way) in scores}
    rows = []
    for (name, way), values in scores.items():
        row = {"extractor": name, "way": way, "who": values.name or "", "nmse_db": values.mean()}
        if way in best:
            over = values - best[way]
            mean_over = over.groupby(cells.reindex(over.index)).mean()
            row |= {"over_best_db": over.mean(), "worst_cell": mean_over.idxmax()}
            row["worst_db"] = mean_over.max()
        rows.append(row)
    return pd.DataFrame(rows)


def by_cell(frame: pd.DataFrame, axes: Sequence[str] = tuple(CELL)) -> pd.DataFrame:
    """Compute the mean NMSE in every cell, or along some of its axes.

    Parameters
    ----------
    frame : DataFrame
        Results as of `run_benchmark`.
    axes : sequence of str
        Columns to group by.

    Returns
    -------
    DataFrame
        A column for each row of `summarise`.
    """
    scores = pd.DataFrame({
        f"{name} {way}": values for (name, way), values in _scores(frame).items()
    })  # fmt: skip
    cells = frame.drop_duplicates("scene").set_index("scene")[list(axes)]
    return scores.join(cells).groupby(list(axes), sort=False).mean()


def steady_curve(
    baselines: Sequence[Baseline],
    *,
    n_scenes: int = 64,
    ages: Sequence[int] = AGES,
    snrs_db: Sequence[float] = CURVE_DB,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure the NMSE on steady tones in white noise by the age of the record.

    Parameters
    ----------
    baselines : sequence of Baseline
        Extractors; the oracle Kalman filter is added.
    n_scenes : int
        Scenes of every SNR.
    ages : sequence of int
        Ages, samples. The error is averaged from each age to 1.2 times it.
    snrs_db : sequence of float
        SNRs, dB a sample.
    seed : int
        Seed of the scenes.

    Returns
    -------
    DataFrame
        A row for every SNR and age, a column an extractor: the mean over scenes, dB.
    """
    entries = [*baselines, oracle_kalman()[0]]
    rows = []
    for snr_db in snrs_db:
        total = np.zeros((len(entries), len(ages)))
        for number in range(n_scenes):
            rng = np.random.default_rng((TEST_SEED, seed, number, 2))
            freq_cycles = log_uniform(CURVE_FREQ_CYCLES, rng)
            scene = draw_scene(
                (TEST_SEED, seed, number, 3), math.ceil(CURVE_WINDOW * max(ages)), snr_db=snr_db,
                dynamics="steady", noise="white", freq_cycles=freq_cycles, plain=True,
            )  # fmt: skip
            total += [_at_ages(entry.estimate(scene)[:, 0], scene, ages) for entry in entries]
        nmse_db = 10 * np.log10(total / n_scenes)
        for index, age in enumerate(ages):
            columns = {entry.name: nmse_db[i, index] for i, entry in enumerate(entries)}
            rows.append({"snr_db": snr_db, "age": age, **columns})
    return pd.DataFrame(rows)


def coverage(
    build: Callable[[Sequence[float]], IntervalEstimator], cases: Iterable[Case]
) -> pd.DataFrame:
    """Measure the fraction of samples after the start-up that lie within the credible band.

    Parameters
    ----------
    build : callable
        Maps the frequencies of a scene's tones (cycles a sample) to an extractor that takes NaN for
        missing samples.
    cases : iterable of Case
        Test scenes.

    Returns
    -------
    DataFrame
        A row a scene, of its first tone. ``covered``: the fraction. ``width``: RMS of the band's
        half-width over that of the error.
    """
    rows = []
    for case in cases:
        late = slice(settling_samples(case.scene), None)
        built = build(case.scene.freq_cycles)
        estimate, half = (each[0, late, 0] for each in built.extract_with_bands(
            case.scene.samples[None]
        ))  # fmt: skip
        error = np.abs(estimate - case.scene.tones[late, 0])
        rms = float(np.sqrt(np.mean(half**2) / np.mean(error**2)))
        covered = float(np.mean(error <= half))
        rows.append({**describe_case(case), "covered": covered, "width": rms})
    return pd.DataFrame(rows)


def _at_ages(
    estimate: Float[np.ndarray, " T"], scene: Scene, ages: Sequence[int]
) -> Float[np.ndarray, " A"]:
    power = float(np.mean(np.abs(scene.phasors[:, 0]) ** 2)) / 2
    square = (estimate - scene.tones[:, 0]) ** 2 / power
    return np.array([square[age : round(CURVE_WINDOW * age)].mean() for age in ages])


def _scores(frame: pd.DataFrame) -> dict[tuple[str, str], pd.Series]:
    """NMSE by scene for every row of the table; the series is named by filter and setting."""
    digests = frame.groupby("scene")["digest"]
    if not np.allclose(digests.min(), digests.max(), rtol=1e-9, atol=0):
        raise UserError("not all results are on the same scenes: run the baselines again")
    setting = frame["setting"].where(frame["setting"] == "", ": " + frame["setting"])
    labelled = frame.assign(who=frame["extractor"] + setting)
    scores: dict[tuple[str, str], pd.Series] = {}
    for causal, way in CAUSALITIES.items():
        filters = labelled[(labelled["causal"] == causal) & (labelled["kind"] == CLASSICAL)]
        if not filters.empty:
            table = _pivot(filters)
            first = str(table.mean().idxmin())
            scores[(BEST, way)] = table[first].rename(first)
            scores[(ORACLE, way)] = table.min(axis=1).rename("")
        for kind in (KNOWS_MODEL, CANDIDATE):
            others = labelled[(labelled["causal"] == causal) & (labelled["kind"] == kind)]
            for name in others["extractor"].unique():
                table = _pivot(others[others["extractor"] == name])
                scores[(name, way)] = table.iloc[:, 0].rename("")
    return scores


def _pivot(frame: pd.DataFrame) -> pd.DataFrame:
    """NMSE, a row a scene and a column a filter and setting."""
    table = frame.pivot(index="scene", columns="who", values="nmse_db")
    if table.isna().any(axis=None):
        raise UserError("not every extractor has a score on every scene: run the baselines again")
    return table


def _check_cache(
    results: pd.DataFrame, baselines: Sequence[Baseline], first: Case, cache: Path
) -> None:
    cached = results[results["scene"] == 0]
    same = math.isclose(
        float(cached["digest"].iloc[0]), float(describe_case(first)["digest"]), rel_tol=1e-9
    )
    settings = set(zip(cached["extractor"], cached["setting"], strict=True))
    if not same or settings != {(baseline.name, baseline.setting) for baseline in baselines}:
        raise UserError(
            f"{cache}: holds results on other scenes or of other baselines; remove it to run them "
            "again"
        )


def _read(path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path, keep_default_na=False)


def _write(frame: pd.DataFrame, path: Path) -> None:
    with replacing(path) as file:
        if path.suffix == ".parquet":
            frame.to_parquet(file, index=False)
        else:
            frame.to_csv(file, index=False, float_format="%.17g")
