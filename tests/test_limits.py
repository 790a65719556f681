"""MMSE estimation: likelihood, posterior and limit against closed forms and brute force."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tonesieve import UserError, load_config
from tonesieve.config.config import DataSettings
from tonesieve.extractors.bayes import likelihood, posterior_mean, unknown_phase_limit
from tonesieve.extractors.bayes.likelihood import likelihood_table, noise_sigma, start_grid
from tonesieve.extractors.bayes.limit import ObservationWindow, limit, observation_window
from tonesieve.extractors.bayes.posterior_mean import (
    StartPosterior,
    mmse_extractor,
    random_phase_kalman,
)
from tonesieve.signals.signal_model import tone_response
from tonesieve.signals.synthesis import draw_records

KEPT = Path(__file__).parent.parent / "docs" / "results"
EXERCISE = DataSettings(start="random")
# Small enough for brute force: two tones, 16 places in the period.
TINY = DataSettings(
    frequencies_hz=(1.0, 3.0),
    phases_rad=(0.3, 1.1),
    rate_hz=16.0,
    duration_s=2.0,
    phase_scale=0.05,
    snr_db=15.0,
    start="random",
)


def cumulative(data: DataSettings, position: int, x: np.ndarray) -> np.ndarray:
    """Distribution function of a sample at a position, from the table."""
    table = likelihood_table(data, start_grid(data))
    nodes = table.lows[position] + np.arange(table.values.shape[1]) / table.per_step[position]
    area = np.concatenate(
        [[0.0], np.cumsum((table.values[position, 1:] + table.values[position, :-1]) / 2)]
    )
    return np.interp(x, nodes, area / table.per_step[position])


def test_the_period_is_counted_in_samples_or_on_a_fine_grid() -> None:
    assert start_grid(EXERCISE).cycles.shape == (1000, 4)
    assert start_grid(EXERCISE).advance == 1
    single = start_grid(DataSettings(frequencies_hz=(1.2345,)))  # 2,000,000 samples
    n = len(single.cycles)
    assert n < 40_000
    # One period of the tone: its positions over its samples.
    assert single.advance == pytest.approx(n * 1.2345 / 1000)
    third = start_grid(DataSettings(frequencies_hz=(1 / 3, 7.0)))
    np.testing.assert_allclose(
        third.cycles[-1] * len(third.cycles), [len(third.cycles) - 1] * np.array([1, 21])
    )


def test_tones_without_a_common_period_are_refused() -> None:
    with pytest.raises(UserError, match=r"1\.234, 2\.345 Hz come back together only after 1000 s"):
        start_grid(DataSettings(frequencies_hz=(1.234, 2.345)))


@pytest.mark.parametrize(
    "other",
    [{"pink_snr_db": 0}, {"clip_level": 1}, {"impulse_rate_hz": 1}, {"frequency_drift": 0.01}],
)
def test_noise_without_a_known_limit_is_refused(other: dict[str, float]) -> None:
    (name,) = other
    with pytest.raises(UserError, match=f"{name}: no exact limit"):
        limit(EXERCISE.model_copy(update=other), ObservationWindow(9), 100)


def test_density_of_a_uniform_amplitude_is_uniform() -> None:
    data = DataSettings(frequencies_hz=(1.0,), rate_hz=8.0, phases_rad=(0.7,), phase_scale=0.0)
    low, high = 0.8 * math.sin(0.7), 1.2 * math.sin(0.7)
    x = np.linspace(low - 0.1, high + 0.1, 200)
    exact = np.clip((x - low) / (high - low), 0, 1)
    # The table's nodes are 1/500 of the support apart.
    np.testing.assert_allclose(cumulative(data, 0, x), exact, atol=1 / 500)


def test_density_of_a_whole_circle_is_the_arcsine_law() -> None:
    data = DataSettings(frequencies_hz=(1.0,), phase_scale=1.0, amplitude_range=(1, 1))
    x = np.linspace(-1.05, 1.05, 300)
    exact = 0.5 + np.arcsin(np.clip(x, -1, 1)) / np.pi
    # At its ends, where the density is infinite, a node holds sqrt(2 / 500) / pi of it.
    np.testing.assert_allclose(cumulative(data, 123, x), exact, atol=0.02)


@pytest.mark.parametrize("position", [0, 40, 250, 617])
@pytest.mark.parametrize("snr_db", [None, 3.0])
@pytest.mark.parametrize("phase_scale", [0.001, 0.01, 0.3])
def test_density_is_that_of_drawn_samples(
    position: int, snr_db: float | None, phase_scale: float
) -> None:
    data = EXERCISE.model_copy(update={"snr_db": snr_db, "phase_scale": phase_scale})
    n = 20_000
    starts = np.full(n, position)
    rng = np.random.default_rng(position)
    drawn = draw_records(data, n, 1, rng=rng, starts=starts).mixture[:, 0]
    distance = stats.kstest(drawn, lambda x: cumulative(data, position, x)).statistic
    # Kolmogorov's distance exceeds 2.2 / sqrt(n) once in 10,000 trials.
    assert distance < 2.2 / math.sqrt(n)


def test_the_distance_rejects_a_neighbouring_position() -> None:
    rng = np.random.default_rng(0)
    drawn = draw_records(EXERCISE, 20_000, 1, rng=rng, starts=np.full(20_000, 40)).mixture[:, 0]
    assert stats.kstest(drawn, lambda x: cumulative(EXERCISE, 41, x)).statistic > 2.2 / 141


def brute_densities(data: DataSettings, x: np.ndarray) -> np.ndarray:
    """p(x | position) (P, N), by a plain sum over amplitudes and phases; needs white noise."""
    quantiles = (np.arange(24) + 0.5) / 24
    low, high = data.amplitude_range
    sigma, n = noise_sigma(data), round(data.rate_hz)
    result = []
    for start in range(n):
        parts = []
        for f, phase in zip(data.frequencies_hz, data.start_phases_rad, strict=True):
            angle = 2 * np.pi * f * start / data.rate_hz + phase
            jittered = angle + 2 * np.pi * data.phase_scale * quantiles
            amplitude = low + (high - low) * quantiles
            parts.append(np.outer(amplitude, np.sin(jittered)).ravel())
        means = np.add.outer(*parts).ravel() / len(parts)
        centres, counts = np.unique(np.round(means, 3), return_counts=True)
        result.append(stats.norm.pdf(x[:, None], centres, sigma) @ counts / counts.sum())
    return np.array(result)


def brute_posterior(data: DataSettings, samples: np.ndarray) -> np.ndarray:
    """Posterior means (N, K) of the tones at each sample, by enumeration of all starts."""
    n = round(data.rate_hz)
    clean = draw_records(
        data, n, len(samples), rng=np.random.default_rng(0), starts=np.arange(n)
    ).targets
    weights, means = np.ones(n), []
    for at, row in enumerate(brute_densities(data, samples).T):
        weights *= np.roll(row, -at)
        means.append(weights / weights.sum() @ clean[:, at])
    return np.array(means)


def test_the_posterior_is_that_of_brute_force() -> None:
    records = draw_records(TINY, 6, 5, rng=np.random.default_rng(4))
    estimate = StartPosterior(TINY).extract(records.mixture)
    for samples, means in zip(records.mixture, estimate, strict=True):
        # Brute force rounds to 1e-3 of amplitude and has 24 points a dimension.
        np.testing.assert_allclose(means, brute_posterior(TINY, samples), atol=5e-3)


def test_the_limit_of_one_sample_is_that_of_quadrature() -> None:
    x = np.linspace(-1.5, 1.5, 3001)
    joint = brute_densities(TINY, x) / 16 * (x[1] - x[0])
    clean = draw_records(TINY, 16, 1, rng=np.random.default_rng(0), starts=np.arange(16)).targets[
        :, 0
    ]
    weights = joint / joint.sum(axis=0)
    variance = weights.T @ clean**2 - (weights.T @ clean) ** 2
    expected = joint.sum(axis=0) @ variance
    best = limit(TINY, ObservationWindow(0), 32, stderr=1e-3)
    np.testing.assert_allclose(best.per_component, expected, atol=4e-3)  # 3 errors and rounding


@pytest.mark.parametrize("phase_scale", [1.0, 2.0])
@pytest.mark.parametrize(
    "window",
    [
        ObservationWindow(0),
        ObservationWindow(49),
        ObservationWindow(9, 9),
        ObservationWindow(None, 0, 32),
    ],
)
def test_jitter_over_a_whole_cycle_leaves_no_information(
    phase_scale: float, window: ObservationWindow
) -> None:
    best = limit(EXERCISE.model_copy(update={"phase_scale": phase_scale}), window, 600, settle=100)
    assert best.mse == pytest.approx(0.5, abs=1e-6)
    assert best.per_component == pytest.approx((0.5,) * 4, abs=1e-6)


# docs/exercise.md, What can be true: the limit.
TABLE = {
    (0.001, 1): 0.286, (0.001, 10): 0.193, (0.001, 50): 0.043, (0.001, 100): 0.012,
    (0.01, 1): 0.286, (0.01, 5): 0.243, (0.01, 10): 0.195, (0.01, 20): 0.118, (0.01, 50): 0.044,
    (0.01, 100): 0.014, (0.1, 1): 0.330, (0.1, 10): 0.259, (0.1, 50): 0.077, (0.1, 100): 0.035,
}  # fmt: skip


# Long windows are computed longest; by default, those of one row alone.
ROWS = [
    pytest.param(scale, window, marks=pytest.mark.slow if scale != 0.01 and window >= 50 else ())
    for scale, window in TABLE
]


@pytest.mark.parametrize(("phase_scale", "window"), ROWS)
def test_the_table_of_the_exercise_is_reproduced(phase_scale: float, window: int) -> None:
    data = EXERCISE.model_copy(update={"phase_scale": phase_scale})
    best = limit(data, ObservationWindow(window - 1), 100, stderr=1e-3)
    # Their standard error: 0.0015 up to L=25, then 0.0005; rounded to 0.001.
    theirs = math.hypot(0.0015 if window <= 25 else 0.0005, 0.0003)
    assert abs(best.mse - TABLE[phase_scale, window]) < 3 * math.hypot(theirs, best.stderr)


WINDOWS = {
    "window": ObservationWindow(19),
    "window and future": ObservationWindow(9, 9),
    "all so far": ObservationWindow(),
    "all so far with a lag of two": ObservationWindow(None, 2),
    "every fifth": ObservationWindow(None, 0, 5),
    "the whole record": ObservationWindow(None, None),
}
ENDS = ("all so far", "the whole record")


# Without noise, by default, the two ends: what has been seen so far, and all of the record.
OBSERVED = [
    pytest.param(name, snr_db, marks=() if snr_db is not None or name in ENDS else pytest.mark.slow)
    for snr_db in (None, 0.0)
    for name in WINDOWS
]


@pytest.mark.parametrize(("name", "snr_db"), OBSERVED)
def test_the_extractor_attains_the_limit(name: str, snr_db: float | None) -> None:
    window, n_records, n_samples = WINDOWS[name], 400, 30
    data = EXERCISE.model_copy(update={"snr_db": snr_db})
    best = limit(data, window, n_samples)
    length = n_samples if window.past is None else window.past + 1 + window.future
    records = draw_records(data, n_records, length, rng=np.random.default_rng(77))
    error = (estimates(data, records.mixture, window) - records.targets) ** 2
    scored = slice(window.past or 0, length - (window.future or 0))
    by_record = error[:, scored].mean(axis=(1, 2))
    stderr = by_record.std(ddof=1) / math.sqrt(n_records)
    assert abs(by_record.mean() - best.mse) < 3 * math.hypot(stderr, best.stderr)


def estimates(data: DataSettings, mixture: np.ndarray, window: ObservationWindow) -> np.ndarray:
    """Posterior means under a window, a sample at a time and each from the samples it may see."""
    n_samples = mixture.shape[1]
    result = np.zeros((*mixture.shape, data.n_components))
    for n in range(window.past or 0, n_samples - (window.future or 0)):
        first = n % window.stride if window.past is None else n - window.past
        last = n_samples - 1 if window.future is None else n + window.future
        one = StartPosterior(data, window.stride)
        observed = mixture[:, first : last + 1 : window.stride]
        target = (n - first) // window.stride
        (mean, _), _ = one.moments(observed, one.initial_state(len(mixture)), anchor=target)
        result[:, n] = mean[:, -1]
    return result


@pytest.mark.parametrize("frequencies", [(1.2345,), (1.2345, 3.7035), (1 / 3, 1.0)])
def test_periods_off_the_sample_grid_have_a_limit_too(frequencies: tuple[float, ...]) -> None:
    # Their starts are drawn among millions of places, the posterior has a grid of its own.
    data = EXERCISE.model_copy(update={"frequencies_hz": frequencies})
    best = limit(data, ObservationWindow(19), 100)
    records = draw_records(data, 3000, 20, rng=np.random.default_rng(6))
    error = (StartPosterior(data).extract(records.mixture) - records.targets)[:, -1] ** 2
    by_record = error.mean(axis=1)
    stderr = by_record.std(ddof=1) / math.sqrt(3000)
    assert abs(by_record.mean() - best.mse) < 3 * math.hypot(stderr, best.stderr)


def test_a_fine_grid_gives_the_limit_of_whole_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    data = EXERCISE.model_copy(update={"frequencies_hz": (1.0,)})
    exact = limit(data, ObservationWindow(4), 100)
    monkeypatch.setattr(likelihood, "MAX_POSITIONS", 900)  # of 1,000 samples; the fine grid has 512
    posterior_mean._tables.cache_clear()
    fine = limit(data, ObservationWindow(4), 100)
    posterior_mean._tables.cache_clear()
    assert len(start_grid(data).cycles) == 512
    assert abs(fine.mse - exact.mse) < 3 * math.hypot(fine.stderr, exact.stderr)


def test_the_limit_by_age_is_that_of_windows() -> None:
    by_age = limit(EXERCISE, ObservationWindow(), 100)
    assert len(by_age.by_age) == 100
    for n in (1, 10, 50):
        one = limit(EXERCISE, ObservationWindow(n - 1), 100)
        stderr = math.hypot(one.stderr, by_age.by_age_stderr[n - 1])
        assert abs(by_age.by_age[n - 1] - one.mse) < 4 * stderr
    assert by_age.mse == pytest.approx(by_age.by_age.mean(), rel=1e-9)


def test_ages_of_negligible_error_are_drawn_less_and_still_counted() -> None:
    whole = limit(EXERCISE, ObservationWindow(), 2000, settle=1000)
    head = limit(EXERCISE, ObservationWindow(), 1000)
    assert len(whole.by_age) == 2000
    stderr = math.hypot(whole.stderr, head.stderr / 2)
    assert abs(whole.mse - head.mse / 2) < 4 * stderr
    assert whole.settled < 1e-9  # a start is a whole sample: after a second it is known


def test_an_unknown_target_leaves_a_floor() -> None:
    known, unknown = (
        limit(EXERCISE, ObservationWindow(49, target_known=t), 100) for t in (True, False)
    )
    # The best single estimate is the mean of the targets, 0.375; its uncertainty adds to it.
    assert known.mse < 0.06
    assert unknown.mse == pytest.approx(0.375, abs=0.01)


def test_gaps_cost_the_samples_that_they_hide() -> None:
    holey = EXERCISE.model_copy(update={"gap_fraction": 0.5, "gap_s": 0.001})
    # Half the samples, scattered: about as good as windows between half and all of them.
    all_of, half_of = (limit(EXERCISE, ObservationWindow(n - 1), 100).mse for n in (40, 20))
    assert all_of < limit(holey, ObservationWindow(39), 100).mse < half_of * 1.1


def test_samples_that_no_start_explains_are_skipped() -> None:
    mixture = draw_records(EXERCISE, 1, 200, rng=np.random.default_rng(1)).mixture
    holey = mixture.copy()
    mixture[0, 50:60] = 7.0
    holey[0, 50:60] = np.nan
    one = StartPosterior(EXERCISE)
    np.testing.assert_array_equal(one.extract(mixture), one.extract(holey))


def unknown_phase(**settings: object) -> DataSettings:
    return DataSettings(
        regime="free", **{"phase_scale": 0.0, "amplitude_range": (1, 1), "snr_db": 0.0, **settings}
    )


def conditioned(
    data: DataSettings, window: ObservationWindow, n_samples: int, n: int
) -> np.ndarray:
    """Error variances at sample n by conditioning one big Gaussian, without any recursion."""
    times = np.arange(n_samples) / data.rate_hz
    sines = [np.sin(2 * np.pi * f * times) for f in data.frequencies_hz]
    cosines = [np.cos(2 * np.pi * f * times) for f in data.frequencies_hz]
    basis = np.stack([*sines, *cosines], axis=1)
    prior = basis @ basis.T / 2 / data.n_components**2
    noise = noise_sigma(data) ** 2 * np.eye(n_samples)
    first = n % window.stride if window.past is None else n - window.past
    last = n_samples - 1 if window.future is None else n + window.future
    observed = np.arange(first, last + 1, window.stride)
    inverse = np.linalg.inv((prior + noise)[np.ix_(observed, observed)])
    result = []
    for k in range(data.n_components):
        basis_k = np.stack([sines[k], cosines[k]], axis=1)
        cross = basis_k[n] @ basis_k[observed].T / 2 / data.n_components
        result.append(0.5 - cross @ inverse @ cross)
    return np.array(result)


@pytest.mark.parametrize("name", WINDOWS)
def test_the_unknown_phase_limit_is_that_of_a_conditioned_gaussian(name: str) -> None:
    window, data, n_samples = WINDOWS[name], unknown_phase(rate_hz=100.0), 60
    best = limit(data, window, n_samples)
    assert best.kind == "exact"
    assert best.stderr == 0
    if window.past is not None:
        expected = conditioned(data, window, window.past + 1 + window.future, window.past)
    else:
        ages = range(n_samples - (window.future or 0))
        expected = np.mean([conditioned(data, window, n_samples, n) for n in ages], axis=0)
    np.testing.assert_allclose(best.per_component, expected, rtol=1e-9)


@pytest.mark.parametrize("jitter", [{}, {"phase_scale": 0.1, "amplitude_range": (0.5, 1.5)}])
def test_the_kalman_filter_attains_the_unknown_phase_limit(jitter: dict[str, object]) -> None:
    data = unknown_phase(rate_hz=100.0, **jitter)
    best = limit(data, ObservationWindow(), 300)
    assert best.kind == ("best linear" if jitter else "exact")
    records = draw_records(data, 2000, 300, rng=np.random.default_rng(5))
    by_record = ((random_phase_kalman(data).extract(records.mixture) - records.targets) ** 2).mean(
        axis=(1, 2)
    )
    stderr = by_record.std(ddof=1) / math.sqrt(2000)
    assert abs(by_record.mean() - best.mse) < 3 * stderr


def test_the_cramer_rao_bound_is_that_of_unbiased_estimates() -> None:
    data = unknown_phase(rate_hz=100.0)
    bound = limit(data, ObservationWindow(), 400).cramer_rao_by_age
    best = limit(data, ObservationWindow(), 400).by_age
    assert np.isinf(bound[:7]).all()  # eight unknowns
    assert (bound > best).all()
    # Many whole periods of one tone: K^2 noise variance a sample, over n / 2 samples, twice over 2.
    n = 400
    single = limit(
        unknown_phase(rate_hz=100.0, frequencies_hz=(3.0,)), ObservationWindow(), n
    ).cramer_rao_by_age
    assert single[-1] == pytest.approx(
        noise_sigma(unknown_phase(frequencies_hz=(3.0,))) ** 2 * 2 / n, rel=1e-3
    )


def test_random_phases_with_jitter_over_a_whole_cycle_have_no_linear_estimate() -> None:
    data = unknown_phase(phase_scale=1.0)
    assert limit(data, ObservationWindow(), 100).mse == pytest.approx(0.5)
    assert not mmse_extractor(data).extract(np.ones((1, 5))).any()


def test_the_response_is_the_mean_of_what_is_drawn() -> None:
    data = DataSettings(frequencies_hz=(1.0,), phase_scale=0.2, amplitude_range=(0.5, 1.0))
    n = 40_000
    drawn = [
        draw_records(data, n, 1, rng=np.random.default_rng(3), starts=np.full(n, s)).mixture.mean()
        for s in (0, 250)
    ]
    response = tone_response(data)
    np.testing.assert_allclose(drawn, [response.imag, response.real], atol=0.01)  # 3 / sqrt(n)


def test_the_observation_windows_of_the_presets() -> None:
    windows = {
        name: observation_window(load_config(name))
        for name in ("sieve", "window10", "config-l1", "journey")
    }
    assert windows == {
        "sieve": ObservationWindow(),
        "window10": ObservationWindow(9),
        "config-l1": ObservationWindow(None, 0, 32),
        "journey": ObservationWindow(51, 2, target_known=False),
    }
    mean = load_config("window10", ["evaluation.join=mean"])
    assert observation_window(mean) == ObservationWindow(9, 9)
    with pytest.raises(UserError, match="strided lanes with taps"):
        observation_window(load_config("config-l1", ["model.taps=1"]))


def test_no_kept_result_beats_the_limit() -> None:
    results = [json.loads(path.read_text(encoding="utf-8")) for path in KEPT.glob("*.json")]
    kept = [r["shifted"] for r in results if "shifted" in r]
    assert len(kept) >= 7
    for shifted in kept:
        stderr = math.hypot(shifted["stderr"], shifted["limit_stderr"])
        assert shifted["mse"] > shifted["limit"] - 5 * stderr


def test_the_unknown_phase_limit_of_a_long_record_is_that_of_every_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = unknown_phase(rate_hz=100.0)
    for window in (ObservationWindow(), ObservationWindow(None, None)):
        whole = limit(data, window, 20_000, settle=1000)
        monkeypatch.setattr(unknown_phase_limit, "MAX_AGES", 5000)
        thinned = limit(data, window, 20_000, settle=1000)
        monkeypatch.undo()
        assert thinned.mse == pytest.approx(whole.mse, rel=1e-3)
        assert len(thinned.by_age) == 20_000
