"""The five-minute schedule: a run when there is something to do, else a reason why not."""

import datetime as dt
from typing import Any

import dagster as dg
import psycopg
import pytest

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.definitions import build_definitions
from agg_pipeline.embedded import Stack
from agg_pipeline_tests.dagster.conftest import rewrite_run
from agg_pipeline_tests.sql.helpers import put

SLOT = dt.datetime(2026, 1, 5, 10, 6, tzinfo=dt.UTC)


@pytest.fixture
def something_due(one_gateway: AggGateway, clean: psycopg.Connection) -> None:
    one_gateway.register_asset("EURUSD", start=dt.datetime(2026, 1, 5, tzinfo=dt.UTC), base_timeframe="1m")
    put(clean, "EURUSD", "10:00", 5)


def evaluate(defs: dg.Definitions, instance: dg.DagsterInstance) -> Any:
    with dg.build_schedule_context(
        instance=instance, scheduled_execution_time=SLOT, resources=defs.resources or {}
    ) as context:
        return defs.resolve_schedule_def("agg_every_5_minutes").evaluate_tick(context)


def test_the_clock_of_the_schedule(defs: dg.Definitions) -> None:
    schedule = defs.resolve_schedule_def("agg_every_5_minutes")
    assert schedule.cron_schedule == "1-59/5 * * * *"
    assert schedule.execution_timezone == "UTC"


def test_what_is_due_starts_one_run_for_the_slot(
    defs: dg.Definitions, stored_instance: dg.DagsterInstance, something_due: None
) -> None:
    (request,) = evaluate(defs, stored_instance).run_requests
    assert request.run_key == request.tags["agg/slot"] == "2026-01-05T10:06:00+00:00"


def test_nothing_due_is_a_reason_to_skip(
    defs: dg.Definitions, stored_instance: dg.DagsterInstance, clean: psycopg.Connection
) -> None:
    assert evaluate(defs, stored_instance).skip_message == "Nothing is due."


def test_a_tick_at_work_is_a_reason_to_skip(
    defs: dg.Definitions, stored_instance: dg.DagsterInstance, something_due: None, stack: Stack
) -> None:
    run_id = defs.resolve_job_def("agg_master").execute_in_process(instance=stored_instance).run_id
    rewrite_run(stack, run_id, status="STARTED")
    assert f"Run {run_id[:8]} is still running" in (evaluate(defs, stored_instance).skip_message or "")


def test_another_environments_tick_is_none(
    defs: dg.Definitions,
    stored_instance: dg.DagsterInstance,
    something_due: None,
    stack: Stack,
    settings_of_the_stack: pytest.MonkeyPatch,
) -> None:
    run_id = defs.resolve_job_def("agg_master").execute_in_process(instance=stored_instance).run_id
    rewrite_run(stack, run_id, status="STARTED")
    settings_of_the_stack.setenv("ENV_NAME", "dev")
    message = evaluate(build_definitions(), stored_instance).skip_message or ""
    assert "still running" not in message


def test_a_database_that_does_not_answer_makes_the_schedule_red(
    settings_of_the_stack: pytest.MonkeyPatch, stored_instance: dg.DagsterInstance
) -> None:
    settings_of_the_stack.setenv("SUPABASE_URL", "http://127.0.0.1:9")
    with pytest.raises(dg.DagsterError) as red:
        evaluate(build_definitions(), stored_instance)
    assert "The due tasks could not be read. " in str(red.value.__cause__)
    assert "no answer from http://127.0.0.1:9" in str(red.value.__cause__)


def test_a_run_may_last_less_than_its_leases(
    settings_of_the_stack: pytest.MonkeyPatch,
) -> None:
    settings_of_the_stack.setenv("RUNNING_STALE_SECONDS", "600")
    tags = build_definitions().resolve_job_def("agg_master").tags
    assert int(tags["dagster/max_runtime"]) < 600
