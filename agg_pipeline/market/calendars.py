"""Trading calendars: the sessions of a market, by our own rule for FX and from exchange_calendars for exchanges."""

import datetime as dt
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from zoneinfo import ZoneInfo

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

FX = "fx_24x5"
ALWAYS_OPEN = "24x7"
FIRST_YEAR = 1990
_NEW_YORK = ZoneInfo("America/New_York")


class CalendarError(RuntimeError):
    """There is no such calendar; the message names it and lists the ones to use."""


class Calendar(BaseModel):
    """All sessions [open, close) that overlap [from_utc, to_utc), in order of time."""

    model_config = ConfigDict(frozen=True)

    calendar: str
    from_utc: AwareDatetime
    to_utc: AwareDatetime
    version: str = Field(description="Source of the sessions: package and version.")
    sessions: list[tuple[AwareDatetime, AwareDatetime]]


def sessions_of(calendar: str, *, first_year: int = FIRST_YEAR, last_year: int) -> Calendar:
    """Sessions of the years first_year to last_year, cut to the years that exchange_calendars knows.

    Raises:
        CalendarError: exchange_calendars has no calendar of this name.
    """
    begin, end = (dt.datetime(year, 1, 1, tzinfo=dt.UTC) for year in (first_year, last_year + 1))
    if calendar == FX:
        return Calendar(
            calendar=FX, from_utc=begin, to_utc=end, version="agg_pipeline", sessions=list(_fx_weeks(begin, end))
        )
    return _exchange(calendar, begin, end)


def _fx_weeks(begin: dt.datetime, end: dt.datetime) -> Iterator[tuple[dt.datetime, dt.datetime]]:
    """One session a week, from Sunday to Friday 17:00 in New York; FX trades on holidays, too."""
    five = dt.time(17, tzinfo=_NEW_YORK)
    sunday = begin.date() - dt.timedelta(days=begin.isoweekday() % 7)
    while (opens := dt.datetime.combine(sunday, five).astimezone(dt.UTC)) < end:
        closes = dt.datetime.combine(sunday + dt.timedelta(days=5), five).astimezone(dt.UTC)
        if closes > begin:
            yield opens, closes
        sunday += dt.timedelta(weeks=1)


def _exchange(calendar: str, begin: dt.datetime, end: dt.datetime) -> Calendar:
    import exchange_calendars as xc  # here, since it takes a second to load and FX does not need it
    import pandas as pd
    from exchange_calendars.errors import InvalidCalendarName

    day = pd.Timedelta(days=1)
    first, last = pd.Timestamp(begin.date()), pd.Timestamp(end.date()) - day
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # exchange_calendars calls deprecated pandas functions
        try:
            # The class holds the range of its known holidays; a request beyond it is an error.
            kind = type(xc.get_calendar(calendar))
        except InvalidCalendarName:
            raise CalendarError(
                f"exchange_calendars {version('exchange-calendars')} has no calendar {calendar}. "
                "Use 24x7, fx_24x5 or one of table trading_calendars."
            ) from None
        if (bound := kind.bound_min()) is not None:
            first = max(first, bound)
        if (bound := kind.bound_max()) is not None:
            last = min(last, bound)
        schedule = xc.get_calendar(calendar, start=first, end=last).schedule
    breaks = schedule["break_start"].notna()
    pieces = [
        schedule.loc[~breaks, ["open", "close"]],
        schedule.loc[breaks, ["open", "break_start"]],
        schedule.loc[breaks, ["break_end", "close"]],
    ]
    sessions = pd.concat([piece.set_axis(["open", "close"], axis=1) for piece in pieces]).sort_values("open")
    covered = first.tz_localize("UTC"), (last + day).tz_localize("UTC")
    sessions = sessions[(sessions["close"] > covered[0]) & (sessions["open"] < covered[1])]
    times = zip(sessions["open"].dt.to_pydatetime(), sessions["close"].dt.to_pydatetime(), strict=True)
    return Calendar(
        calendar=calendar, from_utc=covered[0].to_pydatetime(), to_utc=covered[1].to_pydatetime(),
        version=f"exchange_calendars {version('exchange-calendars')}", sessions=list(times),
    )  # fmt: skip
