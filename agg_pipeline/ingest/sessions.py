"""Upload of trading sessions to the database: which calendars, how far ahead, how often."""

import datetime as dt
from collections.abc import Iterator

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.calendars import CalendarChange, CalendarUse
from agg_pipeline.market.calendars import ALWAYS_OPEN, sessions_of

YEARS_AHEAD = 3  # whole years after the current one
REFRESH_AFTER = dt.timedelta(days=30)


def refresh(
    gateway: AggGateway, *, dry_run: bool, names: tuple[str, ...] = (), now: dt.datetime | None = None
) -> Iterator[CalendarChange]:
    """Upload the sessions of all calendars that assets follow, or of ``names``, up to YEARS_AHEAD; yield the changes.

    Windows whose expected count changes are invalidated, and rebuilt by the next ticks. ``dry_run`` only reports.
    """
    last_year = (now or dt.datetime.now(dt.UTC)).year + YEARS_AHEAD
    for name in names or [use.calendar for use in gateway.calendars().calendars if use.calendar != ALWAYS_OPEN]:
        yield gateway.refresh_calendar(sessions_of(name, last_year=last_year), dry_run=dry_run)


def is_stale(use: CalendarUse, now: dt.datetime) -> bool:
    """Whether the sessions of a calendar were never uploaded, or longer ago than REFRESH_AFTER."""
    if use.calendar == ALWAYS_OPEN:
        return False
    return use.refreshed_at is None or now - use.refreshed_at > REFRESH_AFTER
