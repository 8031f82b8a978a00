"""Calls for the log of runs (ops_runlog) and the predecessor's health tables."""

import datetime as dt
from collections.abc import Sequence

from agg_pipeline.database.gateway.calls import Calls
from agg_pipeline.database.models.runs import ExpiredRuns, LoggedRun, OpenRun, RunReport, TouchedDays


class RunCalls(Calls):
    """Open, checkpoint, close, list and expire runs in ops_runlog; report their results."""

    def open_run(self, run_id: str, *, job: str, trigger: str, environment: str) -> None:
        """Open the run's row in ops_runlog; a second call changes nothing (ops_runlog_start)."""
        self._call(
            "ops_runlog_start", object, p_run_id=run_id, p_job_name=job, p_trigger=trigger, p_env_name=environment
        )

    def checkpoint(self, run_id: str, name: str, details: dict[str, object]) -> None:
        """Record a checkpoint of the run (ops_runlog_checkpoint)."""
        self._call("ops_runlog_checkpoint", object, p_run_id=run_id, p_checkpoint=name, p_details=details)

    def checkpoints(self, run_id: str, points: Sequence[dict[str, object]]) -> None:
        """Record several checkpoints, each {checkpoint, details}, in one call (ops_runlog_checkpoints)."""
        self._call("ops_runlog_checkpoints", object, p_run_id=run_id, p_points=list(points))

    def close_run(self, run_id: str, *, success: bool, stats: dict[str, object]) -> None:
        """Close the run's row and free the leases that it still holds (ops_runlog_finish)."""
        self._call(
            "ops_runlog_finish", object, p_run_id=run_id, p_status="success" if success else "failed", p_stats=stats
        )

    def prune_runs(self, *, job: str, trigger: str, keep: int) -> None:
        """Delete all but the newest ``keep`` rows of a job and trigger (ops_runlog_prune)."""
        self._call("ops_runlog_prune", object, p_job_name=job, p_trigger=trigger, p_keep=keep)

    def report_run(self, run_id: str, report: RunReport, *, environment: str, slot: dt.datetime | None = None) -> None:
        """Write the result of the run to the health tables that dashboards read (ops_report_run)."""
        self._call(
            "ops_report_run",
            object,
            p_run_id=run_id,
            p_env_name=environment,
            p_status=report.status,
            p_scheduled_for_utc=slot,
            p_errors=report.errors,
            p_metrics=report.metrics,
            p_issues=report.issues,
        )

    def open_runs(self, environment: str) -> list[OpenRun]:
        """Runs of the environment whose row is open, or that hold a lease (ops_runlog_open)."""
        return self._call("ops_runlog_open", list[OpenRun], p_env_name=environment)

    def beat(self, run_id: str, *, environment: str, ended: bool = False) -> None:
        """Give a sign of life of the run, or say that no more will follow; one attempt (ops_heartbeat)."""
        self._call("ops_heartbeat", object, attempts=1, p_run_id=run_id, p_env_name=environment, p_ended=ended)

    def heartbeats(self, environment: str) -> dict[str, float]:
        """Seconds since the newest sign of life of each run of the environment that gave one (ops_heartbeats_of)."""
        return self._call("ops_heartbeats_of", dict[str, float], p_env_name=environment)

    def touched_days(self) -> TouchedDays:
        """Days whose bars changed and that no run has reported (agg_unreported_days)."""
        return self._call("agg_unreported_days", TouchedDays)

    def forget_touched_days(self, touched: TouchedDays) -> None:
        """Days that have been reported (agg_forget_touched_days)."""
        self._call("agg_forget_touched_days", object, p_through_id=touched.through_id)

    def recent_runs(self, environment: str | None, *, limit: int) -> list[LoggedRun]:
        """The newest ``limit`` runs of an environment (None: of all), oldest first (ops_runlog_recent)."""
        return self._call("ops_runlog_recent", list[LoggedRun], p_env_name=environment, p_limit=limit)

    def expire_runs(self, *, job: str, environment: str, keep_days: int, limit: int) -> ExpiredRuns:
        """Delete at most ``limit`` rows of runs that are older than ``keep_days`` (ops_runlog_expire)."""
        return self._call(
            "ops_runlog_expire",
            ExpiredRuns,
            p_job_name=job,
            p_env_name=environment,
            p_keep_days=keep_days,
            p_limit=limit,
        )
