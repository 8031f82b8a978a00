"""A database of the predecessor becomes ours: every row, column and setting stays, and what was dangerous goes."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from agg_pipeline.database.migrate import migrate
from agg_pipeline.embedded import Stack
from agg_pipeline_tests import predecessor
from agg_pipeline_tests.sql.helpers import (
    at,
    due,
    finish,
    fresh_database,
    live,
    rows,
    scalar,
    settle,
    start,
    state,
    times,
)

TABLES = Path(predecessor.__file__).with_name("tables.sql")
KEPT = {
    "core_asset_registry_all": "canonical_symbol",
    "data_bars": "id",
    "derived_data_bars": "id",
    "data_agg_state": "canonical_symbol, timeframe",
    "ops_runlog": "id",
}
HEALTH_OF_THE_VALIDATOR = TABLES.with_name("health_of_the_validator.sql")


@pytest.fixture
def old_dsn(stack: Stack) -> Iterator[str]:
    """The predecessor's database, on our server."""
    with fresh_database(stack.dsn, "predecessor") as dsn:
        with psycopg.connect(dsn, autocommit=True) as db:
            db.execute(TABLES.read_bytes())
            db.execute(Path(__file__).with_name("predecessor.sql").read_bytes())
        yield dsn


@pytest.fixture
def upgraded(old_dsn: str) -> Iterator[psycopg.Connection]:
    migrate(old_dsn)
    with psycopg.connect(old_dsn, autocommit=True) as db:
        yield db


def contents(dsn: str) -> dict[str, list]:
    with psycopg.connect(dsn) as db:
        return {table: rows(db, f"select * from public.{table} order by {key}") for table, key in KEPT.items()}


def test_every_row_and_column_is_kept(old_dsn: str) -> None:
    before = contents(old_dsn)
    migrate(old_dsn)
    after = contents(old_dsn)
    for table, had in before.items():
        assert [{column: row[column] for column in had[0]} for row in after[table]] == had, table


def test_new_columns_have_their_defaults(upgraded: psycopg.Connection) -> None:
    row = state(upgraded, "EURUSD", "5m")
    assert (row["enabled"], row["task_priority"], row["agg_start_utc"]) == (True, 100, at("2025-07-01T00:00"))
    assert (row["late_deadline_seconds"], row["lease_token"], row["transient_streak"]) == (900, 0, 0)
    assert {row["revision"] for row in rows(upgraded, "select * from derived_data_bars")} == {1}


def test_every_asset_stays_open_around_the_clock_until_it_is_told_otherwise(upgraded: psycopg.Connection) -> None:
    calendars = "select distinct trading_calendar as its from core_asset_registry_all"
    assert rows(upgraded, calendars) == [{"its": "24x7"}]
    upgraded.execute("insert into core_asset_registry_all (canonical_symbol, asset_class) values ('GBPUSD', 'fx')")
    of_the_new = "select trading_calendar from core_asset_registry_all where canonical_symbol = 'GBPUSD'"
    assert scalar(upgraded, of_the_new) == "fx_24x5"


def test_no_history_is_marked_dirty(upgraded: psycopg.Connection) -> None:
    assert scalar(upgraded, "select count(*) from agg_dirty_ranges") == 0


def test_one_agg_finish_is_left_and_it_is_ours(upgraded: psycopg.Connection) -> None:
    assert scalar(upgraded, "select count(*) from pg_proc where proname = 'agg_finish'") == 1
    start(upgraded, "EURUSD", "5m", "06:00")
    assert finish(upgraded, "EURUSD", "5m", "06:00") == {"success": True}
    assert state(upgraded, "EURUSD", "5m")["total_runs"] == 10


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_what_the_predecessor_left_open_to_browsers_is_closed(upgraded: psycopg.Connection, role: str) -> None:
    """_upsert_derived_bar, callable by anyone who has the public key, would write any bar."""
    found = rows(
        upgraded,
        "select proname from pg_proc where pronamespace = 'public'::regnamespace "
        "and has_function_privilege(%s, oid, 'execute')",
        [role],
    )
    assert [row["proname"] for row in found] == ["of_the_user"], "which is not ours to close"
    tables = rows(
        upgraded,
        "select relname from pg_class where relnamespace = 'public'::regnamespace "
        "and relkind in ('r', 'v') and has_table_privilege(%s, oid, 'select')",
        [role],
    )
    assert tables == []


def test_the_service_role_keeps_its_functions_and_its_grants_on_the_ingesters_tables(
    upgraded: psycopg.Connection,
) -> None:
    assert scalar(
        upgraded,
        "select has_function_privilege('service_role', 'aggregate_1m_to_5m_window(text, timestamptz, "
        "timestamptz, int)', 'execute')",
    )
    kinds = (
        "select array(select kind from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) kind "
        "where has_table_privilege('service_role', %s, kind))"
    )
    assert scalar(upgraded, kinds, ["data_bars"]) == ["SELECT", "INSERT", "UPDATE"], "DELETE was revoked by the user"
    assert scalar(upgraded, kinds, ["core_asset_registry_all"]) == ["SELECT", "INSERT", "UPDATE", "DELETE"]
    assert scalar(upgraded, kinds, ["derived_data_bars"]) == ["SELECT"]


def test_the_pipeline_goes_on_where_the_predecessor_stopped(upgraded: psycopg.Connection) -> None:
    """Bars that it built stay as they are; its disabled task stays disabled; its source_timeframe is repaired."""
    settle(upgraded, "12:00")
    settle(upgraded, "12:05")  # the hour was left running: a stale lease, and a back-off
    bars = live(upgraded, "EURUSD", "5m")
    assert len(bars) == 72
    assert [row["vwap"] for row in bars[:48]] == [77] * 48
    assert [row["raw"] for row in bars[:48]] == [{"source": "data_bars_only"}] * 48
    assert times(upgraded, "EURUSD", "1h") == ["00:00", "01:00", "02:00", "03:00", "04:00", "05:00"]
    assert state(upgraded, "EURUSD", "1h")["source_timeframe"] == "5m"
    assert (state(upgraded, "DAX", "1h")["status"], live(upgraded, "DAX", "1h")) == ("disabled", [])
    assert rows(upgraded, "select timeframe from data_agg_state where canonical_symbol = 'EURUSD' order by 1") == [
        {"timeframe": "1h"},
        {"timeframe": "5m"},
    ], "calc_ flags were false"


def test_a_late_row_repairs_a_bar_of_the_predecessor(upgraded: psycopg.Connection) -> None:
    settle(upgraded, "12:00")
    upgraded.execute("update data_bars set high = 500 where canonical_symbol = 'EURUSD' and ts_utc = %s", [at("01:00")])
    settle(upgraded, "12:00")
    (row,) = [row for row in live(upgraded, "EURUSD", "5m") if row["revision"] > 1]
    assert (row["ts_utc"], row["high"], row["revision"]) == (at("01:00"), 500, 2)


def test_health_tables_in_the_shape_of_the_validator_stay_and_hurt_nothing(old_dsn: str) -> None:
    with psycopg.connect(old_dsn, autocommit=True) as db:
        db.execute(HEALTH_OF_THE_VALIDATOR.read_bytes())
    migrate(old_dsn)
    with psycopg.connect(old_dsn, autocommit=True) as db:
        assert rows(db, "select source, title, entity from ops_issues") == [
            {"source": "validator", "title": "kept", "entity": None}
        ]
        for hour in (7, 8, 9):  # the third stale lease in a row would write an issue
            start(db, "EURUSD", "5m", f"{hour:02d}:00")
            due(db, f"{hour:02d}:30")
        assert state(db, "EURUSD", "5m")["stale_streak"] == 3


def test_an_upgrade_can_be_repeated(old_dsn: str) -> None:
    migrate(old_dsn)
    before = contents(old_dsn)
    with psycopg.connect(old_dsn, autocommit=True) as db:
        db.execute("delete from supabase_migrations.schema_migrations")
    migrate(old_dsn)
    assert contents(old_dsn) == before
