"""The table of classical extractors: a new one is listed here, and that is all."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence

from tonesieve.errors import UserError
from tonesieve.extractors.filters.bandpass import Butterworth, FftMask, ZeroPhaseButterworth
from tonesieve.extractors.filters.base import RandomBaseline, ToneFilter, ZeroBaseline, check
from tonesieve.extractors.filters.baseband import AdaptiveWiener, LockIn
from tonesieve.extractors.filters.kalman import (
    FrequencyTrackingKalman,
    OscillatorKalman,
)
from tonesieve.extractors.filters.least_squares import HarmonicLeastSquares

FILTERS: dict[str, type[ToneFilter]] = {
    "tracker": FrequencyTrackingKalman,
    "kalman": OscillatorKalman,
    "least-squares": HarmonicLeastSquares,
    "least-squares-growing": HarmonicLeastSquares,
    "lock-in": LockIn,
    "butterworth": Butterworth,
    "zero-phase": ZeroPhaseButterworth,
    "fft-mask": FftMask,
    "wiener": AdaptiveWiener,
    "mean": ZeroBaseline,
    "random": RandomBaseline,
}
# What a name sets beyond its class's own defaults.
_SET: dict[str, dict[str, float]] = {"least-squares-growing": {"window_s": float("inf")}}


def is_filter(name: str) -> bool:
    """Whether a word names a classical extractor, knobs or not."""
    return name.partition(":")[0] in FILTERS


def build_filter(
    name: str, frequencies_hz: Sequence[float], rate_hz: float, *, gain: complex = 1.0
) -> ToneFilter:
    """The classical extractor of that name; ``NAME:knob=value,knob=value`` sets its knobs.

    Raises `UserError` for a name, knob or value that there is not.

    Example:
        >>> build_filter("lock-in:time_s=0.5", [50.0], 1000.0).delay
        2000
    """
    word, _, given = name.partition(":")
    if word not in FILTERS:
        close = difflib.get_close_matches(word, FILTERS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(FILTERS)}"
        raise UserError(f"{word}: no such filter; {hint}")
    knobs = {**_SET.get(word, {}), **_knobs(word, given)}
    try:
        tones = tuple(float(f) for f in frequencies_hz)
        return FILTERS[word](tones, float(rate_hz), complex(gain), **knobs)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def parameters_of(name: str) -> list[str]:
    """The knobs that a classical extractor has."""
    own = {field.name for field in dataclasses.fields(ToneFilter)}
    return [field.name for field in dataclasses.fields(FILTERS[name]) if field.name not in own]


def _knobs(word: str, given: str) -> Mapping[str, float]:
    knobs: dict[str, float] = {}
    for setting in given.split(",") if given else []:
        knob, _, value = setting.partition("=")
        if knob not in parameters_of(word):
            there = ", ".join(parameters_of(word)) or "none"
            raise UserError(f"{word}: no knob {knob!r}; there is {there}")
        try:
            number = float(value)
        except ValueError:
            raise UserError(f"{word}: {knob}={value}: not a number") from None
        if number != number:
            raise UserError(f"{word}: {knob}={value}: not a number")
        if knob in ("order", "seed"):
            check(number.is_integer(), f"{word}: {knob}", value, "must be a whole number")
        knobs[knob] = int(number) if knob in ("order", "seed") else number
    return knobs
