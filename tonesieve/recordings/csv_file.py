"""CSV files: comma, semicolon or tab between columns, with or without a header and a time column.

Axes: T rows, C channels.
"""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from jaxtyping import Float

from tonesieve.errors import UserError
from tonesieve.recordings.line_reader import pieces
from tonesieve.recordings.reader import (
    MAX_CHANNELS,
    Block,
    Channel,
    OpenedFile,
    OutputFormat,
    ReadOptions,
    choose,
    rows_in_block,
    sanitise,
    unique_names,
    unit_in,
)
from tonesieve.recordings.time_columns import in_seconds, need_times, seconds_of, time_column

# Guards against memory: bytes within which the header has to end, and of a quoted cell.
HEADER_SIZE, MAX_QUOTED = 2**20, 2**22
_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+(e[+-]?[0-9]+)?", re.IGNORECASE)
# Numbers as pandas reads them: no hexadecimal ones, no underscores, no other digits.
_NUMBER = re.compile(
    r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|[+-]?(inf|infinity)|nan", re.IGNORECASE
)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:|$)")
_PARSE_ERRORS = (
    pd.errors.ParserError,
    pd.errors.ParserWarning,
    pd.errors.EmptyDataError,
    ValueError,
)
_IN_QUOTES = "EOF inside string"
_TOO_MANY_CELLS = re.compile(r"Expected (\d+) fields in line (\d+), saw (\d+)")


@dataclass(frozen=True)
class _Layout:
    """How the text is laid out, read from its first lines."""

    start: int  # the byte where the rows begin
    words: list[str]  # the columns' names as the file has them
    names: list[str]  # made unique
    separator: str
    decimal: str
    encoding: str
    has_bom: bool  # the file begins with a byte order mark


def open_csv(path: Path, options: ReadOptions) -> OpenedFile:
    """Open a CSV file.

    Lines at the top that begin with # are skipped; without a header line columns are named
    1, 2, ... . The time column is the one named so (`TIME_NAMES`, with a unit as in ``time_ms``),
    or ``options.time``: seconds, or dates and times of day as ISO 8601 has them. An empty cell and
    a line that is blank are missing samples.

    Parameters
    ----------
    path : Path
        The file.
    options : ReadOptions
        Columns, rate and time column that are asked for.

    Returns
    -------
    OpenedFile
        The chosen channels.

    Raises
    ------
    UserError
        If it is no table, has text among its numbers, or no such column.
    """
    layout = _layout(path)
    time = time_column(path, layout.names, options)
    names = [name for name in layout.names if name != time]
    if not names:
        raise UserError(f"{path}: no column beside {time}; one with samples is needed")
    index = layout.names.index(time) if time is not None else len(layout.names)
    words = [*layout.words[:index], *layout.words[index + 1 :]]
    chosen = [names[i] for i in choose(path, words, options.columns)]
    need_times(path, time, options.rate_hz)
    output_format = OutputFormat(
        ".csv",
        time_name=time,
        times=None if time is None else partial(_as_written, path, layout, time),
        separator=layout.separator,
        decimal=layout.decimal,
        encoding="utf-8-sig" if layout.has_bom else layout.encoding,
    )
    channels = tuple(Channel(name, unit_in(name)) for name in chosen)
    timed = time if options.rate_hz is None else None
    blocks = _blocks(path, layout, chosen, timed)
    return OpenedFile(channels, blocks, output_format, options.rate_hz)


class CsvWriter:
    """Writes blocks of rows as CSV text.

    Parameters
    ----------
    file : binary file
        Open for writing.
    time_name : str or None
        Name of the time column, if there is one.
    channels : sequence of Channel
        Names and units of the columns.
    output_format : OutputFormat
        Separator, decimal point and encoding.
    """

    def __init__(
        self,
        file: BinaryIO,
        time_name: str | None,
        channels: Sequence[Channel],
        output_format: OutputFormat,
    ) -> None:
        self._file, self._encoding = file, output_format.encoding
        self._integers = [i for i, channel in enumerate(channels) if channel.integer]
        names = [*([time_name] if time_name else []), *(channel.name for channel in channels)]
        self._how_to_write: dict[str, Any] = {
            "index": False,
            "header": False,
            "lineterminator": "\n",
            "sep": output_format.separator,
            "decimal": output_format.decimal,
        }
        header = pd.DataFrame(columns=pd.Index(names))
        self._put(header.to_csv(**{**self._how_to_write, "header": True}), self._encoding)

    def write(self, times: Any, columns: Float[np.ndarray, "T C"]) -> None:
        """Write rows: a time column, or None, and then numbers."""
        table = pd.DataFrame(columns)
        table = table.astype(dict.fromkeys(self._integers, np.int64))
        if times is not None:
            table.insert(0, "time", times)
        # A byte order mark belongs before the header alone.
        self._put(table.to_csv(**self._how_to_write), self._encoding.removesuffix("-sig"))

    def close(self) -> None:
        """Do nothing: no rows are kept back."""

    def abort(self) -> None:
        """Do nothing: no file is open."""

    def _put(self, text: str, encoding: str) -> None:
        self._file.write(text.encode(encoding, "replace"))


def _layout(path: Path) -> _Layout:
    """Read from the start of the file alone."""
    with path.open("rb") as file:
        raw = file.read(HEADER_SIZE)
    if b"\0" in raw:
        raise UserError(f"{path}: not a CSV table (it holds zero bytes)")
    bom = b"\xef\xbb\xbf" if raw.startswith(b"\xef\xbb\xbf") else b""
    lines = _LINE.findall(raw, len(bom))
    comments = list(takewhile(_is_skipped, lines))
    first = next((i for i, line in enumerate(lines) if not line.startswith(b"#")), len(comments))
    if len(comments) == len(lines):
        raise UserError(f"{path}: empty; a header line and numbers are needed")
    header = lines[len(comments)]
    if len(raw) == HEADER_SIZE and len(comments) == len(lines) - 1:
        raise UserError(f"{path}: not a CSV table (its first line does not end)")
    encoding = _encoding(raw)
    start = len(bom) + sum(map(len, comments))
    head = [line.decode(encoding, "replace").rstrip("\r\n") for line in lines[len(comments) :]]
    separator = _separator(head[:20])
    decimal = "," if separator != "," and _decimal_commas(head, separator) else "."
    words = [word.strip() for word in _cells(path, head[0], separator)]
    if len(words) > MAX_CHANNELS:
        raise UserError(f"{path}: {len(words)} columns; at most {MAX_CHANNELS:,} can be read")
    if _holds_values(words, decimal):  # no header: then blank lines above are missing samples too
        words = [str(i + 1) for i in range(len(words))]
        start = len(bom) + sum(map(len, lines[:first]))
    else:
        start += len(header)
    return _Layout(start, words, unique_names(words), separator, decimal, encoding, bool(bom))


def _is_skipped(line: bytes) -> bool:
    return line.startswith(b"#") or not line.strip()


def _encoding(raw: bytes) -> str:
    """UTF-8, or else Latin-1."""
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        # A character may have been cut in two at the end.
        return "utf-8" if len(raw) == HEADER_SIZE and error.start > len(raw) - 4 else "latin-1"
    return "utf-8"


def _separator(head: Sequence[str]) -> str:
    """What all of the first lines have equally often; commas may be decimal, or in a name."""
    lines = [line for line in head if line.strip()]
    for separator in ";\t,":
        counts = {line.count(separator) for line in lines}
        if 0 not in counts and (separator == "," or len(counts) == 1):
            return separator
    # Lines that differ, as some with cells missing do.
    return next((c for c in ";\t," if c in lines[0]), ",")


def _decimal_commas(head: Sequence[str], separator: str) -> bool:
    # All of the start counts: the first numbers may be integers.
    cells = (cell.strip(' "') for line in head for cell in line.split(separator))
    return any(_DECIMAL_COMMA.fullmatch(cell) for cell in cells)


def _cells(path: Path, line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error as error:  # a cell of over 128 kB
        raise UserError(f"{path}: not a CSV table ({error})") from None


def _holds_values(words: Sequence[str], decimal: str) -> bool:
    """Whether a first line is no header: numbers, dates and empty cells alone."""
    if words and not words[0] and list(words[1:]) == [str(i) for i in range(len(words) - 1)]:
        return False  # columns that pandas numbered
    filled = [word.replace(decimal, ".") for word in words if word]
    return bool(filled) and all(_NUMBER.fullmatch(w) or _DATE.match(w) for w in filled)


def _tables(path: Path, layout: _Layout, *, verbatim: bool = False) -> Iterator[pd.DataFrame]:
    """Blocks of rows, blank lines at the end left away; ``verbatim``: cells as they are."""
    pending, failed, n_rows = b"", 0, 0
    with path.open("rb") as file:
        file.seek(layout.start)
        for piece in pieces(path, file, rows_in_block(len(layout.names))):
            pending += piece
            if len(pending) < 2 * failed:
                continue
            try:
                table = _parsed(pending, layout, verbatim)
            except _PARSE_ERRORS as error:
                if _IN_QUOTES not in str(error) or len(pending) > MAX_QUOTED:
                    raise _no_table(path, error, n_rows) from None
                failed = len(pending)  # a quoted cell may span any number of lines
                continue
            yield table
            n_rows += len(table)
            pending, failed = b"", 0
    if pending:
        try:
            yield _parsed(pending, layout, verbatim)
        except _PARSE_ERRORS as error:
            raise _no_table(path, error, n_rows) from None


def _parsed(piece: bytes, layout: _Layout, verbatim: bool) -> pd.DataFrame:
    how: dict[str, Any] = {"dtype": str, "keep_default_na": False} if verbatim else {}
    with warnings.catch_warnings():
        # Rows longer than the header would lose their ends.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return pd.read_csv(
            BytesIO(piece),
            header=None,
            names=layout.names,
            index_col=False,
            skip_blank_lines=False,  # a blank line is a missing sample, not nothing
            skipinitialspace=True,
            low_memory=False,  # the types of all rows alike
            sep=layout.separator,
            decimal=layout.decimal,
            encoding=layout.encoding,
            encoding_errors="replace",  # numbers and times have none that could be replaced
            **how,
        )


def _no_table(path: Path, error: Exception, n_rows: int) -> UserError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
    match = _TOO_MANY_CELLS.search(reason)
    if match:
        most, line, n = map(int, match.groups())
        reason = f"row {n_rows + line} has {n} cells, {most} are named"
    elif _IN_QUOTES in reason:
        reason = f"a quote that opens at row {n_rows + 1} or later is not closed"
    return UserError(f"{path}: not a CSV table ({sanitise(reason)})")


def _blocks(
    path: Path, layout: _Layout, chosen: Sequence[str], time: str | None
) -> Iterator[Block]:
    n_rows = 0
    for table in _tables(path, layout):
        times = None if time is None else _seconds(path, layout, table[time], time, n_rows)
        yield _samples(path, layout, table[list(chosen)], n_rows), times
        n_rows += len(table)
    if not n_rows:
        raise UserError(f"{path}: empty; a header line and numbers are needed")


def _as_written(path: Path, layout: _Layout, time: str) -> Iterator[pd.Series]:
    for table in _tables(path, layout, verbatim=True):
        yield table[time]


def _samples(
    path: Path, layout: _Layout, table: pd.DataFrame, first_row: int
) -> Float[np.ndarray, "T C"]:
    if all(kind.kind in "iuf" for kind in table.dtypes):
        return table.to_numpy(dtype=np.float64)
    columns = [_numbers(path, layout, table[name], str(name), first_row) for name in table]
    return np.stack(columns, axis=1)


def _numbers(
    path: Path, layout: _Layout, values: pd.Series, name: str, first_row: int
) -> Float[np.ndarray, " T"]:
    numbers = _as_numbers(values, layout)
    bad = np.flatnonzero(numbers.isna() & values.notna())
    if bad.size:
        cell = sanitise(values.iloc[bad[0]], 40)
        raise UserError(
            f"{path}: column {sanitise(name, 40)}, row {first_row + bad[0] + 1}: {cell!r} is not a "
            "number"
        )
    return numbers.to_numpy(dtype=np.float64)


def _as_numbers(values: pd.Series, layout: _Layout) -> pd.Series:
    """Numbers of a column that pandas read as text since one cell is text; NaN for that one."""
    if pd.api.types.is_bool_dtype(values):
        return pd.Series(np.nan, index=values.index)
    if pd.api.types.is_numeric_dtype(values):
        return values
    words = values.where(values.isna(), values.astype(str).str.strip())
    if layout.decimal != ".":
        words = words.str.replace(layout.decimal, ".", regex=False)
    clean = words.where(words.astype(str).str.fullmatch(_NUMBER))
    return pd.to_numeric(clean, errors="coerce")


def _seconds(
    path: Path, layout: _Layout, values: pd.Series, name: str, first_row: int
) -> Float[np.ndarray, " T"]:
    """Times as seconds since any origin."""
    numbers = _as_numbers(values, layout)
    if numbers.notna().sum() == values.notna().sum():
        return in_seconds(numbers.to_numpy(dtype=np.float64), name)
    words = values.astype(str).where(values.notna())
    moments = pd.to_datetime(words, format="ISO8601", utc=True, errors="coerce")
    bad = np.flatnonzero(moments.isna() & values.notna())
    if bad.size:
        cell = sanitise(values.iloc[bad[0]], 40)
        raise UserError(
            f"{path}: column {sanitise(name, 40)}, row {first_row + bad[0] + 1}: {cell!r} is "
            "neither a number of seconds nor a date and time as in 2008-01-01T00:00:00.005"
        )
    return seconds_of(moments.dt.tz_localize(None).to_numpy())
