"""Reports of runs in the health tables of the predecessor's newer worker."""

import uuid

import psycopg
from psycopg.types.json import Jsonb

from agg_pipeline_tests.sql.helpers import at, refused, rows, scalar

FAILED = {"symbol": "EURUSD", "timeframe": "5m", "run_id": str(uuid.UUID(int=1))}
ISSUE = {"severity": "critical", "code": "AGG_HARD_FAIL", "message": "EURUSD/5m: 22003", "context": FAILED}


def report(db: psycopg.Connection, run: int = 1, status: str = "pass", env: str = "PROD", **more: object) -> dict:
    return scalar(
        db,
        "select ops_report_run(%s, %s, %s, %s, %s, %s, %s)",
        [
            uuid.UUID(int=run), env, status, at("10:01"), Jsonb(more.get("errors", [])),
            Jsonb({"tasks": 2}), Jsonb(more.get("issues", [])),
        ],
    )  # fmt: skip


def health(db: psycopg.Connection) -> list[dict]:
    return rows(db, "select * from quality_workerhealth order by id")


def test_a_run_is_one_row_of_health(db: psycopg.Connection) -> None:
    db.execute("select ops_runlog_start(%s, 'agg-master', 'cron', 'PROD')", [uuid.UUID(int=1)])
    db.execute("update ops_runlog set started_at = now() - interval '1234 ms'")
    assert report(db) == {"success": True, "reported": True}
    (row,) = health(db)
    assert (row["env_name"], row["worker_name"], row["status"], row["duration_ms"], row["metrics"]) == (
        "PROD", "aggregation", "pass", 1234, {"tasks": 2},
    )  # fmt: skip
    assert (row["scheduled_for_ts"], row["error_count"], row["error_samples"]) == (at("10:01"), 0, None)


def test_a_report_that_is_repeated_is_written_once(db: psycopg.Connection) -> None:
    for _ in range(2):
        report(db, status="warning", errors=[FAILED], issues=[ISSUE])
    assert (len(health(db)), scalar(db, "select count(*) from ops_issues")) == (1, 1)


def test_five_errors_are_shown_and_all_are_counted(db: psycopg.Connection) -> None:
    report(db, status="warning", errors=[{"n": n} for n in range(7)])
    (row,) = health(db)
    assert (row["error_count"], row["error_samples"]) == (7, [{"n": n} for n in range(5)])


def test_the_last_success_and_the_last_error_are_carried_on_within_an_environment(db: psycopg.Connection) -> None:
    report(db, 1)
    report(db, 2, "error", env="DEV")
    report(db, 3, "warning")
    report(db, 4)
    one, _, three, four = health(db)
    assert (one["last_error_ts"], three["last_success_ts"]) == (None, one["last_success_ts"])
    assert three["last_error_ts"] is not None
    assert four["last_error_ts"] == three["last_error_ts"]


def test_each_failed_task_is_an_issue(db: psycopg.Connection) -> None:
    report(db, 1, "warning", issues=[ISSUE, ISSUE | {"context": FAILED | {"timeframe": "1h"}}])
    report(db, 2, "warning", issues=[ISSUE | {"context": FAILED | {"run_id": str(uuid.UUID(int=2))}}])
    issues = rows(db, "select * from ops_issues order by id")
    assert [(row["env_name"], row["worker_name"], row["severity"], row["code"]) for row in issues] == [
        ("PROD", "aggregation", "critical", "AGG_HARD_FAIL")
    ] * 3
    assert issues[0]["context"] == FAILED


def test_an_unknown_status_is_refused(db: psycopg.Connection) -> None:
    with refused(db, "AG003", "p_status is fine", "pass: all well"):
        report(db, status="fine")


def test_tables_of_another_shape_are_left_alone(db: psycopg.Connection) -> None:
    """The validator's, under the same names."""
    db.execute("drop table quality_workerhealth; drop table ops_issues")
    assert report(db, issues=[ISSUE])["reported"] is False
    db.execute(
        """create table quality_workerhealth (id uuid primary key default gen_random_uuid(), source text not null);
           create table ops_issues (id uuid primary key default gen_random_uuid(), source text not null, title text)"""
    )
    assert report(db, issues=[ISSUE]) == {"success": True, "reported": False}
