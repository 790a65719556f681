"""The pattern of a tone across channels: complex amplitudes that change together.

Basebands z of C channels, in which the tone stands still, hold z = a s + n: the pattern a, a common
amplitude s over time, and noise of covariance R across channels. R is estimated from Fourier bins
beside the tone, shrunk towards uncorrelated channels, since they may outnumber the bins. The
principal eigenvector of the whitened covariance of the tone's bin is that of the pattern, and
a^H R^-1 z / (a^H R^-1 a) the estimate of s of least variance, in which noise that channels share
cancels.

Axes: C channels, M steps, J windows of L steps, O channels that are observed.

References
----------
O. Ledoit, M. Wolf, A well-conditioned estimator for large-dimensional covariance matrices, Journal
of Multivariate Analysis 88, 2004. K. R. Davidson, S. J. Szarek, Local operator theory, random
matrices and Banach spaces, in: Handbook of the Geometry of Banach Spaces 1, 2001 (theorem II.13).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex

# Chosen, not tuned: windows in a record, and steps in one, at least and at most.
N_WINDOWS, MIN_STEPS, MAX_STEPS = 8, 64, 512
# Derived: bins of a Hann window that a line in the middle reaches are 0 and 1; one more as margin.
# Chosen: as many as noise is taken from, on each side, but none farther than this, in cycles a
# step, where the low-pass of the basebands would attenuate it by 0.5 dB.
FIRST_NOISE_BIN, N_NOISE_BINS, FARTHEST = 3, 8, 1 / 16
# Derived: independent bins, over bins, of Hann windows that overlap by half: adjacent windows have
# a correlation of 1/6, adjacent bins one of 2/3 and the next ones of 1/6.
INDEPENDENT_WINDOWS, INDEPENDENT_BINS = 1 / (1 + 2 / 36), 1 / (1 + 2 * (4 / 9 + 1 / 36))
# Chosen: probability in noise alone with which a pattern is taken for one.
FALSE_ALARM = 1e-3
# Guard: noise of a channel below this is rounding, of samples of about 1: the channel is constant.
ROUNDING = 1e-14
# Guard: least share of the information of all channels that those observed at a step must have.
MIN_INFORMATION = 0.1


@dataclass(frozen=True)
class ChannelPattern:
    """Pattern of a tone across channels.

    Parameters
    ----------
    pattern : ndarray, shape (C,)
        Complex amplitudes; that of the channel with the best ratio to its noise is 1.
    noise : ndarray, shape (C, C)
        Covariance of the noise in a step, as if it were white.
    share : float
        Share of the tone's power over noise that the pattern explains, in whitened channels.
    """

    pattern: Complex[np.ndarray, " C"]
    noise: Complex[np.ndarray, "C C"]
    share: float

    def combined(self, z: Complex[np.ndarray, "C M"]) -> Complex[np.ndarray, " M"]:
        """Return the common amplitude, as noisy as the channels leave it.

        Parameters
        ----------
        z : ndarray, shape (C, M)
            Basebands, NaN in gaps.

        Returns
        -------
        ndarray, shape (M,)
            NaN where the channels that are observed know too little.
        """
        observed = np.isfinite(z)
        combined = np.full(z.shape[1], np.nan, complex)
        masks, which = np.unique(observed, axis=1, return_inverse=True)
        which = which.reshape(-1)
        total = self._weights(np.ones(len(z), bool))[1]
        for i, mask in enumerate(masks.T):
            weights, information = self._weights(mask)
            if information >= MIN_INFORMATION * total:
                steps = which == i
                combined[steps] = weights @ z[np.ix_(mask, steps)]
        return combined

    def _weights(self, mask: np.ndarray) -> tuple[np.ndarray, float]:
        """Weights (O) of the observed channels, and their information."""
        if not mask.any():
            return np.zeros(0), 0.0
        a = self.pattern[mask]
        solved = np.linalg.solve(self.noise[np.ix_(mask, mask)], a)
        information = float((a.conj() @ solved).real)
        return solved.conj() / max(information, 1e-300), information


class CrossSpectra:
    """Accumulates the covariances across channels of a tone, and of the noise beside it.

    Parameters
    ----------
    n_channels : int
        C.
    n_steps : int
        Steps of the record.
    """

    def __init__(self, n_channels: int, n_steps: int) -> None:
        self.length = min(max(n_steps // N_WINDOWS, MIN_STEPS), MAX_STEPS)
        self._taper = np.hanning(self.length + 2)[1:-1]
        last = min(FIRST_NOISE_BIN + N_NOISE_BINS, int(FARTHEST * self.length) + 1)
        bins = np.arange(FIRST_NOISE_BIN, last)
        self._bins = np.concatenate([bins, -bins])
        shape = (n_channels, n_channels)
        self._tone, self._noise = np.zeros(shape, complex), np.zeros(shape, complex)
        self._n_windows = np.zeros(shape)
        self._left = np.zeros((n_channels, 0), complex)

    def update(self, z: Complex[np.ndarray, "C M"]) -> None:
        """Add the steps that follow.

        Parameters
        ----------
        z : ndarray, shape (C, M)
            Basebands, NaN in gaps.
        """
        z = np.concatenate([self._left, z], axis=1)
        hop = self.length // 2
        n = max(0, (z.shape[1] - self.length) // hop + 1)
        self._left = z[:, n * hop :]
        if not n:
            return
        windows = np.lib.stride_tricks.sliding_window_view(z, self.length, axis=1)[
            :, : n * hop : hop
        ]
        usable = np.isfinite(windows).all(axis=2)
        tapered = np.where(usable[..., None], windows, 0) * self._taper
        spectra = np.fft.fft(tapered, axis=2) / np.sqrt(np.sum(self._taper**2))
        self._tone += _products(spectra[:, :, 0])
        noise = spectra[:, :, self._bins].reshape(len(z), -1)
        self._noise += _products(noise) / len(self._bins)
        self._n_windows += usable.astype(float) @ usable.T

    def pattern(self, *, is_certain: bool = False) -> ChannelPattern | None:
        """Return the pattern of most power over noise.

        Parameters
        ----------
        is_certain : bool, default False
            Whether it is taken also if noise may explain it.

        Returns
        -------
        ChannelPattern or None
            None if noise explains it.
        """
        count = np.maximum(self._n_windows, 1.0)
        n = float(self._n_windows.min()) * INDEPENDENT_WINDOWS
        if n < 1:
            return None
        noise = self._noise / count
        std = np.sqrt(np.maximum(noise.diagonal().real, 0.0))
        usable = np.flatnonzero(std > ROUNDING)
        if len(usable) < 2:
            return None
        inside = np.ix_(usable, usable)
        scale = np.outer(std, std)[inside]
        n_noise = n * len(self._bins) * INDEPENDENT_BINS
        root, inverse = _square_roots(_shrunk(noise[inside] / scale, n_noise))
        values, vectors = np.linalg.eigh(inverse @ ((self._tone / count)[inside] / scale) @ inverse)
        if not is_certain and values[-1] <= _largest_in_noise(len(usable), n, n_noise):
            return None
        whitened = root @ vectors[:, -1]
        best = int(np.argmax(np.abs(whitened)))
        amplitudes, covariance = np.zeros(len(std), complex), np.eye(len(std), dtype=complex)
        amplitudes[usable] = std[usable] * whitened / (std[usable] * whitened)[best]
        covariance[inside] = (root @ root) * scale
        over_noise = np.maximum(values - 1, 0.0)
        share = float(over_noise[-1] / max(float(np.sum(over_noise)), 1e-300))
        return ChannelPattern(amplitudes, covariance, share)


def _products(values: Complex[np.ndarray, "C J"]) -> Complex[np.ndarray, "C C"]:
    return values @ values.conj().T


def _shrunk(correlation: np.ndarray, n: float) -> np.ndarray:
    """Correlations (C, C) of n Gaussian samples, shrunk by the least expected square error.

    The squared error of a covariance of complex Gaussian samples is the square of its trace over n.
    """
    size = len(correlation)
    distance = float(np.sum(np.abs(correlation - np.eye(size)) ** 2))
    weight = 1.0 if distance == 0 else min(1.0, size**2 / n / distance)
    return (1 - weight) * correlation + weight * np.eye(size)


def _square_roots(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Square root (C, C) of a covariance, and its inverse; gaps may make it indefinite."""
    values, vectors = np.linalg.eigh(matrix)
    roots = np.sqrt(np.maximum(values, 1e-6 * values[-1]))
    return (vectors * roots) @ vectors.conj().T, (vectors / roots) @ vectors.conj().T


def _largest_in_noise(n_channels: int, n: float, n_noise: float) -> float:
    """What the largest eigenvalue of noise exceeds with a probability of `FALSE_ALARM`.

    That of n samples is bounded by Davidson and Szarek; that of the inverse of the estimated
    covariance, by the same law for its smallest one.
    """
    beyond = np.sqrt(np.log(1 / FALSE_ALARM) / n)
    inflation = 1 + np.sqrt(n_channels / n_noise)
    return float(((1 + np.sqrt(n_channels / n) + beyond) * inflation) ** 2)
