"""Explanation of one window of a task: its source bars, its revisions, its deadlines."""

from pydantic import AwareDatetime, Field

from agg_pipeline.database.models.base import Task, Wire


class SourceRow(Wire):
    """A source bar of a window, valid or not."""

    ts_utc: AwareDatetime
    written_at: AwareDatetime
    reject_reason: str | None
    off_session: bool
    open: float | str | None  # JSON has no Infinity
    high: float | str | None
    low: float | str | None
    close: float | str | None
    vol: float | str | None
    trade_count: int | None


class Revision(Wire):
    """A revision of a bar, valid from ``built_at`` to ``ended_at``; None: the live one."""

    revision: int
    built_at: AwareDatetime
    ended_at: AwareDatetime | None
    open: float
    high: float
    low: float
    close: float
    vol: float | None
    quality_score: int | None
    source_candles: int | None
    expected_candles: int | None
    cause: str


class Invalidation(Wire):
    """Invalidation of a window: its time, and the reason that an operator gave, if one did."""

    since_utc: AwareDatetime
    reason: str | None


class Explanation(Task):
    """JSON of ``agg_explain``: one window of a task, [from_utc, to_utc)."""

    from_utc: AwareDatetime
    to_utc: AwareDatetime
    source_timeframe: str
    source_table: str
    expected: int
    first_window_utc: AwareDatetime
    cursor_utc: AwareDatetime
    passed_by_utc: AwareDatetime = Field(description="From then on it is built once newer source bars exist.")
    deadline_utc: AwareDatetime = Field(description="From then on it is built with the source bars that exist.")
    source: list[SourceRow]
    absent: list[AwareDatetime] = Field(description="Times of expected source bars without a row.")
    invalidation: Invalidation | None = Field(alias="touched")
    revisions: list[Revision]
