"""Which tasks there are: what the registry and the ladder of timeframes ask for, and nothing that an operator set."""

import psycopg
import pytest

from agg_pipeline_tests.sql.helpers import (
    alter_task,
    at,
    due,
    live,
    put,
    refused,
    register,
    rows,
    scalar,
    settle,
    state,
    times,
)


def asset(db: psycopg.Connection, symbol: str = "EURUSD", **columns: object) -> None:
    names = ", ".join(["canonical_symbol", *columns])
    db.execute(
        f"insert into core_asset_registry_all ({names}) values ({', '.join(['%s'] * (len(columns) + 1))})",
        [symbol, *columns.values()],
    )


def sync(db: psycopg.Connection, env: str = "PROD") -> dict:
    return scalar(db, "select sync_agg_state_from_registry(%s, %s)", [env, at("00:00")])


def tasks(db: psycopg.Connection, symbol: str = "EURUSD") -> list[str]:
    found = rows(
        db,
        "select timeframe from data_agg_state join agg_timeframes using (timeframe) "
        "where canonical_symbol = %s order by minutes",
        [symbol],
    )
    return [row["timeframe"] for row in found]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({}, ["5m", "15m", "1h", "4h", "1d"]),
        ({"base_timeframe": "5m"}, ["15m", "1h", "4h", "1d"]),
        ({"base_timeframe": None, "ingest_class": "B"}, ["15m", "1h", "4h", "1d"]),
        ({"base_timeframe": None, "ingest_class": "A"}, ["5m", "15m", "1h", "4h", "1d"]),
        ({"calc_15m": False, "calc_4h": False, "calc_1d": False}, ["5m", "1h"]),
        ({"calc_15m": None, "calc_4h": None}, ["5m", "1h", "1d"]),
        ({"base_timeframe": "5m", "calc_15m": False}, ["1h", "4h", "1d"]),
        ({"active": False}, []),
        ({"active": None}, []),
    ],
    ids=str,
)
def test_an_asset_gets_the_tasks_of_its_ladder(db: psycopg.Connection, columns: dict, expected: list[str]) -> None:
    asset(db, **columns)
    assert sync(db)["tasks_created"] == len(expected)
    assert tasks(db) == expected


def test_a_new_task_starts_idle_mandatory_and_with_its_ladder(db: psycopg.Connection) -> None:
    asset(db)
    sync(db)
    for timeframe, source, minutes in [
        ("5m", "1m", 5),
        ("15m", "5m", 15),
        ("1h", "5m", 60),
        ("4h", "1h", 240),
        ("1d", "1h", 1440),
    ]:
        row = state(db, "EURUSD", timeframe)
        assert (row["source_timeframe"], row["run_interval_minutes"]) == (source, minutes)
        assert (row["aggregation_delay_seconds"], row["late_deadline_seconds"], row["agg_start_utc"]) == (
            30,
            900,
            at("00:00"),
        )
        assert (row["status"], row["enabled"], row["is_mandatory"], row["task_priority"]) == ("idle", True, True, 100)


@pytest.mark.parametrize(("env", "expected"), [("TEST", ["T"]), ("dev", ["T"]), ("STAGE", ["P"]), ("PROD", ["P"])])
def test_only_assets_of_the_environment_are_synced(db: psycopg.Connection, env: str, expected: list[str]) -> None:
    asset(db, "T", active=False, test_active=True)
    asset(db, "P", active=True, test_active=False)
    sync(db, env)
    assert sorted({row["canonical_symbol"] for row in rows(db, "select * from data_agg_state")}) == expected


def test_a_second_sync_changes_nothing(db: psycopg.Connection) -> None:
    asset(db)
    sync(db)
    before = rows(db, "select ctid, * from data_agg_state order by timeframe")
    assert sync(db) | {"timestamp_utc": None} == {
        "success": True, "tasks_created": 0, "tasks_updated": 0, "tasks_disabled": 0, "timestamp_utc": None,
        "env": "PROD",
        "agg_start_utc": "2026-01-05T00:00:00+00:00",
    }  # fmt: skip
    assert rows(db, "select ctid, * from data_agg_state order by timeframe") == before


def test_what_follows_from_the_ladder_is_repaired(db: psycopg.Connection) -> None:
    """The predecessor wrote source_timeframe 1m on 1h rows."""
    asset(db)
    sync(db)
    alter_task(db, "EURUSD", "1h", source_timeframe="1m", run_interval_minutes=None)
    assert sync(db)["tasks_updated"] == 1
    assert (state(db, "EURUSD", "1h")["source_timeframe"], state(db, "EURUSD", "1h")["run_interval_minutes"]) == (
        "5m",
        60,
    )


def test_what_an_operator_owns_is_never_overwritten(db: psycopg.Connection) -> None:
    asset(db)
    sync(db)
    owned = {
        "enabled": False, "aggregation_delay_seconds": None, "late_deadline_seconds": 7, "task_priority": 1,
        "is_mandatory": False,
        "agg_start_utc": at("03:00"), "paused_at_utc": at("01:00"), "pause_reason": "holiday", "status": "disabled",
        "last_agg_bar_ts_utc": at("04:00"), "hard_fail_streak": 2,
    }  # fmt: skip
    alter_task(db, "EURUSD", "5m", **owned)
    sync(db)
    due(db, "10:00")
    row = state(db, "EURUSD", "5m")
    assert {column: row[column] for column in owned} == owned


def test_tasks_of_an_asset_that_is_no_longer_active_stay_as_they_are(db: psycopg.Connection) -> None:
    """Its settings are the operator's, and another environment of the same database may still want it."""
    asset(db)
    sync(db)
    db.execute("update core_asset_registry_all set active = false")
    sync(db)
    assert tasks(db) == ["5m", "15m", "1h", "4h", "1d"]
    assert state(db, "EURUSD", "5m")["enabled"] is True


@pytest.mark.parametrize("base", ["1m", "5m"])
def test_a_new_timeframe_is_one_row(db: psycopg.Connection, base: str) -> None:
    """30m from 5m, for assets that have been there for long: built from the first day, and repaired like any other."""
    register(db, "EURUSD", base=base)
    put(db, "EURUSD", "10:00", 120 // (5 if base == "5m" else 1), base)
    settle(db, "13:00")
    db.execute("insert into agg_timeframes (timeframe, minutes, source_timeframe) values ('30m', 30, '5m')")
    db.execute("insert into agg_timeframes (timeframe, minutes, source_timeframe) values ('2h', 120, '30m')")
    assert {timeframe for _, timeframe in due(db, "13:00")} == {"30m", "2h"}
    settle(db, "13:00")
    assert times(db, "EURUSD", "30m") == ["10:00", "10:30", "11:00", "11:30"]
    assert [
        (row["source_timeframe"], row["source_candles"], row["expected_candles"]) for row in live(db, "EURUSD", "30m")
    ] == [("5m", 6, 6)] * 4
    put(db, "EURUSD", "10:35", timeframe=base, high=9999)
    settle(db, "13:00")
    assert [row["high"] == 9999 for row in live(db, "EURUSD", "30m")] == [False, True, False, False]
    assert live(db, "EURUSD", "2h")[0]["high"] == 9999


def test_a_calc_column_switches_a_new_timeframe_off(db: psycopg.Connection) -> None:
    db.execute("insert into agg_timeframes (timeframe, minutes, source_timeframe) values ('30m', 30, '5m')")
    db.execute("alter table core_asset_registry_all add column calc_30m boolean default false")
    asset(db)
    sync(db)
    assert "30m" not in tasks(db)


def test_registering_makes_an_asset_and_its_tasks(db: psycopg.Connection) -> None:
    result = scalar(db, "select agg_register_asset('EURUSD', %s, '5m', 'fx')", [at("03:00")])
    assert (result["registered"], result["tasks_created"], result["agg_start_utc"]) == (
        True,
        4,
        "2026-01-05T03:00:00+00:00",
    )
    (row,) = rows(db, "select * from core_asset_registry_all")
    assert (row["base_timeframe"], row["asset_class"], row["active"], row["test_active"]) == ("5m", "fx", True, True)


def test_registering_again_keeps_what_is_there(db: psycopg.Connection) -> None:
    register(db, "EURUSD", start="03:00")
    db.execute("update core_asset_registry_all set active = false, notes = 'mine'")
    result = scalar(db, "select agg_register_asset('EURUSD', %s)", [at("09:00")])
    assert (result["registered"], result["tasks_created"], result["agg_start_utc"]) == (
        False,
        0,
        "2026-01-05T03:00:00+00:00",
    )
    assert rows(db, "select active, notes from core_asset_registry_all") == [{"active": False, "notes": "mine"}]


@pytest.mark.parametrize(
    ("symbol", "start", "base", "message"),
    [
        ("", "00:00", "1m", '"" is no symbol'),
        (None, "00:00", "1m", "null is no symbol"),
        ("X" * 101, "00:00", "1m", "X.* is no symbol"),
        (" X", "00:00", "1m", "is no symbol"),
        ("X\u3000", "00:00", "1m", "is no symbol"),
        ("X\nY", "00:00", "1m", "is no symbol"),
        ("X\u0085Y", "00:00", "1m", "is no symbol"),
        ("X\u202eY", "00:00", "1m", "is no symbol"),
        ("X", None, "1m", "tasks of X cannot start at null"),
        ("X", "1899-12-31T00:00", "1m", "tasks of X cannot start at 1899-12-31"),
        ("X", "2200-01-02T00:00", "1m", "tasks of X cannot start at 2200-01-02"),
        ("X", "00:00", "3m", "nothing is built from base timeframe 3m"),
        ("X", "00:00", None, "nothing is built from base timeframe null"),
        ("EURUSD", "00:00", "5m", "EURUSD is registered with base timeframe 1m, not 5m"),
    ],
)
def test_a_registration_that_makes_no_sense_is_refused(
    db: psycopg.Connection, symbol: str | None, start: str | None, base: str | None, message: str
) -> None:
    register(db, "EURUSD")
    with refused(db, "AG003", message):
        db.execute("select agg_register_asset(%s, %s, %s)", [symbol, start and at(start), base])
