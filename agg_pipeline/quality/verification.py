"""Compares stored bars with a recomputation in pandas, page by page."""

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pandas as pd

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.market.timeframes import Timeframe
from agg_pipeline.quality.recomputation import differences, reference_bars
from agg_pipeline.reading.pages import Bars, read_page


@dataclass(frozen=True)
class Verdict:
    """What became of one page.

    Attributes:
        differences: rows as ``reference.differences`` gives them, and ``waits``: the window is to be built again.
        source_bars: raw bars that were read.
        judged: derived bars that were judged, by timeframe.
    """

    differences: pd.DataFrame
    source_bars: int
    judged: Mapping[Timeframe, int]

    @property
    def bars(self) -> int:
        return sum(self.judged.values())


def verify_page(
    gateway: AggGateway,
    symbol: str,
    page: tuple[dt.datetime, dt.datetime],
    *,
    begin: dt.datetime,
    end: dt.datetime,
    timeframes: Collection[str],
) -> Verdict:
    """Judge the built windows of one page that start in [begin, end).

    Args:
        page: one of ``pages(begin, end)``.
        timeframes: those to judge; empty: all.
    """
    bars = read_page(gateway, symbol, page)
    return recompute(bars, begin=begin, end=end, timeframes=timeframes) if bars else Verdict(pd.DataFrame(), 0, {})


def recompute(bars: Bars, *, begin: dt.datetime, end: dt.datetime, timeframes: Collection[str]) -> Verdict:
    """As ``verify_page``, of a page that was read already."""
    if bars.base is None:
        return Verdict(pd.DataFrame(), len(bars.raw), {})
    starts = {timeframe: task.first_window_utc for timeframe, task in bars.tasks.items()}
    expected, actual, judged = [], [], {}
    for timeframe, fresh in reference_bars(bars.raw, bars.base, starts, bars.hours).items():
        if timeframes and timeframe not in timeframes:
            continue
        task, stored = bars.tasks[timeframe], bars.stored(timeframe)
        # Beyond the cursor nothing is built yet; what stands there nevertheless is surplus.
        expected.append(fresh[(fresh["ts_utc"] >= begin) & (fresh["ts_utc"] < min(end, task.cursor_utc))])
        actual.append(stored[(stored["ts_utc"] >= max(begin, task.first_window_utc)) & (stored["ts_utc"] < end)])
        judged[timeframe] = len(actual[-1])
    if not judged:
        return Verdict(pd.DataFrame(), len(bars.raw), {})
    wrong = differences(pd.concat(expected), pd.concat(actual))
    levels = [(timeframe, wrong[(wrong["timeframe"] == timeframe.value).to_numpy()]) for timeframe in judged]
    waits = [rows.assign(waits=bars.waits(rows["ts_utc"], timeframe)) for timeframe, rows in levels]
    return Verdict(pd.concat(waits), len(bars.raw), judged)
