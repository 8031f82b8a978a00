"""Trading calendars: when a market is open, from our own rule for FX and from exchange_calendars."""

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
    """The sessions of a calendar cannot be had; the message names it and says what to do."""


class Calendar(BaseModel):
    """Sessions [open, close) that touch [from_utc, to_utc), all, in order."""

    model_config = ConfigDict(frozen=True)

    calendar: str
    from_utc: AwareDatetime
    to_utc: AwareDatetime
    version: str = Field(description="Where the sessions come from.")
    sessions: list[tuple[AwareDatetime, AwareDatetime]]


def sessions_of(calendar: str, *, first_year: int = FIRST_YEAR, last_year: int) -> Calendar:
    """All sessions of the years first_year to last_year, or of those among them that are known.

    Raises:
        CalendarError: there is no such calendar.
    """
    begin, end = (dt.datetime(year, 1, 1, tzinfo=dt.UTC) for year in (first_year, last_year + 1))
    if calendar == FX:
        return Calendar(
            calendar=FX, from_utc=begin, to_utc=end, version="agg_pipeline", sessions=list(_fx_weeks(begin, end))
        )
    return _exchange(calendar, begin, end)


def _fx_weeks(begin: dt.datetime, end: dt.datetime) -> Iterator[tuple[dt.datetime, dt.datetime]]:
    """From Sunday to Friday, 17:00 in New York, whatever that is in UTC; holidays only make it quiet, never closed."""
    five = dt.time(17, tzinfo=_NEW_YORK)
    sunday = begin.date() - dt.timedelta(days=begin.isoweekday() % 7)
    while (opens := dt.datetime.combine(sunday, five).astimezone(dt.UTC)) < end:
        closes = dt.datetime.combine(sunday + dt.timedelta(days=5), five).astimezone(dt.UTC)
        if closes > begin:
            yield opens, closes
        sunday += dt.timedelta(weeks=1)


def _exchange(calendar: str, begin: dt.datetime, end: dt.datetime) -> Calendar:
    import exchange_calendars as xc  # a second, which only those should pay who ask for an exchange
    import pandas as pd
    from exchange_calendars.errors import InvalidCalendarName

    day = pd.Timedelta(days=1)
    first, last = pd.Timestamp(begin.date()), pd.Timestamp(end.date()) - day
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of pandas, for the library's authors
        try:
            # Only the class knows how far its holidays are known; asking for more is an error.
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
