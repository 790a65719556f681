"""How networks are brought to the limit: teacher, ages, optimiser, batches drawn ahead."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tonesieve.config.config import Config, DataSettings, make_config
from tonesieve.errors import UserError
from tonesieve.evaluation.paired_ratio import paired_ratio
from tonesieve.extractors.bayes.posterior_mean import (
    StartPosterior,
    mmse_targets,
    random_phase_kalman,
)
from tonesieve.learning.data.batches import count_batches, draw_records_with_targets, epoch_batches
from tonesieve.learning.data.prefetch import prefetch_thread
from tonesieve.learning.loop import age_weights
from tonesieve.learning.loop.optimizers import BETAS, SOAP
from tonesieve.learning.loop.schedules import warmup_factor
from tonesieve.signals.synthesis import draw_records

SHIFTED = DataSettings(start="random", noise="fresh")


def configured(**training: Any) -> Config:
    return make_config(
        {
            "data": {"start": "random", "noise": "fresh", "duration_s": 1.0},
            "model": {"selector": "readout"},
            "training": {"batch_size": 5, "chunk_samples": 50, **training},
        }
    )


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# The teacher


@pytest.mark.parametrize("data", [SHIFTED, SHIFTED.model_copy(update={"gap_fraction": 0.3})])
def test_the_quick_answers_are_the_posterior_means(data: DataSettings) -> None:
    mixture = draw_records(data, 20, 300, rng=rng()).mixture
    exact = StartPosterior(data).extract(mixture)
    np.testing.assert_allclose(mmse_targets(data, mixture), exact, rtol=0, atol=2e-4)


def test_where_steps_are_not_whole_the_exact_way_is_taken() -> None:
    data = DataSettings(rate_hz=48000.7, start="random", noise="fresh")
    assert not StartPosterior(data).has_integer_advance
    mixture = draw_records(data, 2, 50, rng=rng()).mixture
    np.testing.assert_array_equal(
        mmse_targets(data, mixture), StartPosterior(data).extract(mixture)
    )


def test_in_the_free_regime_the_kalman_filter_teaches() -> None:
    data = SHIFTED.model_copy(update={"regime": "free"})
    mixture = draw_records(data, 2, 100, rng=rng()).mixture
    np.testing.assert_array_equal(
        mmse_targets(data, mixture), random_phase_kalman(data).extract(mixture)
    )


def test_a_teacher_changes_the_targets_alone() -> None:
    plain, taught = (
        draw_records_with_targets(configured(teacher=teacher), 4, 60, rng=rng())
        for teacher in ("none", "posterior")
    )
    np.testing.assert_array_equal(plain.mixture, taught.mixture)
    exact = StartPosterior(SHIFTED).extract(plain.mixture)
    np.testing.assert_allclose(taught.targets, exact, rtol=0, atol=2e-4)
    assert np.abs(plain.targets - taught.targets).max() > 0.1


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"data": {"noise": "frozen", "start": "random"}}, "data.noise: fresh"),
        ({"data": {"noise": "fresh", "start": "fixed"}}, "data.start: random"),
        ({"training": {"teacher": "posterior", "lanes": "strided"}}, "contiguous"),
        ({"model": {"taps": 2}}, "taps"),
        ({"model": {"bidirectional": True, "window": 10}}, "bidirectional"),
    ],
)
def test_a_teacher_that_cannot_teach_is_refused(settings: dict[str, Any], match: str) -> None:
    whole = {"data": {"noise": "fresh", "start": "random"}, "training": {"teacher": "posterior"}}
    with pytest.raises(UserError, match=match):
        make_config({**whole, **settings})


# Records of random length


def lanes_of(config: Config) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ages and targets (lanes, samples), and whether each begins anew, of one epoch."""
    ages, targets, resets = [], [], []
    for batch in epoch_batches(config, epoch=1, device=torch.device("cpu")):
        assert batch.age is not None
        assert batch.reset is not None
        n = batch.inputs.shape[1]
        ages.append((batch.age[:, None] + torch.arange(n)).numpy())
        targets.append(batch.targets[:, :, 0].numpy())
        resets.append(batch.reset.numpy())
    return np.concatenate(ages, axis=1), np.concatenate(targets, axis=1), np.array(resets).T


def test_lanes_of_random_length_hold_whole_records() -> None:
    config = configured(record_lengths="log-uniform", record_s=0.5, batches_per_epoch=200)
    ages, targets, resets = lanes_of(config)
    assert resets.shape == (5, 200) == (5, count_batches(config))
    np.testing.assert_array_equal(ages[:, ::50] == 0, resets)
    going_on = np.diff(ages, axis=1) == 1
    assert (ages[:, 1:][~going_on] == 0).all()  # a record ends where the next begins
    # Within a record the 1 Hz target moves by less than its steepest step; between two it leaps.
    step = np.abs(np.diff(targets, axis=1))
    assert step[going_on].max() <= 2 * np.pi / 1000 + 1e-6
    assert step[~going_on].mean() > 0.1
    lengths = [len(part) for lane in resets for part in np.split(lane, np.flatnonzero(lane))[1:-1]]
    counts = np.bincount(lengths, minlength=11)
    assert counts[0] == 0
    assert len(counts) == 11  # chunks of 50 samples in half a second: up to ten
    expected = np.diff(np.log(np.arange(1, 12))) / np.log(11)
    found = counts[1:] / counts.sum()
    np.testing.assert_allclose(found, expected, atol=5 * np.sqrt(0.25 / counts.sum()))


def test_lanes_of_equal_length_know_their_age() -> None:
    ages, _, resets = lanes_of(configured(record_s=0.25))
    np.testing.assert_array_equal(ages, np.tile(np.arange(250), (5, 4)))
    np.testing.assert_array_equal(resets, np.tile(np.arange(5) == 0, (5, 4)))


# Balance by age


def test_weights_are_one_on_average_and_inverse_to_the_error() -> None:
    ages = age_weights.age_bin(torch.arange(40)).expand(3, -1)
    n = int(ages.max()) + 1
    squared = torch.rand(3, 40, generator=torch.Generator().manual_seed(1)) + 0.1
    running = torch.zeros(2, n)
    age_weights.renew(running, age_weights.sums_by_age(squared, ages, n))
    for kind in range(n):
        of_kind = squared[ages == kind]
        assert float(running[0, kind]) == pytest.approx(float(of_kind.double().mean()))
    weights = age_weights.weights(running, ages, floor=1e-9)
    each = torch.stack([weights[ages == kind][0] for kind in range(n)])
    assert float(each.mean()) == pytest.approx(1)
    np.testing.assert_allclose(each / each[0], running[0, 0] / running[0], rtol=1e-5)


def test_the_running_mean_forgets() -> None:
    running = torch.zeros(2, 1)
    for _ in range(50):
        age_weights.renew(running, torch.tensor([[4.0], [4.0]]))
    assert float(running[0]) == pytest.approx(1)
    age_weights.renew(running, torch.tensor([[12.0], [4.0]]))
    assert float(running[0]) == pytest.approx(1 + 2 / 50)
    age_weights.renew(running, torch.zeros(2, 1))  # nothing of this age
    assert float(running[0]) == pytest.approx(1 + 2 / 50)


def test_a_geometric_mean() -> None:
    squared = np.full((3, 500), 1e-2)
    assert age_weights.geometric_mean(squared, 0.0) == pytest.approx(1e-2)
    kinds = age_weights.age_bin(torch.arange(500)).numpy()
    squared[:, kinds >= kinds.max() / 2] = 1e-4
    n = kinds.max() + 1
    low = sum(kind >= kinds.max() / 2 for kind in range(n)) / n
    assert age_weights.geometric_mean(squared, 0.0) == pytest.approx(10 ** (-2 - 2 * low))


def test_balance_needs_ages() -> None:
    with pytest.raises(UserError, match="balance"):
        make_config({"training": {"balance": "age"}})


# SOAP


def descend(
    optimizer: Any, parameter: torch.Tensor, gradient: Any, n_steps: int
) -> list[torch.Tensor]:
    course = []
    for _ in range(n_steps):
        parameter.grad = gradient(parameter)
        optimizer.step()
        course.append(parameter.detach().clone())
    return course


def test_of_a_vector_soap_is_adam_one_step_later() -> None:
    scale = torch.tensor([1.0, 10.0, 0.1])
    ours, theirs = (torch.ones(3, requires_grad=True) for _ in range(2))
    soap = descend(SOAP([ours], lr=0.05), ours, lambda x: scale * x.detach(), 31)
    adam = torch.optim.Adam([theirs], lr=0.05, betas=BETAS)
    steps = descend(adam, theirs, lambda x: scale * x.detach(), 30)
    torch.testing.assert_close(soap[0], torch.ones(3))
    torch.testing.assert_close(soap[1:], steps, rtol=1e-5, atol=1e-6)


def test_soap_does_not_care_how_a_matrix_is_turned() -> None:
    generator = torch.Generator().manual_seed(3)
    start, noise = (torch.randn(5, 5, generator=generator) for _ in range(2))
    curvature = torch.linspace(0.1, 3, 25).reshape(5, 5)
    left, right = (torch.linalg.qr(torch.randn(n, n, generator=generator)).Q for n in (5, 5))
    plain, turned = start.clone().requires_grad_(), (left @ start @ right).requires_grad_()

    def slope(x: torch.Tensor) -> torch.Tensor:
        return curvature * x.detach() + noise

    one = descend(SOAP([plain], lr=0.01), plain, slope, 25)
    other = descend(
        SOAP([turned], lr=0.01), turned, lambda x: left @ slope(left.T @ x @ right.T) @ right, 25
    )
    torch.testing.assert_close(left @ one[-1] @ right, other[-1], rtol=0, atol=2e-2)
    assert float((one[-1] - start).abs().max()) > 0.1


def test_soap_is_faster_than_adam_where_gradients_correlate() -> None:
    generator = torch.Generator().manual_seed(4)
    mixing = torch.linalg.qr(torch.randn(16, 16, generator=generator)).Q
    inputs = torch.randn(256, 16, generator=generator) * torch.logspace(0, -3, 16) @ mixing
    truth = torch.randn(16, 8, generator=generator)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return ((inputs @ (x - truth)) ** 2).mean()

    ends = []
    for kind in (SOAP, torch.optim.Adam):
        x = torch.zeros(16, 8, requires_grad=True)
        optimizer = kind([x], lr=0.03)
        for _ in range(300):
            optimizer.zero_grad()
            loss(x).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        ends.append(float(loss(x.detach())))
    assert ends[0] < 0.2 * ends[1]


def test_the_rate_warms_up() -> None:
    config = configured(warmup_batches=4)
    assert [warmup_factor(config, n) for n in (0, 1, 3, 4, 9)] == [0.25, 0.5, 1, 1, 1]
    assert warmup_factor(configured(), 0) == 1


# Batches drawn ahead


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(), max_size=12))
def test_what_is_drawn_ahead_is_the_same(items: list[int]) -> None:
    with prefetch_thread(iter(items)) as drawn:
        assert list(drawn) == items


def test_errors_come_through() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    with prefetch_thread(failing()) as drawn:
        assert next(drawn) == 1
        with pytest.raises(ValueError, match="no more"):
            next(drawn)


def test_whoever_stops_early_leaves_no_thread() -> None:
    with prefetch_thread(iter(range(10**9))) as drawn:
        assert next(drawn) == 0
    assert not [t for t in threading.enumerate() if t.name == "batches"]


# The ratio to the limit


class Scaled:
    """The best possible estimate, or so many times it."""

    causal, delay = True, 0
    frequencies_hz, rate_hz = SHIFTED.frequencies_hz, SHIFTED.rate_hz

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def extract(self, mixture: np.ndarray) -> np.ndarray:
        return self.factor * StartPosterior(SHIFTED).extract(mixture)


def test_the_best_is_at_the_limit() -> None:
    found = paired_ratio(Scaled(1.0), SHIFTED, n_samples=10, ages=slice(9, 10), stderr=0.01, seed=1)
    assert found.ratio == 1
    assert found.ratio_stderr == 0


def test_an_estimate_that_is_not_finite_has_no_ratio() -> None:
    with pytest.raises(UserError, match="finite"):
        paired_ratio(Scaled(np.nan), SHIFTED, n_samples=4, ages=slice(3, 4), stderr=0.1, seed=1)


@pytest.mark.slow
def test_a_known_excess_is_found() -> None:
    # A posterior mean m of a target t: E (f m - t)^2 = E (m - t)^2 + (1 - f)^2 E m^2, and
    # E m^2 = 1/2 - E (m - t)^2.
    found = paired_ratio(
        Scaled(0.7), SHIFTED, n_samples=20, ages=slice(19, 20), stderr=0.003, seed=2
    )
    best = found.best_mse
    expected = 1 + 0.3**2 * (0.5 - best) / best
    assert found.ratio == pytest.approx(expected, abs=5 * found.ratio_stderr)
    assert 0 < found.ratio_stderr <= 0.003


def test_what_cannot_be_known_so_well_is_said() -> None:
    with pytest.raises(UserError, match="ask for less"):
        paired_ratio(
            Scaled(0.5),
            SHIFTED,
            n_samples=20,
            ages=slice(19, 20),
            stderr=1e-6,
            seed=2,
            most_records=64,
        )
