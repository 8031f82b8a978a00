"""The sensor release_leases: fails runs whose process is gone, closes rows of ended runs and frees their leases."""

import json
import time
import traceback
from collections.abc import Iterator, Mapping

import dagster as dg

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.errors import GatewayError
from agg_pipeline.orchestration.ended_runs import close_ended
from agg_pipeline.orchestration.resources import SupabaseResource
from agg_pipeline.orchestration.run_tags import environment_tags
from agg_pipeline.settings import Settings

DEAD_AFTER_S = 12.0
"""A run that gave signs of life has lost its process if none came for so long, and none until LOOK_AGAIN_S later: when
the database answers again after an outage, sensor and run meet it at the same time."""

LOOK_AGAIN_S = 4.0

SILENT_S = 300.0
"""A run without any sign of life, of an older version or between two processes of its steps, is dead after so long."""


def build_release_sensor(settings: Settings) -> dg.SensorDefinition:
    """Sensor release_leases: frees within seconds the leases of a run that failed, was canceled or died."""

    @dg.sensor(
        name="release_leases",
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Closes the rows of failed and canceled runs in ops_runlog and frees their leases. A run whose "
        f"process has given no sign of life for {DEAD_AFTER_S:.0f} s is marked as failed.",
    )
    def release_leases(context: dg.SensorEvaluationContext, supabase: SupabaseResource) -> dg.SkipReason:
        silent_since: dict[str, float] = json.loads(context.cursor) if context.cursor else {}
        try:
            with supabase.connect() as gateway:
                silent = dict(_silent(context.instance, gateway, settings, silent_since))
                for run_id in [run_id for run_id, (_, is_dead) in silent.items() if is_dead]:
                    run = context.instance.get_run_by_id(run_id)
                    if run is not None and run.status == dg.DagsterRunStatus.STARTED:  # as before the last look
                        context.instance.report_run_failed(run, _REASON)
                closed = close_ended(context.instance, gateway, supabase.environment)
        except GatewayError as exc:
            context.log.debug(traceback.format_exc())
            return dg.SkipReason(f"The open runs could not be read. {exc}")
        context.update_cursor(json.dumps({run_id: since for run_id, (since, is_dead) in silent.items() if not is_dead}))
        return dg.SkipReason(f"Closed: {', '.join(closed)}." if closed else "No ended run is open or holds a lease.")

    return release_leases


_REASON = (
    "The process of the run gives no sign of life in the database: it was killed, or its machine is gone. Only "
    "whole windows are stored; the next tick goes on at the cursors."
)


def _silent(
    instance: dg.DagsterInstance, gateway: AggGateway, settings: Settings, silent_since: Mapping[str, float]
) -> Iterator[tuple[str, tuple[float, bool]]]:
    """Started runs of the environment without a sign of life: since which look at them, and whether they are dead."""
    started = dg.RunsFilter(tags=environment_tags(settings), statuses=[dg.DagsterRunStatus.STARTED])
    runs = instance.get_runs(started)
    if not runs:
        return
    beats, now = gateway.heartbeats(settings.env_name.value), time.time()
    logged = {one.run_id: one.silent_seconds for one in gateway.open_runs(settings.env_name.value)}
    for run in runs:
        beat_s = beats.get(run.run_id)
        if beat_s is not None and beat_s <= DEAD_AFTER_S:
            continue
        looked_s = now - (since := silent_since.get(run.run_id, now))
        is_dead = logged.get(run.run_id, looked_s) >= SILENT_S if beat_s is None else looked_s >= LOOK_AGAIN_S
        yield run.run_id, (since, is_dead)
