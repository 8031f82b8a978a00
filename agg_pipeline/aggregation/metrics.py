"""Totals of a run by timeframe, and its report for the health tables."""

from collections.abc import Iterable, Sequence
from typing import Self

from pydantic import AwareDatetime, Field

from agg_pipeline.aggregation.outcomes import TaskOutcome
from agg_pipeline.database.models.base import Wire
from agg_pipeline.database.models.runs import RunReport
from agg_pipeline.market.timeframes import Timeframe


class TimeframeTotals(Wire):
    """Counts of one timeframe in one run, which Dagster plots on the page of its asset."""

    timeframe: str
    tasks: int
    failed: int
    windows_processed: int
    bars_created: int
    bars_revised: int
    bars_retired: int
    bars_quality_poor: int
    source_rejected: int
    newest_window_utc: AwareDatetime | None = Field(description="Start of the last window before the cursor.")

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


def run_report(run_id: str, outcomes: Sequence[TaskOutcome], totals: Iterable[TimeframeTotals]) -> RunReport:
    """Report of a complete run: a warning if tasks failed, with an issue for each of them."""
    failed = [o for o in outcomes if o.failed]
    totals = list(totals)
    return RunReport(
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
