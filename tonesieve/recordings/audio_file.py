"""WAV and FLAC files. Axes: T rows, C channels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
from jaxtyping import Float

from tonesieve.errors import UserError
from tonesieve.recordings.reader import (
    Block,
    Channel,
    OpenedFile,
    OutputFormat,
    ReadOptions,
    check_size,
    choose,
    refuse_rate_and_time,
    rows_in_block,
    sanitise,
)

# Derived: the library's names of formats that an ending stands for.
KINDS = {".wav": ("WAV", "WAVEX", "RF64"), ".flac": ("FLAC",)}
# Sample formats that hold numbers beyond full scale.
UNBOUNDED = ("FLOAT", "DOUBLE")
# Derived: bytes of a WAV file with 32-bit sizes; larger ones are RF64.
MAX_WAV_SIZE = 2**31
# Guard: the library states more frames than this for a file that does not state its length.
UNKNOWN_LENGTH = 2**62
# Derived: channels of a FLAC file.
MAX_FLAC_CHANNELS = 8


def open_audio(path: Path, options: ReadOptions) -> OpenedFile:
    """Open a WAV or FLAC file; full scale is 1.

    Parameters
    ----------
    path : Path
        The file.
    options : ReadOptions
        Channels by number from 1.

    Returns
    -------
    OpenedFile
        The chosen channels.

    Raises
    ------
    UserError
        If it is no such file, was cut short, or holds another format.
    """
    ending = path.suffix.lower()
    name = f"a {ending[1:].upper()} file"
    refuse_rate_and_time(path, options, name)
    try:
        with soundfile.SoundFile(path) as file:
            subtype, rate, kind = file.subtype, file.samplerate, file.format
            n_channels, n_rows = file.channels, file.frames
    except (soundfile.LibsndfileError, ValueError) as error:
        raise UserError(f"{path}: not {name} that can be read ({sanitise(error)})") from None
    if kind not in KINDS[ending]:
        raise UserError(f"{path}: not {name} but {kind}; convert it first")
    _check_whole(path)
    if n_rows >= UNKNOWN_LENGTH:
        raise UserError(f"{path}: does not state its length (it came from a pipe); encode it again")
    check_size(path, n_rows * n_channels)
    names = [str(i + 1) for i in range(n_channels)]
    chosen = choose(path, names, options.columns, what="channel")
    channels = tuple(Channel(names[i], "full scale") for i in chosen)
    output_format = OutputFormat(ending, subtype=subtype)
    blocks = _blocks(path, name, chosen, n_rows)
    return OpenedFile(channels, blocks, output_format, float(rate))


class AudioWriter:
    """Writes blocks of rows as WAV or FLAC.

    Parameters
    ----------
    path : Path
        The output, for messages.
    file : binary file
        Open for writing.
    n_channels : int
        Columns of a row.
    rate_hz : float
        Sampling rate.
    n_rows : int
        Rows that will be written.
    output_format : OutputFormat
        Ending and sample format.

    Raises
    ------
    UserError
        If the format cannot hold the rate or the channels.
    """

    def __init__(
        self,
        path: Path,
        file: BinaryIO,
        n_channels: int,
        rate_hz: float,
        n_rows: int,
        output_format: OutputFormat,
    ) -> None:
        rate = round(rate_hz)
        if rate_hz != rate or not 1 <= rate < 2**31:
            raise UserError(
                f"{path}: a rate of {rate_hz:g} Hz is none for {output_format.ending}, which has "
                "whole numbers; end --out with .csv, .parquet or .npz"
            )
        kind = "FLAC" if output_format.ending == ".flac" else "WAV"
        subtype = output_format.subtype or ("PCM_24" if kind == "FLAC" else "DOUBLE")
        if not (subtype.startswith("PCM") or subtype in UNBOUNDED):
            subtype = "PCM_24"  # others lose much of a tone, and some change its length
        if kind == "WAV" and n_rows * n_channels * 8 > MAX_WAV_SIZE:
            kind = "RF64"
        if kind == "FLAC" and n_channels > MAX_FLAC_CHANNELS:
            raise UserError(
                f"{path}: FLAC holds at most {MAX_FLAC_CHANNELS} channels, not {n_channels}"
            )
        self.subtype = subtype
        # By its own descriptor: the library seeks back to complete the header.
        self._sound = soundfile.SoundFile(
            file.fileno(), "w", rate, n_channels, subtype, format=kind, closefd=False
        )

    def write(self, times: Any, columns: Float[np.ndarray, "T C"]) -> None:
        """Write rows of samples."""
        self._sound.write(columns)

    def close(self) -> None:
        """Complete the header."""
        self._sound.close()

    def abort(self) -> None:
        """Let go of a file that is not completed."""
        self._sound.close()


def _blocks(path: Path, name: str, chosen: list[int], n_rows: int) -> Iterator[Block]:
    n_read = 0
    try:
        with soundfile.SoundFile(path) as file:
            n = rows_in_block(file.channels)
            for block in file.blocks(n, dtype="float64", always_2d=True):
                n_read += len(block)
                yield block[:, chosen], None
    except (soundfile.LibsndfileError, ValueError) as error:
        raise UserError(f"{path}: not {name} that can be read ({sanitise(error)})") from None
    if n_read == 0:
        raise UserError(f"{path}: empty; it holds no samples")
    if n_read < n_rows:
        raise UserError(f"{path}: cut short; {n_read} of {n_rows} samples can be read")


def _check_whole(path: Path) -> None:
    """A WAV file shorter than its header states was cut off."""
    with path.open("rb") as file:
        head = file.read(28)
    size = int.from_bytes(head[4:8], "little")
    if head[:4] == b"RF64" and head[12:16] == b"ds64":
        size = int.from_bytes(head[20:28], "little")
    streamed = size in (0, 2**32 - 1)  # by a writer that could not seek back
    if head[:4] in (b"RIFF", b"RF64") and not streamed and size + 8 > path.stat().st_size + 1:
        raise UserError(f"{path}: cut short; its header promises {size + 8} bytes")
