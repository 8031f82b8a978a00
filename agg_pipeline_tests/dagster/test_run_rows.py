"""The row of a run in ops_runlog when the run breaks off: closed at once, with the reason, and its leases free."""

import logging
from collections.abc import Iterator
from typing import Any

import dagster as dg
import psycopg
import pytest

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.embedded import Stack
from agg_pipeline.orchestration.asset_keys import bars_key
from agg_pipeline_tests.conftest import skip_without_rest
from agg_pipeline_tests.sql.helpers import at, put, rows

CALLS_OF_A_TICK = "agg_pipeline.orchestration.selection.named_tasks"
CALLS_OF_A_BACKFILL = "agg_pipeline.orchestration.assets.backfill_symbol"


@pytest.fixture
def hour(one_gateway: AggGateway, clean: psycopg.Connection) -> psycopg.Connection:
    one_gateway.register_asset("EURUSD", start=at("00:00"), base_timeframe="1m")
    put(clean, "EURUSD", "09:00", 60)
    clean.execute("truncate ops_issues, quality_workerhealth")
    return clean


@pytest.fixture
def without_health(clean: psycopg.Connection) -> Iterator[None]:
    """The database function agg_health is not there."""
    clean.execute("alter function agg_health(text[], timestamptz) rename to agg_health_of_another_version")
    clean.execute("notify pgrst, 'reload schema'")
    yield
    clean.execute("alter function agg_health_of_another_version(text[], timestamptz) rename to agg_health")
    clean.execute("notify pgrst, 'reload schema'")


def run_job(defs: dg.Definitions, instance: dg.DagsterInstance, **config: object) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def("agg_master").execute_in_process(
        run_config={"ops": {"select_due": {"config": config}}}, instance=instance, raise_on_error=False
    )


def backfill(defs: dg.Definitions, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    day = "2026-01-05"
    return defs.resolve_implicit_global_asset_job_def().execute_in_process(
        asset_selection=[bars_key("5m")],
        tags={"dagster/asset_partition_range_start": day, "dagster/asset_partition_range_end": day},
        instance=instance,
        raise_on_error=False,
    )


def break_off(*_: object, **__: object) -> Any:
    raise RuntimeError("planted row of the database")


def the_row(db: psycopg.Connection) -> dict[str, Any]:
    (row,) = rows(db, "select status, stats, finished_at is not null as is_closed from ops_runlog")
    return row


def test_a_tick_that_breaks_off_in_its_selection_closes_its_row(
    defs: dg.Definitions, instance: dg.DagsterInstance, hour: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CALLS_OF_A_TICK, break_off)
    assert not run_job(defs, instance, tasks=["EURUSD/5m"]).success
    reason = "RuntimeError; the event log of the run has the traceback"
    assert the_row(hour) == {"status": "failed", "stats": {"error": reason}, "is_closed": True}
    assert rows(hour, "select status::text from quality_workerhealth") == [{"status": "critical"}]


def test_a_backfill_that_cannot_list_its_symbols_closes_its_row(
    defs: dg.Definitions, instance: dg.DagsterInstance, hour: psycopg.Connection, without_health: None
) -> None:
    result = backfill(defs, instance)
    (failed,) = [e for e in result.all_events if e.event_type == dg.DagsterEventType.STEP_FAILURE]
    assert failed.step_failure_data.user_failure_data.description.startswith("The backfill did not start. agg_health ")
    row = the_row(hour)
    assert (row["status"], row["is_closed"]) == ("failed", True)
    assert row["stats"]["error"].startswith("agg_health failed: ")


def test_a_backfill_that_breaks_off_closes_its_row(
    defs: dg.Definitions, instance: dg.DagsterInstance, hour: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CALLS_OF_A_BACKFILL, break_off)
    assert not backfill(defs, instance).success
    reason = "RuntimeError; the event log of the run has the traceback"
    assert the_row(hour) == {"status": "failed", "stats": {"error": reason}, "is_closed": True}
    assert rows(hour, "select code from ops_issues") == [{"code": "AGG_SCHEDULED_FAIL"}]


def test_a_warning_keeps_its_traceback_at_level_debug(
    defs: dg.Definitions, instance: dg.DagsterInstance, hour: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a run reads for its asset pages only: a failure there is a warning."""
    monkeypatch.setattr("agg_pipeline.orchestration.ops.read_metrics", break_off)
    result = run_job(defs, instance, now_utc="2026-01-05T10:01:00Z")
    assert result.success
    logged = instance.all_logs(result.run_id)
    (warning,) = [entry for entry in logged if entry.level == logging.WARNING]
    assert "planted row of the database" in warning.user_message
    (debug,) = [e for e in logged if e.level == logging.DEBUG and e.user_message.startswith("Traceback ")]
    assert "in break_off" in debug.user_message


def test_a_traceback_at_level_debug_shows_no_key(
    defs: dg.Definitions, instance: dg.DagsterInstance, hour: psycopg.Connection, stack: Stack
) -> None:
    """The database refuses a call with an error that repeats the headers of the request, the key among them."""
    skip_without_rest(stack)
    function = "agg_bars_by_day(text[], timestamptz, timestamptz)"
    hour.execute(f"alter function {function} rename to agg_bars_by_day_of_this_version")
    hour.execute(
        """create function public.agg_bars_by_day(p_symbols text[], p_from_utc timestamptz, p_to_utc timestamptz)
           returns jsonb language plpgsql security definer set search_path = '' as $$
           begin raise exception 'refused with %', current_setting('request.headers', true); end $$;
           grant execute on function public.agg_bars_by_day to service_role"""
    )
    try:
        result = run_job(defs, instance, now_utc="2026-01-05T10:01:00Z")
    finally:
        hour.execute(f"drop function public.{function}")
        hour.execute(
            f"alter function {function.replace('agg_bars_by_day', 'agg_bars_by_day_of_this_version')} "
            "rename to agg_bars_by_day"
        )
    assert result.success
    logged = "\n".join(f"{entry.user_message}\n{entry.error_info}" for entry in instance.all_logs(result.run_id))
    assert "refused with" in logged
    assert "Traceback (most recent call last)" in logged
    assert stack.service_role_key not in logged
    assert stack.service_role_key.split(".")[-1] not in logged
