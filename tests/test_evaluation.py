"""Evaluation of extractors whose metrics are known beforehand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from tonesieve.config.config import make_config
from tonesieve.evaluation.exercise import N_PARTS, evaluate_extractor
from tonesieve.extractors.protocol import Extractor
from tonesieve.signals.synthesis import draw_exercise


@dataclass(frozen=True)
class PerfectClock:
    """Outputs the exercise's own targets times a gain, whatever the mixture: a perfect clock."""

    gain: float = 1.0
    frequencies_hz: tuple[float, ...] = (1.0, 3.0, 5.0, 7.0)
    rate_hz: float = 1000.0
    causal: bool = True
    delay: int = 0

    def extract(self, mixture: np.ndarray) -> np.ndarray:
        n = np.arange(mixture.shape[1])
        one = self.gain * np.sin(2 * np.pi * np.outer(n, self.frequencies_hz) / self.rate_hz)
        return np.broadcast_to(one, (*mixture.shape, len(self.frequencies_hz)))


CONFIG = make_config({"data": {"duration_s": 4}})


def test_the_clock_is_an_extractor() -> None:
    assert isinstance(PerfectClock(), Extractor)


def test_a_clock_is_perfect_on_fixed_start_and_wrong_on_random_start() -> None:
    metrics = evaluate_extractor(PerfectClock(), CONFIG).metrics
    assert metrics["test"]["mse"] == pytest.approx(0, abs=1e-12)
    assert metrics["test"]["passed"]
    # The start is uniform over the period: the mean of (sin a - sin b)^2 is 1.
    shifted = metrics["shifted"]
    assert abs(shifted["mse"] - 1) < 5 * shifted["stderr"]
    assert shifted["records"] == 32
    # Far below what can be known of the start: it cannot have used the mixture.
    assert metrics["test"]["mse"] < shifted["limit"] / 2
    assert "probe" in metrics["warnings"][0]


def test_known_errors_give_known_metrics() -> None:
    parts: list[int] = []
    evaluation = evaluate_extractor(PerfectClock(gain=0.5), CONFIG, on_part=parts.append)
    test = evaluation.metrics["test"]
    assert test["mse"] == pytest.approx(0.125)
    assert (test["band"], test["passed"]) == ("acceptable", False)
    assert [c["hz"] for c in test["per_component"]] == [1, 3, 5, 7]
    for component in test["per_component"]:
        assert component["r2"] == pytest.approx(0.75)
        assert component["correlation"] == pytest.approx(1)
        assert component["gap"] == pytest.approx(0)
        assert component["spectrum"]["clean"]
    overall = evaluation.metrics["generalisation"]
    assert overall["ratio"] == pytest.approx(1)
    assert (overall["verdict"], overall["gap_within_threshold"]) == ("excellent", True)
    assert parts == list(range(1, N_PARTS + 1))


def test_the_records_are_those_of_the_seeds() -> None:
    evaluation = evaluate_extractor(PerfectClock(), CONFIG)
    np.testing.assert_array_equal(
        evaluation.test.mixture, draw_exercise(CONFIG.data, seed=2).mixture
    )
    assert evaluation.estimate.shape == (4000, 4)


def test_records_shorter_than_the_start_up_have_no_settled_metric() -> None:
    config = make_config({"data": {"duration_s": 1}, "evaluation": {"settle_s": 1}})
    shifted = evaluate_extractor(PerfectClock(), config).metrics["shifted"]
    assert shifted["settled_mse"] is None
    assert shifted["settled_stderr"] is None
    assert shifted["mse"] > 0


def test_samples_before_the_first_full_window_do_not_count() -> None:
    @dataclass(frozen=True)
    class WrongAtFirst(PerfectClock):
        def extract(self, mixture: np.ndarray) -> np.ndarray:
            estimate = super().extract(mixture).copy()
            estimate[:, :9] = 100.0
            return estimate

    config = make_config({"data": {"duration_s": 4}, "model": {"window": 10}})
    evaluation = evaluate_extractor(WrongAtFirst(), config)
    assert evaluation.metrics["test"]["mse"] == pytest.approx(0, abs=1e-12)
    assert evaluation.n_skipped == 9
    assert evaluation.metrics["shifted"]["samples_per_record"] == 1491
    assert evaluation.metrics["shifted"]["mse"] < 2
