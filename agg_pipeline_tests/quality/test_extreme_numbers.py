"""Checks and recomputation of numbers of any size raise no warning of numpy, whatever is stored."""

import datetime as dt
import math
import random
import warnings
from collections.abc import Iterator

import pandas as pd
import pytest

from agg_pipeline.market.timeframes import Timeframe
from agg_pipeline.quality.checks import check_bars
from agg_pipeline.reading.html_chart import candles_html
from agg_pipeline.reading.svg_chart import candles_svg
from agg_pipeline_tests.quality.raw_bars import MIDNIGHT, bar
from agg_pipeline_tests.quality.test_checks import Pages

LARGEST = 1.7976931348623157e308
EXTREMES = [0.0, -0.0, 1.0, 5e-324, 1e-300, 1e30, 1e308, -1e308, LARGEST, -LARGEST, math.inf, -math.inf, math.nan]
DAY = dt.timedelta(days=1)
FIELDS = ["open", "high", "low", "close", "vol", "vwap"]


@pytest.fixture(autouse=True)
def no_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def look(raw: pd.DataFrame, seed: int | None) -> None:
    """All that commands do with bars: checks, recomputation, comparison, both charts; with a seed on damaged bars."""
    pages = Pages(raw)
    if seed is not None:
        pages.derived = pages.derived.assign(**columns(seed, len(pages.derived)))
    check_bars(pages, "EURUSD", begin=MIDNIGHT, end=MIDNIGHT + DAY)
    for rows in (raw, pages.derived[(pages.derived["timeframe"] == "5m").to_numpy()]):
        candles_svg(rows, title="x")
        candles_html(rows, [], title="x", length=Timeframe.M1.length)


def columns(seed: int, rows: int) -> dict[str, list[float]]:
    choose = random.Random(seed)
    return {field: choose.choices([10.0, 11.0, *EXTREMES], k=rows) for field in FIELDS}


@pytest.mark.parametrize("where", ["raw", "stored"])
def test_extreme_numbers_in_all_fields(where: str) -> None:
    raw = pd.DataFrame([bar(minute) for minute in range(30)])
    look(raw.assign(**columns(1, len(raw))) if where == "raw" else raw, 7 if where == "stored" else None)


@pytest.mark.parametrize("volume", [1e308, math.nan])
def test_a_column_of_one_volume(volume: float) -> None:
    pages = Pages(pd.DataFrame([bar(minute, vwap=10) for minute in range(20)]))
    pages.derived = pages.derived.assign(vol=volume, vwap=math.nan)
    check_bars(pages, "EURUSD", begin=MIDNIGHT, end=MIDNIGHT + DAY, timeframes=["5m", "15m"])


def test_volumes_whose_sum_is_too_large_give_a_finding() -> None:
    pages = Pages(pd.DataFrame([bar(minute) for minute in range(15)]))
    pages.derived = pages.derived.assign(vol=1e308)
    found = [one for one in check_bars(pages, "EURUSD", begin=MIDNIGHT, end=MIDNIGHT + DAY, timeframes=["15m"])
             if one.check == "parents_agree"]  # fmt: skip
    assert [str(finding) for one in found for finding in one.findings] == [
        "EURUSD 15m 2024-03-13 00:00 UTC: vol is 1e+308, its 5m bars give inf"
    ]
