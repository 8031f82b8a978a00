"""The predecessor's worker and our pipeline on one database: in turns, at the same time, back to the old one alone."""

import concurrent.futures
import datetime as dt
import random
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from agg_pipeline.aggregation.execution import execute_unit
from agg_pipeline.aggregation.selection import WorkUnit
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.migrate import migrate
from agg_pipeline.database.transport import open_transport
from agg_pipeline.embedded import Stack
from agg_pipeline.quality.repair import repair
from agg_pipeline.settings import Settings
from agg_pipeline_tests.conftest import open_gateway
from agg_pipeline_tests.oracle import assert_equals_oracle
from agg_pipeline_tests.predecessor.states import NOW, database
from agg_pipeline_tests.predecessor.worker import Worker
from agg_pipeline_tests.sql.helpers import at, drop, put, register, rows, scalar, state
from agg_pipeline_tests.ticking import tick, tick_until_quiet

SYMBOLS = ("EURUSD", "BTCUSD")
SECONDS = 3.0
LATER = at("2026-02-01T00:00")


@pytest.fixture
def gateway(stack: Stack, clean: psycopg.Connection) -> Iterator[AggGateway]:
    opened = open_gateway(stack, direct=stack.api_url is None)
    yield opened
    opened.close()


@pytest.mark.nightly
def test_they_take_turns(gateway: AggGateway, clean: psycopg.Connection) -> None:
    """Three hours, a tick of one of them every five minutes, bars that come late, are corrected and vanish."""
    register(clean, *SYMBOLS)
    register(clean, "DAX", base="5m")
    worker, rng = Worker(clean), random.Random(1)
    for n in range(0, 180, 5):
        now = at("00:06") + dt.timedelta(minutes=n)
        for symbol in SYMBOLS:
            if n not in (70, 75, 80) and rng.random() > 0.1:
                put(
                    clean,
                    symbol,
                    at("00:00") + dt.timedelta(minutes=n - 5),
                    rng.choice([3, 5, 5]),
                    vwap=rng.choice([None, 101.0]),
                )
        put(clean, "DAX", at("00:00") + dt.timedelta(minutes=n - 5), 1, "5m")
        if rng.random() < 0.2:
            put(clean, "EURUSD", at("00:00") + dt.timedelta(minutes=rng.randrange(n + 1)), high=200 + rng.random())
        if n == 100:
            drop(clean, "BTCUSD", "00:40", "01:00")
        if rng.random() < 0.5:
            worker.run(now)
        else:
            tick(gateway, now)
    assert worker.log == []
    tick_until_quiet(gateway, at("2026-01-06T12:00"))
    assert min(assert_equals_oracle(clean)[symbol, "1h"] for symbol in (*SYMBOLS, "DAX")) >= 2


def test_they_work_at_the_same_time(stack: Stack, clean: psycopg.Connection) -> None:
    """Neither gets an error, no task is worked on by both, and every bar is right in the end."""
    register(clean, *SYMBOLS)
    ends = time.monotonic() + SECONDS
    runs = {"worker": 0, "ours": 0, "built": 0}
    fed = threading.Event()

    def feed() -> None:
        rng, n = random.Random(2), 0
        with psycopg.connect(stack.dsn) as own:
            while time.monotonic() < ends:
                for symbol in SYMBOLS:
                    put(own, symbol, at("00:00") + dt.timedelta(minutes=n), 20)
                    put(own, symbol, at("00:00") + dt.timedelta(minutes=rng.randrange(n + 20)), high=300 + rng.random())
                own.commit()
                fed.set()
                n += 20
                time.sleep(0.01)

    def old() -> None:
        with psycopg.connect(stack.dsn, autocommit=True) as own:
            worker = Worker(own)
            fed.wait()
            while time.monotonic() < ends:
                worker.run(LATER)
                runs["worker"] += 1
            assert worker.log == []

    def ours() -> None:
        gateway, settings = open_gateway(stack, direct=stack.api_url is None), Settings()
        fed.wait()
        while time.monotonic() < ends:
            due = gateway.due_tasks("PROD", now=LATER, limit=20, stale_seconds=900)
            outcomes = execute_unit(
                WorkUnit(tasks=tuple(due), max_windows=100), gateway, settings, now=LATER, owner="ours"
            )
            assert {o.kind for o in outcomes} <= {"success", "busy"}, outcomes
            if held := [o.to_finish() for o in outcomes if o.lease_token is not None]:
                assert all(f.success for f in gateway.finish(held, now=LATER, hard_limit=3))
            runs["ours"] += 1
            runs["built"] += sum(o.result.bars_created for o in outcomes if o.result)
        gateway.close()

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(work) for work in (feed, old, ours)]:
            done.result(timeout=SECONDS + 60)
    gateway = open_gateway(stack, direct=True)
    tick_until_quiet(gateway, LATER)
    gateway.close()
    built = assert_equals_oracle(clean)
    assert runs["built"] > 0, "ours had a share"
    assert scalar(clean, "select sum(total_bars_created) from data_agg_state") > runs["built"], "so had the worker"
    assert min(runs.values()) > 5, runs
    assert built["EURUSD", "5m"] > 100


@pytest.mark.nightly
def test_the_predecessor_alone_goes_on_after_the_migration(stack: Stack, two_weeks: str) -> None:
    """Back to the old worker: it gets every timeframe right, with its own calls, from where it or we stopped."""
    with database(stack.dsn, "doubled_finish", copy_of=two_weeks) as dsn:
        migrate(dsn)
        gateway = AggGateway(open_transport(dsn, ""))
        repair(gateway, apply=True)
        gateway.close()
        with psycopg.connect(dsn, autocommit=True) as db:
            db.execute("update core_asset_registry_all set calc_15m = true, calc_4h = true, calc_1d = true")
            worker = Worker(db, environment="PROD")
            for n in range(40):
                before = scalar(db, "select sum(total_bars_created) from data_agg_state")
                worker.run(NOW + dt.timedelta(minutes=5 * n))
                if scalar(db, "select sum(total_bars_created) from data_agg_state") == before:
                    break
            assert worker.log == []
            assert_equals_oracle(db)
            assert {row["status"] for row in rows(db, "select status from data_agg_state")} == {"idle"}
            assert state(db, "EURUSD", "5m")["last_agg_bar_ts_utc"] == at("2026-01-19T00:00")
