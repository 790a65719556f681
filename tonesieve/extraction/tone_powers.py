"""Power of tones in their bands, before and after they are taken out.

Axes: T samples, J some tones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import ceil, log2
from typing import Any

import numpy as np
from jaxtyping import Float

from tonesieve.evaluation.metrics import band_powers
from tonesieve.recordings.recording import Recording
from tonesieve.recordings.statistics import ChannelStats

# Guard against memory: power is compared over stretches of this many samples at most; of a
# slow tone of more, which resolve its band by this many bins, up to a limit.
STRETCH, BAND_BINS, MAX_STRETCH = 2**16, 64, 2**20

# Some tones (J, T), by index, and the sum of all (T), from one sample to another.
TonesAndSum = Callable[
    [Sequence[int], int, int], tuple[Float[np.ndarray, "J T"], Float[np.ndarray, " T"]]
]


def tone_powers(
    recording: Recording,
    stats: ChannelStats,
    channel: int,
    bands_hz: Sequence[tuple[float, float]],
    tones_and_sum: TonesAndSum,
) -> list[dict[str, Any]]:
    """Return the powers of every tone in one channel.

    Parameters
    ----------
    recording : Recording
        The recording.
    stats : ChannelStats
        The channel's.
    channel : int
        Its index.
    bands_hz : sequence of tuple of float
        Lower and upper end of each tone's band.
    tones_and_sum : callable
        Takes indices of J tones and two samples; returns these tones from the first sample to the
        second, and the sum of all tones.

    Returns
    -------
    list of dict
        Of every tone its power, that of the recording in its band before and after, the change in
        dB, and the fraction of the tone outside its band.
    """
    n, rate = recording.n_samples, recording.rate_hz
    # Of few lengths, so that many tones are read together.
    needed = [BAND_BINS * rate / (high - low) / STRETCH for low, high in bands_hz]
    stretches = [min(STRETCH << max(0, ceil(log2(one))), MAX_STRETCH) for one in needed]
    sums = np.zeros((len(bands_hz), 4))
    for stretch in set(stretches):
        tones = [k for k, one in enumerate(stretches) if one == stretch]
        bands = [bands_hz[k] for k in tones]
        # Equal ones: a short last one would not resolve the band.
        edges = np.linspace(0, n, -(-n // stretch) + 1).astype(int).tolist()
        for start, stop in pairwise(edges):
            some, total = (part / stats.unit for part in tones_and_sum(tones, start, stop))
            raw = recording.channel(channel, start, stop) / stats.unit
            samples = np.where(np.isfinite(raw), raw, total + stats.mean / stats.unit)
            powers = _powers(samples, some, total, rate, bands)
            sums[tones] += powers * (stop - start) / n
    return [
        {
            "tone_power": _in_unit(total, stats.unit),
            "outside_band_share": float((total - in_band) / total) if total > 0 else None,
            "recording_power_in_band": _in_unit(before, stats.unit),
            "residual_power_in_band": _in_unit(after, stats.unit),
            "reduction_db": float(10 * np.log10(after / before)) if before * after > 0 else None,
        }
        for before, after, in_band, total in sums
    ]


def _powers(
    samples: np.ndarray,
    tones: np.ndarray,
    total: np.ndarray,
    rate_hz: float,
    bands: Sequence[tuple[float, float]],
) -> np.ndarray:
    """Of some tones: power before, after, of the tone in its band, and of all of it."""
    everything = (0.0, rate_hz / 2)
    own = [
        band_powers(tone, rate_hz, [band, everything])
        for tone, band in zip(tones, bands, strict=True)
    ]
    before = band_powers(samples, rate_hz, bands)
    return np.column_stack([before, band_powers(samples - total, rate_hz, bands), own])


def _in_unit(power: float, unit: float) -> float | None:
    """Power in the recording's own unit, or None where no number is large enough."""
    with np.errstate(over="ignore"):
        scaled = power * unit * unit
    return float(scaled) if np.isfinite(scaled) else None
