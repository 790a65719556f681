"""Tests whether a tone is there, at a stated false-alarm rate.

In whitened noise, lines beside the range subtracted, the power of a band around the nominal
frequency over that of the bands beside it is F-distributed. That is tested for bandwidths from the
inverse of a window to the range, in windows from the whole record to its sixteenth, with the
Bonferroni correction. A line beside the nominal frequency is tested by its course's own bound,
which accounts for the search. Axes: N steps of a baseband, M steps of a window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import scipy
from jaxtyping import Complex, Float

from tonesieve.signals.baseband import PASS
from tonesieve.signals.line_course import LineCourse
from tonesieve.signals.line_search import LineSearch, weighted_rms
from tonesieve.signals.line_separation import SeparateLine, Separation, separate_lines

# Chosen: false-alarm rates of `found`, and of `found` and `doubtful` together.
FOUND_RATE, DOUBTFUL_RATE = 0.01, 0.2
# Chosen, not tuned: halvings of the record; guard: fewest steps of a window, and its least share
# without gaps.
MAX_HALVINGS, MIN_WINDOW, MIN_COVERAGE = 4, 24, 0.3
# Chosen, not tuned: where the bands beside start, over the tested half-width and in bins beyond;
# their widths over it, and the least in bins.
FLANK_START, FLANK_GUARD, FLANK_RATIO, MIN_FLANK = 1.25, 2, 8, 16
# Guard: fewest bins beside a band.
MIN_FLANK_BINS = 4
# Chosen: steps over which power is averaged to see whether it is steady; derived: steps of the
# whitened baseband that are correlated, the inverse of the share of its band that is white.
STATIONARITY_STEPS, INDEPENDENT = 8, 1.6
# Chosen: a neighbour is stronger if it is by this much.
NEIGHBOUR_DB = 6.0
# Chosen, not tuned: weaker neighbours count down to this level, if nothing as strong as that beside
# the neighbour lies as far away on the other side. Sidebands of a tone that comes and goes, or
# moves, lie on both. Beside one whose frequency moves, and closer than this many inverse durations,
# none counts: both may be parts of a rhythm.
LONE_DB, MIRROR_DB, LONE_BINS = -10.0, -10.0, 6.0


@dataclass(frozen=True)
class LineDetection:
    """Whether a tone stands out of the noise beside it.

    Parameters
    ----------
    status : {"found", "doubtful", "nothing"}
        In noise alone, ``found`` has a probability of 0.01 and ``doubtful`` of up to 0.2. A record
        that is too short for the test is ``doubtful``, with a ``p_value`` of 1.
    p_value : float
        Probability of such a power in noise alone, corrected for all bandwidths and times tested.
    bandwidth_hz : float
        Bandwidth of the most significant test.
    start_s, stop_s : float
        Its stretch of time.
    excess_db : float
        Its power over the noise's in the same band.
    """

    status: Literal["found", "doubtful", "nothing"]
    p_value: float
    bandwidth_hz: float
    start_s: float
    stop_s: float
    excess_db: float


class Neighbour(NamedTuple):
    """A line near the tone: a stronger one, or a lone one that is not much weaker.

    Parameters
    ----------
    offset_hz : float
        Its frequency minus the tone's nominal frequency.
    amplitude : float
        Its amplitude, in the recording's unit.
    level_db : float
        Its power over the tone's.
    course : LineCourse
        Its frequency over time, relative to the tone's nominal frequency plus ``offset_hz``.
    """

    offset_hz: float
    amplitude: float
    level_db: float
    course: LineCourse

    @property
    def is_stronger(self) -> bool:
        """Whether it is by 6 dB."""
        return self.level_db >= NEIGHBOUR_DB


def detect_line(
    phasors: Complex[np.ndarray, " N"],
    weights: Float[np.ndarray, " N"],
    step_s: float,
    within_hz: float,
    course: LineCourse | None = None,
    shifts_s: Float[np.ndarray, " N"] | None = None,
) -> LineDetection:
    """Test whether a line is there.

    Parameters
    ----------
    phasors : ndarray, shape (N,)
        Baseband of one channel, by `Baseband`. One with a larger ``within_hz`` than the course's
        finds broader rhythms.
    weights : ndarray, shape (N,)
        Weight of every step, 0 in gaps.
    step_s : float
        Time between two steps.
    within_hz : float
        The baseband's.
    course : LineCourse, optional
        Where the line is; at its nominal frequency by default. That it was searched is taken into
        account.
    shifts_s : ndarray, shape (N,), optional
        `Baseband.shifts_s`; 0 by default.

    Returns
    -------
    LineDetection
        Status and evidence.
    """
    n = len(phasors)
    untested = LineDetection(
        "doubtful" if weighted_rms(phasors, weights) > 0 else "nothing",
        1.0, within_hz, 0.0, n * step_s, 0.0,
    )  # fmt: skip
    search = _search(phasors, weights, step_s, within_hz, shifts_s, without_neighbours=True)
    if search is None:
        return untested
    best = _best_test(search.phasors, search.weights, step_s, within_hz)
    p_value = 1.0 if best is None else best.p_value
    if course is not None:
        if course.kind != "nominal":
            line = search.phasors * np.exp(-1j * search.phase(_course_hz(course, n, step_s)))
            best = _best_test(line, search.weights, step_s, within_hz)
        p_value = min(1.0, 2 * min(p_value, course.p_value))
    if best is None:
        return untested
    return LineDetection(
        "found" if p_value <= FOUND_RATE else "doubtful" if p_value <= DOUBTFUL_RATE else "nothing",
        p_value, best.bandwidth_hz, best.start * step_s, best.stop * step_s,
        float(10 * np.log10(max(best.ratio - 1, 1e-12))),
    )  # fmt: skip


class _Test(NamedTuple):
    p_value: float
    bandwidth_hz: float
    start: int
    stop: int
    ratio: float


def _best_test(
    line: np.ndarray, weights: np.ndarray, step_s: float, within_hz: float
) -> _Test | None:
    """The most significant test of power at frequency 0 in unit noise, its p value corrected."""
    n = len(line)
    halvings = [h for h in range(MAX_HALVINGS + 1) if h == 0 or n >> h >= MIN_WINDOW]
    best: _Test | None = None
    for h in halvings:
        size = n >> h
        bin_hz = 1 / (size * step_s)
        widths = _half_widths(within_hz / bin_hz)
        edge = int(min(PASS * within_hz / bin_hz, (size - 1) // 2))
        for start in range(0, (size << h) - size + 1, size):
            part = slice(start, start + size)
            total = float(np.sum(weights[part]))
            coverage = total**2 / (size * float(np.sum(weights[part] ** 2)) + 1e-300)
            if coverage < MIN_COVERAGE:
                continue
            coverage = min(coverage, _stationarity(weights[part] * line[part]))
            power = np.abs(scipy.fft.fft(weights[part] * line[part])) ** 2
            sides = np.stack([power[: edge + 1], power[-np.arange(edge + 1)]])
            sums = np.cumsum(sides, axis=1)
            for width in widths:
                first = int(FLANK_START * width) + FLANK_GUARD
                last = min(edge, first + max(FLANK_RATIO * width, MIN_FLANK))
                n_flank, n_band = 2 * (last - first + 1), 2 * width + 1
                if coverage * n_flank < MIN_FLANK_BINS:
                    continue
                flank = float(np.sum(sums[:, last] - sums[:, first - 1])) / n_flank
                band = float(np.sum(sums[:, width])) - float(power[0])
                ratio = band / n_band / max(flank, 1e-300)
                freedom = 2 * coverage * np.array([n_band, n_flank])
                p = float(scipy.special.fdtrc(max(freedom[0], 2.0), freedom[1], ratio))
                p = min(1.0, p * len(halvings) * len(widths) * 2**h)
                if best is None or (p, -ratio) < (best.p_value, -best.ratio):
                    best = _Test(p, n_band * bin_hz, start, start + size, ratio)
    return best


def _stationarity(line: np.ndarray) -> float:
    """Share of a window that has the power: 1 for steady noise or a tone, less for a burst.

    Power that is not there all the time is correlated over as many bins as the inverse share.
    """
    sizes = np.abs(line)
    # Guard: of a recording without noise, the fourth power is not finite.
    sizes = sizes / max(float(sizes.max()), 1e-300)
    squares = scipy.ndimage.uniform_filter1d(sizes**2, STATIONARITY_STEPS)
    # Derived: the mean square of a mean of exponential variables exceeds 1 by their inverse number.
    spread = 1 + INDEPENDENT / STATIONARITY_STEPS
    fourth = float(np.mean(squares**2))
    return min(1.0, spread * float(np.mean(squares)) ** 2 / max(fourth, 1e-300))


def _half_widths(limit: float) -> list[int]:
    """Half-widths of bands in bins: a lone bin, one beside, and twice as many each time."""
    widths = [0]
    width = 1
    while width <= limit:
        widths.append(width)
        width *= 2
    return widths


def _search(
    phasors: np.ndarray, weights: np.ndarray, step_s: float, within_hz: float,
    shifts_s: np.ndarray | None, *, without_neighbours: bool,
) -> LineSearch | None:  # fmt: skip
    """The whitened baseband, in units of its root mean square; None if there is nothing."""
    unit = weighted_rms(phasors, weights)
    if len(phasors) < MIN_WINDOW // 2 or not unit > 0:
        return None
    shifts_s = np.zeros(len(phasors)) if shifts_s is None else shifts_s
    return LineSearch(
        phasors / unit, weights, shifts_s, step_s, within_hz, without_neighbours=without_neighbours
    )


def _course_hz(course: LineCourse | None, n: int, step_s: float) -> np.ndarray:
    return np.zeros(n) if course is None else course.offset_hz(step_s * np.arange(n))


def find_neighbours(
    phasors: Complex[np.ndarray, " N"],
    weights: Float[np.ndarray, " N"],
    step_s: float,
    within_hz: float,
    course: LineCourse | None = None,
    shifts_s: Float[np.ndarray, " N"] | None = None,
) -> tuple[Neighbour, ...]:
    """Return the lines beside the tone that are 6 dB stronger, or lone and not much weaker.

    Parameters
    ----------
    phasors : ndarray, shape (N,)
        Baseband of one channel, by `Baseband`.
    weights : ndarray, shape (N,)
        Weight of every step, 0 in gaps.
    step_s : float
        Time between two steps.
    within_hz : float
        The baseband's; lines count up to `baseband.PASS` times as far away.
    course : LineCourse, optional
        Where the tone is; at its nominal frequency by default.
    shifts_s : ndarray, shape (N,), optional
        `Baseband.shifts_s`; 0 by default.

    Returns
    -------
    tuple of Neighbour
        The strongest one first.
    """
    search = _search(phasors, weights, step_s, within_hz, shifts_s, without_neighbours=False)
    if search is None:
        return ()
    n, hz = len(phasors), _course_hz(course, len(phasors), step_s)
    moves = course is not None and course.kind == "course"
    window = search.coherence(hz) if moves else n
    limit_hz = min(PASS * within_hz, 0.5 / step_s)
    separation = separate_lines(search, hz, window, limit_hz, least_ratio=10 ** (LONE_DB / 10))
    # Whitening changed all levels; the powers are those before.
    tone = _mean_power(separation.tone, search.weights)
    tone *= float(np.mean(search.floor.unshaped(hz)))
    unit, neighbours = weighted_rms(phasors, weights), []
    for line in separation.distinct_lines():
        is_on = line.is_on & (search.weights > 0)
        # A course that leaves the baseband was fitted to nothing.
        if not np.abs(np.median(line.hz[is_on])) <= 0.5 / step_s:
            continue
        power = _mean_power(line.phasors, search.weights * is_on)
        power *= float(np.mean(search.floor.unshaped(line.hz[is_on])))
        level_db = float(10 * np.log10(max(power, 1e-300) / max(tone, 1e-300)))
        is_lone = level_db >= LONE_DB and not moves and _is_lone(line, separation, hz)
        if level_db >= NEIGHBOUR_DB or is_lone:
            offset_hz = float(np.median(line.hz[is_on]))
            own = _course_about(line, offset_hz, step_s, within_hz)
            neighbours.append(Neighbour(offset_hz, float(np.sqrt(power)) * unit, level_db, own))
    return tuple(sorted(neighbours, key=lambda neighbour: -neighbour.level_db))


def _is_lone(line: SeparateLine, separation: Separation, tone_hz: np.ndarray) -> bool:
    """Whether nothing is as far from the tone on the other side."""
    rest = separation.rest
    if line.distance_hz * rest.n * rest.step_s < LONE_BINS:
        return False
    weights = rest.weights * line.is_on
    others = sum(
        (other.phasors for other in separation.lines if other is not line),
        start=rest.phasors - separation.tone,
    )
    mirror = np.exp(-1j * rest.phase(2 * tone_hz - line.hz))
    mean = np.sum(weights * others * mirror)
    mean /= max(float(np.sum(weights)), 1e-300)
    power = _mean_power(line.phasors, weights)
    return bool(np.abs(mean) ** 2 < 10 ** (MIRROR_DB / 10) * power)


def _course_about(
    line: SeparateLine, offset_hz: float, step_s: float, within_hz: float
) -> LineCourse:
    """The course of a line, relative to its frequency."""
    steps_hz = line.hz - offset_hz
    return LineCourse(
        step_s, within_hz, steps_hz, "course" if steps_hz.any() else "nominal", True,
        float(np.exp(-line.score)), line.is_on, line.std_hz,
    )  # fmt: skip


def _mean_power(phasors: np.ndarray, weights: np.ndarray) -> float:
    return float(np.sum(weights * np.abs(phasors) ** 2) / max(float(np.sum(weights)), 1e-300))
