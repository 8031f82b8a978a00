"""The same bars in pandas: what the database should hold, computed by other means.

Tests and the verify check compare the database against this. It follows the written rules of a bar and shares nothing
with the SQL: no cursor, no lease, no dirty ranges, one pass over all rows.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import numpy as np
import pandas as pd

from agg_pipeline.market.timeframes import ORIGIN, Timeframe, first_window, ladder_from
from agg_pipeline.market.trading_hours import TradingHours
from agg_pipeline.reading.columns import BAR_COLUMNS, KEY, PRICES, RAW_COLUMNS

ALWAYS_OPEN = TradingHours()
DIFFERENCE_COLUMNS = [*KEY, "problem", "field", "expected", "actual", "by"]

RELATIVE_TOLERANCE = 1e-12  # of vwap and of volumes that are not whole: the order of a sum moves its last bits
_ALL_WHOLE_FROM = 2.0**52  # a float of this size is always whole, which then says nothing about the terms of a sum


def reference_bars(
    raw: pd.DataFrame,
    base: Timeframe,
    agg_start_utc: dt.datetime | Mapping[Timeframe, dt.datetime],
    hours: TradingHours = ALWAYS_OPEN,
) -> dict[Timeframe, pd.DataFrame]:
    """All bars of all timeframes above ``base`` that the raw bars give.

    Args:
        raw: rows with RAW_COLUMNS of one or many symbols, in any order; other timeframes are ignored. NaN is unknown; a
            volume that the database holds as NaN, which makes a row invalid there, must come as infinity.
        base: timeframe of the raw bars, 1m or 5m.
        agg_start_utc: no window that starts before it is built, at any level; or one start for each level, and a level
            without one is not built, nor what would be built from it.
        hours: when bars are expected, the same for all symbols.

    Returns:
        Per timeframe, in the order of building, rows with BAR_COLUMNS by symbol and time; unknown is NaN or <NA>.

    Raises:
        ValueError: a column is missing, times are naive, or a bar is there twice (the database refuses that too).
    """
    levels = {base: _typed(raw, RAW_COLUMNS)}
    ladder = ladder_from(base)
    starts = agg_start_utc if isinstance(agg_start_utc, Mapping) else dict.fromkeys(ladder, agg_start_utc)
    for target, source in ladder.items():
        if target in starts and source in levels:
            levels[target] = _roll_up(levels[source], source, target, starts[target], hours)
    del levels[base]
    return levels


def roll_up(
    bars: pd.DataFrame,
    source: Timeframe,
    target: Timeframe,
    agg_start_utc: dt.datetime,
    hours: TradingHours = ALWAYS_OPEN,
) -> pd.DataFrame:
    """One level of ``reference_bars``: the ``target`` bars that ``source`` bars give, raw or stored."""
    return _roll_up(_typed(bars, RAW_COLUMNS), source, target, agg_start_utc, hours)


def differences(expected: pd.DataFrame, actual: pd.DataFrame) -> pd.DataFrame:
    """What is wrong with ``actual``, one row for each bar that is missing or surplus and each field that is wrong.

    Prices, counts, flags and whole volumes must be equal, vwap and fractional volumes to RELATIVE_TOLERANCE. Unknown
    equals only unknown, never 0. A bar that ``actual`` holds twice is surplus the second time.

    Args:
        expected, actual: rows with BAR_COLUMNS, in any order, of one or many timeframes; other columns are ignored.

    Returns:
        Rows with DIFFERENCE_COLUMNS, sorted by bar; empty if all is well. problem is missing, surplus or wrong; field,
        expected, actual and ``by`` (actual - expected; flags count as 0 and 1) are set for wrong only.
    """
    expected, actual = _typed(expected, BAR_COLUMNS), _typed(actual, BAR_COLUMNS)
    again = actual.duplicated(KEY)
    both = expected.merge(actual[~again], on=KEY, how="outer", indicator="side", suffixes=("_expected", "_actual"))
    found = [
        both.loc[both["side"] == "left_only", KEY].assign(problem="missing"),
        both.loc[both["side"] == "right_only", KEY].assign(problem="surplus"),
        actual.loc[again, KEY].assign(problem="surplus"),
    ]
    both = both[both["side"] == "both"]
    for field in BAR_COLUMNS[len(KEY) :]:
        want, have = both[f"{field}_expected"].astype("float64"), both[f"{field}_actual"].astype("float64")
        values = both[KEY].assign(problem="wrong", field=field, expected=want, actual=have, by=have - want)
        found.append(values[~is_equal(want, have, field)])
    rows = pd.concat(found).reindex(columns=DIFFERENCE_COLUMNS).astype({"problem": "str", "field": "str"})
    return rows.sort_values(KEY, kind="stable", ignore_index=True)


def _roll_up(
    bars: pd.DataFrame, source: Timeframe, target: Timeframe, agg_start_utc: dt.datetime, hours: TradingHours
) -> pd.DataFrame:
    bars = bars[bars["timeframe"] == source].sort_values(["canonical_symbol", "ts_utc"])
    twice = bars.duplicated(["canonical_symbol", "ts_utc"])
    if twice.any():
        symbol, ts = bars.loc[twice, ["canonical_symbol", "ts_utc"]].iloc[0]
        raise ValueError(f"{symbol} {source} {ts} is there twice; keep one row of each bar")

    bars = bars[_is_valid(bars, source)]
    bars = bars.assign(is_expected=hours.expects(bars["ts_utc"], source.length))
    bars = bars.assign(ts_utc=window_starts(bars["ts_utc"], target), timeframe=str(target))
    bars = bars[bars["ts_utc"] >= first_window(agg_start_utc, target)]
    bars["vwap"] = bars["vwap"].where(_is_finite(bars["vwap"]))
    bars["trade_count"] = bars["trade_count"].where(bars["trade_count"] >= 0)
    bars["weight"] = bars["vol"].where(bars["vwap"].notna())
    bars["weighted"] = bars["vwap"] * bars["vol"]

    windows = bars.groupby(KEY, sort=True)
    built = windows.agg(
        open=("open", "first"),
        high=("high", "max"),
        low=("low", "min"),
        close=("close", "last"),
        is_partial=("is_partial", "any"),
        source_candles=("open", "size"),
        inside=("is_expected", "sum"),
    )
    sums = windows[["vol", "weight", "weighted", "trade_count"]].sum(min_count=1)
    built["vol"] = sums["vol"]
    built["vwap"] = sums["weighted"] / sums["weight"]  # 0 / 0 is NaN: unknown
    built["trade_count"] = sums["trade_count"]
    built = built.reset_index()
    built["expected_candles"] = hours.count(built["ts_utc"], target.length, source.length)
    built["quality_score"] = _quality(built["inside"], built["expected_candles"])
    stored = built[built["quality_score"].notna()].reset_index(drop=True)
    return _typed(stored, BAR_COLUMNS)


def _is_valid(bars: pd.DataFrame, timeframe: Timeframe) -> pd.Series[bool]:
    """Rows that count as found. NaN fails every comparison, so an unknown price is never valid; unknown volume is."""
    valid = bars["ts_utc"] == window_starts(bars["ts_utc"], timeframe)
    for price in PRICES:  # a high below the low leaves no room for open and close
        valid &= bars[price].between(bars["low"], bars["high"]) & _is_finite(bars[price])
    return valid & (bars["vol"].isna() | (bars["vol"] >= 0) & _is_finite(bars["vol"]))


def _is_finite(values: pd.Series[float]) -> pd.Series[bool]:
    return values.abs() < np.inf


def window_starts(ts: pd.Series[pd.Timestamp], timeframe: Timeframe) -> pd.Series[pd.Timestamp]:
    """``timeframes.window_start`` of each."""
    return ORIGIN + (ts - ORIGIN) // timeframe.length * timeframe.length


def _quality(inside: pd.Series[int], expected: pd.Series[int]) -> pd.Series[int]:
    """Of the expected bars that are there; integers on both sides: 0.6 is no float, and 3 of 5 must reach it."""
    score = pd.Series(pd.NA, index=inside.index, dtype="Int64")
    for limit, is_reached in (
        (-1, 2 * inside > expected),
        (0, 10 * inside >= 6 * expected),
        (1, 10 * inside >= 8 * expected),
        (2, inside >= expected),
    ):
        score = score.mask(is_reached, limit)
    return score


def is_equal(want: pd.Series[float], have: pd.Series[float], field: str) -> pd.Series[bool]:
    """Equal as ``differences`` takes it for this field."""
    same = (want == have) | (want.isna() & have.isna())
    if field not in ("vol", "vwap"):
        return same
    near = (want - have).abs() <= RELATIVE_TOLERANCE * np.maximum(want.abs(), have.abs())
    near &= _is_finite(want) & _is_finite(have)
    if field == "vol":
        near &= (want % 1 != 0) | (have % 1 != 0) | (want >= _ALL_WHOLE_FROM)
    return same | near


def _typed(bars: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """The columns with one type each, whatever they came as: from a database None and objects, from a file NaN."""
    lacking = [column for column in columns if column not in bars.columns]
    if lacking:
        raise ValueError(f"bars lack {', '.join(lacking)}")
    floats = [*PRICES, "vol", "vwap"]
    counts = {"trade_count", "source_candles", "expected_candles", "quality_score"}.intersection(columns)
    return (
        bars[columns]
        .assign(ts_utc=_utc(bars["ts_utc"]))
        .astype({"canonical_symbol": "str", "timeframe": "str", "is_partial": "bool"})
        .astype(dict.fromkeys(floats, "float64") | dict.fromkeys(counts, "Int64"))
    )


def _utc(ts: pd.Series[pd.Timestamp]) -> pd.Series[pd.Timestamp]:
    times = pd.to_datetime(ts, format="ISO8601")
    if times.dt.tz is None:
        if times.notna().any():
            raise ValueError("ts_utc has no time zone; if it is UTC, say so: .dt.tz_localize('UTC')")
        times = times.dt.tz_localize("UTC")  # no rows, so no type either
    return times.dt.tz_convert("UTC").dt.as_unit("us")
