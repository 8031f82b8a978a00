"""When runs start by the clock: a tick a minute after each window has ended, so that its last bar could arrive."""

import datetime as dt

import dagster as dg

from agg_pipeline.errors import GatewayError
from agg_pipeline.orchestration import tags
from agg_pipeline.orchestration.calendar_refresh import stale_calendars
from agg_pipeline.orchestration.jobs import tick_runs
from agg_pipeline.orchestration.resources import SupabaseResource
from agg_pipeline.settings import Settings

EVERY_5_MINUTES = "1-59/5 * * * *"
DAILY = "43 3 * * *"  # between two ticks
DAILY_TOO = "13 4 * * *"

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
    """Schedule agg_every_5_minutes: minutes 1, 6, ..., 56 UTC; skips with a reason what would be an empty run."""

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
            return dg.SkipReason(f"Run {running[0].run_id[:8]} is still at work; what is due stays due.")
        try:
            due = supabase.has_due_tasks(stale_seconds=settings.running_stale_seconds)
        except GatewayError as exc:
            # A tick that cannot even look is a failed tick: red in the schedule's history, with the reason.
            raise dg.Failure(f"Could not look up what is due. {exc}") from None
        if not due:
            return dg.SkipReason("Nothing is due.")
        slot = context.scheduled_execution_time.astimezone(dt.UTC).isoformat()
        return dg.RunRequest(run_key=slot, tags={tags.SLOT: slot})

    return agg_every_5_minutes


def build_retention_schedule(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Schedule retention_daily: once a night."""
    return dg.ScheduleDefinition(
        name="retention_daily",
        job=job,
        cron_schedule=DAILY,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Old runs and their event logs go, once a night.",
    )


def build_calendar_schedule(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Schedule calendars_daily: looks every night, and runs for a new calendar or a month after the last refresh."""

    @dg.schedule(
        job=job,
        name="calendars_daily",
        cron_schedule=DAILY_TOO,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Trading sessions for years ahead: once a month, and at once for a calendar without any.",
    )
    def calendars_daily(supabase: SupabaseResource) -> dg.RunRequest | dg.SkipReason:
        try:
            stale = stale_calendars(supabase)
        except GatewayError as exc:
            raise dg.Failure(f"Could not look up the calendars. {exc}") from None
        if not stale:
            return dg.SkipReason("The sessions of all calendars in use are fresh.")
        return dg.RunRequest()

    return calendars_daily
