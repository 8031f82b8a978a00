"""What became of tasks and runs: what one op hands to the next, and what is told of it in the end."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, Self

from pydantic import AwareDatetime, Field

from agg_pipeline.models import CatchupResult, Task, Wire
from agg_pipeline.timeframes import Timeframe

OutcomeKind = Literal["success", "transient", "hard", "lost", "busy"]


class TaskOutcome(Task):
    """What became of one task in a run.

    ``lost``: the lease ended before the work did, and another run has the task. ``busy``: it was never free.
    """

    kind: OutcomeKind
    lease_token: int | None = None
    error: str | None = None
    result: CatchupResult | None = None

    @property
    def failed(self) -> bool:
        return self.kind in ("transient", "hard")

    @property
    def figures(self) -> dict[str, object]:
        """What the run's diary says of the task."""
        r = self.result
        if r is None:
            return {}
        return {
            "windows": r.windows_processed,
            "bars": r.bars_created,
            "revised": r.bars_revised,
            "retired": r.bars_retired,
            "rejected": r.source_rejected,
            "has_more": r.has_more,
        }

    def revised(self, kind: OutcomeKind, error: str) -> Self:
        return self.model_copy(update={"kind": kind, "error": error})


class TimeframeTotals(Wire):
    """Figures of one timeframe in one run, for the asset's materialization."""

    timeframe: str
    tasks: int
    failed: int
    windows_processed: int
    bars_created: int
    bars_revised: int
    bars_retired: int
    bars_quality_poor: int
    source_rejected: int
    newest_window_utc: AwareDatetime | None = Field(description="Start of the newest window that was passed.")

    @classmethod
    def of(cls, timeframe: str, outcomes: Iterable[TaskOutcome]) -> Self:
        chosen = [o for o in outcomes if o.timeframe == timeframe]
        results = [o.result for o in chosen if o.result is not None]
        frontier = max((r.frontier for r in results if r.frontier is not None), default=None)
        return cls(
            timeframe=timeframe,
            tasks=len(chosen),
            failed=sum(o.failed for o in chosen),
            windows_processed=sum(r.windows_processed for r in results),
            bars_created=sum(r.bars_created for r in results),
            bars_revised=sum(r.bars_revised for r in results),
            bars_retired=sum(r.bars_retired for r in results),
            bars_quality_poor=sum(r.bars_quality_poor for r in results),
            source_rejected=sum(r.source_rejected for r in results),
            newest_window_utc=frontier and frontier - Timeframe(timeframe).length,
        )


class RunReport(Wire):
    """How a run went, in the shape of the predecessor's health tables, so that its dashboards live on."""

    status: Literal["pass", "warning", "critical", "error"]
    errors: list[dict[str, Any]] = Field(default_factory=list)
    metrics: dict[str, int] = Field(default_factory=dict)
    issues: list[dict[str, Any]] = Field(default_factory=list)

    @classmethod
    def of(cls, run_id: str, outcomes: Sequence[TaskOutcome], totals: Iterable[TimeframeTotals]) -> Self:
        """A run that came to its end: a warning if tasks failed, with an issue for each of them."""
        failed = [o for o in outcomes if o.failed]
        totals = list(totals)
        return cls(
            status="warning" if failed else "pass",
            errors=[{"symbol": o.symbol, "timeframe": o.timeframe, "kind": o.kind, "error": o.error} for o in failed],
            metrics={
                "bars_created": sum(t.bars_created for t in totals),
                "bars_quality_poor": sum(t.bars_quality_poor for t in totals),
                "tasks": len(outcomes),
                "errors": len(failed),
            },
            issues=[
                {
                    "severity": "warning" if o.kind == "transient" else "critical",
                    "code": "AGG_TRANSIENT" if o.kind == "transient" else "AGG_HARD_FAIL",
                    "message": f"{o}: {o.error}",
                    "context": {"symbol": o.symbol, "timeframe": o.timeframe, "run_id": run_id},
                }
                for o in failed
            ],
        )

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
