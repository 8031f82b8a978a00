"""Times of a bar file: ISO 8601 with or without an offset, or the number of seconds, ms, us or ns since 1970."""

from __future__ import annotations

import datetime as dt
import re
from zoneinfo import ZoneInfo

from agg_pipeline.ingest.bar_numbers import UNKNOWN_WORDS
from agg_pipeline.ingest.errors import BadRowError, short
from agg_pipeline.market.bounds import FIRST_YEAR, LAST_YEAR

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
# Name and units in a second. An epoch number counts from 1973-03-03 on, when it has 9, 12, 15 or 18 digits or more:
# a smaller one could be of the next smaller unit.
UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
_FIRST_S, _END_S = 10**8, 7_258_118_400  # 1973-03-03T09:46:40, 2200-01-01

_NUMBER = re.compile(r"\d{9,19}(\.0*)?", re.ASCII)
_WRITTEN_DATE = re.compile(r"(19|20|21)\d{10}", re.ASCII)  # 202403130000 is no millisecond of 1976
_BELOW_MICROSECONDS = re.compile(r"[.,]\d{6}0*[1-9]")  # fromisoformat would drop these digits silently
_MICROSECONDS_END = len("2001-01-01T00:00:00.000000")


class TimeReader:
    """Parser of the times of one file.

    Attributes:
        notes: how times were taken, one sentence per kind of time that the file has.
    """

    def __init__(self, zone: ZoneInfo | None = None):
        self.notes: list[str] = []
        self._zone = zone
        self._units: set[str] = set()
        self._has_naive = False

    def parse(self, value: object) -> dt.datetime:
        """The time in UTC, aware. Raises BadRowError."""
        try:
            if isinstance(value, str):
                text = value.strip()
                if text[4:5] != "-":
                    return self._not_iso(text)
                # A date with dashes and a time of day: fromisoformat alone parses numbers as dates in 1510.
                if len(text) < len("2001-01-01T00:00"):
                    raise ValueError
                if len(text) > _MICROSECONDS_END and _BELOW_MICROSECONDS.search(text):
                    raise ValueError
                ts = dt.datetime.fromisoformat(text)
            elif isinstance(value, dt.datetime):
                ts = value
            elif isinstance(value, int | float) and not isinstance(value, bool):
                return self._epoch(value)
            else:
                raise ValueError
            if ts.tzinfo is None:
                ts = self._from_naive(ts)
            elif ts.tzinfo is not dt.UTC:
                ts = ts.astimezone(dt.UTC)
        except BadRowError:
            raise
        except (ValueError, OverflowError):
            if value is None or value != value:  # NaN
                raise BadRowError("ts_utc is missing") from None
            raise BadRowError(
                "ts_utc is neither an ISO 8601 time of whole microseconds nor an epoch time",
                f"ts_utc {short(value)} is neither an ISO 8601 time of whole microseconds nor an epoch time",
            ) from None
        if not FIRST_YEAR <= ts.year <= LAST_YEAR:
            raise BadRowError(
                "ts_utc is out of range",
                f"ts_utc {ts.isoformat()} is out of range: {FIRST_YEAR} to {LAST_YEAR}",
            )
        return ts

    def _not_iso(self, text: str) -> dt.datetime:
        if text.lower() in UNKNOWN_WORDS:
            raise BadRowError("ts_utc is missing")
        if not _NUMBER.fullmatch(text):
            raise ValueError
        if _WRITTEN_DATE.fullmatch(text):
            raise BadRowError(
                "ts_utc can be a date and time or an epoch time; write it in ISO 8601",
                f"ts_utc {text} can be a date and time or an epoch time; write it in ISO 8601",
            )
        return self._epoch(int(text.partition(".")[0]))

    def _epoch(self, number: int | float) -> dt.datetime:
        fits = (unit for unit in UNITS.items() if _FIRST_S * unit[1] <= number < _END_S * unit[1])
        name, per_second = next(fits, ("", 0))
        if not per_second:
            raise ValueError
        micros, rest = divmod(int(number) * 10**6, per_second)
        if rest or number != int(number):
            raise ValueError  # fractions of a microsecond, or of the unit: not the start of a bar
        ts = EPOCH + dt.timedelta(microseconds=micros)
        if name not in self._units:
            self._units.add(name)
            self.notes.append(f"times are read as {name} since 1970: {number} is {ts:%Y-%m-%dT%H:%M:%S}Z")
        return ts

    def _from_naive(self, ts: dt.datetime) -> dt.datetime:
        if self._zone is None:
            if not self._has_naive:
                self._has_naive = True
                self.notes.append("times without an offset are taken as UTC; --timezone says otherwise")
            return ts.replace(tzinfo=dt.UTC)
        local = ts.replace(tzinfo=self._zone, fold=0)
        before, after = local.utcoffset(), local.replace(fold=1).utcoffset()
        if before != after and before is not None and after is not None:
            what = "is skipped" if before < after else "is there twice"
            cause = f"{what} in {self._zone.key}, whose clock was set {'forward' if before < after else 'back'}"
            raise BadRowError(f"ts_utc {cause}", f"ts_utc {ts.isoformat()} {cause}")
        return local.astimezone(dt.UTC)
