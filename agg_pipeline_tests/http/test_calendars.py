"""Commands for calendars and gaps, over both transports, with real sessions."""

import datetime as dt
from collections.abc import Iterator

import psycopg
import pytest
from typer.testing import CliRunner, Result

from agg_pipeline.cli import app
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.embedded import Stack
from agg_pipeline.ingest.sessions import is_stale
from agg_pipeline.market.calendars import CalendarError, sessions_of
from agg_pipeline_tests.sessions import forget_sessions
from agg_pipeline_tests.sql.helpers import at, put, register, scalar, settle


@pytest.fixture
def clean(clean: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """Without sessions, before and after: they are shared by all tests."""
    forget_sessions(clean)
    yield clean
    clean.execute("truncate core_asset_registry_all cascade")
    forget_sessions(clean)


@pytest.fixture(params=["rest", "postgres"])
def target(request: pytest.FixtureRequest, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands talk to the session's stack, over either transport."""
    if request.param == "rest" and stack.api_url is None:
        pytest.skip(f"no PostgREST on this machine: {stack.api_missing}")
    environment = stack.environment() | ({"SUPABASE_URL": stack.dsn} if request.param == "postgres" else {})
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_a_proposed_calendar_makes_bars_complete(target: None, clean: psycopg.Connection) -> None:
    """An FX pair of an upgraded registry, which is expected to trade around the clock."""
    register(clean, "EURUSD", start="2026-01-09T00:00")
    clean.execute("update core_asset_registry_all set asset_class = 'fx'")
    put(clean, "EURUSD", "2026-01-09T00:00", 22 * 60)
    settle(clean, "2026-01-10T12:00")
    day = "select expected_candles from derived_data_bars where timeframe = '1d' and deleted_at is null"
    assert scalar(clean, day) == 24
    assert "EURUSD is FX but follows 24x7" in run("calendars").stdout

    result = run("calendar", "EURUSD", "fx_24x5")
    assert (result.exit_code, "EURUSD follows fx_24x5; the next ticks rebuild" in result.stdout) == (0, True)
    settle(clean, "2026-01-10T12:00")
    assert scalar(clean, day) == 22
    told = run("calendars").stdout
    assert "but follows 24x7" not in told
    assert "1990-01-01" in told

    result = run("gaps", "EURUSD", "--from", "2026-01-09", "--to", "2026-01-11", "--closed")
    assert "2026-01-09 22:00  2026-01-11 00:00  closed" in result.stdout.replace("│", "").replace("   ", "  ")
    assert "1,320 source bars found, 0 missing" in result.stdout
    clean.execute("delete from data_bars where ts_utc = %s", [at("2026-01-09T10:00")])
    result = run("gaps", "EURUSD", "5m", "--from", "2026-01-09", "--to", "2026-01-11")
    assert "1,319 source bars found, 1 missing" in result.stdout
    assert "closed" not in result.stdout


def test_a_plan_shows_the_changes_and_writes_nothing(target: None, clean: psycopg.Connection) -> None:
    register(clean, "EURUSD")
    clean.execute("update core_asset_registry_all set trading_calendar = 'fx_24x5'")
    result = run("calendars")
    assert "Nothing was changed; repeat with --apply" in result.stdout
    assert scalar(clean, "select count(*) from trading_sessions") == 0
    assert run("calendars", "--apply").exit_code == 0
    clean.execute(
        "update trading_sessions set close_utc = close_utc - interval '1 h' where open_utc = '2026-01-04T22:00Z'"
    )
    told = run("calendars").stdout
    assert "fx_24x5: removed Sun 2026-01-04 22:00 to Fri 21:00" in told
    assert "fx_24x5: added Sun 2026-01-04 22:00 to Fri 22:00" in told
    run("calendars", "--apply")
    assert "fx_24x5: " not in run("calendars").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["calendar", "EURUSD", "NYSX"], "has no calendar NYSX. Use 24x7, fx_24x5 or one of"),
        (["calendar", "NOBODY", "24x7"], "unknown symbol: NOBODY"),
        (["calendar", "EURUSD", "24x7", "--from", "soon"], "is not a date"),
        (["calendars", "24x7"], "has no calendar 24x7"),
        (["gaps", "NOBODY"], "There are no tasks of NOBODY"),
        (["gaps", "EURUSD", "--from", "2026-01-05", "--to", "2026-01-04"], "is not before --to"),
    ],
)
def test_wrong_arguments_are_reported(target: None, clean: psycopg.Connection, arguments: list[str], said: str) -> None:
    register(clean, "EURUSD")
    result = run(*arguments)
    assert result.exit_code == 1
    assert said in result.stderr.replace("\n", " ")


def test_every_name_of_the_table_can_be_filled_and_no_other_is_known(
    one_gateway: AggGateway, clean: psycopg.Connection
) -> None:
    """The list in the migration is that of the pinned package, without names that the table does not allow."""
    import exchange_calendars as xc

    names = {name for (name,) in clean.execute("select calendar from trading_calendars").fetchall()}
    assert names - {"24x7", "fx_24x5"} == set(xc.get_calendar_names(include_aliases=False)) - {"24/7", "24/5"}
    for name in ("CMES", "XBOM", "XSAU", "AIXK", "XHKG"):  # a day of 24 hours, holidays that are known for few years
        calendar = sessions_of(name, first_year=2015, last_year=2029)
        assert one_gateway.refresh_calendar(calendar, dry_run=False).added == len(calendar.sessions)
    with pytest.raises(CalendarError):
        sessions_of("NYSX", last_year=2029)


def test_a_calendar_is_refreshed_after_thirty_days(one_gateway: AggGateway, clean: psycopg.Connection) -> None:
    register(clean, "EURUSD", "BTCUSD")
    one_gateway.set_calendar("EURUSD", "fx_24x5")
    now = dt.datetime.now(dt.UTC)

    def stale(at: dt.datetime) -> list[str]:
        return [use.calendar for use in one_gateway.calendars().calendars if is_stale(use, at)]

    assert stale(now) == ["fx_24x5"]
    one_gateway.refresh_calendar(sessions_of("fx_24x5", last_year=2029), dry_run=False)
    assert stale(now + dt.timedelta(days=29)) == []
    assert stale(now + dt.timedelta(days=31)) == ["fx_24x5"]
