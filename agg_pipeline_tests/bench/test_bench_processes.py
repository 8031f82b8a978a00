"""Dagster's own processes: how long a slot of the schedule takes to reach the database, how much memory a run needs."""

import contextlib
import datetime as dt
import os
import signal
import statistics
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from agg_pipeline.embedded import Stack, supervised
from agg_pipeline.embedded.dagster_services import dagster_services
from agg_pipeline.embedded.ports import free_port
from agg_pipeline.embedded.supervisor.protocol import ServiceOrder
from agg_pipeline_tests.bench.conftest import Report
from agg_pipeline_tests.bench.market import MINUTE, MONDAY, served_market
from agg_pipeline_tests.conftest import open_gateway
from agg_pipeline_tests.dagster.client import DagsterClient
from agg_pipeline_tests.dagster.conftest import empty_storage

SYMBOLS = 10_000
SLOTS = 5
MODULE = "agg_pipeline_tests.bench.by_the_minute"
NEVER = "0 0 29 2 *"


@pytest.mark.bench
def test_memory_of_a_run_worker_at_10_000_tasks(stack: Stack, tmp_path: Path, report: Report) -> None:
    """Peak of the process that the code server starts for the run; PSS sampled every 20 ms. The baseline is that of a
    run of 20 tasks."""
    settings = {
        "ENV_NAME": "prod",
        "MAX_TASKS_PER_RUN": str(SYMBOLS),
        "TASKS_PER_STEP": "1000",
        "AGG_BENCH_CRON": NEVER,
    }
    with (
        served_market(stack, SYMBOLS) as market,
        empty_storage(stack, tmp_path / "empty"),
        dagster_services(tmp_path, stack.environment() | settings, module=MODULE) as services,
    ):
        client, code_server = DagsterClient(services.url, services), services.pid("code-server")
        peaks: dict[int, list[tuple[float, float]]] = {20: [], SYMBOLS: []}
        for n in range(3):
            for tasks, seen in peaks.items():
                market.load(MONDAY + (10 * n + 5 if tasks == 20 else 10 * n + 10) * MINUTE)
                market.settle()
                config = {"timeframes": ["5m"], "now_utc": market.clock.isoformat(), "max_tasks": tasks}
                before = market.bars("5m")
                idle = _descendants(code_server)
                run = client.launch_when_possible(config)
                seen.append(_peak(code_server, idle, lambda run=run: client.run(run).has_ended))  # type: ignore[misc]
                assert client.run(run).status == "SUCCESS"
                assert market.bars("5m") - before >= tasks, "no work is small"
                market.tick(market.clock, timeframes=["5m"], tasks_a_call=1000)
    for bench, part in (("run_worker_rss", 0), ("run_worker_pss", 1)):
        values, baselines = ([peak[part] for peak in seen] for seen in (peaks[SYMBOLS], peaks[20]))
        report(bench, max(values), "MB", baseline=max(baselines))


def _peak(server: int, idle: set[int], has_ended: Callable[[], bool]) -> tuple[float, float]:
    """Highest RSS and PSS in MB of the new process below a server (its pid) that grew most, until the run has ended."""
    rss: dict[int, float] = {}
    pss: dict[int, float] = {}
    look = time.monotonic()
    while True:
        for pid in _descendants(server) - idle:
            with contextlib.suppress(OSError, KeyError, ValueError):
                rss[pid] = max(rss.get(pid, 0.0), _kilobytes(pid, "status")["VmHWM"] / 1024)
                pss[pid] = max(pss.get(pid, 0.0), _kilobytes(pid, "smaps_rollup")["Pss"] / 1024)
        if time.monotonic() > look + 1:
            look = time.monotonic()
            if has_ended():
                break
        time.sleep(0.02)
    assert rss, "no process was seen"
    return max(rss.values()), max(pss.values())


def _descendants(server: int) -> set[int]:
    found, waiting = set(), [server]
    while waiting:
        pid = waiting.pop()
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                children = [int(child) for child in task.read_text().split()]
                found.update(children)
                waiting += children
    return found


def _kilobytes(pid: int, file: str) -> dict[str, int]:
    lines = (line.split() for line in Path(f"/proc/{pid}/{file}").read_text().splitlines())
    return {line[0].rstrip(":"): int(line[1]) for line in lines if line[-1] == "kB"}


@pytest.mark.bench
def test_from_the_slot_of_the_schedule_to_the_first_call(
    stack: Stack, clean: psycopg.Connection, tmp_path: Path, report: Report
) -> None:
    """Seconds from the full minute until the run is in ops_runlog, 5 slots each in turn, code servers warm.

    Ours: as `agg-pipeline up` starts it. Naive: `dagster dev` in an empty DAGSTER_HOME (SQLite, the queue's defaults)
    and Dagster's default executor, a process per step. The same code, ours on even minutes, naive on odd ones.
    """
    hour = dt.datetime.now(dt.UTC).replace(minute=0, second=0, microsecond=0) - dt.timedelta(hours=6)
    gateway = open_gateway(stack, direct=True)
    gateway.register_asset("EURUSD", start=hour, base_timeframe="1m")
    clean.execute(
        """insert into data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, source)
           select 'EURUSD', '1m', %s + m * interval '1 minute', 1, 2, 0.5, 1.5, 10, 'bench'
             from generate_series(0, 299) m""",
        [hour],
    )
    gateway.close()
    clean.execute("delete from data_agg_state where timeframe in ('15m', '4h', '1d')")
    clean.execute("update core_asset_registry_all set calc_15m = false, calc_4h = false, calc_1d = false")
    with empty_storage(stack, tmp_path / "empty"):
        pass
    ours = stack.environment() | {"ENV_NAME": "prod", "AGG_BENCH_CRON": "*/2 * * * *"}
    with (
        dagster_services(tmp_path, ours, module=MODULE),
        _dagster_dev(tmp_path, stack),
    ):
        deadline = time.monotonic() + 60 * (2 * SLOTS + 6)
        waits: dict[str, list[float]] = {"PROD": [], "STAGE": []}
        while min(map(len, waits.values())) < SLOTS + 1:
            assert time.monotonic() < deadline, f"slots were missed: {waits}"
            if dt.datetime.now().second in range(35, 50):  # something is due at the next slot, whoever has it
                clean.execute("update data_bars set close = 1 + random() where ts_utc = %s", [hour])
            time.sleep(5)
            for environment in waits:
                waits[environment] = [
                    wait
                    for (wait,) in clean.execute(
                        """select extract(epoch from l.started_at - date_trunc('minute', l.started_at))::float8
                             from ops_runlog l where env_name = %s and trigger = 'cron' order by l.started_at""",
                        [environment],
                    ).fetchall()
                ]
    seconds, naive = waits["PROD"][1 : SLOTS + 1], waits["STAGE"][1 : SLOTS + 1]
    report(
        "slot_to_first_call", statistics.median(seconds), "s", baseline=statistics.median(naive), values=seconds,
        baselines=naive,
    )  # fmt: skip


@contextlib.contextmanager
def _dagster_dev(root: Path, stack: Stack) -> Iterator[None]:
    home = root / "naive"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    settings = {
        "ENV_NAME": "stage", "AGG_EXECUTOR": "multiprocess", "AGG_BENCH_CRON": "1-59/2 * * * *",
        "DAGSTER_HOME": str(home),
    }  # fmt: skip
    script = Path(sysconfig.get_path("scripts")) / "dagster"
    with supervised(root / "naive_services", database=False) as (supervisor, _):
        supervisor.run(
            ServiceOrder(
                name="dagster-dev",
                argv=[str(script), "dev", "-m", MODULE, "-p", str(free_port())],
                env=os.environ | stack.environment() | settings,
                log=str(supervisor.layout.log("dagster-dev")),
                cwd=os.getcwd(),
                has_children=True,
                stop_signal=int(signal.SIGINT),
                grace_s=20.0,
            )
        )
        yield
