"""Linear regression on clipped samples: of those only the bound is known.

The maximum-likelihood fit for Gaussian noise (Tobin 1958). In the parameters ``coefficients / std``
and ``1 / std`` its likelihood is concave (Olsen 1978), so that Newton's method finds the maximum.
Axes: T samples, P regressors.

References
----------
J. Tobin, Estimation of relationships for limited dependent variables, Econometrica 26, 1958.
R. J. Olsen, Note on the uniqueness of the maximum likelihood estimator for the Tobit model,
Econometrica 46, 1978.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Bool, Float

# Guard: Newton steps, halvings of one, and the gain of the logarithmic likelihood that ends them.
MAX_STEPS, MAX_HALVINGS, LEAST_GAIN = 50, 30, 1e-6
# Guard: regressors may be collinear, and samples free of noise.
_RIDGE, _LEAST_STD = 1e-12, 1e-5


class CensoredFit(NamedTuple):
    """A linear model of samples of which some are clipped.

    Parameters
    ----------
    coefficients : ndarray, shape (P,)
        Of the regressors.
    std : float
        Standard deviation of the noise.
    covariance : ndarray, shape (P, P)
        Of the coefficients, by the observed information.
    """

    coefficients: Float[np.ndarray, " P"]
    std: float
    covariance: Float[np.ndarray, "P P"]


def fit_censored(
    samples: Float[np.ndarray, " T"],
    regressors: Float[np.ndarray, "T P"],
    is_low: Bool[np.ndarray, " T"],
    is_high: Bool[np.ndarray, " T"],
) -> CensoredFit | None:
    """Fit samples of which some are clipped.

    Parameters
    ----------
    samples : ndarray, shape (T,)
        Finite samples; a clipped one is its bound.
    regressors : ndarray, shape (T, P)
        Known signals; the model is their linear combination.
    is_low, is_high : ndarray, shape (T,)
        Whether the true sample lies at the bound or below, at the bound or above.

    Returns
    -------
    CensoredFit or None
        The most likely model; None if there is no finite one.
    """
    is_free = ~(is_low | is_high)
    scale = np.maximum(np.abs(regressors).max(axis=0), 1e-300)
    # Rows whose product with the parameters is the standardised residual.
    rows = np.column_stack([-regressors / scale, samples])
    # The sign by which a residual is bounded: low ones from above.
    sign = np.where(is_low, 1.0, -1.0)
    # From large noise on, where the likelihood is nearly quadratic.
    std, least_std = float(np.std(samples)), _LEAST_STD * float(np.abs(samples).max(initial=0.0))
    if not std > least_std:
        return None
    parameters = np.append(np.zeros(regressors.shape[1]), 1 / std)
    value = _log_likelihood(rows @ parameters, parameters[-1], is_free, sign)
    for _ in range(MAX_STEPS):
        gradient, information = _derivatives(rows, parameters, is_free, sign)
        step = np.linalg.solve(information, gradient)
        for halving in range(MAX_HALVINGS):
            moved = parameters + step / 2**halving
            new = _log_likelihood(rows @ moved, moved[-1], is_free, sign)
            if new >= value:
                break
        else:
            return None
        gain, parameters, value = new - value, moved, new
        if gain < LEAST_GAIN or parameters[-1] * least_std > 1:
            break
    else:
        return None
    _, information = _derivatives(rows, parameters, is_free, sign)
    std = 1 / parameters[-1]
    coefficients = parameters[:-1] * std
    # Of delta = coefficients / std and 1 / std to the coefficients.
    jacobian = std * np.column_stack([np.eye(len(coefficients)), -coefficients])
    covariance = jacobian @ np.linalg.inv(information) @ jacobian.T
    if not (np.isfinite(coefficients).all() and np.isfinite(covariance).all()):
        return None
    return CensoredFit(coefficients / scale, float(std), covariance / np.outer(scale, scale))


def expected_excess(distance: Float[np.ndarray, " T"], std: float) -> Float[np.ndarray, " T"]:
    """Mean of a Gaussian variable beyond a bound, over that bound.

    Parameters
    ----------
    distance : ndarray, shape (T,)
        The bound minus the variable's mean without a bound.
    std : float
        The variable's standard deviation.

    Returns
    -------
    ndarray, shape (T,)
        At least 0.
    """
    ratio = distance / std
    return np.asarray(np.maximum(std * _inverse_mills(-ratio) - distance, 0.0))


def _inverse_mills(x: np.ndarray) -> np.ndarray:
    """Density over distribution function of a standard normal variable."""
    log_density = -0.5 * x**2 - 0.5 * np.log(2 * np.pi)
    return np.asarray(np.exp(log_density - scipy.special.log_ndtr(x)))


def _log_likelihood(
    residuals: np.ndarray, inverse_std: float, is_free: np.ndarray, sign: np.ndarray
) -> float:
    if not inverse_std > 0:
        return -np.inf
    free, bounded = residuals[is_free], (sign * residuals)[~is_free]
    value = len(free) * np.log(inverse_std) - 0.5 * np.sum(free**2)
    return float(value + np.sum(scipy.special.log_ndtr(bounded)))


def _derivatives(
    rows: np.ndarray, parameters: np.ndarray, is_free: np.ndarray, sign: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient of the logarithmic likelihood, and its negative Hessian matrix."""
    residuals = rows @ parameters
    bounded = sign * residuals
    mills = _inverse_mills(bounded)
    slope = np.where(is_free, -residuals, sign * mills)
    curvature = np.where(is_free, 1.0, mills * (mills + bounded))
    gradient = rows.T @ slope
    information = (rows * curvature[:, None]).T @ rows
    n_free, inverse_std = int(np.sum(is_free)), parameters[-1]
    gradient[-1] += n_free / inverse_std
    information[-1, -1] += n_free / inverse_std**2
    information += _RIDGE * np.diag(np.diag(information) + 1e-300)
    return gradient, information
