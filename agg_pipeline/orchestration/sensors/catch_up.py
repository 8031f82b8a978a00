"""The sensor catch_up: starts another tick at once while tasks are due."""

import itertools
import traceback
from functools import partial

import dagster as dg

from agg_pipeline.errors import GatewayError
from agg_pipeline.orchestration import tags
from agg_pipeline.orchestration.ended_runs import close_ended, was_killed
from agg_pipeline.orchestration.jobs import tick_runs
from agg_pipeline.orchestration.resources import SupabaseResource
from agg_pipeline.settings import Settings

KILLED_IN_A_ROW = 3
"""So many runs that were killed one after the other: what kills them would kill the next one too."""


def build_catch_up_sensor(job: dg.JobDefinition, settings: Settings) -> dg.SensorDefinition:
    """Sensor catch_up: requests a run after each run that built windows or was killed, if tasks are still due."""

    @dg.sensor(
        name="catch_up",
        job=job,
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts another tick at once while tasks are due or have a backlog, and after one that was killed.",
    )
    def catch_up(context: dg.SensorEvaluationContext, supabase: SupabaseResource) -> dg.RunRequest | dg.SkipReason:
        newest = context.instance.get_runs(tick_runs(job, settings), limit=1)
        if not newest:
            return dg.SkipReason("There has been no run yet.")
        run = newest[0]
        if not run.is_finished:
            return dg.SkipReason(f"Run {run.run_id[:8]} is running.")
        if context.cursor == run.run_id:
            return dg.SkipReason(f"No run since {run.run_id[:8]}; the schedule starts the next one.")
        killed = was_killed(context.instance, run)
        # After a failed run too: one task that fails must not delay the backlog of the others.
        if run.status == dg.DagsterRunStatus.CANCELED or (run.tags.get(tags.WINDOWS, "0") == "0" and not killed):
            context.update_cursor(run.run_id)
            return dg.SkipReason(
                f"Run {run.run_id[:8]} was canceled or built no window; another one is left to the schedule."
            )
        if killed and _killed_in_a_row(context.instance, job, settings) >= KILLED_IN_A_ROW:
            context.update_cursor(run.run_id)
            return dg.SkipReason(f"The last {KILLED_IN_A_ROW} runs were killed; another one is left to the schedule.")
        try:
            if killed:  # it still holds the leases of its tasks
                with supabase.connect() as gateway:
                    close_ended(context.instance, gateway, supabase.environment)
            is_more_due = supabase.has_runnable_tasks(stale_seconds=settings.running_stale_seconds)
        except GatewayError as exc:
            context.log.debug(traceback.format_exc())
            return dg.SkipReason(f"The due tasks could not be read. {exc}")
        context.update_cursor(run.run_id)
        return (
            dg.RunRequest(run_key=f"after-{run.run_id}")
            if is_more_due
            else dg.SkipReason("No task is due that another run could process.")
        )

    return catch_up


def _killed_in_a_row(instance: dg.DagsterInstance, job: dg.JobDefinition, settings: Settings) -> int:
    """How many of the newest runs, at most KILLED_IN_A_ROW, were killed one after the other."""
    newest = instance.get_runs(tick_runs(job, settings), limit=KILLED_IN_A_ROW)
    return len(list(itertools.takewhile(partial(was_killed, instance), newest)))
