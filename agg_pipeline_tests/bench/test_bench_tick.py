"""What a tick costs beyond what Dagster itself costs."""

import datetime as dt
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.definitions import build_definitions
from agg_pipeline.embedded import Stack
from agg_pipeline.embedded.dagster_services import dagster_home
from agg_pipeline_tests.bench.conftest import Report

BEGIN = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
TASKS = 20
ROUNDS = 9


@dg.op(out=dg.DynamicOut(int))
def select_nothing() -> Iterator[dg.DynamicOutput[int]]:
    for n in range(TASKS):
        yield dg.DynamicOutput(n, mapping_key=f"{n:05d}")


@dg.op
def aggregate_nothing(unit: int) -> int:
    return unit


@dg.op(tags={"dagster/priority": "10"})
def finish_nothing(unit: int, outcome: int) -> int:
    return outcome


@dg.op
def close_nothing(results: list[int]) -> None:
    return None


@dg.graph
def empty_ops() -> None:
    close_nothing(select_nothing().map(lambda unit: finish_nothing(unit, aggregate_nothing(unit))).collect())


@pytest.fixture
def instance(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """Dagster on dagster-postgres, as in production."""
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DAGSTER_HOME", str(dagster_home(tmp_path)))
    with dg.DagsterInstance.get() as opened:
        yield opened


@pytest.mark.bench
def test_a_tick_of_20_tasks_against_the_same_graph_with_empty_ops(
    one_gateway: AggGateway, clean: psycopg.Connection, instance: dg.DagsterInstance, report: Report
) -> None:
    """Seconds of execute_in_process, median of 9 rounds in turn, both on dagster-postgres. Goal: at most 1.3 times."""
    for n in range(TASKS):
        one_gateway.register_asset(f"S{n}", start=BEGIN, base_timeframe="1m")
    clean.execute(
        """insert into data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, source)
           select 'S' || n, '1m', %s + m * interval '1 minute', 1, 2, 0.5, 1.5, 10, 'bench'
             from generate_series(0, %s) n, generate_series(0, %s) m""",
        [BEGIN, TASKS - 1, 5 * (ROUNDS + 2)],
    )
    real_job = build_definitions().resolve_job_def("agg_master")
    empty_job = empty_ops.to_job(executor_def=dg.in_process_executor, resource_defs={"io_manager": dg.mem_io_manager})
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    seconds: dict[str, list[float]] = {"real": [], "empty": []}
    for n in range(ROUNDS + 1):
        now = BEGIN + dt.timedelta(minutes=5 * n + 6)
        config = {"timeframes": ["5m"], "now_utc": now.isoformat()}
        began = time.perf_counter()
        result = real_job.execute_in_process(
            run_config=quiet | {"ops": {"select_due": {"config": config}}}, instance=instance
        )
        seconds["real"].append(time.perf_counter() - began)
        written = clean.execute("select count(*) from derived_data_bars where timeframe = '5m'").fetchone()
        assert result.success, "the tick failed"
        assert written == (TASKS * (n + 1),), "no work is fast"
        began = time.perf_counter()
        assert empty_job.execute_in_process(run_config=quiet, instance=instance).success
        seconds["empty"].append(time.perf_counter() - began)
    real, empty = (seconds[name][1:] for name in ("real", "empty"))
    report(
        "tick_20_tasks", statistics.median(real), "s", baseline=statistics.median(empty), values=real, baselines=empty
    )
