"""What a tick selects: due tasks only, in a fair order, a symbol's chain kept together."""

import datetime as dt

import psycopg
import pytest

from agg_pipeline_tests.sampling import sampled
from agg_pipeline_tests.sql.helpers import (
    MINUTES,
    alter_task,
    at,
    clock,
    dirty,
    due,
    finish,
    put,
    refused,
    register,
    rows,
    settle,
    start,
    state,
    tick,
    times,
)


def ready(db: psycopg.Connection, *symbols: str, minutes: int = 5) -> None:
    """Symbols with a 5m window that is complete at 10:05; nothing above has ended before."""
    register(db, *symbols, start="10:00")
    for symbol in symbols:
        put(db, symbol, "10:00", minutes)


def test_a_task_is_due_when_it_has_an_eligible_window(db: psycopg.Connection) -> None:
    ready(db, "EURUSD")
    assert due(db, "10:04:59") == []
    assert due(db, "10:05") == [("EURUSD", "5m")]
    tick(db, "10:05")
    assert due(db, "10:09:59") == []


def test_selection_claims_nothing(db: psycopg.Connection) -> None:
    ready(db, "EURUSD")
    assert due(db, "10:05") == due(db, "10:05") == [("EURUSD", "5m")]


@pytest.mark.parametrize(("timeframe", "next_"), [("5m", "11:05"), ("15m", "11:15"), ("1h", "12:00")])
def test_the_next_run_is_on_the_grid_however_late_this_one_was(
    db: psycopg.Connection, timeframe: str, next_: str
) -> None:
    """Finish time plus interval would drift, and a 5m task would miss every second tick."""
    register(db, "EURUSD", start="10:00")
    put(db, "EURUSD", "10:00", 60)
    tick(db, "11:03:37")
    assert clock(state(db, "EURUSD", timeframe)["next_run_at"]) == next_


def test_a_5m_task_runs_at_every_tick_of_a_cron_with_jitter(db: psycopg.Connection) -> None:
    register(db, "EURUSD", start="10:00")
    put(db, "EURUSD", "10:00", 60)
    ran = 0
    for n in range(1, 13):
        now = at("10:01") + dt.timedelta(minutes=5 * n, seconds=(n * 17) % 31)
        ran += any(result["timeframe"] == "5m" and result["bars_created"] == 1 for result in tick(db, now))
    assert ran == 12


def test_a_parent_is_due_in_the_tick_of_the_child_that_completes_it(db: psycopg.Connection) -> None:
    register(db, "EURUSD", start="08:00")
    put(db, "EURUSD", "08:00", 240)
    tick(db, "11:55")
    assert due(db, "12:00") == [("EURUSD", "5m"), ("EURUSD", "15m"), ("EURUSD", "1h"), ("EURUSD", "4h")]
    tick(db, "12:00")
    assert times(db, "EURUSD", "4h") == ["08:00"]
    assert due(db, "12:00") == []


def test_a_parent_is_not_due_before_its_window_has_ended(db: psycopg.Connection) -> None:
    register(db, "EURUSD", start="08:00")
    put(db, "EURUSD", "08:00", 50)
    assert due(db, "08:50") == [("EURUSD", "5m"), ("EURUSD", "15m")]


def test_a_parent_whose_base_rows_have_not_come_yet_is_not_due(db: psycopg.Connection) -> None:
    register(db, "EURUSD", start="10:00")
    put(db, "EURUSD", "10:00", 55)
    settle(db, "10:55")
    assert due(db, "11:01") == []
    put(db, "EURUSD", "10:55", 3)
    assert ("EURUSD", "1h") not in due(db, "11:01"), "the 5m bar itself is not to be had yet"
    put(db, "EURUSD", "10:58", 2)
    assert due(db, "11:01") == [("EURUSD", "5m"), ("EURUSD", "15m"), ("EURUSD", "1h")]


def test_a_5m_asset_begins_at_15m(db: psycopg.Connection) -> None:
    register(db, "DAX", base="5m", start="08:00")
    put(db, "DAX", "08:00", 48, "5m")
    assert due(db, "12:00") == [("DAX", "15m"), ("DAX", "1h"), ("DAX", "4h")]


def test_a_touched_window_makes_its_task_and_those_above_due(db: psycopg.Connection) -> None:
    register(db, "EURUSD", start="08:00")
    put(db, "EURUSD", "08:00", 240)
    settle(db, "12:01")
    put(db, "EURUSD", "09:00", high=500)
    assert due(db, "12:01") == [("EURUSD", "5m"), ("EURUSD", "15m"), ("EURUSD", "1h"), ("EURUSD", "4h")]


def test_touched_rows_around_what_is_built_make_nothing_due(db: psycopg.Connection) -> None:
    """The 1h bars of 19:00 and 20:00 touch 4h windows before the first and at the cursor: there is nothing to redo."""
    register(db, "EURUSD", start="19:00")
    put(db, "EURUSD", "19:00", 120)
    tick(db, "21:02")
    assert dirty(db, "EURUSD", "4h") == [("16:00", "01-06 00:00")], "or this test shows nothing"
    assert due(db, "21:02") == []


def test_the_answer_is_ordered_by_length_of_timeframe(db: psycopg.Connection) -> None:
    register(db, "A", "B", start="08:00")
    put(db, "A", "08:00", 60)
    put(db, "B", "08:00", 60)
    alter_task(db, "B", "1h", task_priority=1)
    assert due(db, "09:00") == [("B", "5m"), ("A", "5m"), ("B", "15m"), ("A", "15m"), ("B", "1h"), ("A", "1h")]


def test_mandatory_goes_first_then_priority_then_the_longest_waiting(db: psycopg.Connection) -> None:
    ready(db, "A", "B", "C", "D")
    for symbol in "ABD":
        db.execute("update data_agg_state set is_mandatory = false where canonical_symbol = %s", [symbol])
    alter_task(db, "B", "5m", task_priority=50)
    alter_task(db, "A", "5m", last_attempted_at_utc=at("10:05:05"))
    now = "10:05:10"
    assert [symbol for symbol, _ in due(db, now)] == ["C", "B", "D", "A"]
    assert [symbol for symbol, _ in due(db, now, limit=2)] == ["B", "C"][::-1]


def test_a_chain_that_does_not_fit_waits_whole_and_a_smaller_one_takes_its_place(db: psycopg.Connection) -> None:
    register(db, "A", "B", "C", start="10:00")
    put(db, "A", "10:00", 15)
    put(db, "B", "10:00", 15)
    put(db, "C", "10:05", 5)
    alter_task(db, "C", "5m", task_priority=500)
    assert due(db, "10:15", limit=3) == [("A", "5m"), ("C", "5m"), ("A", "15m")]


def test_a_chain_longer_than_the_limit_is_cut_if_it_is_the_first(db: psycopg.Connection) -> None:
    """Else it would never run."""
    register(db, "A", start="10:00")
    put(db, "A", "10:00", 60)
    assert due(db, "11:00", limit=2) == [("A", "5m"), ("A", "15m")]


@pytest.mark.parametrize("limit", sampled([1, 3], [3]))
def test_nobody_starves_when_more_is_due_than_the_limit(db: psycopg.Connection, limit: int) -> None:
    """Three symbols whose chain never ends, one of them mandatory and preferred; a tick every five minutes."""
    symbols = ["AAA", "BBB", "CCC"]
    register(db, *symbols, start="00:00")
    db.execute("update data_agg_state set is_mandatory = canonical_symbol = 'AAA'")
    db.execute("update data_agg_state set task_priority = 1 where canonical_symbol = 'AAA'")
    for symbol in symbols:
        put(db, symbol, "00:00", 24 * 60)
    runs: dict[tuple[str, str], int] = {}
    for n in range(48):
        for result in tick(db, at("06:01") + dt.timedelta(minutes=5 * n), limit=limit, max_windows=1):
            key = result["canonical_symbol"], result["timeframe"]
            runs[key] = runs.get(key, 0) + 1
    assert set(runs) >= {(symbol, timeframe) for symbol in symbols for timeframe in ("5m", "15m", "1h")}


def test_what_has_waited_too_long_goes_before_what_is_mandatory(db: psycopg.Connection) -> None:
    ready(db, "A", "B")
    db.execute("update data_agg_state set is_mandatory = canonical_symbol = 'A'")
    alter_task(db, "A", "5m", last_attempted_at_utc=at("10:25"))
    assert due(db, "10:25", limit=1) == [("A", "5m")], "20 minutes: two tasks at one a tick, and two more ticks"
    assert due(db, "10:25:01", limit=1) == [("B", "5m")]


@pytest.mark.parametrize(
    ("env", "found"),
    [("DEV", ["test"]), ("test", ["test"]), ("STAGE", ["live"]), ("prod", ["live"]), ("typo", ["live"]), (None, [])],
)
def test_the_environment_decides_which_assets_are_due(
    db: psycopg.Connection, env: str | None, found: list[str]
) -> None:
    ready(db, "live", "test")
    db.execute(
        "update core_asset_registry_all set active = canonical_symbol = 'live', test_active = canonical_symbol = 'test'"
    )
    assert [symbol for symbol, _ in due(db, "10:05", env=env)] == found


@pytest.mark.parametrize(
    "setting",
    [
        {"enabled": False},
        {"status": "disabled"},
        {"status": "running"},
        {"paused_at_utc": "2026-01-05T09:00Z"},
        {"paused_at_utc": "2026-01-05T09:00Z", "paused_until_utc": "2026-01-05T10:05:01Z"},
        {"next_run_at": "2026-01-05T10:05:01Z", "transient_streak": 1},
        {"next_run_at": "2026-01-05T10:05:01Z", "hard_fail_streak": 1},
    ],
    ids=str,
)
def test_a_task_that_may_not_run_is_not_due(db: psycopg.Connection, setting: dict) -> None:
    ready(db, "EURUSD")
    tick(db, "10:05")
    put(db, "EURUSD", "10:00", 5, high=500)
    alter_task(
        db, "EURUSD", "5m", **({"running_started_at_utc": at("10:05")} if "status" in setting else {}), **setting
    )
    assert due(db, "10:05") == []


def test_a_pause_that_has_run_out_no_longer_counts(db: psycopg.Connection) -> None:
    ready(db, "EURUSD")
    alter_task(db, "EURUSD", "5m", paused_at_utc=at("09:00"), paused_until_utc=at("10:05"))
    assert due(db, "10:05") == [("EURUSD", "5m")]


def test_a_mandatory_task_in_hard_failed_is_tried_again_after_its_back_off(db: psycopg.Connection) -> None:
    ready(db, "EURUSD")
    start(db, "EURUSD", "5m", "10:05")
    finish(db, "EURUSD", "5m", "10:05", success=False, fail_kind="hard", threshold=1)
    assert state(db, "EURUSD", "5m")["status"] == "hard_failed"
    assert due(db, "10:05:30") == []
    assert due(db, "10:07") == [("EURUSD", "5m")]


def test_a_parent_of_a_paused_child_does_not_run_in_its_place(db: psycopg.Connection) -> None:
    register(db, "EURUSD", start="10:00")
    put(db, "EURUSD", "10:00", 60)
    alter_task(db, "EURUSD", "5m", enabled=False)
    assert due(db, "12:00") == []


def test_selection_can_be_narrowed(db: psycopg.Connection) -> None:
    register(db, "A", "B", start="10:00")
    put(db, "A", "10:00", 60)
    put(db, "B", "10:00", 60)
    assert due(db, "11:00", symbols=["B"], timeframes=["15m", "5m"]) == [("B", "5m"), ("B", "15m")]


def test_an_unknown_symbol_is_refused_with_those_there_are(db: psycopg.Connection) -> None:
    register(db, "EURUSD", "GBPUSD")
    with refused(db, "AG002", "unknown symbol: EURSUD", "EURUSD, GBPUSD"):
        due(db, "10:00", symbols=["EURSUD", "GBPUSD"])


def test_an_unknown_timeframe_is_refused_with_those_there_are(db: psycopg.Connection) -> None:
    with refused(db, "AG002", "unknown timeframe: 1m, 2h", "5m, 15m, 1h, 4h, 1d"):
        due(db, "10:00", timeframes=["1m", "5m", "2h"])


def test_no_limit_means_all_and_a_limit_of_zero_none(db: psycopg.Connection) -> None:
    ready(db, *[f"S{n:02d}" for n in range(25)])
    assert len(due(db, "10:05")) == 25
    assert len(due(db, "10:05", limit=20)) == 20
    assert due(db, "10:05", limit=0) == []


def test_a_new_asset_needs_no_hand(db: psycopg.Connection) -> None:
    db.execute("insert into core_asset_registry_all (canonical_symbol) values ('NEW')")
    put(db, "NEW", "10:00", 60)
    assert due(db, "11:00")[:3] == [("NEW", "5m"), ("NEW", "15m"), ("NEW", "1h")]


def test_the_columns_are_those_that_the_predecessor_reads(db: psycopg.Connection) -> None:
    ready(db, "EURUSD")
    (row,) = rows(db, "select * from agg_get_due_tasks('PROD', %s)", [at("10:05")])
    assert row == {
        "canonical_symbol": "EURUSD", "timeframe": "5m", "source_timeframe": "1m",
        "run_interval_minutes": MINUTES["5m"],
        "aggregation_delay_seconds": 30, "last_agg_bar_ts_utc": None, "status": "idle", "hard_fail_streak": 0,
        "task_priority": 100,
    }  # fmt: skip
