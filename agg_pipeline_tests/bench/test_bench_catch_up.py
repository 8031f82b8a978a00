"""A month of history rolled up: against a loop over windows in plpgsql, and against the plain insert of the result."""

import datetime as dt
import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
import pytest

from agg_pipeline.embedded import Stack
from agg_pipeline_tests.bench.conftest import Report
from agg_pipeline_tests.bench.market import MONDAY, Market, market
from agg_pipeline_tests.bench.rounds import Side, Watch, in_turn
from agg_pipeline_tests.sql.helpers import scalar

LOOP = Path(__file__).with_name("window_loop.sql")
HOUR = dt.timedelta(hours=1)
ROUNDS = 6
WINDOWS_A_CALL = 20_000  # as many as a call of a few seconds may hold on a hosted project

# symbols, days of history, hours that are rolled up in a round
SHAPES = {"125x30d": (125, 30, 8), "1000x2d": (1000, 2, 3), "20x30d": (20, 30, 48)}


@pytest.fixture(scope="module", params=SHAPES)
def shape(request: pytest.FixtureRequest, stack: Stack) -> Iterator[tuple[str, Market, dt.timedelta]]:
    """All raw bars of the history, and nothing built from them."""
    name: str = request.param
    symbols, days, hours = SHAPES[name]
    with market(stack, "catch_up", symbols, gaps=True) as opened:
        opened.load(MONDAY + dt.timedelta(days=days), noted=False)
        opened.db.execute(LOOP.read_bytes())
        opened.settle()
        yield name, opened, hours * HOUR


@pytest.mark.bench
def test_catch_up_5m_from_1m(shape: tuple[str, Market, dt.timedelta], report: Report) -> None:
    """The next hours of every symbol a round, built by each side into tables with the same indexes. Windows/s.

    ``loop``: one window after the other, the plans left to the planner; ``loop_generic``: the same with plans that are
    made once; ``rows``: the plain insert of what catch-up has just written; ``sql``: one INSERT ... SELECT that
    also computes them; ``again``: catch-up of the same windows when nothing has changed.
    """
    name, market, length = shape
    tasks = [(f"S{n + 1}", "5m") for n in range(market.symbols)]
    written: dict[str, int] = {}

    def part(n: int) -> tuple[dt.datetime, dt.datetime]:
        return MONDAY + n * length, MONDAY + (n + 1) * length

    def ours(n: int) -> float:
        before = market.bars("5m")
        spent = catch_up(market, tasks, part(n)[1])
        written["ours"] = market.bars("5m") - before
        assert written["ours"] > 0.9 * market.symbols * (length / HOUR) * 12, "no work is fast"
        market.settle()
        return spent

    def loop(function: str) -> Side:
        def run(n: int) -> float:
            watch = Watch()
            with watch.running():
                found = sum(scalar(market.db, f"select {function}(%s, %s, %s)", [s, *part(n)]) for s, _ in tasks)
            assert found > 0.9 * market.symbols * (length / HOUR) * 12, "no work is fast"
            return watch.seconds

        return run

    seconds = in_turn(
        {"ours": ours, "loop": loop("window_loop"), "loop_generic": loop("window_loop_generic")}, rounds=ROUNDS
    )
    windows = market.symbols * (length / HOUR) * 12
    rate = {side: [windows / s for s in spent] for side, spent in seconds.items()}
    for side in ("loop", "loop_generic"):
        report(
            f"catch_up_{name}_against_{side}", statistics.median(rate["ours"]), "windows/s",
            baseline=statistics.median(rate[side]), values=rate["ours"], baselines=rate[side],
        )  # fmt: skip

    # Each round builds the next part, then the same rows are written by other means.
    first = ROUNDS + 1
    ready: dict[str, list[float]] = {"ours": [], "rows": [], "sql": [], "again": []}
    for n in range(first, first + ROUNDS):
        ready["ours"].append(ours(n))
        ready["rows"].append(
            _insert(
                market,
                "select * from derived_data_bars where timeframe = '5m' and ts_utc >= %s and ts_utc < %s",
                part(n),
            )
        )
        ready["sql"].append(_insert(market, "select * from plain_bars(%s, %s)", part(n)))
        for symbol, timeframe in tasks:
            market.db.execute("select agg_invalidate_range(%s, %s, %s, %s, 'bench')", [symbol, timeframe, *part(n)])
        rows, state = market.bars("5m"), _latest(market.db)
        ready["again"].append(catch_up(market, tasks, part(n)[1]))
        assert (market.bars("5m"), _latest(market.db)) == (rows, state), "a row was written"
    for bench, side in (("upsert_against_insert_of_ready_rows", "rows"), ("upsert_against_insert_select", "sql")):
        rates, others = [windows / s for s in ready["ours"]], [windows / s for s in ready[side]]
        report(
            f"{bench}_{name}", statistics.median(rates), "windows/s", baseline=statistics.median(others),
            values=rates, baselines=others,
        )  # fmt: skip
    again = [windows / s for s in ready["again"]]
    report(
        f"catch_up_again_{name}", statistics.median(again), "windows/s",
        baseline=statistics.median(windows / s for s in ready["ours"]),
        values=again, baselines=[windows / s for s in ready["ours"]],
    )  # fmt: skip


def catch_up(market: Market, tasks: Sequence[tuple[str, str]], now: dt.datetime) -> float:
    """Lease, catch up until nothing is left before ``now``, finish, as a run does: seconds in the database."""
    watch = Watch()
    names = [{"canonical_symbol": symbol, "timeframe": timeframe} for symbol, timeframe in tasks]
    leases = market.call(watch, "agg_start_batch(%s, %s, 'bench', 900)", names, now)
    max_windows = max(1, WINDOWS_A_CALL // len(tasks))
    open_leases = leases
    while open_leases:
        results = market.call(watch, f"catchup_aggregation_batch(%s, {max_windows}, %s, 1, true)", open_leases, now)
        assert all(result.get("success") for result in results), [r for r in results if "error" in r][:3]
        open_leases = [lease for lease, result in zip(open_leases, results, strict=True) if result["continue"]]
    outcomes = [lease | {"success": True, "stats": {}} for lease in leases]
    market.call(watch, "agg_finish_batch(%s, %s)", outcomes, now)
    return watch.seconds


def _insert(market: Market, query: str, part: tuple[dt.datetime, dt.datetime]) -> float:
    """Seconds of INSERT ... SELECT into an empty twin of the table that has what it has but for triggers."""
    market.db.execute("truncate twin")
    watch = Watch()
    with watch.running():
        written = market.db.execute(f"insert into twin {query}", part).rowcount
    assert written > 0, "no work is fast"
    return watch.seconds


def _latest(db: psycopg.Connection) -> str:
    """Changes with every row that is written."""
    return json.dumps(
        scalar(db, "select jsonb_build_array(max(id), max(created_at), count(deleted_at)) from derived_data_bars")
    )
