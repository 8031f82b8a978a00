"""Sessions of a calendar are there as soon as a symbol gets it: by load, calendar, sync and the demo's bars."""

import logging
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner, Result

from agg_pipeline.cli import app
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.embedded import Stack
from agg_pipeline.ingest.sessions import fill_missing
from agg_pipeline.ingest.upload import upload_demo_bars
from agg_pipeline_tests.fx_weekend import NOW, START, assert_weekend, graded_bars, put_weekend, weekend_csv
from agg_pipeline_tests.oracle import assert_equals_oracle
from agg_pipeline_tests.sessions import forget_sessions
from agg_pipeline_tests.sql.helpers import at, register, scalar, settle

UNKNOWN = "XNOPE"


@pytest.fixture
def db(stack: Stack, clean: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> Iterator[psycopg.Connection]:
    """No sessions, and a calendar of the table that exchange_calendars does not know; the commands use the stack."""
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ENV_NAME", "PROD")
    forget_sessions(clean)
    clean.execute("insert into trading_calendars (calendar) values (%s)", [UNKNOWN])
    yield clean
    clean.execute("truncate core_asset_registry_all cascade")
    forget_sessions(clean)
    clean.execute("delete from trading_calendars where calendar = %s", [UNKNOWN])


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, list(arguments), terminal_width=200)
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize("registry", ["by the option", "before"])
def test_a_load_stores_the_sessions_of_the_symbols_in_the_file(
    db: psycopg.Connection, tmp_path: Path, registry: str
) -> None:
    path = tmp_path / "eurusd.csv"
    path.write_text(weekend_csv("EURUSD"))
    options = ["--asset-class", "fx"]
    if registry == "before":
        options = []
        db.execute("insert into core_asset_registry_all (canonical_symbol, asset_class) values ('EURUSD', 'FX')")
    assert run("load", str(path), "--start", f"{START}Z", *options).stderr == ""
    settle(db, NOW)
    assert_weekend(db, "EURUSD")
    assert scalar(db, "select max(revision) from derived_data_bars") == 1


def test_the_class_of_a_registered_symbol_stays(db: psycopg.Connection, tmp_path: Path) -> None:
    register(db, "EURUSD", start=START)
    path = tmp_path / "eurusd.csv"
    path.write_text(weekend_csv("EURUSD"))
    run("load", str(path), "--asset-class", "fx")
    assert scalar(db, "select trading_calendar from core_asset_registry_all") == "24x7"
    assert scalar(db, "select count(*) from trading_sessions") == 0


def test_a_calendar_without_sessions_is_named_and_the_bars_are_loaded(db: psycopg.Connection, tmp_path: Path) -> None:
    db.execute(
        """insert into core_asset_registry_all (canonical_symbol, trading_calendar)
           values ('ACME', %s), ('EURUSD', 'fx_24x5')""",
        [UNKNOWN],
    )
    path = tmp_path / "acme.csv"
    path.write_text(weekend_csv("ACME"))
    said = " ".join(run("load", str(path)).stderr.split())
    assert f"Calendar {UNKNOWN} has no sessions, so all its time counts as open. exchange_calendars" in said
    assert "`agg-pipeline calendars --apply` tries again. `agg-pipeline calendar SYMBOL CALENDAR` gives" in said
    assert scalar(db, "select count(*) from data_bars") == 9 * 60
    assert scalar(db, "select count(*) from trading_sessions where calendar = 'fx_24x5'") > 1900


def test_the_command_calendar_stores_them(db: psycopg.Connection) -> None:
    register(db, "EURUSD", start=START)
    put_weekend(db, "EURUSD")
    settle(db, NOW)
    assert ("Fri 20:00", 2, 2, 2) not in graded_bars(db, "EURUSD", "4h")
    run("calendar", "EURUSD", "fx_24x5")
    settle(db, NOW)
    assert_weekend(db, "EURUSD")


def test_the_command_sync_stores_them(db: psycopg.Connection) -> None:
    db.execute(
        "insert into core_asset_registry_all (canonical_symbol, asset_class, active) values ('EURUSD', 'forex', true)"
    )
    put_weekend(db, "EURUSD")
    assert run("sync").stdout == "5 tasks created, 0 updated.\n"
    settle(db, NOW)
    assert_weekend(db, "EURUSD")


def test_one_calendar_does_not_keep_the_others_from_being_refreshed(db: psycopg.Connection) -> None:
    """XNOPE comes before fx_24x5."""
    register(db, "AAA", "BBB")
    for symbol, calendar in (("AAA", "fx_24x5"), ("BBB", UNKNOWN)):
        db.execute("select agg_set_calendar(%s, %s)", [symbol, calendar])
    for options in ([], ["--apply"]):
        result = run("calendars", *options, code=1)
        assert f"Error: {UNKNOWN}: exchange_calendars" in result.stderr
        assert "2,088" in result.stdout
    filled = db.execute("select calendar from trading_calendars where refreshed_at is not null order by 1").fetchall()
    assert filled == [("fx_24x5",)]


def test_sessions_that_are_there_are_not_stored_again(one_gateway: AggGateway, db: psycopg.Connection) -> None:
    one_gateway.register_asset("EURUSD", start=at(START), base_timeframe="1m", asset_class="fx")
    assert fill_missing(one_gateway) == []
    refreshed = "select refreshed_at from trading_calendars where calendar = 'fx_24x5'"
    before = scalar(db, refreshed)
    assert before is not None
    assert fill_missing(one_gateway) == []
    assert scalar(db, refreshed) == before


def test_the_weekend_of_the_demo_is_complete(one_gateway: AggGateway, db: psycopg.Connection) -> None:
    """The bars that `agg-pipeline demo` generates, which lack some minutes but no hour."""
    start, now = at("2026-03-06T00:00"), at(NOW)
    for symbol in ("EURUSD", "DE40"):
        assert upload_demo_bars(one_gateway, symbol, start, now).calendar_failures == []
    settle(db, "2026-03-09T12:00")  # a window that lacks its last minute waits for the deadline
    assert graded_bars(db, "EURUSD", "4h", "Fri 20:%") == [("Fri 20:00", 2, 2, 2)]
    assert graded_bars(db, "EURUSD", "4h", "Sun%") == [("Sun 20:00", 3, 3, 2)]
    assert graded_bars(db, "EURUSD", "1d", "Sun%") == [("Sun 00:00", 3, 3, 2)]
    assert [row[3] for row in graded_bars(db, "EURUSD", "1h", "Sun%")] == [2, 2, 2]
    assert graded_bars(db, "DE40", "4h") == [("Fri 08:00", 4, 4, 2), ("Fri 12:00", 4, 4, 2), ("Fri 16:00", 1, 1, 2)]
    assert graded_bars(db, "DE40", "1d") == [("Fri 00:00", 9, 9, 2)]
    assert_equals_oracle(db)


def test_a_calendar_that_takes_too_long_is_tried_once_and_costs_no_other(
    one_gateway: AggGateway, db: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """The windows that it invalidates can be more than a statement has time for; each tick would wait for retries."""
    register(db, "AAA", "BBB")
    for symbol, calendar in (("AAA", "fx_24x5"), ("BBB", "XETR")):
        db.execute("select agg_set_calendar(%s, %s)", [symbol, calendar])
    db.execute(
        """create function slow() returns trigger language plpgsql as
           'begin if new.calendar = ''XETR'' then raise ''too slow'' using errcode = ''57014''; end if;
           return new; end';
           create trigger slow before update on trading_calendars for each row execute function slow()"""
    )
    caplog.set_level(logging.INFO, "agg_pipeline")
    try:
        (line,) = fill_missing(one_gateway)
    finally:
        db.execute("drop function slow() cascade")
    assert line.startswith("Calendar XETR has no sessions, so all its time counts as open. agg_refresh_calendar failed")
    assert scalar(db, "select array_agg(calendar) from trading_calendars where refreshed_at is not null") == ["fx_24x5"]
    assert not [record for record in caplog.records if "Retrying" in record.getMessage()]
