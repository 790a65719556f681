"""The table of goals: the same scenes for all, figures by hand, caches that know what they hold."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tonesieve.errors import UserError
from tonesieve.evaluation import baselines, benchmark
from tonesieve.evaluation.baselines import classical_rivals, oracle_kalman, wrap_extractor
from tonesieve.extractors.filters.kalman import OscillatorKalman
from tonesieve.extractors.filters.registry import FILTERS, build_filter
from tonesieve.kernels.kalman import kalman_smooth
from tonesieve.signals.scenes import Scene, draw_scene

ONES = np.ones((1, 50))
FIXED = {"snr_db": 5.0, "dynamics": "steady", "noise": "white", "plain": True}


class Nothing:
    """Answers 0, and says that it may be off by one."""

    def __init__(self, turns: Sequence[float]) -> None:
        self.n = len(turns)

    def extract(self, mixture: np.ndarray) -> np.ndarray:
        assert np.isfinite(mixture).all()
        return np.zeros((*mixture.shape, self.n))

    def extract_with_bands(self, mixture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        answer = np.zeros((*mixture.shape, self.n))
        return answer, answer + 1.0


def filtered(turns: Sequence[float]) -> OscillatorKalman:
    built = build_filter("kalman", turns, 1.0)
    assert isinstance(built, OscillatorKalman)
    return built


@pytest.fixture(scope="module")
def few() -> list[benchmark.Case]:
    """Quick scenes of several cells."""
    drawn = itertools.islice(benchmark.test_scenes(1, seed=0), 96)
    quick = [case for case in drawn if len(case.scene.samples) < 4000]
    return quick[:24:4]


@pytest.fixture(scope="module")
def judged(few: list[benchmark.Case]) -> pd.DataFrame:
    new = wrap_extractor("nothing", Nothing)
    return benchmark.run_benchmark([*classical_rivals(), *oracle_kalman(), new], few)


def test_every_cell_has_its_scenes_and_more_begin_with_fewer() -> None:
    grid = benchmark.cell_grid()
    assert len(grid) == len(set(grid)) == 96
    one, two = (list(itertools.islice(benchmark.test_scenes(n, seed=0), 8)) for n in (1, 2))
    for case, same, ((low, high), dynamics, noise) in zip(one, two, grid, strict=False):
        np.testing.assert_array_equal(case.scene.samples, same.scene.samples)
        assert low <= case.scene.snr_db <= high
        assert (case.scene.dynamics, case.scene.noise) == (dynamics, noise)
        assert case.snr_bin == f"{low:g} to {high:g}"


def test_other_seeds_are_other_scenes() -> None:
    one, other = (next(benchmark.test_scenes(1, seed=n)) for n in (0, 1))
    assert one.scene.freq_cycles != other.scene.freq_cycles


def test_nmse_is_what_it_is_by_hand() -> None:
    scene = draw_scene(3, 1000, freq_cycles=0.1, **FIXED)
    true = scene.tones[:, 0]
    wrong = true.copy()
    wrong[:200] = np.nan  # the settling is not judged
    wrong[200:] *= 1.1
    assert benchmark.settling(scene) == 200
    assert benchmark.scene_nmse_db(wrong, scene) == pytest.approx(-20.0)
    assert benchmark.scene_nmse_db(0 * true, scene) == pytest.approx(0.0)
    assert benchmark.scene_nmse_db(true, scene) == -60.0
    assert benchmark.scene_nmse_db(9 * true, scene) == 10.0
    assert benchmark.scene_nmse_db(np.nan * true, scene) == 10.0


def test_bursts_count_by_the_power_of_the_record() -> None:
    scene = draw_scene(4, 1000, freq_cycles=0.1, snr_db=5.0, dynamics="bursts", plain=True)
    true = scene.tones[:, 0]
    error = 0.1 * np.sqrt(np.mean(true**2)) * np.ones_like(true)
    assert benchmark.scene_nmse_db(true + error, scene) == pytest.approx(-20.0)


def test_everyone_answers_every_scene(few: list[benchmark.Case], judged: pd.DataFrame) -> None:
    field = {(rival.name, rival.setting) for rival in classical_rivals()}
    assert {name for name, _ in field} == set(FILTERS) - {"mean", "random"}
    assert len(judged) == len(few) * (len(field) + 3)
    assert judged["nmse_db"].between(*benchmark.BOUNDS_DB).all()
    assert (judged[judged["extractor"] == "nothing"]["nmse_db"] < 0.5).all()


def test_the_default_is_the_filter_as_it_is() -> None:
    scene = draw_scene(5, 1000, freq_cycles=0.13, **FIXED)
    default = next(r for r in classical_rivals() if (r.name, r.setting) == ("kalman", "default"))
    away = scene.samples - scene.samples[0]
    expected = filtered(scene.freq_cycles).extract(away[None])[0]
    size = np.abs(expected).max()
    np.testing.assert_allclose(default.answer(scene) / size, expected / size, atol=1e-12)


def test_multiples_and_steps_are_what_they_say() -> None:
    grid = next(g for g in baselines.GRIDS if g.filter == "kalman")
    built = build_filter("kalman", [0.01], 1.0)
    assert baselines._knobs(grid, None, None, built, 6.25) == ""
    assert baselines._knobs(grid, 4.0, None, built, 6.25) == "memory_s=20000"
    assert baselines._knobs(grid, None, 30.0, built, 6.25) == "memory_s=187.5"
    width = next(g for g in baselines.GRIDS if g.filter == "butterworth")
    narrow = build_filter("butterworth", [0.49], 1.0)
    # No wider than fits: the upper edge is farther from the tone, and below half the rate.
    given = baselines._knobs(width, None, 1.0, narrow, 1.0)
    widest = float(given.removeprefix("bandwidth_hz="))
    assert 0.01 < widest < 0.02
    assert np.isfinite(build_filter(f"butterworth:{given}", [0.49], 1.0).extract(ONES)).all()


def test_the_smoother_is_the_mean_given_the_whole_record() -> None:
    rng = np.random.default_rng(0)
    n, d = 30, 4
    rows, walk = rng.standard_normal((n, d)), np.array([0.3, 0.0, 0.1, 0.5])
    samples, prior, noise = rng.standard_normal(n), np.diag([1.0, 2.0, 3.0, 1.0]), 0.7
    samples[7:11] = np.nan
    path = np.empty((n, d))
    kalman_smooth(samples, rows, prior.copy(), walk, noise, path)
    # The same by the covariances of all coefficients at all times.
    both = np.minimum.outer(np.arange(n), np.arange(n)) + 1
    joint = np.einsum("ts,ij->tisj", both, np.diag(walk)) + prior[None, :, None, :]
    heard = np.isfinite(samples)
    tells = (np.eye(n)[:, :, None] * rows[None]).reshape(n, n * d)[heard]
    joint = joint.reshape(n * d, n * d)
    spread = tells @ joint @ tells.T + noise * np.eye(heard.sum())
    expected = joint @ tells.T @ np.linalg.solve(spread, samples[heard])
    np.testing.assert_allclose(path, expected.reshape(n, d), atol=1e-12)


def test_the_told_are_as_good_as_theory_says() -> None:
    # A steady tone in white noise: after n samples the error's power is 2 sigma^2 / n, over A^2/2
    # that is 2 / (n snr); the smoother has it at the end's n throughout. Means of 60 scenes.
    curve, whole = [], []
    for seed in range(60):
        scene = draw_scene((6, seed), 2000, freq_cycles=0.13, **FIXED)
        told, smoother = (rival.answer(scene)[:, 0] for rival in oracle_kalman())
        power, true = np.mean(scene.tones**2), scene.tones[:, 0]
        curve.append(np.mean((told - true)[1500:] ** 2) / power)
        whole.append(np.mean((smoother - true) ** 2) / power)
    snr = 10**0.5
    assert np.mean(curve) == pytest.approx(2 / (1745 * snr), rel=0.4)
    assert np.mean(whole) == pytest.approx(2 / (2000 * snr), rel=0.4)


def test_a_candidate_that_has_learned_of_no_gaps_hears_none() -> None:
    seeds = (draw_scene((7, n), 300, freq_cycles=0.1) for n in range(100))
    scene = next(scene for scene in seeds if "lost" in scene.about)
    wrap_extractor("nothing", Nothing).answer(scene)
    with pytest.raises(AssertionError):
        wrap_extractor("nothing", Nothing, handles_nan=True).answer(scene)
    heard = baselines.bridged(scene)[0]
    good = np.isfinite(scene.samples)
    np.testing.assert_allclose(heard[good], scene.samples[good], rtol=1e-9)


def test_the_table_of_goals(judged: pd.DataFrame) -> None:
    table = benchmark.summarise(judged).set_index(["extractor", "way"])
    causal = judged[judged["causal"] & (judged["kind"] == "classical")]
    by_setting = causal.groupby(["extractor", "setting"])["nmse_db"].mean()
    assert table.loc[("best fixed", "causal"), "nmse_db"] == pytest.approx(by_setting.min())
    name, setting = by_setting.idxmin()
    assert table.loc[("best fixed", "causal"), "who"] == f"{name}: {setting}"
    oracle = causal.groupby("scene")["nmse_db"].min().mean()
    assert table.loc[("oracle", "causal"), "nmse_db"] == pytest.approx(oracle)
    assert table.loc[("nothing", "causal"), "nmse_db"] == pytest.approx(0.0, abs=0.2)
    over = table.loc[("nothing", "causal"), "over_best_db"]
    assert over == pytest.approx(-by_setting.min(), abs=0.2)
    assert table.loc[("nothing", "causal"), "worst_db"] >= over
    assert {("smoother told", "zero-phase"), ("best fixed", "zero-phase")} <= set(table.index)


def test_cells_have_means(judged: pd.DataFrame) -> None:
    table = benchmark.by_cell(judged, ["noise"])
    mine = judged[(judged["extractor"] == "kalman told") & (judged["noise"] == "white")]
    assert table.loc["white", "kalman told causal"] == pytest.approx(mine["nmse_db"].mean())


def test_what_others_have_heard_cannot_be_compared(judged: pd.DataFrame) -> None:
    moved = judged.copy()
    moved.loc[moved["extractor"] == "nothing", "digest"] *= 2
    with pytest.raises(UserError, match="not all have heard the same scenes"):
        benchmark.summarise(moved)
    with pytest.raises(UserError, match="not everyone has answered every scene"):
        benchmark.summarise(judged.iloc[1:])


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_references_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    cells = [((5.0, 15.0), "steady", "white"), ((15.0, 30.0), "fades", "white")]
    monkeypatch.setattr(benchmark, "cell_grid", lambda: cells)
    monkeypatch.setattr(benchmark, "N_STEPS", (100.0, 200.0))
    monkeypatch.setattr(benchmark, "classical_rivals", lambda: classical_rivals()[:2])
    heard: list[int] = []

    def references(n_per_cell: int, seed: int = 0) -> pd.DataFrame:
        return benchmark.run_baselines(
            n_per_cell, tmp_path / f"kept.{ending}", seed=seed,
            on_case=lambda case: heard.append(case.number),
        )  # fmt: skip

    one = references(1)
    two = references(2)
    assert heard == [0, 1, 2, 3]
    pd.testing.assert_frame_equal(references(1), one)
    pd.testing.assert_frame_equal(references(2), two, check_exact=True)
    with pytest.raises(UserError, match="remove it to judge anew"):
        references(1, seed=1)


def test_the_curve_of_steady_tones_falls_as_one_over_age() -> None:
    new = wrap_extractor("nothing", Nothing)
    table = benchmark.steady_curve([new], n_scenes=20, ages=(100, 1000), snrs_db=(0.0,))
    assert list(table["age"]) == [100, 1000]
    np.testing.assert_allclose(table["nothing"], 0.0, atol=0.3)
    # 2 / (n snr), and one scene strays by its own size.
    np.testing.assert_allclose(table["kalman told"], [-17.4, -27.4], atol=2.5)


def test_coverage_counts_samples_within_the_band() -> None:
    class Half(Nothing):
        def extract_with_bands(self, mixture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            answer = np.zeros((*mixture.shape, self.n))
            return answer, answer + size / np.sqrt(2)

    scene: Scene = draw_scene(8, 3000, freq_cycles=0.101, **FIXED)
    size = np.abs(scene.phasors).max()
    table = benchmark.coverage(Half, [benchmark.Case(0, "5 to 15", scene)])
    # A sine is within 1/sqrt(2) for half of the time.
    assert table["covered"].item() == pytest.approx(0.5, abs=0.02)
    assert table["noise"].item() == "white"
