"""A recording in, the tone out: by a filter or by a finished run, mostly without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from tonesieve.catalogue import FILTER_NAMES
from tonesieve.extraction import (
    Source,
    SourceFor,
    extract_recording,
    filter_source,
    network_source,
)
from tonesieve.loading import load_compiled, memory_of
from tonesieve.reporting import Reporter


def _source_of(folder: str | Path) -> AbstractContextManager[Source | SourceFor]:
    compiled = load_compiled(folder)
    if compiled is not None:
        config = compiled.config
        return nullcontext(network_source(compiled, config.data, memory_of(config), str(folder)))
    from tonesieve.runs import source_of  # PyTorch is for what the compiled core does not know

    return source_of(folder)


def extract(
    recording: str | Path,
    hz: Sequence[float] = (),
    *,
    with_: str | Path = FILTER_NAMES[0],
    causal: bool = False,
    column: str | None = None,
    rate_hz: float | None = None,
    band_hz: tuple[float, float] | None = None,
    out: str | Path | None = None,
    force: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """A recording in, the tone out, in the input's format, rate and length.

    ``with_`` is a run directory or a filter (`build_filter`), by default a bank of oscillators in
    a Kalman filter; the rest as in `extract_recording`.
    """
    at_work: AbstractContextManager[Source | SourceFor]
    if Path(with_).is_dir():
        at_work = _source_of(with_)
    else:
        at_work = nullcontext(filter_source(str(with_), hz))
    with at_work as source:
        return extract_recording(
            recording,
            source,
            hz,
            causal=causal,
            column=column,
            rate_hz=rate_hz,
            band_hz=band_hz,
            out=out,
            force=force,
            reporter=reporter,
        )
