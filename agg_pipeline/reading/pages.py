"""Bars of a symbol as data frames, page by page, so that any length of history fits in memory."""

import datetime as dt
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.bars import PageTask, TouchedRange
from agg_pipeline.market.timeframes import LADDER, Timeframe, next_window, window_start
from agg_pipeline.market.trading_hours import Schedule, TradingHours
from agg_pipeline.reading.columns import BAR_COLUMNS, RAW_COLUMNS

PAGE = dt.timedelta(days=30)  # 43,200 one-minute bars: 4 MB of JSON, half a second


_LONGEST = max(LADDER, key=lambda timeframe: timeframe.minutes)


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
