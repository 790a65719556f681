"""The ratio of an estimate's error to the limit's, on the same draws."""

from __future__ import annotations

import numpy as np
import pytest

from tonesieve.config.config import DataSettings
from tonesieve.errors import UserError
from tonesieve.evaluation.paired_ratio import paired_ratio
from tonesieve.extractors.bayes.posterior_mean import StartPosterior

SHIFTED = DataSettings(start="random", noise="fresh")


class Scaled:
    """The best possible estimate, times a factor."""

    causal, delay = True, 0
    frequencies_hz, rate_hz = SHIFTED.frequencies_hz, SHIFTED.rate_hz

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def extract(self, mixture: np.ndarray) -> np.ndarray:
        return self.factor * StartPosterior(SHIFTED).extract(mixture)


def test_the_best_is_at_the_limit() -> None:
    result = paired_ratio(
        Scaled(1.0), SHIFTED, n_samples=10, ages=slice(9, 10), stderr=0.01, seed=1
    )
    assert result.ratio == 1
    assert result.ratio_stderr == 0


def test_an_estimate_that_is_not_finite_has_no_ratio() -> None:
    with pytest.raises(UserError, match="finite"):
        paired_ratio(Scaled(np.nan), SHIFTED, n_samples=4, ages=slice(3, 4), stderr=0.1, seed=1)


@pytest.mark.slow
def test_a_known_excess_is_found() -> None:
    # A posterior mean m of a target t: E (f m - t)^2 = E (m - t)^2 + (1 - f)^2 E m^2, and
    # E m^2 = 1/2 - E (m - t)^2.
    result = paired_ratio(
        Scaled(0.7), SHIFTED, n_samples=20, ages=slice(19, 20), stderr=0.003, seed=2
    )
    best = result.best_mse
    expected = 1 + 0.3**2 * (0.5 - best) / best
    assert result.ratio == pytest.approx(expected, abs=5 * result.ratio_stderr)
    assert 0 < result.ratio_stderr <= 0.003


def test_a_precision_out_of_reach_is_refused() -> None:
    with pytest.raises(UserError, match="ask for a larger one"):
        paired_ratio(
            Scaled(0.5),
            SHIFTED,
            n_samples=20,
            ages=slice(19, 20),
            stderr=1e-6,
            seed=2,
            most_records=64,
        )
