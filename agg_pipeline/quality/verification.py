"""Comparison of stored bars with a recomputation in pandas, page by page."""

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pandas as pd

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.market.timeframes import Timeframe
from agg_pipeline.quality.recomputation import differences, reference_bars
from agg_pipeline.reading.pages import Bars, read_page


@dataclass(frozen=True)
class Verification:
    """Result of comparing one page.

    Attributes:
        differences: rows of ``recomputation.differences``, and ``invalidated``: a tick will rebuild the window anyway.
        source_bars: number of raw bars on the page.
        checked: number of derived bars that were compared, by timeframe.
    """

    differences: pd.DataFrame
    source_bars: int
    checked: Mapping[Timeframe, int]

    @property
    def bars(self) -> int:
        """Number of derived bars that were compared."""
        return sum(self.checked.values())


def verify_page(
    gateway: AggGateway,
    symbol: str,
    page: tuple[dt.datetime, dt.datetime],
    *,
    begin: dt.datetime,
    end: dt.datetime,
    timeframes: Collection[str],
) -> Verification:
    """Read one page and compare its built windows that start in [begin, end) with a recomputation.

    Args:
        page: one of ``pages(begin, end)``.
        timeframes: those to compare; empty: all.
    Raises:
        GatewayError: the page could not be read.
    """
    bars = read_page(gateway, symbol, page)
    return verify_bars(bars, begin=begin, end=end, timeframes=timeframes) if bars else _nothing_compared(0)


def verify_bars(bars: Bars, *, begin: dt.datetime, end: dt.datetime, timeframes: Collection[str]) -> Verification:
    """As ``verify_page``, for a page that has been read."""
    if bars.base is None:
        return _nothing_compared(len(bars.raw))
    starts = {timeframe: task.first_window_utc for timeframe, task in bars.tasks.items()}
    expected, actual, checked = [], [], {}
    for timeframe, fresh in reference_bars(bars.raw, bars.base, starts, bars.hours).items():
        if timeframes and timeframe not in timeframes:
            continue
        task, stored = bars.tasks[timeframe], bars.stored(timeframe)
        # From the cursor on nothing is expected, so that a bar stored there is surplus.
        expected.append(fresh[(fresh["ts_utc"] >= begin) & (fresh["ts_utc"] < min(end, task.cursor_utc))])
        actual.append(stored[(stored["ts_utc"] >= max(begin, task.first_window_utc)) & (stored["ts_utc"] < end)])
        checked[timeframe] = len(actual[-1])
    if not checked:
        return _nothing_compared(len(bars.raw))
    wrong = differences(pd.concat(expected), pd.concat(actual))
    levels = [(timeframe, wrong[(wrong["timeframe"] == timeframe.value).to_numpy()]) for timeframe in checked]
    marked = [rows.assign(invalidated=bars.is_invalidated(rows["ts_utc"], timeframe)) for timeframe, rows in levels]
    return Verification(pd.concat(marked), len(bars.raw), checked)


def _nothing_compared(source_bars: int) -> Verification:
    return Verification(pd.DataFrame(), source_bars, {})
