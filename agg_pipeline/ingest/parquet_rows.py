"""Rows of a Parquet file as Python values: times of any unit and time zone, numbers, text."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import itertools
from collections.abc import Iterator
from typing import Any, cast

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from agg_pipeline.ingest.bar_columns import Find, Row
from agg_pipeline.ingest.bar_times import EPOCH
from agg_pipeline.ingest.errors import UnreadableError, short
from agg_pipeline.ingest.opening import Progress

_BATCH = 10_000  # rows that are in memory at once, beside one row group
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


class ParquetRows:
    """A Parquet file. The constructor reads the schema. Close it.

    Args:
        find: finds the columns in the schema, or raises UnreadableError.
        progress: grows with the rows that are read.
    Raises:
        UnreadableError: it is damaged, or lacks columns.
    """

    unit = "row"

    def __init__(self, stream: io.BufferedReader, find: Find, progress: Progress):
        self._progress = progress
        with _damage():
            self._file = pq.ParquetFile(stream)
            names = [str(name) for name in self._file.schema_arrow.names]
            self._total = int(self._file.metadata.num_rows)
        self.columns = find(names)

    def close(self) -> None:
        self._file.close()

    def rows(self) -> Iterator[Row]:
        """Every row with its number, counted from 1. A column that is not read has None in each."""
        number, names, unread = 0, self.columns.header, itertools.repeat(None)
        wanted = {names[place] for place in self.columns.places if place is not None}
        with _damage():
            batches = self._file.iter_batches(batch_size=_BATCH, columns=sorted(wanted))
        while True:
            with _damage():
                if (batch := next(batches, None)) is None:
                    return
                columns = dict(zip(batch.schema.names, map(_python_values, batch.columns), strict=True))
            if size := self._progress.size_bytes:
                self._progress.position_bytes = size * (number + len(batch)) // max(self._total, 1)
            for values in zip(
                *(columns.get(name, unread) if name in wanted else unread for name in names), strict=False
            ):
                number += 1
                yield number, values


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    """Damaged bytes make the library raise errors of many kinds, its own and Python's."""
    try:
        yield
    except Exception as exc:
        if isinstance(exc, OSError) and exc.errno:  # of the disk
            raise
        raise UnreadableError(f"is not readable as Parquet ({short(str(exc), 200)})", "Write it again") from exc


class _Unreadable:
    """Stands for a Parquet value that Python cannot represent, such as a time in the year 30000."""

    def __init__(self, text: str = "that cannot be read"):
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _python_values(column: Any) -> list[object]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_timestamp(column.type):
        per_second, is_utc = _PER_SECOND[column.type.unit], column.type.tz is not None
        return [_time(value, per_second, is_utc=is_utc) for value in column.cast(pa.int64()).to_pylist()]
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    try:
        return cast(list[object], column.to_pylist())
    except (ValueError, OverflowError):
        return [_python_value(scalar) for scalar in column]


def _time(value: int | None, per_second: int, *, is_utc: bool) -> object:
    """A time of a column with or without time zone; with one, the file holds UTC whatever the zone."""
    if value is None:
        return None
    micros, rest = divmod(value * 10**6, per_second)
    try:
        if rest:
            raise OverflowError
        time = EPOCH + dt.timedelta(microseconds=micros)
    except OverflowError:
        return _Unreadable(f"{value} in 1/{per_second} s since 1970")
    return time if is_utc else time.replace(tzinfo=None)


def _python_value(scalar: Any) -> object:
    try:
        return cast(object, scalar.as_py())
    except (ValueError, OverflowError):
        return _Unreadable()
