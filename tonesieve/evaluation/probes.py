"""Whether a network uses the mixture: shifted start, silent input, another tone, swapped selector.

A network with a carried state can learn to run as a clock, from time 0 and without using S, and
scores well on a record of fixed start all the same (docs/exercise.md, "What can be true: the
limit"). Axes: B records, T samples, K components.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tonesieve.config.config import Config, DataSettings
from tonesieve.evaluation.metrics import mse
from tonesieve.extractors.protocol import Extractor, is_causal
from tonesieve.signals.signal_model import even_starts
from tonesieve.signals.synthesis import draw_records

# Guard against cost: start times, evenly over the common period; fewer for windows, which are slow
# and carry no state.
N_STARTS, N_STARTS_WINDOWED = 32, 8
# Chosen, not tuned: an output that explains at least this fraction of a target's power follows it.
MIN_EXPLAINED = 0.1
# Chosen, not tuned: an output on silent input continues without S if it is at least this strong
# (RMS over that of the tones) and explains this fraction of the clock's targets.
MIN_SILENT_RMS, MIN_SILENT_EXPLAINED = 0.3, 0.5

Metrics = dict[str, Any]
Estimates = Float[np.ndarray, "B T K"]


def probe_extractor(
    extractor: Extractor, config: Config, *, on_part: Callable[[int], None] = lambda n_done: None
) -> Metrics:
    """Classify an extractor as a filter or a clock, by four probes.

    Fractions are of the targets' power, 1 - MSE / power, the mean over components. All probes leave
    out the start-up. Where state is carried the start-up is also evaluated by itself, since a clock
    may run for a while only.

    Parameters
    ----------
    extractor : Extractor
        The extractor to probe.
    config : Config
        Settings of its run.
    on_part : callable
        Called with the number of probes that are done, of `N_PROBES`.

    Returns
    -------
    dict
        ``verdict`` and the metrics of the probes. "filter": the estimate shifts along with the
        start. "clock": it stays with the targets of a record that starts at time 0, or continues
        with them on silent input. "both": some of each. "neither": it follows nothing.
    """
    plan, metrics = _plan(config), dict[str, Any]()
    for done, (name, run) in enumerate(PROBES.items(), start=1):
        metrics[name] = run(extractor, config.data, plan)
        on_part(done)
    lengths = {"settle_samples": plan.settle, "looked_at_samples": plan.span}
    return {"verdict": classify(metrics), **lengths, **metrics}


@dataclass(frozen=True)
class _Plan:
    """Samples of start-up, samples evaluated after it, start times, whether state is carried."""

    settle: int
    span: int
    n_starts: int
    stateful: bool

    @property
    def n_samples(self) -> int:
        return self.settle + self.span


def _plan(config: Config) -> _Plan:
    """A whole period of the slowest tone is evaluated: in less, a clock could not be detected."""
    data = config.data
    period = math.ceil(data.rate_hz / min(data.frequencies_hz))
    if not config.stateful:
        lookback = config.model.window - 1 + config.model.taps
        return _Plan(lookback, period, N_STARTS_WINDOWED, False)
    settle = max(round(config.evaluation.settle_s * data.rate_hz), period)
    return _Plan(settle, settle, N_STARTS, True)


def classify(metrics: Metrics) -> str:
    """Classify an extractor by the metrics of its probes.

    Parameters
    ----------
    metrics : dict
        Results of the probes, by name.

    Returns
    -------
    str
        One of "filter", "clock", "both" and "neither".
    """
    shifted, silence = metrics["shifted_start"], metrics["silence"]
    parts = [part for part in (shifted, shifted["at_first"]) if part is not None]
    is_filter = any(part["follows_start"] >= MIN_EXPLAINED for part in parts)
    continues = (
        silence["relative_rms"] >= MIN_SILENT_RMS
        and silence["follows_clock"] >= MIN_SILENT_EXPLAINED
    )
    is_clock = continues or any(part["follows_clock"] >= MIN_EXPLAINED for part in parts)
    names = {(True, False): "filter", (False, True): "clock", (True, True): "both"}
    return names.get((is_filter, is_clock), "neither")


def _shifted_start(extractor: Extractor, data: DataSettings, plan: _Plan) -> Metrics:
    """Records that start all over the period: does the estimate shift along?"""
    shifted = data.model_copy(update={"start": "random"})
    rng = np.random.default_rng([data.test_seed, 8])
    records = draw_records(
        shifted, plan.n_starts, plan.n_samples, rng=rng, starts=_starts(data, plan)
    )
    full, clocks = extractor.extract(records.mixture), _clock_targets(data, plan.n_samples)
    early, late = slice(0, plan.settle), slice(plan.settle, None)
    estimate, targets, clock = full[:, late], records.targets[:, late], clocks[:, late]
    return {
        "records": plan.n_starts,
        "mse": mse(estimate, targets),
        "mse_to_clock": mse(estimate, np.broadcast_to(clock, estimate.shape)),
        "follows_start": _explained(estimate, targets),
        "follows_clock": _explained(estimate, clock),
        "at_first": {
            "follows_start": _explained(full[:, early], records.targets[:, early]),
            "follows_clock": _explained(full[:, early], clocks[:, early]),
        }
        if plan.stateful
        else None,
        "per_component": [
            {
                "hz": f,
                "follows_start": _explained(estimate[..., k : k + 1], targets[..., k : k + 1]),
                "follows_clock": _explained(estimate[..., k : k + 1], clock[..., k : k + 1]),
            }
            for k, f in enumerate(data.frequencies_hz)
        ],
    }


def _silence(extractor: Extractor, data: DataSettings, plan: _Plan) -> Metrics:
    """S = 0 throughout: does the output continue all the same, as from time 0?"""
    n_samples = plan.settle + 2 * plan.span
    estimate = extractor.extract(np.zeros((1, n_samples)))[:, plan.settle :]
    clock = _clock_targets(data, n_samples)[:, plan.settle :]
    oscillation = estimate - estimate.mean(axis=1, keepdims=True)
    return {
        "relative_rms": _relative_rms(oscillation),
        "follows_clock": _explained(estimate, clock),
        "mse_to_clock": mse(estimate, clock),
    }


def _other_tone(extractor: Extractor, data: DataSettings, plan: _Plan) -> Metrics | None:
    """One other tone is present alone: is it mistaken for the wanted one, or used as a clock?

    With known phase every tone determines the time, so a network that estimates the wanted tone
    from another one alone does use the mixture; the output of a filter is about 0.
    """
    if data.n_components == 1:
        return None
    rms, wanted, leaked = [], [], []
    for j in range(data.n_components):
        alone = data.model_copy(
            update={
                "frequencies_hz": (data.frequencies_hz[j],),
                "phases_rad": (data.start_phases_rad[j],),
                "start": "random",
            }
        )
        rng = np.random.default_rng([data.test_seed, 9, j])
        single, full = (
            draw_records(drawn, plan.n_starts, plan.n_samples, rng=rng, starts=_starts(data, plan))
            for drawn in (alone, data.model_copy(update={"start": "random"}))
        )
        targets = full.targets[:, plan.settle :]
        # The mixture is a mean over K tones, of which K - 1 are absent.
        estimate = extractor.extract(single.mixture / data.n_components)[:, plan.settle :]
        for k in (k for k in range(data.n_components) if k != j):
            rms.append(_relative_rms(estimate[..., k : k + 1]))
            leaked.append(_explained(estimate[..., k : k + 1], single.targets[:, plan.settle :]))
            wanted.append(_explained(estimate[..., k : k + 1], targets[..., k : k + 1]))
    return {
        "relative_rms": float(np.mean(rms)),
        "follows_sounding": float(np.mean(leaked)),
        "follows_wanted": None if data.regime == "free" else float(np.mean(wanted)),
    }


def _swapped_selector(extractor: Extractor, data: DataSettings, plan: _Plan) -> Metrics | None:
    """The selector changes to another tone in mid-stream: does the output follow?"""
    swap = getattr(extractor, "swap_selector", None)
    if swap is None or data.n_components == 1 or not is_causal(extractor):
        return None
    n, settle = plan.n_starts, plan.settle
    rng = np.random.default_rng([data.test_seed, 10])
    shifted = data.model_copy(update={"start": "random"})
    n_samples = 2 * settle + plan.span
    records = draw_records(shifted, n, n_samples, rng=rng, starts=_starts(data, plan))
    state = extractor.step(records.mixture[:, :settle], extractor.initial_state(n))[1]
    after = extractor.step(records.mixture[:, settle:], swap(state))[0][:, settle:]
    new = records.targets[:, 2 * settle :]
    old = np.roll(new, 1, axis=2)  # what the selector of every pass was before the swap
    return {
        "mse": mse(after, new),
        "follows_new": _explained(after, new),
        "follows_old": _explained(after, old),
    }


def _starts(data: DataSettings, plan: _Plan) -> Int[np.ndarray, " B"] | None:
    """Evenly over the period; with unknown phase every record draws phases of its own."""
    return None if data.regime == "free" else even_starts(data, plan.n_starts)


def _clock_targets(data: DataSettings, n_samples: int) -> Float[np.ndarray, "1 T K"]:
    """The tones of a record that starts at time 0."""
    fixed = data.model_copy(update={"start": "fixed", "regime": "locked", "frequency_drift": 0.0})
    return draw_records(fixed, 1, n_samples, rng=np.random.default_rng(0)).targets


def _explained(estimate: Estimates, target: Float[np.ndarray, "#B T K"]) -> float:
    """Fraction of the targets' power that is explained, 1 - MSE / power and not below 0.

    The mean over components. Not a correlation: that of a weak output may be large by chance.
    """
    error = np.mean((estimate - target) ** 2, axis=(0, 1))
    return float(np.mean(np.maximum(0.0, 1 - error / np.mean(target**2, axis=(0, 1)))))


def _relative_rms(estimate: Estimates) -> float:
    """RMS over that of a tone of amplitude 1."""
    return float(np.sqrt(2 * np.mean(estimate**2)))


PROBES: dict[str, Callable[[Extractor, DataSettings, _Plan], Metrics | None]] = {
    "shifted_start": _shifted_start,
    "silence": _silence,
    "other_tone": _other_tone,
    "swapped_selector": _swapped_selector,
}
N_PROBES = len(PROBES)
