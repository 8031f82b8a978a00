"""Bars of a symbol as data frames, page by page, so that memory does not limit the length of history."""

import datetime as dt
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.bars import InvalidatedRange, PageTask
from agg_pipeline.market.timeframes import LADDER, Timeframe, next_window, window_start
from agg_pipeline.market.trading_hours import Schedule, TradingHours
from agg_pipeline.reading.columns import BAR_COLUMNS, RAW_COLUMNS

PAGE = dt.timedelta(days=30)  # 43,200 one-minute bars: 4 MB of JSON, half a second
_LONGEST = max(LADDER, key=lambda timeframe: timeframe.minutes)


def pages(begin: dt.datetime, end: dt.datetime, longest: Timeframe = _LONGEST) -> list[tuple[dt.datetime, dt.datetime]]:
    """Pages [start, stop) that cover [begin, end): at most PAGE long, cut between windows of ``longest``, so that no
    window lies in two pages."""
    start, stop, cuts = window_start(begin, longest), begin, []
    while stop < end:
        stop = min(start + PAGE, next_window(end - dt.timedelta.resolution, longest))
        cuts.append((start, stop))
        start = stop
    return cuts


@dataclass(frozen=True)
class Bars:
    """Bars of one page of a symbol as data frames.

    Attributes:
        raw, derived: rows with RAW_COLUMNS and BAR_COLUMNS. NaN is unknown; a NaN of the database is infinity here.
        tasks: tasks whose timeframe is in LADDER, so that it can be recomputed.
        invalidated: windows that the next ticks will rebuild.
        hours: when bars of the symbol are expected.
    """

    raw: pd.DataFrame
    derived: pd.DataFrame
    tasks: dict[Timeframe, PageTask]
    invalidated: Sequence[InvalidatedRange]
    hours: TradingHours

    @property
    def base(self) -> Timeframe | None:
        """Timeframe of the raw bars; None if the symbol has no tasks in LADDER."""
        return next((Timeframe(task.base_timeframe) for task in self.tasks.values()), None)

    def stored(self, timeframe: Timeframe) -> pd.DataFrame:
        """Stored bars of one timeframe: raw ones for the base timeframe, else derived ones."""
        bars = self.raw if timeframe == self.base else self.derived
        return bars[(bars["timeframe"] == timeframe.value).to_numpy()]

    def is_invalidated(self, ts: "pd.Series[pd.Timestamp]", timeframe: Timeframe) -> "pd.Series[bool]":
        """Whether the windows that start at ``ts`` are invalidated, in their own source or in a timeframe below it."""
        below = {timeframe, *_sources(timeframe)}
        ranges = [(change.from_utc, change.to_utc) for change in self.invalidated if change.timeframe in below]
        # A window overlaps none of them if all that begin before its end have also ended at its start.
        begins = pd.DatetimeIndex(sorted(begin for begin, _ in ranges), tz="UTC")
        ends = pd.DatetimeIndex(sorted(end for _, end in ranges), tz="UTC")
        begun, ended = begins.searchsorted(ts + timeframe.length), ends.searchsorted(ts, side="right")
        return pd.Series(begun > ended, index=ts.index)


def read_page(gateway: AggGateway, symbol: str, page: tuple[dt.datetime, dt.datetime]) -> Bars | None:
    """Read all bars of a page in one call; None if it has no bars. Raises GatewayError."""
    found = gateway.bars_page(symbol, *page)
    if not found.raw["ts_us"] and not found.derived["ts_us"]:
        return None
    return Bars(
        raw=_frame(found.raw, symbol, RAW_COLUMNS),
        derived=_frame(found.derived, symbol, BAR_COLUMNS),
        tasks={Timeframe(task.timeframe): task for task in found.tasks if task.timeframe in LADDER},
        invalidated=found.invalidated,
        hours=TradingHours([Schedule((it.from_utc, it.to_utc), it.sessions) for it in found.schedules]),
    )


def _sources(timeframe: Timeframe) -> Iterator[Timeframe]:
    while (source := LADDER.get(timeframe)) is not None:
        yield source
        timeframe = source


def _frame(columns: dict[str, list[object]], symbol: str, names: list[str]) -> pd.DataFrame:
    times = pd.to_datetime(pd.Series(columns["ts_us"], dtype="int64"), unit="us", utc=True)
    rest = {name: columns[name] for name in names if name not in ("canonical_symbol", "ts_utc")}
    # pandas has one NaN for both: unknown (null), and NaN of the database, which makes a row invalid as a volume.
    rest |= {name: [math.inf if value == "NaN" else value for value in rest[name]] for name in ("vol", "vwap")}
    return pd.DataFrame({"canonical_symbol": symbol, "ts_utc": times, **rest})[names]
