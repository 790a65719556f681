"""EDF and EDF+ files (Kemp et al. 1992, 2003), by pyEDFlib. Axes: T rows, C channels."""

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
    rows_in_block,
    sanitise,
    states_its_rate,
    unique_names,
)
from tonesieve.recordings.spool import Spool

DIGITAL = (-32768, 32767)
# What its headers, of eight characters a number, can tell.
LEAST, MOST = 1e-5, 9_900_000.0
MOST_SIGNALS = 4096


def open_edf(path: Path, wanted: ReadOptions) -> OpenedFile:
    """The chosen signals, by label or by number from 1, of an EDF or EDF+ file.

    Raises `UserError` for a file that is none, or was recorded with pauses (EDF+D), and for chosen
    signals of different rates.
    """
    states_its_rate(path, wanted, "an EDF file")
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
    chosen = choose(path, names, wanted.columns, what="signal")
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
    return OpenedFile(channels, blocks, OutputFormat(".edf", record_s=record_s), rates[chosen[0]])


# Bytes of the header where its length, data records and signals are counted.
_COUNTS = ((184, 192), (236, 244), (252, 256))


class EdfWriter:
    """Collects rows, and writes them as EDF+ once their range is known.

    Every channel takes all of its 16 bits. What comes from an EDF file keeps its length; else the
    last second is filled up with zeros, since the format holds whole data records.
    """

    def __init__(
        self,
        path: Path,
        to: Path,
        channels: Sequence[Channel],
        rate_hz: float,
        form: OutputFormat,
        spool: Spool,
    ) -> None:
        n = rate_hz * form.record_s
        if abs(n - round(n)) > 1e-6 or n < 1:
            raise UserError(
                f"{path}: a rate of {rate_hz:g} Hz is none for .edf, which holds whole numbers of "
                "samples a second; end --out with .csv, .parquet or .npz"
            )
        self._path, self._to, self._channels = path, to, channels
        self._rate, self._spool = rate_hz, spool
        self._n_record, self._record_s = round(n), form.record_s

    def write(self, times: Any, columns: Float[np.ndarray, "T C"]) -> None:
        """Rows of samples."""
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
                    warnings.simplefilter("ignore")  # it warns of rates that are asked for here
                    file.setDatarecordDuration(self._record_s)
            for start in range(0, n_rows, self._n_record):
                part = self._spool.read(start, start + self._n_record)
                filled = np.pad(part, ((0, self._n_record - len(part)), (0, 0)))
                for i in range(len(self._channels)):
                    if file.writePhysicalSamples(np.ascontiguousarray(filled[:, i])) < 0:
                        raise RuntimeError("is the disk full?")
        self._check_written()

    def abort(self) -> None:
        """Nothing was written yet, or it is closed."""

    def _largest(self) -> Float[np.ndarray, " C"]:
        largest = np.zeros(len(self._channels))
        step = rows_in_block(self._spool.n_columns)
        for start in range(0, len(self._spool), step):
            block = np.abs(self._spool.read(start, start + step))
            largest = np.maximum(largest, block.max(axis=0))
        for channel, one in zip(self._channels, largest, strict=True):
            if one > MOST or 0 < one < LEAST:
                raise UserError(
                    f"{self._path}: {channel.name} reaches {one:.3g}, and .edf holds {LEAST:g} to "
                    f"{MOST:,.0f}; scale it, or end --out with .csv, .parquet or .npz"
                )
        return largest

    def _check_written(self) -> None:
        """What the library holds back until it closes the file may meet a full disk unseen."""
        n_records = -(-len(self._spool) // self._n_record)
        least = n_records * self._n_record * len(self._channels) * 2
        if self._to.stat().st_size < least:
            raise RuntimeError("is the disk full?")


def _labelled(channels: Sequence[Channel]) -> list[Channel]:
    """Channels with names of sixteen characters, as the format has them, none of them twice."""
    names = [channel.name[:16].strip() for channel in channels]
    return [
        replace(channel, name=name if names.count(name) == 1 else f"{name[:11]}~{i + 1}")
        for i, (channel, name) in enumerate(zip(channels, names, strict=True))
    ]


def _header(channel: Channel, rate: float, largest: float) -> dict[str, Any]:
    # Eight characters are all that a bound has in the file: a number that is the same in both.
    bound = float(f"{largest * 1.01:.3g}") if largest > 0 else 1.0
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
    """Compare what the header promises with what is there, before a library believes it.

    Raises `UserError`.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(256)
        try:
            if head[:8] not in (b"0       ", b"\xffBIOSEMI"):
                raise ValueError("it does not begin as one")
            n_header, n_records, n_signals = (int(head[a:b]) for a, b in _COUNTS)
            if not 1 <= n_signals <= MOST_SIGNALS or n_header != 256 * (n_signals + 1):
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
