"""Runs that ended without closing their row in ops_runlog: their rows are closed, and their leases freed."""

import dagster as dg

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.runs import RunReport


def close_ended(instance: dg.DagsterInstance, gateway: AggGateway, environment: str) -> list[str]:
    """Close the rows of ended runs and free what they have leased; the runs, as text. Raises GatewayError."""
    closed = []
    for one in gateway.open_runs(environment):
        run = instance.get_run_by_id(one.run_id)
        if run is None or not run.is_finished:
            continue  # running, or of another Dagster instance, which has a sensor of its own
        if one.is_closed:
            gateway.release(one.run_id)  # its call for leases arrived after its end
        else:
            _close(gateway, run, environment)
        closed.append(f"{one.run_id[:8]} ({run.status.value})")
    return closed


def was_killed(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the process of the run ended without a word: the run failed, but none of its steps did."""
    return run.status == dg.DagsterRunStatus.FAILURE and not instance.all_logs(
        run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE
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
