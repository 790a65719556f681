"""Does it listen? Shifted start, silent input, another tone alone, swapped selector.

SPEC, section 6: a network with a carried state can learn to run as a clock, from time 0 and
without a look at S, and scores well on a record of fixed start all the same. Axes: B records,
T samples, K components.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tonesieve.config import Config, DataSettings
from tonesieve.extractors.protocol import Extractor, is_causal
from tonesieve.judging.metrics import correlation, mse
from tonesieve.signals.synthesis import (
    draw_records,
    even_starts,
)

# Starts tried, evenly over the common period: an output that follows none of them, whatever its
# phase, then explains a share of about 1/32 of any target by chance.
N_STARTS = 32
# An output that explains at least this share of a target's variance follows it.
FOLLOWS = 0.1
# An output in silence this strong (RMS over that of the tones), that follows the clock's targets
# to this share, goes on without S.
LOUD, GOES_ON = 0.3, 0.5
# Shifted start, silence, other tones, swapped selector.
N_PROBES = 4

Figures = dict[str, Any]
Batch = Float[np.ndarray, "B T"]
Answers = Float[np.ndarray, "B T K"]


def probe_extractor(
    extractor: Extractor, config: Config, *, on_part: Callable[[int], None] = lambda n_done: None
) -> Figures:
    """Tell a filter from a clock; answers ``verdict`` and the figures of four probes.

    ``filter``: the estimate shifts along with the start. ``clock``: it stays with the targets of
    a record begun at time 0, or goes on with them in silence. ``both``: some of each. ``neither``:
    it follows nothing. Shares are squared correlations, the mean over components. The start is
    looked at by itself, too, for a clock may run for a while only; all else after the start-up.
    ``on_part`` hears how many of the `N_PROBES` are done.
    """
    data = config.data
    settle = _settle(config)
    figures: Figures = {"settle_samples": settle}
    figures["shifted_start"] = _shifted_start(extractor, data, settle)
    on_part(1)
    figures["silence"] = _silence(extractor, data, settle)
    on_part(2)
    figures["other_tone"] = _other_tone(extractor, data, settle)
    on_part(3)
    figures["swapped_selector"] = _swapped_selector(extractor, data, settle)
    on_part(N_PROBES)
    return {"verdict": verdict(figures), **figures}


def verdict(figures: Figures) -> str:
    """One of filter, clock, both, neither."""
    shifted, silence = figures["shifted_start"], figures["silence"]
    parts = (shifted, shifted["at_first"])
    listens = any(part["follows_start"] >= FOLLOWS for part in parts)
    goes_on = silence["relative_rms"] >= LOUD and silence["follows_clock"] >= GOES_ON
    ticks = goes_on or any(part["follows_clock"] >= FOLLOWS for part in parts)
    names = {(True, False): "filter", (False, True): "clock", (True, True): "both"}
    return names.get((listens, ticks), "neither")


def _settle(config: Config) -> int:
    """Samples of start-up, and of the stretch looked at after it.

    A carried state gets a whole period of the slowest tone at least. Windows are alike at any
    age, so two of them serve, and the starts cover the period.
    """
    if not config.stateful:
        return 2 * (config.model.window + config.model.taps)
    data = config.data
    period = math.ceil(data.rate_hz / min(data.frequencies_hz))
    return max(round(config.evaluation.settle_s * data.rate_hz), period)


def _shifted_start(extractor: Extractor, data: DataSettings, settle: int) -> Figures:
    """Records begun all over the period: does the estimate shift along, or stay with time 0?"""
    n_samples = 2 * settle
    shifted = data.model_copy(update={"start": "random"})
    starts = _starts(data)
    rng = np.random.default_rng([data.test_seed, 8])
    records = draw_records(shifted, N_STARTS, n_samples, rng=rng, starts=starts)
    whole, clocks = extractor.extract(records.mixture), _clock_targets(data, n_samples)
    early, late = slice(0, settle), slice(settle, None)
    estimate, own, clock = whole[:, late], records.targets[:, late], clocks[:, late]
    return {
        "records": N_STARTS,
        "mse": mse(estimate, own),
        "mse_to_clock": mse(estimate, np.broadcast_to(clock, estimate.shape)),
        "follows_start": _share(estimate, own),
        "follows_clock": _share(estimate, clock),
        "at_first": {
            "samples": settle,
            "follows_start": _share(whole[:, early], records.targets[:, early]),
            "follows_clock": _share(whole[:, early], clocks[:, early]),
        },
        "per_component": [
            {
                "hz": f,
                "follows_start": _share(estimate[..., k : k + 1], own[..., k : k + 1]),
                "follows_clock": _share(estimate[..., k : k + 1], clock[..., k : k + 1]),
            }
            for k, f in enumerate(data.frequencies_hz)
        ],
    }


def _silence(extractor: Extractor, data: DataSettings, settle: int) -> Figures:
    """S = 0 throughout: does the output go on all the same, as from time 0?"""
    n_samples = 3 * settle
    estimate = extractor.extract(np.zeros((1, n_samples)))[:, settle:]
    clock = _clock_targets(data, n_samples)[:, settle:]
    swing = estimate - estimate.mean(axis=1, keepdims=True)  # a constant is no oscillation
    return {
        "relative_rms": _relative_rms(swing),
        "follows_clock": _share(estimate, clock),
        "mse_to_clock": mse(estimate, clock),
    }


def _other_tone(extractor: Extractor, data: DataSettings, settle: int) -> Figures | None:
    """Only one other tone sounds: does it pass for the wanted one, or betray the time?

    In the locked regime any tone tells the time, so a network that answers the wanted tone from
    another one alone does listen; a filter stays silent.
    """
    if data.n_components == 1:
        return None
    n_samples = 2 * settle
    loudness, wanted, leaked = [], [], []
    for j in range(data.n_components):
        alone = data.model_copy(
            update={
                "frequencies_hz": (data.frequencies_hz[j],),
                "phases_rad": (data.start_phases_rad[j],),
                "start": "random",
            }
        )
        starts = _starts(data)
        rng = np.random.default_rng([data.test_seed, 9, j])
        sounding = draw_records(alone, N_STARTS, n_samples, rng=rng, starts=starts)
        truth = draw_records(
            data.model_copy(update={"start": "random"}), N_STARTS, n_samples, rng=rng, starts=starts
        ).targets[:, settle:]
        # The mixture is a mean over K tones, of which K - 1 are silent.
        estimate = extractor.extract(sounding.mixture / data.n_components)[:, settle:]
        for k in (k for k in range(data.n_components) if k != j):
            loudness.append(_relative_rms(estimate[..., k : k + 1]))
            leaked.append(_share(estimate[..., k : k + 1], sounding.targets[:, settle:]))
            wanted.append(_share(estimate[..., k : k + 1], truth[..., k : k + 1]))
    return {
        "relative_rms": float(np.mean(loudness)),
        "follows_sounding": float(np.mean(leaked)),
        "follows_wanted": None if data.regime == "free" else float(np.mean(wanted)),
    }


def _swapped_selector(extractor: Extractor, data: DataSettings, settle: int) -> Figures | None:
    """The selector turns to another tone in mid-stream: does the output follow?"""
    swap = getattr(extractor, "swap_selector", None)
    if swap is None or data.n_components == 1 or not is_causal(extractor):
        return None
    starts = _starts(data)
    rng = np.random.default_rng([data.test_seed, 10])
    shifted = data.model_copy(update={"start": "random"})
    records = draw_records(shifted, N_STARTS, 3 * settle, rng=rng, starts=starts)
    state = extractor.step(records.mixture[:, :settle], extractor.initial_state(N_STARTS))[1]
    after = extractor.step(records.mixture[:, settle:], swap(state))[0][:, settle:]
    own = records.targets[:, 2 * settle :]
    before = np.roll(own, 1, axis=2)  # what every pass was told first
    return {
        "mse": mse(after, own),
        "follows_new": _share(after, own),
        "follows_old": _share(after, before),
    }


def _starts(data: DataSettings) -> Int[np.ndarray, " B"] | None:
    """Evenly over the period; the free regime draws phases of its own."""
    return None if data.regime == "free" else even_starts(data, N_STARTS)


def _clock_targets(data: DataSettings, n_samples: int) -> Float[np.ndarray, "1 T K"]:
    """The tones of a record begun at time 0."""
    fixed = data.model_copy(update={"start": "fixed", "regime": "locked", "frequency_drift": 0.0})
    return draw_records(fixed, 1, n_samples, rng=np.random.default_rng(0)).targets


def _share(estimate: Answers, target: Float[np.ndarray, "#B T K"]) -> float:
    """Share of the targets' variance that the estimate explains: squared correlation.

    A constant explains nothing. The mean over components.
    """
    whole = np.broadcast_to(target, estimate.shape)
    values = [correlation(estimate[..., k], whole[..., k]) or 0.0 for k in range(estimate.shape[2])]
    return float(np.mean(np.square(values)))


def _relative_rms(estimate: Answers) -> float:
    """RMS over that of a tone of amplitude 1."""
    return float(np.sqrt(2 * np.mean(estimate**2)))
