"""Groups spectral lines into combs: harmonics of one fundamental, which itself may be missing.

A fundamental is accepted if so many lines lie at its multiples only with a small probability by
chance. A line lies within d of a multiple of f0 with the probability 2 d / f0 by chance, so that
smaller fundamentals need more, and more exact, lines: of f0 and f0 / 2 with the same lines the
former is chosen. Each candidate is a line's frequency over an order; the price of an order n is
n (n + 1), whose inverses sum to 1.

Axes: L lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tonesieve.signals.line_estimates import SpectralLine

# Chosen: probability that lines which have nothing in common are grouped.
CHANCE = 0.01
# Chosen, not tuned: highest order by which a line is divided to find a fundamental, and the
# strongest lines that are.
MAX_DIVISOR, MAX_ANCHORS = 12, 12
# Chosen, not tuned: distance of a line from a multiple, in standard errors and in bins.
SIGMAS, BINS = 4.0, 0.03
# Chosen, not tuned: mains and aircraft frequencies in Hz, and their usual deviation over them.
SUPPLIES = (50.0, 60.0, 50.0 / 3.0, 400.0)
SUPPLY_DEVIATION = 4e-4
# Chosen, not tuned: highest harmonic of a supply that is folded.
MAX_ALIAS_ORDER = 20
# Guard: the least relative error of a clock.
CLOCK_ERROR = 2e-5


@dataclass(frozen=True)
class FoundComb:
    """Lines at multiples of one frequency; a lone line is a comb of one.

    Parameters
    ----------
    f0_hz : float
        The fundamental, by weighted least squares over its lines.
    f0_stderr : float
        Its standard error.
    orders : tuple of int
        Orders of its lines, rising.
    lines : tuple of SpectralLine
        Its lines.
    chance : float
        Probability that lines lie so by chance; 1 for a lone line.
    alias : str, optional
        What else the comb may be.
    """

    f0_hz: float
    f0_stderr: float
    orders: tuple[int, ...]
    lines: tuple[SpectralLine, ...]
    chance: float
    alias: str = ""

    @property
    def power(self) -> float:
        """Sum of the powers of its lines."""
        return float(sum(line.power for line in self.lines))

    def metrics(self) -> dict[str, Any]:
        """Return the values by name.

        Returns
        -------
        dict
            For JSON.
        """
        return {
            "f0_hz": self.f0_hz,
            "f0_stderr": self.f0_stderr,
            "orders": list(self.orders),
            "lines_hz": [line.hz for line in self.lines],
            "amplitudes": [line.amplitude for line in self.lines],
            "power": self.power,
            "chance": self.chance,
            "alias": self.alias,
        }


def group_harmonics(lines: Sequence[SpectralLine]) -> list[FoundComb]:
    """Group lines into combs.

    Parameters
    ----------
    lines : sequence of SpectralLine
        Lines of one record.

    Returns
    -------
    list of FoundComb
        The strongest first; each line is in one of them.
    """
    rest = list(lines)
    combs: list[FoundComb] = []
    while len(rest) > 1:
        comb = _best_comb(rest)
        if comb is None:
            break
        combs.append(comb)
        rest = [line for line in rest if line not in comb.lines]
    combs += [FoundComb(line.hz, line.hz_stderr, (1,), (line,), 1.0) for line in rest]
    return sorted(combs, key=lambda comb: -comb.power)


def _tolerances(lines: Sequence[SpectralLine]) -> np.ndarray:
    return np.array([SIGMAS * one.hz_stderr + BINS * one.resolution_hz for one in lines])


def _best_comb(lines: Sequence[SpectralLine]) -> FoundComb | None:
    """The least probable comb; None where chance suffices."""
    hz = np.array([line.hz for line in lines])
    tolerance = _tolerances(lines)
    strongest = np.argsort([-line.power for line in lines], kind="stable")[:MAX_ANCHORS]
    best: tuple[float, float, list[int]] | None = None
    for anchor in strongest:
        for order in range(1, MAX_DIVISOR + 1):
            f0 = hz[anchor] / order
            members = _members(hz, tolerance, f0, tolerance[anchor] / order)
            if len(members) < 2:
                continue
            f0 = _least_squares(lines, members, f0)[0]
            chance = _chance(hz, tolerance, f0, members, int(anchor))
            chance *= order * (order + 1) * len(strongest)
            score = (chance, -f0, members)
            if best is None or score[:2] < best[:2]:
                best = score
    if best is None or best[0] > CHANCE:
        return None
    chance, negative_f0, members = best
    f0, stderr = _least_squares(lines, members, -negative_f0)
    orders = tuple(round(float(hz[k]) / f0) for k in members)
    return FoundComb(f0, stderr, orders, tuple(lines[k] for k in members), chance)


def _members(hz: np.ndarray, tolerance: np.ndarray, f0: float, f0_error: float) -> list[int]:
    """Lines at multiples: found from the lowest order up, the fundamental refined on the way."""
    orders = np.maximum(np.round(hz / f0), 1)
    members: list[int] = []
    sum_nf = sum_nn = 0.0
    for k in np.argsort(orders, kind="stable"):
        n = max(1, round(hz[k] / f0))
        if abs(hz[k] - n * f0) > tolerance[k] + n * f0_error:
            continue
        members.append(int(k))
        weight = 1 / tolerance[k] ** 2
        sum_nf += weight * n * hz[k]
        sum_nn += weight * n * n
        f0, f0_error = sum_nf / sum_nn, min(f0_error, sum_nn**-0.5)
    return members


def _least_squares(
    lines: Sequence[SpectralLine], members: Sequence[int], f0: float
) -> tuple[float, float]:
    """The fundamental and its standard error."""
    hz = np.array([lines[k].hz for k in members])
    n = np.maximum(np.round(hz / f0), 1)
    # Guard: one line alone does not decide, however exact.
    error = np.array([lines[k].hz_stderr + 0.01 * lines[k].resolution_hz for k in members])
    total = float(np.sum(n * n / error**2))
    f0 = float(np.sum(n * hz / error**2) / total)
    chi2 = float(np.sum(((hz - n * f0) / error) ** 2)) / max(len(members) - 1, 1)
    return f0, float(np.sqrt(max(chi2, 1.0) / total))


def _chance(
    hz: np.ndarray, tolerance: np.ndarray, f0: float, members: Sequence[int], anchor: int
) -> float:
    """Probability that so many of the other lines lie at multiples by chance."""
    others = np.array([k for k in range(len(hz)) if k != anchor])
    near = np.minimum(2 * tolerance[others] / f0, 1.0)
    # Derived: the number of hits of unequal probabilities, by convolution.
    hits = np.ones(1)
    for p in near:
        hits = np.convolve(hits, [1 - p, p])
    return float(hits[len([k for k in members if k != anchor]) :].sum())


def name_aliases(combs: Sequence[FoundComb], rate_hz: float) -> list[FoundComb]:
    """State which lone lines may be harmonics of a supply folded at half the rate.

    Parameters
    ----------
    combs : sequence of FoundComb
        Combs of one record.
    rate_hz : float
        Sampling rate.

    Returns
    -------
    list of FoundComb
        The same ones, with ``alias`` where it applies.
    """
    return [_with_alias(comb, combs, rate_hz) for comb in combs]


def _with_alias(comb: FoundComb, combs: Sequence[FoundComb], rate_hz: float) -> FoundComb:
    if len(comb.lines) > 1:
        return comb
    line, half = comb.lines[0], rate_hz / 2
    for nominal in SUPPLIES:
        if abs(line.hz - round(line.hz / nominal) * nominal) < SUPPLY_DEVIATION * line.hz:
            return comb  # it is a harmonic as it stands
    best: tuple[float, str] | None = None
    for nominal in SUPPLIES:
        f0, error, measured = _supply(nominal, combs)
        for order in range(1, MAX_ALIAS_ORDER + 1):
            true_hz = order * f0
            if true_hz <= half:
                continue
            folded = abs(true_hz - round(true_hz / rate_hz) * rate_hz)
            near = order * error + SIGMAS * line.hz_stderr + CLOCK_ERROR * true_hz
            near += BINS * line.resolution_hz
            # Derived: probability that any of the orders so far lies so near by chance.
            chance = 2 * near / half * order * (1 if measured else len(SUPPLIES))
            if abs(folded - line.hz) <= near and chance <= CHANCE:
                label = f"may be {true_hz:.6g} Hz ({order} x {f0:.6g}) folded at {half:g} Hz"
                if best is None or chance < best[0]:
                    best = (chance, label)
    if best is None:
        return comb
    return FoundComb(comb.f0_hz, comb.f0_stderr, comb.orders, comb.lines, comb.chance, best[1])


def _supply(nominal: float, combs: Sequence[FoundComb]) -> tuple[float, float, bool]:
    """Frequency of a supply, its error, and whether the record itself shows it."""
    for comb in combs:
        if abs(comb.f0_hz - nominal) <= 10 * SUPPLY_DEVIATION * nominal:
            return comb.f0_hz, SIGMAS * comb.f0_stderr, True
    return nominal, SUPPLY_DEVIATION * nominal, False
