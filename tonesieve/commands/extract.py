"""A recording or a live stream in, the tone out: by a filter or a run, mostly without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from tonesieve.commands.line_stream import SAVE_EVERY_S, LslSource, feed_of, run_stream
from tonesieve.config.presets import PRETRAINED
from tonesieve.errors import UserError
from tonesieve.extractors.source import (
    Source,
    SourceFactory,
    choose_tones,
    make_source,
    network_source,
)
from tonesieve.extractors.streaming import Stream
from tonesieve.recordings.reader import check_rate
from tonesieve.util.progress import Reporter


def source_at(
    with_: str | Path, hz: Sequence[float]
) -> AbstractContextManager[Source | SourceFactory]:
    """A run's extractor, or the filter of that name for the tones at ``hz``."""
    if not Path(with_).is_dir():
        return nullcontext(make_source(str(with_), hz))
    from tonesieve.inference.run_directory import (  # filters begin without
        load_compiled,
        memory_samples,
    )

    compiled = load_compiled(with_)
    if compiled is not None:
        config = compiled.config
        memory = memory_samples(config)
        return nullcontext(network_source(compiled, config.data, memory, str(with_)))
    from tonesieve.commands.run_files import (
        source_of,  # PyTorch is for what the compiled core does not know
    )

    return source_of(with_)


def extract(
    recording: str | Path,
    hz: Sequence[float] = (),
    *,
    with_: str | Path = PRETRAINED,
    causal: bool = False,
    columns: Sequence[str] = (),
    rate_hz: float | None = None,
    time: str | None = None,
    band_hz: tuple[float, float] | None = None,
    remove: bool = False,
    full: bool = False,
    picture: bool = False,
    out: str | Path | None = None,
    force: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """A recording in, the tone out, in the input's format, rate and length.

    ``with_`` is by default the pretrained extractor that comes with the package (its look-ahead,
    where not the whole recording may count: ``pretrained:ahead_s=2``), else a run directory or a
    filter (`build_filter`); the rest as in `extract_recording`.
    """
    from tonesieve.extraction.pipeline import extract_recording  # streams begin without

    with source_at(with_, hz) as source:
        return extract_recording(
            recording,
            source,
            hz,
            causal=causal,
            columns=columns,
            rate_hz=rate_hz,
            time=time,
            band_hz=band_hz,
            remove=remove,
            full=full,
            picture=picture,
            out=out,
            force=force,
            reporter=reporter,
        )


class Extracted(NamedTuple):
    """Tones out of an array of samples."""

    tones: Float[np.ndarray, "T K"]
    bands: Float[np.ndarray, "T K"] | None  # half-widths (90%), where the extractor tells them


def pull(
    samples: Float[np.ndarray, " T"],
    rate_hz: float,
    hz: float | Sequence[float],
    *,
    with_: str | Path = PRETRAINED,
    causal: bool = False,
) -> Extracted:
    """Tones near ``hz`` out of samples at hand, in their unit; NaN is a gap.

    ``with_`` and ``causal`` as in `extract`. Raises `UserError` for a frequency that is not between
    0 and half the rate, and for samples that are no single row of numbers.

    Example:
        tones, bands = tonesieve.pull(samples, 1000.0, 50.0)
    """
    from tonesieve.extraction.pipeline import pull_array  # streams begin without

    row = _row(samples, "samples")
    tones = _row([hz] if np.ndim(hz) == 0 else hz, "hz").tolist()
    (rate,) = _row([rate_hz], "rate_hz").tolist()
    check_rate(Path("samples"), rate, whose="rate_hz")
    with source_at(with_, tones) as found:
        source = found if isinstance(found, Source) else found(rate, "the samples")
        return Extracted(*pull_array(row, rate, source, choose_tones(source, tones), causal=causal))


def _row(given: Any, name: str) -> Float[np.ndarray, " T"]:
    """A single row of numbers, from a list of them too."""
    try:
        row = np.asarray(given)
    except ValueError:  # lists of several lengths
        row = np.empty(0, dtype=object)
    if row.ndim != 1 or row.dtype.kind not in "biuf":
        raise UserError(
            f"{name} of shape {row.shape} and type {row.dtype}: must be a single row of numbers"
        )
    return row.astype(float)


def stream(
    hz: Sequence[float] = (),
    *,
    rate_hz: float | None = None,
    with_: str | Path = PRETRAINED,
    channels: int = 1,
    from_: str = "-",
    state: str | Path | None = None,
    save_every_s: float = SAVE_EVERY_S,
    remove: bool = False,
    full: bool = False,
) -> dict[str, Any]:
    """Numbers in on standard input (or a socket), estimates out on standard output, one for one.

    A line holds a number a channel; a line that does not is a gap, named on standard error and
    answered by the forecast. ``hz`` are the tones (of a run: all that it knows), ``with_`` as in
    `extract`, ``from_`` and ``state`` as in `run_stream`. Answers counts, once the input ends.

    For samples at hand use `tonesieve.extractors.streaming.Stream`.
    """
    if channels < 1:
        raise UserError(f"--channels {channels}: must be 1 or more")
    if remove and full:
        raise UserError("--full: tells of the tones; leave --remove away")
    check_rate(Path("stream"), rate_hz)
    with source_at(with_, hz) as found, feed_of(from_, channels) as feed:
        if rate_hz is None and isinstance(feed, LslSource) and feed.rate_hz > 0:
            rate_hz = feed.rate_hz
        if isinstance(found, Source):
            source = found
        elif rate_hz is None:
            raise UserError("--rate: give the samples per second of the stream")
        else:
            source = found(rate_hz, "the stream")
        if rate_hz not in (None, source.data.rate_hz):
            raise UserError(
                f"--rate {rate_hz:g}: {source.name} was trained at {source.data.rate_hz:g} Hz; "
                "bring the stream to that rate first"
            )
        live = Stream(source, channels)
        if full and not live.is_detailed:
            raise UserError(f"--full: {source.name} tells no more than the tone in a stream")
        return run_stream(
            live,
            feed,
            state=None if state is None else Path(state),
            chosen=choose_tones(source, hz),
            remove=remove,
            full=full,
            save_every_s=save_every_s,
        )
