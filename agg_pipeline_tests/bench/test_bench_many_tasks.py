"""Ten thousand symbols in one tick: what the database needs, and what three calls per task would."""

import concurrent.futures
import datetime as dt
import threading
from collections.abc import Iterator

import pytest

from agg_pipeline.local import Stack
from agg_pipeline.transport import Transport, open_transport
from agg_pipeline_tests.bench.conftest import Report
from agg_pipeline_tests.bench.market import MINUTE, MONDAY, Market, market
from agg_pipeline_tests.bench.rounds import Watch
from agg_pipeline_tests.conftest import open_gateway
from agg_pipeline_tests.ticking import tick as tick_over_http

SYMBOLS = 10_000
HOURS = 6
TASKS_A_CALL = 1000


@pytest.fixture(scope="module")
def ten_thousand(stack: Stack) -> Iterator[Market]:
    with market(stack, "many", SYMBOLS) as opened:
        yield opened


@pytest.mark.bench
def test_the_database_part_of_a_tick_of_10_000_tasks(ten_thousand: Market, report: Report) -> None:
    """A tick of 10,000 5m tasks, and one at a full hour: 30,000 of 5m, 15m and 1h. Median of 6 hours after one.

    The baseline is a plain upsert of as many ready-made rows as the tick writes bars, into the same indexes.
    """
    market = ten_thousand
    seconds: dict[str, list[float]] = {"5m": [], "hour": [], "5m rows": [], "hour rows": []}
    parts: dict[str, list[dict[str, float]]] = {"5m": [], "hour": []}
    market.db.execute("create table ready (like derived_data_bars including all)")
    for hour in range(HOURS + 1):
        full = MONDAY + dt.timedelta(hours=hour + 1)
        market.load(full - 10 * MINUTE)
        market.settle()
        market.tick(market.clock, max_windows=1000, tasks_a_call=TASKS_A_CALL)
        for name, clock, tasks in (("5m", full - 5 * MINUTE, SYMBOLS), ("hour", full, 3 * SYMBOLS)):
            market.load(clock)
            market.settle()
            timeframes = ["5m"] if name == "5m" else ["5m", "15m", "1h"]
            before = sum(market.bars(t) for t in timeframes)
            done, parts_s = market.tick(clock, timeframes=timeframes, tasks_a_call=TASKS_A_CALL)
            assert done == tasks, "not all were due"
            assert sum(market.bars(t) for t in timeframes) - before == tasks, "no work is fast"
            seconds[name].append(sum(parts_s.values()))
            parts[name].append(parts_s)
            seconds[f"{name} rows"].append(_plain_insert(market, timeframes, clock, tasks))
    for name, bench in (("5m", "tick_10000_database"), ("hour", "hour_peak_10000_database")):
        spent, rows = seconds[name][1:], seconds[f"{name} rows"][1:]
        report(bench, _median(spent), "s", baseline=_median(rows), values=spent, baselines=rows)
        for part in parts[name][0]:
            print(f"  {name} {part}: {_median([p[part] for p in parts[name][1:]]):.3f} s")


def _plain_insert(market: Market, timeframes: list[str], now: dt.datetime, tasks: int) -> float:
    """The bars of the tick once more, ready-made, into an empty twin of the table."""
    market.db.execute("truncate ready")
    watch = Watch()
    with watch.running():
        written = market.db.execute(
            """insert into ready select d.* from unnest(%s::text[]) t (timeframe)
                 join agg_timeframes using (timeframe)
                 join derived_data_bars d on d.timeframe = t.timeframe and d.ts_utc = %s - length""",
            [timeframes, now],
        ).rowcount
    assert written == tasks
    return watch.seconds


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
