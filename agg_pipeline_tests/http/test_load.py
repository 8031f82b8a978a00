"""agg-pipeline load: its output, and the rows that the database then holds."""

import datetime as dt
import gzip
from pathlib import Path

import psycopg
import pytest

from agg_pipeline.cli.load_file import load_file
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.errors import PermanentError
from agg_pipeline.market.timeframes import Timeframe

HEADER = "symbol,ts_utc,open,high,low,close,volume,vwap,trade_count\n"
GOOD = "EURUSD,2026-01-05T10:0{n}:00Z,1.1,1.2,1.0,1.15,5,1.1,3\n"


def write(path: Path, *lines: str) -> Path:
    path.write_bytes(gzip.compress((HEADER + "".join(lines)).encode()))
    return path


def stored(db: psycopg.Connection) -> list[str]:
    return [f"{row[0]:%H:%M}" for row in db.execute("select ts_utc from data_bars order by 1").fetchall()]


def test_bad_rows_are_listed_and_nothing_else_is_lost(
    one_gateway: AggGateway, clean: psycopg.Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(
        tmp_path / "bars.csv.gz",
        GOOD.format(n=0),
        "EURUSD,2026-01-05T10:01:00Z,1.1,0.9,1.0,1.05,5,1.1,3\n",
        GOOD.format(n=2),
        "EURUSD,yesterday,1.1,1.2,1.0,1.15,5,1.1,3\n",
        GOOD.format(n=4),
    )
    assert load_file(one_gateway, path, Timeframe.M1, None) == 2
    said = capsys.readouterr()
    assert "bars.csv.gz line 3:" in said.err
    assert "bars.csv.gz line 5:" in said.err
    assert "3 bars inserted" in said.out
    assert stored(clean) == ["10:00", "10:02", "10:04"]


def test_a_new_symbol_starts_on_the_day_of_its_first_bar(
    one_gateway: AggGateway, clean: psycopg.Connection, tmp_path: Path
) -> None:
    load_file(one_gateway, write(tmp_path / "bars.csv.gz", GOOD.format(n=0)), Timeframe.M1, None)
    starts = clean.execute(
        "select timeframe, agg_start_utc from data_agg_state order by run_interval_minutes"
    ).fetchall()
    day = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
    assert starts == [("5m", day), ("15m", day), ("1h", day), ("4h", day), ("1d", day)]


def test_bars_before_the_start_of_an_existing_task_are_stored_and_said(
    one_gateway: AggGateway, clean: psycopg.Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one_gateway.register_asset("EURUSD", start=dt.datetime(2026, 1, 6, tzinfo=dt.UTC), base_timeframe="1m")
    load_file(one_gateway, write(tmp_path / "bars.csv.gz", GOOD.format(n=0)), Timeframe.M1, None)
    assert "EURUSD: bars before 2026-01-06 00:00 are stored but not rolled up" in capsys.readouterr().err
    assert stored(clean) == ["10:00"]


def test_bars_of_the_future_are_said(
    one_gateway: AggGateway, clean: psycopg.Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load_file(one_gateway, write(tmp_path / "bars.csv.gz", GOOD.format(n=0)), Timeframe.M1, None)
    assert "later than now" not in capsys.readouterr().err
    future = GOOD.format(n=3).replace("2026-01-05", "2099-01-05")
    load_file(one_gateway, write(tmp_path / "future.csv.gz", GOOD.format(n=1), future), Timeframe.M1, None)
    said = " ".join(capsys.readouterr().err.split())
    assert "EURUSD: bars are later than now, up to 2099-01-05 10:03 UTC. Are the file's times UTC?" in said


def test_a_second_load_changes_nothing(
    one_gateway: AggGateway, clean: psycopg.Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "bars.csv.gz", GOOD.format(n=0), GOOD.format(n=1))
    load_file(one_gateway, path, Timeframe.M1, None)
    load_file(one_gateway, path, Timeframe.M1, None)
    assert "0 bars inserted, 0 updated, 2 unchanged" in capsys.readouterr().out


def test_bars_of_another_base_timeframe_are_refused(
    one_gateway: AggGateway, clean: psycopg.Connection, tmp_path: Path
) -> None:
    """An asset has one base timeframe: its 1m and 5m bars could contradict each other."""
    path = write(tmp_path / "bars.csv.gz", GOOD.format(n=0))
    load_file(one_gateway, path, Timeframe.M1, None)
    with pytest.raises(PermanentError, match="registered with base timeframe 1m, not 5m"):
        load_file(one_gateway, path, Timeframe.M5, None)
