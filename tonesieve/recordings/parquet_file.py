"""Parquet files, by PyArrow. Axes: T rows, C channels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float

from tonesieve.errors import UserError
from tonesieve.recordings.reader import (
    MAX_CHANNELS,
    Block,
    Channel,
    OpenedFile,
    OutputFormat,
    ReadOptions,
    check_size,
    choose,
    rows_in_block,
    sanitise,
    unit_in,
)
from tonesieve.recordings.time_columns import in_seconds, need_times, since_origin, time_column

UNIT = b"unit"  # in a column's metadata


def open_parquet(path: Path, options: ReadOptions) -> OpenedFile:
    """Open a Parquet file.

    The time column is found as in CSV files, or is the only one that holds moments. Nulls are
    missing samples.

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
        If it is no such file, or a column holds no numbers.
    """
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            schema, n_rows = file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise _unreadable(path, error) from None
    if len(schema) > MAX_CHANNELS:
        raise UserError(f"{path}: {len(schema)} columns; at most {MAX_CHANNELS:,} can be read")
    moments = [field.name for field in schema if pa.types.is_timestamp(field.type)]
    time = time_column(path, schema.names, options, moments=moments)
    names = [
        field.name
        for field in schema
        if field.name != time and (pa.types.is_integer(field.type) or _is_real(field.type))
    ]
    if not names:
        raise UserError(f"{path}: no column of numbers; one with samples is needed")
    chosen = [names[i] for i in choose(path, names, options.columns)]
    twice = next((n for n in [*chosen, time] if n is not None and schema.names.count(n) > 1), None)
    if twice is not None:
        raise UserError(f"{path}: several columns are named {sanitise(twice, 40)!r}; rename them")
    check_size(path, n_rows * len(chosen))
    need_times(path, time, options.rate_hz)
    output_format = OutputFormat(
        ".parquet",
        time_name=time,
        times=None if time is None else partial(_as_written, path, time),
        time_type=None if time is None else schema.field(time).type,
    )
    channels = tuple(Channel(name, _unit(schema.field(name))) for name in chosen)
    timed = time if options.rate_hz is None else None
    blocks = _blocks(path, chosen, timed)
    return OpenedFile(channels, blocks, output_format, options.rate_hz)


class ParquetWriter:
    """Writes blocks of rows as a Parquet file.

    Parameters
    ----------
    file : binary file
        Open for writing.
    time_name : str or None
        Name of the time column, if there is one.
    channels : sequence of Channel
        Names and units of the columns.
    output_format : OutputFormat
        Type of the time column.
    """

    def __init__(
        self,
        file: BinaryIO,
        time_name: str | None,
        channels: Sequence[Channel],
        output_format: OutputFormat,
    ) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        fields = []
        if time_name is not None:
            fields.append(pa.field(time_name, output_format.time_type or pa.float64()))
        for channel in channels:
            unit = {UNIT: channel.unit.encode()} if channel.unit else None
            fields.append(pa.field(channel.name, pa.float64(), metadata=unit))
        self._schema = pa.schema(fields)
        self._writer = parquet.ParquetWriter(file, self._schema)

    def write(self, times: Any, columns: Float[np.ndarray, "T C"]) -> None:
        """Write rows: a time column, or None, and then numbers."""
        import pyarrow as pa

        arrays = [] if times is None else [_column(times, self._schema.field(0).type)]
        arrays += [pa.array(np.ascontiguousarray(column)) for column in columns.T]
        self._writer.write_table(pa.table(arrays, schema=self._schema))

    def close(self) -> None:
        """Write the footer."""
        self._writer.close()

    def abort(self) -> None:
        """Let go of a file that is not completed."""
        self._writer.close()


def _column(times: Any, kind: Any) -> Any:
    import pyarrow as pa

    if isinstance(times, np.ndarray):
        return pa.array(times, type=kind)
    return pa.concat_arrays(times) if times else pa.array([], type=kind)


def _batches(path: Path, names: Sequence[str]) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            columns = list(dict.fromkeys(names))
            yield from file.iter_batches(rows_in_block(len(columns)), columns=columns)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        if isinstance(error, UserError):
            raise
        raise _unreadable(path, error) from None


def _blocks(path: Path, chosen: Sequence[str], time: str | None) -> Iterator[Block]:
    n_rows = 0
    for batch in _batches(path, [*chosen, *([time] if time else [])]):
        columns = [_floats(batch.column(name)) for name in chosen]
        times = None if time is None else _seconds(path, batch.column(time), time)
        yield np.stack(columns, axis=1), times
        n_rows += batch.num_rows
    if not n_rows:
        raise UserError(f"{path}: empty; it holds no rows")


def _as_written(path: Path, time: str) -> Iterator[Any]:
    for batch in _batches(path, [time]):
        yield batch.column(time)


def _floats(column: Any) -> Float[np.ndarray, " T"]:
    import pyarrow as pa

    return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def _seconds(path: Path, column: Any, name: str) -> Float[np.ndarray, " T"]:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_timestamp(kind):
        per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
        valid = column.is_valid().to_numpy(zero_copy_only=False)
        counts = column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        return since_origin(counts, valid, per_second)
    if not (pa.types.is_integer(kind) or _is_real(kind)):
        raise UserError(f"{path}: column {name} holds {kind}, neither numbers nor moments")
    return in_seconds(_floats(column), name)


def _is_real(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _unit(field: Any) -> str:
    return (field.metadata or {}).get(UNIT, b"").decode("utf-8", "replace") or unit_in(field.name)


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return UserError(f"{path}: not a Parquet file that can be read ({sanitise(reason)})")
