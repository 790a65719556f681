"""The course that the lines of several channels share, where a test says that they do.

The common course is found on the basebands of all channels together, each with a constant phase of
its own (`comb_course`). A channel in which a line is found shares it if the evidence along the
common course is no less than that along the channel's own, less the cost of the latter's
parameters. Channels that do not are left out, and the common course is found again on the rest. It
holds if its evidence, less its cost, is at least that of the own courses together: the logarithm of
a Bayes factor, in which one course costs the parameters of one.

Axes: C channels, H lines of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from tonesieve.signals.comb_course import CombSearch, HarmonicBaseband, ScoredCourse
from tonesieve.signals.line_course import LineCourse

# Guard, of time: searches of a common course at most; each but the first leaves channels out.
MAX_ROUNDS = 8


class SharedCourse(NamedTuple):
    """The course that some channels share.

    Parameters
    ----------
    channels : tuple of int
        Indices of the channels that share it.
    log_evidence : float
        Logarithm of the Bayes factor of one course for these channels over one for each.
    courses : dict
        Of each of them the courses of its H lines.
    """

    channels: tuple[int, ...]
    log_evidence: float
    courses: dict[int, list[LineCourse]]


def share_course(
    channels: Sequence[Sequence[HarmonicBaseband]],
    *,
    is_certain: bool = False,
    is_stated: bool = True,
) -> SharedCourse | None:
    """Find the channels that share a course, and the course.

    Parameters
    ----------
    channels : sequence of sequence of HarmonicBaseband
        Of each of C channels the H basebands.
    is_certain : bool, default False
        Whether all channels share one course, whatever the test says.
    is_stated : bool, default True
        Whether it is certain that the H lines of a channel share a course.

    Returns
    -------
    SharedCourse or None
        None where fewer than two channels share one.
    """
    lines = [line for channel in channels for line in channel]
    whole = CombSearch.of(lines)
    channel_of = [c for c, channel in enumerate(channels) for _ in channel]
    own = _own_courses(whole, channel_of)
    if len(own) < 2:
        return None
    members = set(own)
    for _ in range(MAX_ROUNDS):
        search = _restricted(whole, channel_of, members)
        common = search.found()
        if is_certain:
            break
        if not common.course.found:
            return None
        others = {c for c in members if _disagrees(whole, channel_of, c, own[c], common)}
        if not others:
            break
        # One channel that outweighs the others, and has its own course, is left out instead.
        agree = members - others
        strongest = max(members, key=lambda c: own[c].score)
        members = agree if len(agree) > 1 else members - (agree or {strongest})
        if len(members) < 2:
            return None
    else:
        return None
    log_evidence = common.score - sum(own[c].score for c in members)
    if not is_certain and log_evidence < 0:
        return None
    courses = search.courses_of(common.course, lines, is_stated=is_stated)
    by_channel: dict[int, list[LineCourse]] = {c: [] for c in sorted(members)}
    for c, course in zip(channel_of, courses, strict=True):
        if c in members:
            by_channel[c].append(course)
    return SharedCourse(tuple(by_channel), log_evidence, by_channel)


def with_shared(
    courses: Sequence[Sequence[LineCourse]], shared: SharedCourse | None
) -> list[list[LineCourse]]:
    """Replace the courses of the channels that share one.

    Parameters
    ----------
    courses : sequence of sequence of LineCourse
        Of each of C channels the courses of its H lines.
    shared : SharedCourse, optional
        The shared one.

    Returns
    -------
    list of list of LineCourse
        What was found in a channel alone still is its ``p_value``.
    """
    own = [list(channel) for channel in courses]
    for c, common in ({} if shared is None else shared.courses).items():
        own[c] = [
            replace(new, p_value=old.p_value) for new, old in zip(common, own[c], strict=True)
        ]
    return own


def _restricted(whole: CombSearch, channel_of: Sequence[int], members: set[int]) -> CombSearch:
    """The same search in some channels alone."""
    return replace(
        whole, harmonics=[one for one in whole.harmonics if channel_of[one.index] in members]
    )


def _own_courses(whole: CombSearch, channel_of: Sequence[int]) -> dict[int, ScoredCourse]:
    """Of each channel that holds anything its own course."""
    filled = sorted({channel_of[one.index] for one in whole.harmonics})
    return {c: _restricted(whole, channel_of, {c}).found() for c in filled}


def _disagrees(
    whole: CombSearch, channel_of: Sequence[int], c: int, own: ScoredCourse, common: ScoredCourse
) -> bool:
    """Whether a line is found in a channel, and not on the common course."""
    channel = _restricted(whole, channel_of, {c})
    if not own.course.found:
        return False
    return own.score > channel.evidence(common.course) or channel.is_steady_beside(common.course)
