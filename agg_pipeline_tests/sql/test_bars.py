"""Content of a bar: that of its current source bars, whatever changed before."""

import datetime as dt

import psycopg
import pytest

from agg_pipeline_tests.sql.helpers import (
    at,
    bar,
    catch_up,
    clock,
    drop,
    history,
    live,
    put,
    put_bars,
    register,
    rows,
    times,
)

NOW = "23:59"


def five_minutes(db: psycopg.Connection, *bars: dict, now: str = NOW) -> dict:
    """The 5m bar of 10:00 from these changes to the 1m bars of 10:00, 10:01, ..."""
    register(db, "EURUSD")
    put_bars(
        db, "EURUSD", [bar(at("10:00") + dt.timedelta(minutes=n), 100 + n) | change for n, change in enumerate(bars)]
    )
    catch_up(db, "EURUSD", "5m", now)
    (row,) = live(db, "EURUSD", "5m")
    return row


def test_a_complete_bar_sums_up_its_five_source_bars(db: psycopg.Connection) -> None:
    row = five_minutes(db, {}, {}, {}, {}, {})
    assert (row["open"], row["high"], row["low"], row["close"]) == (100, 106, 98, 105)
    assert (row["vol"], row["vwap"], row["trade_count"]) == (50, 102, 15)
    assert (row["source_timeframe"], row["source_candles"], row["expected_candles"], row["quality_score"]) == (
        "1m",
        5,
        5,
        2,
    )
    assert (row["ts_utc"], row["is_partial"], row["revision"], row["source"]) == (at("10:00"), False, 1, "agg")
    assert row["raw"] == {
        "source_timeframe": "1m",
        "from": "2026-01-05T10:00:00+00:00",
        "to": "2026-01-05T10:05:00+00:00",
    }


def test_open_and_close_go_by_time_not_by_arrival(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    for minute in ("10:03", "10:01", "10:04", "10:00", "10:02"):
        put(db, "EURUSD", minute, open=int(minute[-1]), close=int(minute[-1]) + 10, low=0, high=20)
    catch_up(db, "EURUSD", "5m", NOW)
    (row,) = live(db, "EURUSD", "5m")
    assert (row["open"], row["close"]) == (0, 14)


def test_a_bar_is_partial_if_any_of_its_source_bars_is(db: psycopg.Connection) -> None:
    assert five_minutes(db, {}, {}, {"is_partial": True}, {}, {})["is_partial"] is True


def test_partial_propagates_to_longer_timeframes(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 60)
    put(db, "EURUSD", "10:31", is_partial=True)
    for timeframe in ("5m", "15m", "1h"):
        catch_up(db, "EURUSD", timeframe, NOW)
    assert [row["is_partial"] for row in live(db, "EURUSD", "15m")] == [False, False, True, False]
    assert [row["is_partial"] for row in live(db, "EURUSD", "1h")] == [True]


def test_an_invalid_row_does_not_make_a_bar_partial(db: psycopg.Connection) -> None:
    assert five_minutes(db, {}, {}, {"is_partial": True, "open": None}, {}, {})["is_partial"] is False


def test_unknown_volumes_and_counts_are_left_out_of_the_sums(db: psycopg.Connection) -> None:
    row = five_minutes(db, {"vol": None}, {"trade_count": None}, {}, {}, {})
    assert (row["vol"], row["trade_count"], row["source_candles"]) == (40, 12, 5)


def test_sums_are_null_only_if_everything_is_unknown(db: psycopg.Connection) -> None:
    unknown = {"vol": None, "trade_count": None, "vwap": None}
    row = five_minutes(db, unknown, unknown, unknown, unknown, unknown)
    assert (row["vol"], row["trade_count"], row["vwap"], row["quality_score"]) == (None, None, None, 2)


def test_vwap_weighs_only_bars_that_have_both_price_and_volume(db: psycopg.Connection) -> None:
    """A bar without a vwap must not pull the average towards 0, one without a volume must not count at all."""
    row = five_minutes(
        db,
        {"vwap": 10, "vol": 1},
        {"vwap": 20, "vol": 3},
        {"vwap": None, "vol": 100},
        {"vwap": 999, "vol": None},
        {"vol": 0},
    )
    assert row["vwap"] == 17.5
    assert row["vol"] == 104


def test_vwap_is_null_if_the_weights_are_zero(db: psycopg.Connection) -> None:
    row = five_minutes(db, {"vol": 0}, {"vol": 0}, {"vol": 0}, {"vol": 0}, {"vol": 7, "vwap": None})
    assert (row["vwap"], row["vol"]) == (None, 7)


@pytest.mark.parametrize("nonsense", ["NaN", "Infinity", "-Infinity"])
def test_a_vwap_that_is_not_finite_is_unknown_and_its_row_stays_valid(db: psycopg.Connection, nonsense: str) -> None:
    row = five_minutes(db, {"vwap": float(nonsense)}, {"vwap": 50}, {"vwap": 50}, {"vwap": 50}, {"vwap": 50})
    assert (row["vwap"], row["vol"], row["source_candles"]) == (50, 50, 5)


def test_a_negative_trade_count_is_unknown_and_its_row_stays_valid(db: psycopg.Connection) -> None:
    row = five_minutes(db, {"trade_count": -1}, {}, {}, {}, {})
    assert (row["trade_count"], row["source_candles"]) == (12, 5)


INVALID = {
    "price missing": [{"open": None}, {"high": None}, {"low": None}, {"close": None}],
    "price not finite": [
        {"open": float("nan")},
        {"high": float("inf")},
        {"low": float("-inf")},
        {"close": float("nan")},
    ],
    "high below low": [{"high": 1, "low": 2}],
    "open outside low to high": [{"open": 1}, {"open": 1000}],
    "close outside low to high": [{"close": 1}, {"close": 1000}],
    "volume negative or not finite": [{"vol": -1}, {"vol": float("inf")}, {"vol": float("nan")}],
    "out of range": [{"high": 1.1e30}, {"low": -1.1e30}, {"vol": 1.1e30}, {"vwap": 1.1e30}, {"vwap": -1e308}],
}


@pytest.mark.parametrize(
    ("reason", "change"), [(reason, change) for reason, some in INVALID.items() for change in some]
)
def test_an_invalid_row_counts_as_missing_and_is_named(db: psycopg.Connection, reason: str, change: dict) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 10)
    put(db, "EURUSD", "10:00", **change)
    result = catch_up(db, "EURUSD", "5m", NOW)
    first, second = live(db, "EURUSD", "5m")
    assert (first["open"], first["source_candles"], first["quality_score"]) == (101, 4, 1)
    assert first["raw"]["rejected_count"] == 1
    assert first["raw"]["rejected"] == [{"ts_utc": "2026-01-05T10:00:00+00:00", "reason": reason}]
    assert (second["quality_score"], "rejected" in second["raw"]) == (2, False), "its neighbour is unharmed"
    assert result["source_rejected"] == 1


def test_a_row_off_the_grid_is_invalid(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 5)
    put(db, "EURUSD", "10:02:30", high=5000, vol=999)
    catch_up(db, "EURUSD", "5m", NOW)
    (row,) = live(db, "EURUSD", "5m")
    assert (row["high"], row["vol"], row["source_candles"]) == (106, 50, 5)
    assert row["raw"]["rejected"] == [{"ts_utc": "2026-01-05T10:02:30+00:00", "reason": "time off the grid"}]


def test_rejected_rows_are_counted_all_but_only_twenty_are_named(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 5)
    for second in range(1, 31):
        put(db, "EURUSD", f"10:02:{second:02d}")
    result = catch_up(db, "EURUSD", "5m", NOW)
    (row,) = live(db, "EURUSD", "5m")
    assert (row["raw"]["rejected_count"], len(row["raw"]["rejected"]), result["source_rejected"]) == (30, 20, 30)


def test_a_window_of_invalid_rows_only_is_passed_and_gives_no_bar(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 15)
    put(db, "EURUSD", "10:05", 5, open=None)
    result = catch_up(db, "EURUSD", "5m", NOW)
    assert times(db, "EURUSD", "5m") == ["10:00", "10:10"]
    assert (result["windows_processed"], result["bars_skipped"], result["source_rejected"]) == (3, 1, 5)


FOUND_TO_QUALITY = {
    "5m": {5: 2, 4: 1, 3: 0, 2: None, 1: None},
    "15m": {3: 2, 2: 0, 1: None},
    "1h": {12: 2, 11: 1, 10: 1, 9: 0, 8: 0, 7: -1, 6: None},
    "4h": {4: 2, 3: 0, 2: None},
    "1d": {24: 2, 23: 1, 20: 1, 19: 0, 15: 0, 14: -1, 13: -1, 12: None},
}
SOURCE = {"5m": "1m", "15m": "5m", "1h": "5m", "4h": "1h", "1d": "1h"}


@pytest.mark.parametrize(
    ("timeframe", "found", "quality"),
    [(tf, found, quality) for tf, table in FOUND_TO_QUALITY.items() for found, quality in table.items()],
)
def test_quality_is_the_share_of_source_bars_found(
    db: psycopg.Connection, timeframe: str, found: int, quality: int | None
) -> None:
    """Each level is fed alone: for 4h and 1d an asset is given whose raw bars are 1h."""
    source = SOURCE[timeframe]
    register(db, "EURUSD", base="1m" if source == "1m" else "5m")
    db.execute("update core_asset_registry_all set base_timeframe = %s", [source])
    put(db, "EURUSD", "00:00", found, source)
    result = catch_up(db, "EURUSD", timeframe, "2026-01-07T00:00")
    assert [row["quality_score"] for row in live(db, "EURUSD", timeframe)] == ([] if quality is None else [quality])
    assert result["bars_quality_poor"] == (quality is not None and quality <= 0)
    assert result["bars_skipped"] == (quality is None)
    assert (result["windows_processed"], result["bars_created"]) == (1, int(quality is not None))


def test_derivation_version_is_as_asked(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 5)
    catch_up(db, "EURUSD", "5m", NOW, version=7)
    assert [row["derivation_version"] for row in live(db, "EURUSD", "5m")] == [7]


def test_a_changed_bar_keeps_its_old_row_and_gets_the_next_revision(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 5)
    catch_up(db, "EURUSD", "5m", NOW)
    put(db, "EURUSD", "10:04", close=102)
    result = catch_up(db, "EURUSD", "5m", NOW)
    assert history(db, "EURUSD", "5m") == [(1, False, 105), (2, True, 102)]
    assert (result["bars_created"], result["bars_revised"], result["windows_redone"]) == (1, 1, 1)
    old, new = rows(db, "select deleted_at, created_at from derived_data_bars order by revision")
    assert old["deleted_at"] == new["created_at"], "no instant without a bar, none with two"


def test_a_bar_that_loses_too_many_source_bars_is_retired(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 5)
    catch_up(db, "EURUSD", "5m", NOW)
    drop(db, "EURUSD", "10:00", "10:03")
    result = catch_up(db, "EURUSD", "5m", NOW)
    assert history(db, "EURUSD", "5m") == [(1, False, 105)]
    assert (result["bars_retired"], result["bars_created"]) == (1, 0)


def test_a_bar_whose_source_is_gone_altogether_is_retired(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 5)
    catch_up(db, "EURUSD", "5m", NOW)
    drop(db, "EURUSD", "10:00", "10:05")
    assert catch_up(db, "EURUSD", "5m", NOW)["bars_retired"] == 1
    assert live(db, "EURUSD", "5m") == []


def test_revisions_go_on_after_a_retirement(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 5)
    catch_up(db, "EURUSD", "5m", NOW)
    put(db, "EURUSD", "10:04", close=102)
    catch_up(db, "EURUSD", "5m", NOW)
    drop(db, "EURUSD", "10:00", "10:05")
    catch_up(db, "EURUSD", "5m", NOW)
    put(db, "EURUSD", "10:00", 5)
    catch_up(db, "EURUSD", "5m", NOW)
    assert history(db, "EURUSD", "5m") == [(1, False, 105), (2, False, 102), (3, True, 105)]


def test_a_recomputation_that_changes_nothing_writes_nothing(clean: psycopg.Connection) -> None:
    """Not even a new version of the row: xmin, the transaction that wrote it, stays."""
    register(clean, "EURUSD")
    put(clean, "EURUSD", "10:00", 5, open=None)
    put(clean, "EURUSD", "10:01", 4, vwap=0.1, vol=0.7)
    catch_up(clean, "EURUSD", "5m", NOW)
    catch_up(clean, "EURUSD", "15m", NOW)
    before = rows(clean, "select ctid, xmin, * from derived_data_bars")
    put(clean, "EURUSD", "10:00", 5, open=None)
    put(clean, "EURUSD", "10:01", 4, vwap=0.1, vol=0.7)
    result = catch_up(clean, "EURUSD", "5m", NOW)
    assert (result["windows_redone"], result["bars_unchanged"], result["bars_created"]) == (1, 1, 0)
    assert rows(clean, "select ctid, xmin, * from derived_data_bars") == before
    assert scalar_count(clean, "agg_dirty_ranges", "timeframe = '15m'") == 0, "and the next level hears nothing"


def scalar_count(db: psycopg.Connection, table: str, condition: str) -> int:
    return rows(db, f"select count(*) as n from {table} where {condition}")[0]["n"]


def test_a_rejected_row_that_is_mended_elsewhere_changes_the_provenance(db: psycopg.Connection) -> None:
    """The figures stay the same, the provenance in raw changes."""
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 5)
    put(db, "EURUSD", "10:02:30")
    catch_up(db, "EURUSD", "5m", NOW)
    drop(db, "EURUSD", "10:02:30", "10:02:31")
    catch_up(db, "EURUSD", "5m", NOW)
    assert [revision for revision, *_ in history(db, "EURUSD", "5m")] == [1, 2]
    assert "rejected" not in live(db, "EURUSD", "5m")[0]["raw"]


def test_the_rejected_count_stays_true_beyond_the_twenty_that_are_named(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 5)
    for second in range(1, 26):
        put(db, "EURUSD", f"10:02:{second:02d}")
    catch_up(db, "EURUSD", "5m", NOW)
    put(db, "EURUSD", "10:03:30")
    catch_up(db, "EURUSD", "5m", NOW)
    assert live(db, "EURUSD", "5m")[0]["raw"]["rejected_count"] == 26


def test_a_day_of_1h_bars_is_the_day_from_midnight_utc_in_every_session_time_zone(db: psycopg.Connection) -> None:
    db.execute("set local timezone = 'America/New_York'")
    register(db, "EURUSD", base="5m", start="2026-03-07T00:00")  # New York changes its clocks on the 8th
    put(db, "EURUSD", "2026-03-07T00:00", 288 * 3, "5m")
    for timeframe in ("1h", "4h", "1d"):
        catch_up(db, "EURUSD", timeframe, "2026-03-20T00:00")
    assert [(clock(row["ts_utc"]), row["quality_score"]) for row in live(db, "EURUSD", "1d")] == [
        ("03-07 00:00", 2), ("03-08 00:00", 2), ("03-09 00:00", 2),
    ]  # fmt: skip


@pytest.mark.parametrize("ts", ["infinity", "-infinity"])
def test_a_row_at_the_end_of_time_moves_no_cursor(db: psycopg.Connection, ts: str) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 5)
    db.execute(
        "insert into data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, source) "
        "values ('EURUSD', '1m', %s, 1, 1, 1, 1, 't')",
        [ts],
    )
    assert clock(catch_up(db, "EURUSD", "5m", NOW)["cursor_advanced_to"]) == "10:05"
    assert times(db, "EURUSD", "5m") == ["10:00"]
