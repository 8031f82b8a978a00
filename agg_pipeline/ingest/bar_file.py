"""Reader of raw bar files, CSV or Parquet, gzipped or not, regular or a pipe: valid bars in batches, rejected rows with
their reason.

Columns, in any order: symbol, ts_utc, open, high, low, close, volume and optionally vwap and trade_count. ``ts_utc`` is
the start of the bar. A bad row is rejected alone; a file that cannot be read raises BarFileError. Memory holds one
batch, and about five bytes per bar to detect duplicates (more if bars lie hours apart).
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import operator
import zlib
from array import array
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from agg_pipeline.ingest.bar_columns import Row, find_columns
from agg_pipeline.ingest.bar_row import BarRow, RowParser
from agg_pipeline.ingest.bar_times import TimeReader
from agg_pipeline.ingest.csv_lines import CsvLines, name_of
from agg_pipeline.ingest.errors import BadRowError, BarFileError, UnreadableError, short, shown_path
from agg_pipeline.ingest.file_options import FileOptions
from agg_pipeline.ingest.opening import Progress, open_bars
from agg_pipeline.ingest.parquet_rows import ParquetRows
from agg_pipeline.ingest.rejects import Reject
from agg_pipeline.market.timeframes import Timeframe

_BLOCK = 64  # bars per entry of the index that detects duplicates


class BarFile:
    """One file of bars of ``base_timeframe``. The constructor reads the header only, so that it fails before any row.

    Attributes:
        columns: which columns are read, and which are not.
        unit: unit of row numbers, "line" (CSV) or "row" (Parquet).
        last_number: number of the last row of the batch that was yielded last; 0 before the first.
        negative_prices: valid bars with a price below 0, so far.

    Raises:
        BarFileError: unreadable, empty, another format than its name says, or a required column is missing.
    """

    def __init__(self, path: str | Path, base_timeframe: Timeframe, options: FileOptions | None = None) -> None:
        self.path = Path(path)
        self.base_timeframe = base_timeframe
        self.last_number = self.negative_prices = 0
        self._options = options or FileOptions()
        self._progress = Progress()
        self._times = TimeReader(self._options.zone)
        self._notes: list[str] = []
        opened: list[CsvLines | ParquetRows] = []
        self._rows: Generator[Row] | None = _read(self.path, self._options, self._progress, opened)
        next(self._rows)
        self.columns, self.unit = opened[0].columns, opened[0].unit
        self._note_header(opened[0])

    @property
    def size_bytes(self) -> int:
        """Size of the file; 0 if it is unknown, as that of a pipe."""
        return self._progress.size_bytes

    @property
    def position_bytes(self) -> int:
        """How much of the file is read; grows while ``batches`` reads."""
        return self._progress.position_bytes

    @property
    def notes(self) -> list[str]:
        """What was recognised or assumed so far and is not as documented for every file, one sentence each."""
        return self._notes + self._times.notes

    def close(self) -> None:
        """Close the file; ``batches`` does so at its end."""
        if self._rows is not None:
            self._rows.close()

    def batches(self, on_reject: Callable[[Reject], None], rows: int = 50_000) -> Iterator[list[BarRow]]:
        """Yield valid rows in the order of the file, at most ``rows`` per batch; call ``on_reject`` for each other row.

        Of rows with the same symbol and time the first valid one is used, the others are rejected. Can be called once:
        a pipe cannot be read again.

        Raises:
            BarFileError: the file is damaged. The batches before that are valid.
        """
        if self._rows is None:
            raise RuntimeError(f"{self.path} was read already; open it again")
        source, self._rows = self._rows, None
        with contextlib.closing(source):
            yield from self._batches(source, on_reject, rows)
        self._progress.position_bytes = self._progress.size_bytes or self._progress.position_bytes

    def _batches(self, source: Iterator[Row], on_reject: Callable[[Reject], None], rows: int) -> Iterator[list[BarRow]]:
        first_rows: dict[tuple[str, int], array[int]] = {}  # number of the row that holds each bar, 0: none
        parse = RowParser(self.base_timeframe, self._times, decimal_comma=self._options.decimal_comma).parse
        width = len(self.columns.header)
        # A row gets two more fields: the value of columns that the file lacks, and the symbol if it is given.
        absent = [None, self._options.symbol]
        symbol, *others = self.columns.places
        pick = operator.itemgetter(
            width + 1 if symbol is None else symbol, *(width if place is None else place for place in others)
        )
        batch: list[BarRow] = []
        number = 0
        for number, fields in source:
            try:
                if isinstance(fields, str):
                    raise BadRowError(fields)
                if len(fields) != width:
                    raise BadRowError(
                        "has another number of fields than the header",
                        f"has {len(fields)} fields where the header has {width}",
                    )
                bar, place = parse(pick([*fields, *absent]))
                key = bar["canonical_symbol"], place // _BLOCK
                block = first_rows.get(key) or first_rows.setdefault(key, array("I", bytes(4 * _BLOCK)))
                if first := block[place % _BLOCK]:
                    raise BadRowError(f"repeats an earlier {self.unit}", f"repeats {self.unit} {first}")
                block[place % _BLOCK] = number
                batch.append(bar)
                if bar["low"] < 0:
                    self.negative_prices += 1
            except BadRowError as bad:
                on_reject(Reject(self.unit, number, bad.reason, bad.cause))
            if len(batch) == rows:
                self.last_number = number
                yield batch
                batch = []
        if batch:
            self.last_number = number
            yield batch

    def _note_header(self, lines: CsvLines | ParquetRows) -> None:
        if isinstance(lines, CsvLines) and lines.separator != ",":
            self._notes.append(f"fields are separated by {name_of(lines.separator)}")
        if renamed := self.columns.renamed:
            taken = ", ".join(f"{name} from {short(there)}" for name, there in renamed.items())
            self._notes.append(f"columns with other names: {taken}")
        if ignored := self.columns.ignored:
            self._notes.append(f"columns that are not read: {', '.join(map(short, ignored))}")


def _read(path: Path, options: FileOptions, progress: Progress, header: list[CsvLines | ParquetRows]) -> Generator[Row]:
    """Yield once when ``header`` has got what holds the header, then every row that is not blank.

    A generator without a reference to its BarFile closes the file as soon as nobody has the BarFile any more.
    """
    find = functools.partial(find_columns, named=options.columns, has_symbol=options.symbol is not None)
    try:
        with open_bars(path, progress) as opened, contextlib.ExitStack() as closing:
            lines: CsvLines | ParquetRows
            if opened.is_parquet:
                lines = closing.enter_context(contextlib.closing(ParquetRows(opened.stream, find, progress)))
            else:
                lines = CsvLines(opened.stream, find, options.separator)
            header.append(lines)
            yield 0, []
            yield from lines.rows()
    except UnreadableError as exc:
        raise _error(path, exc.what, exc.remedy) from exc
    except (gzip.BadGzipFile, EOFError, zlib.error) as exc:
        raise _error(path, f"is damaged or cut off ({exc})", "Fetch it again") from exc
    except OSError as exc:
        raise _error(path, f"cannot be read ({exc.strerror or exc})", "Check the path and the disk") from exc


def _error(path: Path, what: str, remedy: str) -> BarFileError:
    return BarFileError(f"{shown_path(path)} {' '.join(what.split())}. {remedy}.")
