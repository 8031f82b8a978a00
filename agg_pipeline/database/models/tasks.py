"""Tasks in a run: due, leased, caught up, finished."""

from pydantic import AwareDatetime, Field

from agg_pipeline.database.models.base import Task, Wire


class Refusal(Wire):
    """Why the database refused one task of a batch."""

    sqlstate: str
    message: str
    hint: str | None = None
    repeated: bool = Field(False, description="True: an earlier identical call succeeded, and its response was lost.")

    def __str__(self) -> str:
        return f"{self.sqlstate} {self.message}. {self.hint or ''}".strip()


class DueTask(Task):
    """Element of ``agg_due_tasks``. The cursor may be stale; work starts from the one read under the lease."""

    source_timeframe: str | None = None
    cursor: AwareDatetime | None = Field(None, alias="last_agg_bar_ts_utc")
    task_priority: int | None = None
    error: Refusal | None = Field(None, description="Why the database left it out. It cannot be worked on.")


class DueTasks(Wire):
    """JSON of ``agg_due_tasks``."""

    tasks: list[DueTask]
    failed: list[DueTask]


class StartResult(Task):
    """Element of ``agg_start_batch``. ``error``: text if the task is leased or paused, a Refusal if it is not valid."""

    success: bool = False
    lease_token: int | None = None
    lease_expires_at: AwareDatetime | None = None
    cursor: AwareDatetime | None = Field(None, alias="last_agg_bar_ts_utc")
    error: Refusal | str | None = None


class Lease(Task):
    """Right to work on a task until it expires; the fencing token proves it with every write."""

    lease_token: int


class CatchupResult(Task):
    """Element of ``catchup_aggregation_batch``: what a catch-up built for one task."""

    windows_processed: int = Field(0, ge=0, description="Windows with source rows that were built.")
    bars_created: int = Field(0, ge=0, description="Bars written: new ones and revisions.")
    bars_quality_poor: int = Field(0, ge=0, description="Bars written with quality 0 or less.")
    bars_skipped: int = Field(0, ge=0, description="Windows with too few valid source bars for a bar.")
    bars_revised: int = Field(0, ge=0)
    bars_retired: int = Field(0, ge=0)
    source_rejected: int = Field(0, ge=0, description="Source rows that were not valid.")
    frontier: AwareDatetime | None = Field(None, alias="cursor_advanced_to", description="Start of the next window.")
    has_more: bool = Field(False, alias="continue", description="True: stopped by max_windows, not by missing source.")
    error: Refusal | None = None


class Finish(Task):
    """Element of ``p_results`` of ``agg_finish_batch``: result of the work under a lease."""

    lease_token: int | None
    success: bool
    fail_kind: str | None = None
    error: str | None = None
    stats: dict[str, int] | None = None


class FinishResult(Task):
    """Element of ``agg_finish_batch``: state of the task after the lease ended."""

    success: bool = False
    status: str | None = None
    error: Refusal | None = None
