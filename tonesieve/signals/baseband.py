"""Complex baseband of a recording around a nominal frequency, block by block.

Each step is a weighted least-squares fit of an offset, a slope and one oscillation at the nominal
frequency; the weights are a low-pass window's. So neither level nor slope leaks into a step, also
beside gaps. Axes: C channels, T samples, N steps.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Complex, Float


def default_within_hz(hz: float, duration_s: float) -> float:
    """Half-width of the range in which a line is searched.

    Parameters
    ----------
    hz : float
        Nominal frequency.
    duration_s : float
        Duration of the record.

    Returns
    -------
    float
        2% of the frequency, but at least 3 inverse durations, and at most half the frequency.
    """
    raise NotImplementedError


class Baseband:
    """Accumulates the complex baseband of a recording around one frequency.

    Step n is centred on the time ``n * step_s`` after the first sample, and approximates
    ``a(t) exp(i phi(t))`` where the tone is ``a(t) cos(2 pi hz t + phi(t))``. The memory is that of
    the steps, whatever the length of the blocks.

    Parameters
    ----------
    hz : float
        Nominal frequency.
    rate_hz : float
        Sampling rate.
    within_hz : float
        Half-width of the range of interest; frequencies up to `PASS` times as far pass unchanged,
        from `STOP` times on they are suppressed by 80 dB.
    n_channels : int
        Number of channels.
    """

    def __init__(self, hz: float, rate_hz: float, within_hz: float, n_channels: int = 1) -> None:
        raise NotImplementedError

    step_s: float
    """Time between two steps, about 1 / (8 within_hz)."""

    def update(self, samples: Float[np.ndarray, "C T"]) -> None:
        """Process the samples (C, T) that follow; NaN in gaps."""
        raise NotImplementedError

    def finish(self) -> tuple[Complex[np.ndarray, "C N"], Float[np.ndarray, "C N"]]:
        """Steps (C, N) up to the last sample, and their weights (C, N), 0 in gaps to 1."""
        raise NotImplementedError
