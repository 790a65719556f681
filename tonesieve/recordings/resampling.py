"""From one sampling rate to another. Axes: T samples in, N samples out."""

from __future__ import annotations

import math

import numpy as np
import soxr
from jaxtyping import Float

# Derived: samples, at the lower rate, that the resampling filter reaches on either side.
TAIL = 512
# Chosen, not tuned: lengths of the lead that are tried.
N_LEADS = 100_000


def resample(
    samples: Float[np.ndarray, " T"], from_hz: float, to_hz: float, *, n_out: int | None = None
) -> Float[np.ndarray, " N"]:
    """Resample band-limited, by soxr at very high quality.

    Sample 0 stays at time 0. The ends are continued by odd reflection before filtering, so that
    they do not ring.

    Parameters
    ----------
    samples : ndarray, shape (T,)
        Samples without gaps.
    from_hz : float
        Their sampling rate.
    to_hz : float
        The rate that is wanted.
    n_out : int, optional
        Samples that are wanted; by default ``round(T * to_hz / from_hz)``.

    Returns
    -------
    ndarray, shape (N,)
        The samples at the other rate.

    References
    ----------
    The SoX Resampler library (libsoxr), through its Python binding soxr
    """
    n_out = round(len(samples) * to_hz / from_hz) if n_out is None else n_out
    if from_hz == to_hz and n_out == len(samples):
        return samples.copy()
    # The lead is cut off again after resampling, so it must be a whole number of samples at
    # both rates: the best of many lengths is, to a hundredth of a sample, whatever the ratio.
    ratio = to_hz / from_hz
    shortest = math.ceil(TAIL * max(1.0, 1 / ratio))
    leads = np.arange(shortest, shortest + N_LEADS)
    lead_in = int(leads[np.argmin(np.abs(leads * ratio - np.rint(leads * ratio)))])
    lead_out = round(lead_in * ratio)
    extended = np.pad(samples, lead_in, mode="reflect", reflect_type="odd")
    out = soxr.resample(extended, from_hz, to_hz, quality="VHQ")
    return out[lead_out : lead_out + n_out]
