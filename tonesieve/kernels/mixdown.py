"""Moments of a recording under a sliding window, for the baseband around one frequency.

Step m is centred on sample m D. Its window h has S D weights, of which stage j of S, as the window
passes by, uses those from j D on. Accumulated are, with k the place in the window, tau(k) from -1
to 1 and n the sample's number,

    sum h x,   sum h tau x,   sum h x cos(omega n),   sum -h x sin(omega n),

and over missing samples, with the angle omega (n - m D),

    sum h {1, tau, tau^2, cos, sin, tau cos, tau sin, cos 2, sin 2}.

Cost: 4 S products a sample. A product of rotations gives the oscillation; its error grows as the
square root of ``RENEWAL`` steps, then it is computed anew.

Axes: C channels, T samples, N steps, S stages.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from tonesieve.kernels.fastmath import JIT_OPTIONS

N_MOMENTS, N_MISSING = 4, 9
# Derived: a rotation's rounding errors stay below 1e-14 over this many samples.
RENEWAL = 64


@njit(**JIT_OPTIONS)
def accumulate(
    samples: np.ndarray, first: int, cycles: float, window: np.ndarray, moments: np.ndarray,
    missing: np.ndarray, rotation: np.ndarray, step_moments: np.ndarray, step_missing: np.ndarray,
) -> int:  # fmt: skip
    """Write the moments (C, N, .) of the steps that end in the samples (C, T); return how many.

    ``first`` is the first sample's place in time, counted from the start of step 0's window;
    ``window`` (D, S) has the weights, ``moments`` (C, S, N_MOMENTS), ``missing`` (C, S, N_MISSING)
    and ``rotation`` (C, 2) are updated in place.
    """
    factor, n_stages = window.shape
    half = factor * n_stages // 2
    omega = 2.0 * np.pi * cycles
    turn_re, turn_im = np.cos(omega), -np.sin(omega)
    n_steps = 0
    for c in range(samples.shape[0]):
        n_steps, place = 0, first % factor
        re, im = rotation[c, 0], rotation[c, 1]
        for t in range(samples.shape[1]):
            n = first + t - half
            if n % RENEWAL == 0:
                turns = cycles * n
                angle = 2.0 * np.pi * (turns - np.floor(turns))
                re, im = np.cos(angle), -np.sin(angle)
            x = samples[c, t]
            if np.isnan(x):
                for j in range(n_stages):
                    offset = place + j * factor - half
                    h, tau = window[place, j], offset / half
                    cos, sin = np.cos(omega * offset), np.sin(omega * offset)
                    missing[c, j, 0] += h
                    missing[c, j, 1] += h * tau
                    missing[c, j, 2] += h * tau * tau
                    missing[c, j, 3] += h * cos
                    missing[c, j, 4] += h * sin
                    missing[c, j, 5] += h * tau * cos
                    missing[c, j, 6] += h * tau * sin
                    missing[c, j, 7] += h * (cos * cos - sin * sin)
                    missing[c, j, 8] += h * 2.0 * sin * cos
            else:
                x_re, x_im = x * re, x * im
                for j in range(n_stages):
                    h = window[place, j]
                    moments[c, j, 0] += h * x
                    moments[c, j, 1] += h * x * ((place + j * factor - half) / half)
                    moments[c, j, 2] += h * x_re
                    moments[c, j, 3] += h * x_im
            re, im = re * turn_re - im * turn_im, re * turn_im + im * turn_re
            place += 1
            if place == factor:
                place = 0
                step_moments[c, n_steps] = moments[c, n_stages - 1]
                step_missing[c, n_steps] = missing[c, n_stages - 1]
                n_steps += 1
                for j in range(n_stages - 1, 0, -1):
                    moments[c, j] = moments[c, j - 1]
                    missing[c, j] = missing[c, j - 1]
                moments[c, 0] = 0.0
                missing[c, 0] = 0.0
        rotation[c, 0], rotation[c, 1] = re, im
    return n_steps
