"""agg-pipeline load: its output, and the rows that the database then holds."""

import datetime as dt
import gzip
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner, Result

from agg_pipeline.cli import app
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.embedded import Stack
from agg_pipeline.errors import PermanentError
from agg_pipeline.ingest.bar_file import BarFile, Reject
from agg_pipeline.ingest.upload import upload_file
from agg_pipeline.market.timeframes import Timeframe

HEADER = "symbol,ts_utc,open,high,low,close,volume,vwap,trade_count\n"
GOOD = "EURUSD,2026-01-05T10:0{n}:00Z,1.1,1.2,1.0,1.15,5,1.1,3\n"


def write(path: Path, *lines: str) -> Path:
    path.write_bytes(gzip.compress((HEADER + "".join(lines)).encode()))
    return path


def stored(db: psycopg.Connection) -> list[str]:
    return [f"{row[0]:%H:%M}" for row in db.execute("select ts_utc from data_bars order by 1").fetchall()]


@pytest.fixture
def database(stack: Stack, clean: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> psycopg.Connection:
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ENV_NAME", "PROD")
    return clean


def load(path: Path, *options: str) -> Result:
    result = CliRunner().invoke(app, ["load", str(path), *options], terminal_width=200)
    assert result.exit_code == 0, result.output
    return result


def test_bad_rows_are_listed_and_nothing_else_is_lost(database: psycopg.Connection, tmp_path: Path) -> None:
    path = write(
        tmp_path / "bars.csv.gz",
        GOOD.format(n=0),
        "EURUSD,2026-01-05T10:01:00Z,1.1,0.9,1.0,1.05,5,1.1,3\n",
        GOOD.format(n=2),
        "EURUSD,yesterday,1.1,1.2,1.0,1.15,5,1.1,3\n",
        GOOD.format(n=4),
    )
    printed = load(path)
    assert "bars.csv.gz line 3:" in printed.stderr
    assert "bars.csv.gz line 5:" in printed.stderr
    assert "2 rows were not loaded" in printed.stderr
    assert "3 bars inserted" in printed.stdout
    assert stored(database) == ["10:00", "10:02", "10:04"]


def test_an_upload_reports_each_bad_row_and_its_progress(
    one_gateway: AggGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In batches of two rows: without a console, for whoever uploads by program."""
    monkeypatch.setattr("agg_pipeline.ingest.upload.BATCH_ROWS", 2)
    rejects: list[Reject] = []
    positions: list[int] = []
    lines = [GOOD.format(n=n) for n in range(5)]
    file = BarFile(write(tmp_path / "bars.csv.gz", *lines, "EURUSD,yesterday,1,1,1,1,1,,\n"), Timeframe.M1)
    upload = upload_file(one_gateway, file, on_reject=rejects.append, on_progress=positions.append)
    assert (upload.inserted, upload.updated, upload.unchanged, upload.rejected) == (5, 0, 0, 1)
    assert [reject.number for reject in rejects] == [7]
    assert len(positions) == 3
    assert positions == sorted(positions)
    assert positions[-1] <= file.size_bytes


def test_a_new_symbol_starts_on_the_day_of_its_first_bar(database: psycopg.Connection, tmp_path: Path) -> None:
    load(write(tmp_path / "bars.csv.gz", GOOD.format(n=0)))
    starts = database.execute(
        "select timeframe, agg_start_utc from data_agg_state order by run_interval_minutes"
    ).fetchall()
    day = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
    assert starts == [("5m", day), ("15m", day), ("1h", day), ("4h", day), ("1d", day)]


def test_bars_before_the_start_of_an_existing_task_are_stored_with_a_warning(
    database: psycopg.Connection, one_gateway: AggGateway, tmp_path: Path
) -> None:
    one_gateway.register_asset("EURUSD", start=dt.datetime(2026, 1, 6, tzinfo=dt.UTC), base_timeframe="1m")
    printed = load(write(tmp_path / "bars.csv.gz", GOOD.format(n=0)))
    assert "EURUSD: bars before 2026-01-06 00:00 are stored but not aggregated" in printed.stderr
    assert stored(database) == ["10:00"]


def test_bars_of_the_future_are_a_warning(database: psycopg.Connection, tmp_path: Path) -> None:
    assert "later than now" not in load(write(tmp_path / "bars.csv.gz", GOOD.format(n=0))).stderr
    future = GOOD.format(n=3).replace("2026-01-05", "2099-01-05")
    printed = " ".join(load(write(tmp_path / "future.csv.gz", GOOD.format(n=1), future)).stderr.split())
    assert "EURUSD: bars are later than now, up to 2099-01-05 10:03 UTC. Are the file's times UTC?" in printed


def test_a_second_load_changes_nothing(database: psycopg.Connection, tmp_path: Path) -> None:
    path = write(tmp_path / "bars.csv.gz", GOOD.format(n=0), GOOD.format(n=1))
    load(path)
    assert "0 bars inserted, 0 updated, 2 unchanged" in load(path).stdout


def test_bars_of_another_base_timeframe_are_refused(
    one_gateway: AggGateway, clean: psycopg.Connection, tmp_path: Path
) -> None:
    """An asset has one base timeframe: its 1m and 5m bars could contradict each other."""
    path = write(tmp_path / "bars.csv.gz", GOOD.format(n=0))
    upload_file(one_gateway, BarFile(path, Timeframe.M1))
    with pytest.raises(PermanentError, match="registered with base timeframe 1m, not 5m"):
        upload_file(one_gateway, BarFile(path, Timeframe.M5))
