"""Before any training: whether a task can be learned, and the least error that can be reached."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from tonesieve.config.config import Config, DataSettings
from tonesieve.errors import UserError
from tonesieve.evaluation.exercise import random_start_samples, settle_samples
from tonesieve.evaluation.metrics import correlation
from tonesieve.extractors.bayes.limit import BayesLimit, limit, observation_window
from tonesieve.extractors.bayes.posterior_mean import (
    StartPosterior,
    is_gaussian,
    random_phase_noise_power,
)
from tonesieve.signals.signal_model import tone_gain
from tonesieve.signals.synthesis import draw_exercise

# Chosen, not tuned. A limit above the first fraction of the targets' variance leaves nothing to
# learn; below the second one the task is fine.
UNLEARNABLE, FINE = 0.99, 0.1
# Guard against cost: bins of the mixture's value, and start positions that are averaged over. The
# error of the bins is reported beside the information.
N_BINS, MAX_POSITIONS = 4096, 2048

Metrics = dict[str, Any]


def diagnose_task(config: Config) -> Metrics:
    """Compute correlations, variances, information and the limit of a task.

    Parameters
    ----------
    config : Config
        Settings of a run.

    Returns
    -------
    dict
        Among others ``verdict``, one of "cannot be learned", "at best", "fine" and "unknown";
        ``explanation``, a sentence; ``limit`` and ``settled_limit``, MSE; ``components``, with the
        mutual information of one sample of the mixture and each target in bits.
    """
    data = config.data
    record = draw_exercise(data, seed=data.train_seed)
    is_observed = np.isfinite(record.mixture[0])
    mixture, targets = record.mixture[0, is_observed], record.targets[0, is_observed]
    information, estimator = _information(data)
    best, note = _limit(config)
    variance = 0.5 if data.regime == "free" else float(np.mean(np.var(record.targets[0], axis=0)))
    metrics: Metrics = {
        "name": config.name,
        "mixture_variance": float(np.var(mixture)),
        "target_variance": variance,
        "components": [
            {
                "hz": f,
                "correlation": correlation(mixture, targets[:, k]),
                "target_variance": float(np.var(record.targets[0, :, k])),
                "information_bits": None if information is None else information[k][0],
                "information_error_bits": None if information is None else information[k][1],
                "limit": None if best is None else best.per_component[k],
            }
            for k, f in enumerate(data.frequencies_hz)
        ],
        "information_estimator": estimator,
        "limit": None if best is None else best.mse,
        "limit_stderr": None if best is None else best.stderr,
        "limit_kind": None if best is None else best.kind,
        "settled_limit": None if best is None else best.settled,
        "limit_note": note,
        "view": _view_text(config),
    }
    return {**metrics, **_classify(metrics, config)}


def _limit(config: Config) -> tuple[BayesLimit | None, str | None]:
    try:
        n_samples, settle = random_start_samples(config), settle_samples(config)
        return limit(config.data, observation_window(config), n_samples, settle=settle), None
    except UserError as error:
        return None, str(error)


def _view_text(config: Config) -> str:
    """What the model observes, in words."""
    text = "all samples so far" if config.stateful else f"windows of {config.model.window} samples"
    if config.stride > 1:
        text = f"one in {config.stride} samples so far"
    if config.model.taps:
        text += f" and {config.model.taps} more on each side"
    if not config.stateful and config.evaluation.join == "mean":
        text += ", all that hold the sample"
    unconditioned = config.model.selector == "none" and config.data.n_components > 1
    return text + (", without a selector for the wanted component" if unconditioned else "")


def _classify(metrics: Metrics, config: Config) -> Metrics:
    best, variance = metrics["limit"], metrics["target_variance"]
    if best is None:
        text = f"no limit is known here, so nothing can be concluded ({metrics['limit_note']})"
        return {"verdict": "unknown", "explanation": text}
    settled = metrics["settled_limit"]
    lowest = best if settled is None else min(best, settled)
    view = metrics["view"]
    if lowest > UNLEARNABLE * variance:
        text = (
            f"cannot be learned: from {view}, no method does better than the mean "
            f"(MSE {best:.3g} of {variance:.3g})"
        )
        return {"verdict": "cannot be learned", "explanation": text}
    if lowest > FINE * variance:
        text = f"at best MSE {best:.3g} (R2 {1 - best / variance:.2g}) from {view}"
        return {"verdict": "at best", "explanation": text}
    start = "" if config.stateful is False or settled is None else f", {settled:.2g} once settled"
    text = f"fine: MSE {best:.3g} can be reached{start}, from {view}"
    return {"verdict": "fine", "explanation": text}


def _information(data: DataSettings) -> tuple[list[tuple[float, float]] | None, str]:
    """Mutual information of one sample of S and each target, with its error, bits."""
    if data.regime == "free":
        return _gaussian_information(data)
    try:
        posterior = StartPosterior(data)
        return _exact_information(posterior), (
            "quadrature over the density of S at every position of the period; error: the "
            "difference to half as many cells"
        )
    except UserError as error:
        return None, f"none ({error})"


def _exact_information(posterior: StartPosterior) -> list[tuple[float, float]]:
    """Of one sample and each target, from the density of the sample at every position."""
    every = max(1, len(posterior.targets) // MAX_POSITIONS)
    masses = posterior.pmf_between(np.linspace(*posterior.sample_range, N_BINS + 1), every)
    result = []
    for targets in posterior.targets[::every].T:
        # Positions at which a target has the same value cannot be separated by it.
        value, group = np.unique(np.round(targets, 9), return_inverse=True)
        joint = np.zeros((len(value), masses.shape[1]))
        np.add.at(joint, group, masses)
        joint /= len(masses)
        fine, coarse = (_bits(joint), _bits(joint[:, 0::2] + joint[:, 1::2]))
        result.append((fine, abs(fine - coarse)))
    return result


def _bits(joint: Float[np.ndarray, "V N"]) -> float:
    """Mutual information of a table of joint probabilities."""
    product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    positive = joint > 0
    ratio = joint[positive] / product[positive]
    return float(max(0.0, np.sum(joint[positive] * np.log2(ratio))))


def _gaussian_information(data: DataSettings) -> tuple[list[tuple[float, float]] | None, str]:
    """Unknown phase: targets are Gaussian, so correlation gives the information, or bounds it."""
    try:
        noise = random_phase_noise_power(data)
    except UserError as error:
        return None, f"none ({error})"
    gain = tone_gain(data)
    power = gain**2 / 2
    squared = power / (power * data.n_components + noise)
    bits = -0.5 * math.log2(1 - squared) if squared < 1 else math.inf
    exact = is_gaussian(data)
    quality = "exact" if exact else "a lower bound, for S with jitter is not quite Gaussian"
    return [(bits, 0.0)] * data.n_components, f"-log2(1 - correlation^2) / 2: {quality}"
