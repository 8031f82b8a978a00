"""When a window is computed: complete, passed by, at its deadline; gaps are jumped; no parent on a half-built child."""

import psycopg
import pytest

from agg_pipeline_tests.sql.helpers import (
    alter_task,
    at,
    catch_up,
    clock,
    cursor,
    due,
    live,
    put,
    refused,
    register,
    scalar,
    settle,
    tick,
    times,
)


def built(db: psycopg.Connection, timeframe: str, now: str, **how: object) -> list[str]:
    catch_up(db, "EURUSD", timeframe, now, **how)  # type: ignore[arg-type]
    return times(db, "EURUSD", timeframe)


def test_a_complete_window_is_built_at_the_moment_it_ends(db: psycopg.Connection) -> None:
    """The delay of 30 seconds is for windows that miss bars; a complete one has nothing to wait for."""
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 5)
    assert built(db, "5m", "10:04:59") == []
    assert built(db, "5m", "10:05") == ["10:00"]


def test_a_window_that_newer_bars_have_passed_by_is_built_after_the_delay(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:01", 5)  # 10:00 is missing, 10:05 is there
    assert built(db, "5m", "10:05:29") == []
    assert built(db, "5m", "10:05:30") == ["10:00"]


def test_a_bar_from_the_future_passes_nothing_by(db: psycopg.Connection) -> None:
    """One bar of next year (a clock gone wrong, a bad file) must not make every late window look passed by."""
    register(db, "EURUSD")
    put(db, "EURUSD", "10:01", 4)
    put(db, "EURUSD", "2027-01-05T10:00")
    assert built(db, "5m", "10:05:30") == []
    assert built(db, "5m", "10:20") == ["10:00"]


def test_a_window_that_nothing_has_followed_is_built_at_its_deadline(db: psycopg.Connection) -> None:
    """A slow feed is waited for, but not for ever: the last window of a Friday has no successor before Sunday."""
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 4)
    assert built(db, "5m", "10:19:59") == []
    assert built(db, "5m", "10:20") == ["10:00"]


def test_delay_and_deadline_are_settings_of_the_task(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    alter_task(db, "EURUSD", "5m", aggregation_delay_seconds=120, late_deadline_seconds=3600)
    put(db, "EURUSD", "10:01", 8)  # 10:00 and 10:09 are missing
    assert built(db, "5m", "10:06:59") == []
    assert built(db, "5m", "10:07") == ["10:00"]
    assert built(db, "5m", "11:09:59") == ["10:00"]
    assert built(db, "5m", "11:10") == ["10:00", "10:05"]


def test_an_invalid_bar_neither_completes_a_window_nor_passes_it_by(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 4)
    put(db, "EURUSD", "10:04", 2, open=None)
    assert built(db, "5m", "10:19:59") == []
    assert built(db, "5m", "10:20") == ["10:00"]
    assert cursor(db, "EURUSD", "5m") == "10:05", "the invalid bar of 10:05 does not carry the cursor"


def test_ignoring_confirmation_skips_delay_and_deadline_but_never_the_end_of_a_window(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 8)
    assert built(db, "5m", "10:04:59", ignore_confirmation=True) == []
    put(db, "EURUSD", "10:00", 1, open=None)
    assert built(db, "5m", "10:05", ignore_confirmation=True) == ["10:00"]
    assert built(db, "5m", "10:09:59", ignore_confirmation=True) == ["10:00"]
    assert built(db, "5m", "10:10", ignore_confirmation=True) == ["10:00", "10:05"]


def test_a_parent_waits_for_a_child_that_has_yet_to_settle(db: psycopg.Connection) -> None:
    """The hour lacks a 5m bar that is about to be built; the deadline of the hour alone must not end the wait."""
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 60)
    catch_up(db, "EURUSD", "5m", "11:30", max_windows=11)
    assert built(db, "1h", "11:30") == [], "the child's last window is still to come"
    catch_up(db, "EURUSD", "5m", "11:30")
    assert built(db, "1h", "11:30") == ["10:00"]
    assert live(db, "EURUSD", "1h")[0]["source_candles"] == 12


def test_the_level_gate_looks_below_the_child_too(db: psycopg.Connection) -> None:
    """4h is built from 1h, which has nothing to read yet: its own child, 5m, has not run."""
    register(db, "EURUSD")
    put(db, "EURUSD", "08:00", 240)
    catch_up(db, "EURUSD", "5m", "13:00", max_windows=36)
    catch_up(db, "EURUSD", "1h", "13:00")
    assert times(db, "EURUSD", "1h") == ["08:00", "09:00", "10:00"]
    assert built(db, "4h", "13:00") == []
    catch_up(db, "EURUSD", "5m", "13:00")
    assert built(db, "4h", "13:00") == []
    catch_up(db, "EURUSD", "1h", "13:00")
    assert built(db, "4h", "13:00") == ["08:00"]
    assert live(db, "EURUSD", "4h")[0]["source_candles"] == 4


def test_an_incomplete_parent_is_built_once_the_child_has_passed_its_end(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 50)
    put(db, "EURUSD", "11:00", 5)
    catch_up(db, "EURUSD", "5m", "11:05")
    assert built(db, "1h", "11:05") == ["10:00"]
    assert live(db, "EURUSD", "1h")[0]["quality_score"] == 1


def test_an_incomplete_parent_whose_child_can_add_nothing_is_built_at_its_deadline(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 50)
    catch_up(db, "EURUSD", "5m", "11:00")
    assert built(db, "1h", "11:14:59") == []
    assert built(db, "1h", "11:15") == ["10:00"]


def test_a_paused_child_holds_its_parent_back(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 90)
    catch_up(db, "EURUSD", "5m", "11:30", max_windows=9)
    alter_task(db, "EURUSD", "5m", enabled=False)
    settle(db, "23:00")
    assert times(db, "EURUSD", "1h") == []
    alter_task(db, "EURUSD", "5m", enabled=True)
    settle(db, "23:00")
    assert [(row["ts_utc"], row["source_candles"]) for row in live(db, "EURUSD", "1h")] == [(at("10:00"), 12)]


@pytest.mark.parametrize(
    ("last", "next_", "now"),
    [("10:00", "10:15", "10:20"), ("10:00", "22:00", "22:05"), ("2026-01-09T22:00", "2026-01-11T22:00",
    "2026-01-11T22:05"),
     ("2026-01-05T10:00", "2026-06-05T10:00", "2026-06-05T10:05")],
    ids=["a hole", "an outage", "a weekend", "five months"],
)  # fmt: skip
def test_a_gap_is_jumped_in_one_call_at_no_cost(db: psycopg.Connection, last: str, next_: str, now: str) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", last, 5)
    put(db, "EURUSD", next_, 5)
    result = catch_up(db, "EURUSD", "5m", now, max_windows=2)
    assert (result["windows_processed"], result["bars_created"], result["bars_skipped"]) == (2, 2, 0)
    assert [row["ts_utc"] for row in live(db, "EURUSD", "5m")] == [at(last), at(next_)]


def test_the_cursor_never_passes_the_window_of_the_newest_bar(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 5)
    assert clock(catch_up(db, "EURUSD", "5m", "23:00")["cursor_advanced_to"]) == "10:05"
    put(db, "EURUSD", "20:01")
    assert clock(catch_up(db, "EURUSD", "5m", "20:04")["cursor_advanced_to"]) == "20:00", "jumped to the open window"
    assert clock(catch_up(db, "EURUSD", "5m", "23:00")["cursor_advanced_to"]) == "20:05", "too few bars, but passed"
    assert times(db, "EURUSD", "5m") == ["10:00"]


def test_a_gap_before_an_open_window_is_not_passed_before_its_own_delay(db: psycopg.Connection) -> None:
    """The bar of 10:05 may have come before those of 10:00, which are given the delay to follow."""
    register(db, "EURUSD")
    put(db, "EURUSD", "09:55", 5)
    catch_up(db, "EURUSD", "5m", "10:00")
    put(db, "EURUSD", "10:05")
    assert clock(catch_up(db, "EURUSD", "5m", "10:05:29")["cursor_advanced_to"]) == "10:00"
    assert clock(catch_up(db, "EURUSD", "5m", "10:05:30")["cursor_advanced_to"]) == "10:05"


def test_a_complete_window_after_a_gap_waits_until_the_gap_may_be_passed(db: psycopg.Connection) -> None:
    """With a delay of ten minutes the bars of 10:00 may still come when those of 10:05 are all there."""
    register(db, "EURUSD")
    alter_task(db, "EURUSD", "5m", aggregation_delay_seconds=600)
    put(db, "EURUSD", "09:55", 5)
    catch_up(db, "EURUSD", "5m", "10:00")
    put(db, "EURUSD", "10:05", 5)
    assert built(db, "5m", "10:14:59") == ["09:55"]
    assert built(db, "5m", "10:15") == ["09:55", "10:05"]


def test_a_task_without_data_waits_without_failing(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    result = catch_up(db, "EURUSD", "5m", "10:00")
    assert (result["windows_processed"], result["reason"], result["continue"]) == (0, "no_source_data_anywhere", False)
    assert due(db, "2026-12-31T00:00") == []
    assert cursor(db, "EURUSD", "5m") is None


@pytest.mark.parametrize("first", ["00:00", "2026-03-04T05:06", "2027-01-01T00:00"])
def test_a_task_born_before_its_data_starts_by_itself_when_data_comes(db: psycopg.Connection, first: str) -> None:
    register(db, "EURUSD")
    settle(db, "2026-01-05T06:00")
    put(db, "EURUSD", first, 120)
    settle(db, "2027-06-01T00:00")
    assert sum(row["source_candles"] for row in live(db, "EURUSD", "5m")) >= 119, "one bar may be alone in its window"
    assert len(live(db, "EURUSD", "1h")) == 2


def test_data_that_comes_before_what_is_built_is_built_too(db: psycopg.Connection) -> None:
    """A backfill goes back in time, down to agg_start_utc and no further."""
    register(db, "EURUSD", start="08:00")
    put(db, "EURUSD", "12:00", 60)
    settle(db, "14:00")
    put(db, "EURUSD", "07:00", 120)
    settle(db, "14:00")
    assert times(db, "EURUSD", "1h") == ["08:00", "12:00"]
    assert times(db, "EURUSD", "5m")[0] == "08:00"


def test_the_first_window_is_the_first_that_starts_at_or_after_agg_start(db: psycopg.Connection) -> None:
    register(db, "EURUSD", start="08:07")
    put(db, "EURUSD", "08:00", 300)
    settle(db, "14:00")
    assert [times(db, "EURUSD", timeframe)[0] for timeframe in ("5m", "15m", "1h")] == ["08:10", "08:15", "09:00"]
    assert clock(scalar(db, "select agg_bootstrap_cursor('EURUSD', '1h')")) == "09:00"


def test_max_windows_bounds_a_call_and_the_next_one_resumes(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 35)
    seen = []
    for _ in range(4):
        result = catch_up(db, "EURUSD", "5m", "11:00", max_windows=2)
        seen.append((result["windows_processed"], clock(result["cursor_advanced_to"]), result["continue"]))
    assert seen == [(2, "10:10", True), (2, "10:20", True), (2, "10:30", True), (1, "10:35", False)]
    assert len(times(db, "EURUSD", "5m")) == 7


def test_max_windows_counts_windows_not_rows(db: psycopg.Connection) -> None:
    """Each window holds one row only: as many rows as two full windows are ten windows."""
    register(db, "EURUSD")
    for minute in range(0, 60, 5):
        put(db, "EURUSD", f"10:{minute:02d}")
    result = catch_up(db, "EURUSD", "5m", "12:00", max_windows=2)
    assert (result["windows_processed"], result["bars_skipped"], result["continue"]) == (2, 2, True)
    assert cursor(db, "EURUSD", "5m") == "10:10"


def test_max_windows_counts_new_and_touched_windows_together(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 20)
    catch_up(db, "EURUSD", "5m", "10:20")
    put(db, "EURUSD", "10:00", 20, high=200)
    put(db, "EURUSD", "10:20", 5)
    result = catch_up(db, "EURUSD", "5m", "10:30", max_windows=3)
    assert (result["windows_processed"], result["windows_redone"], result["continue"]) == (3, 2, True)
    result = catch_up(db, "EURUSD", "5m", "10:30", max_windows=3)
    assert (result["windows_processed"], result["windows_redone"], result["continue"]) == (2, 2, False)
    assert [row["high"] for row in live(db, "EURUSD", "5m")][:4] == [200] * 4


def test_a_call_that_stops_at_max_windows_leaves_the_task_due_at_once(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 20)
    (first, *_) = tick(db, "10:21", max_windows=1)
    assert first["continue"]
    assert ("EURUSD", "5m") in due(db, "10:21")


@pytest.mark.parametrize("windows", [-1, 100_001])
def test_an_absurd_number_of_windows_is_refused(db: psycopg.Connection, windows: int) -> None:
    register(db, "EURUSD")
    with refused(db, "AG003", "p_max_windows", "continue"):
        catch_up(db, "EURUSD", "5m", "10:00", max_windows=windows)


def test_zero_windows_build_nothing(db: psycopg.Connection) -> None:
    """What the predecessor asks for when its setting is not a number."""
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 5)
    assert catch_up(db, "EURUSD", "5m", "11:00", max_windows=0)["windows_processed"] == 0
    result = scalar(
        db,
        "select catchup_aggregation_range('EURUSD', '5m', %s, p_max_windows => null, p_now_utc => %s)",
        [at("10:00"), at("11:00")],
    )
    assert result["windows_processed"] == 0
    assert times(db, "EURUSD", "5m") == []


def test_a_stored_cursor_wins_over_the_one_that_is_passed(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 30)
    catch_up(db, "EURUSD", "5m", "10:10")
    assert clock(catch_up(db, "EURUSD", "5m", "10:15", start="09:00")["cursor_advanced_to"]) == "10:15"
    assert clock(catch_up(db, "EURUSD", "5m", "10:20", start="10:25")["cursor_advanced_to"]) == "10:20"
    assert times(db, "EURUSD", "5m") == ["10:00", "10:05", "10:10", "10:15"]


def test_a_start_without_a_cursor_anywhere_is_refused(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    with refused(db, "AG003", "start cursor is NULL for EURUSD/5m"):
        catch_up(db, "EURUSD", "5m", "10:00", start=None)


def test_the_cursor_never_goes_back_when_data_goes(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 60)
    catch_up(db, "EURUSD", "5m", "11:00")
    db.execute("delete from data_bars")
    assert clock(catch_up(db, "EURUSD", "5m", "12:00")["cursor_advanced_to"]) == "11:00"
    assert times(db, "EURUSD", "5m") == []


def test_a_cursor_off_the_grid_is_brought_back_onto_it(db: psycopg.Connection) -> None:
    """A predecessor could leave one; the window that it cuts is built whole."""
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 10)
    alter_task(db, "EURUSD", "5m", last_agg_bar_ts_utc=at("10:02"))
    catch_up(db, "EURUSD", "5m", "10:10")
    assert times(db, "EURUSD", "5m") == ["10:00", "10:05"]
    assert cursor(db, "EURUSD", "5m") == "10:10"
