"""Masses of jittered tones on a grid, one component and position at a time."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

# Points over the phase: few where the amplitude smears them out, many where nothing does.
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
    """Masses (P, N) of A sin(angle + phi) on nodes lows[j] + k steps[j].

    A ~ U(amplitude), phi ~ U(0, jitter_rad). Each point mass is shared by the two nodes around it
    (second difference of E(x - X)+), so that the mean is kept and no possible value gets none.
    """
    masses = np.zeros((len(angles), n_nodes))
    small, large = amplitude
    for j in range(len(angles)):
        step = steps[j]
        n_used = min(n_nodes, math.ceil((highs[j] - lows[j]) / step) + 1)
        smear = (large - small) * 0.5 * (abs(lows[j]) + abs(highs[j])) / large
        n_points = N_PHASE_SMOOTH if smear > (highs[j] - lows[j]) / 16 else N_PHASE_SHARP
        if jitter_rad == 0.0:
            n_points = 1
        excess = np.zeros(n_used + 2)  # E(x - X)+ at nodes -1 .. n_used
        for q in range(n_points):
            sine = math.sin(angles[j] + jitter_rad * (q + 0.5) / n_points)
            one, other = small * sine, large * sine
            low, high = min(one, other), max(one, other)
            width = high - low
            for k in range(n_used + 2):
                x = lows[j] + (k - 1) * step
                if x <= low:
                    continue
                if x < high:
                    excess[k] += (x - low) * (x - low) / (2 * width)
                else:
                    excess[k] += x - 0.5 * (low + high)
        for k in range(n_used):
            bend = excess[k] - 2 * excess[k + 1] + excess[k + 2]
            masses[j, k] = max(0.0, bend / (step * n_points))
    return masses
