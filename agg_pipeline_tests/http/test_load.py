"""agg-pipeline load: its output, and the rows that the database then holds."""

import datetime as dt
import gzip
import struct
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner, Result

from agg_pipeline.cli import app
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.embedded import Stack
from agg_pipeline.ingest.bar_file import BarFile
from agg_pipeline.ingest.rejects import Reject
from agg_pipeline.ingest.upload import upload_file
from agg_pipeline.market.timeframes import Timeframe

HEADER = "symbol,ts_utc,open,high,low,close,volume,vwap,trade_count\n"
GOOD = "EURUSD,2026-01-05T10:0{n}:00Z,1.1,1.2,1.0,1.15,5,1.1,3\n"


def write(path: Path, *lines: str) -> Path:
    path.write_bytes(gzip.compress((HEADER + "".join(lines)).encode(), mtime=0))
    return path


def stored(db: psycopg.Connection) -> list[str]:
    return [f"{row[0]:%H:%M}" for row in db.execute("select ts_utc from data_bars order by 1").fetchall()]


@pytest.fixture
def database(stack: Stack, clean: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> psycopg.Connection:
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ENV_NAME", "PROD")
    return clean


def load(path: Path, *options: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["load", str(path), *options], terminal_width=200)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
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
    printed = load(path, code=1)
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
    upload = upload_file(one_gateway, BarFile(path, Timeframe.M5))
    assert (upload.stored, upload.rejected) == (0, 1)
    assert "registered with base timeframe 1m, not 5m" in upload.refused["EURUSD"]


def test_rows_that_share_a_cause_are_one_line(database: psycopg.Connection, tmp_path: Path) -> None:
    path = write(
        tmp_path / "bars.csv.gz", GOOD.format(n=0), *(GOOD.format(n=1).replace("1.2", "0.9") for _ in range(480))
    )
    printed = load(path, code=1)
    [line] = [line for line in printed.stderr.splitlines() if "high" in line]
    assert line == (
        "bars.csv.gz: 480 lines: high is below low (lines 3, 4, 5, 6, 7 and 475 more; line 3: high 0.9 is below low "
        "1.0)"
    )


@pytest.mark.parametrize("word", ["Provider", "[/]"])
def test_what_was_recognised_is_said_once(database: psycopg.Connection, tmp_path: Path, word: str) -> None:
    """Also where a file's own words look like markup of the terminal."""
    path = tmp_path / f"{word.replace('/', '')}.csv"
    path.write_text(
        f"Date;open;high;low;close;volume;{word}\n"
        "2026-01-05 05:00;-1.1;1.2;-1.1;1.15;5;x\n2026-01-05 05:01;-1.1;1.2;-1.1;1.15;5;x\n"
    )
    printed = load(path, "--timezone", "America/New_York", "--symbol", word)
    assert printed.stderr.splitlines() == [
        f"{path.name}: fields are separated by semicolon.",
        f"{path.name}: columns with other names: ts_utc from 'Date'.",
        f"{path.name}: columns that are not read: {word!r}.",
        f"{path.name}: 2 bars have a negative price.",
    ]
    assert f"({word})." in printed.stdout
    assert stored(database) == ["10:00", "10:01"]
    utc = load(path, "--symbol", "OTHER")
    assert f"{path.name}: times without an offset are taken as UTC; --timezone says otherwise." in utc.stderr


def test_columns_and_epoch_times(database: psycopg.Connection, tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text("S~T~O~H~L~C~V\nEURUSD~1767607200000~1,5~2~1~1~7\n")
    options = ["--columns", "symbol=S,ts=T,open=O,high=H", "--columns", "low=L,close=C,volume=V"]
    printed = load(path, "--separator", "~", "--decimal-comma", *options)
    assert "times are read as milliseconds since 1970: 1767607200000 is 2026-01-05T10:00:00Z." in printed.stderr
    assert database.execute("select open, vol from data_bars").fetchall() == [(1.5, 7.0)]


def test_a_file_that_cannot_be_read_does_not_stop_the_others(database: psycopg.Connection, tmp_path: Path) -> None:
    good = write(tmp_path / "good.csv.gz", GOOD.format(n=0))
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(good.read_bytes()[:-9])
    last = write(tmp_path / "last.csv.gz", GOOD.format(n=1))
    printed = load(tmp_path / "missing.csv", str(tmp_path), str(cut), str(good), str(last), code=1)
    refused = [line for line in printed.stderr.splitlines() if line.startswith("Error: ")]
    assert [line.split(" ")[1] for line in refused] == [str(tmp_path / "missing.csv"), str(tmp_path), str(cut)]
    assert stored(database) == ["10:00", "10:01"]


def test_exit_codes(database: psycopg.Connection, tmp_path: Path) -> None:
    """0: all rows of all files; 1: some; 2: none."""
    good, bad = GOOD.format(n=0), GOOD.format(n=1).replace("1.2", "0.9")
    whole = write(tmp_path / "whole.csv.gz", good)
    some, none, empty = (
        write(tmp_path / name, *lines)
        for name, lines in (("some.gz", [good, bad]), ("none.gz", [bad]), ("empty.gz", []))
    )
    load(none, code=2)
    assert "empty.gz holds no rows." in load(empty, code=2).stderr
    load(tmp_path / "missing.csv", code=2)
    load(none, str(empty), str(tmp_path), code=2)
    load(some, code=1)
    for other in (some, none, empty, tmp_path):
        load(whole, str(other), code=1)
    load(whole, str(whole), code=0)


def test_symbols_that_the_database_refuses_cost_their_own_rows(
    database: psycopg.Connection, one_gateway: AggGateway, tmp_path: Path
) -> None:
    """One by its registration, one by a trigger of the user, beside and without rows of others in the batch."""
    one_gateway.register_asset("EURUSD", start=dt.datetime(2026, 1, 5, tzinfo=dt.UTC), base_timeframe="5m")
    database.execute(
        """create function of_the_user() returns trigger language plpgsql as $$
             begin
               if new.canonical_symbol = 'NEVER' then raise exception 'the user forbids it'; end if;
               return new;
             end $$;
           create trigger of_the_user before insert on data_bars for each row execute function of_the_user()"""
    )
    try:
        mixed = [GOOD.format(n=0).replace("EURUSD", symbol) for symbol in ("EURUSD", "NEVER", "OTHER")]
        alone = write(tmp_path / "alone.csv.gz", mixed[1])
        printed = load(write(tmp_path / "bars.csv.gz", *mixed), str(alone), code=1)
    finally:
        database.execute("drop function of_the_user() cascade")
    assert "EURUSD: the database refused its bars" in printed.stderr
    assert "registered with base timeframe 5m, not 1m" in printed.stderr
    assert printed.stderr.count("NEVER: the database refused its bars") == 2
    assert printed.stderr.count("the user forbids it") == 2
    assert "bars.csv.gz: 1 bars inserted, 0 updated, 0 unchanged, 2 rows rejected" in printed.stdout
    assert stored(database) == ["10:00"]


def test_extreme_values_arrive_bit_for_bit(gateway: AggGateway, clean: psycopg.Connection, tmp_path: Path) -> None:
    values = (
        ["-0.0", "5e-324", "-1e-12", "5e-324", "0", "-0.0"],
        ["1e30", "1e30", "-1e30", "2.2250738585072e-311", "1e30", "1e30"],
    )
    lines = [f"EURUSD,2026-01-05T10:0{n}:00Z,{','.join(row)},2147483647\n" for n, row in enumerate(values)]
    upload = upload_file(gateway, BarFile(write(tmp_path / "bars.csv.gz", *lines), Timeframe.M1))
    assert (upload.inserted, upload.rejected) == (2, 0)
    rows = clean.execute(
        "select float8send(open), float8send(high), float8send(low), float8send(close), float8send(vol), "
        "float8send(vwap) from data_bars order by ts_utc"
    ).fetchall()
    assert rows == [tuple(struct.pack(">d", float(text)) for text in row) for row in values]


def test_the_newest_and_oldest_times_are_stored(gateway: AggGateway, clean: psycopg.Connection, tmp_path: Path) -> None:
    lines = [GOOD.format(n=0).replace("2026-01-05T10:00", time) for time in ("1900-01-01T00:00", "2199-12-31T23:59")]
    upload_file(gateway, BarFile(write(tmp_path / "bars.csv.gz", *lines), Timeframe.M1))
    years = clean.execute(
        "select extract(year from ts_utc at time zone 'UTC')::integer from data_bars order by 1"
    ).fetchall()
    assert years == [(1900,), (2199,)]
