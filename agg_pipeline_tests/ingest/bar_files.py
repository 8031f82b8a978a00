"""Small bar files for the tests of the reader."""

import datetime as dt
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from agg_pipeline.ingest.bar_file import BarFile
from agg_pipeline.ingest.bar_row import BarRow
from agg_pipeline.ingest.file_options import FileOptions
from agg_pipeline.ingest.rejects import Reject
from agg_pipeline.market.timeframes import Timeframe

HEADER = "symbol,ts_utc,open,high,low,close,volume,vwap,trade_count"
GOOD = "EURUSD,2024-03-13T00:00:00Z,10,12,9,11,5,10.5,3"
AFTER = "EURUSD,2024-03-13T00:59:00Z,10,12,9,11,5,10.5,3"  # a valid row after the row under test; must always be read


def read(
    path: Path, base: Timeframe = Timeframe.M1, rows: int = 50_000, options: FileOptions | None = None
) -> tuple[list[BarRow], list[str]]:
    rejected: list[Reject] = []
    batches = list(BarFile(path, base, options).batches(rejected.append, rows))
    assert all(0 < len(batch) <= rows for batch in batches)
    bars = [bar for batch in batches for bar in batch]
    assert json.loads(json.dumps(bars, allow_nan=False)) == bars
    return bars, [str(reject) for reject in rejected]


def read_csv(
    folder: Path, *lines: str, header: str = HEADER, base: Timeframe = Timeframe.M1
) -> tuple[list[BarRow], list[str]]:
    path = folder / "bars.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8", newline="")
    return read(path, base)


def row(**fields: str) -> str:
    return ",".join((dict(zip(HEADER.split(","), GOOD.split(","), strict=True)) | fields).values())


def parquet_bytes(columns: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def columns(count: int = 1, **changes: Any) -> dict[str, Any]:
    start = dt.datetime(2024, 3, 13, tzinfo=dt.UTC)
    plain = {"symbol": ["EURUSD"] * count, "ts_utc": [start + dt.timedelta(minutes=n) for n in range(count)]}
    prices = {"open": [10.0] * count, "high": [12.0] * count, "low": [9.0] * count, "close": [11.0] * count}
    return plain | prices | {"volume": [5] * count} | changes


GOOD_BAR: BarRow = {
    "canonical_symbol": "EURUSD",
    "ts_utc": "2024-03-13T00:00:00Z",
    "open": 10.0,
    "high": 12.0,
    "low": 9.0,
    "close": 11.0,
    "vol": 5.0,
    "vwap": 10.5,
    "trade_count": 3,
}


def read_parquet(folder: Path, table: dict[str, Any]) -> tuple[list[BarRow], list[str]]:
    path = folder / "bars.parquet"
    path.write_bytes(parquet_bytes(table))
    return read(path)
