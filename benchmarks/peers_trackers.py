"""A causal and an offline order tracker in their plainest forms, to measure tonesieve beside them.

`sogi_fll` is the second-order generalized integrator with a frequency-locked loop of Rodriguez et
al. (2011), doi 10.1109/TIE.2010.2046140, discretised by an exact rotation. With z the state, w the
frequency in rad a sample, k the loop gain and G that of the frequency:

    predict  z <- z exp(j w)
    error    e = x - Re z
    update   z <- z + (1 - exp(-k w)) e,   w <- w - G k w e Im(z) / |z|^2

`vold_kalman` is the second-generation Vold-Kalman filter of Vold, Mains and Blough (1997, SAE paper
972007). It minimises, over complex envelopes a_k and with D the difference of order `N_POLES`,

    sum_n |2 x[n] - sum_k a_k[n] exp(j phi_k[n])|^2 + r^2 sum_k |D a_k|^2

Axes: C channels, T samples, K orders.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit
from scipy.linalg import solveh_banded
from scipy.ndimage import uniform_filter1d

# Order of the difference that is small: two poles, the usual choice of the literature.
N_POLES = 2
# How far the course may lie from its nominal frequency, over that frequency; tonesieve's default.
SEARCH = 0.035
# Frames of a window, candidates of a resolved frequency, and the most of them: chosen, not tuned.
FRAMES, CANDIDATES, MAX_CANDIDATES = 4, 4, 400
# Cost of a step of one candidate between two frames, in the unit of log power: chosen, not tuned.
STEP_COST = 0.5
# Rounds in which the envelopes' common rotation corrects the course: chosen, not tuned.
ROUNDS = 2
# Guard: below it r^2 is above 4e13, which is more than the precision of a solution has room for.
MIN_WIDTH_CYCLES = 1e-4
# Bandwidth while the course is corrected, over the inverse of the window: chosen, not tuned.
COURSE_WIDTH = 2.0


@njit(cache=True)
def sogi_fll(x: np.ndarray, omega_rad: float, gain: float, loop: float) -> np.ndarray:
    """Estimate a tone sample by sample; the first sample stands for the level.

    Parameters
    ----------
    x : ndarray, shape (T,)
        The mixture.
    omega_rad : float
        Nominal frequency in rad a sample.
    gain : float
        Bandwidth over the frequency: k.
    loop : float
        Rate of the frequency-locked loop over the frequency; its frequency stays within `SEARCH`.

    Returns
    -------
    ndarray, shape (T,)
        The tone.
    """
    estimate = np.zeros(len(x))
    z, omega, level = 0.0 + 0.0j, omega_rad, x[0]
    for n in range(len(x)):
        z *= np.exp(1j * omega)
        error = x[n] - level - z.real
        z += (1 - np.exp(-gain * omega)) * error
        power = z.real**2 + z.imag**2
        if power > 0:
            omega -= loop * gain * omega_rad**2 * error * z.imag / power
        omega = min(max(omega, (1 - SEARCH) * omega_rad), (1 + SEARCH) * omega_rad)
        estimate[n] = z.real
    return estimate


def vold_kalman(x: np.ndarray, phase_rad: np.ndarray, width_cycles: float) -> np.ndarray:
    """Complex envelopes of orders whose phases are given.

    Parameters
    ----------
    x : ndarray, shape (T,)
        The mixture, without its level.
    phase_rad : ndarray, shape (T, K)
        Phases of the orders.
    width_cycles : float
        Full width between the points of half power, in cycles a sample.

    Returns
    -------
    ndarray of complex, shape (T, K)
        Envelopes; the tones are the real parts of these times exp(j phase).
    """
    n, n_orders = phase_rad.shape
    carriers = np.exp(1j * phase_rad)
    banded = np.zeros((N_POLES * n_orders + 1, n * n_orders), complex)
    for offset, diagonal in enumerate(_smoothness(n)):
        kept = np.repeat(diagonal, n_orders)
        banded[offset * n_orders, : len(kept)] = smoothing_weight(width_cycles) * kept
    for k in range(n_orders):
        for j in range(k + 1):
            banded[k - j, j::n_orders] += carriers[:, k].conj() * carriers[:, j]
    known = (2 * x[:, None] * carriers.conj()).ravel()
    found = solveh_banded(banded, known, overwrite_ab=True, lower=True, check_finite=False)
    return found.reshape(n, n_orders)


def smoothing_weight(width_cycles: float) -> float:
    """r^2 at which the gain 1 / (1 + r^2 (2 - 2 cos w)^p) is 1 / sqrt(2) at half the width."""
    width_cycles = max(width_cycles, MIN_WIDTH_CYCLES)
    return float((np.sqrt(2) - 1) / (2 - 2 * np.cos(np.pi * width_cycles)) ** N_POLES)


def _smoothness(n: int) -> list[np.ndarray]:
    """Diagonals of D'D from the main one down, D the difference of order `N_POLES`."""
    taps = np.array([1.0])
    for _ in range(N_POLES):
        taps = np.convolve(taps, [1.0, -1.0])
    diagonals = [np.zeros(n - offset) for offset in range(N_POLES + 1)]
    for offset, diagonal in enumerate(diagonals):
        for i in range(N_POLES + 1 - offset):
            diagonal[i : i + n - N_POLES] += taps[i] * taps[i + offset]
    return diagonals


def tones_along(
    x: np.ndarray, phase_rad: np.ndarray, width_cycles: float
) -> tuple[np.ndarray, np.ndarray]:
    """The sum of the tones (C, T) and the envelopes (C, T, K), channel by channel."""
    envelopes = np.stack([vold_kalman(one, phase_rad, width_cycles) for one in _detrended(x)])
    return (envelopes * np.exp(1j * phase_rad)).real.sum(axis=2), envelopes


def course_phase(
    x: np.ndarray, freq_cycles: float, orders: Sequence[float], periods: float
) -> np.ndarray:
    """Phase of order 1 of a comb (or of a single tone), from the recording alone.

    A ridge of the short-time power, summed over orders and channels, is found by dynamic
    programming; then the common rotation of the envelopes corrects it.

    Parameters
    ----------
    x : ndarray, shape (C, T)
        The mixture.
    freq_cycles : float
        Nominal frequency of order 1 in cycles a sample.
    orders : sequence of float
        The orders that are there, K.
    periods : float
        Length of the window in periods of order 1; at most half of the recording.

    Returns
    -------
    ndarray, shape (T,)
        Phase in rad.
    """
    n = x.shape[1]
    length = int(min(max(periods / freq_cycles, 8), n // 2))
    course, numbers = _ridge(x, freq_cycles, np.asarray(orders), length), np.asarray(orders)
    for _ in range(ROUNDS):
        phase = 2 * np.pi * np.cumsum(course)
        _, envelopes = tones_along(x, phase[:, None] * numbers, COURSE_WIDTH / length)
        turned = envelopes[:, 1:] * envelopes[:, :-1].conj()
        power = np.abs(turned)
        rotation = np.sum(power * np.angle(turned) / numbers, axis=(0, 2)) / np.maximum(
            np.sum(power, axis=(0, 2)), np.finfo(float).tiny
        )
        smooth = uniform_filter1d(np.append(0.0, rotation), length, mode="nearest")
        limits = (1 - SEARCH) * freq_cycles, (1 + SEARCH) * freq_cycles
        course = np.clip(course + smooth / (2 * np.pi), *limits)
    return 2 * np.pi * np.cumsum(course)


def _ridge(x: np.ndarray, freq_cycles: float, orders: np.ndarray, length: int) -> np.ndarray:
    """Frequency of order 1 in cycles a sample (T,): the best path through the frames' power."""
    starts = np.arange(0, x.shape[1] - length + 1, max(length // FRAMES, 1))
    resolved = 2 * SEARCH * freq_cycles * length * orders.max()
    n_candidates = int(np.clip(CANDIDATES * resolved, 9, MAX_CANDIDATES)) | 1
    candidates = freq_cycles * np.linspace(1 - SEARCH, 1 + SEARCH, n_candidates)
    window, at = np.hanning(length), np.arange(length)
    score = np.zeros((len(starts), n_candidates))
    for order in orders[orders * candidates[-1] < 0.5]:
        basis = window[:, None] * np.exp(-2j * np.pi * order * at[:, None] * candidates)
        for channel in _detrended(x):
            frames = np.stack([channel[start : start + length] for start in starts])
            power = np.abs(frames @ basis) ** 2
            score += np.log1p(power / np.maximum(np.median(power), np.finfo(float).tiny))
    path = candidates[_best_path(score)]
    return np.interp(np.arange(x.shape[1]), starts + length / 2, path)


def _best_path(score: np.ndarray) -> np.ndarray:
    """Candidates of the highest sum of scores less the squared steps' cost (Viterbi)."""
    numbers = np.arange(score.shape[1])
    cost = STEP_COST * (numbers[:, None] - numbers) ** 2
    best, origins = score[0], []
    for row in score[1:]:
        reached = best - cost  # to the row's candidate, from the column's
        origins.append(reached.argmax(axis=1))
        best = row + reached.max(axis=1)
    path = [int(best.argmax())]
    for origin in reversed(origins):
        path.append(int(origin[path[-1]]))
    return np.array(path[::-1])


def _detrended(x: np.ndarray) -> np.ndarray:
    """Channels without their level and slope."""
    t = np.linspace(-1, 1, x.shape[1])
    level = x.mean(axis=1, keepdims=True)
    return x - level - (x @ t / (t @ t))[:, None] * t
