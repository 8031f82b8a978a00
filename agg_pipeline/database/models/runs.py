"""Rows of ops_runlog."""

from typing import Any, Literal, Self

from pydantic import AwareDatetime, Field

from agg_pipeline.database.models.base import Wire


class OpenRun(Wire):
    """Element of ``ops_runlog_open``: a run that has not said how it ended, or holds a lease."""

    run_id: str
    is_closed: bool
    silent_seconds: float = Field(description="Since its last sign of life in the database.")


class ExpiredRuns(Wire):
    """JSON of ``ops_runlog_expire``: rows of old runs."""

    deleted: int
    abandoned: int = Field(description="Rows that were open for a day, closed as failed.")


class RunEvent(Wire):
    """A point that a run reached: ``cron_start``, ``selected_due_tasks``, or the outcome of the task of that name."""

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
    """How a run went, in the shape of the predecessor's health tables, so that its dashboards live on."""

    status: Literal["pass", "warning", "critical", "error"]
    errors: list[dict[str, Any]] = Field(default_factory=list)
    metrics: dict[str, int] = Field(default_factory=dict)
    issues: list[dict[str, Any]] = Field(default_factory=list)

    @classmethod
    def nothing_selected(cls, reason: str) -> Self:
        return cls(status="critical", errors=[{"error": reason}], metrics={"errors": 1})

    @classmethod
    def broken(cls, run_id: str, reason: str) -> Self:
        """A run that ended before its end."""
        issue = {"severity": "critical", "code": "AGG_SCHEDULED_FAIL", "message": reason, "context": {"run_id": run_id}}
        return cls(status="error", errors=[{"error": reason}], metrics={"errors": 1}, issues=[issue])

    @classmethod
    def canceled(cls, reason: str) -> Self:
        """Somebody ended the run on purpose: worth a line, no alarm."""
        return cls(status="warning", errors=[{"error": reason}])
