"""Trading sessions: of new calendars before bars are built; the job that refreshes them for years ahead."""

import datetime as dt
import logging

import dagster as dg

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.calendars import CalendarUse
from agg_pipeline.errors import GatewayError
from agg_pipeline.ingest.sessions import fill_missing, is_stale, refresh
from agg_pipeline.market.calendars import CalendarError
from agg_pipeline.orchestration.resources import SupabaseResource


@dg.op
def fill_sessions(context: dg.OpExecutionContext, supabase: SupabaseResource) -> None:
    """Refresh the sessions of every calendar in use (agg_refresh_calendar); log each session that has changed.

    Raises:
        dg.Failure: names the calendars that could not be refreshed; all others are.
    """
    added = removed = changed = 0
    try:
        for result in refresh(supabase.gateway, dry_run=False):
            context.log.info("%s: %d sessions added, %d removed", result.calendar, result.added, result.removed)
            for change in result.changes:
                context.log.warning(
                    "%s: %s %s to %s", result.calendar, change.change, change.open_utc, change.close_utc
                )
            added, removed, changed = added + result.added, removed + result.removed, changed + len(result.changes)
    except (CalendarError, GatewayError) as exc:
        raise dg.Failure(str(exc)) from None
    context.add_output_metadata({"sessions_added": added, "sessions_removed": removed, "sessions_changed": changed})


@dg.graph
def refresh_calendars() -> None:
    """Graph of the job calendars: one step."""
    fill_sessions()


def fill_or_warn(log: logging.Logger, gateway: AggGateway) -> None:
    """Upload the sessions of calendars that have none yet, before bars are built; log a warning for each failure."""
    for line in fill_missing(gateway):
        log.warning(line)


def stale_calendars(supabase: SupabaseResource) -> list[CalendarUse]:
    """Calendars in use whose sessions are missing or older than a month. Raises GatewayError."""
    with supabase.connect() as gateway:
        gateway.check_contract()
        return [use for use in gateway.calendars().calendars if is_stale(use, dt.datetime.now(dt.UTC))]
