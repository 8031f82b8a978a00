"""What crosses the border to the database: JSON of its functions, and the units of work that are cut from it.

Validated once, frozen after. Times are aware UTC, counts are windows or bars, never minutes.
"""

import datetime as dt
from typing import Any, Literal

from pydantic import AliasChoices, AwareDatetime, BaseModel, ConfigDict, Field


class Wire(BaseModel):
    """A newer database may add keys; none that we name may be missing or of another type."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Task(Wire):
    """One (symbol, timeframe), the unit of work."""

    symbol: str = Field(
        validation_alias=AliasChoices("canonical_symbol", "symbol"), serialization_alias="canonical_symbol"
    )
    timeframe: str

    def __str__(self) -> str:
        return f"{self.symbol}/{self.timeframe}"


class DueTask(Task):
    """Row of ``agg_get_due_tasks``. The cursor here is a hint; the one that counts is read under the lease."""

    source_timeframe: str | None = None
    cursor: AwareDatetime | None = Field(None, alias="last_agg_bar_ts_utc")
    task_priority: int | None = None


class WorkUnit(Wire):
    """Tasks that one step works on, with the limits of the run."""

    tasks: tuple[DueTask, ...]
    max_windows: int
    now_utc: AwareDatetime | None = Field(None, description="Replay: the time that the run takes for now.")


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


class FinishResult(Task):
    """Element of ``agg_finish_batch``."""

    success: bool = False
    status: str | None = None
    error: Refusal | None = None


State = Literal[
    "disabled", "paused", "failed", "stalled", "waiting for data", "catching up", "waiting for source", "current"
]


class TaskHealth(Task):
    """Row of ``agg_health``. ``lag`` is by the session clock, ``backlog`` by the source."""

    state: State
    reason: str | None = Field(description="Why it is in this state; None where there is nothing to say.")
    source_timeframe: str | None
    status: str
    enabled: bool
    cursor_utc: AwareDatetime | None
    next_window_utc: AwareDatetime = Field(description="The next one that has source bars; else that at the cursor.")
    first_window_utc: AwareDatetime
    newest_source_utc: AwareDatetime | None
    lag_windows: int | None
    lag_seconds: int | None = Field(description="Open market between the next window and the one in progress.")
    backlog_windows: int | None = Field(description="Windows that the source has left behind and that are not built.")
    touched_windows: int = Field(description="Built windows whose source changed, to be built again.")
    touched_from_utc: AwareDatetime | None = Field(default=None, description="The first of them.")
    source_silent_seconds: int | None = Field(description="Open market since the end of the newest source bar.")
    completeness_hour: float | None = Field(description="Bars built of those expected, 0 to 1; None: none expected.")
    completeness_day: float | None
    next_run_at: AwareDatetime | None
    last_attempted_at_utc: AwareDatetime | None
    last_successful_at_utc: AwareDatetime | None
    hard_fail_streak: int
    transient_streak: int
    last_error: str | None
    paused_at_utc: AwareDatetime | None
    paused_until_utc: AwareDatetime | None
    lease_owner: str | None
    lease_expires_at: AwareDatetime | None

    @property
    def alarm(self) -> Literal["warn", "error"] | None:
        """Whether somebody has to look at it. What waits for another task of its symbol is no news beside that one."""
        if self.state in ("failed", "stalled") or (self.state == "disabled" and self.status == "disabled"):
            return "error"
        return "warn" if self.state == "waiting for source" and not self.waits_for_task else None

    @property
    def waits_for_task(self) -> bool:
        """Whether it waits for another task of its symbol, which is the one to look at."""
        return (self.reason or "").startswith("its source ")

    @property
    def is_paused(self) -> bool:
        """Whether an operator's pause holds now; one without an end holds until it is resumed."""
        until = self.paused_until_utc
        return self.paused_at_utc is not None and (until is None or until > dt.datetime.now(dt.UTC))


class Misplaced(Wire):
    """Rows of a symbol that nothing reads, or that are there twice (``agg_misplaced_rows``)."""

    kind: Literal["wrong table", "duplicate"]
    table: str
    timeframe: str
    rows: int
    first_utc: AwareDatetime

    def __str__(self) -> str:
        what = "are there more than once" if self.kind == "duplicate" else "are read by no task of the symbol"
        return f"{self.rows:,} {self.timeframe} rows of {self.table} {what}"


class OpenRun(Wire):
    """Element of ``ops_runlog_open``: a run that has not said how it ended, or holds a lease."""

    run_id: str
    is_closed: bool
    silent_seconds: float = Field(description="Since its last sign of life in the database.")


class ExpiredRuns(Wire):
    """JSON of ``ops_runlog_expire``: rows of old runs."""

    deleted: int
    abandoned: int = Field(description="Rows that were open for a day, closed as failed.")


class QualityCounts(Wire):
    """Live derived bars by quality score."""

    bars: int
    quality_2: int
    quality_1: int
    quality_0: int
    quality_minus_1: int


class BarSummary(Task, QualityCounts):
    """Row of ``agg_bar_summary``: live derived bars of one task."""

    first_utc: AwareDatetime
    last_utc: AwareDatetime
    revised: int


class DayOfBars(QualityCounts):
    """Row of ``agg_bars_by_day``: live derived bars of one timeframe that start on one UTC day."""

    timeframe: str
    day: dt.date


class SyncResult(Wire):
    """JSON of ``sync_agg_state_from_registry`` and ``agg_register_asset``."""

    tasks_created: int
    tasks_updated: int
    agg_start_utc: AwareDatetime | None = None
    registered: bool = False


class LoadResult(Wire):
    """JSON of ``agg_load_bars``: raw bars of one batch."""

    inserted: int
    updated: int
    unchanged: int


class LevelRebuild(Wire):
    """One timeframe of a rebuild."""

    written: int = Field(description="Bars written: new ones and revisions.")
    unchanged: int
    revised: int
    retired: int


class BarChange(Wire):
    """A bar that a rebuild changes; ``fields`` are [before, after] of those of a revised bar that differ."""

    timeframe: str
    ts_utc: AwareDatetime
    change: Literal["created", "revised", "retired"]
    fields: dict[str, tuple[object, object]]


class RebuildResult(LevelRebuild):
    """JSON of ``agg_rebuild_range``: sums, each level, the first hundred changes, and where the next call begins."""

    levels: dict[str, LevelRebuild]
    changes: list[BarChange]
    has_more: bool = Field(alias="continue")
    next_from_utc: AwareDatetime


class Damage(Wire):
    """JSON of ``agg_find_damage``: bars that a fresh computation would not give, by kind, and where they lie."""

    judged: int = Field(description="Windows with source rows or a bar that were looked at.")
    kinds: dict[str, int]
    from_utc: AwareDatetime | None
    to_utc: AwareDatetime | None
    has_more: bool = Field(alias="continue")
    next_from_utc: AwareDatetime


class BadCursor(Task):
    """Element of ``agg_mend_cursors``: a cursor where no catch-up leaves one, or a task that nobody works on."""

    kind: Literal["future", "off_grid", "frozen", "stuck"]
    from_utc: AwareDatetime | None
    to_utc: AwareDatetime | None = Field(description="Where it belongs; None: the start. A frozen one stays.")
    windows: int | None = Field(description="Windows between the cursor and the newest base bar.")
    leased: bool


class PageTask(Wire):
    """A task as ``agg_bars_page`` saw it: what lies in [first_window_utc, cursor_utc) is built."""

    timeframe: str
    base_timeframe: str
    first_window_utc: AwareDatetime
    cursor_utc: AwareDatetime


class TouchedRange(Wire):
    """Windows that wait to be built again."""

    timeframe: str
    from_utc: AwareDatetime
    to_utc: AwareDatetime


class PageSchedule(Wire):
    """In [from_utc, to_utc) bars are expected in these sessions [open, close) only."""

    from_utc: AwareDatetime
    to_utc: AwareDatetime
    sessions: list[tuple[AwareDatetime, AwareDatetime]]


class BarsPage(Wire):
    """JSON of ``agg_bars_page``: one symbol's bars in a range of time, one list per column, ``ts_us`` since 1970."""

    tasks: list[PageTask]
    touched: list[TouchedRange]
    schedules: list[PageSchedule] = []
    raw: dict[str, list[Any]]
    derived: dict[str, list[Any]]


class Calendar(Wire):
    """Sessions [open, close) that touch [from_utc, to_utc), all, in order: what ``agg_refresh_calendar`` takes."""

    calendar: str
    from_utc: AwareDatetime
    to_utc: AwareDatetime
    version: str = Field(description="Where the sessions come from.")
    sessions: list[tuple[AwareDatetime, AwareDatetime]]


class SessionChange(Wire):
    """A session that was known otherwise before."""

    change: Literal["added", "removed"]
    open_utc: AwareDatetime
    close_utc: AwareDatetime


class CalendarChange(Wire):
    """JSON of ``agg_refresh_calendar``: what a refresh changes, or would change."""

    calendar: str
    sessions: int = Field(description="All of the range that was given.")
    added: int
    removed: int
    changes: list[SessionChange] = Field(description="Those of the time that had been filled before.")
    ranges_touched: int = Field(0, description="Ranges of windows that expect other bars now, to be rebuilt.")


class CalendarUse(Wire):
    """A calendar that assets follow; ``from_utc`` to ``to_utc`` is the time of which all sessions are known."""

    calendar: str
    symbols: int
    from_utc: AwareDatetime | None
    to_utc: AwareDatetime | None
    version: str | None
    refreshed_at: AwareDatetime | None


class CalendarProposal(Wire):
    """An asset that looks as if it should follow another calendar."""

    symbol: str = Field(alias="canonical_symbol")
    calendar: str


class Calendars(Wire):
    """JSON of ``agg_calendars``."""

    calendars: list[CalendarUse]
    proposals: list[CalendarProposal]


class Gap(Wire):
    """A run of absent source bars, [from_utc, to_utc); ``missing``: those among them that were expected."""

    from_utc: AwareDatetime
    to_utc: AwareDatetime
    kind: Literal["closed", "quiet", "missing"]
    missing: int
    age_seconds: int

    def __str__(self) -> str:
        return f"{self.from_utc:%Y-%m-%d %H:%M} to {self.to_utc:%Y-%m-%d %H:%M}"


class GapReport(Task):
    """JSON of ``agg_gap_report``: the gaps of a task's source in a range of time, and its rows counted."""

    found: int = Field(description="Valid source rows, expected or not.")
    rejected: int = Field(description="Source rows that were not valid; they count as absent.")
    late: int = Field(description="Raw rows that came, or were last written, after the deadline of their window.")
    gaps: list[Gap]
