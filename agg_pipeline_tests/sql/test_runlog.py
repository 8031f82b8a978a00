"""Log of runs (ops_runlog)."""

import concurrent.futures
import uuid

import psycopg
import pytest
from psycopg.types.json import Jsonb

from agg_pipeline.embedded import Stack
from agg_pipeline_tests.sql.helpers import alter_task, refused, register, rows, scalar, start, state

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


def test_what_is_noted_again_word_for_word_is_noted_once(db: psycopg.Connection) -> None:
    """A response was lost, and the call came again."""
    begin(db)
    for details in ({"n": 1}, {"n": 1}, {"n": 2}):
        db.execute("select ops_runlog_checkpoint(%s, 'a', %s)", [RUN, Jsonb(details)])
    points = Jsonb([{"checkpoint": "b"}, {"checkpoint": "a", "details": {"n": 2}}])
    for _ in range(2):
        db.execute("select ops_runlog_checkpoints(%s, %s)", [RUN, points])
    (events,) = db.execute("select events from ops_runlog").fetchone()  # type: ignore[misc]
    assert [(event["checkpoint"], event["details"]) for event in events] == [
        ("a", {"n": 1}),
        ("a", {"n": 2}),
        ("b", {}),
    ]


def test_a_run_that_is_closed_again_keeps_the_time_of_its_end(db: psycopg.Connection) -> None:
    begin(db)
    db.execute("update ops_runlog set finished_at = '2026-01-05T10:00Z'")
    db.execute("select ops_runlog_finish(%s, 'success')", [RUN])
    assert scalar(db, "select finished_at = '2026-01-05T10:00Z' from ops_runlog") is True


def test_a_run_that_ends_gives_back_what_it_holds(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    alter_task(db, "EURUSD", "5m", status="hard_failed", hard_fail_streak=3)
    begin(db)
    start(db, "EURUSD", "5m", "10:00", owner=str(RUN))
    start(db, "EURUSD", "15m", "10:00", owner=str(uuid.UUID(int=2)))
    db.execute("select ops_runlog_finish(%s, 'failed')", [RUN])
    five, fifteen = state(db, "EURUSD", "5m"), state(db, "EURUSD", "15m")
    assert (five["status"], five["lease_owner"], five["hard_fail_streak"]) == ("hard_failed", None, 3)
    assert fifteen["status"] == "running"


def test_the_runs_that_never_said_how_they_ended_are_listed(db: psycopg.Connection) -> None:
    for n, env in enumerate(("PROD", "prod", "DEV", "PROD", None)):
        begin(db, uuid.UUID(int=n), env=env)
    db.execute("select ops_runlog_finish(%s, 'success')", [uuid.UUID(int=3)])
    opened = scalar(db, "select ops_runlog_open('PROD')")
    assert [(run["run_id"], run["is_closed"]) for run in opened] == [(str(uuid.UUID(int=n)), False) for n in (0, 1)]
    assert scalar(db, "select ops_runlog_open('TEST')") == []


def test_a_closed_run_that_holds_a_lease_is_listed(db: psycopg.Connection) -> None:
    """Its call for the lease was on the way when it ended."""
    register(db, "EURUSD")
    begin(db)
    db.execute("select ops_runlog_finish(%s, 'failed')", [RUN])
    start(db, "EURUSD", "5m", "10:00", owner=str(RUN))
    (opened,) = scalar(db, "select ops_runlog_open('PROD')")
    assert (opened["run_id"], opened["is_closed"]) == (str(RUN), True)


@pytest.mark.parametrize("sign", ["none", "checkpoint", "lease"])
def test_a_run_is_silent_since_its_last_sign_of_life(db: psycopg.Connection, sign: str) -> None:
    register(db, "EURUSD")
    begin(db)
    db.execute("update ops_runlog set started_at = now() - interval '10 min'")
    if sign == "checkpoint":
        db.execute("select ops_runlog_checkpoint(%s, 'a')", [RUN])
        db.execute("update ops_runlog set events = jsonb_set(events, '{0,ts}', to_jsonb(now() - interval '5 min'))")
    elif sign == "lease":
        db.execute("select agg_start('EURUSD', '5m', now() - interval '5 min', %s, 900)", [str(RUN)])
    (opened,) = scalar(db, "select ops_runlog_open('PROD')")
    assert round(opened["silent_seconds"]) == (600 if sign == "none" else 300)


def test_old_rows_go_by_age_the_oldest_first_and_at_most_so_many(db: psycopg.Connection) -> None:
    for n, (job, env, status, days) in enumerate(
        [
            ("agg-master", "PROD", "success", 40),
            ("agg-master", "prod", "failed", 35),
            ("agg-master", "PROD", "failed", 31),
            ("agg-master", "PROD", "success", 29),
            ("agg-master", "DEV", "success", 40),
            ("other", "PROD", "success", 40),
        ]
    ):
        begin(db, uuid.UUID(int=n), job=job, env=env)
        db.execute(
            "update ops_runlog set status = %s, started_at = now() - make_interval(days => %s) where run_id = %s",
            [status, days, uuid.UUID(int=n)],
        )
    expire = "select ops_runlog_expire('agg-master', 'PROD', 30, 2)"
    assert scalar(db, expire) == {"success": True, "deleted": 2, "abandoned": 0}
    assert scalar(db, "select array_agg(run_id order by run_id) from ops_runlog") == [
        uuid.UUID(int=n) for n in (2, 3, 4, 5)
    ]
    assert scalar(db, expire)["deleted"] == 1
    assert scalar(db, expire)["deleted"] == 0
    with refused(db, "AG003", "p_keep_days is 0"):
        db.execute("select ops_runlog_expire('agg-master', 'PROD', 0)")


def test_a_run_that_is_open_for_a_day_is_closed_as_failed_and_kept(db: psycopg.Connection) -> None:
    for n, hours in enumerate((25, 23)):
        begin(db, uuid.UUID(int=n))
        db.execute(
            "update ops_runlog set started_at = now() - make_interval(hours => %s) where run_id = %s",
            [hours, uuid.UUID(int=n)],
        )
    assert scalar(db, "select ops_runlog_expire('agg-master', 'PROD', 2)") == {
        "success": True, "deleted": 0, "abandoned": 1}  # fmt: skip
    assert rows(db, "select status, stats from ops_runlog order by run_id") == [
        {"status": "failed", "stats": {"error": "the run never said how it ended"}},
        {"status": "running", "stats": {}},
    ]
