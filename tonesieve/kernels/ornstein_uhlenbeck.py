"""Smoothing of a slowly changing complex amplitude in white noise, its model chosen by likelihood.

The amplitude is an Ornstein-Uhlenbeck process, observed with noise of variance v / w:

    x[n+1] = phi x[n] + u,  var x = q v,  var u = (1 - phi^2) q v,   y[n] = x[n] + e[n]

The likelihood of phi and q, with the scale v at its maximum, comes from the innovations of a Kalman
filter; the amplitude from a Rauch-Tung-Striebel smoother (B. D. O. Anderson, J. B. Moore, Optimal
filtering, 1979, sections 5.3 and 7.4).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from tonesieve.kernels.fastmath import JIT_OPTIONS


@njit(**JIT_OPTIONS)
def log_likelihood(y: np.ndarray, w: np.ndarray, phi: float, q: float) -> float:
    """Return the logarithm of the likelihood, up to a constant, the scale at its maximum.

    Parameters
    ----------
    y : ndarray of complex, shape (N,)
        Observations; any number where w is 0.
    w : ndarray, shape (N,)
        Inverse variances of their noise, over 1 / v.
    phi : float
        Correlation of consecutive amplitudes.
    q : float
        Variance of the amplitude, over v.

    Returns
    -------
    float
        In nats.
    """
    x, p = 0.0 + 0.0j, q
    squares, log_det, n = 0.0, 0.0, 0
    for i in range(len(y)):
        if w[i] > 0:
            s = p + 1 / w[i]
            e = y[i] - x
            squares += (e.real * e.real + e.imag * e.imag) / s
            log_det += math.log(s)
            n += 1
            gain = p / s
            x += gain * e
            p *= 1 - gain
        x *= phi
        p = phi * phi * p + (1 - phi * phi) * q
    return -n * math.log(max(squares, 1e-300) / max(n, 1)) - log_det


@njit(**JIT_OPTIONS)
def smooth(
    y: np.ndarray, w: np.ndarray, phi: float, q: float, x: np.ndarray, p: np.ndarray
) -> float:
    """Smooth an amplitude; return v.

    Parameters
    ----------
    y : ndarray of complex, shape (N,)
        Observations; any number where w is 0.
    w : ndarray, shape (N,)
        Inverse variances of their noise, over 1 / v.
    phi : float
        Correlation of consecutive amplitudes.
    q : float
        Variance of the amplitude, over v.
    x : ndarray of complex, shape (N,)
        Receives the amplitude.
    p : ndarray, shape (N,)
        Receives the variance of its error, over v.

    Returns
    -------
    float
        The scale v of most likelihood.
    """
    before, p_before = 0.0 + 0.0j, q
    squares, n = 0.0, 0
    for i in range(len(y)):
        x[i], p[i] = before, p_before
        if w[i] > 0:
            s = p_before + 1 / w[i]
            e = y[i] - before
            squares += (e.real * e.real + e.imag * e.imag) / s
            n += 1
            gain = p_before / s
            x[i] += gain * e
            p[i] *= 1 - gain
        before = phi * x[i]
        p_before = phi * phi * p[i] + (1 - phi * phi) * q
    for i in range(len(y) - 2, -1, -1):
        ahead = phi * phi * p[i] + (1 - phi * phi) * q
        gain = phi * p[i] / ahead if ahead > 0 else 0.0
        x[i] += gain * (x[i + 1] - phi * x[i])
        p[i] += gain * gain * (p[i + 1] - ahead)
    return squares / max(n, 1)
