"""Completeness of the last hour and day in `status`: it counts windows that have ended, and those that were due."""

import datetime as dt

import psycopg

from agg_pipeline_tests.sql.helpers import at, drop, put, register, rows, settle, tick

MIDNIGHT = at("2026-01-07T00:00")
MINUTE = dt.timedelta(minutes=1)
Shares = dict[str, tuple[float | None, float | None]]


def shares(db: psycopg.Connection, now: dt.datetime, symbol: str = "EURUSD") -> Shares:
    """Completeness of the hour and of the day by timeframe."""
    found = rows(db, "select * from _agg_health(%s, %s)", [[symbol], now])
    return {row["timeframe"]: (row["completeness_hour"], row["completeness_day"]) for row in found}


def test_a_complete_feed_is_100_percent_at_any_moment(db: psycopg.Connection) -> None:
    """In every timeframe, half a minute after each minute around midnight, where hour, four hours and day change."""
    register(db, "EURUSD")
    register(db, "DE40", base="5m")
    put(db, "EURUSD", "00:00", 2 * 1440 + 30)
    put(db, "DE40", "00:00", 2 * 288 + 6, "5m")
    settle(db, MIDNIGHT - 24 * MINUTE)  # the tick of 23:36
    seen = {}
    for n in range(-23, 22):
        now = MIDNIGHT + n * MINUTE
        if now.minute % 5 == 1:  # as the schedule: one tick, though more may be due
            tick(db, now, limit=100)
        for symbol in ("EURUSD", "DE40"):
            seen[symbol, f"{now:%H:%M:30}"] = shares(db, now + MINUTE / 2, symbol)
    whole = {tf: (1.0, 1.0) for tf in ("5m", "15m", "1h")} | {tf: (None, 1.0) for tf in ("4h", "1d")}
    assert {key: found for key, found in seen.items() if not found.items() <= whole.items()} == {}
    assert {len(found) for found in seen.values()} == {4, 5}


def test_a_window_that_is_absent_counts_once_it_has_ended(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "00:00", 2 * 1440)
    drop(db, "EURUSD", "2026-01-06T23:50", "2026-01-06T23:55")
    settle(db, MIDNIGHT + MINUTE)
    hour, day = shares(db, MIDNIGHT + 5 * MINUTE)["5m"]
    assert (hour, day) == (11 / 12, 287 / 288)
