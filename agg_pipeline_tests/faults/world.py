"""A small market with work to do, runs of the job that reach it through a proxy, and a judge of the result."""

import datetime as dt
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import dagster as dg
import psycopg

from agg_pipeline.aggregation.outcomes import TaskOutcome
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.transport import open_transport
from agg_pipeline.embedded import Stack
from agg_pipeline.embedded.files import Layout
from agg_pipeline.embedded.supervisor.protocol import Status
from agg_pipeline.orchestration.jobs import build_job
from agg_pipeline.orchestration.resources import SupabaseResource
from agg_pipeline.orchestration.sensors.release import build_release_sensor
from agg_pipeline.settings import load_settings
from agg_pipeline_tests.conftest import TABLES
from agg_pipeline_tests.embedded.processes import pids, wait_until
from agg_pipeline_tests.faults.judge import BEGIN, Verdict, judged
from agg_pipeline_tests.faults.proxy import Fault, Proxy
from agg_pipeline_tests.faults.table import Row
from agg_pipeline_tests.sql.helpers import due, put, register, rows, scalar, settle

HOUR, MINUTE = dt.timedelta(hours=1), dt.timedelta(minutes=1)
SYMBOLS = ("AAA", "BBB", "CCC", "DDD")
HANG_S = 60.0
STRAGGLERS_S = 0.3
BUSY = "select count(*) from pg_stat_activity where usename = 'authenticator' and state <> 'idle'"


@dataclass(frozen=True)
class Run:
    """One run of the job, in this process."""

    run_id: str
    success: bool
    said: str  # descriptions of what failed
    log: str = field(repr=False)  # every event
    outcomes: tuple[TaskOutcome, ...] = ()

    @property
    def kinds(self) -> set[str]:
        return {outcome.kind for outcome in self.outcomes}


class World:
    """The database of a stack, emptied, with symbols whose first hours are built; its clock is its own."""

    def __init__(self, stack: Stack, proxy: Proxy, instance: dg.DagsterInstance, table: list[Row], tries: int) -> None:
        self.stack, self.proxy, self.instance, self.table = stack, proxy, instance, table
        self.key, self.timeout_s = stack.service_role_key, 10.0
        self.now = BEGIN
        self.tries = tries
        self.runs: list[Run] = []

    # --- the market

    def begin(self, symbols: tuple[str, ...] = SYMBOLS) -> None:
        """Three hours of bars, all built, and no run so far."""
        self.runs.clear()
        with self.connect() as db:
            db.execute(f"truncate {TABLES} restart identity cascade")
            register(db, *symbols)
            for symbol in symbols:
                put(db, symbol, BEGIN, 180)
            self.now = BEGIN + 3 * HOUR + MINUTE
            settle(db, self.now)

    def news(self, symbols: tuple[str, ...] = SYMBOLS, *, minutes: int = 180) -> None:
        """More hours with gaps, and late corrections of what is built; then the day is over, so that all is due."""
        chance = random.Random(1)
        with self.connect() as db:
            for symbol in symbols:
                put(db, symbol, BEGIN + 3 * HOUR, minutes)
                gaps = [BEGIN + 3 * HOUR + chance.randrange(minutes) * MINUTE for _ in range(5)]
                db.execute("delete from data_bars where canonical_symbol = %s and ts_utc = any(%s)", [symbol, gaps])
                for _ in range(3):
                    put(db, symbol, BEGIN + chance.randrange(180) * MINUTE, high=5000.0)
        days = (3 * HOUR + minutes * MINUTE) // (24 * HOUR) + 1
        self.now = BEGIN + days * 24 * HOUR + HOUR

    # --- work

    def tick(self, *, late: dt.timedelta = dt.timedelta(0), **config: object) -> Run:
        """One run of the job. It may fail, but it ends, and none that has a failed task calls itself a success."""
        supabase = self._resource(self.proxy.url, self.key)
        asked = {"now_utc": (self.now + late).isoformat(), "max_windows": 1000} | config
        began = time.monotonic()
        result = build_job(load_settings(), {"supabase": supabase}).execute_in_process(
            run_config={
                "ops": {"select_due": {"config": asked}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            instance=self.instance,
            raise_on_error=False,
        )
        assert time.monotonic() - began < HANG_S, "the run hung"
        failures = [e.step_failure_data for e in result.all_events if e.is_step_failure]
        worked = any(e.is_step_success and (e.step_key or "").startswith("finish") for e in result.all_events)
        finished = result.output_for_node("finish").values() if worked else []
        run = Run(
            run_id=result.run_id,
            success=result.success,
            said=" ".join(f.user_failure_data.description or "" for f in failures if f.user_failure_data),
            log="\n".join(map(str, result.all_events)),
            outcomes=tuple(outcome for outcomes in finished for outcome in outcomes),
        )
        assert not (run.success and any(o.failed for o in run.outcomes)), f"a false success: {run.outcomes}"
        assert run.success or run.said, f"no word for the operator: {[(f.error and f.error.message) for f in failures]}"
        self.runs.append(run)
        return run

    def tick_until(self, function: str, act: Callable[[], object], *, skip: int = 1) -> Run:
        """A run in which something happens between its second call of a function and the database."""
        with self.proxy.broken(Fault("hold", on=function, skip=skip, times=1)) as fault, ThreadPoolExecutor(1) as pool:

            def act_in_time() -> None:
                assert fault.has_hit.wait(HANG_S), f"{function} was never called"
                act()
                self.proxy.heal()

            acted = pool.submit(act_in_time)
            run = self.tick()
            acted.result()
        return run

    def pid(self, server: str) -> int:
        return pids(self.stack.root)[server]

    def deaths(self, server: str) -> int:
        """How often the supervisor saw it end unasked."""
        return Status.load(Layout(self.stack.root).status).services[server].deaths

    @contextmanager
    def gateway(self) -> Iterator[AggGateway]:
        """A gateway through the proxy."""
        opened = AggGateway(open_transport(self.proxy.url, self.key, rest_path="/", timeout_s=self.timeout_s))
        try:
            yield opened
        finally:
            opened.close()

    def connect(self) -> psycopg.Connection:
        """A connection that goes past the proxy, as soon as a server that was killed has recovered."""
        deadline = time.monotonic() + HANG_S
        while True:
            try:
                return psycopg.connect(self.stack.dsn, autocommit=True)
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def is_due(self) -> bool:
        with self.connect() as db:
            return bool(due(db, self.now))

    def leases(self) -> int:
        with self.connect() as db:
            count: int = scalar(db, "select count(*) from data_agg_state where status = 'running'")
            return count

    # --- what came of it

    def recovers(self, fault: str, done: str, *, straggling: bool = False, note: bool = True) -> Row:
        """The fault is over: go on until nothing is due, note the row, and see that nothing was lost.

        Args:
            fault, done: the row's first columns.
            straggling: calls of a run that has given up are still on their way; let them arrive first.
            note: put the row into the table.
        """
        heal = self._heal(straggling=straggling)
        with self.connect() as db:
            found = judged(db)
        ok = sum(run.success for run in self.runs)
        row = Row(fault, done, len(self.runs) - ok, ok, found.lost, found.wrong, found.disabled, heal)
        if note:
            self.table.append(row)
        print(row)
        assert found == Verdict(), found
        return row

    def _heal(self, *, straggling: bool) -> str:
        """Run as the schedule does, and let the clock go on only where somebody has to wait."""
        began, waited, sensed = time.monotonic(), list[str](), False
        if straggling:
            time.sleep(STRAGGLERS_S)
            with self.connect() as db:
                wait_until(lambda: scalar(db, BUSY) == 0)
        while True:
            is_due = self.is_due()
            with self.connect() as db:
                wait = db.execute(
                    """select status = 'running', max(coalesce(case status when 'running' then lease_expires_at end,
                                                               next_run_at))
                         from data_agg_state
                        where status = 'running' or (next_run_at > %s and hard_fail_streak + transient_streak > 0)
                        group by 1 order by 1 limit 1""",
                    [self.now],
                ).fetchone()
            if is_due:
                self.tick()
            elif wait is not None and wait[0] and not sensed:
                self._release()
                sensed = True
            elif wait is not None:
                leased, until = wait
                minutes = max(1, round((until - self.now) / MINUTE))
                waited.append(f"{'lease' if leased else 'back-off'} {minutes} min")
                self.now = max(self.now, until) + dt.timedelta(seconds=1)
            else:
                return " + ".join([f"{time.monotonic() - began:.1f} s", *waited])
            assert time.monotonic() - began < HANG_S, "it does not heal"

    def _release(self) -> None:
        """What the daemon does every five seconds: free what ended runs that it knows of have left behind."""
        supabase = self._resource(self.stack.api_url or "", self.stack.service_role_key)
        settings = load_settings()
        sensor = build_release_sensor(settings)
        with dg.build_sensor_context(instance=self.instance, resources={"supabase": supabase}) as context:
            print(sensor(context))

    def _resource(self, url: str, key: str) -> SupabaseResource:
        return SupabaseResource(
            environment="PROD", url=url, service_role_key=key, rest_path="/", timeout_s=self.timeout_s
        )

    def snapshot(self) -> dict[str, list[dict[str, object]]]:
        """What must not depend on faults: the tasks and every row of bars there ever was."""
        with self.connect() as db:
            return {
                "tasks": rows(
                    db,
                    """select canonical_symbol, timeframe, status, last_agg_bar_ts_utc, next_run_at, hard_fail_streak,
                              transient_streak, stale_streak, total_runs, lease_owner, lease_expires_at
                         from data_agg_state order by 1, 2""",
                ),
                "bars": rows(
                    db,
                    """select canonical_symbol, timeframe, ts_utc, revision, deleted_at is null as live, open, high,
                              low, close, vol, vwap, trade_count, quality_score, source_candles
                         from derived_data_bars order by 1, 2, 3, 4""",
                ),
            }
