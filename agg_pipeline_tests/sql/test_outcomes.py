"""End of a lease by success, failure, release or staleness, and the state of the task afterwards."""

import psycopg
import pytest

from agg_pipeline_tests.sql.helpers import (
    alter_task,
    at,
    due,
    finish,
    put,
    register,
    rows,
    scalar,
    start,
    state,
)


@pytest.fixture
def eurusd(db: psycopg.Connection) -> psycopg.Connection:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 10)
    return db


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


def test_a_mandatory_task_recovers_by_a_success_only(
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
