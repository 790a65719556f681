"""Smoothing of a line's phase: penalised splines on complex observations.

Observed are phasors p_j = A_j exp(i theta_j) + noise of precision c_j. The phase theta is a cubic
spline of equidistant knots whose coefficients alpha maximise

    -sum c_j |p_j - A_j exp(i theta_j)|^2 - kappa / 2 sum (difference of order d of alpha)^2

by Gauss-Newton steps. The stiffness kappa and the order d, 2 (constant frequency plus changes) or 3
(constant drift plus changes), maximise the evidence in Laplace's approximation. So the phase bends
as much as the data require, and is a polynomial where nothing speaks against it.

Lines that are multiples of one frequency share their phase: that of line h is k_h theta + c_h, with
its order k_h and a constant c_h. Their information on theta adds up.

Axes: J blocks, K coefficients, S steps, H lines.

References
----------
P. H. C. Eilers, B. D. Marx, Flexible smoothing with B-splines and penalties, Statistical Science
11, 1996. D. J. C. MacKay, Bayesian interpolation, Neural Computation 4, 1992.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy
from jaxtyping import Complex, Float

# Chosen: ratio of the time constants that are tried, in blocks, the shortest, and the longest over
# the record; distance of knots over the time constant.
TIME_RATIO, MIN_TIME, MAX_TIME_RATIO, KNOTS_PER_TIME = 1.6, 0.8, 0.5, 3.0
# Chosen: Gauss-Newton steps for each; the search ends at this loss of evidence.
N_STEPS, MAX_LOSS = 3, 100.0
# Chosen: blocks over which the amplitude, and the phase at first, are averaged, as standard
# deviations.
AMPLITUDE_BLOCKS, FIRST_BLOCKS = 4.0, 2.0
# Guard: information of a coefficient without data, over the mean.
LEAST_INFORMATION = 1e-9
# Derived: of the smoothers' equivalent kernels 1 / (1 + (omega tau)^2d), the integral of
# omega^2 / (1 + (omega tau)^2d)^2 over frequency in Hz is this over tau^3; for d = 2 and 3.
SLOPE_VARIANCE = {2: 0.0884, 3: 0.0833}
# Derived: of the phase, the integral of 1 / (1 + (omega tau)^(2 m)) over frequency, over 1 / tau.
PHASE_VARIANCE = {2: 0.3536, 3: 0.3333}


@dataclass(frozen=True)
class SmoothPhase:
    """A smoothed phase.

    Parameters
    ----------
    coefficients : ndarray, shape (K,)
        Of a cubic spline, in radians.
    spacing : float
        Distance of its knots, in blocks.
    n_blocks : int
        Number of blocks.
    order : int
        Order of the differences that were penalised.
    time_blocks : float
        Time constant of the smoother, in blocks; infinite for a polynomial.
    n_free : float
        Effective number of degrees of freedom beyond a polynomial.
    cost : float
        Logarithm of the ratio of prior to posterior volume, and the penalty, of these.
    value : float
        Evidence.
    information : float
        Mean Fisher information of a block's phase.
    """

    coefficients: Float[np.ndarray, " K"]
    spacing: float
    n_blocks: int
    order: int
    time_blocks: float
    n_free: float
    cost: float
    value: float
    information: float

    def slope(self, blocks: Float[np.ndarray, " S"]) -> Float[np.ndarray, " S"]:
        """Return radians a block at places in blocks; constant beyond both ends."""
        places = np.clip(blocks, 0.0, self.n_blocks - 1.0)
        index, _, weights = _basis(places, self.spacing)
        slopes = sum(self.coefficients[index + i] * weights[i] for i in range(4))
        return np.asarray(slopes / self.spacing)

    def phase_std(self) -> float:
        """Standard error of the phase, in radians."""
        rate = max(self.information, 1e-300)
        time = min(self.time_blocks, self.n_blocks / self.order)
        return float(np.sqrt(PHASE_VARIANCE[self.order] / (rate * time)))

    def slope_std(self) -> float:
        """Standard error of the slope, in radians a block."""
        rate = max(self.information, 1e-300)
        if np.isinf(self.time_blocks):
            return float(np.sqrt(12 / (rate * self.n_blocks**3)))
        return float(np.sqrt(SLOPE_VARIANCE[self.order] / (rate * self.time_blocks**3)))


def smooth_phase(
    phasors: Complex[np.ndarray, " J"],
    precision: Float[np.ndarray, " J"],
    reference: Float[np.ndarray, " J"],
    drift_cost: float,
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
    drift_cost : float
        Cost of a constant drift, as a logarithm of evidence.

    Returns
    -------
    SmoothPhase
        The total phase.
    """
    line = _Lines((phasors * np.exp(1j * reference))[None], precision[None], np.ones(1))
    return _smoothed(line, reference + _first_phase(phasors, precision), drift_cost)


def smooth_common_phase(
    phasors: Complex[np.ndarray, "H J"],
    precision: Float[np.ndarray, "H J"],
    orders: Float[np.ndarray, " H"],
    reference: Float[np.ndarray, " J"],
    drift_cost: float,
) -> SmoothPhase:
    """Smooth the phase that lines at multiples of one frequency share.

    Parameters
    ----------
    phasors : ndarray, shape (H, J)
        Complex amplitudes of each line's blocks, demodulated by ``orders`` times ``reference``.
    precision : ndarray, shape (H, J)
        Inverse variance of their noise; 0 in gaps.
    orders : ndarray, shape (H,)
        Frequency of each line over the common one.
    reference : ndarray, shape (J,)
        The phase of order 1 that demodulated them, in radians; near the true one.
    drift_cost : float
        Cost of a constant drift, as a logarithm of evidence.

    Returns
    -------
    SmoothPhase
        The total phase of order 1, up to a constant.
    """
    observed = phasors * np.exp(1j * orders[:, None] * reference)
    lines = _Lines(observed, precision, orders, has_constants=True)
    return _smoothed(lines, reference, drift_cost)


def _smoothed(line: _Lines, start: np.ndarray, drift_cost: float) -> SmoothPhase:
    """The smooth phase of most evidence near ``start`` (J)."""
    n = len(start)
    best: SmoothPhase | None = None
    for order in (2, 3):
        theta, time, best_here = start, MIN_TIME, -np.inf
        while time < MAX_TIME_RATIO * n:
            smooth, theta = line.fitted(theta, order, time)
            value = smooth.value - (order - 2) * drift_cost
            if best is None or value > best.value:
                cost = smooth.cost + (order - 2) * drift_cost
                best = replace(smooth, value=value, cost=cost)
            best_here = max(best_here, value)
            if value < best_here - MAX_LOSS:
                break
            time *= TIME_RATIO
        smooth, _ = line.fitted(theta, order, np.inf)
        value = smooth.value - (order - 2) * drift_cost
        if best is None or value >= best.value:
            cost = (order - 2) * drift_cost
            best = replace(smooth, value=value, cost=cost)
    assert best is not None
    return best


def straight_phase(
    phasors: Complex[np.ndarray, " J"],
    precision: Float[np.ndarray, " J"],
    reference: Float[np.ndarray, " J"],
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

    Returns
    -------
    SmoothPhase
        The total phase.
    """
    line = _Lines((phasors * np.exp(1j * reference))[None], precision[None], np.ones(1))
    start = reference + _first_phase(phasors, precision)
    return line.fitted(start, 2, np.inf)[0]


class _Lines:
    """Observed phasors (H, J) of lines, their precision (H, J), and their orders (H).

    ``has_constants``: whether each has a constant phase of its own.
    """

    def __init__(
        self,
        observed: np.ndarray,
        precision: np.ndarray,
        orders: np.ndarray,
        *,
        has_constants: bool = False,
    ) -> None:
        self.observed, self.precision, self.orders = observed, precision, orders[:, None]
        self.has_constants = has_constants
        self.n = observed.shape[1]

    def gradient(self, theta: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Misfit, Fisher information (J) of the phase, and gradient (J)."""
        turned = self.observed * np.exp(-1j * self.orders * theta)
        if self.has_constants:
            # The constants, at their most likely values.
            mean = np.sum(self.precision * turned, axis=1, keepdims=True)
            turned = turned * np.exp(-1j * np.angle(mean))
        amplitude = _amplitude(turned.real, self.precision)
        misfit = float(np.sum(self.precision * np.abs(turned - amplitude) ** 2))
        scale = 2 * self.precision * amplitude * self.orders
        information = np.sum(scale * amplitude * self.orders, axis=0)
        return misfit, information, np.sum(scale * turned.imag, axis=0)

    def fitted(self, theta: np.ndarray, order: int, time: float) -> tuple[SmoothPhase, np.ndarray]:
        """The smooth phase near theta (J), and its values (J)."""
        if np.isinf(time):
            return self._polynomial(theta, order)
        spacing = max(1.0, time / KNOTS_PER_TIME)
        index, weights, _ = _basis(np.arange(self.n), spacing)
        n_knots = int(index[-1]) + 4
        penalty = _penalty(n_knots, order)

        def matrix(information: np.ndarray) -> np.ndarray:
            bands = np.zeros((4, n_knots))
            for a in range(4):
                for b in range(a, 4):
                    bands[3 - b + a] += np.bincount(
                        index + b, information * weights[a] * weights[b], n_knots
                    )
            bands[3] += LEAST_INFORMATION * float(np.mean(information)) + 1e-300
            return bands

        def stiffness(information: np.ndarray) -> float:
            rate = float(np.mean(information)) + 1e-300
            return rate * time ** (2 * order) / spacing ** (2 * order - 1)

        alpha = np.zeros(n_knots)
        for _ in range(N_STEPS):
            _, information, pull = self.gradient(theta)
            goal = information * theta + pull
            right = sum(np.bincount(index + i, weights[i] * goal, n_knots) for i in range(4))
            bands = matrix(information)
            alpha = scipy.linalg.solveh_banded(
                bands + stiffness(information) * penalty, right, check_finite=False
            )
            theta = np.asarray(sum(alpha[index + i] * weights[i] for i in range(4)))
        misfit, information, _ = self.gradient(theta)
        bands, kappa = matrix(information), stiffness(information)
        whole = _log_det(bands + kappa * penalty)
        volume = whole - (n_knots - order) * np.log(kappa) - _log_det_differences(n_knots, order)
        volume -= _log_det_polynomials(bands, order)
        n_free = (_log_det(1.01 * bands + kappa * penalty) - whole) / np.log(1.01) - order
        difference = np.diff(alpha, order)
        cost = max(0.5 * volume, 0.0) + 0.5 * kappa * float(difference @ difference)
        rate = float(np.mean(information))
        smooth = SmoothPhase(
            alpha, spacing, self.n, order, time, max(n_free, 0.0), cost, -misfit - cost, rate
        )
        return smooth, theta

    def _polynomial(self, theta: np.ndarray, order: int) -> tuple[SmoothPhase, np.ndarray]:
        basis = np.linspace(-1.0, 1.0, self.n) ** np.arange(order)[:, None]
        fit = np.zeros(order)
        for _ in range(4 * N_STEPS):
            _, information, pull = self.gradient(theta)
            normal = (basis * information) @ basis.T
            fit = np.linalg.lstsq(normal, basis @ (information * theta + pull), rcond=None)[0]
            theta = fit @ basis
        misfit, information, _ = self.gradient(theta)
        # One interval of a spline holds the polynomial exactly; a last knot closes it.
        spacing = float(max(self.n - 1, 1))
        _, weights, _ = _basis(spacing * np.array([0.0, 0.25, 0.5, 0.75]), spacing)
        values = fit @ (np.array([-1.0, -0.5, 0.0, 0.5]) ** np.arange(order)[:, None])
        alpha = np.linalg.solve(weights.T, values)
        alpha = np.append(alpha, 3 * alpha[3] - 3 * alpha[2] + alpha[1])
        rate = float(np.mean(information))
        return SmoothPhase(alpha, spacing, self.n, order, np.inf, 0.0, 0.0, -misfit, rate), theta


def _basis(places: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First coefficient (S) of each place, weights (4, S) of four, and those of their slope."""
    scaled = np.asarray(places, dtype=float) / spacing
    index = np.floor(scaled).astype(np.int64)
    f = scaled - index
    weights = np.stack([
        (1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3,
    ]) / 6  # fmt: skip
    slopes = np.stack([
        -((1 - f) ** 2), 3 * f**2 - 4 * f, -3 * f**2 + 2 * f + 1, f**2,
    ]) / 2  # fmt: skip
    return index, weights, slopes


def _penalty(n: int, order: int) -> np.ndarray:
    """Upper banded form (4, K) of D'D of differences D."""
    taps = {2: (1.0, -2.0, 1.0), 3: (-1.0, 3.0, -3.0, 1.0)}[order]
    bands = np.zeros((4, n))
    for a, x in enumerate(taps):
        for b, y in enumerate(taps):
            if b >= a:
                bands[3 - (b - a), b : n - order + b] += x * y
    return bands


def _first_phase(phasors: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Phase of a running mean."""
    width = min(FIRST_BLOCKS, len(phasors) / 8)
    mean = scipy.ndimage.gaussian_filter1d(precision * phasors, width, mode="constant")
    return np.unwrap(np.angle(mean))


def _amplitude(values: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Running mean of the phasors' real part (H, J), not below 0."""
    width = min(AMPLITUDE_BLOCKS, values.shape[1] / 4)
    smooth = scipy.ndimage.gaussian_filter1d
    norm = smooth(precision, width, mode="constant")
    mean = np.divide(
        smooth(precision * values, width, mode="constant"), norm, out=np.zeros_like(norm),
        where=norm > 0,
    )  # fmt: skip
    return np.maximum(mean, 0.0)


def _log_det(bands: np.ndarray) -> float:
    factor = scipy.linalg.cholesky_banded(bands, check_finite=False)
    return 2.0 * float(np.sum(np.log(factor[-1])))


def _polynomials(n: int, order: int) -> np.ndarray:
    return np.linspace(-1.0, 1.0, n) ** np.arange(order)[:, None]


def _log_det_differences(n: int, order: int) -> float:
    """Log-determinant of D D': that of the Gram matrix of polynomials that are 1 at one place.

    The differences are triangular on all but ``order`` places; on these the polynomials' values are
    a Vandermonde matrix, of determinant 1 and 2 for orders 2 and 3.
    """
    basis = _polynomials(n, order)
    scale = order * (order - 1) * np.log((n - 1) / 2)
    return float(np.linalg.slogdet(basis @ basis.T)[1] + scale - 2 * np.log(order - 1))


def _log_det_polynomials(bands: np.ndarray, order: int) -> float:
    """Log-determinant of a banded matrix on an orthonormal basis of polynomials."""
    basis = np.linalg.qr(_polynomials(bands.shape[1], order).T)[0]
    product = bands[3][:, None] * basis
    for d in range(1, 4):
        product[:-d] += bands[3 - d, d:, None] * basis[d:]
        product[d:] += bands[3 - d, d:, None] * basis[:-d]
    return float(np.linalg.slogdet(basis.T @ product)[1])
