"""Pause of a task by an operator: only resume or the end of the pause ends it."""

import psycopg
import pytest

from agg_pipeline_tests.sql.helpers import (
    alter_task,
    at,
    catch_up,
    due,
    finish,
    put,
    refused,
    register,
    rows,
    scalar,
    settle,
    start,
    state,
    times,
)


@pytest.fixture
def eurusd(db: psycopg.Connection) -> psycopg.Connection:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 20)
    return db


def pause(db: psycopg.Connection, timeframe: str | None = "5m", now: str = "10:20", **more: object) -> dict:
    return scalar(
        db,
        "select agg_pause_task(%s, %s, %s, %s, %s, %s)",
        [
            more.get("symbol", "EURUSD"), timeframe, more.get("reason", "bad feed"), more.get("actor", "ann"),
            more.get("until"), at(now),
        ],
    )  # fmt: skip


def resume(db: psycopg.Connection, timeframe: str | None = "5m", **more: object) -> dict:
    return scalar(
        db,
        "select agg_resume_task(%s, %s, %s, %s)",
        [more.get("symbol", "EURUSD"), timeframe, more.get("actor", "bob"), at("10:30")],
    )


def test_a_paused_task_is_not_selected_until_it_is_resumed(eurusd: psycopg.Connection) -> None:
    assert pause(eurusd) == {"success": True, "tasks": 1}
    row = state(eurusd, "EURUSD", "5m")
    assert (row["paused_at_utc"], row["paused_until_utc"], row["pause_reason"], row["paused_by"]) == (
        at("10:20"), None, "bad feed", "ann",
    )  # fmt: skip
    settle(eurusd, "23:00")
    assert times(eurusd, "EURUSD", "5m") == []
    assert resume(eurusd) == {"success": True, "tasks": 1}
    assert state(eurusd, "EURUSD", "5m")["paused_at_utc"] is None
    settle(eurusd, "10:30")
    assert times(eurusd, "EURUSD", "5m") == ["10:00", "10:05", "10:10", "10:15"]


def test_a_pause_with_an_end_ends_by_itself(eurusd: psycopg.Connection) -> None:
    pause(eurusd, until=at("10:30"))
    assert due(eurusd, "10:29:59") == []
    assert ("EURUSD", "5m") in due(eurusd, "10:30")


def test_without_a_timeframe_all_tasks_of_a_symbol_are_paused(eurusd: psycopg.Connection) -> None:
    register(eurusd, "GBPUSD")
    assert pause(eurusd, None)["tasks"] == resume(eurusd, None)["tasks"] == 5
    pause(eurusd, None)
    paused = rows(eurusd, "select distinct canonical_symbol from data_agg_state where paused_at_utc is not null")
    assert paused == [{"canonical_symbol": "EURUSD"}]


def test_work_in_progress_ends_and_the_task_stays_paused(eurusd: psycopg.Connection) -> None:
    start(eurusd, "EURUSD", "5m", "10:20", owner="run 1")
    pause(eurusd)
    assert catch_up(eurusd, "EURUSD", "5m", "10:20", token=1)["bars_created"] == 4
    finish(eurusd, "EURUSD", "5m", "10:20", token=1)
    row = state(eurusd, "EURUSD", "5m")
    assert (row["status"], row["paused_by"]) == ("idle", "ann")
    assert not start(eurusd, "EURUSD", "5m", "10:25")["success"]


@pytest.mark.parametrize("automation", ["stale recovery", "release", "sync", "failure", "late bars"])
def test_no_automation_undoes_a_pause(eurusd: psycopg.Connection, automation: str) -> None:
    start(eurusd, "EURUSD", "5m", "10:20", owner="run 1")
    pause(eurusd)
    match automation:
        case "stale recovery":
            due(eurusd, "11:00")
        case "release":
            eurusd.execute("select agg_release('run 1')")
        case "sync":
            eurusd.execute("select sync_agg_state_from_registry('PROD')")
        case "failure":
            finish(eurusd, "EURUSD", "5m", "10:20", token=1, success=False, fail_kind="hard", threshold=1)
        case _:
            put(eurusd, "EURUSD", "10:00", 20)
    assert state(eurusd, "EURUSD", "5m")["paused_by"] == "ann"
    assert not start(eurusd, "EURUSD", "5m", "23:00")["success"]
    assert due(eurusd, "23:00") == []


@pytest.mark.parametrize("status", ["disabled", "hard_failed"])
def test_a_resume_puts_a_failed_task_back_to_work_at_once(eurusd: psycopg.Connection, status: str) -> None:
    alter_task(
        eurusd, "EURUSD", "5m",
        status=status, hard_fail_streak=7, transient_streak=2, stale_streak=1, next_run_at=at("23:00"),
    )  # fmt: skip
    assert due(eurusd, "10:30") == []
    resume(eurusd)
    row = state(eurusd, "EURUSD", "5m")
    assert (row["status"], row["hard_fail_streak"], row["transient_streak"], row["stale_streak"]) == ("idle", 0, 0, 0)
    assert ("EURUSD", "5m") in due(eurusd, "10:30")


def test_a_resume_leaves_a_lease_with_its_holder(eurusd: psycopg.Connection) -> None:
    alter_task(eurusd, "EURUSD", "5m", status="hard_failed", hard_fail_streak=7)
    start(eurusd, "EURUSD", "5m", "10:20", owner="run 1")
    resume(eurusd)
    assert state(eurusd, "EURUSD", "5m")["status"] == "running"
    finish(eurusd, "EURUSD", "5m", "10:20", token=1, success=False, fail_kind="transient")
    assert state(eurusd, "EURUSD", "5m")["status"] == "idle"


def test_what_operators_did_is_on_record(eurusd: psycopg.Connection) -> None:
    pause(eurusd, until=at("12:00"))
    resume(eurusd, None)
    assert [(row["code"], row["message"]) for row in rows(eurusd, "select * from ops_issues order by id")] == [
        ("AGG_PAUSED", "EURUSD/5m was paused by ann: bad feed"), ("AGG_RESUMED", "EURUSD was resumed by bob"),
    ]  # fmt: skip


def test_an_invalid_pause_is_refused(eurusd: psycopg.Connection) -> None:
    with refused(eurusd, "AG002", "there is no task EURUSD/7m", "Tasks of EURUSD: 15m, 1d, 1h, 4h, 5m."):
        pause(eurusd, "7m")
    with refused(eurusd, "AG002", "there is no task NOPE", "sync_agg_state_from_registry"):
        resume(eurusd, None, symbol="NOPE")
    with refused(eurusd, "AG003", "a pause of EURUSD/5m until .* is over before it begins", "time to come"):
        pause(eurusd, until=at("10:20"))
    with refused(eurusd, "AG003", "nobody is named who pauses or resumes EURUSD/5m", "p_actor"):
        pause(eurusd, actor=" ")
    with refused(eurusd, "AG003", "nobody is named who pauses or resumes EURUSD/5m", "p_actor"):
        resume(eurusd, actor=None)
