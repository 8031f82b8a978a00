"""Parser of one row of a bar file, text or typed values, into one bar.

The rules are those of a valid source row in the database, so that every loaded row is aggregated: prices are within
bounds and consistent, volume is unknown or within bounds and not negative, the time is on the grid. A vwap that is not
finite and a negative trade count become unknown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict

from agg_pipeline.ingest.bar_numbers import parse_number
from agg_pipeline.ingest.bar_times import TimeReader
from agg_pipeline.ingest.errors import BadRowError, short
from agg_pipeline.market.bounds import MAX_PRICE, MAX_VOLUME, STORED_TRADE_COUNT
from agg_pipeline.market.names import SymbolError, check_symbol
from agg_pipeline.market.timeframes import ORIGIN, Timeframe

REQUIRED = ("symbol", "ts_utc", "open", "high", "low", "close", "volume")
OPTIONAL = ("vwap", "trade_count")


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


class RowParser:
    """Parser of the rows of one file.

    Args:
        times: how the file's times are read.
        decimal_comma: numbers in text have a decimal comma.
    """

    def __init__(self, timeframe: Timeframe, times: TimeReader, *, decimal_comma: bool = False):
        self._timeframe, self._length = timeframe, timeframe.length
        self._parse_time = times.parse
        self._decimal_comma = decimal_comma

    def parse(self, values: Sequence[object]) -> tuple[BarRow, int]:
        """Parse one row. Returns the bar and its index on the grid, the number of windows since ORIGIN.

        Args:
            values: in the order of REQUIRED and OPTIONAL, as text or typed; None or empty text is unknown.
        Raises:
            BadRowError: the row is not a valid bar.
        """
        symbol, ts = parse_symbol(values[0]), self._parse_time(values[1])
        place, rest = divmod(ts - ORIGIN, self._length)
        if rest:
            what = f"is not the start of a {self._timeframe} bar"
            raise BadRowError(f"ts_utc {what}", f"ts_utc {ts.isoformat()} {what}")
        numbers = values[2:]
        open_, high = self._price("open", numbers[0], numbers), self._price("high", numbers[1], numbers)
        low, close = self._price("low", numbers[2], numbers), self._price("close", numbers[3], numbers)
        if high < low:
            raise BadRowError("high is below low", f"high {high} is below low {low}")
        if not low <= open_ <= high:
            raise _outside("open", open_, low, high)
        if not low <= close <= high:
            raise _outside("close", close, low, high)
        bar: BarRow = {
            "canonical_symbol": symbol,
            "ts_utc": ts.isoformat()[:-6] + "Z",  # it ends with +00:00
            "open": open_,
            "high": high,
            "low": low,
            "close": close,
            "vol": self._volume(numbers),
            "vwap": self._vwap(numbers),
            "trade_count": self._trade_count(numbers),
        }
        return bar, place

    def _price(self, name: str, value: object, numbers: Sequence[object]) -> float:
        price = parse_number(name, value, numbers, decimal_comma=self._decimal_comma)
        if price is None:
            raise BadRowError(f"{name} is missing")
        if not -MAX_PRICE <= price <= MAX_PRICE:
            raise _out_of_range(name, price, f"at most {MAX_PRICE} in size")
        return price

    def _volume(self, numbers: Sequence[object]) -> float | None:
        volume = parse_number("volume", numbers[4], numbers, decimal_comma=self._decimal_comma)
        if volume is not None and not 0 <= volume <= MAX_VOLUME:
            if volume < 0 and math.isfinite(volume):
                raise BadRowError("volume is negative", f"volume {volume} is negative")
            raise _out_of_range("volume", volume, f"at most {MAX_VOLUME}")
        return volume

    def _vwap(self, numbers: Sequence[object]) -> float | None:
        vwap = parse_number("vwap", numbers[5], numbers, decimal_comma=self._decimal_comma)
        if vwap is None or not math.isfinite(vwap):
            return None
        if not -MAX_PRICE <= vwap <= MAX_PRICE:
            raise _out_of_range("vwap", vwap, f"at most {MAX_PRICE} in size")
        return vwap

    def _trade_count(self, numbers: Sequence[object]) -> int | None:
        count = parse_number("trade_count", numbers[6], numbers, decimal_comma=self._decimal_comma)
        if count is None or count < 0 or math.isinf(count):
            return None
        if count % 1:
            raise BadRowError(
                "trade_count is not a whole number", f"trade_count {short(numbers[6])} is not a whole number"
            )
        if count > STORED_TRADE_COUNT:
            raise _out_of_range("trade_count", short(numbers[6]), f"at most {STORED_TRADE_COUNT}")
        return int(count)


def parse_symbol(value: object) -> str:
    """The name of a symbol, without outer blanks. Raises BadRowError."""
    if value is None or value == "":
        raise BadRowError("symbol is empty")
    if not isinstance(value, str):
        raise BadRowError("symbol is not text", f"symbol {short(value)} is not text")
    try:
        return check_symbol(value)
    except SymbolError as exc:
        raise BadRowError("symbol is not valid", str(exc)) from None


def _outside(name: str, price: float, low: float, high: float) -> BadRowError:
    return BadRowError(f"{name} is outside low to high", f"{name} {price} is outside low {low} to high {high}")


def _out_of_range(name: str, value: object, bound: str) -> BadRowError:
    if isinstance(value, float) and math.isinf(value):
        return BadRowError(f"{name} is not finite", f"{name} {value} is not finite")
    return BadRowError(f"{name} is out of range", f"{name} {value} is out of range: {bound}")
