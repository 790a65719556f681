"""Random numbers that all synthetic signals draw."""

from __future__ import annotations

import math
from typing import overload

import numpy as np

Rng = np.random.Generator


@overload
def log_uniform(limits: tuple[float, float], rng: Rng) -> float: ...


@overload
def log_uniform(
    limits: tuple[float, float], rng: Rng, shape: int | tuple[int, ...]
) -> np.ndarray: ...


def log_uniform(
    limits: tuple[float, float], rng: Rng, shape: int | tuple[int, ...] | None = None
) -> float | np.ndarray:
    """Draw numbers whose logarithm is uniform between those of two limits.

    Parameters
    ----------
    limits : tuple of two float
        The least and the largest number; above 0.
    rng : Generator
        Source of the numbers.
    shape : int or tuple of int, optional
        Shape of an array of them; without it, one number.

    Returns
    -------
    float or ndarray
        The numbers.
    """
    if shape is None:
        return math.exp(rng.uniform(math.log(limits[0]), math.log(limits[1])))
    low, high = np.log(limits)
    return np.asarray(np.exp(rng.uniform(low, high, shape)))
