"""Trading sessions for the tests, uploaded as the calendar job does."""

import functools
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from agg_pipeline.market.calendars import sessions_of


@functools.cache
def _json(calendar: str, first_year: int, last_year: int) -> dict[str, Any]:
    return sessions_of(calendar, first_year=first_year, last_year=last_year).model_dump(mode="json")


def fill_sessions(db: psycopg.Connection, *calendars: str, years: tuple[int, int] = (2010, 2027)) -> None:
    """Upload the sessions of calendars for the years first to last."""
    for calendar in calendars:
        db.execute("select public.agg_refresh_calendar(%s, false)", [Jsonb(_json(calendar, *years))])


def forget_sessions(db: psycopg.Connection) -> None:
    """As in a database in which no calendar was ever refreshed. Sessions are shared by all tests."""
    db.execute("delete from trading_sessions")
    db.execute("update trading_calendars set from_utc = null, to_utc = null, version = null, refreshed_at = null")


def follow(db: psycopg.Connection, symbol: str, calendar: str, since: str | None = None) -> None:
    """Make a symbol follow a calendar from ``since`` on (a UTC day; None: always); upload its sessions if needed."""
    unfilled = "select from trading_calendars where calendar = %s and calendar <> '24x7' and from_utc is null"
    if db.execute(unfilled, [calendar]).fetchone() is not None:
        fill_sessions(db, calendar)
    db.execute("select public.agg_set_calendar(%s, %s, %s)", [symbol, calendar, since and f"{since}T00:00Z"])
