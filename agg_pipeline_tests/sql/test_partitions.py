"""Bars tables become partitioned while they are in use: nothing is lost, and everything on them works as before."""

import datetime as dt
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from agg_pipeline.database.migrate import MigrationError
from agg_pipeline.database.partitioning import partition, plan
from agg_pipeline.embedded import Stack
from agg_pipeline_tests.oracle import assert_equals_oracle
from agg_pipeline_tests.sql.helpers import (
    at,
    copied_database,
    put,
    refused,
    register,
    rows,
    scalar,
    settle,
    tick,
)

NOW = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)

# What hangs on the two tables, without the names of indexes' tables.
SURROUNDINGS = {
    "columns": """select table_name::text, column_name::text, data_type::text, is_nullable::text, column_default::text
                    from information_schema.columns where table_name in ('data_bars', 'derived_data_bars')""",
    "triggers": """select tgrelid::regclass::text, pg_get_triggerdef(oid) from pg_trigger
                    where not tgisinternal and tgparentid = 0
                      and tgrelid in ('data_bars'::regclass, 'derived_data_bars'::regclass)""",
    "indexes": """select regexp_replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ') from pg_index
                    where indrelid in ('data_bars'::regclass, 'derived_data_bars'::regclass) and not indisprimary""",
    "constraints": """select conrelid::regclass::text, conname::text, pg_get_constraintdef(oid) from pg_constraint
                    where contype in ('c', 'f', 'u') and conparentid = 0
                      and conrelid in ('data_bars'::regclass, 'derived_data_bars'::regclass)""",
    "grants": """select relname::text, relrowsecurity, array(select a::text from unnest(relacl) a order by 1)
                   from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v')
                    and relname !~ '_(before_)?[0-9]{6}$|_other$'""",
    "views": "select viewname::text, definition from pg_views where schemaname = 'public'",
    "options": """select relname::text, reloptions from pg_class
                   where relkind = 'v' and relnamespace = 'public'::regnamespace""",
    "functions": """select p.oid::regprocedure::text, prosecdef, array(select a::text from unnest(proacl) a order by 1),
                           obj_description(p.oid) from pg_proc p where pronamespace = 'public'::regnamespace""",
    "comments": """select objoid::regclass::text, objsubid, description from pg_description
                    where objoid in ('data_bars'::regclass, 'derived_data_bars'::regclass)""",
}  # fmt: skip


@pytest.fixture
def own(stack: Stack, migrated: str) -> Iterator[psycopg.Connection]:
    """A database of its own, as an upgrade leaves it: with a grant of the ingester."""
    with (
        copied_database(stack.dsn, "partitions", of="all_migrations") as dsn,
        psycopg.connect(dsn, autocommit=True) as db,
    ):
        db.execute("grant delete on data_bars to service_role")
        yield db


def surroundings(db: psycopg.Connection) -> dict[str, list[object]]:
    return {name: sorted(db.execute(query.encode()).fetchall(), key=repr) for name, query in SURROUNDINGS.items()}


def test_a_switch_while_ingest_and_ticks_go_on_loses_nothing(stack: Stack, own: psycopg.Connection) -> None:
    """One connection inserts bars, one runs ticks, while both tables are switched. Every bar exists and is right."""
    dsn = psycopg.conninfo.make_conninfo(stack.dsn, dbname="partitions", options="-c timezone=UTC")
    register(own, "EURUSD", "BTCUSD")
    put(own, "EURUSD", "00:00", 120)
    settle(own, "02:00")
    before = surroundings(own)
    is_over = threading.Event()
    failures: list[BaseException] = []
    minutes = 0

    def ingest() -> None:
        nonlocal minutes
        with psycopg.connect(dsn, autocommit=True) as db:
            while not is_over.is_set():
                put(db, "BTCUSD", at("00:00") + dt.timedelta(minutes=minutes))
                minutes += 1
                time.sleep(0.01)

    def ticks() -> None:
        with psycopg.connect(dsn, autocommit=True) as db:
            while not is_over.is_set():
                tick(db, at("00:00") + dt.timedelta(minutes=minutes))
                time.sleep(0.05)  # real ones leave minutes

    def guarded(work: object) -> None:
        try:
            work()  # type: ignore[operator]
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=guarded, args=[work]) for work in (ingest, ticks)]
    for thread in threads:
        thread.start()
    try:
        _until(lambda: minutes > 20 or failures)
        assert partition(dsn, NOW) == ["data_bars", "derived_data_bars"]
        reached = minutes
        _until(lambda: minutes > reached + 20 or failures)
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert failures == []
    settle(own, at("00:00") + dt.timedelta(minutes=minutes, hours=2))
    assert scalar(own, "select count(*) from data_bars where canonical_symbol = 'BTCUSD'") == minutes
    assert assert_equals_oracle(own)["BTCUSD", "5m"] >= minutes // 5
    assert surroundings(own) == before
    assert partition(dsn, NOW) == [], "the second time there is nothing to do"


def test_what_works_on_a_table_works_on_its_partitions(stack: Stack, own: psycopg.Connection) -> None:
    """Late bars on both sides of the end of a month are built, revisions are kept, bars_as_of reads them."""
    dsn = psycopg.conninfo.make_conninfo(stack.dsn, dbname="partitions", options="-c timezone=UTC")
    register(own, "EURUSD", start="2026-01-31T23:00")
    put(own, "EURUSD", "2026-01-31T23:00", 50)
    settle(own, "2026-01-31T23:50")
    assert partition(dsn, NOW) == ["data_bars", "derived_data_bars"]
    put(own, "EURUSD", "2026-01-31T23:50", 130)
    settle(own, "2026-02-01T02:00")
    for late in ("2026-01-31T23:02", "2026-02-01T00:02"):
        put(own, "EURUSD", late, high=900.0)
    settle(own, "2026-02-01T02:01")
    assert assert_equals_oracle(own)["EURUSD", "1h"] == 3
    parts = rows(own, "select tableoid::regclass::text as part, count(*) as n from data_bars group by 1 order by 1")
    assert parts == [{"part": "data_bars_202602", "n": 120}, {"part": "data_bars_before_202602", "n": 60}]
    revised = scalar(
        own, "select count(*) from derived_data_bars where timeframe = '5m' and revision = 2 and deleted_at is null"
    )
    assert revised == 2
    past = "select count(*) from bars_as_of('EURUSD', '5m', '2026-01-31T23:00Z', '2026-02-01T02:00Z', now())"
    assert scalar(own, past) == 36
    own.execute("set role service_role")
    assert scalar(own, "select count(*) from data_bars") == 180
    for closed in ("data_bars_202602", "data_bars_before_202602", "data_bars_other"):
        with refused(own, "42501", "permission denied"):
            own.execute(f"select from {closed}")
    own.execute("reset role")


def test_months_are_made_ahead(stack: Stack, own: psycopg.Connection) -> None:
    """A bar that arrived before its partition existed moves into it, without invalidating a window."""
    dsn = psycopg.conninfo.make_conninfo(stack.dsn, dbname="partitions", options="-c timezone=UTC")
    assert scalar(own, "select agg_partitions_ahead()") == {"success": True, "made": []}, "not partitioned"
    partition(dsn, NOW)
    register(own, "EURUSD")
    put(own, "EURUSD", "2026-07-01T00:00", 3)
    own.execute("delete from agg_dirty_ranges")
    made = scalar(own, "select agg_partitions_ahead(2, '2026-05-20Z')")["made"]
    assert made == [f"{bars}_{month}" for bars in ("data_bars", "derived_data_bars") for month in ("202606", "202607")]
    assert scalar(own, "select count(*) from data_bars_202607") == 3
    assert scalar(own, "select count(*) from agg_dirty_ranges") == 0
    assert scalar(own, "select agg_partitions_ahead(2, '2026-05-20Z')")["made"] == []


def test_the_reason_against_partitioning_is_named(stack: Stack, own: psycopg.Connection) -> None:
    dsn = psycopg.conninfo.make_conninfo(stack.dsn, dbname="partitions", options="-c timezone=UTC")
    register(own, "EURUSD")
    put(own, "EURUSD", "2030-01-01T00:00")
    with pytest.raises(MigrationError, match="data_bars has a bar from the future: EURUSD/1m at 2030-01-01 00:00:00"):
        plan(dsn, NOW)
    own.execute("delete from data_bars")
    own.execute("create policy mine on data_bars for select to authenticated using (true)")
    with pytest.raises(MigrationError, match=r"data_bars was not partitioned: AG003 .* policy mine"):
        partition(dsn, NOW)
    own.execute("drop policy mine on data_bars")
    assert [one.is_partitioned for one in plan(dsn, NOW)] == [False, False]
    assert partition(dsn, NOW) == ["data_bars", "derived_data_bars"]


def _until(come_true: object) -> None:
    deadline = time.monotonic() + 60
    while not come_true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)
