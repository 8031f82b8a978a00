"""PostgREST and PostgreSQL are killed, restarted and stopped in the middle of a run."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from agg_pipeline_tests.embedded.processes import pids, wait_until
from agg_pipeline_tests.faults.world import World
from agg_pipeline_tests.sampling import sampled

ENDED = [
    (server, signum, fault, function)
    for function in ("catchup_aggregation_batch", "agg_finish_batch")
    for server, signum, fault in (
        ("postgrest", signal.SIGKILL, "PostgREST killed"),
        ("postgres", signal.SIGKILL, "PostgreSQL killed"),
        ("postgres", signal.SIGINT, "PostgreSQL restarted"),
    )
]


@pytest.mark.parametrize(("server", "signum", "fault", "function"), sampled(ENDED, [ENDED[4]]))
def test_a_server_goes_and_comes_again(
    world: World, server: str, signum: signal.Signals, fault: str, function: str
) -> None:
    """The supervisor starts it; the call that was on its way gets no answer."""
    before = world.deaths(server)
    world.tick_until(function, lambda: os.kill(world.pid(server), signum))
    wait_until(lambda: world.deaths(server) > before)
    world.recovers(fault, f"{signum.name} just before a `{function}`; its supervisor starts it again")


@contextmanager
def stopped(world: World) -> Iterator[Callable[[str], None]]:
    """A function that stops a server with all its processes; they go on at the end."""
    found: list[int] = []

    def signal_all(signum: signal.Signals, processes: Iterable[int]) -> None:
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):  # a session that ended meanwhile
                os.kill(pid, signum)

    def stop(server: str) -> None:
        os.kill(world.pid(server), signal.SIGSTOP)  # first, so that it starts no more
        found.extend(pid for name, pid in pids(world.stack.root).items() if name.startswith(server))
        signal_all(signal.SIGSTOP, found)

    try:
        yield stop
    finally:
        signal_all(signal.SIGCONT, found)


STOPPED = [("postgrest", "PostgREST stopped"), ("postgres", "PostgreSQL stopped")]


@pytest.mark.nightly
@pytest.mark.parametrize(("server", "fault"), STOPPED)
def test_a_server_is_stopped_and_goes_on(world: World, server: str, fault: str) -> None:
    """SIGSTOP: it holds its connections and answers nobody; with SIGCONT it does all that it was asked for."""
    world.timeout_s = 0.6
    with stopped(world) as stop:
        run = world.tick_until("catchup_aggregation_batch", lambda: stop(server), skip=3)
    assert "ReadTimeout" in run.said
    world.timeout_s = 10.0
    world.recovers(fault, "SIGSTOP just before a `catchup_aggregation_batch`, SIGCONT after the run", straggling=True)


@pytest.mark.nightly
def test_sessions_are_terminated(world: World) -> None:
    """Every 50 ms all sessions of the API end, whatever they do."""
    over, killed = threading.Event(), [0]

    def terminate() -> None:
        with psycopg.connect(world.stack.dsn, autocommit=True) as db:
            while not over.wait(0.05):
                ended = db.execute(
                    """select count(*) filter (where pg_terminate_backend(pid)) from pg_stat_activity
                        where usename = 'authenticator' and query !~* '^listen'"""
                ).fetchone()
                killed[0] += ended[0] if ended else 0

    killer = threading.Thread(target=terminate)
    killer.start()
    try:
        for _ in range(3):
            world.tick()
    finally:
        over.set()
        killer.join()
    assert killed[0] > 3
    world.recovers("database: sessions terminated", "every 50 ms, during three runs")
