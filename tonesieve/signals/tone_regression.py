"""Tones of a short record by Bayesian linear regression, averaged over models.

The means y of consecutive blocks of samples, at times tau from 0 to 1 over the record, are

    y = level + slope tau + sum_k Im(Z_k(tau) exp(i theta_k)) + noise
    Z_k(tau) = sum_{j = 0 .. J_k} z_kj cos(pi j tau),    var z_kj = g / j^(2 o) for j > 0

with carriers theta_k of known frequency. The cosines are the principal components (Karhunen and
Loeve) of a random walk of the phasor (o = 1) and, nearly, of its integral (o = 2), as of a wrong
frequency or a slow fade; g = 0 is a steady tone. The noise has the correlation rho from block to
block. Given g, o and rho all is linear and Gaussian, the noise's scale has the prior 1 / sigma, and
evidence and posterior are closed forms. They are averaged over a grid of g, o and rho by the
posterior probabilities. So it is the record that says how much a tone changes, and what it cannot
say is in the band.

Blocks that are far off the fit are left out. What correlation remains in the residual is taken out
of both sides by Burg's method, and the fit repeated.

Reference: A. Gelman et al., Bayesian Data Analysis, 3rd edition, 2013, chapters 7 and 14.

Axes: N blocks, K tones, D coefficients, M models, T times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Bool, Complex, Float

from tonesieve.signals.whitening import burg_whitening

# Chosen, not tuned: cosines of a tone beside its mean, at most. A guard of time: those of all.
MAX_MODES, MAX_MODES_OF_ALL = 16, 48
# Half-width over the frequency of what belongs to a changing tone: rhythms are as broad as a tenth
# of it. Chosen, not tuned; a wider one takes more of the noise for the tone.
CHANGE_RATIO = 0.125
# Grids of the models: the noise's correlation; variance of the first cosine over that of its
# estimate, up to tones that change by 70 dB more, and 0. Chosen, not tuned: neighbours differ
# little.
CORRELATIONS = (0.0, 0.3, 0.6, 0.8, 0.9, 0.95, 0.98, 0.995)
CHANGES, ORDERS = 10.0 ** np.arange(8), (1, 2)
# Prior probability of a steady tone; the other changes share the rest. Chosen between this and a
# half, on trials of real EEG, whose rhythms look like changes of the tone.
STEADY = 0.9
# Numerically 0, in the unit of `CHANGES`.
NO_CHANGE = 1e-8
# Guards: blocks whose residual is this many standard deviations (of a robust estimate) are left
# out, in so many rounds at most, as long as this part stays. Chosen, not tuned: of Gaussian
# residuals 7 in a million are lost.
OUTLIER, MAX_ROUNDS, MIN_KEPT = 4.5, 6, 0.7
# Derived: standard deviation over the median magnitude of a Gaussian variable.
MAD_TO_STD = 1.4826
# Derived: a two-sided band of nine tenths ends at this quantile.
QUANTILE = 0.95
# Guard: least part of the power that is left to the noise; what is exact has no scale.
# Where all that is not left out is silent, there is no power.
MIN_RESIDUAL, MIN_POWER = 1e-20, 1e-280


class BlockMeans(NamedTuple):
    """Means over the observed samples of consecutive blocks of equal length.

    Parameters
    ----------
    means : ndarray, shape (N,)
        Of the samples.
    carriers : ndarray of complex, shape (N, K)
        Of exp(i theta).
    tau : ndarray, shape (N,)
        Of the times, from 0 to 1 over the record.
    weights : ndarray, shape (N,)
        Observed part of each block, 0 in gaps.
    """

    means: Float[np.ndarray, " N"]
    carriers: Complex[np.ndarray, "N K"]
    tau: Float[np.ndarray, " N"]
    weights: Float[np.ndarray, " N"]


class ToneFit(NamedTuple):
    """Posterior of the coefficients of tones.

    Parameters
    ----------
    mean : ndarray, shape (D,)
        Of tone after tone, of cosine after cosine: real and imaginary part of z.
    covariance : ndarray, shape (D, D)
        Of all models together.
    n_modes : tuple of int
        Cosines of each tone beside its mean.
    remainder : float
        Variance of a tone by what its cosines leave out of its changes.
    freedom : int
        Degrees of freedom of the noise's scale.
    resolved : float
        Probability of the models whose changes the cosines resolve.
    """

    mean: Float[np.ndarray, " D"]
    covariance: Float[np.ndarray, "D D"]
    n_modes: tuple[int, ...]
    remainder: float
    freedom: int
    resolved: float

    def phasors(self, tau: Float[np.ndarray, " T"]) -> Complex[np.ndarray, "T K"]:
        """Return the posterior means of the phasors Z at times from 0 to 1 over the record."""
        z = self.mean.reshape(-1, 2) @ np.array([1.0, 1j])
        return np.stack(
            [_cosines(tau, own) @ z[place] for own, place in _by_tone(self.n_modes)], axis=1
        )

    def half_widths(
        self, tau: Float[np.ndarray, " T"], carriers: Complex[np.ndarray, "T K"]
    ) -> Float[np.ndarray, "T K"]:
        """Return half-widths of the bands that hold the tones in 9 of 10 cases, by Student's t.

        Parameters
        ----------
        tau : ndarray, shape (T,)
            Times from 0 to 1 over the record.
        carriers : ndarray of complex, shape (T, K)
            exp(i theta) there.

        Returns
        -------
        ndarray, shape (T, K)
            Of the tones, not of their phasors.
        """
        variances = []
        for k, (own, place) in enumerate(_by_tone(self.n_modes)):
            rows = _regressors(carriers[:, k], _cosines(tau, own))
            part = slice(2 * place.start, 2 * place.stop)
            variances.append(np.einsum("td,td->t", rows @ self.covariance[part, part], rows))
        width = scipy.special.stdtrit(self.freedom, QUANTILE)
        total = np.maximum(np.stack(variances, axis=1), 0.0) + self.remainder
        return np.asarray(width * np.sqrt(total))


def max_modes(n_tones: int) -> int:
    """Return the largest number of cosines of each tone beside its mean.

    Parameters
    ----------
    n_tones : int
        Tones that are fitted together.

    Returns
    -------
    int
        `MAX_MODES`, or fewer for many tones.
    """
    return min(MAX_MODES, MAX_MODES_OF_ALL // n_tones)


def resolvable_modes(freq_cycles: Sequence[float], n_samples: int) -> tuple[int, ...]:
    """Return how many cosines each tone has beside its mean.

    The j-th one moves power by j / 2 inverse durations. To a tone belongs `CHANGE_RATIO` of its
    frequency on both sides, and one cosine more; but no more than half the distance to the
    nearest other tone and to its own mirror images about 0 and half the rate.

    Parameters
    ----------
    freq_cycles : sequence of float
        Frequencies in cycles a sample.
    n_samples : int
        Duration.

    Returns
    -------
    tuple of int
        `max_modes` at most.
    """
    counts = []
    for k, f in enumerate(freq_cycles):
        distances = [abs(f - g) for i, g in enumerate(freq_cycles) if i != k]
        distance = min([*distances, f, 1 - 2 * f])
        changes = 1 + 2 * CHANGE_RATIO * f * n_samples
        counts.append(int(min(max_modes(len(freq_cycles)), changes, distance * n_samples)))
    return tuple(counts)


def fit_tones(blocks: BlockMeans, n_modes: Sequence[int]) -> ToneFit | None:
    """Fit tones, a level and a slope to the means of blocks.

    Parameters
    ----------
    blocks : BlockMeans
        A record.
    n_modes : sequence of int
        Cosines of each tone beside its mean (`resolvable_modes`).

    Returns
    -------
    ToneFit or None
        None where there are too few blocks, or all are equal.
    """
    kept = blocks.weights > 0
    scale = float(np.std(blocks.means[kept])) if kept.any() else 0.0
    if not 0 < scale < np.inf:
        return None
    design = _design(blocks, n_modes, scale)
    modes = np.concatenate([[0, 0], *(np.repeat(np.arange(own + 1), 2) for own in n_modes)])
    found = _without_outliers(design, modes, kept)
    if found is None:
        return None
    posterior, kept, residual = found
    filters = [(1.0,), _whitening(residual, kept)]
    posterior = _average(design, modes, kept, filters) or posterior
    resolved = posterior.resolved if max(n_modes) == max_modes(len(n_modes)) else 1.0
    return ToneFit(
        scale * posterior.mean[2:], scale**2 * posterior.covariance[2:, 2:], tuple(n_modes),
        scale**2 * posterior.remainder, posterior.freedom, resolved,
    )  # fmt: skip


class _Posterior(NamedTuple):
    """As `ToneFit`, but level and slope come first."""

    mean: Float[np.ndarray, " D"]
    covariance: Float[np.ndarray, "D D"]
    remainder: float
    freedom: int
    resolved: float


def _without_outliers(
    design: Float[np.ndarray, "N D"], modes: np.ndarray, observed: Bool[np.ndarray, " N"]
) -> tuple[_Posterior, Bool[np.ndarray, " N"], Float[np.ndarray, " N"]] | None:
    """Fit, leave out the blocks that are far off, and fit again: the fit, blocks, residual."""
    kept, found = observed, None
    for _ in range(MAX_ROUNDS):
        posterior = _average(design, modes, kept, [(1.0,)])
        if posterior is None:
            break
        residual = design[:, -1] - design[:, :-1] @ posterior.mean
        found = posterior, kept, residual
        limit = OUTLIER * MAD_TO_STD * np.median(np.abs(residual[kept]))
        near = observed & (np.abs(residual) <= limit)
        if np.array_equal(near, kept) or near.sum() < MIN_KEPT * observed.sum():
            break
        kept = near
    return found


def _whitening(
    residual: Float[np.ndarray, " N"], kept: Bool[np.ndarray, " N"]
) -> tuple[float, ...]:
    """Return the whitening filter of a residual."""
    has_scale = bool(np.var(residual[kept]) > 0)
    return (1.0, *(burg_whitening(np.where(kept, residual, np.nan)) if has_scale else ()))


def _average(
    design: Float[np.ndarray, "N D"], modes: np.ndarray, kept: Bool[np.ndarray, " N"],
    filters: Sequence[tuple[float, ...]],
) -> _Posterior | None:  # fmt: skip
    """Average all models over the rows kept, both sides filtered by each of some filters."""
    past = max(map(len, filters)) - 1
    complete = np.ones(len(design) - past, bool)
    for i in range(past + 1):
        complete &= kept[past - i : len(design) - i]
    places = np.flatnonzero(complete)
    freedom = len(places) - int(np.sum(modes == 0)) - past
    if freedom < 1:
        return None
    grids = []
    for coefficients in filters:
        rows = np.zeros((len(places), design.shape[1]))
        for i, coefficient in enumerate(coefficients):
            rows += coefficient * design[places + past - i]
        # Bayesian information criterion: what the coefficients cost.
        cost = (len(coefficients) - 1) / 2 * np.log(len(places))
        for rho in CORRELATIONS:
            log_evidence, *moments = _posteriors(rows, places, rho, modes, freedom)
            grids.append((log_evidence - cost, *moments))
    log_evidence, mean, covariance, remainder = (
        np.concatenate(part) for part in zip(*grids, strict=True)
    )
    probability = np.exp(log_evidence - log_evidence.max())
    probability /= probability.sum()
    average = probability @ mean
    deviation = mean - average
    total = np.einsum("m,mde->de", probability, covariance)
    total += (deviation.T * probability) @ deviation
    # Beyond the last cosine there is less than the variance of an estimate.
    changes, exponents = _changes()
    resolved = np.tile(changes < (modes.max() + 1.0) ** exponents, len(grids))
    return _Posterior(
        average, total, float(probability @ remainder), freedom, float(probability @ resolved)
    )


def _posteriors(
    rows: Float[np.ndarray, "N D"], places: np.ndarray, rho: float, modes: np.ndarray, freedom: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Log evidence (M,), mean (M, D), covariance (M, D, D), remainder (M,) by the tones' changes.

    The last column of the rows is what is to be explained.
    """
    decay = rho ** np.diff(places)
    innovation = np.sqrt(1 - decay**2)
    later = (rows[1:] - decay[:, None] * rows[:-1]) / innovation[:, None]
    white = np.concatenate([rows[:1], later])
    moments = white.T @ white
    information, score = moments[:-1, :-1], moments[:-1, -1]
    power = max(float(moments[-1, -1]), MIN_POWER)
    precision = _prior_precision(moments, modes, freedom)
    full = information + precision[:, :, None] * np.eye(len(modes))
    inverse = np.linalg.inv(full)
    mean = inverse @ score
    residual = np.maximum(power - mean @ score, MIN_RESIDUAL * power)
    n_models = len(precision)
    prior = np.full(n_models, (1 - STEADY) / (n_models - 1))
    prior[0] = STEADY
    log_evidence = (
        np.log(prior)
        + np.log(precision[:, modes > 0]).sum(axis=1) / 2
        - np.linalg.slogdet(full)[1] / 2
        - np.log(innovation).sum()
        - freedom / 2 * np.log(residual)
    )
    noise_var = residual / freedom
    # The mean of a squared cosine is a half.
    first = (precision[:, modes == 1] ** -1)[:, :1].sum(axis=1)
    remainder = noise_var * first * scipy.special.zeta(_changes()[1], modes.max() + 1.0) / 2
    return log_evidence, mean, inverse * noise_var[:, None, None], remainder


def _prior_precision(
    moments: Float[np.ndarray, "E E"], modes: np.ndarray, freedom: int
) -> Float[np.ndarray, "M D"]:
    """Prior precisions of the coefficients over that of the noise.

    A tone's mean is as large as the samples' deviation, which is 1: that separates tones which a
    record hardly resolves. The noise's scale in it is that beside steady tones.
    """
    flat, power = modes == 0, moments[-1, -1]
    score = moments[:-1, -1][flat]
    steady = np.linalg.lstsq(moments[:-1, :-1][np.ix_(flat, flat)], score, rcond=None)[0]
    noise_var = max(power - score @ steady, MIN_RESIDUAL * power) / freedom
    changes, exponents = _changes()
    precision = np.zeros((len(changes), len(modes)))
    precision[:, flat] = noise_var
    precision[:, :2] = 0.0  # level and slope
    if not flat.all():
        unit = np.diagonal(moments)[:-1][modes == 1].mean()
        precision[:, ~flat] = unit * modes[~flat] ** exponents[:, None] / changes[:, None]
    return precision


def _changes() -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, " M"]]:
    """Variance of the first cosine, and the exponent 2 o by which the others fall."""
    orders = np.repeat(ORDERS, len(CHANGES))
    return np.append(NO_CHANGE, np.tile(CHANGES, len(ORDERS))), 2.0 * np.append(1, orders)


def _design(blocks: BlockMeans, n_modes: Sequence[int], scale: float) -> Float[np.ndarray, "N D"]:
    """Regressors, and the means over the scale, each over its standard deviation of white noise."""
    columns = [np.stack([np.ones_like(blocks.tau), blocks.tau - 0.5], axis=1)]
    for k, own in enumerate(n_modes):
        columns.append(_regressors(blocks.carriers[:, k], _cosines(blocks.tau, own)))
    columns.append(blocks.means[:, None] / scale)
    return np.concatenate(columns, axis=1) * np.sqrt(blocks.weights)[:, None]


def _cosines(tau: np.ndarray, n_modes: int) -> Float[np.ndarray, "T J"]:
    return np.cos(np.pi * np.arange(n_modes + 1) * tau[:, None])


def _regressors(carrier: np.ndarray, cosines: np.ndarray) -> Float[np.ndarray, "T D"]:
    """Of real and imaginary part of each z of a tone in Im(z exp(i theta))."""
    parts = np.stack([carrier.imag, carrier.real], axis=1)
    return (cosines[:, :, None] * parts[:, None]).reshape(len(carrier), -1)


def _by_tone(n_modes: Sequence[int]) -> list[tuple[int, slice]]:
    """Of each tone its cosines beside the mean, and the places of its z."""
    ends = np.cumsum(np.asarray(n_modes) + 1).tolist()
    return [(own, slice(end - own - 1, end)) for own, end in zip(n_modes, ends, strict=True)]
