"""The diary of runs."""

import concurrent.futures
import uuid

import psycopg
from psycopg.types.json import Jsonb

from agg_pipeline.local import Stack
from agg_pipeline_tests.sql.helpers import rows, scalar

RUN = uuid.UUID(int=1)


def begin(
    db: psycopg.Connection,
    run: uuid.UUID = RUN,
    job: str = "agg-master",
    trigger: str = "cron",
    env: str | None = "PROD",
) -> None:
    assert scalar(db, "select ops_runlog_start(%s, %s, %s, %s)", [run, job, trigger, env]) == {"success": True}


def test_a_run_is_a_row_with_checkpoints_and_events(db: psycopg.Connection) -> None:
    begin(db)
    db.execute("select ops_runlog_checkpoint(%s, 'cron_start')", [RUN])
    db.execute("select ops_runlog_checkpoint(%s, 'selected_due_tasks', %s)", [RUN, Jsonb({"task_count": 2})])
    db.execute(
        "select ops_runlog_checkpoints(%s, %s)",
        [RUN, Jsonb([{"checkpoint": "a", "details": {"n": 1}}, {"checkpoint": "b"}])],
    )
    db.execute("select ops_runlog_finish(%s, 'success', %s)", [RUN, Jsonb({"tasks": 2})])
    (row,) = rows(db, "select * from ops_runlog")
    assert (row["job_name"], row["trigger"], row["env_name"], row["status"], row["stats"]) == (
        "agg-master",
        "cron",
        "PROD",
        "success",
        {"tasks": 2},
    )
    assert row["checkpoints"] == {"cron_start": True, "selected_due_tasks": True, "a": True, "b": True}
    assert [(event["checkpoint"], event["details"]) for event in row["events"]] == [
        ("cron_start", {}), ("selected_due_tasks", {"task_count": 2}), ("a", {"n": 1}), ("b", {}),
    ]  # fmt: skip
    assert row["finished_at"] is not None


def test_a_run_in_progress_is_running(db: psycopg.Connection) -> None:
    begin(db)
    assert rows(db, "select status, finished_at, stats from ops_runlog") == [
        {"status": "running", "finished_at": None, "stats": {}}
    ]


def test_the_same_run_is_opened_once(db: psycopg.Connection) -> None:
    begin(db)
    db.execute("select ops_runlog_finish(%s, 'failed')", [RUN])
    begin(db, job="other")
    assert rows(db, "select job_name, status from ops_runlog") == [{"job_name": "agg-master", "status": "failed"}]


def test_the_same_run_is_opened_once_by_many_at_once(stack: Stack, clean: psycopg.Connection) -> None:
    def one(_: int) -> None:
        with psycopg.connect(stack.dsn, autocommit=True) as own:
            begin(own)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(16)))
    assert scalar(clean, "select count(*) from ops_runlog") == 1


def test_an_unknown_run_is_ignored(db: psycopg.Connection) -> None:
    for call in (
        "ops_runlog_checkpoint(%s, 'x')",
        "ops_runlog_finish(%s, 'success')",
        "ops_runlog_checkpoints(%s, '[]')",
    ):
        assert scalar(db, f"select {call}", [RUN]) == {"success": True}
    assert rows(db, "select * from ops_runlog") == []


def test_prune_keeps_the_newest_of_each_job_trigger_and_environment(db: psycopg.Connection) -> None:
    """On a shared database the many runs of one environment must not push out those of another."""
    keys = [
        ("agg-master", "cron", "PROD"),
        ("agg-master", "cron", "DEV"),
        ("agg-master", "cron", None),
        ("agg-master", "manual", "PROD"),
        ("x", "cron", "PROD"),
    ]
    for job, trigger, env in keys:
        for n in range(4):
            db.execute(
                "insert into ops_runlog (run_id, job_name, trigger, env_name, started_at) "
                "values (gen_random_uuid(), %s, %s, %s, now() + make_interval(mins => %s))",
                [job, trigger, env, n],
            )
    assert scalar(db, "select ops_runlog_prune('agg-master', 'cron', 3)") == {"success": True, "deleted": 3}
    kept = rows(
        db,
        "select job_name, trigger, env_name, count(*) as n, min(started_at) > now() as newest "
        "from ops_runlog group by 1, 2, 3",
    )
    assert {(row["job_name"], row["trigger"], row["env_name"]): (row["n"], row["newest"]) for row in kept} == {
        key: (3, True) if key[:2] == ("agg-master", "cron") else (4, False) for key in keys
    }


def test_prune_keeps_ten_by_default(db: psycopg.Connection) -> None:
    for n in range(12):
        begin(db, uuid.UUID(int=n))
    assert scalar(db, "select ops_runlog_prune('agg-master', 'cron')")["deleted"] == 2
