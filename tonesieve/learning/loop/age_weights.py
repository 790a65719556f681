"""Weights that make the errors of every age count alike.

At the start of a stream the best possible error is 0.3, after a second almost 0; under one mean the
small errors would never be learned from. Here the squared errors of an age are divided by their own
running mean, which makes the loss the sum over ages of the logarithm of the error. Axes: B streams,
T samples, N age bins.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tonesieve.config.config import Config
from tonesieve.learning.data.features import Batch

# Age bins: a quarter of an octave each, from about this many samples. Chosen, not tuned.
BINS_PER_OCTAVE, FIRST_BIN_SAMPLES = 4, 10
# Least weight of a new batch in the running means. Chosen, not tuned.
MIN_ALPHA = 0.02


def n_ages(config: Config) -> int:
    """Count the age bins of a training.

    Parameters
    ----------
    config : Config
        The settings.

    Returns
    -------
    int
        Bins, N.
    """
    oldest = config.model.window
    if config.stateful:
        oldest = config.n_record + config.training.chunk_samples
    return int(age_bin(torch.tensor([oldest]))) + 1


def age_bin(age: Tensor) -> Tensor:
    """Return the bin of every age.

    Parameters
    ----------
    age : Tensor of int, any shape
        Samples since the start of a stream.

    Returns
    -------
    Tensor of int64, the same shape
        Bins, from 0.
    """
    return (torch.log2(age.to(torch.float32) / FIRST_BIN_SAMPLES + 1) * BINS_PER_OCTAVE).to(
        torch.int64
    )


def age_bins(batch: Batch) -> Tensor:
    """Return the age bin of every sample of a batch.

    Parameters
    ----------
    batch : Batch
        The batch.

    Returns
    -------
    Tensor of int64, shape (B, T)
        Bins, from 0.
    """
    n_streams, n_samples = batch.inputs.shape[:2]
    within = torch.arange(n_samples, device=batch.inputs.device)
    start = 0 if batch.age is None else batch.age[:, None]
    return age_bin(within + start).expand(n_streams, -1)


def sums_by_age(squared: Tensor, ages: Tensor, n: int) -> Tensor:
    """Sum and count the squared errors of every age bin.

    Parameters
    ----------
    squared : Tensor, shape (B, T)
        Squared errors.
    ages : Tensor of int64, shape (B, T)
        Their age bins.
    n : int
        Bins, N.

    Returns
    -------
    Tensor, shape (2, N)
        Sums, and counts.
    """
    flat = ages.flatten()
    total = squared.new_zeros(n).index_add_(0, flat, squared.detach().flatten())
    return torch.stack([total, torch.bincount(flat, minlength=n).to(total)])


def update(running: Tensor, sums: Tensor) -> None:
    """Update the running means with a batch, in place.

    Parameters
    ----------
    running : Tensor, shape (2, N)
        Mean squared errors, and how often each was updated.
    sums : Tensor, shape (2, N)
        The batch's, as `sums_by_age` returns them.
    """
    present = sums[1] > 0
    alpha = torch.where(present, (1 / (running[1] + 1)).clamp(min=MIN_ALPHA), 0.0)
    mean = sums[0] / sums[1].clamp(min=1)
    running[0] += alpha * (mean - running[0])
    running[1] += present


def weights(running: Tensor, ages: Tensor, floor: float) -> Tensor:
    """Compute the weight of every sample's squared error.

    Parameters
    ----------
    running : Tensor, shape (2, N)
        Running means, as `update` keeps them.
    ages : Tensor of int64, shape (B, T)
        Age bins of the samples.
    floor : float
        Squared error added to every mean.

    Returns
    -------
    Tensor of float32, shape (B, T)
        Weights; their mean over the bins that have occurred so far is 1.
    """
    by_age = 1 / (running[0] + floor)
    occurred = running[1] > 0
    by_age = by_age / by_age[occurred].mean()
    return by_age[ages].to(torch.float32)


def geometric_mean(squared: np.ndarray, floor: float) -> float:
    """Average squared errors geometrically over age bins.

    Parameters
    ----------
    squared : ndarray, shape (B, T)
        Squared errors of streams that start at age 0.
    floor : float
        Squared error added to every bin's mean.

    Returns
    -------
    float
        The geometric mean.
    """
    ages = age_bin(torch.arange(squared.shape[1])).numpy()
    by_age = np.bincount(ages, squared.mean(axis=0)) / np.bincount(ages).clip(min=1)
    return float(np.exp(np.mean(np.log(by_age[np.bincount(ages) > 0] + floor))))
