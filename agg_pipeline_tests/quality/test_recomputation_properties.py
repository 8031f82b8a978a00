"""Properties of the recomputation for any raw bars."""

import random

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agg_pipeline.market.timeframes import Timeframe
from agg_pipeline.quality.recomputation import reference_bars, roll_up
from agg_pipeline.reading.columns import RAW_COLUMNS
from agg_pipeline_tests.quality.raw_bars import MIDNIGHT, bar

M1, M5, M15, H1, H4, D1 = Timeframe


@st.composite
def raw_bars(draw: st.DrawFn) -> pd.DataFrame:
    """Eight hours of 1m bars of two symbols: some missing, some invalid, volumes in thirds or unknown."""
    seed = random.Random(draw(st.integers(0, 2**32 - 1)))
    share = draw(st.sampled_from([0.5, 0.7, 0.9, 1.0]))
    rows = []
    for symbol in ("EURUSD", "BTCUSD"):
        for minute in range(480):
            if seed.random() >= share:
                continue
            low, close, open_, high = sorted(seed.choices(range(-5, 200), k=4))
            row = bar(minute, symbol=symbol, open=open_ / 8, high=high / 8, low=low / 8, close=close / 8)
            row["vol"] = seed.choice([None, 0, seed.randrange(1000), seed.random() * 1000])
            row["vwap"] = seed.choice([None, close / 8])
            row["trade_count"] = seed.choice([None, seed.randrange(50)])
            if seed.random() < 0.02:
                row["high"] = row["low"] - 1
            rows.append(row)
    return pd.DataFrame(rows, columns=RAW_COLUMNS)


few = settings(max_examples=settings().max_examples // 50)  # one takes half a second and more


@few
@given(raw_bars(), st.integers(0, 2**32 - 1))
def test_the_order_of_rows_changes_nothing(raw: pd.DataFrame, seed: int) -> None:
    shuffled = reference_bars(raw.sample(frac=1, random_state=seed), M1, MIDNIGHT)
    for timeframe, bars in reference_bars(raw, M1, MIDNIGHT).items():
        pd.testing.assert_frame_equal(bars, shuffled[timeframe])


@few
@given(raw_bars())
def test_a_symbol_alone_gives_the_same_bars(raw: pd.DataFrame) -> None:
    alone = [roll_up(raw[raw["canonical_symbol"] == symbol], M1, M5, MIDNIGHT) for symbol in ("BTCUSD", "EURUSD")]
    pd.testing.assert_frame_equal(roll_up(raw, M1, M5, MIDNIGHT), pd.concat(alone, ignore_index=True))


@few
@given(raw_bars())
def test_every_hour_agrees_with_its_stored_5m_bars(raw: pd.DataFrame) -> None:
    levels = reference_bars(raw, M1, MIDNIGHT)
    for _, hour in levels[H1].iterrows():
        fives = levels[M5][levels[M5]["canonical_symbol"] == hour["canonical_symbol"]]
        fives = fives[(fives["ts_utc"] >= hour["ts_utc"]) & (fives["ts_utc"] < hour["ts_utc"] + H1.length)]
        assert hour["source_candles"] == len(fives) > 6
        assert (hour["open"], hour["close"]) == (fives["open"].iloc[0], fives["close"].iloc[-1])
        assert (hour["high"], hour["low"]) == (fives["high"].max(), fives["low"].min())
        assert hour["vol"] == pytest.approx(fives["vol"].sum(), rel=1e-12)
        assert hour["trade_count"] == fives["trade_count"].sum()


@few
@given(raw_bars())
def test_without_gaps_no_volume_and_no_trade_is_lost(raw: pd.DataFrame) -> None:
    """When every window is stored, the sums of each level are those of the raw bars."""
    valid = raw[raw["high"] >= raw["low"]]
    every = pd.DataFrame([bar(m, symbol=s, vol=None) for s in ("EURUSD", "BTCUSD") for m in range(480)])
    known = every.merge(valid, how="left", on=["canonical_symbol", "timeframe", "ts_utc"], suffixes=("", "_raw"))
    known = known.assign(vol=known["vol_raw"], trade_count=known["trade_count_raw"])[RAW_COLUMNS]
    levels = reference_bars(known, M1, MIDNIGHT)
    for timeframe in (M5, M15, H1, H4):
        assert len(levels[timeframe]) == 2 * 480 // timeframe.minutes
        assert levels[timeframe]["vol"].sum() == pytest.approx(valid["vol"].sum(), rel=1e-12)
        assert levels[timeframe]["trade_count"].sum() == valid["trade_count"].sum()
