"""Late, corrected and deleted source rows: the windows they touch are rebuilt, only those, up through every level."""

import concurrent.futures
import time

import psycopg
import pytest

from agg_pipeline.embedded import Stack
from agg_pipeline_tests.sql.helpers import (
    at,
    catch_up,
    clock,
    dirty,
    drop,
    due,
    history,
    live,
    put,
    register,
    scalar,
    settle,
    tick,
    times,
)

ALL = ("5m", "15m", "1h", "4h", "1d")
NEXT_DAY = "2026-01-06T12:00"


@pytest.fixture
def day(db: psycopg.Connection) -> psycopg.Connection:
    """A whole day of bars, built at every level."""
    register(db, "EURUSD")
    put(db, "EURUSD", "00:00", 24 * 60)
    settle(db, NEXT_DAY)
    assert [len(live(db, "EURUSD", timeframe)) for timeframe in ALL] == [288, 96, 24, 6, 1]
    return db


def revised(db: psycopg.Connection, timeframe: str) -> list[str | None]:
    return [clock(row["ts_utc"]) for row in live(db, "EURUSD", timeframe) if row["revision"] > 1]


def test_a_corrected_row_rebuilds_its_window_at_every_level_and_no_other(day: psycopg.Connection) -> None:
    put(day, "EURUSD", "10:07", high=9999)
    settle(day, NEXT_DAY)
    assert [revised(day, timeframe) for timeframe in ALL] == [["10:05"], ["10:00"], ["10:00"], ["08:00"], ["00:00"]]
    assert live(day, "EURUSD", "1d")[0]["high"] == 9999


def test_a_correction_reaches_the_top_in_one_tick(day: psycopg.Connection) -> None:
    put(day, "EURUSD", "10:07", high=9999)
    assert [result["timeframe"] for result in tick(day, NEXT_DAY)] == list(ALL)
    assert live(day, "EURUSD", "1d")[0]["high"] == 9999
    assert due(day, NEXT_DAY) == []


def test_a_correction_that_a_level_swallows_goes_no_further(day: psycopg.Connection) -> None:
    """The close of 10:07 is not the close of any 5m bar: nothing above has changed."""
    day.execute("update data_bars set close = close - 1 where ts_utc = %s", [at("10:07")])
    settle(day, NEXT_DAY)
    assert [revised(day, timeframe) for timeframe in ALL] == [[]] * 5


def test_two_corrections_far_apart_do_not_touch_what_lies_between(day: psycopg.Connection) -> None:
    day.execute("update data_bars set high = 9999 where ts_utc in (%s, %s)", [at("01:00"), at("20:00")])
    assert dirty(day, "EURUSD", "5m") == [("01:00", "01:05"), ("20:00", "20:05")]
    (result, *_) = tick(day, NEXT_DAY)
    assert (result["windows_redone"], result["bars_revised"]) == (2, 2)


def test_a_deleted_row_rebuilds_its_window(day: psycopg.Connection) -> None:
    drop(day, "EURUSD", "10:00", "10:01")
    settle(day, NEXT_DAY)
    row = next(row for row in live(day, "EURUSD", "5m") if row["revision"] > 1)
    assert (row["source_candles"], row["quality_score"]) == (4, 1)


def test_a_deleted_hour_retires_its_bars_at_every_level(day: psycopg.Connection) -> None:
    drop(day, "EURUSD", "10:00", "11:00")
    settle(day, NEXT_DAY)
    assert [len(live(day, "EURUSD", timeframe)) for timeframe in ALL] == [276, 92, 23, 6, 1]
    assert live(day, "EURUSD", "1d")[0]["source_candles"] == 23


def test_a_moved_row_rebuilds_the_window_it_left_and_the_one_it_came_to(day: psycopg.Connection) -> None:
    drop(day, "EURUSD", "20:00", "20:01")
    settle(day, NEXT_DAY)
    day.execute("update data_bars set ts_utc = %s where ts_utc = %s", [at("20:00"), at("10:00")])
    settle(day, NEXT_DAY)
    found = {
        row["ts_utc"]: (row["revision"], row["source_candles"])
        for row in live(day, "EURUSD", "5m")
        if row["revision"] > 1
    }
    assert found == {at("10:00"): (2, 4), at("20:00"): (3, 5)}


def test_a_row_that_changes_its_symbol_rebuilds_both(day: psycopg.Connection) -> None:
    register(day, "GBPUSD")
    put(day, "GBPUSD", "10:00", 10)
    settle(day, NEXT_DAY)
    drop(day, "GBPUSD", "10:00", "10:01")
    day.execute("update data_bars set canonical_symbol = 'GBPUSD' where ts_utc = %s", [at("10:00")])
    settle(day, NEXT_DAY)
    assert revised(day, "5m") == ["10:00"]
    assert live(day, "GBPUSD", "5m")[0]["source_candles"] == 5


def test_a_single_row_is_noted_for_every_timeframe_that_is_built_from_it(db: psycopg.Connection) -> None:
    register(db, "DAX", base="5m")
    put(db, "DAX", "10:20", timeframe="5m")
    noted = {timeframe: dirty(db, "DAX", timeframe) for timeframe in ALL}
    assert noted == {"5m": [], "15m": [("10:15", "10:30")], "1h": [("10:00", "11:00")], "4h": [], "1d": []}


def test_a_single_row_that_moves_is_noted_once_per_window(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00")
    for ts, noted in [
        ("10:01", [("10:00", "10:05")]),
        ("10:09", [("10:00", "10:10")]),
        ("10:21", [("10:05", "10:10"), ("10:20", "10:25")]),
    ]:
        db.execute("delete from agg_dirty_ranges")
        db.execute("update data_bars set ts_utc = %s", [at(ts)])
        assert dirty(db, "EURUSD", "5m") == noted


def test_of_many_updated_rows_those_that_move_are_noted_where_they_were_as_well(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 30)
    db.execute("delete from agg_dirty_ranges")
    db.execute("update data_bars set close = close + 1 where ts_utc >= %s", [at("10:20")])
    assert dirty(db, "EURUSD", "5m") == [("10:20", "10:30")]
    db.execute("delete from agg_dirty_ranges")
    db.execute("update data_bars set ts_utc = ts_utc + interval '1 hour' where ts_utc < %s", [at("10:10")])
    assert dirty(db, "EURUSD", "5m") == [("10:00", "10:10"), ("11:00", "11:10")]


@pytest.mark.parametrize("end", ["infinity", "-infinity"])
def test_a_row_at_the_end_of_time_is_stored_and_touches_nothing(db: psycopg.Connection, end: str) -> None:
    register(db, "EURUSD", "GBPUSD")
    insert = "insert into data_bars (canonical_symbol, timeframe, source, ts_utc) "
    db.execute(insert + "values ('EURUSD', '1m', 'test', %s)", [end])
    db.execute("update data_bars set open = 1")
    db.execute("update data_bars set ts_utc = %s", [at("10:00")])
    assert dirty(db, "EURUSD", "5m") == [("10:00", "10:05")]
    db.execute("delete from data_bars")
    db.execute("delete from agg_dirty_ranges")
    db.execute(insert + "select symbol, '1m', 'test', %s from unnest(array['EURUSD', 'GBPUSD']) symbol", [end])
    assert scalar(db, "select count(*) from agg_dirty_ranges") == 0


def test_truncating_the_raw_bars_retires_everything(day: psycopg.Connection) -> None:
    day.execute("truncate data_bars")
    settle(day, NEXT_DAY)
    assert [live(day, "EURUSD", timeframe) for timeframe in ALL] == [[]] * 5
    put(day, "EURUSD", "00:00", 24 * 60)
    settle(day, NEXT_DAY)
    assert live(day, "EURUSD", "1d")[0]["revision"] == 2


def test_truncating_the_derived_bars_builds_them_again(day: psycopg.Connection) -> None:
    day.execute("truncate derived_data_bars")
    settle(day, NEXT_DAY)
    assert [len(live(day, "EURUSD", timeframe)) for timeframe in ALL] == [288, 96, 24, 6, 1]


def test_a_late_row_makes_a_bar_where_there_was_none(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 2)
    put(db, "EURUSD", "10:05", 5)
    settle(db, "11:00")
    assert times(db, "EURUSD", "5m") == ["10:05"]
    put(db, "EURUSD", "10:02")
    settle(db, "11:00")
    assert times(db, "EURUSD", "5m") == ["10:00", "10:05"]


def test_a_row_in_a_jumped_gap_is_built(day: psycopg.Connection) -> None:
    put(day, "EURUSD", "2026-01-12T00:00", 60)
    settle(day, "2026-01-12T02:00")
    put(day, "EURUSD", "2026-01-10T12:00", 60)
    settle(day, "2026-01-12T02:00")
    assert times(day, "EURUSD", "1h")[-2:] == ["01-10 12:00", "01-12 00:00"]


def test_touched_windows_wait_for_nothing_but_a_back_off(day: psycopg.Connection) -> None:
    """next_run_at of a 1d task is a day away; the correction is not."""
    put(day, "EURUSD", "2026-01-06T00:00", 720)
    settle(day, NEXT_DAY)
    put(day, "EURUSD", "10:07", high=9999)
    settle(day, NEXT_DAY)
    assert live(day, "EURUSD", "1d")[0]["high"] == 9999


def test_what_max_windows_leaves_stays_in_the_log(day: psycopg.Connection) -> None:
    day.execute("update data_bars set high = 9999 where ts_utc < %s", [at("01:00")])
    result = catch_up(day, "EURUSD", "5m", NEXT_DAY, max_windows=5)
    assert (result["windows_redone"], result["continue"]) == (5, True)
    assert dirty(day, "EURUSD", "5m") == [("00:25", "01:00")]
    assert ("EURUSD", "5m") in due(day, NEXT_DAY)


def test_a_change_before_the_first_window_or_at_the_open_one_makes_nothing_due(db: psycopg.Connection) -> None:
    register(db, "EURUSD", start="10:00")
    put(db, "EURUSD", "10:00", 5)
    settle(db, "10:05")
    put(db, "EURUSD", "09:00", 60)
    put(db, "EURUSD", "10:05", 2)
    assert due(db, "10:07") == []


def test_bars_of_an_asset_without_tasks_leave_nothing_behind(db: psycopg.Connection) -> None:
    db.execute("insert into core_asset_registry_all (canonical_symbol, active) values ('DAX', false)")
    put(db, "DAX", "10:00", 60)
    assert scalar(db, "select count(*) from agg_dirty_ranges") > 0
    due(db, "12:00")
    assert scalar(db, "select count(*) from agg_dirty_ranges") == 0


def test_an_asset_that_becomes_active_later_has_its_whole_history_built(db: psycopg.Connection) -> None:
    db.execute("insert into core_asset_registry_all (canonical_symbol, active) values ('DAX', false)")
    put(db, "DAX", "10:00", 60)
    due(db, "12:00")
    db.execute("update core_asset_registry_all set active = true")
    settle(db, "12:00")
    assert times(db, "DAX", "1h") == ["10:00"]


# ---- several connections


def test_a_writer_that_commits_after_its_window_was_built_is_not_lost(stack: Stack, clean: psycopg.Connection) -> None:
    """What a cursor with a log only below it, or a watermark on ingestion time, loses for ever."""
    register(clean, "EURUSD")
    put(clean, "EURUSD", "10:00", 4)
    put(clean, "EURUSD", "10:05", 5)
    with psycopg.connect(stack.dsn) as writer:
        put(writer, "EURUSD", "10:04")
        settle(clean, "10:10")
        assert [row["source_candles"] for row in live(clean, "EURUSD", "5m")] == [4, 5]
        writer.commit()
    settle(clean, "10:10")
    assert history(clean, "EURUSD", "5m") == [(1, False, 104), (2, True, 101), (1, True, 105)]


def test_a_deletion_that_commits_late_is_not_lost(stack: Stack, clean: psycopg.Connection) -> None:
    register(clean, "EURUSD")
    put(clean, "EURUSD", "10:00", 10)
    with psycopg.connect(stack.dsn) as writer:
        drop(writer, "EURUSD", "10:04", "10:05")
        settle(clean, "10:10")
        writer.commit()
    settle(clean, "10:10")
    assert [row["source_candles"] for row in live(clean, "EURUSD", "5m")] == [4, 5]


def test_two_catch_ups_of_one_task_take_turns(stack: Stack, clean: psycopg.Connection) -> None:
    """The second begins while the first has written but not committed; it waits, and then finds nothing to do."""
    register(clean, "EURUSD")
    put(clean, "EURUSD", "10:00", 60)
    with (
        psycopg.connect(stack.dsn) as first,
        psycopg.connect(stack.dsn) as second,
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        assert catch_up(first, "EURUSD", "5m", "11:00")["bars_created"] == 12
        waiting = pool.submit(catch_up, second, "EURUSD", "5m", "11:00")
        wait_until_blocked(clean, second)
        first.commit()
        result = waiting.result(timeout=10)
        second.commit()
    assert (result["bars_created"], result["windows_processed"]) == (0, 0)
    assert [revision for revision, *_ in history(clean, "EURUSD", "5m")] == [1] * 12


def test_a_catch_up_that_waited_sees_what_was_committed_meanwhile(stack: Stack, clean: psycopg.Connection) -> None:
    register(clean, "EURUSD")
    put(clean, "EURUSD", "10:00", 10)
    settle(clean, "10:10")
    with (
        psycopg.connect(stack.dsn) as first,
        psycopg.connect(stack.dsn) as second,
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        put(clean, "EURUSD", "10:01", high=500)
        catch_up(first, "EURUSD", "5m", "10:10")
        put(clean, "EURUSD", "10:02", high=600)
        waiting = pool.submit(catch_up, second, "EURUSD", "5m", "10:10")
        wait_until_blocked(clean, second)
        first.commit()
        waiting.result(timeout=10)
        second.commit()
    assert [
        high
        for (high,) in clean.execute(
            "select high from derived_data_bars where ts_utc = %s and timeframe = '5m' order by revision", [at("10:00")]
        )
    ] == [106, 500, 600]
    assert dirty(clean, "EURUSD", "5m") == []


def wait_until_blocked(watcher: psycopg.Connection, waiting: psycopg.Connection) -> None:
    for _ in range(500):
        if scalar(watcher, "select cardinality(pg_blocking_pids(%s)) > 0", [waiting.info.backend_pid]):
            return
        time.sleep(0.01)
    raise AssertionError("nobody waits")
