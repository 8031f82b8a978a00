"""Tasks on their way through a run: due, leased, caught up, finished."""

from pydantic import AwareDatetime, Field

from agg_pipeline.database.models.base import Task, Wire


class DueTask(Task):
    """Row of ``agg_get_due_tasks``. The cursor here is a hint; the one that counts is read under the lease."""

    source_timeframe: str | None = None
    cursor: AwareDatetime | None = Field(None, alias="last_agg_bar_ts_utc")
    task_priority: int | None = None


class Refusal(Wire):
    """Why the database refused one task of a batch."""

    sqlstate: str
    message: str
    hint: str | None = None
    repeated: bool = Field(False, description="The same call was made before, and did its work: its answer was lost.")


class StartResult(Task):
    """Element of ``agg_start_batch``. ``error`` is text if the task was not free, a Refusal if it was not valid."""

    success: bool = False
    lease_token: int | None = None
    lease_expires_at: AwareDatetime | None = None
    cursor: AwareDatetime | None = Field(None, alias="last_agg_bar_ts_utc")
    error: Refusal | str | None = None


class Lease(Task):
    """The right to work on a task until it expires; the token proves it with every write."""

    lease_token: int


class CatchupResult(Task):
    """Element of ``catchup_aggregation_batch``."""

    windows_processed: int = Field(0, ge=0, description="Windows with source rows that were computed.")
    bars_created: int = Field(0, ge=0, description="Bars written: new ones and revisions.")
    bars_quality_poor: int = Field(0, ge=0, description="Of the bars written, those with quality 0 or less.")
    bars_skipped: int = Field(0, ge=0, description="Windows with too few valid source bars for a bar.")
    bars_revised: int = Field(0, ge=0)
    bars_retired: int = Field(0, ge=0)
    source_rejected: int = Field(0, ge=0, description="Source rows that were not valid.")
    frontier: AwareDatetime | None = Field(None, alias="cursor_advanced_to", description="Start of the next window.")
    has_more: bool = Field(False, alias="continue", description="Stopped by max_windows, not by missing source.")
    error: Refusal | None = None


class Finish(Task):
    """Element of ``p_results`` of ``agg_finish_batch``: how the work under a lease ended."""

    lease_token: int | None
    success: bool
    fail_kind: str | None = None
    error: str | None = None
    stats: dict[str, int] | None = None


class FinishResult(Task):
    """Element of ``agg_finish_batch``."""

    success: bool = False
    status: str | None = None
    error: Refusal | None = None
