"""Timeframes and their windows: pure UTC arithmetic.

A window is half-open, ``[start, start + length)``, and aligned to Monday 2001-01-01 00:00 UTC, as in the database. The
time of a bar is the start of its window. Every function requires an aware UTC time and raises ValueError for any other:
a naive or local time would silently select the wrong window.
"""

import datetime as dt
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NoReturn

ORIGIN = dt.datetime(2001, 1, 1, tzinfo=dt.UTC)
_UNIT_MINUTES = {"m": 1, "h": 60, "d": 1440}


class Timeframe(StrEnum):
    """Length of a bar, by its name in the database: ``Timeframe("15m")``."""

    M1 = "1m"
    M5 = "5m"
    M15 = "15m"
    H1 = "1h"
    H4 = "4h"
    D1 = "1d"

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        raise ValueError(f"unknown timeframe {value!r}; there are {', '.join(cls)}")

    @property
    def minutes(self) -> int:
        return int(self[:-1]) * _UNIT_MINUTES[self[-1]]

    @property
    def length(self) -> dt.timedelta:
        return dt.timedelta(minutes=self.minutes)


LADDER: Mapping[Timeframe, Timeframe] = MappingProxyType(
    {
        Timeframe.M5: Timeframe.M1,
        Timeframe.M15: Timeframe.M5,
        Timeframe.H1: Timeframe.M5,
        Timeframe.H4: Timeframe.H1,
        Timeframe.D1: Timeframe.H1,
    }
)
"""Target timeframe -> source timeframe, in the order of building: each source comes before its targets."""


def ladder_from(base: Timeframe) -> dict[Timeframe, Timeframe]:
    """The part of LADDER that is built for an asset with raw bars of ``base`` (1m or 5m), in the order of building."""
    if base not in (Timeframe.M1, Timeframe.M5):
        raise ValueError(f"no ladder starts at {base}: raw bars are 1m or 5m")
    return {target: source for target, source in LADDER.items() if source.minutes >= base.minutes}


def window_start(ts: dt.datetime, timeframe: Timeframe) -> dt.datetime:
    """Start of the window that holds ``ts``."""
    ts = _require_utc(ts)
    return ts - (ts - ORIGIN) % timeframe.length


def next_window(ts: dt.datetime, timeframe: Timeframe) -> dt.datetime:
    """Start of the window after the one that holds ``ts``, which is the end of that one."""
    return window_start(ts, timeframe) + timeframe.length


def first_window(start: dt.datetime, timeframe: Timeframe) -> dt.datetime:
    """First window that starts at or after ``start``."""
    begin = window_start(start, timeframe)
    return begin if begin == start else begin + timeframe.length


def _require_utc(ts: dt.datetime) -> dt.datetime:
    offset = ts.utcoffset()
    if offset is None:
        raise ValueError(f"{ts.isoformat()} has no time zone; if it is UTC, set it: ts.replace(tzinfo=UTC)")
    if offset:
        raise ValueError(f"{ts.isoformat()} is not in UTC; convert it: ts.astimezone(UTC)")
    return ts.astimezone(dt.UTC)  # London has offset 0 in winter, but adding a window would cross its clock change
