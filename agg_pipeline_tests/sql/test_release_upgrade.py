"""A database of version 0.1.0, in the middle of a tick, becomes one of this version and loses nothing."""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from agg_pipeline.database.catalogue import differences, read_catalogue
from agg_pipeline.database.migrate import MIGRATIONS, migrate, migrations
from agg_pipeline.embedded import Stack
from agg_pipeline_tests.oracle import assert_equals_oracle
from agg_pipeline_tests.sql.helpers import (
    batch,
    dirty,
    fresh_database,
    put,
    refused,
    register,
    rows,
    scalar,
    settle,
    start,
    task,
)

RELEASE = "20261123092700"
"""Newest migration of version 0.1.0."""
KEPT = {
    "core_asset_registry_all": "canonical_symbol",
    "data_bars": "id",
    "derived_data_bars": "id",
    "data_agg_state": "canonical_symbol, timeframe",
    "agg_dirty_ranges": "canonical_symbol, timeframe, from_utc",
    "ops_runlog": "id",
    "trading_sessions": "calendar, open_utc",
}
RUN = str(uuid.UUID(int=7))


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """The migrations of version 0.1.0."""
    folder = Path(shutil.copytree(MIGRATIONS, tmp_path / "release"))
    for migration in migrations(folder):
        if migration.version > RELEASE:
            migration.path.unlink()
    return folder


@pytest.fixture
def old(stack: Stack, release: Path) -> Iterator[str]:
    """Its database: two assets built until 10:00, late and corrected bars since, a tick that has leased its tasks.

    It has built EURUSD/5m of the three, in part, and finished none.
    """
    with fresh_database(stack.dsn, "release") as dsn:
        migrate(dsn, folder=release)
        with psycopg.connect(dsn, autocommit=True) as db:
            register(db, "EURUSD", "BTCUSD")
            for symbol in ("EURUSD", "BTCUSD"):
                put(db, symbol, "00:00", 600)
            settle(db, "10:01")
            put(db, "EURUSD", "10:00", 65)
            put(db, "EURUSD", "03:07", 2, close=108.5)
            db.execute("delete from data_bars where canonical_symbol = 'BTCUSD' and ts_utc = '2026-01-05 04:02Z'")
            scalar(db, "select ops_runlog_start(%s, 'agg_master', 'schedule', 'PROD')", [RUN])
            for timeframe in ("5m", "1h"):
                assert start(db, "EURUSD", timeframe, "11:06", owner=RUN, seconds=900)["success"]
            assert start(db, "BTCUSD", "5m", "11:06", owner=RUN, seconds=900)["success"]
            one = [task("EURUSD", "5m", lease_token=token(db, "EURUSD", "5m"))]
            (half,) = batch(db, "catchup_aggregation_batch", one, p_max_windows=3, p_now_utc="2026-01-05 11:06Z")
            assert half["continue"], half
        yield dsn


def token(db: psycopg.Connection, symbol: str, timeframe: str) -> int:
    return scalar(
        db,
        "select lease_token from data_agg_state where canonical_symbol = %s and timeframe = %s",
        [symbol, timeframe],
    )


def contents(db: psycopg.Connection) -> dict[str, list]:
    return {table: rows(db, f"select * from public.{table} order by {key}") for table, key in KEPT.items()}


def test_every_row_is_kept_and_the_half_done_tick_goes_on(old: str, migrated: str) -> None:
    with psycopg.connect(old, autocommit=True) as db:
        before = contents(db)
        assert dirty(db, "BTCUSD", "5m")
        assert [row["status"] for row in before["ops_runlog"]] == ["running"]
        assert sum(row["status"] == "running" for row in before["data_agg_state"]) == 3

        applied = migrate(old)
        assert applied
        assert all(migration.version > RELEASE for migration in applied)
        assert contents(db) == before
        with psycopg.connect(migrated) as new:
            assert differences(read_catalogue(db), read_catalogue(new)) == []

        held = [("EURUSD", "5m"), ("EURUSD", "1h"), ("BTCUSD", "5m")]
        tasks = [task(*one, lease_token=token(db, *one)) for one in held]
        results = batch(db, "catchup_aggregation_batch", tasks, p_max_windows=1000, p_now_utc="2026-01-05 11:07Z")
        assert [result.get("error") for result in results] == [None] * 3
        outcomes = [
            {**one, "success": True, "new_cursor_utc": result["cursor_advanced_to"], "stats": result}
            for one, result in zip(tasks, results, strict=True)
        ]
        finished = batch(db, "agg_finish_batch", outcomes, p_now_utc="2026-01-05 11:07Z")
        assert [one["success"] for one in finished] == [True] * 3
        assert scalar(db, "select ops_runlog_finish(%s, 'success')", [RUN]) == {"success": True}
        assert scalar(db, "select count(*) from data_agg_state where status = 'running'") == 0

        settle(db, "2026-01-07T00:00")  # past every deadline
        counts = assert_equals_oracle(db)
        assert (counts["EURUSD", "5m"], counts["EURUSD", "1h"], counts["BTCUSD", "5m"]) == (133, 11, 120)


def test_a_lease_of_before_still_keeps_others_out(old: str) -> None:
    migrate(old)
    with psycopg.connect(old, autocommit=True) as db:
        assert start(db, "EURUSD", "5m", "11:08", owner="another")["error"] == "not_idle_or_missing"
        with refused(db, "AG001", "is not held"):
            scalar(
                db,
                "select catchup_aggregation_range('EURUSD', '5m', null, p_now_utc => '2026-01-05 11:08Z', "
                "p_lease_token => %s)",
                [token(db, "EURUSD", "5m") + 1],
            )
