"""Finds the orders of a comb that no search of all bins finds: its places are known.

An order n of a comb lies at n f0. If f0 moves by d, it moves by n d. Its power is read, segment by
segment, at n times the frequency that the known lines have together, so that it stays in one bin
where that frequency is exact enough. A search of all bins pays for every bin; here a place alone is
paid for, at each resolution.

Axes: N places, M segments, D bins beside a place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy
from jaxtyping import Float

from tonesieve.signals.harmonic_grouping import FoundComb
from tonesieve.signals.line_estimates import (
    MIN_P_VALUE,
    WANDER_SIGMA,
    Z90,
    CourseFit,
    SpectralLine,
    fit_course,
    frequency_course,
    relative_stderr,
    segment_stderr,
)
from tonesieve.signals.line_evidence import MAX_PEAK_SEGMENTS, cap_of
from tonesieve.signals.line_shape import RING_STOP, Neighbourhood, has_shoulders
from tonesieve.signals.segment_spectra import (
    LOBE,
    LOWEST_BIN,
    Read,
    Resolution,
    equivalent_noise_bins,
    independent_bins,
    resolutions,
    segment_spectra,
    window_gain,
)
from tonesieve.signals.spectral_lines import FALSE_ALARM_RATE, against_ring

# Guards, of time: combs that are completed, the strongest first, and orders of each.
MAX_COMBS, MAX_ORDERS = 8, 100
# Chosen, not tuned: standard errors of a place, and bins by which it may be wrong at most.
SIGMAS, MAX_ERROR_BINS = 3.0, 1.0
# Chosen, not tuned: what an order moves over f0, at most, where a lone line is taken for it.
MAX_SPREAD = 0.05


@dataclass(frozen=True)
class Course:
    """Frequency of a comb's fundamental over time.

    Parameters
    ----------
    times : ndarray, shape (T,)
        Seconds.
    hz : ndarray, shape (T,)
        The fundamental.
    stderr : float
        Standard error of each value.
    fit : CourseFit, optional
        Its mean and drift; None for a fundamental taken as steady.
    """

    times: Float[np.ndarray, " T"]
    hz: Float[np.ndarray, " T"]
    stderr: float
    fit: CourseFit | None = None


@dataclass(frozen=True)
class _Place:
    """A multiple of a comb's fundamental, at one resolution."""

    comb: int
    order: int
    course: Course


def complete_combs(
    read: Read,
    combs: Sequence[FoundComb],
    sources: Sequence[tuple[SpectralLine, Neighbourhood]],
    n_samples: int,
    rate_hz: float,
    false_alarm_rate: float = FALSE_ALARM_RATE,
) -> list[FoundComb]:
    """Add the orders that are found at multiples of combs' fundamentals.

    Parameters
    ----------
    read : callable
        Takes the first sample and the one after the last, and returns the samples, NaN in gaps.
    combs : sequence of FoundComb
        The strongest first.
    sources : sequence of (SpectralLine, Neighbourhood)
        All lines of the record, as they were estimated and as they were found.
    n_samples : int
        Samples of the record.
    rate_hz : float
        Sampling rate.
    false_alarm_rate : float, default=0.01
        Probability that any order is added where there is noise alone.

    Returns
    -------
    list of FoundComb
        The strongest first.
    """
    plan = resolutions(n_samples)
    combs, courses = _with_wanderers(combs, sources, n_samples, rate_hz)
    lines = [line for line, _ in sources]
    width_hz = equivalent_noise_bins() * rate_hz / plan[0].length
    places = [list(_places(combs, courses, lines, one, rate_hz, width_hz)) for one in plan]
    n_tests = sum(map(len, places))
    found: dict[tuple[int, int], list[SpectralLine]] = {}
    for resolution, mine in zip(plan, places, strict=True):
        for powers in _powers(read, resolution, mine, rate_hz):
            line = _tested(powers, resolution, n_tests, rate_hz)
            if line is not None and line.p_value <= false_alarm_rate:
                found.setdefault((powers.place.comb, powers.place.order), []).append(line)
    added = {key: min(own, key=lambda line: line.p_value) for key, own in found.items()}
    apart = _apart(added)
    completed = [
        _with(
            comb,
            {n: line for (at, n), line in apart.items() if at == c},
            courses[c : c + 1],
            width_hz,
        )
        for c, comb in enumerate(combs)
    ]
    return sorted(completed, key=lambda comb: -comb.power)


def _apart(added: dict[tuple[int, int], SpectralLine]) -> dict[tuple[int, int], SpectralLine]:
    """Of lines that two combs have in common, those of the stronger comb."""
    kept: dict[tuple[int, int], SpectralLine] = {}
    for key in sorted(added):
        line = added[key]
        near = (
            abs(one.hz - line.hz) / max(one.resolution_hz, line.resolution_hz)
            for one in kept.values()
        )
        if all(bins > LOBE + 1 for bins in near):
            kept[key] = line
    return kept


def _with_wanderers(
    combs: Sequence[FoundComb],
    sources: Sequence[tuple[SpectralLine, Neighbourhood]],
    n_samples: int,
    rate_hz: float,
) -> tuple[list[FoundComb], list[Course]]:
    """The combs with lone lines that wander with them, and the courses of the strongest.

    Where f0 wanders, what one peak shows is one of many frequencies that an order has.
    """
    combs = list(combs)
    courses: list[Course] = []
    while len(courses) < min(MAX_COMBS, len(combs)):
        c = len(courses)
        courses.append(_course(combs[c], sources, n_samples, rate_hz))
        fit = courses[c].fit
        if fit is None or len(combs[c].lines) == 1:
            continue
        orders = dict(zip(combs[c].orders, combs[c].lines, strict=True))
        for other in combs[c + 1 :]:
            order = round(other.f0_hz / combs[c].f0_hz)
            if len(other.lines) > 1 or order < 1 or order in orders:
                continue
            if _wanders_with(other.lines[0], order, fit):
                orders[order] = other.lines[0]
        own = tuple(sorted(orders))
        lines = tuple(orders[n] for n in own)
        rest = [one for one in combs[c + 1 :] if one.lines[0] not in lines]
        combs[c:] = [replace(combs[c], orders=own, lines=lines), *rest]
    return combs, courses


def _wanders_with(line: SpectralLine, order: int, fit: CourseFit) -> bool:
    low, high = order * fit.lowest, order * fit.highest
    spread = high - low
    if spread < line.resolution_hz or spread > MAX_SPREAD * fit.mean or not low < line.hz < high:
        return False
    # What has a course of its own moves as far.
    return line.drift_hz is None or line.highest_hz - line.lowest_hz > 0.5 * spread


def _with(
    comb: FoundComb, added: dict[int, SpectralLine], courses: Sequence[Course], width_hz: float
) -> FoundComb:
    lines = dict(zip(comb.orders, comb.lines, strict=True))
    for n, line in added.items():
        lines[n] = line if n not in lines else replace(
            lines[n], amplitude=line.amplitude, amplitude_low=line.amplitude_low,
            amplitude_high=line.amplitude_high, floor=line.floor,
        )  # fmt: skip
    for course in courses:
        lines = {n: _with_course(line, n, course, width_hz) for n, line in lines.items()}
    orders = tuple(sorted(lines))
    chance = comb.chance if len(comb.lines) > 1 else min(
        [line.p_value for line in added.values()], default=comb.chance
    )  # fmt: skip
    return replace(comb, orders=orders, lines=tuple(lines[n] for n in orders), chance=chance)


def _course(
    comb: FoundComb,
    sources: Sequence[tuple[SpectralLine, Neighbourhood]],
    n_samples: int,
    rate_hz: float,
) -> Course:
    """The fundamental over time; a constant where noise alone would move the lines as far."""
    steady = Course(np.zeros(1), np.array([comb.f0_hz]), comb.f0_stderr)
    members = dict(zip(comb.lines, comb.orders, strict=True))
    tracks, weights = [], []
    for line, source in sources:
        course = frequency_course(source, rate_hz) if line in members else None
        if course is None:
            continue
        order = members[line]
        stderr = segment_stderr(source.track or source, rate_hz)
        tracks.append((course[0], course[1] / order))
        weights.append((order / stderr) ** 2)
    if not tracks:
        return steady
    times = max((times for times, _ in tracks), key=len)
    together = np.stack([np.interp(times, *track) for track in tracks])
    hz = np.average(together, axis=0, weights=weights)
    fit = fit_course(times, hz, n_samples / rate_hz)
    stderr = float(sum(weights)) ** -0.5
    drifts = abs(fit.drift_hz) > SIGMAS * fit.drift_stderr
    if not drifts and fit.deviation < WANDER_SIGMA * stderr:
        return steady
    return Course(times, hz, stderr, fit)


def _leaves(course: Course, order: int, width_hz: float) -> bool:
    """Whether an order moves by more than the window is wide, at the finest resolution."""
    fit = course.fit
    return fit is not None and order * (fit.highest - fit.lowest) > width_hz


def _moved_within(course: Course, duration: float) -> float:
    """How far a fundamental moves in a segment: the median over the segments."""
    if len(course.hz) < 2:
        return 0.0
    size = max(1, round(duration / float(np.median(np.diff(course.times)))))
    highest = scipy.ndimage.maximum_filter1d(course.hz, size)
    return float(np.median(highest - scipy.ndimage.minimum_filter1d(course.hz, size)))


def _places(
    combs: Sequence[FoundComb],
    courses: Sequence[Course],
    lines: Sequence[SpectralLine],
    resolution: Resolution,
    rate_hz: float,
    width_hz: float,
) -> Iterator[_Place]:
    """Every place that is exact enough at a resolution, and where no other line is."""
    bin_hz = rate_hz / resolution.length
    for c, course in enumerate(courses):
        own = np.array([line.hz for line in combs[c].lines])
        # Two peaks of one line that moves have one mean.
        taken = np.array([
            line.hz for line in lines if np.all(np.abs(own - line.hz) > line.resolution_hz)
        ])  # fmt: skip
        moved = _moved_within(course, resolution.length / rate_hz)
        for order in range(1, MAX_ORDERS + 1):
            hz = order * combs[c].f0_hz
            if combs[c].f0_hz < 2 * (LOBE + 1) * bin_hz or hz > (resolution.n_bins - 1) * bin_hz:
                break
            is_apart = bool(np.all(np.abs(taken - hz) > (LOBE + 1) * bin_hz))
            # Of a line that moves so far a part alone was found.
            is_known = order in combs[c].orders and not _leaves(course, order, width_hz)
            if is_known or hz < LOWEST_BIN * bin_hz or not is_apart:
                continue
            # In a segment its power stays within the window's width.
            if order * moved > equivalent_noise_bins() * bin_hz:
                break
            if SIGMAS * order * course.stderr <= MAX_ERROR_BINS * bin_hz:
                yield _Place(c, order, course)


@dataclass(frozen=True)
class _PlacePowers:
    """Power over the floor in the segments, in the bins about a place, and the floor.

    `gain` is the mean power of a sine there over that of one in the middle of a bin.
    """

    place: _Place
    ratio: Float[np.ndarray, "M D"]
    floor: Float[np.ndarray, " M"]
    gain: float


def _powers(
    read: Read, resolution: Resolution, places: list[_Place], rate_hz: float
) -> Iterator[_PlacePowers]:
    places = places[: max(1, MAX_PEAK_SEGMENTS // len(resolution.starts))]
    if not places:
        return
    bin_hz, last = rate_hz / resolution.length, resolution.n_bins - 1
    offsets = np.arange(-RING_STOP, RING_STOP + 1)
    ratios, floors, gains = [], [], []
    for segment in segment_spectra(read, resolution):
        middle = (segment.start + resolution.length / 2) / rate_hz
        exact = np.array([
            one.order * np.interp(middle, one.course.times, one.course.hz) for one in places
        ]) / bin_hz  # fmt: skip
        at = np.clip(np.rint(exact).astype(int), 0, last)
        # At the ends of the spectrum the bins are mirrored.
        bins = np.abs(at[:, None] + offsets)
        bins = np.where(bins > last, 2 * last - bins, bins)
        floors.append(segment.floor[at])
        ratio = np.abs(segment.values[bins]) ** 2 / floors[-1][:, None]
        ratios.append(ratio.astype(np.float32))
        gains.append(window_gain(exact - at) ** 2)
    if not ratios:
        return
    stacked, floor, gain = np.array(ratios), np.array(floors), np.mean(gains, axis=0)
    for k, place in enumerate(places):
        yield _PlacePowers(place, stacked[:, k].astype(float), floor[:, k], float(gain[k]))


def _tested(
    one: _PlacePowers, resolution: Resolution, n_tests: int, rate_hz: float
) -> SpectralLine | None:
    """The line at a place; None where what is there has not the shape of a line."""
    m, order, course = len(one.floor), one.place.order, one.place.course
    bin_hz = rate_hz / resolution.length
    mean_hz = order * float(course.hz.mean())
    worth = independent_bins(resolution.n_bins)
    nu = float(worth[min(round(mean_hz / bin_hz), len(worth) - 1)])
    cap = cap_of(m, FALSE_ALARM_RATE / n_tests)
    level, p_value = against_ring(one.ratio, nu, cap)
    if has_shoulders(one.ratio / level):
        return None
    floor = float(one.floor.mean()) * level
    power = one.ratio[:, RING_STOP] * one.floor
    excess = max(float(power.mean()) - floor, 1e-3 * floor)
    amplitude = float(np.sqrt(excess / one.gain))
    error = Z90 * amplitude * relative_stderr(power, excess / floor, m)
    return SpectralLine(
        mean_hz, order * course.stderr, None, None, mean_hz, mean_hz,
        amplitude, max(0.0, amplitude - error), amplitude + error, float(np.sqrt(floor)), bin_hz,
        min(1.0, max(n_tests * p_value, MIN_P_VALUE)), False, True,
    )  # fmt: skip


def _with_course(line: SpectralLine, order: int, course: Course, width_hz: float) -> SpectralLine:
    """A line that shows no course, with that of its comb; it moves if it leaves its bin."""
    fit = course.fit
    if fit is None:
        return line
    low, high = order * fit.lowest, order * fit.highest
    line = replace(line, moves=line.moves or _leaves(course, order, width_hz))
    if line.drift_hz is not None:
        return line
    return replace(
        line, hz_stderr=max(line.hz_stderr, order * fit.mean_stderr),
        drift_hz=order * fit.drift_hz, drift_stderr=order * fit.drift_stderr,
        lowest_hz=min(low, line.hz), highest_hz=max(high, line.hz),
    )  # fmt: skip
