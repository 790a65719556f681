"""Weights by age: running means by hand, and the geometric mean over ages."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tonesieve.config.config import make_config
from tonesieve.errors import UserError
from tonesieve.learning.loop import age_weights


def test_weights_are_one_on_average_and_inverse_to_the_error() -> None:
    ages = age_weights.age_bin(torch.arange(40)).expand(3, -1)
    n = int(ages.max()) + 1
    squared = torch.rand(3, 40, generator=torch.Generator().manual_seed(1)) + 0.1
    running = torch.zeros(2, n)
    age_weights.update(running, age_weights.sums_by_age(squared, ages, n))
    for b in range(n):
        in_bin = squared[ages == b]
        assert float(running[0, b]) == pytest.approx(float(in_bin.double().mean()))
    weights = age_weights.weights(running, ages, floor=1e-9)
    each = torch.stack([weights[ages == b][0] for b in range(n)])
    assert float(each.mean()) == pytest.approx(1)
    np.testing.assert_allclose(each / each[0], running[0, 0] / running[0], rtol=1e-5)


def test_the_running_mean_is_exponential() -> None:
    running = torch.zeros(2, 1)
    for _ in range(50):
        age_weights.update(running, torch.tensor([[4.0], [4.0]]))
    assert float(running[0]) == pytest.approx(1)
    age_weights.update(running, torch.tensor([[12.0], [4.0]]))
    assert float(running[0]) == pytest.approx(1 + 2 / 50)
    age_weights.update(running, torch.zeros(2, 1))  # nothing of this age
    assert float(running[0]) == pytest.approx(1 + 2 / 50)


def test_a_geometric_mean() -> None:
    squared = np.full((3, 500), 1e-2)
    assert age_weights.geometric_mean(squared, 0.0) == pytest.approx(1e-2)
    bins = age_weights.age_bin(torch.arange(500)).numpy()
    squared[:, bins >= bins.max() / 2] = 1e-4
    n = bins.max() + 1
    low = sum(b >= bins.max() / 2 for b in range(n)) / n
    assert age_weights.geometric_mean(squared, 0.0) == pytest.approx(10 ** (-2 - 2 * low))


def test_balance_needs_ages() -> None:
    with pytest.raises(UserError, match="balance"):
        make_config({"training": {"balance": "age"}})
