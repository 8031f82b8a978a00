"""What follows a run: another tick at once while work is left."""

import dagster as dg

from agg_pipeline.errors import GatewayError
from agg_pipeline.ops import WINDOWS_TAG
from agg_pipeline.resources import SupabaseResource
from agg_pipeline.settings import Settings


def build_catch_up_sensor(job: dg.JobDefinition, settings: Settings) -> dg.SensorDefinition:
    """Sensor catch_up: after a run that got something done, the next one, if more is due than it could take."""

    @dg.run_status_sensor(
        name="catch_up",
        run_status=dg.DagsterRunStatus.SUCCESS,
        monitored_jobs=[job],
        request_job=job,
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts another tick at once while due tasks are left over or a task has a backlog.",
    )
    def catch_up(context: dg.RunStatusSensorContext, supabase: SupabaseResource) -> dg.RunRequest | dg.SkipReason:
        run = context.dagster_run
        if run.tags.get(WINDOWS_TAG, "0") == "0":
            # Whatever is due now, this run could do nothing about it; the schedule looks again in time.
            return dg.SkipReason(f"Run {run.run_id[:8]} built no window.")
        try:
            due = supabase.has_due_tasks(stale_seconds=settings.running_stale_seconds)
        except GatewayError as exc:
            return dg.SkipReason(f"Could not look up what is due; the schedule will. {exc}")
        if not due:
            return dg.SkipReason("Nothing is left over.")
        return dg.RunRequest(run_key=f"after-{run.run_id}")

    return catch_up
