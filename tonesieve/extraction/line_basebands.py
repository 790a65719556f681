"""Basebands of a recording around several frequencies, read in one pass.

Axes: C channels, T samples, N steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float

from tonesieve.extractors.input_scaling import EXTREME
from tonesieve.recordings.reader import rows_in_block
from tonesieve.recordings.recording import Recording
from tonesieve.signals.baseband import Baseband

# Guard: a sample that is this many times as far from the median of a block as others are is a gap.
WILD = 1e6


class LineBaseband(NamedTuple):
    """Baseband of one channel around one frequency; its fields are arguments of the searches.

    Attributes
    ----------
    phasors : ndarray, shape (N,)
        Steps, by `Baseband`.
    weights : ndarray, shape (N,)
        Their weights.
    step_s : float
        Time between two steps.
    within_hz : float
        Half-width of the range of interest.
    shifts_s : ndarray, shape (N,)
        `Baseband.shifts_s`.
    """

    phasors: Complex[np.ndarray, " N"]
    weights: Float[np.ndarray, " N"]
    step_s: float
    within_hz: float
    shifts_s: Float[np.ndarray, " N"]


def read_basebands(
    recording: Recording, wanted: Sequence[tuple[float, float]]
) -> list[list[LineBaseband]]:
    """Return the basebands around some frequencies.

    Parameters
    ----------
    recording : Recording
        The recording; it is read once.
    wanted : sequence of tuple of float
        Frequencies and half-widths of the ranges of interest, in Hz.

    Returns
    -------
    list of list of LineBaseband
        Of each frequency, of each channel.
    """
    n, n_channels = recording.n_samples, len(recording.channels)
    made = [Baseband(hz, recording.rate_hz, within, n_channels) for hz, within in wanted]
    block = rows_in_block(n_channels)
    low, high = np.full(n_channels, np.inf), np.full(n_channels, -np.inf)
    for start in range(0, n, block):
        samples = _without_wild(recording.read(start, min(start + block, n)))
        low = np.fmin(low, np.fmin.reduce(samples, axis=1))
        high = np.fmax(high, np.fmax.reduce(samples, axis=1))
        for one in made:
            one.update(samples)
    basebands = []
    for one in made:
        phasors, weights = one.finish()
        phasors[low >= high] = 0.0  # the rounding of a constant is a line
        basebands.append(
            [
                LineBaseband(phasors[c], weights[c], one.step_s, one.within_hz, one.shifts_s[c])
                for c in range(n_channels)
            ]
        )
    return basebands


def _without_wild(samples: Float[np.ndarray, "C T"]) -> Float[np.ndarray, "C T"]:
    """Samples that are no part of any signal become gaps."""
    samples = np.where(np.abs(samples) < EXTREME, samples, np.nan)
    for row in samples:
        observed = row[np.isfinite(row)]
        if len(observed):
            deviation = np.abs(row - np.median(observed))
            usual = float(np.median(deviation[np.isfinite(row)]))
            row[deviation > (WILD * usual if usual > 0 else np.inf)] = np.nan
    return samples
