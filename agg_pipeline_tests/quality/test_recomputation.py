"""Each rule of the content of a bar, with figures worked out by hand."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from agg_pipeline.market.timeframes import Timeframe
from agg_pipeline.quality.recomputation import reference_bars, roll_up
from agg_pipeline.reading.columns import BAR_COLUMNS, RAW_COLUMNS
from agg_pipeline_tests.quality.raw_bars import MIDNIGHT, bar

M1, M5, M15, H1, H4, D1 = Timeframe
inf, nan = float("inf"), float("nan")


def build(rows: list[dict[str, Any]], target: Timeframe, base: Timeframe = M1) -> list[dict[str, Any]]:
    """The target bars as plain dicts; unknown is None."""
    raw = pd.DataFrame(rows, columns=RAW_COLUMNS)
    is_next = base is M1 and target is M5  # one level is five times as fast as the ladder
    bars = roll_up(raw, base, target, MIDNIGHT) if is_next else reference_bars(raw, base, MIDNIGHT)[target]
    assert list(bars.columns) == BAR_COLUMNS
    records = bars.astype(object).where(bars.notna(), None).to_dict("records")
    return [{str(name): value for name, value in record.items()} for record in records]


def build_5m(*changes: dict[str, Any]) -> dict[str, Any]:
    """The one 5m bar of five plain 1m bars of which the first ones are changed."""
    rows = [bar(minute) for minute in range(5)]
    for row, change in zip(rows, changes, strict=False):
        row.update(change)
    [built] = build(rows, M5)
    return built


def test_a_bar_by_hand() -> None:
    rows = [
        bar(0, open=10.0, high=10.5, low=9.75, close=10.25, vol=100, vwap=10.125, trade_count=7),
        bar(1, open=10.25, high=11.5, low=10.25, close=11.0, vol=50, vwap=11.0, trade_count=0),
        bar(2, open=11.0, high=11.0, low=8.5, close=9.0, vol=0, vwap=9.5, trade_count=2),
        bar(3, open=9.0, high=9.25, low=9.0, close=9.25, vol=150, vwap=9.0, trade_count=11),
        bar(4, open=9.25, high=9.5, low=9.0, close=9.5, vol=100, vwap=9.375, trade_count=3),
    ]
    assert build(rows, M5) == [
        {
            "canonical_symbol": "EURUSD",
            "timeframe": "5m",
            "ts_utc": MIDNIGHT,
            "open": 10.0,
            "high": 11.5,
            "low": 8.5,
            "close": 9.5,
            "vol": 400.0,
            "vwap": 9.625,  # (1012.5 + 550 + 0 + 1350 + 937.5) / 400 = 3850 / 400
            "trade_count": 23,
            "is_partial": False,
            "source_candles": 5,
            "expected_candles": 5,
            "quality_score": 2,
        }
    ]


def test_open_and_close_are_by_time_never_by_arrival() -> None:
    rows = [bar(minute, open=10 + minute / 10, close=9 + minute / 10) for minute in (3, 0, 4, 2, 1)]
    [built] = build(rows, M5)
    assert (built["open"], built["close"]) == (10.0, 9.4)


@pytest.mark.parametrize(
    "invalid",
    [
        *({price: value} for price in ("open", "high", "low", "close") for value in (None, nan, inf, -inf)),
        {"high": 8.0},  # below the low
        {"open": 12.5},
        {"open": 8.5},
        {"close": 12.5},
        {"close": 8.5},
        {"vol": -0.5},
        {"vol": inf},
        {"vol": -inf},
        {"ts_utc": MIDNIGHT + dt.timedelta(seconds=1)},
        {"ts_utc": MIDNIGHT + dt.timedelta(microseconds=1)},
    ],
    ids=str,
)
def test_an_invalid_row_counts_as_missing(invalid: dict[str, Any]) -> None:
    odd = {"open": 50, "high": 99, "low": 1, "close": 60, "vol": 1000, "vwap": 70, "trade_count": 9, "is_partial": True}
    if set(invalid) <= {"vol", "ts_utc"}:
        invalid = odd | invalid
    assert build_5m(invalid | {"is_partial": True}) == build([bar(minute) for minute in range(1, 5)], M5)[0]


def test_an_invalid_row_affects_no_other_window() -> None:
    assert build([bar(minute, open=nan if minute < 5 else 10) for minute in range(10)], M5) == build(
        [bar(minute) for minute in range(5, 10)], M5
    )


def test_negative_and_zero_prices_are_valid() -> None:
    below, nil = {"open": -37.63, "high": 0, "low": -40.32, "close": 0}, {"open": 0, "high": 0, "low": 0, "close": 0}
    built = build_5m(below, nil)
    assert (built["open"], built["high"], built["low"], built["close"]) == (-37.63, 12, -40.32, 11)
    assert built["source_candles"] == 5


def test_high_low_open_and_close_may_be_one_price() -> None:
    assert build_5m(*[{"open": 9, "high": 9, "low": 9, "close": 9}] * 5)["source_candles"] == 5


@pytest.mark.parametrize(
    ("volumes", "vol"),
    [
        ([None, None, None, None, None], None),
        ([None, 0, None, None, None], 0),
        ([None, 2, nan, 3, None], 5),
        ([0.5, 0.25, 0.125, 0, 1], 1.875),
    ],
)
def test_volume_is_the_sum_of_what_is_known(volumes: list[float | None], vol: float | None) -> None:
    assert build_5m(*({"vol": volume} for volume in volumes))["vol"] == vol


@pytest.mark.parametrize(
    ("volumes", "vwaps", "vwap"),
    [
        ([2, 3, 1, 1, 1], [10, 11, None, None, None], 10.6),  # (20 + 33) / 5
        ([None, 3, 1, 1, 1], [10, 11, None, None, None], 11),
        ([None, None, 1, 1, 1], [10, 11, None, None, None], None),
        ([0, 0, 1, 1, 1], [10, 11, None, None, None], None),
        ([0, 4, 1, 1, 1], [10, 11, None, None, None], 11),
        ([0, 0, 0, 0, 0], [10, 11, 10, 11, 10], None),
        ([1, 1, 1, 1, 1], [None, None, None, None, None], None),
        ([5, 1, 1, 1, 1], [inf, 11, nan, -inf, None], 11),
        ([1, 3, 1, 1, 1], [-2, 10, None, None, None], 7),  # (-2 + 30) / 4
    ],
)
def test_vwap_weighs_the_bars_that_have_both(
    volumes: list[float | None], vwaps: list[float | None], vwap: float | None
) -> None:
    built = build_5m(*({"vol": volume, "vwap": price} for volume, price in zip(volumes, vwaps, strict=True)))
    assert built["vwap"] == vwap
    assert built["source_candles"] == 5


@pytest.mark.parametrize(
    ("counts", "trade_count"),
    [
        ([None, None, None, None, None], None),
        ([None, 0, None, None, None], 0),
        ([4, None, 3, 0, None], 7),
        ([-1, 4, None, None, None], 4),
        ([-1, -7, None, None, None], None),
    ],
)
def test_trade_count_is_the_sum_of_what_is_known(counts: list[int | None], trade_count: int | None) -> None:
    built = build_5m(*({"trade_count": count} for count in counts))
    assert built["trade_count"] == trade_count
    assert built["source_candles"] == 5


def test_trade_counts_are_added_as_integers() -> None:
    """Floats cannot hold this sum."""
    most = 10**15
    rows = [bar(n, trade_count=most - (n == 7)) for n in range(60)]
    assert reference_bars(pd.DataFrame(rows), M1, MIDNIGHT)[H1]["trade_count"].tolist() == [60 * most - 1]


def test_one_partial_row_makes_the_bar_partial_at_every_level() -> None:
    assert build_5m({"is_partial": True})["is_partial"] is True
    levels = reference_bars(pd.DataFrame([bar(n, is_partial=n == 77) for n in range(1440)]), M1, MIDNIGHT)
    assert levels[H1]["is_partial"].tolist() == [False, True] + [False] * 22
    assert levels[H4]["is_partial"].tolist() == [True] + [False] * 5
    assert levels[D1]["is_partial"].tolist() == [True]


SCORES_OF_5 = {0: None, 1: None, 2: None, 3: 0, 4: 1, 5: 2}
SCORES_OF_3 = {0: None, 1: None, 2: 0, 3: 2}
SCORES_OF_4 = {0: None, 1: None, 2: None, 3: 0, 4: 2}
SCORES_OF_12 = dict.fromkeys(range(7)) | {7: -1, 8: 0, 9: 0, 10: 1, 11: 1, 12: 2}
SCORES_OF_24 = dict.fromkeys(range(13)) | {13: -1, 14: -1, 15: 0, 16: 0, 19: 0, 20: 1, 23: 1, 24: 2}


@pytest.mark.parametrize(
    ("source", "target", "found", "score"),
    [
        (source, target, found, score)
        for source, target, scores in (
            (M1, M5, SCORES_OF_5),
            (M5, M15, SCORES_OF_3),
            (M5, H1, SCORES_OF_12),
            (H1, H4, SCORES_OF_4),
            (H1, D1, SCORES_OF_24),
        )
        for found, score in scores.items()
    ],
)
def test_quality_by_share_found(source: Timeframe, target: Timeframe, found: int, score: int | None) -> None:
    """Thresholds are inclusive: 3 of 5 is 0.6. Half of the expected bars gives no bar."""
    rows = pd.DataFrame([bar(n * source.minutes, source) for n in range(found)], columns=RAW_COLUMNS)
    built = roll_up(rows, source, target, MIDNIGHT)
    assert built["quality_score"].tolist() == ([] if score is None else [score])
    assert built["source_candles"].tolist() == ([] if score is None else [found])
    assert set(built["expected_candles"]) <= {target.minutes // source.minutes}


def test_a_level_is_built_from_stored_bars_of_the_level_below() -> None:
    """Two minutes of 00:05 give no 5m bar, so the 15m bar lacks them, although 12 of 15 minutes exist."""
    rows = [bar(minute, high=99 if minute == 6 else 12, vol=1) for minute in (*range(5), 5, 6, *range(10, 15))]
    [built] = build(rows, M15)
    assert (built["source_candles"], built["expected_candles"], built["quality_score"]) == (2, 3, 0)
    assert (built["high"], built["vol"]) == (12, 10)


def test_vwap_of_a_level_weighs_the_volume_of_the_level_below() -> None:
    """The 5m bar of 00:00 has vwap 20 from volume 1 and volume 5: above it weighs 5, as does the 5m bar of 00:05."""
    rows = [bar(0, vwap=20), *(bar(minute) for minute in range(1, 5)), *(bar(m, vwap=10) for m in range(5, 10))]
    assert [built["vwap"] for built in build(rows, M15)] == [15.0]


def test_1m_bars_reach_a_day_through_every_level() -> None:
    rows = [bar(minute, vwap=10.5, trade_count=2) for minute in range(1440)]
    levels = reference_bars(pd.DataFrame(rows), M1, MIDNIGHT)
    assert {timeframe: len(bars) for timeframe, bars in levels.items()} == {M5: 288, M15: 96, H1: 24, H4: 6, D1: 1}
    [day] = build(rows, D1)
    assert (day["vol"], day["vwap"], day["trade_count"]) == (1440, 10.5, 2880)
    assert (day["source_candles"], day["expected_candles"]) == (24, 24)


def test_5m_bars_are_a_base_too() -> None:
    levels = reference_bars(pd.DataFrame([bar(5 * n, M5) for n in range(288)]), M5, MIDNIGHT)
    assert {timeframe: len(bars) for timeframe, bars in levels.items()} == {M15: 96, H1: 24, H4: 6, D1: 1}


def test_5m_bars_off_the_5m_grid_are_invalid() -> None:
    [built] = build([bar(0, M5), bar(5, M5), bar(11, M5, high=99)], M15, base=M5)
    assert (built["source_candles"], built["high"]) == (2, 12)


def test_rows_of_another_timeframe_are_not_read() -> None:
    minutes = [bar(minute) for minute in range(5)]
    assert build([*minutes, bar(0, M5, high=99)], M5) == build(minutes, M5)


def test_symbols_do_not_mix() -> None:
    rows = [bar(n, symbol=symbol, high=high) for n in range(5) for symbol, high in (("EURUSD", 12), ("BTCUSD", 99))]
    assert [(built["canonical_symbol"], built["high"]) for built in build(rows, M5)] == [("BTCUSD", 99), ("EURUSD", 12)]


def test_no_window_starts_before_the_start() -> None:
    """Start 00:03: the first 5m window is 00:05, the first 15m window 00:15, the first 1h window 01:00."""
    rows = pd.DataFrame([bar(minute) for minute in range(180)])
    levels = reference_bars(rows, M1, MIDNIGHT + dt.timedelta(minutes=3))
    first = {timeframe: bars["ts_utc"].min() - MIDNIGHT for timeframe, bars in levels.items() if len(bars)}
    assert first == {M5: M5.length, M15: M15.length, H1: H1.length}
    assert reference_bars(rows, M1, MIDNIGHT)[M5]["ts_utc"].min() == MIDNIGHT


def test_windows_before_the_origin_and_far_from_it() -> None:
    for year in (1901, 1999, 2198):
        start = dt.datetime(year, 12, 31, 23, 55, tzinfo=dt.UTC)
        rows = [bar(0) | {"ts_utc": start + dt.timedelta(minutes=minute)} for minute in range(5)]
        assert reference_bars(pd.DataFrame(rows), M1, start)[M5]["ts_utc"].tolist() == [start]


def test_no_rows_give_no_bars_of_the_same_types() -> None:
    empty = reference_bars(pd.DataFrame([], columns=RAW_COLUMNS), M1, MIDNIGHT)
    full = reference_bars(pd.DataFrame([bar(minute) for minute in range(1440)]), M1, MIDNIGHT)
    for timeframe, bars in empty.items():
        assert len(bars) == 0
        assert bars.dtypes.to_dict() == full[timeframe].dtypes.to_dict()


def test_a_duplicate_bar_is_refused() -> None:
    with pytest.raises(ValueError, match=r"EURUSD 1m 2024-03-13 00:01:00\+00:00 exists twice"):
        build([bar(0), bar(1), bar(1, high=13)], M5)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ValueError, match="bars lack vwap, is_partial"):
        reference_bars(pd.DataFrame([bar(0)]).drop(columns=["vwap", "is_partial"]), M1, MIDNIGHT)


@pytest.mark.parametrize("as_stored", [lambda ts: ts, lambda ts: ts.astype(object), lambda ts: ts.astype(str)])
def test_naive_times_are_refused(as_stored: Callable[[Any], Any]) -> None:
    rows = pd.DataFrame([bar(0)])
    rows["ts_utc"] = as_stored(rows["ts_utc"].dt.tz_localize(None))
    with pytest.raises(ValueError, match="ts_utc has no time zone"):
        reference_bars(rows, M1, MIDNIGHT)


def test_times_may_be_iso_text_as_json_has_them() -> None:
    rows = pd.DataFrame([bar(minute) for minute in (0, 1, 2, 3.5, 4)])
    rows["ts_utc"] = [ts.isoformat() for ts in rows["ts_utc"]]
    rows.loc[3, "ts_utc"] = "2024-03-13T00:03:00.000001+00:00"
    assert reference_bars(rows, M1, MIDNIGHT)[M5]["source_candles"].tolist() == [4]
