"""Which bars of a symbol are expected, in numpy: the same rule as the SQL function ``_agg_slots``, written apart."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Span = tuple[dt.datetime, dt.datetime]
_US = dt.timedelta(microseconds=1)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Schedule:
    """Sessions of one calendar in ``span``: sorted, disjoint, and including those that overlap its ends."""

    span: Span
    sessions: Sequence[Span]


@dataclass(frozen=True)
class TradingHours:
    """Calendars that a symbol follows, each in its own span of time; outside of all spans the market counts as open."""

    schedules: Sequence[Schedule] = ()

    def expects(self, slots: pd.Series[pd.Timestamp], length: dt.timedelta) -> npt.NDArray[np.bool_]:
        """Whether a bar is expected in each slot [ts, ts + length): whether the slot overlaps a session."""
        return self._expects(_all_us(slots), length // _US)

    def count(
        self, windows: pd.Series[pd.Timestamp], length: dt.timedelta, slot: dt.timedelta
    ) -> npt.NDArray[np.int64]:
        """Number of slots of length ``slot`` in each window [ts, ts + length) in which a bar is expected."""
        slots = _all_us(windows)[:, np.newaxis] + np.arange(0, length // _US, slot // _US, dtype=np.int64)
        counts: npt.NDArray[np.int64] = self._expects(slots, slot // _US).sum(axis=1)
        return counts

    def _expects(self, slots: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.bool_]:
        expected = np.ones(slots.shape, dtype=np.bool_)
        for schedule in self.schedules:
            begin, end = (_us(bound) for bound in schedule.span)
            opens = np.array([_us(opens) for opens, _ in schedule.sessions], dtype=np.int64)
            closes = np.array([-(2**62), *(_us(closes) for _, closes in schedule.sessions)], dtype=np.int64)
            # Of the sessions that open before the slot ends, only the last one can still be open in it.
            is_open = closes[np.searchsorted(opens, slots + length)] > slots
            expected &= is_open | (slots < begin) | (slots >= end)
        return expected


def _all_us(times: pd.Series[pd.Timestamp]) -> npt.NDArray[np.int64]:
    return times.dt.tz_convert(None).dt.as_unit("us").to_numpy(dtype="datetime64[us]").astype(np.int64)


def _us(time: dt.datetime) -> int:
    return (time - _EPOCH) // _US
