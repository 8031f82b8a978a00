"""Hold stored bars against a recomputation in pandas, page by page, so that any length of history fits in memory.

Belongs here: which windows of a page can be judged, and how. What a bar is: reference. Reading pages: gateway.
"""

import datetime as dt
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from agg_pipeline.gateway import AggGateway
from agg_pipeline.models import TouchedRange
from agg_pipeline.reference import BAR_COLUMNS, RAW_COLUMNS, differences, reference_bars
from agg_pipeline.timeframes import LADDER, Timeframe, next_window, window_start

PAGE = dt.timedelta(days=30)  # 43,200 one-minute bars: 4 MB of JSON, half a second
_LONGEST = max(LADDER, key=lambda timeframe: timeframe.minutes)


@dataclass(frozen=True)
class Verdict:
    """What became of one page.

    Attributes:
        differences: rows as ``reference.differences`` gives them, and ``waits``: the window is to be built again.
        source_bars, bars: raw bars that were read, derived bars that were judged.
    """

    differences: pd.DataFrame
    source_bars: int
    bars: int


def pages(begin: dt.datetime, end: dt.datetime) -> list[tuple[dt.datetime, dt.datetime]]:
    """[begin, end) widened to whole windows of the longest timeframe and cut into pages: no window lies in two."""
    start, stop, cuts = window_start(begin, _LONGEST), begin, []
    while stop < end:
        stop = min(start + PAGE, next_window(end - dt.timedelta.resolution, _LONGEST))
        cuts.append((start, stop))
        start = stop
    return cuts


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
    found = gateway.bars_page(symbol, *page)
    if not found.raw["ts_us"] and not found.derived["ts_us"]:
        return Verdict(pd.DataFrame(), 0, 0)  # years of nothing cost a call a month, no more
    # pandas has one word for an unknown volume and for one that is no number; the second makes a row invalid.
    volumes = [math.inf if vol == "NaN" else vol for vol in found.raw["vol"]]
    raw, actual = _frame(found.raw | {"vol": volumes}, symbol, RAW_COLUMNS), _frame(found.derived, symbol, BAR_COLUMNS)
    # A base timeframe, or a task of a timeframe that only the database knows, cannot be recomputed here.
    tasks = {Timeframe(task.timeframe): task for task in found.tasks if task.timeframe in LADDER}
    judged, verdicts = 0, []
    if tasks:
        base = Timeframe(next(iter(tasks.values())).base_timeframe)
        levels = reference_bars(raw, base, {timeframe: task.first_window_utc for timeframe, task in tasks.items()})
        for timeframe, fresh in levels.items():
            if timeframes and timeframe not in timeframes:
                continue
            task, stored = tasks[timeframe], actual[actual["timeframe"] == timeframe.value]
            # Beyond the cursor nothing is built yet; what stands there nevertheless is surplus.
            fresh = fresh[(fresh["ts_utc"] >= begin) & (fresh["ts_utc"] < min(end, task.cursor_utc))]
            stored = stored[(stored["ts_utc"] >= max(begin, task.first_window_utc)) & (stored["ts_utc"] < end)]
            wrong = differences(fresh, stored)
            verdicts.append(wrong.assign(waits=_touched(wrong["ts_utc"], timeframe, found.touched)))
            judged += len(stored)
    return Verdict(pd.concat(verdicts) if verdicts else pd.DataFrame(), len(raw), judged)


def _touched(ts: "pd.Series[pd.Timestamp]", timeframe: Timeframe, touched: Sequence[TouchedRange]) -> "pd.Series[bool]":
    """Whether windows wait to be built again, for changes of their own source or of one further down."""
    waits = pd.Series(False, index=ts.index)
    below = {timeframe, *_sources(timeframe)}
    for change in touched:
        if change.timeframe in below:
            waits |= (ts < change.to_utc) & (ts + timeframe.length > change.from_utc)
    return waits


def _sources(timeframe: Timeframe) -> Iterator[Timeframe]:
    while (source := LADDER.get(timeframe)) is not None:
        yield source
        timeframe = source


def _frame(columns: dict[str, list[object]], symbol: str, names: list[str]) -> pd.DataFrame:
    times = pd.to_datetime(pd.Series(columns["ts_us"], dtype="int64"), unit="us", utc=True)
    rest = {name: columns[name] for name in names if name not in ("canonical_symbol", "ts_utc")}
    return pd.DataFrame({"canonical_symbol": symbol, "ts_utc": times, **rest})[names]
