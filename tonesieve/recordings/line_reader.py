"""Text files in pieces of whole lines, however they end. Constant memory, whatever the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tonesieve.errors import UserError

PIECE = 2**20  # bytes
LONGEST = 2**20  # of a line


def pieces(path: Path, file: BinaryIO, most_lines: int) -> Iterator[bytes]:
    """The rest of a file, so many lines at a time; every line ends in one newline character.

    Blank lines at the end are left away, others are kept. Raises `UserError` for a line that does
    not end, and for zero bytes, which no text holds.
    """
    n_blank = 0  # lines held back until another one follows
    for piece in _whole_lines(path, file, most_lines):
        body = piece.rstrip(b" \n")
        if not body:
            n_blank += piece.count(b"\n")
            continue
        while n_blank:
            n = min(n_blank, most_lines)
            yield b"\n" * n
            n_blank -= n
        n_blank = piece.count(b"\n", len(body)) - 1
        yield body + b"\n"


def _whole_lines(path: Path, file: BinaryIO, most_lines: int) -> Iterator[bytes]:
    rest, held = b"", b""
    while raw := file.read(PIECE):
        if b"\0" in raw:
            raise UserError(f"{path}: not a CSV table (it holds zero bytes)")
        raw = held + raw
        held = raw[-1:] if raw.endswith(b"\r") else b""  # its other half may come next
        text = raw.removesuffix(held).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        whole, newline, rest = (rest + text).rpartition(b"\n")
        if len(rest) > LONGEST:
            raise UserError(f"{path}: not a CSV table (a line of over {LONGEST:,} bytes)")
        yield from _parts(whole + newline, most_lines)
    if rest or held:
        yield rest + b"\n"


def _parts(whole: bytes, most_lines: int) -> Iterator[bytes]:
    if whole.count(b"\n") <= most_lines:
        yield whole
        return
    lines = whole.split(b"\n")[:-1]
    for i in range(0, len(lines), most_lines):
        yield b"\n".join(lines[i : i + most_lines]) + b"\n"
