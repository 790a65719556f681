"""What an estimate may rest on, and the smallest error that it can then have.

Axes: T ages, K components.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class ObservationWindow:
    """Samples that an estimate may rest on, counted from the one that is estimated.

    Parameters
    ----------
    past : int, optional
        Samples before it; None (the default): all.
    future : int, optional
        Samples after it (default 0); None: all.
    stride : int
        Only every ``stride``-th sample is observed (default 1).
    target_known : bool
        Whether the estimator is given which component is wanted (default True).
    """

    past: int | None = None
    future: int | None = 0
    stride: int = 1
    target_known: bool = True


@dataclass(frozen=True)
class BayesLimit:
    """Expected squared error of the MMSE estimate, with standard errors.

    Parameters
    ----------
    mse : float
        Mean over components, and over the ages of a record where the past is unbounded.
    stderr : float
        Standard error of ``mse``.
    per_component, per_component_stderr : tuple of float
        The same by component.
    by_age, by_age_stderr : ndarray, shape (T,)
        After 1, 2, ... observed samples, mean over components.
    settled, settled_stderr : float, optional
        Mean over the ages after the start-up; None where there are none.
    n_records : int
        Records drawn; 0 for a closed form.
    kind : str
        ``exact``, or ``best linear``.
    cramer_rao_by_age : ndarray, shape (T,), optional
        Cramer-Rao bound of unbiased estimates, where it applies; infinite at the start.
    """

    mse: float
    stderr: float
    per_component: tuple[float, ...]
    per_component_stderr: tuple[float, ...]
    by_age: Float[np.ndarray, " T"]
    by_age_stderr: Float[np.ndarray, " T"]
    settled: float | None
    settled_stderr: float | None
    n_records: int
    kind: str
    cramer_rao_by_age: Float[np.ndarray, " T"] | None = None
