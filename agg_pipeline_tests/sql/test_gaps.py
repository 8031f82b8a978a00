"""Gaps: each planted hole is found exactly, a closed market is none, and what heals is gone."""

from typing import Any

import psycopg
import pytest

from agg_pipeline_tests.sessions import follow
from agg_pipeline_tests.sql.helpers import at, clock, drop, put, refused, register, rows, scalar, settle

LATER = "2026-01-20T00:00"


Gaps = list[tuple[str | None, str | None, str, int]]


def gaps(
    db: psycopg.Connection,
    symbol: str,
    timeframe: str = "5m",
    since: str = "00:00",
    until: str = LATER,
    now: str = LATER,
) -> Gaps:
    """(from, to, kind, missing) of every gap."""
    found = rows(db, "select * from agg_gaps(%s, %s, %s, %s, %s)", [symbol, timeframe, at(since), at(until), at(now)])
    assert all(row["age"] == at(now) - row["from_utc"] for row in found)
    return [(clock(row["from_utc"]), clock(row["to_utc"]), row["kind"], row["missing"]) for row in found]


def open_gaps(db: psycopg.Connection, symbol: str, timeframe: str = "5m", **asked: str) -> Gaps:
    return [gap for gap in gaps(db, symbol, timeframe, **asked) if gap[2] != "closed"]


@pytest.fixture
def stock(db: psycopg.Connection) -> psycopg.Connection:
    """Two whole days in New York: Friday and Monday."""
    register(db, "ACME", start="2026-01-01T00:00")
    follow(db, "ACME", "XNYS")
    put(db, "ACME", "2026-01-02T14:30", 390)
    put(db, "ACME", "14:30", 390)
    return db


def test_a_closed_market_is_no_gap(stock: psycopg.Connection) -> None:
    weekend = ("01-02 21:00", "14:30", "closed", 0)
    assert gaps(stock, "ACME", since="2026-01-01T00:00", until="2026-01-06T00:00") == [
        weekend,
        ("21:00", "01-06 00:00", "closed", 0),
    ]


def test_planted_holes_are_found_exactly(stock: psycopg.Connection) -> None:
    for start, end in (("15:00", "15:01"), ("16:10", "16:42"), ("20:58", "21:00")):
        drop(stock, "ACME", start, end)
    drop(stock, "ACME", "2026-01-02T20:59", "2026-01-02T21:00")
    missing = open_gaps(stock, "ACME", since="2026-01-01T00:00", until="2026-01-06T12:00")
    assert missing == [
        ("01-02 20:59", "01-02 21:00", "missing", 1),
        ("15:00", "15:01", "missing", 1),
        ("16:10", "16:42", "missing", 32),
        ("20:58", "21:00", "missing", 2),
    ]
    put(stock, "ACME", "16:12", 30)
    assert ("16:10", "16:12", "missing", 2) in gaps(stock, "ACME")
    put(stock, "ACME", "16:10", 2)
    assert open_gaps(stock, "ACME", until="20:00") == [("15:00", "15:01", "missing", 1)]


def test_a_run_over_a_night_counts_open_slots_only(stock: psycopg.Connection) -> None:
    drop(stock, "ACME", "2026-01-02T20:00", "15:00")
    assert gaps(stock, "ACME", since="2026-01-02T00:00", until="21:00") == [
        ("01-02 20:00", "15:00", "missing", 60 + 30)
    ]


def test_an_invalid_row_is_missing_and_counted(stock: psycopg.Connection) -> None:
    put(stock, "ACME", "15:00", 3, close=None)
    put(stock, "ACME", "15:05", vol=-1.0)
    assert gaps(stock, "ACME", until="20:00")[1:] == [
        ("15:00", "15:03", "missing", 3),
        ("15:05", "15:06", "missing", 1),
    ]
    assert report(stock, "ACME")["rejected"] == 4


def report(db: psycopg.Connection, symbol: str, timeframe: str = "5m") -> dict[str, Any]:
    return scalar(
        db, "select agg_gap_report(%s, %s, %s, %s, %s)", [symbol, timeframe, at("00:00"), at(LATER), at(LATER)]
    )


def test_late_rows_are_counted(db: psycopg.Connection) -> None:
    """The deadline is 15 minutes after the end of a bar."""
    register(db, "BTCUSD")
    put(db, "BTCUSD", "10:00", 20)
    db.execute("update data_bars set ingested_at = ts_utc + interval '16 minutes'")
    assert report(db, "BTCUSD")["late"] == 0
    db.execute(
        "update data_bars set ingested_at = ts_utc + interval '16 minutes 1 second' where ts_utc < %s", [at("10:07")]
    )
    told = report(db, "BTCUSD")
    assert (told["found"], told["rejected"], told["late"]) == (20, 0, 7)
    assert [gap["kind"] for gap in told["gaps"]] == ["missing"], "since then nothing came"


def test_a_market_that_never_closes(db: psycopg.Connection) -> None:
    register(db, "BTCUSD")
    put(db, "BTCUSD", "10:00", 5)
    put(db, "BTCUSD", "2026-01-10T10:00", 5)
    assert gaps(db, "BTCUSD", until="2026-01-10T10:05") == [("10:05", "01-10 10:00", "missing", 5 * 1440 - 5)]


def test_nothing_is_missing_before_the_first_bar_or_before_its_deadline(db: psycopg.Connection) -> None:
    register(db, "BTCUSD")
    assert gaps(db, "BTCUSD") == []
    put(db, "BTCUSD", "10:00", 5)
    assert gaps(db, "BTCUSD", now="10:20") == []
    assert gaps(db, "BTCUSD", now="10:21") == [("10:05", "10:06", "missing", 1)]
    assert gaps(db, "BTCUSD", since="09:00", until="10:05") == []


def test_a_sparse_asset_is_quiet(db: psycopg.Connection) -> None:
    register(db, "ACME")
    follow(db, "ACME", "XNYS")
    db.execute("update core_asset_registry_all set is_sparse = true")
    put(db, "ACME", "14:30", 10)
    put(db, "ACME", "14:45", 375)
    assert gaps(db, "ACME", until="2026-01-06T12:00") == [
        ("14:40", "14:45", "quiet", 5),
        ("21:00", "01-06 12:00", "closed", 0),
    ]


def test_every_level_has_its_own_source(stock: psycopg.Connection) -> None:
    """An hour is missing a 5m bar that was not built; what its task has yet to build is no gap."""
    drop(stock, "ACME", "15:00", "15:03")
    now = "2026-01-06T00:30"
    assert gaps(stock, "ACME", "1h", now=now) == []
    settle(stock, now)
    assert open_gaps(stock, "ACME", "1h", now=now) == [("15:00", "15:05", "missing", 1)]
    assert open_gaps(stock, "ACME", "1d", now=now) == []


def test_from_a_date_on(db: psycopg.Connection) -> None:
    register(db, "ACME")
    follow(db, "ACME", "XNYS", since="2026-01-06")
    put(db, "ACME", "23:00", 1)
    put(db, "ACME", "2026-01-06T14:30", 1)
    assert gaps(db, "ACME", until="2026-01-06T14:31") == [("23:01", "01-06 00:00", "missing", 59)]


def test_what_cannot_be_asked_is_refused(db: psycopg.Connection) -> None:
    register(db, "BTCUSD")
    with refused(db, "AG002", "there is no task BTCUSD/7m"):
        gaps(db, "BTCUSD", "7m")
    with refused(db, "AG003", "is no range of time"):
        gaps(db, "BTCUSD", since="10:00", until="09:00")
    with refused(db, "AG002", "there is no task NOBODY/5m"):
        report(db, "NOBODY")
