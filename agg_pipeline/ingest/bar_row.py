"""Parser of one row of a bar file, text or typed values, into one bar.

The rules are those of a valid source row in the database, so that every loaded row is aggregated: prices are finite and
consistent, volume is unknown or finite and not negative, the time is on the grid. A vwap that is not finite and a
negative trade count become unknown.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import TypedDict

from agg_pipeline.market.names import SymbolError, check_symbol
from agg_pipeline.market.timeframes import ORIGIN, Timeframe

REQUIRED = ("symbol", "ts_utc", "open", "high", "low", "close", "volume")
OPTIONAL = ("vwap", "trade_count")
_LARGEST_COUNT = 2**31 - 1  # type integer in the database
_BELOW_MICROSECONDS = re.compile(r"[.,]\d{6}0*[1-9]")  # fromisoformat would drop these digits silently


class BarRow(TypedDict):
    """A valid bar in the columns of data_bars: ready for JSON, all numbers finite, None for unknown values."""

    canonical_symbol: str
    ts_utc: str
    open: float
    high: float
    low: float
    close: float
    vol: float | None
    vwap: float | None
    trade_count: int | None


class BadRowError(ValueError):
    """The row is not a valid bar; the message is the reason."""


def parse_bar(values: Sequence[object], timeframe: Timeframe) -> tuple[BarRow, int]:
    """Parse one row. Returns the bar and its index on the grid, the number of ``timeframe`` windows since ORIGIN.

    Args:
        values: in the order of REQUIRED and OPTIONAL, as text or typed; None or empty text is unknown.
    Raises:
        BadRowError: the row is not a valid bar.
    """
    symbol, ts = _symbol(values[0]), _time(values[1])
    place, rest = divmod(ts - ORIGIN, timeframe.length)
    if rest:
        raise BadRowError(f"ts_utc {ts.isoformat()} is not the start of a {timeframe} bar")
    open_, high, low, close = (_price(name, value) for name, value in zip(REQUIRED[2:6], values[2:6], strict=True))
    if high < low:
        raise BadRowError(f"high {high} is below low {low}")
    for name, price in (("open", open_), ("close", close)):
        if not low <= price <= high:
            raise BadRowError(f"{name} {price} is outside low {low} to high {high}")
    volume, vwap = _number("volume", values[6]), _number("vwap", values[7])
    if volume is not None and not math.isfinite(volume):
        raise BadRowError(f"volume {volume} is not finite")
    if volume is not None and volume < 0:
        raise BadRowError(f"volume {volume} is negative")
    bar: BarRow = {
        "canonical_symbol": symbol,
        "ts_utc": ts.replace(tzinfo=None).isoformat() + "Z",
        "open": open_,
        "high": high,
        "low": low,
        "close": close,
        "vol": volume,
        "vwap": vwap if vwap is not None and math.isfinite(vwap) else None,
        "trade_count": _count(values[8]),
    }
    return bar, place


def _symbol(value: object) -> str:
    if value is None or value == "":
        raise BadRowError("symbol is empty")
    if not isinstance(value, str):
        raise BadRowError(f"symbol {short(value)} is not text")
    try:
        return check_symbol(value)
    except SymbolError as exc:
        raise BadRowError(str(exc)) from None


def _time(value: object) -> dt.datetime:
    if value is None or value == "":
        raise BadRowError("ts_utc is missing")
    try:
        if isinstance(value, str):
            ts = _time_of_text(value.strip())
        elif isinstance(value, dt.datetime) and not getattr(value, "nanosecond", 0):
            ts = value
        else:
            raise ValueError
        offset = ts.utcoffset()
        return ts.replace(tzinfo=dt.UTC) if offset is None else ts.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise BadRowError(f"ts_utc {short(value)} is not an ISO 8601 time of whole microseconds") from None


def _time_of_text(text: str) -> dt.datetime:
    """Require a date with dashes and a time of day: fromisoformat alone parses epoch numbers as dates in 1510."""
    if len(text) < len("2001-01-01T00:00") or text[4] != "-" or _BELOW_MICROSECONDS.search(text):
        raise ValueError
    return dt.datetime.fromisoformat(text)


def _price(name: str, value: object) -> float:
    price = _number(name, value)
    if price is None:
        raise BadRowError(f"{name} is missing")
    if not math.isfinite(price):
        raise BadRowError(f"{name} {price} is not finite")
    return price


def _count(value: object) -> int | None:
    count = _number("trade_count", value)
    if count is None or not count >= 0 or math.isinf(count):
        return None
    if count % 1 or count > _LARGEST_COUNT:
        raise BadRowError(f"trade_count {short(value)} is not a whole number up to {_LARGEST_COUNT}")
    return int(count)


def _number(name: str, value: object) -> float | None:
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str):
            if value.isspace():
                return None
            if "_" in value or not value.isascii():  # float() accepts 1_000 and non-ASCII digits
                raise ValueError
            return float(value)
        if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
            return float(value)
        raise ValueError
    except (ValueError, OverflowError):
        raise BadRowError(f"{name} {short(value)} is not a number") from None


def short(value: object, most: int = 60) -> str:
    """A value for a message: quoted, and cut to ``most`` characters."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."
