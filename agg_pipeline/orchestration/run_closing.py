"""The row of a run in ops_runlog: opened, and closed however the run ends, with its leases freed."""

import contextlib
import datetime as dt
import logging
import traceback
from collections.abc import Callable, Iterator

import dagster as dg

from agg_pipeline.database.models.runs import RunReport
from agg_pipeline.errors import GatewayError
from agg_pipeline.orchestration import tags
from agg_pipeline.orchestration.resources import SupabaseResource

BACKFILL_JOB = "agg-backfill"
"""Job name of backfills in ops_runlog."""


@contextlib.contextmanager
def opened_run(
    context: dg.OpExecutionContext,
    supabase: SupabaseResource,
    *,
    job: str,
    trigger: str,
    report: Callable[[str], RunReport],
) -> Iterator[None]:
    """Open the row of the run in ops_runlog; an exception in the block closes it as failed and is raised again.

    After the block the row stays open: closing it is up to the end of the run.

    Args:
        report: what the health tables get, given the reason.
    Raises:
        GatewayError: the row could not be opened.
    """
    with closed_if_terminated(context, supabase):
        supabase.gateway.open_run(context.run_id, job=job, trigger=trigger, environment=supabase.environment)
        try:
            yield
        except Exception as exc:
            # Texts of other exceptions may hold rows; the event log has them, for whoever may read it.
            is_ours = isinstance(exc, GatewayError)
            reason = str(exc) if is_ours else f"{type(exc).__name__}; the event log of the run has the traceback"
            close_or_warn(context, supabase, {"error": reason}, report(reason))
            raise


@contextlib.contextmanager
def closed_if_terminated(context: dg.OpExecutionContext, supabase: SupabaseResource) -> Iterator[None]:
    """Close the run at once if it is terminated in the block, so that its tasks need not wait for stale leases."""
    try:
        yield
    except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt, SystemExit):  # none of them is an Exception
        close_or_warn(context, supabase, {"error": "terminated"}, RunReport.canceled("terminated"))
        raise


def close(
    context: dg.OpExecutionContext, supabase: SupabaseResource, stats: dict[str, object], report: RunReport
) -> None:
    """Close the row, free the leases of the run and write ``report`` to the health tables. Raises GatewayError."""
    slot = context.run.tags.get(tags.SLOT)
    supabase.gateway.close_run(context.run_id, success=report.status == "pass", stats=stats)
    supabase.gateway.report_run(
        context.run_id,
        report,
        environment=supabase.environment,
        slot=dt.datetime.fromisoformat(slot) if slot else None,
    )


def close_or_warn(
    context: dg.OpExecutionContext, supabase: SupabaseResource, stats: dict[str, object], report: RunReport
) -> None:
    """Close the row; if that fails too, log a warning."""
    try:
        close(context, supabase, stats, report)
    except GatewayError as exc:
        warn(context.log, f"The run stays open in ops_runlog until the sensor release_leases closes it: {exc}")


def warn(log: logging.Logger, message: str) -> None:
    """Log a warning about the exception that is being handled, and its traceback at level DEBUG."""
    log.warning(message)
    log.debug(traceback.format_exc())  # as text: Dagster stores no exc_info
