"""EDF and EDF+ files (Kemp et al. 1992, Kemp and Olivan 2003), by pyEDFlib.

Axes: T rows, C channels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tonesieve.errors import UserError
from tonesieve.recordings.reader import (
    Block,
    Channel,
    OpenedFile,
    OutputFormat,
    ReadOptions,
    choose,
    refuse_rate_and_time,
    rows_in_block,
    sanitise,
    unique_names,
)
from tonesieve.recordings.spool import Spool

# Derived: 16 bits.
DIGITAL = (-32768, 32767)
# Derived: the limits that eight characters of the header can hold.
MIN_BOUND, MAX_BOUND = 1e-5, 9_900_000.0
# Guard: signals of a file.
MAX_SIGNALS = 4096
# Derived: a bound is rounded to three digits, and must not fall below the largest sample.
HEADROOM = 1.01


def open_edf(path: Path, options: ReadOptions) -> OpenedFile:
    """Open an EDF or EDF+ file.

    Parameters
    ----------
    path : Path
        The file.
    options : ReadOptions
        Signals by label, or by number from 1.

    Returns
    -------
    OpenedFile
        The chosen channels.

    Raises
    ------
    UserError
        If it is no such file, was recorded with pauses (EDF+D), or the chosen signals differ in
        their rates.
    """
    refuse_rate_and_time(path, options, "an EDF file")
    from pyedflib import EdfReader

    _check_header(path)
    try:
        with EdfReader(str(path)) as file:
            names = [label.strip() for label in file.getSignalLabels()]
            units = [file.getPhysicalDimension(i).strip() for i in range(len(names))]
            rates = [float(rate) for rate in file.getSampleFrequencies()]
            lengths = [int(n) for n in file.getNSamples()]
            record_s = float(file.datarecord_duration)
    except (OSError, ValueError, RuntimeError, ArithmeticError) as error:
        raise _unreadable(path, error) from None
    chosen = choose(path, names, options.columns, what="signal")
    odd = [i for i in chosen if rates[i] != rates[chosen[0]]]
    if odd:
        raise UserError(
            f"{path}: {names[chosen[0]]} has {rates[chosen[0]]:g} Hz and {names[odd[0]]} "
            f"{rates[odd[0]]:g} Hz; take signals of one rate at a time"
        )
    if not rates[chosen[0]] > 0 or not lengths[chosen[0]]:
        raise UserError(f"{path}: empty; {names[chosen[0]]} holds no samples")
    unique = unique_names(names)
    channels = tuple(Channel(unique[i], units[i]) for i in chosen)
    blocks = _blocks(path, chosen, lengths[chosen[0]])
    output_format = OutputFormat(".edf", record_s=record_s)
    return OpenedFile(channels, blocks, output_format, rates[chosen[0]])


# Derived: bytes of the header that hold its length and the counts of data records and signals.
_COUNTS = ((184, 192), (236, 244), (252, 256))


class EdfWriter:
    """Collects rows, and writes them as EDF+ once their range is known.

    Every channel uses all of its 16 bits. What comes from an EDF file keeps its length; else the
    last second is filled up with zeros, since the format holds whole data records.

    Parameters
    ----------
    path : Path
        The output, for messages.
    to : Path
        The file that is written.
    channels : sequence of Channel
        Names and units of the signals.
    rate_hz : float
        Sampling rate.
    output_format : OutputFormat
        Length of a data record.
    spool : Spool
        Keeps the rows.

    Raises
    ------
    UserError
        If a data record has no whole number of samples.
    """

    def __init__(
        self,
        path: Path,
        to: Path,
        channels: Sequence[Channel],
        rate_hz: float,
        output_format: OutputFormat,
        spool: Spool,
    ) -> None:
        n = rate_hz * output_format.record_s
        if abs(n - round(n)) > 1e-6 or n < 1:
            raise UserError(
                f"{path}: a rate of {rate_hz:g} Hz is none for .edf, which holds whole numbers of "
                "samples a second; end --out with .csv, .parquet or .npz"
            )
        self._path, self._to, self._channels = path, to, channels
        self._rate, self._spool = rate_hz, spool
        self._n_record, self._record_s = round(n), output_format.record_s

    def write(self, times: Any, columns: Float[np.ndarray, "T C"]) -> None:
        """Append rows of samples."""
        self._spool.append(columns)

    def close(self) -> None:
        """Write the file."""
        from pyedflib import FILETYPE_EDFPLUS, EdfWriter

        n_rows, largest = len(self._spool), self._largest()
        with EdfWriter(str(self._to), len(self._channels), FILETYPE_EDFPLUS) as file:
            for i, channel in enumerate(_labelled(self._channels)):
                file.setSignalHeader(i, _header(channel, self._rate, float(largest[i])))
            if self._record_s != 1:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of rates other than in samples a second
                    file.setDatarecordDuration(self._record_s)
            for start in range(0, n_rows, self._n_record):
                part = self._spool.read(start, start + self._n_record)
                filled = np.pad(part, ((0, self._n_record - len(part)), (0, 0)))
                for i in range(len(self._channels)):
                    if file.writePhysicalSamples(np.ascontiguousarray(filled[:, i])) < 0:
                        raise RuntimeError("is the disk full?")
        self._check_written()

    def abort(self) -> None:
        """Do nothing: no file is open."""

    def _largest(self) -> Float[np.ndarray, " C"]:
        largest = np.zeros(len(self._channels))
        step = rows_in_block(self._spool.n_columns)
        for start in range(0, len(self._spool), step):
            block = np.abs(self._spool.read(start, start + step))
            largest = np.maximum(largest, block.max(axis=0))
        for channel, one in zip(self._channels, largest, strict=True):
            if one > MAX_BOUND or 0 < one < MIN_BOUND:
                raise UserError(
                    f"{self._path}: {channel.name} reaches {one:.3g}, and .edf holds "
                    f"{MIN_BOUND:g} to {MAX_BOUND:,.0f}; scale it, or end --out with .csv, "
                    ".parquet or .npz"
                )
        return largest

    def _check_written(self) -> None:
        """What the library writes when it closes the file may fail silently on a full disk."""
        n_records = -(-len(self._spool) // self._n_record)
        least = n_records * self._n_record * len(self._channels) * 2
        if self._to.stat().st_size < least:
            raise RuntimeError("is the disk full?")


def _labelled(channels: Sequence[Channel]) -> list[Channel]:
    """Channels with unique names of sixteen characters, as the format has them."""
    names = [channel.name[:16].strip() for channel in channels]
    return [
        replace(channel, name=name if names.count(name) == 1 else f"{name[:11]}~{i + 1}")
        for i, (channel, name) in enumerate(zip(channels, names, strict=True))
    ]


def _header(channel: Channel, rate: float, largest: float) -> dict[str, Any]:
    # A bound has eight characters in the file: a number that they hold exactly.
    bound = float(f"{largest * HEADROOM:.3g}") if largest > 0 else 1.0
    if bound < 0.01:
        bound = math.ceil(bound * 1e5) / 1e5
    if bound >= 1e4:
        bound = min(math.ceil(bound), 9_999_999)
    return {
        "label": channel.name,
        "dimension": channel.unit[:8],
        "sample_frequency": rate,
        "physical_max": bound,
        "physical_min": -bound,
        "digital_max": DIGITAL[1],
        "digital_min": DIGITAL[0],
        "transducer": "",
        "prefilter": "",
    }


def _check_header(path: Path) -> None:
    """Compare what the header promises with what is there, before a library relies on it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(256)
        try:
            if head[:8] not in (b"0       ", b"\xffBIOSEMI"):
                raise ValueError("it does not begin as one")
            n_header, n_records, n_signals = (int(head[a:b]) for a, b in _COUNTS)
            if not 1 <= n_signals <= MAX_SIGNALS or n_header != 256 * (n_signals + 1):
                raise ValueError(f"a header of {n_header} bytes for {n_signals} signals")
            if n_records < 1:
                raise ValueError(f"it states {n_records} data records")
            if not 0 < float(head[244:252]) < math.inf:
                raise ValueError(f"data records of {float(head[244:252]):g} s")
            file.seek(256 + 216 * n_signals)
            counts = [int(file.read(8)) for _ in range(n_signals)]
            if min(counts) < 1:
                raise ValueError(f"a signal of {min(counts)} samples a record")
        except ValueError as error:
            raise _unreadable(path, error) from None
    promised = n_header + n_records * sum(counts) * (2 if head[:1] == b"0" else 3)
    if promised > size:
        raise UserError(f"{path}: cut short; its header promises {promised} bytes")


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = sanitise(str(error).removeprefix(f"{path}: "))
    return UserError(f"{path}: not an EDF file that can be read ({reason})")


def _blocks(path: Path, chosen: Sequence[int], n_rows: int) -> Iterator[Block]:
    from pyedflib import EdfReader

    try:
        with EdfReader(str(path)) as file:
            step = rows_in_block(len(chosen))
            for start in range(0, n_rows, step):
                n = min(step, n_rows - start)
                yield np.stack([file.readSignal(i, start, n) for i in chosen], axis=1), None
    except (OSError, ValueError, RuntimeError, ArithmeticError) as error:
        raise _unreadable(path, error) from None
