"""Bars: counts by quality, and pages of them."""

import datetime as dt
from typing import Any

from pydantic import AwareDatetime, Field

from agg_pipeline.database.models.base import Task, Wire


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
    schedules: list[PageSchedule] = Field(default_factory=list)
    raw: dict[str, list[Any]]
    derived: dict[str, list[Any]]
