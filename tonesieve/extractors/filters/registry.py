"""The table of classical extractors: a new one is listed here, and that is all."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence

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
_PRESETS: dict[str, dict[str, float]] = {"least-squares-growing": {"window_s": float("inf")}}
# Earlier names of parameters, which keep working.
_ALIASES = {"pull_hz": "max_pull_hz"}
_WHOLE_NUMBERS = ("order", "seed")


def is_filter(name: str) -> bool:
    """Whether a word denotes a classical extractor, with parameters or without.

    Parameters
    ----------
    name : str
        A word of the command line, such as ``lock-in:time_s=0.5``.

    Returns
    -------
    bool
        True where `build_filter` knows what precedes the colon.
    """
    return name.partition(":")[0] in FILTERS


def build_filter(
    name: str, frequencies_hz: Sequence[float], rate_hz: float, *, gain: complex = 1.0
) -> ToneFilter:
    """Build the classical extractor of that name.

    Parameters
    ----------
    name : str
        A key of `FILTERS`, or ``NAME:parameter=value,parameter=value``.
    frequencies_hz : sequence of float
        Nominal frequencies of the tones.
    rate_hz : float
        Sampling rate.
    gain : complex
        As of `ToneFilter`.

    Returns
    -------
    ToneFilter
        The filter.

    Raises
    ------
    UserError
        For a name, parameter or value that does not exist.

    Examples
    --------
    >>> build_filter("lock-in:time_s=0.5", [50.0], 1000.0).delay
    1500
    """
    word = name.partition(":")[0]
    if word not in FILTERS:
        close = difflib.get_close_matches(word, FILTERS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(FILTERS)}"
        raise UserError(f"{word}: no such filter; {hint}")
    parameters = {**_PRESETS.get(word, {}), **_numbers(name)}
    try:
        tones = tuple(float(f) for f in frequencies_hz)
        return FILTERS[word](tones, float(rate_hz), complex(gain), **parameters)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def parameters_of(name: str) -> list[str]:
    """List the parameters of a classical extractor.

    Parameters
    ----------
    name : str
        A key of `FILTERS`.

    Returns
    -------
    list of str
        Parameters beyond those of `ToneFilter`.
    """
    common = {field.name for field in dataclasses.fields(ToneFilter)}
    return [field.name for field in dataclasses.fields(FILTERS[name]) if field.name not in common]


def parse_parameters(name: str, known: Sequence[str]) -> dict[str, str]:
    """Split ``NAME:parameter=value,parameter=value`` into its parameters.

    Parameters
    ----------
    name : str
        What the user has written.
    known : sequence of str
        Parameters of the extractor.

    Returns
    -------
    dict of str to str
        Values by parameter, under its present name.

    Raises
    ------
    UserError
        For a parameter that the extractor does not have.
    """
    word, _, text = name.partition(":")
    values = {}
    for setting in text.split(",") if text else []:
        given, _, value = setting.partition("=")
        parameter = given if given in known else _ALIASES.get(given, given)
        if parameter not in known:
            there = ", ".join(known) or "none"
            raise UserError(f"{word}: no parameter {given!r}; there is {there}")
        values[parameter] = value
    return values


def _numbers(name: str) -> dict[str, float]:
    word = name.partition(":")[0]
    numbers: dict[str, float] = {}
    for parameter, value in parse_parameters(name, parameters_of(word)).items():
        try:
            number = float(value)
        except ValueError:
            raise UserError(f"{word}: {parameter}={value}: not a number") from None
        if number != number:
            raise UserError(f"{word}: {parameter}={value}: not a number")
        is_whole = parameter in _WHOLE_NUMBERS
        if is_whole:
            check(number.is_integer(), f"{word}: {parameter}", value, "must be a whole number")
        numbers[parameter] = int(number) if is_whole else number
    return numbers
