"""Bars: counts by quality, and pages of raw and derived bars."""

import datetime as dt
from typing import Any

from pydantic import AwareDatetime, Field

from agg_pipeline.database.models.base import Task, Wire


class QualityCounts(Wire):
    """Counts of live derived bars by quality score (-1, 0, 1, 2)."""

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


class PageTask(Wire):
    """A task at the moment of ``agg_bars_page``: windows in [first_window_utc, cursor_utc) have been processed."""

    timeframe: str
    base_timeframe: str
    first_window_utc: AwareDatetime
    cursor_utc: AwareDatetime


class InvalidatedRange(Wire):
    """Windows in [from_utc, to_utc) whose source changed since they were built; a tick will rebuild them."""

    timeframe: str
    from_utc: AwareDatetime
    to_utc: AwareDatetime


class PageSchedule(Wire):
    """Sessions [open, close) in which bars are expected in [from_utc, to_utc); outside of them none are."""

    from_utc: AwareDatetime
    to_utc: AwareDatetime
    sessions: list[tuple[AwareDatetime, AwareDatetime]]


class BarsPage(Wire):
    """JSON of ``agg_bars_page``: bars of one symbol in a range, one list per column; ``ts_us``: us since 1970."""

    tasks: list[PageTask]
    invalidated: list[InvalidatedRange] = Field(alias="touched")
    schedules: list[PageSchedule] = Field(default_factory=list)
    raw: dict[str, list[Any]]
    derived: dict[str, list[Any]]
