"""How cost grows: with symbols, with history, with the windows of one call."""

import datetime as dt
import statistics

import pytest

from agg_pipeline.embedded import Stack
from agg_pipeline_tests.bench.conftest import Report
from agg_pipeline_tests.bench.market import MINUTE, MONDAY, Market, market
from agg_pipeline_tests.bench.rounds import in_turn
from agg_pipeline_tests.bench.test_bench_catch_up import catch_up

ROUNDS = 5
HOUR = dt.timedelta(hours=1)


@pytest.mark.bench
@pytest.mark.parametrize("symbols", [100, 300, 1000, 3000, 10_000])
def test_seconds_of_a_tick_by_symbols(stack: Stack, symbols: int, report: Report) -> None:
    """Select, start, catch-up and finish of one 5m task per symbol, in the database; an hour of history."""
    with market(stack, "growth", symbols) as opened:
        _build(opened, MONDAY + HOUR)
        spent = [_next_tick(opened) for _ in range(ROUNDS + 1)][1:]
    report("growth_symbols", statistics.median(spent), "s", at=symbols)


@pytest.mark.bench
@pytest.mark.parametrize("hours", [6, 60, 600])
def test_seconds_of_a_tick_by_history(stack: Stack, hours: int, report: Report) -> None:
    """The same for 50 symbols with 6, 60 and 600 hours of bars, raw and built; and one late bar somewhere in them."""
    with market(stack, "growth", 50) as opened:
        _build(opened, MONDAY + hours * HOUR)
        spent = [_next_tick(opened) for _ in range(ROUNDS + 1)][1:]
        late = []
        for n in range(ROUNDS + 1):
            opened.db.execute(
                "update data_bars set high = high + 1, close = high where canonical_symbol = 'S7' and ts_utc = %s",
                [MONDAY + dt.timedelta(minutes=5 * ((n + 1) * hours * 12 // (ROUNDS + 2)))],
            )
            done, parts = opened.tick(opened.clock)
            assert done >= 3, "the late bar was not seen"
            late.append(sum(parts.values()))
    report("growth_history", statistics.median(spent), "s", at=hours)
    report("growth_history_late_bar", statistics.median(late[1:]), "s", at=hours)


@pytest.mark.bench
def test_windows_per_second_by_windows_of_a_call(stack: Stack, report: Report) -> None:
    """One task, 1 to 10,000 windows in one call; lease and finish included."""
    sizes = [1, 10, 100, 1000, 10_000]
    cursor = MONDAY
    with market(stack, "growth", 1) as opened:
        opened.load(MONDAY + (ROUNDS + 2) * sum(sizes) * 5 * MINUTE, noted=False)
        opened.settle()

        def side(size: int) -> float:
            nonlocal cursor
            cursor += size * 5 * MINUTE
            before = opened.bars("5m")
            spent = catch_up(opened, [("S1", "5m")], cursor)
            assert opened.bars("5m") - before == size, "no work is fast"
            return spent

        seconds = in_turn({str(size): lambda _, size=size: side(size) for size in sizes}, rounds=ROUNDS)
    for size in sizes:
        report("growth_windows", statistics.median(size / s for s in seconds[str(size)]), "windows/s", at=size)


def _build(opened: Market, until: dt.datetime) -> None:
    opened.load(until, noted=False)
    opened.settle()
    while opened.tick(opened.clock, max_windows=1000, tasks_a_call=1000)[0]:
        pass
    opened.settle()


def _next_tick(opened: Market) -> float:
    opened.load(opened.clock + 5 * MINUTE)
    opened.settle()
    done, parts = opened.tick(opened.clock, timeframes=["5m"], tasks_a_call=1000)
    assert done == opened.symbols, "not all were due"
    return sum(parts.values())
