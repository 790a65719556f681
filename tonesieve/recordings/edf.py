"""EDF and EDF+ files (Kemp et al. 1992, 2003), by pyEDFlib. Axes: T rows, C channels."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tonesieve.errors import UserError
from tonesieve.recordings.contents import (
    ROWS,
    Block,
    Channel,
    Contents,
    Form,
    Wanted,
    choose,
    states_its_rate,
)
from tonesieve.recordings.spool import Spool

DIGITAL = (-32768, 32767)


def open_edf(path: Path, wanted: Wanted) -> Contents:
    """The chosen signals, by label or by number from 1, of an EDF or EDF+ file.

    Raises `UserError` for a file that is none, or was recorded with pauses (EDF+D), and for chosen
    signals of different rates.
    """
    states_its_rate(path, wanted, "an EDF file")
    from pyedflib import EdfReader

    try:
        with EdfReader(str(path)) as file:
            names = [label.strip() for label in file.getSignalLabels()]
            units = [file.getPhysicalDimension(i).strip() for i in range(len(names))]
            rates = [float(rate) for rate in file.getSampleFrequencies()]
            lengths = [int(n) for n in file.getNSamples()]
            record_s = float(file.datarecord_duration)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise UserError(f"{path}: not an EDF file that can be read ({reason})") from None
    chosen = choose(path, names, wanted.columns, what="signal")
    odd = [i for i in chosen if rates[i] != rates[chosen[0]]]
    if odd:
        raise UserError(
            f"{path}: {names[chosen[0]]} has {rates[chosen[0]]:g} Hz and {names[odd[0]]} "
            f"{rates[odd[0]]:g} Hz; take signals of one rate at a time"
        )
    if not rates[chosen[0]] > 0 or not lengths[chosen[0]]:
        raise UserError(f"{path}: empty; {names[chosen[0]]} holds no samples")
    channels = tuple(Channel(names[i], units[i]) for i in chosen)
    blocks = _blocks(path, chosen, lengths[chosen[0]])
    return Contents(channels, blocks, Form(".edf", record_s=record_s), rates[chosen[0]])


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
        form: Form,
        spool: Spool,
    ) -> None:
        n = rate_hz * form.record_s
        if abs(n - round(n)) > 1e-6 or n < 1:
            raise UserError(
                f"{path}: a rate of {rate_hz:g} Hz is none for .edf, which holds whole numbers of "
                "samples a second; end --out with .csv, .parquet or .npz"
            )
        self._to, self._channels, self._rate, self._spool = to, channels, rate_hz, spool
        self._n_record, self._record_s = round(n), form.record_s

    def write(self, times: Any, columns: Float[np.ndarray, "T C"]) -> None:
        """Rows of samples."""
        self._spool.append(columns)

    def close(self) -> None:
        """Write the file."""
        from pyedflib import FILETYPE_EDFPLUS, EdfWriter

        largest = np.zeros(len(self._channels))
        n_rows = len(self._spool)
        for start in range(0, n_rows, ROWS):
            block = np.abs(np.nan_to_num(self._spool.read(start, start + ROWS)))
            largest = np.maximum(largest, block.max(axis=0))
        with EdfWriter(str(self._to), len(self._channels), FILETYPE_EDFPLUS) as file:
            for i, channel in enumerate(self._channels):
                file.setSignalHeader(i, _header(channel, self._rate, float(largest[i])))
            if self._record_s != 1:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # it warns of rates that are asked for here
                    file.setDatarecordDuration(self._record_s)
            for start in range(0, n_rows, self._n_record):
                part = np.nan_to_num(self._spool.read(start, start + self._n_record))
                filled = np.pad(part, ((0, self._n_record - len(part)), (0, 0)))
                for i in range(len(self._channels)):
                    file.writePhysicalSamples(np.ascontiguousarray(filled[:, i]))


def _header(channel: Channel, rate: float, largest: float) -> dict[str, Any]:
    # Eight characters are all that a bound has in the file: a number that is the same in both.
    bound = float(f"{largest * 1.01:.3g}") if largest > 0 else 1.0
    bound = min(max(bound, 1e-4), 9_999_999.0)
    return {
        "label": channel.name[:16],
        "dimension": channel.unit[:8],
        "sample_frequency": rate,
        "physical_max": bound,
        "physical_min": -bound,
        "digital_max": DIGITAL[1],
        "digital_min": DIGITAL[0],
        "transducer": "",
        "prefilter": "",
    }


def _blocks(path: Path, chosen: Sequence[int], n_rows: int) -> Iterator[Block]:
    from pyedflib import EdfReader

    try:
        with EdfReader(str(path)) as file:
            for start in range(0, n_rows, ROWS):
                n = min(ROWS, n_rows - start)
                yield np.stack([file.readSignal(i, start, n) for i in chosen], axis=1), None
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: not an EDF file that can be read ({error})") from None
