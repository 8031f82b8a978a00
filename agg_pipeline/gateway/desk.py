"""What an operator does and looks at: assets, raw bars, tasks, rebuilds, pauses."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

from agg_pipeline.diagnosis import Explanation
from agg_pipeline.gateway.calls import Calls
from agg_pipeline.models import (
    BadCursor,
    BarsPage,
    BarSummary,
    Calendar,
    CalendarChange,
    Calendars,
    Damage,
    DayOfBars,
    GapReport,
    LoadResult,
    Misplaced,
    RebuildResult,
    SyncResult,
    Task,
    TaskHealth,
)


class DeskCalls(Calls):
    """The calls behind an operator's commands."""

    def register_asset(self, symbol: str, *, start: dt.datetime, base_timeframe: str) -> SyncResult:
        """Register an asset if it is new and create its tasks, which begin at ``start`` (agg_register_asset)."""
        return self._call(
            "agg_register_asset", SyncResult, p_symbol=symbol, p_agg_start_utc=start, p_base_timeframe=base_timeframe
        )

    def load_bars(self, bars: Sequence[dict[str, object]], *, timeframe: str, source: str) -> LoadResult:
        """Upsert raw bars (agg_load_bars); keys are the columns of data_bars."""
        return self._call("agg_load_bars", LoadResult, p_bars=list(bars), p_timeframe=timeframe, p_source=source)

    def health(self, symbols: Sequence[str] | None = None) -> list[TaskHealth]:
        """One row per task (agg_health)."""
        return self._call("agg_health", list[TaskHealth], p_symbols=symbols or None)

    def bar_summary(
        self,
        symbols: Sequence[str] | None = None,
        begin: dt.datetime | None = None,
        end: dt.datetime | None = None,
    ) -> list[BarSummary]:
        """Live derived bars per task, all or those in [begin, end) (agg_bar_summary)."""
        return self._call(
            "agg_bar_summary",
            list[BarSummary],
            p_symbols=symbols or None,
            p_from_utc=begin or "-infinity",
            p_to_utc=end or "infinity",
        )

    def bars_by_day(self, symbols: Sequence[str], begin: dt.datetime, end: dt.datetime) -> list[DayOfBars]:
        """Live derived bars of symbols in [begin, end), per timeframe and day, by quality (agg_bars_by_day)."""
        return self._call("agg_bars_by_day", list[DayOfBars], p_symbols=list(symbols), p_from_utc=begin, p_to_utc=end)

    def bars_page(self, symbol: str, begin: dt.datetime, end: dt.datetime) -> BarsPage:
        """Raw and live derived bars of a symbol in [begin, end), as they stood at one moment (agg_bars_page)."""
        return self._call("agg_bars_page", BarsPage, p_symbol=symbol, p_from_utc=begin, p_to_utc=end)

    def rebuild(
        self, task: Task, begin: dt.datetime, end: dt.datetime, *, dry_run: bool, version: int | None = None
    ) -> RebuildResult:
        """Compute built windows again up through the levels, or plan to; at most 5000 a call (agg_rebuild_range)."""
        return self._call(
            "agg_rebuild_range",
            RebuildResult,
            p_symbol=task.symbol,
            p_tf=task.timeframe,
            p_from_utc=begin,
            p_to_utc=end,
            p_dry_run=dry_run,
            p_derivation_version=version,
        )

    def gaps(self, task: Task, begin: dt.datetime, end: dt.datetime) -> GapReport:
        """Runs of absent source bars of a task and what they mean; rejected and late rows counted (agg_gap_report)."""
        return self._call(
            "agg_gap_report", GapReport, p_symbol=task.symbol, p_tf=task.timeframe, p_from_utc=begin, p_to_utc=end
        )

    def explain(self, task: Task, time: dt.datetime) -> Explanation:
        """All that is known of the window that holds a time (agg_explain)."""
        return self._call("agg_explain", Explanation, p_symbol=task.symbol, p_tf=task.timeframe, p_time_utc=time)

    def misplaced_rows(self, symbol: str, begin: dt.datetime, end: dt.datetime) -> list[Misplaced]:
        """Rows of a symbol in [begin, end) in a table where nothing reads them, or twice (agg_misplaced_rows)."""
        return self._call("agg_misplaced_rows", list[Misplaced], p_symbol=symbol, p_from_utc=begin, p_to_utc=end)

    def calendars(self) -> Calendars:
        """Trading calendars that assets follow, and how far their sessions are known (agg_calendars)."""
        return self._call("agg_calendars", Calendars)

    def refresh_calendar(self, calendar: Calendar, *, dry_run: bool) -> CalendarChange:
        """Replace a calendar's sessions in the range that it covers, or plan to (agg_refresh_calendar)."""
        return self._call(
            "agg_refresh_calendar", CalendarChange, p_calendar=calendar.model_dump(mode="json"), p_dry_run=dry_run
        )

    def set_calendar(self, symbol: str, calendar: str, *, begin: dt.datetime | None = None) -> None:
        """From ``begin`` on (a midnight UTC; None: always) the symbol follows this calendar (agg_set_calendar)."""
        self._call("agg_set_calendar", object, p_symbol=symbol, p_calendar=calendar, p_from_utc=begin)

    def find_damage(self, task: Task, begin: dt.datetime, end: dt.datetime) -> Damage:
        """Built windows whose bar is not what its source gives, by kind; at most 5000 a call (agg_find_damage)."""
        return self._call(
            "agg_find_damage",
            Damage,
            p_symbol=task.symbol,
            p_tf=task.timeframe,
            p_from_utc=begin,
            p_to_utc=end,
        )

    def mend_cursors(
        self, symbols: Sequence[str] | None = None, *, dry_run: bool, now: dt.datetime | None = None
    ) -> list[BadCursor]:
        """Cursors at impossible places and tasks left running; mends them, unless a plan (agg_mend_cursors)."""
        return self._call(
            "agg_mend_cursors", list[BadCursor], p_symbols=symbols or None, p_dry_run=dry_run, p_now_utc=now
        )

    def pause(
        self, symbol: str, timeframe: str | None, *, reason: str, actor: str, until: dt.datetime | None = None
    ) -> int:
        """Pause a task, or all of a symbol, until resumed or ``until``; how many (agg_pause_task)."""
        paused = self._call(
            "agg_pause_task",
            dict[str, Any],
            p_symbol=symbol,
            p_tf=timeframe,
            p_reason=reason,
            p_actor=actor,
            p_until_utc=until,
        )
        return int(paused["tasks"])

    def resume(self, symbol: str, timeframe: str | None, *, actor: str) -> int:
        """End a pause and put failed tasks back to work; how many tasks (agg_resume_task)."""
        resumed = self._call("agg_resume_task", dict[str, Any], p_symbol=symbol, p_tf=timeframe, p_actor=actor)
        return int(resumed["tasks"])

    def partitions_ahead(self) -> list[str]:
        """Make the monthly partitions to come that partitioned bars tables lack; their names (agg_partitions_ahead)."""
        made: list[str] = self._call("agg_partitions_ahead", dict[str, Any])["made"]
        return made
