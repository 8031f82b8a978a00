"""Pages of bars: which windows are invalidated."""

import datetime as dt

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from agg_pipeline.database.models.bars import InvalidatedRange
from agg_pipeline.market.timeframes import LADDER, Timeframe
from agg_pipeline.market.trading_hours import TradingHours
from agg_pipeline.reading.pages import Bars

BEGIN = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
ranges = st.builds(
    lambda timeframe, begin, length: InvalidatedRange(
        timeframe=timeframe, from_utc=BEGIN + begin * MINUTE, to_utc=BEGIN + (begin + length) * MINUTE
    ),
    st.sampled_from(list(LADDER)),
    st.integers(0, 600),
    st.integers(1, 400),
)


@given(st.lists(ranges, max_size=3), st.sampled_from(list(LADDER)), st.lists(st.integers(0, 9), min_size=1, max_size=8))
def test_a_window_is_invalidated_by_a_range_of_its_own_source_or_below(
    invalidated: list[InvalidatedRange], timeframe: Timeframe, windows: list[int]
) -> None:
    starts = [BEGIN + window * timeframe.length for window in windows]
    bars = Bars(pd.DataFrame(), pd.DataFrame(), {}, invalidated, TradingHours())
    below = {timeframe}
    while (source := LADDER[min(below, key=lambda it: it.minutes)]) in LADDER:
        below.add(source)
    expected = [
        any(it.timeframe in below and it.from_utc < at + timeframe.length and it.to_utc > at for it in invalidated)
        for at in starts
    ]
    ts = pd.Series(pd.to_datetime(starts, utc=True), dtype="datetime64[us, UTC]")
    assert bars.is_invalidated(ts, timeframe).tolist() == expected
