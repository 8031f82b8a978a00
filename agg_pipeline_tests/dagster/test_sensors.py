"""What the sensors decide, on a real instance and a real database, without waiting for a daemon."""

import datetime as dt
import json
import time
import uuid

import dagster as dg
import psycopg
import pytest

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.embedded import Stack
from agg_pipeline.orchestration.sensors.release import DEAD_AFTER_S, LOOK_AGAIN_S
from agg_pipeline_tests.dagster.conftest import rewrite_run
from agg_pipeline_tests.sql.helpers import alter_task, put, rows, start, state

BEGIN = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
SYMBOLS = ("AAA", "BBB")


@pytest.fixture
def poisoned(one_gateway: AggGateway, clean: psycopg.Connection) -> psycopg.Connection:
    """Two symbols whose 5m tasks cannot but fail."""
    for symbol in SYMBOLS:
        one_gateway.register_asset(symbol, start=BEGIN, base_timeframe="1m")
        put(clean, symbol, "10:00", 5, trade_count=2_000_000_000)
    return clean


def run(
    defs: dg.Definitions, instance: dg.DagsterInstance, tags: dict[str, str] | None = None, **config: object
) -> str:
    """Execute the job; its run id."""
    job = defs.resolve_job_def("agg_master")
    run_config = {"ops": {"select_due": {"config": config}}}
    return job.execute_in_process(run_config=run_config, tags=tags, instance=instance, raise_on_error=False).run_id


def ask(defs: dg.Definitions, instance: dg.DagsterInstance, sensor: str) -> object:
    with dg.build_sensor_context(instance=instance, resources=defs.resources or {}) as context:
        return defs.resolve_sensor_def(sensor)(context)


def wanted(asked: object) -> list[list[str]]:
    """The tasks of each run that is asked for."""
    assert isinstance(asked, list), asked
    return [sorted(request.run_config["ops"]["select_due"]["config"]["tasks"]) for request in asked]


def back_off_is_over(db: psycopg.Connection) -> None:
    db.execute("update data_agg_state set next_run_at = now()")


# ---- rerun_failed_tasks


def test_what_failed_is_rerun_when_its_back_off_is_over(
    defs: dg.Definitions, instance: dg.DagsterInstance, poisoned: psycopg.Connection
) -> None:
    first = run(defs, instance)
    asked = ask(defs, instance, "rerun_failed_tasks")
    assert isinstance(asked, dg.SkipReason), "it backs off"
    back_off_is_over(poisoned)
    (request,) = asked = ask(defs, instance, "rerun_failed_tasks")  # type: ignore[misc]
    assert wanted(asked) == [["AAA/5m", "BBB/5m"]]
    assert request.run_key == f"{first}:2"
    assert request.tags == {"agg/root": first, "agg/rerun_of": first, "agg/attempt": "2"}


def test_a_rerun_takes_its_tasks_though_they_back_off_and_no_others(
    defs: dg.Definitions, instance: dg.DagsterInstance, poisoned: psycopg.Connection
) -> None:
    run(defs, instance)
    run(defs, instance, tasks=["BBB/5m"])
    assert [state(poisoned, symbol, "5m")["hard_fail_streak"] for symbol in SYMBOLS] == [1, 2]


def test_an_unknown_task_is_named_and_what_there_is_listed(
    defs: dg.Definitions, instance: dg.DagsterInstance, poisoned: psycopg.Connection
) -> None:
    job = defs.resolve_job_def("agg_master")
    run_config = {"ops": {"select_due": {"config": {"tasks": ["AAA/5m", "AAA/7m"]}}}}
    with pytest.raises(dg.Failure, match=r"there is no task AAA/7m\. There are: AAA/5m, AAA/15m, AAA/1h"):
        job.execute_in_process(run_config=run_config, instance=instance)


def test_a_run_is_rerun_once_and_its_last_attempt_not_at_all(
    defs: dg.Definitions, instance: dg.DagsterInstance, poisoned: psycopg.Connection
) -> None:
    first = run(defs, instance)
    second = run(defs, instance, tags={"agg/root": first, "agg/rerun_of": first, "agg/attempt": "2"}, tasks=["AAA/5m"])
    back_off_is_over(poisoned)
    (request,) = ask(defs, instance, "rerun_failed_tasks")  # type: ignore[misc]
    assert (request.tags["agg/rerun_of"], request.run_key) == (second, f"{first}:3")
    run(defs, instance, tags={"agg/root": first, "agg/rerun_of": second, "agg/attempt": "3"}, tasks=["AAA/5m"])
    back_off_is_over(poisoned)
    assert isinstance(ask(defs, instance, "rerun_failed_tasks"), dg.SkipReason)


def test_only_the_newest_failure_of_a_task_counts(
    defs: dg.Definitions, instance: dg.DagsterInstance, poisoned: psycopg.Connection
) -> None:
    """The schedule tried it again before the sensor did."""
    run(defs, instance)
    later = run(defs, instance, tasks=["AAA/5m"])
    back_off_is_over(poisoned)
    asked = ask(defs, instance, "rerun_failed_tasks")
    assert wanted(asked) == [["AAA/5m"], ["BBB/5m"]]
    assert asked[0].tags["agg/rerun_of"] == later  # type: ignore[index]


@pytest.mark.parametrize(
    "since",
    [{"hard_fail_streak": 0}, {"status": "disabled"}, {"paused_at_utc": "2026-01-05T00:00Z"}, {"enabled": False}],
    ids=str,
)
def test_what_works_again_or_was_stopped_by_an_operator_is_left_alone(
    defs: dg.Definitions, instance: dg.DagsterInstance, poisoned: psycopg.Connection, since: dict[str, object]
) -> None:
    run(defs, instance)
    back_off_is_over(poisoned)
    alter_task(poisoned, "AAA", "5m", **since)
    assert wanted(ask(defs, instance, "rerun_failed_tasks")) == [["BBB/5m"]]


def test_a_run_that_failed_without_naming_tasks_is_left_to_the_schedule(
    defs: dg.Definitions, instance: dg.DagsterInstance, poisoned: psycopg.Connection
) -> None:
    run(defs, instance, symbols=["NOPE"])
    assert isinstance(ask(defs, instance, "rerun_failed_tasks"), dg.SkipReason)


# ---- release_leases


@pytest.fixture
def left_behind(defs: dg.Definitions, stored_instance: dg.DagsterInstance, poisoned: psycopg.Connection) -> str:
    """A run that ended without closing its row, and holds a lease."""
    run_id = run(defs, stored_instance, symbols=["AAA"], timeframes=["1d"])
    poisoned.execute("update ops_runlog set status = 'running', finished_at = null, stats = '{}', events = '[]'")
    start(poisoned, "AAA", "1d", "10:00", owner=run_id)
    return run_id


@pytest.mark.parametrize(
    ("status", "health", "issues"),
    [("FAILURE", "error", ["AGG_SCHEDULED_FAIL"]), ("CANCELED", "warning", None), ("SUCCESS", "pass", None)],
)
def test_what_an_ended_run_holds_is_freed_and_its_row_closed(
    defs: dg.Definitions, stored_instance: dg.DagsterInstance, poisoned: psycopg.Connection, stack: Stack,
    left_behind: str, status: str, health: str, issues: list[str] | None,
) -> None:  # fmt: skip
    poisoned.execute("truncate ops_issues, quality_workerhealth")
    rewrite_run(stack, left_behind, status=status)
    assert f"Closed: {left_behind[:8]} ({status})." in str(ask(defs, stored_instance, "release_leases"))
    assert (state(poisoned, "AAA", "1d")["status"], state(poisoned, "AAA", "1d")["lease_owner"]) == ("idle", None)
    if status == "SUCCESS":
        expected = {"status": "success", "stats": {}}  # no error: it would count in statistics of errors
    else:
        expected = {"status": "failed", "stats": {"error": f"the run ended as {status} without closing its row"}}
    assert rows(poisoned, "select status, stats from ops_runlog") == [expected]
    assert rows(poisoned, "select status::text from quality_workerhealth") == [{"status": health}]
    assert rows(poisoned, "select array_agg(code) as codes from ops_issues") == [{"codes": issues}]
    assert "No ended run is open or holds a lease" in str(ask(defs, stored_instance, "release_leases"))


def test_a_lease_that_came_when_its_run_had_ended_is_freed_and_the_row_stays(
    defs: dg.Definitions, stored_instance: dg.DagsterInstance, poisoned: psycopg.Connection
) -> None:
    run_id = run(defs, stored_instance, symbols=["AAA"], timeframes=["1d"])
    start(poisoned, "AAA", "1d", "10:00", owner=run_id)
    before = rows(poisoned, "select * from ops_runlog")
    assert f"Closed: {run_id[:8]} (SUCCESS)." in str(ask(defs, stored_instance, "release_leases"))
    assert state(poisoned, "AAA", "1d")["lease_owner"] is None
    assert rows(poisoned, "select * from ops_runlog") == before


@pytest.mark.parametrize(("silent_s", "is_dead"), [(290, False), (310, True)])
def test_a_run_that_gives_no_sign_of_life_has_lost_its_process(
    defs: dg.Definitions, stored_instance: dg.DagsterInstance, poisoned: psycopg.Connection, stack: Stack,
    left_behind: str, silent_s: int, is_dead: bool,
) -> None:  # fmt: skip
    """Code server and worker were killed together: Dagster takes the run for running for ever."""
    rewrite_run(stack, left_behind, status="STARTED", start_time=time.time() - 600)
    poisoned.execute("update ops_runlog set started_at = now() - make_interval(secs => %s)", [silent_s])
    ask(defs, stored_instance, "release_leases")
    run = stored_instance.get_run_by_id(left_behind)
    assert run is not None
    assert (run.status.value, state(poisoned, "AAA", "1d")["status"]) == (
        ("FAILURE", "idle") if is_dead else ("STARTED", "running")
    )


def test_a_run_is_dead_when_no_sign_of_life_came_between_two_looks(
    defs: dg.Definitions, stored_instance: dg.DagsterInstance, poisoned: psycopg.Connection, stack: Stack,
    left_behind: str,
) -> None:  # fmt: skip
    """Not when the first look finds it silent: after an outage of the database, sensor and run meet it together."""

    def look(beat_s: float, cursor: dict[str, float] | None = None) -> dict[str, float]:
        poisoned.execute("update ops_heartbeats set beat_at = now() - make_interval(secs => %s)", [beat_s])
        with dg.build_sensor_context(
            stored_instance, cursor=json.dumps(cursor or {}), resources=defs.resources or {}
        ) as context:
            defs.resolve_sensor_def("release_leases")(context)
            return dict(json.loads(context.cursor or "{}"))

    def status() -> str:
        run = stored_instance.get_run_by_id(left_behind)
        assert run is not None
        return run.status.value

    rewrite_run(stack, left_behind, status="STARTED", start_time=time.time() - 3600)
    poisoned.execute("update ops_runlog set started_at = now() - interval '1 hour'")
    poisoned.execute("insert into ops_heartbeats values (%s, 'PROD', now())", [uuid.UUID(left_behind)])
    assert look(DEAD_AFTER_S - 5) == {}, "quiet for an hour, but alive"
    first = look(DEAD_AFTER_S + 1)
    assert first.keys() == {left_behind}
    assert look(1, {left_behind: time.time() - LOOK_AGAIN_S - 1}) == {}, "a sign of life came"
    assert look(DEAD_AFTER_S + 1, first).keys() == {left_behind}, "too early for a second look"
    assert status() == "STARTED"
    assert look(DEAD_AFTER_S + 6, {left_behind: time.time() - LOOK_AGAIN_S - 1}) == {}
    assert status() == "FAILURE"
    assert state(poisoned, "AAA", "1d")["status"] == "idle"


def test_a_young_run_is_not_dead_though_it_has_no_row_yet(
    defs: dg.Definitions,
    stored_instance: dg.DagsterInstance,
    poisoned: psycopg.Connection,
    stack: Stack,
    left_behind: str,
) -> None:
    poisoned.execute("delete from ops_runlog")
    rewrite_run(stack, left_behind, status="STARTED", start_time=time.time() - 200)
    ask(defs, stored_instance, "release_leases")
    run = stored_instance.get_run_by_id(left_behind)
    assert run is not None
    assert run.status == dg.DagsterRunStatus.STARTED


def test_a_run_of_another_instance_is_for_that_one_to_judge(
    defs: dg.Definitions, instance: dg.DagsterInstance, poisoned: psycopg.Connection
) -> None:
    theirs = str(uuid.UUID(int=7))
    poisoned.execute("select ops_runlog_start(%s, 'agg-master', 'cron', 'PROD')", [theirs])
    start(poisoned, "AAA", "1d", "10:00", owner=theirs)
    ask(defs, instance, "release_leases")
    assert state(poisoned, "AAA", "1d")["lease_owner"] == theirs
