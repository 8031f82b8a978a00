"""Upload of trading sessions to the database: which calendars, how far ahead, when."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.calendars import CalendarChange, CalendarUse
from agg_pipeline.errors import GatewayError, TransientError
from agg_pipeline.market.calendars import ALWAYS_OPEN, CalendarError, sessions_of

YEARS_AHEAD = 3  # whole years after the current one
REFRESH_AFTER = dt.timedelta(days=30)

_OF_ONE_CALENDAR = frozenset({"57014", "40P01", "55P03"})  # too many windows to invalidate, or a lock: not an outage


class RefreshError(CalendarError):
    """Some calendars were not refreshed; all others were.

    Attributes:
        reasons: why, by calendar.
    """

    def __init__(self, reasons: Mapping[str, str]):
        self.reasons = reasons
        super().__init__("; ".join(f"{calendar}: {why}" for calendar, why in reasons.items()))


def refresh(
    gateway: AggGateway, *, dry_run: bool, names: Sequence[str] = (), now: dt.datetime | None = None
) -> Iterator[CalendarChange]:
    """Upload the sessions of all calendars that assets follow, or of ``names``, up to YEARS_AHEAD; yield the changes.

    Windows whose expected count changes are invalidated, and rebuilt by the next ticks. ``dry_run`` only reports.

    Raises:
        RefreshError: after the last calendar, if some of them could not be refreshed.
        GatewayError: no further calendar can be refreshed, as the database does not answer or refuses the key.
    """
    last_year = (now or dt.datetime.now(dt.UTC)).year + YEARS_AHEAD
    reasons: dict[str, str] = {}
    for name in names or [use.calendar for use in gateway.calendars().calendars if use.calendar != ALWAYS_OPEN]:
        try:
            change = gateway.refresh_calendar(sessions_of(name, last_year=last_year), dry_run=dry_run)
        except Exception as exc:  # exchange_calendars raises whatever its code for one exchange comes upon
            if _is_of_all(exc):
                raise
            is_ours = isinstance(exc, CalendarError | GatewayError)
            reasons[name] = str(exc) if is_ours else f"{type(exc).__name__}: {exc}"
        else:
            yield change
    if reasons:
        raise RefreshError(reasons)


def fill_missing(gateway: AggGateway) -> list[str]:
    """Upload the sessions of calendars that assets follow and that have none yet; one call if there is no such one.

    For whoever registers symbols or builds bars. It raises neither GatewayError nor CalendarError: without sessions all
    time counts as open, and the bars are rebuilt once they are there, so one calendar must not hold up anything.

    Returns:
        A line for each failure: the calendar, why, what to type.
    """
    again = "`agg-pipeline calendars --apply` tries again."
    try:
        if missing := [use.calendar for use in gateway.calendars().calendars if has_no_sessions(use)]:
            list(refresh(gateway, dry_run=False, names=missing))
    except RefreshError as exc:
        return [
            f"Calendar {calendar} has no sessions, so all its time counts as open. {why} {again} "
            "`agg-pipeline calendar SYMBOL CALENDAR` gives a symbol another calendar."
            for calendar, why in exc.reasons.items()
        ]
    except GatewayError as exc:
        return [f"Calendars that are new have no sessions, so all their time counts as open. {exc} {again}"]
    return []


def has_no_sessions(use: CalendarUse) -> bool:
    """Whether the sessions of a calendar were never uploaded."""
    return use.calendar != ALWAYS_OPEN and use.refreshed_at is None


def is_stale(use: CalendarUse, now: dt.datetime) -> bool:
    """Whether the sessions of a calendar were never uploaded, or longer ago than REFRESH_AFTER."""
    return has_no_sessions(use) or (use.refreshed_at is not None and now - use.refreshed_at > REFRESH_AFTER)


def _is_of_all(exc: Exception) -> bool:
    """Whether the next calendar would fail in the same way."""
    if not isinstance(exc, GatewayError):
        return False
    return exc.is_configuration or (isinstance(exc, TransientError) and exc.code not in _OF_ONE_CALENDAR)
