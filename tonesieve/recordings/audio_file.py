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
    rows_in_block,
    sanitise,
    states_its_rate,
)

KINDS = {".wav": ("WAV", "WAVEX", "RF64"), ".flac": ("FLAC",)}
# Sample formats that hold what lies beyond full scale.
UNBOUNDED = ("FLOAT", "DOUBLE")
# What a WAV file of 32-bit sizes can hold; larger ones are RF64.
MOST_BYTES = 2**31
# Frames of a file that does not say.
UNKNOWN = 2**62


def open_audio(path: Path, wanted: ReadOptions) -> OpenedFile:
    """The chosen channels, numbered from 1, of a WAV or FLAC file; full scale is 1.

    Raises `UserError` for a file that is none, was cut short, or holds another format.
    """
    ending = path.suffix.lower()
    name = f"a {ending[1:].upper()} file"
    states_its_rate(path, wanted, name)
    try:
        with soundfile.SoundFile(path) as file:
            subtype, rate, kind = file.subtype, file.samplerate, file.format
            n_channels, n_rows = file.channels, file.frames
    except (soundfile.LibsndfileError, ValueError) as error:
        raise UserError(f"{path}: not {name} that can be read ({sanitise(error)})") from None
    if kind not in KINDS[ending]:
        raise UserError(f"{path}: not {name} but {kind}; convert it first")
    _check_whole(path)
    if n_rows >= UNKNOWN:
        raise UserError(f"{path}: does not state its length (it came from a pipe); encode it again")
    check_size(path, n_rows * n_channels)
    names = [str(i + 1) for i in range(n_channels)]
    chosen = choose(path, names, wanted.columns, what="channel")
    channels = tuple(Channel(names[i], "full scale") for i in chosen)
    form = OutputFormat(ending, subtype=subtype)
    return OpenedFile(channels, _blocks(path, name, chosen, n_rows), form, float(rate))


class AudioWriter:
    """Writes blocks of rows as WAV or FLAC."""

    def __init__(
        self,
        path: Path,
        file: BinaryIO,
        n_channels: int,
        rate_hz: float,
        n_rows: int,
        form: OutputFormat,
    ) -> None:
        rate = round(rate_hz)
        if rate_hz != rate or not 1 <= rate < 2**31:
            raise UserError(
                f"{path}: a rate of {rate_hz:g} Hz is none for {form.ending}, which has whole "
                "numbers; end --out with .csv, .parquet or .npz"
            )
        kind = "FLAC" if form.ending == ".flac" else "WAV"
        subtype = form.subtype or ("PCM_24" if kind == "FLAC" else "DOUBLE")
        if not (subtype.startswith("PCM") or subtype in UNBOUNDED):
            subtype = "PCM_24"  # others lose what a tone is made of, and some change its length
        if kind == "WAV" and n_rows * n_channels * 8 > MOST_BYTES:
            kind = "RF64"
        if kind == "FLAC" and n_channels > 8:
            raise UserError(f"{path}: FLAC holds at most 8 channels, not {n_channels}")
        self.subtype = subtype
        # By its own descriptor: the library seeks back to complete the header.
        self._sound = soundfile.SoundFile(
            file.fileno(), "w", rate, n_channels, subtype, format=kind, closefd=False
        )

    def write(self, times: Any, columns: Float[np.ndarray, "T C"]) -> None:
        """Rows of samples."""
        self._sound.write(columns)

    def close(self) -> None:
        """Complete the header."""
        self._sound.close()

    def abort(self) -> None:
        """Let go of a file that is not to be."""
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
    """A WAV file shorter than its own header says was cut off."""
    with path.open("rb") as file:
        head = file.read(28)
    size = int.from_bytes(head[4:8], "little")
    if head[:4] == b"RF64" and head[12:16] == b"ds64":
        size = int.from_bytes(head[20:28], "little")
    streamed = size in (0, 2**32 - 1)  # a writer that could not go back to say
    if head[:4] in (b"RIFF", b"RF64") and not streamed and size + 8 > path.stat().st_size + 1:
        raise UserError(f"{path}: cut short; its header promises {size + 8} bytes")
