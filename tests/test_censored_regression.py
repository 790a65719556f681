"""Regression on clipped samples, against the same likelihood maximised by another method."""

from __future__ import annotations

import numpy as np
import pytest
import scipy

from tonesieve.signals.censored_regression import CensoredFit, expected_excess, fit_censored

T = np.arange(600)
REGRESSORS = np.column_stack([np.ones(len(T)), np.cos(0.3 * T), 40 * np.sin(0.3 * T)])
TRUE = np.array([0.1, 1.0, 0.3 / 40])


def clipped(std: float, seed: int, low: float = -0.5, high: float = 0.6) -> np.ndarray:
    noise = std * np.random.default_rng(seed).normal(size=len(T))
    return np.clip(REGRESSORS @ TRUE + noise, low, high)


def fit(samples: np.ndarray) -> CensoredFit:
    found = fit_censored(samples, REGRESSORS, samples == samples.min(), samples == samples.max())
    assert found is not None
    return found


def test_it_is_the_maximum_of_the_likelihood() -> None:
    samples = clipped(0.3, 1)
    low, high = samples == samples.min(), samples == samples.max()

    def cost(parameters: np.ndarray) -> float:
        distance = samples - REGRESSORS @ parameters[:3]
        normal = scipy.stats.norm(scale=np.exp(parameters[3]))
        free = ~(low | high)
        value = normal.logpdf(distance[free]).sum() + normal.logcdf(distance[low]).sum()
        return float(-value - normal.logsf(distance[high]).sum())

    start = np.array([0.0, 0.5, 0.0, 0.0])
    options = {"xatol": 1e-9, "fatol": 1e-9, "maxiter": 20_000, "maxfev": 20_000}
    best = scipy.optimize.minimize(cost, start, method="Nelder-Mead", options=options).x
    found = fit(samples)
    np.testing.assert_allclose(found.coefficients, best[:3], rtol=1e-3, atol=1e-5)
    assert found.std == pytest.approx(np.exp(best[3]), rel=1e-3)


def test_the_covariance_is_that_of_the_errors() -> None:
    fits = [fit(clipped(0.5, seed)) for seed in range(200)]
    errors = np.array([one.coefficients - TRUE for one in fits])
    stated = np.mean([np.diag(one.covariance) for one in fits], axis=0)
    np.testing.assert_allclose(errors.var(axis=0), stated, rtol=0.3)
    np.testing.assert_array_less(np.abs(errors.mean(axis=0)), 4 * np.sqrt(stated / len(fits)))


def test_without_noise_it_is_exact() -> None:
    np.testing.assert_allclose(fit(clipped(0.0, 0)).coefficients, TRUE, rtol=1e-4)


def test_without_clipping_it_is_least_squares() -> None:
    samples = clipped(0.5, 2, -9.0, 9.0)
    never = np.zeros(len(T), bool)
    found = fit_censored(samples, REGRESSORS, never, never)
    assert found is not None
    usual = np.linalg.lstsq(REGRESSORS, samples, rcond=None)[0]
    np.testing.assert_allclose(found.coefficients, usual, rtol=1e-4)


def test_samples_that_say_nothing_have_no_fit() -> None:
    assert fit_censored(np.zeros(600), REGRESSORS, T < 0, T < 0) is None


@pytest.mark.parametrize("distance", [-3.0, -0.2, 0.0, 1.0, 8.0])
def test_the_mean_beyond_a_bound(distance: float) -> None:
    std = 0.7
    truncated = scipy.stats.truncnorm(distance / std, np.inf, scale=std)
    excess = expected_excess(np.array([distance]), std)[0]
    assert excess == pytest.approx(truncated.mean() - distance, rel=1e-6)
