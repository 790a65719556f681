"""From one sampling rate to another. Axes: T samples in, N samples out."""

from __future__ import annotations

import math

import numpy as np
import soxr
from jaxtyping import Float

TAIL = 512  # samples, at the slower rate, that the resampling filter reaches on either side


def resample(
    samples: Float[np.ndarray, " T"], from_hz: float, to_hz: float, *, n_out: int | None = None
) -> Float[np.ndarray, " N"]:
    """Bring samples from one rate to another, band-limited (soxr, very high quality).

    Sample 0 stays at time 0. The ends are continued by odd reflection before filtering, so that
    they do not ring. ``n_out`` samples come back (default: round(T * to / from)).
    """
    n_out = round(len(samples) * to_hz / from_hz) if n_out is None else n_out
    if from_hz == to_hz and n_out == len(samples):
        return samples.copy()
    # The lead is cut off again after resampling, so it must be a whole number of samples at
    # both rates: the best of many lengths is, to a hundredth of a sample, whatever the ratio.
    ratio = to_hz / from_hz
    shortest = math.ceil(TAIL * max(1.0, 1 / ratio))
    leads = np.arange(shortest, shortest + 100_000)
    lead_in = int(leads[np.argmin(np.abs(leads * ratio - np.rint(leads * ratio)))])
    lead_out = round(lead_in * ratio)
    extended = np.pad(samples, lead_in, mode="reflect", reflect_type="odd")
    out = soxr.resample(extended, from_hz, to_hz, quality="VHQ")
    return out[lead_out : lead_out + n_out]
