"""Search of a line in the spectrogram of a baseband, at many window lengths.

The score of a path is a logarithm of a probability ratio: of the frames' powers with the line on
the path, to noise alone, times the probability of the path before the data. Its expectation under
noise is 1 at most, so a score above -log(alpha) has a probability below alpha there (Markov's
inequality). Axes: N steps, J frames, K frequency states.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Bool, Complex, Float

from tonesieve.kernels.viterbi import best_path

# Chosen: the shortest window, in steps: an inverse range.
MIN_WINDOW = 8
# Derived: Hann windows that overlap by half count a tone's energy 4/3 times.
HANN_TEMPER = 0.75
# Chosen, not tuned: probability of moves by 0, 1, 2 and 3 half-bins a frame, and of turning on and
# off.
MOVES = np.array([0.01, 0.04, 0.15, 0.6, 0.15, 0.04, 0.01])
TURNS = np.array([[0.9, 0.1], [0.03, 0.97]])
# Chosen: ratio of the powers over noise that are tried, and the least.
SNR_RATIO, MIN_SNR = 4.0, 2.0
# Guard, of memory: numbers that are transformed at once.
AT_ONCE = 2**16
# Chosen: places in a bin of the whole record at which its power is evaluated.
PARTS = 4
# Guard: frames with less than this share of a full one's weight are gaps.
MIN_COVERAGE = 0.1


class Spectrogram(NamedTuple):
    """Power over the noise's by frame and frequency.

    Parameters
    ----------
    power : ndarray, shape (J, K)
        NaN in gaps.
    hz : ndarray, shape (K,)
        Frequencies.
    window, hop : int
        Length of a window and distance of two, in steps; frame j is centred on step j hop, a lone
        frame on the middle.
    temper : float
        Share of a frame that is independent of the others.
    """

    power: Float[np.ndarray, "J K"]
    hz: Float[np.ndarray, " K"]
    window: int
    hop: int
    temper: float


@dataclass(frozen=True)
class Ridge:
    """A line's path through a spectrogram.

    Parameters
    ----------
    hz : ndarray, shape (N,)
        Frequency by step.
    is_on : ndarray, shape (N,)
        Whether the line is on.
    score : float
        Logarithm of the probability ratio to noise alone.
    window : int
        Length of the spectrogram's windows, in steps.
    """

    hz: Float[np.ndarray, " N"]
    is_on: Bool[np.ndarray, " N"]
    score: float
    window: int


def spectrogram(
    phasors: Complex[np.ndarray, " N"],
    weights: Float[np.ndarray, " N"],
    step_s: float,
    window: int,
    limit_hz: float,
) -> Spectrogram:
    """Power of windows around frequencies up to ``limit_hz``, in units of a step's power.

    Parameters
    ----------
    phasors : ndarray, shape (N,)
        Baseband.
    weights : ndarray, shape (N,)
        Its weights.
    step_s : float
        Time between two steps.
    window : int
        Length of the windows, in steps; one that holds the record is a lone rectangular one.
    limit_hz : float
        Half-width of the range of frequencies.

    Returns
    -------
    Spectrogram
        Not yet divided by the noise's density.
    """
    n = len(phasors)
    if window >= n:
        return _periodogram(phasors, weights, step_s, limit_hz)
    size, hop = scipy.fft.next_fast_len(2 * window), window // 2
    numbers = _bins(limit_hz * size * step_s)
    n_frames = -(-(n - 1) // hop) + 1
    frames, precision = (
        np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
        for padded in (
            np.pad(values, (hop, (n_frames - 2) * hop + window - n))
            for values in (weights * phasors, weights)
        )
    )
    taper = np.hanning(window + 1)[:-1]
    power = np.empty((n_frames, len(numbers)))
    n_at_once = max(1, AT_ONCE // size)
    for start in range(0, n_frames, n_at_once):
        part = slice(start, start + n_at_once)
        if len(numbers) == 1:
            spectrum = (frames[part] @ taper)[:, None]
        else:
            spectrum = scipy.fft.fft(frames[part] * taper, size, axis=1)[:, numbers]
        power[part] = np.abs(spectrum) ** 2
    norm = precision @ taper**2
    with np.errstate(divide="ignore", invalid="ignore"):
        power /= norm[:, None]
    power[norm < MIN_COVERAGE * np.sum(taper**2)] = np.nan
    return Spectrogram(power, numbers / (size * step_s), window, hop, HANN_TEMPER)


def _periodogram(
    phasors: np.ndarray, weights: np.ndarray, step_s: float, limit_hz: float
) -> Spectrogram:
    """One frame of all steps, at every fourth part of a bin."""
    n, size = len(phasors), PARTS * scipy.fft.next_fast_len(len(phasors))
    numbers = _bins(limit_hz * size * step_s)
    power = np.abs(np.full(len(numbers), np.vdot(weights, phasors))) ** 2
    # Each set of bins a whole one apart has a transform of its own, which takes less memory.
    for i in range(PARTS if len(numbers) > 1 else 0):
        turned = weights * phasors
        turned *= np.exp(-2j * np.pi * i / size * np.arange(n))
        spectrum = scipy.fft.fft(turned, size // PARTS, overwrite_x=True)
        chosen = numbers % PARTS == i
        power[chosen] = np.abs(spectrum[numbers[chosen] // PARTS]) ** 2
    norm = float(np.sum(weights))
    power = power / norm if norm >= MIN_COVERAGE * n else np.full_like(power, np.nan)
    return Spectrogram(power[None], numbers / (size * step_s), n, n, 1.0)


def _bins(limit: float) -> np.ndarray:
    return np.arange(-int(limit), int(limit) + 1)


def window_lengths(n_steps: int) -> list[int]:
    """Return the window lengths of a search: powers of two, and the whole record.

    Parameters
    ----------
    n_steps : int
        Length of the record, in steps.

    Returns
    -------
    list of int
        Lengths in steps.
    """
    lengths = []
    window = MIN_WINDOW
    while window <= n_steps // 2:
        lengths.append(window)
        window *= 2
    return [*lengths, n_steps]


def best_ridge(
    phasors: Complex[np.ndarray, " N"],
    weights: Float[np.ndarray, " N"],
    step_s: float,
    limit_hz: float,
    *,
    beside_bins: float = 0.0,
) -> Ridge:
    """Find the most probable line over all window lengths.

    Parameters
    ----------
    phasors : ndarray, shape (N,)
        Baseband, whitened.
    weights : ndarray, shape (N,)
        Its weights.
    step_s : float
        Time between two steps.
    limit_hz : float
        Half-width of the range to search.
    beside_bins : float, default 0
        Inverse windows about frequency 0 in which no line is searched.

    Returns
    -------
    Ridge
        The path with the highest score.
    """
    n = len(phasors)
    lengths = window_lengths(n)
    found: Ridge | None = None
    for window in lengths:
        frames = spectrogram(phasors, weights, step_s, window, limit_hz)
        frames.power[:, np.abs(frames.hz) * frames.window * step_s < beside_bins] = 0.0
        path, is_on, score = ridge_path(frames)
        score -= float(np.log(len(lengths)))
        if found is None or score > found.score:
            found = _as_ridge(frames, path, is_on, score, n)
    assert found is not None
    return found


def ridge_path(frames: Spectrogram) -> tuple[np.ndarray, np.ndarray, float]:
    """The best path (J), whether it is on (J), and its score, over all ratios of tone to noise.

    Parameters
    ----------
    frames : Spectrogram
        Power over the noise's.

    Returns
    -------
    path : ndarray, shape (J,)
        Frequency states.
    is_on : ndarray, shape (J,)
        Whether the line is on.
    score : float
        Logarithm of the probability ratio to noise alone.
    """
    top = float(np.nanmax(frames.power, initial=0.0))
    n_snr = max(1, int(np.ceil(np.log(max(top, 1.0) / MIN_SNR) / np.log(SNR_RATIO))) + 1)
    best: tuple[np.ndarray, np.ndarray, float] | None = None
    n_states = frames.power.shape[1]
    moves = np.log(MOVES / MOVES.sum()) if n_states > 1 else np.zeros(1)
    for i in range(n_snr):
        path = np.zeros(len(frames.power), dtype=np.int64)
        is_on = np.zeros(len(frames.power), dtype=np.bool_)
        score = best_path(
            frames.power, frames.temper, MIN_SNR * SNR_RATIO**i, moves, np.log(TURNS), path, is_on
        )
        # A prior that falls with the number, since their count depends on the data.
        score -= float(np.log((i + 1) * (i + 2)))
        if best is None or score > best[2]:
            best = path, is_on, score
    assert best is not None
    return best


def _as_ridge(
    frames: Spectrogram, path: np.ndarray, is_on: np.ndarray, score: float, n: int
) -> Ridge:
    """By step; peaks by a parabola through the logarithms of three powers."""
    hz = frames.hz[path]
    if len(frames.hz) >= 3:
        at = np.clip(path, 1, len(frames.hz) - 2)
        rows = np.arange(len(path))
        with np.errstate(divide="ignore", invalid="ignore"):
            below, mid, above = (np.log(frames.power[rows, at + d]) for d in (-1, 0, 1))
            shift = 0.5 * (below - above) / (below - 2 * mid + above)
        usable = np.isfinite(shift) & (np.abs(shift) <= 1) & is_on & (at == path)
        hz = hz + np.where(usable, shift, 0.0) * (frames.hz[1] - frames.hz[0])
    if len(path) == 1:
        return Ridge(np.full(n, hz[0]), np.full(n, is_on[0]), score, n)
    centres, steps = frames.hop * np.arange(len(path)), np.arange(n)
    nearest = np.minimum((steps + frames.hop // 2) // frames.hop, len(path) - 1)
    return Ridge(np.interp(steps, centres, hz), is_on[nearest], score, frames.window)
