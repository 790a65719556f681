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
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from jaxtyping import Float

from tonesieve.errors import UserError
from tonesieve.recordings.contents import (
    MOST_CHANNELS,
    ROWS,
    TIME_NAMES,
    Block,
    Channel,
    Contents,
    Form,
    Wanted,
    choose,
    time_scale,
    unit_in,
)

HEAD = 2**20  # bytes within which the header must end
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class _Layout:
    """How the text is laid out, read off its first lines."""

    n_comments: int
    names: list[str]
    bare: bool  # no header: numbers from the first line on
    separator: str
    decimal: str
    encoding: str


def open_csv(path: Path, wanted: Wanted) -> Contents:
    """The chosen columns of a CSV file.

    Lines at the top that begin with # are passed over; without a header line columns are named
    1, 2, ... . The time column is the one named so (`TIME_NAMES`, with a unit as in ``time_ms``),
    or ``wanted.time``: seconds, or dates and times of day as ISO 8601 has them. An empty cell and
    a line that is blank are missing samples.

    Raises `UserError` for what is no table, has text among its numbers, or no such column.
    """
    layout = _layout(path)
    time = _time_column(path, layout, wanted)
    names = [name for name in layout.names if name != time]
    if not names:
        raise UserError(f"{path}: no column beside {time}; one with samples is needed")
    chosen = [names[i] for i in choose(path, names, wanted.columns)]
    if wanted.rate_hz is None and time is None:
        raise UserError(
            f"{path}: no time column ({', '.join(TIME_NAMES)}); name it with --time, or give the "
            "rate with --rate"
        )
    form = Form(
        ".csv",
        time_name=time,
        times=None if time is None else partial(_as_written, path, layout, time),
        separator=layout.separator,
        decimal=layout.decimal,
        encoding=layout.encoding,
    )
    channels = tuple(Channel(name, unit_in(name)) for name in chosen)
    timed = time if wanted.rate_hz is None else None
    return Contents(channels, _blocks(path, layout, chosen, timed), form, wanted.rate_hz)


class CsvWriter:
    """Writes blocks of rows as CSV text."""

    def __init__(
        self, file: BinaryIO, time_name: str | None, channels: Sequence[Channel], form: Form
    ) -> None:
        self._file, self._form = file, form
        self._whole = [i for i, channel in enumerate(channels) if channel.whole]
        names = [*([time_name] if time_name else []), *(channel.name for channel in channels)]
        self._how: dict[str, Any] = {
            "index": False,
            "header": False,
            "lineterminator": "\n",
            "sep": form.separator,
            "decimal": form.decimal,
        }
        header = pd.DataFrame(columns=pd.Index(names))
        self._put(header.to_csv(**{**self._how, "header": True}))

    def write(self, times: Any, columns: Float[np.ndarray, "T C"]) -> None:
        """Rows: a time column, or None, and then numbers."""
        table = pd.DataFrame(columns)
        table = table.astype(dict.fromkeys(self._whole, np.int64))
        if times is not None:
            table.insert(0, "time", times)
        self._put(table.to_csv(**self._how))

    def close(self) -> None:
        """Nothing is held back."""

    def _put(self, text: str) -> None:
        self._file.write(text.encode(self._form.encoding))


def _layout(path: Path) -> _Layout:
    with path.open("rb") as file:
        raw = file.read(HEAD)
    encoding = "utf-8-sig" if raw.startswith(b"\xef\xbb\xbf") else "utf-8"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        # A character may have been cut in two at the end; else an older table of characters.
        whole = len(raw) == HEAD and error.start > len(raw) - 4
        text = raw[: error.start].decode(encoding) if whole else raw.decode("latin-1")
        encoding = encoding if whole else "latin-1"
    if "\0" in text:
        raise UserError(f"{path}: not a CSV table (it holds zero bytes)")
    lines = text.splitlines()
    n_comments = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    if n_comments == len(lines):
        raise UserError(f"{path}: empty; a header line and numbers are needed")
    if len(raw) == HEAD and n_comments >= len(lines) - 1:
        raise UserError(f"{path}: not a CSV table (its first line does not end)")
    first = lines[n_comments]
    separator = next((c for c in ",;\t" if c in first), ",")
    body = [line for line in lines[n_comments : n_comments + 20] if line]
    if separator == "," and _DECIMAL_COMMA.fullmatch(first.strip()) and ";" not in first:
        separator = ","
    if ";" in first and all(";" in line for line in body):
        separator = ";"
    cells = [cell.strip() for line in body for cell in line.split(separator)]
    commas = separator != "," and any(_DECIMAL_COMMA.fullmatch(cell) for cell in cells)
    words = next(csv.reader([first], delimiter=separator, skipinitialspace=True), [])
    if len(words) > MOST_CHANNELS:
        raise UserError(f"{path}: {len(words)} columns; at most {MOST_CHANNELS:,} can be read")
    bare = bool(words) and all(_is_number(w.replace(",", ".") if commas else w) for w in words)
    names = [str(i + 1) for i in range(len(words))] if bare else _distinct(words)
    return _Layout(n_comments, names, bare, separator, "," if commas else ".", encoding)


def _distinct(words: Sequence[str]) -> list[str]:
    """Names as pandas makes them: none stays empty, and one that stands twice gets a number."""
    names: list[str] = []
    for i, word in enumerate(words):
        name, n = word or f"Unnamed: {i}", 0
        while name in names:
            n += 1
            name = f"{word}.{n}"
        names.append(name)
    return names


def _time_column(path: Path, layout: _Layout, wanted: Wanted) -> str | None:
    if wanted.time is not None:
        if wanted.time not in layout.names:
            there = ", ".join(layout.names[:12])
            raise UserError(f"{path}: --time {wanted.time}: no such column; there are {there}")
        return wanted.time
    free = (name for name in layout.names if name not in wanted.columns)
    return next((name for name in free if time_scale(name) is not None), None)


def _tables(path: Path, layout: _Layout, **how: Any) -> Iterator[pd.DataFrame]:
    """Blocks of rows, blank lines at the end left away."""
    n_blank, blank = 0, None
    try:
        with warnings.catch_warnings():
            # Rows longer than the header would lose their ends.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            with pd.read_csv(
                path,
                skiprows=layout.n_comments + (0 if layout.bare else 1),
                header=None,
                names=layout.names,
                index_col=False,
                skip_blank_lines=False,  # a blank line is a missing sample, not nothing
                skipinitialspace=True,
                sep=layout.separator,
                decimal=layout.decimal,
                encoding=layout.encoding,
                chunksize=ROWS,
                **how,
            ) as tables:
                for table in tables:
                    filled = np.flatnonzero(table.notna().any(axis=1))
                    if not filled.size:
                        n_blank, blank = n_blank + len(table), table.iloc[:1]
                        continue
                    if n_blank and blank is not None:
                        yield pd.concat([blank] * n_blank)
                    yield table.iloc[: filled[-1] + 1]
                    n_blank, blank = len(table) - 1 - int(filled[-1]), table.iloc[-1:]
    except pd.errors.EmptyDataError:
        return
    except (pd.errors.ParserError, pd.errors.ParserWarning, ValueError, OSError) as error:
        if isinstance(error, UserError):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise UserError(f"{path}: not a CSV table ({reason})") from None


def _blocks(
    path: Path, layout: _Layout, chosen: Sequence[str], time: str | None
) -> Iterator[Block]:
    n_rows = 0
    for table in _tables(path, layout):
        columns = [_numbers(path, table[name], name, n_rows) for name in chosen]
        times = None if time is None else _seconds(path, table[time], time, n_rows)
        yield np.stack(columns, axis=1), times
        n_rows += len(table)
    if not n_rows:
        raise UserError(f"{path}: empty; a header line and numbers are needed")


def _as_written(path: Path, layout: _Layout, time: str) -> Iterator[pd.Series]:
    for table in _tables(path, layout, dtype=str, keep_default_na=False):
        yield table[time]


def _numbers(path: Path, values: pd.Series, name: str, first_row: int) -> Float[np.ndarray, " T"]:
    numbers = pd.to_numeric(values, errors="coerce")
    truth = pd.api.types.is_bool_dtype(values)
    bad = np.flatnonzero(truth | (numbers.isna() & values.notna()))
    if bad.size:
        shown = str(values.iloc[bad[0]])[:40]
        raise UserError(
            f"{path}: column {name}, row {first_row + bad[0] + 1}: {shown!r} is not a number"
        )
    return numbers.to_numpy(dtype=np.float64)


def _seconds(path: Path, values: pd.Series, name: str, first_row: int) -> Float[np.ndarray, " T"]:
    """Times as seconds since any one origin."""
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return values.to_numpy(dtype=np.float64) * (time_scale(name) or 1.0)
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.notna().sum() == values.notna().sum():
        return numbers.to_numpy(dtype=np.float64) * (time_scale(name) or 1.0)
    moments = pd.to_datetime(values.astype(str), format="ISO8601", utc=True, errors="coerce")
    bad = np.flatnonzero(moments.isna() & values.notna())
    if bad.size:
        shown = str(values.iloc[bad[0]])[:40]
        raise UserError(
            f"{path}: column {name}, row {first_row + bad[0] + 1}: {shown!r} is neither a number "
            "of seconds nor a date and time as in 2008-01-01T00:00:00.005"
        )
    return seconds_of(moments)


def seconds_of(moments: pd.Series) -> Float[np.ndarray, " T"]:
    """Moments as seconds since 2000; NaN where there is none."""
    since = moments - pd.Timestamp("2000-01-01", tz="UTC")
    return since.dt.total_seconds().to_numpy(dtype=np.float64)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
