"""Faults of the runs: killed, frozen, a hundred at once, one task that always fails."""

import dataclasses
import os
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess

import pytest

from agg_pipeline.aggregation.execution import execute_unit
from agg_pipeline.aggregation.outcomes import TaskOutcome
from agg_pipeline.aggregation.selection import WorkUnit
from agg_pipeline.settings import load_settings
from agg_pipeline_tests.dagster.killing import start_tick
from agg_pipeline_tests.embedded.processes import wait_until
from agg_pipeline_tests.faults.conftest import FAULTS
from agg_pipeline_tests.faults.judge import BEGIN, errors
from agg_pipeline_tests.faults.proxy import Fault
from agg_pipeline_tests.faults.table import summary
from agg_pipeline_tests.faults.world import HOUR, MINUTE, World
from agg_pipeline_tests.sql.helpers import Row, rows, scalar

TICKS = 100
CALLS_OF_A_RUN = 11 + 4 * 4  # to open and close it, to read the calendars and the days, and for each of its four steps


def start_worker(world: World) -> BaseProcess:
    """A process that is about to execute one run, through the proxy."""
    return start_tick(dataclasses.replace(world.stack, api_url=world.proxy.url), world.now)


@pytest.mark.slow
@pytest.mark.nightly
def test_killed_between_any_two_calls(world: World) -> None:
    """kill -9 with k calls done and the next one not yet there, for every k of a run."""
    left, recoveries = [], []
    for k in range(1, CALLS_OF_A_RUN, 1 if FAULTS > 1 else 5):
        world.begin()
        world.news()
        with world.proxy.broken(Fault("swallow", skip=k, times=1)) as fault:
            worker = start_worker(world)
            assert fault.has_hit.wait(60)
            worker.kill()
            worker.join()
        assert worker.exitcode == -signal.SIGKILL
        left.append(world.leases())
        recoveries.append(world.recovers("worker killed", f"after {k} calls", note=False))
    assert set(left) == {0, 5}, "some die with the leases of a step, some without"
    world.table.append(summary(recoveries, f"kill -9 between two of its {CALLS_OF_A_RUN} calls, {len(left)} times"))


@pytest.mark.nightly
def test_zombie(world: World) -> None:
    """A run frozen while it holds leases continues after another run did the work: it must change nothing."""
    with world.proxy.broken(Fault("stall", on="agg_start_batch", times=1)) as fault:
        zombie = start_worker(world)
        assert zombie.pid
        assert fault.has_hit.wait(60)
        wait_until(lambda: world.leases() == 5)
        os.kill(zombie.pid, signal.SIGSTOP)
    try:
        with world.connect() as db:
            held = rows(db, "select canonical_symbol, timeframe from data_agg_state where status = 'running'")
        row = world.recovers("worker frozen", "SIGSTOP with five leases; SIGCONT when another run has done the work")
        assert "lease 15 min" in row.heal
        before = world.snapshot()
    finally:
        os.kill(zombie.pid, signal.SIGCONT)
        zombie.join(60)
    after = world.snapshot()
    assert after["bars"] == before["bars"]
    assert tasks_of(after, held) == tasks_of(before, held)
    assert zombie.exitcode == 0, "somebody else has done the work, so it is no failure"
    with world.connect() as db:
        said = rows(
            db,
            """select event #>> '{details,error}' as error from ops_runlog, jsonb_array_elements(events) event
                where run_id <> all(%s::uuid[]) and event #>> '{details,outcome}' = 'lost'""",
            [[run.run_id for run in world.runs]],
        )
    assert len(said) == len(held) == 5
    assert all("is not held" in str(event["error"]) for event in said)


def tasks_of(snapshot: dict[str, list[Row]], names: list[Row]) -> list[Row]:
    return [task for task in snapshot["tasks"] if {key: task[key] for key in names[0]} in names]


def test_a_hundred_ticks_at_once(world: World) -> None:
    """Each bar is written once, by whoever had the lease; nobody loses one."""
    settings, all_there = load_settings(), threading.Barrier(TICKS)
    world.timeout_s = 30.0  # each waits for its turn in PostgREST's pool

    def tick(n: int) -> list[TaskOutcome]:
        with world.gateway() as gateway:
            all_there.wait()
            tasks = gateway.due_tasks("PROD", now=world.now, limit=20, stale_seconds=900)
            unit = WorkUnit(tasks=tuple(tasks), max_windows=1000)
            outcomes = execute_unit(unit, gateway, settings, now=world.now, owner=f"tick {n}") if tasks else []
            held = [o for o in outcomes if o.lease_token is not None]
            finished = gateway.finish([o.to_finish() for o in held], now=world.now, hard_limit=3) if held else []
            assert all(f.success for f in finished), finished
            return outcomes

    with world.connect() as db:
        before = scalar(db, "select count(*) from derived_data_bars")
    with ThreadPoolExecutor(TICKS) as pool:
        outcomes = [outcome for outcomes in pool.map(tick, range(TICKS)) for outcome in outcomes]
    with world.connect() as db:
        rows_written = scalar(db, "select count(*) from derived_data_bars") - before
    kinds = Counter(outcome.kind for outcome in outcomes)
    assert kinds.keys() <= {"success", "busy"}, kinds
    assert kinds["busy"] > 0, "they were not at once"
    assert sum(o.result.bars_created for o in outcomes if o.result) == rows_written > 0
    world.recovers(f"{TICKS} ticks at once", f"{kinds['success']} leases for 20 tasks, {kinds['busy']} times busy")


@pytest.mark.nightly
def test_a_poisoned_symbol(world: World) -> None:
    """Twenty symbols, of which one has a trade count that no column holds: the other 19 do not wait for it."""
    symbols = tuple(f"S{n:02d}" for n in range(20))
    world.begin(symbols)
    world.news(symbols)
    poisoned = symbols[7]
    with world.connect() as db:
        old = "update data_bars set trade_count = %s where canonical_symbol = %s and ts_utc between %s and %s"
        window = (poisoned, BEGIN + 4 * HOUR, BEGIN + 4 * HOUR + 4 * MINUTE)
        db.execute(old, [2_000_000_000, *window])
        run = world.tick(max_tasks=100)
        assert not run.success
        assert f"{poisoned}/5m (hard): 22003" in run.said
        assert {o.symbol for o in run.outcomes if o.failed} == {poisoned}
        assert Counter(o.kind for o in run.outcomes if o.symbol != poisoned) == {"success": 19 * 5}
        lost, wrong = errors(db, [s for s in symbols if s != poisoned])
        assert (lost, wrong) == (0, 0), "the others had to wait"
        db.execute(old, [3, *window])
    said = "one of twenty cannot be computed in a run, and is corrected then; 19 are done at once"
    world.recovers("poisoned symbol", said)
