"""Leases: who may write to a task, and what becomes of it afterwards."""

import concurrent.futures
import datetime as dt
import random
import time

import psycopg
import pytest

from agg_pipeline.local import Stack
from agg_pipeline_tests.sql.helpers import (
    alter_task,
    at,
    batch,
    catch_up,
    clock,
    cursor,
    dirty,
    due,
    finish,
    live,
    put,
    refused,
    register,
    rows,
    scalar,
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


def test_a_lease_lasts_fifteen_minutes_unless_told_otherwise(eurusd: psycopg.Connection) -> None:
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


def test_who_asks_again_for_his_own_lease_gets_it_again(eurusd: psycopg.Connection) -> None:
    """The first answer was lost on the way; a new token would leave him without a right to his own work."""
    alter_task(eurusd, "EURUSD", "5m", status="hard_failed")
    first = start(eurusd, "EURUSD", "5m", "10:05", owner="run 1", seconds=60)
    again = start(eurusd, "EURUSD", "5m", "10:05:30", owner="run 1", seconds=60)
    assert (again["success"], again["lease_token"]) == (True, first["lease_token"])
    assert dt.datetime.fromisoformat(again["lease_expires_at"]) == at("10:06:30")
    assert state(eurusd, "EURUSD", "5m")["status_before"] == "hard_failed"


@pytest.mark.parametrize(("owner", "now"), [("run 2", "10:05:30"), (None, "10:05:30"), ("run 1", "10:06:01")])
def test_nobody_else_and_nobody_too_late_gets_a_lease_again(
    eurusd: psycopg.Connection, owner: str | None, now: str
) -> None:
    start(eurusd, "EURUSD", "5m", "10:05", owner="run 1", seconds=60)
    assert start(eurusd, "EURUSD", "5m", now, owner=owner) == {"success": False, "error": "not_idle_or_missing"}


def test_two_that_have_no_name_are_two(eurusd: psycopg.Connection) -> None:
    """The predecessor's workers give none."""
    start(eurusd, "EURUSD", "5m", "10:05")
    assert not start(eurusd, "EURUSD", "5m", "10:05")["success"]


@pytest.mark.parametrize("success", [True, False])
def test_a_finish_that_is_repeated_is_told_so_and_counts_once(eurusd: psycopg.Connection, success: bool) -> None:
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


def test_a_task_that_somebody_has_locked_is_not_free(stack: Stack, clean: psycopg.Connection) -> None:
    register(clean, "EURUSD")
    with psycopg.connect(stack.dsn) as at_work:
        at_work.execute("select from data_agg_state where timeframe = '5m' for update")
        asked = [task("EURUSD", "5m"), task("EURUSD", "15m")]
        five, fifteen = batch(clean, "agg_start_batch", asked, p_now_utc=at("10:05"))
    assert (five["success"], five["error"], fifteen["success"]) == (False, "not_idle_or_missing", True)


@pytest.mark.parametrize("function", ["catchup_aggregation_batch", "agg_finish_batch"])
def test_a_task_that_somebody_has_locked_is_not_waited_for_long(
    stack: Stack, clean: psycopg.Connection, function: str
) -> None:
    """Well below the statement timeout, so that the caller is told what it waited for, and can spare the others."""
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


# ---- outcomes (design 3.6)


def fail(db: psycopg.Connection, kind: str | None, now: str = "10:10", **more: object) -> dict:
    start(db, "EURUSD", "5m", now)
    return finish(db, "EURUSD", "5m", now, success=False, fail_kind=kind, error="broken", **more)


def test_a_success_clears_the_streaks_and_adds_to_the_totals(eurusd: psycopg.Connection) -> None:
    fail(eurusd, "hard")
    fail(eurusd, "transient")
    start(eurusd, "EURUSD", "5m", "10:11")
    finish(eurusd, "EURUSD", "5m", "10:12", stats={"bars_created": 4, "bars_quality_poor": "1", "windows_processed": 9})
    row = state(eurusd, "EURUSD", "5m")
    assert (
        row["status"],
        row["hard_fail_streak"],
        row["transient_streak"],
        row["stale_streak"],
        row["last_error"],
    ) == ("idle", 0, 0, 0, None)
    assert (row["total_runs"], row["total_bars_created"], row["total_bars_quality_poor"]) == (3, 4, 1)
    assert row["last_successful_at_utc"] == at("10:12")


def test_a_transient_failure_leaves_the_task_idle_and_its_streak_unchanged(eurusd: psycopg.Connection) -> None:
    fail(eurusd, "hard")
    assert fail(eurusd, "transient") == {"success": True, "failed": True, "kind": "transient"}
    row = state(eurusd, "EURUSD", "5m")
    assert (row["status"], row["hard_fail_streak"], row["transient_streak"], row["last_error"]) == (
        "idle",
        1,
        1,
        "broken",
    )
    assert row["next_run_at"] > at("10:10")


@pytest.mark.parametrize("kind", ["hard", None, "anything"])
def test_a_failure_that_is_not_transient_is_hard(eurusd: psycopg.Connection, kind: str | None) -> None:
    assert fail(eurusd, kind) == {
        "success": True, "failed": True, "kind": "hard", "status": "idle", "hard_fail_streak": 1, "is_mandatory": True,
    }  # fmt: skip


@pytest.mark.parametrize(("is_mandatory", "status"), [(False, "disabled"), (True, "hard_failed")])
def test_at_the_limit_an_optional_task_is_disabled_and_a_mandatory_one_tried_again(
    eurusd: psycopg.Connection, is_mandatory: bool, status: str
) -> None:
    alter_task(eurusd, "EURUSD", "5m", is_mandatory=is_mandatory)
    statuses = [fail(eurusd, "hard")["status"] for _ in range(3)]
    assert statuses == ["idle", "idle", status]
    assert start(eurusd, "EURUSD", "5m", "12:00")["success"] is is_mandatory


def test_a_mandatory_task_heals_by_a_success_and_a_transient_failure_does_not_hide_it(
    eurusd: psycopg.Connection,
) -> None:
    fail(eurusd, "hard", threshold=1)
    fail(eurusd, "transient")
    assert state(eurusd, "EURUSD", "5m")["status"] == "hard_failed"
    start(eurusd, "EURUSD", "5m", "12:00")
    finish(eurusd, "EURUSD", "5m", "12:00")
    assert (state(eurusd, "EURUSD", "5m")["status"], state(eurusd, "EURUSD", "5m")["hard_fail_streak"]) == ("idle", 0)


def test_an_outage_of_the_whole_database_disables_nothing(eurusd: psycopg.Connection) -> None:
    alter_task(eurusd, "EURUSD", "5m", is_mandatory=False)
    for _ in range(20):
        fail(eurusd, "transient")
    assert state(eurusd, "EURUSD", "5m")["status"] == "idle"


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 60), (2, 120), (5, 960), (9, 15_360), (10, 21_600), (60, 21_600)]
)
def test_the_back_off_doubles_up_to_six_hours_give_or_take_a_fifth(
    db: psycopg.Connection, failures: int, seconds: int
) -> None:
    waits = [scalar(db, "select extract(epoch from _agg_backoff(%s))", [failures]) for _ in range(50)]
    assert seconds * 0.8 <= min(waits) < max(waits) <= seconds * 1.2


def test_failures_of_any_kind_count_for_the_back_off(eurusd: psycopg.Connection) -> None:
    for kind in ("hard", "transient", "transient"):
        fail(eurusd, kind)
    wait = (state(eurusd, "EURUSD", "5m")["next_run_at"] - at("10:10")).total_seconds()
    assert 240 * 0.8 <= wait <= 240 * 1.2


def test_a_long_error_is_cut(eurusd: psycopg.Connection) -> None:
    start(eurusd, "EURUSD", "5m", "10:10")
    finish(eurusd, "EURUSD", "5m", "10:10", success=False, error="x" * 5000)
    assert len(state(eurusd, "EURUSD", "5m")["last_error"]) == 2000


# ---- stale leases, releases


def test_a_stale_lease_is_freed_and_counts_as_a_transient_failure(eurusd: psycopg.Connection) -> None:
    start(eurusd, "EURUSD", "5m", "10:10", owner="run 1", seconds=60)
    due(eurusd, "10:11")
    assert state(eurusd, "EURUSD", "5m")["status"] == "running", "not before its last second is over"
    assert due(eurusd, "10:11:01") == [], "it backs off first"
    row = state(eurusd, "EURUSD", "5m")
    assert (row["status"], row["transient_streak"], row["stale_streak"], row["hard_fail_streak"]) == ("idle", 1, 1, 0)
    assert row["last_error"].endswith("| stale_running_recovered")
    assert due(eurusd, "10:13") == [("EURUSD", "5m")]


def test_a_row_without_an_expiry_is_stale_by_the_setting(eurusd: psycopg.Connection) -> None:
    """Started by the functions of the predecessor, just before the upgrade."""
    alter_task(eurusd, "EURUSD", "5m", status="running", running_started_at_utc=at("10:00"))
    alter_task(eurusd, "EURUSD", "15m", status="running", running_started_at_utc=None)
    eurusd.execute("select agg_get_due_tasks('PROD', %s, 20, 600)", [at("10:10")])
    assert [state(eurusd, "EURUSD", timeframe)["status"] for timeframe in ("5m", "15m")] == ["running", "idle"]
    eurusd.execute("select agg_get_due_tasks('PROD', %s, 20, 600)", [at("10:10:01")])
    assert state(eurusd, "EURUSD", "5m")["status"] == "idle"


def test_a_stale_hard_failed_task_stays_hard_failed(eurusd: psycopg.Connection) -> None:
    fail(eurusd, "hard", threshold=1)
    start(eurusd, "EURUSD", "5m", "10:20")
    due(eurusd, "11:00")
    assert state(eurusd, "EURUSD", "5m")["status"] == "hard_failed"


def test_three_stale_leases_in_a_row_raise_one_issue(eurusd: psycopg.Connection) -> None:
    for hour in range(11, 16):
        start(eurusd, "EURUSD", "5m", f"{hour}:00")
        due(eurusd, f"{hour}:30")
    assert [(row["code"], row["context"]) for row in rows(eurusd, "select * from ops_issues")] == [
        ("AGG_STALE", {"symbol": "EURUSD", "timeframe": "5m", "stale_streak": 3})
    ]


def test_a_release_frees_the_leases_of_one_owner_and_leaves_no_mark(eurusd: psycopg.Connection) -> None:
    start(eurusd, "EURUSD", "5m", "10:10", owner="run 1")
    start(eurusd, "EURUSD", "15m", "10:10", owner="run 1")
    start(eurusd, "EURUSD", "1h", "10:10", owner="run 2")
    assert scalar(eurusd, "select agg_release('run 1')") == {"released": 2}
    assert scalar(eurusd, "select agg_release('run 1')") == {"released": 0}
    statuses = {
        row["timeframe"]: (row["status"], row["transient_streak"])
        for row in rows(eurusd, "select * from data_agg_state")
    }
    assert (statuses["5m"], statuses["15m"], statuses["1h"]) == (("idle", 0), ("idle", 0), ("running", 0))
    assert due(eurusd, "10:10") == [("EURUSD", "5m")]


# ---- batches


def test_a_batch_answers_in_the_order_of_its_input(db: psycopg.Connection) -> None:
    symbols = [f"S{n}" for n in range(8)]
    register(db, *symbols)
    for symbol in symbols:
        put(db, symbol, "10:00", 60)
    asked = [task(symbol, timeframe) for symbol in symbols for timeframe in ("1h", "5m", "15m")]
    random.Random(1).shuffle(asked)
    leases = batch(db, "agg_start_batch", asked, p_now_utc=at("11:00"), p_owner="run 1")
    results = batch(db, "catchup_aggregation_batch", leases, p_now_utc=at("11:00"))
    done = batch(db, "agg_finish_batch", [{**lease, "success": True} for lease in leases], p_now_utc=at("11:00"))
    for answer in (leases, results, done):
        assert [task(row["canonical_symbol"], row["timeframe"]) for row in answer] == asked
    assert {row["timeframe"]: row["bars_created"] for row in results} == {"5m": 12, "15m": 4, "1h": 1}, "children first"


@pytest.mark.parametrize("function", ["agg_start_batch", "catchup_aggregation_batch", "agg_finish_batch"])
def test_a_task_named_twice_is_refused_at_its_second_mention(eurusd: psycopg.Connection, function: str) -> None:
    if function == "agg_finish_batch":
        start(eurusd, "EURUSD", "5m", "10:10")
    asked = [
        task("EURUSD", "5m", success=True),
        task("GBPUSD", "5m"),
        task("EURUSD", "5m", success=False),
        task("EURUSD", None),
    ]  # type: ignore[arg-type]
    first, unknown, second, nameless = batch(eurusd, function, asked, p_now_utc=at("10:10"))
    assert first["success"]
    assert "error" in unknown
    assert second["error"]["sqlstate"] == nameless["error"]["sqlstate"] == "AG003"
    assert "EURUSD/5m is named twice" in second["error"]["message"]


@pytest.mark.parametrize("function", ["agg_start_batch", "catchup_aggregation_batch", "agg_finish_batch"])
@pytest.mark.parametrize("tasks", [None, {}, "EURUSD"])
def test_what_is_not_a_list_is_refused(db: psycopg.Connection, function: str, tasks: object) -> None:
    with refused(db, "AG003", "a list of tasks is needed", "JSON array"):
        batch(db, function, tasks)  # type: ignore[arg-type]


@pytest.mark.parametrize("function", ["agg_start_batch", "catchup_aggregation_batch", "agg_finish_batch"])
def test_an_empty_list_gives_an_empty_list(db: psycopg.Connection, function: str) -> None:
    assert batch(db, function, []) == []


def test_a_refused_task_does_not_stop_the_others(db: psycopg.Connection) -> None:
    register(db, "A", "B", "C")
    for symbol in "ABC":
        put(db, symbol, "10:00", 5)
    leases = batch(
        db, "agg_start_batch", [task(symbol, "5m") for symbol in "ABC"], p_now_utc=at("10:05"), p_owner="run 1"
    )
    leases[1]["lease_token"] += 1
    leases.append(task("D", "5m"))
    results = batch(db, "catchup_aggregation_batch", leases, p_now_utc=at("10:05"))
    assert [row.get("bars_created") for row in results] == [1, None, 1, None]
    assert [row.get("error", {}).get("sqlstate") for row in results] == [None, "AG001", None, "AG002"]
    done = batch(db, "agg_finish_batch", [{**lease, "success": True} for lease in leases], p_now_utc=at("10:05"))
    assert [row.get("error", {}).get("sqlstate") for row in done] == [None, "AG001", None, "AG002"]


def test_a_task_that_breaks_is_reported_alone_and_raised_by_the_single_form(db: psycopg.Connection) -> None:
    """The trade counts of one symbol do not fit into an integer when they are added up."""
    register(db, "A", "B", "C")
    for symbol in "ABC":
        put(db, symbol, "10:00", 15, trade_count=2**31 - 1 if symbol == "B" else 1)
    asked = [task(symbol, timeframe) for symbol in "ABC" for timeframe in ("5m", "15m")]
    results = batch(db, "catchup_aggregation_batch", asked, p_now_utc=at("10:15"))
    errors = [row.get("error") for row in results]
    assert [error and error["sqlstate"] for error in errors] == [None, None, "22003", None, None, None]
    assert errors[2]["message"] == "catch-up of B/5m failed: integer out of range"
    assert [row.get("bars_created") for row in results] == [3, 1, None, 0, 3, 1]
    assert (cursor(db, "A", "5m"), cursor(db, "B", "5m")) == ("10:15", None)
    with refused(db, "22003", "catch-up of B/5m failed: integer out of range"):
        catch_up(db, "B", "5m", "10:15")
    put(db, "B", "10:00", 15)
    settle(db, "10:15")
    assert times(db, "B", "15m") == ["10:00"], "it heals with its data"


def test_what_broke_keeps_its_note_of_touched_windows(db: psycopg.Connection) -> None:
    register(db, "A")
    put(db, "A", "10:00", 5)
    settle(db, "10:05")
    put(db, "A", "10:00", 5, trade_count=2**31 - 1)
    noted = dirty(db, "A", "5m")
    (result,) = batch(db, "catchup_aggregation_batch", [task("A", "5m")], p_now_utc=at("10:05"))
    assert (result["error"]["sqlstate"], dirty(db, "A", "5m")) == ("22003", noted)
    assert noted == [("10:00", "10:05")]


def test_two_batches_in_opposite_order_do_not_wait_for_each_other(stack: Stack, clean: psycopg.Connection) -> None:
    symbols = [f"S{n:02d}" for n in range(30)]
    register(clean, *symbols)
    for symbol in symbols:
        put(clean, symbol, "10:00", 5)
    tasks = [task(symbol, "5m") for symbol in symbols]

    def one(asked: list[dict]) -> int:
        with psycopg.connect(stack.dsn, autocommit=True) as own:
            return sum(
                row["bars_created"]
                for _ in range(5)
                for row in batch(own, "catchup_aggregation_batch", asked, p_now_utc=at("10:05"))
            )

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(one, [tasks, tasks[::-1]] * 2)) == 30


def test_times_in_answers_are_utc_in_every_session_time_zone(eurusd: psycopg.Connection) -> None:
    """Timestamps inside jsonb follow the session."""
    eurusd.execute("set local timezone = 'Asia/Tokyo'")
    lease = start(eurusd, "EURUSD", "5m", "10:10", owner="run 1")
    result = catch_up(eurusd, "EURUSD", "5m", "10:10", token=1)
    assert lease["lease_expires_at"] == "2026-01-05T10:25:00+00:00"
    assert result["cursor_advanced_to"] == "2026-01-05T10:10:00+00:00"
    assert live(eurusd, "EURUSD", "5m")[0]["raw"]["from"] == "2026-01-05T10:00:00+00:00"
    assert clock(result["lease_expires_at"]) == "10:25"
