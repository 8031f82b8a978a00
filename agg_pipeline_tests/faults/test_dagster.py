"""Faults of Dagster's own processes: daemon and code server are killed, two daemons run at once."""

import contextlib
import dataclasses
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from agg_pipeline.embedded import Stack, supervised
from agg_pipeline.embedded.dagster_services import DagsterServices, dagster_services
from agg_pipeline_tests.dagster.client import DagsterClient, Run
from agg_pipeline_tests.dagster.conftest import empty_storage
from agg_pipeline_tests.embedded.processes import children, wait_until
from agg_pipeline_tests.faults.judge import Verdict, judged
from agg_pipeline_tests.faults.table import Row
from agg_pipeline_tests.faults.world import World
from agg_pipeline_tests.sql.helpers import scalar

MODULE = "agg_pipeline_tests.dagster.by_hand_spawned"
PATIENCE_DEAD_S = 60.0  # a busy machine

pytestmark = pytest.mark.nightly


@contextlib.contextmanager
def client_of(stack: Stack, home: Path) -> Iterator[DagsterClient]:
    environment = stack.environment() | {"ENV_NAME": "prod"}
    with dagster_services(home, environment, module=MODULE) as services:
        yield DagsterClient(services.url, services)


@pytest.fixture(scope="module")
def running(fault_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterClient]:
    """All of Dagster, once: what a test kills is started again."""
    root = tmp_path_factory.mktemp("dagster")
    with empty_storage(fault_stack, root / "empty"):
        pass
    with client_of(fault_stack, root) as opened:
        yield opened


@pytest.fixture
def client(running: DagsterClient) -> DagsterClient:
    """As one that has seen no run yet."""
    return dataclasses.replace(running, forgotten=frozenset(run.run_id for run in running.runs()))


def services_of(client: DagsterClient) -> DagsterServices:
    assert client.services
    return client.services


def kill(client: DagsterClient, name: str) -> None:
    """kill -9 of one of Dagster's processes, and of nothing that it has started; the supervisor starts it again."""
    services = services_of(client)
    os.kill(services.pid(name), signal.SIGKILL)
    wait_until(lambda: services.supervisor.restarted() == [name])


@contextlib.contextmanager
def table_locked(world: World) -> Iterator[None]:
    """Whatever writes a bar waits, with its lease in its hand."""
    with psycopg.connect(world.stack.dsn) as somebody:
        somebody.execute("lock table derived_data_bars in exclusive mode")
        yield


def is_healed(world: World) -> bool:
    with world.connect() as db:
        return scalar(db, "select count(*) from agg_get_due_tasks('PROD')") == 0 and judged(db) == Verdict()


def note(
    world: World, client: DagsterClient, fault: str, done: str, heals: Callable[[], object] = lambda: None
) -> list[Run]:
    """Wait until all is right without anybody's help, and put the row into the table."""
    began = time.monotonic()
    heals()
    client.wait(lambda: is_healed(world), "all bars are right and all leases free")
    heal = f"{time.monotonic() - began:.0f} s"
    client.wait(lambda: all(run.has_ended for run in client.runs()), "all runs end")
    time.sleep(6)  # a look of catch_up at the last run, so that it starts none in the middle of the next test
    runs = client.runs()
    with world.connect() as db:
        found = judged(db)
        open_rows = scalar(db, "select count(*) from ops_runlog where status = 'running'")
    ok = sum(run.status == "SUCCESS" for run in runs)
    row = Row(fault, done, len(runs) - ok, ok, found.lost, found.wrong, found.disabled, heal)
    world.table.append(row)
    assert (found, open_rows) == (Verdict(), 0), row
    return runs


def start_one(world: World, client: DagsterClient) -> str:
    """A run that is in the middle of its work, when the lock on its table lets it."""
    run_id = client.launch_when_possible({"max_windows": 10})
    client.wait(lambda: world.leases() > 0, "a lease")
    return run_id


def test_daemon_killed(world: World, client: DagsterClient) -> None:
    with table_locked(world):
        run_id = start_one(world, client)
        kill(client, "daemon")
    note(world, client, "daemon killed", "kill -9 while a run is at work; started again")
    assert client.run(run_id).status == "SUCCESS", "a run needs no daemon"


def test_code_server_killed(world: World, client: DagsterClient) -> None:
    with table_locked(world):
        start_one(world, client)
        kill(client, "code-server")
    note(world, client, "code server killed", "kill -9 while a run is at work; started again")


def kill_worker(client: DagsterClient, run_id: str) -> float:
    """kill -9 of the process of a run; when."""
    messages = [event.get("message") or "" for event in client.events(run_id)]
    (pid,) = {int(pid) for message in messages for pid in re.findall(r"in process \(pid: (\d+)\)", message)}
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return time.time()


def found_dead(client: DagsterClient, run_id: str, killed_at: float) -> str:
    """After how many seconds the run was found dead, and the next tick began, without anybody's help."""
    client.wait(lambda: client.run(run_id).has_ended, "the dead run is noticed")
    assert client.run(run_id).status == "FAILURE"
    found_s = (client.run(run_id).ended or 0.0) - killed_at
    following = client.wait(
        lambda: [run.started for run in client.runs() if run.run_id != run_id and run.started], "the next tick begins"
    )
    begun_s = min(following) - killed_at
    assert found_s < PATIENCE_DEAD_S
    return f"found dead after {found_s:.0f} s, the next tick began after {begun_s:.0f} s"


def test_worker_killed(world: World, client: DagsterClient) -> None:
    """The code server reports its end."""
    with table_locked(world):
        run_id = start_one(world, client)
        killed_at = kill_worker(client, run_id)
    note(world, client, "worker of a tick killed", f"kill -9; {found_dead(client, run_id, killed_at)}")


def test_code_server_and_worker_killed(world: World, client: DagsterClient) -> None:
    """No process is left to report the end of the run; it gives no sign of life any more."""
    with table_locked(world):
        run_id = start_one(world, client)
        server = services_of(client).pid("code-server")
        for pid in (server, *children(server)):  # the child has loaded the code, and would report the end of the worker
            os.kill(pid, signal.SIGKILL)
        killed_at = kill_worker(client, run_id)
        wait_until(lambda: services_of(client).supervisor.restarted() == ["code-server"])
    note(world, client, "code server and worker killed", f"kill -9 of both; {found_dead(client, run_id, killed_at)}")


def test_two_daemons_on_one_storage(world: World, client: DagsterClient, tmp_path: Path) -> None:
    """A second one by mistake: each run that a sensor wants is still started once."""
    with supervised(tmp_path, database=False) as (supervisor, _):
        supervisor.run(
            dataclasses.replace(services_of(client).orders["daemon"], log=str(supervisor.layout.log("daemon")))
        )
        client.launch_when_possible({"max_windows": 5})
        runs = note(world, client, "two daemons on one storage", "a second dagster-daemon beside the first")
    keys = Counter(run.tags["dagster/run_key"] for run in runs if "dagster/run_key" in run.tags)
    assert keys, "no sensor started a run"
    assert set(keys.values()) == {1}


def test_two_dagsters_on_one_database(world: World, client: DagsterClient, tmp_path: Path) -> None:
    """Two independent deployments tick at the same moment; leases keep their work apart."""
    with psycopg.connect(world.stack.dsn, autocommit=True) as db:
        db.execute("drop database if exists dagster_two with (force)")
        db.execute("create database dagster_two owner dagster")
    storage = make_url(world.stack.dagster_dsn).set(database="dagster_two").render_as_string(hide_password=False)
    stack = dataclasses.replace(world.stack, dagster_dsn=storage)
    with client_of(stack, tmp_path / "two") as other:
        launched = [(one, one.launch_when_possible({"max_windows": 30})) for one in (client, other)]
        others = [one.wait_for_end(run_id).status for one, run_id in launched]
        note(world, client, "two deployments on one database", "both tick at the same moment, their sensors running")
        other.wait(lambda: all(run.has_ended for run in other.runs()), "all runs of the other one end")
    assert others == ["SUCCESS", "SUCCESS"], "a task that the other one has at work is no failure"
