"""The limit with unknown phase: posterior covariance of Gaussian coefficients, by linear algebra.

The mixture is H c + noise, with the prior N(0, 1/2) of every coefficient; given samples of
information J = H' H / noise variance the posterior covariance is (J + 2 I)^-1. See
docs/exercise.md, What can be true: the limit. Axes: T samples or ages, K components, D = 2 K
coefficients.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int

from tonesieve.config.config import DataSettings
from tonesieve.errors import UserError
from tonesieve.extractors.bayes.limit_types import BayesLimit, ObservationWindow
from tonesieve.extractors.bayes.posterior_mean import is_gaussian, random_phase_noise_power
from tonesieve.extractors.filters.base import ToneFilter
from tonesieve.signals.signal_model import tone_response
from tonesieve.signals.synthesis import draw_gaps

# Chosen: patterns of gaps that the limit is averaged over.
N_GAP_RECORDS = 32
# Guard on memory: ages computed at a time. Guard on time: ages of a long record computed one by
# one, before only every n-th is.
BLOCK, MAX_AGES = 4096, 2**16
# Guard: noise so small that a steady tone is known from its first samples; keeps the algebra
# finite.
MIN_NOISE_POWER = 1e-12
# Guard: eigenvalues below this, over the largest, do not count as information.
MIN_EIGENVALUE = 1e-10


def unknown_phase_limit(
    data: DataSettings, window: ObservationWindow, n_samples: int, settle: int, seed: int
) -> BayesLimit:
    """Compute the posterior variance of the tones, given the samples of each estimate.

    Parameters
    ----------
    data : DataSettings
        The model of the signals.
    window : ObservationWindow
        What an estimate may rest on.
    n_samples : int
        Length of a record.
    settle : int
        Length of the start-up, samples.
    seed : int
        Of the gaps.

    Returns
    -------
    BayesLimit
        The limit; with gaps, the mean over random patterns of them.

    Raises
    ------
    UserError
        Where no limit is known.

    References
    ----------
    Kay, Fundamentals of Statistical Signal Processing: Estimation Theory, 1993, sections 10.6
    (Bayesian linear model) and 3.7 (Cramer-Rao bound). Van Trees, Detection, Estimation, and
    Modulation Theory, Part I, 1968, section 2.4.
    """
    noise = random_phase_noise_power(data)
    n_masks = N_GAP_RECORDS if data.gap_fraction else 1
    rng = np.random.default_rng(seed)
    records = [_record(data, window, n_samples, settle, noise, rng) for _ in range(n_masks)]
    components, settled, by_age, bound = (np.array(part) for part in zip(*records, strict=True))
    overall = components.mean(axis=1)
    none_settled = bool(np.isnan(settled).any())
    is_bounded = is_gaussian(data) and noise > 0 and window.target_known
    return BayesLimit(
        mse=float(overall.mean()),
        stderr=float(_stderr(overall)),
        per_component=tuple(float(x) for x in components.mean(axis=0)),
        per_component_stderr=tuple(_stderr(components).tolist()),
        by_age=by_age.mean(axis=0),
        by_age_stderr=_stderr(by_age),
        settled=None if none_settled else float(settled.mean()),
        settled_stderr=None if none_settled else float(_stderr(settled)),
        n_records=n_masks if data.gap_fraction else 0,
        kind="exact" if is_gaussian(data) else "best linear",
        cramer_rao_by_age=bound.mean(axis=0) if is_bounded else None,
    )


def _stderr(values: np.ndarray) -> np.ndarray:
    """Standard error of a mean over the first axis; 0 where it is no mean."""
    n = len(values)
    return np.asarray(np.std(values, axis=0, ddof=1) / math.sqrt(n) if n > 1 else 0 * values[0])


def _record(
    data: DataSettings,
    window: ObservationWindow,
    n_samples: int,
    settle: int,
    noise: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, float, np.ndarray, np.ndarray]:
    """Of one record: error by component (K,), settled error, error and Cramer-Rao bound by age.

    The information on the coefficients is a running sum over the observed samples, carried from
    block to block.
    """
    windowed, future = window.past is not None, window.future or 0
    if windowed and (window.future is None or window.stride > 1):
        raise UserError("no limit is computed for a bounded past with this future")
    length = n_samples if window.past is None else window.past + 1 + future
    is_observed = np.ones(length)
    if data.gap_fraction:
        is_observed = 1.0 - draw_gaps(data, 1, length, rng=rng)[0]
    tones = ToneFilter(data.frequencies_hz, data.rate_hz, tone_response(data))
    carried = np.zeros((window.stride, 2 * tones.n_tones, 2 * tones.n_tones))
    is_bounded = is_gaussian(data) and noise > 0 and window.target_known
    parts = []
    block = window.stride * -(-BLOCK // window.stride)
    for first in range(0, length, block):
        n = min(block, length - first)
        every = 1 if first < MAX_AGES else 1 + length // MAX_AGES
        design = tones.design_matrix(first, n)
        information = (
            is_observed[first : first + n, None, None] * design[:, :, None] * design[:, None, :]
        )
        information /= max(noise, MIN_NOISE_POWER)
        for lane in range(min(window.stride, n)):
            rows = slice(lane, None, window.stride)
            information[rows] = carried[lane] + np.cumsum(information[rows], axis=0)
            carried[lane] = information[rows][-1]
        if window.future is None:
            continue
        # As with known phase: windows that fill, then the future as it comes in; or all samples
        # so far, with a lag.
        target = np.arange(first, first + n)
        target = np.minimum(target, window.past) if window.past is not None else target - future
        is_wanted = target >= 0
        parts.append(
            _errors(
                information[is_wanted], tones, target[is_wanted], window.target_known, is_bounded,
                every,
            )
        )  # fmt: skip
    if window.future is None:
        for first in range(0, length, block):
            target = np.arange(first, min(first + block, length))
            every = 1 if first < MAX_AGES else 1 + length // MAX_AGES
            total = np.broadcast_to(carried[0], (len(target), *carried[0].shape))
            parts.append(_errors(total, tones, target, window.target_known, is_bounded, every))
    error, bound = (np.concatenate(part) for part in zip(*parts, strict=True))
    overall, late = (error[-1:], error[-1:]) if windowed else (error, error[settle:])
    settled = float(late.mean()) if late.size else math.nan
    return overall.mean(axis=0), settled, error.mean(axis=1), bound


def _errors(
    information: Float[np.ndarray, "T D D"],
    tones: ToneFilter,
    target: Int[np.ndarray, " T"],
    target_known: bool,
    is_bounded: bool,
    every: int,
) -> tuple[Float[np.ndarray, "T K"], Float[np.ndarray, " T"]]:
    """Mean squared error of every tone, and the Cramer-Rao bound of their mean, at some samples.

    The prior of every coefficient is N(0, 1/2). Without it there is a bound only where the samples
    separate all coefficients; elsewhere it is infinite. Of long records every ``every``-th sample
    is computed, and repeated for those that follow it.
    """
    n_samples = len(target)
    information, outputs = information[::every], tones.output_matrix(target[::every])
    d = information.shape[1]
    covariance = np.linalg.inv(information + 2.0 * np.eye(d))
    error = np.einsum("tki,tij,tkj->tk", outputs, covariance, outputs)
    if not target_known:
        # Covariance of the posterior means: the best single estimate for all tones is their mean.
        known = np.einsum("tki,tij,tlj->tkl", outputs, 0.5 * np.eye(d) - covariance, outputs)
        error = 0.5 - 2 * known.mean(axis=2) + known.mean(axis=(1, 2))[:, None]
    bound = np.full(len(outputs), np.inf)
    if is_bounded:
        eigenvalues = np.linalg.eigvalsh(information)
        regular = eigenvalues[:, 0] > MIN_EIGENVALUE * eigenvalues[:, -1]
        inverse, regular_outputs = np.linalg.inv(information[regular]), outputs[regular]
        products = np.einsum("tki,tij,tkj->tk", regular_outputs, inverse, regular_outputs)
        bound[regular] = products.mean(axis=1)
    return (
        np.repeat(error, every, axis=0)[:n_samples],
        np.repeat(bound, every)[:n_samples],
    )
