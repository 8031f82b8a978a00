"""The end of a run, however it comes: its row in ops_runlog is closed, its leases are free, dashboards know."""

import contextlib
import datetime as dt
from collections.abc import Iterator

import dagster as dg

from agg_pipeline.database.models.runs import RunReport
from agg_pipeline.errors import GatewayError
from agg_pipeline.orchestration import tags
from agg_pipeline.orchestration.resources import SupabaseResource


@contextlib.contextmanager
def closed_if_terminated(context: dg.OpExecutionContext, supabase: SupabaseResource) -> Iterator[None]:
    """Whoever terminates a run wants its tasks free now, not when their leases go stale. (That is no Exception.)"""
    try:
        yield
    except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt, SystemExit):
        close_quietly(context, supabase, {"error": "terminated"}, RunReport.canceled("terminated"))
        raise


def close(
    context: dg.OpExecutionContext, supabase: SupabaseResource, stats: dict[str, object], report: RunReport
) -> None:
    """Close the run as failed if anything failed, free what it holds, tell the dashboards."""
    slot = context.run.tags.get(tags.SLOT)
    supabase.gateway.close_run(context.run_id, success=report.status == "pass", stats=stats)
    supabase.gateway.report_run(
        context.run_id,
        report,
        environment=supabase.environment,
        slot=dt.datetime.fromisoformat(slot) if slot else None,
    )


def close_quietly(
    context: dg.OpExecutionContext, supabase: SupabaseResource, stats: dict[str, object], report: RunReport
) -> None:
    try:
        close(context, supabase, stats, report)
    except GatewayError as exc:
        context.log.warning("The run stays open in ops_runlog until the sensor release_leases closes it: %s", exc)
