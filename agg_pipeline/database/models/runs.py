"""Rows of ops_runlog, and the report of a run to the health tables."""

import datetime as dt
from typing import Any, Literal, Self

from pydantic import AwareDatetime, Field

from agg_pipeline.database.models.base import Wire


class OpenRun(Wire):
    """Element of ``ops_runlog_open``: a run whose row is open, or that holds a lease."""

    run_id: str
    is_closed: bool
    silent_seconds: float = Field(description="Seconds since its last write to the database.")


class TouchedDay(Wire):
    """A day (UTC) whose bars of a timeframe changed."""

    timeframe: str
    day: dt.date


class TouchedDays(Wire):
    """JSON of ``agg_unreported_days``: days that no run has reported yet."""

    through_id: int
    days: list[TouchedDay]

    @classmethod
    def none(cls) -> Self:
        return cls(through_id=0, days=[])


class ExpiredRuns(Wire):
    """JSON of ``ops_runlog_expire``: counts of expired rows."""

    deleted: int
    abandoned: int = Field(description="Rows that were open for a day and were closed as failed.")


class RunEvent(Wire):
    """Checkpoint of a run: ``cron_start``, ``selected_due_tasks``, or a task name with the outcome of that task."""

    ts: AwareDatetime
    checkpoint: str
    details: dict[str, Any]


class LoggedRun(Wire):
    """Row of ops_runlog (``ops_runlog_recent``)."""

    run_id: str
    job_name: str
    trigger: str
    started_at: AwareDatetime
    finished_at: AwareDatetime | None
    status: str
    stats: dict[str, Any]
    events: list[RunEvent]


class RunReport(Wire):
    """Result of a run, in the columns of the predecessor's health tables, so that its dashboards keep working."""

    status: Literal["pass", "warning", "critical", "error"]
    errors: list[dict[str, Any]] = Field(default_factory=list)
    metrics: dict[str, int] = Field(default_factory=dict)
    issues: list[dict[str, Any]] = Field(default_factory=list)

    @classmethod
    def nothing_selected(cls, reason: str) -> Self:
        """Report of a run that failed before it selected tasks."""
        return cls(status="critical", errors=[{"error": reason}], metrics={"errors": 1})

    @classmethod
    def broken(cls, run_id: str, reason: str) -> Self:
        """Report of a run that ended without closing."""
        issue = {"severity": "critical", "code": "AGG_SCHEDULED_FAIL", "message": reason, "context": {"run_id": run_id}}
        return cls(status="error", errors=[{"error": reason}], metrics={"errors": 1}, issues=[issue])

    @classmethod
    def canceled(cls, reason: str) -> Self:
        """Report of a run that a user canceled: a warning, since it was on purpose."""
        return cls(status="warning", errors=[{"error": reason}])
