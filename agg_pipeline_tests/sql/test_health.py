"""The health of a task: each state comes from what it means, and what means nothing raises none."""

import datetime as dt
from typing import Any

import psycopg
import pytest

from agg_pipeline_tests.sessions import follow
from agg_pipeline_tests.sql.helpers import (
    alter_task,
    at,
    catch_up,
    drop,
    finish,
    put,
    register,
    rows,
    scalar,
    settle,
    start,
    tick,
)

FRIDAY = "2026-01-09"
SUNDAY = "2026-01-11"
MINUTE = dt.timedelta(minutes=1)

HOLD_STILL = """
create function pg_temp.hold() returns trigger language plpgsql as $$
begin new.last_agg_bar_ts_utc := old.last_agg_bar_ts_utc; return new; end $$;
create trigger hold before update on data_agg_state
  for each row when (old.timeframe = '5m') execute function pg_temp.hold();
"""


def health(
    db: psycopg.Connection, now: str | dt.datetime, symbol: str = "EURUSD", timeframe: str = "5m"
) -> dict[str, Any]:
    now = at(now) if isinstance(now, str) else now
    (row,) = rows(db, "select * from _agg_health(%s, %s) where timeframe = %s", [[symbol], now, timeframe])
    return row


def states(db: psycopg.Connection, now: str, symbol: str = "EURUSD") -> dict[str, str]:
    found = rows(db, "select timeframe, state from _agg_health(%s, %s)", [[symbol], at(now)])
    return {row["timeframe"]: row["state"] for row in found}


def everywhere(state: str) -> dict[str, str]:
    return dict.fromkeys(("5m", "15m", "1h", "4h", "1d"), state)


@pytest.fixture
def eurusd(db: psycopg.Connection) -> psycopg.Connection:
    """Two hours of bars, built."""
    register(db, "EURUSD")
    put(db, "EURUSD", "09:00", 120)
    settle(db, "11:01")
    return db


@pytest.fixture
def forex(db: psycopg.Connection) -> psycopg.Connection:
    """The last four hours of a week, built: the market closes on Friday at 22:00 UTC, and opens on Sunday at 22:00."""
    register(db, "EURUSD", start=f"{FRIDAY}T00:00")
    follow(db, "EURUSD", "fx_24x5")
    put(db, "EURUSD", f"{FRIDAY}T18:00", 240)
    settle(db, f"{FRIDAY}T22:01")
    return db


# ---- current


def test_what_is_built_is_current(eurusd: psycopg.Connection) -> None:
    assert states(eurusd, "11:01") == everywhere("current")
    row = health(eurusd, "11:01")
    assert (row["lag_windows"], row["lag_seconds"], row["backlog_windows"], row["touched_windows"]) == (0, 0, 0, 0)
    assert (row["reason"], row["source_silent_seconds"], row["completeness_hour"]) == (None, 60, 1.0)
    assert health(eurusd, "11:12")["lag_windows"] == 2
    assert health(eurusd, "11:12")["lag_seconds"] == 600
    assert states(eurusd, "11:12")["5m"] == "current", "a feed that is a little late"


def test_completeness_is_what_was_built_of_what_was_expected(eurusd: psycopg.Connection) -> None:
    drop(eurusd, "EURUSD", "10:20", "10:30")
    settle(eurusd, "11:01")
    row = health(eurusd, "11:10")
    assert row["completeness_hour"] == pytest.approx(10 / 12)
    assert row["completeness_day"] == pytest.approx(22 / 132), "the first window is that of midnight"
    assert health(eurusd, "11:10", timeframe="1d")["completeness_hour"] is None
    assert health(eurusd, "11:10", timeframe="4h")["completeness_day"] == pytest.approx(0 / 2)


# ---- waiting


def test_without_any_bar_it_waits_for_data(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 10, high=1.0)  # not valid
    assert states(db, "12:00") == everywhere("waiting for data")
    row = health(db, "12:00")
    assert row["reason"] == "there is no valid 1m bar in data_bars; all that is there is rejected, or of the future"
    assert health(db, "12:00", timeframe="15m")["reason"] == "its source 5m is waiting for data"
    db.execute("update data_bars set timeframe = '5m'")
    assert health(db, "12:00")["reason"] == "there is no valid 1m bar in data_bars"
    db.execute(
        """insert into derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close)
           values ('EURUSD', '1m', '2026-01-05T10:00Z', 1, 1, 1, 1)"""
    )
    assert health(db, "12:00")["reason"].endswith("; derived_data_bars has some: the feed writes there")
    assert (row["lag_windows"], row["lag_seconds"], row["backlog_windows"]) == (None, None, None)


def test_a_new_feed_has_no_hours_yet(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 10)
    settle(db, "10:11")
    assert states(db, "10:11") == everywhere("current") | {"4h": "waiting for data", "1d": "waiting for data"}
    row = health(db, "10:11", timeframe="4h")
    assert (row["reason"], row["waits_for_task"]) == ("its source 1h has no bar yet", True)


def test_a_feed_that_stops_in_open_hours_is_waited_for(eurusd: psycopg.Connection) -> None:
    assert states(eurusd, "11:16")["5m"] == "current"
    row = health(eurusd, "11:17")
    assert (row["state"], row["source_silent_seconds"]) == ("waiting for source", 17 * 60)
    assert row["reason"] == "no 1m bar since 2026-01-05 10:59, 17 min of open market"
    assert states(eurusd, "12:26") == everywhere("current") | {"5m": "waiting for source", "15m": "waiting for source",
                                                              "1h": "waiting for source"}  # fmt: skip
    waiting = {tf: health(eurusd, "12:26", timeframe=tf) for tf in ("5m", "15m", "1h", "4h")}
    assert waiting["15m"]["reason"] == "its source 5m is waiting for source"
    assert {tf: row["waits_for_task"] for tf, row in waiting.items()} == {
        "5m": False,
        "15m": True,
        "1h": True,
        "4h": False,
    }, "5m waits for the feed"
    put(eurusd, "EURUSD", "11:00", 20)
    settle(eurusd, "11:21")
    assert states(eurusd, "11:21") == everywhere("current")


def test_whoever_waits_for_bars_that_are_to_be_built_says_so(eurusd: psycopg.Connection) -> None:
    put(eurusd, "EURUSD", "11:00", 180)
    settle(eurusd, "14:01")
    drop(eurusd, "EURUSD", "11:00", "14:00")
    settle(eurusd, "14:06")
    assert health(eurusd, "14:06", timeframe="1h")["reason"] == "its source 5m is waiting for source"
    put(eurusd, "EURUSD", "11:00", 180)
    row = health(eurusd, "14:06", timeframe="1h")
    assert (row["state"], row["reason"]) == ("waiting for source", "its source 5m is to be built first")
    assert row["waits_for_task"]
    settle(eurusd, "14:06")
    assert states(eurusd, "14:06") == everywhere("current")


def test_a_quiet_asset_may_be_silent_for_a_day(eurusd: psycopg.Connection) -> None:
    eurusd.execute("update core_asset_registry_all set is_sparse = true")
    assert states(eurusd, "2026-01-06T11:00") == everywhere("current")
    assert states(eurusd, "2026-01-06T11:17")["5m"] == "waiting for source"


def test_silence_on_a_weekend_is_none(forex: psycopg.Connection) -> None:
    for now in (f"{FRIDAY}T22:30", "2026-01-10T12:00", f"{SUNDAY}T21:59", f"{SUNDAY}T22:01"):
        settle(forex, now)
        assert states(forex, now) == everywhere("current"), now
        row = health(forex, now)
        assert (row["lag_windows"], row["lag_seconds"], row["backlog_windows"]) == (0, 0, 0)
        assert row["source_silent_seconds"] <= 60
    row = health(forex, f"{SUNDAY}T22:17")
    assert (row["state"], row["lag_windows"], row["lag_seconds"]) == ("waiting for source", 3, 900)
    put(forex, "EURUSD", f"{SUNDAY}T22:00", 17)
    assert health(forex, f"{SUNDAY}T22:17")["backlog_windows"] == 3, "closed windows are no backlog"


def test_a_calendar_without_sessions_is_named(eurusd: psycopg.Connection) -> None:
    eurusd.execute("update core_asset_registry_all set trading_calendar = 'XTKS'")
    unknown = "the sessions of XTKS are not known, so all time counts: agg-pipeline calendars --apply"
    assert health(eurusd, "11:17")["reason"].endswith(f"17 min of open market; {unknown}")
    row = health(eurusd, "11:01")
    assert (row["state"], row["reason"]) == ("current", unknown)


def test_the_first_minutes_of_a_week_are_no_backlog(forex: psycopg.Connection) -> None:
    put(forex, "EURUSD", f"{SUNDAY}T22:00", 6)
    assert states(forex, f"{SUNDAY}T22:06") == everywhere("current")


# ---- catching up


def test_history_is_caught_up_with(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "09:00", 120)
    tick(db, "11:01", max_windows=2)
    row = health(db, "11:01")
    assert (row["state"], row["backlog_windows"], row["reason"]) == ("catching up", 21, "21 windows behind its source")
    settle(db, "11:01", max_windows=20)
    assert states(db, "11:01") == everywhere("current")


def test_late_bars_that_wait_for_long_are_caught_up_with(eurusd: psycopg.Connection) -> None:
    put(eurusd, "EURUSD", "09:02", 1, close=100.5)
    put(eurusd, "EURUSD", "09:03", 4, close=100.5)
    now = scalar(eurusd, "select now()")
    assert health(eurusd, now)["touched_windows"] == 2
    row = health(eurusd, now + 11 * MINUTE)
    assert (row["state"], row["reason"]) == ("catching up", "2 windows wait to be built again")
    alter_task(eurusd, "EURUSD", "5m", last_agg_bar_ts_utc=at("2026-01-06T00:00"))
    eurusd.execute("update data_bars set close = close + 0.01")
    put(eurusd, "EURUSD", "11:00", 500)
    row = health(eurusd, now)
    assert (row["state"], row["reason"]) == ("catching up", "124 windows wait to be built again")


# ---- stalled


def test_the_weekend_stall_shows_within_two_ticks(forex: psycopg.Connection) -> None:
    """The source goes on on Sunday, runs succeed, and the cursor stays on Friday."""
    forex.execute(HOLD_STILL)
    for n, now in enumerate(("22:06", "22:11")):
        put(forex, "EURUSD", at(f"{SUNDAY}T22:00") + 5 * n * MINUTE, 6)
        assert states(forex, f"{SUNDAY}T{now}")["5m"] != "stalled"
        assert tick(forex, f"{SUNDAY}T{now}")
    row = health(forex, f"{SUNDAY}T22:12")
    assert (row["state"], row["stall_streak"]) == ("stalled", 2)
    assert row["reason"] == "2 runs succeeded and left the cursor at 2026-01-09 22:00, though the source has gone on"
    forex.execute("drop trigger hold on data_agg_state")
    settle(forex, f"{SUNDAY}T22:13")
    assert states(forex, f"{SUNDAY}T22:13") == everywhere("current")


@pytest.mark.parametrize("start_utc", ["00:00", "2025-06-01T00:00"])
def test_a_task_that_never_gets_away_from_its_start_is_stalled(db: psycopg.Connection, start_utc: str) -> None:
    register(db, "EURUSD", start=start_utc)
    put(db, "EURUSD", "09:00", 120)
    db.execute(HOLD_STILL)
    tick(db, "11:01")
    tick(db, "11:06")
    assert states(db, "11:07")["5m"] == "stalled"


def test_runs_that_find_nothing_to_pass_are_no_stall(eurusd: psycopg.Connection) -> None:
    """Late bars keep a task at work whose next window is open, or waits for its bars."""
    for n in range(4):
        put(eurusd, "EURUSD", "09:02", 1, close=100.0 + n / 10)
        put(eurusd, "EURUSD", "11:00", 2)
        assert tick(eurusd, f"11:0{n + 2}")
    assert health(eurusd, "11:06")["stall_streak"] == 0
    assert states(eurusd, "11:06") == everywhere("current")


def test_bars_that_nobody_works_on_are_a_stall(eurusd: psycopg.Connection) -> None:
    """The daemon is down, or the schedule off: bars come in, and no task of any symbol is run."""
    now = scalar(eurusd, "select now()")
    register(eurusd, "GBPUSD", start=f"{now.date()}T00:00")
    put(eurusd, "GBPUSD", now.replace(second=0, microsecond=0) - 60 * MINUTE, 60)
    assert health(eurusd, now + 29 * MINUTE, "GBPUSD")["state"] == "catching up"
    row = health(eurusd, now + 31 * MINUTE, "GBPUSD")
    assert row["state"] == "stalled"
    assert row["reason"].endswith("and no task was run since 2026-01-05 11:01")
    alter_task(eurusd, "EURUSD", "1d", last_attempted_at_utc=now + 10 * MINUTE)
    assert health(eurusd, now + 31 * MINUTE, "GBPUSD")["state"] == "catching up", "it is not its turn"


def test_the_lease_of_a_silent_run_is_a_stall_as_soon_as_bars_wait(eurusd: psycopg.Connection) -> None:
    token = start(eurusd, "EURUSD", "5m", "11:05", owner="gone", seconds=7200)["lease_token"]
    assert health(eurusd, "11:20")["state"] != "stalled", "nothing waits"
    put(eurusd, "EURUSD", "11:00", 30)
    assert health(eurusd, "11:14")["state"] == "current", "a run that is alive has its turn"
    row = health(eurusd, "11:31")
    assert (row["state"], row["reason"]) == ("stalled", "the run that has it is silent since 2026-01-05 11:05")
    catch_up(eurusd, "EURUSD", "5m", "11:31", max_windows=1, token=token)  # which renews it
    assert health(eurusd, "11:31")["state"] == "catching up"


# ---- stopped and failed


def test_a_pause_shows_who_and_why_until_it_is_over(eurusd: psycopg.Connection) -> None:
    eurusd.execute("select agg_pause_task('EURUSD', '5m', 'bad feed', 'ann', %s, %s)", [at("12:00"), at("11:02")])
    row = health(eurusd, "11:59")
    assert row["state"] == "paused"
    assert row["reason"] == "by ann since 2026-01-05 11:02 until 2026-01-05 12:00: bad feed"
    assert health(eurusd, "12:00")["state"] == "waiting for source"


def fail(db: psycopg.Connection, now: str, kind: str = "hard") -> None:
    alter_task(db, "EURUSD", "5m", next_run_at=None)
    token = start(db, "EURUSD", "5m", now, owner="run")["lease_token"]
    finish(db, "EURUSD", "5m", now, token=token, success=False, fail_kind=kind, error="boom")


def test_failures_show_until_a_success(eurusd: psycopg.Connection) -> None:
    fail(eurusd, "11:01", "transient")
    assert health(eurusd, "11:01")["state"] == "current", "one that may heal by itself"
    fail(eurusd, "11:02", "transient")
    row = health(eurusd, "11:02")
    assert (row["state"], row["last_error"]) == ("failed", "boom")
    assert row["reason"].startswith("2 failures in a row at the window of 2026-01-05 11:00; next try 2026-01-05 11:0")
    put(eurusd, "EURUSD", "09:12", 1, close=100.5)
    row = health(eurusd, "11:02")
    assert row["reason"].startswith("2 failures in a row at the window of 2026-01-05 09:10; "), "that is computed first"
    assert row["touched_from_utc"] == at("09:10")
    alter_task(eurusd, "EURUSD", "5m", next_run_at=None)
    put(eurusd, "EURUSD", "11:00", 5)
    settle(eurusd, "11:06")
    assert states(eurusd, "11:06") == everywhere("current")
    fail(eurusd, "11:06")
    assert health(eurusd, "11:06")["state"] == "failed"


@pytest.mark.parametrize(("mandatory", "state"), [(True, "failed"), (False, "disabled")])
def test_at_the_limit_a_task_stops_or_is_tried_on(eurusd: psycopg.Connection, mandatory: bool, state: str) -> None:
    alter_task(eurusd, "EURUSD", "5m", is_mandatory=mandatory)
    for now in ("11:01", "11:02", "11:03"):
        fail(eurusd, now)
    row = health(eurusd, "11:03")
    assert row["state"] == state
    assert row["reason"].startswith("3 failures in a row at" if mandatory else "stopped after 3 failures in a row")
    eurusd.execute("select agg_resume_task('EURUSD', '5m', 'ann', %s)", [at("11:04")])
    assert health(eurusd, "11:04")["state"] == "current"


def test_what_is_switched_off_is_disabled(eurusd: psycopg.Connection) -> None:
    alter_task(eurusd, "EURUSD", "1h", enabled=False)
    assert states(eurusd, "11:01") == everywhere("current") | {"1h": "disabled"}
    eurusd.execute("update core_asset_registry_all set active = false, test_active = false")
    assert states(eurusd, "11:01") == everywhere("disabled")
    assert health(eurusd, "11:01")["reason"] == "the asset is active in no environment"


# ---- the view


def test_the_view_has_a_row_for_each_task(forex: psycopg.Connection) -> None:
    register(forex, "GBPUSD", start="2100-01-01T00:00")
    follow(forex, "GBPUSD", "XNYS")
    put(forex, "GBPUSD", "2026-01-05T14:30", 5)
    found = rows(forex, "select canonical_symbol, timeframe, state from v_aggregation_health")
    assert len(found) == 10
    assert scalar(forex, "select jsonb_array_length(agg_health())") == 10
    assert [row["timeframe"] for row in scalar(forex, "select agg_health(array['EURUSD'])")] == [
        "5m", "15m", "1h", "4h", "1d"]  # fmt: skip
