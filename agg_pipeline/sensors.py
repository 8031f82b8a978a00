"""What follows a run: another tick while work is left, a rerun of what failed, the release of what a dead run holds.

Each sensor looks at how things are, not at an event: what one look misses, since the daemon was down or the database
away, the next one sees.
"""

import datetime as dt
import time
from collections.abc import Iterator
from typing import Any, cast

import dagster as dg

from agg_pipeline import tags
from agg_pipeline.errors import GatewayError
from agg_pipeline.gateway import AggGateway
from agg_pipeline.jobs import environment_tags
from agg_pipeline.ops import FAILED_TASKS
from agg_pipeline.outcomes import RunReport
from agg_pipeline.resources import SupabaseResource
from agg_pipeline.settings import Settings

SILENT_S = 300.0
"""A run without a sign of life in the database for so long is dead: a call with all its retries takes two minutes."""

_RERUN_WITHIN = dt.timedelta(hours=1)


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
        newest = context.instance.get_runs(_ticks(job, settings), limit=1)
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
            return dg.SkipReason(f"Could not look up what is due. {exc}")
        context.update_cursor(run.run_id)
        return (
            dg.RunRequest(run_key=f"after-{run.run_id}")
            if left
            else dg.SkipReason("Nothing is left over that another run would get on with.")
        )

    return catch_up


def build_rerun_sensor(job: dg.JobDefinition, settings: Settings) -> dg.SensorDefinition:
    """Sensor rerun_failed_tasks: a run of just the tasks that failed, once their back-off in the database is over."""

    @dg.sensor(
        name="rerun_failed_tasks",
        job=job,
        minimum_interval_seconds=10,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tries what failed in a run again, and only that, when its back-off is over; RERUN_MAX_ATTEMPTS "
        "attempts at most, the first one included. Later ticks try it as well.",
    )
    def rerun_failed_tasks(
        context: dg.SensorEvaluationContext, supabase: SupabaseResource
    ) -> list[dg.RunRequest] | dg.SkipReason:
        candidates = list(_to_be_rerun(context.instance, job, settings))
        if not candidates:
            return dg.SkipReason("No run of the last hour has failed tasks that were not tried again yet.")
        try:
            with supabase.connect() as gateway:
                ready = _ready(gateway, [task for _, _, tasks in candidates for task in tasks])
        except GatewayError as exc:
            return dg.SkipReason(f"Could not look up the tasks that failed. {exc}")
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
        return reruns or dg.SkipReason("What failed backs off, was stopped by an operator, or works again.")

    return rerun_failed_tasks


def build_release_sensor(job: dg.JobDefinition, settings: Settings) -> dg.SensorDefinition:
    """Sensor release_leases: what a run that failed, was canceled or died still holds is given back within seconds."""

    @dg.sensor(
        name="release_leases",
        job=job,
        minimum_interval_seconds=10,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Closes in ops_runlog what runs that failed or were canceled left open, and frees their leases. "
        f"A run that gave no sign of life for {SILENT_S:.0f} s has lost its process, and is marked as failed.",
    )
    def release_leases(context: dg.SensorEvaluationContext, supabase: SupabaseResource) -> dg.SkipReason:
        closed = []
        try:
            with supabase.connect() as gateway:
                found = gateway.open_runs(supabase.environment)
                silent_s = {one.run_id: one.silent_seconds for one in found}
                started = _ticks(job, settings, statuses=[dg.DagsterRunStatus.STARTED])
                _fail_the_dead(context.instance, started, silent_s)
                for one in found:
                    run = context.instance.get_run_by_id(one.run_id)
                    if run is None or not run.is_finished:
                        continue  # at work, or of another instance, which is to judge it
                    if one.is_closed:
                        gateway.release(one.run_id)  # its call for leases arrived when it had ended
                    else:
                        _close(gateway, run, supabase.environment)
                    closed.append(f"{one.run_id[:8]} ({run.status.value})")
        except GatewayError as exc:
            return dg.SkipReason(f"Could not look up what is held. {exc}")
        return dg.SkipReason(f"Closed: {', '.join(closed)}." if closed else "No ended run holds anything.")

    return release_leases


def _ticks(job: dg.JobDefinition, settings: Settings, **narrowed: Any) -> dg.RunsFilter:
    return dg.RunsFilter(job_name=job.name, tags=environment_tags(settings), **narrowed)


def _to_be_rerun(
    instance: dg.DagsterInstance, job: dg.JobDefinition, settings: Settings
) -> Iterator[tuple[dg.DagsterRun, int, list[str]]]:
    """Failed runs, the newest first: which attempt each was, and those of its tasks that no newer one failed at."""
    since = dt.datetime.now(dt.UTC) - _RERUN_WITHIN
    failed = _ticks(job, settings, statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since)
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
    """What close_run named as failed; nothing if the run did not come so far: then the next tick takes up its tasks."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        told = entry.get_dagster_event().step_failure_data.user_failure_data
        if told is not None and FAILED_TASKS in told.metadata:
            return [str(task) for task in cast("list[object]", told.metadata[FAILED_TASKS].value)]
    return []


def _ready(gateway: AggGateway, tasks: list[str]) -> set[str]:
    """Those of the tasks that still fail and no longer back off, and that no operator has stopped."""
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


def _fail_the_dead(instance: dg.DagsterInstance, started: dg.RunsFilter, silent_s: dict[str, float]) -> None:
    """Nobody else notices when a run's process dies together with the code server that started it."""
    for record in instance.get_run_records(started):
        run, age_s = record.dagster_run, time.time() - (record.start_time or time.time())
        if min(age_s, silent_s.get(run.run_id, age_s)) > SILENT_S:
            instance.report_run_failed(run, f"No sign of life for {SILENT_S:.0f} s: its process is taken for dead.")


def _close(gateway: AggGateway, run: dg.DagsterRun, environment: str) -> None:
    status, reason = run.status, f"the run ended as {run.status.value} without closing its row"
    report = (
        RunReport(status="pass")
        if status == dg.DagsterRunStatus.SUCCESS
        else RunReport.canceled(reason)
        if status == dg.DagsterRunStatus.CANCELED
        else RunReport.broken(run.run_id, reason)
    )
    gateway.close_run(run.run_id, success=report.status == "pass", stats={"error": reason})
    gateway.report_run(run.run_id, report, environment=environment)
