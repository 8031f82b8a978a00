"""The outcome of one task in a run."""

from typing import Literal, Self

from agg_pipeline.database.models.base import Task
from agg_pipeline.database.models.tasks import CatchupResult, Finish

OutcomeKind = Literal["success", "transient", "hard", "lost", "busy"]


class TaskOutcome(Task):
    """The outcome of one task in a run.

    ``lost``: the lease expired during the work and another run took the task. ``busy``: another run held the lease, or
    the task is paused or disabled. ``transient`` and ``hard``: failures that may or may not heal by themselves.
    """

    kind: OutcomeKind
    lease_token: int | None = None
    error: str | None = None
    result: CatchupResult | None = None

    @property
    def failed(self) -> bool:
        return self.kind in ("transient", "hard")

    @property
    def counts(self) -> dict[str, object]:
        """Counts for the run log; empty if the task was not processed."""
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
        """The outcome as agg_finish_batch takes it, which returns the lease."""
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

    def as_failed(self, kind: OutcomeKind, error: str) -> Self:
        """A copy with another outcome and its error."""
        return self.model_copy(update={"kind": kind, "error": error})
