"""Tones of a recording, an array or a live stream: by a filter or a run, mostly without PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from tonesieve.commands.find import AUTO, choose_frequencies, what_to_name
from tonesieve.commands.line_stream import SAVE_EVERY_S, LslSource, open_byte_source, run_stream
from tonesieve.config.presets import PRETRAINED
from tonesieve.errors import UserError
from tonesieve.extraction.options import ExtractOptions
from tonesieve.extractors.source import (
    Source,
    SourceFactory,
    choose_tones,
    is_filter,
    make_source,
    network_source,
)
from tonesieve.extractors.streaming import Stream
from tonesieve.recordings.reader import check_rate
from tonesieve.recordings.recording import Recording, read_recording
from tonesieve.signals.baseband import check_within
from tonesieve.util.progress import Reporter


def source_at(
    with_: str | Path,
    hz: Sequence[float],
    within_hz: float | None = None,
    harmonics: int | str | None = None,
    orders: str | Sequence[float] | None = None,
) -> AbstractContextManager[Source | SourceFactory]:
    """A run's extractor, or the filter of that name for tones at ``hz`` or multiples of it."""
    check_within(hz, within_hz)
    if not Path(with_).is_dir():
        made = make_source(str(with_), hz, within_hz=within_hz, harmonics=harmonics, orders=orders)
        return nullcontext(made)
    if harmonics is not None or orders is not None:
        option = "--orders" if harmonics is None else "--harmonics"
        raise UserError(f"{option}: the run {with_} has its own tones; leave {option} away")
    from tonesieve.inference.run_directory import load_compiled, memory_samples  # filters need none

    compiled = load_compiled(with_)
    if compiled is not None:
        config = compiled.config
        source = network_source(compiled, config.data, memory_samples(config), str(with_))
        return nullcontext(source)
    from tonesieve.commands.run_files import source_of  # PyTorch, which the compiler spares

    return source_of(with_)


Multiples = str | Sequence[float] | None


def named_or_found(
    hz: Sequence[float] | str,
    with_: str | Path,
    harmonics: int | str | None,
    orders: Multiples,
    open_: Callable[[], Recording],
) -> tuple[Sequence[float], Multiples]:
    """Frequencies and orders as named, or the strongest comb's; or an error that lists lines."""
    if hz == AUTO:
        found, found_orders = choose_frequencies(open_())
        is_stated = harmonics is not None or orders is not None or found_orders == (1.0,)
        return [found], orders if is_stated else found_orders
    if isinstance(hz, str):
        raise UserError(f"hz={hz!r}: must be frequencies in Hz, or {AUTO!r}")
    name = str(with_)
    needs_names = name.partition(":")[0] == PRETRAINED or is_filter(name)
    if len(hz) or not needs_names or Path(with_).is_dir():
        return hz, orders
    raise UserError(
        f"--hz: name the tone in Hz, or {AUTO}; {name} has none of its own; {what_to_name(open_())}"
    )


def extract(
    recording: str | Path,
    hz: Sequence[float] | str = (),
    *,
    with_: str | Path = PRETRAINED,
    harmonics: int | str | None = None,
    orders: str | Sequence[float] | None = None,
    within_hz: float | None = None,
    causal: bool = False,
    channels: str = "auto",
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
    """Extract tones from a recording, in its format, rate and length.

    In gaps tones are predicted; a table marks those rows in a column ``gap``. Memory does not grow
    with the recording.

    Parameters
    ----------
    recording : path
        A CSV, Parquet, WAV, FLAC, EDF or NPZ file.
    hz : sequence of float or "auto", optional
        Nominal frequencies of the tones in Hz; may be left out for a run, which has its own. Or the
        strongest comb with its multiples, by `find`.
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
        Whether an estimate rests on no later sample than its own; otherwise the whole recording
        serves.
    channels : {"auto", "together", "apart"}, default="auto"
        Whether channels share the course of a tone, and are estimated together (by the pretrained
        extractor over a whole recording): those of which a test says so, all, or none.
    columns : sequence of str, optional
        Columns or channels by name, or by number from 1, or ``all``; may be left out for a
        recording that has one.
    rate_hz : float, optional
        Samples a second; by default from the file or its time column.
    time : str, optional
        The time column; by default found by its name.
    band_hz : tuple of float, optional
        Limits in Hz of the band where power is compared before and after; by default 2% on both
        sides of each tone, or as little as the recording resolves.
    remove : bool, default=False
        Whether the recording without the tones is written, in place of the tones.
    full : bool, default=False
        Whether amplitude, phase (rad), frequency (Hz), 90% band and residual are written too
        (tables only).
    picture : bool, default=False
        Whether a PNG with the spectra before and after is drawn beside the output.
    out : path, optional
        The output file, in the format of its ending; by default NAME.tone, with ``remove``
        NAME.clean, and the input's ending.
    force : bool, default=False
        Whether files that exist are overwritten.
    reporter : Reporter, optional
        Receives the progress.

    Returns
    -------
    dict
        Metrics of the recording, its ``channels`` and ``tones``, and ``warnings``; also written
        beside the output as JSON. See Notes.

    Raises
    ------
    UserError
        If the recording cannot be read, does not suit the extractor or the frequencies, or the
        output exists.

    Notes
    -----
    Keys of each of ``tones``, one entry a channel and tone. The status is a test of the whole
    recording, also with ``causal``.

    - ``column``, ``hz``: its column, and its nominal frequency.
    - ``status``: ``found``, ``doubtful`` or ``nothing``. In noise alone ``found`` has a probability
      of 0.01, ``found`` or ``doubtful`` one of 0.2.
    - ``p_value``: probability of such a power in noise alone, corrected for all that was tested.
    - ``within_hz``: half-width of the range that was searched.
    - ``line_hz``, ``line_range_hz``: mean frequency of its line, and the lowest and highest; None
      where there is none.
    - ``stronger_line_hz``, ``stronger_line_db``: a stronger line beside it, and its power over the
      tone's; None where there is none.
    - ``lost_s``: time in s in which the line that was found is off or lost.
    - ``amplitude``, ``followed_hz``, ``lowest_hz``, ``highest_hz``: of the estimated tone the mean
      amplitude, and the frequency's mean and range, weighted by power.
    - ``band_hz``, ``recording_power_in_band``, ``residual_power_in_band``, ``reduction_db``: power
      near the tone before and after.
    - ``tone_power``, ``outside_band_share``: power of the estimated tone, and the fraction of it
      outside that band.

    Keys of each of ``channels_together``, one entry for each tone whose course channels share:

    - ``hz``, ``channels``: its nominal frequency, and the names of the channels.
    - ``log_evidence``: logarithm of the Bayes factor of one course for them over one for each;
      0 or more, but for channels that are ``together`` whatever it is.
    - ``pattern_share``: share of the tone's power over noise that one complex amplitude a channel,
      times a common course of amplitude, explains; None where each was estimated by itself.

    Examples
    --------
    >>> import tonesieve
    >>> result = tonesieve.extract("log.csv", [50.0], remove=True)  # doctest: +SKIP
    >>> result["tones"][0]["reduction_db"]  # doctest: +SKIP
    -31.4
    """
    from tonesieve.extraction.pipeline import extract_recording  # streams need none

    hz, orders = named_or_found(
        hz, with_, harmonics, orders,
        lambda: read_recording(Path(recording), columns=columns, rate_hz=rate_hz, time=time),
    )  # fmt: skip
    options = ExtractOptions(
        hz=hz if harmonics is None and orders is None else (),
        within_hz=within_hz,
        causal=causal,
        channels=channels,
        columns=columns,
        rate_hz=rate_hz,
        time=time,
        band_hz=band_hz,
        remove=remove,
        full=full,
        picture=picture,
        out=out,
        force=force,
    )
    with source_at(with_, hz, within_hz, harmonics, orders) as source:
        return extract_recording(recording, source, options, reporter=reporter)


def stream(
    hz: Sequence[float] = (),
    *,
    rate_hz: float | None = None,
    with_: str | Path = PRETRAINED,
    harmonics: int | str | None = None,
    orders: str | Sequence[float] | None = None,
    within_hz: float | None = None,
    channels: int = 1,
    from_: str = "-",
    state: str | Path | None = None,
    save_every_s: float = SAVE_EVERY_S,
    remove: bool = False,
    full: bool = False,
) -> dict[str, Any]:
    """Read numbers from standard input or a socket, and write estimates to standard output.

    A line in gives a line out, at once. A line that does not hold a number for every channel is a
    gap: it is named on standard error, and its tone is predicted. For samples in memory use
    `tonesieve.extractors.streaming.Stream`.

    Parameters
    ----------
    hz : sequence of float, optional
        Nominal frequencies of the tones in Hz; may be left out for a run, which has its own.
    rate_hz : float, optional
        Samples a second; by default the run's, or what the Lab Streaming Layer states.
    with_ : str or path, default="pretrained"
        The pretrained extractor, a filter by its name, or a run directory.
    harmonics : int or str, optional
        The multiples 2, 3, ... of each frequency up to this one are tones too, and share their
        frequency with it; ``all``: up to half the rate.
    orders : str or sequence of float, optional
        The multiples that are tones, in place of all from 1 on: ``"0.5,1,2.5"``.
    within_hz : float, optional
        Largest offset of a tone from its nominal frequency in Hz; by default 3.5% of it.
    channels : int, default=1
        Numbers in a line.
    from_ : str, default="-"
        Standard input (``-``), ``tcp://HOST:PORT`` or ``lsl://NAME``.
    state : path, optional
        File from which the stream is restored, if it is there, and to which it is saved.
    save_every_s : float, default=10.0
        Seconds between two savings.
    remove : bool, default=False
        Whether the samples without the tones are written, in place of the tones.
    full : bool, default=False
        Whether a line holds, channel by channel and tone by tone, the tone, its amplitude, phase
        (rad) and frequency (Hz), and both limits of its 90% band.

    Returns
    -------
    dict
        Counts of lines and gaps, and why the stream ended.

    Raises
    ------
    UserError
        If the extractor cannot stream at that rate, or the saved state is another stream's.

    Examples
    --------
    >>> import tonesieve
    >>> tonesieve.stream([50.0], rate_hz=1000.0)["lines"]  # doctest: +SKIP
    1000
    """
    if channels < 1:
        raise UserError(f"--channels {channels}: must be 1 or more")
    if remove and full:
        raise UserError("--full: describes the tones; leave --remove away")
    check_rate(Path("stream"), rate_hz)
    with (
        source_at(with_, hz, within_hz, harmonics, orders) as made,
        open_byte_source(from_, channels) as bytes_in,
    ):
        if rate_hz is None and isinstance(bytes_in, LslSource) and bytes_in.rate_hz > 0:
            rate_hz = bytes_in.rate_hz
        if isinstance(made, Source):
            source = made
        elif rate_hz is None:
            raise UserError("--rate: give the samples per second of the stream")
        else:
            source = made(rate_hz, "the stream")
        if rate_hz not in (None, source.data.rate_hz):
            raise UserError(
                f"--rate {rate_hz:g}: {source.name} was trained at {source.data.rate_hz:g} Hz; "
                "bring the stream to that rate first"
            )
        live = Stream(source, channels)
        if full and not live.is_detailed:
            raise UserError(f"--full: {source.name} estimates the tone alone in a stream")
        return run_stream(
            live,
            bytes_in,
            state=None if state is None else Path(state),
            chosen=choose_tones(source, hz if harmonics is None and orders is None else ()),
            remove=remove,
            full=full,
            save_every_s=save_every_s,
        )
