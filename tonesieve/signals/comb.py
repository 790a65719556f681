"""Combs: tones at multiples of one frequency, as a user names them.

Axes: K tones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tonesieve.errors import UserError

# Guard, of memory and of what a table can hold: tones of a comb, at most.
MAX_ORDERS = 1000
# Tones that may be a comb though that is not stated: their least number, and the lowest order that
# they may begin with. Chosen, not tuned: two rhythms at 10 and 20 Hz are named together, too.
MIN_IMPLIED, MAX_DIVISOR = 3, 4
# Derived: relative difference of two frequencies that are two ways to write one.
SAME = 1e-6


@dataclass(frozen=True)
class Comb:
    """Tones at multiples of one frequency, among other tones.

    Parameters
    ----------
    hz : float
        Nominal frequency of order 1.
    orders : tuple of float
        Frequency of each tone over it.
    tones : tuple of int
        Index of each tone among all.
    is_stated : bool, default True
        Whether the user states that they are a comb; otherwise their names alone suggest it.
    """

    hz: float
    orders: tuple[float, ...]
    tones: tuple[int, ...]
    is_stated: bool = True

    @property
    def spacing_hz(self) -> float:
        """Least distance of two of its tones, or of the lowest from 0."""
        orders = sorted(self.orders)
        return self.hz * min(b - a for a, b in zip([0.0, *orders[:-1]], orders, strict=True))


def parse_harmonics(harmonics: float | str | None) -> int | None:
    """Read a number of harmonics.

    Parameters
    ----------
    harmonics : int or str, optional
        The highest order, or ``all``: up to half the rate.

    Returns
    -------
    int or None
        The highest order; 0 for all.

    Raises
    ------
    UserError
        If it is neither.
    """
    if harmonics is None:
        return None
    if isinstance(harmonics, str) and harmonics.strip().lower() == "all":
        return 0
    try:
        number = int(harmonics)
    except (TypeError, ValueError):
        number = 0
    if isinstance(harmonics, bool) or number != _number(harmonics):
        number = 0
    if not 1 <= number <= MAX_ORDERS:
        raise UserError(
            f"--harmonics {harmonics}: must be a whole number from 1 to {MAX_ORDERS}, the highest "
            "multiple, or all (up to half the rate)"
        )
    return number


def parse_orders(orders: str | Sequence[float] | None) -> tuple[float, ...]:
    """Read a list of orders.

    Parameters
    ----------
    orders : str or sequence of float, optional
        Multiples of the frequency, in text with commas between.

    Returns
    -------
    tuple of float
        In ascending order, each once; empty for none.

    Raises
    ------
    UserError
        If one is not a number above 0.
    """
    if orders is None:
        return ()
    parts = orders.split(",") if isinstance(orders, str) else list(orders)
    numbers = [_number(part) for part in parts]
    for part, number in zip(parts, numbers, strict=True):
        if not (math.isfinite(number) and number > 0):
            raise UserError(
                f"--orders {part}: must be multiples of the frequency, numbers above 0 with commas "
                "between, such as 0.5,1,2.5"
            )
    if not 1 <= len(numbers) <= MAX_ORDERS:
        raise UserError(f"--orders: names {len(numbers)} multiples; must be 1 to {MAX_ORDERS}")
    return tuple(sorted(set(numbers)))


def _number(text: float | str) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def comb_tones(
    hz: Sequence[float],
    rate_hz: float,
    harmonics: int | None = None,
    orders: Sequence[float] = (),
) -> tuple[tuple[float, ...], tuple[Comb, ...]]:
    """Name the tones of combs.

    Parameters
    ----------
    hz : sequence of float
        Nominal frequencies of order 1, each of one comb.
    rate_hz : float
        Sampling rate.
    harmonics : int, optional
        The highest order; 0 for all below half the rate.
    orders : sequence of float, optional
        Orders in place of 1, 2, 3, ...

    Returns
    -------
    frequencies_hz : tuple of float
        Nominal frequencies of the K tones, each once: a tone of two combs belongs to the first.
    combs : tuple of Comb
        Those of more than one tone.

    Raises
    ------
    UserError
        If an order is at or above half the rate, if there are too many, or if both ``harmonics``
        and ``orders`` are given.
    """
    if harmonics is not None and orders:
        raise UserError("--orders: names the multiples; leave --harmonics away")
    tones: list[float] = []
    combs = []
    for f in map(float, hz):
        wanted = _orders_of(f, rate_hz, harmonics, orders)
        new = [k for k in wanted if not any(is_same(k * f, tone) for tone in tones)]
        if len(new) > 1:
            combs.append(Comb(f, tuple(new), tuple(range(len(tones), len(tones) + len(new)))))
        tones += [k * f for k in new]
    if harmonics is None and not orders:
        combs = implied_combs(tones)
    return tuple(tones), tuple(combs)


def _orders_of(
    f: float, rate_hz: float, harmonics: int | None, orders: Sequence[float]
) -> list[float]:
    """Orders of one comb; all are below half the rate."""
    if not 0 < f < rate_hz / 2:  # the caller says what is wrong
        return [1.0]
    if harmonics == 0:
        highest = _highest(f, rate_hz)
        if highest > MAX_ORDERS:
            raise UserError(
                f"--harmonics all: {f:g} Hz has {highest} multiples below half the rate; name "
                f"{MAX_ORDERS} at most"
            )
        return [float(k) for k in range(1, max(highest, 1) + 1)]
    named = [float(k) for k in range(1, harmonics + 1)] if harmonics else list(orders) or [1.0]
    option = "--harmonics" if harmonics else "--orders"
    for k in named:
        if k * f >= rate_hz / 2:
            raise UserError(
                f"{option}: {k:g} times {f:g} Hz is not below {rate_hz / 2:g} Hz, half the rate; "
                + (
                    f"the highest is {_highest(f, rate_hz)} (--harmonics all)"
                    if harmonics
                    else f"all must be below {rate_hz / 2 / f:.6g}"
                )
            )
    return named


def _highest(f: float, rate_hz: float) -> int:
    """The highest whole multiple below half the rate."""
    return math.ceil(rate_hz / 2 / f * (1 - SAME)) - 1


def is_same(a_hz: float, b_hz: float) -> bool:
    """Tell whether two frequencies are two ways to write one.

    Parameters
    ----------
    a_hz, b_hz : float
        Frequencies.

    Returns
    -------
    bool
        Whether they differ by less than a millionth.
    """
    return abs(a_hz - b_hz) <= SAME * abs(b_hz)


def implied_combs(hz: Sequence[float]) -> list[Comb]:
    """Return the comb that the names of tones suggest.

    Parameters
    ----------
    hz : sequence of float
        Nominal frequencies of the K tones.

    Returns
    -------
    list of Comb
        One of all tones, if they are at least `MIN_IMPLIED` multiples of one frequency, the lowest
        or the lowest over a small number; otherwise none.
    """
    if len(hz) < MIN_IMPLIED:
        return []
    for divisor in range(1, MAX_DIVISOR + 1):
        base = min(hz) / divisor
        orders = tuple(float(round(f / base)) for f in hz)
        if all(is_same(k * base, f) for k, f in zip(orders, hz, strict=True)):
            return [Comb(base, orders, tuple(range(len(hz))), is_stated=False)]
    return []
