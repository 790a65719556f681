"""Smoothing of a line's phase: a Whittaker smoother on complex observations.

Observed are phasors p_j = A_j exp(i theta_j) + noise of precision c_j. The smoothed phase maximises

    -sum c_j |p_j - A_j exp(i theta_j)|^2 - kappa / 2 sum (second difference of theta)^2

by Gauss-Newton steps, and kappa maximises the evidence in Laplace's approximation. So the phase
bends as much as the noise allows, and is a straight line where nothing speaks against it.

Axes: J blocks.

References
----------
P. H. C. Eilers, A perfect smoother, Analytical Chemistry 75, 2003. D. J. C. MacKay, Bayesian
interpolation, Neural Computation 4, 1992.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Complex, Float

# Chosen: ratio of the time constants that are tried, in blocks, the shortest, and the longest over
# the record; guard: beyond the last, the matrices are too ill-conditioned.
TIME_RATIO, MIN_TIME, MAX_TIME_RATIO, MAX_TIME = 1.6, 0.7, 0.5, 2000.0
# Chosen: Gauss-Newton steps for each.
N_STEPS = 4
# Chosen: blocks over which the amplitude, and the phase at first, are averaged, as standard
# deviations.
AMPLITUDE_BLOCKS, FIRST_BLOCKS = 4.0, 2.0


@dataclass(frozen=True)
class SmoothPhase:
    """A smoothed phase.

    Parameters
    ----------
    radians : ndarray, shape (J,)
        The phase by block.
    time_blocks : float
        Time constant of the smoother, in blocks; infinite for a straight line.
    n_free : float
        Effective number of degrees of freedom beyond a straight line.
    cost : float
        Logarithm of the ratio of prior to posterior volume, and the penalty, of these.
    information : float
        Mean Fisher information of a block's phase.
    """

    radians: Float[np.ndarray, " J"]
    time_blocks: float
    n_free: float
    cost: float
    information: float


def smooth_phase(
    phasors: Complex[np.ndarray, " J"],
    precision: Float[np.ndarray, " J"],
    reference: Float[np.ndarray, " J"],
) -> SmoothPhase:
    """Smooth the phase of phasors that were demodulated by an approximate phase.

    Parameters
    ----------
    phasors : ndarray, shape (J,)
        Complex amplitudes of blocks, demodulated.
    precision : ndarray, shape (J,)
        Inverse variance of their noise; 0 in gaps.
    reference : ndarray, shape (J,)
        The phase that demodulated them, in radians.

    Returns
    -------
    SmoothPhase
        The total phase.
    """
    n, theta = len(phasors), reference + _first_phase(phasors, precision)
    observed = phasors * np.exp(1j * reference)
    best, best_value, time = None, -np.inf, MIN_TIME
    while time < min(MAX_TIME_RATIO * n, MAX_TIME):
        for _ in range(N_STEPS):
            _, information, pull = _gradient(observed, precision, theta)
            kappa = _stiffness(information, time)
            if kappa == 0:
                break
            theta = theta + scipy.linalg.solveh_banded(
                _banded(information, kappa), pull - kappa * _bend(theta), check_finite=False
            )
        misfit, information, _ = _gradient(observed, precision, theta)
        kappa = _stiffness(information, time)
        if kappa == 0:
            break
        volume = _log_det(information, kappa) - (n - 2) * np.log(kappa) - _log_det_bend(n)
        volume -= _log_det_line(information)
        n_free = (_log_det(information * 1.01, kappa) - _log_det(information, kappa)) / 0.01 - 2
        cost = max(0.5 * volume, 0.0) + 0.5 * kappa * float(theta @ _bend(theta))
        if -misfit - cost > best_value:
            best_value = -misfit - cost
            best = SmoothPhase(theta, time, max(n_free, 0.0), cost, float(np.mean(information)))
        time *= TIME_RATIO
    line = straight_phase(phasors, precision, reference, theta)
    misfit, information, _ = _gradient(observed, precision, line.radians)
    return line if best is None or -misfit >= best_value else best


def straight_phase(
    phasors: Complex[np.ndarray, " J"],
    precision: Float[np.ndarray, " J"],
    reference: Float[np.ndarray, " J"],
    start: Float[np.ndarray, " J"] | None = None,
) -> SmoothPhase:
    """Fit a straight line to the phase.

    Parameters
    ----------
    phasors : ndarray, shape (J,)
        Complex amplitudes of blocks, demodulated.
    precision : ndarray, shape (J,)
        Inverse variance of their noise; 0 in gaps.
    reference : ndarray, shape (J,)
        The phase that demodulated them, in radians.
    start : ndarray, shape (J,), optional
        A phase near the line; the reference by default.

    Returns
    -------
    SmoothPhase
        The total phase.
    """
    observed = phasors * np.exp(1j * reference)
    theta = reference + _first_phase(phasors, precision) if start is None else start
    basis = np.stack([np.ones(len(phasors)), np.linspace(-1.0, 1.0, len(phasors))])
    for _ in range(2 * N_STEPS):
        _, information, pull = _gradient(observed, precision, theta)
        normal = (basis * information) @ basis.T
        target = (basis * information) @ theta + basis @ pull
        theta = np.linalg.lstsq(normal, target, rcond=None)[0] @ basis
    _, information, _ = _gradient(observed, precision, theta)
    return SmoothPhase(theta, np.inf, 0.0, 0.0, float(np.mean(information)))


def _gradient(
    observed: np.ndarray, precision: np.ndarray, theta: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Misfit, Fisher information (J) of the phase, and gradient (J)."""
    turned = observed * np.exp(-1j * theta)
    amplitude = _amplitude(turned.real, precision)
    misfit = float(np.sum(precision * np.abs(turned - amplitude) ** 2))
    return misfit, 2 * precision * amplitude**2, 2 * precision * amplitude * turned.imag


def _stiffness(information: np.ndarray, time: float) -> float:
    return float(np.mean(information)) * time**4


def _first_phase(phasors: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Phase of a running mean."""
    width = min(FIRST_BLOCKS, len(phasors) / 8)
    mean = scipy.ndimage.gaussian_filter1d(precision * phasors, width, mode="constant")
    return np.unwrap(np.angle(mean))


def _amplitude(values: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Running mean of the phasors' real part, not below 0."""
    width = min(AMPLITUDE_BLOCKS, len(values) / 4)
    smooth = scipy.ndimage.gaussian_filter1d
    norm = smooth(precision, width, mode="constant")
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = smooth(precision * values, width, mode="constant") / norm
    return np.where(norm > 0, np.maximum(mean, 0.0), 0.0)


def _bend(theta: np.ndarray) -> np.ndarray:
    """D'D theta of the second differences D."""
    second = np.diff(theta, 2)
    out = np.zeros_like(theta)
    out[:-2] += second
    out[1:-1] -= 2 * second
    out[2:] += second
    return out


def _banded(diagonal: np.ndarray, kappa: float) -> np.ndarray:
    """Upper banded form (3, J) of diag + kappa D'D."""
    n = len(diagonal)
    bands = np.zeros((3, n))
    for a, x in enumerate((1.0, -2.0, 1.0)):
        for b, y in enumerate((1.0, -2.0, 1.0)):
            if b >= a:
                bands[2 - (b - a), b : n - 2 + b] += kappa * x * y
    bands[2] += diagonal
    return bands


def _log_det(diagonal: np.ndarray, kappa: float) -> float:
    factor = scipy.linalg.cholesky_banded(_banded(diagonal, kappa), check_finite=False)
    return 2.0 * float(np.sum(np.log(factor[2])))


def _log_det_bend(n: int) -> float:
    """Log-determinant of D D', in closed form: n^2 (n^2 - 1) / 12."""
    return float(np.log(n) * 2 + np.log(n**2 - 1.0) - np.log(12.0))


def _log_det_line(information: np.ndarray) -> float:
    """Log-determinant of the information on an orthonormal basis of straight lines."""
    line = np.linspace(-1.0, 1.0, len(information))
    basis = np.stack([np.ones(len(line)) / np.sqrt(len(line)), line / np.sqrt(line @ line)])
    return float(np.linalg.slogdet((basis * information) @ basis.T)[1])
