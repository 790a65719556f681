"""How good an extractor is at any tone in any noise: everyone over one fixed test family.

The cells are all SNR bins, dynamics and noises; every cell has as many scenes, drawn by seeds that
no training uses. NMSE: the sum of the squared error of the first tone over the sum of its squares,
in dB, after the settling, the first 200 steps or a quarter of the record, whichever is shorter;
for bursts over the tone's mean power in the whole record. Each record's figure is held to -60 to
+10 dB, so that no single one makes a mean. Axes: B records, T samples, K tones.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from jaxtyping import Float

from tonesieve.errors import UserError
from tonesieve.evaluation.baselines import (
    CANDIDATE,
    CLASSICAL,
    TOLD,
    Baseline,
    classical_rivals,
    oracle_kalman,
)
from tonesieve.signals.distributions import log_uniform
from tonesieve.signals.dynamics import DYNAMICS
from tonesieve.signals.noise_models import NOISES
from tonesieve.signals.scenes import Scene, draw_scene
from tonesieve.util.files import replacing

# The first number of every seed of the tests; training must use another, or none.
TEST_SEED = 271828
SNR_BINS = ((-15.0, -5.0), (-5.0, 5.0), (5.0, 15.0), (15.0, 30.0))
N_STEPS = (800.0, 6000.0)
SETTLING_STEPS, SETTLING_SHARE = 200.0, 0.25
BOUNDS_DB = (-60.0, 10.0)
CELL = ["snr_bin", "dynamics", "noise"]
# Scenes between two writings of the cache.
PART = 24
# Steady tones: SNRs (dB), ages (samples), the window over an age, the tones' frequencies.
CURVE_DB = (-10.0, 0.0, 10.0, 20.0)
AGES = (30, 100, 300, 1000, 3000, 10000, 20000)
CURVE_WINDOW, CURVE_TURN = 1.2, (1 / 16, 0.45)

BEST, ORACLE = "best fixed", "oracle"
WAYS = {True: "causal", False: "zero-phase"}


@dataclass(frozen=True)
class Case:
    """A scene of the tests and the bin of its SNR."""

    number: int
    snr_bin: str
    scene: Scene


class IntervalEstimator(Protocol):
    """An extractor that says how far it may be off."""

    def extract_with_bands(
        self, mixture: Float[np.ndarray, "B T"]
    ) -> tuple[Float[np.ndarray, "B T K"], Float[np.ndarray, "B T K"]]:
        """Estimate of every tone at every sample, and the half-width of its band."""
        ...


def cell_grid() -> list[tuple[tuple[float, float], str, str]]:
    """SNR bin, dynamics and noise of every cell."""
    return list(itertools.product(SNR_BINS, DYNAMICS, NOISES))


def test_scenes(n_per_cell: int, *, seed: int) -> Iterator[Case]:
    """So many scenes of every cell, drawn as they are asked for.

    One of every cell, then the next of every cell: fewer a cell are the first of more.
    """
    cells = cell_grid()
    for number in range(n_per_cell * len(cells)):
        snr_bin, dynamics, noise = cells[number % len(cells)]
        rng = np.random.default_rng((TEST_SEED, seed, number, 1))
        snr_db, n_steps = rng.uniform(*snr_bin), round(log_uniform(N_STEPS, rng))
        scene = draw_scene(
            (TEST_SEED, seed, number), n_steps, snr_db=snr_db, dynamics=dynamics, noise=noise
        )
        yield Case(number, f"{snr_bin[0]:g} to {snr_bin[1]:g}", scene)


test_scenes.__test__ = False  # type: ignore[attr-defined]  # it is no test to pytest


def settling(scene: Scene) -> int:
    """Samples that are not judged."""
    n = len(scene.samples)
    return int(min(SETTLING_STEPS * scene.step, SETTLING_SHARE * n))


def scene_nmse_db(estimate: Float[np.ndarray, " T"], scene: Scene) -> float:
    """NMSE of the first tone, held to the bounds; what is not finite has the upper one."""
    late = slice(settling(scene), None)
    true = scene.tones[:, 0]
    power = true[late] @ true[late]
    if scene.dynamics == "bursts":
        power = (true @ true) * len(true[late]) / len(true)
    with np.errstate(all="ignore"):
        ratio = np.sum(((estimate - true)[late]) ** 2) / power
    if not np.isfinite(ratio):
        return BOUNDS_DB[1]
    return float(np.clip(10 * math.log10(max(ratio, 1e-30)), *BOUNDS_DB))


def run_benchmark(
    rivals: Sequence[Baseline],
    cases: Iterable[Case],
    *,
    on_case: Callable[[Case], None] | None = None,
) -> pd.DataFrame:
    """A row for every scene, extractor and setting; ``on_case`` hears of every scene done."""
    rows = []
    for case in cases:
        about = _about(case)
        for rival in rivals:
            with np.errstate(all="ignore"):  # a filter that has run away is as bad as can be
                estimate = rival.answer(case.scene)[:, 0]
            rows.append({
                **about,
                "extractor": rival.name,
                "setting": rival.setting,
                "kind": rival.kind,
                "causal": rival.causal,
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
    on_case: Callable[[Case], None] | None = None,
) -> pd.DataFrame:
    """The classical and the told on the tests, kept in ``cache``, .parquet or .csv, as they come.

    What is there is not done again; of more scenes than asked for, the first are given. Raises
    `UserError` for a cache of another family, seed or field.
    """
    rivals = [*classical_rivals(), *oracle_kalman()]
    known = _read(cache) if cache.exists() else pd.DataFrame()
    n_known = 0 if known.empty else int(known["scene"].max()) + 1
    if n_known:
        _check_cache(known, rivals, next(test_scenes(1, seed=seed)), cache)
    missing = itertools.islice(test_scenes(n_per_cell, seed=seed), n_known, None)
    while part := list(itertools.islice(missing, PART)):
        known = pd.concat([known, run_benchmark(rivals, part, on_case=on_case)], ignore_index=True)
        _write(known, cache)
    return known[known["scene"] < n_per_cell * len(cell_grid())].reset_index(drop=True)


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """The table of goals: NMSE over all scenes, of each way to hear, and who is behind it.

    Rows: of causal and of zero-phase filters the best fixed setting and the oracle, which has the
    best for each record; the told; the candidates. ``over_best_db``: the mean over the best fixed
    setting of its way; ``worst_cell`` and ``worst_db``: the cell where that is highest. Raises
    `UserError` where not everyone has answered every scene.
    """
    scores = _scores(frame)
    cells = frame.drop_duplicates("scene").set_index("scene")[CELL].agg(", ".join, axis=1)
    best = {way: scores[(BEST, way)] for way in WAYS.values() if (BEST, way) in scores}
    rows = []
    for (name, way), values in scores.items():
        row = {"extractor": name, "way": way, "who": values.name or "", "nmse_db": values.mean()}
        if way in best:
            over = values - best[way]
            by_cell = over.groupby(cells.reindex(over.index)).mean()
            row |= {"over_best_db": over.mean(), "worst_cell": by_cell.idxmax()}
            row["worst_db"] = by_cell.max()
        rows.append(row)
    return pd.DataFrame(rows)


def by_cell(frame: pd.DataFrame, axes: Sequence[str] = tuple(CELL)) -> pd.DataFrame:
    """Mean NMSE in every cell, or along one or two of its axes, a column each row of the table."""
    scores = pd.DataFrame({
        f"{name} {way}": values for (name, way), values in _scores(frame).items()
    })  # fmt: skip
    cells = frame.drop_duplicates("scene").set_index("scene")[list(axes)]
    return scores.join(cells).groupby(list(axes), sort=False).mean()


def steady_curve(
    rivals: Sequence[Baseline],
    *,
    n_scenes: int = 64,
    ages: Sequence[int] = AGES,
    snrs_db: Sequence[float] = CURVE_DB,
    seed: int = 0,
) -> pd.DataFrame:
    """Steady tones in white noise: NMSE (dB of the mean over scenes) from each age to 1.2 of it.

    Rows: SNR (dB a sample), age (samples), a column an extractor; the told Kalman filter is one.
    """
    field = [*rivals, oracle_kalman()[0]]
    rows = []
    for snr_db in snrs_db:
        total = np.zeros((len(field), len(ages)))
        for number in range(n_scenes):
            rng = np.random.default_rng((TEST_SEED, seed, number, 2))
            scene = draw_scene(
                (TEST_SEED, seed, number, 3), math.ceil(CURVE_WINDOW * max(ages)), snr_db=snr_db,
                dynamics="steady", noise="white", plain=True,
                freq_cycles=log_uniform(CURVE_TURN, rng),
            )  # fmt: skip
            total += [_at_ages(rival.answer(scene)[:, 0], scene, ages) for rival in field]
        found = 10 * np.log10(total / n_scenes)
        for index, age in enumerate(ages):
            columns = {r.name: found[i, index] for i, r in enumerate(field)}
            rows.append({"snr_db": snr_db, "age": age, **columns})
    return pd.DataFrame(rows)


def coverage(
    build: Callable[[Sequence[float]], IntervalEstimator], cases: Iterable[Case]
) -> pd.DataFrame:
    """Share of the samples after the settling that are within the band, a row a scene.

    Of the first tone. ``build`` gets the tones (cycles a sample) and gives what answers NaN, too.
    """
    rows = []
    for case in cases:
        late = slice(settling(case.scene), None)
        built = build(case.scene.freq_cycles)
        estimate, half = (each[0, late, 0] for each in built.extract_with_bands(
            case.scene.samples[None]
        ))  # fmt: skip
        error = np.abs(estimate - case.scene.tones[late, 0])
        rms = float(np.sqrt(np.mean(half**2) / np.mean(error**2)))
        rows.append({**_about(case), "covered": float(np.mean(error <= half)), "width": rms})
    return pd.DataFrame(rows)


def _at_ages(
    estimate: Float[np.ndarray, " T"], scene: Scene, ages: Sequence[int]
) -> Float[np.ndarray, " A"]:
    power = float(np.mean(np.abs(scene.phasors[:, 0]) ** 2)) / 2
    square = (estimate - scene.tones[:, 0]) ** 2 / power
    return np.array([square[age : round(CURVE_WINDOW * age)].mean() for age in ages])


def _about(case: Case) -> dict[str, float | str]:
    scene = case.scene
    return {
        "scene": case.number,
        "snr_bin": case.snr_bin,
        "dynamics": scene.dynamics,
        "noise": scene.noise,
        "snr_db": scene.snr_db,
        "turn": scene.freq_cycles[0],
        "n_tones": len(scene.freq_cycles),
        "n_samples": len(scene.samples),
        # Tells one draw from another.
        "digest": float(np.nansum(np.abs(scene.samples))),
    }


def _scores(frame: pd.DataFrame) -> dict[tuple[str, str], pd.Series]:
    """NMSE by scene of every row of the table; the name of each is who is behind it."""
    digests = frame.groupby("scene")["digest"]
    if not np.allclose(digests.min(), digests.max(), rtol=1e-9, atol=0):
        raise UserError("not all have heard the same scenes: judge the references anew")
    whole = frame["setting"].where(frame["setting"] == "", ": " + frame["setting"])
    marked = frame.assign(who=frame["extractor"] + whole)
    found: dict[tuple[str, str], pd.Series] = {}
    for causal, way in WAYS.items():
        mine = marked[(marked["causal"] == causal) & (marked["kind"] == CLASSICAL)]
        if not mine.empty:
            table = _table(mine)
            first = str(table.mean().idxmin())
            found[(BEST, way)] = table[first].rename(first)
            found[(ORACLE, way)] = table.min(axis=1).rename("")
        for kind in (TOLD, CANDIDATE):
            others = marked[(marked["causal"] == causal) & (marked["kind"] == kind)]
            for name in others["extractor"].unique():
                table = _table(others[others["extractor"] == name])
                found[(name, way)] = table.iloc[:, 0].rename("")
    return found


def _table(frame: pd.DataFrame) -> pd.DataFrame:
    """Scenes by who answered them."""
    table = frame.pivot(index="scene", columns="who", values="nmse_db")
    if table.isna().any(axis=None):
        raise UserError("not everyone has answered every scene: judge the references anew")
    return table


def _check_cache(known: pd.DataFrame, rivals: Sequence[Baseline], first: Case, cache: Path) -> None:
    there = known[known["scene"] == 0]
    same = math.isclose(
        float(there["digest"].iloc[0]), float(_about(first)["digest"]), rel_tol=1e-9
    )
    field = set(zip(there["extractor"], there["setting"], strict=True))
    if not same or field != {(rival.name, rival.setting) for rival in rivals}:
        raise UserError(f"{cache}: of another family, seed or field; remove it to judge anew")


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
