"""Tones of an array of samples, of one channel or of several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from tonesieve.commands.extract import named_or_found, source_at
from tonesieve.config.presets import PRETRAINED
from tonesieve.extractors.source import Source, choose_tones
from tonesieve.recordings.reader import check_rate
from tonesieve.recordings.recording import from_array
from tonesieve.util.number_rows import number_rows


class Extracted(NamedTuple):
    """Tones of an array of samples.

    Attributes
    ----------
    tones : ndarray, shape (T, K) or (C, T, K)
        One column a tone, in the samples' unit; of one row of samples, or of several.
    bands : ndarray, shape (T, K) or (C, T, K), or None
        Half-widths of their 90% bands, where the extractor gives them.
    lines : list of ToneLine, or list of list of ToneLine
        Of each tone whether its line is there, and its frequency over time; of several rows of
        samples, a list for each row.
    """

    tones: Float[np.ndarray, "*C T K"]
    bands: Float[np.ndarray, "*C T K"] | None
    lines: list[Any]


def pull(
    samples: Float[np.ndarray, "*C T"],
    rate_hz: float,
    hz: float | Sequence[float] | str,
    *,
    with_: str | Path = PRETRAINED,
    harmonics: int | str | None = None,
    orders: str | Sequence[float] | None = None,
    within_hz: float | None = None,
    causal: bool = False,
    channels: str = "auto",
) -> Extracted:
    """Extract tones from an array of samples.

    Parameters
    ----------
    samples : ndarray, shape (T,) or (C, T)
        The mixture, in any unit, or that of C channels; NaN is a gap.
    rate_hz : float
        Samples a second.
    hz : float, sequence of float or "auto"
        Nominal frequencies of the K tones in Hz; or the strongest comb with its multiples, by
        `find`.
    with_ : str or path, default="pretrained"
        The pretrained extractor (with a look-ahead of 2 s: ``pretrained:ahead_s=2``), a filter by
        its name, or a run directory.
    harmonics : int or str, optional
        The multiples 2, 3, ... of each frequency up to this one are tones too, and share their
        frequency with it; ``all``: up to half the rate.
    orders : str or sequence of float, optional
        The multiples that are tones, in place of all from 1 on: ``"0.5,1,2.5"``.
    within_hz : float, optional
        Largest offset of a tone from its nominal frequency in Hz, in which its line is searched; at
        most a quarter of the frequency. By default 3.5% of it, but at least 3 over the duration.
    causal : bool, default=False
        Whether an estimate rests on no later sample than its own; otherwise all samples serve, and
        the default replaces clipped ones by their expectation.
    channels : {"auto", "together", "apart"}, default="auto"
        Whether channels share the course of a tone, and are estimated together (by the default,
        from all samples): those of which a test says so, all, or none.

    Returns
    -------
    Extracted
        Tones, the half-widths of their 90% bands, and their lines.

    Raises
    ------
    UserError
        If a frequency is not between 0 and half the rate, or the samples are no row of numbers,
        or rows of one length.

    Examples
    --------
    >>> import numpy as np
    >>> import tonesieve
    >>> samples = 3 + np.sin(2 * np.pi * 50 * np.arange(1000) / 1000)
    >>> tones, bands, lines = tonesieve.pull(samples, 1000.0, 50.0)
    >>> tones.shape
    (1000, 1)
    """
    from tonesieve.extraction.pipeline import pull_channels  # streams need none

    rows = number_rows(samples, "samples", several=True)
    if isinstance(hz, str):
        check_rate(Path("samples"), rate_hz, whose="rate_hz")
        hz, orders = named_or_found(
            hz, with_, harmonics, orders, lambda: from_array(rows, float(rate_hz))
        )
    tones = number_rows([hz] if np.ndim(hz) == 0 else hz, "hz").tolist()
    (rate,) = number_rows([rate_hz], "rate_hz").tolist()
    check_rate(Path("samples"), rate, whose="rate_hz")
    with source_at(with_, tones, within_hz, harmonics, orders) as made:
        source = made if isinstance(made, Source) else made(rate, "the samples")
        is_comb = harmonics is not None or orders is not None
        chosen = choose_tones(source, () if is_comb else tones)
        tones_out, bands, lines = pull_channels(
            np.atleast_2d(rows), rate, source, chosen, causal=causal, within_hz=within_hz,
            channels=channels,
        )  # fmt: skip
    if rows.ndim == 1:
        return Extracted(tones_out[0], None if bands is None else bands[0], lines[0])
    return Extracted(tones_out, bands, lines)
