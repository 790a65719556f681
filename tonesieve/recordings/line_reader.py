"""Text files in pieces of whole lines, with any line ends, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tonesieve.errors import UserError

# Chosen, not tuned: bytes that are read at once.
READ_SIZE = 2**20
# Guard against memory: bytes of a line.
MAX_LINE = 2**20


def pieces(path: Path, file: BinaryIO, max_lines: int) -> Iterator[bytes]:
    """Read the rest of a file in pieces of whole lines.

    Parameters
    ----------
    path : Path
        The file, for messages.
    file : binary file
        Open where the lines begin.
    max_lines : int
        Lines of a piece at most.

    Yields
    ------
    bytes
        Lines that end in one newline character each. Blank lines at the end of the file are left
        away, others are kept.

    Raises
    ------
    UserError
        If a line does not end, or the file holds zero bytes, as no text does.
    """
    n_blank = 0  # blank lines, kept back until another one follows
    for piece in _whole_lines(path, file, max_lines):
        body = piece.rstrip(b" \n")
        if not body:
            n_blank += piece.count(b"\n")
            continue
        while n_blank:
            n = min(n_blank, max_lines)
            yield b"\n" * n
            n_blank -= n
        n_blank = piece.count(b"\n", len(body)) - 1
        yield body + b"\n"


def _whole_lines(path: Path, file: BinaryIO, max_lines: int) -> Iterator[bytes]:
    rest, last_return = b"", b""
    while raw := file.read(READ_SIZE):
        if b"\0" in raw:
            raise UserError(f"{path}: not a CSV table (it holds zero bytes)")
        raw = last_return + raw
        last_return = raw[-1:] if raw.endswith(b"\r") else b""  # its newline may come next
        text = raw.removesuffix(last_return).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines, newline, rest = (rest + text).rpartition(b"\n")
        if len(rest) > MAX_LINE:
            raise UserError(f"{path}: not a CSV table (a line of over {MAX_LINE:,} bytes)")
        yield from _split(lines + newline, max_lines)
    if rest or last_return:
        yield rest + b"\n"


def _split(text: bytes, max_lines: int) -> Iterator[bytes]:
    if text.count(b"\n") <= max_lines:
        yield text
        return
    lines = text.split(b"\n")[:-1]
    for i in range(0, len(lines), max_lines):
        yield b"\n".join(lines[i : i + max_lines]) + b"\n"
