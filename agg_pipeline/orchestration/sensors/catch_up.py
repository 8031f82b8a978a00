"""The sensor catch_up: starts another tick while work is left over."""

import traceback

import dagster as dg

from agg_pipeline.errors import GatewayError
from agg_pipeline.orchestration import tags
from agg_pipeline.orchestration.jobs import tick_runs
from agg_pipeline.orchestration.resources import SupabaseResource
from agg_pipeline.settings import Settings


def build_catch_up_sensor(job: dg.JobDefinition, settings: Settings) -> dg.SensorDefinition:
    """Sensor catch_up: after a run that got something done, the next one, if more is due than it could take."""

    @dg.sensor(
        name="catch_up",
        job=job,
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts another tick at once while due tasks are left over or a task has a backlog.",
    )
    def catch_up(context: dg.SensorEvaluationContext, supabase: SupabaseResource) -> dg.RunRequest | dg.SkipReason:
        newest = context.instance.get_runs(tick_runs(job, settings), limit=1)
        if not newest:
            return dg.SkipReason("There was no run yet.")
        run = newest[0]
        if not run.is_finished:
            return dg.SkipReason(f"Run {run.run_id[:8]} is at work.")
        if context.cursor == run.run_id:
            return dg.SkipReason(f"No run since {run.run_id[:8]}; the schedule starts the next one.")
        # A failed run too: one broken task must not hold up the backlog of the others.
        if run.status == dg.DagsterRunStatus.CANCELED or run.tags.get(tags.WINDOWS, "0") == "0":
            context.update_cursor(run.run_id)
            return dg.SkipReason(
                f"Run {run.run_id[:8]} built no window; whatever is due now, another would not either."
            )
        try:
            left = supabase.can_get_on(stale_seconds=settings.running_stale_seconds)
        except GatewayError as exc:
            context.log.debug(traceback.format_exc())
            return dg.SkipReason(f"Could not look up what is due. {exc}")
        context.update_cursor(run.run_id)
        return (
            dg.RunRequest(run_key=f"after-{run.run_id}")
            if left
            else dg.SkipReason("Nothing is left over that another run would get on with.")
        )

    return catch_up
