"""Schedules: a tick one minute after each 5m window has ended, when its last bar has arrived; two jobs once a night."""

import datetime as dt

import dagster as dg

from agg_pipeline.errors import GatewayError
from agg_pipeline.orchestration import tags
from agg_pipeline.orchestration.calendar_refresh import stale_calendars
from agg_pipeline.orchestration.jobs import tick_runs
from agg_pipeline.orchestration.resources import SupabaseResource
from agg_pipeline.settings import Settings

EVERY_5_MINUTES = "1-59/5 * * * *"
RETENTION_CRON = "43 3 * * *"  # between two ticks
CALENDARS_CRON = "13 4 * * *"

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def build_schedule(
    job: dg.JobDefinition, settings: Settings, *, cron_schedule: str = EVERY_5_MINUTES
) -> dg.ScheduleDefinition:
    """Schedule agg_every_5_minutes: minutes 1, 6, ..., 56 UTC; skips with a reason instead of an empty run."""

    @dg.schedule(
        job=job,
        name="agg_every_5_minutes",
        cron_schedule=cron_schedule,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="One tick on minutes 1, 6, ..., 56. Skips when nothing is due or a tick is still running.",
    )
    def agg_every_5_minutes(
        context: dg.ScheduleEvaluationContext, supabase: SupabaseResource
    ) -> dg.RunRequest | dg.SkipReason:
        if running := context.instance.get_runs(tick_runs(job, settings, statuses=UNFINISHED), limit=1):
            return dg.SkipReason(f"Run {running[0].run_id[:8]} is still running; due tasks stay due.")
        try:
            due = supabase.has_due_tasks(stale_seconds=settings.running_stale_seconds)
        except GatewayError as exc:
            # A failure, not a skip: the history of the schedule shows it in red, with the reason.
            raise dg.Failure(f"The due tasks could not be read. {exc}") from None
        if not due:
            return dg.SkipReason("Nothing is due.")
        slot = context.scheduled_execution_time.astimezone(dt.UTC).isoformat()
        return dg.RunRequest(run_key=slot, tags={tags.SLOT: slot})

    return agg_every_5_minutes


def build_retention_schedule(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Schedule retention_daily: every night."""
    return dg.ScheduleDefinition(
        name="retention_daily",
        job=job,
        cron_schedule=RETENTION_CRON,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Deletes old runs and their event logs every night.",
    )


def build_calendar_schedule(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Schedule calendars_daily: every night, if a calendar in use has no sessions or was refreshed a month ago."""

    @dg.schedule(
        job=job,
        name="calendars_daily",
        cron_schedule=CALENDARS_CRON,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Refreshes trading sessions once a month, or the next night if a tick could not store them.",
    )
    def calendars_daily(supabase: SupabaseResource) -> dg.RunRequest | dg.SkipReason:
        try:
            stale = stale_calendars(supabase)
        except GatewayError as exc:
            raise dg.Failure(f"The calendars could not be read. {exc}") from None
        if not stale:
            return dg.SkipReason("The sessions of all calendars in use are up to date.")
        return dg.RunRequest()

    return calendars_daily
