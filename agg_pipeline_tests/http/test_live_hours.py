"""Hours of live ticks, into a weekend or over it: nothing late, nothing early, nothing wrong."""

import datetime as dt
import random
from collections.abc import Iterator

import psycopg
import pytest

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline_tests.oracle import assert_equals_oracle
from agg_pipeline_tests.sampling import sampled
from agg_pipeline_tests.ticking import tick, tick_until_quiet

BEGIN = dt.datetime(
    2026, 1, 9, 20, tzinfo=dt.UTC
)  # a Friday; the FX week ends at 22:00 UTC and opens on Sunday at 22:00
MINUTE = dt.timedelta(minutes=1)

# Of the last hours only: what was there once is asked for by the oracle at the end.
COMPLETE_BUT_MISSING_5M = """
    select b.canonical_symbol, date_bin('5 min', b.ts_utc, '2001-01-01Z') w from data_bars b
     where b.timeframe = '1m' and b.ts_utc >= %(now)s - interval '2 hours' group by 1, 2
    having count(*) = 5 and date_bin('5 min', min(b.ts_utc), '2001-01-01Z') + interval '5 min' <= %(now)s
    except select canonical_symbol, ts_utc from derived_data_bars
     where timeframe = '5m' and deleted_at is null and source_candles = 5"""

COMPLETE_BUT_MISSING_PARENT = """
    select p.canonical_symbol, p.timeframe, date_bin(t.length, c.ts_utc, t.origin_utc) w
      from data_agg_state p join agg_timeframes t using (timeframe)
      join agg_timeframes s on s.timeframe = t.source_timeframe
      join agg_source_bars c on c.canonical_symbol = p.canonical_symbol and c.timeframe = t.source_timeframe
     where p.timeframe <> '5m' and date_bin(t.length, c.ts_utc, t.origin_utc) >= p.agg_start_utc
       and c.ts_utc >= %(now)s - t.length - interval '2 hours'
     group by 1, 2, 3, t.minutes, s.minutes, t.length
    having count(*) = t.minutes / s.minutes and date_bin(t.length, min(c.ts_utc), '2001-01-01Z') + t.length <= %(now)s
    except select canonical_symbol, timeframe, ts_utc from derived_data_bars where deleted_at is null"""


def _arrivals(hours: int, born: int) -> dict[dt.datetime, list[dict[str, object]]]:
    """Raw bars of five assets by the tick at which they have arrived; BORN_EARLY has none for ``born`` minutes."""
    rng = random.Random(7)
    arrivals: dict[dt.datetime, list[dict[str, object]]] = {}

    def bar(symbol: str, ts: dt.datetime, length: dt.timedelta, late: dt.timedelta) -> None:
        price = 100 + rng.random()
        row = {
            "canonical_symbol": symbol,
            "ts_utc": ts.isoformat(),
            "open": price,
            "high": price + 1,
            "low": price - 1,
            "close": price + rng.random() / 2,
            "vol": rng.randrange(100),
            "vwap": price,
            "trade_count": rng.randrange(9),
        }
        arrivals.setdefault(_tick_at_or_after(ts + length + late), []).append(row)

    for m in range(hours * 60):
        ts = BEGIN + m * MINUTE
        weekend = dt.timedelta(hours=2) <= ts - BEGIN < dt.timedelta(hours=50)
        if not weekend:
            bar("EURUSD", ts, MINUTE, dt.timedelta(0))
        if not 100 <= m < 105:
            bar("HOLE", ts, MINUTE, dt.timedelta(0))
        bar("LATE", ts, MINUTE, rng.randrange(601) * dt.timedelta(seconds=1))
        if m >= born:
            bar("BORN_EARLY", ts, MINUTE, dt.timedelta(0))
        if m % 5 == 0:
            bar("NATIVE_5M", ts, 5 * MINUTE, dt.timedelta(0))
    return arrivals


def _tick_at_or_after(ts: dt.datetime) -> dt.datetime:
    return next(t for t in _ticks(ts - 5 * MINUTE) if t >= ts)


def _ticks(begin: dt.datetime) -> Iterator[dt.datetime]:
    t = begin.replace(minute=begin.minute // 5 * 5, second=0) + MINUTE
    while True:
        yield t
        t += 5 * MINUTE


@pytest.mark.parametrize("hours", sampled([4, 72], [4]))
def test_live_hours(one_gateway: AggGateway, clean: psycopg.Connection, hours: int) -> None:
    """Each 5m bar is there at the first tick after its minutes are in, each longer one in that of its last child."""
    born = hours * 25  # minutes
    gateway, arrivals = one_gateway, _arrivals(hours, born)
    for symbol in ("EURUSD", "HOLE", "LATE", "BORN_EARLY"):
        gateway.register_asset(symbol, start=BEGIN, base_timeframe="1m")
    gateway.register_asset("NATIVE_5M", start=BEGIN, base_timeframe="5m")
    for now in _ticks(BEGIN):
        if now > BEGIN + hours * 60 * MINUTE:
            break
        _load(gateway, arrivals.pop(now, []))
        tick(gateway, now)
        for query in (COMPLETE_BUT_MISSING_5M, COMPLETE_BUT_MISSING_PARENT):
            missing = clean.execute(query, {"now": now}).fetchall()
            assert not missing, f"at {now}: {missing}"
    end = BEGIN + (hours + 30) * 60 * MINUTE  # past every deadline
    for bars in arrivals.values():  # what was still on its way at the end
        _load(gateway, bars)
    tick_until_quiet(gateway, end)
    counts = assert_equals_oracle(clean)
    assert counts["NATIVE_5M", "15m"] == hours * 4
    assert counts["BORN_EARLY", "5m"] == hours * 12 - born // 5


def _load(gateway: AggGateway, bars: list[dict[str, object]]) -> None:
    for timeframe in ("1m", "5m"):
        some = [b for b in bars if (b["canonical_symbol"] == "NATIVE_5M") == (timeframe == "5m")]
        if some:
            gateway.load_bars(some, timeframe=timeframe, source="test")
