"""Hold stored bars against a recomputation in pandas, page by page, so that any length of history fits in memory.

Belongs here: which windows of a page can be judged, and how. What a bar is: reference. Reading pages: gateway.
"""

import datetime as dt
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from agg_pipeline.gateway import AggGateway
from agg_pipeline.models import PageTask, TouchedRange
from agg_pipeline.reference import BAR_COLUMNS, RAW_COLUMNS, differences, reference_bars
from agg_pipeline.timeframes import LADDER, Timeframe, next_window, window_start
from agg_pipeline.trading_hours import Schedule, TradingHours

PAGE = dt.timedelta(days=30)  # 43,200 one-minute bars: 4 MB of JSON, half a second
_LONGEST = max(LADDER, key=lambda timeframe: timeframe.minutes)


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


def pages(begin: dt.datetime, end: dt.datetime, longest: Timeframe = _LONGEST) -> list[tuple[dt.datetime, dt.datetime]]:
    """[begin, end) widened to whole windows of the longest timeframe and cut into pages: no window lies in two."""
    start, stop, cuts = window_start(begin, longest), begin, []
    while stop < end:
        stop = min(start + PAGE, next_window(end - dt.timedelta.resolution, longest))
        cuts.append((start, stop))
        start = stop
    return cuts


@dataclass(frozen=True)
class Bars:
    """One page of a symbol as data frames.

    Attributes:
        raw, derived: rows with RAW_COLUMNS and BAR_COLUMNS; a number that the database holds as NaN is infinite here.
        tasks: those whose timeframe can be recomputed; a base timeframe, or one that only the database knows, cannot.
        touched: windows that wait to be built again.
        hours: when its bars are expected.
    """

    raw: pd.DataFrame
    derived: pd.DataFrame
    tasks: dict[Timeframe, PageTask]
    touched: Sequence[TouchedRange]
    hours: TradingHours

    @property
    def base(self) -> Timeframe | None:
        return next((Timeframe(task.base_timeframe) for task in self.tasks.values()), None)

    def stored(self, timeframe: Timeframe) -> pd.DataFrame:
        """Bars of one timeframe, the raw ones if it is the base."""
        bars = self.raw if timeframe == self.base else self.derived
        return bars[(bars["timeframe"] == timeframe.value).to_numpy()]

    def waits(self, ts: "pd.Series[pd.Timestamp]", timeframe: Timeframe) -> "pd.Series[bool]":
        """Whether windows wait to be built again, for changes of their own source or of one further down."""
        waits = pd.Series(False, index=ts.index)
        below = {timeframe, *_sources(timeframe)}
        for change in self.touched:
            if change.timeframe in below:
                waits |= (ts < change.to_utc) & (ts + timeframe.length > change.from_utc)
        return waits


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


def read_page(gateway: AggGateway, symbol: str, page: tuple[dt.datetime, dt.datetime]) -> Bars | None:
    """All bars of a page; None if there are none: years of nothing cost a call a month, no more."""
    found = gateway.bars_page(symbol, *page)
    if not found.raw["ts_us"] and not found.derived["ts_us"]:
        return None
    return Bars(
        raw=_frame(found.raw, symbol, RAW_COLUMNS),
        derived=_frame(found.derived, symbol, BAR_COLUMNS),
        tasks={Timeframe(task.timeframe): task for task in found.tasks if task.timeframe in LADDER},
        touched=found.touched,
        hours=TradingHours([Schedule((it.from_utc, it.to_utc), it.sessions) for it in found.schedules]),
    )


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


def _sources(timeframe: Timeframe) -> Iterator[Timeframe]:
    while (source := LADDER.get(timeframe)) is not None:
        yield source
        timeframe = source


def _frame(columns: dict[str, list[object]], symbol: str, names: list[str]) -> pd.DataFrame:
    times = pd.to_datetime(pd.Series(columns["ts_us"], dtype="int64"), unit="us", utc=True)
    rest = {name: columns[name] for name in names if name not in ("canonical_symbol", "ts_utc")}
    # pandas has one word for unknown and for what is no number; of a volume, the second makes a row invalid.
    rest |= {name: [math.inf if value == "NaN" else value for value in rest[name]] for name in ("vol", "vwap")}
    return pd.DataFrame({"canonical_symbol": symbol, "ts_utc": times, **rest})[names]
