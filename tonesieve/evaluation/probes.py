"""Does it listen? Shifted start, silent input, another tone alone, swapped selector.

SPEC, section 6: a network with a carried state can learn to run as a clock, from time 0 and
without a look at S, and scores well on a record of fixed start all the same. Axes: B records,
T samples, K components.
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

# Starts tried, evenly over the common period; of windows, which are dear and carry nothing, fewer.
N_STARTS, N_STARTS_OF_WINDOWS = 32, 8
# An output that explains at least this share of a target's power follows it.
FOLLOWS = 0.1
# An output in silence this strong (RMS over that of the tones), that follows the clock's targets
# to this share, goes on without S.
LOUD, GOES_ON = 0.3, 0.5

Figures = dict[str, Any]
Batch = Float[np.ndarray, "B T"]
Answers = Float[np.ndarray, "B T K"]


def probe_extractor(
    extractor: Extractor, config: Config, *, on_part: Callable[[int], None] = lambda n_done: None
) -> Figures:
    """Tell a filter from a clock; answers ``verdict`` and the figures of four probes.

    ``filter``: the estimate shifts along with the start. ``clock``: it stays with the targets of
    a record begun at time 0, or goes on with them in silence. ``both``: some of each. ``neither``:
    it follows nothing. Shares are of the targets' power, 1 - MSE / power, the mean over
    components. Where state is carried the start is looked at by itself, too, for a clock may run
    for a while only; all else is looked at after the start-up.
    ``on_part`` hears how many of the `N_PROBES` are done.
    """
    plan, figures = _plan(config), dict[str, Any]()
    for done, (name, look) in enumerate(PROBES.items(), start=1):
        figures[name] = look(extractor, config.data, plan)
        on_part(done)
    told = {"settle_samples": plan.settle, "looked_at_samples": plan.stretch}
    return {"verdict": verdict(figures), **told, **figures}


@dataclass(frozen=True)
class _Plan:
    """How long a start-up is left out, how long is looked at, and how many starts are tried."""

    settle: int
    stretch: int
    n_starts: int
    carries: bool  # state, so that the start-up may hold a clock

    @property
    def n_samples(self) -> int:
        return self.settle + self.stretch


def _plan(config: Config) -> _Plan:
    """A whole period of the slowest tone is looked at, or else no clock could be seen."""
    data = config.data
    period = math.ceil(data.rate_hz / min(data.frequencies_hz))
    if not config.stateful:
        reach = config.model.window - 1 + config.model.taps
        return _Plan(reach, period, N_STARTS_OF_WINDOWS, False)
    settle = max(round(config.evaluation.settle_s * data.rate_hz), period)
    return _Plan(settle, settle, N_STARTS, True)


def verdict(figures: Figures) -> str:
    """One of filter, clock, both, neither."""
    shifted, silence = figures["shifted_start"], figures["silence"]
    parts = [part for part in (shifted, shifted["at_first"]) if part is not None]
    listens = any(part["follows_start"] >= FOLLOWS for part in parts)
    goes_on = silence["relative_rms"] >= LOUD and silence["follows_clock"] >= GOES_ON
    ticks = goes_on or any(part["follows_clock"] >= FOLLOWS for part in parts)
    names = {(True, False): "filter", (False, True): "clock", (True, True): "both"}
    return names.get((listens, ticks), "neither")


def _shifted_start(extractor: Extractor, data: DataSettings, plan: _Plan) -> Figures:
    """Records begun all over the period: does the estimate shift along, or stay with time 0?"""
    shifted = data.model_copy(update={"start": "random"})
    rng = np.random.default_rng([data.test_seed, 8])
    records = draw_records(
        shifted, plan.n_starts, plan.n_samples, rng=rng, starts=_starts(data, plan)
    )
    whole, clocks = extractor.extract(records.mixture), _clock_targets(data, plan.n_samples)
    early, late = slice(0, plan.settle), slice(plan.settle, None)
    estimate, own, clock = whole[:, late], records.targets[:, late], clocks[:, late]
    return {
        "records": plan.n_starts,
        "mse": mse(estimate, own),
        "mse_to_clock": mse(estimate, np.broadcast_to(clock, estimate.shape)),
        "follows_start": _share(estimate, own),
        "follows_clock": _share(estimate, clock),
        "at_first": {
            "follows_start": _share(whole[:, early], records.targets[:, early]),
            "follows_clock": _share(whole[:, early], clocks[:, early]),
        }
        if plan.carries
        else None,
        "per_component": [
            {
                "hz": f,
                "follows_start": _share(estimate[..., k : k + 1], own[..., k : k + 1]),
                "follows_clock": _share(estimate[..., k : k + 1], clock[..., k : k + 1]),
            }
            for k, f in enumerate(data.frequencies_hz)
        ],
    }


def _silence(extractor: Extractor, data: DataSettings, plan: _Plan) -> Figures:
    """S = 0 throughout: does the output go on all the same, as from time 0?"""
    n_samples = plan.settle + 2 * plan.stretch
    estimate = extractor.extract(np.zeros((1, n_samples)))[:, plan.settle :]
    clock = _clock_targets(data, n_samples)[:, plan.settle :]
    swing = estimate - estimate.mean(axis=1, keepdims=True)  # a constant is no oscillation
    return {
        "relative_rms": _relative_rms(swing),
        "follows_clock": _share(estimate, clock),
        "mse_to_clock": mse(estimate, clock),
    }


def _other_tone(extractor: Extractor, data: DataSettings, plan: _Plan) -> Figures | None:
    """Only one other tone sounds: does it pass for the wanted one, or betray the time?

    In the locked regime any tone tells the time, so a network that answers the wanted tone from
    another one alone does listen; a filter stays silent.
    """
    if data.n_components == 1:
        return None
    loudness, wanted, leaked = [], [], []
    for j in range(data.n_components):
        alone = data.model_copy(
            update={
                "frequencies_hz": (data.frequencies_hz[j],),
                "phases_rad": (data.start_phases_rad[j],),
                "start": "random",
            }
        )
        rng = np.random.default_rng([data.test_seed, 9, j])
        sounding, whole = (
            draw_records(drawn, plan.n_starts, plan.n_samples, rng=rng, starts=_starts(data, plan))
            for drawn in (alone, data.model_copy(update={"start": "random"}))
        )
        truth = whole.targets[:, plan.settle :]
        # The mixture is a mean over K tones, of which K - 1 are silent.
        estimate = extractor.extract(sounding.mixture / data.n_components)[:, plan.settle :]
        for k in (k for k in range(data.n_components) if k != j):
            loudness.append(_relative_rms(estimate[..., k : k + 1]))
            leaked.append(_share(estimate[..., k : k + 1], sounding.targets[:, plan.settle :]))
            wanted.append(_share(estimate[..., k : k + 1], truth[..., k : k + 1]))
    return {
        "relative_rms": float(np.mean(loudness)),
        "follows_sounding": float(np.mean(leaked)),
        "follows_wanted": None if data.regime == "free" else float(np.mean(wanted)),
    }


def _swapped_selector(extractor: Extractor, data: DataSettings, plan: _Plan) -> Figures | None:
    """The selector turns to another tone in mid-stream: does the output follow?"""
    swap = getattr(extractor, "swap_selector", None)
    if swap is None or data.n_components == 1 or not is_causal(extractor):
        return None
    n, settle = plan.n_starts, plan.settle
    rng = np.random.default_rng([data.test_seed, 10])
    shifted = data.model_copy(update={"start": "random"})
    n_samples = 2 * settle + plan.stretch
    records = draw_records(shifted, n, n_samples, rng=rng, starts=_starts(data, plan))
    state = extractor.step(records.mixture[:, :settle], extractor.initial_state(n))[1]
    after = extractor.step(records.mixture[:, settle:], swap(state))[0][:, settle:]
    own = records.targets[:, 2 * settle :]
    before = np.roll(own, 1, axis=2)  # what every pass was told first
    return {
        "mse": mse(after, own),
        "follows_new": _share(after, own),
        "follows_old": _share(after, before),
    }


def _starts(data: DataSettings, plan: _Plan) -> Int[np.ndarray, " B"] | None:
    """Evenly over the period; the free regime draws phases of its own."""
    return None if data.regime == "free" else even_starts(data, plan.n_starts)


def _clock_targets(data: DataSettings, n_samples: int) -> Float[np.ndarray, "1 T K"]:
    """The tones of a record begun at time 0."""
    fixed = data.model_copy(update={"start": "fixed", "regime": "locked", "frequency_drift": 0.0})
    return draw_records(fixed, 1, n_samples, rng=np.random.default_rng(0)).targets


def _share(estimate: Answers, target: Float[np.ndarray, "#B T K"]) -> float:
    """Share of the targets' power that the estimate explains, 1 - MSE / power and not below 0.

    The mean over components. Not a correlation: that of a faint output may be large by chance.
    """
    error = np.mean((estimate - target) ** 2, axis=(0, 1))
    return float(np.mean(np.maximum(0.0, 1 - error / np.mean(target**2, axis=(0, 1)))))


def _relative_rms(estimate: Answers) -> float:
    """RMS over that of a tone of amplitude 1."""
    return float(np.sqrt(2 * np.mean(estimate**2)))


PROBES: dict[str, Callable[[Extractor, DataSettings, _Plan], Figures | None]] = {
    "shifted_start": _shifted_start,
    "silence": _silence,
    "other_tone": _other_tone,
    "swapped_selector": _swapped_selector,
}
N_PROBES = len(PROBES)
