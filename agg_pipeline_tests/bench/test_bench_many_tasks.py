"""Ten thousand symbols in one tick: the database alone, the whole run, and three calls per task instead."""

import concurrent.futures
import datetime as dt
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from agg_pipeline.database.transport import Transport, open_transport
from agg_pipeline.definitions import build_definitions
from agg_pipeline.embedded import Stack
from agg_pipeline.embedded.dagster_services import dagster_home
from agg_pipeline_tests.bench.conftest import Report
from agg_pipeline_tests.bench.market import MINUTE, MONDAY, Market, served_market
from agg_pipeline_tests.bench.rounds import Watch

SYMBOLS = 10_000
ROUNDS = 5
TASKS_A_STEP = 1000
THREADS = 8
SAMPLE = 1000
HOUR = 60 * MINUTE


@pytest.fixture(scope="module")
def ten_thousand(stack: Stack) -> Iterator[Market]:
    with served_market(stack, SYMBOLS) as opened:
        opened.db.execute("create table if not exists ready (like derived_data_bars including all)")
        yield opened
        opened.db.execute("drop table ready")


@pytest.mark.bench
def test_the_database_part_of_a_tick_of_10_000_tasks(ten_thousand: Market, report: Report) -> None:
    """A tick of 10,000 5m tasks, and one at a full hour: 30,000 of 5m, 15m and 1h. Median of 5 hours after one.

    The baseline is a plain insert of as many ready-made rows as the tick writes bars, into the same indexes.
    """
    market = ten_thousand
    seconds: dict[str, list[float]] = {"5m": [], "hour": [], "5m rows": [], "hour rows": []}
    parts: dict[str, list[dict[str, float]]] = {"5m": [], "hour": []}
    for hour in range(ROUNDS + 1):
        full = MONDAY + (hour + 1) * HOUR
        market.load(full - 10 * MINUTE, noted=False)
        market.settle()
        market.tick(market.clock, max_windows=1000, tasks_a_call=TASKS_A_STEP)
        for name, clock, tasks in (("5m", full - 5 * MINUTE, SYMBOLS), ("hour", full, 3 * SYMBOLS)):
            market.load(clock)
            market.settle()
            timeframes = ["5m"] if name == "5m" else ["5m", "15m", "1h"]
            before = sum(market.bars(t) for t in timeframes)
            done, parts_s = market.tick(clock, timeframes=timeframes, tasks_a_call=TASKS_A_STEP)
            assert done == tasks, "not all were due"
            assert sum(market.bars(t) for t in timeframes) - before == tasks, "no work is fast"
            seconds[name].append(sum(parts_s.values()))
            parts[name].append(parts_s)
            seconds[f"{name} rows"].append(_plain_insert(market, timeframes, clock, tasks))
    for name, bench in (("5m", "tick_10000_database"), ("hour", "hour_peak_10000_database")):
        spent, rows = seconds[name][1:], seconds[f"{name} rows"][1:]
        report(bench, statistics.median(spent), "s", baseline=statistics.median(rows), values=spent, baselines=rows)
        shares = {part: round(statistics.median(p[part] for p in parts[name][1:]), 3) for part in parts[name][0]}
        print(f"of it {shares}")


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


@pytest.fixture
def instance(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """Dagster on dagster-postgres, and the settings of a large installation."""
    environment = stack.environment() | {
        "ENV_NAME": "prod", "MAX_TASKS_PER_RUN": str(SYMBOLS), "TASKS_PER_STEP": str(TASKS_A_STEP),
        "DAGSTER_HOME": str(dagster_home(tmp_path)),
    }  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.get() as opened:
        yield opened


@pytest.mark.bench
def test_a_tick_of_10_000_tasks_against_three_calls_per_task(
    stack: Stack, ten_thousand: Market, instance: dg.DagsterInstance, report: Report
) -> None:
    """A run of agg_master over REST, from select to close, against start, catch-up and finish one task at a time.

    Tasks/s; the three calls over 8 threads with a connection each, for 1,000 of the tasks. Median of 5 rounds in turn.
    """
    market = ten_thousand
    job = build_definitions().resolve_job_def("agg_master")
    if market.clock.minute % 15 == 0:
        market.load(market.clock + 5 * MINUTE)
        market.tick(market.clock, timeframes=["5m"])
    seconds: dict[str, list[float]] = {"run": [], "calls": []}
    transports = [_transport(stack) for _ in range(THREADS)]
    for n in range(ROUNDS + 1):
        for side in ("run", "calls") if n % 2 else ("calls", "run"):
            market.load(market.clock + 5 * MINUTE)
            market.settle()
            before = market.bars("5m")
            if side == "run":
                seconds["run"].append(_run(job, instance, market.clock))
                assert market.bars("5m") - before == SYMBOLS, "no work is fast"
            else:
                seconds["calls"].append(_three_calls_each(transports, market.clock) / SAMPLE * SYMBOLS)
                assert market.bars("5m") - before == SAMPLE, "no work is fast"
                market.tick(market.clock, timeframes=["5m"], tasks_a_call=TASKS_A_STEP)
    for transport in transports:
        transport.close()
    spent, calls = seconds["run"][1:], seconds["calls"][1:]
    report(
        "tick_10000", statistics.median(spent), "s", baseline=statistics.median(calls), values=spent, baselines=calls
    )
    report(
        "tick_10000_against_calls", SYMBOLS / statistics.median(spent), "tasks/s",
        baseline=SYMBOLS / statistics.median(calls), values=calls, baselines=spent,
    )  # fmt: skip


def _run(job: dg.JobDefinition, instance: dg.DagsterInstance, now: dt.datetime) -> float:
    config = {
        "ops": {"select_due": {"config": {"timeframes": ["5m"], "now_utc": now.isoformat()}}},
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
    }
    began = time.perf_counter()
    result = job.execute_in_process(run_config=config, instance=instance)
    spent = time.perf_counter() - began
    assert result.success, "the run failed"
    return spent


def _transport(stack: Stack) -> Transport:
    if stack.api_url is None:
        return open_transport(stack.dsn, "")
    return open_transport(stack.api_url, stack.service_role_key, rest_path="/")


def _three_calls_each(transports: list[Transport], now: dt.datetime) -> float:
    """Seconds until the first tasks are started, caught up and finished one by one."""
    at = now.isoformat()

    def work(n: int) -> None:
        transport = transports[n]
        for symbol in (f"S{s + 1}" for s in range(n, SAMPLE, THREADS)):
            lease = transport.call("agg_start", {"p_symbol": symbol, "p_tf": "5m", "p_now_utc": at, "p_owner": "bench"})
            assert isinstance(lease, dict)
            token = lease["lease_token"]
            done = transport.call(
                "catchup_aggregation_range",
                {
                    "p_symbol": symbol, "p_to_tf": "5m", "p_start_cursor_utc": lease["last_agg_bar_ts_utc"],
                    "p_now_utc": at, "p_lease_token": token,
                },
            )  # fmt: skip
            transport.call(
                "agg_finish",
                {
                    "p_symbol": symbol, "p_tf": "5m", "p_success": True, "p_stats": done, "p_now_utc": at,
                    "p_lease_token": token,
                },
            )  # fmt: skip

    began = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(work, n) for n in range(THREADS)]:
            done.result()
    return time.perf_counter() - began
