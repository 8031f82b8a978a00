"""Recomputation of all bars in pandas, as the reference that stored bars are compared with.

Used by tests, by `verify` and by the check matches_recomputation. It implements the documented rules of a bar and
shares nothing with the SQL: no cursor, no lease, no invalidation, one pass over all rows.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from agg_pipeline.market.bounds import FIRST_YEAR, LAST_YEAR, MAX_PRICE, MAX_TRADE_COUNT, MAX_VOLUME
from agg_pipeline.market.timeframes import ORIGIN, Timeframe, first_window, ladder_from
from agg_pipeline.market.trading_hours import TradingHours
from agg_pipeline.reading.columns import BAR_COLUMNS, KEY, PRICES, RAW_COLUMNS

ALWAYS_OPEN = TradingHours()
_WINDOW = ["canonical_symbol", "ts_utc"]
DIFFERENCE_COLUMNS = [*KEY, "problem", "field", "expected", "actual", "by"]

RELATIVE_TOLERANCE = 1e-12  # of vwap and fractional volumes: the order of addition changes the last bits of a sum
_FIRST, _END = (pd.Timestamp(dt.datetime(year, 1, 1, tzinfo=dt.UTC)) for year in (FIRST_YEAR, LAST_YEAR + 1))
_ALL_WHOLE_FROM = 2.0**52  # floats from here on are whole, even if the terms of a sum were fractional


def reference_bars(
    raw: pd.DataFrame,
    base: Timeframe,
    agg_start_utc: dt.datetime | Mapping[Timeframe, dt.datetime],
    hours: TradingHours = ALWAYS_OPEN,
) -> dict[Timeframe, pd.DataFrame]:
    """Build the bars of all timeframes above ``base`` from raw bars.

    Args:
        raw: rows with RAW_COLUMNS of any symbols, in any order; other timeframes are ignored. NaN is unknown; a volume
            of NaN in the database, which makes a row invalid, must be passed as infinity.
        base: timeframe of the raw bars, 1m or 5m.
        agg_start_utc: windows that start before it are not built. A mapping gives a start per timeframe; a timeframe
            that is not in it is not built, nor are those above it.
        hours: when bars are expected, for all symbols.

    Returns:
        Per timeframe, in the order of building: rows with BAR_COLUMNS, sorted by symbol and time; NaN, <NA>: unknown.

    Raises:
        ValueError: a column is missing, times are naive, or a bar exists twice.
    """
    levels = {base: _typed(raw, RAW_COLUMNS)}
    ladder = ladder_from(base)
    starts = agg_start_utc if isinstance(agg_start_utc, Mapping) else dict.fromkeys(ladder, agg_start_utc)
    for target, source in ladder.items():
        if target in starts and source in levels:
            levels[target] = _roll_up(levels[source], source, target, starts[target], hours, is_raw=source == base)
    del levels[base]
    return levels


def roll_up(
    bars: pd.DataFrame,
    source: Timeframe,
    target: Timeframe,
    agg_start_utc: dt.datetime,
    hours: TradingHours = ALWAYS_OPEN,
) -> pd.DataFrame:
    """Build the ``target`` bars from raw ``source`` bars: one timeframe of ``reference_bars``."""
    return _roll_up(_typed(bars, RAW_COLUMNS), source, target, agg_start_utc, hours, is_raw=True)


def differences(expected: pd.DataFrame, actual: pd.DataFrame) -> pd.DataFrame:
    """Compare bars: one row for each bar of ``actual`` that is missing or surplus, and for each field that is wrong.

    Prices, counts, flags and whole volumes must be equal, vwap and fractional volumes to RELATIVE_TOLERANCE. Unknown
    equals unknown only, not 0. A duplicate bar of ``actual`` is surplus.

    Args:
        expected, actual: rows with BAR_COLUMNS, in any order, of one or many timeframes; other columns are ignored.

    Returns:
        Rows with DIFFERENCE_COLUMNS, sorted by bar; empty if equal. problem is missing, surplus or wrong; field,
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
        if (is_wrong := ~is_equal(want, have, field)).any():
            values = both[KEY].assign(problem="wrong", field=field, expected=want, actual=have, by=have - want)
            found.append(values[is_wrong])
    rows = pd.concat(found).reindex(columns=DIFFERENCE_COLUMNS).astype({"problem": "str", "field": "str"})
    return rows.sort_values(KEY, kind="stable", ignore_index=True)


def _roll_up(
    bars: pd.DataFrame,
    source: Timeframe,
    target: Timeframe,
    agg_start_utc: dt.datetime,
    hours: TradingHours,
    *,
    is_raw: bool,
) -> pd.DataFrame:
    bars = bars[bars["timeframe"] == source].sort_values(_WINDOW)
    twice = bars.duplicated(_WINDOW)
    if twice.any():
        symbol, ts = bars.loc[twice, _WINDOW].iloc[0]
        raise ValueError(f"{symbol} {source} {ts} exists twice; keep one row per bar")

    bars = bars[is_valid(bars, source, is_raw=is_raw)]
    bars = bars.assign(is_expected=hours.expects(bars["ts_utc"], source.length))
    bars = bars.assign(ts_utc=window_starts(bars["ts_utc"], target))
    bars = bars[bars["ts_utc"] >= first_window(agg_start_utc, target)]

    # Sorted by symbol and time, so that the rows of a window lie together: firsts[n] to lasts[n].
    firsts = np.flatnonzero((bars[_WINDOW] != bars[_WINDOW].shift()).any(axis=1))
    lasts = np.append(firsts[1:], len(bars))[: len(firsts)] - 1
    vwap = bars["vwap"].where(_is_finite(bars["vwap"]))
    weight = bars["vol"].where(vwap.notna())
    built = pd.DataFrame(
        {
            "canonical_symbol": bars["canonical_symbol"].to_numpy()[firsts],
            "timeframe": target.value,
            "ts_utc": bars["ts_utc"].iloc[firsts].reset_index(drop=True),
            "open": bars["open"].to_numpy()[firsts],
            "high": _reduced(np.maximum, bars["high"], firsts),
            "low": _reduced(np.minimum, bars["low"], firsts),
            "close": bars["close"].to_numpy()[lasts],
            "vol": _sums(bars["vol"], firsts),
            "vwap": _sums(vwap * weight, firsts) / _sums(weight, firsts),  # 0 / 0 is NaN: unknown
            "trade_count": _sums(bars["trade_count"].where(bars["trade_count"] >= 0), firsts),
            "is_partial": _reduced(np.logical_or, bars["is_partial"], firsts),
            "source_candles": lasts - firsts + 1,
        }
    )
    built["expected_candles"] = hours.count(built["ts_utc"], target.length, source.length)
    inside = pd.Series(_reduced(np.add, bars["is_expected"].astype("int64"), firsts))
    built["quality_score"] = _quality(inside, built["expected_candles"])
    stored = built[built["quality_score"].notna()].reset_index(drop=True)
    return _typed(stored, BAR_COLUMNS)


def _reduced(ufunc: np.ufunc, values: pd.Series[Any], firsts: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
    """The values of each window, from one of ``firsts`` to the next, made one."""
    array = values.to_numpy()
    reduced: npt.NDArray[Any] = ufunc.reduceat(array, firsts) if len(firsts) else array[:0]
    return reduced


def _sums(values: pd.Series[Any], firsts: npt.NDArray[np.intp]) -> pd.Series[Any]:
    """Sums of the known values of each window, unknown where none is known, in the type of the values."""
    is_known = values.notna()
    sums = pd.Series(_reduced(np.add, values.fillna(0), firsts), dtype=values.dtype)
    return sums.where(_reduced(np.logical_or, is_known, firsts))


def is_valid(bars: pd.DataFrame, timeframe: Timeframe, *, is_raw: bool) -> pd.Series[bool]:
    """Which rows are valid source bars. An unknown price (NaN) is invalid, an unknown volume is valid.

    Args:
        is_raw: whether the rows were ingested; only these are held to the bounds of volume, vwap and trade count. Sums
            and means of them may lie a little outside.
    """
    valid = bars["ts_utc"].between(_FIRST, _END, inclusive="left") & (
        bars["ts_utc"] == window_starts(bars["ts_utc"], timeframe)
    )
    for price in PRICES:  # a high below the low is found by open and close; NaN is between nothing
        valid &= bars[price].between(bars["low"], bars["high"]) & (bars[price].abs() <= MAX_PRICE)
    valid &= bars["vol"].isna() | (bars["vol"] >= 0) & _is_finite(bars["vol"])
    if is_raw:
        valid &= ~(bars["vol"] > MAX_VOLUME) & ~(_is_finite(bars["vwap"]) & (bars["vwap"].abs() > MAX_PRICE))
        valid &= ~(bars["trade_count"] > MAX_TRADE_COUNT).fillna(False).astype("bool")
    return valid


def _is_finite(values: pd.Series[float]) -> pd.Series[bool]:
    return values.abs() < np.inf


def window_starts(ts: pd.Series[pd.Timestamp], timeframe: Timeframe) -> pd.Series[pd.Timestamp]:
    """``timeframes.window_start`` of each time."""
    return ORIGIN + (ts - ORIGIN) // timeframe.length * timeframe.length


def _quality(inside: pd.Series[int], expected: pd.Series[int]) -> pd.Series[int]:
    """Quality score by the share of expected bars found; in integers, since 3 of 5 must reach 0.6 exactly."""
    score = pd.Series(pd.NA, index=inside.index, dtype="Int64")
    for limit, is_reached in (
        (-1, 2 * inside > expected),
        (0, 10 * inside >= 6 * expected),
        (1, 10 * inside >= 8 * expected),
        (2, inside >= expected),
    ):
        score = score.mask(is_reached, limit)
    return score


def is_equal(expected: pd.Series[float], actual: pd.Series[float], field: str) -> pd.Series[bool]:
    """Whether values of a field are equal under the rules of ``differences``."""
    same = (expected == actual) | (expected.isna() & actual.isna())
    if field not in ("vol", "vwap"):
        return same
    near = (expected - actual).abs() <= RELATIVE_TOLERANCE * np.maximum(expected.abs(), actual.abs())
    near &= _is_finite(expected) & _is_finite(actual)
    if field == "vol":
        near &= (expected % 1 != 0) | (actual % 1 != 0) | (expected >= _ALL_WHOLE_FROM)
    return same | near


def _typed(bars: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """The columns, converted to fixed types: a database gives None and objects, a file NaN."""
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
            raise ValueError("ts_utc has no time zone; if it is UTC, set it: .dt.tz_localize('UTC')")
        times = times.dt.tz_localize("UTC")  # a column without values has no time zone
    return times.dt.tz_convert("UTC").dt.as_unit("us")
