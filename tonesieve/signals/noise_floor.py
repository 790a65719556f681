"""Noise around a line in a baseband: its density over frequency, and its level over time.

Axes: N steps, J frames, K frequencies, G places of a table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Complex, Float

from tonesieve.signals.baseband import BETA, N_STAGES, PASS
from tonesieve.signals.ridge import AT_ONCE, HANN_TEMPER, spectrogram

# Chosen, not tuned: window, in steps, of the spectrum that gives the noise floor; the deviation,
# in standard deviations, above which a bin is not noise.
FLOOR_WINDOW, FLOOR_OUTLIER = 64, 2.5
# Chosen: taps of the whitening filter, an odd number of steps.
WHITENING_TAPS = 33
# Chosen, not tuned: window of the noise level over time, in steps; where the noise in both flanks,
# from this offset in ranges on, is this many times its median, weights are lower.
LEVEL_WINDOW, LEVEL_FLANK, LEVEL_RATIO = 24, 1.25, 4.0
# Derived: the window's main lobe ends 4 bins away, before the flank starts.
LEVEL_BETA = 12.0
# Chosen, not tuned: steps that are no impulse any more, power over the median, or that of what
# lasts, of an impulse, and steps that are lost with it.
IMPULSE_STEPS, IMPULSE_RATIO, IMPULSE_REACH = 9, 10.0, 7
# Guard: least density of the noise, of a baseband of power 1; a silent one has none.
MIN_DENSITY = 1e-24


@dataclass(frozen=True)
class NoiseFloor:
    """Power density of the noise around a line: a log-quadratic function of frequency.

    Parameters
    ----------
    coefficients : ndarray, shape (3,)
        Of the logarithm, by powers of frequency over ``within_hz``.
    within_hz : float
        Unit of frequency.
    gain : ndarray, shape (2, G)
        Frequencies over ``within_hz``, and the squared gain of the baseband there.
    """

    coefficients: Float[np.ndarray, " 3"]
    within_hz: float
    gain: Float[np.ndarray, "2 G"]

    def density(self, hz: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
        """Power of a step's noise, if it were white with the density at these frequencies."""
        x = np.clip(np.asarray(hz) / self.within_hz, -PASS, PASS)
        shape = np.interp(np.abs(x), self.gain[0], self.gain[1])
        return np.asarray(self.unshaped(hz) * shape)

    def unshaped(self, hz: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
        """Return `density` without the gain of the baseband."""
        x = np.clip(np.asarray(hz) / self.within_hz, -PASS, PASS)
        return np.asarray(np.exp(np.polyval(self.coefficients[::-1], x)))


def baseband_gain(step_s: float, within_hz: float) -> Float[np.ndarray, "2 G"]:
    """Squared gain of a baseband's window, up to its Nyquist frequency.

    Parameters
    ----------
    step_s : float
        Time between two steps.
    within_hz : float
        The baseband's range.

    Returns
    -------
    ndarray, shape (2, G)
        Offsets over ``within_hz``, and the squared gain there.
    """
    fine = 64
    taps = np.kaiser(fine * N_STAGES + 1, BETA)[:-1]
    places = (np.arange(len(taps)) - len(taps) // 2) / fine * step_s
    x = np.linspace(0.0, 0.5 / step_s / within_hz, 129)
    gain = np.cos(2 * np.pi * within_hz * x[:, None] * places) @ (taps / taps.sum())
    return np.stack([x, np.maximum(gain, 1e-4) ** 2])


def noise_floor(
    phasors: Complex[np.ndarray, " N"],
    weights: Float[np.ndarray, " N"],
    step_s: float,
    within_hz: float,
    *,
    is_white: bool = False,
) -> NoiseFloor:
    """Fit the density of the noise, robust against lines.

    Parameters
    ----------
    phasors : ndarray, shape (N,)
        Baseband.
    weights : ndarray, shape (N,)
        Its weights.
    step_s : float
        Time between two steps.
    within_hz : float
        The baseband's range.
    is_white : bool
        Whether the baseband was whitened already, so that its window's gain is no part of it.

    Returns
    -------
    NoiseFloor
        The fit.
    """
    gain = baseband_gain(step_s, within_hz)
    if is_white:
        gain = np.stack([gain[0], np.ones_like(gain[0])])
    window = int(np.clip(len(phasors) // 3, FLOOR_WINDOW // 2, FLOOR_WINDOW))
    window = min(window, len(phasors) - 1)
    limit_hz = min(PASS * within_hz, 0.5 / step_s)
    power, hz, *_ = spectrogram(phasors, weights, step_s, window, limit_hz)
    # The first and the last frame are cut off, which widens lines.
    power = power[1:-1] if len(power) > 2 else power
    power = power[np.isfinite(power[:, 0])]
    x = hz / within_hz
    level = np.median(power, axis=0) / np.log(2.0) if len(power) else np.zeros_like(x)
    if not np.any(level > 0):  # most of the record is silent
        return NoiseFloor(np.array([-np.inf, 0.0, 0.0]), within_hz, gain)
    level = np.maximum(level, np.max(level) * 1e-16) / np.interp(np.abs(x), gain[0], gain[1])
    values, basis = np.log(level), np.stack([np.ones_like(x), x, x**2], axis=1)
    # Derived: standard deviation of the logarithm of the median of exponential variables.
    spread = 1.44 / np.sqrt(len(power) * HANN_TEMPER)
    keep = values <= np.median(values) + FLOOR_OUTLIER * max(spread, 0.5)
    for _ in range(8):
        coefficients = np.linalg.lstsq(basis[keep], values[keep], rcond=None)[0]
        deviation = values - basis @ coefficients
        width = max(spread, 1.48 * float(np.median(np.abs(deviation[keep]))))
        now = deviation <= FLOOR_OUTLIER * width
        if np.sum(now) < 6 or np.array_equal(now, keep):
            break
        keep = now
    return NoiseFloor(coefficients, within_hz, gain)


def whitened(
    phasors: Complex[np.ndarray, " N"],
    weights: Float[np.ndarray, " N"],
    step_s: float,
    floor: NoiseFloor,
) -> Complex[np.ndarray, " N"]:
    """Bring the noise to unit density, by a short filter.

    Parameters
    ----------
    phasors : ndarray, shape (N,)
        Baseband.
    weights : ndarray, shape (N,)
        Its weights.
    step_s : float
        Time between two steps.
    floor : NoiseFloor
        Density of the noise.

    Returns
    -------
    ndarray, shape (N,)
        Baseband whose noise has density 1 up to `baseband.PASS` ranges away; 0 in gaps.
    """
    nyquist, edge = 0.5 / step_s, min(PASS * floor.within_hz, 0.5 / step_s)
    hz = scipy.fft.fftfreq(4 * WHITENING_TAPS, step_s)
    density = floor.density(np.clip(hz, -edge, edge))
    response = 1 / np.sqrt(np.maximum(density, MIN_DENSITY))
    beyond = np.clip((np.abs(hz) - edge) / max(nyquist - edge, 1e-300), 0.0, 1.0)
    response *= np.cos(np.pi / 2 * beyond) ** 2
    centre = WHITENING_TAPS // 2
    taps = np.roll(scipy.fft.ifft(response), centre)[:WHITENING_TAPS]
    taps = taps * np.hanning(WHITENING_TAPS + 2)[1:-1]
    n = len(phasors)
    line = np.convolve(weights * phasors, taps)[centre : centre + n]
    # What is missing beside a step is taken as equal to it.
    line += (np.sum(taps) - np.convolve(weights, taps)[centre : centre + n]) * phasors
    return np.asarray(np.where(weights > 0, line, 0))


def level_weights(
    phasors: Complex[np.ndarray, " N"],
    weights: Float[np.ndarray, " N"],
    step_s: float,
    within_hz: float,
) -> Float[np.ndarray, " N"]:
    """Remove impulses, and lower the weights where the noise beside the range is far higher.

    Parameters
    ----------
    phasors : ndarray, shape (N,)
        Baseband.
    weights : ndarray, shape (N,)
        Its weights.
    step_s : float
        Time between two steps.
    within_hz : float
        The baseband's range.

    Returns
    -------
    ndarray, shape (N,)
        Weights.
    """
    n, hop = len(phasors), LEVEL_WINDOW // 4
    squares = np.abs(phasors) ** 2 * (weights > 0)
    if np.any(squares > 0):
        # What is shorter than a line's shortest window is an impulse.
        lasting = scipy.ndimage.grey_opening(squares, min(IMPULSE_STEPS, n))
        limit = IMPULSE_RATIO * np.maximum(lasting, np.median(squares[squares > 0]))
        is_impulse = scipy.ndimage.binary_dilation(squares > limit, np.ones(IMPULSE_REACH))
        weights = np.where(is_impulse, 0.0, weights)
    if n < 4 * LEVEL_WINDOW:
        return weights
    taper = np.kaiser(LEVEL_WINDOW + 1, LEVEL_BETA)[:-1]
    n_frames = -(-(n - 1) // hop) + 1
    padded = np.zeros((n_frames - 1) * hop + LEVEL_WINDOW, dtype=complex)
    padded[LEVEL_WINDOW // 2 : LEVEL_WINDOW // 2 + n] = weights * phasors
    frames = np.lib.stride_tricks.sliding_window_view(padded, LEVEL_WINDOW)[::hop]
    x = scipy.fft.fftfreq(LEVEL_WINDOW, step_s) / within_hz
    sides = [(s * x > LEVEL_FLANK) & (s * x <= PASS) for s in (-1, 1)]
    level = np.empty(n_frames)
    n_at_once = AT_ONCE // LEVEL_WINDOW
    for start in range(0, n_frames, n_at_once):
        part = slice(start, start + n_at_once)
        power = np.abs(scipy.fft.fft(frames[part] * taper, axis=1)) ** 2
        level[part] = np.minimum(*(power[:, side].mean(axis=1) for side in sides))
    # Where a window is cut off, a line leaks into the flanks.
    centres = hop * np.arange(n_frames)
    covered = np.convolve(weights > 0, np.ones(LEVEL_WINDOW))[LEVEL_WINDOW // 2 :][centres]
    is_whole = covered > LEVEL_WINDOW - 0.5
    usual = float(np.median(level[is_whole])) if is_whole.any() else 0.0
    if not usual > 0:  # most of the record is silent
        return weights
    excess = level[is_whole] / usual / LEVEL_RATIO
    return weights / np.maximum(np.interp(np.arange(n), centres[is_whole], excess), 1.0)
