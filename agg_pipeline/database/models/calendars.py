"""Trading calendars that assets follow."""

from typing import Literal

from pydantic import AwareDatetime, Field

from agg_pipeline.database.models.base import Wire


class SessionChange(Wire):
    """A session that was known otherwise before."""

    change: Literal["added", "removed"]
    open_utc: AwareDatetime
    close_utc: AwareDatetime


class CalendarChange(Wire):
    """JSON of ``agg_refresh_calendar``: what a refresh changes, or would change."""

    calendar: str
    sessions: int = Field(description="All of the range that was given.")
    added: int
    removed: int
    changes: list[SessionChange] = Field(description="Those of the time that had been filled before.")
    ranges_touched: int = Field(0, description="Ranges of windows that expect other bars now, to be rebuilt.")


class CalendarUse(Wire):
    """A calendar that assets follow; ``from_utc`` to ``to_utc`` is the time of which all sessions are known."""

    calendar: str
    symbols: int
    from_utc: AwareDatetime | None
    to_utc: AwareDatetime | None
    version: str | None
    refreshed_at: AwareDatetime | None


class CalendarProposal(Wire):
    """An asset that looks as if it should follow another calendar."""

    symbol: str = Field(alias="canonical_symbol")
    calendar: str


class Calendars(Wire):
    """JSON of ``agg_calendars``."""

    calendars: list[CalendarUse]
    proposals: list[CalendarProposal]
