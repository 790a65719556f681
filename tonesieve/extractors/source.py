"""An extractor by its name, with what it was made for; and which of its tones are wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pydantic import ValidationError

from tonesieve.config.config import DataSettings
from tonesieve.config.presets import PRETRAINED
from tonesieve.errors import UserError
from tonesieve.extractors.filters.registry import (
    FILTERS,
    build_filter,
    is_filter,
    parse_parameters,
)
from tonesieve.extractors.pretrained.comb_extractor import CombExtractor
from tonesieve.extractors.pretrained.extractor import PretrainedExtractor
from tonesieve.extractors.pretrained.recording_smoother import PretrainedSmoother
from tonesieve.extractors.protocol import BlockSmoother, Extractor
from tonesieve.signals.baseband import check_within
from tonesieve.signals.comb import Comb, comb_tones, is_same, parse_harmonics, parse_orders
from tonesieve.signals.signal_model import tone_gain

# Derived: in samples, longer than any recording; the memory of what grows without a bound.
UNBOUNDED_MEMORY = 10**12


@dataclass(frozen=True)
class Source:
    """An extractor and the signals that it was made for.

    Parameters
    ----------
    extractor : Extractor
        What estimates the tones.
    data : DataSettings
        The signals that it was made for, their rate and tones.
    memory_samples : int
        Samples of the past that an estimate can rest on.
    name : str
        As users name it, for messages.
    linear : bool, default=False
        Whether samples of any scale serve as they are; otherwise they are standardised.
    unit : float, optional
        The unit of its training's recording; its input is divided by it.
    handles_nan : bool, default=False
        Whether NaN is a gap to it; otherwise gaps are filled with a forecast first.
    smoother : BlockSmoother, optional
        The extractor's own way to join past and future; without one it runs in both directions.
    combs : tuple of Comb, default=()
        Tones that share a frequency.
    """

    extractor: Extractor
    data: DataSettings
    memory_samples: int
    name: str
    linear: bool = False
    unit: float | None = None
    handles_nan: bool = False
    smoother: BlockSmoother | None = None
    combs: tuple[Comb, ...] = ()

    @cached_property
    def gain(self) -> float:
        """Amplitude in the mixture of a tone that the extractor outputs with amplitude 1."""
        return tone_gain(self.data)

    @property
    def frequencies_hz(self) -> tuple[float, ...]:
        """Nominal frequencies of its K tones."""
        return self.data.frequencies_hz


def network_source(
    extractor: Extractor, data: DataSettings, memory_samples: int, name: str
) -> Source:
    """Describe a trained network as a source.

    Parameters
    ----------
    extractor : Extractor
        The network.
    data : DataSettings
        The signals of its training. One that was trained in a recording's noise takes its input in
        that recording's unit.
    memory_samples : int
        Samples of the past that an estimate can rest on.
    name : str
        As users name it.

    Returns
    -------
    Source
        The network and its signals.
    """
    unit = None if data.background is None else data.background.unit
    return Source(extractor, data, memory_samples, name, unit is not None, unit)


# Filters are made for the recording or stream at hand: rate in Hz, and whose rate that is.
SourceFactory = Callable[[float, str], Source]


def make_source(
    name: str,
    hz: Sequence[float],
    *,
    within_hz: float | None = None,
    harmonics: int | str | None = None,
    orders: str | Sequence[float] | None = None,
) -> SourceFactory:
    """Choose the pretrained extractor or a classical filter for some tones.

    Parameters
    ----------
    name : str
        ``pretrained`` or the name of a filter, with parameters as ``NAME:parameter=value``.
    hz : sequence of float
        Nominal frequencies in Hz; one that is given twice is one tone.
    within_hz : float, optional
        Largest offset of a tone from its nominal frequency, for the pretrained extractor.
    harmonics : int or str, optional
        The multiples 2, 3, ... of each frequency up to this one are tones too; ``all``: up to half
        the rate.
    orders : str or sequence of float, optional
        The multiples that are tones, in place of all from 1 on.

    Returns
    -------
    callable
        Takes a sampling rate in Hz and whose rate it is (for messages), and returns the `Source`.
        It raises `UserError` for tones at or above half the rate, and for parameters that do not
        fit.

    Raises
    ------
    UserError
        If there is no such extractor, or no tone.

    Examples
    --------
    >>> make_source("tracker", [50.0])(1000.0, "my sensor").frequencies_hz
    (50.0,)
    """
    if not is_filter(name) and name.partition(":")[0] != PRETRAINED:
        raise UserError(
            f"--with {name}: neither a run directory, nor {PRETRAINED}, nor a filter; filters are "
            f"{', '.join(FILTERS)}"
        )
    if not hz:
        raise UserError(f"--hz: name the tone in Hz; {name} has none of its own")
    highest, multiples = parse_harmonics(harmonics), parse_orders(orders)

    def build(rate_hz: float, whose: str) -> Source:
        for f in hz:
            if not 0 < f < rate_hz / 2:
                raise UserError(
                    f"--hz {f:g}: must be above 0 and below {rate_hz / 2:g} Hz, half the rate of "
                    f"{whose}"
                )
        tones, combs = comb_tones(hz, rate_hz, highest, multiples)
        try:
            data = DataSettings(
                frequencies_hz=tones,
                rate_hz=rate_hz,
                duration_s=max(1000 / rate_hz, 1 / min(tones)),
                regime="free",
                phase_scale=0.0,
                amplitude_range=(1.0, 1.0),
            )
        except ValidationError:
            raise UserError(
                f"--hz {min(tones):g}: at {rate_hz:g} Hz, the rate of {whose}, a period may have "
                "1e8 samples and take 1e12 s, and the rate itself be 1e12 Hz, at most"
            ) from None
        extractor: Extractor
        smoother: BlockSmoother | None = None
        if name.partition(":")[0] == PRETRAINED:
            made = _pretrained(name, tones, rate_hz, tone_gain(data), within_hz)
            smoother = PretrainedSmoother(made, combs)
            extractor = made
            if combs and all(comb.is_stated for comb in combs) and made.ahead_s is None:
                extractor = CombExtractor(
                    tones, rate_hz, made.gain, combs, weights=made.weights, within_hz=within_hz
                )
        else:
            extractor = build_filter(name, tones, rate_hz, gain=tone_gain(data))
        memory = extractor.delay or UNBOUNDED_MEMORY
        return Source(
            extractor, data, memory, name, linear=True, handles_nan=True, smoother=smoother,
            combs=combs,
        )  # fmt: skip

    return build


def _pretrained(
    name: str, tones: tuple[float, ...], rate_hz: float, gain: float, within_hz: float | None
) -> PretrainedExtractor:
    given = parse_parameters(name, ("weights", "ahead_s"))
    check_within(tones, within_hz)
    try:
        ahead_s = float(given["ahead_s"]) if "ahead_s" in given else None
    except ValueError:
        raise UserError(f"{PRETRAINED}: ahead_s={given['ahead_s']}: not a number") from None
    return PretrainedExtractor(
        tones, rate_hz, gain, weights=given.get("weights", ""), ahead_s=ahead_s,
        within_hz=within_hz,
    )  # fmt: skip


def choose_tones(source: Source, hz: Sequence[float]) -> list[int]:
    """Find the wanted tones among those of a source.

    Parameters
    ----------
    source : Source
        The extractor.
    hz : sequence of float
        Nominal frequencies in Hz; none: all that the source has.

    Returns
    -------
    list of int
        Indices into the source's tones, in the order of ``hz``; a tone that is given twice is one.

    Raises
    ------
    UserError
        If the source has no such tone.
    """
    available = source.frequencies_hz
    if not hz:
        return list(range(len(available)))
    unknown = [f for f in hz if not any(is_same(f, g) for g in available)]
    if unknown:
        listed = ", ".join(f"{f:g}" for f in available)
        raise UserError(f"--hz {unknown[0]:g}: {source.name} knows {listed} Hz; choose among these")
    nearest = [int(np.argmin([abs(f - g) for g in available])) for f in hz]
    return list(dict.fromkeys(nearest))
