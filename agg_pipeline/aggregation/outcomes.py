"""What became of one task in a run."""

from typing import Literal, Self

from agg_pipeline.database.models.base import Task
from agg_pipeline.database.models.tasks import CatchupResult, Finish

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

    def to_finish(self) -> Finish:
        """What the database is told when the lease is given back."""
        r = self.result
        return Finish(
            symbol=self.symbol,
            timeframe=self.timeframe,
            lease_token=self.lease_token,
            success=self.kind == "success",
            fail_kind=self.kind,
            error=self.error,
            stats=r and {"bars_created": r.bars_created, "bars_quality_poor": r.bars_quality_poor},
        )

    def revised(self, kind: OutcomeKind, error: str) -> Self:
        return self.model_copy(update={"kind": kind, "error": error})
