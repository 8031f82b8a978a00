"""A weekend of an FX symbol with all its bars, and what its bars are once its sessions are known.

New York changes its clock in between: FX closes on Friday 2026-03-06 at 22:00 UTC and opens on Sunday at 21:00.
"""

import datetime as dt

import psycopg

from agg_pipeline_tests.oracle import assert_equals_oracle
from agg_pipeline_tests.sql.helpers import at, put, scalar

START = "2026-03-06T16:00"
NOW = "2026-03-09T00:01"
MINUTES = {START: 6 * 60, "2026-03-08T21:00": 3 * 60}

# Window, expected and found source bars, quality: two of four hours on Friday, three on Sunday.
WEEKEND_4H = [
    ("Fri 16:00", 4, 4, 2),
    ("Fri 20:00", 2, 2, 2),
    ("Sun 20:00", 3, 3, 2),
]
SUNDAY_1D = [("Sun 00:00", 3, 3, 2)]


def put_weekend(db: psycopg.Connection, symbol: str) -> None:
    for start, count in MINUTES.items():
        put(db, symbol, start, count)


def weekend_csv(symbol: str) -> str:
    """The same as lines of a file."""
    lines = ["symbol,ts_utc,open,high,low,close,volume"]
    for start, count in MINUTES.items():
        minutes = (at(start) + n * dt.timedelta(minutes=1) for n in range(count))
        lines += [f"{symbol},{ts.isoformat()},1.1,1.2,1,1.15,0" for ts in minutes]
    return "\n".join(lines) + "\n"


def graded_bars(db: psycopg.Connection, symbol: str, timeframe: str, day: str = "%") -> list[tuple[str, int, int, int]]:
    """Live bars: start, expected and found source bars, quality."""
    return db.execute(
        """select to_char(ts_utc at time zone 'UTC', 'Dy HH24:MI'), expected_candles, source_candles, quality_score
             from derived_data_bars where canonical_symbol = %s and timeframe = %s and deleted_at is null
              and to_char(ts_utc at time zone 'UTC', 'Dy HH24:MI') like %s order by ts_utc""",
        [symbol, timeframe, day],
    ).fetchall()


def assert_weekend(db: psycopg.Connection, symbol: str) -> None:
    """The sessions are there, and with them every bar of the weekend, all of quality 2, as the oracle has them."""
    assert scalar(db, "select count(*) from trading_sessions where calendar = 'fx_24x5'") > 1900
    assert graded_bars(db, symbol, "4h") == WEEKEND_4H
    assert graded_bars(db, symbol, "1d", "Sun%") == SUNDAY_1D
    assert [row[0] for row in graded_bars(db, symbol, "1h", "Sun%")] == ["Sun 21:00", "Sun 22:00", "Sun 23:00"]
    worst = "select min(quality_score) from derived_data_bars where canonical_symbol = %s and deleted_at is null"
    assert scalar(db, worst, [symbol]) == 2
    assert_equals_oracle(db, [symbol])
