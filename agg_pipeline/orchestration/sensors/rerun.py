"""The sensor rerun_failed_tasks: runs the failed tasks of a run again, and only those."""

import datetime as dt
import traceback
from collections.abc import Iterator
from typing import cast

import dagster as dg

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.errors import GatewayError
from agg_pipeline.orchestration import tags
from agg_pipeline.orchestration.jobs import tick_runs
from agg_pipeline.orchestration.ops import FAILED_TASKS
from agg_pipeline.orchestration.resources import SupabaseResource
from agg_pipeline.settings import Settings

_RERUN_WITHIN = dt.timedelta(hours=1)


def build_rerun_sensor(job: dg.JobDefinition, settings: Settings) -> dg.SensorDefinition:
    """Sensor rerun_failed_tasks: requests a run of the failed tasks of a run when their back-off is over."""

    @dg.sensor(
        name="rerun_failed_tasks",
        job=job,
        minimum_interval_seconds=10,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Runs the failed tasks of a run again when their back-off is over, at most RERUN_MAX_ATTEMPTS "
        "attempts, the first one included. Later ticks process them as well.",
    )
    def rerun_failed_tasks(
        context: dg.SensorEvaluationContext, supabase: SupabaseResource
    ) -> list[dg.RunRequest] | dg.SkipReason:
        candidates = list(_to_be_rerun(context.instance, job, settings))
        if not candidates:
            return dg.SkipReason("No run of the last hour has failed tasks that were not run again.")
        try:
            with supabase.connect() as gateway:
                ready = _ready(gateway, [task for _, _, tasks in candidates for task in tasks])
        except GatewayError as exc:
            context.log.debug(traceback.format_exc())
            return dg.SkipReason(f"The failed tasks could not be read. {exc}")
        reruns = []
        for run, attempt, tasks in candidates:
            root = run.tags.get(tags.ROOT, run.run_id)
            if wanted := [task for task in tasks if task in ready]:
                reruns.append(
                    dg.RunRequest(
                        run_key=f"{root}:{attempt + 1}",
                        run_config={"ops": {"select_due": {"config": {"tasks": wanted}}}},
                        tags={tags.ROOT: root, tags.RERUN_OF: run.run_id, tags.ATTEMPT: str(attempt + 1)},
                    )
                )
        return reruns or dg.SkipReason("The failed tasks back off, are paused or disabled, or have recovered.")

    return rerun_failed_tasks


def _to_be_rerun(
    instance: dg.DagsterInstance, job: dg.JobDefinition, settings: Settings
) -> Iterator[tuple[dg.DagsterRun, int, list[str]]]:
    """Failed runs, newest first: the run, its attempt, and its failed tasks that did not fail in a newer run too."""
    since = dt.datetime.now(dt.UTC) - _RERUN_WITHIN
    failed = tick_runs(job, settings, statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since)
    seen: set[str] = set()
    for run in instance.get_runs(failed, limit=50):
        tasks = [task for task in _failed_tasks(instance, run.run_id) if task not in seen]
        seen.update(tasks)
        attempt = int(run.tags.get(tags.ATTEMPT, "1"))
        if tasks and attempt < settings.rerun_max_attempts:
            followers = dg.RunsFilter(tags={tags.RERUN_OF: run.run_id})
            if not instance.get_runs(followers, limit=1):
                yield run, attempt, tasks


def _failed_tasks(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """Failed tasks in the metadata of close_run; empty if the run ended before: they wait for the next tick."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        failure = entry.get_dagster_event().step_failure_data.user_failure_data
        if failure is not None and FAILED_TASKS in failure.metadata:
            return [str(task) for task in cast("list[object]", failure.metadata[FAILED_TASKS].value)]
    return []


def _ready(gateway: AggGateway, tasks: list[str]) -> set[str]:
    """Tasks of these that still fail, whose back-off is over, and that are enabled and not paused."""
    now = dt.datetime.now(dt.UTC)
    return {
        str(task)
        for task in gateway.health(sorted({task.rpartition("/")[0] for task in tasks}))
        if task.hard_fail_streak + task.transient_streak > 0
        and task.status in ("idle", "hard_failed")
        and task.enabled
        and not task.is_paused
        and (task.next_run_at is None or task.next_run_at <= now)
    }
