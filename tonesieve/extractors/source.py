"""What takes tones out of a signal: a filter by its name, and which of its tones are wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pydantic import ValidationError

from tonesieve.config.config import DataSettings
from tonesieve.config.presets import PRETRAINED
from tonesieve.errors import UserError
from tonesieve.extractors.filters.base import ToneFilter
from tonesieve.extractors.filters.registry import (
    FILTERS,
    build_filter,
    is_filter,
    parse_parameters,
)
from tonesieve.extractors.pretrained.extractor import PretrainedExtractor
from tonesieve.extractors.protocol import Extractor
from tonesieve.signals.signal_model import tone_gain


@dataclass(frozen=True)
class Source:
    """An extractor and the signals that it was made for."""

    extractor: Extractor
    data: DataSettings
    memory_samples: int  # how far back it can have learned to look
    name: str
    linear: bool = False  # any scale will do: the signal is taken as it is, or
    unit: float | None = None  # at this scale, where it is known
    handles_nan: bool = False  # NaN is a gap to it; what has learned of none hears the forecast

    @cached_property
    def gain(self) -> float:
        """What one of its answers is in the mixture that it hears."""
        return tone_gain(self.data)

    @property
    def frequencies_hz(self) -> tuple[float, ...]:
        """Its tones."""
        return self.data.frequencies_hz


def network_source(
    extractor: Extractor, data: DataSettings, memory_samples: int, name: str
) -> Source:
    """A trained network; one that learned in a recording's noise takes it in that one's unit."""
    unit = None if data.background is None else data.background.unit
    return Source(extractor, data, memory_samples, name, unit is not None, unit)


# Filters are made for the recording or stream at hand.
SourceFactory = Callable[[float, str], Source]


def make_source(name: str, hz: Sequence[float]) -> SourceFactory:
    """The pretrained or classical extractor ``name`` for tones at ``hz``, at a recording's rate.

    Raises `UserError` where no tone is named, and, once the rate is known, for tones at or
    above half of it and for knobs that do not fit.
    """
    if not is_filter(name) and name.partition(":")[0] != PRETRAINED:
        raise UserError(
            f"--with {name}: neither a run directory, nor {PRETRAINED}, nor a filter; filters are "
            f"{', '.join(FILTERS)}"
        )
    if not hz:
        raise UserError(f"--hz: name the tone in Hz; {name} knows none by itself")

    def build(rate_hz: float, whose: str) -> Source:
        for f in hz:
            if not 0 < f < rate_hz / 2:
                raise UserError(
                    f"--hz {f:g}: must be above 0 and below {rate_hz / 2:g} Hz, half the rate of "
                    f"{whose}"
                )
        tones: tuple[float, ...] = ()
        for f in map(float, hz):
            if not any(_same(f, tone) for tone in tones):
                tones += (f,)
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
        extractor = _built(name, tones, rate_hz, tone_gain(data))
        memory = extractor.delay or 10**12
        return Source(extractor, data, memory, name, linear=True, handles_nan=True)

    return build


def _built(name: str, tones: tuple[float, ...], rate_hz: float, gain: float) -> ToneFilter:
    word = name.partition(":")[0]
    if word != PRETRAINED:
        return build_filter(name, tones, rate_hz, gain=gain)
    given = parse_parameters(name, ("weights", "ahead_s"))
    try:
        ahead_s = float(given["ahead_s"]) if "ahead_s" in given else None
    except ValueError:
        raise UserError(f"{word}: ahead_s={given['ahead_s']}: not a number") from None
    return PretrainedExtractor(
        tones, rate_hz, gain, weights=given.get("weights", ""), ahead_s=ahead_s
    )


def choose_tones(source: Source, hz: Sequence[float]) -> list[int]:
    """Which of a source's tones these are; all of them where none is named."""
    known = source.frequencies_hz
    if not hz:
        return list(range(len(known)))
    unknown = [f for f in hz if not any(_same(f, g) for g in known)]
    if unknown:
        names = ", ".join(f"{f:g}" for f in known)
        raise UserError(f"--hz {unknown[0]:g}: {source.name} knows {names} Hz; choose among these")
    nearest = [int(np.argmin([abs(f - g) for g in known])) for f in hz]
    return list(dict.fromkeys(nearest))  # a tone asked for twice is one tone


def _same(one_hz: float, other_hz: float) -> bool:
    """Whether two frequencies are two ways to write one."""
    return bool(np.isclose(one_hz, other_hz, rtol=1e-6, atol=0))
