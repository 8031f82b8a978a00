"""Calls that read bars: counts, pages, explanations, gaps, misplaced rows."""

import datetime as dt
from collections.abc import Sequence

from agg_pipeline.database.gateway.calls import Calls
from agg_pipeline.database.models.bars import BarsPage, BarSummary, DayOfBars
from agg_pipeline.database.models.base import Task
from agg_pipeline.database.models.explanation import Explanation
from agg_pipeline.database.models.gaps import GapReport, Misplaced


class BarCalls(Calls):
    """Read and count stored bars, find gaps, explain a window."""

    def bar_summary(
        self,
        symbols: Sequence[str] | None = None,
        begin: dt.datetime | None = None,
        end: dt.datetime | None = None,
    ) -> list[BarSummary]:
        """Count live derived bars per task, all or those in [begin, end) (agg_bar_summary)."""
        return self._call(
            "agg_bar_summary",
            list[BarSummary],
            p_symbols=symbols or None,
            p_from_utc=begin or "-infinity",
            p_to_utc=end or "infinity",
        )

    def bars_by_day(self, symbols: Sequence[str], begin: dt.datetime, end: dt.datetime) -> list[DayOfBars]:
        """Count live derived bars in [begin, end) per timeframe, day and quality (agg_bars_by_day)."""
        return self._call("agg_bars_by_day", list[DayOfBars], p_symbols=list(symbols), p_from_utc=begin, p_to_utc=end)

    def bars_page(self, symbol: str, begin: dt.datetime, end: dt.datetime) -> BarsPage:
        """Read raw and live derived bars of a symbol in [begin, end) from one snapshot (agg_bars_page)."""
        return self._call("agg_bars_page", BarsPage, p_symbol=symbol, p_from_utc=begin, p_to_utc=end)

    def gaps(self, task: Task, begin: dt.datetime, end: dt.datetime) -> GapReport:
        """Find gaps in the source of a task; count its found, rejected and late rows (agg_gap_report)."""
        return self._call(
            "agg_gap_report", GapReport, p_symbol=task.symbol, p_tf=task.timeframe, p_from_utc=begin, p_to_utc=end
        )

    def explain(self, task: Task, time: dt.datetime) -> Explanation:
        """Explain the window that contains a time (agg_explain)."""
        return self._call("agg_explain", Explanation, p_symbol=task.symbol, p_tf=task.timeframe, p_time_utc=time)

    def misplaced_rows(self, symbol: str, begin: dt.datetime, end: dt.datetime) -> list[Misplaced]:
        """Find rows of a symbol in [begin, end) that no task reads, or duplicates (agg_misplaced_rows)."""
        return self._call("agg_misplaced_rows", list[Misplaced], p_symbol=symbol, p_from_utc=begin, p_to_utc=end)
