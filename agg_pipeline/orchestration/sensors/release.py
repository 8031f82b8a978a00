"""The sensor release_leases: closes rows of ended runs, frees their leases, and fails runs whose process is gone."""

import time
import traceback

import dagster as dg

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.runs import RunReport
from agg_pipeline.errors import GatewayError
from agg_pipeline.orchestration.jobs import tick_runs
from agg_pipeline.orchestration.resources import SupabaseResource
from agg_pipeline.settings import Settings

SILENT_S = 300.0
"""A run without a checkpoint or catch-up for so long is dead: a call with all its retries takes two minutes."""


def build_release_sensor(job: dg.JobDefinition, settings: Settings) -> dg.SensorDefinition:
    """Sensor release_leases: frees within seconds the leases of a run that failed, was canceled or died."""

    @dg.sensor(
        name="release_leases",
        job=job,
        minimum_interval_seconds=10,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Closes the rows of failed and canceled runs in ops_runlog and frees their leases. "
        f"A run without activity in the database for {SILENT_S:.0f} s has lost its process and is marked as failed.",
    )
    def release_leases(context: dg.SensorEvaluationContext, supabase: SupabaseResource) -> dg.SkipReason:
        closed = []
        try:
            with supabase.connect() as gateway:
                found = gateway.open_runs(supabase.environment)
                silent_s = {one.run_id: one.silent_seconds for one in found}
                started = tick_runs(job, settings, statuses=[dg.DagsterRunStatus.STARTED])
                _fail_the_dead(context.instance, started, silent_s)
                for one in found:
                    run = context.instance.get_run_by_id(one.run_id)
                    if run is None or not run.is_finished:
                        continue  # running, or of another Dagster instance, which has a sensor of its own
                    if one.is_closed:
                        gateway.release(one.run_id)  # its call for leases arrived after its end
                    else:
                        _close(gateway, run, supabase.environment)
                    closed.append(f"{one.run_id[:8]} ({run.status.value})")
        except GatewayError as exc:
            context.log.debug(traceback.format_exc())
            return dg.SkipReason(f"The open runs could not be read. {exc}")
        return dg.SkipReason(f"Closed: {', '.join(closed)}." if closed else "No ended run is open or holds a lease.")

    return release_leases


def _fail_the_dead(instance: dg.DagsterInstance, started: dg.RunsFilter, silent_s: dict[str, float]) -> None:
    """Fail runs whose process died together with its code server, which Dagster does not notice."""
    for record in instance.get_run_records(started):
        run, age_s = record.dagster_run, time.time() - (record.start_time or time.time())
        if min(age_s, silent_s.get(run.run_id, age_s)) > SILENT_S:
            instance.report_run_failed(
                run, f"No activity in the database for {SILENT_S:.0f} s: the process of the run is taken for dead."
            )


def _close(gateway: AggGateway, run: dg.DagsterRun, environment: str) -> None:
    stats: dict[str, object] = {}
    if run.status == dg.DagsterRunStatus.SUCCESS:
        report = RunReport(status="pass")
    else:
        stats["error"] = reason = f"the run ended as {run.status.value} without closing its row"
        is_canceled = run.status == dg.DagsterRunStatus.CANCELED
        report = RunReport.canceled(reason) if is_canceled else RunReport.broken(run.run_id, reason)
    gateway.close_run(run.run_id, success=report.status == "pass", stats=stats)
    gateway.report_run(run.run_id, report, environment=environment)
