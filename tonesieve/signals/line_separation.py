"""Lines beside a tone, each estimated without the tone and the others.

The model of a baseband is

    a exp(i phi(t)) + sum over k of a_k(t) exp(i phi_k(t)) + noise

with the tone's phase phi given. A line k is taken from what the tone and the other lines leave
over, and the tone from what the lines leave over, once for each line that is added: cyclic
maximisation of the likelihood. The phase phi_k is as smooth as the noise allows, and the amplitude
a_k(t) so slow that its bandwidth does not reach the tone. Axes: N steps of the baseband.

References
----------
J. Li, P. Stoica, Efficient mixed-spectrum estimation with applications to target feature
extraction, IEEE Trans. Signal Processing 44, 1996.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import Bool, Complex, Float

from tonesieve.signals.baseband import PASS
from tonesieve.signals.line_search import APART_BINS, Candidate, LineSearch, window_mean
from tonesieve.signals.ridge import Ridge

# Guard: lines beside a tone, at most. Chosen: a line's least score in the search.
MAX_LINES, LINE_SCORE = 4, 12.0
# Chosen, not tuned: turns of the estimation whenever a line is added.
N_TURNS = 1
# Derived: the main lobe of a Kaiser window of this beta ends at sqrt(1 + (beta / pi)^2) = 3.7
# inverse lengths, short of a line that is `APART_BINS` away; its sidelobes are 80 dB down.
TAPER_BETA = 11.0
# Chosen, not tuned: inverse durations, at least, beside the nominal frequency over which the level
# is measured that the lines leave over.
LEVEL_BINS = 12.0
# Guard: above this level, over the noise's, the lines beside the tone are not separated. They may
# be parts of a rhythm, unless their score over the level is this high; chosen between 70, the most
# of rhythms 0.3 to 10% wide, and 4,000, the least of lines that wander.
MAX_LEVEL, MIN_SCORE_RATIO = 2.0, 300.0
# Derived: in noise, the score of a line at its nominal frequency exceeds this with a probability of
# 1e-3 at most (Markov's inequality).
NOMINAL_SCORE = 6.9


@dataclass(frozen=True)
class SeparateLine:
    """A line beside a tone.

    Parameters
    ----------
    phasors : ndarray, shape (N,)
        The line, as part of the baseband.
    hz : ndarray, shape (N,)
        Its offset from the nominal frequency.
    is_on : ndarray, shape (N,)
        Whether it is there.
    distance_hz : float
        Its median distance from the tone.
    score : float
        Its evidence, as of `Candidate`.
    std_hz : ndarray, shape (N,)
        Standard error of ``hz``.
    """

    phasors: Complex[np.ndarray, " N"]
    hz: Float[np.ndarray, " N"]
    is_on: Bool[np.ndarray, " N"]
    distance_hz: float
    score: float
    std_hz: Float[np.ndarray, " N"]


@dataclass(frozen=True)
class Separation:
    """A tone and the lines beside it.

    Parameters
    ----------
    tone : ndarray, shape (N,)
        The tone, as part of the baseband.
    lines : tuple of SeparateLine
        The lines, in the order in which they were found.
    rest : LineSearch
        The baseband without the lines.
    """

    tone: Complex[np.ndarray, " N"]
    lines: tuple[SeparateLine, ...]
    rest: LineSearch

    def level(self) -> float:
        """Density of what the lines leave over beside the tone, over the noise's; 1 at least."""
        nearest_hz = min(line.distance_hz for line in self.lines)
        return _level(self.rest, self.rest.phasors - self.tone, nearest_hz / 2)

    def distinct_lines(self) -> tuple[SeparateLine, ...]:
        """Return the lines that are no parts of a rhythm."""
        if not self.lines:
            return ()
        level = self.level()
        least = 0.0 if level <= MAX_LEVEL else MIN_SCORE_RATIO * level
        return tuple(line for line in self.lines if line.score >= least)


def separate_lines(
    search: LineSearch,
    tone_hz: Float[np.ndarray, " N"],
    window: int,
    limit_hz: float,
    *,
    least_ratio: float = 0.0,
) -> Separation:
    """Separate a tone from the lines beside it.

    Parameters
    ----------
    search : LineSearch
        The whitened baseband; left as it is.
    tone_hz : ndarray, shape (N,)
        Offset of the tone from its nominal frequency.
    window : int
        Steps for which the tone is coherent; from the length of the record on it is steady.
    limit_hz : float
        Half-width of the range of the lines.
    least_ratio : float, default 0
        Least power of a line over the tone's; a weaker one is left in the rest.

    Returns
    -------
    Separation
        The tone, the lines, and the rest.
    """
    data = search.phasors
    # At first against a window whose sidelobes hold no line.
    tone = _tone(search, data, tone_hz, window, np.kaiser(search.n, TAPER_BETA))
    lines: list[SeparateLine] = []
    ridges: list[Ridge] = []
    for _ in range(MAX_LINES):
        rest = search.with_phasors(data - tone - _sum(lines))
        ridge = rest.ridge_beside(tone_hz, limit_hz)
        line = _line(rest, ridge, tone_hz)
        if line is None or _power(search, line.phasors) < least_ratio * _power(search, tone):
            break
        lines, ridges = [*lines, line], [*ridges, ridge]
        tone = _tone(search, data - _sum(lines), tone_hz, window)
        for k, ridge in enumerate(ridges):
            others = lines[:k] + lines[k + 1 :]
            again = _line(search.with_phasors(data - tone - _sum(others)), ridge, tone_hz)
            lines[k] = lines[k] if again is None else again
        tone = _tone(search, data - _sum(lines), tone_hz, window)
    rest = search.with_phasors(data - _sum(lines))
    for line in lines:
        rest.weights = rest.weights_beside_gaps(line.hz, np.abs(line.phasors))
    return Separation(tone, tuple(lines), rest)


def _power(search: LineSearch, phasors: np.ndarray) -> float:
    return float(np.sum(search.weights * np.abs(phasors) ** 2))


def _sum(lines: list[SeparateLine]) -> np.ndarray | float:
    return sum((line.phasors for line in lines), start=np.zeros(1))


def _tone(
    search: LineSearch, data: np.ndarray, hz: np.ndarray, window: int,
    taper: np.ndarray | float = 1.0,
) -> np.ndarray:  # fmt: skip
    """The tone in some data: its mean, in windows where it is not steady."""
    carrier = np.exp(1j * search.phase(hz))
    return window_mean(data * carrier.conj(), search.weights * taper, window) * carrier


def _line(rest: LineSearch, ridge: Ridge, tone_hz: np.ndarray) -> SeparateLine | None:
    """The line along a ridge, or None where it is not apart from the tone."""
    if ridge.score < LINE_SCORE or not ridge.is_on.any():
        return None
    distance_hz = float(np.median(np.abs(ridge.hz - tone_hz)[ridge.is_on]))
    shortest = _shortest(rest, distance_hz)
    made = rest.course(ridge, shortest)
    window = max(made.window, int(shortest))
    carrier = np.exp(1j * rest.phase(made.hz))
    mean = window_mean(rest.phasors * carrier.conj(), rest.weights, window)
    is_near = scipy.ndimage.maximum_filter1d(ridge.is_on.astype(float), window | 1)
    return SeparateLine(
        mean * is_near * carrier, made.hz, ridge.is_on, distance_hz, made.score, made.std_hz
    )


def at_nominal_beside(search: LineSearch, found: Candidate) -> Candidate | None:
    """A weaker line at the nominal frequency, apart from the one found: it takes precedence.

    Parameters
    ----------
    search : LineSearch
        The whitened baseband.
    found : Candidate
        The line with most evidence.

    Returns
    -------
    Candidate or None
        The line at the nominal frequency, if there is one.
    """
    apart_hz = APART_BINS / (search.n * search.step_s)
    if not found.is_on.any() or np.median(np.abs(found.hz[found.is_on])) < apart_hz:
        return None
    limit_hz = min(PASS * search.within_hz, 0.5 / search.step_s)
    separation = separate_lines(search, np.zeros(search.n), search.n, limit_hz)
    if not separation.lines:
        return None
    nearest_hz = min(line.distance_hz for line in separation.lines)
    rest = separation.rest
    level = separation.level()
    if level > MAX_LEVEL:
        return None
    rest = rest.with_phasors(rest.phasors / np.sqrt(level))
    nominal, other = rest.nominal(), rest.constant(rest.ridge(nearest_hz / 2))
    if nominal.score < max(NOMINAL_SCORE, other.score):
        return None
    # A lone line whose course is followed explains as much, or more, if there is no second one.
    alone = search.coherent(found, _shortest(search, nearest_hz))
    together = sum(line.score for line in separation.lines) + nominal.score
    return nominal if together > alone.score else None


def _shortest(search: LineSearch, distance_hz: float) -> float:
    """Steps of the shortest window whose main lobe does not reach a tone at this distance."""
    return min(APART_BINS / (distance_hz * search.step_s), search.n)


def _level(search: LineSearch, residual: np.ndarray, reach_hz: float) -> float:
    """Density of what the lines leave over near the nominal frequency, 1 at least."""
    bin_hz = 1 / (search.n * search.step_s)
    power = np.abs(scipy.fft.fft(search.weights * residual)) ** 2
    power /= float(np.sum(search.weights))
    n = int(min(max(reach_hz / bin_hz, LEVEL_BINS), (search.n - 1) // 2))
    return max(1.0, float(np.median([power[1 : n + 1], power[-n:]])) / np.log(2.0))
