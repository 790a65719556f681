"""Complex baseband of a recording around a nominal frequency, block by block.

Each step is a weighted least-squares fit of an offset, a slope and one oscillation at the nominal
frequency; the weights are a low-pass window's. So neither level nor slope leaks into a step, also
beside gaps. Axes: C channels, T samples, N steps.

References
----------
H. Knutsson, C.-F. Westin, Normalized and differential convolution, CVPR 1993.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Complex, Float

from tonesieve.errors import UserError
from tonesieve.kernels.mixdown import N_MISSING, N_MOMENTS, accumulate

# Chosen, not tuned: the search range by default, over the frequency and over the inverse duration;
# derived: the window has two periods at least for offset, slope and oscillation to differ.
RANGE_RATIO, RANGE_BINS, MAX_RANGE_RATIO = 0.035, 3.0, 0.25
# Derived: a Kaiser window of this beta has sidelobes 80 dB below its main lobe, which ends at
# sqrt(1 + (beta / pi)^2) = 3.7 inverse lengths. The window has 6 steps, and steps have a rate of 8
# ranges: the main lobe ends at 4.9 ranges, and what it folds lands beyond 3.1.
BETA, N_STAGES, STEPS_PER_RANGE = 11.0, 6, 8.0
# Derived: distance, in ranges, up to which no other frequency folds, with a margin.
PASS = 2.5
# Guard: steps whose fit has less than this share of a full window's precision count as gaps.
MIN_WEIGHT = 0.02
# Guard: normal matrices of steps in gaps are singular; and sums that cancel are not quite 0.
_RIDGE, _ROUNDING = 1e-12, 1e-12
# Chosen: steps of an update's buffers; longer blocks are divided.
MAX_STEPS_AT_ONCE = 4096


def default_within_hz(hz: float, duration_s: float) -> float:
    """Half-width of the range in which a line is searched.

    Parameters
    ----------
    hz : float
        Nominal frequency.
    duration_s : float
        Duration of the record.

    Returns
    -------
    float
        3.5% of the frequency, but at least 3 inverse durations, and at most a quarter of the
        frequency.
    """
    return min(max(RANGE_RATIO * hz, RANGE_BINS / duration_s), MAX_RANGE_RATIO * hz)


def check_within(hz: Sequence[float], within_hz: float | None) -> None:
    """Refuse a stated range that does not fit the frequencies.

    Parameters
    ----------
    hz : sequence of float
        Nominal frequencies.
    within_hz : float, optional
        Half-width of the range.

    Raises
    ------
    UserError
        If the range is not above 0, or more than a quarter of a frequency.
    """
    if within_hz is None:
        return
    if not within_hz > 0:
        raise UserError(f"--within {within_hz:g}: must be a number of Hz above 0")
    for f in hz:
        largest = MAX_RANGE_RATIO * f
        if within_hz > largest:
            raise UserError(
                f"--within {within_hz:g}: must be {largest:g} Hz or less, a quarter of {f:g} Hz"
            )


class Baseband:
    """Accumulates the complex baseband of a recording around one frequency.

    Step n is centred on the time ``n * step_s`` after the first sample, and approximates
    ``a(t) exp(i phi(t))`` where the tone is ``a(t) cos(2 pi hz t + phi(t))``; beside the nominal
    frequency it is attenuated as `response` states. Its memory is that of the steps, whatever the
    length of the blocks.

    Parameters
    ----------
    hz : float
        Nominal frequency.
    rate_hz : float
        Sampling rate.
    within_hz : float
        Half-width of the range of interest; what is `PASS` times as far away is still free of
        aliases, and what is 4.9 times as far away is suppressed by 80 dB.
    n_channels : int
        Number of channels.

    Attributes
    ----------
    step_s : float
        Time between two steps, 1 / (8 within_hz) at most.
    shifts_s : ndarray, shape (C, N)
        After `finish`: the centre of mass of each step's samples, relative to the step.
    """

    def __init__(self, hz: float, rate_hz: float, within_hz: float, n_channels: int = 1) -> None:
        self.hz, self.rate_hz, self.within_hz = hz, rate_hz, within_hz
        self.factor = max(1, int(rate_hz / (STEPS_PER_RANGE * within_hz)))
        self.step_s = self.factor / rate_hz
        length = self.factor * N_STAGES
        taps = np.kaiser(length + 1, BETA)[:length]
        self._half = length // 2
        self._taps = taps / taps.sum()
        self._window = np.ascontiguousarray(self._taps.reshape(N_STAGES, self.factor).T)
        self._cycles = hz / rate_hz
        self._complete = _missing_moments(self._taps, self._cycles)
        self._moments = np.zeros((n_channels, N_STAGES, N_MOMENTS))
        self._missing = np.zeros((n_channels, N_STAGES, N_MISSING))
        self._rotation = np.tile([1.0, 0.0], (n_channels, 1))
        self._place, self._n_steps = 0, 1 - N_STAGES
        self._phasors: list[np.ndarray] = []
        self._weights: list[np.ndarray] = []
        self._shifts: list[np.ndarray] = []
        self.shifts_s = np.zeros((n_channels, 0))
        self._append(np.full((n_channels, self._half), np.nan))

    def update(self, samples: Float[np.ndarray, "C T"]) -> None:
        """Process the samples (C, T) that follow; NaN in gaps."""
        size = MAX_STEPS_AT_ONCE * self.factor
        for start in range(0, samples.shape[1], size):
            self._append(np.asarray(samples[:, start : start + size], dtype=float))

    def finish(self) -> tuple[Complex[np.ndarray, "C N"], Float[np.ndarray, "C N"]]:
        """Return the steps (C, N) up to the last sample, and their weights (C, N).

        A weight is the precision of a step over that of one with all its samples, 0 in gaps.
        Nothing may be updated afterwards. `shifts_s` is then known, too.
        """
        n_samples = self._place - self._half
        n_steps = -(-n_samples // self.factor)
        n_left = (n_steps - 1 + N_STAGES) * self.factor - self._place
        if n_steps > 0 and n_left > 0:
            self._append(np.full((len(self._moments), n_left), np.nan))
        shape = (len(self._moments), 0)
        phasors = np.concatenate([np.zeros(shape, complex), *self._phasors], axis=1)
        weights = np.concatenate([np.zeros(shape), *self._weights], axis=1)
        shifts = np.concatenate([np.zeros(shape), *self._shifts], axis=1)
        self.shifts_s = shifts[:, : max(n_steps, 0)]
        return phasors[:, : max(n_steps, 0)], weights[:, : max(n_steps, 0)]

    def response(self, offset_hz: Float[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
        """Gain at offsets from the nominal frequency, in a window without gaps."""
        places = np.arange(len(self._taps)) - self._half
        angles = 2 * np.pi / self.rate_hz * np.asarray(offset_hz)[:, None] * places
        return np.asarray(np.cos(angles) @ self._taps)

    def _append(self, samples: np.ndarray) -> None:
        n_channels, n = samples.shape
        n_max = n // self.factor + 1
        moments = np.zeros((n_channels, n_max, N_MOMENTS))
        missing = np.zeros((n_channels, n_max, N_MISSING))
        n_steps = accumulate(
            samples, self._place, self._cycles, self._window, self._moments, self._missing,
            self._rotation, moments, missing,
        )  # fmt: skip
        self._place += n
        numbers = self._n_steps + np.arange(n_steps)
        self._n_steps += n_steps
        n_skipped = int(np.sum(numbers < 0))  # those centred before the first sample
        if n_steps > n_skipped:
            lost = missing[:, n_skipped:n_steps]
            phasors, weights = self._solved(
                moments[:, n_skipped:n_steps], lost, numbers[n_skipped:]
            )
            # The windows have unit sum, and their centre of mass in the middle.
            centres = (self._complete[1] - lost[..., 1]) / np.maximum(1 - lost[..., 0], _ROUNDING)
            self._shifts.append(np.where(weights > 0, centres * self._half / self.rate_hz, 0.0))
            self._phasors.append(phasors)
            self._weights.append(weights)

    def _solved(
        self, moments: np.ndarray, missing: np.ndarray, numbers: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Phasors (C, N) and weights (C, N) from the moments of steps."""
        turns = self._cycles * self.factor * numbers
        rotation = np.exp(2j * np.pi * (turns - np.floor(turns)))
        relative = (moments[..., 2] + 1j * moments[..., 3]) * rotation
        right = np.stack([moments[..., 0], moments[..., 1], relative.real, relative.imag], axis=-1)
        # The fourth basis function is -sin, so that the solution is a phasor.
        complete = _normal_matrix(self._complete)
        inverse = np.linalg.inv(complete + np.eye(4) * _RIDGE)
        solved = np.einsum("ij,cnj->cni", inverse, right)
        weights = np.ones(missing.shape[:2])
        full_variance = np.trace(inverse[2:, 2:])
        has_gap = missing[..., 0] > _ROUNDING
        if has_gap.any():
            matrices = _normal_matrix(self._complete - missing[has_gap])
            inverses = np.linalg.inv(matrices + np.eye(4) * _RIDGE)
            solved[has_gap] = np.einsum("gij,gj->gi", inverses, right[has_gap])
            weights[has_gap] = full_variance / np.trace(inverses[:, 2:, 2:], axis1=1, axis2=2)
        weights = np.where(weights < MIN_WEIGHT, 0.0, np.minimum(weights, 1.0))
        phasors = np.where(weights > 0, solved[..., 2] + 1j * solved[..., 3], 0)
        return phasors * rotation.conj(), weights


def _missing_moments(taps: np.ndarray, cycles: float) -> np.ndarray:
    """Moments (9) of a whole window, as of missing samples."""
    half = len(taps) // 2
    offset = np.arange(len(taps)) - half
    tau, angle = offset / half, 2 * np.pi * cycles * offset
    cos, sin = np.cos(angle), np.sin(angle)
    terms = [1 + 0 * tau, tau, tau**2, cos, sin, tau * cos, tau * sin, np.cos(2 * angle)]
    return np.array([taps @ term for term in [*terms, np.sin(2 * angle)]])


def _normal_matrix(m: np.ndarray) -> np.ndarray:
    """Normal matrices (..., 4, 4) of the basis 1, tau, cos, -sin from moments (..., 9)."""
    rows = [
        [m[..., 0], m[..., 1], m[..., 3], -m[..., 4]],
        [m[..., 1], m[..., 2], m[..., 5], -m[..., 6]],
        [m[..., 3], m[..., 5], (m[..., 0] + m[..., 7]) / 2, -m[..., 8] / 2],
        [-m[..., 4], -m[..., 6], -m[..., 8] / 2, (m[..., 0] - m[..., 7]) / 2],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
