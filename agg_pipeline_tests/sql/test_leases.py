"""Leases: which caller may write to a task, and its state afterwards."""

import concurrent.futures
import datetime as dt
import time

import psycopg
import pytest

from agg_pipeline.embedded import Stack
from agg_pipeline_tests.sql.helpers import (
    alter_task,
    at,
    batch,
    catch_up,
    cursor,
    dirty,
    due,
    finish,
    live,
    put,
    refused,
    register,
    rows,
    settle,
    start,
    state,
    task,
    times,
)


@pytest.fixture
def eurusd(db: psycopg.Connection) -> psycopg.Connection:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 10)
    return db


# ---- starting


def test_a_start_gives_a_lease(eurusd: psycopg.Connection) -> None:
    lease = start(eurusd, "EURUSD", "5m", "10:05", owner="run 1", seconds=60)
    assert {key: lease[key] for key in lease if key not in ("lease_token", "lease_expires_at")} == {
        "success": True, "canonical_symbol": "EURUSD", "timeframe": "5m", "source_timeframe": "1m",
        "run_interval_minutes": 5,
        "aggregation_delay_seconds": 30, "last_agg_bar_ts_utc": None,
    }  # fmt: skip
    assert (lease["lease_token"], dt.datetime.fromisoformat(lease["lease_expires_at"])) == (1, at("10:06"))
    row = state(eurusd, "EURUSD", "5m")
    assert (row["status"], row["lease_owner"], row["running_started_at_utc"], row["last_attempted_at_utc"]) == (
        "running", "run 1", at("10:05"), at("10:05"),
    )  # fmt: skip


def test_a_lease_lasts_fifteen_minutes_by_default(eurusd: psycopg.Connection) -> None:
    assert dt.datetime.fromisoformat(start(eurusd, "EURUSD", "5m", "10:05")["lease_expires_at"]) == at("10:20")


def test_tokens_grow(eurusd: psycopg.Connection) -> None:
    tokens = []
    for _ in range(3):
        tokens.append(start(eurusd, "EURUSD", "5m", "10:05")["lease_token"])
        finish(eurusd, "EURUSD", "5m", "10:05", token=tokens[-1])
    assert tokens == [1, 2, 3]


@pytest.mark.parametrize(
    "setting",
    [
        {"status": "running"}, {"status": "disabled"}, {"enabled": False}, {"paused_at_utc": "2026-01-05T00:00Z"},
        {"paused_at_utc": "2026-01-05T00:00Z", "paused_until_utc": "2026-01-05T10:05:01Z"},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_leased_paused_or_disabled_cannot_be_started(eurusd: psycopg.Connection, setting: dict) -> None:
    alter_task(eurusd, "EURUSD", "5m", **setting)
    assert start(eurusd, "EURUSD", "5m", "10:05") == {"success": False, "error": "not_idle_or_missing"}
    assert start(eurusd, "NONE", "5m", "10:05") == {"success": False, "error": "not_idle_or_missing"}


@pytest.mark.parametrize(
    "setting",
    [{"status": "hard_failed"}, {"next_run_at": "2027-01-01T00:00Z", "transient_streak": 3},
     {"paused_at_utc": "2026-01-05T00:00Z", "paused_until_utc": "2026-01-05T10:05Z"}],
    ids=str,
)  # fmt: skip
def test_hard_failed_backing_off_or_no_longer_paused_can_be_started(eurusd: psycopg.Connection, setting: dict) -> None:
    alter_task(eurusd, "EURUSD", "5m", **setting)
    assert start(eurusd, "EURUSD", "5m", "10:05")["success"]


def test_of_two_that_start_at_once_one_gets_the_lease(stack: Stack, clean: psycopg.Connection) -> None:
    register(clean, "EURUSD")

    def one(owner: int) -> bool:
        with psycopg.connect(stack.dsn, autocommit=True) as own:
            return start(own, "EURUSD", "5m", "10:05", owner=str(owner))["success"]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(one, range(8))) == 1


def test_a_lease_of_no_length_is_refused(eurusd: psycopg.Connection) -> None:
    with refused(eurusd, "AG003", "p_lease_seconds is 0"):
        start(eurusd, "EURUSD", "5m", "10:05", seconds=0)


def test_a_cursor_for_an_unknown_task_is_refused(eurusd: psycopg.Connection) -> None:
    with refused(eurusd, "AG002", "Missing config in data_agg_state for EURUSD/3m", "sync_agg_state_from_registry"):
        eurusd.execute("select agg_bootstrap_cursor('EURUSD', '3m')")


# ---- who may write


def test_the_holder_may_write_and_each_write_prolongs_the_lease(eurusd: psycopg.Connection) -> None:
    token = start(eurusd, "EURUSD", "5m", "10:05", owner="run 1", seconds=60)["lease_token"]
    result = catch_up(eurusd, "EURUSD", "5m", "10:10", token=token)
    assert (result["bars_created"], dt.datetime.fromisoformat(result["lease_expires_at"])) == (2, at("10:11"))
    finish(eurusd, "EURUSD", "5m", "10:10", token=token)
    row = state(eurusd, "EURUSD", "5m")
    assert (row["status"], row["lease_owner"], row["lease_expires_at"], row["running_started_at_utc"]) == (
        "idle",
        None,
        None,
        None,
    )


def test_a_stale_token_changes_nothing(eurusd: psycopg.Connection) -> None:
    start(eurusd, "EURUSD", "5m", "10:05", owner="old")
    due(eurusd, "10:20:01")  # recovers it
    start(eurusd, "EURUSD", "5m", "11:00", owner="new")
    before = rows(eurusd, "select * from data_agg_state")
    with refused(eurusd, "AG001", r"lease 1 on EURUSD/5m \(next window the first\) is not held", "discard"):
        catch_up(eurusd, "EURUSD", "5m", "11:00", token=1)
    with refused(eurusd, "AG001", "lease 1 on EURUSD/5m", "discard"):
        finish(eurusd, "EURUSD", "5m", "11:00", token=1)
    assert rows(eurusd, "select * from data_agg_state") == before
    assert live(eurusd, "EURUSD", "5m") == []


def test_a_repeated_start_by_the_owner_returns_the_same_lease(eurusd: psycopg.Connection) -> None:
    """The first response was lost; a new token would invalidate work in progress."""
    alter_task(eurusd, "EURUSD", "5m", status="hard_failed")
    first = start(eurusd, "EURUSD", "5m", "10:05", owner="run 1", seconds=60)
    again = start(eurusd, "EURUSD", "5m", "10:05:30", owner="run 1", seconds=60)
    assert (again["success"], again["lease_token"]) == (True, first["lease_token"])
    assert dt.datetime.fromisoformat(again["lease_expires_at"]) == at("10:06:30")
    assert state(eurusd, "EURUSD", "5m")["status_before"] == "hard_failed"


@pytest.mark.parametrize(("owner", "now"), [("run 2", "10:05:30"), (None, "10:05:30"), ("run 1", "10:06:01")])
def test_another_owner_or_a_late_start_does_not_get_the_lease(
    eurusd: psycopg.Connection, owner: str | None, now: str
) -> None:
    start(eurusd, "EURUSD", "5m", "10:05", owner="run 1", seconds=60)
    assert start(eurusd, "EURUSD", "5m", now, owner=owner) == {"success": False, "error": "not_idle_or_missing"}


def test_callers_without_owner_are_different_callers(eurusd: psycopg.Connection) -> None:
    """The predecessor's workers give none."""
    start(eurusd, "EURUSD", "5m", "10:05")
    assert not start(eurusd, "EURUSD", "5m", "10:05")["success"]


@pytest.mark.parametrize("success", [True, False])
def test_a_repeated_finish_is_marked_and_counts_once(eurusd: psycopg.Connection, success: bool) -> None:
    start(eurusd, "EURUSD", "5m", "10:05", owner="run 1")
    finish(eurusd, "EURUSD", "5m", "10:05", token=1, success=success, error="broken")
    before = rows(eurusd, "select * from data_agg_state order by timeframe")
    again = task("EURUSD", "5m", lease_token=1, success=success, error="broken")
    (answer,) = batch(eurusd, "agg_finish_batch", [again], p_now_utc=at("10:06"))
    assert answer["error"] == {
        "sqlstate": "AG001", "repeated": True, "message": "lease 1 on EURUSD/5m is not held: it was finished already",
        "hint": "If this is a repetition, the first one did it all; else discard this result.",
    }  # fmt: skip
    assert rows(eurusd, "select * from data_agg_state order by timeframe") == before


def test_a_lease_that_was_released_was_not_finished(eurusd: psycopg.Connection) -> None:
    start(eurusd, "EURUSD", "5m", "10:05", owner="run 1")
    finish(eurusd, "EURUSD", "5m", "10:05", token=1)
    start(eurusd, "EURUSD", "5m", "10:06", owner="run 1")
    eurusd.execute("select agg_release('run 1')")
    for token in (1, 2):
        lost = task("EURUSD", "5m", lease_token=token, success=True)
        (answer,) = batch(eurusd, "agg_finish_batch", [lost], p_now_utc=at("10:06"))
        assert answer["error"].get("repeated") is (True if token == 1 else None)


def test_a_locked_task_cannot_be_started(stack: Stack, clean: psycopg.Connection) -> None:
    register(clean, "EURUSD")
    with psycopg.connect(stack.dsn) as at_work:
        at_work.execute("select from data_agg_state where timeframe = '5m' for update")
        asked = [task("EURUSD", "5m"), task("EURUSD", "15m")]
        five, fifteen = batch(clean, "agg_start_batch", asked, p_now_utc=at("10:05"))
    assert (five["success"], five["error"], fifteen["success"]) == (False, "not_idle_or_missing", True)


@pytest.mark.parametrize("function", ["catchup_aggregation_batch", "agg_finish_batch"])
def test_the_wait_for_a_locked_task_is_short(stack: Stack, clean: psycopg.Connection, function: str) -> None:
    """Well below the statement timeout, so that the caller learns the cause and can process the other tasks."""
    register(clean, "EURUSD")
    with psycopg.connect(stack.dsn) as hung:
        hung.execute("select from data_agg_state where canonical_symbol = 'EURUSD' for update")
        began = time.monotonic()
        with pytest.raises(psycopg.errors.LockNotAvailable):
            batch(clean, function, [task("EURUSD", "5m")], p_now_utc=at("10:05"))
        assert 3 < time.monotonic() - began < 7


@pytest.mark.parametrize("end", ["finish", "release", "stale recovery"])
def test_a_token_is_refused_once_its_lease_has_ended(eurusd: psycopg.Connection, end: str) -> None:
    start(eurusd, "EURUSD", "5m", "10:05", owner="run 1")
    match end:
        case "finish":
            finish(eurusd, "EURUSD", "5m", "10:05", token=1)
        case "release":
            eurusd.execute("select agg_release('run 1')")
        case _:
            due(eurusd, "11:00")
    with refused(eurusd, "AG001", "is not held"):
        catch_up(eurusd, "EURUSD", "5m", "11:00", token=1)
    with refused(eurusd, "AG001", "is not held"):
        finish(eurusd, "EURUSD", "5m", "11:00", token=1)


def test_a_caller_without_a_token_is_served_if_the_lease_has_no_owner(eurusd: psycopg.Connection) -> None:
    """The predecessor."""
    start(eurusd, "EURUSD", "5m", "10:10")
    assert catch_up(eurusd, "EURUSD", "5m", "10:10")["bars_created"] == 2
    assert finish(eurusd, "EURUSD", "5m", "10:10") == {"success": True}


def test_a_caller_without_a_token_is_refused_if_the_lease_has_an_owner(eurusd: psycopg.Connection) -> None:
    start(eurusd, "EURUSD", "5m", "10:10", owner="run 1")
    with refused(eurusd, "AG001", "EURUSD/5m is leased by run 1", "token"):
        catch_up(eurusd, "EURUSD", "5m", "10:10")
    with refused(eurusd, "AG001", "EURUSD/5m is leased by run 1", "token"):
        finish(eurusd, "EURUSD", "5m", "10:10")


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ({"enabled": False}, "disabled"),
        ({"status": "disabled"}, "disabled"),
        ({"paused_at_utc": "2026-01-05T00:00Z"}, "paused"),
    ],
    ids=str,
)
def test_without_a_token_a_task_that_an_operator_stopped_is_not_revived(
    eurusd: psycopg.Connection, setting: dict, word: str
) -> None:
    start(eurusd, "EURUSD", "5m", "10:10")
    alter_task(eurusd, "EURUSD", "5m", **setting)
    with refused(eurusd, "AG004", f"EURUSD/5m is {word}", "operator"):
        catch_up(eurusd, "EURUSD", "5m", "10:10")
    with refused(eurusd, "AG004", f"EURUSD/5m is {word}", "operator"):
        finish(eurusd, "EURUSD", "5m", "10:10")


@pytest.mark.parametrize("success", [True, False])
def test_a_holder_finishes_a_task_that_was_disabled_meanwhile_and_it_stays_disabled(
    eurusd: psycopg.Connection, success: bool
) -> None:
    start(eurusd, "EURUSD", "5m", "10:10", owner="run 1")
    alter_task(eurusd, "EURUSD", "5m", status="disabled")
    finish(eurusd, "EURUSD", "5m", "10:10", token=1, success=success, fail_kind="transient")
    row = state(eurusd, "EURUSD", "5m")
    assert (row["status"], row["lease_owner"]) == ("disabled", None)


def test_nobody_finishes_what_was_never_started(eurusd: psycopg.Connection) -> None:
    with refused(eurusd, "AG001", "EURUSD/5m is not leased", "discard"):
        finish(eurusd, "EURUSD", "5m", "10:10")
    with refused(eurusd, "AG002", "there is no task EURUSD/3m", "sync_agg_state_from_registry"):
        finish(eurusd, "EURUSD", "3m", "10:10")
    with refused(eurusd, "AG002", "Missing agg config EURUSD/3m", "sync_agg_state_from_registry"):
        catch_up(eurusd, "EURUSD", "3m", "10:10")


def test_a_cursor_passed_to_finish_never_goes_back(eurusd: psycopg.Connection) -> None:
    start(eurusd, "EURUSD", "5m", "10:10")
    catch_up(eurusd, "EURUSD", "5m", "10:10")
    finish(eurusd, "EURUSD", "5m", "10:10", cursor=at("10:00"))
    assert cursor(eurusd, "EURUSD", "5m") == "10:10"


def test_a_cursor_passed_to_finish_skips_nothing_and_outruns_no_data(eurusd: psycopg.Connection) -> None:
    start(eurusd, "EURUSD", "5m", "10:10")
    finish(eurusd, "EURUSD", "5m", "10:10", cursor=at("23:00"))
    assert cursor(eurusd, "EURUSD", "5m") == "10:10"
    settle(eurusd, "10:10")
    assert times(eurusd, "EURUSD", "5m") == ["10:00", "10:05"]
    assert dirty(eurusd, "EURUSD", "5m") == []
