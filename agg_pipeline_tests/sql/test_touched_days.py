"""agg_unreported_days: each day whose bars changed is there until it was reported, whoever built it."""

import psycopg
import pytest

from agg_pipeline_tests.sql.helpers import at, drop, put, register, scalar, settle


@pytest.fixture(autouse=True)
def none_yet(db: psycopg.Connection) -> None:
    db.execute("delete from agg_touched_days")


def days(db: psycopg.Connection) -> list[tuple[str, str]]:
    found = scalar(db, "select agg_unreported_days()")["days"]
    return sorted((one["timeframe"], one["day"]) for one in found)


def report(db: psycopg.Connection) -> None:
    through = scalar(db, "select agg_unreported_days()")["through_id"]
    assert scalar(db, "select agg_forget_touched_days(%s)", [through])["success"]
    assert days(db) == []


def test_a_catch_up_notes_every_day_that_it_builds(db: psycopg.Connection) -> None:
    register(db, "AAA", "BBB")
    for symbol in ("AAA", "BBB"):
        put(db, symbol, "2026-01-05 23:00", 120)
    settle(db, "2026-01-06 03:00")
    assert days(db) == [(timeframe, f"2026-01-0{day}") for timeframe in ("15m", "1h", "5m") for day in (5, 6)], (
        "once each, however many symbols and calls"
    )
    report(db)
    settle(db, "2026-01-06 03:00")
    assert days(db) == [], "nothing changed"


def test_a_corrected_and_a_vanished_bar_touch_their_day_again(db: psycopg.Connection) -> None:
    register(db, "AAA")
    put(db, "AAA", "2026-01-05 10:00", 10)
    settle(db, "2026-01-05 12:00")
    report(db)
    db.execute("update data_bars set close = close + 0.001 where ts_utc = %s", [at("2026-01-05 10:04")])
    settle(db, "2026-01-05 12:00")
    assert ("5m", "2026-01-05") in days(db)
    report(db)
    drop(db, "AAA", "2026-01-05 10:05", "2026-01-05 10:10")
    settle(db, "2026-01-05 12:00")
    assert ("5m", "2026-01-05") in days(db), "a bar without a source is retired"


def test_what_changes_after_it_was_read_stays(db: psycopg.Connection) -> None:
    register(db, "AAA")
    put(db, "AAA", "2026-01-05 10:00", 5)
    settle(db, "2026-01-05 10:06")
    through = scalar(db, "select agg_unreported_days()")["through_id"]
    put(db, "AAA", "2026-01-06 10:00", 5)
    settle(db, "2026-01-06 10:06")
    scalar(db, "select agg_forget_touched_days(%s)", [through])
    assert ("5m", "2026-01-06") in days(db)
    assert ("5m", "2026-01-05") not in days(db)


def test_no_more_days_than_asked_for_oldest_notes_first(db: psycopg.Connection) -> None:
    db.execute(
        "insert into agg_touched_days (timeframe, day) select '1d', date '2026-01-01' + n from generate_series(0, 9) n"
    )
    first = scalar(db, "select agg_unreported_days(3)")
    assert [one["day"] for one in first["days"]] == ["2026-01-01", "2026-01-02", "2026-01-03"]
    scalar(db, "select agg_forget_touched_days(%s)", [first["through_id"]])
    assert len(days(db)) == 7
