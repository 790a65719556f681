"""Probability mass of a tone with random amplitude and phase, on a grid.

The tone is A sin(angle + phi), A ~ U(low, high), phi ~ U(0, jitter). Its mass on nodes x[k] is the
second difference of the function E(x - X)+ over the step: each point mass is shared by the two
nodes around it, so that the mean is exact. The expectation over A is in closed form, that over phi
by the midpoint rule. Axes: P positions, N nodes.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

# Chosen: points over the phase, few where the random amplitude smooths the density, many where it
# does not.
N_PHASE_SMOOTH, N_PHASE_SHARP = 64, 1024


@njit(cache=True, nogil=True)
def tone_pmf(
    angles: np.ndarray,
    steps: np.ndarray,
    lows: np.ndarray,
    highs: np.ndarray,
    amplitude: tuple[float, float],
    jitter_rad: float,
    n_nodes: int,
) -> np.ndarray:
    """Masses (P, N) of A sin(angle + phi) on nodes lows[j] + k steps[j], k < ``n_nodes``.

    ``amplitude``: smallest and largest A; ``jitter_rad``: width of the phase's distribution.
    """
    masses = np.zeros((len(angles), n_nodes))
    min_amplitude, max_amplitude = amplitude
    for j in range(len(angles)):
        step = steps[j]
        n_used = min(n_nodes, math.ceil((highs[j] - lows[j]) / step) + 1)
        smoothing = (
            (max_amplitude - min_amplitude) * 0.5 * (abs(lows[j]) + abs(highs[j])) / max_amplitude
        )
        n_points = N_PHASE_SMOOTH if smoothing > (highs[j] - lows[j]) / 16 else N_PHASE_SHARP
        if jitter_rad == 0.0:
            n_points = 1
        mean_excess = np.zeros(n_used + 2)  # E(x - X)+ at nodes -1 .. n_used
        for q in range(n_points):
            sine = math.sin(angles[j] + jitter_rad * (q + 0.5) / n_points)
            a, b = min_amplitude * sine, max_amplitude * sine
            low, high = min(a, b), max(a, b)
            width = high - low
            for k in range(n_used + 2):
                x = lows[j] + (k - 1) * step
                if x <= low:
                    continue
                if x < high:
                    mean_excess[k] += (x - low) * (x - low) / (2 * width)
                else:
                    mean_excess[k] += x - 0.5 * (low + high)
        for k in range(n_used):
            curvature = mean_excess[k] - 2 * mean_excess[k + 1] + mean_excess[k + 2]
            masses[j, k] = max(0.0, curvature / (step * n_points))
    return masses
