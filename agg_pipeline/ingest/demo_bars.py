"""Generator of raw bars that resemble a market, to try the pipeline before there is a feed.

A bar depends on its symbol, its time and the seed only, not on the requested range. So a demo can append minutes, or
generate an old day again, and the bars always fit together.
"""

from __future__ import annotations

import datetime as dt
import functools
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pandas as pd

from agg_pipeline.market.calendars import ALWAYS_OPEN, FX, sessions_of
from agg_pipeline.market.timeframes import ORIGIN, Timeframe, first_window

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
_STEPS = 8  # prices within a bar; open, high, low and close are taken from them
_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class DemoAsset:
    """Parameters of a generated market. ``volatility``: of the log price over a day; ``volume``: of a typical bar."""

    symbol: str
    asset_class: str
    base_timeframe: Timeframe
    price: float
    decimals: int
    volatility: float
    volume: float
    calendar: str


DEMO_ASSETS: Mapping[str, DemoAsset] = MappingProxyType(
    {
        "EURUSD": DemoAsset("EURUSD", "fx", Timeframe.M1, 1.085, 5, 0.005, 0, FX),
        "BTCUSD": DemoAsset("BTCUSD", "crypto", Timeframe.M1, 64_000, 2, 0.03, 4.2, ALWAYS_OPEN),
        "DE40": DemoAsset("DE40", "index", Timeframe.M5, 18_200, 1, 0.01, 900, "XETR"),
    }
)


def generate(symbol: str, start: dt.datetime, end: dt.datetime, seed: int = 7) -> pd.DataFrame:
    """Generate the raw bars of one of DEMO_ASSETS that start in ``[start, end)``: columns of data_bars, sorted by time.

    EURUSD trades from Sunday 17:00 to Friday 17:00 New York, lacks some minutes in quiet hours and has no volume;
    BTCUSD always trades, with bursts, but for an outage from 03:10 to 03:30 UTC each Wednesday; DE40 has the 5m bars
    of Xetra's sessions, 09:00 to 17:30 Frankfurt.

    Raises:
        KeyError: the symbol is none of DEMO_ASSETS.
        ValueError: a time is not in UTC.
    """
    asset = DEMO_ASSETS[symbol]
    begin, end = first_window(start, asset.base_timeframe), first_window(end, asset.base_timeframe)
    first = (begin - ORIGIN) // _DAY
    last = max(first, (end - ORIGIN) // _DAY)
    bars = pd.concat([_day(asset, number, seed) for number in range(first, last + 1)], ignore_index=True)
    return bars[(bars["ts_utc"] >= begin) & (bars["ts_utc"] < end)].reset_index(drop=True)


def _day(asset: DemoAsset, number: int, seed: int) -> pd.DataFrame:
    """The bars of the UTC day ``number`` days after ORIGIN."""
    rng = _rng(asset, seed, number)
    count = 1440 // asset.base_timeframe.minutes
    start = pd.Timestamp(ORIGIN + number * _DAY)
    ts = pd.date_range(start, periods=count, freq=asset.base_timeframe.length, unit="us")
    activity = _season(ts) * (_bursts(rng, count) if asset.asset_class == "crypto" else 1.0)
    open_and_steps = _prices(asset, number, seed, rng, activity)
    high, low = open_and_steps.max(axis=1), open_and_steps.min(axis=1)
    bars = pd.DataFrame(
        {
            "canonical_symbol": asset.symbol,
            "timeframe": str(asset.base_timeframe),
            "ts_utc": ts,
            "open": open_and_steps[:, 0],
            "high": high,
            "low": low,
            "close": open_and_steps[:, -1],
            "vol": np.round(asset.volume * activity * rng.lognormal(0, 0.6, count), 8 if asset.volume < 100 else 0),
            "vwap": np.clip(np.round(open_and_steps.mean(axis=1), asset.decimals + 2), low, high),
            "trade_count": pd.array(1 + rng.poisson(40 * activity), dtype="Int64"),
            "is_partial": False,
        }
    )
    is_open, is_quiet = _hours(asset, ts)
    if asset.asset_class == "fx":  # quotes, not trades: no volume, and some minutes of quiet hours lack a quote
        bars["vol"] = np.where(is_quiet, np.nan, 0.0)
        bars["vwap"], bars["trade_count"] = np.nan, pd.array([pd.NA] * count, dtype="Int64")
        is_open &= rng.random(count) >= np.where(is_quiet, 0.04, 0.0005)
    return bars[is_open]


def _prices(asset: DemoAsset, number: int, seed: int, rng: np.random.Generator, activity: Floats) -> Floats:
    """Prices, one row per bar: its open, then _STEPS prices. The open is the last price of the bar before."""
    pace = np.repeat(activity, _STEPS)
    steps = rng.standard_normal(pace.size) * pace * asset.volatility / np.sqrt((pace**2).sum())
    begin, end = _anchor(asset, number, seed), _anchor(asset, number + 1, seed)
    passed = np.cumsum(pace**2) / (pace**2).sum()
    walk = np.cumsum(steps)
    path = np.concatenate([[begin], begin + walk + passed * (end - begin - walk[-1])])  # ends at the next day's begin
    rows = np.arange(activity.size)[:, None] * _STEPS + np.arange(_STEPS + 1)
    prices: Floats = np.round(np.exp(path), asset.decimals)[rows]
    return prices


def _anchor(asset: DemoAsset, number: int, seed: int) -> float:
    """Log price at the start of a day: a sum of slow waves, so that it does not depend on the days before."""
    size, days = np.array([1, 3, 6]), np.array([5.3, 23, 97])
    waves = size * np.sin(2 * np.pi * number / days + _rng(asset, seed).uniform(0, 2 * np.pi, 3))
    return float(np.log(asset.price) + asset.volatility * waves.sum())


def _season(ts: pd.DatetimeIndex) -> Floats:
    """Activity by time of day: highest while London and New York overlap, lowest after New York closes."""
    hour = (ts.hour + ts.minute / 60).to_numpy(dtype="float64")
    busy: Floats = 0.3 + 0.6 * np.exp(-(((hour - 8) / 2) ** 2)) + 1.1 * np.exp(-(((hour - 14.5) / 2.5) ** 2))
    return busy


def _bursts(rng: np.random.Generator, count: int) -> Floats:
    since = np.arange(count) - rng.integers(0, count, 3)[:, None]
    heights = rng.uniform(3, 8, 3)[:, None] * np.exp(-np.maximum(since, 0) / 9) * (since >= 0)
    bursts: Floats = 1 + heights.sum(axis=0)
    return bursts


def _hours(asset: DemoAsset, ts: pd.DatetimeIndex) -> tuple[Flags, Flags]:
    """Whether the market is open, and whether it is quiet, by its local time."""
    if asset.calendar not in (FX, ALWAYS_OPEN):  # an exchange
        opens, closes = _session(asset.calendar, ts[0].date())
        return np.asarray((ts >= opens) & (ts < closes)), np.zeros(len(ts), dtype=bool)
    local = ts.tz_convert("America/New_York" if asset.calendar == FX else "UTC")
    weekday, minute = np.asarray(local.day_of_week), np.asarray(local.hour * 60 + local.minute)
    evening = minute >= 17 * 60
    if asset.calendar == FX:
        is_closed = ((weekday == 4) & evening) | (weekday == 5) | ((weekday == 6) & ~evening)
        return ~is_closed, evening & (minute < 20 * 60)
    is_outage = (weekday == 2) & (minute >= 190) & (minute < 210)
    return ~is_outage, np.zeros(len(ts), dtype=bool)


def _session(calendar: str, day: dt.date) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Open and close of an exchange on a UTC day; the same time twice if it does not open."""
    midnight = pd.Timestamp(day, tz="UTC")
    return _sessions(calendar, day.year).get(day, (midnight, midnight))


@functools.cache
def _sessions(calendar: str, year: int) -> dict[dt.date, tuple[pd.Timestamp, pd.Timestamp]]:
    sessions = sessions_of(calendar, first_year=year, last_year=year).sessions
    return {opens.date(): (pd.Timestamp(opens), pd.Timestamp(closes)) for opens, closes in sessions}


def _rng(asset: DemoAsset, *seeds: int) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(asset.symbol.encode()), *(seed % 2**32 for seed in seeds)])
