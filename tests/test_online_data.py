"""Data drawn anew in every epoch: targets of the teacher, and records of random length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tonesieve.config.config import Config, DataSettings, make_config
from tonesieve.errors import UserError
from tonesieve.extractors.bayes.posterior_mean import (
    StartPosterior,
    mmse_targets,
    random_phase_kalman,
)
from tonesieve.learning.data.batches import count_batches, epoch_batches
from tonesieve.learning.data.online import draw_records_with_targets
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
def test_the_fast_targets_are_the_posterior_means(data: DataSettings) -> None:
    mixture = draw_records(data, 20, 300, rng=rng()).mixture
    exact = StartPosterior(data).extract(mixture)
    np.testing.assert_allclose(mmse_targets(data, mixture), exact, rtol=0, atol=2e-4)


def test_where_steps_are_not_whole_the_targets_are_exact() -> None:
    data = DataSettings(rate_hz=48000.7, start="random", noise="fresh")
    assert not StartPosterior(data).has_integer_advance
    mixture = draw_records(data, 2, 50, rng=rng()).mixture
    np.testing.assert_array_equal(
        mmse_targets(data, mixture), StartPosterior(data).extract(mixture)
    )


def test_with_unknown_phase_the_targets_are_the_kalman_filters() -> None:
    data = SHIFTED.model_copy(update={"regime": "free"})
    mixture = draw_records(data, 2, 100, rng=rng()).mixture
    np.testing.assert_array_equal(
        mmse_targets(data, mixture), random_phase_kalman(data).extract(mixture)
    )


def test_a_teacher_changes_only_the_targets() -> None:
    clean, posterior = (
        draw_records_with_targets(configured(teacher=teacher), 4, 60, rng=rng())
        for teacher in ("none", "posterior")
    )
    np.testing.assert_array_equal(clean.mixture, posterior.mixture)
    exact = StartPosterior(SHIFTED).extract(clean.mixture)
    np.testing.assert_allclose(posterior.targets, exact, rtol=0, atol=2e-4)
    assert np.abs(clean.targets - posterior.targets).max() > 0.1


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
def test_settings_without_a_teacher_are_refused(settings: dict[str, Any], match: str) -> None:
    base = {"data": {"noise": "fresh", "start": "random"}, "training": {"teacher": "posterior"}}
    with pytest.raises(UserError, match=match):
        make_config({**base, **settings})


# Records of random length


def lanes_of(config: Config) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ages and targets (lanes, samples), and where each is reset, of one epoch."""
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
    continues = np.diff(ages, axis=1) == 1
    assert (ages[:, 1:][~continues] == 0).all()  # a record ends where the next starts
    # Within a record the 1 Hz target moves by less than its steepest step; between two it jumps.
    step = np.abs(np.diff(targets, axis=1))
    assert step[continues].max() <= 2 * np.pi / 1000 + 1e-6
    assert step[~continues].mean() > 0.1
    lengths = [len(part) for lane in resets for part in np.split(lane, np.flatnonzero(lane))[1:-1]]
    counts = np.bincount(lengths, minlength=11)
    assert counts[0] == 0
    assert len(counts) == 11  # chunks of 50 samples in half a second: up to ten
    expected = np.diff(np.log(np.arange(1, 12))) / np.log(11)
    fractions = counts[1:] / counts.sum()
    np.testing.assert_allclose(fractions, expected, atol=5 * np.sqrt(0.25 / counts.sum()))


def test_lanes_of_equal_length_have_their_age() -> None:
    ages, _, resets = lanes_of(configured(record_s=0.25))
    np.testing.assert_array_equal(ages, np.tile(np.arange(250), (5, 4)))
    np.testing.assert_array_equal(resets, np.tile(np.arange(5) == 0, (5, 4)))
