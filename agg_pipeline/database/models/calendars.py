"""Trading calendars in the database, and changes of their sessions."""

from typing import Literal

from pydantic import AwareDatetime, Field

from agg_pipeline.database.models.base import Wire


class SessionChange(Wire):
    """A session that a refresh adds or removes."""

    change: Literal["added", "removed"]
    open_utc: AwareDatetime
    close_utc: AwareDatetime


class CalendarChange(Wire):
    """JSON of ``agg_refresh_calendar``: what a refresh changes, or would change."""

    calendar: str
    sessions: int = Field(description="Sessions in the range of the refresh.")
    added: int
    removed: int
    changes: list[SessionChange] = Field(description="Changes in the range that had sessions before.")
    ranges_touched: int = Field(0, description="Ranges of windows whose expected count changed; invalidated.")


class CalendarUse(Wire):
    """A calendar that assets follow; all its sessions in [from_utc, to_utc) are stored, None: no sessions yet."""

    calendar: str
    symbols: int
    from_utc: AwareDatetime | None
    to_utc: AwareDatetime | None
    version: str | None
    refreshed_at: AwareDatetime | None


class CalendarProposal(Wire):
    """An asset whose class suggests another calendar than the one that it follows."""

    symbol: str = Field(alias="canonical_symbol")
    calendar: str


class Calendars(Wire):
    """JSON of ``agg_calendars``: calendars in use, and proposed changes."""

    calendars: list[CalendarUse]
    proposals: list[CalendarProposal]
