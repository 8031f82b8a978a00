"""Generated bars are valid, reproducible, and within the trading hours of their market."""

import datetime as dt
import functools

import numpy as np
import pandas as pd
import pytest

from agg_pipeline.ingest.demo_bars import DEMO_ASSETS, generate
from agg_pipeline.market.timeframes import Timeframe
from agg_pipeline.quality.recomputation import reference_bars
from agg_pipeline.reading.columns import RAW_COLUMNS

START = dt.datetime(
    2024, 3, 3, tzinfo=dt.UTC
)  # a Sunday; New York's clock changes on the next, Frankfurt's on 31 March
END = dt.datetime(2024, 4, 7, tzinfo=dt.UTC)
every_symbol = pytest.mark.parametrize("symbol", list(DEMO_ASSETS))


@functools.cache
def five_weeks(symbol: str) -> pd.DataFrame:
    return generate(symbol, START, END)


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


@every_symbol
def test_every_bar_is_valid_and_on_the_tick_grid(symbol: str) -> None:
    bars, asset = five_weeks(symbol), DEMO_ASSETS[symbol]
    assert list(bars.columns) == RAW_COLUMNS
    assert set(bars["canonical_symbol"]) == {symbol}
    assert set(bars["timeframe"]) == {str(asset.base_timeframe)}
    assert not bars["is_partial"].any()
    prices = bars[["open", "high", "low", "close"]]
    assert (prices.max(axis=1) == bars["high"]).all()
    assert (prices.min(axis=1) == bars["low"]).all()
    assert (prices == prices.round(asset.decimals)).all(axis=None)
    assert (bars["vwap"].isna() | bars["vwap"].between(bars["low"], bars["high"])).all()
    assert not (bars["vol"] < 0).any()
    assert bars["ts_utc"].is_monotonic_increasing
    assert bars["ts_utc"].is_unique
    assert (bars["ts_utc"].dt.floor(f"{asset.base_timeframe.minutes}min") == bars["ts_utc"]).all()


@every_symbol
def test_prices_and_activity_fit_the_parameters_of_the_market(symbol: str) -> None:
    """Near its price, moving each day about as its volatility says, and busier at 14:30 UTC than at 05:00."""
    bars, asset = five_weeks(symbol), DEMO_ASSETS[symbol]
    assert (
        bars["close"]
        .between(asset.price * (1 - 12 * asset.volatility), asset.price * (1 + 12 * asset.volatility))
        .all()
    )
    daily = np.log(bars.set_index("ts_utc")["close"].resample("D").last().dropna()).diff().std()
    assert 0.4 < daily / asset.volatility < 2.5
    hour, size = bars["ts_utc"].dt.hour, (bars["high"] - bars["low"]) / bars["close"]
    early = 8 if symbol == "DE40" else 5
    assert size[hour == 14].median() > (1.2 if symbol == "DE40" else 2) * size[hour == early].median()


@every_symbol
def test_a_bar_depends_on_its_time_and_the_seed_only(symbol: str) -> None:
    cut = START + dt.timedelta(days=9, hours=14, minutes=25)
    parts = pd.concat([generate(symbol, START, cut), generate(symbol, cut, END)], ignore_index=True)
    pd.testing.assert_frame_equal(parts, five_weeks(symbol))
    other = generate(symbol, START, cut, seed=8)
    assert not other["close"].equals(generate(symbol, START, cut)["close"])


@every_symbol
def test_symbols_and_days_differ(symbol: str) -> None:
    bars = five_weeks(symbol)
    returns = bars.set_index("ts_utc")["close"].pct_change()
    one = returns.loc["2024-03-05 14:00":"2024-03-05 15:55"]
    next_day = returns.loc["2024-03-06 14:00":"2024-03-06 15:55"]
    assert abs(np.corrcoef(one, next_day)[0, 1]) < 0.8


@every_symbol
def test_the_range_is_half_open_and_may_be_empty(symbol: str) -> None:
    noon, length = dt.datetime(2024, 3, 5, 12, tzinfo=dt.UTC), DEMO_ASSETS[symbol].base_timeframe.length
    assert generate(symbol, noon, noon + 3 * length)["ts_utc"].tolist() == [noon, noon + length, noon + 2 * length]
    off_grid = dt.timedelta(seconds=1)
    assert generate(symbol, noon + off_grid, noon + length + off_grid)["ts_utc"].tolist() == [noon + length]
    for end in (noon, noon - dt.timedelta(days=3)):
        empty = generate(symbol, noon, end)
        assert len(empty) == 0
        assert empty.dtypes.to_dict() == five_weeks(symbol).dtypes.to_dict()
    assert len(generate(symbol, dt.datetime(1999, 1, 1, tzinfo=dt.UTC), dt.datetime(1999, 1, 9, tzinfo=dt.UTC))) > 0


def test_times_are_utc_and_the_symbol_is_known() -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        generate("EURUSD", dt.datetime(2024, 3, 5), END)
    with pytest.raises(KeyError, match="XAUUSD"):
        generate("XAUUSD", START, END)


def test_eurusd_trades_from_sunday_to_friday_17_new_york() -> None:
    """22:00Z before the clock change of 10 March, 21:00Z after; the first minute may be one that is missing."""
    ts = five_weeks("EURUSD")["ts_utc"]
    closed = ts.diff() > pd.Timedelta(hours=12)
    opens, closes = [ts.iloc[0], *ts[closed]], [*ts.shift(1)[closed], ts.iloc[-1]]
    sundays = ["03-03 22:00", "03-10 21:00", "03-17 21:00", "03-24 21:00", "03-31 21:00"]
    fridays = ["03-08 22:00", "03-15 21:00", "03-22 21:00", "03-29 21:00", "04-05 21:00"]
    near = pd.Timedelta(minutes=10)
    assert [at(f"2024-{text}") <= ts < at(f"2024-{text}") + near for text, ts in zip(sundays, opens, strict=True)] == [
        True
    ] * 5
    assert [at(f"2024-{text}") > ts > at(f"2024-{text}") - near for text, ts in zip(fridays, closes, strict=True)] == [
        True
    ] * 5


def test_eurusd_lacks_minutes_mostly_in_quiet_hours_and_has_no_volume() -> None:
    bars = five_weeks("EURUSD")
    hour = bars["ts_utc"].dt.tz_convert("America/New_York").dt.hour
    quiet = (hour >= 17) & (hour < 20)
    week = 5 * 24 * 60
    assert 0.02 < 1 - quiet.sum() / (5 * 5 * 3 * 60) < 0.06
    assert 0 < 1 - (~quiet).sum() / (5 * (week - 5 * 3 * 60)) < 0.002
    assert bars["vol"][quiet].isna().all()
    assert (bars["vol"][~quiet] == 0).all()
    assert bars[["vwap", "trade_count"]].isna().all(axis=None)


def test_eurusd_gaps_over_a_weekend() -> None:
    bars = five_weeks("EURUSD")
    monday = bars["ts_utc"].diff() > pd.Timedelta(hours=12)
    gaps = (bars["open"] - bars["close"].shift(1)).abs()
    assert gaps[monday].mean() > 20 * gaps[~monday].mean()


def test_btcusd_always_trades_but_for_one_outage_a_week() -> None:
    bars = five_weeks("BTCUSD")
    every = pd.date_range(START, END, freq="min", inclusive="left")
    missing = every.difference(pd.DatetimeIndex(bars["ts_utc"]))
    outages = [pd.date_range(f"2024-{day} 03:10", periods=20, freq="min", tz="UTC") for day in ("03-06", "03-13")]
    assert list(missing[:40]) == [*outages[0], *outages[1]]
    assert len(missing) == 5 * 20


def test_btcusd_has_fractional_volume_vwap_trades_and_bursts() -> None:
    bars = five_weeks("BTCUSD")
    assert bars[["vol", "vwap", "trade_count"]].notna().all(axis=None)
    assert (bars["vol"] % 1 != 0).mean() > 0.99
    assert (bars["vol"] == bars["vol"].round(8)).all()
    assert (bars["trade_count"] >= 1).all()
    usual = bars.groupby(bars["ts_utc"].dt.time)["vol"].transform("median")
    is_burst = (bars["vol"] / usual).rolling(5).mean() > 4
    assert is_burst.groupby(bars["ts_utc"].dt.date).any().mean() > 0.9
    assert is_burst.mean() < 0.05


def test_a_minute_opens_at_the_last_close_across_midnight_too() -> None:
    bars = five_weeks("BTCUSD")
    follows = bars["ts_utc"].diff() == pd.Timedelta(minutes=1)
    assert (bars["open"] == bars["close"].shift(1))[follows].all()
    assert follows.sum() == len(bars) - 6


def test_de40_has_5m_bars_of_the_frankfurt_session() -> None:
    bars = five_weeks("DE40")
    local = bars["ts_utc"].dt.tz_convert("Europe/Berlin")
    by_day = local.groupby(local.dt.date)
    assert by_day.size().tolist() == [102] * 23, "25 weekdays, of which two are holidays at Easter"
    assert {f"{first:%a %H:%M}" for first in by_day.min()} == {
        f"{day} 09:00" for day in ("Mon", "Tue", "Wed", "Thu", "Fri")
    }
    assert {f"{last:%H:%M}" for last in by_day.max()} == {"17:25"}
    assert (bars["vol"] % 1 == 0).all()
    assert (bars["vol"] > 0).all()
    half = generate("DE40", dt.datetime(2024, 12, 30, tzinfo=dt.UTC), dt.datetime(2025, 1, 2, tzinfo=dt.UTC))["ts_utc"]
    assert (len(half), half.max()) == (60, at("2024-12-30 12:55")), "an early close, then the turn of the year"


@every_symbol
def test_the_recomputation_accepts_them(symbol: str) -> None:
    bars = generate(symbol, START, START + dt.timedelta(days=7))
    levels = reference_bars(bars, DEMO_ASSETS[symbol].base_timeframe, START)
    assert len(levels[Timeframe.M15]) > 0
    assert levels[Timeframe.M15]["quality_score"].mode().tolist() == [2]
