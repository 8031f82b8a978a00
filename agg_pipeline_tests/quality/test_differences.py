"""differences(): which values count as equal, and which do not."""

import datetime as dt
import functools
from typing import Any

import pandas as pd
import pytest

from agg_pipeline.market.timeframes import Timeframe
from agg_pipeline.quality.recomputation import differences, reference_bars
from agg_pipeline.reading.columns import BAR_COLUMNS
from agg_pipeline_tests.quality.raw_bars import MIDNIGHT, bar

M1, M5, M15, H1, H4, D1 = Timeframe
inf, nan = float("inf"), float("nan")


@functools.cache
def day() -> dict[Timeframe, pd.DataFrame]:
    rows = [bar(minute, vol=1 + minute % 3, vwap=10.5, trade_count=2) for minute in range(1440)]
    return reference_bars(pd.DataFrame(rows), M1, MIDNIGHT)


def wrong(field: str, want: Any, have: Any) -> list[tuple[str, float, float, float]]:
    """Differences of one hourly bar whose field is expected as ``want`` and stored as ``have``."""
    expected, actual = day()[H1].copy(), day()[H1].astype(object)
    expected[field] = expected[field].astype(object)
    expected.loc[7, field], actual.loc[7, field] = want, have
    found = differences(expected, actual)
    assert set(found["ts_utc"]) <= {MIDNIGHT + dt.timedelta(hours=7)}
    assert set(found["problem"]) <= {"wrong"}
    return list(found[["field", "expected", "actual", "by"]].itertuples(index=False, name=None))


def test_equal_bars_have_no_differences_in_any_order_or_type() -> None:
    bars = pd.concat(day().values())
    shuffled = bars.sample(frac=1, random_state=1).astype(object).assign(revision=1)
    shuffled["ts_utc"] = [ts.isoformat() for ts in shuffled["ts_utc"]]
    assert differences(bars, shuffled.where(shuffled.notna(), None)).empty
    assert differences(bars.iloc[:0], bars.iloc[:0]).empty
    assert differences(bars.iloc[:0], pd.DataFrame(columns=BAR_COLUMNS)).empty


def test_missing_and_surplus_bars() -> None:
    bars = day()[H4]
    found = differences(bars.drop(index=[1]), bars.drop(index=[0, 5]))
    assert found[["timeframe", "ts_utc", "problem"]].to_dict("list") == {
        "timeframe": ["4h", "4h", "4h"],
        "ts_utc": [MIDNIGHT + dt.timedelta(hours=hour) for hour in (0, 4, 20)],
        "problem": ["missing", "surplus", "missing"],
    }
    assert found[["field", "expected", "actual", "by"]].isna().all(axis=None)


def test_the_same_bar_of_another_timeframe_is_another_bar() -> None:
    assert sorted(differences(day()[H4].head(1), day()[H1].head(1))["problem"]) == ["missing", "surplus"]


def test_a_bar_twice_is_surplus_the_second_time() -> None:
    bars = day()[D1]
    assert differences(bars, pd.concat([bars, bars.assign(close=99.0)]))["problem"].tolist() == ["surplus"]


def test_prices_must_be_equal_to_the_last_bit() -> None:
    for price in ("open", "high", "low", "close"):
        assert wrong(price, 0.3, 0.1 + 0.2) == [(price, 0.3, 0.1 + 0.2, 0.1 + 0.2 - 0.3)]


@pytest.mark.parametrize(
    ("field", "want", "have", "by"),
    [
        ("trade_count", 120, 121, 1),
        ("source_candles", 12, 11, -1),
        ("expected_candles", 12, 24, 12),
        ("quality_score", 2, 1, -1),
        ("is_partial", False, True, 1),
        ("vol", 120, 121, 1),
        ("vol", 10.0**15, 10.0**15 + 1, 1),  # whole and within the tolerance, yet not equal
        ("vol", 0.5, 0.75, 0.25),
        ("vwap", 10.5, 10.25, -0.25),
        ("vwap", 2.0**50, 2.0**50 + 2**11, 2**11),  # 1.8e-12 relative
    ],
)
def test_a_wrong_field_says_by_how_much(field: str, want: float, have: float, by: float) -> None:
    assert wrong(field, want, have) == [(field, want, have, by)]


@pytest.mark.parametrize(
    ("field", "want", "have"),
    [
        ("vol", 0.5, 0.5 * (1 + 5e-13)),
        ("vol", 1.0, 1 - 2**-53),  # a fractional volume that happens to sum to a whole one
        ("vol", 2.0**53, 2.0**53 + 2),
        ("vwap", 10.5, 10.5 * (1 + 5e-13)),
        ("vwap", -10.5, -10.5 * (1 + 5e-13)),
        ("vwap", 10.0**15, 10.0**15 + 1),
        ("vwap", None, nan),
        ("vol", None, None),
        ("trade_count", None, None),
    ],
)
def test_the_last_bits_of_a_sum_are_no_difference(field: str, want: float, have: float) -> None:
    assert wrong(field, want, have) == []


@pytest.mark.parametrize("field", ["vol", "vwap", "trade_count"])
def test_unknown_is_not_zero(field: str) -> None:
    [(name, want, have, by)] = wrong(field, None, 0)
    assert (name, have) == (field, 0)
    assert pd.isna([want, by]).all()
    assert [found[0] for found in wrong(field, 0, None)] == [field]


@pytest.mark.parametrize("field", ["vol", "vwap"])
def test_infinity_is_never_within_the_tolerance(field: str) -> None:
    assert [found[0] for found in wrong(field, 1.5, inf)] == [field]
