"""Parquet bar files: types that are read, and rows that are rejected."""

import datetime as dt
import gzip
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from agg_pipeline.ingest.bar_file import BarFile
from agg_pipeline.market.timeframes import Timeframe
from agg_pipeline_tests.ingest.bar_files import GOOD_BAR, columns, parquet_bytes, read, read_parquet

not_utf_8 = pa.array([b"EURUSD", b"\xff"]).cast(pa.string(), safe=False)


@pytest.mark.parametrize("name", ["bars.parquet", "bars.parquet.gz", "bars"])
def test_parquet(tmp_path: Path, name: str) -> None:
    content = parquet_bytes(columns(vwap=[10.5], trade_count=[3]) | {"unread": [{"a": 1}]})
    path = tmp_path / name
    path.write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
    assert BarFile(path, Timeframe.M1).columns.ignored == ["unread"]
    assert read(path) == ([GOOD_BAR], [])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("symbol", pa.array(["EURUSD"]).dictionary_encode()),
        ("ts_utc", ["2024-03-13T00:00:00Z"]),
        ("ts_utc", [1710288000]),
        ("ts_utc", [1710288000_000_000.0]),
        ("ts_utc", pa.array([1710288000], pa.timestamp("s"))),
        ("ts_utc", pa.array([1710288000_000], pa.timestamp("ms", "America/New_York"))),
        ("ts_utc", pa.array([1710288000_000_000_000], pa.timestamp("ns", "UTC"))),
        ("ts_utc", pa.array([1710288000], pa.timestamp("s", "Nowhere/Unknown"))),
        ("ts_utc", pa.array([1710288000], pa.timestamp("s", "+05:30"))),
        ("ts_utc", pa.array([1710288000], pa.timestamp("s")).dictionary_encode()),
        ("symbol", pa.array(["EURUSD"], pa.large_string())),
        ("open", [10]),
        ("open", ["10"]),
        ("open", [Decimal("10.00")]),
        ("open", pa.array([10], pa.float32())),
        ("open", pa.array([10.0], pa.float16())),
        ("volume", pa.array([5], pa.uint64())),
    ],
)
def test_parquet_types(tmp_path: Path, name: str, values: Sequence[Any]) -> None:
    plain = GOOD_BAR | {"vwap": None, "trade_count": None}
    assert read_parquet(tmp_path, columns() | {name: values}) == ([plain], [])


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("symbol", ["EURUSD", None], "symbol is empty"),
        ("symbol", not_utf_8, "symbol that cannot be read is not text"),
        (
            "ts_utc",
            pa.array([1710288000_000_000_000, 1710288060_000_000_001], pa.timestamp("ns")),
            "ts_utc 1710288060000000001 in 1/1000000000 s since 1970 is neither",
        ),
        (
            "ts_utc",
            pa.array([1710288000, 10**12], pa.timestamp("s")),
            "ts_utc 1000000000000000 in 1/1000 s since 1970 is neither",
        ),
        ("ts_utc", pa.array([1710288000, None], pa.timestamp("s")), "ts_utc is missing"),
        ("open", [10.0, float("nan")], "open is missing"),
        ("open", [10.0, None], "open is missing"),
        ("open", ["10", "ten"], "open 'ten' is not a number"),
        ("volume", [5.0, float("inf")], "volume inf is not finite"),
        ("trade_count", [1.0, 1.5], "trade_count 1.5 is not a whole number"),
    ],
)
def test_a_bad_row_of_parquet_is_rejected_alone(tmp_path: Path, name: str, values: Sequence[Any], reason: str) -> None:
    bars, [rejected] = read_parquet(tmp_path, columns(2) | {name: values})
    assert len(bars) == 1
    assert rejected.startswith(f"row 2: {reason}")


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("symbol", [7], "symbol 7 is not text"),
        ("ts_utc", [17102880], "ts_utc 17102880 is neither an ISO 8601 time"),
        ("ts_utc", [True], "ts_utc True is neither an ISO 8601 time"),
        ("ts_utc", [dt.date(2024, 3, 13)], "ts_utc datetime.date(2024, 3, 13) is neither an ISO 8601 time"),
        ("open", [True], "open True is not a number"),
        ("open", [[10.0]], "open [10.0] is not a number"),
    ],
)
def test_a_parquet_column_of_the_wrong_type(tmp_path: Path, name: str, values: Sequence[Any], reason: str) -> None:
    bars, [rejected] = read_parquet(tmp_path, columns() | {name: values})
    assert bars == []
    assert rejected.startswith(f"row 1: {reason}")


def test_rows_of_parquet_are_numbered_across_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "bars.parquet"
    table = columns(25_000)
    table["high"][24_999] = 1.0
    table["ts_utc"][24_998] = table["ts_utc"][3]
    pq.write_table(pa.table(table), path, row_group_size=7_000)
    bars, rejected = read(path)
    assert len(bars) == 24_998
    assert rejected == ["row 24999: repeats row 4", "row 25000: high 1.0 is below low 9.0"]
