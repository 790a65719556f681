"""Likelihood of a sample of the mixture at every position within the common period.

Known phase (``regime locked``; docs/exercise.md, The problem): the phases of all tones follow from
one unknown, the time within their common period. Axes: P positions on that period, K components,
N nodes of a density.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import scipy
from jaxtyping import Float

from tonesieve.config.config import DataSettings
from tonesieve.errors import UserError
from tonesieve.kernels.tone_density import tone_pmf
from tonesieve.signals.signal_model import common_period_samples, cycles_after, mixture_power

# Guard against memory and time: positions that a period may have. Chosen: how many of them a cycle
# of the fastest tone has at least.
MAX_POSITIONS = 32_768
MIN_PER_CYCLE = 512
# Chosen: nodes of a density, and the fewest; in between, a guard: values of the whole table.
MAX_NODES, MIN_NODES, MAX_VALUES = 512, 192, 2**22
# Derived: Gaussian noise is cut off this many standard deviations out, where 1e-15 of it is left.
TAIL_SIGMA = 8.0
# Guard: the transform's rounding, over the largest value.
ROUNDING = 1e-15
# Guard: frequencies are taken as fractions with denominators up to this, so that 0.333... is 1/3.
MAX_DENOMINATOR = 10_000


@dataclass(frozen=True)
class StartGrid:
    """Positions within the common period where a record may start, evenly spaced.

    Parameters
    ----------
    cycles : ndarray, shape (P, K)
        Phase of every tone at each position.
    advance : float
        Positions from one sample to the next.
    """

    cycles: Float[np.ndarray, "P K"]
    advance: float

    @property
    def targets(self) -> Float[np.ndarray, "P K"]:
        """The clean tones at each position."""
        return np.sin(2 * np.pi * self.cycles)


@dataclass(frozen=True)
class LikelihoodTable:
    """Density of the mixture at every position: linear between nodes, zero outside them.

    Node k of position j lies at ``lows[j] + k / per_step[j]``.

    Parameters
    ----------
    lows : ndarray, shape (P,)
        The lowest node.
    per_step : ndarray, shape (P,)
        One over the distance of two nodes.
    values : ndarray, shape (P, N)
        Density at the nodes.
    """

    lows: Float[np.ndarray, " P"]
    per_step: Float[np.ndarray, " P"]
    values: Float[np.ndarray, "P N"]

    @property
    def pmf(self) -> Float[np.ndarray, "P N"]:
        """Probability mass around each node."""
        return self.values / self.per_step[:, None]


def start_grid(data: DataSettings) -> StartGrid:
    """List every whole sample of the common period, or a fine grid where those are too many.

    Parameters
    ----------
    data : DataSettings
        Frequencies, phases and rate.

    Returns
    -------
    StartGrid
        At most `MAX_POSITIONS` positions.

    Raises
    ------
    UserError
        Where the tones have no common period that is short enough.
    """
    n = common_period_samples(data)
    if n <= MAX_POSITIONS:
        return StartGrid(start_cycles(data) + cycles_after(data, np.arange(n)), 1.0)
    tones = [_simplest(f) for f in data.frequencies_hz]
    denominator = math.lcm(*(f.denominator for f in tones))
    base = Fraction(math.gcd(*(int(f * denominator) for f in tones)), denominator)
    n_fine = 2 ** math.ceil(math.log2(MIN_PER_CYCLE * max(tones) / base))
    if n_fine > MAX_POSITIONS:
        names = ", ".join(f"{f:g}" for f in data.frequencies_hz)
        raise UserError(
            f"data.frequencies_hz: {names} Hz come back together only after {float(1 / base):g} s, "
            "too long for the exact limit; choose frequencies in simple ratios, or data.regime free"
        )
    cycles = np.arange(n_fine)[:, None] * np.array([float(f / base) for f in tones]) / n_fine
    advance = n_fine * float(base / Fraction(repr(data.rate_hz)))
    return StartGrid(start_cycles(data) + cycles, advance)


def likelihood_table(data: DataSettings, grid: StartGrid) -> LikelihoodTable:
    """Tabulate the density of one sample of the mixture at each position.

    Every tone's distribution is laid on the nodes, by quadrature over its phase with its amplitude
    in closed form; then the tones and the Gaussian noise are convolved.

    Parameters
    ----------
    data : DataSettings
        Amplitudes, jitter and noise.
    grid : StartGrid
        The positions.

    Returns
    -------
    LikelihoodTable
        Densities in single precision.

    Raises
    ------
    UserError
        For noise that is not independent from sample to sample, or not modelled here.
    """
    _refuse_other_noise(data)
    n_positions, n_tones = grid.cycles.shape
    n_nodes = int(np.clip(MAX_VALUES // n_positions, MIN_NODES, MAX_NODES))
    # Jitter over whole cycles forgets the phase: the same density everywhere, to the last bit.
    forgets_phase = data.phase_scale > 0 and data.phase_scale % 1 == 0
    cycles = np.zeros_like(grid.cycles) if forgets_phase else grid.cycles
    small, large = (a / n_tones for a in data.amplitude_range)
    lows, highs = _supports(2 * np.pi * cycles, 2 * np.pi * data.phase_scale, small, large)
    sigma = noise_sigma(data)
    span = np.maximum((highs - lows).sum(axis=1) + 2 * TAIL_SIGMA * sigma, 1e-6)
    steps = span / (n_nodes - 3 - n_tones)
    size = scipy.fft.next_fast_len(n_nodes, real=True)
    spectrum = np.ones((n_positions, size // 2 + 1), dtype=np.complex128)
    for k in range(n_tones):
        pmf = tone_pmf(
            2 * np.pi * cycles[:, k],
            steps,
            lows[:, k],
            highs[:, k],
            (small, large),
            2 * np.pi * data.phase_scale,
            size,
        )
        spectrum *= scipy.fft.rfft(pmf, axis=1)
    start = lows.sum(axis=1)
    if sigma > 0:
        centre = np.ceil(TAIL_SIGMA * sigma / steps)
        remaining_sigma = _less_grid(sigma, steps, n_tones)
        spectrum *= scipy.fft.rfft(_gaussian_pmf(steps, remaining_sigma, centre, size), axis=1)
        start = start - centre * steps
    values = scipy.fft.irfft(spectrum, size, axis=1)
    # What the transform leaves where there is no probability is rounding.
    values[values < ROUNDING * values.max(axis=1, keepdims=True)] = 0.0
    values /= values.sum(axis=1, keepdims=True) * steps[:, None]
    return LikelihoodTable(start, 1 / steps, values.astype(np.float32))


def noise_sigma(data: DataSettings) -> float:
    """Standard deviation of the additive white noise.

    Parameters
    ----------
    data : DataSettings
        Signal-to-noise ratio and tones.

    Returns
    -------
    float
        In units of the mixture.
    """
    if data.snr_db is None:
        return 0.0
    return math.sqrt(mixture_power(data)) * 10 ** (-data.snr_db / 20)


def start_cycles(data: DataSettings) -> Float[np.ndarray, " K"]:
    """Start phases of the known-phase regime.

    Parameters
    ----------
    data : DataSettings
        Start phases.

    Returns
    -------
    ndarray, shape (K,)
        Cycles.
    """
    return np.array(data.start_phases_rad) / (2 * np.pi)


def _less_grid(
    sigma: float, steps: Float[np.ndarray, " P"], n_tones: int
) -> Float[np.ndarray, " P"]:
    """Standard deviation of the noise without the variance that the grid adds itself.

    Dividing masses between nodes adds a variance of step^2 / 6 for every tone, for the noise, and
    for the straight lines between the nodes.
    """
    variance = sigma**2 - (n_tones + 2) * steps**2 / 6
    return np.sqrt(np.maximum(variance, sigma**2 / 2))


def _simplest(value: float) -> Fraction:
    """The fraction that was meant: 0.3333333333333333 is a third, 0.1 a tenth."""
    near = Fraction(value).limit_denominator(MAX_DENOMINATOR)
    return near if abs(float(near) - value) <= 1e-12 * value else Fraction(repr(value))


def _refuse_other_noise(data: DataSettings) -> None:
    other = {
        "pink_snr_db": data.pink_snr_db is not None,
        "impulse_rate_hz": data.impulse_rate_hz > 0,
        "clip_level": data.clip_level is not None,
        "frequency_drift": data.frequency_drift > 0,
    }
    for name in (name for name, given in other.items() if given):
        raise UserError(
            f"data.{name}: no exact limit is known with it in the locked regime; jitter, white "
            "noise (snr_db) and gaps have one"
        )


def _supports(
    angles: Float[np.ndarray, "P K"], jitter_rad: float, small: float, large: float
) -> tuple[Float[np.ndarray, "P K"], Float[np.ndarray, "P K"]]:
    """Smallest and largest value of A sin(angle + phi)."""
    ends = np.stack([np.sin(angles), np.sin(angles + jitter_rad)])
    least, most = ends.min(axis=0), ends.max(axis=0)
    cycles, jitter_cycles = angles / (2 * np.pi), jitter_rad / (2 * np.pi)
    most[np.floor(cycles + jitter_cycles - 0.25) > np.floor(cycles - 0.25)] = 1.0
    least[np.floor(cycles + jitter_cycles - 0.75) > np.floor(cycles - 0.75)] = -1.0
    return np.minimum(least * large, least * small), np.maximum(most * large, most * small)


def _gaussian_pmf(
    steps: Float[np.ndarray, " P"],
    sigmas: Float[np.ndarray, " P"],
    centres: Float[np.ndarray, " P"],
    n_nodes: int,
) -> Float[np.ndarray, "P N"]:
    """Masses of N(0, sigma^2) around a node of each position, as `tone_pmf` has them."""
    node = np.arange(-1, n_nodes + 1) - centres[:, None]
    step = (steps / sigmas)[:, None]
    z = np.abs(node * step)
    # E(x - X)+ less max(x, 0), so that no difference of large numbers is taken; what is left out
    # bends only at the middle.
    excess = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi) - z * scipy.special.ndtr(-z)
    inner = node[:, 1:-1]
    bend = excess[:, :-2] - 2 * excess[:, 1:-1] + excess[:, 2:] + step * (inner == 0)
    return np.where(np.abs(inner) > centres[:, None], 0.0, np.maximum(bend / step, 0.0))
