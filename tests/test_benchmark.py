"""The table of goals: the same scenes for all, scores by hand, caches that refuse other results."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tonesieve.errors import UserError
from tonesieve.evaluation import baselines, benchmark, benchmark_scenes
from tonesieve.evaluation.baselines import classical_baselines, oracle_kalman, wrap_extractor
from tonesieve.extractors.filters.kalman import OscillatorKalman
from tonesieve.extractors.filters.registry import FILTERS, build_filter
from tonesieve.kernels.kalman import kalman_smooth
from tonesieve.signals.scenes import Scene, draw_scene

ONES = np.ones((1, 50))
FIXED = {"snr_db": 5.0, "dynamics": "steady", "noise": "white", "plain": True}


class Nothing:
    """Estimates 0, with a credible band of plus and minus one."""

    def __init__(self, freq_cycles: Sequence[float]) -> None:
        self.n = len(freq_cycles)

    def extract(self, mixture: np.ndarray) -> np.ndarray:
        assert np.isfinite(mixture).all()
        return np.zeros((*mixture.shape, self.n))

    def extract_with_bands(self, mixture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        estimate = np.zeros((*mixture.shape, self.n))
        return estimate, estimate + 1.0


def filtered(freq_cycles: Sequence[float]) -> OscillatorKalman:
    built = build_filter("kalman", freq_cycles, 1.0)
    assert isinstance(built, OscillatorKalman)
    return built


@pytest.fixture(scope="module")
def few() -> list[benchmark.Case]:
    """Quick scenes of several cells."""
    drawn = itertools.islice(benchmark.test_scenes(1, seed=0), 96)
    quick = [case for case in drawn if len(case.scene.samples) < 4000]
    return quick[:24:4]


@pytest.fixture(scope="module")
def results(few: list[benchmark.Case]) -> pd.DataFrame:
    new = wrap_extractor("nothing", Nothing)
    return benchmark.run_benchmark([*classical_baselines(), *oracle_kalman(), new], few)


def test_every_cell_has_its_scenes_and_more_begin_with_fewer() -> None:
    grid = benchmark.cell_grid()
    assert len(grid) == len(set(grid)) == 4 * 7 * 9
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
    wrong[:200] = np.nan  # the start-up is not scored
    wrong[200:] *= 1.1
    assert benchmark.settling_samples(scene) == 200
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


def test_every_extractor_has_a_score_on_every_scene(
    few: list[benchmark.Case], results: pd.DataFrame
) -> None:
    settings = {(one.name, one.setting) for one in classical_baselines()}
    assert {name for name, _ in settings} == set(FILTERS) - {"mean", "random"}
    assert len(results) == len(few) * (len(settings) + 3)
    assert results["nmse_db"].between(*benchmark_scenes.BOUNDS_DB).all()
    assert (results[results["extractor"] == "nothing"]["nmse_db"] < 0.5).all()


def test_the_default_is_the_filter_as_it_is() -> None:
    scene = draw_scene(5, 1000, freq_cycles=0.13, **FIXED)
    default = next(r for r in classical_baselines() if (r.name, r.setting) == ("kalman", "default"))
    away = scene.samples - scene.samples[0]
    expected = filtered(scene.freq_cycles).extract(away[None])[0]
    size = np.abs(expected).max()
    np.testing.assert_allclose(default.estimate(scene) / size, expected / size, atol=1e-12)


def test_multiples_and_steps_are_what_they_say() -> None:
    grid = next(g for g in baselines.GRIDS if g.filter == "kalman")
    built = build_filter("kalman", [0.01], 1.0)
    assert baselines._parameters(grid, None, None, built, 6.25) == ""
    assert baselines._parameters(grid, 4.0, None, built, 6.25) == "memory_s=20000"
    assert baselines._parameters(grid, None, 30.0, built, 6.25) == "memory_s=187.5"
    width = next(g for g in baselines.GRIDS if g.filter == "butterworth")
    narrow = build_filter("butterworth", [0.49], 1.0)
    # No wider than fits: the upper edge is farther from the tone, and below half the rate.
    given = baselines._parameters(width, None, 1.0, narrow, 1.0)
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
    is_observed = np.isfinite(samples)
    H = (np.eye(n)[:, :, None] * rows[None]).reshape(n, n * d)[is_observed]
    joint = joint.reshape(n * d, n * d)
    S = H @ joint @ H.T + noise * np.eye(is_observed.sum())
    expected = joint @ H.T @ np.linalg.solve(S, samples[is_observed])
    np.testing.assert_allclose(path, expected.reshape(n, d), atol=1e-12)


def test_the_oracle_filters_are_as_good_as_theory_predicts() -> None:
    # A steady tone in white noise: after n samples the error's power is 2 sigma^2 / n, over A^2/2
    # that is 2 / (n snr); the smoother has it at the end's n throughout. Means of 60 scenes.
    filtered_mse, smoothed_mse = [], []
    for seed in range(60):
        scene = draw_scene((6, seed), 2000, freq_cycles=0.13, **FIXED)
        kalman, smoother = (one.estimate(scene)[:, 0] for one in oracle_kalman())
        power, true = np.mean(scene.tones**2), scene.tones[:, 0]
        filtered_mse.append(np.mean((kalman - true)[1500:] ** 2) / power)
        smoothed_mse.append(np.mean((smoother - true) ** 2) / power)
    snr = 10**0.5
    assert np.mean(filtered_mse) == pytest.approx(2 / (1745 * snr), rel=0.4)
    assert np.mean(smoothed_mse) == pytest.approx(2 / (2000 * snr), rel=0.4)


def test_a_candidate_that_cannot_handle_nan_is_given_none() -> None:
    seeds = (draw_scene((7, n), 300, freq_cycles=0.1) for n in range(100))
    scene = next(scene for scene in seeds if "lost" in scene.about)
    wrap_extractor("nothing", Nothing).estimate(scene)
    with pytest.raises(AssertionError):
        wrap_extractor("nothing", Nothing, handles_nan=True).estimate(scene)
    filled = baselines.fill_gaps(scene)[0]
    valid = np.isfinite(scene.samples)
    np.testing.assert_allclose(filled[valid], scene.samples[valid], rtol=1e-9)


def test_the_table_of_goals(results: pd.DataFrame) -> None:
    table = benchmark.summarise(results).set_index(["extractor", "way"])
    causal = results[results["causal"] & (results["kind"] == "classical")]
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


def test_cells_have_means(results: pd.DataFrame) -> None:
    table = benchmark.by_cell(results, ["noise"])
    mine = results[(results["extractor"] == "kalman told") & (results["noise"] == "white")]
    assert table.loc["white", "kalman told causal"] == pytest.approx(mine["nmse_db"].mean())


def test_results_on_other_scenes_cannot_be_compared(results: pd.DataFrame) -> None:
    moved = results.copy()
    moved.loc[moved["extractor"] == "nothing", "digest"] *= 2
    with pytest.raises(UserError, match="not all results are on the same scenes"):
        benchmark.summarise(moved)
    with pytest.raises(UserError, match="not every extractor has a score on every scene"):
        benchmark.summarise(results.iloc[1:])


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_results_of_baselines_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    cells = [((5.0, 15.0), "steady", "white"), ((15.0, 30.0), "fades", "white")]
    for module in (benchmark, benchmark_scenes):
        monkeypatch.setattr(module, "cell_grid", lambda: cells)
    monkeypatch.setattr(benchmark_scenes, "N_STEPS", (100.0, 200.0))
    monkeypatch.setattr(benchmark, "classical_baselines", lambda: classical_baselines()[:2])
    run: list[int] = []

    def references(n_per_cell: int, seed: int = 0) -> pd.DataFrame:
        return benchmark.run_baselines(
            n_per_cell, tmp_path / f"kept.{ending}", seed=seed,
            on_case=run.append,
        )  # fmt: skip

    one = references(1)
    two = references(2)
    assert run == [0, 1, 2, 3]
    pd.testing.assert_frame_equal(references(1), one)
    pd.testing.assert_frame_equal(references(2), two, check_exact=True)
    with pytest.raises(UserError, match="remove it to run them again"):
        references(1, seed=1)


def test_the_curve_of_steady_tones_falls_as_one_over_age() -> None:
    new = wrap_extractor("nothing", Nothing)
    table = benchmark.steady_curve([new], n_scenes=20, ages=(100, 1000), snrs_db=(0.0,))
    assert list(table["age"]) == [100, 1000]
    np.testing.assert_allclose(table["nothing"], 0.0, atol=0.3)
    # 2 / (n snr); the error on one scene varies by as much as its mean.
    np.testing.assert_allclose(table["kalman told"], [-17.4, -27.4], atol=2.5)


def test_coverage_counts_samples_within_the_band() -> None:
    class Half(Nothing):
        def extract_with_bands(self, mixture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            estimate = np.zeros((*mixture.shape, self.n))
            return estimate, estimate + size / np.sqrt(2)

    scene: Scene = draw_scene(8, 3000, freq_cycles=0.101, **FIXED)
    size = np.abs(scene.phasors).max()
    table = benchmark.coverage(Half, [benchmark.Case(0, "5 to 15", scene)])
    # A sine is within 1/sqrt(2) for half of the time.
    assert table["covered"].item() == pytest.approx(0.5, abs=0.02)
    assert table["noise"].item() == "white"
