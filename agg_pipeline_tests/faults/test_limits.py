"""The database is up but refuses work: timeouts, deadlocks, a full disk."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

import psycopg
import pytest

from agg_pipeline.database.migrate import migrate
from agg_pipeline.embedded import started
from agg_pipeline_tests.embedded.processes import wait_until
from agg_pipeline_tests.faults.proxy import Proxy
from agg_pipeline_tests.faults.world import World
from agg_pipeline_tests.sql.helpers import scalar

LIMIT_MS = 150
DISK_MB = 160


@contextlib.contextmanager
def statement_timeout(world: World, limit: str) -> Iterator[None]:
    """What a call of the pipeline may take, as PostgREST applies it."""

    def set_to(value: str) -> None:
        db.execute(f"alter role service_role set statement_timeout = '{value}'")
        db.execute("notify pgrst, 'reload config'")
        time.sleep(0.3)

    with world.connect() as db:
        set_to(limit)
        try:
            yield
        finally:
            set_to("8s")


@pytest.mark.nightly
def test_statement_timeout(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Days of backlog in one call are too much for it; halves of it are done while the limit stands."""
    monkeypatch.setenv("TASKS_PER_STEP", "20")
    world.news(minutes=5 * 24 * 60)
    with statement_timeout(world, f"{LIMIT_MS}ms"):
        while world.is_due():
            world.tick(max_windows=2000)
            assert len(world.runs) < 50, "it does not get on"
    calls = world.proxy.calls.count("catchup_aggregation_batch")
    assert calls > len(world.runs), "no call ran into the timeout"
    said = f"{LIMIT_MS} ms for a call that builds 8000 windows: {calls} smaller ones"
    world.recovers("statement timeout", said)


@pytest.mark.nightly
def test_deadlock(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database ends the pipeline's call to let another session go on, and the call is repeated."""
    monkeypatch.setenv("TASKS_PER_STEP", "20")
    lock = "select from data_agg_state where canonical_symbol = %s for update"

    def cross() -> None:
        wait_until(lambda: scalar(looking, WAITING) == 1)
        other.execute(lock, ["AAA"])  # which the pipeline has; it waits for DDD
        other.execute("commit")

    with world.connect() as other, world.connect() as looking, ThreadPoolExecutor(1) as pool:
        before = deadlocks(looking)
        other.execute("set deadlock_timeout = '30s'")  # it is the pipeline that looks for a deadlock, and finds one
        other.execute("begin")

        def lock_the_last() -> None:
            other.execute(lock, ["DDD"])
            crossed.append(pool.submit(cross))

        crossed: list[Future[None]] = []
        world.tick_until("catchup_aggregation_batch", lock_the_last, skip=0)
        crossed[0].result()
        wait_until(lambda: deadlocks(looking) == before + 1)
    world.recovers("deadlock", "with another session, while the tasks are leased")


WAITING = "select count(*) from pg_stat_activity where usename = 'authenticator' and wait_event_type = 'Lock'"


def deadlocks(db: psycopg.Connection) -> int:
    count: int = scalar(db, "select deadlocks from pg_stat_database where datname = current_database()")
    return count


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that can be full."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root on Linux can mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("this root may not mount")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture
def small_world(small_disk: Path, world: World) -> Iterator[World]:
    """The world on a stack of that disk."""
    with started(small_disk / "stack") as stack:
        migrate(stack.dsn)
        with Proxy(int((stack.api_url or "").rsplit(":", 1)[1])) as proxy:
            small = World(stack, proxy, world.instance, world.table, world.tries)
            small.begin()
            small.news()
            yield small


class Filler:
    """A neighbour that takes every byte of a disk, and what others give back as well, until it is stopped."""

    def __init__(self, disk: Path) -> None:
        self.disk, self.over, self.is_full = disk, threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._fill)

    def __enter__(self) -> Self:
        self.thread.start()
        assert self.is_full.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
        (self.disk / "filler").unlink()

    def _fill(self) -> None:
        with (self.disk / "filler").open("wb", buffering=0) as file:
            with contextlib.suppress(OSError):
                while file.write(bytes(1 << 20)):
                    pass
            while not self.over.wait(0.005):
                with contextlib.suppress(OSError):
                    file.write(bytes(1 << 12))
                    continue
                self.is_full.set()


@pytest.mark.nightly
def test_full_disk(small_disk: Path, small_world: World) -> None:
    """PostgreSQL refuses to write; with room again it goes on by itself."""
    small_world.news(minutes=24 * 60)
    with Filler(small_disk):
        run = small_world.tick()
    assert "53100" in run.said
    small_world.recovers("disk full", "not a byte left for a table during a run")


@pytest.mark.nightly
def test_full_disk_under_the_log(small_disk: Path, small_world: World) -> None:
    """Without room for its log PostgreSQL goes down at once, and cannot come again before there is some."""
    with Filler(small_disk):
        with small_world.connect() as db, pytest.raises(psycopg.OperationalError):
            db.execute("select pg_logical_emit_message(true, 'x', repeat('x', 1000000)) from generate_series(1, 1000)")
        time.sleep(2)  # its supervisor starts it, and again, and cannot write about it
        run = small_world.tick()
    assert not run.success
    wait_until(lambda: small_world.deaths("postgres") > 0)
    small_world.recovers("disk full", "not a byte left for the write-ahead log during a run: PostgreSQL was down")
