"""Bars of markets that close: what is expected, what counts, when a window is complete, what a new calendar changes."""

import psycopg
import pytest
from psycopg.types.json import Jsonb

from agg_pipeline_tests.oracle import assert_equals_oracle
from agg_pipeline_tests.sessions import follow
from agg_pipeline_tests.sql.helpers import (
    catch_up,
    dirty,
    due,
    live,
    put,
    refused,
    register,
    rows,
    scalar,
    settle,
    times,
)

# Monday, January 5, 2026: New York trades from 14:30 to 21:00 UTC.
NIGHT = "2026-01-06T12:00"


@pytest.fixture
def stock(db: psycopg.Connection) -> psycopg.Connection:
    register(db, "ACME")
    follow(db, "ACME", "XNYS")
    return db


def quality(
    db: psycopg.Connection, timeframe: str, symbol: str = "ACME"
) -> list[tuple[str, int, int, int, int | None]]:
    """(start, found, expected, score, off session) of each live bar."""
    return [
        (
            f"{b['ts_utc']:%H:%M}",
            b["source_candles"],
            b["expected_candles"],
            b["quality_score"],
            b["raw"].get("off_session"),
        )
        for b in live(db, symbol, timeframe)
    ]


def test_a_full_session_is_complete_at_every_level(stock: psycopg.Connection) -> None:
    put(stock, "ACME", "14:30", 390)
    settle(stock, NIGHT)
    assert {row[3] for row in quality(stock, "5m")} == {2}
    assert len(quality(stock, "5m")) == 78
    assert quality(stock, "1h") == [
        ("14:00", 6, 6, 2, None),
        *((f"{hour}:00", 12, 12, 2, None) for hour in range(15, 21)),
    ]
    assert quality(stock, "4h") == [("12:00", 2, 2, 2, None), ("16:00", 4, 4, 2, None), ("20:00", 1, 1, 2, None)]
    assert quality(stock, "1d") == [("00:00", 7, 7, 2, None)]
    assert_equals_oracle(stock)


def test_a_complete_window_is_built_at_once_however_few_bars_it_expects(stock: psycopg.Connection) -> None:
    """At 21:01 no newer bar passes the last hour by, and the deadline is far."""
    put(stock, "ACME", "14:30", 390)
    settle(stock, "21:01")
    assert times(stock, "ACME", "1h")[-1] == "20:00"
    settle(stock, "2026-01-06T00:01")
    assert (times(stock, "ACME", "4h")[-1], times(stock, "ACME", "1d")) == ("20:00", ["00:00"])


def test_an_incomplete_one_waits_for_its_deadline(stock: psycopg.Connection) -> None:
    put(stock, "ACME", "14:30", 389)
    settle(stock, "21:01")
    assert times(stock, "ACME", "5m")[-1] == "20:50"
    settle(stock, "21:15")
    assert quality(stock, "5m")[-1] == ("20:55", 4, 5, 1, None)


def test_bars_outside_of_the_session_are_part_of_the_bar_and_not_of_the_ratio(stock: psycopg.Connection) -> None:
    """Trading before hours: it cannot make up for what is missing of the session."""
    put(stock, "ACME", "14:15", 15, high=900.0)
    put(stock, "ACME", "14:30", 17)
    settle(stock, NIGHT)
    assert quality(stock, "15m") == [("14:15", 3, 0, 2, 3), ("14:30", 3, 3, 2, None)]
    assert quality(stock, "1h") == [], "3 others do not make 3 of 6 enough"
    put(stock, "ACME", "14:47")
    settle(stock, NIGHT)
    assert quality(stock, "1h") == [("14:00", 7, 6, 0, 3)]
    assert live(stock, "ACME", "1h")[0]["high"] == 900
    assert_equals_oracle(stock)


def test_a_window_with_nothing_but_bars_from_outside_is_not_stored_if_it_expects_others(
    stock: psycopg.Connection,
) -> None:
    put(stock, "ACME", "14:00", 30)
    settle(stock, NIGHT)
    assert [row[1:] for row in quality(stock, "5m")] == [(5, 0, 2, 5)] * 6
    assert quality(stock, "1h") == []


def test_where_nothing_is_expected_any_bar_makes_one(db: psycopg.Connection) -> None:
    register(db, "ACME", start="2026-01-03T00:00")
    follow(db, "ACME", "XNYS")
    put(db, "ACME", "2026-01-04T10:02")
    settle(db, NIGHT)
    for timeframe, start in (("5m", "10:00"), ("15m", "10:00"), ("1h", "10:00"), ("4h", "08:00"), ("1d", "00:00")):
        assert quality(db, timeframe) == [(start, 1, 0, 2, 1)]
    put(db, "ACME", "2026-01-03T10:02", close=None)
    settle(db, NIGHT)
    assert len(live(db, "ACME", "5m")) == 1, "an invalid row is none"
    assert_equals_oracle(db)


def test_the_weekend_of_fx(db: psycopg.Connection) -> None:
    """From Friday 20:00 to Monday: Friday closes at 22:00 UTC, Sunday opens then."""
    register(db, "EURUSD", start="2026-01-09T00:00")
    follow(db, "EURUSD", "fx_24x5")
    put(db, "EURUSD", "2026-01-09T00:00", 22 * 60)
    put(db, "EURUSD", "2026-01-11T22:00", 180)
    settle(db, "2026-01-12T06:00")
    assert quality(db, "1d", "EURUSD") == [("00:00", 22, 22, 2, None), ("00:00", 2, 2, 2, None)]
    assert {row[3] for tf in ("5m", "15m", "1h") for row in quality(db, tf, "EURUSD")} == {2}
    assert [row[:4] for row in quality(db, "4h", "EURUSD")][-2:] == [
        ("20:00", 2, 2, 2),
        ("20:00", 2, 2, 2),
    ]
    assert_equals_oracle(db)


def test_a_calendar_that_is_set_later_rebuilds_what_it_changes_and_nothing_else(db: psycopg.Connection) -> None:
    register(db, "ACME")
    put(db, "ACME", "14:00", 420)
    put(db, "ACME", "23:00", 60)
    settle(db, NIGHT)
    assert [row[:3] for row in quality(db, "4h")] == [("16:00", 4, 4)]
    before = {row["ts_utc"]: row["revision"] for row in live(db, "ACME", "5m")}
    follow(db, "ACME", "XNYS")
    assert ("ACME", "1h") in due(db, NIGHT)
    settle(db, NIGHT)
    changed = {row["ts_utc"] for row in live(db, "ACME", "5m") if row["revision"] > before[row["ts_utc"]]}
    assert {f"{ts:%H}" for ts in changed} == {"14", "23"}, "those of the session are as they were"
    assert [row[2:] for row in quality(db, "4h")] == [(2, 2, None), (4, 2, None), (1, 2, 1)]
    assert_equals_oracle(db)
    follow(db, "ACME", "24x7", since="2026-01-05")
    settle(db, NIGHT)
    assert [row[:3] for row in quality(db, "4h")] == [("16:00", 4, 4)]
    assert_equals_oracle(db)


@pytest.mark.parametrize(
    "change",
    [
        "update core_asset_registry_all set trading_calendar = 'XNYS'",
        "insert into trading_calendar_changes values ('ACME', '2026-01-05Z', 'XNYS')",
        "select agg_set_calendar('ACME', 'XNYS', '2026-01-05Z')",
        "select agg_set_calendar('ACME', 'XNYS')",
    ],
)
def test_whoever_changes_a_calendar_marks_the_windows(db: psycopg.Connection, change: str) -> None:
    register(db, "OTHER", "ACME")
    follow(db, "OTHER", "XNYS")
    db.execute("delete from agg_dirty_ranges")
    put(db, "ACME", "00:00", 60 * 22)
    settle(db, NIGHT)
    db.execute(change)  # type: ignore[call-overload]
    assert dirty(db, "ACME", "1h")[:2] == [("00:00", "15:00"), ("21:00", "01-06 15:00")]
    assert dirty(db, "OTHER", "1h") == []
    settle(db, NIGHT)
    db.execute("delete from trading_calendar_changes")
    db.execute("update core_asset_registry_all set trading_calendar = '24x7' where trading_calendar <> '24x7'")
    settle(db, NIGHT)
    assert quality(db, "1d") == [("00:00", 22, 24, 1, None)]


def session(db: psycopg.Connection, day: str) -> list[str]:
    return scalar(
        db,
        """select jsonb_build_array(open_utc, close_utc) from trading_sessions
            where calendar = 'XNYS' and open_utc::date = %s::date""",
        [day],
    )


def refresh(db: psycopg.Connection, sessions: list[list[str]], *, dry_run: bool, **more: object) -> dict:
    calendar = {"calendar": "XNYS", "from_utc": "2026-01-05T00:00Z", "to_utc": "2026-01-10T00:00Z", "version": "9.9"}
    return scalar(db, "select agg_refresh_calendar(%s, %s)", [Jsonb(calendar | {"sessions": sessions} | more), dry_run])


def test_a_refresh_shows_what_is_otherwise_and_rebuilds_it(stock: psycopg.Connection) -> None:
    """A day of mourning is declared, and another day ends early."""
    put(stock, "ACME", "14:30", 210)
    put(stock, "ACME", "2026-01-06T14:30", 390)
    settle(stock, "2026-01-07T12:00")
    assert [row[1:4] for row in quality(stock, "1d")] == [(4, 7, -1), (7, 7, 2)]
    week = [session(stock, f"2026-01-{day:02d}") for day in range(5, 10)]
    assert refresh(stock, week, dry_run=True)["changes"] == []
    early = ["2026-01-05T14:30:00+00:00", "2026-01-05T18:00:00+00:00"]
    told = refresh(stock, [early, *week[1:3], week[4]], dry_run=True)
    assert (told["added"], told["removed"]) == (1, 2)
    assert [(change["change"], change["open_utc"][:10]) for change in told["changes"]] == [
        ("removed", "2026-01-05"), ("added", "2026-01-05"), ("removed", "2026-01-08"),
    ]  # fmt: skip
    settle(stock, "2026-01-07T12:00")
    assert len(live(stock, "ACME", "1d")) == 2
    assert [row[1:4] for row in quality(stock, "1d")] == [(4, 7, -1), (7, 7, 2)], "a plan changes nothing"
    assert refresh(stock, [early, *week[1:3], week[4]], dry_run=False)["changes"] == told["changes"]
    assert dirty(stock, "ACME", "1h")[0] == ("18:00", "21:00")
    settle(stock, "2026-01-07T12:00")
    assert [row[1:4] for row in quality(stock, "1d")] == [(4, 4, 2), (7, 7, 2)]
    assert scalar(stock, "select version from trading_calendars where calendar = 'XNYS'") == "9.9"
    assert_equals_oracle(stock)
    again = refresh(stock, [early, *week[1:3], week[4]], dry_run=False)
    assert (again["added"], again["removed"], again.get("ranges_touched")) == (0, 0, 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"calendar": "24x7"}, "24x7 is no calendar that has sessions"),
        ({"calendar": "NYSE"}, "NYSE is no calendar that has sessions"),
        ({"sessions": []}, "are no sessions, or not in order"),
        ({"sessions": [["2026-01-06T10:00Z", "2026-01-06T09:00Z"]]}, "are no sessions, or not in order"),
        ({"sessions": [["2026-01-06T10:00Z", "2026-01-06T12:00Z"], ["2026-01-06T11:00Z", "2026-01-06T13:00Z"]]},
         "are no sessions, or not in order"),
        ({"sessions": [["2026-02-06T10:00Z", "2026-02-06T12:00Z"]]}, "are no sessions, or not in order"),
        ({"to_utc": "2026-01-01T00:00Z"}, "are no sessions, or not in order"),
    ],
)  # fmt: skip
def test_what_are_no_sessions_is_refused(stock: psycopg.Connection, change: dict, said: str) -> None:
    with refused(stock, "AG003", said):
        refresh(stock, **{"sessions": [["2026-01-06T10:00Z", "2026-01-06T12:00Z"]], "dry_run": False} | change)


def test_the_asset_class_gives_a_new_row_its_calendar(db: psycopg.Connection) -> None:
    db.execute(
        """insert into core_asset_registry_all (canonical_symbol, asset_class, trading_calendar)
           values ('A', 'fx', null), ('B', 'FX', null), ('C', 'crypto', null), ('D', null, null), ('E', 'fx', 'XNYS')"""
    )
    found = rows(db, "select canonical_symbol as s, trading_calendar as c from core_asset_registry_all order by 1")
    assert {row["s"]: row["c"] for row in found} == {
        "A": "fx_24x5", "B": "fx_24x5", "C": "24x7", "D": "24x7", "E": "XNYS",
    }  # fmt: skip
    db.execute("update core_asset_registry_all set asset_class = 'crypto' where canonical_symbol = 'A'")
    assert scalar(db, "select trading_calendar from core_asset_registry_all where canonical_symbol = 'A'") == "fx_24x5"


def test_an_unknown_calendar_is_refused_with_what_there_is(db: psycopg.Connection) -> None:
    register(db, "ACME")
    for statement in (
        "update core_asset_registry_all set trading_calendar = 'NYSE'",
        "select agg_set_calendar('ACME', 'NYSE')",
    ):
        with refused(db, "AG003", "unknown trading calendar NYSE of ACME", hint="codes of exchanges, as XNYS"):
            db.execute(statement)
    with refused(db, "AG002", "unknown symbol: NOBODY"):
        db.execute("select agg_set_calendar('NOBODY', 'XNYS')")
    with refused(db, "AG003", "cannot change at 2026-01-05 12:00", hint="midnight UTC"):
        db.execute("select agg_set_calendar('ACME', 'XNYS', '2026-01-05T12:00Z')")


def test_a_coin_asks_no_calendar(db: psycopg.Connection) -> None:
    """No session is read for an asset that is always open, whatever others follow."""
    register(db, "BTCUSD", "ACME")
    follow(db, "ACME", "XNYS")
    put(db, "BTCUSD", "00:00", 600)
    db.execute("create temp table calls (n int) on commit drop")
    counted = "select coalesce(sum(calls), 0)::int from pg_stat_xact_user_functions where funcname = '_agg_slots'"
    db.execute("set local track_functions = 'pl'")
    catch_up(db, "BTCUSD", "5m", "12:00")
    assert scalar(db, counted) == 0
    put(db, "ACME", "00:00", 600)
    catch_up(db, "ACME", "5m", "12:00")
    assert scalar(db, counted) in (1, 2), "one call for all windows, not one for each"
