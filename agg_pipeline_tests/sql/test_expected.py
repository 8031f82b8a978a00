"""How many source bars a window expects: known days, written down by hand, for every timeframe."""

import datetime as dt

import psycopg
import pytest

from agg_pipeline_tests.sessions import fill_sessions, follow
from agg_pipeline_tests.sql.helpers import MINUTES, at, refused, register
from agg_pipeline_tests.trading_days import DAYS, Day

SOURCE = {"5m": "1m", "15m": "5m", "1h": "5m", "4h": "1h", "1d": "1h"}


def expected(db: psycopg.Connection, symbol: str, timeframe: str, day: str, days: int = 1) -> list[int]:
    """Expected source bars of each window of some days."""
    found = db.execute(
        """select coalesce(s.expected, %(slots)s)
             from generate_series(%(day)s::timestamptz, %(day)s::timestamptz + %(days)s * interval '24 hours'
                                  - interval '1 minute', make_interval(mins => %(minutes)s)) w
             left join _agg_slots(array(
               select (%(symbol)s, %(timeframe)s, w, w + make_interval(mins => %(minutes)s))::agg_range
                 from generate_series(%(day)s::timestamptz, %(day)s::timestamptz + %(days)s * interval '24 hours'
                                      - interval '1 minute', make_interval(mins => %(minutes)s)) w)) s on s.from_utc = w
            order by w""",
        {
            "symbol": symbol,
            "timeframe": timeframe,
            "day": f"{day}T00:00Z",
            "days": days,
            "minutes": MINUTES[timeframe],
            "slots": MINUTES[timeframe] // MINUTES[SOURCE[timeframe]],
        },
    ).fetchall()
    return [count for (count,) in found]


@pytest.fixture
def markets(db: psycopg.Connection) -> psycopg.Connection:
    """One symbol of the same name for each calendar of the table."""
    for calendar in {day.calendar for day in DAYS}:
        register(db, calendar)
        follow(db, calendar, calendar)
    return db


def test_known_days(markets: psycopg.Connection) -> None:
    assert len(DAYS) >= 50
    for day in DAYS:
        by_hand = day, set(), day.fives, day.fives, day.hours, [sum(day.hours)]
        per_minute = expected(markets, day.calendar, "5m", day.date)
        found = (
            day._replace(minutes=sum(per_minute)),
            set(per_minute) - {0, 5},
            sum(expected(markets, day.calendar, "15m", day.date)),
            sum(expected(markets, day.calendar, "1h", day.date)),
            tuple(expected(markets, day.calendar, "4h", day.date)),
            expected(markets, day.calendar, "1d", day.date),
        )
        assert found == by_hand


def test_the_windows_at_the_edge_of_a_session(markets: psycopg.Connection) -> None:
    hours = expected(markets, "XNYS", "1h", "2025-07-07")
    assert hours[12:21] == [0, 6, 12, 12, 12, 12, 12, 12, 0], "it opens at half past"
    assert expected(markets, "XNYS", "15m", "2025-07-07")[53:56] == [0, 3, 3]
    assert expected(markets, "fx_24x5", "1h", "2025-03-07")[20:] == [12, 12, 0, 0]
    assert expected(markets, "XTKS", "1h", "2025-07-07")[:8] == [12, 12, 6, 6, 12, 12, 6, 0], "lunch"


@pytest.mark.parametrize(("calendar", "monday", "minutes"), [("fx_24x5", 7200, 7200), ("XNYS", 1950, 1950)])
def test_a_normal_week(markets: psycopg.Connection, calendar: str, monday: int, minutes: int) -> None:
    """Monday to Sunday in winter and in summer."""
    assert sum(expected(markets, calendar, "5m", "2026-01-12", days=7)) == monday
    assert sum(expected(markets, calendar, "5m", "2026-06-08", days=7)) == minutes


def test_from_a_date_on(db: psycopg.Connection) -> None:
    """A stock that was taken for a coin, then listed elsewhere."""
    register(db, "ACME")
    follow(db, "ACME", "XNYS", since="2025-03-10")
    follow(db, "ACME", "XTKS", since="2025-03-12")
    days = {f"{n:02d}": sum(expected(db, "ACME", "5m", f"2025-03-{n:02d}")) for n in range(7, 14)}
    assert days == {"07": 1440, "08": 1440, "09": 1440, "10": 390, "11": 390, "12": 330, "13": 330}
    follow(db, "ACME", "fx_24x5", since="2025-03-11")
    assert sum(expected(db, "ACME", "5m", "2025-03-10", days=2)) == 390 + 1440
    assert sum(expected(db, "ACME", "5m", "2025-03-13")) == 1440, "what was set for later is dropped"
    follow(db, "ACME", "24x7")
    assert sum(expected(db, "ACME", "5m", "2025-03-10", days=7)) == 7 * 1440


def test_what_a_calendar_does_not_cover_is_open(db: psycopg.Connection) -> None:
    """A forgotten refresh shows as missing bars; it never hides any."""
    register(db, "ACME")
    db.execute("delete from trading_sessions where calendar = 'XNYS'")
    db.execute("update trading_calendars set from_utc = null, to_utc = null where calendar = 'XNYS'")
    db.execute("update core_asset_registry_all set trading_calendar = 'XNYS'")
    assert sum(expected(db, "ACME", "5m", "2025-12-25")) == 1440, "nothing is filled yet"
    fill_sessions(db, "XNYS", years=(2025, 2025))
    assert sum(expected(db, "ACME", "5m", "2025-12-25")) == 0
    assert sum(expected(db, "ACME", "5m", "2024-12-25")) == 1440
    assert sum(expected(db, "ACME", "5m", "2026-01-01")) == 1440
    fill_sessions(db, "XNYS", years=(2026, 2026))
    assert sum(expected(db, "ACME", "5m", "2025-12-25")) == 0, "years that were filled before stay"
    assert sum(expected(db, "ACME", "5m", "2026-01-01")) == 0


def test_a_session_over_new_year_is_whole_whichever_year_was_filled_first(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    follow(db, "EURUSD", "fx_24x5")
    for years in ((2028, 2028), (2029, 2029)):
        fill_sessions(db, "fx_24x5", years=years)
    minutes = {
        day: sum(expected(db, "EURUSD", "5m", day)) for day in ("2027-12-31", "2028-01-01", "2028-12-31", "2029-01-01")
    }
    assert list(minutes.values()) == [1320, 0, 120, 1440], "Friday, Saturday, Sunday, Monday"
    with refused(db, "AG003", "which 2031-01-01 .* does not touch", hint="would count as closed"):
        fill_sessions(db, "fx_24x5", years=(2031, 2031))


def test_the_time_of_the_table_is_what_it_says() -> None:
    assert at("2025-03-09T00:00").weekday() == 6
    assert all(dt.date.fromisoformat(day.date) for day in DAYS)
    assert isinstance(DAYS[0], Day)
