"""Reader of raw bar files, CSV or Parquet, gzipped or not: valid rows in batches, rejected rows with their reason.

Columns, in any order: symbol, ts_utc, open, high, low, close, volume and optionally vwap and trade_count. ``ts_utc`` is
the start of the bar in ISO 8601; a time with an offset is converted to UTC, a time without one is taken as UTC.

A bad row is rejected alone; a file that cannot be read raises BarFileError. Memory holds one batch, and about five
bytes per bar to detect duplicates (more if bars lie hours apart).
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import itertools
import shutil
import tempfile
import zlib
from array import array
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from agg_pipeline.ingest.bar_row import OPTIONAL, REQUIRED, BadRowError, BarRow, parse_bar, short
from agg_pipeline.market.timeframes import Timeframe

_MAX_LINE = 65_536  # bytes; bounds the memory for a file without line ends
_BLOCK = 64  # bars per entry of the index that detects duplicates
_KNOWN = (*REQUIRED, *OPTIONAL)

Row = tuple[int, Sequence[object] | str]  # number of the row, and its fields or the reason why it has none


@dataclass(frozen=True)
class Reject:
    """A rejected row. ``number`` counts from 1: physical lines of a CSV file, data rows of a Parquet file."""

    unit: str
    number: int
    reason: str

    def __str__(self) -> str:
        return f"{self.unit} {self.number}: {self.reason}"


class BarFileError(ValueError):
    """A file cannot be read. The message names the file, what is wrong, and what to do."""


class BarFile:
    """One file of bars of ``base_timeframe``. The constructor reads the header only, so that it fails before any row.

    Attributes:
        size_bytes, position_bytes: progress; position_bytes grows while ``batches`` reads.
        ignored_columns: names of the columns that are not read.
        unit: unit of row numbers, "line" (CSV) or "row" (Parquet).

    Raises:
        BarFileError: unreadable, empty, another format than its name says, not UTF-8, or a required column is missing.
    """

    def __init__(self, path: str | Path, base_timeframe: Timeframe) -> None:
        self.path = Path(path)
        self.base_timeframe = base_timeframe
        self.size_bytes = self.position_bytes = 0
        self.unit = "line"
        rows = self._rows()
        header = [str(name).strip().lower() for name in next(rows)[1]]
        rows.close()
        if missing := [name for name in REQUIRED if name not in header]:
            raise self._error(
                f"has no column {', '.join(missing)}; it has {short(', '.join(header), 200)}",
                f"The header must be, comma-separated, {','.join(REQUIRED)}[,{','.join(OPTIONAL)}]",
            )
        if twice := [name for name in _KNOWN if header.count(name) > 1]:
            raise self._error(f"has column {', '.join(twice)} twice", "Keep one of each")
        self.ignored_columns = [name for name in header if name not in _KNOWN]
        self._width = len(header)
        self._places = [header.index(name) if name in header else None for name in _KNOWN]

    def batches(self, on_reject: Callable[[Reject], None], rows: int = 50_000) -> Iterator[list[BarRow]]:
        """Yield valid rows in the order of the file, at most ``rows`` per batch; call ``on_reject`` for each other row.

        Of rows with the same symbol and time the first valid one is used, the others are rejected.

        Raises:
            BarFileError: the file is damaged. The batches before that are valid.
        """
        first_rows: dict[tuple[str, int], array[int]] = {}  # number of the row that holds each bar, 0: none
        batch: list[BarRow] = []
        for number, fields in itertools.islice(self._rows(), 1, None):
            try:
                bar, place = parse_bar(self._values(fields), self.base_timeframe)
                key = bar["canonical_symbol"], place // _BLOCK
                block = first_rows.get(key) or first_rows.setdefault(key, array("I", bytes(4 * _BLOCK)))
                if first := block[place % _BLOCK]:
                    raise BadRowError(f"repeats {self.unit} {first}")
                block[place % _BLOCK] = number
                batch.append(bar)
            except BadRowError as bad:
                on_reject(Reject(self.unit, number, str(bad)))
            if len(batch) == rows:
                yield batch
                batch = []
        if batch:
            yield batch

    def _values(self, fields: Sequence[object] | str) -> list[object]:
        if isinstance(fields, str):
            raise BadRowError(fields)
        if len(fields) != self._width:
            raise BadRowError(f"has {len(fields)} fields where the header has {self._width}")
        return [None if place is None else fields[place] for place in self._places]

    def _rows(self) -> Generator[Row]:
        """Yield the header, then every row that is not blank."""
        try:
            self.size_bytes, self.position_bytes = self.path.stat().st_size, 0
            with self.path.open("rb") as file:
                yield from self._open(file)
            self.position_bytes = self.size_bytes
        except (gzip.BadGzipFile, EOFError, zlib.error) as exc:
            raise self._error(f"is damaged or cut off ({exc})", "Fetch it again") from exc
        except pa.ArrowException as exc:
            raise self._error(f"is not readable as Parquet ({short(str(exc), 200)})", "Write it again") from exc
        except OSError as exc:
            raise self._error(f"cannot be read ({exc.strerror or exc})", "Check the path and the disk") from exc

    def _open(self, file: IO[bytes]) -> Iterator[Row]:
        """Detect the format by content; a file name that contradicts it is an error."""
        magic = file.read(2)
        file.seek(0)
        if not magic:
            raise self._error("is empty", "Export it again")
        is_gzip = magic == b"\x1f\x8b"
        if self.path.suffix.lower() == ".gz" and not is_gzip:
            raise self._error("is named .gz but is not gzip", "Compress it, or take .gz off its name")
        with gzip.open(file) if is_gzip else contextlib.nullcontext(file) as plain:
            magic = plain.read(4)
            plain.seek(0)
            if magic == b"PAR1":
                yield from self._parquet_rows(cast(IO[bytes], plain), is_gzip)
            elif ".parquet" in map(str.lower, self.path.suffixes):
                raise self._error("is named .parquet but is not Parquet", "Write it again, or name it .csv")
            else:
                yield from self._csv_rows(cast(IO[bytes], plain), file)

    def _csv_rows(self, plain: IO[bytes], file: IO[bytes]) -> Iterator[Row]:
        """Each line is a row: no field of a bar spans lines, so that an unclosed quote affects its own line only."""
        self.unit = "line"
        has_header = False
        for number in itertools.count(1):
            line = plain.readline(_MAX_LINE)
            self.position_bytes = file.tell()
            if not line:
                break
            if len(line) == _MAX_LINE and not line.endswith(b"\n"):
                raise self._error(f"has a line {number} of over {_MAX_LINE} bytes", "Is it a CSV file of bars?")
            fields = _fields(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
            if isinstance(fields, str) and not has_header:
                raise self._error(f"has no readable header: line {number} {fields}", "Save it as CSV in UTF-8")
            if fields:
                has_header = True
                yield number, fields
        if not has_header:
            raise self._error("holds only blank lines", "Export it again")

    def _parquet_rows(self, plain: IO[bytes], is_gzip: bool) -> Iterator[Row]:
        self.unit = "row"
        with tempfile.TemporaryFile() if is_gzip else contextlib.nullcontext(plain) as seekable:
            if is_gzip:
                shutil.copyfileobj(plain, seekable)
                seekable.seek(0)
            with pq.ParquetFile(seekable) as parquet:
                names = parquet.schema_arrow.names
                yield 0, names
                number, total, unread = 0, parquet.metadata.num_rows, itertools.repeat(None)
                wanted = [name for name in names if name.strip().lower() in _KNOWN]
                for batch in parquet.iter_batches(batch_size=10_000, columns=wanted):
                    self.position_bytes = self.size_bytes * (number + len(batch)) // total
                    columns = dict(zip(batch.schema.names, map(_python_values, batch.columns), strict=True))
                    for values in zip(*(columns.get(name, unread) for name in names), strict=False):
                        number += 1
                        yield number, values

    def _error(self, what: str, remedy: str) -> BarFileError:
        return BarFileError(f"{self.path} {what}. {remedy}.")


def _fields(line: bytes) -> list[str] | str:
    """Fields of one line of CSV, empty if it is blank; or the reason why it cannot be parsed."""
    try:
        text = line.decode("utf-8").rstrip("\r\n")
        if '"' not in text:
            return text.split(",") if text.strip() else []
        return next(csv.reader([text], strict=True))
    except UnicodeDecodeError:
        return "is not UTF-8"
    except csv.Error:
        return "has a quote that is not closed or stands inside a field"


class _Unreadable:
    """Stands for a Parquet value that Python cannot represent, such as a time in the year 30000."""

    def __repr__(self) -> str:
        return "that cannot be read"


def _python_values(column: Any) -> list[object]:
    try:
        return cast(list[object], column.to_pylist())
    except (ValueError, OverflowError):
        return [_python_value(scalar) for scalar in column]


def _python_value(scalar: Any) -> object:
    try:
        return cast(object, scalar.as_py())
    except (ValueError, OverflowError):
        return _Unreadable()
