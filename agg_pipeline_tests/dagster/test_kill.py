"""kill -9, at any point of a tick: nothing is lost, nothing is there twice, nobody holds a task for ever."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from agg_pipeline.database.migrate import migrate
from agg_pipeline.embedded import Stack, started
from agg_pipeline_tests.dagster.killing import History, start_tick
from agg_pipeline_tests.embedded.processes import crash

KILLS = int(os.environ.get("AGG_KILLS", "2"))
SEED = int(os.environ.get("AGG_SEED", "1"))


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Stack]:
    """Durable, as a user's is: what was committed must be there after the kill."""
    with started(tmp_path / "stack") as stack:
        migrate(stack.dsn)
        yield stack


@pytest.mark.random
def test_the_process_of_a_run_is_killed(own_stack: Stack) -> None:
    """Its leases go stale, and the next tick goes on from what was committed."""
    history = History(own_stack, SEED)
    history.try_undisturbed()
    killed_at_work = leases = bars = 0
    for n in range(KILLS):
        process = start_tick(own_stack, history.go_on())
        if n % 2:
            history.wait_for_a_lease(process)
        else:
            history.wait_somewhere(process)
        process.kill()
        process.join()
        killed_at_work += process.exitcode == -signal.SIGKILL
        leases += history.leases()
        bars = history.recover()
        print(f"kill {n + 1} (seed {SEED}): exit code {process.exitcode}, {bars} bars are right")
    print(f"{KILLS} kills, {killed_at_work} at work, {leases} leases left, {bars} bars")
    assert killed_at_work >= KILLS / 3, "the kills came too late to prove anything"
    assert leases > 0, "no kill fell between a lease and its end"


@pytest.mark.nightly
def test_postgresql_is_killed(own_stack: Stack) -> None:
    """The server or one of its processes; its supervisor starts it again, and the run goes on or fails honestly."""
    history = History(own_stack, SEED)
    history.try_undisturbed()
    killed_at_work = failed = bars = 0
    for n in range(KILLS):
        process = start_tick(own_stack, history.go_on())
        if n % 4 < 2:
            history.wait_somewhere(process)
        else:
            history.wait_for_a_lease(process)
        killed_at_work += process.is_alive()
        crash(own_stack.root, history.random, whole=n % 2 == 0)
        process.join(180)
        assert process.exitcode in (0, 1), f"the run ended with {process.exitcode}"
        failed += process.exitcode
        with started(own_stack.root):  # attaches, and waits until both servers answer
            pass
        bars = history.recover()
        print(f"kill {n + 1} (seed {SEED}): exit code {process.exitcode}, {bars} bars are right")
    print(f"{KILLS} kills, {killed_at_work} of them in a tick, {failed} runs failed, the others went on, {bars} bars")
    assert killed_at_work >= KILLS / 3, "the kills came too late to prove anything"
