"""Simple raw bars for the tests of the recomputation."""

import datetime as dt
from typing import Any

from agg_pipeline.market.timeframes import Timeframe

MIDNIGHT = dt.datetime(2024, 3, 13, tzinfo=dt.UTC)


def bar(minute: float, timeframe: Timeframe = Timeframe.M1, symbol: str = "EURUSD", **fields: Any) -> dict[str, Any]:
    """A plain valid bar that starts ``minute`` minutes after MIDNIGHT."""
    plain = {"open": 10, "high": 12, "low": 9, "close": 11, "vol": 1, "vwap": None, "trade_count": None}
    key = {"canonical_symbol": symbol, "timeframe": str(timeframe), "ts_utc": MIDNIGHT + dt.timedelta(minutes=minute)}
    return key | plain | {"is_partial": False} | fields
