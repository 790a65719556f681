"""Errors of every age counted alike: what a settled stream still gets wrong is not drowned.

At the start of a stream the best possible error is 0.3, after a second nothing; under one mean the
small errors would never be learned from. Here the squared errors of an age are divided by their own
running mean, which makes the loss the sum over ages of the logarithm of the error.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tonesieve.config.config import Config
from tonesieve.learning.data.batches import Batch

# Ages that are of a kind: a quarter of an octave, beginning near so many samples.
PER_OCTAVE, FIRST = 4, 10
# The running mean takes a new batch in by this share.
SHARE = 0.02


def n_ages(config: Config) -> int:
    """How many kinds of ages a training has."""
    oldest = config.model.window
    if config.stateful:
        oldest = config.n_record + config.training.chunk_samples
    return int(age_bin(torch.tensor([oldest]))) + 1


def age_bin(age: Tensor) -> Tensor:
    """The kind of every age."""
    return (torch.log2(age.to(torch.float32) / FIRST + 1) * PER_OCTAVE).to(torch.int64)


def age_bins(batch: Batch) -> Tensor:
    """Kind of the age of every sample: (B, T)."""
    n_streams, n_samples = batch.inputs.shape[:2]
    within = torch.arange(n_samples, device=batch.inputs.device)
    begun = 0 if batch.age is None else batch.age[:, None]
    return age_bin(within + begun).expand(n_streams, -1)


def sums_by_age(squared: Tensor, ages: Tensor, n: int) -> Tensor:
    """Sum and number of squared errors (B, T) of each kind of age: (2, n)."""
    flat = ages.flatten()
    total = squared.new_zeros(n).index_add_(0, flat, squared.detach().flatten())
    return torch.stack([total, torch.bincount(flat, minlength=n).to(total)])


def renew(running: Tensor, sums: Tensor) -> None:
    """Take a batch into the running means: (2, n), the means and how often each was renewed."""
    seen = sums[1] > 0
    share = torch.where(seen, (1 / (running[1] + 1)).clamp(min=SHARE), 0.0)
    mean = sums[0] / sums[1].clamp(min=1)
    running[0] += share * (mean - running[0])
    running[1] += seen


def weights(running: Tensor, ages: Tensor, floor: float) -> Tensor:
    """What the squared error of every sample counts, 1 on average over the ages met so far."""
    by_age = 1 / (running[0] + floor)
    met = running[1] > 0
    by_age = by_age / by_age[met].mean()
    return by_age[ages].to(torch.float32)


def geometric_mean(squared: np.ndarray, floor: float) -> float:
    """Over all ages: of the mean squared errors (B, T) of each kind."""
    ages = age_bin(torch.arange(squared.shape[1])).numpy()
    by_age = np.bincount(ages, squared.mean(axis=0)) / np.bincount(ages).clip(min=1)
    return float(np.exp(np.mean(np.log(by_age[np.bincount(ages) > 0] + floor))))
