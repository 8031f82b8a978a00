"""Old runs go with all that Dagster keeps of them; whatever is young, at work or another environment's stays."""

import datetime as dt
import uuid

import dagster as dg
import psycopg
import pytest
from sqlalchemy import create_engine, text

from agg_pipeline.embedded import Stack
from agg_pipeline.orchestration.asset_keys import bars_key
from agg_pipeline_tests.dagster.conftest import rewrite_run
from agg_pipeline_tests.sql.helpers import scalar

DAYS = {"theirs": 40, "open": 40, "older": 30, "old": 20, "fresh": 1}


@pytest.fixture
def instance(stored_instance: dg.DagsterInstance) -> dg.DagsterInstance:
    return stored_instance


@pytest.fixture
def runs(defs: dg.Definitions, instance: dg.DagsterInstance, stack: Stack, clean: psycopg.Connection) -> dict[str, str]:
    """Runs of various ages, by name: each executed for real, then moved into the past, in Dagster and in ops_runlog."""
    job, ids = defs.resolve_job_def("agg_master"), {}
    for name, days in DAYS.items():
        tags = {"agg/environment": "dev"} if name == "theirs" else {}
        ids[name] = job.execute_in_process(instance=instance, tags=tags).run_id
        then = dt.datetime.now(dt.UTC) - dt.timedelta(days=days)
        past = then.replace(tzinfo=None)
        rewrite_run(stack, ids[name], create_timestamp=past, update_timestamp=past)
        if name == "open":
            rewrite_run(stack, ids[name], status="STARTED")
        clean.execute("update ops_runlog set started_at = %s where run_id = %s", [then, uuid.UUID(ids[name])])
    clean.execute("update ops_runlog set env_name = 'DEV' where run_id = %s", [uuid.UUID(ids["theirs"])])
    clean.execute("update ops_runlog set status = 'running' where run_id = %s", [uuid.UUID(ids["open"])])
    return ids


def retention(defs: dg.Definitions, instance: dg.DagsterInstance, **config: object) -> dict[str, int]:
    result = defs.resolve_job_def("retention").execute_in_process(
        instance=instance, run_config={"ops": {"delete_expired": {"config": config}}}
    )
    (output,) = [e for e in result.all_node_events if e.event_type == dg.DagsterEventType.STEP_OUTPUT]
    metadata = output.step_output_data.metadata
    return {name: metadata[name].value for name in ("runs_deleted", "runlog_rows_deleted", "runlog_rows_abandoned")}


def left(instance: dg.DagsterInstance, runs: dict[str, str]) -> set[str]:
    return {name for name, run_id in runs.items() if instance.get_run_by_id(run_id)}


def test_old_runs_go_with_their_events_and_their_rows(
    settings_of_the_stack: pytest.MonkeyPatch, defs: dg.Definitions, instance: dg.DagsterInstance, runs: dict[str, str],
    clean: psycopg.Connection,
) -> None:  # fmt: skip
    """The oldest first, no more at once than asked for, of an age that an operator sets."""
    assert all(instance.all_logs(run_id) for run_id in runs.values())
    first = retention(defs, instance, max_runs=1)
    assert first == {"runs_deleted": 1, "runlog_rows_deleted": 1, "runlog_rows_abandoned": 1}
    assert left(instance, runs) == {"fresh", "old", "open", "theirs"}
    settings_of_the_stack.setenv("RETENTION_DAYS", "25")
    assert retention(defs, instance) == {"runs_deleted": 0, "runlog_rows_deleted": 1, "runlog_rows_abandoned": 0}
    settings_of_the_stack.delenv("RETENTION_DAYS")
    assert retention(defs, instance, days=25)["runs_deleted"] == 0
    assert retention(defs, instance) == {"runs_deleted": 1, "runlog_rows_deleted": 1, "runlog_rows_abandoned": 0}
    assert left(instance, runs) == {"fresh", "open", "theirs"}
    assert {name for name, run_id in runs.items() if instance.all_logs(run_id)} == {"fresh", "open", "theirs"}
    assert scalar(clean, "select count(*) from ops_runlog") == 2
    assert retention(defs, instance) == {"runs_deleted": 0, "runlog_rows_deleted": 0, "runlog_rows_abandoned": 0}


def test_old_evaluations_of_this_environment_go_and_no_others(
    defs: dg.Definitions, instance: dg.DagsterInstance, stack: Stack, clean: psycopg.Connection
) -> None:
    """Dagster keeps evaluations when it deletes their run."""
    keys = [bars_key("5m"), bars_key("raw"), dg.AssetKey(["dev", "bars_5m"])]
    for key in keys:
        evaluation = dg.AssetCheckEvaluation(asset_key=key, check_name="lag", passed=True, metadata={})
        instance.report_runless_asset_event(evaluation)
    engine = create_engine(stack.dagster_dsn)
    with engine.begin() as storage:
        storage.execute(
            text(
                "update asset_check_executions set create_timestamp = now() - interval '40 days' where asset_key <> :k"
            ),
            {"k": keys[1].to_string()},
        )
    retention(defs, instance)
    with engine.begin() as storage:
        left = {row[0] for row in storage.execute(text("select asset_key from asset_check_executions"))}
    engine.dispose()
    assert left == {keys[1].to_string(), keys[2].to_string()}, "what is young, and another environment's"
