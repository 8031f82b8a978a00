"""A tick in a process of its own, to be killed in the middle of its work, and an ingester that makes work for it."""

import datetime as dt
import multiprocessing
import os
import random
import sys
import time
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import dagster as dg
import psycopg
import stamina

from agg_pipeline.definitions import build_definitions
from agg_pipeline.embedded import Stack
from agg_pipeline_tests.oracle import assert_equals_oracle
from agg_pipeline_tests.sql.helpers import put, register, rows, scalar, settle

SYMBOLS = ("EURUSD", "BTCUSD")
BEGIN = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
NEWS = dt.timedelta(hours=3)

# Processes are copies of one that has everything imported: two hundred of them do not import it two hundred times.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__])


def start_tick(stack: Stack, now: dt.datetime) -> BaseProcess:
    """A process that is about to execute one run of the job at ``now``."""
    environment = stack.environment() | {"ENV_NAME": "prod", "TASKS_PER_STEP": "3"}
    ready, begun = _processes.Pipe(duplex=False)
    process = _processes.Process(target=_tick, args=(environment, now.isoformat(), begun))
    process.start()
    begun.close()
    with ready:
        assert ready.poll(120), "the process did not start"
        ready.recv()
    return process


def _tick(environment: dict[str, str], now: str, begun: Connection) -> None:
    os.environ.update(environment)
    job = build_definitions().resolve_job_def("agg_master")
    config = {
        "ops": {"select_due": {"config": {"now_utc": now, "max_windows": 1000}}},
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
    }
    begun.send("now")
    with dg.DagsterInstance.ephemeral() as instance:
        success = job.execute_in_process(run_config=config, instance=instance, raise_on_error=False).success
    sys.exit(0 if success else 1)


class History:
    """Raw bars of two symbols that grow, come late, change and go; the clock is the history's own."""

    def __init__(self, stack: Stack, seed: int) -> None:
        self.stack, self.random, self.now = stack, random.Random(seed), BEGIN
        self.lasts_s = 0.0
        with self.connect() as db:
            register(db, *SYMBOLS)

    def connect(self) -> psycopg.Connection:
        """A connection, as soon as a server that was killed has recovered."""
        for attempt in stamina.retry_context(on=psycopg.OperationalError, attempts=None, timeout=60, wait_max=0.5):
            with attempt:
                return psycopg.connect(self.stack.dsn, autocommit=True)
        raise AssertionError("never reached")

    def go_on(self) -> dt.datetime:
        """Three hours of news, without some minutes, and old bars corrected; what time it is then."""
        past, minutes = (int(span / dt.timedelta(minutes=1)) for span in (self.now - BEGIN, NEWS))
        with self.connect() as db:
            for symbol in SYMBOLS:
                put(db, symbol, self.now, minutes)
                db.execute(
                    "delete from data_bars where canonical_symbol = %s and ts_utc in (%s, %s)",
                    [symbol, *(self.now + dt.timedelta(minutes=self.random.randrange(minutes)) for _ in range(2))],
                )
                for _ in range(3 if past else 0):
                    put(db, symbol, BEGIN + dt.timedelta(minutes=self.random.randrange(past)), high=5000.0 + past)
        self.now += NEWS
        return self.now

    def wait_for_a_lease(self, process: BaseProcess) -> None:
        """Return in the moment that a tick holds a lease, which is a small part of its time; or when it has ended."""
        with self.connect() as db:
            while process.is_alive() and not scalar(db, "select count(*) from data_agg_state where status = 'running'"):
                pass

    def leases(self) -> int:
        with self.connect() as db:
            count: int = scalar(db, "select count(*) from data_agg_state where status = 'running'")
            return count

    def recover(self) -> int:
        """The day after, when leases of the dead are stale and every window has ended: work off what is due.

        Returns:
            How many bars there are, each as the oracle has it.
        """
        self.now = BEGIN + (self.now - BEGIN) // dt.timedelta(days=1) * dt.timedelta(days=1) + dt.timedelta(hours=28)
        with self.connect() as db:
            settle(db, self.now - dt.timedelta(hours=1))  # takes the leases back; their tasks wait for a minute or two
            settle(db, self.now)
            stuck = rows(db, "select * from data_agg_state where status <> 'idle' or lease_owner is not null")
            assert not stuck, stuck
            doubled = rows(
                db,
                """select canonical_symbol, timeframe, ts_utc from derived_data_bars
                    group by 1, 2, 3
                   having count(*) <> max(revision) or count(*) filter (where deleted_at is null) > 1""",
            )
            assert not doubled, doubled
            return sum(assert_equals_oracle(db).values())

    def wait_somewhere(self, process: BaseProcess) -> None:
        """Let a tick go on for a random part of the time that ticks take.

        That time is learned: where a tick has ended already, the next ones are given half as long.
        """
        time.sleep(self.random.uniform(0, self.lasts_s))
        if not process.is_alive():
            self.lasts_s /= 2

    def try_undisturbed(self) -> None:
        """A tick that nobody kills; its seconds are what wait_somewhere() begins with."""
        process = start_tick(self.stack, self.go_on())
        began = time.monotonic()
        process.join(120)
        assert process.exitcode == 0, f"an undisturbed tick ended with {process.exitcode}"
        self.lasts_s = time.monotonic() - began
        self.recover()
