"""Times of bar files: epoch numbers by size, times without an offset, clocks that are set forward and back."""

from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pytest

from agg_pipeline.ingest.bar_file import BarFile
from agg_pipeline.ingest.file_options import FileOptions
from agg_pipeline.market.timeframes import Timeframe
from agg_pipeline_tests.ingest.bar_files import GOOD_BAR, HEADER, columns, parquet_bytes, read, row

NEW_YORK = FileOptions.parse(timezone="America/New_York")
NAIVE = "times without an offset are taken as UTC; --timezone says otherwise"


def file_of(folder: Path, *times: str, options: FileOptions | None = None) -> BarFile:
    path = folder / "bars.csv"
    path.write_text("\n".join([HEADER, *(row(ts_utc=time) for time in times)]))
    return BarFile(path, Timeframe.M1, options)


def times(file: BarFile) -> tuple[list[str], list[str]]:
    rejected: list[str] = []
    bars = [bar for batch in file.batches(lambda reject: rejected.append(str(reject))) for bar in batch]
    return [bar["ts_utc"] for bar in bars], rejected


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("1710288000", "seconds"),
        ("1710288000.0", "seconds"),
        ("1710288000000", "milliseconds"),
        ("1710288000000000", "microseconds"),
        ("1710288000000000000", "nanoseconds"),
    ],
)
def test_epoch_times_are_recognised_by_size_and_said_once(tmp_path: Path, text: str, unit: str) -> None:
    later = text.replace("1710288000", "1710288060")
    file = file_of(tmp_path, text, later)
    assert times(file) == (["2024-03-13T00:00:00Z", "2024-03-13T00:01:00Z"], [])
    number = text.removesuffix(".0")
    assert file.notes == [f"times are read as {unit} since 1970: {number} is 2024-03-13T00:00:00Z"]


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
def test_the_range_of_epoch_times_leaves_no_unit_in_doubt(tmp_path: Path, unit: int) -> None:
    first, last = 100_000_020, 7_258_118_340
    good, rejected = times(file_of(tmp_path, *(str(second * unit) for second in (first, last, last + 60, 99_999_960))))
    assert good == ["1973-03-03T09:47:00Z", "2199-12-31T23:59:00Z"]
    assert [reject.split(":")[0] for reject in rejected] == ["line 4", "line 5"]


def test_times_without_offset_are_utc_with_a_notice(tmp_path: Path) -> None:
    file = file_of(tmp_path, "2024-03-13 00:00", "2024-03-13 00:01")
    assert file.notes == []
    assert times(file)[0] == ["2024-03-13T00:00:00Z", "2024-03-13T00:01:00Z"]
    assert file.notes == [NAIVE]
    aware = file_of(tmp_path, "2024-03-13 00:00Z", "2024-03-12T20:01-04:00")
    assert times(aware)[0] == ["2024-03-13T00:00:00Z", "2024-03-13T00:01:00Z"]
    assert aware.notes == []


def test_a_time_zone_is_for_times_without_offset(tmp_path: Path) -> None:
    file = file_of(tmp_path, "2024-03-12 20:00", "2024-03-13T00:01Z", "1710288120", options=NEW_YORK)
    assert times(file) == (["2024-03-13T00:00:00Z", "2024-03-13T00:01:00Z", "2024-03-13T00:02:00Z"], [])
    assert len(file.notes) == 1


def test_hours_that_a_clock_skips_or_repeats_are_rejected(tmp_path: Path) -> None:
    """New York: 2024-03-10 02:00 to 03:00 does not exist, 2024-11-03 01:00 to 02:00 is there twice."""
    stamps = ["2024-03-10 01:59", "2024-03-10 02:00", "2024-03-10 02:59", "2024-03-10 03:00"]
    stamps += ["2024-11-03 00:59", "2024-11-03 01:00", "2024-11-03 01:59", "2024-11-03 02:00"]
    good, rejected = times(file_of(tmp_path, *stamps, options=NEW_YORK))
    assert good == ["2024-03-10T06:59:00Z", "2024-03-10T07:00:00Z", "2024-11-03T04:59:00Z", "2024-11-03T07:00:00Z"]
    skipped = "is skipped in America/New_York, whose clock was set forward"
    twice = "is there twice in America/New_York, whose clock was set back"
    assert rejected == [
        f"line 3: ts_utc 2024-03-10T02:00:00 {skipped}",
        f"line 4: ts_utc 2024-03-10T02:59:00 {skipped}",
        f"line 7: ts_utc 2024-11-03T01:00:00 {twice}",
        f"line 8: ts_utc 2024-11-03T01:59:00 {twice}",
    ]


def test_a_parquet_column_without_time_zone_is_local_too(tmp_path: Path) -> None:
    path = tmp_path / "bars.parquet"
    path.write_bytes(parquet_bytes(columns(ts_utc=pa.array([1710273600_000], pa.timestamp("ms")))))
    assert read(path, options=NEW_YORK) == ([GOOD_BAR | {"vwap": None, "trade_count": None}], [])
    file = BarFile(path, Timeframe.M1)
    assert times(file) == (["2024-03-12T20:00:00Z"], [])
    assert file.notes == [NAIVE]


def test_a_time_far_away_is_rejected_whatever_the_zone(tmp_path: Path) -> None:
    stamps = ["0001-01-01 00:00", "9999-12-31 23:59", "0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00"]
    assert len(times(file_of(tmp_path, *stamps, options=NEW_YORK))[1]) == 4
    assert len(times(file_of(tmp_path, *stamps))[1]) == 4
