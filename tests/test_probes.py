"""Probes, learnability and comparisons, on extractors whose results are known."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from tonesieve import diagnose, limit, load_config
from tonesieve.config.config import Config, DataSettings, make_config
from tonesieve.evaluation.comparison import BEST, CONDITIONS, Entry, compare_extractors, n_parts
from tonesieve.evaluation.exercise import evaluate_extractor
from tonesieve.evaluation.probes import N_PROBES, probe_extractor
from tonesieve.extractors.bayes.limit import ObservationWindow
from tonesieve.extractors.bayes.posterior_mean import StartPosterior
from tonesieve.extractors.filters.registry import FILTERS, build_filter
from tonesieve.extractors.protocol import Extractor
from tonesieve.signals.signal_model import tone_response

CONFIG = make_config({"data": {"duration_s": 3}, "evaluation": {"shifted_records": 8}})


@dataclass(frozen=True)
class Blend:
    """A weighted sum of a clock that starts at time 0 and of the posterior mean."""

    clock: float
    posterior: float
    seconds: float = math.inf  # for how long the clock runs
    data: DataSettings = field(default_factory=DataSettings)
    causal: bool = True
    delay: int = 0

    @property
    def frequencies_hz(self) -> tuple[float, ...]:
        return self.data.frequencies_hz

    @property
    def rate_hz(self) -> float:
        return self.data.rate_hz

    def initial_state(self, n_streams: int) -> tuple[object, int]:
        return StartPosterior(self.data).initial_state(n_streams), 0

    def step(self, samples: np.ndarray, state: tuple[object, int]) -> tuple[np.ndarray, object]:
        inner, age = state
        estimate, inner = StartPosterior(self.data).step(samples, inner)
        n = age + np.arange(samples.shape[1])
        ticks = np.sin(2 * np.pi * np.outer(n, self.frequencies_hz) / self.rate_hz)
        ticks[n >= self.seconds * self.rate_hz] = 0
        return self.clock * ticks + self.posterior * estimate, (inner, age + samples.shape[1])

    def extract(self, mixture: np.ndarray) -> np.ndarray:
        return self.step(mixture, self.initial_state(len(mixture)))[0]


@pytest.mark.parametrize(
    ("one", "verdict"),
    [
        (Blend(0, 1), "filter"),
        (Blend(1, 0), "clock"),
        (Blend(0.5, 0.5), "both"),
        (Blend(0, 0), "neither"),
        (Blend(1, 0, seconds=0.5), "clock"),
        (
            build_filter("kalman", (1, 3, 5, 7), 1000.0, gain=tone_response(DataSettings())),
            "filter",
        ),
        (Blend(0.02, 0), "neither"),  # faint, though its correlation with the clock is 1
        (build_filter("mean", (1, 3, 5, 7), 1000.0), "neither"),
        (build_filter("random", (1, 3, 5, 7), 1000.0), "neither"),
    ],
)
def test_verdicts(one: Extractor, verdict: str) -> None:
    done: list[int] = []
    result = probe_extractor(one, CONFIG, on_part=done.append)
    assert result["verdict"] == verdict
    assert done == list(range(1, N_PROBES + 1))


def test_a_clock_continues_in_silence_and_does_not_shift() -> None:
    result = probe_extractor(Blend(1, 0), CONFIG)
    assert result["silence"]["relative_rms"] == pytest.approx(1, abs=0.01)
    assert result["silence"]["follows_clock"] == pytest.approx(1, abs=1e-6)
    start = result["shifted_start"]
    assert start["mse_to_clock"] < 1e-12
    # Even starts: the mean of (sin a - sin b)^2 over the circle is 1.
    assert start["mse"] == pytest.approx(1, abs=1e-3)
    assert start["follows_start"] < 1e-3


def test_the_posterior_knows_a_tone_from_the_time_and_not_from_another_alone() -> None:
    result = probe_extractor(Blend(0, 1), CONFIG)
    assert result["shifted_start"]["follows_start"] > 0.99
    assert result["silence"]["follows_clock"] < 0.3
    assert result["swapped_selector"] is None  # it has no selector


def test_a_sharp_filter_stays_silent_on_other_tones() -> None:
    one = build_filter("least-squares", (1, 3, 5, 7), 1000.0, gain=tone_response(DataSettings()))
    other = probe_extractor(one, CONFIG)["other_tone"]
    assert other["relative_rms"] < 0.1


def test_windows_are_probed_at_their_own_length() -> None:
    config = make_config({"model": {"window": 10}})
    one = build_filter("mean", (1, 3, 5, 7), 1000.0)
    result = probe_extractor(one, config)
    assert result["settle_samples"] == 9
    assert result["looked_at_samples"] == 1000  # a whole period of 1 Hz
    assert result["shifted_start"]["at_first"] is None


class Cheat(Blend):
    """Half of the true targets: no method could know them from a sample."""

    def extract(self, mixture: np.ndarray) -> np.ndarray:
        return (
            0.999
            * StartPosterior(self.data).extract(np.concatenate([mixture, mixture], axis=1))[
                :, mixture.shape[1] :
            ]
        )


def leaky(config: Config) -> list[str]:
    return evaluate_extractor(Cheat(0, 1), config).metrics["warnings"]


def test_an_extractor_that_beats_the_limit_is_called_a_leak() -> None:
    # It is evaluated as a model of ten samples, but observes the record, whole periods long, twice.
    config = make_config(
        {"data": {"duration_s": 2}, "model": {"window": 10}, "evaluation": {"settle_s": 1.491}}
    )
    warnings = leaky(config)
    assert any(text.startswith("LEAK") for text in warnings)


def test_an_extractor_that_attains_the_limit_is_not() -> None:
    metrics = evaluate_extractor(Blend(0, 1), CONFIG).metrics
    assert not metrics["shifted"]["beats_limit"]
    assert abs(metrics["shifted"]["ratio"] - 1) < 4 * metrics["shifted"]["ratio_stderr"]
    assert metrics["warnings"] == [] or "LEAK" not in metrics["warnings"][0]


def test_an_unknown_limit_has_a_reason() -> None:
    config = make_config({"data": {"duration_s": 2, "clip_level": 0.5}})
    shifted = evaluate_extractor(Blend(0, 0), config).metrics["shifted"]
    assert shifted["limit"] is None
    assert shifted["ratio"] is None
    assert "clip_level" in shifted["limit_note"]


def test_extractors_are_compared_on_the_same_records() -> None:
    runs = [Entry("clock", Blend(1, 0), ObservationWindow()), Entry("ten", Blend(0, 1), None)]
    done: list[int] = []
    scenes = compare_extractors(
        runs, DataSettings(), n_records=12, n_samples=1500, settle=500, on_part=done.append
    )
    assert [scene.name for scene in scenes] == list(CONDITIONS)
    assert done == list(range(1, n_parts(2) + 1))
    fixed, random, free = ({row["name"]: row for row in scene.rows} for scene in scenes)
    assert list(fixed) == ["clock", "ten", *FILTERS, BEST]
    assert fixed["clock"]["mse"] < 1e-12
    assert all(row["limit"] is None for row in fixed.values())
    assert random["ten"]["limit"] is None
    for rows in (random, free):
        best = rows[BEST]
        assert abs(best["ratio"] - 1) < 5 * best["ratio_stderr"]
        for name in ("kalman", "least-squares", "lock-in", "butterworth", "mean", "random"):
            row = rows[name]
            assert row["ratio"] > best["ratio"] - 5 * row["ratio_stderr"]
    assert random["clock"]["ratio"] > 100
    assert [rows["mean"]["causal"], rows["wiener"]["causal"]] == [True, False]
    assert rows["mean"]["us_per_sample"] > 0
    # The course over the age holds the same error as the row.
    assert np.nanmax(scenes[1].by_age["mean"]) < 1.1
    assert scenes[1].limit_by_age[-1] < 1e-9 < scenes[1].limit_by_age[0]


def test_a_task_is_fine_or_hard_or_hopeless() -> None:
    assert diagnose("sieve", ("data.duration_s=2",))["verdict"] == "fine"
    hard = diagnose("window10")
    assert hard["verdict"] == "at best"
    assert "0.19" in hard["explanation"]
    hopeless = diagnose("window10", ("data.phase_scale=1.0",))
    assert hopeless["verdict"] == "cannot be learned"
    assert hopeless["components"][0]["information_bits"] == pytest.approx(0, abs=1e-6)
    unknown = diagnose("window10", ("data.clip_level=1",))
    assert unknown["verdict"] == "unknown"
    assert "clip_level" in unknown["explanation"]


def test_correlations_are_those_of_the_mean_of_four() -> None:
    # S = sum / 4 and targets uncorrelated, but for jitter: correlation 1/2, variance 1/2.
    result = diagnose("window10")
    assert result["target_variance"] == pytest.approx(0.5, abs=1e-3)
    for component in result["components"]:
        assert component["correlation"] == pytest.approx(0.5, abs=0.02)


def test_information_of_a_noisy_tone_is_that_of_a_plain_integral() -> None:
    # I(S; T) = h(S) - h(noise), one tone without jitter.
    changes = ("data.frequencies_hz=[1.0]", "data.phase_scale=0", "data.amplitude_range=[1,1]",
               "data.snr_db=3")  # fmt: skip
    result = diagnose("window10", changes)["components"][0]
    sigma = math.sqrt(0.5 * 10**-0.3)
    x = np.linspace(-5, 5, 20_001)
    places = np.sin(2 * np.pi * (np.arange(1000) / 1000))
    density = np.mean(np.exp(-0.5 * ((x - places[:, None]) / sigma) ** 2), axis=0) / (
        sigma * math.sqrt(2 * math.pi)
    )
    inside = density > 0
    entropy = -np.sum(density[inside] * np.log2(density[inside])) * (x[1] - x[0])
    expected = entropy - 0.5 * math.log2(2 * math.pi * math.e * sigma**2)
    assert result["information_bits"] == pytest.approx(expected, abs=1e-4)
    assert result["information_error_bits"] < 1e-4


def test_information_of_free_tones_is_that_of_correlated_gaussians() -> None:
    changes = ("data.regime=free", "data.phase_scale=0", "data.amplitude_range=[1,1]",
               "data.snr_db=0")  # fmt: skip
    result = diagnose("sieve", changes)["components"][0]
    # S: four equal tones and noise as strong as all of them; rho^2 = 1/8.
    assert result["information_bits"] == pytest.approx(-0.5 * math.log2(1 - 1 / 8))


def test_limit_returns_what_was_asked_for() -> None:
    ten = limit("sieve", window=10, stderr=0.003)
    assert ten["view"] == {"past": 9, "future": 0, "stride": 1}
    assert ten["stderr"] <= 0.003
    assert abs(ten["mse"] - 0.195) < 0.01
    assert ten["mse"] == pytest.approx(np.mean([c["mse"] for c in ten["per_component"]]))
    assert [age["samples"] for age in ten["by_age"]] == list(range(1, 11))
    configured = limit("window10", stderr=0.003)
    assert configured["mse"] == ten["mse"]
    assert limit("window10", phase_scale=1.0)["mse"] == pytest.approx(0.5)


def test_the_presets_that_prove_the_verdicts_have_the_settings_for_it() -> None:
    clock = load_config("clock")
    assert clock.data.phase_scale == 1.0
    assert clock.stateful
    assert clock.training.lanes == "contiguous"
    assert clock.data.start == "fixed"


def test_signals_without_a_known_limit_are_compared_all_the_same() -> None:
    data = DataSettings(frequencies_hz=(5.0, 11.0), rate_hz=100.0, pink_snr_db=3.0)
    scenes = compare_extractors([], data, n_records=3, n_samples=300, settle=100)
    for scene in scenes:
        assert [row["name"] for row in scene.rows] == list(FILTERS)
        assert all(row["limit"] is None for row in scene.rows)
    assert "pink_snr_db" in scenes[1].limit_note
    assert "pink_snr_db" in scenes[2].limit_note
