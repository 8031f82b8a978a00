"""Windows worked out by hand, and properties that hold for every time."""

import datetime as dt
from collections.abc import Callable
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agg_pipeline.market.timeframes import (
    LADDER,
    ORIGIN,
    Timeframe,
    first_window,
    ladder_from,
    next_window,
    window_start,
)

M1, M5, M15, H1, H4, D1 = Timeframe
timeframes = st.sampled_from(Timeframe)
times = st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2100, 1, 1), timezones=st.just(dt.UTC))


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def test_lengths() -> None:
    assert [timeframe.minutes for timeframe in Timeframe] == [1, 5, 15, 60, 240, 1440]
    assert H4.length == dt.timedelta(hours=4)


def test_a_timeframe_is_its_database_name() -> None:
    assert Timeframe("15m") is M15
    assert f"{D1}" == "1d" == D1


@pytest.mark.parametrize("name", ["2h", "", "1M", "15 m"])
def test_an_unknown_timeframe_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^unknown timeframe '{name}'; there are 1m, 5m, 15m, 1h, 4h, 1d$"):
        Timeframe(name)


def test_windows_count_from_a_monday() -> None:
    assert ORIGIN.weekday() == 0


@pytest.mark.parametrize(
    ("timeframe", "start"),
    [
        (M1, "2024-03-13 17:39:00"),
        (M5, "2024-03-13 17:35:00"),
        (M15, "2024-03-13 17:30:00"),
        (H1, "2024-03-13 17:00:00"),
        (H4, "2024-03-13 16:00:00"),
        (D1, "2024-03-13 00:00:00"),
    ],
)
def test_the_window_that_holds_a_time(timeframe: Timeframe, start: str) -> None:
    assert window_start(utc("2024-03-13 17:39:59.999999"), timeframe) == utc(start)


def test_a_window_is_half_open() -> None:
    assert window_start(utc("2024-03-13 17:35"), M5) == utc("2024-03-13 17:35")
    assert next_window(utc("2024-03-13 17:35"), M5) == utc("2024-03-13 17:40")
    assert next_window(utc("2024-03-13 17:39:59.999999"), M5) == utc("2024-03-13 17:40")


def test_times_before_the_origin_have_windows_too() -> None:
    assert window_start(utc("2000-12-31 23:59"), H4) == utc("2000-12-31 20:00")
    assert window_start(utc("1969-12-31 23:59"), D1) == utc("1969-12-31 00:00")


def test_the_first_window_starts_at_or_after_the_start() -> None:
    assert first_window(utc("2024-03-13 00:00"), D1) == utc("2024-03-13 00:00")
    assert first_window(utc("2024-03-13 00:00:01"), D1) == utc("2024-03-14 00:00")


@pytest.mark.parametrize("function", [window_start, next_window, first_window])
def test_a_naive_time_is_refused(function: Callable[[dt.datetime, Timeframe], dt.datetime]) -> None:
    with pytest.raises(ValueError, match="2024-03-13T17:39:00 has no time zone"):
        function(dt.datetime(2024, 3, 13, 17, 39), M5)


@pytest.mark.parametrize("function", [window_start, next_window, first_window])
def test_a_local_time_is_refused(function: Callable[[dt.datetime, Timeframe], dt.datetime]) -> None:
    with pytest.raises(ValueError, match=r"2024-03-13T17:39:00-04:00 is not in UTC"):
        function(dt.datetime(2024, 3, 13, 17, 39, tzinfo=ZoneInfo("America/New_York")), M5)


def test_a_zone_with_offset_zero_is_converted_to_utc() -> None:
    """London is at UTC on 30 March 2024 and an hour ahead on the 31st."""
    london = dt.datetime(2024, 3, 30, 12, tzinfo=ZoneInfo("Europe/London"))
    assert next_window(london, D1).isoformat() == "2024-03-31T00:00:00+00:00"
    assert next_window(london + dt.timedelta(hours=12), D1).isoformat() == "2024-04-01T00:00:00+00:00"


def test_ladders() -> None:
    assert ladder_from(M1) == {M5: M1, M15: M5, H1: M5, H4: H1, D1: H1} == LADDER
    assert list(ladder_from(M1)) == [M5, M15, H1, H4, D1]
    assert list(ladder_from(M5).items()) == [(M15, M5), (H1, M5), (H4, H1), (D1, H1)]


@pytest.mark.parametrize("base", [M15, H1, H4, D1])
def test_no_ladder_starts_above_5m(base: Timeframe) -> None:
    with pytest.raises(ValueError, match=f"no ladder starts at {base}: raw bars are 1m or 5m"):
        ladder_from(base)


@settings(deadline=None)
@given(times, timeframes)
def test_every_time_lies_in_one_window_on_the_grid(ts: dt.datetime, timeframe: Timeframe) -> None:
    start, end = window_start(ts, timeframe), next_window(ts, timeframe)
    assert start <= ts < end
    assert end - start == timeframe.length
    assert window_start(end, timeframe) == end
    assert (start - ORIGIN) % timeframe.length == dt.timedelta(0)
    assert first_window(ts, timeframe) in ({start} if ts == start else {end})


@settings(deadline=None)
@given(times, st.sampled_from(list(LADDER.items())))
def test_a_window_is_made_of_whole_source_windows(ts: dt.datetime, rung: tuple[Timeframe, Timeframe]) -> None:
    target, source = rung
    assert target.minutes % source.minutes == 0
    assert window_start(window_start(ts, target), source) == window_start(ts, target)
